// A thaw server of one test, in a fresh data directory on a free port, seen by nobody else.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before } from 'node:test';
import OpenAI from 'openai';

import { fakeEngine, model, realEngine, scratch, thaw } from './environment.js';
import { homeOf, labelOf, sandboxOf, sweep, traces } from './traces.js';
import { until } from './until.js';

const start_ms = 60_000;
const exit_ms = 60_000;
const alive = new Set();
let made = 0;
process.on('exit', () => alive.forEach((server) => server.destroySync()));

export class Server {
  /** `config`: of the server, as in its file. `args`: more flags. `within`: a command that runs it (`env`, `unshare`). */
  constructor({ config = {}, args = [], within = [] } = {}) {
    this.within = within;
    this.directory = path.join(scratch, `server-${++made}`);
    this.dataDir = path.join(this.directory, 'data');
    this.clientFile = path.join(this.directory, 'config/thaw/client.json');
    this.args = args;
    fs.mkdirSync(this.dataDir, { recursive: true });
    this.label = labelOf(this.dataDir);
    this.configFile = path.join(this.directory, 'server.yaml');
    fs.writeFileSync(this.configFile, JSON.stringify(config)); // JSON is YAML
    this.environment = {
      PATH: process.env.PATH,
      HOME: path.join(this.directory, 'home'),
      XDG_CONFIG_HOME: path.join(this.directory, 'config'),
      LANG: 'C.UTF-8',
      NO_COLOR: '1',
    };
  }

  /** Starts it and waits until it says where it serves. */
  async start() {
    alive.add(this);
    this.log = '';
    this.child = this.spawn(['serve', '--config', this.configFile, '--data-dir', this.dataDir, '--listen', '127.0.0.1:0', ...this.args]);
    const { child } = this;
    child.stderr.setEncoding('utf8').on('data', (text) => (this.log += text));
    this.exited = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
    let ended = null;
    this.exited.then((how) => (ended = how));
    await until('the server serves', () => ended || /serves on (\S+) /.test(this.log), { timeout_ms: start_ms });
    assert.equal(ended, null, `the server ended: ${JSON.stringify(ended)}\n${this.log}`);
    this.url = this.log.match(/serves on (\S+) /)[1];
    const kept = path.join(this.dataDir, 'client.json');
    this.key = fs.existsSync(kept) ? JSON.parse(fs.readFileSync(kept, 'utf8')).api_key : undefined;
    return this;
  }

  spawn(args, { env = {}, ...options } = {}) {
    const [program, ...all] = [...this.within, thaw, ...args];
    return spawn(program, all, { env: { ...this.environment, ...env }, cwd: this.directory, stdio: ['ignore', 'pipe', 'pipe'], ...options });
  }

  /** Sends a signal and waits for the end: {code, signal}. */
  async end(signal = 'SIGTERM') {
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), exit_ms);
    const how = await this.exited;
    clearTimeout(timer);
    return how;
  }

  async destroy() {
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) await this.end();
    this.destroySync();
  }

  destroySync() {
    alive.delete(this);
    if (this.child?.exitCode === null) this.child.kill('SIGKILL');
    sweep(this.label);
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  /** One command of the CLI: {code, stdout, stderr}. */
  cli(args, { env, input = '' } = {}) {
    const child = this.spawn(args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    const result = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => (result[name] += text));
    child.stdin.on('error', () => {}); // it may end without reading
    child.stdin.end(input);
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, ...result })));
  }

  openai(options = {}) {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: this.key ?? 'none', maxRetries: 0, timeout: 120_000, ...options });
  }

  /** A plain request with the key: {status, headers, text, json}. */
  async call(method, url, body, headers = {}) {
    const response = await fetch(this.url + url, {
      method,
      headers: { authorization: `Bearer ${this.key}`, ...headers },
      body: body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json');
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
  }

  async deploy(spec) {
    const answer = await this.call('POST', '/admin/v1/models', spec);
    assert.ok(answer.status === 200 || answer.status === 201, `deploy: ${answer.status} ${answer.text}`);
    return answer.json;
  }

  async modelInfo(name) {
    return (await this.call('GET', `/admin/v1/models/${name}`)).json;
  }

  async instances() {
    return (await this.call('GET', '/admin/v1/instances')).json.instances;
  }

  async record(requestId) {
    return (await this.call('GET', `/admin/v1/requests/${requestId}`)).json;
  }

  async metrics() {
    return (await this.call('GET', '/metrics')).text;
  }

  /** Numbers of the fake engine behind an instance: {requests, completed, cancelled, active}. */
  fakeStats(instance) {
    return getJson(path.join(homeOf(this.label), 'boxes', sandboxOf(instance.pid, this.label), 'run/engine.sock'), '/fake/stats');
  }

  /** The same of all instances of a model that are ready, added up. */
  async fakeTotals(name) {
    const total = { requests: 0, completed: 0, cancelled: 0, active: 0 };
    const instances = (await this.instances()).filter((one) => one.model === name && one.state === 'ready');
    for (const one of instances) {
      const stats = await this.fakeStats(one);
      for (const key of Object.keys(total)) total[key] += stats[key];
    }
    return total;
  }

  /** Waits until nothing is left of any instance. */
  async nothingLeft({ serverGone = false, namespaces = [] } = {}) {
    let left = [];
    const look = () => (left = traces(this.label, this.dataDir, { serverGone, namespaces })).length === 0;
    await until('nothing left of the instances', look).catch((error) => assert.fail(`${error.message}:\n  ${left.join('\n  ')}`));
  }
}

function getJson(socketPath, url) {
  return new Promise((resolve, reject) => {
    const request = http.get({ socketPath, path: url, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (data) => (text += data));
      response.on('end', () => resolve(JSON.parse(text)));
    });
    request.on('error', reject);
  });
}

/** A server for the tests of one describe(): started before them, ended and removed after them whatever happened. */
export function useServer(options) {
  const server = new Server(options);
  before(() => server.start());
  after(() => server.destroy());
  return server;
}

/** A spec for a model whose engine does what its flags and the prompts say (tests/fake_engine/options.h). Idle, it is stopped and not frozen. */
export function fakeModel(name, { args = [], resources = {}, scaling = {}, ...spec } = {}) {
  return {
    apiVersion: 'thaw/v1',
    kind: 'Model',
    metadata: { name },
    spec: {
      source: { path: model },
      enginePath: fakeEngine,
      args,
      resources: { device: 'cpu', deviceMemory: '64MiB', ...resources },
      scaling: { idleTimeout: '1h', ...scaling },
      standby: { mode: 'never' },
      ...spec,
    },
  };
}

/** A spec for the real engine with the real model (or one of random weights where that is not there). */
export function realModel(name, { scaling = {}, ...spec } = {}) {
  return fakeModel(name, { args: ['-c', '512'], scaling, ...spec, enginePath: realEngine() });
}

/** A chat request's body whose one message is `prompt`. */
export const chat = (name, prompt, more = {}) => ({ model: name, messages: [{ role: 'user', content: prompt }], ...more });

/** The text of a whole stream of the client. */
export async function textOf(stream) {
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? chunk.choices[0]?.text ?? '';
  return text;
}
