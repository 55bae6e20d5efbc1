// Clients that leave: before the model is awake, before the first token, in the middle. The engine must hear of it each time.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('a client that leaves', { timeout: 180_000 }, () => {
  const server = useServer();
  const stats = () => server.fakeTotals('fake');

  /** Starts a request that can be given up. */
  function begin(model, prompt, more = {}) {
    const abort = new AbortController();
    const answer = server.openai().chat.completions.create(chat(model, prompt, more), { signal: abort.signal });
    answer.catch(() => {}); // awaited below
    return { answer, leave: () => abort.abort() };
  }

  before(async () => {
    await server.deploy(fakeModel('fake', { scaling: { targetConcurrency: 2 } }));
    await server.deploy(fakeModel('slow', { args: ['--fake-start-delay-ms', '2500'], scaling: { targetConcurrency: 1, queue: { maxLength: 1 } } }));
  });

  for (const stream of [false, true]) {
    it(`while the model wakes (stream: ${stream}): its place is free for another, and the engine never hears of it`, async () => {
      const gone = begin('slow', 'gone', { stream });
      await until('it waits', async () => (await server.modelInfo('slow')).queued === 1);
      await assert.rejects(server.openai().chat.completions.create(chat('slow', 'no room')), (error) => error.status === 429);
      gone.leave();
      await assert.rejects(gone.answer, { name: 'Error' });
      await until('its place is free', async () => (await server.modelInfo('slow')).queued === 0);
      const answer = await server.openai().chat.completions.create(chat('slow', 'stays', { max_tokens: 1 }));
      assert.equal(answer.choices[0].message.content, ' stays');
      assert.deepEqual(await server.fakeTotals('slow'), { requests: 1, completed: 1, cancelled: 0, active: 0 });
      await server.call('POST', '/admin/v1/models/slow/stop');
      await until('it sleeps again', async () => (await server.modelInfo('slow')).state === 'asleep');
    });

    it(`while the engine thinks (stream: ${stream})`, async () => {
      await server.openai().chat.completions.create(chat('fake', 'wake', { max_tokens: 1 }));
      const before = await stats();
      const gone = begin('fake', 'fake:first_ms=600000', { stream });
      await until('the engine thinks', async () => (await stats()).active === 1);
      gone.leave();
      await assert.rejects(gone.answer);
      await until('the engine was told', async () => (await stats()).cancelled === before.cancelled + 1);
      assert.equal((await stats()).active, 0);
      await until('nothing is in flight', async () => (await server.modelInfo('fake')).in_flight === 0);
    });
  }

  it('in the middle of a stream', async () => {
    const before = await stats();
    const gone = begin('fake', 'fake:tokens=100000,delay_ms=10', { stream: true });
    const chunks = (await gone.answer)[Symbol.asyncIterator]();
    for (let i = 0; i < 3; ++i) await chunks.next();
    assert.equal((await server.modelInfo('fake')).in_flight, 1);
    gone.leave();
    await until('the engine was told', async () => (await stats()).cancelled === before.cancelled + 1);
    await until('nothing is in flight', async () => (await server.modelInfo('fake')).in_flight === 0);
  });

  it('gives its slot to the next in line', async () => {
    const hogs = [begin('fake', 'fake:first_ms=600000'), begin('fake', 'fake:tokens=100000,delay_ms=10', { stream: true })];
    await until('both slots are taken', async () => (await stats()).active === 2);
    const next = begin('fake', 'next', { max_tokens: 1 });
    await until('a third waits', async () => (await server.modelInfo('fake')).queued === 1);
    hogs[0].leave();
    assert.equal((await next.answer).choices[0].message.content, ' next');
    hogs[1].leave();
    await until('all slots are free', async () => (await stats()).active === 0);
  });

  it('is counted, keeps its record, and the replica lives on', async () => {
    assert.match(await server.metrics(), /^thaw_client_disconnects_total [1-9]/m);
    const models = (await server.call('GET', '/admin/v1/models')).json.models;
    assert.deepEqual(models.map((model) => model.start_failures), [0, 0]);
    assert.equal(models.find((model) => model.name === 'fake').cold_starts, 1);
  });
});
