// Engines other than llama.cpp: vLLM, SGLang and any server by its command line. The stand-in takes their command lines and has their calls for sleeping; what
// is real is everything on thaw's side: specs, sandboxes, networks, readiness, drivers.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { fakeEngine, model, scratch } from './lib/environment.js';
import { modelDirectory, pythonEnvironment } from './lib/made_engine.js';
import { chat, fakeModel, textOf, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const asleep_mib = 48; // what it gives back; without it there is nothing to be seen
const sleepFlag = { vllm: '--enable-sleep-mode', sglang: '--enable-memory-saver' };

/** A spec for a stand-in that sleeps by itself. */
function sleeper(name, engine, { args = [], standby = {}, ...spec } = {}) {
  return fakeModel(name, {
    engine,
    args: [sleepFlag[engine], '--fake-alloc-mib', String(asleep_mib), ...args],
    resources: { deviceMemory: '96MiB' },
    standby: { mode: 'always', ...standby },
    ...spec,
  });
}

function using(server) {
  const instanceOf = async (name) => (await server.instances()).find((one) => one.model === name);
  return {
    instanceOf,
    ask: (name, prompt, more = {}) => server.openai().chat.completions.create(chat(name, prompt, { temperature: 0, max_tokens: 8, ...more })),
    order: async (what, name) => {
      const answer = await server.call('POST', `/admin/v1/models/${name}/${what}`);
      assert.equal(answer.status, 200, answer.text);
    },
    inState: (name, state) => until(`${name} ${state}`, async () => {
      const one = await instanceOf(name);
      return one?.state === state && one;
    }),
    /** What the refusal of a spec says; its status must be `status`. */
    refusal: async (spec, status = 400) => {
      const answer = await server.call('POST', '/admin/v1/models', spec);
      assert.equal(answer.status, status, answer.text);
      return answer.json.error.message;
    },
  };
}

describe('vLLM and SGLang', { timeout: 240_000 }, () => {
  const server = useServer();
  const { ask, inState, instanceOf, order } = using(server);
  let directory;
  before(() => (directory = modelDirectory('made')));

  for (const engine of ['vllm', 'sglang']) {
    it(`${engine} serves a directory of safetensors, whole answers and streams`, async () => {
      const deployed = await server.deploy(fakeModel(engine, { engine, source: { path: directory } }));
      assert.equal(deployed.facts.format, 'safetensors');
      assert.equal(deployed.spec.engine, engine);
      assert.equal((await ask(engine, 'Once upon')).choices[0].message.content, ' Once upon Once upon Once upon Once upon');
      assert.equal(await textOf(await ask(engine, 'Once upon', { stream: true })), ' Once upon Once upon Once upon Once upon');
      const { pid, way } = await instanceOf(engine);
      assert.equal(way, 'start');
      const shown = fs.readdirSync(`/proc/${pid}/root/thaw/model`).sort();
      assert.deepEqual(shown, ['1_Pooling', 'config.json', 'model.safetensors']);
      assert.ok(fs.existsSync(`/proc/${pid}/root/thaw/model/1_Pooling/config.json`));
    });

    it(`${engine} sleeps by its own means and wakes with its weights`, async () => {
      const name = `${engine}-sleeps`;
      await server.deploy(sleeper(name, engine));
      const said = (await ask(name, 'one two')).choices[0].message.content;
      await order('freeze', name);
      const rests = await inState(name, 'standby');
      assert.ok(rests.held_bytes < asleep_mib << 19, `it holds ${rests.held_bytes} asleep`);
      assert.doesNotMatch(fs.readFileSync(`/proc/${rests.pid}/wchan`, 'utf8'), /refrigerator|freezer/, 'the kernel does not hold it');
      const { data, response } = await ask(name, 'one two').withResponse();
      assert.equal(data.choices[0].message.content, said);
      assert.equal(response.headers.get('x-thaw-way'), 'wake');
      assert.equal((await instanceOf(name)).pid, rests.pid, 'the same process');
      await order('freeze', name);
      await inState(name, 'standby');
      await order('wake', name);
      await inState(name, 'ready');
      assert.equal((await server.modelInfo(name)).tiers.wakes, 2);
    });
  }

  it('vLLM sleeps at the level that standby.weights asks for, and reads its weights anew after level 2', async () => {
    for (const [weights, expected] of [['host', [1, 0, 0]], ['disk', [0, 1, 1]]]) {
      const name = `vllm-${weights}`;
      await server.deploy(sleeper(name, 'vllm', { standby: { weights } }));
      const said = (await ask(name, 'one two')).choices[0].message.content;
      await order('freeze', name);
      await inState(name, 'standby');
      assert.equal((await ask(name, 'one two')).choices[0].message.content, said);
      const { level1_sleeps, level2_sleeps, reloads } = await server.fakeStats(await instanceOf(name));
      assert.deepEqual([level1_sleeps, level2_sleeps, reloads], expected, name);
    }
  });

  it('a sleep that is refused or a lie leaves the engine at work', async () => {
    for (const [engine, trouble] of [['vllm', 'sleep=error'], ['vllm', 'sleep=lie'], ['sglang', 'sleep=lie']]) {
      const name = `${engine}-${trouble.replace('=', '-')}`;
      await server.deploy(sleeper(name, engine, { args: ['--fake-sleep-trouble', trouble] }));
      await ask(name, 'one');
      const { pid } = await instanceOf(name);
      await order('freeze', name);
      await until(`${name}: the failure is counted`, async () => (await server.modelInfo(name)).tiers.freeze_failures === 1);
      assert.equal((await ask(name, 'one two')).choices[0].message.content.slice(0, 8), ' one two');
      assert.ok([pid, undefined].includes((await instanceOf(name))?.pid) || (await server.modelInfo(name)).cold_starts === 2);
    }
  });

  it('one that dies of sleeping, or does not wake, is started again', async () => {
    for (const [engine, trouble] of [['vllm', 'sleep=crash'], ['vllm', 'wake=crash'], ['vllm', 'wake=error'], ['sglang', 'wake=lie']]) {
      const name = `${engine}-${trouble.replace('=', '-')}`;
      await server.deploy(sleeper(name, engine, { args: ['--fake-sleep-trouble', trouble] }));
      await ask(name, 'one');
      const { id } = await instanceOf(name);
      await order('freeze', name);
      await until(`${name}: down or asleep`, async () => {
        const one = await instanceOf(name);
        return one === undefined || one.id !== id || one.state === 'standby';
      });
      assert.equal((await ask(name, 'one two')).choices[0].message.content.slice(0, 8), ' one two');
      assert.notEqual((await instanceOf(name)).id, id);
    }
  });

  it('is slow to load, fails, and dies like any other engine', async () => {
    for (const engine of ['vllm', 'sglang']) {
      await server.deploy(fakeModel(`${engine}-slow`, { engine, args: ['--fake-start-delay-ms', '700', '--fake-token-delay-ms', '5'] }));
      assert.match((await ask(`${engine}-slow`, 'one')).choices[0].message.content, /one/);
      await server.deploy(fakeModel(`${engine}-fails`, { engine, args: ['--fake-fail-start'], scaling: { queue: { timeout: '20s' } } }));
      await assert.rejects(ask(`${engine}-fails`, 'one'), (error) => error.status === 503 && /asked to fail/.test(error.message));
      await server.deploy(fakeModel(`${engine}-dies`, { engine, args: ['--fake-exit-after-requests', '1'] }));
      for (let i = 0; i < 2; ++i) assert.match((await ask(`${engine}-dies`, 'one')).choices[0].message.content, /one/);
    }
  });

  it("shows the engines' own metrics with the model that they are of", async () => {
    const { status, text } = await server.call('GET', '/metrics/engines');
    assert.equal(status, 200);
    for (const engine of ['vllm', 'sglang'])
      assert.match(text, new RegExp(`^vllm:request_success_total\\{model="${engine}",instance="\\d+",model_name="${engine}",finished_reason="stop"\\} 2$`, 'm'));
    assert.equal(text.match(/^# TYPE vllm:num_requests_running gauge$/gm).length, 1);
  });

  it('leaves nothing behind, no name of a network either', async () => {
    for (const { name } of (await server.call('GET', '/admin/v1/models')).json.models) await server.call('DELETE', `/admin/v1/models/${name}`);
    await until('all gone', async () => (await server.instances()).length === 0);
    await server.nothingLeft();
    assert.doesNotMatch(fs.readFileSync('/proc/self/mounts', 'utf8'), new RegExp(`thaw/${server.label}/boxes/.*/door`));
  });
});

describe('engines in a virtual environment', { timeout: 120_000 }, () => {
  let prefix;
  const server = useServer();
  const { ask } = using(server);
  before(() => (prefix = pythonEnvironment()));

  it('runs bin/vllm and the module sglang.launch_server by its interpreter', async () => {
    await server.deploy(fakeModel('v', { engine: 'vllm', enginePath: path.join(prefix, 'bin/vllm') }));
    await server.deploy(fakeModel('s', { engine: 'sglang', enginePath: path.join(prefix, 'bin/python3') }));
    for (const name of ['v', 's']) assert.equal((await ask(name, 'one two')).choices[0].message.content.slice(0, 8), ' one two');
  });

  it('says what to do with one whose interpreter no sandbox sees', async () => {
    const elsewhere = path.join(scratch, 'uv');
    fs.mkdirSync(path.join(elsewhere, 'bin'), { recursive: true });
    fs.writeFileSync(path.join(elsewhere, 'pyvenv.cfg'), '');
    fs.writeFileSync(path.join(elsewhere, 'bin/vllm'), '#!python\n', { mode: 0o755 });
    fs.copyFileSync(fakeEngine, path.join(scratch, 'python3.12'));
    fs.symlinkSync(path.join(scratch, 'python3.12'), path.join(elsewhere, 'bin/python3'));
    await server.deploy(fakeModel('uv', { engine: 'vllm', enginePath: path.join(elsewhere, 'bin/vllm'), scaling: { queue: { timeout: '20s' } } }));
    await assert.rejects(ask('uv', 'one'), (error) => error.status === 503 && /python3\.12, which a sandbox does not see; make it with/.test(error.message));
  });
});

describe('any server by its command', { timeout: 120_000 }, () => {
  const server = useServer();
  const { ask, inState, order, refusal } = using(server);
  const served = (name, command, more = {}) => {
    const spec = fakeModel(name, { engine: 'command', command, ...more });
    delete spec.spec.enginePath;
    delete spec.spec.args;
    return spec;
  };

  it('listens on a port or a socket, and is asked at its own path whether it is ready', async () => {
    await server.deploy(served('port', [fakeEngine, '--model', '{model}', '--alias', '{name}', '--host', '{host}', '--port', '{port}', '--fake-health', '/ready',
      '--fake-start-delay-ms', '300'], { readyPath: '/ready' }));
    await server.deploy(served('socket', [fakeEngine, '-m', '{model}', '--host', '{socket}'], { standby: { mode: 'always' } }));
    for (const name of ['port', 'socket']) {
      assert.equal((await ask(name, 'one two')).choices[0].message.content.slice(0, 8), ' one two');
      assert.equal((await textOf(await ask(name, 'one two', { stream: true }))).slice(0, 8), ' one two');
    }
    assert.deepEqual((await server.modelInfo('port')).spec.command.slice(1, 3), ['--model', '{model}']);
  });

  it('is frozen and woken like others, also at its own path', async () => {
    for (const name of ['port', 'socket']) {
      if (name === 'port') await server.deploy({ ...served('port', (await server.modelInfo('port')).spec.command, { readyPath: '/ready', standby: { mode: 'always' } }) });
      await ask(name, 'one');
      await order('freeze', name);
      await inState(name, 'standby');
      const { response } = await ask(name, 'one').withResponse();
      assert.equal(response.headers.get('x-thaw-way'), 'wake');
    }
  });

  it('names what is wrong with a spec, where, and what to do', async () => {
    const bad = (change) => {
      const spec = served('bad', [fakeEngine, '--port', '{port}']);
      change(spec.spec);
      return spec;
    };
    const cases = [
      [(s) => (s.command = [fakeEngine]), /spec\.command: does not say where to listen; pass \{port\}/],
      [(s) => (s.command = [fakeEngine, '{port}', '{socket}']), /spec\.command: names both \{port\} and \{socket\}/],
      [(s) => (s.command = [fakeEngine, '{prot}', '{port}']), /\{prot\} is no placeholder; there are \{model\}/],
      [(s) => (s.command = ['bin/serve', '{port}']), /"bin\/serve" is no program; give an absolute path/],
      [(s) => (s.command = []), /spec\.command: names no program/],
      [(s) => delete s.command, /needs the key command/],
      [(s) => (s.readyPath = 'health'), /spec\.readyPath: "health" is no path/],
      [(s) => (s.enginePath = fakeEngine), /spec\.enginePath: is not for engine: command/],
      [(s) => (s.engine = 'vllm'), /spec\.command: is for engine: command/],
      [(s) => (s.engine = 'vlm'), /spec\.engine: .*vllm/],
      [(s) => delete s.resources.deviceMemory, /spec\.resources\.deviceMemory is missing/],
      [(s) => (s.standby = { weights: 'gpu' }), /spec\.standby\.weights/],
    ];
    for (const [change, expected] of cases) assert.match(await refusal(bad(change)), expected);
    for (const [engine, args, expected] of [
      ['vllm', ['--gpu_memory_utilization=0.9'], /--gpu-memory-utilization is thaw's to decide; set spec\.resources\.deviceMemory/],
      ['vllm', ['--api-key', 'k'], /--api-key is thaw's to decide/],
      ['vllm', ['--chat-template', 'a.jinja'], /--chat-template a\.jinja: give an absolute path/],
      ['sglang', ['--tp', '2'], /--tp is thaw's to decide; set spec\.resources\.devices/],
    ])
      assert.match(await refusal(fakeModel('bad', { engine, args })), expected);
    const gone = fakeModel('bad', { engine: 'vllm', source: { path: '/no/such/Qwen3-0.6B' } });
    assert.match(await refusal(gone, 404), /no such file or directory; engines have no network.*hf download/);
  });

  it('a file of the model that nobody may read is refused with the remedy', async () => {
    const directory = modelDirectory('closed');
    fs.chmodSync(path.join(directory, 'config.json'), 0o600);
    const spec = fakeModel('closed', { engine: 'vllm', source: { path: directory } });
    assert.match(await refusal(spec, 403), /config\.json.*chmod o\+r/);
  });

  it('a program that is not there is said at the first request', async () => {
    await server.deploy(served('gone', ['/no/such/server', '{port}'], { scaling: { queue: { timeout: '20s' } } }));
    await assert.rejects(ask('gone', 'one'), (error) => error.status === 503 && /\/no\/such\/server.*correct the first word of spec\.command/.test(error.message));
  });
});

describe('engines without a sandbox', { timeout: 60_000 }, () => {
  const server = useServer({ args: ['--sandbox=none'] });
  const { ask } = using(server);

  it('listen on a free port of the host, or a socket', async () => {
    for (const engine of ['vllm', 'sglang']) {
      await server.deploy(fakeModel(engine, { engine, source: { path: model } }));
      assert.equal((await ask(engine, 'one two')).choices[0].message.content.slice(0, 8), ' one two');
    }
  });
});
