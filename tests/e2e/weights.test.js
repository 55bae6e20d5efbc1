// Weights on their way from the disk to the engine: read into the page cache beside the start, and only as long as somebody needs them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, describe, it } from 'node:test';

import { binDir, fakeEngine, model } from './lib/environment.js';
import { fakeModel, realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const MiB = 1 << 20;

/** Below /var/tmp, which is on a disk where /tmp often is not. */
const directory = fs.mkdtempSync('/var/tmp/thaw-e2e-weights-');
fs.chmodSync(directory, 0o755);
after(() => fs.rmSync(directory, { recursive: true, force: true }));

const residentBytes = (file) => Number(execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', file], { encoding: 'utf8' }));

/** Takes a file out of the page cache; false where that cannot be. */
function makeCold(file) {
  const fd = fs.openSync(file, 'r');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
  for (let i = 0; i < 100 && residentBytes(file) > 0; ++i) execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
  return residentBytes(file) === 0;
}

/** Bytes of weights by where they came from, and the fills under way. */
async function counters(server) {
  const text = await server.metrics();
  const of = (series) => Number(new RegExp(`^${series} (\\S+)$`, 'm').exec(text)[1]);
  const from = (where) => of(`thaw_weights_bytes_total\\{from="${where}"\\}`);
  return { disk: from('disk'), memory: from('memory'), left: from('left'), fills: of('thaw_weights_fills') };
}

describe('weights of a real model', { timeout: 240_000 }, () => {
  const server = useServer();
  const file = path.join(directory, 'made.gguf');
  let size = 0;

  it('are read beside the start, and are part of the timeline', async (t) => {
    execFileSync(path.join(binDir, 'make-model'), ['--size', '96MB', '--type', 'f16', '--out', file], { stdio: 'ignore' });
    size = fs.statSync(file).size;
    await server.deploy(realModel('made', { source: { path: file }, resources: { deviceMemory: '512MiB' } }));
    if (!makeCold(file)) return t.skip('/var/tmp is no disk');
    const { response } = await server.openai().completions.create({ model: 'made', prompt: 'x', max_tokens: 2 }).withResponse();
    const { phases } = await server.record(response.headers.get('x-request-id'));
    const [weights, ...more] = phases.filter((phase) => phase.name === 'weights');
    assert.deepEqual(more, []);
    assert.equal(weights.read_bytes + weights.resident_bytes, size);
    assert.ok(weights.read_bytes > size / 2, `only the header may have been there: ${JSON.stringify(weights)}`);
    assert.ok(weights.duration_ms > 0);
    const end = (phase) => phase.start_ms + phase.duration_ms;
    const [sandbox] = phases.filter((phase) => phase.name === 'sandbox');
    const [load] = phases.filter((phase) => phase.name === 'load');
    assert.ok(weights.start_ms < end(load) && end(weights) > sandbox.start_ms, `beside the start: ${JSON.stringify(phases)}`);
    for (const other of phases) if (other.name !== 'weights') assert.equal(other.read_bytes, undefined);
    assert.ok(residentBytes(file) >= size - MiB);
    const { disk, memory, fills } = await counters(server);
    assert.deepEqual([disk, memory, fills], [weights.read_bytes, weights.resident_bytes, 0]);
    assert.match(await server.metrics(), /^thaw_cold_start_phase_seconds_count\{phase="weights"\} 1$/m);
  });

  it('that are in memory already are not read again, and thaw run --timing says so', async () => {
    await server.call('POST', '/admin/v1/models/made/stop');
    await until('it sleeps', async () => (await server.instances()).length === 0);
    execFileSync('cat', [file], { stdio: 'ignore' });
    const before = await counters(server);
    const { code, stderr } = await server.cli(['run', 'made', 'x', '--max-tokens', '2', '--timing']);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^weights +in memory already \(\d/m);
    assert.match(stderr, /^weights +\d/m, 'in the chart');
    assert.deepEqual(await counters(server), { ...before, memory: before.memory + size });
  });
});

describe('weights that nobody needs any more', { timeout: 240_000 }, () => {
  const server = useServer();

  it('are not read on when a start is stopped', async (t) => {
    const file = path.join(directory, 'huge.gguf');
    fs.copyFileSync(model, file);
    fs.truncateSync(file, 512 * MiB);
    await server.deploy(fakeModel('huge', { source: { path: file }, enginePath: fakeEngine, args: ['--fake-hang-start'] }));
    // However fast the disk and slow this machine, one of many must be cut short.
    for (let attempt = 0; attempt < 30; ++attempt) {
      if (!makeCold(file)) return t.skip('/var/tmp is no disk');
      const before = await counters(server);
      const abort = new AbortController();
      server.openai().completions.create({ model: 'huge', prompt: 'x' }, { signal: abort.signal }).catch(() => {});
      await until('its start', async () => (await server.modelInfo('huge')).starting === 1);
      await server.call('POST', '/admin/v1/models/huge/stop?kill=1');
      await until('its end', async () => (await server.instances()).length === 0);
      abort.abort();
      const after = await counters(server);
      assert.equal(after.fills, 0, 'nothing is under way');
      if (after.disk - before.disk < 500 * MiB) return;
    }
    assert.fail('no fill was cut short');
  });
});
