// What was recorded of a ride against what the simulator foretells for the same trace and fleet.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { run } from '../lib/processes.mjs';
import { percentile, result, say, table } from '../lib/report.mjs';
import { binary } from '../lib/thaw.mjs';

const MiB = 2 ** 20, GiB = 2 ** 30;
const mostDrift = 0.15;  // of the machine's pace
const policies = { timeout: 'thaw-5m', auto: 'thaw' };

export const policyOf = (idle) => policies[idle];

/// A ride: {idle, budget_bytes, minutes, models, pace: {before, after}, requests: [{at, model, input, output, answer}], samples}. A sample, one a second:
/// {at, own, files: [bytes of each model's file in the page cache], instances: [{model, state}]}.
export function saveRide(directory, ride) {
  writeFileSync(path.join(directory, 'ride.json'), JSON.stringify(ride));
  const line = ({ at, model, input, output, answer }) => [at.toFixed(6), model, input, output, answer.way ?? 'failed', answer.s ?? '', (answer.record?.queued_ms ?? 0) / 1000, (answer.record?.total_ms ?? 0) / 1000];
  writeFileSync(path.join(directory, 'measured.csv'), `at_s,model,input_tokens,output_tokens,served,delay_s,queued_s,total_s\n${ride.requests.map((request) => line(request).join(',')).join('\n')}\n`);
}

export const loadRide = (directory) => JSON.parse(readFileSync(path.join(directory, 'ride.json'), 'utf8'));

async function simulate(directory, policy) {
  const command = [binary('thaw'), 'sim', '--trace', path.join(directory, 'trace.csv'), '--fleet', path.join(directory, 'fleet.yaml'), '--policy', policy, '--json', '--requests', path.join(directory, 'simulated.csv')];
  const { results: [outcome] } = JSON.parse(await run(command));
  const answers = readFileSync(path.join(directory, 'simulated.csv'), 'utf8').trim().split('\n').slice(1).map((line) => {
    const [, , model, , , way, delay] = line.split(',');
    return { model, way, s: delay === '' ? undefined : Number(delay) };
  });
  return { outcome, answers };
}

const off = (predicted, measured) => Math.abs(predicted - measured) / measured;

/// Simulates, and prints tables and results. `directory`: has trace.csv and fleet.yaml.
export async function judge(directory, ride) {
  const simulated = await simulate(directory, policyOf(ride.idle));
  const answers = ride.requests.map(({ answer }) => answer);
  const failed = answers.filter(({ error }) => error);
  for (const { model, id, error } of failed.slice(0, 10)) say(`failed: ${model} (${id}): ${error}`);
  const answered = answers.filter(({ error }) => !error);
  const foretold = simulated.answers.filter(({ s }) => s !== undefined);
  if (answered.length < 10 || foretold.length < 10) throw new Error(`only ${answered.length} answers, ${foretold.length} foretold: nothing to compare`);
  const at = (some, q) => (some.length ? percentile(some.map(({ s }) => s), q) : NaN);
  const ways = ['all', 'ready', 'wake', 'start'];
  const of = (all, way) => all.filter((answer) => way === 'all' || answer.way === way);
  const ms = (s) => (Number.isNaN(s) ? '' : (s * 1000).toFixed(0));
  console.log(`${answers.length} requests to ${ride.models} models in ${ride.minutes} minutes, memory budget ${(ride.budget_bytes / GiB).toFixed(1)} GiB, idle: ${ride.idle}\n`);
  table(
    ['first token, ms', 'share measured', 'foretold', 'p50 measured', 'foretold', 'p99 measured', 'foretold'],
    ways.map((way) => {
      const [real, told] = [of(answered, way), of(foretold, way)];
      const share = (some, all) => `${((some.length / all.length) * 100).toFixed(1)} %`;
      return [way, share(real, answered), share(told, foretold), ms(at(real, 0.5)), ms(at(told, 0.5)), ms(at(real, 0.99)), ms(at(told, 0.99))];
    }),
  );
  const held = ride.samples.map(({ own, files }) => own + files.reduce((sum, bytes) => sum + bytes, 0));
  const memory = { mean: held.reduce((a, b) => a + b, 0) / held.length, peak: Math.max(...held) };
  const { memory_gib_mean: mean, memory_gib_peak: peak } = simulated.outcome;
  table(
    ['memory held, MiB', 'measured', 'foretold'],
    [
      ['mean', (memory.mean / MiB).toFixed(0), (mean * 1024).toFixed(0)],
      ['peak', (memory.peak / MiB).toFixed(0), (peak * 1024).toFixed(0)],
    ],
  );
  // Of single requests: how far off the median one is.
  const single = answers.flatMap((answer, n) => (answer.error || simulated.answers[n].s === undefined ? [] : [off(simulated.answers[n].s, answer.s)]));
  const p50Error = off(at(foretold, 0.5), at(answered, 0.5)), p99Error = off(at(foretold, 0.99), at(answered, 0.99));
  const meanError = off(mean * GiB, memory.mean), peakError = off(peak * GiB, memory.peak);
  const { before, after } = ride.pace;
  console.log(`a prompt of 128 tokens took ${(before * 1000).toFixed(0)} ms before, ${(after * 1000).toFixed(0)} ms after\n`);
  if (off(after, before) > mostDrift) say('this machine is not as fast as when it was measured: the errors say little');
  result('replay_pace_drift', after / before, 'ratio');
  result('replay_failed', failed.length, 'requests');
  result('replay_requests', answers.length, 'requests');
  result('replay_ttft_p50_error', p50Error, 'ratio');
  result('replay_ttft_p99_error', p99Error, 'ratio');
  result('replay_ttft_single_error', percentile(single, 0.5), 'ratio');
  result('replay_memory_mean_error', meanError, 'ratio');
  result('replay_memory_peak_error', peakError, 'ratio');
  result('replay_ttft_error', Math.max(p50Error, p99Error), 'ratio');
  result('replay_memory_error', Math.max(meanError, peakError), 'ratio');
}
