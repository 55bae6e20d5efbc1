// Weights in host memory: a budget, what leaves when it is exceeded, and numbers that the kernel confirms.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { before, describe, it } from 'node:test';

import { madeWeights } from './lib/environment.js';
import { realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const MiB = 1 << 20;
const budget_bytes = 60 * MiB; // two and a half of the models

/** Bytes of a file in the page cache, as mincore(2) says, which counts whole pages. */
const resident = (file) =>
  Math.min(Number(execFileSync('fincore', ['--bytes', '--noheadings', '--raw', '--output', 'RES', file], { encoding: 'utf8' })), fs.statSync(file).size);
/** All of it, but for a few pages: the kernel may take some back at any time, without anybody's asking. */
const assertWarm = (bytes, all) => assert.ok(bytes > 0.9 * all && bytes <= all, `${bytes} of ${all}`);

describe('weights in host memory', { timeout: 300_000 }, () => {
  const server = useServer({ config: { node: { hostCache: '60MiB' } } });
  const names = ['new', 'often', 'seldom'];
  const files = Object.fromEntries(names.map((name, seed) => [name, madeWeights(`${name}.gguf`, '24MiB', seed)]));
  const size = (name) => fs.statSync(files[name]).size;
  const spec = (name, more = {}) => realModel(name, { source: { path: files[name] }, resources: { deviceMemory: '256MiB' }, ...more });

  async function ask(name, times = 1) {
    for (let i = 0; i < times; ++i) await server.openai().completions.create({ model: name, prompt: 'x', max_tokens: 1 });
  }
  async function sleep(name) {
    await server.call('POST', `/admin/v1/models/${name}/stop`);
    await until('its replica is gone', async () => (await server.instances()).every((one) => one.model !== name));
  }
  const models = async () => Object.fromEntries(JSON.parse((await server.cli(['ls', '--json'])).stdout).models.map((one) => [one.name, one]));
  const cache = async () => (await server.call('GET', '/admin/v1/instances')).json.host_cache;
  /** `thaw ls --json` once it says what the kernel says (it may be a second old). */
  const agreed = () =>
    until('thaw ls and mincore agree', async () => {
      const shown = await models();
      return Object.keys(shown).every((name) => shown[name].resident_bytes === resident(files[name])) && shown;
    });
  const sum = () => names.reduce((bytes, name) => bytes + resident(files[name]), 0);
  const withinBudget = () => until('the budget is kept', async () => (await cache()).cached_bytes <= budget_bytes);

  before(async () => {
    for (const name of names) await server.deploy(spec(name));
  });

  it('the least valuable leaves, as much of it as is needed', async () => {
    await ask('often', 5);
    await ask('seldom', 1);
    await sleep('often');
    await sleep('seldom');
    await ask('new', 3);
    await sleep('new');
    await withinBudget();
    const shown = await agreed();
    assertWarm(shown.often.resident_bytes, size('often'));
    assertWarm(shown.new.resident_bytes, size('new'));
    assert.ok(shown.seldom.resident_bytes > 0.2 * size('seldom') && shown.seldom.resident_bytes < 0.6 * size('seldom'), `${shown.seldom.resident_bytes}`);
    const { evicted_bytes, failed_evictions } = await until('the sum is the kernel\'s', async () => {
      const now = await cache();
      return now.cached_bytes === sum() && now;
    });
    assert.ok(sum() <= budget_bytes && sum() > 0.8 * budget_bytes, `${sum()}`);
    assert.ok(evicted_bytes > 0);
    assert.equal(failed_evictions, 0);
    for (const name of names) assert.equal(shown[name].weights_bytes, size(name));
  });

  it('what a replica on the CPU maps is reserved there, not counted here, and stays', async () => {
    await ask('seldom');
    const { cached_bytes } = await until('only the others count', async () => {
      const now = await cache();
      return now.cached_bytes === resident(files.often) + resident(files.new) && now;
    });
    assert.ok(cached_bytes <= budget_bytes);
    assertWarm(resident(files.seldom), size('seldom'));
    assert.equal((await server.call('GET', '/admin/v1/instances')).json.devices[0].reserved_bytes, 256 * MiB);

    const refused = await server.cli(['evict', 'seldom']);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /an instance uses the weights; `thaw stop` what runs first/);
    assert.equal((await server.call('POST', '/admin/v1/models/seldom/evict')).status, 409);
    assertWarm(resident(files.seldom), size('seldom'));
  });

  it('pinned weights stay, and others make room for them', async () => {
    await server.deploy(spec('seldom', { cache: { pin: true } }));
    await sleep('seldom');
    await withinBudget();
    const shown = await agreed();
    assert.equal(shown.seldom.pinned, true);
    assertWarm(shown.seldom.resident_bytes, size('seldom'));
    assertWarm(shown.often.resident_bytes, size('often'));
    assert.ok(shown.new.resident_bytes < 0.6 * size('new'), 'asked three times, not five');
    assert.match((await server.cli(['ls'])).stdout, /seldom .* (9\d|100)%, pinned /);
  });

  it('evict takes all of a sleeping model out of memory', async () => {
    const { code, stdout } = await server.cli(['evict', 'often']);
    assert.equal(code, 0);
    assert.match(stdout, /^\S+ of often left host memory\n$/);
    assert.equal(resident(files.often), 0);
    assert.equal((await agreed()).often.resident_bytes, 0);
    assert.match((await server.cli(['ls'])).stdout, /often .* 0% /);
    assert.match((await server.cli(['ps'])).stdout, /^cache +weights kept in host memory/m);
    let metrics = '';
    const value = (name) => Number(metrics.match(new RegExp(`^thaw_host_cache_${name} (\\S+)$`, 'm'))[1]);
    await until('the metric is the kernel\'s', async () => {
      metrics = await server.metrics();
      return value('bytes') === sum();
    });
    assert.equal(value('budget_bytes'), budget_bytes);
    assert.equal(value('evicted_bytes_total'), (await cache()).evicted_bytes);
    assert.ok(value('evictions_total') >= 3);
    assert.equal(value('eviction_failures_total'), 0);
    assert.equal((await server.call('POST', '/admin/v1/models/none/evict')).status, 404);
  });

  it('what somebody else reads is seen, and the budget holds', async () => {
    execFileSync('cat', [files.often, files.new], { stdio: 'ignore' });
    await withinBudget();
    const shown = await agreed();
    assertWarm(shown.seldom.resident_bytes, size('seldom'));
    assert.ok(sum() <= budget_bytes);
  });

  it('a removed model leaves nothing in memory', async () => {
    await server.cli(['rm', 'often']);
    await until('its weights have left', () => resident(files.often) === 0);
  });
});
