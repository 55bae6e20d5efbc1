// The edge of the network: TLS and its renewal, clients' certificates, slow clients, requests that two parties could read differently, bodies made to hurt,
// pages of other origins, and what is left of a request in logs and files.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { after, before, describe, it } from 'node:test';

import { scratch } from './lib/environment.js';
import { bodyOf, rawHttp } from './lib/raw_http.js';
import { Server, chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const pki = path.join(scratch, 'pki');
const pem = (name) => path.join(pki, name);

/** A CA and what it signs, for 127.0.0.1. */
function makeCa(name) {
  fs.mkdirSync(pki, { recursive: true });
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', `/CN=${name}`, '-keyout', pem(`${name}.key`), '-out', pem(`${name}.crt`));
}
function makeCertificate(ca, name) {
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/O=Example/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', pem(`${name}.key`), '-out', pem(`${name}.csr`));
  fs.writeFileSync(pem(`${name}.ext`), 'subjectAltName=IP:127.0.0.1\n');
  openssl('x509', '-req', '-in', pem(`${name}.csr`), '-CA', pem(`${ca}.crt`), '-CAkey', pem(`${ca}.key`), '-CAcreateserial', '-days', '30', '-extfile', pem(`${name}.ext`), '-out', pem(`${name}.crt`));
}
const read = (name) => fs.readFileSync(pem(name));
const tlsPort = (server) => Number(server.log.match(/TLS on 127\.0\.0\.1:(\d+)/)[1]);

/** Puts a pair in the place of the server's, as certbot and Kubernetes do: a new file, renamed. */
function install(name) {
  for (const end of ['key', 'crt']) {
    fs.copyFileSync(pem(`${name}.${end}`), pem(`new.${end}`));
    fs.renameSync(pem(`new.${end}`), pem(`server.${end}`));
  }
}

/** One request over TLS: {status, text, subject of the server's certificate, protocol}; rejects when there is no connection. */
function ask(server, { method = 'GET', url = '/healthz', body, headers = {}, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port: tlsPort(server), method, path: url, ca: read('ca.crt'), agent: false, headers, ...options }, (response) => {
      let text = '';
      const { socket } = response;
      const subject = socket.getPeerCertificate().subject.CN;
      const protocol = socket.getProtocol();
      response.on('data', (data) => (text += data));
      response.on('end', () => resolve({ status: response.statusCode, text, subject, protocol }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

before(() => {
  makeCa('ca');
  makeCa('other-ca');
  for (const name of ['first', 'second', 'client']) makeCertificate('ca', name);
  makeCertificate('other-ca', 'stranger');
  install('first');
});

describe('TLS', { timeout: 180_000 }, () => {
  const server = new Server({ config: { tls: { listen: '127.0.0.1:0', cert: pem('server.crt'), key: pem('server.key') }, gateway: { headerTimeout: '2s' } } });
  before(() => server.start());
  after(() => server.destroy());
  const authorization = () => ({ authorization: `Bearer ${server.key}` });

  it('serves the same API: small, large, streamed, kept alive', async () => {
    await server.deploy(fakeModel('fake'));
    for (const version of ['TLSv1.2', 'TLSv1.3']) {
      const answer = await ask(server, { minVersion: version, maxVersion: version });
      assert.deepEqual([answer.status, answer.subject, answer.protocol], [200, 'first', version]);
    }
    assert.equal((await ask(server, { url: '/v1/models' })).status, 401);
    const json = await ask(server, { method: 'POST', url: '/v1/chat/completions', headers: authorization(), body: JSON.stringify(chat('fake', 'over TLS', { max_tokens: 2 })) });
    assert.equal(JSON.parse(json.text).choices[0].message.content, ' over TLS');
    const prompt = 'word '.repeat(400_000); // 2 MB there
    const large = await ask(server, { method: 'POST', url: '/v1/chat/completions', headers: authorization(), body: JSON.stringify(chat('fake', `fake:tokens=20000 ${prompt}`, { stream: true })) });
    assert.equal(large.status, 200);
    assert.ok(large.text.endsWith('data: [DONE]\n\n'), large.text.slice(-200)); // and many records back
    assert.equal(large.text.match(/"content":/g).length >= 20_000, true);
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 3; ++i) assert.equal((await ask(server, { agent })).status, 200);
    agent.destroy();
  });

  it('speaks HTTP/1.1 only, TLS 1.2 at the least, and no renegotiation', async () => {
    const connect = (options) =>
      new Promise((resolve) => {
        const socket = tls.connect({ host: '127.0.0.1', port: tlsPort(server), ca: read('ca.crt'), ...options }, () => resolve(socket));
        socket.on('error', resolve);
      });
    const spoken = await connect({ ALPNProtocols: ['h2', 'http/1.1'] });
    assert.equal(spoken.alpnProtocol, 'http/1.1');
    spoken.destroy();
    assert.match((await connect({ ALPNProtocols: ['h2'] })).message, /no application protocol|alert/i);
    assert.ok((await connect({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' })) instanceof Error);
    const old = await connect({ maxVersion: 'TLSv1.2' });
    const refused = await new Promise((resolve) => {
      old.on('error', resolve);
      old.on('close', () => resolve(new Error('closed')));
      old.renegotiate({}, (error) => resolve(error));
    });
    assert.ok(refused instanceof Error);
    old.destroy();
    assert.equal((await ask(server)).status, 200);
  });

  it('what speaks no TLS, or nothing, is let go', async () => {
    const port = tlsPort(server);
    const closed = (bytes) =>
      new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1', () => bytes && socket.write(bytes));
        socket.on('error', () => resolve(true)).on('close', () => resolve(true)).resume();
      });
    assert.ok(await closed('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
    assert.ok(await closed('')); // after headerTimeout
    assert.ok(await closed(Buffer.from([0x16, 3, 1, 0xff, 0xff, 1])));
    assert.equal((await ask(server)).status, 200);
  });

  it('takes a new certificate when the files change, and keeps the old one while they are no pair', async () => {
    fs.copyFileSync(pem('second.crt'), pem('new.crt'));
    fs.renameSync(pem('new.crt'), pem('server.crt')); // the key is not there yet
    await until('the wrong pair was seen', async () => {
      assert.equal((await ask(server)).subject, 'first');
      return /cannot be used; the ones before stay in use/.test(server.log);
    });
    install('second');
    await until('the new one is there', async () => (await ask(server)).subject === 'second');
    install('first');
    server.child.kill('SIGHUP');
    await until('SIGHUP takes it at once', async () => (await ask(server)).subject === 'first');
  });

  it('ends a stream for a client that leaves, and closes as it should', async () => {
    const controller = new AbortController();
    const leaving = ask(server, { method: 'POST', url: '/v1/chat/completions', headers: authorization(), body: JSON.stringify(chat('fake', 'fake:tokens=1000,delay_ms=100', { stream: true })), signal: controller.signal });
    await until('it is with the engine', async () => (await server.fakeTotals('fake')).active === 1);
    controller.abort();
    await assert.rejects(leaving);
    await until('and gone from it', async () => (await server.fakeTotals('fake')).active === 0);
    const text = await new Promise((resolve, reject) => {
      let got = '';
      const socket = tls.connect({ host: '127.0.0.1', port: tlsPort(server), ca: read('ca.crt') }, () => socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
      socket.on('data', (data) => (got += data)).on('end', () => resolve(got)).on('error', reject); // 'end': close_notify came
    });
    assert.match(text, /^HTTP\/1\.1 200 OK/);
  });
});

describe('clients with certificates', { timeout: 120_000 }, () => {
  const server = new Server({ config: { tls: { listen: '127.0.0.1:0', cert: pem('server.crt'), key: pem('server.key'), clientCa: pem('ca.crt') } } });
  before(() => server.start());
  after(() => server.destroy());

  it('only those of the CA are let in, and their name is on record', async () => {
    await assert.rejects(ask(server));
    await assert.rejects(ask(server, { cert: read('stranger.crt'), key: read('stranger.key') }));
    const known = { cert: read('client.crt'), key: read('client.key') };
    assert.equal((await ask(server, known)).status, 200);
    assert.equal((await ask(server, { ...known, url: '/v1/models' })).status, 401, 'a certificate is no key');
    const { stdout } = await server.cli(['audit', 'tail', '--data-dir', server.dataDir]);
    assert.match(stdout, /refused .*127\.0\.0\.1 CN=client,O=Example/);
  });
});

describe('clients whose certificates stand for somebody', { timeout: 120_000 }, () => {
  const clients = [
    { subject: 'CN=client,O=Example', role: 'admin', platform: true },
    { subject: 'CN=acme-app,O=Example', role: 'inference', tenant: 'acme' },
    { subject: 'CN=looks,O=Example', role: 'read-only' },
    { subject: 'CN=gone,O=Example', role: 'admin', tenant: 'nowhere' },
  ];
  const server = new Server({ config: { tls: { listen: '127.0.0.1:0', cert: pem('server.crt'), key: pem('server.key'), clientCa: pem('ca.crt'), clients } } });
  const as = (name, options = {}) => ask(server, { cert: read(`${name}.crt`), key: read(`${name}.key`), ...options });
  const json = (body) => ({ method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  before(async () => {
    for (const name of ['acme-app', 'looks', 'gone', 'nobody']) makeCertificate('ca', name);
    await server.start();
  });
  after(() => server.destroy());

  it('need no key, and may what their role may', async () => {
    const tenant = { apiVersion: 'thaw/v1', kind: 'Tenant', metadata: { name: 'acme' }, spec: {} };
    assert.equal((await as('client', { url: '/admin/v1/tenants', ...json(tenant) })).status, 201);
    assert.equal((await as('looks', { url: '/v1/models' })).status, 200);
    const refused = await as('looks', { url: '/admin/v1/tenants', ...json({ ...tenant, metadata: { name: 'other' } }) });
    assert.equal(refused.status, 403);
    assert.match(refused.text, /client's certificate is for read-only/);
    assert.equal((await as('acme-app', { url: '/admin/v1/tenants' })).status, 403);
  });

  it('are of their tenant: they see its models and no others', async () => {
    await server.deploy(fakeModel('ours'));
    assert.deepEqual(JSON.parse((await as('looks', { url: '/v1/models' })).text).data.map((one) => one.id), ['ours']);
    assert.deepEqual(JSON.parse((await as('acme-app', { url: '/v1/models' })).text).data, []);
    const asked = await as('acme-app', { url: '/v1/chat/completions', ...json(chat('ours', 'hello')) });
    assert.equal(asked.status, 404);
    const answered = await as('client', { url: '/v1/chat/completions', ...json(chat('ours', 'hello', { max_tokens: 1 })) });
    assert.equal(answered.status, 200, answered.text);
  });

  it('one that stands for nobody, or for a tenant that is not there, needs a key', async () => {
    for (const name of ['nobody', 'gone']) {
      assert.equal((await as(name, { url: '/v1/models' })).status, 401);
      assert.equal((await as(name, { url: '/v1/models', headers: { authorization: `Bearer ${server.key}` } })).status, 200);
    }
  });

  it('with a key the request is the key\'s, also when that is wrong', async () => {
    assert.equal((await as('client', { url: '/admin/v1/tenants', headers: { authorization: 'Bearer thaw_1_wrong' } })).status, 401);
    const made = await as('client', { url: '/admin/v1/keys', ...json({ name: 'small', role: 'read-only' }) });
    const { key } = JSON.parse(made.text);
    const refused = await as('client', { url: '/admin/v1/tenants', ...json({}), headers: { authorization: `Bearer ${key}` } });
    assert.equal(refused.status, 403);
  });

  it('do not stand for what a browser sends for a page', async () => {
    for (const headers of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }]) {
      const answer = await as('client', { url: '/admin/v1/models/ours', method: 'DELETE', headers });
      assert.equal(answer.status, 401, JSON.stringify(headers));
      assert.match(answer.text, /requests of pages/);
    }
    assert.equal((await as('client', { url: '/v1/models', headers: { 'sec-fetch-site': 'none' } })).status, 200);
  });

  it('stand in the audit log', async () => {
    const { stdout } = await server.cli(['audit', 'tail', '--data-dir', server.dataDir]);
    assert.match(stdout, /tenant\S* .*cert:CN=client,O=Example/);
    assert.match(stdout, /refused .*cert:CN=looks,O=Example/);
  });

  it('stand for somebody else, or nobody, once the configuration says so', async () => {
    const config = JSON.parse(fs.readFileSync(server.configFile));
    config.tls.clients = [{ subject: 'CN=looks,O=Example', role: 'admin', platform: true }];
    fs.writeFileSync(server.configFile, JSON.stringify(config));
    const { json } = await server.call('POST', '/admin/v1/reload');
    assert.deepEqual(json, { applied: ['tls.clients'], needs_restart: [] });
    assert.equal((await as('looks', { url: '/admin/v1/tenants' })).status, 200);
    assert.equal((await as('client', { url: '/admin/v1/tenants' })).status, 401);
  });
});

it('what is wrong with TLS files is said at the start', async () => {
  for (const [config, words] of [
    [{ cert: pem('first.crt'), key: pem('second.key') }, /second\.key.*another certificate|key values mismatch/],
    [{ cert: '/nowhere/tls.crt', key: pem('first.key') }, /\/nowhere\/tls\.crt/],
    [{ cert: pem('first.key'), key: pem('first.key') }, /first\.key/],
    [{ cert: pem('first.crt') }, /tls.*key/],
    [{ cert: pem('first.crt'), key: pem('first.key'), clients: [{ subject: 'CN=a', role: 'admin' }] }, /clientCa/],
    [{ cert: pem('first.crt'), key: pem('first.key'), clientCa: pem('ca.crt'), clients: [{ subject: '/CN=a', role: 'admin' }] }, /RFC2253/],
    [{ cert: pem('first.crt'), key: pem('first.key'), clientCa: pem('ca.crt'), clients: [{ subject: 'CN=a', role: 'root' }] }, /role.*admin/],
  ]) {
    const server = new Server({ config: { tls: { listen: '127.0.0.1:0', ...config } } });
    const { code, stderr } = await server.cli(['serve', '--config', server.configFile, '--data-dir', server.dataDir, '--listen', '127.0.0.1:0', '--sandbox', 'none']);
    assert.notEqual(code, 0);
    assert.match(stderr, words);
    server.destroySync();
  }
});

describe('attacks on the parser', { timeout: 180_000 }, () => {
  const server = useServer({ config: { gateway: { maxBodyBytes: '1MiB', headerTimeout: '700ms' } } });
  const head = (more) => `POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.key}\r\n${more}`;
  const hidden = () => `GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.key}\r\n\r\n`;
  before(() => server.deploy(fakeModel('fake')));

  for (const [name, attack] of [
    ['CL.TE: a length and chunks', () => head('Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG')],
    ['TE.CL: chunks and a length', () => head('Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n')],
    ['TE.TE: two codings', () => head('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n')],
    ['a hidden coding', () => head('Transfer-Encoding: xchunked\r\n\r\n')],
    ['a coding behind a vertical tab', () => head('Transfer-Encoding:\x0bchunked\r\n\r\n')],
    ['a coding on a folded line', () => head('Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n')],
    ['the same length twice', () => head('Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc')],
    ['a list of lengths', () => head('Content-Length: 3, 3\r\n\r\nabc')],
    ['a length with a sign', () => head('Content-Length: +3\r\n\r\nabc')],
    ['a length in hexadecimal', () => head('Content-Length: 0x3\r\n\r\nabc')],
    ['a length of 20 digits', () => head('Content-Length: 18446744073709551617\r\n\r\n')],
    ['an empty length', () => head('Content-Length: \r\n\r\n')],
    ['an obsolete fold', () => head('X-A: b\r\n\tc\r\n\r\n')],
    ['a folded first header', () => 'GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n'],
    ['a header without a name', () => head(': x\r\n\r\n')],
    ['a name with a space', () => head('Content Length: 0\r\n\r\n')],
    ['a space before the colon', () => head('Content-Length : 0\r\n\r\n')],
    ['a header without a colon', () => head('nothing\r\n\r\n')],
    ['a name with a NUL', () => head('X\0A: b\r\n\r\n')],
    ['a bare CR in a value', () => head('X-A: b\rContent-Length: 5\r\n\r\n')],
    ['a bare LF between headers', () => head('X-A: b\nX-B: c\r\n\r\n')],
    ['bare LFs alone', () => 'GET /healthz HTTP/1.1\nHost: x\n\n'],
    ['two Hosts', () => 'GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
    ['no Host', () => 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['a target of another server', () => `GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['a tunnel', () => 'CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['two spaces in the request line', () => 'GET /healthz  HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a tab in the request line', () => 'GET\t/healthz HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['HTTP/1.0 with chunks', () => `POST /v1/completions HTTP/1.0\r\nAuthorization: Bearer ${server.key}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a chunk size with a sign', () => head('Transfer-Encoding: chunked\r\n\r\n-1\r\n')],
    ['a chunk size that overflows', () => head('Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n')],
    ['a chunk size of endless zeros', () => head(`Transfer-Encoding: chunked\r\n\r\n${'0'.repeat(100)}`)],
    ['a chunk size with 0x', () => head('Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n')],
    ['a chunk line with a bare LF', () => head('Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n')],
    ['a chunk that is longer than it says', () => head('Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n')],
    ['endless extensions', () => head(`Transfer-Encoding: chunked\r\n\r\n${`1;${'e'.repeat(1000)}\r\nx\r\n`.repeat(40)}`)],
    ['endless trailers', () => head(`Transfer-Encoding: chunked\r\n\r\n0\r\n${'X-T: t\r\n'.repeat(4000)}`)],
  ])
    it(`${name}: 400, closed, and nothing behind it is a request`, async () => {
      const { status, text, closed } = await rawHttp(server, [attack() + hidden()]);
      assert.ok([400, 501].includes(status), `${status}:\n${text}`);
      assert.ok(closed);
      assert.equal(text.match(/HTTP\/1\.1 \d+/g).length, 1, text);
      assert.match(text, /\r\nConnection: close\r\n/);
      assert.equal(bodyOf(text).error.type, 'invalid_request_error');
    });

  it('an upgrade is not followed: what comes behind is HTTP/1.1 for both sides', async () => {
    for (const upgrade of ['Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n', 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n']) {
      const { text } = await rawHttp(server, [`GET /healthz HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']);
      assert.deepEqual(text.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 505']);
    }
  });

  it('bodies made to hurt are refused at once, and cost nobody else anything', async () => {
    const deploy = (body) => server.call('POST', '/admin/v1/models', body);
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghij'.split('').map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(',')}]`).join('\n')}\n`;
    const nested = (open, close, depth) => open.repeat(depth) + close.repeat(depth);
    for (const [name, body] of [
      ['a YAML bomb', bomb],
      ['YAML, deeply nested', `apiVersion: ${nested('[', ']', 100_000)}`],
      ['JSON, deeply nested', nested('{"a":', '}', 100_000)],
      ['YAML of many values', `a: [${'x,'.repeat(400_000)}x]`],
      ['no UTF-8', Buffer.from('apiVersion: \xff\xfe\n', 'latin1')],
      ['a NUL', 'apiVersion: "\0"\n'],
      ['nothing', ''],
    ]) {
      const { status, json } = await deploy(body);
      assert.equal(status, 400, name);
      assert.equal(json.error.type, 'invalid_request_error', name);
    }
    for (const body of [nested('[', ']', 400_000), `{"model":${nested('{"a":', '}', 100_000)}}`, Buffer.from('{"model":"fake","prompt":"\xc3\x28"}', 'latin1'), '{"model":"fake"'])
      assert.equal((await server.call('POST', '/v1/completions', body)).status, 400);
    const { status } = await rawHttp(server, [head('Content-Length: 104857600\r\n\r\n'), '{"model":"fake","prompt":"', 'x'.repeat(65_536)]);
    assert.equal(status, 413, '100 MB of JSON is not even read');
    assert.equal((await server.call('GET', '/healthz')).status, 200);
  });

  it('serves on after all that', async () => {
    const answer = await server.openai().chat.completions.create(chat('fake', 'still here', { max_tokens: 2 }));
    assert.equal(answer.choices[0].message.content, ' still here');
  });
});

describe('pages of other origins', { timeout: 120_000 }, () => {
  const closed = useServer();
  const open = useServer({ config: { cors: { origins: ['https://chat.example.com'] } } });
  const ask = async (server, method, url, headers) => {
    const { status, text } = await rawHttp(server, [`${method} ${url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`]);
    return { status, allowed: text.match(/\r\nAccess-Control-Allow-Origin: ([^\r]*)/)?.[1] };
  };
  const page = 'Origin: https://chat.example.com';
  const asks = 'Access-Control-Request-Method: POST';

  it('none may call, unless it is named; and none may administer', async () => {
    assert.deepEqual(await ask(closed, 'OPTIONS', '/v1/chat/completions', [page, asks]), { status: 401, allowed: undefined });
    assert.deepEqual(await ask(closed, 'GET', '/v1/models', [page, `Authorization: Bearer ${closed.key}`]), { status: 200, allowed: undefined });
    assert.deepEqual(await ask(open, 'OPTIONS', '/v1/chat/completions', [page, asks]), { status: 200, allowed: 'https://chat.example.com' });
    assert.deepEqual(await ask(open, 'GET', '/v1/models', [page, `Authorization: Bearer ${open.key}`]), { status: 200, allowed: 'https://chat.example.com' });
    assert.deepEqual(await ask(open, 'GET', '/v1/models', [page]), { status: 401, allowed: 'https://chat.example.com' });
    assert.deepEqual(await ask(open, 'OPTIONS', '/v1/chat/completions', ['Origin: https://evil.example.com', asks]), { status: 401, allowed: undefined });
    assert.deepEqual(await ask(open, 'OPTIONS', '/admin/v1/models', [page, asks]), { status: 401, allowed: undefined });
    assert.deepEqual(await ask(open, 'GET', '/admin/v1/models', [page, `Authorization: Bearer ${open.key}`]), { status: 200, allowed: undefined });
  });
});

describe('what is left of a request', { timeout: 120_000 }, () => {
  const server = useServer({ config: { log: { level: 'debug' } } });

  it('neither prompt nor answer nor key stands in logs or in the data directory', async () => {
    const canary = 'canary-7f3a9c51';
    await server.deploy(fakeModel('fake'));
    const client = server.openai();
    await client.chat.completions.create(chat('fake', `${canary} one two`, { max_tokens: 3, user: canary }));
    await client.chat.completions.create(chat('fake', canary, { stream: true }));
    await assert.rejects(client.chat.completions.create(chat('none', canary)));
    await assert.rejects(client.chat.completions.create(chat('fake', `fake:status=500 ${canary}`)));
    await server.call('POST', '/v1/completions', `{"model":"fake","prompt":"${canary}`);
    await rawHttp(server, [`GET /v1/models?key=${canary} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${canary}\r\nX-A: ${canary}\r\nConnection: close\r\n\r\n`]);
    await server.call('GET', '/admin/v1/usage');
    await server.end();
    const files = execFileSync('find', [server.dataDir, '-type', 'f'], { encoding: 'utf8' }).trim().split('\n');
    assert.ok(files.length > 5, files.join());
    const secret = server.key.split('_')[2];
    for (const file of files) {
      const bytes = fs.readFileSync(file);
      assert.ok(!bytes.includes(canary), `${file} has the prompt`);
      // client.json is where the first key is kept for this machine's command line: docs/operations.md.
      if (path.basename(file) !== 'client.json') assert.ok(!bytes.includes(secret), `${file} has the key`);
    }
    assert.ok(!server.log.includes(canary), 'the log has the prompt');
    assert.ok(!server.log.replace(/A first key was made|[^\n]*thaw_1_[^\n]*\n/, '').includes(secret), 'the log has the key');
  });
});
