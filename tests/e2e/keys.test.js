// API keys: made, confined, exchanged, expired, revoked; and tokens of an identity provider beside them.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { Server, chat, fakeModel, useServer } from './lib/server.js';
import { callAs, makeKey, makeTenant } from './lib/tenants.js';
import { until } from './lib/until.js';

const works = async (server, key) => (await callAs(server, key, 'GET', '/v1/models')).status === 200;

describe('API keys', { timeout: 180_000 }, () => {
  const server = useServer({ config: { node: { tenantSandbox: 'runc' } } });

  before(async () => {
    await server.deploy(fakeModel('one'));
    await server.deploy(fakeModel('two'));
  });

  it('are shown once, by the command line too', async () => {
    const made = await server.cli(['key', 'create', '--role', 'inference', '--name', 'ci', '--expires', '30d']);
    assert.equal(made.code, 0, made.stderr);
    const key = made.stdout.trim();
    assert.match(key, /^thaw_[0-9a-z]+_[0-9A-Za-z]{32}$/);
    assert.ok(await works(server, key));
    const listed = (await server.cli(['key', 'ls'])).stdout;
    assert.match(listed, /ci +default +inference +all +live/);
    assert.ok(!listed.includes(key.split('_').at(-1)));
    const all = (await server.call('GET', '/admin/v1/keys')).text;
    assert.ok(!all.includes(key.split('_').at(-1)) && !all.includes('hash') && !all.includes('salt'));
    assert.ok(!server.log.includes(key), 'not in the server’s log either');
    for (const name of fs.readdirSync(server.dataDir).filter((file) => file.startsWith('thaw.db')))
      assert.ok(!fs.readFileSync(path.join(server.dataDir, name)).includes(key.split('_').at(-1)));
  });

  it('may be for some models alone', async () => {
    const { key } = await makeKey(server, '', { role: 'deployer', models: ['one'] });
    assert.deepEqual((await callAs(server, key, 'GET', '/v1/models')).json.data.map((one) => one.id), ['one']);
    const ask = async (model) => callAs(server, key, 'POST', '/v1/chat/completions', chat(model, 'hello', { max_tokens: 1 }));
    assert.equal((await ask('one')).status, 200);
    const other = await ask('two');
    assert.equal(other.status, 404);
    assert.equal(other.text, (await ask('xyz')).text.replaceAll('xyz', 'two'));
    assert.equal((await callAs(server, key, 'POST', '/admin/v1/models/two/stop')).status, 404);
    assert.equal((await callAs(server, key, 'POST', '/admin/v1/models', fakeModel('two'))).status, 403);
    assert.equal((await callAs(server, key, 'POST', '/admin/v1/models', fakeModel('one'))).status, 200);
  });

  it('expire by themselves', async () => {
    const { key } = await makeKey(server, '', { role: 'inference', expires_in_s: 2 });
    assert.ok(await works(server, key));
    await until('it has expired', async () => !(await works(server, key)));
    const answer = await callAs(server, key, 'GET', '/v1/models');
    assert.equal(answer.json.error.code, 'expired_api_key');
  });

  it('are revoked at once: new requests, known connections, streams that run', async () => {
    const { key, id } = await makeKey(server, '', { role: 'inference' });
    const stream = await server.openai({ apiKey: key }).chat.completions.create(chat('one', 'fake:tokens=100000,delay_ms=20', { stream: true, max_tokens: 100000 }));
    const iterator = stream[Symbol.asyncIterator]();
    assert.equal((await iterator.next()).done, false);
    assert.equal((await server.cli(['key', 'revoke', String(id)])).code, 0);
    assert.ok(!(await works(server, key)));
    await assert.rejects(async () => {
      for (let next = await iterator.next(); !next.done; next = await iterator.next());
    });
    await until('the engine was told', async () => (await server.modelInfo('one')).in_flight === 0);
    const again = await server.call('DELETE', `/admin/v1/keys/${id}`);
    assert.equal(again.status, 404);
    await server.end('SIGKILL');
    await server.start();
    assert.ok(!(await works(server, key)), 'also after kill -9');
    const kept = (await server.call('GET', '/admin/v1/keys')).json.keys.find((one) => one.id === id);
    assert.equal(kept.state, 'revoked');
  });

  it('are exchanged, with or without a while for both', async () => {
    const first = await makeKey(server, '', { role: 'inference', models: ['one'], name: 'app' });
    const rotated = await server.cli(['key', 'rotate', String(first.id), '--grace', '1h']);
    assert.equal(rotated.code, 0, rotated.stderr);
    const second = rotated.stdout.trim();
    assert.ok((await works(server, first.key)) && (await works(server, second)));
    const keys = (await server.call('GET', '/admin/v1/keys')).json.keys.filter((one) => one.name === 'app');
    assert.deepEqual(keys.map((one) => [one.role, one.models, one.state]), [['inference', ['one'], 'live'], ['inference', ['one'], 'live']]);
    assert.ok(keys[0].expires_unix_ms !== null && keys[1].expires_unix_ms === null);
    const third = await server.call('POST', `/admin/v1/keys/${keys[1].id}/rotate`);
    assert.equal(third.status, 201, third.text);
    assert.ok(!(await works(server, second)) && (await works(server, third.json.key)));
  });

  it('say when they were used last', async () => {
    const { key, id } = await makeKey(server, '', { role: 'inference' });
    const used = async () => (await server.call('GET', '/admin/v1/keys')).json.keys.find((one) => one.id === id).last_used_unix_ms;
    assert.equal(await used(), null);
    await works(server, key);
    const when = await used();
    assert.ok(Math.abs(when - Date.now()) < 60_000);
    await server.end();
    await server.start();
    assert.equal(await used(), when, 'written down when the server ended');
  });

  it('of a tenant’s admin make no keys that are more than he is', async () => {
    await makeTenant(server, 'acme');
    const { key } = await makeKey(server, 'acme', { role: 'admin' });
    const make = async (body, query = '') => (await callAs(server, key, 'POST', `/admin/v1/keys${query}`, body)).status;
    assert.equal(await make({ role: 'admin' }), 201);
    assert.equal(await make({ role: 'admin' }, '?tenant=acme'), 201);
    assert.equal(await make({ role: 'admin' }, '?tenant=default'), 404);
    assert.equal(await make({ role: 'admin', platform: true }), 400);
    const { key: plain } = await makeKey(server, '', { role: 'admin' });
    assert.equal((await callAs(server, plain, 'POST', '/admin/v1/keys', { role: 'admin', platform: true })).status, 403);
    assert.equal((await callAs(server, plain, 'DELETE', '/admin/v1/keys/1')).status, 404, 'the first key is the platform’s');
  });

  it('are asked for with what they are for, and what is wrong is said', async () => {
    const error = async (body) => (await server.call('POST', '/admin/v1/keys', body)).json.error.message;
    assert.equal(await error({}), 'role: must be one of admin, deployer, inference and read-only');
    assert.equal(await error({ role: 'inference', expiresin: 3 }), 'expiresin: unknown key; did you mean expires_in_s?');
    assert.match(await error({ role: 'inference', expires_in_s: 0 }), /^expires_in_s: must be a whole number/);
    assert.match(await error({ role: 'inference', platform: true }), /^platform: /);
    assert.match(await error('{'), /^the body is no JSON/);
  });

  it('cannot lock everybody out', async () => {
    const last = await server.call('DELETE', '/admin/v1/keys/1');
    assert.equal(last.status, 409, last.text);
    const { key } = await makeKey(server, '', { role: 'admin', platform: true });
    assert.equal((await callAs(server, key, 'DELETE', '/admin/v1/keys/1')).status, 200);
    assert.ok(!(await works(server, server.key)));
  });
});

describe('tokens of an identity provider', { timeout: 180_000 }, () => {
  const issuer = 'https://id.example.com';
  const make = (kid) => {
    const { publicKey, privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
    return { kid, privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' } };
  };
  const first = make('first');
  const second = make('second');
  let served = [first.jwk];
  let provider;
  let server;

  const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  const claims = (more) => ({ iss: issuer, aud: 'thaw', sub: 'ann', exp: Math.floor(Date.now() / 1000) + 600, tenant: 'acme', role: 'deployer', ...more });
  function token(key, body, header = {}) {
    const text = `${encode({ alg: 'RS256', typ: 'JWT', kid: key.kid, ...header })}.${encode(body)}`;
    return `${text}.${crypto.sign('sha256', Buffer.from(text), key.privateKey).toString('base64url')}`;
  }

  before(async () => {
    provider = http.createServer((request, response) => response.end(JSON.stringify({ keys: served })));
    await new Promise((resolve) => provider.listen(0, '127.0.0.1', resolve));
    const jwks = `http://127.0.0.1:${provider.address().port}/jwks.json`;
    server = new Server({ config: { node: { tenantSandbox: 'runc' }, auth: { oidc: { issuer, audience: 'thaw', jwks, clockSkew: '0s', refresh: '10s' } } } });
    await server.start();
    await makeTenant(server, 'acme');
  });
  after(async () => {
    await server.destroy();
    provider.close();
  });

  it('are taken as keys are', async () => {
    const good = token(first, claims());
    const answer = await callAs(server, good, 'GET', '/admin/v1/whoami');
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual([answer.json.subject, answer.json.tenant, answer.json.role, answer.json.platform, answer.json.key], ['ann', 'acme', 'deployer', false, null]);
    assert.equal((await callAs(server, good, 'POST', '/admin/v1/models', fakeModel('m'))).status, 201);
    assert.equal((await callAs(server, good, 'POST', '/v1/chat/completions', chat('m', 'x', { max_tokens: 1 }))).status, 200);
    assert.equal((await callAs(server, good, 'GET', '/admin/v1/keys')).status, 403);
    assert.equal((await callAs(server, good, 'GET', '/metrics')).status, 403);
  });

  it('that are forged or for others are refused', async () => {
    const stranger = make('first');
    const pem = first.publicKey.export({ type: 'spki', format: 'pem' });
    const confused = `${encode({ alg: 'HS256', typ: 'JWT', kid: 'first' })}.${encode(claims())}`;
    const wrong = {
      'another key': token(stranger, claims()),
      'alg none': `${encode({ alg: 'none' })}.${encode(claims())}.`,
      'the public key as a secret': `${confused}.${crypto.createHmac('sha256', pem).update(confused).digest('base64url')}`,
      'other claims': token(first, claims()).split('.').with?.(1, encode(claims({ role: 'admin' })))?.join('.') ??
        token(first, claims()).split('.').map((part, i) => (i === 1 ? encode(claims({ role: 'admin' })) : part)).join('.'),
      expired: token(first, claims({ exp: Math.floor(Date.now() / 1000) - 1 })),
      'not yet': token(first, claims({ nbf: Math.floor(Date.now() / 1000) + 60 })),
      'another issuer': token(first, claims({ iss: 'https://id.example.org' })),
      'another audience': token(first, claims({ aud: 'other' })),
      'no expiry': token(first, claims({ exp: undefined })),
      'no such tenant': token(first, claims({ tenant: 'none' })),
      'the platform': token(first, claims({ role: 'platform-admin' })),
      'a critical extension': token(first, claims(), { crit: ['x'] }),
      'a key of its own': token(stranger, claims(), { jwk: stranger.jwk }),
      'keys from elsewhere': token(stranger, claims(), { jku: 'http://127.0.0.1:1/' }),
    };
    for (const [what, text] of Object.entries(wrong)) {
      const answer = await callAs(server, text, 'GET', '/v1/models');
      assert.equal(answer.status, 401, `${what}: ${answer.text}`);
      assert.equal(answer.json.error.code, 'invalid_token', what);
    }
    console.log(`RESULT forged_tokens_tried ${Object.keys(wrong).length} count`);
  });

  it('end when they expire, also where they are known', async () => {
    const short = token(first, claims({ exp: Math.floor(Date.now() / 1000) + 2 }));
    assert.ok(await works(server, short));
    await until('it has expired', async () => !(await works(server, short)));
  });

  it('follow the provider’s keys', async () => {
    served = [second.jwk];
    const rotated = token(second, claims());
    // The keys are read at once when a new one is named, at most every ten seconds.
    await until('the new key is known', async () => works(server, rotated), { timeout_ms: 40_000 });
    assert.ok(!(await works(server, token(first, claims()))), 'and the old one is not');
  });

  it('stand on record by their subject', async () => {
    const directory = path.join(server.dataDir, 'audit');
    const text = fs.readdirSync(directory).filter((name) => name.endsWith('.log')).map((name) => fs.readFileSync(path.join(directory, name), 'utf8')).join('');
    assert.match(text, /"action":"model\.deploy","who":"token:ann@acme"/);
    assert.ok(!text.includes('eyJ'), 'but not themselves');
  });
});
