// Engines in wrong hands: is every attempt refused, and what does a neighbour notice of their bombs?
import { setTimeout as sleep } from 'node:timers/promises';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { main, temporaryDirectory } from './lib/processes.mjs';
import { percentile, result, say, table } from './lib/report.mjs';
import { Thaw, binary, smallModel } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const option = (name, otherwise) => process.argv.find((one) => one.startsWith(`--${name}=`))?.slice(name.length + 3) ?? otherwise;
const part = option('part', 'all');
const sandboxes = option('under', 'runc,runsc').split(',');
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
  const place = path.join(directory, 'hostile'); // of its own: its engine is shown all that lies beside it
  mkdirSync(place, { recursive: true });
  chmodSync(place, 0o755); // another user runs it
  const program = path.join(place, 'hostile-engine');
  if (!existsSync(program)) copyFileSync(binary('hostile-engine'), program);
  chmodSync(program, 0o755);
  const where = sandbox === 'runc' ? ['--socket', '{socket}'] : ['--host', '{host}', '--port', '{port}'];
  return { source: { path: program }, engine: 'command', command: [program, ...where], sandbox, scaling: { idleTimeout: '1h' }, standby: { mode: 'never' },
    resources: { device: 'cpu', deviceMemory: '64MiB', hostMemory: '192MiB', cpus: 0.25, pids: 128 } };
}

async function ask(thaw, model, prompt) {
  return (await thaw.call('POST', '/v1/completions', JSON.stringify({ model, prompt, max_tokens: 1 }))).choices[0].text;
}

/// Each request to the neighbour: {ms, bomb}, what went on beside it.
async function series(thaw, state) {
  const times = [];
  for (let i = 0; i < requests; ++i) {
    const begin = performance.now();
    const bomb = state?.bomb;
    await thaw.chat('neighbour', tokens);
    times.push({ ms: performance.now() - begin, bomb });
    await sleep(pauseMs);
  }
  return times;
}

const bombs = { spin: 'spin 1 4', 'fork, tmpfs, files': 'attack bombs processes=20000 disk_mib=256 files=20000', disk: 'disk /thaw/cache 64', log: 'log 16', memory: 'memory' };
/// gVisor sandboxes are shown no disk.
const bombsUnder = (sandbox) => Object.keys(bombs).filter((bomb) => sandbox === 'runc' || bomb !== 'disk');

/// The bombs, one after another, until told to stop. A memory bomb ends the engine; the next request brings another.
async function bombard(thaw, model, kinds, state) {
  for (let i = state.bombs; !state.over; ++i) {
    state.bomb = kinds[i % kinds.length];
    await ask(thaw, model, bombs[state.bomb]).catch(() => sleep(50));
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
    const attacker = bombard(thaw, 'hostile', bombsUnder(sandbox), state);
    bombed.push(...(await series(thaw, state)));
    state.over = true;
    await attacker;
    await ask(thaw, 'hostile', 'hello').catch(() => undefined); // its next start falls into no measurement
  }
  await thaw.server.stop();
  return { sandbox, calm, bombed, bombs: state.bombs };
}

async function attempted() {
  say('attacks under runc and gVisor');
  const attempts = attacks();
  const won = attempts.filter((one) => one.outcome !== 'refused');
  for (const one of won) say(`SUCCEEDED under ${one.sandbox}: ${one.attack}: ${one.what} (${one.how})`);
  const kinds = [...new Set(attempts.map((one) => one.sandbox))];
  table(['sandbox', 'attempts', 'succeeded'], kinds.map((kind) => [kind, attempts.filter((one) => one.sandbox === kind).length, won.filter((one) => one.sandbox === kind).length]));
  result('attacks_tried', attempts.length, 'attempts');
  result('attacks_succeeded', won.length, 'attempts');
}

async function besides() {
  const measured = [];
  for (const sandbox of sandboxes) {
    say(`a neighbour of bombs under ${sandbox}`);
    measured.push(await neighbour(sandbox));
  }
  const of = (list, fraction) => percentile(list.map((one) => one.ms), fraction);
  const row = (name, list) => [name, list.length, of(list, 0.5).toFixed(2), of(list, 0.9).toFixed(2), of(list, 0.99).toFixed(2), of(list, 1).toFixed(2)];
  table(
    ['a request to the neighbour, ms', 'requests', 'p50', 'p90', 'p99', 'most'],
    measured.flatMap((m) => [
      row(`calm, beside ${m.sandbox}`, m.calm),
      row(`${m.bombs} bombs under ${m.sandbox}`, m.bombed),
      ...Object.keys(bombs).flatMap((bomb) => {
        const beside = m.bombed.filter((one) => one.bomb === bomb);
        return beside.length > 0 ? [row(`  ${bomb}`, beside)] : [];
      }),
    ]),
  );
  const worst = (fraction) => Math.max(...measured.map((m) => of(m.bombed, fraction) / of(m.calm, fraction)));
  result('neighbour_p99_ratio', worst(0.99), 'ratio');
  result('neighbour_p50_ratio', worst(0.5), 'ratio');
}

main(async () => {
  if (part !== 'neighbour') await attempted();
  if (part !== 'attacks') await besides();
});
