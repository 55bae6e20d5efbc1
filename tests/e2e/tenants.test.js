// Tenants side by side: quotas, what they may deploy, what they are told, and what is on record.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';
import OpenAI from 'openai';

import { chat, fakeModel, useServer } from './lib/server.js';
import { callAs, makeKey, makeTenant, setTenant, sources } from './lib/tenants.js';
import { until } from './lib/until.js';

const records = (server) =>
  fs
    .readdirSync(path.join(server.dataDir, 'audit'))
    .filter((name) => name.endsWith('.log'))
    .flatMap((name) => fs.readFileSync(path.join(server.dataDir, 'audit', name), 'utf8').trim().split('\n').filter(Boolean).map(JSON.parse));

describe('tenants', { timeout: 300_000 }, () => {
  const server = useServer({ config: { node: { tenantSandbox: 'runc' } } });
  const key = {};
  const ask = (who, prompt = 'hello', more = {}) => callAs(server, key[who], 'POST', '/v1/chat/completions', chat('m', prompt, { max_tokens: 1, ...more }));

  before(async () => {
    for (const tenant of ['acme', 'beta']) {
      await makeTenant(server, tenant);
      key[tenant] = (await makeKey(server, tenant, { role: 'deployer' })).key;
      const answer = await callAs(server, key[tenant], 'POST', '/admin/v1/models', fakeModel('m', { args: ['--fake-tokens', tenant === 'acme' ? '3' : '5'] }));
      assert.equal(answer.status, 201, answer.text);
      assert.equal(answer.json.name, 'm');
      assert.equal(answer.json.tenant, tenant);
    }
    await server.deploy(fakeModel('m', { args: ['--fake-tokens', '7'] }));
  });

  it('have models of one name side by side, also after kill -9', async () => {
    key.default = server.key;
    const count = async (who) => (await ask(who, 'x', { max_tokens: undefined })).json.usage.completion_tokens;
    for (const [who, tokens] of [['acme', 3], ['beta', 5], ['default', 7]]) assert.equal(await count(who), tokens, who);
    await server.end('SIGKILL');
    await server.start();
    for (const [who, tokens] of [['acme', 3], ['beta', 5], ['default', 7]]) assert.equal(await count(who), tokens, who);
    const logs = await callAs(server, key.acme, 'GET', '/admin/v1/models/m/logs');
    assert.equal(logs.status, 200);
    assert.deepEqual(fs.readdirSync(path.join(server.dataDir, 'logs')).filter((name) => name.endsWith('.log')).sort(), ['acme~m.log', 'beta~m.log', 'm.log']);
    const { stdout } = await server.cli(['ls']);
    assert.match(stdout, /TENANT +NAME/);
    for (const tenant of ['acme', 'beta', 'default']) assert.match(stdout, new RegExp(`^${tenant} +m `, 'm'));
    const own = await server.cli(['ls'], { env: { THAW_URL: server.url, THAW_API_KEY: key.acme } });
    assert.doesNotMatch(own.stdout, /beta|default/);
  });

  it('may make so many requests a second, and are told what is left as OpenAI tells it', async () => {
    await setTenant(server, 'acme', { quotas: { requestsPerSecond: 0.02 } });
    const first = await ask('acme');
    assert.equal(first.status, 200, first.text);
    assert.equal(first.headers.get('x-ratelimit-limit-requests'), '1');
    assert.equal(first.headers.get('x-ratelimit-remaining-requests'), '0');
    assert.match(first.headers.get('x-ratelimit-reset-requests'), /^(50s|49s)$/);
    const client = server.openai({ apiKey: key.acme });
    await assert.rejects(client.chat.completions.create(chat('m', 'hello')), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError, `${error}`);
      assert.equal(error.code, 'rate_limit_exceeded');
      assert.ok(Number(error.headers['retry-after']) >= 1);
      assert.equal(error.headers['x-ratelimit-remaining-requests'], '0');
      return true;
    });
    assert.equal((await ask('beta')).status, 200, 'others have quotas of their own');
    assert.equal((await callAs(server, key.acme, 'GET', '/v1/models')).status, 200, 'only requests to models count');
    const who = (await callAs(server, key.acme, 'GET', '/admin/v1/whoami')).json;
    assert.deepEqual([who.tenant, who.role, who.requests_left, who.quotas], ['acme', 'deployer', 0, { requestsPerSecond: 0.02 }]);
    await setTenant(server, 'acme');
    const free = await ask('acme');
    assert.equal(free.status, 200);
    assert.equal(free.headers.get('x-ratelimit-limit-requests'), null);
  });

  it('may take so many tokens a minute, charged by what the engine counts', async () => {
    await setTenant(server, 'acme', { quotas: { tokensPerMinute: 5 } });
    const first = await ask('acme', 'one two three four five six', { max_tokens: 3 });
    assert.equal(first.status, 200);
    assert.equal(first.headers.get('x-ratelimit-limit-tokens'), '5');
    assert.ok(first.json.usage.total_tokens > 5);
    const second = await ask('acme');
    assert.equal(second.status, 429);
    assert.match(second.json.error.message, /tokensPerMinute/);
    assert.equal(second.headers.get('x-ratelimit-remaining-tokens'), '0');
    await setTenant(server, 'acme');
  });

  it('may have so many requests at once', async () => {
    await setTenant(server, 'acme', { quotas: { concurrentRequests: 1 } });
    const abort = new AbortController();
    const slow = server.openai({ apiKey: key.acme }).chat.completions.create(chat('m', 'fake:first_ms=600000'), { signal: abort.signal });
    slow.catch(() => {});
    await until('it runs', async () => (await server.call('GET', '/admin/v1/tenants/acme')).json.running_requests === 1);
    const second = await ask('acme');
    assert.deepEqual([second.status, second.json.error.code], [429, 'concurrency_limit_exceeded']);
    assert.equal((await ask('beta')).status, 200);
    abort.abort();
    await until('its place is free', async () => (await ask('acme')).status === 200);
    await setTenant(server, 'acme');
  });

  it('may have so many models', async () => {
    await setTenant(server, 'acme', { quotas: { models: 2 } });
    const deploy = (name) => callAs(server, key.acme, 'POST', '/admin/v1/models', fakeModel(name));
    const answers = await Promise.all(['a', 'b', 'c', 'd'].map(deploy)); // at once: none may slip through while another is stored
    assert.deepEqual(answers.map((one) => one.status).sort(), [201, 403, 403, 403]);
    assert.equal(answers.find((one) => one.status === 403).json.error.code, 'quota_exceeded');
    assert.equal((await deploy('m')).status, 200, 'one that is there may be changed');
    await setTenant(server, 'acme');
  });

  it('deploy only what lies in their directories', async () => {
    const outside = path.join(server.directory, 'outside');
    const inside = path.join(server.directory, 'inside');
    fs.mkdirSync(outside);
    fs.mkdirSync(inside);
    fs.copyFileSync(fakeModel('x').spec.source.path, path.join(outside, 'secret.gguf'));
    fs.symlinkSync(path.join(outside, 'secret.gguf'), path.join(inside, 'link.gguf'));
    await setTenant(server, 'beta', { sources: [inside, ...sources] });
    const code = async (spec) => {
      const answer = await callAs(server, key.beta, 'POST', '/admin/v1/models', fakeModel('x', spec));
      return [answer.status, answer.json.error?.code];
    };
    const denied = [403, 'denied'];
    for (const file of [path.join(outside, 'secret.gguf'), path.join(outside, 'absent.gguf'), '/etc/passwd', '/etc/absent', path.join(inside, 'link.gguf'),
      `${inside}/../outside/secret.gguf`, `${inside}-2/x.gguf`, server.dataDir])
      assert.deepEqual(await code({ source: { path: file } }), denied, file);
    assert.deepEqual(await code({ enginePath: path.join(outside, 'engine') }), denied);
    assert.deepEqual(await code({ args: ['--lora', path.join(outside, 'secret.gguf')] }), denied);
    assert.deepEqual(await code({ args: [`--lora=${outside}/secret.gguf`] }), denied);
    assert.deepEqual(await code({ source: { path: path.join(inside, 'absent.gguf') } }), [404, 'not_found']);
    await setTenant(server, 'beta', { sources: [] });
    assert.deepEqual(await code({}), denied);
    await setTenant(server, 'beta');
  });

  it('say nothing of each other: metadata.tenant of another is as of none', async () => {
    const seen = [];
    for (const tenant of ['beta', 'none']) {
      const spec = fakeModel('x');
      spec.metadata.tenant = tenant;
      const answer = await callAs(server, key.acme, 'POST', '/admin/v1/models', spec);
      seen.push([answer.status, answer.text.replaceAll(tenant, 'T')]);
    }
    assert.equal(seen[0][0], 404);
    assert.deepEqual(seen[0], seen[1]);
    const spec = fakeModel('theirs');
    spec.metadata.tenant = 'beta';
    await server.deploy(spec); // who runs the platform may
    assert.equal((await callAs(server, key.beta, 'GET', '/admin/v1/models/theirs')).status, 200);
    assert.equal((await callAs(server, key.acme, 'GET', '/admin/v1/models/theirs')).status, 404);
    assert.equal((await server.call('DELETE', '/admin/v1/models/theirs?tenant=beta')).status, 200);
  });

  it('go with their keys, but not with their models', async () => {
    await makeTenant(server, 'short');
    const { key: gone } = await makeKey(server, 'short', { role: 'deployer' });
    assert.equal((await callAs(server, gone, 'POST', '/admin/v1/models', fakeModel('x'))).status, 201);
    assert.equal((await server.call('DELETE', '/admin/v1/tenants/short')).status, 409);
    assert.equal((await callAs(server, gone, 'DELETE', '/admin/v1/models/x')).status, 200);
    assert.equal((await server.call('DELETE', '/admin/v1/tenants/short')).status, 200);
    assert.equal((await callAs(server, gone, 'GET', '/v1/models')).status, 401);
    assert.equal((await server.call('GET', '/admin/v1/models?tenant=short')).status, 404);
    assert.equal((await server.call('DELETE', '/admin/v1/tenants/default')).status, 409);
  });

  it('are made and changed at the command line', async () => {
    const made = await server.cli(['tenant', 'create', 'gamma', '--requests-per-second', '20', '--models', '5', '--disk', '1GiB', '--source', '/srv/gamma']);
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, /quotas +5 models, 20 requests\/s, 1GiB of disk/);
    assert.equal((await server.cli(['tenant', 'create', 'gamma'])).code, 1, 'it is there already');
    assert.match((await server.cli(['tenant', 'set', 'gamma', '--models', 'none', '--weight', '2'])).stdout, /quotas +20 requests\/s, 1GiB of disk\nweight +2\n/);
    assert.match((await server.cli(['tenant', 'ls'])).stdout, /^gamma +0 +0 +0 +0 +2 +20 requests\/s, 1GiB of disk$/m);
    assert.equal((await server.cli(['tenant', 'create', 'Gamma'])).code, 2);
    assert.equal((await server.cli(['tenant', 'set', 'gamma', '--requests-per-second', 'many'])).code, 2);
    assert.equal((await server.cli(['tenant', 'rm', 'gamma'])).code, 0);
    assert.equal((await server.cli(['tenant', 'show', 'gamma'])).code, 4);
  });

  it('leave every act and refusal on record', async () => {
    const all = records(server);
    const done = (action, subject, status) => all.some((one) => one.action === action && one.event === 'done' && one.subject === subject && one.status === status);
    assert.ok(done('tenant.create', 'acme', 201));
    assert.ok(done('tenant.set', 'acme', 200));
    assert.ok(done('tenant.remove', 'short', 200));
    assert.ok(all.some((one) => one.action === 'key.create' && one.event === 'done' && /^acme\/key:\d+$/.test(one.subject)));
    const deploys = all.filter((one) => one.action === 'model.deploy' && one.event === 'done' && one.subject === 'acme/m');
    assert.ok(deploys.length > 0);
    assert.match(deploys[0].who, /^key:\d+@acme$/);
    assert.ok(all.some((one) => one.action === 'model.deploy' && one.status === 403 && one.detail === 'quota_exceeded'));
    assert.equal((await server.cli(['audit', 'verify', '--data-dir', server.dataDir])).code, 0);
    assert.ok(!JSON.stringify(all).includes(key.acme.split('_').at(-1)), 'no key is in the log');
  });
});
