// What operators read: metrics, usage, logs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { chat, fakeModel, realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

/** The value of a series; labels in any order. */
function value(text, name, labels = {}) {
  for (const line of text.split('\n')) {
    const [, found, inside, number] = line.match(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/) ?? [];
    if (found === name && Object.entries(labels).every(([key, wanted]) => inside?.includes(`${key}="${wanted}"`))) return Number(number);
  }
  return undefined;
}

describe('metrics, usage and logs', { timeout: 240_000 }, () => {
  const server = useServer({ config: { node: { logBytes: '64KiB' } } });
  const counted = { requests: 0, prompt: 0, completion: 0 };
  const count = (usage) => {
    ++counted.requests;
    counted.prompt += usage.prompt_tokens;
    counted.completion += usage.completion_tokens;
  };

  before(async () => {
    await server.deploy(realModel('stories'));
    await server.deploy(fakeModel('fake'));
    const client = server.openai();
    for (let i = 1; i <= 3; ++i) count((await client.completions.create({ model: 'stories', prompt: 'Once upon a time', max_tokens: i })).usage);
    const stream = await client.chat.completions.create(chat('stories', 'Once', { max_tokens: 6, stream: true, stream_options: { include_usage: true } }));
    let usage = null;
    for await (const chunk of stream) usage = chunk.usage ?? usage;
    count(usage);
    // A stream whose client does not ask for usage costs the same.
    const silent = await client.chat.completions.create(chat('stories', 'Once', { max_tokens: 6, stream: true }));
    for await (const chunk of silent) assert.ok(!chunk.usage);
    count(usage);
  });

  it('/metrics has every family, with the numbers of what was done', async () => {
    const text = await server.metrics();
    for (const family of [
      'thaw_requests_total', 'thaw_prompt_tokens_total', 'thaw_generation_tokens_total', 'thaw_request_queue_time_seconds',
      'thaw_time_to_first_token_seconds', 'thaw_request_duration_seconds', 'thaw_cold_start_seconds', 'thaw_cold_start_phase_seconds',
      'thaw_client_disconnects_total', 'thaw_num_requests_running', 'thaw_num_requests_waiting', 'thaw_instances',
      'thaw_device_reserved_bytes', 'thaw_device_budget_bytes', 'thaw_models', 'thaw_connections', 'thaw_buffered_request_bytes',
      'thaw_usage_rows_dropped',
      'thaw_audit_records_total',
      'thaw_audit_failures_total',
      'thaw_audit_export_failures_total',
    ])
      assert.match(text, new RegExp(`^# TYPE ${family} (counter|gauge|histogram)$`, 'm'), family);
    const model = 'stories';
    assert.equal(value(text, 'thaw_requests_total', { model, class: '2xx' }), counted.requests);
    assert.equal(value(text, 'thaw_prompt_tokens_total', { model }), counted.prompt);
    assert.equal(value(text, 'thaw_generation_tokens_total', { model }), counted.completion);
    assert.equal(value(text, 'thaw_time_to_first_token_seconds_count', { model, start: 'cold' }), 1);
    assert.equal(value(text, 'thaw_time_to_first_token_seconds_count', { model, start: 'warm' }), counted.requests - 1);
    assert.equal(value(text, 'thaw_cold_start_seconds_count', { model }), 1);
    for (const phase of ['sandbox', 'mount', 'exec', 'load']) assert.equal(value(text, 'thaw_cold_start_phase_seconds_count', { phase }), 1, phase);
    assert.equal(value(text, 'thaw_models'), 2);
    assert.equal(value(text, 'thaw_instances', { model, state: 'ready' }), 1);
    assert.ok(value(text, 'thaw_device_reserved_bytes', { device: 'cpu0' }) > 0);
    assert.equal(value(text, 'thaw_buffered_request_bytes'), 0);
    assert.equal(value(text, 'thaw_usage_rows_dropped'), 0);
  });

  it('levels follow what happens', async () => {
    const streams = [];
    await server.deploy(fakeModel('fake', { scaling: { targetConcurrency: 1 } }));
    for (let i = 0; i < 2; ++i) {
      const abort = new AbortController();
      server.openai().chat.completions.create(chat('fake', 'fake:first_ms=600000'), { signal: abort.signal }).catch(() => {});
      streams.push(abort);
    }
    await until('one runs and one waits', async () => {
      const text = await server.metrics();
      return value(text, 'thaw_num_requests_running', { model: 'fake' }) === 1 && value(text, 'thaw_num_requests_waiting', { model: 'fake' }) === 1;
    });
    streams.forEach((abort) => abort.abort());
    await until('the clients are counted', async () => value(await server.metrics(), 'thaw_client_disconnects_total') === 2);
    await server.call('POST', '/admin/v1/models/fake/stop');
    await until('the level is gone with the instance', async () => value(await server.metrics(), 'thaw_instances', { model: 'fake', state: 'ready' }) === undefined);
    const text = await server.metrics();
    assert.ok(value(text, 'thaw_instance_stops_total', { model: 'fake' }) >= 1);
    for (const family of ['thaw_instance_failures_total', 'thaw_request_retries_total', 'thaw_refusals_total']) assert.equal(value(text, family, { model: 'fake' }), undefined, `${family}: nothing failed`);
  });

  it('usage adds up to what the client was told, over a restart too', async () => {
    const row = async () => (await server.call('GET', '/admin/v1/usage')).json.groups.find((one) => one.model === 'stories');
    const wanted = { model: 'stories', requests: counted.requests, prompt_tokens: counted.prompt, completion_tokens: counted.completion };
    const of = ({ model, requests, prompt_tokens, completion_tokens }) => ({ model, requests, prompt_tokens, completion_tokens });
    const found = await row();
    assert.ok(found.cold_starts >= 1);
    assert.deepEqual(of(found), wanted);
    await server.end();
    await server.start();
    assert.deepEqual(await row(), found);
  });

  it('logs are bounded and rotated, and the last lines can be read over the seam', async () => {
    const name = 'chatty';
    await server.deploy(realModel(name, { args: ['-c', '512', '--verbose'] }));
    const directory = path.join(server.dataDir, 'logs');
    const files = () => fs.readdirSync(directory).filter((file) => file.startsWith(name));
    await until('the log has rotated', async () => {
      await server.openai().completions.create({ model: name, prompt: 'Once upon a time', max_tokens: 32 });
      const total = files().reduce((sum, file) => sum + fs.statSync(path.join(directory, file)).size, 0);
      assert.ok(total <= 64 * 1024, `${total} bytes of logs`);
      return files().length > 1;
    });
    const lines = (await server.call('GET', `/admin/v1/models/${name}/logs?tail=50`)).text.trimEnd().split('\n');
    assert.equal(lines.length, 50);
    assert.equal(fs.statSync(path.join(directory, files()[0])).mode & 0o007, 0, 'prompts may be in there: not for others');
  });
});

describe('--json', { timeout: 120_000 }, () => {
  const server = useServer({ args: ['--log-level', 'debug'], config: { log: { format: 'json' } } });

  it('the server\'s own log is a JSON object a line', async () => {
    await server.deploy(fakeModel('fake'));
    await server.openai().chat.completions.create(chat('fake', 'x', { max_tokens: 1 }));
    const lines = server.log.split('\n').filter((line) => line.startsWith('{'));
    assert.ok(lines.length >= 3);
    for (const line of lines) assert.equal(typeof JSON.parse(line), 'object', line);
  });
});
