// Replicas follow demand: one start for many requests, more when concurrency passes the target, fewer when it is over, none when idle.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { chat, fakeModel, textOf, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const stream_options = { include_usage: true };

describe('scaling', { timeout: 240_000 }, () => {
  const server = useServer();
  const ask = (model, prompt, more = {}) => server.openai().chat.completions.create(chat(model, prompt, more));
  const instancesOf = async (model) => (await server.instances()).filter((one) => one.model === model);

  it('concurrent requests for one cold model share one start', async () => {
    await server.deploy(fakeModel('shared', { args: ['--fake-start-delay-ms', '700'], scaling: { targetConcurrency: 4 } }));
    const answers = await Promise.all(Array.from({ length: 24 }, (_, i) => ask('shared', `number ${i}`, { max_tokens: 2 }).withResponse()));
    answers.forEach(({ data, response }, i) => {
      assert.equal(data.choices[0].message.content, ` number ${i}`);
      assert.equal(response.headers.get('x-thaw-start'), 'cold');
    });
    const info = await server.modelInfo('shared');
    assert.equal(info.cold_starts, 1);
    assert.equal((await instancesOf('shared'))[0].served, 24);
    assert.match(server.log, /shared: starting instance/);
    assert.equal(server.log.match(/shared: starting instance/g).length, 1);
  });

  it('replicas are added beyond the target, up to the maximum, and removed when fewer are needed', async () => {
    await server.deploy(fakeModel('grows', { scaling: { targetConcurrency: 1, maxReplicas: 2, idleTimeout: '1s' } }));
    const streams = await Promise.all(Array.from({ length: 2 }, () => ask('grows', 'fake:tokens=100000,delay_ms=20', { stream: true })));
    const chunks = streams.map((stream) => stream[Symbol.asyncIterator]());
    for (const one of chunks) await one.next();
    assert.equal((await server.modelInfo('grows')).ready, 2);

    const third = ask('grows', 'third', { max_tokens: 1 });
    await until('the third waits', async () => (await server.modelInfo('grows')).queued === 1);
    assert.equal((await instancesOf('grows')).length, 2, 'no more than maxReplicas');
    streams[0].controller.abort();
    assert.equal((await third).choices[0].message.content, ' third');

    await until('one replica goes', async () => (await instancesOf('grows')).length === 1);
    assert.equal((await instancesOf('grows'))[0].in_flight, 1, 'the busy one stays');
    assert.ok(!(await chunks[1].next()).done, 'and its stream goes on');
    streams[1].controller.abort();
    await until('the last one goes', async () => (await instancesOf('grows')).length === 0);
  });

  it('idle time counts from the end of the last request, and is no limit for a request', async () => {
    const idle_ms = 1_500;
    const tokens = 30;
    await server.deploy(fakeModel('patient', { scaling: { idleTimeout: `${idle_ms}ms` } }));
    const sent_at = Date.now();
    const { data: stream, response } = await ask('patient', `fake:tokens=${tokens},delay_ms=100`, { stream: true, stream_options }).withResponse();
    let usage = null;
    for await (const chunk of stream) usage = chunk.usage ?? usage;
    assert.equal(usage.completion_tokens, tokens, 'a request longer than idleTimeout is not cut');
    const record = await server.record(response.headers.get('x-request-id'));
    assert.ok(record.total_ms > tokens * 100);
    assert.equal(record.attempts, 1);

    await until('it sleeps', async () => (await instancesOf('patient')).length === 0);
    const line = server.log.split('\n').find((text) => /patient: stopping instance \d+: idle/.test(text));
    const stopped_at = new Date(line.slice(0, 23)).getTime();
    // Counted from the request's start, the stop would have come right at its end.
    assert.ok(stopped_at - sent_at >= record.total_ms + idle_ms - 5, `stopped ${stopped_at - sent_at} ms after the request was sent, which took ${record.total_ms} ms`);
  });

  it('requests before the idle time is over push it away', async () => {
    await server.deploy(fakeModel('busy', { scaling: { idleTimeout: '2s' } }));
    const first = await ask('busy', 'x', { max_tokens: 1 }).withResponse();
    const warm = [];
    for (const until_ms = Date.now() + 3_000; Date.now() < until_ms; ) warm.push(await ask('busy', 'fake:tokens=1,delay_ms=100').withResponse());
    assert.equal(first.response.headers.get('x-thaw-start'), 'cold');
    assert.ok(warm.every(({ response }) => response.headers.get('x-thaw-start') === 'warm'));
  });

  it('minReplicas are there without any request, and come back after a crash', async () => {
    await server.deploy(fakeModel('always', { scaling: { minReplicas: 1, idleTimeout: '0s' } }));
    const [first] = await until('it is ready', async () => (await instancesOf('always')).filter((one) => one.state === 'ready').slice(0, 1).map((one) => [one])[0]);
    process.kill(first.pid, 'SIGKILL');
    await until('another is ready', async () => (await instancesOf('always')).some((one) => one.state === 'ready' && one.id !== first.id));
    const { response } = await ask('always', 'x', { max_tokens: 1 }).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'warm');
    await server.call('DELETE', '/admin/v1/models/always');
    await until('it is gone', async () => (await instancesOf('always')).length === 0);
  });

  it('a redeploy with another engine drains the old replica, without cutting its stream', async () => {
    await server.deploy(fakeModel('changes'));
    const stream = await ask('changes', 'fake:tokens=80,delay_ms=50', { stream: true });
    const chunks = stream[Symbol.asyncIterator]();
    await chunks.next();
    const [old] = await instancesOf('changes');
    await server.deploy(fakeModel('changes', { args: ['--fake-tokens', '3'] }));
    await until('new requests meet the new engine, once it is ready', async () => (await ask('changes', 'new')).usage.completion_tokens === 3);
    let count = 1;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) ++count;
    assert.ok(count >= 80, `${count} chunks of the old stream`);
    await until('the old one is gone', async () => (await instancesOf('changes')).every((one) => one.id !== old.id));
  });

  it('a removed model: what waits gets 404, what runs ends, nothing is left', async () => {
    await server.deploy(fakeModel('removed', { scaling: { targetConcurrency: 1 } }));
    const running = ask('removed', 'fake:tokens=20,delay_ms=100', { stream: true }).then(textOf);
    await until('one runs', async () => (await server.modelInfo('removed')).in_flight === 1);
    const waiting = assert.rejects(ask('removed', 'waits'), (error) => error.status === 404);
    await until('one waits', async () => (await server.modelInfo('removed')).queued === 1);
    await server.call('DELETE', '/admin/v1/models/removed');
    await waiting;
    assert.equal((await running).split(' ').length - 1, 20);
    await until('it is gone', async () => (await instancesOf('removed')).length === 0);
  });

  it('many streams at once all arrive in order and in full', async () => {
    await server.deploy(fakeModel('wide', { scaling: { targetConcurrency: 64, maxReplicas: 2 } }));
    const tokens = 25;
    const texts = await Promise.all(
      Array.from({ length: 160 }, async (_, i) => textOf(await ask('wide', `fake:tokens=${tokens},delay_ms=2 word${i} end`, { stream: true }))),
    );
    texts.forEach((text, i) => {
      const words = [`fake:tokens=${tokens},delay_ms=2`, `word${i}`, 'end'];
      assert.equal(text, Array.from({ length: tokens }, (_, at) => ` ${words[at % 3]}`).join(''));
    });
    assert.ok((await server.modelInfo('wide')).cold_starts <= 2);
    await server.call('POST', '/admin/v1/models/wide/stop');
  });

  it('thaw stop --kill does not wait for requests', async () => {
    await server.deploy(fakeModel('killed'));
    const stream = await ask('killed', 'fake:tokens=100000,delay_ms=20', { stream: true });
    const ended = assert.rejects(textOf(stream));
    await server.call('POST', '/admin/v1/models/killed/stop?kill=1');
    await ended;
    await until('it is gone', async () => (await instancesOf('killed')).length === 0);
    await server.call('POST', '/admin/v1/models/shared/stop');
    await server.call('POST', '/admin/v1/models/changes/stop');
    await server.nothingLeft();
  });
});
