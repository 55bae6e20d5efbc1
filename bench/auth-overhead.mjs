// What do keys, usage and audit cost a request? The same server with all of them on, and with none.
import { mkdirSync } from 'node:fs';
import path from 'node:path';

import { cpuSeconds, main, temporaryDirectory } from './lib/processes.mjs';
import { median, result, say, table } from './lib/report.mjs';
import { Thaw, binary, makeModel } from './lib/thaw.mjs';
import { Wrk } from './lib/wrk.mjs';

const quick = process.argv.includes('--quick');
const plan = quick ? { rounds: 4, seconds: 1 } : { rounds: 15, seconds: 4 };
const connections = 32;
const model = 'fake';
const thousands = (value) => Math.round(value).toLocaleString('en');

async function start(directory, name, file, config, flags) {
  const home = path.join(directory, name);
  mkdirSync(home);
  const thaw = await Thaw.start(home, config, flags);
  await thaw.deploy(model, {
    source: { path: file },
    enginePath: binary('fake-engine'),
    resources: { device: 'cpu', deviceMemory: '64MiB' },
    scaling: { maxReplicas: 1, targetConcurrency: 1024, idleTimeout: '1h', queue: { maxLength: 10000 } },
  });
  await thaw.chat(model);
  return { name, url: thaw.url, key: thaw.key, pid: thaw.pid, thaw };
}

async function measure(target, wrk) {
  const before = cpuSeconds(target.pid, target);
  const run = await wrk.run({ ...target, connections, seconds: plan.seconds });
  return { ...run, perCpu: run.requests / (cpuSeconds(target.pid, target) - before) };
}

main(async () => {
  const directory = temporaryDirectory();
  const file = await makeModel(path.join(directory, 'model.gguf'));
  const on = await start(directory, 'on', file, 'audit: {reads: true}\nusage: {prices: {currency: EUR, deviceSecond: 0.001}}\n', []);
  const off = await start(directory, 'off', file, 'usage: {record: false}\n', ['--dev']);
  const wrk = new Wrk(directory, model);
  say(`${connections} connections, ${plan.rounds} pairs of ${plan.seconds} s`);
  for (const target of [on, off]) await wrk.run({ ...target, connections, seconds: 1 });
  const pairs = [];
  // Pairs, each beginning with the other one: what drifts drifts for both, and what a neighbour does in one pair spoils that pair alone.
  for (let round = 0; round < plan.rounds; ++round) {
    const order = round % 2 === 0 ? [on, off] : [off, on];
    const measured = new Map();
    for (const target of order) measured.set(target, await measure(target, wrk));
    pairs.push({ on: measured.get(on), off: measured.get(off) });
  }
  const of = (side, value) => median(pairs.map((pair) => value(pair[side])));
  console.log(`Small POST requests, ${connections} connections: medians of ${plan.rounds} pairs of ${plan.seconds} s\n`);
  const row = (name, side) => [name, thousands(of(side, (r) => r.rps)), of(side, (r) => r.p50Us), of(side, (r) => r.p99Us), thousands(of(side, (r) => r.perCpu))];
  table(['', 'requests/s', 'p50 µs', 'p99 µs', 'requests per CPU second'], [row('keys, usage, audit', 'on'), row('--dev, no usage', 'off')]);
  const { groups } = await on.thaw.call('GET', '/admin/v1/usage');
  const counted = groups[0].requests;
  const answered = pairs.reduce((sum, pair) => sum + pair.on.requests, 0);
  // wrk stops in the middle of a request on each connection, and counts only whole ones.
  if (counted < answered) throw new Error(`${counted} requests are on record, ${answered} were answered`);
  result('auth_overhead', 1 - median(pairs.map((pair) => pair.on.rps / pair.off.rps)), 'ratio');
  result('auth_overhead_cpu', 1 - median(pairs.map((pair) => pair.on.perCpu / pair.off.perCpu)), 'ratio');
  result('auth_p99_ratio', median(pairs.map((pair) => pair.on.p99Us / pair.off.p99Us)), 'ratio');
});
