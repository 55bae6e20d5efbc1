// A real model behind the official client: asleep, a request, an answer, asleep again.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';

import { hasStories } from './lib/environment.js';
import { chat, realModel, useServer } from './lib/server.js';
import { namespacesOf } from './lib/traces.js';
import { until } from './lib/until.js';

const known = { prompt: 'Once upon a time', continuation: ', there was a little girl named Lily' };

describe('a real model through the openai client', { timeout: 240_000 }, () => {
  const server = useServer();
  let namespaces = [];

  it('lists a model that sleeps', async () => {
    await server.deploy(realModel('stories'));
    const models = [];
    for await (const model of server.openai().models.list()) models.push(model.id);
    assert.deepEqual(models, ['stories']);
    const one = await server.openai().models.retrieve('stories');
    assert.equal(one.object, 'model');
    assert.deepEqual(await server.instances(), []);
  });

  it('wakes it for a completion and shows how', async (t) => {
    const { data, response } = await server
      .openai()
      .completions.create({ model: 'stories', prompt: known.prompt, max_tokens: 10, temperature: 0 })
      .withResponse();
    if (hasStories) assert.ok(data.choices[0].text.startsWith(known.continuation), data.choices[0].text);
    else t.diagnostic('the real model is not on this machine: its known answer was not checked (set THAW_TEST_MODEL)');
    assert.equal(data.usage.completion_tokens, 10);
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    assert.ok(Number(response.headers.get('x-thaw-queue-ms')) > 0);
    assert.ok(Number(response.headers.get('x-thaw-ttft-ms')) >= Number(response.headers.get('x-thaw-queue-ms')));

    const id = response.headers.get('x-request-id');
    assert.match(id, /^req_[0-9a-f]{18}$/);
    const record = await server.record(id);
    assert.equal(record.cold, true);
    assert.equal(record.attempts, 1);
    assert.equal(record.status, 200);
    assert.equal(record.failure, null);
    assert.equal(record.prompt_tokens, data.usage.prompt_tokens);
    assert.equal(record.completion_tokens, 10);
    const names = record.phases.map((phase) => phase.name);
    for (const name of ['queue', 'sandbox', 'mount', 'exec', 'load', 'first token']) assert.ok(names.includes(name), `${name} of ${names}`);
    for (const phase of record.phases) {
      assert.ok(phase.start_ms >= 0 && phase.duration_ms >= 0, JSON.stringify(phase));
      assert.ok(phase.start_ms + phase.duration_ms <= record.total_ms + 1, `${JSON.stringify(phase)} of ${record.total_ms}`);
    }
    const load = record.phases.find((phase) => phase.name === 'load');
    const queue = record.phases.find((phase) => phase.name === 'queue');
    assert.ok(queue.duration_ms >= load.duration_ms, 'the request waited for the load');
  });

  it('answers a chat from the warm replica', async () => {
    const { data, response } = await server.openai().chat.completions.create(chat('stories', known.prompt, { max_tokens: 8 })).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'warm');
    assert.equal(response.headers.get('x-thaw-queue-ms'), '0');
    assert.equal(data.object, 'chat.completion');
    assert.ok(data.choices[0].message.content.length > 0);
    assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  });

  it('streams the same text that it answers at once, with usage at the end', async () => {
    const request = { model: 'stories', prompt: known.prompt, max_tokens: 12, temperature: 0 };
    const whole = await server.openai().completions.create(request);
    const stream = await server.openai().completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
    let text = '';
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].text);
    assert.equal(usage.completion_tokens, 12);
  });

  it('streams a chat in deltas', async () => {
    const stream = await server.openai().chat.completions.create(chat('stories', known.prompt, { max_tokens: 8, stream: true, stream_options: { include_usage: true } }));
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.ok(chunks.filter((chunk) => chunk.choices[0]?.delta?.content).length > 1, 'more than one piece');
    assert.ok(chunks.some((chunk) => chunk.choices[0]?.finish_reason === 'length'));
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, 8);
  });

  it('embeds, in floats and in base64', async () => {
    const input = ['a little girl', 'a big dog'];
    const encoded = await server.openai().embeddings.create({ model: 'stories', input }); // the client asks for base64 and decodes it
    const plain = await server.openai().embeddings.create({ model: 'stories', input, encoding_format: 'float' });
    assert.equal(plain.data.length, 2);
    assert.ok(plain.data[0].embedding.length > 8);
    assert.notDeepEqual(plain.data[0].embedding, plain.data[1].embedding);
    for (let i = 0; i < 2; ++i)
      plain.data[i].embedding.forEach((value, at) => assert.ok(Math.abs(value - encoded.data[i].embedding[at]) < 1e-5));
  });

  it('answers curl', async (t) => {
    const body = JSON.stringify(chat('stories', known.prompt, { max_tokens: 4, stream: true }));
    const curl = spawnSync('curl', ['-sS', '-N', '-i', '-H', `Authorization: Bearer ${server.key}`, '--json', body, `${server.url}/v1/chat/completions`], { encoding: 'utf8' });
    if (curl.error) return t.skip('curl is not installed');
    assert.equal(curl.status, 0, curl.stderr);
    assert.match(curl.stdout, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(curl.stdout, /^Content-Type: text\/event-stream\r$/m);
    assert.match(curl.stdout, /^x-thaw-start: warm\r$/m);
    assert.match(curl.stdout, /\ndata: \[DONE\]\n\n$/);
  });

  it('passes on what the engine refuses', async () => {
    const long = 'word '.repeat(2000); // more than the context
    await assert.rejects(server.openai().completions.create({ model: 'stories', prompt: long }), (error) => {
      assert.equal(error.status, 400);
      assert.match(error.message, /context/i);
      return true;
    });
  });

  it('goes back to nothing when it is idle', async () => {
    const [instance] = await server.instances();
    assert.equal(instance.state, 'ready');
    assert.ok(instance.memory_bytes > 0);
    namespaces = namespacesOf(instance.pid);
    assert.ok(namespaces.length >= 4, `the engine has namespaces of its own: ${namespaces}`);

    await server.deploy(realModel('stories', { scaling: { idleTimeout: '1s' } })); // no change that needs another engine
    assert.equal((await server.instances())[0]?.id, instance.id);
    await until('the idle model sleeps', async () => (await server.instances()).length === 0);
    await server.nothingLeft({ namespaces });
    assert.equal((await server.modelInfo('stories')).state, 'asleep');
    const devices = (await server.call('GET', '/admin/v1/instances')).json.devices;
    assert.ok(devices.every((device) => device.reserved_bytes === 0));
  });

  it('wakes again, and leaves nothing behind when the server ends', async () => {
    const { data, response } = await server.openai().completions.create({ model: 'stories', prompt: known.prompt, max_tokens: 10, temperature: 0 }).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    if (hasStories) assert.ok(data.choices[0].text.startsWith(known.continuation), data.choices[0].text);
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true, namespaces });
  });
});
