// What does thaw cost a request on its way, compared with nginx and haproxy in front of the same upstream?
import { spawn } from 'node:child_process';
import path from 'node:path';

import { startHaproxy, startNginx } from './lib/peers.mjs';
import { answering, background, cleanUpWith, cpuSeconds, freePort, main, residentKib, run, temporaryDirectory } from './lib/processes.mjs';
import { median, result, say, table } from './lib/report.mjs';
import { Thaw, binary, engineOf, makeModel } from './lib/thaw.mjs';
import { Wrk } from './lib/wrk.mjs';

const quick = process.argv.includes('--quick');
const plan = quick
  ? { loadRounds: 3, loadSeconds: 2, latencyRounds: 3, latencySeconds: 1, streamRounds: 2, streamSeconds: 2 }
  : { loadRounds: 9, loadSeconds: 5, latencyRounds: 9, latencySeconds: 3, streamRounds: 7, streamSeconds: 5 };
const connections = 32;
const streams = 512;
const model = 'fake';
const asFastAsItCan = 'fake:tokens=1000000000';
const silentAfterTheFirst = 'fake:tokens=2,delay_ms=3600000';

const chatBody = (content) => JSON.stringify({ model, stream: true, messages: [{ role: 'user', content }] });
const sse = (target, content) => [binary('bench-sse'), '--port', String(target.port), '--key', target.key, '--body', chatBody(content), '--streams', String(streams)];
const µs = (value) => value.toFixed(0);
const thousands = (value) => Math.round(value).toLocaleString('en');

/// Measures every target in every round, beginning with another one each time: what drifts drifts for all.
async function interleave(rounds, targets, measure) {
  const values = new Map(targets.map((target) => [target.name, []]));
  for (let round = 0; round < rounds; ++round)
    for (let i = 0; i < targets.length; ++i) {
      const target = targets[(round + i) % targets.length];
      values.get(target.name).push(await measure(target));
    }
  return (name, of) => median(values.get(name).map(of));
}

async function load(targets, wrk) {
  say(`${connections} connections, ${plan.loadRounds} rounds of ${plan.loadSeconds} s`);
  for (const target of targets) await wrk.run({ ...target, connections, seconds: 1 });
  const of = await interleave(plan.loadRounds, targets, async (target) => {
    const before = cpuSeconds(target.pid, target);
    const run = await wrk.run({ ...target, connections, seconds: plan.loadSeconds });
    return { ...run, perCpu: run.requests / (cpuSeconds(target.pid, target) - before) };
  });
  console.log(`Small POST requests, ${connections} connections: medians of ${plan.loadRounds} rounds of ${plan.loadSeconds} s\n`);
  const rows = targets.map(({ name }) => [
    name, thousands(of(name, (r) => r.rps)), µs(of(name, (r) => r.p50Us)), µs(of(name, (r) => r.p99Us)), thousands(of(name, (r) => r.perCpu)),
  ]);
  table(['', 'requests/s', 'p50 µs', 'p99 µs', 'requests per CPU second'], rows);
  return of;
}

async function latency(targets, wrk) {
  say(`1 connection, ${plan.latencyRounds} rounds of ${plan.latencySeconds} s`);
  const of = await interleave(plan.latencyRounds, targets, (target) => wrk.run({ ...target, connections: 1, seconds: plan.latencySeconds }));
  console.log(`The same, 1 connection: medians of ${plan.latencyRounds} rounds of ${plan.latencySeconds} s\n`);
  const bare = of(targets[0].name, (r) => r.p50Us);
  const rows = targets.map(({ name }) => [name, µs(of(name, (r) => r.p50Us)), µs(of(name, (r) => r.p50Us) - bare), µs(of(name, (r) => r.p99Us))]);
  table(['', 'p50 µs', 'added µs', 'p99 µs'], rows);
  return of;
}

async function eventStreams(targets) {
  say(`${streams} event streams, ${plan.streamRounds} rounds of ${plan.streamSeconds} s`);
  const of = await interleave(plan.streamRounds, targets, async (target) => {
    const before = cpuSeconds(target.pid, target);
    const { events, seconds, begun } = JSON.parse(await run([...sse(target, asFastAsItCan), '--seconds', String(plan.streamSeconds)]));
    return { rate: events / seconds, perCpu: events / (cpuSeconds(target.pid, target) - before), begun };
  });
  console.log(`Events of ${streams} streams, the upstream as fast as it can: medians of ${plan.streamRounds} rounds of ${plan.streamSeconds} s\n`);
  const rows = targets.map(({ name }) => [name, thousands(of(name, (r) => r.rate)), thousands(of(name, (r) => r.perCpu)), of(name, (r) => r.begun)]);
  table(['', 'events/s', 'events per CPU second', 'streams that had an event within 10 s'], rows);
  return of;
}

/// Resident KiB that each of many silent streams adds.
async function idleStreams(targets) {
  const kib = new Map();
  for (const target of targets) {
    const before = residentKib(target.pid, target).rss;
    const client = spawn(sse(target, silentAfterTheFirst)[0], [...sse(target, silentAfterTheFirst).slice(1), '--hold', 'yes'], { stdio: ['pipe', 'pipe', 'inherit'] });
    cleanUpWith(() => client.kill());
    const ended = new Promise((resolve) => client.once('exit', resolve));
    const ready = await Promise.race([new Promise((resolve) => client.stdout.once('data', () => resolve(true))), ended.then(() => false)]);
    if (!ready) throw new Error(`the streams through ${target.name} did not open`);
    kib.set(target.name, (residentKib(target.pid, target).rss - before) / streams);
    client.stdin.end();
    await ended;
  }
  console.log(`Resident memory that each of ${streams} silent streams adds\n`);
  table(['', 'KiB per stream'], targets.map(({ name }) => [name, kib.get(name).toFixed(1)]));
  return kib;
}

async function start(directory) {
  const file = await makeModel(path.join(directory, 'model.gguf'));
  const thaw = await Thaw.start(directory);
  await thaw.deploy(model, {
    source: { path: file },
    enginePath: binary('fake-engine'),
    resources: { device: 'cpu', deviceMemory: '64MiB' },
    scaling: { maxReplicas: 1, targetConcurrency: 1024, idleTimeout: '1h', queue: { maxLength: 10000 } },
  });
  await thaw.chat(model);
  const [instance] = await thaw.instances();
  const { socket } = engineOf(instance);
  const port = await freePort();
  const upstream = background([binary('fake-engine'), '-m', file, '--host', '127.0.0.1', '--port', String(port)], path.join(directory, 'upstream.log'));
  const bare = { name: 'bare upstream', url: `http://127.0.0.1:${port}`, key: 'none' };
  await answering(upstream, `${bare.url}/health`);
  return {
    thaw: { name: 'thaw', port: thaw.port, url: thaw.url, key: thaw.key, pid: thaw.pid },
    nginx: await startNginx(directory, socket),
    haproxy: await startHaproxy(directory, socket),
    bare,
  };
}

main(async () => {
  const directory = temporaryDirectory();
  const { thaw, nginx, haproxy, bare } = await start(directory);
  const proxies = [thaw, nginx, haproxy];
  const wrk = new Wrk(directory, model);
  // First, while no server has memory left over from other work.
  const idle = await idleStreams(proxies);
  const loaded = await load(proxies, wrk);
  const alone = await latency([bare, ...proxies], wrk);
  const streamed = await eventStreams(proxies);

  const rps = (name) => loaded(name, (r) => r.rps);
  const p50 = (name) => alone(name, (r) => r.p50Us);
  const events = (name) => streamed(name, (r) => r.rate);
  result('relay_rps_ratio', rps('thaw') / rps('nginx'), 'ratio');
  result('relay_vs_haproxy', rps('thaw') / rps('haproxy'), 'ratio');
  result('relay_rps_per_cpu_s', loaded('thaw', (r) => r.perCpu), 'requests');
  result('relay_added_p50_us', p50('thaw') - p50(bare.name), 'us');
  result('relay_sse_ratio', events('thaw') / events('nginx'), 'ratio');
  result('relay_stream_kib', idle.get('thaw'), 'KiB');
});
