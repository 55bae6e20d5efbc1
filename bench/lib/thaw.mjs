// A thaw server for a benchmark, with API keys on, in a data directory of its own.
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { answering, background, freePort, run, until } from './processes.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/// A binary of the build: THAW_BIN_DIR, else build/release.
export function binary(name) {
  const file = path.join(path.resolve(process.env.THAW_BIN_DIR || path.join(root, 'build/release')), name);
  if (!existsSync(file)) throw new Error(`no ${file}; build it (scripts/build ${name}) or name its directory in THAW_BIN_DIR`);
  return file;
}

/// A real 1 MB model where there is one, else a made one of that size.
export async function smallModel(directory) {
  for (const file of [process.env.THAW_TEST_MODEL, path.join(root, '../shared/models/stories260K.gguf')]) if (file && existsSync(file)) return file;
  return makeModel(path.join(directory, 'small.gguf'));
}

export async function makeModel(file, seed = 0) {
  await run([binary('make-model'), '--size', '1MB', '--type', 'f16', '--seed', String(seed), '--out', file]);
  return file;
}

export class Thaw {
  /// `config`: the server's configuration in YAML, without listen and dataDir. `flags`: more of them ("--dev": without keys).
  static async start(directory, config = '', flags = []) {
    const thaw = new Thaw();
    thaw.flags = flags;
    thaw.directory = path.join(directory, 'thaw');
    thaw.config = path.join(directory, 'thaw.yaml');
    mkdirSync(thaw.directory, { recursive: true });
    writeFileSync(thaw.config, `apiVersion: thaw/v1\nkind: Server\n${config}`);
    await thaw.restart();
    return thaw;
  }

  async restart() {
    await this.server?.stop();
    this.port = await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    const command = [binary('thaw'), 'serve', '--config', this.config, '--data-dir', this.directory, '--listen', `127.0.0.1:${this.port}`, ...this.flags];
    // Away from the user's own credentials.
    this.server = background(command, `${this.directory}.log`, { ...process.env, XDG_CONFIG_HOME: `${this.directory}.config` });
    await answering(this.server, `${this.url}/healthz`);
    this.key = this.flags.includes('--dev') ? 'none' : JSON.parse(readFileSync(path.join(this.directory, 'client.json'), 'utf8')).api_key;
  }

  get pid() {
    return this.server.pid;
  }

  async call(method, route, body) {
    const response = await fetch(this.url + route, { method, body, headers: { authorization: `Bearer ${this.key}` } });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${route}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  deploy(name, spec) {
    return this.call('POST', '/admin/v1/models', JSON.stringify({ apiVersion: 'thaw/v1', kind: 'Model', metadata: { name }, spec }));
  }

  async instances() {
    return (await this.call('GET', '/admin/v1/instances')).instances;
  }

  /// One small answer: the model is awake then.
  chat(model, maxTokens = 1) {
    return this.call('POST', '/v1/chat/completions', JSON.stringify({ model, max_tokens: maxTokens, messages: [{ role: 'user', content: 'Hello' }] }));
  }

  /// Puts a model to sleep and waits until nothing of it is left.
  async sleep(model) {
    await this.call('POST', `/admin/v1/models/${model}/stop`);
    await until(`${model} asleep`, 30_000, async () => (await this.instances()).every((instance) => instance.model !== model));
  }

  async request(id) {
    return this.call('GET', `/admin/v1/requests/${id}`);
  }
}

/// The engine of an instance as the host sees it: {argv, socket, home}. home: where the node keeps its sandboxes.
export function engineOf(instance) {
  const argv = readFileSync(`/proc/${instance.pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  // In its own view of the file system, which the kernel shows here.
  const socket = `/proc/${instance.pid}/root${argv[argv.indexOf('--host') + 1]}`;
  // .../LABEL/bNUMBER
  const group = readFileSync(`/proc/${instance.pid}/cgroup`, 'utf8').split('\n').find((line) => /\/b\d+/.test(line)) ?? '';
  const label = /\/([^/]+)\/b\d+/.exec(group)?.[1];
  return { argv, socket, home: label && `/run/thaw/${label}` };
}

/// Whether the pool has all its sandboxes, whole, and nothing else is there.
export function poolIsFull(home, size = 1) {
  const boxes = existsSync(path.join(home, 'boxes')) ? readdirSync(path.join(home, 'boxes')) : [];
  return boxes.length === size && boxes.every((box) => existsSync(path.join(home, 'boxes', box, 'pid')));
}
