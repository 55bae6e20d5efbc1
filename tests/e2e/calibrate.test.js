// `thaw calibrate`: from a running server to a fleet file that `thaw sim` takes.
import assert from 'node:assert/strict';
import { copyFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { model } from './lib/environment.js';
import { fakeModel, useServer } from './lib/server.js';

describe('thaw calibrate', { timeout: 180_000 }, () => {
  const server = useServer({ config: { devices: { cpu: { memory: '400MiB' } } } });

  it('says what to do where there is nothing to measure', async () => {
    const { code, stderr } = await server.cli(['calibrate']);
    assert.equal(code, 4);
    assert.match(stderr, /no models to measure; deploy some/);
  });

  it('prints a fleet that a simulation takes', async () => {
    await server.deploy(fakeModel('one', { scaling: { targetConcurrency: 2, maxReplicas: 3, idleTimeout: '7s' }, standby: { mode: 'always' } }));
    await server.deploy(fakeModel('like-one', { scaling: { targetConcurrency: 2 }, standby: { mode: 'never' } }));
    const copy = path.join(server.directory, 'copy.gguf');  // weights of its own: it can come up beside another one
    copyFileSync(model, copy);
    await server.deploy(fakeModel('other', { source: { path: copy }, args: ['--fake-first-ms', '30'] }));
    const { code, stdout, stderr } = await server.cli(['calibrate', '--rounds', '1', '--pause', '0', '--machines', '2']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^ {2}- \{count: 2, devices: 1, deviceKind: cpu, deviceMemory: 419430400,/m);
    const models = stdout.split('  - name: ').slice(1);
    assert.deepEqual(models.map((text) => text.split('\n')[0]).sort(), ['like-one', 'one', 'other']);
    const one = models.find((text) => text.startsWith('one'));
    assert.match(one, /concurrency: 2\n {4}maxReplicas: 3\n {4}idleTimeout: 7000ms\n {4}standby: always/);
    assert.match(one, /measured: \{start: \d+us, .*wake: \d+us, freeze: \d+us, stop: \d+us, .*promptToken: \d+us, step: \d+us\}/);
    assert.match(one, /soonFromDisk: \d+us, soonAfterWake: \d+us/);
    assert.match(stdout, /^risingRate: [01]\.\d+$/m);
    assert.match(stderr, /asking like-one and one at once/);
    assert.match(stderr, /asking 2 models at once that are at rest/);
    assert.equal((await server.instances()).length, 0);

    const [fleet, trace, requests] = ['fleet.yaml', 'trace.csv', 'requests.csv'].map((name) => path.join(server.directory, name));
    writeFileSync(fleet, stdout);
    writeFileSync(trace, 'time,model,input_tokens,output_tokens\n0,one,10,5\n60,one,10,5\n61,other,10,5\n');
    const sim = await server.cli(['sim', '--fleet', fleet, '--trace', trace, '--policy', 'thaw-5m', '--json', '--requests', requests]);
    assert.equal(sim.code, 0, sim.stderr);
    const { results: [outcome] } = JSON.parse(sim.stdout);
    assert.equal(outcome.answered, 3);
    assert.equal(outcome.wakes, 1);
    assert.ok(outcome.memory_gib_peak > 0);
  });

  it('names a model that is not there', async () => {
    const { code, stderr } = await server.cli(['calibrate', 'nobody']);
    assert.equal(code, 4);
    assert.match(stderr, /nobody/);
  });
});
