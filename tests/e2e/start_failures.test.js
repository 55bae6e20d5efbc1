// Engines that do not come up: retried with back-off while the request waits, then a clear error. Never a lost request.
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import OpenAI from 'openai';

import { scratch } from './lib/environment.js';
import { chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const failures = (metrics, reason) => Number(metrics.match(new RegExp(`^thaw_instance_failures_total\\{[^}]*reason="${reason}"[^}]*\\} (\\d+)`, 'm'))?.[1] ?? 0);

describe('an engine that fails at first', { timeout: 180_000 }, () => {
  // It counts its starts in a file, which a sandbox would not let it keep.
  const server = useServer({ args: ['--sandbox=none'] });

  it('is started again, and the request that waited is answered', async () => {
    const state = path.join(scratch, 'starts');
    await server.deploy(fakeModel('moody', { args: ['--fake-fail-first-starts', '2', '--fake-state', state] }));
    const { data, response } = await server.openai().chat.completions.create(chat('moody', 'at last', { max_tokens: 2 })).withResponse();
    assert.equal(data.choices[0].message.content, ' at last');
    assert.equal(response.headers.get('x-thaw-start'), 'cold');
    const info = await server.modelInfo('moody');
    assert.equal(info.start_failures, 2);
    assert.equal(info.cold_starts, 1);
    const record = await server.record(response.headers.get('x-request-id'));
    assert.equal(record.attempts, 1, 'it was sent to one replica only');
    assert.ok(record.queued_ms >= 600, `two back-offs of 200 and 400 ms are in ${record.queued_ms}`);
    assert.equal(failures(await server.metrics(), 'start_failed'), 2);
  });
});

describe('an engine that does not start', { timeout: 240_000 }, () => {
  const server = useServer({ config: { node: { stopGrace: '500ms' } } });
  const ask = (model, more = {}) => server.openai().chat.completions.create(chat(model, 'hello', more));

  it('hangs: given up at its deadline, tried again, then refused with the reason', async () => {
    await server.deploy(fakeModel('hangs', { args: ['--fake-hang-start'], startDeadline: '600ms' }));
    await assert.rejects(ask('hangs'), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError);
      assert.equal(error.status, 503);
      assert.equal(error.code, 'start_failed');
      assert.match(error.message, /hangs does not start \(3 times in a row\).*startDeadline/);
      return true;
    });
    assert.equal((await server.modelInfo('hangs')).start_failures, 3);
    assert.equal(failures(await server.metrics(), 'start_timeout'), 3);
    await server.nothingLeft();
  });

  it('exits: all who wait get the engine\'s own words; the CLI shows them too', async () => {
    await server.deploy(fakeModel('fails', { args: ['--fake-fail-start'] }));
    const results = await Promise.allSettled(Array.from({ length: 5 }, () => ask('fails')));
    for (const { status, reason } of results) {
      assert.equal(status, 'rejected');
      assert.equal(reason.status, 503);
      assert.match(reason.message, /exit status 1: fake-engine: asked to fail/);
    }
    assert.equal((await server.modelInfo('fails')).start_failures, 3, 'all shared the same three starts');
    assert.match((await server.cli(['ls', 'fails'])).stdout, /^last failure .*asked to fail/m);
    assert.match((await server.cli(['logs', 'fails'])).stdout, /asked to fail/);
    await server.nothingLeft();
  });

  it('deployed again after the mistake was mended, it works at once', async () => {
    await server.deploy(fakeModel('fails'));
    assert.equal((await ask('fails', { max_tokens: 1 })).choices[0].message.content, ' hello');
  });

  it('needs more memory than its limit: said so, counted so', async () => {
    const greedy = fakeModel('greedy', { args: ['--fake-alloc-mib', '256'], resources: { deviceMemory: '16MiB', hostMemory: '16MiB' } });
    await server.deploy(greedy);
    await assert.rejects(ask('greedy'), (error) => {
      assert.equal(error.status, 503);
      assert.match(error.message, /memory limit of 32 ?MiB.*deviceMemory/);
      return true;
    });
    assert.ok(failures(await server.metrics(), 'out_of_memory') >= 1);
  });

  it('is no engine at all, or has no model: said at deploy where that can be seen', async () => {
    const missing = fakeModel('missing');
    missing.spec.source.path = '/nonexistent/model.gguf';
    const answer = await server.call('POST', '/admin/v1/models', missing);
    assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status}`);
    assert.match(answer.json.error.message, /nonexistent/);

    await server.deploy(fakeModel('noengine', { enginePath: '/nonexistent/engine' }));
    await assert.rejects(ask('noengine'), (error) => error.status === 503 && /nonexistent\/engine/.test(error.message));

    const odd = await server.call('POST', '/admin/v1/models', fakeModel('odd', { args: ['--port', '80'] }));
    assert.equal(odd.status, 400);
    assert.match(odd.json.error.message, /--port/);
  });

  it('that ignores SIGTERM is stopped all the same', async () => {
    await server.deploy(fakeModel('stubborn', { args: ['--fake-ignore-sigterm'] }));
    await ask('stubborn', { max_tokens: 1 });
    await server.call('POST', '/admin/v1/models/stubborn/stop');
    await server.call('POST', '/admin/v1/models/fails/stop');
    await until('it is gone', async () => (await server.instances()).length === 0);
    await server.nothingLeft();
  });

  it('stopped while it starts: the start ends, the next request begins another', async () => {
    await server.deploy(fakeModel('slow', { args: ['--fake-start-delay-ms', '60000'] }));
    const abandoned = ask('slow').catch((error) => error);
    await until('it starts', async () => (await server.modelInfo('slow')).starting === 1);
    await server.call('POST', '/admin/v1/models/slow/stop?kill=1');
    assert.equal((await abandoned).status, 503);
    await until('it is gone', async () => (await server.instances()).length === 0);
    await server.deploy(fakeModel('slow'));
    assert.equal((await ask('slow', { max_tokens: 1 })).choices[0].message.content, ' hello');
  });
});
