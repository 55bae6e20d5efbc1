// What do a thousand sleeping models cost?
import { setTimeout as sleep } from 'node:timers/promises';
import path from 'node:path';

import { cpuSeconds, main, residentKib, temporaryDirectory } from './lib/processes.mjs';
import { result, say, table } from './lib/report.mjs';
import { Thaw, makeModel } from './lib/thaw.mjs';

const models = 1000;
const files = 4;
const deploysAtOnce = 16;
const settleMs = 2000;  // usage is committed, the pool is full
const windowMs = process.argv.includes('--quick') ? 10_000 : 30_000;

async function deployAll(thaw, directory) {
  const paths = [];
  for (let i = 0; i < files; ++i) paths.push(await makeModel(path.join(directory, `model-${i}.gguf`), i));
  let next = 0;
  const deploySome = async () => {
    while (next < models) {
      const number = next++;
      await thaw.deploy(`model-${number}`, { source: { path: paths[number % files] }, resources: { device: 'cpu', deviceMemory: '64MiB' } });
    }
  };
  await Promise.all(Array.from({ length: deploysAtOnce }, deploySome));
}

/// [CPU in percent of a core, resident MiB, anonymous MiB] of a server that is left alone.
async function measure(thaw) {
  const awake = await thaw.instances();
  if (awake.length > 0) throw new Error(`${awake.length} instances are up`);
  const { models: deployed } = await thaw.call('GET', '/admin/v1/status');
  if (deployed !== models) throw new Error(`${deployed} models are deployed, not ${models}`);
  await sleep(settleMs);
  const before = cpuSeconds(thaw.pid);
  const begin = performance.now();
  await sleep(windowMs);
  const cpuPercent = ((cpuSeconds(thaw.pid) - before) / (performance.now() - begin)) * 1e5;
  const { rss, anonymous } = residentKib(thaw.pid);
  return { cpuPercent, rssMib: rss / 1024, anonymousMib: anonymous / 1024 };
}

main(async () => {
  const directory = temporaryDirectory();
  const thaw = await Thaw.start(directory);
  const begin = performance.now();
  await deployAll(thaw, directory);
  say(`${models} models deployed in ${((performance.now() - begin) / 1000).toFixed(1)} s; watching for ${windowMs / 1000} s, twice`);
  const deployed = await measure(thaw);
  await thaw.restart();
  const restarted = await measure(thaw);

  console.log(`${models} models deployed, all asleep, nobody asking, over ${windowMs / 1000} s\n`);
  const row = (name, m) => [name, m.cpuPercent.toFixed(3), m.rssMib.toFixed(1), m.anonymousMib.toFixed(1)];
  table(['', 'CPU, % of a core', 'resident MiB', 'of it anonymous'], [row('after deploying them', deployed), row('after a restart', restarted)]);
  result('idle_cpu_percent', Math.max(deployed.cpuPercent, restarted.cpuPercent), 'percent');
  result('idle_rss_mib', Math.max(deployed.rssMib, restarted.rssMib), 'MiB');
});
