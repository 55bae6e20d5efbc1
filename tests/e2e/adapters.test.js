// Adapters (LoRA): models of their own that one process and one set of weights answer for.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { binDir, hasStories, scratch } from './lib/environment.js';
import { FileHost } from './lib/file_host.js';
import { modelDirectory } from './lib/made_engine.js';
import { chat, fakeModel, realModel, Server, useServer } from './lib/server.js';
import { until } from './lib/until.js';

/** An adapter's file for the real model: another one for every seed. */
function madeAdapter(name, seed, { layers = 5, width = 64, more = [] } = {}) {
  const file = path.join(scratch, 'models', `${name}.gguf`);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  execFileSync(path.join(binDir, 'make-model'), ['lora', '--layers', String(layers), '--width', String(width), '--seed', String(seed), '--out', file, ...more]);
  return file;
}

/** A directory as PEFT writes one. `trouble`: what goes wrong with it in the stand-in (tests/fake_engine/lora.h). */
function peftAdapter(name, { rank = 8, trouble } = {}) {
  const directory = path.join(scratch, 'adapters', name);
  fs.mkdirSync(directory, { recursive: true, mode: 0o755 });
  const put = (file, text) => fs.writeFileSync(path.join(directory, file), text, { mode: 0o644 });
  put('adapter_config.json', JSON.stringify({ peft_type: 'LORA', r: rank }));
  put('adapter_model.safetensors', 'x');
  if (trouble) put('trouble', trouble);
  return directory;
}

const adapter = (name, base, file, more = {}) => ({ apiVersion: 'thaw/v1', kind: 'Model', metadata: { name }, spec: { base, source: { path: file }, ...more } });

function using(server) {
  return {
    /** What a model goes on with, always the same. */
    completes: async (model, prompt = 'Once upon a time') => {
      const { data, response } = await server.openai().completions.create({ model, prompt, max_tokens: 12, temperature: 0 }).withResponse();
      return { text: data.choices[0].text, start: response.headers.get('x-thaw-start'), id: response.headers.get('x-request-id') };
    },
    says: async (model, more = {}) => {
      const answer = await server.call('POST', '/v1/chat/completions', chat(model, 'Once upon a time', { max_tokens: 12, temperature: 0, ...more }));
      return { status: answer.status, text: answer.json?.choices?.[0].message.content, error: answer.json?.error };
    },
    refusal: async (spec, status, code) => {
      const answer = await server.call('POST', '/admin/v1/models', spec);
      assert.equal(answer.status, status, answer.text);
      assert.equal(answer.json.error.code, code, answer.text);
      return answer.json.error.message;
    },
    settled: (name) => until(`${name} is settled`, async () => (await server.modelInfo(name)).rollout === null),
  };
}

describe('adapters of a real model', { timeout: 240_000, skip: !hasStories && 'the real model is not on this machine (set THAW_TEST_MODEL)' }, () => {
  const server = useServer();
  const { completes, says, refusal, settled } = using(server);
  const known = ', there was a little girl named Lily. She';
  let files;
  before(() => (files = { one: madeAdapter('one', 1), two: madeAdapter('two', 2), three: madeAdapter('three', 3) }));

  it('a request for one wakes its base, and each answers in its own way, from one process', async () => {
    await server.deploy(realModel('base', { scaling: { maxReplicas: 1 } }));
    const deployed = await server.deploy(adapter('one', 'base', files.one, { aliases: ['first'] }));
    assert.equal(deployed.facts.format, 'gguf v3 lora');
    assert.equal(deployed.spec.base, 'base');
    await server.deploy(adapter('two', 'base', files.two));
    assert.deepEqual(await server.instances(), []);

    const one = await completes('one');
    assert.equal(one.start, 'cold');
    const [{ pid, model }, ...others] = await server.instances();
    assert.deepEqual([model, others], ['base', []]);
    const base = await completes('base');
    const two = await completes('two');
    assert.equal(base.text, known);
    assert.equal(new Set([one.text, two.text, base.text]).size, 3, JSON.stringify([one.text, two.text, base.text]));
    assert.deepEqual((await server.instances()).map((i) => i.pid), [pid]);
    assert.equal((await completes('one')).text, one.text, 'the same again');
    const alias = await server.call('POST', '/v1/completions', { model: 'first', prompt: 'Once upon a time', max_tokens: 12, temperature: 0 });
    assert.equal(alias.json.choices[0].text, one.text);
  });

  it('the base answers as it does without them, whoever was served before and by whatever route', async () => {
    const message = async () => {
      const answer = await server.call('POST', '/v1/messages', { model: 'base', messages: [{ role: 'user', content: 'Once upon a time' }], max_tokens: 12, temperature: 0 });
      assert.equal(answer.status, 200, answer.text);
      return answer.json.content[0].text;
    };
    const alone = (await says('base')).text;
    const message_alone = await message();
    for (const name of ['one', 'two', 'one']) {
      await says(name);
      await says(name);
      await completes(name);
      assert.equal(await message(), message_alone, `after ${name}`);
      assert.equal((await says('base')).text, alone, `after ${name}`);
      assert.equal((await completes('base')).text, known, `after ${name}`);
    }
    // A request cannot have by the back door what it may not have by name.
    const sneaked = await says('base', { lora: [{ id: 0, scale: 1 }] });
    assert.equal(sneaked.text, alone);
  });

  it('all at once, each is answered for itself', async () => {
    const names = ['base', 'one', 'two'];
    const expected = Object.fromEntries(await Promise.all(names.map(async (name) => [name, (await completes(name)).text])));
    const answers = await Promise.all(Array.from({ length: 12 }, async (_, i) => [names[i % 3], (await completes(names[i % 3])).text]));
    for (const [name, text] of answers) assert.equal(text, expected[name], name);
  });

  it('routes in which the engine hears nothing of adapters refuse them', async () => {
    for (const [route, body] of [['/v1/messages', { messages: [{ role: 'user', content: 'x' }], max_tokens: 2 }], ['/v1/embeddings', { input: 'x' }]]) {
      const answer = await server.call('POST', route, { model: 'one', ...body });
      assert.equal(answer.status, 400, answer.text);
      assert.match(answer.text, /adapter/);
    }
    const responses = await server.call('POST', '/v1/responses', { model: 'one', input: 'Once upon a time', max_output_tokens: 8, temperature: 0 });
    assert.equal(responses.status, 200, responses.text);
  });

  it('is a model of its own in lists, usage, metrics and records', async () => {
    const { data } = (await server.call('GET', '/v1/models')).json;
    const listed = Object.fromEntries(data.map((one) => [one.id, one]));
    assert.deepEqual(Object.keys(listed).sort(), ['base', 'first', 'one', 'two']);
    assert.deepEqual([listed.one.parent, listed.base.parent], ['base', undefined]);
    const info = await server.modelInfo('one');
    assert.deepEqual([info.base, info.state, info.max_replicas], ['base', 'ready', 0]);
    assert.deepEqual((await server.modelInfo('base')).adapters, ['one', 'two']);
    const { id } = await completes('one');
    assert.equal((await server.record(id)).model, 'one');
    const { groups } = (await server.call('GET', '/admin/v1/usage?by=model')).json;
    assert.deepEqual(groups.map((group) => group.model).sort(), ['base', 'one', 'two']);
    assert.match(await server.metrics(), /model="one"/);
    const table = (await server.cli(['ls'])).stdout;
    assert.match(table, /one +ready +- .*by base/);
    assert.match((await server.cli(['ls', 'one'])).stdout, /^base +base$/m);
    const explained = (await server.call('GET', '/admin/v1/models/one/explain')).json;
    assert.deepEqual([explained.model, explained.base, explained.prospect], ['one', 'base', 'dispatched']);
    assert.match((await server.cli(['explain', 'one'])).stdout, /free slot/);
    assert.match((await server.cli(['events', 'one'])).stdout, /deployed/);
  });

  it('one more comes without a request lost, and one that is taken away leaves the others as they were', async () => {
    const two = (await completes('two')).text;
    let going = true;
    const lost = [];
    const busy = (async () => {
      while (going) {
        const answer = await says('base');
        if (answer.status !== 200) lost.push(answer);
      }
    })();
    await server.deploy(adapter('three', 'base', files.three));
    const three = await completes('three'); // at once: it waits for the replica that has it
    assert.equal(new Set([three.text, two, known]).size, 3);
    await settled('base');
    const gone = await server.call('DELETE', '/admin/v1/models/one');
    assert.equal(gone.status, 200, gone.text);
    await settled('base');
    assert.equal((await completes('two')).text, two);
    assert.equal((await completes('three')).text, three.text);
    going = false;
    await busy;
    assert.deepEqual(lost, []);
    assert.equal((await says('one')).status, 404);
  });

  it('what cannot be is refused, with the reason', async () => {
    assert.match(await refusal(adapter('x', 'nobody', files.one), 400, 'base_not_found'), /no model "nobody"/);
    assert.match(await refusal(adapter('x', 'two', files.one), 400, 'base_is_adapter'), /name its base, "base"/);
    assert.match(await refusal(adapter('base', 'two', files.one), 409, 'is_model'), /replicas of its own/);
    assert.match(await refusal(realModel('two'), 409, 'is_adapter'), /thaw rm two/);
    assert.match(await refusal(adapter('x', 'base', realModel('m').spec.source.path), 400, 'invalid_spec'), /no adapter/);
    assert.match(await refusal(adapter('x', 'base', madeAdapter('narrow', 9, { width: 32 })), 400, 'invalid_spec'), /of another model/);
    assert.match(await refusal(adapter('x', 'base', madeAdapter('deep', 9, { layers: 6 })), 400, 'invalid_spec'), /no tensor blk\.5/);
    assert.match(await refusal(adapter('x', 'base', madeAdapter('other', 9, { more: ['--arch', 'qwen2'] })), 400, 'invalid_spec'), /architecture "qwen2"/);
    assert.match(await refusal(adapter('x', 'base', files.one, { scaling: { maxReplicas: 2 } }), 400, 'invalid_spec'), /set it for model "base"/);
    const removed = await server.call('DELETE', '/admin/v1/models/base');
    assert.deepEqual([removed.status, removed.json.error.code], [409, 'has_adapters']);
    for (const act of ['stop', 'freeze', 'wake', 'snapshot']) {
      const answer = await server.call('POST', `/admin/v1/models/two/${act}`);
      assert.deepEqual([answer.status, answer.json.error.code], [409, 'is_adapter'], act);
      assert.match(answer.json.error.message, new RegExp(`thaw ${act} base`));
    }
  });

  it('and all is as it was after a restart', async () => {
    const two = (await completes('two')).text;
    const { revision } = await server.modelInfo('base');
    await server.end();
    await server.start();
    assert.equal((await completes('two')).text, two);
    assert.equal((await completes('base')).text, known);
    assert.equal((await server.modelInfo('base')).revision, revision);
  });
});

describe('adapters of engines that are told of them', { timeout: 240_000 }, () => {
  const server = useServer();
  const { says } = using(server);
  const engineOf = async (model) => server.fakeStats((await server.instances()).find((one) => one.model === model && one.state === 'ready'));

  it('vLLM loads one at its first use, once, and answers by its name', async () => {
    await server.deploy(fakeModel('base', { engine: 'vllm', source: { path: modelDirectory('vllm-base') }, scaling: { targetConcurrency: 16 } }));
    await server.deploy(adapter('slow', 'base', peftAdapter('slow', { trouble: '300' })));
    await server.deploy(adapter('wide', 'base', peftAdapter('wide', { rank: 64 })));
    assert.equal((await says('base')).status, 200);
    assert.equal((await engineOf('base')).adapters, '', 'nobody has asked for one');
    const answers = await Promise.all(Array.from({ length: 6 }, () => server.call('POST', '/v1/chat/completions', chat('slow', 'one two'))));
    for (const answer of answers) {
      assert.equal(answer.status, 200, answer.text);
      assert.equal(answer.json.model, 'slow');
    }
    const stats = await engineOf('base');
    assert.deepEqual([stats.adapters, stats.adapter_loads], ['slow', 1]);
    assert.equal((await says('base')).status, 200);
    const [{ pid }] = await server.instances();
    const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    assert.equal(words[words.indexOf('--max-lora-rank') + 1], '64');
    assert.ok(words.includes('--enable-lora'));
    const events = (await server.call('GET', '/admin/v1/models/slow/events')).json.events.map((one) => one.event);
    assert.deepEqual(events, ['deployed', 'loaded']);
  });

  it('one that the engine refuses is an error of its own, each time, and the base goes on', async () => {
    await server.deploy(adapter('bad', 'base', peftAdapter('bad', { trouble: 'error' })));
    for (let i = 0; i < 2; i++) {
      const answer = await says('bad');
      assert.deepEqual([answer.status, answer.error.code], [502, 'adapter_failed']);
      assert.match(answer.error.message, /adapter "bad" could not be loaded: .*rank 512/);
    }
    const streamed = await server.call('POST', '/v1/chat/completions', chat('bad', 'x', { stream: true }));
    assert.equal(streamed.status, 502, streamed.text);
    assert.equal((await says('base')).status, 200);
    assert.equal((await says('slow')).status, 200);
    assert.equal((await server.modelInfo('base')).last_failure, '');
  });

  it('one that is removed is unloaded, and its base stays up', async () => {
    await until('the base is settled', async () => (await server.modelInfo('base')).rollout === null);
    assert.equal((await says('slow')).status, 200);
    const [{ pid }] = (await server.instances()).filter((one) => one.state === 'ready');
    assert.equal((await server.call('DELETE', '/admin/v1/models/slow')).status, 200);
    await until('it is unloaded', async () => (await engineOf('base')).adapter_unloads === 1);
    assert.deepEqual((await server.instances()).filter((one) => one.state === 'ready').map((one) => one.pid), [pid]);
    assert.equal((await says('slow')).status, 404);
  });

  it('what is loaded is loaded again after a sleep', async () => {
    const args = ['--enable-sleep-mode', '--fake-alloc-mib', '48'];
    await server.deploy(fakeModel('sleeps', { engine: 'vllm', source: { path: modelDirectory('vllm-sleeps') }, args, resources: { deviceMemory: '96MiB' }, standby: { mode: 'always' } }));
    await server.deploy(adapter('dreams', 'sleeps', peftAdapter('dreams')));
    assert.equal((await says('dreams')).status, 200);
    assert.equal((await server.call('POST', '/admin/v1/models/sleeps/freeze')).status, 200);
    await until('it sleeps', async () => (await server.modelInfo('sleeps')).state === 'standby');
    assert.equal((await says('dreams')).status, 200);
    const stats = await engineOf('sleeps');
    assert.deepEqual([stats.adapters, stats.adapter_loads, stats.adapter_unloads], ['dreams', 3, 1], 'refused as known, forgotten, loaded');
  });

  it('SGLang has its own words for it', async () => {
    await server.deploy(fakeModel('lang', { engine: 'sglang', source: { path: modelDirectory('sglang-base') } }));
    await server.deploy(adapter('slang', 'lang', peftAdapter('slang')));
    assert.equal((await says('slang')).status, 200);
    assert.equal((await says('lang')).status, 200);
  });

  it('engines of the user\'s own have none', async () => {
    await server.deploy(fakeModel('own', { engine: 'command', command: [fakeModel('x').spec.enginePath, '--host', '127.0.0.1', '--port', '{port}', '-m', '{model}'], args: [], enginePath: undefined }));
    const answer = await server.call('POST', '/admin/v1/models', adapter('none', 'own', peftAdapter('none')));
    assert.equal(answer.status, 400, answer.text);
    assert.match(answer.text, /command/);
  });
});

describe('adapters that are pulled', { timeout: 120_000, skip: !hasStories && 'the real model is not on this machine (set THAW_TEST_MODEL)' }, () => {
  let host;
  const server = new Server({ config: { sources: { http: true, hosts: ['127.0.0.1'] } } });
  const { completes } = using(server);
  before(async () => {
    host = await new FileHost().listen();
    host.files.set('/pulled.gguf', fs.readFileSync(madeAdapter('pulled', 5)));
    host.files.set('/narrow.gguf', fs.readFileSync(madeAdapter('thin', 5, { width: 32 })));
    await server.start();
  });
  after(async () => {
    await server.destroy();
    host.close();
  });

  it('thaw deploy --url --base fetches one and serves it', async () => {
    await server.deploy(realModel('base'));
    const { code, stdout, stderr } = await server.cli(['deploy', '--url', `${host.url}/pulled.gguf`, '--base', 'base']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^deployed pulled/m);
    assert.notEqual((await completes('pulled')).text, (await completes('base')).text);
    assert.equal((await server.cli(['models', 'gc'])).code, 0);
    assert.ok(fs.existsSync((await server.modelInfo('pulled')).spec.source.pulledTo), 'what a model has is not taken away');
  });

  it('one that does not fit says so once it is there, and its base goes on', async () => {
    const { code, stderr } = await server.cli(['deploy', '--url', `${host.url}/narrow.gguf`, '--base', 'base']);
    assert.notEqual(code, 0);
    assert.match(stderr, /of another model/);
    await completes('base');
  });
});
