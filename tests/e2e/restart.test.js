// The end of a server: pulled out from under its work, or asked to go.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { chat, fakeModel, realModel, textOf, useServer } from './lib/server.js';
import { namespacesOf } from './lib/traces.js';
import { until } from './lib/until.js';

const words = (count) => Array(count).fill(' one').join('');

describe('kill -9 with instances running', { timeout: 240_000 }, () => {
  const server = useServer();

  it('ends the streams that ran, and forgets nothing that was declared', async () => {
    await server.deploy(realModel('stories'));
    await server.deploy(fakeModel('fake', { scaling: { maxReplicas: 2, targetConcurrency: 3 } }));
    await server.openai().completions.create({ model: 'stories', prompt: 'Once', max_tokens: 2 });
    const stream = await server.openai().chat.completions.create(chat('fake', 'fake:tokens=1000,delay_ms=50', { stream: true }));
    await stream[Symbol.asyncIterator]().next();
    const before = await server.instances();
    assert.equal(before.length, 2);
    const namespaces = before.flatMap((instance) => namespacesOf(instance.pid));
    const spec = (await server.modelInfo('fake')).spec;
    const { key } = server;

    await server.end('SIGKILL');
    await assert.rejects(textOf(stream));

    await server.start();
    assert.equal(server.key, key);
    await server.nothingLeft({ namespaces });
    assert.deepEqual((await server.call('GET', '/admin/v1/models')).json.models.map((model) => model.name).sort(), ['fake', 'stories']);
    assert.deepEqual((await server.modelInfo('fake')).spec, spec);
    const { response } = await server.openai().completions.create({ model: 'stories', prompt: 'Once', max_tokens: 2 }).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    const answer = await server.openai().chat.completions.create(chat('fake', 'one', { max_tokens: 2 }));
    assert.equal(answer.choices[0].message.content, words(2));
  });

  it('keeps the usage that was committed, and leaves nothing when it ends', async () => {
    const usage = (await server.call('GET', '/admin/v1/usage')).json.groups;
    assert.ok(usage.some((row) => row.model === 'stories' && row.requests >= 1), JSON.stringify(usage));
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true });
  });
});

describe('SIGTERM', { timeout: 240_000 }, () => {
  const server = useServer();

  it('lets running requests finish, refuses new ones with 503, and exits with 0', async () => {
    await server.deploy(fakeModel('fake'));
    const tokens = 40;
    const stream = await server.openai().chat.completions.create(chat('fake', `fake:tokens=${tokens},delay_ms=100`, { stream: true, stream_options: { include_usage: true } }));
    const chunks = stream[Symbol.asyncIterator]();
    await chunks.next();
    const thinking = server.openai().chat.completions.create(chat('fake', 'fake:tokens=1,first_ms=2000'));
    await until('both requests are with the engine', async () => (await server.fakeTotals('fake')).active === 2);

    server.child.kill('SIGTERM');
    await until('the server drains', () => server.log.includes('draining'));
    await assert.rejects(server.openai().chat.completions.create(chat('fake', 'late')), (error) => {
      assert.equal(error.status, 503);
      assert.ok(Number(error.headers['retry-after']) >= 1);
      return true;
    });
    let usage = null;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) usage = next.value.usage ?? usage;
    assert.equal(usage.completion_tokens, tokens);
    assert.equal((await thinking).usage.completion_tokens, 1);
    assert.deepEqual(await server.exited, { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true });
  });
});

describe('SIGTERM and what does not end', { timeout: 240_000 }, () => {
  const server = useServer({ config: { gateway: { drainTimeout: '1s' }, node: { stopGrace: '500ms' } } });

  it('cuts it after drainTimeout; an engine that ignores SIGTERM is killed; waiting requests are refused', async () => {
    await server.deploy(fakeModel('stubborn', { args: ['--fake-ignore-sigterm'], scaling: { targetConcurrency: 1 } }));
    const stream = await server.openai().chat.completions.create(chat('stubborn', 'fake:tokens=2,delay_ms=1,hang_mid', { stream: true }));
    const text = textOf(stream);
    const waiting = server.openai().chat.completions.create(chat('stubborn', 'waits'));
    await until('one request waits', async () => (await server.modelInfo('stubborn')).queued === 1);
    const [{ pid }] = await server.instances();
    const namespaces = namespacesOf(pid);
    const cut = assert.rejects(text);
    const refused = assert.rejects(waiting, (error) => error.status === 503);
    const how = await server.end();
    await Promise.all([cut, refused]);
    assert.deepEqual(how, { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true, namespaces });
  });
});
