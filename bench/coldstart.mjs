// How long does a sleeping model take to its first token, compared with starting the engine by hand and with its own router?
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';

import { answering, background, freePort, main, run, temporaryDirectory, until } from './lib/processes.mjs';
import { median, percentile, result, say, table } from './lib/report.mjs';
import { Thaw, binary, engineOf, poolIsFull, smallModel } from './lib/thaw.mjs';

const rounds = process.argv.includes('--quick') ? 5 : 30;
const engine = process.env.THAW_BENCH_ENGINE;
const model = 'small';
const settleMs = 300;  // the pool's last sandbox has just been made, a stopped engine's memory is being freed

const chatBody = (name) => JSON.stringify({ model: name, stream: true, temperature: 0, max_tokens: 16, messages: [{ role: 'user', content: 'Once upon a time' }] });
const ttft = async (port, name, { key = 'none', command = [] } = {}) =>
  JSON.parse(await run([binary('bench-ttft'), '--port', String(port), '--key', key, '--body', chatBody(name), ...(command.length ? ['--', ...command] : [])]));
const settled = () => new Promise((resolve) => setTimeout(resolve, settleMs));

/// Through thaw, from asleep with a full pool.
async function thawContestant(directory, file) {
  const thaw = await Thaw.start(directory);
  await thaw.deploy(model, { source: { path: file }, resources: { device: 'cpu' }, scaling: { idleTimeout: '1h' } });
  await thaw.chat(model);
  const { argv, home } = engineOf((await thaw.instances())[0]);
  const sleep = async () => {
    await thaw.sleep(model);
    await until('a sandbox in the pool', 10_000, () => poolIsFull(home));
  };
  await sleep();
  const phases = new Map();
  const measure = async () => {
    const { ttft_ms: ms, id } = await ttft(thaw.port, model, thaw);
    const record = await until('the record of the request', 10_000, () => thaw.request(id).catch(() => null));
    if (!record.cold) throw new Error('the request found the model awake');
    for (const { name, start_ms: start, duration_ms: duration } of record.phases) {
      if (!phases.has(name)) phases.set(name, { starts: [], durations: [] });
      phases.get(name).starts.push(start);
      phases.get(name).durations.push(duration);
    }
    await sleep();
    return ms;
  };
  return { contestant: { name: 'thaw, asleep', measure }, argv, phases };
}

/// The same engine started by hand.
async function bareContestant(name, flags) {
  const port = await freePort();
  const command = [engine, ...flags, '--host', '127.0.0.1', '--port', String(port)];
  return { name, measure: async () => (await ttft(port, model, { command })).ttft_ms };
}

/// llama-server's router with room for one model, asked for two in turn.
async function routerContestant(directory, file) {
  const models = path.join(directory, 'models');
  mkdirSync(models);
  const names = ['first', 'second'];
  for (const name of names) copyFileSync(file, path.join(models, `${name}.gguf`));
  const port = await freePort();
  const command = [engine, '--models-dir', models, '--models-max', '1', '--host', '127.0.0.1', '--port', String(port)];
  const server = background(command, path.join(directory, 'router.log'));
  await answering(server, `http://127.0.0.1:${port}/health`);
  let turn = 0;
  const measure = async () => (await ttft(port, names[turn++ % names.length])).ttft_ms;
  await measure();  // from here on each request swaps
  return { name: 'llama-server router, swap', measure };
}

/// thaw's own flags for the engine, without where it listens and where it finds the model.
function flagsOf(argv) {
  const flags = argv.slice(1);
  const drop = (flag, count) => flags.splice(flags.indexOf(flag), count);
  drop('-m', 2);
  drop('--host', 2);
  return flags;
}

main(async () => {
  if (!engine) throw new Error('THAW_BENCH_ENGINE does not name a llama-server; use scripts/bench coldstart');
  const directory = temporaryDirectory();
  const file = await smallModel(directory);
  const { contestant: thaw, argv, phases } = await thawContestant(directory, file);
  const bare = await bareContestant('llama-server by hand, default flags', ['-m', file]);
  const same = await bareContestant("llama-server by hand, thaw's flags", ['-m', file, ...flagsOf(argv)]);
  const router = await routerContestant(directory, file);
  const contestants = [thaw, bare, same, router];

  say(`${rounds} rounds`);
  const times = new Map(contestants.map((contestant) => [contestant, []]));
  for (let round = 0; round < rounds; ++round)
    for (let i = 0; i < contestants.length; ++i) {
      const contestant = contestants[(round + i) % contestants.length];
      await settled();
      times.get(contestant).push(await contestant.measure());
    }
  const of = (contestant) => median(times.get(contestant));

  console.log(`Time to first token, ${rounds} interleaved rounds, warm page cache, ms\n`);
  table(
    ['', 'median', 'p90', 'min', 'max'],
    contestants.map((c) => [c.name, ...[0.5, 0.9, 0, 1].map((fraction) => percentile(times.get(c), fraction).toFixed(1))]),
  );
  console.log("Where thaw's goes, from the request's arrival: medians, ms\n");
  table(
    ['phase', 'starts at', 'takes'],
    [...phases].map(([name, { starts, durations }]) => [name, median(starts).toFixed(1), median(durations).toFixed(1)]),
  );
  result('coldstart_added_ms', of(thaw) - of(bare), 'ms');
  result('coldstart_added_same_flags_ms', of(thaw) - of(same), 'ms');
  result('coldstart_vs_router', of(thaw) / of(router), 'ratio');
});
