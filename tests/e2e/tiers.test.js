// Where models rest, seen by people: by hand, in thaw ps, thaw ls, the timeline and the metrics; and whose bytes are whose meanwhile.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { madeWeights, model as tiny } from './lib/environment.js';
import { chat, fakeModel, realModel, useServer } from './lib/server.js';
import { runs } from './lib/traces.js';
import { until } from './lib/until.js';

const standby = { mode: 'always' };

function using(server) {
  const instanceOf = async (model) => (await server.instances()).find((one) => one.model === model);
  return {
    instanceOf,
    ask: (model, prompt = 'Once upon a time', more = {}) =>
      server.openai().chat.completions.create(chat(model, prompt, { temperature: 0, max_tokens: 4, ...more })),
    rests: (model) => until(`${model} in standby`, async () => ((await instanceOf(model))?.state === 'standby' ? instanceOf(model) : null)),
    device: async () => (await server.call('GET', '/admin/v1/instances')).json.devices[0],
    async cli(...args) {
      const { code, stdout, stderr } = await server.cli(args);
      assert.equal(code, 0, `thaw ${args.join(' ')}: ${stderr}`);
      return stdout;
    },
  };
}

describe('standby by hand', { timeout: 240_000 }, () => {
  const server = useServer();
  const { ask, cli, instanceOf, rests } = using(server);

  it('thaw freeze gives memory back that the kernel confirms, thaw ps and thaw ls show it', async () => {
    const file = madeWeights('by-hand.gguf', '64MiB', 1);
    await server.deploy(realModel('m', { source: { path: file }, resources: { deviceMemory: '512MiB' }, standby }));
    await ask('m');
    const before = await instanceOf('m');
    assert.equal(await cli('freeze', 'm'), 'freezing 1 instance of m\n');
    const frozen = await rests('m');
    assert.ok(frozen.device_bytes < before.device_bytes, `${frozen.device_bytes} of ${before.device_bytes}`);
    assert.match(await cli('ps'), /^ *\d+ +m +standby +start +cpu/m);
    assert.match(await cli('ls'), /^m +standby +0\+1\/1 /m);
    const shown = await cli('ls', 'm');
    assert.match(shown, /^standby +1 freezes \(0 failed\), 0 wakes/m);
    assert.match(shown, /^costs +start takes [^,]+, freeze takes /m);
    assert.match(shown, /0 ready, 0 starting, 1 in standby/);
  });

  it('thaw wake brings it up, and is content when it is', async () => {
    const { pid } = await instanceOf('m');
    assert.equal(await cli('wake', 'm'), 'waking m\n');
    await until('m is ready', async () => (await instanceOf('m')).state === 'ready');
    assert.equal((await instanceOf('m')).pid, pid);
    assert.equal(await cli('wake', 'm'), 'm is up already, or on its way\n');
    assert.match(await cli('ps'), /^ *\d+ +m +ready +wake +cpu/m);
  });

  it('thaw run --timing says which way up it was, and why', async () => {
    await cli('freeze', 'm');
    await rests('m');
    const { code, stderr } = await server.cli(['run', 'm', 'Once', '--max-tokens', '4', '--timing']);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^way up +wake: first request; wakes in [\d.]+[mu]?s( and reads its weights again in [\d.]+[mu]?s)?, starts in [\d.]+[mu]?s$/m);
    assert.match(stderr, /^start +cold/m);
    assert.match(stderr, /^thaw +[\d.]+ ms/m, 'the phases are those of the wake');
  });

  it('what cannot be done says why', async () => {
    const refused = async (args, words) => {
      const { code, stderr } = await server.cli(args);
      assert.notEqual(code, 0);
      assert.match(stderr, words);
    };
    await refused(['freeze', 'nobody'], /there is no model "nobody"/);
    await refused(['wake', 'nobody'], /there is no model "nobody"/);
    await refused(['snapshot', 'nobody'], /there is no model "nobody"/);
    await refused(['images', 'rm', 'none-1'], /there is no image "none-1"; `thaw images` lists them/);
    await cli('freeze', 'm');
    await rests('m');
    await refused(['freeze', 'm'], /cannot freeze m: it has no replica that is ready/);
  });

  it('metrics count transitions, and how requests found their replica', async () => {
    await ask('m');
    const text = await server.metrics();
    const value = (line) => Number(text.match(new RegExp(`^${line.replace(/[{}"|\\]/g, '\\$&')} (\\S+)$`, 'm'))?.[1] ?? NaN);
    assert.equal(value('thaw_transitions_total{from="nothing",result="ok",to="ready"}'), 1);
    assert.ok(value('thaw_transitions_total{from="ready",result="ok",to="standby"}') >= 3);
    assert.ok(value('thaw_transitions_total{from="standby",result="ok",to="ready"}') >= 3);
    assert.ok(value('thaw_time_to_first_token_seconds_count{model="m",start="wake"}') >= 2);
    assert.equal(value('thaw_time_to_first_token_seconds_count{model="m",start="cold"}'), 1);
  });
});

describe('standby by policy', { timeout: 240_000 }, () => {
  const server = useServer({ config: { devices: { cpu: { memory: '200MiB' } } } });
  const { ask, device, instanceOf, rests } = using(server);

  it('killed frozen, the next request is answered by a start, and the record says what failed', async () => {
    await server.deploy(realModel('dies', { standby, scaling: { idleTimeout: '1s' } }));
    const words = (await ask('dies')).choices[0].message.content;
    const { pid, id } = await rests('dies');
    process.kill(pid, 'SIGKILL');
    await until('its bytes are free', async () => (await device()).reserved_bytes === 0);
    const { data, response } = await ask('dies').withResponse();
    assert.equal(data.choices[0].message.content, words);
    assert.notEqual((await instanceOf('dies')).id, id);
    assert.equal(response.headers.get('x-thaw-way'), 'start');
    const record = await server.record(response.headers.get('x-request-id'));
    assert.match(record.why, /its replica in standby failed: .*signal 9/, record.why);
    assert.equal((await server.modelInfo('dies')).tiers.wake_failures, 1);
  });

  it('kill -9 in the moment of waking is answered too', async () => {
    for (let round = 0; round < 3; ++round) {
      await ask('dies');
      const { pid } = await rests('dies');
      const answer = ask('dies');
      await until('it is being woken', async () => (await instanceOf('dies'))?.state !== 'standby');
      if (runs(pid)) process.kill(pid, 'SIGKILL');
      assert.ok((await answer).choices[0].message.content.length > 0);
    }
  });

  it('one in standby leaves when another model needs what it holds', async () => {
    await ask('dies');
    await rests('dies');
    const { device_bytes: held } = await instanceOf('dies');
    assert.ok(held > 0 && (await device()).reserved_bytes === held, 'charged with what it cannot give up');
    await server.deploy(fakeModel('large', { resources: { deviceMemory: '200MiB' } }));
    await ask('large', 'x');
    assert.equal(await instanceOf('dies'), undefined, 'gone before the other began');
    assert.equal((await server.modelInfo('dies')).evictions, 1);
    assert.equal((await server.call('POST', '/admin/v1/models/large/stop')).status, 200);
    await until('large is gone', async () => (await instanceOf('large')) === undefined);
  });

  it('a changed file ends the replica that rests, and the next request gets the new one', async () => {
    const file = path.join(server.directory, 'changes.gguf');
    fs.copyFileSync(tiny, file);
    await server.deploy(realModel('changes', { source: { path: file }, standby, scaling: { idleTimeout: '1s' } }));
    await ask('changes');
    const { pid } = await rests('changes');
    fs.copyFileSync(tiny, `${file}.new`);
    fs.renameSync(`${file}.new`, file); // another file by its inode
    await ask('changes');
    await until('the old one is gone', () => !runs(pid));
  });

  it('after standby.timeout nothing is left, and nothing is booked', async () => {
    await server.deploy(fakeModel('brief', { standby: { mode: 'always', timeout: '1s' }, scaling: { idleTimeout: '1s' } }));
    await ask('brief', 'x');
    await until('it is gone', async () => (await instanceOf('brief')) === undefined);
    assert.equal((await server.modelInfo('brief')).tiers.freezes, 1);
    for (const name of ['dies', 'changes']) await server.call('POST', `/admin/v1/models/${name}/stop`);
    await until('the device is free', async () => (await device()).reserved_bytes === 0);
    await server.nothingLeft();
  });
});
