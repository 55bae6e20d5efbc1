// An engine in wrong hands, under runc and under gVisor: it tries to reach, read, change and use up what is not its own, and says what came of each
// attempt. Every one has to be refused. That the attempts would succeed where nothing holds them is shown at the end, without a sandbox.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { attack, attackOneByOne, canary, hostileModel, judge, refusedAll, tell, triedAndListed } from './lib/attacks.js';
import { model, scratch, thaw } from './lib/environment.js';
import { modelDirectory } from './lib/made_engine.js';
import { fakeModel, useServer } from './lib/server.js';
import { cpuSecondsOf, limitsOf, writeRateOf, writesAreLimited } from './lib/limits.js';
import { homeOf, sandboxOf } from './lib/traces.js';
import { until } from './lib/until.js';

const MiB = 1 << 20;
const secretText = `a secret of ${canary}`;

/** Servers of the host's on all its addresses, on a Unix socket and on an abstract one; they count who came. */
class Canaries {
  visits = [];
  async open() {
    const listen = (target) => new Promise((resolve, reject) => {
      const server = net.createServer((socket) => {
        this.visits.push(target);
        socket.destroy();
      });
      server.on('error', reject);
      server.listen(target, () => resolve(server));
    });
    this.socket = path.join(scratch, `${canary}.sock`);
    this.servers = [await listen({ port: 0, host: '0.0.0.0' }), await listen(this.socket), await listen(`\0${canary}`)];
    fs.chmodSync(this.socket, 0o777);
    this.port = this.servers[0].address().port;
    this.host = Object.values(os.networkInterfaces()).flat().find((one) => one.family === 'IPv4' && !one.internal)?.address ?? '127.0.0.1';
    for (const directory of [scratch, '/tmp', '/var/tmp', '/dev/shm']) this.plant(directory);
  }
  plant(directory) {
    const file = path.join(directory, `${canary}-file`);
    fs.writeFileSync(file, secretText, { mode: 0o644 });
    (this.files ??= []).push(file);
  }
  close() {
    this.servers.forEach((server) => server.close());
    this.files.forEach((file) => fs.rmSync(file, { force: true }));
  }
}

const digest = (file) => crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex');

for (const kind of ['runc', 'runsc']) {
  describe(`an engine in wrong hands, under ${kind}`, { timeout: 300_000 }, () => {
    const secrets = path.join(scratch, `secrets-${kind}`);
    const server = useServer({ config: { node: { secretsDir: secrets, logBytes: '1MiB' } } });
    const canaries = new Canaries();
    let victim;
    let params;

    before(async () => {
      await canaries.open();
      fs.mkdirSync(secrets, { mode: 0o700 });
      fs.writeFileSync(path.join(secrets, 'token'), secretText, { mode: 0o400 });
      // One that has everything which somebody may want: a compile cache, a secret, a model.
      await server.deploy(fakeModel('victim', { engine: 'vllm', source: { path: modelDirectory(`others-${kind}`) }, secrets: [{ name: `${canary}-token`, file: 'token' }] }));
      await server.deploy(hostileModel(kind, kind));
      assert.equal(await tell(server, 'victim', 'hello') !== '', true);
      victim = (await server.instances()).find((one) => one.model === 'victim');
      const cache = path.join(server.dataDir, 'compile-caches/default/victim');
      params = {
        admin_port: new URL(server.url).port,
        canary_port: canaries.port,
        canary_socket: canaries.socket,
        abstract: canary,
        canary,
        host: canaries.host,
        data_dir: server.dataDir,
        home: homeOf(server.label),
        model: `/thaw/model/${path.basename(model)}`,
        other_cache: cache,
        other_model: model,
        other_secret: `/run/secrets/${canary}-token`,
      };
    });
    after(() => canaries.close());

    const untouched = () => assert.deepEqual(canaries.visits, [], 'nobody came to the servers of the host');
    const alive = async () => assert.equal(await tell(server, kind, 'hello'), 'ok');

    it('reaches no network: not the admin API, not the host, not another instance, not the Internet', async () => {
      refusedAll(await attack(server, kind, 'network', params));
      untouched();
    });

    it('sees nothing of the host: files, devices, /proc, the data directory', async () => {
      refusedAll(await attack(server, kind, 'host', params));
    });

    it('is not shown the server\'s own files, nor the kernel\'s, by naming them in a spec', async () => {
      for (const [what, place] of [['be shown the data directory as a model', server.dataDir], ['be shown the engines\' logs as a model', path.join(server.dataDir, 'logs')], ['be shown /etc as a model', '/etc'], ['be shown the secrets as a model', secrets]]) {
        const spec = hostileModel(`thief-${kind}`, kind, { source: { path: place } });
        const deployed = await server.call('POST', '/admin/v1/models', spec);
        const answer = deployed.status < 300 ? await tell(server, `thief-${kind}`, 'hello').then(() => null, (error) => error.message) : deployed.text;
        judge(kind, 'host', what, answer === null, /not for engines/.test(answer ?? '') ? 'the node does not start it' : `refused: ${answer?.slice(0, 60)}`);
      }
    });

    it('stays the first to go when the host runs out of memory', async () => {
      const answer = await tell(server, kind, 'put /proc/self/oom_score_adj -1000');
      const { pid } = (await server.instances()).find((one) => one.model === kind);
      const mine = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name) && sandboxOf(name, server.label) === sandboxOf(pid, server.label));
      const score = Math.min(...mine.map((one) => Number(fs.readFileSync(`/proc/${one}/oom_score_adj`, 'utf8'))));
      judge(kind, 'host', 'be spared when the host runs out of memory', score < 500, `${answer}; on the host it is ${score}`);
    });

    it('finds nothing of another instance: files, compile cache, model, secret, processes', async () => {
      refusedAll(await attack(server, kind, 'neighbour', params));
    });

    it('changes neither its model nor its root', async () => {
      const files = [model, path.join(path.dirname(thaw), 'thaw-init')];
      const before = files.map(digest);
      refusedAll(await attack(server, kind, 'write', params));
      assert.deepEqual(files.map(digest), before);
    });

    it('gets nothing out of the kernel: tracing, modules, keys, other ways to call it', async () => {
      refusedAll(await attack(server, kind, 'kernel', params));
    });

    it('makes and enters no namespace, and mounts nothing', async () => {
      refusedAll(await attack(server, kind, 'namespaces', params));
    });

    it('does not escape by links, descriptors left open, or the file of a program', async () => {
      const files = [thaw, path.join(path.dirname(thaw), 'thaw-init')];
      const before = files.map(digest);
      refusedAll(await attack(server, kind, 'escape', params));
      assert.deepEqual(files.map(digest), before);
    });

    it('uses up nothing but its own: processes, descriptors, files, space', async () => {
      // What engines could fill of the host's: their sandboxes' directories, without what is mounted there.
      const used = () => 1024 * Number(execFileSync('du', ['-sxk', homeOf(server.label)], { encoding: 'utf8' }).split('\t')[0]);
      const before = used();
      // In gVisor files in memory are memory of the sandbox's own.
      refusedAll(await attackOneByOne(server, kind, 'bombs', { processes: 20_000, disk_mib: 512, files: kind === 'runc' ? 100_000 : 0 }));
      assert.ok(used() < before + 64 * MiB, 'the host\'s /run is as it was');
      await until('it serves again', () => tell(server, kind, 'hello').then((text) => text === 'ok', () => false), { timeout_ms: 60_000 });
    });

    it('has the limits of its model, and no swap, in the kernel\'s own books', async () => {
      await alive();
      const { pid } = (await server.instances()).find((one) => one.model === kind);
      const more = kind === 'runsc' ? { memory: 128, pids: 512 } : { memory: 0, pids: 0 };
      const wanted = { memory: (64 + 192 + more.memory) * MiB, pids: 128 + more.pids, cpus: 0.5 };
      assert.deepEqual(limitsOf(pid), { ...wanted, swap: 0 });
    });

    it('takes no more of the processors than it may', async () => {
      const { pid } = (await server.instances()).find((one) => one.model === kind);
      const [before, begin] = [cpuSecondsOf(pid), performance.now()];
      await tell(server, kind, 'spin 2 4');
      const share = (cpuSecondsOf(pid) - before) / ((performance.now() - begin) / 1000);
      judge(kind, 'bombs', 'compute on all processors without end', share > 0.6, `it had ${share.toFixed(2)} of one; 0.5 are its own`);
      await alive();
    });

    if (kind === 'runc') {
      it('writes to the disk no faster than it may', async (test) => {
        const ms = Number(await tell(server, kind, 'disk /thaw/cache 8'));
        assert.ok(ms >= 0, `errno ${-ms}`);
        if (!writesAreLimited(server.dataDir)) return test.skip('this host does not limit block I/O, or the cache lies on no disk of its own');
        const { pid } = (await server.instances()).find((one) => one.model === kind);
        assert.equal(writeRateOf(pid), 128 * MiB); // no attempt of the table's: not every host limits it
      });
    }

    it('fills no disk with its log', async () => {
      const log = () => fs.readdirSync(path.join(server.dataDir, 'logs')).filter((name) => name.startsWith(kind)).map((name) => fs.statSync(path.join(server.dataDir, 'logs', name)).size).reduce((a, b) => a + b, 0);
      await tell(server, kind, 'log 24');
      await until('its output is read', () => log() > 0);
      judge(kind, 'bombs', 'write a log without end', log() > 2 * MiB, `${(log() / MiB).toFixed(1)} MiB are kept of 24`);
      await alive();
    });

    it('takes no memory beyond its limit: it is ended, and said to be', async () => {
      const died = await server.openai().completions.create({ model: kind, prompt: 'memory', max_tokens: 1 }).then(() => null, (error) => error);
      judge(kind, 'bombs', 'take memory without end', died === null, `the request ended with ${died?.status}`);
      assert.match(await server.metrics(), /reason="out_of_memory"[^}]*\} [1-9]/);
      await until('it serves again', () => tell(server, kind, 'hello').then((text) => text === 'ok', () => false), { timeout_ms: 60_000 });
    });

    if (kind === 'runc') {
      it('leads the node to no other socket by a link in its place', async () => {
        await alive();
        assert.equal(await tell(server, kind, `swap-socket ${canaries.socket}`), 'swapped');
        const answer = await server.openai().completions.create({ model: kind, prompt: 'hello', max_tokens: 1 }).then((one) => one.choices[0].text, (error) => `status ${error.status}`);
        judge(kind, 'escape', 'put a link to a service of the host\'s where its socket was', canaries.visits.length > 0, `the node did not follow it (${answer})`);
      });
    }

    it('has disturbed nobody: the other instance serves on, and is the same', async () => {
      assert.notEqual(await tell(server, 'victim', 'hello'), '');
      const now = (await server.instances()).find((one) => one.model === 'victim');
      assert.equal(now.id, victim.id);
      untouched();
    });
  });
}

describe('the same attempts without a sandbox', { timeout: 120_000 }, () => {
  const server = useServer({ args: ['--sandbox=none'] });
  const canaries = new Canaries();
  before(async () => {
    await canaries.open();
    await server.deploy(hostileModel('unconfined', 'none'));
  });
  after(() => canaries.close());

  it('succeed: they are real', async () => {
    const admin_port = new URL(server.url).port;
    const attempts = await attack(server, 'unconfined', 'network', { admin_port, canary_port: canaries.port, canary_socket: canaries.socket, abstract: canary, host: canaries.host, safe: 1 });
    const won = attempts.filter((one) => one.outcome === 'SUCCEEDED').map((one) => one.what);
    for (const what of ['connect to the admin API on loopback', 'connect to a server of the host\'s that listens everywhere, on loopback', 'connect to an abstract Unix socket of the host\'s', 'connect to a Unix socket of the host\'s', 'open a raw socket'])
      assert.ok(won.includes(what), `${what}: ${JSON.stringify(attempts.find((one) => one.what === what))}`);
    const found = await attack(server, 'unconfined', 'neighbour', { canary, other_model: model });
    for (const what of ['find another\'s file in /dev/shm', 'read another tenant\'s model'])
      assert.equal(found.find((one) => one.what === what).outcome, 'SUCCEEDED', what);
    assert.ok(canaries.visits.length >= 3);
  });
});

describe('docs/security.md', () => {
  it('lists the attempts that were made', () => {
    const { tried, listed } = triedAndListed();
    assert.deepEqual(listed, tried, 'write the table anew: scripts/lib/attack-table');
  });
});
