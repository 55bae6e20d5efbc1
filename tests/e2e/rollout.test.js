// A changed spec takes over without losing a request; what cannot take over leaves the old one serving; back again; and two revisions side by side.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { chat, fakeModel, realModel, Server, useServer } from './lib/server.js';
import { until } from './lib/until.js';

/** Asks a model without a pause, a few at a time, until told to stop: [{status, revision}] of all. */
function load(server, model, { streams = 3, prompt = 'Once upon a time', max_tokens = 4 } = {}) {
  const answers = [];
  let going = true;
  const one = async (n) => {
    for (let i = 0; going; i++) {
      const answer = await server.call('POST', '/v1/chat/completions', chat(model, `${prompt} ${n}.${i}`, { max_tokens, stream: n % 2 === 0 }));
      const complete = n % 2 === 0 ? answer.text.trimEnd().endsWith('data: [DONE]') : answer.json?.choices?.length === 1;
      answers.push({ status: answer.status, complete, id: answer.headers.get('x-request-id'), text: answer.text });
    }
  };
  const all = Promise.all(Array.from({ length: streams }, (_, n) => one(n)));
  return {
    answers,
    async stop() {
      going = false;
      await all;
      return answers;
    },
  };
}

const noneLost = (answers) => {
  const lost = answers.filter((one) => one.status !== 200 || !one.complete);
  assert.deepEqual(lost, [], `of ${answers.length}`);
};
const revisionOf = async (server, id) => (await server.record(id)).revision;
const revisions = async (server, model) => (await server.call('GET', `/admin/v1/models/${model}/revisions`)).json.revisions;
const ask = async (server, model, prompt = 'hello', headers = {}) => {
  const answer = await server.call('POST', '/v1/chat/completions', chat(model, prompt, { max_tokens: 2 }), headers);
  assert.equal(answer.status, 200, answer.text);
  return revisionOf(server, answer.headers.get('x-request-id'));
};
const serves = (server, model, revision) =>
  until(`revision ${revision} of ${model} serves`, async () => {
    const info = await server.modelInfo(model);
    return info.revision === revision && info.rollout === null;
  });

describe('rollout', { timeout: 240_000 }, () => {
  const server = useServer();

  it('the real engine takes other arguments under load, and no request is lost', async () => {
    await server.deploy(realModel('real', { args: ['-c', '512'], scaling: { targetConcurrency: 2, maxReplicas: 1 } }));
    assert.equal(await ask(server, 'real'), 1);
    const busy = load(server, 'real');
    await until('some were answered', () => busy.answers.length > 5);
    const deployed = await server.deploy(realModel('real', { args: ['-c', '256'], scaling: { targetConcurrency: 2, maxReplicas: 1 } }));
    assert.equal(deployed.succession, 'beside');
    assert.equal(deployed.revision, 1, 'the old one serves for now');
    assert.equal(deployed.rollout.candidate, 2);
    await serves(server, 'real', 2);
    const before = busy.answers.length;
    await until('the new one answers', () => busy.answers.length > before + 5);
    const answers = await busy.stop();
    noneLost(answers);
    assert.equal(await revisionOf(server, answers.at(-1).id), 2);
    assert.equal((await server.instances()).filter((one) => one.model === 'real' && one.state === 'ready').length, 1, 'the old one has ended');
    assert.equal((await server.call('GET', '/v1/models')).json.data.filter((one) => one.id === 'real').length, 1);
    assert.match(await server.metrics(), /thaw_requests_total\{class="2xx",model="real",revision="2"\}/);
    const usage = (await server.call('GET', '/admin/v1/usage?by=model')).json.rows ?? [];
    assert.ok(!JSON.stringify(usage).includes('real@'), 'usage is the model’s');
  });

  it('a change of bounds alone starts nothing, and the same again is no revision', async () => {
    await server.deploy(fakeModel('bounds'));
    await ask(server, 'bounds');
    const before = (await server.instances()).find((one) => one.model === 'bounds').id;
    const spec = fakeModel('bounds', { scaling: { maxReplicas: 3 } });
    assert.equal((await server.deploy(spec)).succession, 'in_place');
    await server.deploy(spec);
    assert.equal(await ask(server, 'bounds'), 2);
    assert.equal((await server.instances()).find((one) => one.model === 'bounds').id, before);
    assert.equal((await revisions(server, 'bounds')).length, 2);
  });

  it('a model at zero is replaced at once; the next request wakes the new one', async () => {
    await server.deploy(fakeModel('asleep', { args: ['--fake-tokens', '1'] }));
    assert.equal((await server.deploy(fakeModel('asleep', { args: ['--fake-tokens', '2'] }))).succession, 'at_once');
    assert.equal((await server.instances()).filter((one) => one.model === 'asleep').length, 0, 'and nothing is started for it');
    assert.equal(await ask(server, 'asleep'), 2);
  });

  it('one that does not become ready in time leaves the old one serving, and says so', async () => {
    await server.deploy(fakeModel('stuck'));
    await ask(server, 'stuck');
    const busy = load(server, 'stuck');
    await server.call('POST', '/admin/v1/models?timeout_s=1', fakeModel('stuck', { args: ['--fake-hang-start'] }));
    await until('it is given up', async () => (await server.modelInfo('stuck')).rollout?.last_failure);
    noneLost(await busy.stop());
    const info = await server.modelInfo('stuck');
    assert.equal(info.revision, 1);
    assert.match(info.rollout.last_failure, /revision 2 did not become ready in time.*revision 1 goes on serving/);
    assert.equal(await ask(server, 'stuck'), 1);
    assert.match((await server.cli(['ls', 'stuck'])).stdout, /revision 2 did not become ready/);
    const listed = await server.cli(['revisions', 'stuck']);
    assert.match(listed.stdout, /1\s+serving\s+100%/);
    assert.match(listed.stdout, /2\s+failed\s+0%/);
    await until('nothing of it is left', async () => (await server.instances()).filter((one) => one.model === 'stuck').length === 1);
    const { events } = (await server.call('GET', '/admin/v1/models/stuck/events')).json;
    const [begun, failed] = ['takeover', 'takeover_failed'].map((name) => events.find((one) => one.event === name));
    assert.match(begun.reason, /revision 2 starts beside revision 1, which serves until it is ready \(at most 1s\)/);
    assert.deepEqual([begun.rule, failed.rule], ['by_hand', 'failure']);
    assert.ok(events.some((one) => one.event === 'starting' && one.reason === 'to take over from the revision that serves'), JSON.stringify(events));
    assert.equal(failed.reason, info.rollout.last_failure);
    assert.ok(failed.took_ms >= 1000);
    assert.match((await server.cli(['events', 'stuck'])).stdout, /takeover_failed .*after 1\.\d+ s, revision 2 did not become ready in time/);
  });

  it('one whose engine dies says in whose words', async () => {
    await server.deploy(fakeModel('dies'));
    await ask(server, 'dies');
    await server.deploy(fakeModel('dies', { args: ['--fake-fail-start'] }));
    await until('it is given up', async () => (await server.modelInfo('dies')).rollout?.last_failure, { timeout_ms: 30_000 });
    assert.equal(await ask(server, 'dies'), 1);
    assert.ok((await revisions(server, 'dies')).find((one) => one.number === 2).failure);
  });

  it('rollback goes to the one that served before, or to the one that is named', async () => {
    for (const tokens of ['1', '2', '3']) {
      await server.deploy(fakeModel('back', { args: ['--fake-tokens', tokens] }));
      await ask(server, 'back');
      await serves(server, 'back', Number(tokens));
    }
    const busy = load(server, 'back');
    const back = await server.cli(['rollback', 'back']);
    assert.equal(back.code, 0, back.stderr);
    assert.match(back.stdout, /back: revision 3 serves; revision 2 starts/);
    await serves(server, 'back', 2);
    assert.equal((await server.cli(['rollback', 'back', '--to', '1'])).code, 0);
    await serves(server, 'back', 1);
    noneLost(await busy.stop());
    assert.equal(await ask(server, 'back'), 1);
    const told = (await server.call('GET', '/admin/v1/models/back/events')).json.events.filter((one) => ['takeover', 'took_over'].includes(one.event));
    assert.match(told.at(-2).reason, /^rolled back to revision 1: revision 1 starts beside revision 2/);
    assert.deepEqual([told.at(-1).event, told.at(-1).reason], ['took_over', 'revision 1 serves: a replica of it is ready']);
    const none = await server.cli(['rollback', 'back', '--to', '9']);
    assert.equal(none.code, 4, none.stderr);
    assert.match(none.stderr, /no revision 9.*thaw revisions back/);
    const again = await server.cli(['rollback', 'back', '--to', '1']);
    assert.match(again.stderr, /serves already/);
  });

  it('two share the requests by percent, the same sessions each time, until somebody decides', async () => {
    await server.deploy(fakeModel('split', { args: ['--fake-tokens', '1'] }));
    await ask(server, 'split');
    await server.call('POST', '/admin/v1/models?percent=30', fakeModel('split', { args: ['--fake-tokens', '2'] }));
    await until('they share', async () => (await server.modelInfo('split')).rollout?.stage === 'split');
    const sessions = Array.from({ length: 40 }, (_, n) => `session-${n}`);
    const whereTo = async () => {
      const to = {};
      for (const session of sessions) to[session] = await ask(server, 'split', 'hi', { 'x-session-id': session });
      return to;
    };
    const first = await whereTo();
    const there = sessions.filter((one) => first[one] === 2);
    assert.ok(there.length > 0 && there.length < sessions.length, `${there.length} of ${sessions.length} went to the new one`);
    assert.deepEqual(await whereTo(), first, 'who went there goes there again');
    const wider = await server.cli(['rollout', 'split', '--percent', '60']);
    assert.match(wider.stdout, /revision 1 serves; revision 2 gets 60% of the requests/);
    const second = await whereTo();
    for (const session of there) assert.equal(second[session], 2, 'and stays when the share grows');
    assert.equal((await server.cli(['rollout', 'split', '--percent', '100'])).code, 0);
    await serves(server, 'split', 2);
    assert.ok(Object.values(await whereTo()).every((one) => one === 2));
    const alone = await server.cli(['rollout', 'split', '--percent', '50']);
    assert.match(alone.stderr, /no second revision/);
    // An old one gets a share, and is given up again.
    assert.equal((await server.cli(['rollout', 'split', '--to', '1', '--percent', '20'])).code, 0);
    await until('they share', async () => (await server.modelInfo('split')).rollout?.stage === 'split');
    const back = await server.cli(['rollback', 'split']);
    assert.match(back.stdout, /revision 2 serves/);
    await serves(server, 'split', 2);
    const told = (await server.call('GET', '/admin/v1/models/split/events')).json.events.filter((one) => ['split', 'given_up'].includes(one.event));
    assert.deepEqual(told.map((one) => one.reason), [
      'revision 2 is ready and gets 30% of the requests, revision 1 the others',
      'revision 2 gets 60% of the requests, revision 1 the others',
      'revision 1 is ready and gets 20% of the requests, revision 2 the others',
      'revision 1 is given up: rolled back; revision 2 goes on serving',
    ]);
  });

  it('removing a model ends all of its revisions', async () => {
    await server.deploy(fakeModel('gone', { args: ['--fake-tokens', '1'] }));
    await ask(server, 'gone');
    await server.call('POST', '/admin/v1/models?percent=50', fakeModel('gone', { args: ['--fake-tokens', '2'] }));
    await until('they share', async () => (await server.modelInfo('gone')).rollout?.stage === 'split');
    assert.equal((await server.cli(['rm', 'gone'])).code, 0);
    await until('no instance is left', async () => (await server.instances()).every((one) => one.model !== 'gone'));
    assert.equal((await server.call('GET', '/admin/v1/models/gone/revisions')).status, 404);
    assert.equal((await server.deploy(fakeModel('gone'))).created, true);
    assert.equal((await revisions(server, 'gone')).length, 1);
  });

  it('a name with a revision in it is nobody’s', async () => {
    const answer = await server.call('POST', '/v1/chat/completions', chat('back@2', 'hi'));
    assert.equal(answer.status, 404);
    assert.equal(answer.json.error.code, 'model_not_found');
  });
});

describe('rollout over a restart', { timeout: 120_000 }, () => {
  it('goes on where it was', async () => {
    const server = new Server();
    try {
      await server.start();
      await server.deploy(fakeModel('m', { args: ['--fake-tokens', '1'] }));
      await ask(server, 'm');
      await server.call('POST', '/admin/v1/models?percent=50', fakeModel('m', { args: ['--fake-tokens', '2', '--fake-start-delay-ms', '2000'] }));
      assert.equal((await server.modelInfo('m')).rollout.stage, 'starting');
      await server.end('SIGKILL');
      await server.start();
      const info = await server.modelInfo('m');
      assert.equal(info.revision, 1);
      assert.equal(info.rollout.candidate, 2);
      assert.equal(await ask(server, 'm'), 1, 'the old one serves');
      await until('they share', async () => (await server.modelInfo('m')).rollout?.stage === 'split');
      assert.equal((await server.modelInfo('m')).rollout.percent, 50);
      await server.call('POST', '/admin/v1/models/m/rollout?percent=100');
      await serves(server, 'm', 2);
      await until('it has taken over', async () => (await server.modelInfo('m')).revision === 2);
      await server.end('SIGKILL');
      await server.start();
      assert.equal((await server.modelInfo('m')).revision, 2);
      assert.equal(await ask(server, 'm'), 2);
      const audit = await server.cli(['audit', 'tail', '--json', '--lines', '100', '--data-dir', server.dataDir]);
      assert.match(audit.stdout, /model\.rollout/);
    } finally {
      await server.destroy();
    }
  });
});
