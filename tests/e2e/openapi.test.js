// The OpenAPI document says what the server answers: every GET route is asked, and its answer held against the document.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { mistakes } from './lib/json_schema.js';
import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('the OpenAPI document', { timeout: 240_000 }, () => {
  const server = useServer({ config: { usage: { prices: { currency: 'EUR', deviceSecond: 0.5 } } } });
  let document, requestId;
  const schemaOf = (path, method = 'get', status = '200') => document.paths[path][method].responses[status].content;

  before(async () => {
    document = (await server.call('GET', '/admin/v1/openapi.json')).json;
    await server.deploy(fakeModel('fake', { aliases: ['other-name'], standby: { mode: 'always' } }));
    const { response } = await server.openai().chat.completions.create(chat('fake', 'fake:tokens=3')).withResponse();
    requestId = response.headers.get('x-request-id');
  });

  it('is OpenAPI 3.1, the same for everybody, and the same as thaw schema api prints', async () => {
    assert.equal(document.openapi, '3.1.0');
    const { stdout, code } = await server.cli(['schema', 'api']);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), document);
  });

  it('has every route that the server has', async () => {
    const { routes } = (await server.call('GET', '/admin/v1/routes')).json;
    const documented = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path.replace(/\{\w+\}/, '*')}`));
    assert.deepEqual(documented.sort(), routes.map(({ method, path }) => `${method.toLowerCase()} ${path}`).sort());
  });

  it('says what every GET route answers', async () => {
    const pull = await server.call('POST', '/admin/v1/pulls', { source: { url: 'https://127.0.0.1:1/nothing.gguf' } });
    await server.call('POST', '/admin/v1/models/fake/freeze');
    await until('it rests', async () => (await server.modelInfo('fake')).state === 'standby');
    const named = { models: 'fake', requests: requestId, pulls: pull.json?.id ?? '1', tenants: 'default' };
    const wrong = [];
    let checked = 0;
    for (const [path, methods] of Object.entries(document.paths)) {
      if (!methods.get) continue;
      const url = path.replace(/\/(\w+)\/\{\w+\}/, (_, kind) => `/${kind}/${named[kind]}`);
      if (path === '/admin/v1/pulls/{id}' && pull.status !== 202) continue; // private addresses were refused at once: there is none to be shown
      const answer = await server.call('GET', url);
      const content = schemaOf(path);
      const [type] = Object.keys(content);
      assert.equal(answer.status, 200, `GET ${url}: ${answer.text}`);
      assert.ok(answer.headers.get('content-type').startsWith(type), `GET ${url} is ${answer.headers.get('content-type')}, not ${type}`);
      if (type === 'application/json') wrong.push(...mistakes(answer.json, content[type].schema, document).map((one) => `GET ${url}: ${one}`));
      checked += 1;
    }
    assert.deepEqual(wrong, []);
    assert.ok(checked > 20, `${checked} routes were asked`);
  });

  it('says what acts answer, and errors', async () => {
    const acts = [
      ['post', '/admin/v1/models', '/admin/v1/models', fakeModel('another'), '201'],
      ['post', '/admin/v1/models/{name}/wake', '/admin/v1/models/fake/wake', undefined, '200'],
      ['post', '/admin/v1/models/{name}/stop', '/admin/v1/models/fake/stop', undefined, '200'],
      ['delete', '/admin/v1/models/{name}', '/admin/v1/models/another', undefined, '200'],
      ['post', '/admin/v1/keys', '/admin/v1/keys', { role: 'inference', name: 'x' }, '201'],
      ['post', '/admin/v1/tenants', '/admin/v1/tenants', { apiVersion: 'thaw/v1', kind: 'Tenant', metadata: { name: 'acme' } }, '201'],
      ['delete', '/admin/v1/tenants/{name}', '/admin/v1/tenants/acme', undefined, '200'],
      ['post', '/admin/v1/store/gc', '/admin/v1/store/gc?dry_run=1', undefined, '200'],
    ];
    for (const [method, path, url, body, status] of acts) {
      const answer = await server.call(method.toUpperCase(), url, body);
      assert.equal(String(answer.status), status, `${method} ${url}: ${answer.text}`);
      assert.deepEqual(mistakes(answer.json, schemaOf(path, method, status)['application/json'].schema, document), [], `${method} ${url}`);
    }
    const missing = await server.call('GET', '/admin/v1/models/nothing');
    assert.deepEqual(mistakes(missing.json, schemaOf('/admin/v1/models/{name}', 'get', 'default')['application/json'].schema, document), []);
  });

  it('has a validator that finds what is wrong', () => {
    const schema = { type: 'object', properties: { a: { type: 'integer' }, b: { type: ['string', 'null'] }, c: { type: 'array', items: { type: 'number' } } }, required: ['a'] };
    assert.deepEqual(mistakes({ a: 1, b: null, c: [1, 1.5] }, schema, {}), []);
    assert.deepEqual(mistakes({ a: 1.5, c: ['x'], d: 1 }, schema, {}), ['$.a: is number, not integer', '$.c[0]: is string, not number', '$.d: is in no schema']);
    assert.deepEqual(mistakes({}, schema, {}), ['$.a: is missing']);
  });
});
