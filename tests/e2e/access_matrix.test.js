// Every route with every role, on one's own things and on another tenant's: generated from the table that the server itself goes by.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { callAs, makeKey, makeTenant } from './lib/tenants.js';

const roles = ['admin', 'deployer', 'inference', 'read-only'];
const repository = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../..');

describe('every route × role × own and foreign tenant', { timeout: 300_000 }, () => {
  const server = useServer({ config: { node: { tenantSandbox: 'runc' } } });
  let routes;
  const callers = []; // {name, key, role, platform, tenant}
  const subjects = {}; // by the word before the *: {own, foreign, absent} of tenant acme
  let tried = 0;

  before(async () => {
    for (const tenant of ['acme', 'beta']) {
      await makeTenant(server, tenant);
      for (const role of roles) callers.push({ name: `${tenant} ${role}`, role, tenant, platform: false, ...(await makeKey(server, tenant, { role })) });
    }
    for (const role of roles) callers.push({ name: `default ${role}`, role, tenant: 'default', platform: false, ...(await makeKey(server, '', { role })) });
    for (const role of ['admin', 'read-only'])
      callers.push({ name: `platform ${role}`, role, tenant: 'default', platform: true, ...(await makeKey(server, '', { role, platform: true })) });
    routes = (await server.call('GET', '/admin/v1/routes')).json.routes;
    const deployer = (tenant) => callers.find((one) => one.name === `${tenant} deployer`).key;
    const asked = {};
    for (const [tenant, name] of [['acme', 'mine'], ['beta', 'zulu']]) {
      for (const model of ['same', name]) {
        const answer = await callAs(server, deployer(tenant), 'POST', '/admin/v1/models', fakeModel(model));
        assert.equal(answer.status, 201, answer.text);
      }
      const answer = await callAs(server, deployer(tenant), 'POST', '/v1/chat/completions', chat('same', 'hello', { max_tokens: 1 }));
      assert.equal(answer.status, 200, answer.text);
      asked[tenant] = answer.headers.get('x-request-id');
    }
    const spare = async (tenant) => String((await makeKey(server, tenant, { role: 'inference', name: 'spare' })).id);
    subjects.models = { own: 'mine', foreign: 'zulu', absent: 'nobd' };
    subjects.requests = { own: asked.acme, foreign: asked.beta, absent: asked.acme.replace(/.{4}$/, 'ffff') };
    subjects.keys = { own: await spare('acme'), foreign: await spare('beta'), absent: '98' };
    subjects.images = { absent: 'nobd-1', foreign: 'zulu-1' };
    subjects.nodes = { own: 'nothing', foreign: 'nothing', absent: 'nothing' };
    subjects.pulls = { own: '1', foreign: '2', absent: '99' };
    subjects.tenants = { own: 'nothing', foreign: 'nothing', absent: 'nothing' };
  });

  const nameOf = (route) => `${route.method} ${route.path}`;
  const allows = (route, caller) => route.scope === 'open' || (route.roles.includes(caller.role) && (route.scope === 'own' || caller.platform));
  const kindOf = (route) => route.path.split('/')[route.path.split('/').indexOf('*') - 1];
  const at = (route, subject) => route.path.replace('*', subject ?? '');

  /** What a client could compare: all but the names that it sent itself, and what differs each time. */
  function seen(answer, subject) {
    const headers = [...answer.headers].filter(([name]) => !['date', 'x-request-id', 'content-length'].includes(name));
    return JSON.stringify([answer.status, headers, answer.text]).replaceAll(subject, 'SUBJECT');
  }

  it('has a rule for every route', () => {
    assert.ok(routes.length >= 40);
    for (const route of routes) {
      assert.ok(['open', 'own', 'platform'].includes(route.scope), nameOf(route));
      assert.equal(route.roles.length === 0, route.scope === 'open', nameOf(route));
    }
    console.log(`RESULT routes_unruled 0 count # of ${routes.length}`);
  });

  it('lets nobody in without a key, or with one that was guessed', async () => {
    const real = callers[0].key;
    const guesses = [null, 'thaw_1_', `thaw_2_${'A'.repeat(32)}`, real.slice(0, -1) + (real.endsWith('a') ? 'b' : 'a'), real.replace(/^thaw_[^_]*/, 'thaw_1'),
      `${real} `.trim() + 'x', 'eyJhbGciOiJub25lIn0.e30.', real.toUpperCase()];
    for (const route of routes) {
      for (const key of route.scope === 'open' ? [null] : guesses) {
        const answer = await callAs(server, key, route.method, at(route, 'mine'));
        assert.equal(answer.status, route.scope === 'open' ? 200 : 401, `${nameOf(route)} with ${key}: ${answer.text}`);
        tried += 1;
      }
    }
  });

  it('refuses what a role may not, whatever it is done to, with the same answer', async () => {
    for (const route of routes) {
      for (const caller of callers.filter((one) => !allows(route, one))) {
        const answers = new Set();
        for (const subject of new Set(Object.values(subjects[kindOf(route)] ?? { any: 'any' }))) {
          const answer = await callAs(server, caller.key, route.method, at(route, subject), route.method === 'POST' ? '{}' : undefined);
          assert.equal(answer.status, 403, `${caller.name}: ${nameOf(route)}: ${answer.text}`);
          if (route.path.startsWith('/v1/messages')) assert.equal(answer.json.error.type, 'permission_error', 'Anthropic’s errors have no code');
          else assert.equal(answer.json.error.code, route.roles.includes(caller.role) ? 'platform_only' : 'role_forbidden');
          answers.add(seen(answer, subject));
          tried += 1;
        }
        assert.equal(answers.size, 1, `${caller.name}: ${nameOf(route)}`);
      }
    }
  });

  it('gives its own to those who may, and of another tenant the answer of what does not exist', async () => {
    for (const route of routes.filter((one) => one.scope === 'own' && one.path.includes('*') && one.path.startsWith('/admin/'))) {
      const subject = subjects[kindOf(route)];
      assert.ok(subject, `this test has no subject for ${nameOf(route)}: give it one`);
      for (const caller of callers.filter((one) => one.tenant === 'acme' && allows(route, one))) {
        const absent = await callAs(server, caller.key, route.method, at(route, subject.absent));
        const foreign = await callAs(server, caller.key, route.method, at(route, subject.foreign));
        assert.equal(absent.status, 404, `${caller.name}: ${nameOf(route)}: ${absent.text}`);
        assert.equal(seen(foreign, subject.foreign), seen(absent, subject.absent), `${caller.name}: ${nameOf(route)}`);
        // The mark that tells tenants apart inside is no way around.
        for (const trick of ['beta~zulu', '~zulu', 'beta%7Ezulu', 'beta%2Fzulu', '..%2Fzulu', 'zulu%00', 'zulu?tenant=beta', 'zulu?tenant=default']) {
          const [name, query = ''] = trick.split(/(?=\?)/);
          const answer = await callAs(server, caller.key, route.method, at(route, name) + query);
          assert.equal(answer.status, 404, `${caller.name}: ${nameOf(route)} with ${trick}: ${answer.text}`);
          tried += 1;
        }
        if (route.method === 'GET' && subject.own && !(caller.role === 'inference' && kindOf(route) === 'requests')) {
          const own = await callAs(server, caller.key, route.method, at(route, subject.own));
          assert.equal(own.status, 200, `${caller.name}: ${nameOf(route)}: ${own.text}`);
        }
        tried += 3;
      }
    }
  });

  it('shows in lists only what is the tenant’s own, and to the platform everything with its tenant', async () => {
    const of = (name) => callers.find((one) => one.name === name).key;
    for (const [list, field] of [['models', 'models'], ['instances', 'instances'], ['keys', 'keys']]) {
      const own = (await callAs(server, of('acme admin'), 'GET', `/admin/v1/${list}`)).json[field];
      assert.ok(own.length > 0, list);
      assert.deepEqual([...new Set(own.map((one) => one.tenant))], ['acme'], list);
      const all = (await callAs(server, of('platform admin'), 'GET', `/admin/v1/${list}`)).json[field];
      assert.ok(['acme', 'beta'].every((tenant) => all.some((one) => one.tenant === tenant)), list);
      const one = (await callAs(server, of('platform admin'), 'GET', `/admin/v1/${list}?tenant=beta`)).json[field];
      assert.deepEqual([...new Set(one.map((entry) => entry.tenant))], ['beta'], list);
      tried += 3;
    }
    const groups = async (who, by) => (await callAs(server, of(who), 'GET', `/admin/v1/usage?by=${by}`)).json.groups.map((one) => one[by]);
    assert.deepEqual(await groups('acme read-only', 'tenant'), ['acme']);
    assert.deepEqual(await groups('acme read-only', 'model'), ['same']);
    assert.deepEqual(await groups('platform read-only', 'model'), ['acme~same', 'beta~same']);
    const rows = (await callAs(server, of('acme admin'), 'GET', '/admin/v1/usage/requests')).json.requests;
    assert.ok(rows.length > 0 && rows.every((row) => row.tenant === 'acme' && row.model === 'same'));
    const models = (await callAs(server, of('acme inference'), 'GET', '/v1/models')).json.data;
    assert.deepEqual(models.map((one) => [one.id, one.owned_by]), [['mine', 'acme'], ['same', 'acme']]);
    assert.deepEqual((await callAs(server, of('default inference'), 'GET', '/v1/models')).json.data, []);
    const machine = (await callAs(server, of('acme admin'), 'GET', '/admin/v1/instances')).json;
    for (const key of ['devices', 'nodes', 'host_cache']) assert.ok(!(key in machine), `${key} is for the platform`);
    const defaults = (await callAs(server, of('default admin'), 'GET', '/admin/v1/keys')).json.keys;
    assert.ok(defaults.length > 0 && defaults.every((key) => !key.platform), 'keys of the platform are seen by its own alone');
  });

  it('asks only models of its own tenant, by the same name', async () => {
    for (const caller of callers.filter((one) => one.role === 'inference')) {
      for (const model of ['zulu', 'mine', 'same', 'none', 'beta~zulu', 'beta/zulu', '~zulu']) {
        const answer = await callAs(server, caller.key, 'POST', '/v1/chat/completions', chat(model, 'hello', { max_tokens: 1 }));
        const own = (caller.tenant === 'acme' && ['mine', 'same'].includes(model)) || (caller.tenant === 'beta' && ['zulu', 'same'].includes(model));
        assert.equal(answer.status, own ? 200 : 404, `${caller.name} asks ${model}: ${answer.text}`);
        if (own) assert.equal(answer.json.model, model, 'the engine says the name that its users know');
        else assert.equal(seen(answer, model), seen(await callAs(server, caller.key, 'POST', '/v1/chat/completions', chat('nobody', 'hello')), 'nobody'));
        tried += 1;
      }
    }
    const admin = callers.find((one) => one.name === 'platform admin').key;
    const answer = await callAs(server, admin, 'POST', '/v1/chat/completions?tenant=acme', chat('mine', 'hello'));
    assert.equal(answer.json.error.code, 'tenant_forbidden', 'not even who runs the platform');
  });

  it('left everybody’s things as they were', async () => {
    for (const [tenant, names] of [['acme', ['mine', 'same']], ['beta', ['same', 'zulu']]]) {
      const answer = await server.call('GET', `/admin/v1/models?tenant=${tenant}`);
      assert.deepEqual(answer.json.models.map((one) => one.name), names);
    }
    const spares = (await server.call('GET', '/admin/v1/keys')).json.keys.filter((key) => key.name === 'spare');
    assert.deepEqual(spares.map((key) => key.state), ['live', 'live']);
    console.log(`RESULT attacks_tried ${tried} count # routes × roles × tenants`);
    console.log('RESULT attacks_succeeded 0 count');
  });

  it('is the table in docs/tenants.md', () => {
    const rows = routes.map((route) => {
      const marks = ['admin', 'deployer', 'inference', 'read-only'].map((role) => (route.scope === 'open' || route.roles.includes(role) ? '✓' : ''));
      return `| \`${nameOf(route)}\` | ${route.scope} | ${marks.join(' | ')} |`;
    });
    const text = fs.readFileSync(path.join(repository, 'docs/tenants.md'), 'utf8');
    const table = text.split('\n').filter((line) => /^\| `[A-Z]+ \//.test(line));
    assert.deepEqual(table, rows, `docs/tenants.md has another table; it should be\n${rows.join('\n')}`);
  });
});
