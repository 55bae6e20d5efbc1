// Models that compete for one device: who makes room, who is never touched, and what is said to those who must wait.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import OpenAI from 'openai';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('one device for several models', { timeout: 300_000 }, () => {
  // 100 MiB: one of the 64 MiB models at a time, with a small one beside it.
  const server = useServer({ config: { devices: { cpu: { memory: '100MiB' } } } });
  const ask = (model, prompt, more = {}) => server.openai().chat.completions.create(chat(model, prompt, more));
  const running = async () => (await server.instances()).filter((one) => one.state === 'ready').map((one) => one.model).sort();
  const reserved = async () => (await server.call('GET', '/admin/v1/instances')).json.devices[0];

  before(async () => {
    for (const name of ['a', 'b']) await server.deploy(fakeModel(name));
    await server.deploy(fakeModel('small', { resources: { deviceMemory: '16MiB' } }));
  });

  it('the idle model makes room; one that does not have to go stays', async () => {
    await ask('small', 'x');
    await ask('a', 'x');
    assert.deepEqual(await running(), ['a', 'small']);
    const { response } = await ask('b', 'x').withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    assert.deepEqual(await running(), ['b', 'small']);
    assert.equal((await server.modelInfo('a')).evictions, 1);
    const device = await reserved();
    assert.equal(device.reserved_bytes, 80 << 20);
    assert.equal(device.budget_bytes, 100 << 20);
    assert.equal((await ask('small', 'x').withResponse()).response.headers.get('x-thaw-start'), 'warm');
  });

  it('a busy model is never evicted: its stream ends in full before the other starts', async () => {
    const tokens = 60;
    let ended_at = 0;
    const stream = await ask('b', `fake:tokens=${tokens},delay_ms=50`, { stream: true, stream_options: { include_usage: true } });
    const read = (async () => {
      let usage = null;
      for await (const chunk of stream) usage = chunk.usage ?? usage;
      ended_at = Date.now();
      return usage;
    })();
    const other = ask('a', 'x', { max_tokens: 1 }).withResponse();
    await until('the other waits', async () => (await server.modelInfo('a')).queued === 1);
    assert.ok((await reserved()).reserved_bytes <= 100 << 20);
    const { response } = await other;
    const usage = await read;
    assert.equal(usage.completion_tokens, tokens);
    assert.ok(ended_at > 0);
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    assert.deepEqual(await running(), ['a', 'small']);
  });

  it('two models under constant traffic take turns: all is answered, nobody starves, and not every request costs a start', async () => {
    const before = (await server.modelInfo('a')).cold_starts + (await server.modelInfo('b')).cold_starts;
    const each = 40;
    const workers = 4;
    const longest_ms = { a: 0, b: 0 };
    const left = { a: each, b: each };
    const work = async (model) => {
      while (left[model] > 0) {
        --left[model];
        const sent_at = Date.now();
        const answer = await ask(model, 'fake:tokens=1,delay_ms=50');
        longest_ms[model] = Math.max(longest_ms[model], Date.now() - sent_at);
        assert.equal(answer.usage.completion_tokens, 1);
      }
    };
    await Promise.all(['a', 'b'].flatMap((model) => Array.from({ length: workers }, () => work(model))));
    const starts = (await server.modelInfo('a')).cold_starts + (await server.modelInfo('b')).cold_starts - before;
    assert.ok(starts >= 1, 'they had to alternate');
    assert.ok(starts <= each, `${starts} starts for ${2 * each} requests is thrash (longest waits: ${JSON.stringify(longest_ms)} ms)`);
    assert.doesNotMatch(server.log, /broke off|is down/);
  });

  it('what can never fit is refused when it is deployed', async () => {
    const answer = await server.call('POST', '/admin/v1/models', fakeModel('giant', { resources: { deviceMemory: '200MiB' } }));
    assert.equal(answer.status, 422);
    assert.equal(answer.json.error.code, 'cannot_fit');
    assert.match(answer.json.error.message, /needs 200 ?MiB.*100 ?MiB/);
    await assert.rejects(server.openai().models.retrieve('giant'), OpenAI.NotFoundError);

    const pair = await server.call('POST', '/admin/v1/models', fakeModel('pair', { scaling: { minReplicas: 2, maxReplicas: 2 } }));
    assert.equal(pair.status, 422, 'two replicas kept for ever do not fit either');
    assert.match(pair.json.error.message, /minReplicas/);
  });

  it('a full queue answers 429 with Retry-After, a wait that takes too long 503', async () => {
    const queues = (queue) => fakeModel('queues', { resources: { deviceMemory: '16MiB' }, scaling: { targetConcurrency: 1, queue } });
    await server.deploy(queues({ maxLength: 1 }));
    const hog = await ask('queues', 'fake:tokens=100000,delay_ms=20', { stream: true });
    await hog[Symbol.asyncIterator]().next();
    await server.deploy(queues({ maxLength: 1, timeout: '1500ms' }));
    const retryable = (error) => {
      const after_s = Number(error.headers['retry-after']);
      assert.ok(after_s >= 1 && after_s <= 60, `Retry-After ${after_s}`);
      const after_ms = Number(error.headers['retry-after-ms']);
      assert.ok(after_ms >= 1000 && after_ms <= after_s * 1000);
    };
    const waits = assert.rejects(ask('queues', 'waits'), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError);
      assert.equal(error.status, 503);
      assert.equal(error.code, 'queue_timeout');
      retryable(error);
      return true;
    });
    await until('one waits', async () => (await server.modelInfo('queues')).queued === 1);
    await assert.rejects(ask('queues', 'no room'), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.code, 'queue_full');
      retryable(error);
      return true;
    });
    await waits;
    // A client with its default retries gets through once there is room.
    const patient = server.openai({ maxRetries: 10 }).chat.completions.create(chat('queues', 'later', { max_tokens: 1 }));
    await until('it waits', async () => (await server.modelInfo('queues')).queued === 1);
    hog.controller.abort();
    assert.equal((await patient).choices[0].message.content, ' later');
    assert.match(await server.metrics(), /^thaw_refusals_total\{cause="queue_full"\} 1$/m);
  });

  it('a model that waits for a busy device gets 503 with Retry-After when its time is up', async () => {
    await server.deploy(fakeModel('hurried', { scaling: { queue: { timeout: '1s' } } }));
    const hog = await ask('a', 'fake:tokens=100000,delay_ms=20', { stream: true });
    await hog[Symbol.asyncIterator]().next();
    await assert.rejects(ask('hurried', 'x'), (error) => {
      assert.equal(error.status, 503);
      assert.match(error.message, /hurried/);
      assert.ok(Number(error.headers['retry-after']) >= 1);
      return true;
    });
    hog.controller.abort();
    await server.deploy(fakeModel('hurried'));
    assert.equal((await ask('hurried', 'fine now', { max_tokens: 2 })).choices[0].message.content, ' fine now');
  });
});
