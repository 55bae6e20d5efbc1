// server.yaml is read again while the server runs: what can change changes, the rest is named, and a bad file changes nothing.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('reload', { timeout: 120_000 }, () => {
  const server = useServer({ config: { log: { level: 'info' } } });
  const write = (config) => fs.writeFileSync(server.configFile, typeof config === 'string' ? config : JSON.stringify(config));
  const reload = () => server.call('POST', '/admin/v1/reload');

  it('the same again changes nothing', async () => {
    assert.deepEqual((await reload()).json, { applied: [], needs_restart: [] });
    const told = await server.cli(['reload']);
    assert.equal(told.code, 0, told.stderr);
    assert.equal(told.stdout, 'nothing has changed\n');
  });

  it('limits, origins and prices count at once; the rest is named', async () => {
    write({
      gateway: { maxBodyBytes: '2KiB' },
      cors: { origins: ['https://chat.example.com'] },
      usage: { prices: { currency: 'EUR', deviceSecond: 0.5 } },
      node: { pool: 3 },
      log: { level: 'info' },
    });
    const { json } = await reload();
    assert.deepEqual(json.applied, ['gateway.maxBodyBytes', 'cors.origins', 'usage.prices']);
    assert.deepEqual(json.needs_restart, ['node.pool']);
    assert.match(server.log, /need.* restart.*node\.pool|count from the next start.*node\.pool/);
    await server.deploy(fakeModel('m'));
    const big = await server.call('POST', '/v1/chat/completions', chat('m', 'x'.repeat(4096)));
    assert.equal(big.status, 413);
    const small = await server.call('POST', '/v1/chat/completions', chat('m', 'x'), { origin: 'https://chat.example.com' });
    assert.equal(small.status, 200);
    assert.equal(small.headers.get('access-control-allow-origin'), 'https://chat.example.com');
    assert.equal((await server.call('GET', '/admin/v1/usage')).json.currency ?? 'EUR', 'EUR');
    const told = await server.cli(['reload']);
    assert.equal(told.stdout, 'needs a restart of the server: node.pool\n', 'it is said until it is done');
  });

  it('SIGHUP does the same, into the log and the audit log', async () => {
    write({ log: { level: 'debug', format: 'json' } });
    server.child.kill('SIGHUP');
    await until('it says so', () => /configuration read again: changed: .*log\.level/.test(server.log));
    await until('the log is JSON from then on', () => server.log.trimEnd().split('\n').at(-1).startsWith('{') || server.call('GET', '/admin/v1/status').then(() => false));
    const recorded = async () => (await server.cli(['audit', 'tail', '--json', '--data-dir', server.dataDir])).stdout.includes('server.reload');
    await until('it is on record', recorded);
    assert.equal((await server.call('POST', '/v1/chat/completions', chat('m', 'x'.repeat(4096)))).status, 200, 'the limit is the default again');
  });

  it('a bad file changes nothing and says where and what', async () => {
    write('apiVersion: thaw/v1\nkind: Server\nlog:\n  level: info\n  lvel: warn\n');
    const bad = await reload();
    assert.equal(bad.status, 400);
    assert.equal(bad.json.error.code, 'invalid_config');
    assert.match(bad.json.error.message, /nothing was changed.*server\.yaml:5.*lvel.*did you mean "?level/s);
    const told = await server.cli(['reload']);
    assert.equal(told.code, 2, `${told.code} ${told.stderr}`);
    server.child.kill('SIGHUP');
    await until('the log says so', () => /configuration cannot be used/.test(server.log));
    assert.equal((await server.call('GET', '/healthz')).status, 200);
    fs.rmSync(server.configFile);
    assert.match((await reload()).json.error.message, /nothing was changed.*server\.yaml/);
  });
});
