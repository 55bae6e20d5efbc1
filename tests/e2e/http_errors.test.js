// What clients do wrong, by mistake or on purpose.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import OpenAI from 'openai';

import { bodyOf, rawHttp } from './lib/raw_http.js';
import { chat, fakeModel, useServer } from './lib/server.js';

const maxBody = 64 * 1024;

describe('wrong requests', { timeout: 180_000 }, () => {
  const server = useServer({ config: { gateway: { maxBodyBytes: '64KiB', headerTimeout: '700ms' } } });
  const request = (more, body = '') => `POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.key}\r\n${more}\r\n${body}`;
  before(() => server.deploy(fakeModel('fake')));

  it('unknown model: 404 with the error object, seen by the client as such', async () => {
    await assert.rejects(server.openai().chat.completions.create(chat('fakr', 'hello')), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, 'model_not_found');
      assert.equal(error.type, 'invalid_request_error');
      assert.equal(error.param, 'model');
      assert.match(error.message, /"fakr"/);
      assert.match(error.headers['x-request-id'], /^req_/);
      return true;
    });
    await assert.rejects(server.openai().models.retrieve('fakr'), OpenAI.NotFoundError);
    await assert.rejects(server.openai().chat.completions.create(chat('../admin', 'x', { stream: true })), OpenAI.NotFoundError);
  });

  it('no JSON, no model, a model that is no string: 400 and the place', async () => {
    for (const [body, words] of [
      ['{"model": "fake", "prompt": ', /invalid JSON at byte \d+/],
      ['{"model": "fake"} x', /invalid JSON at byte 18/],
      ['', /JSON/],
      ['[1]', /object/],
      ['{"prompt": "x"}', /model/],
      ['{"model": 7, "prompt": "x"}', /model/],
      [`{"model": "fake", "prompt": ${'['.repeat(200)}`, /JSON.*deep|JSON.*nest/],
      [Buffer.from('{"model":"fake","prompt":"\xff"}', 'latin1'), /JSON|UTF-8/],
    ]) {
      const { status, json } = await server.call('POST', '/v1/completions', body);
      assert.equal(status, 400, body);
      assert.equal(json.error.type, 'invalid_request_error');
      assert.match(json.error.message, words, body);
    }
    await assert.rejects(server.openai().completions.create({ prompt: 'x' }), OpenAI.BadRequestError);
  });

  it('a body over the limit: 413, also in chunks; one at the limit is served', async () => {
    const prompt = 'x'.repeat(maxBody);
    const refused = (error) => error.status === 413 && error.code === 'request_too_large' && /64 ?KiB/.test(error.message);
    await assert.rejects(server.openai().completions.create({ model: 'fake', prompt }), refused);

    const head = request('Transfer-Encoding: chunked\r\n');
    const piece = `8000\r\n${'x'.repeat(0x8000)}\r\n`;
    const chunked = await rawHttp(server, [head, piece, piece, piece]);
    assert.equal(chunked.status, 413);

    const shell = JSON.stringify({ model: 'fake', prompt: '', max_tokens: 1 });
    const exact = { model: 'fake', prompt: 'x'.repeat(maxBody - shell.length), max_tokens: 1 };
    assert.equal(JSON.stringify(exact).length, maxBody);
    assert.equal((await server.call('POST', '/v1/completions', exact)).status, 200);
  });

  it('refuses a body that is announced too large before it is sent', async () => {
    const { status, text } = await rawHttp(server, [request('Expect: 100-continue\r\nContent-Length: 999999999\r\n')]);
    assert.equal(status, 413);
    assert.doesNotMatch(text, /100 Continue/);
  });

  it('wrong methods and unknown URLs', async () => {
    const wrongMethod = await server.call('GET', '/v1/chat/completions');
    assert.equal(wrongMethod.status, 405);
    assert.equal(wrongMethod.json.error.code, 'method_not_allowed');
    assert.equal((await server.call('DELETE', '/v1/models')).status, 405);
    const unknown = await server.call('GET', '/v1/nothing');
    assert.equal(unknown.status, 404);
    assert.equal(unknown.json.error.code, 'unknown_url');
    assert.equal((await server.call('POST', '/v1/threads', {})).status, 404);
  });

  for (const [name, text, wanted] of [
    ['Content-Length with Transfer-Encoding', (r) => r('Content-Length: 3\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'), 400],
    ['two Content-Lengths', (r) => r('Content-Length: 3\r\nContent-Length: 4\r\n', 'abcd'), 400],
    ['a negative Content-Length', (r) => r('Content-Length: -1\r\n'), 400],
    ['an unknown transfer coding', (r) => r('Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'), 501],
    ['a folded header', (r) => r('X-A: b\r\n c\r\nContent-Length: 0\r\n'), 400],
    ['a space before the colon', (r) => r('Content-Length : 0\r\n'), 400],
    ['a chunk size that is no number', (r) => r('Transfer-Encoding: chunked\r\n', 'zz\r\nab\r\n0\r\n\r\n'), 400],
    ['a bare line feed', () => 'GET /healthz HTTP/1.1\r\nX-A: b\nHost: x\r\n\r\n', 400],
    ['nothing but bare line feeds', () => 'GET /healthz HTTP/1.1\nHost: x\n\n', 408],
    ['a NUL in a header', () => 'GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: \0\r\n\r\n', 400],
    ['no HTTP at all', () => 'hello\r\n\r\n', 400],
    ['HTTP/2 preface', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 505],
    ['a huge header', () => `GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ['too many headers', () => `GET /healthz HTTP/1.1\r\nHost: x\r\n${'X-A: b\r\n'.repeat(200)}\r\n`, 431],
  ]) {
    it(`malformed HTTP: ${name}`, async () => {
      const { text: answer, status, closed } = await rawHttp(server, [text(request)]);
      assert.ok(status === wanted || (wanted !== 431 && status === 400), `${status} for ${name}:\n${answer}`);
      assert.ok(closed, 'the connection ends: nobody can tell what follows');
      assert.equal(bodyOf(answer).error.type, 'invalid_request_error');
      assert.match(answer, /\r\nConnection: close\r\n/);
    });
  }

  it('a head that does not arrive: 408', async () => {
    const { status, text } = await rawHttp(server, ['GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:']);
    assert.equal(status, 408, text);
  });

  it('takes a body in chunks, and one that waits for 100 Continue', async () => {
    const body = JSON.stringify({ model: 'fake', prompt: 'in pieces', max_tokens: 2 });
    const chunks = [...body.match(/.{1,7}/g).map((piece) => `${piece.length.toString(16)};x=y\r\n${piece}\r\n`), '0\r\nX-Trailer: t\r\n\r\n'];
    const chunked = await rawHttp(server, [request('Connection: close\r\nTransfer-Encoding: chunked\r\n'), ...chunks]);
    assert.equal(chunked.status, 200, chunked.text);
    assert.equal(bodyOf(chunked.text).choices[0].text, ' in pieces');

    let asked;
    const goOn = new Promise((resolve) => (asked = resolve));
    const head = request(`Connection: close\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n`);
    const polite = await rawHttp(server, [head, () => goOn, body], {
      enough: (text) => {
        if (text.startsWith('HTTP/1.1 100 Continue\r\n\r\n')) asked();
        return false;
      },
    });
    assert.match(polite.text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  });

  it('answers pipelined requests in order', async () => {
    const get = (url) => `GET ${url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.key}\r\n\r\n`;
    const last = `GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${server.key}\r\n\r\n`;
    const { text } = await rawHttp(server, [get('/healthz') + get('/v1/models') + last]);
    assert.deepEqual(text.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 404']);
  });

  it('goes on serving after all that', async () => {
    const answer = await server.openai().chat.completions.create(chat('fake', 'still here', { max_tokens: 2 }));
    assert.equal(answer.choices[0].message.content, ' still here');
    assert.equal((await server.call('GET', '/admin/v1/status')).json.connections <= 3, true);
  });

  it('passes an error of the engine on with its status', async () => {
    await assert.rejects(server.openai().chat.completions.create(chat('fake', 'fake:status=422')), OpenAI.UnprocessableEntityError);
    await assert.rejects(server.openai().chat.completions.create(chat('fake', 'fake:status=500')), OpenAI.InternalServerError);
    assert.equal((await server.instances()).length, 1);
  });
});
