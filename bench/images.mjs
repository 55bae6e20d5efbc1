// What do container images cost? A cold start in one, against the same engine of the host's files; and a layer on its way from a file to the disk, against reading and
// unpacking it by hand.
import { createHash, randomFillSync } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { main, run, temporaryDirectory, until } from './lib/processes.mjs';
import { median, percentile, result, say, table } from './lib/report.mjs';
import { Thaw, binary, engineOf, poolIsFull, smallModel } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const starts = quick ? 3 : 12;
const layers = quick ? 1 : 3;
const layerFiles = quick ? 200 : 1000;
const fileBytes = 128 << 10;  // the mean of what lies in images of Python's
const settleMs = 300;  // the pool's last sandbox has just been made, a stopped engine's memory is being freed
const slow = 120_000;

const hex = (bytes) => createHash('sha256').update(bytes).digest('hex');
const settled = () => new Promise((resolve) => setTimeout(resolve, settleMs));
const seconds = (since) => (performance.now() - since) / 1000;

/// An OCI layout of one layer, gzip like all registries' are: {plainBytes, file}.
async function writeImage(layout, tree, config) {
  const plain = path.join(layout, 'layer.tar');
  const blobs = path.join(layout, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  await run(['tar', '--owner=0', '--group=0', '-C', tree, '-cf', plain, '.']);
  const diffId = (await run(['sha256sum', plain])).slice(0, 64);
  const plainBytes = statSync(plain).size;
  await run(['gzip', '-1', plain]);
  const layerDigest = (await run(['sha256sum', `${plain}.gz`])).slice(0, 64);
  const file = path.join(blobs, layerDigest);
  await run(['mv', `${plain}.gz`, file]);
  const put = (object) => {
    const bytes = Buffer.from(JSON.stringify(object));
    writeFileSync(path.join(blobs, hex(bytes)), bytes);
    return { digest: `sha256:${hex(bytes)}`, size: bytes.length };
  };
  const architecture = { x64: 'amd64' }[process.arch] ?? process.arch;
  const type = (name) => `application/vnd.oci.image.${name}`;
  const written = put({ architecture, os: 'linux', config, rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] } });
  const manifest = put({
    schemaVersion: 2,
    mediaType: type('manifest.v1+json'),
    config: { mediaType: type('config.v1+json'), ...written },
    layers: [{ mediaType: type('layer.v1.tar+gzip'), digest: `sha256:${layerDigest}`, size: statSync(file).size }],
  });
  const entry = { mediaType: type('manifest.v1+json'), ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'v1' } };
  writeFileSync(path.join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  writeFileSync(path.join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return { plainBytes, file };
}

const imageState = async (thaw, name) => (await thaw.call('GET', `/admin/v1/models/${name}`)).image.state;

/// Cold starts of the fake engine, of the host's files and of an image's.
async function coldStarts(thaw, directory, source) {
  const engine = binary('fake-engine');
  const tree = path.join(directory, 'engine');
  mkdirSync(path.join(tree, 'bin'), { recursive: true });
  copyFileSync(engine, path.join(tree, 'bin/fake-engine'));
  await writeImage(path.join(directory, 'engine-image'), tree, { Env: ['PATH=/bin'] });
  const spec = (command, more) => ({ source: { path: source }, engine: 'command', command: [command, '--host', '{socket}'], resources: { device: 'cpu', deviceMemory: '64MiB' }, scaling: { idleTimeout: '1h' }, standby: { mode: 'never' }, ...more });
  await thaw.deploy('host', spec(engine));
  await thaw.deploy('image', spec('fake-engine', { image: `oci:${path.join(directory, 'engine-image')}:v1` }));
  await until('the image is here', slow, async () => (await imageState(thaw, 'image')) === 'ready');
  await thaw.chat('host');
  const { home } = engineOf((await thaw.instances())[0]);
  const names = ['host', 'image'];
  const times = new Map(names.map((name) => [name, []]));
  const sandboxes = new Map(names.map((name) => [name, []]));
  const sleep = async (name) => {
    await thaw.sleep(name);
    await until('a sandbox in the pool', slow, () => poolIsFull(home));
    await settled();
  };
  await sleep('host');
  await thaw.chat('image');
  await sleep('image');
  for (let round = 0; round < starts; ++round)
    for (let i = 0; i < names.length; ++i) {
      const name = names[(round + i) % names.length];
      const body = JSON.stringify({ model: name, stream: true, max_tokens: 1, messages: [{ role: 'user', content: 'Hello' }] });
      const { ttft_ms: ms, id } = JSON.parse(await run([binary('bench-ttft'), '--port', String(thaw.port), '--key', thaw.key, '--body', body]));
      times.get(name).push(ms);
      const record = await until('the record of the request', slow, () => thaw.request(id).catch(() => null));
      if (!record.cold) throw new Error('the request found the model awake');
      sandboxes.get(name).push(record.phases.find((phase) => phase.name === 'sandbox').duration_ms);
      await sleep(name);
    }
  console.log(`Time to first token of the fake engine, asleep, runc, ${starts} interleaved rounds, ms\n`);
  table(
    ['', 'median', 'p90', 'min', 'max', 'of it: its sandbox'],
    names.map((name) => [name, ...[0.5, 0.9, 0, 1].map((fraction) => percentile(times.get(name), fraction).toFixed(1)), median(sandboxes.get(name)).toFixed(1)]),
  );
  result('images_coldstart_added_ms', median(times.get('image')) - median(times.get('host')), 'ms');
}

/// Files half of which compress, in directories.
function fillTree(tree, mark) {
  const bytes = Buffer.alloc(fileBytes);
  const text = Buffer.from('    def forward(self, hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:\n'.repeat(fileBytes / 64)).subarray(0, fileBytes / 2);
  for (let i = 0; i < layerFiles; ++i) {
    const directory = path.join(tree, `d${i % 64}`);
    if (i < 64) mkdirSync(directory, { recursive: true });
    randomFillSync(bytes, 0, fileBytes / 2);
    text.copy(bytes, fileBytes / 2);
    writeFileSync(path.join(directory, `f${i}.py`), bytes);
  }
  writeFileSync(path.join(tree, 'mark'), mark);
}

/// From a file to a layer in its place, and the same steps by hand.
async function settleRate(thaw, directory, source) {
  const times = new Map([['thaw', []], ['sha256sum', []], ['tar x, sync', []]]);
  let megabytes = 0;
  for (let round = 0; round < layers; ++round) {
    const tree = path.join(directory, 'tree');
    const layout = path.join(directory, `layers${round}`);
    fillTree(tree, String(round));
    const { plainBytes, file } = await writeImage(layout, tree, {});
    rmSync(tree, { recursive: true });
    await run(['sync']);
    megabytes = plainBytes / 1e6;
    const byHand = {
      sha256sum: () => run(['sh', '-c', 'gzip -dc "$0" | sha256sum', file]),
      'tar x, sync': () => run(['sh', '-c', 'mkdir "$1" && tar xzf "$0" -C "$1" && sync -f "$1"', file, path.join(directory, `by-hand${round}`)]),
    };
    readFileSync(file);  // in the page cache for all
    const settle = async () => {
      const name = `layer${round}`;
      await thaw.deploy(name, { source: { path: source }, engine: 'command', command: ['x', '{socket}'], image: `oci:${layout}:v1`, resources: { device: 'cpu', deviceMemory: '64MiB' } });
      let begun = 0;
      await until('the layer is here', slow, async () => {
        const state = await imageState(thaw, name);
        if (state === 'failed') throw new Error(`the layer was refused: ${JSON.stringify((await thaw.call('GET', `/admin/v1/models/${name}`)).image)}`);
        if (state === 'unpacking' && begun === 0) begun = performance.now();
        return state === 'ready';
      });
      return seconds(begun);
    };
    const contestants = ['thaw', ...Object.keys(byHand)];
    for (let i = 0; i < contestants.length; ++i) {
      const name = contestants[(round + i) % contestants.length];
      const begun = performance.now();
      const own = name === 'thaw' ? await settle() : await byHand[name]();
      times.get(name).push(name === 'thaw' ? own : seconds(begun));
    }
    for (const done of [layout, path.join(directory, `by-hand${round}`)]) rmSync(done, { recursive: true });
  }
  const of = (name) => median(times.get(name));
  console.log(`A layer of ${megabytes.toFixed(0)} MB (plain) in ${layerFiles} files, from a gzip file to the disk, ${layers} rounds, seconds\n`);
  table(['', 'median', 'min', 'max', 'MB/s'], [...times].map(([name, all]) => [name, ...[0.5, 0, 1].map((fraction) => percentile(all, fraction).toFixed(2)), (megabytes / of(name)).toFixed(0)]));
  result('images_settle_mb_s', megabytes / of('thaw'), 'MB/s');
  result('images_settle_vs_by_hand', of('thaw') / (of('sha256sum') + of('tar x, sync')), 'ratio');
}

main(async () => {
  const directory = temporaryDirectory('/var/tmp');
  const thaw = await Thaw.start(directory);
  const source = await smallModel(directory);
  say(`${starts} rounds of cold starts`);
  await coldStarts(thaw, directory, source);
  say(`${layers} layers`);
  await settleRate(thaw, directory, source);
});
