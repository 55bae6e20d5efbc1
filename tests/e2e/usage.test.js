// What requests used: on record from before a replica has them, once each, whatever happens to the server.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const prices = { currency: 'EUR', deviceSecond: 0.5, promptTokens1k: 2, completionTokens1k: 4, models: { other: { completionTokens1k: 8 } } };

/** Every row, page after page. */
async function rowsOf(server) {
  const rows = [];
  for (let after = 0; after !== null; ) {
    const { json } = await server.call('GET', `/admin/v1/usage/requests?limit=50&after=${after}`);
    assert.equal(json.incomplete, null);
    rows.push(...json.requests);
    after = json.next;
  }
  return rows;
}

const csv = (text) => text.trim().split('\r\n').map((line) => line.split(','));
const today = () => new Date().toISOString().slice(0, 10);

describe('usage', { timeout: 240_000 }, () => {
  const server = useServer({ config: { usage: { prices } } });
  const ask = async (model, prompt, more) => {
    const { data, response } = await server.openai().chat.completions.create(chat(model, prompt, more)).withResponse();
    return { usage: data.usage, id: response.headers.get('x-request-id') };
  };

  it('has a row for each request, with how it ended and what it held', async () => {
    await server.deploy(fakeModel('fake'));
    await server.deploy(fakeModel('other'));
    const cold = await ask('fake', 'fake:tokens=5');
    const warm = await ask('fake', 'fake:tokens=7,first_ms=200');
    await assert.rejects(ask('fake', 'fake:status=500'));
    const controller = new AbortController();
    const leaving = server.openai().chat.completions.create(chat('fake', 'fake:tokens=1,first_ms=60000'), { signal: controller.signal });
    await until('it is with the engine', async () => (await server.fakeTotals('fake')).active === 1);
    controller.abort();
    await assert.rejects(leaving);
    await until('the row is closed', async () => (await rowsOf(server)).length === 4);

    const rows = await rowsOf(server);
    const row = (id) => rows.find((one) => one.request === id);
    assert.deepEqual(rows.map((one) => one.outcome), ['ok', 'ok', 'failed', 'cancelled']);
    for (const one of rows) assert.deepEqual([one.tenant, one.model, one.dispatched], ['default', 'fake', true]);
    assert.equal(rows[0].key, parseInt(server.key.split('_')[1], 36));
    const first = row(cold.id);
    assert.deepEqual([first.way, first.prompt_tokens, first.completion_tokens], ['cold', cold.usage.prompt_tokens, 5]);
    assert.ok(first.start_ms > 0 && first.wait_ms >= first.start_ms * 0.9, JSON.stringify(first));
    const second = row(warm.id);
    assert.deepEqual([second.way, second.completion_tokens, second.start_ms], ['warm', 7, 0]);
    assert.ok(second.service_ms >= 200 && second.service_ms <= second.ended_unix_ms - second.arrived_unix_ms + 1, JSON.stringify(second));
    assert.deepEqual(rows.map((one) => one.status), [200, 200, 500, 499]);
  });

  it('the device time of requests that are served at once is shared, not counted twice', async () => {
    const before = (await rowsOf(server)).length;
    const began = performance.now();
    await Promise.all([1, 2].map(() => ask('fake', 'fake:tokens=1,first_ms=500')));
    const took_ms = performance.now() - began;
    const both = (await rowsOf(server)).slice(before);
    const sum = both[0].service_ms + both[1].service_ms;
    assert.ok(sum >= 500 && sum <= took_ms, `${sum} ms of ${took_ms} ms`);
  });

  it('sums agree with the rows, in every grouping, as JSON, table and CSV, with costs', async () => {
    await ask('other', 'fake:tokens=100');
    const rows = await rowsOf(server);
    const total = (key, list = rows) => list.reduce((sum, row) => sum + row[key], 0);
    for (const by of ['model', 'tenant', 'day', 'key']) {
      const { json } = await server.call('GET', `/admin/v1/usage?by=${by}`);
      assert.equal(json.currency, 'EUR');
      assert.equal(total('requests', json.groups), rows.length, by);
      for (const key of ['prompt_tokens', 'completion_tokens']) assert.equal(total(key, json.groups), total(key), by);
      assert.ok(Math.abs(total('cost', json.groups) - total('cost')) < 1e-4, `${by}: ${total('cost', json.groups)} ${total('cost')}`);
    }
    const other = rows.find((row) => row.model === 'other');
    const cost = (other.service_ms + other.start_ms) / 1000 * 0.5 + other.prompt_tokens * 0.002 + 100 * 0.008;
    assert.ok(Math.abs(other.cost - cost) < 1e-5, `${other.cost} ${cost}`);

    const lines = csv((await server.cli(['usage', '--csv'])).stdout);
    assert.equal(lines.length, 3);
    assert.deepEqual(lines[0].slice(0, 3), ['model', 'requests', 'ok']);
    assert.deepEqual([lines[2][0], lines[2].at(-1)], ['other', 'EUR']);
    const table = await server.cli(['usage', '--by', 'tenant']);
    assert.match(table.stdout, /^TENANT +REQUESTS .*COST_EUR\ndefault +\d+ /);
    const listed = csv((await server.cli(['usage', '--requests'])).stdout);
    assert.equal(listed.length, rows.length + 1);
    assert.equal(listed[1][0], rows[0].request);
  });

  it('takes a period, and says what is wrong with one', async () => {
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
    const groups = async (query) => (await server.call('GET', `/admin/v1/usage?${query}`)).json.groups;
    assert.equal((await groups(`since=${today()}&until=${tomorrow}`)).length, 2);
    assert.deepEqual(await groups(`since=${tomorrow}`), []);
    assert.deepEqual(await groups(`until=${today()}`), []);
    for (const query of ['since=yesterday', 'by=mood', 'until=2026-02-30']) assert.equal((await server.call('GET', `/admin/v1/usage?${query}`)).status, 400, query);
    assert.equal((await server.call('GET', '/admin/v1/usage/requests?limit=0')).status, 400);
    assert.match((await server.cli(['usage', '--since', 'yesterday'])).stderr, /2026-11-25/);
  });

  it('forgets a tenant: no row, no key, no name is left, the sums are', async () => {
    const before = (await server.call('GET', '/admin/v1/usage?by=tenant')).json.groups[0];
    const { json, status } = await server.call('POST', '/admin/v1/tenants/default/erase');
    assert.equal(status, 200);
    assert.equal(json.usage_rows_removed, before.requests);
    assert.deepEqual(await rowsOf(server), []);
    const { groups } = (await server.call('GET', '/admin/v1/usage?by=tenant')).json;
    assert.equal(groups.length, 1);
    assert.match(groups[0].tenant, /^erased-[0-9a-f]{16}$/);
    assert.equal(groups[0].requests, before.requests);
    const again = await server.cli(['tenant', 'erase', 'default']);
    assert.deepEqual([again.code, again.stdout], [0, 'erased tenant default: 0 rows of usage removed\n']);
    assert.equal((await server.cli(['audit', 'verify', '--data-dir', server.dataDir])).code, 0);
    await server.end();
    for (const file of ['usage.db', 'usage.journal']) assert.ok(!fs.readFileSync(path.join(server.dataDir, file)).includes('default'), file);
  });
});

describe('usage and kill -9 in the middle of load', { timeout: 240_000 }, () => {
  const server = useServer();
  const seen = new Map(); // id -> what the client was told: of answers that it has whole
  const begun = new Set(); // ids of streams that had begun and did not end

  it('every request is on record once: whole ones with the tokens that the client saw, open ones as interrupted', async () => {
    await server.deploy(fakeModel('fake', { scaling: { maxReplicas: 2, targetConcurrency: 8 } }));
    await server.openai().chat.completions.create(chat('fake', 'fake:tokens=1'));
    const waiting = [1, 2, 3].map(() => server.openai().chat.completions.create(chat('fake', 'fake:tokens=3,first_ms=60000')).catch((error) => error));
    const streams = [1, 2].map(() => server.openai().chat.completions.create(chat('fake', 'fake:tokens=1000,delay_ms=60', { stream: true })).withResponse());
    for (const { data, response } of await Promise.all(streams)) {
      begun.add(response.headers.get('x-request-id'));
      (async () => {
        for await (const chunk of data) assert.ok(chunk);
      })().catch(() => {});
    }
    await until('the waiting ones are with engines', async () => (await server.fakeTotals('fake')).active >= 5);

    let ended = false;
    let sent = 0;
    const client = server.openai();
    const worker = async (number) => {
      for (let i = 0; !ended; ++i) {
        ++sent;
        try {
          const body = chat('fake', `fake:tokens=${1 + ((7 * i + number) % 11)}`, { stream: i % 2 === 1, stream_options: i % 2 === 1 ? { include_usage: true } : undefined });
          const { data, response } = await client.chat.completions.create(body).withResponse();
          let { usage } = data;
          if (body.stream) for await (const chunk of data) usage = chunk.usage ?? usage;
          seen.set(response.headers.get('x-request-id'), usage);
        } catch {
          return; // the server is gone
        }
      }
    };
    const workers = Array.from({ length: 6 }, (_, number) => worker(number));
    await until('there was some load', () => seen.size > 300, { timeout_ms: 60_000 });
    await server.end('SIGKILL');
    ended = true;
    await Promise.all([...workers, ...waiting]);

    await server.start();
    const rows = await rowsOf(server);
    const ids = rows.map((row) => row.request);
    assert.equal(new Set(ids).size, ids.length, 'a request is there twice');
    const byId = new Map(rows.map((row) => [row.request, row]));
    for (const [id, usage] of seen) {
      const row = byId.get(id);
      assert.ok(row, `${id} was answered and is not on record`);
      assert.deepEqual([row.outcome, row.prompt_tokens, row.completion_tokens], ['ok', usage.prompt_tokens, usage.completion_tokens], id);
    }
    for (const id of begun) assert.deepEqual([byId.get(id)?.outcome, byId.get(id)?.dispatched], ['interrupted', true], id);
    const open = rows.filter((row) => row.outcome === 'interrupted' && row.dispatched);
    assert.ok(open.length >= begun.size + waiting.length, `${open.length} are interrupted`);
    // What the client did not see the end of: at most one for each worker, the waiting ones and the streams; and the first request.
    assert.ok(rows.length >= seen.size + 6 && rows.length <= seen.size + 6 + workers.length, `${rows.length} rows, ${seen.size} answers of ${sent} sent`);
    assert.match(server.log, /requests were open when the server died/);
  });

  it('and only once, also after another start', async () => {
    const before = await rowsOf(server);
    await server.end('SIGKILL');
    await server.start();
    assert.deepEqual(await rowsOf(server), before);
    const sums = (await server.call('GET', '/admin/v1/usage')).json.groups;
    assert.equal(sums[0].requests, before.length);
    assert.equal(sums[0].interrupted, before.filter((row) => row.outcome === 'interrupted').length);
  });
});
