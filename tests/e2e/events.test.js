// thaw events and thaw explain: why replicas came and went, and what would become of a request.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { callAs, makeKey, makeTenant } from './lib/tenants.js';
import { until } from './lib/until.js';

const large = { resources: { deviceMemory: '700MiB' } };
const budget = { devices: { cpu: { memory: '1GiB' } }, node: { tenantSandbox: 'runc' } };

describe('events and explanations', { timeout: 240_000 }, () => {
  const server = useServer({ config: budget });
  const ask = async (name, prompt = 'fake:tokens=2', key = server.key) => {
    const answer = await callAs(server, key, 'POST', '/v1/chat/completions', chat(name, prompt));
    assert.equal(answer.status, 200, answer.text);
    return answer.headers.get('x-request-id');
  };
  const events = async (name, more = '') => (await server.call('GET', `/admin/v1/models/${name}/events${more}`)).json;
  const explain = async (name) => (await server.call('GET', `/admin/v1/models/${name}/explain`)).json;
  const names = (list) => list.map((one) => one.event);

  it('say why a replica started, and what a request would meet before and after', async () => {
    await server.deploy(fakeModel('one', large));
    const before = await explain('one');
    assert.equal(before.prospect, 'begins_replica');
    assert.equal(before.way, 'start');
    assert.deepEqual(before.devices, ['cpu0']);
    assert.equal(before.at_least, true, 'no start was measured yet');
    assert.deepEqual((await server.instances()).length, 0, 'explaining starts nothing');

    const request = await ask('one');
    const { events: all, last } = await events('one');
    assert.deepEqual(names(all), ['deployed', 'starting', 'ready']);
    assert.equal(all[1].request, request);
    assert.equal(all[1].rule, 'request');
    assert.equal(all[1].reason, 'first request');
    assert.equal(all[1].device, 'cpu0');
    assert.ok(all[2].took_ms > 0);
    assert.equal(all[2].replica, all[1].replica);
    assert.deepEqual((await events('one', `?after=${last}`)).events, []);

    const warm = await explain('one');
    assert.equal(warm.prospect, 'dispatched');
    assert.equal(warm.replica, all[1].replica);
    assert.deepEqual(warm.parts.map((part) => part.name), ['first answer']);
    assert.equal(warm.at_least, false);
  });

  it('name the request that wanted the room of a replica that was evicted', async () => {
    await server.deploy(fakeModel('two', large));
    const planned = await explain('two');
    assert.equal(planned.prospect, 'begins_replica');
    assert.deepEqual(planned.displaces.map(({ model, to, in_flight }) => ({ model, to, in_flight })), [{ model: 'one', to: 'stopped', in_flight: 0 }]);
    assert.ok(planned.parts.some((part) => part.name === 'room'), JSON.stringify(planned.parts));

    const request = await ask('two');
    const stopping = (await events('one')).events.find((event) => event.event === 'stopping');
    assert.equal(stopping.rule, 'evicted');
    assert.equal(stopping.request, request);
    assert.equal(stopping.reason, 'evicted for two');
    assert.equal(names((await events('one')).events).at(-1), 'gone');
  });

  it('say why a model fails, and that a request would wait for the next try', async () => {
    await server.deploy(fakeModel('broken', { args: ['--fake-fail-start'] }));
    await server.call('POST', '/admin/v1/models/broken/wake');
    const failed = await until('it failed', async () => (await events('broken')).events.find((event) => event.event === 'failed'));
    assert.equal(failed.rule, 'failure');
    assert.match(failed.reason, /start_failed: /);
    assert.equal((await events('broken')).events.find((event) => event.event === 'starting').rule, 'by_hand');
    await server.call('DELETE', '/admin/v1/models/broken');
  });

  it('say what a priority would change, as far as the tenant may ask for it', async () => {
    const of = async (more, status = 200) => {
      const answer = await server.call('GET', `/admin/v1/models/two/explain${more}`);
      assert.equal(answer.status, status, answer.text);
      return answer.json;
    };
    assert.equal((await of('')).priority, 'normal');
    assert.equal((await of('?priority=high')).priority, 'high');
    assert.match((await of('?priority=urgent', 400)).error.message, /\?priority=: "urgent" is no priority; use low, normal or high/);
    const shown = await server.cli(['explain', 'two', '--priority', 'high']);
    assert.match(shown.stdout, /^priority +high$/m, shown.stderr);
    assert.notEqual((await server.cli(['explain', 'two', '--priority', 'urgent'])).code, 0);
  });

  it('are shown by the command line, also as they happen', async () => {
    const shown = await server.cli(['events', 'two', '--tail', '2']);
    assert.equal(shown.code, 0, shown.stderr);
    assert.match(shown.stdout, /^\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} {2}starting +\d+ {2}\S+\/cpu0 +first request \[request req_[0-9a-f]+\]\n.* ready .*after .* by start/);
    const explained = await server.cli(['explain', 'two']);
    assert.equal(explained.code, 0, explained.stderr);
    assert.match(explained.stdout, /has a free slot[^]*first token +about [^]*PART +TAKES +FROM\nfirst answer/);
    assert.equal(JSON.parse((await server.cli(['explain', 'two', '--json'])).stdout).prospect, 'dispatched');
    assert.equal((await server.cli(['events', 'nothing'])).code, 4);

    const child = server.spawn(['events', 'two', '--follow', '--json', '--tail', '0']);
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (data) => (text += data));
    const ended = new Promise((resolve) => child.once('close', resolve));
    // It has its place in the stream once the first new event is there: until then others may come before it asked.
    await until('it follows', async () => {
      await server.call('POST', '/admin/v1/models/two/stop');
      await ask('two');
      return text.includes('"ready"');
    });
    child.kill('SIGINT');
    await ended;
    const followed = text.trim().split('\n').map(JSON.parse);
    assert.ok(names(followed).includes('stopping'), text);
    assert.equal(followed.find((event) => event.event === 'stopping').rule, 'by_hand');
  });

  it('keep tenants apart: neither names another one’s models, replicas or requests', async () => {
    await makeTenant(server, 'acme');
    const { key } = await makeKey(server, 'acme', { role: 'deployer' });
    const deployed = await callAs(server, key, 'POST', '/admin/v1/models', fakeModel('secret', large));
    assert.equal(deployed.status, 201, deployed.text);
    await ask('two');
    const planned = (await callAs(server, key, 'GET', '/admin/v1/models/secret/explain')).json;
    assert.deepEqual(planned.displaces, [{ replica: null, model: null, tenant: null, to: 'stopped', in_flight: 0 }]);
    assert.doesNotMatch(JSON.stringify(planned), /two/);
    await ask('secret', 'fake:tokens=2', key);
    const stopping = (await events('two')).events.filter((event) => event.rule === 'evicted').at(-1);
    assert.equal(stopping.request, null);
    assert.equal(stopping.reason, "evicted for another tenant's model");
    for (const what of ['events', 'explain']) {
      assert.equal((await callAs(server, key, 'GET', `/admin/v1/models/two/${what}`)).status, 404, 'another tenant’s model is as one that is not there');
      assert.equal((await server.call('GET', `/admin/v1/models/secret/${what}?tenant=acme`)).status, 200);
    }
  });
});
