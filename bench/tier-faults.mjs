// Every driver of standby and images, and every fault: is the request that comes next answered, and after how long?
import path from 'node:path';

import { main, run, temporaryDirectory, until } from './lib/processes.mjs';
import { result, say, table } from './lib/report.mjs';
import { Thaw, binary, smallModel } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');

/// The drivers' own faults: their conformance suite puts each in and asks again afterwards, as tests/unit/node/tier_driver_suite.cpp says.
async function driverFaults() {
  const out = await run([binary('unit-node'), '--gtest_filter=*TierDriverSuite.AFault*'], { env: { ...process.env, THAW_TIER_FAULTS: '1' } });
  return out
    .split('\n')
    .filter((line) => line.startsWith('FAULT '))
    .map((line) => {
      const [driver, direction, fault, by, ms, outcome] = line.slice('FAULT '.length).split('|');
      return { driver, direction, fault, by, ms: Number(ms), answered: outcome === 'answered' };
    });
}

/// A whole server, and what happens to it and to its replicas from outside. `engine`: as a spec has it.
async function serverFaults(label, spec) {
  const thaw = await Thaw.start(temporaryDirectory());
  const name = 'm';
  await thaw.deploy(name, { ...spec, resources: { device: 'cpu', deviceMemory: '256MiB' }, scaling: { idleTimeout: '1h' }, standby: { mode: 'always' } });
  const instance = async () => (await thaw.instances()).find((one) => one.model === name);
  const frozen = async () => {
    await thaw.chat(name);
    await thaw.call('POST', `/admin/v1/models/${name}/freeze`);
    return until('standby', 30_000, async () => {
      const one = await instance();
      return one?.state === 'standby' ? one : null;
    });
  };
  const kill = (pid) => process.kill(pid, 'SIGKILL');
  const faults = [
    ['frozen', 'the engine is killed', async () => kill((await frozen()).pid)],
    [
      'down',
      'the engine is killed as it is frozen',
      async () => {
        await thaw.chat(name);
        const { pid } = await instance();
        const freezing = thaw.call('POST', `/admin/v1/models/${name}/freeze`);
        kill(pid);
        await freezing.catch(() => {});  // it may have been seen to be gone
      },
    ],
    [
      'up',
      'the engine is killed as it wakes',
      async () => {
        const { pid } = await frozen();
        await thaw.call('POST', `/admin/v1/models/${name}/wake`);
        kill(pid);
      },
    ],
    [
      'frozen',
      'thaw is killed',
      async () => {
        await frozen();
        kill(thaw.pid);
        await thaw.restart();
      },
    ],
    [
      'down',
      'thaw is killed as it freezes one',
      async () => {
        await thaw.chat(name);
        await thaw.call('POST', `/admin/v1/models/${name}/freeze`);
        kill(thaw.pid);
        await thaw.restart();
      },
    ],
    [
      'up',
      'thaw is killed as it wakes one',
      async () => {
        await frozen();
        await thaw.call('POST', `/admin/v1/models/${name}/wake`);
        kill(thaw.pid);
        await thaw.restart();
      },
    ],
  ];
  const rows = [];
  for (const [direction, fault, happen] of faults) {
    say(`${label}: ${fault}`);
    await happen();
    const before = await instance();
    const begun = performance.now();
    const answer = await thaw.chat(name).catch((error) => error);
    const ms = performance.now() - begun;
    const now = await instance();
    const same = before !== undefined && now !== undefined && before.id === now.id && before.state !== 'starting';
    rows.push({ driver: label, direction, fault, by: same ? 'the same instance' : 'started anew', ms, answered: !(answer instanceof Error) });
    if (answer instanceof Error) say(`  ${answer.message}`);
  }
  await thaw.server.stop();
  return rows;
}

main(async () => {
  const directory = temporaryDirectory();
  const rows = await driverFaults();
  const file = await smallModel(directory);
  rows.push(...(await serverFaults('freezer, whole server, fake engine', { source: { path: file }, enginePath: binary('fake-engine') })));
  if (!quick) {
    const engine = process.env.THAW_BENCH_ENGINE;
    if (!engine) throw new Error('THAW_BENCH_ENGINE does not name a llama-server; use scripts/bench tier-faults');
    rows.push(...(await serverFaults('freezer, whole server, llama-server', { source: { path: file }, enginePath: path.resolve(engine) })));
  }
  if (rows.length === 0) throw new Error('no fault was put in: control groups are missing here');
  console.log('Faults, and what the request after each met. Time: from before the transition until the answer (drivers), or the request alone (whole server)\n');
  table(['driver', 'on the way', 'fault', 'answered by', 'ms'], rows.map((row) => [row.driver, row.direction, row.fault, row.answered ? row.by : 'nobody', row.ms.toFixed(0)]));
  result('faults', rows.length, 'faults');
  result('faults_unanswered', rows.filter(({ answered }) => !answered).length, 'faults');
});
