// Engines in wrong hands: is every attempt refused, and what does a neighbour notice of their bombs?
import { setTimeout as sleep } from 'node:timers/promises';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { main, temporaryDirectory } from './lib/processes.mjs';
import { percentile, result, say, table } from './lib/report.mjs';
import { Thaw, binary, smallModel } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const turns = quick ? 3 : 10;     // calm and bombed by turns: what else happens on the machine falls on both
const requests = quick ? 40 : 60; // of one turn
const pauseMs = 10;
const tokens = 8;

/// The attack tests, for what they count: [{sandbox, attack, what, outcome, how}].
function attacks() {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'thaw-isolation-'));
  const report = path.join(directory, 'report');
  try {
    execFileSync('node', ['--test', path.join(root, 'tests/e2e/attacks.test.js')], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, THAW_ATTACK_REPORT: report } });
  } catch {
    say('the attack tests failed; what they tried counts all the same');
  }
  const attempts = existsSync(report) ? readFileSync(report, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)) : [];
  rmSync(directory, { recursive: true, force: true });
  return attempts;
}

/// A server in wrong hands, under the sandbox, of the size of a small model.
function hostile(directory, sandbox) {
  chmodSync(directory, 0o755); // another user runs it
  const program = path.join(directory, 'hostile-engine');
  if (!existsSync(program)) copyFileSync(binary('hostile-engine'), program);
  chmodSync(program, 0o755);
  const where = sandbox === 'runc' ? ['--socket', '{socket}'] : ['--host', '{host}', '--port', '{port}'];
  return { source: { path: program }, engine: 'command', command: [program, ...where], sandbox, scaling: { idleTimeout: '1h' }, standby: { mode: 'never' },
    resources: { device: 'cpu', deviceMemory: '64MiB', hostMemory: '192MiB', cpus: 0.25, pids: 128 } };
}

async function ask(thaw, model, prompt) {
  return (await thaw.call('POST', '/v1/completions', JSON.stringify({ model, prompt, max_tokens: 1 }))).choices[0].text;
}

/// Milliseconds of each request to the neighbour.
async function series(thaw) {
  const times = [];
  for (let i = 0; i < requests; ++i) {
    const begin = performance.now();
    await thaw.chat('neighbour', tokens);
    times.push(performance.now() - begin);
    await sleep(pauseMs);
  }
  return times;
}

/// The bombs, one after another, until told to stop. A memory bomb ends the engine; the next request brings another.
async function bombard(thaw, model, state) {
  const prompts = ['spin 1 4', 'attack bombs processes=20000 disk_mib=256 files=20000', 'log 16', 'memory'];
  for (let i = 0; !state.over; ++i) {
    await ask(thaw, model, prompts[i % prompts.length]).catch(() => sleep(50));
    state.bombs++;
  }
}

async function neighbour(sandbox) {
  const directory = temporaryDirectory();
  const thaw = await Thaw.start(directory, 'node: {logBytes: 1MiB}\n');
  await thaw.deploy('neighbour', { source: { path: await smallModel(directory) }, args: ['-c', '512'], resources: { device: 'cpu', deviceMemory: '128MiB', cpus: 1 }, scaling: { idleTimeout: '1h' }, standby: { mode: 'never' } });
  await thaw.deploy('hostile', hostile(directory, sandbox));
  await thaw.chat('neighbour');
  await ask(thaw, 'hostile', 'hello');
  await series(thaw);
  const calm = [];
  const bombed = [];
  const state = { over: false, bombs: 0 };
  for (let turn = 0; turn < turns; ++turn) {
    calm.push(...(await series(thaw)));
    state.over = false;
    const attacker = bombard(thaw, 'hostile', state);
    bombed.push(...(await series(thaw)));
    state.over = true;
    await attacker;
    await ask(thaw, 'hostile', 'hello').catch(() => undefined); // its next start falls into no measurement
  }
  await thaw.server.stop();
  return { sandbox, calm, bombed, bombs: state.bombs };
}

main(async () => {
  say('attacks under runc and gVisor');
  const attempts = attacks();
  const won = attempts.filter((one) => one.outcome !== 'refused');
  for (const one of won) say(`SUCCEEDED under ${one.sandbox}: ${one.attack}: ${one.what} (${one.how})`);
  const kinds = [...new Set(attempts.map((one) => one.sandbox))];
  table(['sandbox', 'attempts', 'succeeded'], kinds.map((kind) => [kind, attempts.filter((one) => one.sandbox === kind).length, won.filter((one) => one.sandbox === kind).length]));

  const measured = [];
  for (const sandbox of ['runc', 'runsc']) {
    say(`a neighbour of bombs under ${sandbox}`);
    measured.push(await neighbour(sandbox));
  }
  const ms = (values, fraction) => percentile(values, fraction).toFixed(2);
  table(['a request to the neighbour, ms', 'p50 calm', 'p50 bombed', 'p99 calm', 'p99 bombed', 'bombs'],
    measured.map((m) => [`beside ${m.sandbox}`, ms(m.calm, 0.5), ms(m.bombed, 0.5), ms(m.calm, 0.99), ms(m.bombed, 0.99), m.bombs]));
  const ratio = (m, fraction) => percentile(m.bombed, fraction) / percentile(m.calm, fraction);
  result('attacks_tried', attempts.length, 'attempts');
  result('attacks_succeeded', won.length, 'attempts');
  result('neighbour_p99_ratio', Math.max(...measured.map((m) => ratio(m, 0.99))), 'ratio');
  result('neighbour_p50_ratio', Math.max(...measured.map((m) => ratio(m, 0.5))), 'ratio');
});
