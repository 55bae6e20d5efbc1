// A request may say how urgent it is, as far as its tenant may.
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { callAs, makeKey, makeTenant, setTenant } from './lib/tenants.js';
import { until } from './lib/until.js';

const one = { scaling: { targetConcurrency: 1, maxReplicas: 1 } };

describe('priority', { timeout: 120_000 }, () => {
  const server = useServer({ config: { node: { tenantSandbox: 'runc' } } });
  const key = {};
  const ask = (who, prompt, priority) =>
    server.call('POST', '/v1/chat/completions', chat('m', prompt, { max_tokens: 1 }), {
      authorization: `Bearer ${key[who]}`,
      ...(priority === undefined ? {} : { 'x-thaw-priority': priority }),
    });

  before(async () => {
    key.default = server.key;
    await makeTenant(server, 'acme');
    key.acme = (await makeKey(server, 'acme', { role: 'deployer' })).key;
    await server.deploy(fakeModel('m', one));
    const deployed = await callAs(server, key.acme, 'POST', '/admin/v1/models', fakeModel('m', one));
    assert.equal(deployed.status, 201, deployed.text);
  });

  /** In which order they are answered that come one after the other while the only replica is busy. */
  async function order(who, priorities) {
    const client = server.openai({ apiKey: key[who] });
    const busy = await client.chat.completions.create(chat('m', 'fake:tokens=100000,delay_ms=20', { stream: true }));
    await busy[Symbol.asyncIterator]().next();
    const answered = [];
    const waiting = [];
    for (const [n, priority] of priorities.entries()) {
      waiting.push(ask(who, `${n}`, priority).then((answer) => {
        assert.equal(answer.status, 200, answer.text);
        answered.push(priority ?? 'none');
      }));
      const queued = async () => (await callAs(server, key[who], 'GET', '/admin/v1/models/m')).json.queued;
      await until(`${n + 1} wait`, async () => (await queued()) === n + 1);
    }
    busy.controller.abort();
    await Promise.all(waiting);
    return answered;
  }

  it('the more urgent ones come first', async () => {
    assert.deepEqual(await order('default', ['low', undefined, 'high']), ['high', 'none', 'low']);
  });

  it('a tenant is heard as far as it may', async () => {
    assert.deepEqual(await order('acme', [undefined, 'high', 'low']), ['none', 'high', 'low'], 'high is normal for it');
    await setTenant(server, 'acme', { maxPriority: 'high' });
    assert.deepEqual(await order('acme', [undefined, 'high', 'low']), ['high', 'none', 'low']);
    await setTenant(server, 'acme');
  });

  it('what is no priority is refused', async () => {
    const answer = await ask('default', 'x', 'urgent');
    assert.equal(answer.status, 400);
    assert.match(answer.json.error.message, /x-thaw-priority: "urgent" is no priority; use low, normal or high/);
  });

  it("a tenant's models have no more than its requests may ask for", async () => {
    const refused = await callAs(server, key.acme, 'POST', '/admin/v1/models', fakeModel('urgent', { priority: 'high' }));
    assert.equal(refused.status, 403, refused.text);
    assert.match(refused.json.error.message, /spec\.priority: tenant acme may ask for normal at most; .*--max-priority high/);
    const { stdout } = await server.cli(['tenant', 'set', 'acme', '--max-priority', 'high']);
    assert.match(stdout, /max priority +high/);
    const allowed = await callAs(server, key.acme, 'POST', '/admin/v1/models', fakeModel('urgent', { priority: 'high' }));
    assert.equal(allowed.status, 201, allowed.text);
  });
});
