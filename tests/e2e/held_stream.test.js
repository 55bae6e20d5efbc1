// A streaming client that waits for a slow start: held without headers for a while, so that a failure can be a status, then kept
// alive by comments.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import OpenAI from 'openai';

import { bodyOf, rawHttp } from './lib/raw_http.js';
import { chat, fakeModel, textOf, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('a stream held for the default 3 s', { timeout: 240_000 }, () => {
  const server = useServer();
  const start_ms = 6_000;
  before(() => server.deploy(fakeModel('slow', { args: ['--fake-start-delay-ms', String(start_ms)] })));

  it('gets 200 and comments while the model still starts, then the answer and its numbers', async () => {
    const body = JSON.stringify(chat('slow', 'one two', { stream: true, max_tokens: 4 }));
    const sent_at = Date.now();
    const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.key}\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`;
    let stateAtHead;
    let head_ms = 0;
    const { text, status } = await rawHttp(server, [head + body], {
      enough: (soFar) => {
        if (!stateAtHead && soFar.includes('\r\n\r\n')) {
          head_ms = Date.now() - sent_at;
          stateAtHead = server.modelInfo('slow').then((info) => info.state);
        }
        return false;
      },
    });
    assert.equal(status, 200);
    assert.ok(head_ms >= 2_900, `headers after ${head_ms} ms`);
    assert.equal(await stateAtHead, 'starting');
    const events = text.slice(text.indexOf('\r\n\r\n')).split('\n').filter((line) => line.startsWith(':') || line.startsWith('data:'));
    assert.equal(events[0], ': waiting for slow');
    const numbers = events.at(-1).match(/^: thaw start=cold queue_ms=(\d+) ttft_ms=(\d+)$/);
    assert.ok(numbers, events.at(-1));
    assert.ok(Number(numbers[1]) >= start_ms && Number(numbers[2]) >= Number(numbers[1]), events.at(-1));
    assert.equal(events.at(-2), 'data: [DONE]');
    assert.ok(text.endsWith('\r\n0\r\n\r\n'), 'the chunked body is complete');
  });

  it('is an ordinary stream for the client', async () => {
    await server.call('POST', '/admin/v1/models/slow/stop');
    await until('it sleeps', async () => (await server.modelInfo('slow')).state === 'asleep');
    const { data: stream, response } = await server.openai().chat.completions.create(chat('slow', 'one two', { stream: true, max_tokens: 4, stream_options: { include_usage: true } })).withResponse();
    assert.equal(response.headers.get('x-thaw-start'), null); // not known yet when the head went out
    assert.equal(await textOf(stream), ' one two one two');
    const record = await server.record(response.headers.get('x-request-id'));
    assert.equal(record.cold, true);
    assert.ok(record.queued_ms >= start_ms);
    assert.equal(record.completion_tokens, 4);
  });

  it('warm, it starts at once, without comments', async () => {
    const { text } = await server.call('POST', '/v1/chat/completions', chat('slow', 'one', { stream: true, max_tokens: 2 }));
    assert.doesNotMatch(text, /^:/m);
    assert.match(text, /data: \[DONE\]\n\n$/);
  });
});

describe('a failure after the hold', { timeout: 240_000 }, () => {
  const server = useServer({ config: { gateway: { streamHold: '100ms' } } });

  it('of the start is an error event, seen by the client as an error', async () => {
    await server.deploy(fakeModel('hangs', { args: ['--fake-hang-start'], startDeadline: '500ms' }));
    const { data: stream, response } = await server.openai().chat.completions.create(chat('hangs', 'hello', { stream: true })).withResponse();
    assert.equal(response.status, 200);
    await assert.rejects(textOf(stream), (error) => {
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.match(error.message, /hangs does not start.*start deadline/);
      return true;
    });
    const record = await server.record(response.headers.get('x-request-id'));
    assert.equal(record.status, 503);
    assert.match(record.failure, /start deadline/);
  });

  it('an engine\'s own error becomes an event too', async () => {
    await server.deploy(fakeModel('slow', { args: ['--fake-start-delay-ms', '800'] }));
    const stream = await server.openai().chat.completions.create(chat('slow', 'fake:status=400', { stream: true }));
    await assert.rejects(textOf(stream), /asked to fail/);
  });

  it('... whatever the framing of its body, and in Anthropic’s words where those are spoken', async () => {
    for (const framing of ['chunked', 'until_close']) {
      await server.deploy(fakeModel(`slow-${framing}`, { args: ['--fake-start-delay-ms', '800'] }));
      const stream = await server.openai().chat.completions.create(chat(`slow-${framing}`, `fake:status=400,${framing}`, { stream: true }));
      await assert.rejects(textOf(stream), (error) => {
        assert.ok(error instanceof OpenAI.APIError, `${error}`);
        assert.match(error.message, /asked to fail/);
        return true;
      });
      await server.call('POST', `/admin/v1/models/slow-${framing}/stop`);
      await until('it sleeps', async () => (await server.modelInfo(`slow-${framing}`)).state === 'asleep');
      const said = { model: `slow-${framing}`, max_tokens: 2, stream: true, messages: [{ role: 'user', content: `fake:status=400,${framing}` }] };
      const { status, text } = await server.call('POST', '/v1/messages', said);
      assert.equal(status, 200);
      const [, data] = text.match(/^event: error\ndata: (.*)$/m);
      assert.deepEqual([JSON.parse(data).type, JSON.parse(data).error], ['error', { type: 'invalid_request_error', message: 'asked to fail' }]);
    }
  });

  it('the client may leave during the hold; nothing is left in the queue', async () => {
    await server.deploy(fakeModel('slower', { args: ['--fake-start-delay-ms', '3000'] }));
    const stream = await server.openai().chat.completions.create(chat('slower', 'x', { stream: true }));
    assert.equal((await server.modelInfo('slower')).queued, 1);
    stream.controller.abort();
    await until('its place is free', async () => (await server.modelInfo('slower')).queued === 0);
  });

  it('SIGTERM ends a held stream with an error event', async () => {
    await server.deploy(fakeModel('last', { args: ['--fake-start-delay-ms', '60000'] }));
    const stream = await server.openai().chat.completions.create(chat('last', 'x', { stream: true }));
    const failed = assert.rejects(textOf(stream), /shutting down/);
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await failed;
    await server.nothingLeft({ serverGone: true });
  });
});

describe('a failure before the hold ends', { timeout: 240_000 }, () => {
  const server = useServer({ config: { gateway: { streamHold: '60s' } } });
  before(() => server.deploy(fakeModel('fails', { args: ['--fake-fail-start'] })));

  for (const stream of [false, true]) {
    it(`is a status with the engine's words (stream: ${stream})`, async () => {
      await server.deploy(fakeModel('fails', { args: ['--fake-fail-start'] })); // forgets earlier failures
      await assert.rejects(server.openai().chat.completions.create(chat('fails', 'hello', { stream })), (error) => {
        assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
        assert.equal(error.status, 503);
        assert.equal(error.code, 'start_failed');
        assert.match(error.message, /exit status 1.*fake-engine: asked to fail/);
        const after_s = Number(error.headers['retry-after']);
        assert.ok(after_s >= 1 && after_s <= 60, `${after_s}`);
        return true;
      });
    });
  }

  it('holds an HTTP/1.0 client too, and ends its stream with the connection', async () => {
    await server.deploy(fakeModel('fine'));
    const body = JSON.stringify(chat('fine', 'one two', { stream: true, max_tokens: 2 }));
    const { text, status } = await rawHttp(server, [`POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer ${server.key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`]);
    assert.equal(status, 200);
    assert.doesNotMatch(text, /Transfer-Encoding/i);
    assert.match(text, /data: \[DONE\]\n\n$/);
    const plain = JSON.stringify(chat('fine', 'one two', { max_tokens: 2 }));
    const whole = await rawHttp(server, [`POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer ${server.key}\r\nContent-Length: ${plain.length}\r\n\r\n${plain}`]);
    assert.equal(bodyOf(whole.text).choices[0].message.content, ' one two');
  });
});
