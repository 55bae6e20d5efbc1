// Models on several devices, on a machine whose GPUs are emulated (tests/emulator): all or none, shown to the engine, and given back.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { binDir, scratch } from './lib/environment.js';
import { chat, fakeModel, Server } from './lib/server.js';
import { until } from './lib/until.js';

describe('models on several devices', { timeout: 300_000 }, () => {
  const server = new Server({ config: { node: { domain: 'rack1' }, devices: { cuda: { reserve: 0 } } } });
  Object.assign(server.environment, {
    LD_LIBRARY_PATH: path.join(binDir, 'emulator'),
    THAW_EMULATOR_DIR: path.join(scratch, 'gpus'),
    THAW_EMULATOR_DEVICES: '3',
    THAW_EMULATOR_MEMORY_MIB: '1024',
  });
  before(() => {
    fs.mkdirSync(path.join(scratch, 'gpus'));
    return server.start();
  });
  after(() => server.destroy());

  const on = (device, devices, deviceMemory, more = {}) => ({ resources: { device, devices, deviceMemory }, standby: { mode: 'never' }, ...more });
  const ask = (model) => server.openai().chat.completions.create(chat(model, 'x', { max_tokens: 1 }));
  const state = async () => (await server.call('GET', '/admin/v1/instances')).json;
  const reserved = async () => (await state()).devices.filter((one) => one.kind === 'cuda').map((one) => one.reserved_bytes >> 20);

  it('takes as many as the model says, an equal share of each, and shows all of them', async () => {
    await server.deploy(fakeModel('pair', on('cuda', 2, '1600MiB')));
    await ask('pair');
    const [instance] = await server.instances();
    assert.equal(instance.devices.length, 2);
    assert.equal(instance.device, instance.devices[0]);
    assert.equal(instance.device_bytes, 1600 << 20);
    assert.deepEqual((await reserved()).sort(), [0, 800, 800]);
    const { stdout } = await server.cli(['ps']);
    assert.ok(stdout.includes(instance.devices.join('+')), stdout);
    assert.match(stdout, /rack1/);
    assert.equal((await server.modelInfo('pair')).devices, 2);
  });

  it('makes way as a whole, for one that needs all three', async () => {
    await server.deploy(fakeModel('three', on('cuda', 3, '2400MiB', { priority: 'high' })));
    await ask('three');
    assert.deepEqual(await reserved(), [800, 800, 800]);
    assert.equal((await server.instances()).filter((one) => one.model === 'pair' && one.state === 'ready').length, 0);
    await server.cli(['stop', 'three']);
    await until('all of it is given back', async () => (await state()).instances.length === 0);
    assert.deepEqual(await reserved(), [0, 0, 0]);
  });

  it('refuses what no machine has, and says why', async () => {
    const deploy = async (spec) => (await server.call('POST', '/admin/v1/models', spec)).json.error;
    assert.match((await deploy(fakeModel('four', on('cuda', 4, '1GiB')))).message, /4 cuda devices of one node, and no node has more than 3/);
    assert.match((await deploy(fakeModel('fat', on('cuda', 2, '3GiB')))).message, /needs 1.5GiB on each of 2 devices/);
    assert.match((await deploy(fakeModel('cpus', on('cpu', 2, '64MiB')))).message, /it has one cpu device/);
  });
});
