// Asking an engine in wrong hands to try things (tests/hostile_engine), and what came of it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';

import { hostileEngine, repo } from './environment.js';
import { fakeModel } from './server.js';

/** Name in file names, sockets and variables that no sandbox must ever show. */
export const canary = `thaw-canary-${process.pid}`;

/** A spec for an engine in wrong hands, in this kind of sandbox; small, so that bombs are soon over. */
export function hostileModel(name, sandbox, { command = [], resources = {}, ...spec } = {}) {
  assert.ok(hostileEngine, 'hostile-engine is missing; build it');
  const where = sandbox === 'runc' ? ['--socket', '{socket}'] : ['--host', '{host}', '--port', '{port}'];
  const { enginePath: _, args: __, ...rest } = fakeModel(name).spec;
  return {
    ...fakeModel(name),
    spec: {
      ...rest,
      engine: 'command',
      command: [hostileEngine, ...where, ...command],
      ...(sandbox === 'none' ? {} : { sandbox }),
      resources: { device: 'cpu', deviceMemory: '64MiB', hostMemory: '192MiB', cpus: 0.5, pids: 128, ...resources },
      ...spec,
    },
  };
}

/** What the engine answers to a prompt of its own. */
export async function tell(server, model, prompt) {
  const answer = await server.openai().completions.create({ model, prompt, max_tokens: 1 });
  return answer.choices[0].text;
}

/** Makes the attempts of one attack: [{what, outcome, how}]. */
export async function attack(server, model, name, params = {}) {
  const words = Object.entries(params).map(([key, value]) => `${key}=${value}`);
  const text = await tell(server, model, ['attack', name, ...words].join(' '));
  const attempts = text.split('\n').filter(Boolean).map((line) => line.split('\t')).map(([outcome, what, how]) => ({ what, outcome, how }));
  assert.ok(attempts.length > 0, `no attempts in: ${text}`);
  for (const { outcome, what, how } of attempts) console.log(`    ${name}: ${what}: ${outcome} (${how})`);
  record(model, name, attempts);
  return attempts;
}

/** The same, an attempt a request: what ends the engine, or its whole sandbox, is a refusal too. Others may be asked for meanwhile. */
export async function attackOneByOne(server, model, name, params = {}) {
  const words = ['attack', name, ...Object.entries(params).map(([key, value]) => `${key}=${value}`)].join(' ');
  const listed = (await tell(server, model, `${words} list=1`)).split('\n').filter(Boolean).map((line) => line.split('\t')[1]);
  const attempts = [];
  for (const [number, what] of listed.entries()) {
    const text = await tell(server, model, `${words} only=${number}`).catch((error) => `refused\t${what}\tit was the end of its sandbox (status ${error.status})`);
    const [outcome, , how] = text.trimEnd().split('\t');
    attempts.push({ what, outcome, how });
    console.log(`    ${name}: ${what}: ${outcome} (${how})`);
  }
  assert.ok(attempts.length > 0);
  record(model, name, attempts);
  return attempts;
}

/** One attempt that is not the engine's own to judge. */
export function judge(model, name, what, succeeded, how) {
  console.log(`    ${name}: ${what}: ${succeeded ? 'SUCCEEDED' : 'refused'} (${how})`);
  record(model, name, [{ what, outcome: succeeded ? 'SUCCEEDED' : 'refused', how }]);
  assert.ok(!succeeded, `${what}: ${how}`);
}

export const refusedAll = (attempts) => assert.deepEqual(attempts.filter((one) => one.outcome !== 'refused'), []);

const tried = new Set();

/** "sandbox: attack: what" of every attempt of this process, and of every one that the table in docs/security.md has. */
export function triedAndListed() {
  const titles = { 'Reach the network': 'network', 'See the host': 'host', 'Reach another instance': 'neighbour', 'Change the model or the root': 'write', 'Get something out of the kernel': 'kernel', 'Namespaces and mounts': 'namespaces', Escape: 'escape', 'Use up what there is': 'bombs' };
  const listed = new Set();
  let attack;
  const page = fs.readFileSync(path.join(repo, 'docs/security.md'), 'utf8');
  for (const line of page.slice(page.indexOf('<!-- attacks:')).split('\n')) {
    const [, what, runc, gvisor] = line.match(/^\| (.+?) \| (.*?) \| (.*?) \|$/) ?? [];
    if (what === undefined) continue;
    if (runc === 'runc') attack = titles[what];
    else for (const [sandbox, how] of Object.entries({ runc, runsc: gvisor })) if (how !== '') listed.add(`${sandbox}: ${attack}: ${what}`);
  }
  return { tried: [...tried].sort(), listed: [...listed].sort() };
}

/** For scripts/lib/attack-table: a line for each attempt, in the file that THAW_ATTACK_REPORT names. */
function record(model, attack, attempts) {
  if (model === 'unconfined') return;
  for (const { what } of attempts) tried.add(`${model}: ${attack}: ${what}`);
  const file = process.env.THAW_ATTACK_REPORT;
  if (!file) return;
  for (const one of attempts) fs.appendFileSync(file, `${JSON.stringify({ sandbox: model, attack, ...one })}\n`);
}
