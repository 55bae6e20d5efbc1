// What an instance may do, read from the kernel's own books while it runs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { model, repo } from './lib/environment.js';
import { chat, fakeModel, realModel, useServer } from './lib/server.js';
import { homeOf, namespacesOf, runs } from './lib/traces.js';

const MiB = 1 << 20;

describe('the sandbox of an instance', { timeout: 180_000 }, () => {
  const server = useServer();
  let pid = 0;
  let other = 0;
  const proc = (name) => fs.readFileSync(`/proc/${pid}/${name}`, 'utf8');
  const status = (key) => proc('status').match(new RegExp(`^${key}:\\s*(.*)$`, 'm'))[1];

  before(async () => {
    await server.deploy(realModel('stories', { resources: { deviceMemory: '128MiB', hostMemory: '192MiB', cpus: 0.5 } }));
    await server.deploy(fakeModel('other'));
    await server.openai().completions.create({ model: 'stories', prompt: 'Once', max_tokens: 1 });
    await server.openai().completions.create({ model: 'other', prompt: 'Once', max_tokens: 1 });
    const instances = JSON.parse((await server.cli(['ps', '--json'])).stdout).instances;
    pid = instances.find((one) => one.model === 'stories').pid;
    other = instances.find((one) => one.model === 'other').pid;
    assert.match(proc('comm'), /^llama-server/);
  });

  /** Reads a limit by its name in cgroup v2 or in v1. */
  function limit(controller, v2, v1) {
    for (const line of proc('cgroup').trim().split('\n')) {
      const [, controllers, group] = line.match(/^\d+:([^:]*):(.*)$/);
      const isV2 = controllers === '';
      if (!isV2 && !controllers.split(',').includes(controller)) continue;
      for (const mount of fs.readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
        const [, at, type, options] = mount.split(' ');
        if (type !== (isV2 ? 'cgroup2' : 'cgroup') || (!isV2 && !options.split(',').includes(controller))) continue;
        const file = path.join(at, group, isV2 ? v2 : v1);
        if (fs.existsSync(file)) return fs.readFileSync(file, 'utf8').trim();
      }
    }
    return assert.fail(`no ${controller} limit for ${pid}`);
  }

  it('has the limits of the spec on memory, CPU time and processes', () => {
    assert.equal(Number(limit('memory', 'memory.max', 'memory.limit_in_bytes')), (128 + 192) * MiB);
    const v2 = limit('cpu', 'cpu.max', 'cpu.cfs_quota_us').split(' ');
    const period = v2[1] ?? limit('cpu', 'cpu.max', 'cpu.cfs_period_us');
    assert.equal(Number(v2[0]) / Number(period), 0.5);
    const pids = Number(limit('pids', 'pids.max', 'pids.max'));
    assert.ok(pids >= 16 && pids <= 4096, `${pids}`);
  });

  it('runs as an unprivileged user without capabilities, and cannot gain any', () => {
    const uids = status('Uid').split(/\s+/).map(Number);
    assert.ok(uids.every((uid) => uid >= 65_536), `${uids}`);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.match(status(set), /^0+$/, set);
    assert.equal(status('NoNewPrivs'), '1');
    assert.equal(status('Seccomp'), '2');
    const theirs = fs.readFileSync(`/proc/${other}/status`, 'utf8').match(/^Uid:\s*(\d+)/m)[1];
    assert.notEqual(Number(theirs), uids[0], 'two instances are two users');
  });

  it('has namespaces of its own, shared with nobody', () => {
    const mine = namespacesOf(pid);
    for (const kind of ['net', 'user', 'mnt', 'pid', 'ipc', 'uts']) assert.ok(mine.some((ns) => ns.startsWith(`${kind}:`)), kind);
    const theirs = namespacesOf(other);
    for (const ns of mine.filter((one) => !one.startsWith('time'))) assert.ok(!theirs.includes(ns), ns);
  });

  it('has no network but loopback, and no route', () => {
    const devices = proc('net/dev').trim().split('\n').slice(2).map((line) => line.split(':')[0].trim());
    // Tunnel devices of the kernel's own (tunl0, sit0 …) are down and appear in every namespace of some hosts.
    assert.ok(devices.includes('lo'));
    assert.deepEqual(devices.filter((name) => /^(eth|en|wl|veth|br|docker)/.test(name)), []);
    assert.deepEqual(proc('net/route').trim().split('\n').slice(1), []);
    const listening = proc('net/tcp').trim().split('\n').slice(1).concat(proc('net/tcp6').trim().split('\n').slice(1));
    assert.deepEqual(listening, [], 'not even a listening socket');
  });

  it('sees its model, its engine and the system, read-only, and nothing else', () => {
    const root = `/proc/${pid}/root`;
    assert.deepEqual(fs.readdirSync(`${root}/thaw/model`), [path.basename(model)]);
    for (const hidden of ['/root', '/home', repo, server.dataDir, '/run/thaw', '/var/lib', '/etc/shadow']) assert.ok(!fs.existsSync(root + hidden), hidden);
    const writable = proc('mountinfo').trim().split('\n').map((line) => line.split(' ')).filter((fields) => !fields[5].split(',').includes('ro')).map((fields) => fields[4]);
    for (const point of writable) assert.match(point, /^\/(proc|dev|tmp|thaw\/run)(\/|$)/, `${point} is writable`);
    assert.ok(!writable.some((point) => point.startsWith('/thaw/model') || point.startsWith('/thaw/engine')));
    const environment = proc('environ');
    assert.ok(!environment.includes(server.key) && !environment.includes('THAW_') && !environment.includes(server.directory));
  });

  it('sees no processes but its own', () => {
    const numbers = status('NSpid').split(/\s+/);
    assert.ok(numbers.length >= 2 && Number(numbers.at(-1)) <= 10, `${numbers}`);
  });

  it('can be reached by the node only: its socket lies where other users cannot go', () => {
    const boxes = path.join(homeOf(server.label), 'boxes');
    for (const name of fs.readdirSync(boxes)) {
      const mode = fs.statSync(path.join(boxes, name, 'run')).mode & 0o777;
      assert.equal(mode & 0o007, 0, `${name}/run has mode ${mode.toString(8)}`);
    }
  });

  it('stays within its memory while it works', async () => {
    const before = (await server.instances()).find((one) => one.model === 'stories');
    assert.ok(before.memory_bytes > 0 && before.memory_bytes < (128 + 192) * MiB);
    const answers = await Promise.all(Array.from({ length: 8 }, () => server.openai().chat.completions.create(chat('stories', 'Once upon a time', { max_tokens: 8 }))));
    assert.ok(answers.every((answer) => answer.choices[0].message.content.length > 0));
    const after = (await server.instances()).find((one) => one.model === 'stories');
    assert.equal(after.id, before.id);
    assert.ok(after.memory_bytes < (128 + 192) * MiB);
  });
});

describe('--sandbox=none', { timeout: 120_000 }, () => {
  const server = useServer({ args: ['--sandbox=none'] });

  it('works, says so loudly, shows it, and leaves as little behind', async () => {
    assert.match(server.log, /warning.*UNSANDBOXED/);
    assert.equal((await server.call('GET', '/admin/v1/status')).json.sandbox, 'none');
    await server.deploy(realModel('stories'));
    const { data, response } = await server.openai().completions.create({ model: 'stories', prompt: 'Once upon a time', max_tokens: 4 }).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    assert.equal(data.usage.completion_tokens, 4);
    const [{ pid }] = await server.instances();
    assert.equal(fs.readlinkSync(`/proc/${pid}/ns/net`), fs.readlinkSync('/proc/self/ns/net'), 'it is in the host\'s namespaces');
    await server.call('POST', '/admin/v1/models/stories/stop');
    await server.nothingLeft();
    assert.ok(!runs(pid));
  });

  it('survives kill -9 of the server: what it started is found and ended', async () => {
    await server.openai().completions.create({ model: 'stories', prompt: 'Once', max_tokens: 1 });
    const [{ pid }] = await server.instances();
    await server.end('SIGKILL');
    await server.start();
    assert.ok(!runs(pid), 'the engine of before has ended');
    await server.nothingLeft();
    assert.equal((await server.openai().completions.create({ model: 'stories', prompt: 'Once', max_tokens: 1 })).usage.completion_tokens, 1);
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true });
  });
});
