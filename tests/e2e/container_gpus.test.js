// Engines in container images on GPUs: the driver is emulated (tests/emulator), and a CDI file in the manner of NVIDIA's tool puts it into the images' roots.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { binDir, scratch } from './lib/environment.js';
import { makeImage, programLayer, tar, writeLayout } from './lib/container_image.js';
import { fakeModel, Server } from './lib/server.js';
import { homeOf } from './lib/traces.js';
import { until } from './lib/until.js';

const has = (program) => fs.existsSync(`/usr/bin/${program}`) || fs.existsSync(`/usr/sbin/${program}`);
const engine = path.join(binDir, 'emulator/gpu-engine');
const missing = !(has('skopeo') && has('umoci')) ? 'skopeo and umoci are not installed (scripts/install-packages --run)' : !fs.existsSync(engine) ? `${engine} was not built` : false;

const images = path.join(scratch, 'gpu-images');
const driver = path.join(scratch, 'driver');
const cdiDir = path.join(scratch, 'cdi');
const cdiFile = path.join(cdiDir, 'nvidia.json');
const libraries = '/usr/lib/x86_64-linux-gnu';
const version = '550.54.15';

/** As `nvidia-ctk cdi generate` of toolkit 1.17 writes it, for two GPUs whose device files are stand-ins. */
function writeCdi(edits = {}) {
  const hook = (...args) => ({ hookName: 'createContainer', path: '/usr/bin/nvidia-cdi-hook', args: ['nvidia-cdi-hook', ...args], env: ['NVIDIA_CTK_DEBUG=false'] });
  const mount = (hostPath, containerPath) => ({ hostPath, containerPath, options: ['ro', 'nosuid', 'nodev', 'rbind', 'rprivate'] });
  const device = (name) => ({ name, containerEdits: { deviceNodes: [{ path: `/dev/nvidia${name}`, hostPath: '/dev/null' }] } });
  const spec = {
    cdiVersion: '0.5.0',
    kind: 'nvidia.com/gpu',
    devices: [device('0'), device('1')],
    containerEdits: {
      env: ['NVIDIA_VISIBLE_DEVICES=void'],
      deviceNodes: [{ path: '/dev/nvidiactl', hostPath: '/dev/zero' }],
      hooks: [
        hook('create-symlinks', '--link', `libcuda.so.1::${libraries}/libcuda.so`, '--link', '../card0::/dev/dri/by-path/pci-0000:01:00.0-card'),
        hook('enable-cuda-compat', `--host-driver-version=${version}`),
        hook('update-ldcache', '--folder', libraries),
        hook('disable-device-node-modification'),
      ],
      mounts: [
        mount(path.join(driver, `libcuda.so.${version}`), `${libraries}/libcuda.so.${version}`),
        mount(path.join(driver, `libnvidia-ml.so.${version}`), `${libraries}/libnvidia-ml.so.${version}`),
        mount(path.join(driver, 'gsp.bin'), `/lib/firmware/nvidia/${version}/gsp_ga10x.bin`),
        mount('/usr/bin/env', '/usr/bin/nvidia-smi'),
      ],
      ...edits,
    },
  };
  fs.writeFileSync(cdiFile, JSON.stringify(spec), { mode: 0o644 });
}

describe('engines in container images on GPUs', { timeout: 240_000, skip: missing }, () => {
  const server = new Server({ config: { node: { cdiDirs: [cdiDir] }, devices: { cuda: { reserve: 0 } } } });
  Object.assign(server.environment, {
    LD_LIBRARY_PATH: path.join(binDir, 'emulator'),
    THAW_EMULATOR_DIR: path.join(scratch, 'gpus'),
    THAW_EMULATOR_DEVICES: '2',
    THAW_EMULATOR_MEMORY_MIB: '1024',
  });
  const config = { Entrypoint: ['/bin/gpu-engine'], Env: ['PATH=/bin:/usr/bin', 'LD_LIBRARY_PATH=/usr/local/nvidia/lib64'] };
  const layout = (name) => path.join(images, name);
  /** An engine that opens the driver by the name that programs know, fills memory of its device, and says whether it is still there. */
  const gpuModel = (name, { image = 'engine', resources = {}, ...more } = {}) => {
    const { enginePath: _, ...rest } = fakeModel(name).spec;
    const spec = { ...rest, engine: 'command', image: `oci:${layout(image)}:v1`, command: ['gpu-engine', 'libcuda.so.1', '16', '--host', '{socket}'], args: [], readyPath: '/health' };
    return { ...fakeModel(name), spec: { ...spec, resources: { device: 'cuda', deviceMemory: '600MiB', ...resources }, ...more } };
  };
  const deploy = async (spec) => {
    await server.deploy(spec);
    await until('its image is here', async () => (await server.modelInfo(spec.metadata.name)).image.state === 'ready');
  };
  const say = async (name) => (await server.openai().completions.create({ model: name, prompt: 'Are you there?' })).choices[0].text;
  const instanceOf = async (name) => (await server.instances()).find((one) => one.model === name);
  const environmentOf = (pid) => Object.fromEntries(fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean).map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]));
  const refusal = async (name) => {
    const answer = await server.call('POST', '/v1/completions', { model: name, prompt: 'x' });
    assert.equal(answer.status, 503, answer.text);
    return answer.json.error.message;
  };

  before(async () => {
    for (const directory of [driver, cdiDir, path.join(scratch, 'gpus')]) fs.mkdirSync(directory, { mode: 0o755 });
    for (const name of ['libcuda', 'libnvidia-ml']) fs.copyFileSync(path.join(binDir, `emulator/${name}.so.1`), path.join(driver, `${name}.so.${version}`));
    fs.writeFileSync(path.join(driver, 'gsp.bin'), 'firmware', { mode: 0o644 });
    writeCdi();
    // With a library of its own in the driver's place, as images are built that compile against one.
    const stub = tar([{ name: `usr/lib/x86_64-linux-gnu/libcuda.so.1`, body: 'a stub' }]);
    writeLayout(layout('engine'), makeImage([programLayer(engine, '/bin/gpu-engine'), stub], config));
    await server.start();
  });
  after(() => server.destroy());

  it('find the driver of this machine by its usual name, and compute', async () => {
    await deploy(gpuModel('first'));
    assert.equal(await say('first'), 'all there');
    const { pid, device } = await instanceOf('first');
    assert.match(device, /^cuda\d$/);
    assert.match(fs.readFileSync(`/proc/${pid}/maps`, 'utf8'), new RegExp(`${libraries}/libcuda\\.so\\.${version}`));
    const root = `/proc/${pid}/root`;
    assert.equal(fs.readlinkSync(`${root}/lib`), 'usr/lib', "the image's own links stay");
    assert.equal(fs.readlinkSync(`${root}${libraries}/libcuda.so.1`), `libcuda.so.${version}`, "not the image's own");
    assert.equal(fs.readlinkSync(`${root}${libraries}/libcuda.so`), 'libcuda.so.1');
    assert.equal(fs.readlinkSync(`${root}${libraries}/libnvidia-ml.so.1`), `libnvidia-ml.so.${version}`);
    assert.equal(fs.readFileSync(`${root}/usr/lib/firmware/nvidia/${version}/gsp_ga10x.bin`, 'utf8'), 'firmware');
    assert.ok(fs.statSync(`${root}/usr/bin/nvidia-smi`).size > 1000, 'a program that the host root would have shown anyway');
    assert.deepEqual(fs.readdirSync(`${root}/thaw-driver`).sort(), ['libcuda.so', 'libcuda.so.1', 'libnvidia-ml.so.1']);
    assert.throws(() => fs.openSync(`${root}${libraries}/libcuda.so.${version}`, 'r+'), { code: 'EROFS' });
    const nodes = fs.readdirSync(`${root}/dev`).filter((name) => name.startsWith('nvidia')).sort();
    assert.deepEqual(nodes, [device.replace('cuda', 'nvidia'), 'nvidiactl'].sort());
    const environment = environmentOf(pid);
    assert.equal(environment.LD_LIBRARY_PATH, '/thaw-driver:/usr/local/nvidia/lib64');
    assert.equal(environment.NVIDIA_VISIBLE_DEVICES, 'void');
  });

  it('let no program of the host run for them', () => {
    const boxes = path.join(homeOf(server.label), 'boxes');
    const bundles = fs.readdirSync(boxes).map((box) => path.join(boxes, box, 'config.json')).filter((file) => fs.existsSync(file));
    assert.ok(bundles.length > 0);
    for (const bundle of bundles) assert.ok(!('hooks' in JSON.parse(fs.readFileSync(bundle, 'utf8'))), bundle);
  });

  it('count their devices from 0, whichever they have', async () => {
    await deploy(gpuModel('second', { env: { LD_LIBRARY_PATH: '/own' } }));
    assert.equal(await say('second'), 'all there');
    assert.equal(await say('first'), 'all there');
    const both = await Promise.all(['first', 'second'].map(instanceOf));
    assert.deepEqual(both.map((one) => one.device).sort(), ['cuda0', 'cuda1'], 'there is room for one on each');
    for (const { pid } of both) assert.equal(environmentOf(pid).CUDA_VISIBLE_DEVICES, '0');
    assert.equal(environmentOf(both[1].pid).LD_LIBRARY_PATH, '/own:/thaw-driver', "the model's own way goes first");
  });

  it('are refused under a gVisor without nvproxy, with the remedy', async () => {
    const command = ['gpu-engine', 'libcuda.so.1', '16', '--host', '{host}', '--port', '{port}'];
    await deploy(gpuModel('inner', { sandbox: 'runsc', command, resources: { deviceMemory: '100MiB' } }));
    assert.match(await refusal('inner'), /nvproxy/);
  });

  it('are refused where the image leads a library into what is not its own', async () => {
    const trap = tar([{ name: 'usr/lib/firmware', type: '2', link: '/proc/self' }]);
    writeLayout(layout('trap'), makeImage([programLayer(engine, '/bin/gpu-engine'), trap], config));
    await deploy(gpuModel('trapped', { image: 'trap', resources: { deviceMemory: '100MiB' } }));
    assert.match(await refusal('trapped'), /links lead \/lib\/firmware\/.* to \/proc\/self\/.* the sandbox's own/);
  });

  it('are refused with a hook that thaw does not know', async () => {
    writeCdi({ hooks: [{ hookName: 'createContainer', path: '/opt/vendor/hook', args: ['hook', 'now'] }] });
    await deploy(gpuModel('hooked', { resources: { deviceMemory: '100MiB' } }));
    assert.match(await refusal('hooked'), /\/opt\/vendor\/hook hook now.*--disable-hook/);
    writeCdi();
  });

  it('are refused without a CDI file, with the command that writes one', async () => {
    fs.rmSync(cdiFile);
    await deploy(gpuModel('bare', { resources: { deviceMemory: '100MiB' } }));
    assert.match(await refusal('bare'), /nvidia-ctk cdi generate --output=\/etc\/cdi\/nvidia\.yaml/);
    writeCdi();
    assert.equal(await say('first'), 'all there', 'who runs already runs on');
  });
});
