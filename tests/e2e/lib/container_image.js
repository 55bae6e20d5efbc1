// Container images made by hand, layer by layer, so that a test can make what no tool makes; and a registry that serves them, and lies when it is told to.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import zlib from 'node:zlib';

import { fakeEngine, realEngine } from './environment.js';

export const sha256 = (bytes) => `sha256:${crypto.createHash('sha256').update(bytes).digest('hex')}`;
const hex = (digest) => digest.split(':')[1];

/** A tar file of entries {name, body, type, link, mode, size}. `size`: said in the header, whatever the body is. */
export function tar(entries) {
  const blocks = [];
  for (const { name, body = '', type = '0', link = '', mode = 0o644, size } of entries) {
    const bytes = Buffer.from(body);
    const header = Buffer.alloc(512);
    const octal = (value, at, length) => header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
    header.write(name, 0, 100, 'latin1');
    octal(mode, 100, 8);
    octal(0, 108, 8);
    octal(0, 116, 8);
    octal(size ?? bytes.length, 124, 12);
    octal(0, 136, 12);
    header.fill(' ', 148, 156);
    header.write(type, 156, 'latin1');
    header.write(link, 157, 100, 'latin1');
    header.write('ustar\u000000', 257, 'latin1');
    header.write(`${[...header].reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    blocks.push(header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** An entry for a file of this machine, and for the directories above it. */
export function fileEntry(from, to = from, mode = 0o755) {
  return { name: to.replace(/^\//, ''), body: fs.readFileSync(from), mode };
}

/** The libraries that a program of this machine needs, where it looks for them. */
function librariesOf(program) {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1]);
}

/** The real engine as images have it: /app with its own libraries, and the system's. Two layers: [system, engine]. */
export function engineLayers() {
  const engine = realEngine();
  const directory = path.dirname(engine);
  const own = fs.readdirSync(directory).filter((name) => name === 'llama-server' || name.endsWith('.so'));
  const system = new Set();
  for (const name of own) for (const library of librariesOf(path.join(directory, name))) if (!library.startsWith(directory)) system.add(library);
  return [tar([...system].map((library) => fileEntry(library))), tar(own.map((name) => fileEntry(path.join(directory, name), `/app/${name}`)))];
}

/** The engine that does as it is told, which is static and needs nothing else. */
export const fakeLayer = () => tar([fileEntry(fakeEngine, '/bin/fake-engine')]);

/**
 * A program of this machine with the libraries that it needs, in a root as distributions have it now: all below /usr, and /lib and /lib64 are links.
 * `links`: instead of or beside these, {name: target}.
 */
export function programLayer(program, to, links = {}) {
  const below = { lib: 'usr/lib', lib64: 'usr/lib64', ...links };
  const files = librariesOf(program).map((library) => fileEntry(library, library.startsWith('/usr/') ? library : `/usr${library}`));
  return tar([...Object.entries(below).map(([name, link]) => ({ name, type: '2', link })), ...files, fileEntry(program, to)]);
}

/** {blobs: Map, manifest, digest, config} of an image with these layers (tar files). `lies`: what is put into config or manifest instead. */
export function makeImage(layers, config = {}, { diffIds, layerMediaType = 'application/vnd.oci.image.layer.v1.tar+gzip', gzip = true } = {}) {
  const blobs = new Map();
  const put = (bytes) => {
    const digest = sha256(bytes);
    blobs.set(digest, bytes);
    return { digest, size: bytes.length };
  };
  const architecture = { x64: 'amd64' }[process.arch] ?? process.arch;
  const configBytes = Buffer.from(JSON.stringify({ architecture, os: 'linux', config, rootfs: { type: 'layers', diff_ids: diffIds ?? layers.map(sha256) } }));
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...put(configBytes) },
      layers: layers.map((layer) => ({ mediaType: layerMediaType, ...put(gzip ? zlib.gzipSync(layer, { level: 1 }) : layer) })),
    }),
  );
  return { blobs, manifest, ...put(manifest), layers: JSON.parse(manifest).layers };
}

/** Writes it as an OCI layout. */
export function writeLayout(directory, image, tag = 'v1') {
  fs.rmSync(directory, { recursive: true, force: true });
  fs.mkdirSync(path.join(directory, 'blobs/sha256'), { recursive: true, mode: 0o755 });
  for (const [digest, bytes] of image.blobs) fs.writeFileSync(path.join(directory, 'blobs/sha256', hex(digest)), bytes);
  fs.writeFileSync(path.join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: image.digest, size: image.manifest.length, annotations: { 'org.opencontainers.image.ref.name': tag } };
  fs.writeFileSync(path.join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
}

/**
 * The part of the registry's API (OCI distribution-spec, "pull") that skopeo speaks. `images`: {"name:tag": image}. `behave(request, blob)` may answer by
 * itself, and returns true then.
 */
export class Registry {
  images = new Map();
  requests = [];
  behave = () => false;

  async start() {
    this.server = http.createServer((request, response) => this.#answer(request, response));
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.host = `127.0.0.1:${this.server.address().port}`;
    return this;
  }

  stop() {
    this.server.closeAllConnections?.();
    return new Promise((resolve) => this.server.close(resolve));
  }

  push(name, image) {
    this.images.set(name, image);
    return `docker://${this.host}/${name}`;
  }

  #answer(request, response) {
    this.requests.push(`${request.method} ${request.url}`);
    const found = this.#find(request.url);
    if (this.behave(request, response, found)) return;
    if (request.url === '/v2/') return void response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    if (!found) return void response.writeHead(404, { 'content-type': 'application/json' }).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
    response.writeHead(200, { 'content-type': found.type, 'content-length': found.bytes.length, 'docker-content-digest': found.digest });
    response.end(request.method === 'HEAD' ? undefined : found.bytes);
  }

  #find(url) {
    const [, name, kind, reference] = url.match(/^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/) ?? [];
    for (const [key, image] of this.images) {
      if (key.split(':')[0] !== name) continue;
      if (kind === 'manifests' && (key === `${name}:${reference}` || image.digest === reference))
        return { kind, digest: image.digest, bytes: image.manifest, type: `${image.manifest}`.match(/"mediaType":"([^"]+)"/)?.[1] ?? 'application/json' };
      if (kind === 'blobs' && image.blobs.has(reference)) return { kind, digest: reference, bytes: image.blobs.get(reference), type: 'application/octet-stream' };
    }
    return undefined;
  }
}
