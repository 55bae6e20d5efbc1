// Engines that run in container images: from files and from a registry, under runc and under gVisor; and images, registries and layers in wrong hands.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { model, scratch } from './lib/environment.js';
import { Registry, engineLayers, fakeLayer, makeImage, sha256, tar, writeLayout } from './lib/container_image.js';
import { chat, fakeModel, realModel, Server, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const has = (program) => fs.existsSync(`/usr/bin/${program}`) || fs.existsSync(`/usr/sbin/${program}`);
const tools = has('skopeo') && has('umoci');
const skip = tools ? false : 'skopeo and umoci are not installed (scripts/install-packages --run)';
const images = path.join(scratch, 'images');
const ociOf = (server) => path.join(server.dataDir, 'oci');
const layersOf = (server) => fs.readdirSync(path.join(ociOf(server), 'layers'));

/** A spec for the fake engine from an image: its entrypoint takes spec.args. */
function imageModel(name, image, { args = ['--host', '{host}', '--port', '{port}'], ...spec } = {}) {
  const { enginePath: _, ...rest } = fakeModel(name).spec;
  return { ...fakeModel(name), spec: { ...rest, engine: 'command', image, args, ...spec } };
}

/** The real engine, whose answers are known, from an image. */
function realInImage(name, image, spec = {}) {
  const { enginePath: _, ...rest } = fakeModel(name).spec;
  return { ...fakeModel(name), spec: { ...rest, image, args: ['-c', '512'], ...spec } };
}

const entrypoint = { Entrypoint: ['/bin/fake-engine'], WorkingDir: '/srv', Env: ['PATH=/bin', 'FROM_IMAGE=yes', 'HOME=/root'] };
const srv = tar([{ name: 'srv/', type: '5', mode: 0o755 }]); // its working directory
/** The fake engine's image with another file in it. */
const fakeImage = (mark = 'one') => makeImage([fakeLayer(), tar([{ name: 'srv/', type: '5', mode: 0o755 }, { name: 'srv/mark', body: mark }])], entrypoint);

const imageState = async (server, name) => (await server.modelInfo(name)).image;
const ready = (server, name) => until(`the image of ${name} is here`, async () => (await imageState(server, name)).state === 'ready');
const failed = (server, name) => until(`the image of ${name} is refused`, async () => (await imageState(server, name)).error);
const answers = async (server, name) => (await server.openai().completions.create({ model: name, prompt: 'Once', max_tokens: 2 })).choices.length === 1;
const pidOf = async (server, name) => (await server.instances()).find((one) => one.model === name).pid;

describe('an engine in a container image', { timeout: 240_000, skip }, () => {
  const server = useServer();
  const layout = path.join(images, 'engine');
  let image;

  before(() => {
    const [system, engine] = engineLayers();
    const extra = tar([
      { name: 'gone', body: 'old' },
      { name: 'replaced/', type: '5', mode: 0o755 },
      { name: 'replaced/old', body: 'old' },
      { name: 'root/', type: '5', mode: 0o700 },
      { name: 'root/secret', body: 'x', mode: 0o600 },
      { name: 'app/su', body: '#!', mode: 0o6755 },
      { name: 'dev/null', type: '3', mode: 0o666 },
      { name: 'etc/passwd', body: 'root:x:0:0::/root:/bin/sh\n' },
    ]);
    const top = tar([{ name: '.wh.gone' }, { name: 'replaced/.wh..wh..opq' }, { name: 'replaced/new', body: 'new' }]);
    image = makeImage([system, extra, engine, top], { Entrypoint: ['/app/llama-server'], WorkingDir: '/app' });
    writeLayout(layout, image);
  });

  for (const sandbox of ['runc', 'runsc']) {
    it(`answers under ${sandbox} as the same engine outside of one`, async () => {
      const name = `in-${sandbox}`;
      const answer = await server.deploy(realInImage(name, `oci:${layout}:v1`, { sandbox }));
      assert.equal(answer.spec.imageDigest, image.digest, 'what the tag means is settled at deploy');
      await ready(server, name);
      const inside = await server.openai().chat.completions.create(chat(name, 'Once upon a time', { max_tokens: 16, temperature: 0 }));
      await server.deploy(realModel(`out-${sandbox}`, { sandbox }));
      const outside = await server.openai().chat.completions.create(chat(`out-${sandbox}`, 'Once upon a time', { max_tokens: 16, temperature: 0 }));
      assert.equal(inside.choices[0].message.content, outside.choices[0].message.content);
    });
  }

  it('has the image as its root, read-only and without what makes root', async () => {
    const pid = await pidOf(server, 'in-runc');
    const root = `/proc/${pid}/root`;
    assert.equal(fs.readlinkSync(`/proc/${pid}/exe`), '/app/llama-server');
    assert.equal(fs.readlinkSync(`/proc/${pid}/cwd`), '/app');
    for (const hidden of ['/gone', '/replaced/old', '/usr/bin/env', '/etc/alternatives', '/thaw/libthaw_lazy_map.so/x']) assert.ok(!fs.existsSync(root + hidden), hidden);
    assert.equal(fs.readFileSync(`${root}/replaced/new`, 'utf8'), 'new');
    assert.equal(fs.readFileSync(`${root}/root/secret`, 'utf8'), 'x');
    assert.equal(fs.statSync(`${root}/root/secret`).mode & 0o777, 0o644, 'everybody reads it: there are no secrets in an image');
    assert.equal(fs.statSync(`${root}/app/su`).mode & 0o7000, 0, 'no setuid');
    assert.match(fs.readFileSync(`${root}/etc/passwd`, 'utf8'), /^engine:x:1000:/m);
    const mounts = fs.readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n').map((line) => line.split(' '));
    const flags = mounts.find((fields) => fields[4] === '/')[5].split(',');
    for (const flag of ['ro', 'nosuid', 'nodev']) assert.ok(flags.includes(flag), `${flag} of ${flags}`);
    const writable = mounts.filter((fields) => !fields[5].split(',').includes('ro')).map((fields) => fields[4]);
    for (const point of writable) assert.match(point, /^\/(proc|dev|tmp|thaw\/run)(\/|$)/, `${point} is writable`);
    assert.match(fs.readFileSync(`/proc/${pid}/status`, 'utf8'), /CapEff:\s*0+\n/);
    for (const entry of fs.readdirSync(path.join(ociOf(server), 'layers'))) assert.match(entry, /^[0-9a-f]{64}$/);
  });

  it('shares its layers: a second image brings only its own', async () => {
    const before = layersOf(server).length;
    const [system, engine] = engineLayers();
    const other = makeImage([system, engine, tar([{ name: 'own', body: 'x' }])], { Entrypoint: ['/app/llama-server'] });
    writeLayout(path.join(images, 'other'), other);
    await server.deploy(realInImage('shares', `oci:${path.join(images, 'other')}`));
    await ready(server, 'shares');
    assert.equal(layersOf(server).length, before + 1);
    assert.ok(await answers(server, 'shares'));
  });

  it('is shown with its digest, and its layers go when no model has it', async () => {
    const shown = (await server.cli(['ls', 'shares'])).stdout;
    assert.match(shown, /image\s+oci:/);
    assert.match(shown, /sha256:[0-9a-f]{64}/);
    assert.match((await server.cli(['container-images'])).stdout, /layers/);
    const layers = layersOf(server).length;
    await server.call('DELETE', '/admin/v1/models/shares');
    await until('it is gone', async () => !(await server.instances()).some((one) => one.model === 'shares'));
    assert.match((await server.cli(['container-images', 'gc', '--dry-run'])).stdout, /would free/);
    assert.equal(layersOf(server).length, layers);
    await until('its layer goes', async () => {
      await server.cli(['container-images', 'gc']);
      return layersOf(server).length === layers - 1;
    });
    assert.ok(await answers(server, 'in-runc'), 'what others have stays');
  });

  it('gives an entrypoint its arguments, variables and directory', async () => {
    const own = path.join(images, 'fake');
    writeLayout(own, fakeImage());
    await server.deploy(imageModel('entry', `oci:${own}:v1`));
    await ready(server, 'entry');
    assert.ok(await answers(server, 'entry'));
    const pid = await pidOf(server, 'entry');
    assert.equal(fs.readlinkSync(`/proc/${pid}/cwd`), '/srv');
    const environment = fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    for (const variable of ['FROM_IMAGE=yes', 'PATH=/bin', 'HOME=/tmp']) assert.ok(environment.includes(variable), `${variable} in ${environment}`);
    await server.deploy(imageModel('by-name', `oci:${own}:v1`, { command: ['fake-engine', '--host', '{socket}'], args: [] }));
    assert.ok(await answers(server, 'by-name'), 'a name is looked for in the PATH of the image');
  });

  it('stays what was deployed when its tag moves, until it is deployed again', async () => {
    const own = path.join(images, 'moves');
    writeLayout(own, fakeImage('first'));
    const first = (await server.deploy(imageModel('moves', `oci:${own}:v1`))).spec.imageDigest;
    await ready(server, 'moves');
    writeLayout(own, fakeImage('second'));
    assert.ok(await answers(server, 'moves'));
    assert.equal(fs.readFileSync(`/proc/${await pidOf(server, 'moves')}/root/srv/mark`, 'utf8'), 'first');
    const second = (await server.deploy(imageModel('moves', `oci:${own}:v1`))).spec.imageDigest;
    assert.notEqual(second, first);
    await ready(server, 'moves');
    await until('a replica of the new one', async () => {
      await answers(server, 'moves');
      return fs.readFileSync(`/proc/${await pidOf(server, 'moves')}/root/srv/mark`, 'utf8') === 'second';
    });
  });

  it('survives a kill -9 of the server: what is whole is there, what is not is gone', async () => {
    const own = path.join(images, 'killed');
    const big = tar([{ name: 'big', body: Buffer.alloc(64 << 20, 'x') }]);
    writeLayout(own, makeImage([fakeLayer(), srv, big], entrypoint));
    await server.deploy(imageModel('killed', `oci:${own}:v1`));
    const pinned = (await imageState(server, 'killed')).digest;
    await server.end('SIGKILL');
    await server.start();
    for (const layer of layersOf(server)) assert.ok(fs.existsSync(path.join(ociOf(server), 'layers', layer, 'layer.json')), layer);
    await ready(server, 'killed');
    assert.deepEqual(fs.readdirSync(path.join(ociOf(server), 'unpacking')), []);
    assert.equal((await imageState(server, 'killed')).digest, pinned);
    assert.ok(await answers(server, 'killed'));
    assert.deepEqual(fs.readdirSync(path.join(ociOf(server), 'work')), []);
  });

  it('refuses specs that cannot be, with the place', async () => {
    const refuse = async (spec, pattern, status = 400) => {
      const answer = await server.call('POST', '/admin/v1/models', spec);
      assert.equal(answer.status, status, answer.text);
      assert.match(answer.json.error.message, pattern);
    };
    await refuse(imageModel('x', 'alpine'), /spec\.image.*docker:\/\/registry/);
    await refuse(imageModel('x', `oci:${images}/fake:v1`, { args: [] }), /spec\.args.*\{port\}/);
    await refuse(imageModel('x', `oci:${images}/fake:v1`, { snapshot: { mode: 'always' } }), /spec\.snapshot/);
    await refuse(fakeModel('x', { imageDigest: `sha256:${'a'.repeat(64)}` }), /spec\.imageDigest/);
    await refuse(imageModel('x', `oci:${images}/nowhere`), /cannot fetch image.*no .*nowhere/, 404);
    await refuse(imageModel('x', `oci:${server.dataDir}`), /not for engines/, 403);
    await refuse(imageModel('x', 'oci:/etc'), /not for engines/, 403);
  });
});

describe('an image in wrong hands', { timeout: 240_000, skip }, () => {
  const server = useServer({ config: { node: { containerImages: { maxImage: '16MiB' } } } });
  const victim = path.join(scratch, 'victim');
  before(() => fs.mkdirSync(victim, { mode: 0o777 }));

  /** Deploys an image with this layer on top and says why it was refused. */
  async function refusal(name, layers, options) {
    const layout = path.join(images, name);
    writeLayout(layout, makeImage([fakeLayer(), ...layers], entrypoint, options));
    await server.deploy(imageModel(name, `oci:${layout}:v1`));
    const { message } = await failed(server, name);
    const answer = await server.call('POST', '/v1/completions', { model: name, prompt: 'x' });
    assert.equal(answer.status, 503);
    assert.equal(answer.json.error.code, 'image_not_fetched');
    return message;
  }

  it('cannot write outside of its layer', async () => {
    assert.match(await refusal('dots', [tar([{ name: '../../../victim/x', body: 'x' }])]), /leads out/);
    const links = tar([
      { name: 'way', type: '2', link: victim },
      { name: 'way/through-a-link', body: 'x' },
      { name: 'hard', type: '1', link: '../../../../../../etc/shadow' },
    ]);
    writeLayout(path.join(images, 'links'), makeImage([fakeLayer(), links], entrypoint));
    await server.deploy(imageModel('links', `oci:${images}/links:v1`));
    await until('it is here or refused', async () => ['ready', 'failed'].includes((await imageState(server, 'links')).state));
    assert.deepEqual(fs.readdirSync(victim), []);
  });

  it('cannot be more than it may', async () => {
    assert.match(await refusal('bomb', [tar([{ name: 'zeros', body: Buffer.alloc(48 << 20) }])]), /more than an image may have/);
    assert.match(await refusal('sparse', [tar([{ name: 'hole', type: 'S', size: 1 << 30 }])]), /sparse/);
    assert.match(await refusal('cut', [tar([{ name: 'short', body: 'x', size: 100_000 }]).subarray(0, 1024)]), /ends in the middle/);
  });

  it('cannot be another than its config says', async () => {
    assert.match(await refusal('lies', [tar([{ name: 'x', body: 'x' }])], { diffIds: [sha256(fakeLayer()), sha256('other')] }), /not what the image's config says/);
  });

  it('leaves nothing of what was refused', () => {
    assert.deepEqual(fs.readdirSync(path.join(ociOf(server), 'unpacking')), []);
    for (const layer of layersOf(server)) assert.ok(fs.existsSync(path.join(ociOf(server), 'layers', layer, 'layer.json')));
  });
});

describe('an image in a registry', { timeout: 240_000, skip }, () => {
  const registry = new Registry();
  let server;
  before(async () => {
    await registry.start();
    server = await new Server({ config: { node: { containerImages: { insecureRegistries: [registry.host] } } } }).start();
  });
  after(async () => {
    await server?.destroy();
    await registry.stop();
  });

  it('is fetched by its tag, and pinned', async () => {
    const image = fakeImage('registry');
    const name = registry.push('team/engine:v1', image);
    const answer = await server.deploy(imageModel('pinned', name));
    assert.equal(answer.spec.imageDigest, image.digest);
    await ready(server, 'pinned');
    assert.ok(await answers(server, 'pinned'));
    assert.ok(registry.requests.some((line) => line.endsWith(`/manifests/${image.digest}`)), 'by its digest from there on');
    registry.push('team/engine:v1', fakeImage('moved'));
    registry.push('team/engine:old', image);
    await server.deploy(imageModel('by-digest', `docker://${registry.host}/team/engine@${image.digest}`));
    await ready(server, 'by-digest');
    assert.ok(await answers(server, 'by-digest'));
  });

  it('is of this machine, where an index has several', async () => {
    const image = fakeImage('amd64');
    registry.push('multi:inner', image);
    const architecture = { x64: 'amd64' }[process.arch] ?? process.arch;
    const entry = (digest, arch) => ({ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size: image.manifest.length, platform: { os: 'linux', architecture: arch } });
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [entry(sha256('x'), 's390x'), entry(image.digest, architecture)] }));
    const name = registry.push('multi:v1', { manifest: index, digest: sha256(index), blobs: new Map() });
    const answer = await server.deploy(imageModel('multi', name));
    assert.equal(answer.spec.imageDigest, sha256(index), 'the index is what is pinned');
    await ready(server, 'multi');
    assert.ok(await answers(server, 'multi'));
  });

  it('goes on after a cut with what had come whole', async () => {
    const big = tar([{ name: 'big', body: Buffer.from(Array.from({ length: 1 << 20 }, () => Math.floor(Math.random() * 256))) }]);
    const image = makeImage([fakeLayer(), srv, big], entrypoint);
    const digest = image.layers[2].digest;
    let cuts = 0;
    registry.behave = (request, response, found) => {
      if (found?.digest !== digest || request.method !== 'GET' || ++cuts > 1) return false;
      response.writeHead(200, { 'content-length': found.bytes.length });
      response.write(found.bytes.subarray(0, found.bytes.length / 2), () => response.destroy());
      return true;
    };
    await server.deploy(imageModel('cut', registry.push('cut:v1', image)));
    await ready(server, 'cut');
    assert.ok(cuts >= 2);
    registry.behave = () => false;
    assert.ok(await answers(server, 'cut'));
  });

  it('is refused when the registry lies about a layer, and nothing of it is kept', async () => {
    const image = makeImage([fakeLayer(), tar([{ name: 'lie', body: 'truth' }])], entrypoint);
    const lie = makeImage([tar([{ name: 'lie', body: 'false' }])]).blobs;
    registry.behave = (request, response, found) => {
      if (found?.digest !== image.layers[1].digest) return false;
      response.writeHead(200).end([...lie.values()].find((bytes) => bytes[0] === 0x1f));
      return true;
    };
    const layers = layersOf(server).length;
    await server.deploy(imageModel('lied', registry.push('lied:v1', image)));
    assert.match((await failed(server, 'lied')).message, /cannot fetch image/);
    registry.behave = () => false;
    assert.equal(layersOf(server).length, layers);
  });

  it('is refused at deploy for a manifest that is none, or is not there', async () => {
    for (const [name, bytes, pattern] of [
      ['bad', Buffer.from('{"schemaVersion":2,"config":{},"layers":[]}'), /manifest is wrong|cannot (fetch|use) image/],
      ['none', Buffer.from('<html>'), /cannot (fetch|use) image/],
    ]) {
      const image = { manifest: bytes, digest: sha256(bytes), blobs: new Map() };
      registry.images.set(`${name}:v1`, image);
      registry.behave = (request, response) => {
        if (!request.url.includes('/manifests/')) return false;
        response.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' }).end(bytes);
        return true;
      };
      const answer = await server.call('POST', '/admin/v1/models', imageModel(name, `docker://${registry.host}/${name}:v1`));
      assert.ok(answer.status >= 400 && answer.status < 600, `${answer.status}`);
      assert.match(answer.json.error.message, pattern);
      registry.behave = () => false;
    }
    const missing = await server.call('POST', '/admin/v1/models', imageModel('missing', `docker://${registry.host}/missing:v1`));
    assert.equal(missing.status, 404, missing.text);
  });

  it('sends nobody to where the server should not go', async () => {
    // This machine, when it is not listed.
    const other = await new Registry().start();
    try {
      other.push('x:v1', fakeImage());
      const own = await server.call('POST', '/admin/v1/models', imageModel('own', `docker://${other.host}/x:v1`));
      assert.equal(own.status, 403, own.text);
      assert.match(own.json.error.message, /privateRegistries/);
      // Private and link-local addresses.
      for (const host of ['10.255.255.1:5000', '169.254.169.254']) {
        const refused = await server.call('POST', '/admin/v1/models', imageModel('private', `docker://${host}/x:v1`));
        assert.equal(refused.status, 403, `${host}: ${refused.text}`);
        assert.match(refused.json.error.message, /privateRegistries/);
      }
      // A registry that is allowed sends a blob's reader elsewhere.
      const image = makeImage([fakeLayer(), tar([{ name: 'elsewhere', body: 'x' }])], entrypoint);
      for (const [index, target] of ['http://169.254.169.254/latest/meta-data', `http://${other.host}/v2/x/blobs/x`, 'http://10.255.255.1/x'].entries()) {
        registry.behave = (request, response, found) => {
          if (found?.digest !== image.layers[1].digest) return false;
          response.writeHead(307, { location: target }).end();
          return true;
        };
        const name = `elsewhere${index}`;
        await server.deploy(imageModel(name, registry.push(`${name}:v1`, image)));
        assert.match((await failed(server, name)).message, /cannot fetch image/);
      }
      // The same by the address at which it asks for a token.
      registry.behave = (request, response) => {
        response.writeHead(401, { 'www-authenticate': `Bearer realm="http://169.254.169.254/token",service="x"` }).end();
        return true;
      };
      const token = await server.call('POST', '/admin/v1/models', imageModel('token', `docker://${registry.host}/team/engine:v1`));
      assert.equal(token.status, 403, token.text);
      assert.deepEqual(other.requests, [], 'nobody came');
    } finally {
      registry.behave = () => false;
      await other.stop();
    }
  });
});

describe('credentials and signatures of images', { timeout: 120_000, skip }, () => {
  const registry = new Registry();
  const authFile = path.join(scratch, 'registries.json');
  const policy = path.join(scratch, 'policy.json');
  const servers = [];
  before(async () => {
    await registry.start();
    registry.push('x:v1', fakeImage('secret'));
    registry.behave = (request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from('me:pass').toString('base64')}`) return false;
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}');
      return true;
    };
  });
  after(async () => {
    for (const server of servers) await server.destroy();
    await registry.stop();
  });
  const start = async (containerImages) => {
    const server = await new Server({ config: { node: { containerImages: { insecureRegistries: [registry.host], ...containerImages } } } }).start();
    servers.push(server);
    return server;
  };

  it('a registry that asks for credentials gets those of the file, and no others', async () => {
    const without = await start({});
    const refused = await without.call('POST', '/admin/v1/models', imageModel('x', `docker://${registry.host}/x:v1`));
    assert.equal(refused.status, 403, refused.text);
    assert.match(refused.json.error.message, /authFile/);
    fs.writeFileSync(authFile, JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from('me:pass').toString('base64') } } }), { mode: 0o600 });
    const server = await start({ authFile });
    await server.deploy(imageModel('x', `docker://${registry.host}/x:v1`));
    await ready(server, 'x');
    assert.ok(await answers(server, 'x'));
    const kept = spawnSync('grep', ['-r', '-l', '-e', 'me:pass', '-e', Buffer.from('me:pass').toString('base64'), server.dataDir], { encoding: 'utf8' });
    assert.equal(kept.stdout, '', 'no copy stays');
  });

  it('an image that the policy does not let in is refused with the remedy', async () => {
    fs.writeFileSync(policy, JSON.stringify({ default: [{ type: 'reject' }] }), { mode: 0o644 });
    const server = await start({ authFile, policy });
    await server.deploy(imageModel('unsigned', `docker://${registry.host}/x:v1`));
    assert.match((await failed(server, 'unsigned')).message, /signature policy refuses it.*node\.containerImages\.policy/);
    assert.equal((await server.call('POST', '/v1/completions', { model: 'unsigned', prompt: 'x' })).status, 503);
  });
});
