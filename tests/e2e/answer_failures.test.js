// Replicas that fail under a request. Before the first byte: another is tried, silently. After it: an error event, never a silent cut.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import OpenAI from 'openai';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('a replica that fails', { timeout: 240_000 }, () => {
  const server = useServer();
  const ask = (model, prompt, more = {}) => server.openai().chat.completions.create(chat(model, prompt, more));
  const ready = async (model) => (await server.instances()).filter((one) => one.model === model && one.state === 'ready');
  before(() => server.deploy(fakeModel('fake', { stallTimeout: '700ms' })));

  /** Reads a stream to its failure: what came of it before, and the error. */
  async function readToError(stream) {
    let text = '';
    try {
      for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
    } catch (error) {
      return { text, error };
    }
    return { text };
  }

  for (const stream of [false, true]) {
    it(`before the first byte: silently retried on a fresh one (stream: ${stream})`, async () => {
      await ask('fake', 'wake', { max_tokens: 1 });
      const [victim] = await ready('fake');
      const answer = ask('fake', 'fake:tokens=2,first_ms=2000', { stream, stream_options: stream ? { include_usage: true } : undefined }).withResponse();
      await until('the engine thinks', async () => (await server.fakeStats(victim)).active === 1);
      process.kill(victim.pid, 'SIGKILL');
      const { data, response } = await answer;
      let usage = data.usage;
      if (stream) for await (const chunk of data) usage = chunk.usage ?? usage;
      assert.equal(usage.completion_tokens, 2);
      assert.equal(response.headers.get('x-thaw-start'), 'cold');
      const record = await server.record(response.headers.get('x-request-id'));
      assert.equal(record.attempts, 2);
      assert.equal(record.failure, null);
      assert.notEqual((await ready('fake'))[0].id, victim.id);
    });
  }

  it('and it is counted', async () => {
    const metrics = await server.metrics();
    assert.match(metrics, /^thaw_request_retries_total\{model="fake"\} 2$/m);
    assert.match(metrics, /^thaw_instance_failures_total\{(?=[^}]*model="fake")(?=[^}]*reason="crashed")[^}]*\} 2$/m);
  });

  for (const [how, words] of [['crash_mid', /broke off/], ['exit_mid', /broke off/], ['cut_mid', /broke off/], ['hang_mid', /fell silent/]]) {
    it(`in the middle (${how}): an error event after what was sent, seen by the client as an error`, async () => {
      const { data: stream, response } = await ask('fake', `fake:tokens=10,delay_ms=10,${how}`, { stream: true }).withResponse();
      assert.equal(response.status, 200);
      const { text, error } = await readToError(stream);
      assert.equal(text.length > 0, true, 'half of the tokens came');
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.match(error.message, words);
      const record = await server.record(response.headers.get('x-request-id'));
      assert.match(record.failure, words);
      assert.equal(record.attempts, 1, 'what was begun is not begun again');
      assert.equal((await ask('fake', 'next', { max_tokens: 1 })).choices[0].message.content, ' next');
    });
  }

  it('the event stream is well-formed up to its end', async () => {
    const { text } = await server.call('POST', '/v1/chat/completions', chat('fake', 'fake:tokens=6,delay_ms=5,crash_mid', { stream: true }));
    const events = text.split('\n\n').filter((event) => event.trim() !== '');
    for (const event of events) JSON.parse(event.trim().replace(/^data: /, ''));
    const { error } = JSON.parse(events.at(-1).trim().replace(/^data: /, ''));
    assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'param', 'type']);
    assert.doesNotMatch(text, /\[DONE\]/);
  });

  it('a hang before the first byte ends at requestTimeout', async () => {
    await server.deploy(fakeModel('mute', { requestTimeout: '1s' }));
    await assert.rejects(ask('mute', 'fake:hang'), (error) => {
      assert.equal(error.status, 502);
      assert.match(error.message, /3 times/);
      return true;
    });
  });

  it('a request that crashes every replica is not retried for ever, and bystanders survive', async () => {
    await server.deploy(fakeModel('fragile', { scaling: { targetConcurrency: 4, maxReplicas: 2 } }));
    await ask('fragile', 'wake', { max_tokens: 1 });
    const bystanders = Array.from({ length: 3 }, (_, i) => ask('fragile', `fake:tokens=${i + 1},first_ms=1000`));
    await until('they are with the engine', async () => (await server.fakeTotals('fragile')).active === 3);
    await assert.rejects(ask('fragile', 'fake:crash'), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
      assert.equal(error.status, 502);
      assert.equal(error.code, 'replica_failed');
      assert.equal(error.headers['x-should-retry'], 'false', 'the client must not bring it back');
      return true;
    });
    const answers = await Promise.all(bystanders);
    assert.deepEqual(answers.map((answer) => answer.usage.completion_tokens), [1, 2, 3]);
    assert.equal((await ask('fragile', 'fine', { max_tokens: 1 })).choices[0].message.content, ' fine');
  });

  it('the client\'s own retries do not multiply ours', async () => {
    const starts = () => server.log.match(/fragile: starting instance/g).length;
    const before = starts();
    await assert.rejects(server.openai({ maxRetries: 2 }).chat.completions.create(chat('fragile', 'fake:crash')), { status: 502 });
    assert.equal(starts() - before, 2, 'three attempts: on the replica that was there, and on two new ones');
  });

  it('while nobody asks: noticed, said, and replaced by the next request', async () => {
    await server.deploy(fakeModel('victim'));
    await ask('victim', 'wake', { max_tokens: 1 });
    const [{ pid, id }] = await ready('victim');
    process.kill(pid, 'SIGKILL');
    await until('the loss is noticed', async () => (await ready('victim')).every((one) => one.id !== id));
    assert.match((await server.modelInfo('victim')).last_failure, /signal 9/);
    assert.match(await server.metrics(), /^thaw_instance_failures_total\{(?=[^}]*model="victim")(?=[^}]*reason="crashed")[^}]*\} 1$/m);
    assert.equal((await ask('victim', 'again', { max_tokens: 1 })).choices[0].message.content, ' again');
  });

  it('one that leaks until its memory limit ends it is replaced, and no request is lost', async () => {
    await server.deploy(fakeModel('leaks', { args: ['--fake-leak-mib', '40'], resources: { deviceMemory: '64MiB', hostMemory: '64MiB' } }));
    for (let n = 0; n < 8; n++) assert.equal((await ask('leaks', `word${n}`, { max_tokens: 1 })).choices[0].message.content, ` word${n}`);
    const died = (await server.call('GET', '/admin/v1/models/leaks/events')).json.events.filter((event) => event.event === 'failed');
    assert.ok(died.length >= 2, JSON.stringify(died));
    for (const { reason } of died) assert.match(reason, /^out_of_memory: .*memory limit of 128 ?MiB/);
  });

  it('nothing is left of all these', async () => {
    for (const { name } of (await server.call('GET', '/admin/v1/models')).json.models) await server.call('POST', `/admin/v1/models/${name}/stop`);
    await until('all sleep', async () => (await server.instances()).length === 0);
    await server.nothingLeft();
  });
});
