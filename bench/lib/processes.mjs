// Processes of a benchmark: started so that none outlives it, and looked at through /proc.
import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, closeSync, readFileSync, readdirSync, rmSync, chmodSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const cleanups = new Set();  // run last first
const stopGraceMs = 45_000;  // thaw's drain timeout and its engines' grace, and some

/// Returns what takes it back.
export function cleanUpWith(action) {
  cleanups.add(action);
  return () => cleanups.delete(action);
}

async function cleanUp() {
  for (const action of [...cleanups].reverse()) {
    try {
      await action();
    } catch (error) {
      console.error(`clean-up: ${error.message}`);
    }
  }
}

/// Runs a benchmark and cleans up after it, whatever ends it.
export function main(run) {
  let ending = false;
  const end = async (status) => {
    if (ending) return;
    ending = true;
    await cleanUp();
    process.exit(status);
  };
  process.on('SIGINT', () => end(130));
  process.on('SIGTERM', () => end(143));
  run().then(
    () => end(0),
    (error) => {
      if (!ending) console.error(`bench: ${error.message}`);
      return end(1);
    },
  );
}

/// A directory of its own, gone at the end. Short, because socket paths are. /tmp is not on a disk everywhere; /var/tmp is.
export function temporaryDirectory(parent = '/tmp') {
  const path = mkdtempSync(`${parent}/thaw-bench-`);
  chmodSync(path, 0o755);  // sandboxed engines are other users
  cleanUpWith(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export async function until(what, timeoutMs, condition) {
  const giveUp = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > giveUp) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await sleep(5);
  }
}

/// A server in the background: {pid, stop()}. Its output goes to `log`, whose end is shown should it die.
export function background(command, log, env = process.env) {
  const out = openSync(log, 'a');
  // The kernel ends it if this process is killed outright.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...command], { stdio: ['ignore', out, out], env });
  closeSync(out);
  let ended = false;
  const exit = new Promise((resolve) => {
    child.once('exit', resolve);
    child.once('error', resolve);
  }).then(() => {
    ended = true;
  });
  const stop = async () => {
    if (ended) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), stopGraceMs);
    await exit;
    clearTimeout(timer);
  };
  cleanUpWith(stop);
  return {
    pid: child.pid,
    stop,
    check() {
      if (ended) throw new Error(`${command[0]} ended by itself:\n${readFileSync(log, 'utf8').slice(-2000)}`);
    },
  };
}

/// Waits until a server answers at all.
export async function answering(server, url, timeoutMs = 20_000) {
  await until(`an answer from ${url}`, timeoutMs, async () => {
    server.check();
    return fetch(url).then(
      (response) => response.arrayBuffer().then(() => true),
      () => false,
    );
  });
}

/// Runs a command to its end: its standard output.
export function run(command, { input, env = process.env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], env });
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => (out += data));
    child.stderr.on('data', (data) => (err += data));
    const closed = new Promise((done) => child.once('close', done));
    const forget = cleanUpWith(() => {
      child.kill('SIGTERM');
      return closed;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      forget();
      if (code === 0) resolve(out);
      else reject(new Error(`${command[0]}: ${err.trim() || out.trim() || `exit status ${code}`}`));
    });
    child.stdin.end(input);
  });
}

/// A port that is free now.
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function descendants(pid) {
  const parents = new Map();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // it has just ended
    }
  }
  const found = [pid];
  for (let i = 0; i < found.length; ++i) for (const [child, parent] of parents) if (parent === found[i]) found.push(child);
  return found;
}

/// CPU seconds that the threads of one process have used so far; with `tree`, also its children's.
export function cpuSeconds(pid, { tree = false } = {}) {
  let ns = 0;
  for (const process of tree ? descendants(pid) : [pid])
    for (const thread of readdirSync(`/proc/${process}/task`)) ns += Number(readFileSync(`/proc/${process}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  return ns / 1e9;
}

/// {rss, anonymous} in KiB.
export function residentKib(pid, { tree = false } = {}) {
  const total = { rss: 0, anonymous: 0 };
  for (const process of tree ? descendants(pid) : [pid]) {
    const status = readFileSync(`/proc/${process}/status`, 'utf8');
    total.rss += Number(/VmRSS:\s+(\d+)/.exec(status)[1]);
    total.anonymous += Number(/RssAnon:\s+(\d+)/.exec(status)[1]);
  }
  return total;
}
