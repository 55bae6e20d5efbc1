// What the tests run: the built binaries, an engine, a model. Copies, so that a build that goes on meanwhile changes nothing
// under a running test, and so that the sandboxed engine (another user) may read them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

assert.equal(process.geteuid(), 0, 'the end-to-end tests start sandboxes and therefore need root; run them with sudo');

export const repo = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
export const binDir = path.resolve(process.env.THAW_BIN_DIR ?? path.join(repo, 'build/release'));

/** A directory of this process, removed when it ends. */
export const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'thaw-e2e-'));
fs.chmodSync(scratch, 0o755);
process.on('exit', () => fs.rmSync(scratch, { recursive: true, force: true }));
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => process.exit(1)); // the exit handlers clean up

function copyOf(from, mode, folder) {
  assert.ok(fs.existsSync(from), `${from} is missing; build first, or set THAW_BIN_DIR to the directory of the binaries`);
  const to = path.join(scratch, folder, path.basename(from));
  if (fs.existsSync(to)) return to;
  fs.mkdirSync(path.dirname(to), { recursive: true, mode: 0o755 });
  fs.copyFileSync(from, to);
  fs.chmodSync(to, mode);
  return to;
}

for (const name of ['thaw-init', 'libthaw_lazy_map.so']) copyOf(path.join(binDir, name), 0o755, 'bin'); // looked for beside thaw
export const thaw = copyOf(path.join(binDir, 'thaw'), 0o755, 'bin');
export const fakeEngine = copyOf(path.join(binDir, 'fake-engine'), 0o755, 'engine');

/** Does what its prompts say an engine in wrong hands would (tests/hostile_engine); null where it was not built. */
export const hostileEngine = fs.existsSync(path.join(binDir, 'hostile-engine')) ? copyOf(path.join(binDir, 'hostile-engine'), 0o755, 'engine') : null;

const stories = process.env.THAW_TEST_MODEL ?? path.join(repo, '../shared/models/stories260K.gguf');

/** The real model if it is on this machine: its answers are known. */
export const hasStories = fs.existsSync(stories);

/** A GGUF file: the real model, else one of random weights. */
export const model = hasStories ? copyOf(stories, 0o644, 'models') : madeModel();

function madeModel() {
  const file = path.join(scratch, 'models', 'made.gguf');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  execFileSync(path.join(binDir, 'make-model'), ['--size', '1MB', '--type', 'f16', '--out', file], { stdio: 'ignore' });
  return file;
}

/** A GGUF file of random weights, another one for every `seed`, on a disk (a tmpfs has no page cache to be out of): clean, and gone with the process. */
export function madeWeights(name, size, seed) {
  diskScratch ??= fs.mkdtempSync('/var/tmp/thaw-e2e-');
  fs.chmodSync(diskScratch, 0o755);
  const file = path.join(diskScratch, name);
  execFileSync(path.join(binDir, 'make-model'), ['--size', size, '--type', 'f16', '--seed', String(seed), '--out', file], { stdio: 'ignore' });
  execFileSync('sync', [file]); // what is not written yet cannot leave the page cache
  return file;
}
let diskScratch;
process.on('exit', () => diskScratch && fs.rmSync(diskScratch, { recursive: true, force: true }));

/** llama-server, built when it is not there yet. */
export function realEngine() {
  if (process.env.THAW_TEST_ENGINE) return process.env.THAW_TEST_ENGINE;
  const found = execFileSync(path.join(repo, 'scripts/install-engine'), ['--print'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  return found.trim();
}
