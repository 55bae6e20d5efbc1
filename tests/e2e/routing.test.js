// Which replica serves, as clients and operators can tell: affinity, and devices taken out of service.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('a model with two replicas', { timeout: 120_000 }, () => {
  const server = useServer({ config: { devices: { cpu: { memory: '300MiB' } } } });
  const served = async () => (await server.instances()).filter((one) => one.state === 'ready').map((one) => one.served).sort((a, b) => a - b);
  const ask = (more, options) => server.openai().chat.completions.create(chat('two', 'fake:tokens=1', more), options);

  before(async () => {
    await server.deploy(fakeModel('two', { scaling: { minReplicas: 2, maxReplicas: 2, targetConcurrency: 8 } }));
    await until('both are up', async () => (await served()).length === 2);
  });

  it('the same session goes to the same replica', async () => {
    for (let n = 0; n < 6; ++n) await ask({ prompt_cache_key: 'a session' });
    assert.deepEqual(await served(), [0, 6]);
    for (let n = 0; n < 6; ++n) await ask({}, { headers: { 'x-session-id': 'a session' } });
    assert.deepEqual(await served(), [0, 12]);
  });

  it('others spread, and metrics say so', async () => {
    for (let n = 0; n < 20; ++n) await ask({ user: `user ${n}` });
    const [least, most] = await served();
    assert.equal(least + most, 32);
    assert.ok(least > 0, 'all went to one of two');
    const { text } = await server.call('GET', '/metrics');
    assert.match(text, /^thaw_affinity_requests_total\{went="there"\} 32$/m);
    assert.match(text, /^thaw_replica_ejections_total 0$/m);
  });
});

describe('a device that is cordoned', { timeout: 120_000 }, () => {
  const server = useServer({ config: { devices: { cpu: { memory: '300MiB' } } } });
  const ask = (model) => server.openai().chat.completions.create(chat(model, 'fake:tokens=1'));
  const act = (node, what, device = '') => server.call('POST', `/admin/v1/nodes/${node}/${what}${device && `?device=${device}`}`);
  const device = async () => (await server.call('GET', '/admin/v1/instances')).json.devices[0];

  it('keeps what is there, takes nothing new, and says what to do', async () => {
    await server.deploy(fakeModel('here'));
    await server.deploy(fakeModel('new'));
    await ask('here');
    const { node, id } = await device();
    assert.deepEqual((await act(node, 'cordon', id)).json, { node, duty: 'cordoned', leaving: 0, device: id });
    assert.equal((await device()).duty, 'cordoned');
    await ask('here');
    await assert.rejects(ask('new'), /every cpu device is cordoned or drained at present; `thaw uncordon NODE` opens them again/);
    assert.equal((await act(node, 'uncordon')).status, 200);
    await ask('new');
  });

  it('drained, it is empty in the end; open again, it serves', async () => {
    const { node } = await device();
    assert.equal((await act(node, 'drain')).json.leaving, 2);
    await until('nothing is left there', async () => (await device()).reserved_bytes === 0);
    await act(node, 'uncordon');
    await ask('here');
  });

  it('an unknown one is refused', async () => {
    assert.equal((await act('nowhere', 'drain')).status, 404);
    const { node } = await device();
    const { status, json } = await act(node, 'cordon', 'cuda9');
    assert.equal(status, 404);
    assert.match(json.error.message, /has no device "cuda9"/);
  });
});
