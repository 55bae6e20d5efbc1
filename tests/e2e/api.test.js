// The breadth of the API: routes that some engines have, aliases, parameters that a model sets, and what all of that is charged as.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { chat, fakeModel, realModel, textOf, useServer } from './lib/server.js';
import { modelDirectory } from './lib/made_engine.js';
import { callAs, makeKey } from './lib/tenants.js';

/** The events of an SSE body: {event, data}. */
const eventsOf = (text) =>
  text.split('\n\n').flatMap((block) => {
    const event = block.match(/^event: (.*)$/m)?.[1];
    const data = block.match(/^data: (.*)$/m)?.[1];
    return data === undefined ? [] : [{ event, data }];
  });

describe('routes that an engine has', { timeout: 240_000 }, () => {
  const server = useServer();
  /** As Anthropic's clients ask: the key is in a header of its own. */
  const anthropic = async (body, path = '/v1/messages', key = server.key) => {
    const headers = { 'x-api-key': key, 'anthropic-version': '2023-06-01', 'content-type': 'application/json' };
    const response = await fetch(server.url + path, { method: 'POST', headers, body: typeof body === 'string' ? body : JSON.stringify(body) });
    const text = await response.text();
    const isJson = response.headers.get('content-type').startsWith('application/json');
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
  };
  const say = (more = {}) => ({ model: 'stories', max_tokens: 6, messages: [{ role: 'user', content: 'Once upon a time' }], ...more });
  before(() => server.deploy(realModel('stories', { aliases: ['claude'] })));

  it('/v1/messages speaks Anthropic, whole and as a stream, and is charged', async () => {
    const whole = await anthropic(say());
    assert.equal(whole.status, 200, whole.text);
    assert.equal(whole.json.type, 'message');
    assert.equal(whole.json.usage.output_tokens, 6);
    const record = await server.record(whole.headers.get('x-request-id'));
    assert.equal(record.completion_tokens, 6);
    const prompt = whole.json.usage.input_tokens + (whole.json.usage.cache_read_input_tokens ?? 0);
    assert.equal(record.prompt_tokens, prompt);

    const stream = await anthropic(say({ stream: true }));
    assert.equal(stream.status, 200, stream.text);
    const events = eventsOf(stream.text);
    assert.equal(events[0].event, 'message_start');
    assert.equal(events.at(-1).event, 'message_stop');
    const streamed = await server.record(stream.headers.get('x-request-id'));
    assert.equal(streamed.completion_tokens, 6);
    assert.equal(streamed.prompt_tokens, prompt, 'what came from the cache counts as read');

    const count = await anthropic(say(), '/v1/messages/count_tokens');
    assert.equal(count.status, 200, count.text);
    assert.equal(count.json.input_tokens, prompt);
  });

  it('/v1/messages has its errors in Anthropic’s form, ours and the engine’s', async () => {
    const unknown = await anthropic(say({ model: 'nothing' }));
    assert.equal(unknown.status, 404);
    assert.equal(unknown.json.type, 'error');
    assert.equal(unknown.json.error.type, 'not_found_error');
    assert.equal(unknown.json.request_id, unknown.headers.get('x-request-id'));
    const malformed = await anthropic('{"model": ');
    assert.deepEqual([malformed.status, malformed.json.error.type], [400, 'invalid_request_error']);
    const refused = await anthropic(say(), '/v1/messages', 'wrong');
    assert.deepEqual([refused.status, refused.json.error.type], [401, 'authentication_error']);
    const engines = await anthropic(say({ messages: [{ role: 'user', content: 'once upon a time '.repeat(1000) }] }));
    assert.equal(engines.status, 400, 'more than the context holds');
    assert.deepEqual([engines.json.type, engines.json.error.type], ['error', 'invalid_request_error'], engines.text);
    assert.ok(engines.json.error.message.length > 0);
  });

  it('/v1/responses serves OpenAI’s client, whole and as a stream, and is charged', async () => {
    const client = server.openai();
    const { data, response } = await client.responses.create({ model: 'stories', input: 'Once upon a time', max_output_tokens: 6 }).withResponse();
    assert.equal(data.object, 'response');
    assert.ok(data.output_text.length > 0);
    const record = await server.record(response.headers.get('x-request-id'));
    assert.equal(record.completion_tokens, data.usage.output_tokens);
    assert.equal(record.prompt_tokens, data.usage.input_tokens);
    const types = [];
    const stream = await client.responses.create({ model: 'stories', input: 'Once upon a time', max_output_tokens: 6, stream: true });
    for await (const event of stream) types.push(event.type);
    assert.equal(types[0], 'response.created');
    assert.equal(types.at(-1), 'response.completed');
  });

  it('an alias asks the same model, and is listed', async () => {
    assert.equal((await anthropic(say({ model: 'claude' }))).status, 200);
    const ids = [];
    for await (const model of server.openai().models.list()) ids.push([model.id, model.root]);
    assert.deepEqual(ids, [['stories', undefined], ['claude', 'stories']]);
    assert.equal((await server.openai().models.retrieve('claude')).root, 'stories');
    const rows = (await server.call('GET', '/admin/v1/usage')).json.groups;
    assert.deepEqual(rows.map((row) => row.model), ['stories'], 'it is charged as the model');
  });

  it('a route that it has not is a 404 which says so', async () => {
    const speech = await server.call('POST', '/v1/audio/speech', { model: 'stories', input: 'hello', voice: 'x' });
    assert.equal(speech.status, 404, speech.text);
    assert.equal(speech.json.error.code, 'unsupported_by_engine');
    assert.match(speech.json.error.message, /the engine of model "stories" \(llama\.cpp\) does not offer \/v1\/audio\/speech/);
    const reranked = await server.call('POST', '/v1/rerank', { model: 'stories', query: 'a', documents: ['b'] });
    assert.equal(reranked.status, 501, 'llama-server has the route, and says what it was not started with');
    assert.match(reranked.json.error.message, /rerank/);
  });

  it('/tokenize and /detokenize lead there and back', async () => {
    const text = 'Once upon a time there was a little girl';
    const tokens = await server.call('POST', '/tokenize', { model: 'claude', content: text });
    assert.equal(tokens.status, 200, tokens.text);
    assert.ok(tokens.json.tokens.length > 5 && tokens.json.tokens.every(Number.isInteger), tokens.text);
    const back = await server.call('POST', '/detokenize', { model: 'claude', tokens: tokens.json.tokens });
    assert.equal(back.json.content.trim(), text, back.text);
    const empty = await server.call('POST', '/detokenize', { model: 'stories', tokens: [] });
    assert.deepEqual([empty.status, empty.json.content], [200, '']);
    const unread = await server.call('POST', '/detokenize', { tokens: [1] });
    assert.match(unread.json.error.message, /model/, 'which model is for thaw to know');
    const pieces = await server.call('POST', '/tokenize', { model: 'stories', content: 'Once', with_pieces: true });
    assert.ok(pieces.json.tokens.every((token) => token.piece !== undefined), pieces.text);
  });
});

describe('what reaches the engine', { timeout: 240_000 }, () => {
  const server = useServer();
  const echo = async (path, body) => {
    const answer = await server.call('POST', path, body);
    assert.equal(answer.status, 200, answer.text);
    return { ...answer.json, text: Buffer.from(answer.json.body, 'hex').toString(), id: answer.headers.get('x-request-id') };
  };
  const parameters = { defaults: { max_tokens: 3, seed: 7 }, overrides: { temperature: 0 } };
  before(async () => {
    await server.deploy(fakeModel('fake', { aliases: ['whisper-1', 'gpt-4o'], parameters }));
    await server.deploy(fakeModel('strict', { engine: 'vllm', source: { path: modelDirectory('strict') }, aliases: ['gpt-strict'] }));
  });

  it('a form goes as it came, by the model in its field, and its usage counts', async () => {
    const file = new File([new Uint8Array(300_000).fill(7)], 'speech.wav', { type: 'audio/wav' });
    const { data, response } = await server.openai().audio.transcriptions.create({ model: 'whisper-1', file }).withResponse();
    assert.equal(data.object, 'echo');
    assert.match(data.content_type, /^multipart\/form-data; ?boundary=/);
    assert.ok(data.bytes > 300_000);
    const record = await server.record(response.headers.get('x-request-id'));
    assert.deepEqual([record.model, record.prompt_tokens, record.completion_tokens], ['fake', 3, 2]);
    const form = new FormData();
    form.set('file', file);
    const nameless = await fetch(`${server.url}/v1/audio/transcriptions`, { method: 'POST', headers: { authorization: `Bearer ${server.key}` }, body: form });
    assert.equal(nameless.status, 400);
    assert.match((await nameless.json()).error.message, /the field "model" is missing/);
    const json = await server.call('POST', '/v1/audio/transcriptions', { model: 'fake' });
    assert.match(json.json.error.message, /must be multipart\/form-data/);
  });

  it('a body without anything to change goes as it came', async () => {
    const body = '{ "model" : "fake",\n "query":"\\u00e9", "documents": [ 1.0 ] }';
    assert.equal((await echo('/v1/rerank', body)).text, body);
    assert.equal((await echo('/rerank', body)).target, '/rerank');
  });

  it('defaults fill in and overrides replace, where text is generated', async () => {
    const sent = await echo('/v1/responses', { model: 'fake', input: 'x', temperature: 1, seed: null });
    assert.deepEqual(JSON.parse(sent.text), { model: 'fake', input: 'x', max_tokens: 3, seed: 7, temperature: 0 });
    const own = await echo('/v1/responses', { model: 'fake', input: 'x', max_tokens: 5, seed: 1 });
    assert.deepEqual(JSON.parse(own.text), { model: 'fake', input: 'x', max_tokens: 5, seed: 1, temperature: 0 });
    const reranked = await echo('/v1/rerank', { model: 'fake', query: 'x', documents: [] });
    assert.deepEqual(JSON.parse(reranked.text), { model: 'fake', query: 'x', documents: [] }, 'not where none is');
    const { usage } = await server.openai().chat.completions.create(chat('fake', 'hello'));
    assert.equal(usage.completion_tokens, 3);
    const large = await echo('/v1/responses', { model: 'gpt-4o', input: 'x'.repeat(400_000) });
    assert.equal(JSON.parse(large.text).model, 'fake', 'also of a body that is read beside the loop');
  });

  it('an engine’s error is in Anthropic’s form on /v1/messages, however its body is framed', async () => {
    for (const framing of ['', ',chunked', ',until_close', ',long', ',chunked,long', ',until_close,long']) {
      const body = { model: 'fake', max_tokens: 2, messages: [{ role: 'user', content: `fake:status=422${framing}` }] };
      const answer = await server.call('POST', '/v1/messages', body);
      assert.equal(answer.status, 422, answer.text);
      assert.deepEqual([answer.json?.type, answer.json?.error?.type], ['error', 'invalid_request_error'], framing + answer.text.slice(0, 200));
      assert.match(answer.json.error.message, /asked to fail/);
      assert.equal(answer.json.request_id, answer.headers.get('x-request-id'));
      assert.ok(answer.text.length < 2000);
      const openai = await server.call('POST', '/v1/chat/completions', chat('fake', `fake:status=422${framing}`));
      assert.equal(openai.json.error.code, 422, 'and as the engine wrote it elsewhere');
    }
    assert.equal((await server.call('POST', '/v1/messages', { model: 'fake', messages: [] })).status, 200, 'the replica is none the worse');
  });

  it('an engine that knows one name only gets that, whatever alias was asked', async () => {
    const client = server.openai();
    assert.equal((await client.chat.completions.create(chat('gpt-strict', 'Once upon', { max_tokens: 2 }))).model, 'strict');
    assert.equal(await textOf(await client.chat.completions.create(chat('gpt-strict', 'Once upon', { max_tokens: 2, stream: true }))), ' Once upon');
  });

  it('a key for some models is good for their aliases, and for no others', async () => {
    const { key } = await makeKey(server, '', { role: 'inference', models: ['fake'] });
    assert.equal((await callAs(server, key, 'POST', '/v1/chat/completions', chat('gpt-4o', 'x'))).status, 200);
    assert.equal((await callAs(server, key, 'POST', '/v1/chat/completions', chat('gpt-strict', 'x'))).status, 404);
    const listed = (await callAs(server, key, 'GET', '/v1/models')).json.data.map((model) => model.id);
    assert.deepEqual(listed, ['fake', 'whisper-1', 'gpt-4o']);
  });
});

describe('aliases', { timeout: 120_000 }, () => {
  const server = useServer();
  const deploy = (spec) => server.call('POST', '/admin/v1/models', spec);

  it('stand for one model of their tenant', async () => {
    await server.deploy(fakeModel('one', { aliases: ['a', 'b'] }));
    for (const [spec, words] of [
      [fakeModel('two', { aliases: ['b'] }), '"b" is an alias of model "one" already'],
      [fakeModel('two', { aliases: ['one'] }), '"one" is a model already'],
      [fakeModel('a'), '"a" is an alias of model "one" already'],
    ]) {
      const answer = await deploy(spec);
      assert.equal(answer.status, 409, answer.text);
      assert.equal(answer.json.error.code, 'name_taken');
      assert.ok(answer.json.error.message.includes(words), answer.text);
    }
    const own = await deploy(fakeModel('two', { aliases: ['two'] }));
    assert.equal(own.status, 400);
    await server.deploy(fakeModel('one', { aliases: ['b'] }));
    await server.deploy(fakeModel('a'));
  });

  it('of deploys at the same time go to one of them', async () => {
    const answers = await Promise.all(['x', 'y', 'z'].map((name) => deploy(fakeModel(name, { aliases: ['shared'] }))));
    assert.deepEqual(answers.map((answer) => answer.status).sort(), [201, 409, 409]);
  });

  it('survive a restart, and go with their model', async () => {
    await server.end('SIGKILL');
    await server.start();
    const ids = async () => (await server.call('GET', '/v1/models')).json.data.map((model) => model.id);
    assert.ok((await ids()).includes('b'));
    assert.equal((await server.openai().chat.completions.create(chat('b', 'x'))).model, 'one');
    assert.equal((await server.call('DELETE', '/admin/v1/models/one')).status, 200);
    assert.ok(!(await ids()).includes('b'));
    assert.equal((await server.call('POST', '/v1/chat/completions', chat('b', 'x'))).status, 404);
    assert.equal((await server.call('POST', '/v1/chat/completions', chat('b', 'x'))).json.error.code, 'model_not_found');
  });
});
