// Standby: an idle model gives its memory back without ending, and answers as before when it is asked again.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, it } from 'node:test';

import { chat, fakeModel, realModel, textOf, useServer } from './lib/server.js';
import { runs } from './lib/traces.js';
import { until } from './lib/until.js';

const standby = { mode: 'always' };

function using(server) {
  const instanceOf = async (model) => (await server.instances()).find((one) => one.model === model);
  return {
    instanceOf,
    ask: (model, prompt, more = {}) => server.openai().chat.completions.create(chat(model, prompt, { temperature: 0, max_tokens: 8, ...more })),
    async freeze(model) {
      const answer = await server.call('POST', `/admin/v1/models/${model}/freeze`);
      assert.equal(answer.status, 200, answer.text);
      await until(`${model} in standby`, async () => (await instanceOf(model))?.state === 'standby');
      return instanceOf(model);
    },
  };
}

/** Whether the kernel holds the process where it stands: no CPU time passes for it, and its group says so. */
function frozen(pid) {
  const [, group] = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').match(/^0::(.*)$/m) ?? [];
  for (const root of ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']) {
    const file = `${root}${group}/cgroup.events`;
    if (group && fs.existsSync(file)) return /^frozen 1$/m.test(fs.readFileSync(file, 'utf8'));
  }
  const [, v1] = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').match(/:freezer:(.*)$/m);
  return fs.readFileSync(`/sys/fs/cgroup/freezer${v1}/freezer.state`, 'utf8').trim() === 'FROZEN';
}

describe('standby with a real engine', { timeout: 240_000 }, () => {
  const server = useServer();
  const { ask, freeze, instanceOf } = using(server);

  it('freezes by hand, and the next request wakes it and gets the same answer', async () => {
    await server.deploy(realModel('stories', { standby }));
    const before = (await ask('stories', 'Once upon a time')).choices[0].message.content;
    const rests = await freeze('stories');
    assert.ok(frozen(rests.pid));
    const { data, response } = await ask('stories', 'Once upon a time').withResponse();
    assert.equal(data.choices[0].message.content, before);
    const woken = await instanceOf('stories');
    assert.equal(woken.pid, rests.pid, 'the same process');
    assert.equal(woken.way, 'wake');
    const record = await server.record(response.headers.get('x-request-id'));
    assert.equal(record.way, 'wake', JSON.stringify(record));
    assert.match(record.why, /./, 'the record says why this way');
  });

  it('freezes by itself when idle, and wakes for a stream', async () => {
    await server.deploy(realModel('idle', { standby, scaling: { idleTimeout: '1s' } }));
    await ask('idle', 'Once');
    await until('in standby', async () => (await instanceOf('idle'))?.state === 'standby');
    const stream = await ask('idle', 'Once', { stream: true });
    assert.ok((await textOf(stream)).length > 0);
    await until('in standby again', async () => (await instanceOf('idle'))?.state === 'standby');
    assert.equal((await server.modelInfo('idle')).tiers.wakes, 1);
    assert.equal((await server.modelInfo('idle')).cold_starts, 1);
  });

  it('thaw ps and thaw ls say what rests', async () => {
    await freeze('stories');
    for (const command of ['ps', 'ls']) {
      const { code, stdout } = await server.cli([command]);
      assert.equal(code, 0);
      assert.match(stdout, /stories.*standby/, `thaw ${command}:\n${stdout}`);
    }
  });

  it('a stop in standby leaves nothing', async () => {
    assert.equal((await server.call('POST', '/admin/v1/models/stories/stop')).status, 200);
    assert.equal((await server.call('POST', '/admin/v1/models/idle/stop')).status, 200);
    await until('both gone', async () => (await server.instances()).length === 0);
    await server.nothingLeft();
  });
});

describe('what goes wrong in standby', { timeout: 240_000 }, () => {
  const server = useServer();
  const { ask, freeze, instanceOf } = using(server);

  it('an engine that dies frozen is told, and the next request starts another', async () => {
    await server.deploy(fakeModel('dies', { standby }));
    await ask('dies', 'one');
    const { id, pid } = await freeze('dies');
    process.kill(pid, 'SIGKILL');
    const { data, response } = await ask('dies', 'two three').withResponse();
    assert.equal(data.choices[0].message.content.slice(0, 4), ' two');
    assert.notEqual((await instanceOf('dies')).id, id);
    assert.ok(['cold', 'wait'].includes(response.headers.get('x-thaw-start')), response.headers.get('x-thaw-start'));
  });

  it('after kill -9 of the server nothing that was frozen is left, and everything answers', async () => {
    await freeze('dies');
    const { pid } = await instanceOf('dies');
    await server.end('SIGKILL');
    await server.start();
    await server.nothingLeft();
    assert.ok(!runs(pid));
    assert.equal((await ask('dies', 'again')).choices[0].message.content, ' again again again again again again again again');
  });

  it('SIGTERM ends the frozen too, at once', async () => {
    await freeze('dies');
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true });
  });
});
