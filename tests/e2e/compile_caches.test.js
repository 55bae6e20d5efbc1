// What an engine compiled is there again at its next start, and for nobody else. The stand-in adds a word to a file in its cache directory and shows all that
// it found there.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

function using(server) {
  const instanceOf = async (name) => (await server.instances()).find((one) => one.model === name);
  const ask = (name) => server.openai().chat.completions.create(chat(name, 'one', { max_tokens: 1 }));
  return {
    ask,
    instanceOf,
    /** The words that the model's engine found, after one request. */
    async words(name) {
      await ask(name);
      return (await server.fakeStats(await instanceOf(name))).cache_words;
    },
    async stop(name) {
      assert.equal((await server.call('POST', `/admin/v1/models/${name}/stop`)).status, 200);
      await until(`${name} gone`, async () => (await instanceOf(name)) === undefined);
    },
    home: () => path.join(server.dataDir, 'compile-caches/default'),
  };
}

const compiler = (name, word, more = {}) => fakeModel(name, { engine: 'vllm', args: ['--fake-cache', word], ...more });

describe('compile caches', { timeout: 180_000 }, () => {
  const server = useServer();
  const { ask, home, instanceOf, stop, words } = using(server);

  it('are there again after a stop, and what lies in them can be run', async () => {
    await server.deploy(compiler('a', 'one'));
    assert.equal(await words('a'), 'one');
    await stop('a');
    assert.equal(await words('a'), 'one,one');
  });

  it('are the same through a freeze and a wake', async () => {
    await stop('a');  // while it runs its directory is its own, and a second replica has another
    await server.deploy(compiler('a', 'two', { standby: { mode: 'always' } }));
    assert.equal(await words('a'), 'one,one,two');
    assert.equal((await server.call('POST', '/admin/v1/models/a/freeze')).status, 200);
    await until('in standby', async () => (await instanceOf('a'))?.state === 'standby');
    assert.equal(await words('a'), 'one,one,two');
    await stop('a');
    assert.equal(await words('a'), 'one,one,two,two');
  });

  it("are not seen by another model's engine, nor by another engine of the same model", async () => {
    await server.deploy(compiler('b', 'mine'));
    assert.equal(await words('b'), 'mine');
    const { pid } = await instanceOf('b');
    assert.deepEqual(fs.readdirSync(`/proc/${pid}/root/thaw/cache`), ['words']);
    await stop('a');  // that which runs would be listed for a while beside the new one
    await server.deploy(fakeModel('a', { engine: 'sglang', args: ['--fake-cache', 'other'] }));
    await ask('a');
    assert.equal(fs.readFileSync(`/proc/${(await instanceOf('a')).pid}/root/thaw/cache/words`, 'utf8'), 'other');
    assert.deepEqual(fs.readdirSync(path.join(home(), 'a')).sort(), ['sglang-cpu', 'vllm-cpu']);
    assert.deepEqual(fs.readdirSync(home()).sort(), ['a', 'b']);
  });

  it('survive the server, by whatever end', async () => {
    await stop('b');
    await server.end('SIGKILL');
    await server.start();
    assert.equal(await words('b'), 'mine,mine');
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await server.start();
    assert.equal(await words('b'), 'mine,mine,mine');
  });

  it('belong to whoever runs, and are closed to others', async () => {
    const { pid } = await instanceOf('b');
    const uid = Number(fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/^Uid:\s+(\d+)/m)[1]);
    const file = fs.statSync(path.join(home(), 'b/vllm-cpu/0/files/words'));
    assert.equal(file.uid, uid);
    assert.equal(fs.statSync(path.join(server.dataDir, 'compile-caches')).mode & 0o077, 0);
  });

  it('go with their model', async () => {
    await ask('b');
    assert.equal((await server.call('DELETE', '/admin/v1/models/b')).status, 200);
    await until('its cache is gone', () => !fs.existsSync(path.join(home(), 'b')));
    await server.deploy(compiler('b', 'anew'));
    assert.equal(await words('b'), 'anew');
  });
});

describe('compile caches without room', { timeout: 60_000 }, () => {
  const server = useServer({ config: { node: { compileCaches: { budget: '0' } } } });
  const { words } = using(server);

  it('are not there, and engines start all the same', async () => {
    await server.deploy(compiler('a', 'one'));
    assert.equal(await words('a'), '');
    assert.ok(!fs.existsSync(path.join(server.dataDir, 'compile-caches')));
  });
});

describe('compile caches without a sandbox', { timeout: 60_000 }, () => {
  const server = useServer({ args: ['--sandbox=none'] });
  const { ask, stop } = using(server);

  it('lie where the engine sees them on the host', async () => {
    await server.deploy(compiler('a', 'one'));
    for (const expected of ['one', 'one,one']) {
      await ask('a');
      assert.equal(fs.readFileSync(path.join(server.dataDir, 'compile-caches/default/a/vllm-cpu/0/files/words'), 'utf8'), expected);
      await stop('a');
    }
  });
});
