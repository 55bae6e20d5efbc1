// What an engine reaches that lists where it wants to: that, by the node's proxy, and nothing else.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { repo, scratch } from './lib/environment.js';
import { fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const engine = path.join(scratch, 'fetching', 'fetching_engine.py');
fs.mkdirSync(path.dirname(engine), { recursive: true, mode: 0o755 });
fs.copyFileSync(path.join(repo, 'tests/e2e/lib/fetching_engine.py'), engine);
fs.chmodSync(engine, 0o755);

function fetching(name, sandbox, egress) {
  const { enginePath: _, args: __, ...rest } = fakeModel(name).spec;
  return { ...fakeModel(name), spec: { ...rest, engine: 'command', command: [engine, '{host}', '{port}'], sandbox, ...(egress ? { network: { egress } } : {}) } };
}

/** An HTTP server of this machine that says who it is, and whether anybody came. */
async function listen(says) {
  const server = http.createServer((request, response) => {
    server.asked.push(`${request.method} ${request.url} ${request.headers.host}`);
    response.end(says);
  });
  server.asked = [];
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.at = `127.0.0.1:${server.address().port}`;
  return server;
}

for (const sandbox of ['runc', 'runsc']) {
  describe(`egress under ${sandbox}`, { timeout: 180_000 }, () => {
    const server = useServer();
    let allowed, other;
    before(async () => {
      allowed = await listen('the allowed one');
      other = await listen('another one');
      // By its name only: where it leads is not listed.
      await server.deploy(fetching('open', sandbox, [allowed.at, other.at.replace('127.0.0.1', 'localhost'), 'public.invalid:443']));
      await server.deploy(fetching('closed', sandbox));
    });
    after(() => [allowed, other].forEach((one) => one?.close()));
    const tell = async (model, prompt) => (await server.openai().completions.create({ model, prompt, max_tokens: 1 })).choices[0].text;

    it('reaches what is listed, by a tunnel and in plain', async () => {
      assert.match(await tell('open', `proxy ${allowed.at}`), /the allowed one/);
      assert.match(await tell('open', `get http://${allowed.at}/file?x=1`), /the allowed one/);
      assert.ok(allowed.asked.includes(`GET /file?x=1 ${allowed.at}`), `in origin form, with the host that was judged: ${allowed.asked}`);
    });

    it('reaches nothing else, however it asks', async () => {
      const [, port] = allowed.at.split(':');
      const refused = [other.at, `127.0.0.2:${port}`, '169.254.169.254:80', '10.0.0.1:443', `[::1]:${port}`, `[::ffff:127.0.0.1]:${other.at.split(':')[1]}`, `2130706433:${port}`,
        'example.com:443', 'public.invalid:80', server.url.replace('http://', '')];
      for (const target of refused) {
        assert.match(await tell('open', `proxy ${target}`), /^HTTP\/1\.1 403/, target);
        assert.match(await tell('open', `get http://${target}/`), /^HTTP\/1\.1 403/, target);
      }
      assert.match(await tell('open', `proxy ${other.at.replace('127.0.0.1', 'localhost')}`), /403.*private address/s, 'a listed name that leads to a private address');
      assert.match(await tell('open', 'proxy public.invalid:443'), /^HTTP\/1\.1 502/, 'a listed name that leads nowhere');
      for (const target of [allowed.at, other.at, '10.0.0.1:443', '169.254.77.1:22']) assert.match(await tell('open', `direct ${target}`), /^failed/, `past the proxy to ${target}`);
      assert.deepEqual(other.asked, []);
    });

    it('has what was refused on record', async () => {
      const audit = await until('it is in the audit log', async () => {
        const text = (await server.cli(['audit', 'tail', '--data-dir', server.dataDir, '--json'])).stdout;
        return text.includes('"egress"') && text.includes(other.at) ? text : null;
      });
      assert.match(audit, /model:open/);
      const metrics = await server.metrics();
      assert.match(metrics, /^thaw_egress_refused_total [1-9]/m);
      assert.match(metrics, /^thaw_egress_connections_total [1-9]/m);
    });

    it('a model without a list has no proxy', async () => {
      assert.match(await tell('closed', `proxy ${allowed.at}`), /^failed: KeyError/);
      for (const target of ['127.0.0.1:3128', '169.254.77.1:3128', allowed.at]) assert.match(await tell('closed', `direct ${target}`), /^failed/, target);
    });

    it('refuses a list that cannot be', async () => {
      for (const entry of ['example.com', '*.com:443', '10.0.0.0/40:1', 'http://example.com:443', 'a b:443']) {
        const answer = await server.call('POST', '/admin/v1/models', fetching('x', sandbox, [entry]));
        assert.equal(answer.status, 400, entry);
        assert.match(answer.json.error.message, /spec\.network\.egress\[0\]/);
      }
    });
  });
}
