// What does a restore from an image take, against a start in the same kind of sandbox: for a small engine, for one that initialises for long, and for one
// that copies its weights (llama.cpp repacks quantised ones)?
import { chmodSync, copyFileSync, cpSync, renameSync } from 'node:fs';
import path from 'node:path';

import { temporaryDirectory, until } from '../lib/processes.mjs';
import { median, result, say, table } from '../lib/report.mjs';
import { Thaw, binary } from '../lib/thaw.mjs';
import { askBy, engine, makeModel, sleepFor } from './common.mjs';

const slowInitS = 10;
const imageTimeoutMs = 300_000;
const longStart = '3m';
const poolFullMs = 1_500;  // from the end of a start until the next empty gVisor sandboxes are up

/// An engine's directory whose llama-server computes for a while first (bench/slow_init.cpp).
function slowEngine(directory) {
  const copy = path.join(directory, 'slow-engine');
  cpSync(path.dirname(engine), copy, { recursive: true });
  const server = path.join(copy, path.basename(engine));
  renameSync(server, `${server}.real`);
  copyFileSync(binary('bench-slow-init'), server);
  chmodSync(server, 0o755);
  return server;
}

/// Two models of one file, one with an image and one without; the image is there when this returns.
async function deploy(thaw, name, file, spec = {}) {
  const common = { source: { path: file }, sandbox: 'runsc', resources: { device: 'cpu' }, startDeadline: longStart, standby: { mode: 'never' }, scaling: { idleTimeout: '1h' }, ...spec };
  await thaw.deploy(`${name}-start`, { ...common, snapshot: { mode: 'never' } });
  await thaw.deploy(name, { ...common, snapshot: { mode: 'always' } });
  await thaw.chat(name);
  const image = await until(`an image of ${name}`, imageTimeoutMs, async () => {
    const info = await thaw.call('GET', `/admin/v1/models/${name}`);
    if (info.tiers.last_snapshot_failure) throw new Error(`no image of ${name}: ${info.tiers.last_snapshot_failure}`);
    return (await thaw.call('GET', '/admin/v1/images')).images.find((one) => one.model === name);
  });
  await thaw.sleep(name);
  await askBy(thaw, name, 'restore');  // the first one in a server's life reads the whole image to check it
  await thaw.sleep(name);
  await sleepFor(poolFullMs);
  return image;
}

/// `rounds` of a restore and a start in turn: {restore, start: ms; phases: of restores, by name}.
async function compare(thaw, name, rounds) {
  const numbers = { restore: [], start: [], phases: {} };
  const cases = [
    async () => {
      const { ms, record } = await askBy(thaw, name, 'restore');
      numbers.restore.push(ms);
      for (const phase of record.phases) (numbers.phases[phase.name] ??= []).push(phase.ms ?? phase.duration_ms);
      await thaw.sleep(name);
      await sleepFor(poolFullMs);
    },
    async () => {
      numbers.start.push((await askBy(thaw, `${name}-start`, 'start')).ms);
      await thaw.sleep(`${name}-start`);
      await sleepFor(poolFullMs);
    },
  ];
  for (let round = 0; round < rounds; ++round) for (let i = 0; i < cases.length; ++i) await cases[(round + i) % cases.length]();
  return numbers;
}

/// `options`: {rounds, quick, models (a directory), pool (sandboxes made ahead), subjects (kinds; all when absent)}.
export async function snapshots({ rounds, quick, models, pool, subjects: wanted }) {
  const directory = temporaryDirectory('/var/tmp');
  const thaw = await Thaw.start(directory, `node: {pool: ${pool}}\n`);
  const small = await makeModel(models, 1, 'f16');
  const copies = await makeModel(models, quick ? 200 : 1000, 'q4_0');
  const all = [
    { kind: 'small', name: 'small', file: small.file, rounds },
    { kind: 'slow-init', name: 'slow-init', file: small.file, rounds: Math.min(rounds, quick ? 1 : 3), spec: { enginePath: slowEngine(directory), env: { SLOW_INIT_S: String(slowInitS) } } },
    { kind: 'copies', name: copies.name, file: copies.file, rounds: Math.min(rounds, 5) },
    { kind: 'no-repack', name: `${copies.name}-no-repack`, file: copies.file, rounds: Math.min(rounds, 5), spec: { args: ['--no-repack'] } },
  ];
  const measured = [];
  for (const subject of all.filter(({ kind }) => !wanted || wanted.includes(kind))) {
    say(`${subject.name}: ${subject.rounds} rounds of restore and start`);
    const image = await deploy(thaw, subject.name, subject.file, subject.spec);
    measured.push({ ...subject, image, ...(await compare(thaw, subject.name, subject.rounds)) });
    await thaw.call('DELETE', `/admin/v1/models/${subject.name}`);
    await thaw.call('DELETE', `/admin/v1/models/${subject.name}-start`);
  }
  await thaw.server.stop();
  const ms = (values) => (values?.length ? median(values).toFixed(median(values) < 100 ? 1 : 0) : '');
  console.log('In gVisor, time to first token, ms, and where a restore spends it; medians\n');
  const phases = [...new Set(measured.flatMap((one) => Object.keys(one.phases)))];
  table(
    ['', 'rounds', 'restore', 'start', 'restore / start', 'image, MB', ...phases],
    measured.map((one) => [one.name, one.rounds, ms(one.restore), ms(one.start), (median(one.restore) / median(one.start)).toFixed(3), (one.image.bytes / 1e6).toFixed(1), ...phases.map((phase) => ms(one.phases[phase]))]),
  );
  const ratio = (one) => median(one.restore) / median(one.start);
  for (const one of measured) {
    if (one.kind === 'small') result('wake_snapshot_ms', median(one.restore), 'ms');
    if (one.kind === 'small') result('wake_snapshot_vs_start', ratio(one), 'ratio');
    if (one.kind === 'slow-init') result('slow_init_ratio', ratio(one), 'ratio');
  }
}
