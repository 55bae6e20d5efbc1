// Models whose files are pulled: from an URL and from a hub, cut in the middle, by whoever may not, onto a disk that is full.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { madeWeights, model, realEngine, scratch } from './lib/environment.js';
import { FileHost, sha256 } from './lib/file_host.js';
import { Server } from './lib/server.js';
import { callAs, makeKey } from './lib/tenants.js';
import { until } from './lib/until.js';

const small = fs.readFileSync(model);
const digest = sha256(small);

/** A server that may ask hosts of this machine, and that has `host` for its hub. */
function serverFor(host, { sources = {}, env = {} } = {}) {
  const server = new Server({ config: { engines: { 'llama.cpp': realEngine() }, sources: { http: true, hosts: ['127.0.0.1'], ...sources } } });
  Object.assign(server.environment, { HF_ENDPOINT: host.url, HF_TOKEN: 'hf_secret', ...env });
  return server;
}

const ask = (server, name) => server.openai().completions.create({ model: name, prompt: 'Once', max_tokens: 4, temperature: 0 });
const storeOf = (server) => path.join(server.dataDir, 'store');
const listed = (directory) => (fs.existsSync(directory) ? fs.readdirSync(directory) : []);

describe('pulls', { timeout: 300_000 }, () => {
  let host;
  let server;
  before(async () => {
    host = await new FileHost().listen();
    host.files.set('/models/stories.gguf', small);
    host.repos.set('org/tiny', new Map([['README.md', Buffer.from('x')], ['tiny-F16.gguf', Buffer.alloc(2000)], ['tiny-Q4_K_M.gguf', small]]));
    server = serverFor(host);
    await server.start();
  });
  after(async () => {
    await server.destroy();
    host.close();
  });

  it('thaw deploy --url fetches the file, checks it and serves it', async () => {
    const { code, stdout, stderr } = await server.cli(['deploy', '--url', `${host.url}/models/stories.gguf`, '--sha256', digest, '--context', '512']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^deployed stories: .* of weights, .* on cpu a replica$/m);
    assert.match(stderr, /\/models\/stories\.gguf: /);
    assert.ok((await ask(server, 'stories')).choices[0].text.length > 0);
    assert.deepEqual(listed(path.join(storeOf(server), 'blobs/sha256')), [digest]);
    assert.deepEqual(listed(path.join(storeOf(server), 'tmp')), []);
    const info = await server.modelInfo('stories');
    assert.equal(info.source, `${host.url}/models/stories.gguf`);
    assert.ok(info.spec.source.pulledTo.endsWith('/stories.gguf'));
  });

  it('thaw deploy --hf finds the quantisation at the hub, and fetches no bytes that are there', async () => {
    const before = host.sentBytes;
    const { code, stdout, stderr } = await server.cli(['deploy', 'tiny', '--hf', 'org/tiny:Q4_K_M', '--context', '512', '--json']);
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).source, 'hf:org/tiny:Q4_K_M');
    assert.ok((await ask(server, 'tiny')).choices[0].text.length > 0);
    assert.equal(host.sentBytes, before, 'it is the very file that the URL had');
    assert.equal(host.requests.find((one) => one.path.startsWith('/api/')).authorization, 'Bearer hf_secret');
    assert.equal(host.requests.find((one) => one.path === '/models/stories.gguf').authorization, undefined, 'the token is the hub\'s');
  });

  it('thaw pull fetches what is not deployed; thaw models lists, gc takes away', async () => {
    const pulled = await server.cli(['pull', 'hf:org/tiny:F16']);
    assert.equal(pulled.code, 0, pulled.stderr);
    assert.match(pulled.stdout, /^pulled hf:org\/tiny:F16: \S+ in /m);
    assert.match((await server.cli(['models'])).stdout, /^hf:org\/tiny:F16 +there/m);
    assert.match((await server.cli(['models', 'gc', '--dry-run'])).stdout, /^would remove hf:org\/tiny:F16/m);
    const gone = await server.cli(['models', 'gc']);
    assert.match(gone.stdout, /^removed hf:org\/tiny:F16/m);
    assert.doesNotMatch((await server.cli(['models'])).stdout, /F16/);
    assert.deepEqual(listed(path.join(storeOf(server), 'blobs/sha256')), [digest]);
    assert.ok((await ask(server, 'tiny')).choices[0].text.length > 0, 'what models have stays');
  });

  it('says what is wrong, and where', async () => {
    const of = async (...args) => {
      const { code, stderr } = await server.cli(args);
      assert.notEqual(code, 0);
      return stderr;
    };
    assert.match(await of('pull', `${host.url}/none.gguf`), /the server has no such file \(HTTP 404\)/);
    assert.match(await of('pull', 'hf:org/none'), /the hub has no org\/none at main/);
    assert.match(await of('pull', 'hf:org/tiny:Q8_0'), /has no GGUF file of Q8_0; it has tiny-F16\.gguf, tiny-Q4_K_M\.gguf/);
    assert.match(await of('pull', `${host.url}/models/stories.gguf`, '--sha256', '0'.repeat(64)), /has SHA-256 [0-9a-f]{64}, and 0{64} was expected/);
    assert.match(await of('pull', 'nobody'), /there is no model "nobody"/);
    assert.match(await of('deploy', '--hf', 'tiny'), /names no repository of a hub/);
    const wrong = await server.cli(['deploy', 'broken', '--url', `${host.url}/none.gguf`]);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /broken is deployed, and cannot serve yet: .*HTTP 404/);
    assert.match((await server.cli(['ls'])).stdout, /^broken +not pulled/m);
    await assert.rejects(ask(server, 'broken'), (error) => error.status === 503 && error.code === 'model_not_pulled');
    host.files.set('/none.gguf', small);
    assert.equal((await server.cli(['pull', 'broken'])).code, 0, 'once it is mended');
    await until('it serves', async () => (await server.modelInfo('broken')).state === 'asleep');
    assert.equal((await server.cli(['rm', 'broken'])).code, 0);
  });

  it('counts and records what was pulled', async () => {
    const metrics = await server.metrics();
    assert.match(metrics, /^thaw_pulls_total\{result="ok"\} [1-9]/m);
    assert.match(metrics, /^thaw_pulls_total\{result="not_found"\} [1-9]/m);
    assert.match(metrics, /^thaw_pull_bytes_total [1-9]/m);
    const { stdout } = await server.cli(['audit', 'tail', '--data-dir', server.dataDir]);
    assert.match(stdout, /pull\.start/);
    assert.match(stdout, /store\.gc/);
  });
});

describe('pulls that are cut', { timeout: 300_000 }, () => {
  let host;
  let server;
  let file;
  let bytes;
  before(async () => {
    file = madeWeights('pulled.gguf', '24MB', 11);
    bytes = fs.readFileSync(file);
    host = await new FileHost().listen();
    host.files.set('/big.gguf', bytes);
    server = serverFor(host);
    await server.start();
  });
  after(async () => {
    await server.destroy();
    host.close();
    fs.rmSync(file, { force: true });
  });
  const journal = () => {
    const name = listed(path.join(storeOf(server), 'tmp')).find((one) => one.endsWith('.json'));
    return name && JSON.parse(fs.readFileSync(path.join(storeOf(server), 'tmp', name), 'utf8'));
  };
  const durable = () => (journal()?.ranges ?? []).reduce((sum, [begin, end]) => sum + end - begin, 0);

  it('a model says how far it is, and refuses requests with the time it may take', async () => {
    host.holdAfter = 8 << 20;
    const { code, stdout } = await server.cli(['deploy', 'big', '--url', `${host.url}/big.gguf`, '--detach', '--context', '128']);
    assert.equal(code, 0);
    assert.match(stdout, /^pulling big/);
    await until('a third is there', async () => (await server.modelInfo('big')).pull?.percent >= 25);
    assert.match((await server.cli(['ls'])).stdout, /^big +pulling \d+%/m);
    await assert.rejects(ask(server, 'big'), (error) => {
      assert.equal(error.status, 503);
      assert.equal(error.code, 'model_pulling');
      assert.match(error.message, /\d+% of 2[0-9.]+MiB/);
      assert.ok(Number(error.headers['retry-after']) >= 1);
      return true;
    });
  });

  it('and refuses them by an alias as by its own name, of which a key for other models learns nothing', async () => {
    const spec = { apiVersion: 'thaw/v1', kind: 'Model', metadata: { name: 'big' }, spec: { source: { url: `${host.url}/big.gguf` }, args: ['-c', '128'], aliases: ['gpt-4o'] } };
    assert.equal((await server.call('POST', '/admin/v1/models', spec)).status, 202);
    await assert.rejects(ask(server, 'gpt-4o'), (error) => {
      assert.equal(error.status, 503);
      assert.equal(error.code, 'model_pulling');
      assert.match(error.message, /the files of model "big" are being pulled/);
      assert.ok(Number(error.headers['retry-after']) >= 1);
      return true;
    });
    const { key } = await makeKey(server, '', { role: 'inference', models: ['other'] });
    const refused = await callAs(server, key, 'POST', '/v1/completions', { model: 'gpt-4o', prompt: 'x' });
    assert.equal(refused.json.error.code, 'model_not_found', refused.text);
  });

  it('goes on after kill -9 with what was durable, and serves then', async () => {
    await until('some of it is durable', () => durable() >= 4 << 20);
    await server.end('SIGKILL');
    const had = journal().ranges;
    const before = host.sentBytes;
    host.requests.length = 0;
    host.go();
    assert.deepEqual(listed(path.join(storeOf(server), 'blobs/sha256')), [], 'nothing has a final name');
    await server.start();
    await until('it serves', async () => (await server.modelInfo('big')).state === 'asleep');
    for (const { range } of host.requests.filter((one) => one.range))
      for (const [begin, end] of had) assert.ok(range[1] <= begin || range[0] >= end, `${range} was durable: ${begin}-${end}`);
    const kept = had.reduce((sum, [begin, end]) => sum + end - begin, 0);
    assert.ok(host.sentBytes - before <= bytes.length - kept + (1 << 20), `${host.sentBytes - before} of ${bytes.length} came again, ${kept} were there`);
    assert.deepEqual(listed(path.join(storeOf(server), 'blobs/sha256')), [sha256(bytes)]);
    assert.ok((await ask(server, 'big')).choices[0].text.length > 0);
    assert.equal((await server.cli(['rm', 'big'])).code, 0);
    assert.equal((await server.cli(['models', 'gc'])).code, 0);
  });

  it('Ctrl-C stops a pull, and the next one goes on from there', async () => {
    host.sentBytes = 0;
    host.holdAfter = 8 << 20;
    const child = server.spawn(['pull', `${host.url}/big.gguf`]);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    const exited = new Promise((resolve) => child.once('close', resolve));
    await until('some of it came', async () => (await server.call('GET', '/admin/v1/pulls')).json.pulls.some((one) => one.state === 'pulling' && one.done_bytes > 2 << 20));
    child.kill('SIGINT');
    assert.equal(await exited, 130);
    assert.match(stderr, /stopped at .*; `thaw pull .*` goes on from there/);
    await until('it stopped', async () => (await server.call('GET', '/admin/v1/pulls')).json.pulls.every((one) => one.state !== 'pulling'));
    const kept = await until('what came is written down', () => durable());
    assert.ok(kept > 2 << 20);
    host.go();
    const before = host.sentBytes;
    const again = await server.cli(['pull', `${host.url}/big.gguf`, '--json']);
    assert.equal(again.code, 0, again.stderr);
    assert.equal(JSON.parse(again.stdout).fetched_bytes, bytes.length - kept);
    assert.ok(host.sentBytes - before <= bytes.length - kept + (1 << 20));
  });
});

describe('pulls that are not allowed', { timeout: 120_000 }, () => {
  let plain;
  let secure;
  let server;
  before(async () => {
    const directory = fs.mkdtempSync(path.join(scratch, 'tls-'));
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(directory, name));
    execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost',
      '-keyout', key, '-out', cert], { stdio: 'ignore' });
    plain = await new FileHost().listen();
    secure = await new FileHost({ tls: { key: fs.readFileSync(key), cert: fs.readFileSync(cert) } }).listen();
    for (const host of [plain, secure]) host.files.set('/m.gguf', small);
    server = new Server({ config: { sources: { hosts: ['localhost'], caFile: cert } } });
    await server.start();
  });
  after(async () => {
    await server.destroy();
    plain.close();
    secure.close();
  });
  const pull = (url) => server.cli(['pull', url]);

  it('http, private addresses and https that leads to http are refused', async () => {
    const local = secure.url.replace('127.0.0.1', 'localhost');
    assert.match((await pull(`${plain.url}/m.gguf`)).stderr, /http:\/\/127\.0\.0\.1 is not asked: .*sources\.http: true/);
    assert.match((await pull(`${secure.url}/m.gguf`)).stderr, /127\.0\.0\.1, an address of a private network, .*sources\.hosts: \[127\.0\.0\.1\]/);
    secure.answer = (request, response) => request.url === '/down.gguf' && response.writeHead(302, { location: `${plain.url}/m.gguf` }).end();
    assert.match((await pull(`${local}/down.gguf`)).stderr, /sends from https to http:\/\/127\.0\.0\.1, which is not followed/);
    secure.answer = (request, response) => request.url === '/in.gguf' && response.writeHead(302, { location: `${secure.url}/m.gguf` }).end();
    assert.match((await pull(`${local}/in.gguf`)).stderr, /127\.0\.0\.1, an address of a private network/);
    assert.equal(plain.requests.length, 0);
    const good = await pull(`${local}/m.gguf`);
    assert.equal(good.code, 0, good.stderr);
  });
});

describe('pulls onto a full disk', { timeout: 120_000 }, () => {
  const mount = path.join(scratch, 'little-disk');
  let host;
  let server;
  before(async () => {
    fs.mkdirSync(mount);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100m,mode=755', 'thaw-e2e-pulls', mount]);
    host = await new FileHost().listen();
    host.files.set('/m.gguf', small);
    host.files.set('/large.gguf', Buffer.alloc(60 << 20));
    server = serverFor(host);
    server.dataDir = path.join(mount, 'data');
    const { labelOf } = await import('./lib/traces.js');
    fs.mkdirSync(server.dataDir);
    server.label = labelOf(server.dataDir);
    await server.start();
  });
  after(async () => {
    await server.destroy();
    host.close();
    execFileSync('umount', ['-l', mount]);
  });

  it('refuses what cannot fit before it begins, and says what to do', async () => {
    const { code, stderr } = await server.cli(['pull', `${host.url}/large.gguf`]);
    assert.equal(code, 1);
    assert.match(stderr, /60MiB more are needed, and the disk of .* has room for .*; free some \(`thaw models gc`\)/);
    assert.ok(host.sentBytes <= 16 << 20);
  });

  it('a disk that fills up meanwhile ends the pull and nothing else', async () => {
    const rest = Buffer.alloc(1 << 20);
    let resume;
    const filled = new Promise((resolve) => (resume = resolve));
    host.answer = (request, response) => {
      if (request.url !== '/grows.gguf') return false;
      response.writeHead(200).write(rest); // of unknown length
      filled.then(() => response.end(Buffer.concat(Array(5).fill(rest))));
      return true;
    };
    const pulling = server.cli(['pull', `${host.url}/grows.gguf`]);
    await until('it began', async () => (await server.call('GET', '/admin/v1/pulls')).json.pulls.some((one) => one.done_bytes >= rest.length && one.state === 'pulling'));
    const filler = path.join(mount, 'filler');
    assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(110 << 20)), { code: 'ENOSPC' });
    resume();
    const { code, stderr } = await pulling;
    fs.rmSync(filler);
    assert.equal(code, 1);
    assert.match(stderr, /the disk is full: /);
    const good = await server.cli(['pull', `${host.url}/m.gguf`]);
    assert.equal(good.code, 0, good.stderr);
  });
});
