// What is thaw's policy worth on traces, against others' policies and against what nobody can undercut?
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { main } from './lib/processes.mjs';
import { result, say, table } from './lib/report.mjs';
import { binary } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const processes = 2;
const maxDevices = 256;
const maxOutputBytes = 64 << 20;
const attainment = 0.99;
const own = ['thaw', 'thaw-reactive', 'thaw-5m', 'thaw-no-standby', 'thaw-plain'];
const rivals = ['always-on', 'ollama', 'llama-swap', 'knative', 'inferx', 'serverlessllm'];
const policies = quick ? ['thaw', 'always-on', 'serverlessllm'] : [...own, ...rivals];

const tracesDirectory =
  process.argv.find((argument) => argument.startsWith('--traces='))?.slice('--traces='.length) ??
  path.join(path.dirname(fileURLToPath(import.meta.url)), '../../shared/traces');
const file = (name) => path.join(tracesDirectory, name);
const azure = (models) => ({ name: `azure_${models}`, title: `Azure code, ${models} models`, file: file('AzureLLMInferenceTrace_code.csv'), options: ['--spread', `${models}:zipf:7`] });
const all = [
  azure(20),
  azure(100),
  azure(500),
  { name: 'gentd26', title: 'GenTD26', file: file('GenTD26_lora_request_trace.csv'), options: [] },
  { name: 'synthetic', title: 'made up: 200 models, Zipf 1.1, gaps of CV 4, by day and night', options: ['--synthetic', 'requests=20000,models=200,span=6h,cv=4,zipf=1.1,diurnal=0.5,seed=7'] },
];
const traces = (quick ? all.filter((trace) => trace.name === 'azure_100') : all).filter((trace) => {
  if (!trace.file || existsSync(trace.file)) return true;
  say(`left out, there is no ${trace.file}; --traces=DIR names its directory`);
  return false;
});

async function simulate(trace, policy) {
  const source = trace.file ? ['--trace', trace.file] : [];
  const command = ['sim', ...source, ...trace.options, '--policy', policy, '--smallest-fleet', '--max-devices', String(maxDevices), '--json'];
  const { stdout } = await promisify(execFile)(binary('thaw'), command, { maxBuffer: maxOutputBytes });
  const experiment = JSON.parse(stdout);
  return { ...experiment, outcome: experiment.results[0] };
}

/// Every trace under every policy: a map of maps. Some processes at a time; the longest lists of models first would save nothing worth having.
async function simulateAll() {
  const jobs = traces.flatMap((trace) => policies.map((policy) => ({ trace, policy })));
  const found = new Map(traces.map((trace) => [trace.name, new Map()]));
  const work = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const began = performance.now();
      found.get(job.trace.name).set(job.policy, await simulate(job.trace, job.policy));
      say(`${job.trace.name} ${job.policy}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
    }
  };
  await Promise.all(Array.from({ length: processes }, work));
  return found;
}

/// The fewest device-hours with which the policy meets the attainment: on the default fleet or on its smallest. Infinity: on neither.
function leastHours({ outcome }) {
  const hours = [];
  if (outcome.within_5s >= attainment) hours.push(outcome.device_hours);
  if (outcome.smallest_devices) hours.push(outcome.smallest_device_hours);
  return Math.min(...hours);
}

const geometricMean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

function show(trace, byPolicy) {
  const { requests, models, lower_bound_device_hours: bound, devices } = byPolicy.get('thaw');
  console.log(`${trace.title}: ${requests} requests, ${models} models, ${devices} devices; lower bound ${bound.toFixed(2)} device-hours\n`);
  const rows = policies.map((policy) => {
    const { outcome } = byPolicy.get(policy);
    const at = outcome.smallest_devices ? [outcome.smallest_devices, outcome.smallest_device_hours.toFixed(2)] : [`> ${maxDevices}`, ''];
    return [
      policy, outcome.p50_s.toFixed(2), outcome.p99_s.toFixed(2), (outcome.within_5s * 100).toFixed(2), outcome.device_hours.toFixed(2),
      outcome.vs_lower_bound.toFixed(2), outcome.cost_per_1000_requests.toFixed(3), ...at,
    ];
  });
  table(['', 'p50 s', 'p99 s', '< 5 s, %', 'device-hours', 'of the bound', '$ per 1,000', 'devices for 99 %', 'device-hours there'], rows);
}

main(async () => {
  if (traces.length === 0) throw new Error('there is no trace');
  const found = await simulateAll();
  for (const trace of traces) show(trace, found.get(trace.name));

  const vsRivals = [], vsBound = [];
  for (const { name } of traces) {
    const byPolicy = found.get(name);
    const rival = rivals.filter((policy) => byPolicy.has(policy)).reduce((a, b) => (leastHours(byPolicy.get(b)) < leastHours(byPolicy.get(a)) ? b : a));
    const vsRival = leastHours(byPolicy.get('thaw')) / leastHours(byPolicy.get(rival));
    say(`${name}: the best rival is ${rival}`);
    vsRivals.push(vsRival);
    vsBound.push(byPolicy.get('thaw').outcome.vs_lower_bound);
    result(`vs_best_rival_${name}`, vsRival, 'ratio');
    result(`vs_lower_bound_${name}`, vsBound.at(-1), 'ratio');
    // What the best rival needs beyond the bound: no policy can come out below this.
    result(`least_vs_best_rival_${name}`, byPolicy.get('thaw').lower_bound_device_hours / leastHours(byPolicy.get(rival)), 'ratio');
  }
  const { outcome: thaw } = (found.get('azure_100') ?? found.values().next().value).get('thaw');
  const { outcome: alwaysOn } = (found.get('azure_100') ?? found.values().next().value).get('always-on');
  if (thaw.smallest_devices && alwaysOn.smallest_devices) result('devices_saved', 1 - thaw.smallest_devices / alwaysOn.smallest_devices, 'ratio');
  result('vs_best_rival', geometricMean(vsRivals), 'ratio');
  result('vs_lower_bound', geometricMean(vsBound), 'ratio');
  result('vs_lower_bound_worst', Math.max(...vsBound), 'ratio');
});
