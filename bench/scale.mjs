// What a decision takes where there are 10,000 devices and 100,000 models, and what a day of a fleet takes to simulate.
import { spawnSync } from 'node:child_process';

import { main } from './lib/processes.mjs';
import { result, say, table } from './lib/report.mjs';
import { binary } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const fleet = quick ? { devices: 2_000, models: 20_000, rate: 400, 'warm-up': 60, seconds: 30 }
                    : { devices: 10_000, models: 100_000, rate: 2_000, 'warm-up': 300, seconds: 300 };
const day = quick ? { requests: 100_000, span: '144m' } : { requests: 1_000_000, span: '24h' };
const maxMs = 600_000;

function run(program, args) {
  const { status, stdout, stderr, error } = spawnSync(binary(program), args, { encoding: 'utf8', timeout: maxMs, maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
}

function decide(what) {
  const setting = { ...fleet, ...what };
  const lines = run('bench-scale', Object.entries(setting).map(([key, value]) => `${key}=${value}`)).split('\n');
  const of = (word) => lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1));
  return {
    rows: of('ROW').map((row) => row.split('\t')),
    state: of('STATE')[0],
    values: Object.fromEntries(of('VALUE').map((value) => value.split(' ')).map(([key, value]) => [key, Number(value)])),
  };
}

main(async () => {
  const header = ['event', 'count', 'mean µs', 'p50', 'p99', 'p99.9', 'most'];
  let p99 = 0, gib = 0;
  for (const idle of ['timeout', 'auto']) {
    say(`${fleet.devices} devices, ${fleet.models} models, ${fleet.rate} requests/s, idle: ${idle}`);
    const { rows, state, values } = decide({ idle });
    console.log(`\n${fleet.devices} devices, ${fleet.models} models, ${fleet.rate} requests/s for ${fleet.seconds} s, idle: ${idle}\n`);
    table(header, rows);
    console.log(`\n${state}`);
    p99 = Math.max(p99, values.p99_us);
    gib = Math.max(gib, values.peak_gib);
  }
  // The same requests, to as many models, among ten times as many that nobody asks for.
  say('the same with a tenth of the models asleep');
  const [few, many] = [0, 9].map((idleShare) => decide({ idle: 'auto', models: fleet.models / 10, asleep: (fleet.models / 10) * idleShare }));
  console.log(`\nmean of a decision: ${few.values.mean_us} µs, and ${many.values.mean_us} µs among ten times as many models`);

  say('a day of 256 devices');
  const begin = performance.now();
  const text = run('thaw', ['sim', '--synthetic', `requests=${day.requests},models=1000,span=${day.span},cv=4,zipf=1.1,diurnal=0.5`, '--devices', '256', '--policy', 'thaw']);
  const seconds = (performance.now() - begin) / 1000;
  console.log(`\n${text}`);

  result('decision_p99_us', p99, 'us');
  result('decision_idle_models_ratio', many.values.mean_us / few.values.mean_us, 'ratio');
  result('controller_gib', gib, 'GiB');
  result('sim_day_s', seconds, 's');
});
