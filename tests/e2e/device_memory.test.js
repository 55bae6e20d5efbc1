// Memory of an emulated GPU that goes from one tenant's model to another's: what lay there is written over before. What an engine would leave is put
// there by the test, into the file that is the emulated device's memory.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, after, describe, it } from 'node:test';

import { binDir, scratch } from './lib/environment.js';
import { Server, chat, fakeModel } from './lib/server.js';
import { callAs, makeKey, makeTenant } from './lib/tenants.js';
import { until } from './lib/until.js';

const MiB = 1 << 20;
const gpus = path.join(scratch, 'gpus-of-tenants');
const memory = path.join(gpus, 'device-0');
const leave = () => fs.writeFileSync(memory, Buffer.alloc(64 * MiB, 0x5a));
const isZero = () => fs.readFileSync(memory).subarray(0, 64 * MiB).equals(Buffer.alloc(64 * MiB));

describe('device memory between tenants', { timeout: 300_000 }, () => {
  const server = new Server({ config: { node: { tenantSandbox: 'runc' }, devices: { cuda: { reserve: 0 } } } });
  Object.assign(server.environment, {
    LD_LIBRARY_PATH: path.join(binDir, 'emulator'),
    THAW_EMULATOR_DIR: gpus,
    THAW_EMULATOR_DEVICES: '1',
    THAW_EMULATOR_MEMORY_MIB: '256',
    THAW_EMULATOR_CONTEXT_MIB: '16',
    THAW_EMULATOR_LEFTOVERS: '1',
  });
  const key = {};
  const onGpu = { resources: { device: 'cuda', deviceMemory: '100MiB' }, standby: { mode: 'never' } };
  const ask = (who) => callAs(server, key[who], 'POST', '/v1/chat/completions', chat('m', 'hello', { max_tokens: 1 }));
  const stop = async (who) => {
    assert.equal((await callAs(server, key[who], 'POST', '/admin/v1/models/m/stop')).status, 200);
    await until('it is gone', async () => (await server.instances()).length === 0);
  };
  before(async () => {
    fs.mkdirSync(gpus);
    await server.start();
    for (const tenant of ['acme', 'beta']) {
      await makeTenant(server, tenant);
      key[tenant] = (await makeKey(server, tenant, { role: 'deployer' })).key;
      const answer = await callAs(server, key[tenant], 'POST', '/admin/v1/models', fakeModel('m', onGpu));
      assert.equal(answer.status, 201, answer.text);
    }
    key.default = server.key;
    await server.deploy(fakeModel('m', onGpu));
  });
  after(() => server.destroy());

  it('is written over for the first after a start, and between tenants', async () => {
    for (const who of ['acme', 'beta', 'acme']) {
      leave();
      const answer = await ask(who);
      assert.equal(answer.status, 200, answer.text);
      assert.ok(isZero(), `for ${who}`);
      await stop(who);
    }
    assert.match(server.log, /240\.?0? ?MiB of cuda0 were written over before a model of tenant beta gets it/);
  });

  it('is left alone for the same tenant, and for the operator', async () => {
    leave();
    assert.equal((await ask('acme')).status, 200);
    assert.ok(!isZero());
    await stop('acme');
    assert.equal((await ask('default')).status, 200);
    assert.ok(!isZero());
    await stop('default');
  });

  it('is handed to nobody when that fails, and the reason is said', async () => {
    fs.writeFileSync(path.join(gpus, 'settings'), 'THAW_EMULATOR_FAIL=cuMemsetD8_v2=999\n');
    const refused = await ask('beta');
    assert.equal(refused.status, 503, refused.text);
    assert.match(refused.text, /cannot be written over, so that it is not given to another/);
    fs.rmSync(path.join(gpus, 'settings'));
  });
});
