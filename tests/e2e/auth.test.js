// Who may use a server, and what of the keys can be found on the disk.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import OpenAI from 'openai';

import { Server, fakeModel, useServer } from './lib/server.js';

describe('API keys', { timeout: 180_000 }, () => {
  const server = useServer();

  it('are asked for everywhere but at the health checks', async () => {
    for (const [method, url] of [['GET', '/v1/models'], ['POST', '/v1/chat/completions'], ['GET', '/admin/v1/status'], ['GET', '/metrics'], ['GET', '/no/such/url']]) {
      const response = await fetch(server.url + url, { method });
      assert.equal(response.status, 401, url);
      assert.equal((await response.json()).error.code, 'missing_api_key');
      assert.match(response.headers.get('x-request-id'), /^req_/);
    }
    for (const url of ['/healthz', '/readyz']) assert.equal((await fetch(server.url + url)).status, 200, url);
  });

  it('that are wrong are refused, all in the same words', async () => {
    const id = server.key.split('_')[1];
    const secret = server.key.split('_').at(-1);
    const other = secret[0] === 'A' ? 'B' : 'A';
    const wrong = [`thaw_${id}_${other}${secret.slice(1)}`, `thaw_999_${secret}`, 'sk-something', `${server.key}x`, server.key.slice(0, -1)];
    const answers = new Set();
    for (const apiKey of wrong) {
      await assert.rejects(server.openai({ apiKey }).models.list(), (error) => {
        assert.ok(error instanceof OpenAI.AuthenticationError, `${error}`);
        answers.add(error.message);
        return true;
      });
    }
    assert.equal(answers.size, 1);
  });

  it('that are right are taken as bearer and as x-api-key', async () => {
    assert.equal((await fetch(`${server.url}/v1/models`, { headers: { authorization: `Bearer ${server.key}` } })).status, 200);
    assert.equal((await fetch(`${server.url}/v1/models`, { headers: { 'x-api-key': server.key } })).status, 200);
  });

  it('are shown once, lie in files only their owner can read, and not in clear in the store', async () => {
    assert.ok(server.log.includes(server.key));
    for (const file of [path.join(server.dataDir, 'client.json'), server.clientFile]) {
      assert.equal(fs.statSync(file).mode & 0o777, 0o600, file);
      assert.deepEqual(JSON.parse(fs.readFileSync(file, 'utf8')), { url: server.url, api_key: server.key });
    }
    const secret = Buffer.from(server.key.split('_').at(-1));
    const stores = fs.readdirSync(server.dataDir).filter((name) => name.startsWith('thaw.db'));
    assert.ok(stores.length > 0);
    for (const name of stores) {
      const file = path.join(server.dataDir, name);
      assert.ok(!fs.readFileSync(file).includes(secret), `${name} holds the key`);
      assert.equal(fs.statSync(file).mode & 0o007, 0, `${name} is open to others`);
    }
    const { key } = server;
    await server.end();
    await server.start();
    assert.equal(server.key, key);
    assert.ok(!server.log.includes(key), 'the key was printed again');
    assert.equal((await server.openai().models.list()).data.length, 0);
  });

  it('a second server on the same data directory is refused and does no harm', async () => {
    await server.deploy(fakeModel('fake'));
    await server.openai().completions.create({ model: 'fake', prompt: 'one', max_tokens: 1 });
    const second = await server.cli(['serve', '--data-dir', server.dataDir, '--listen', '127.0.0.1:0']);
    assert.notEqual(second.code, 0);
    assert.match(second.stderr, /data directory/i);
    assert.match(second.stderr, new RegExp(path.basename(server.directory)));
    assert.equal((await server.instances()).length, 1);
    const { response } = await server.openai().completions.create({ model: 'fake', prompt: 'one', max_tokens: 1 }).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'warm');
    assert.equal((await server.cli(['ls'])).code, 0);
  });
});

describe('--dev', { timeout: 120_000 }, () => {
  const server = useServer({ args: ['--dev'] });

  it('asks for no key and says so loudly', async () => {
    assert.equal((await fetch(`${server.url}/v1/models`)).status, 200);
    assert.match(server.log, /NO API KEY/);
    assert.equal((await (await fetch(`${server.url}/admin/v1/status`)).json()).dev, true);
  });

  it('is refused where others could reach it', async () => {
    const open = new Server();
    try {
      for (const address of ['0.0.0.0:0', '[::]:0', '192.0.2.1:0']) {
        const { code, stderr } = await open.cli(['serve', '--dev', '--data-dir', open.dataDir, '--listen', address]);
        assert.equal(code, 2, address);
        assert.match(stderr, /only on a loopback address/);
      }
    } finally {
      await open.destroy();
    }
  });
});
