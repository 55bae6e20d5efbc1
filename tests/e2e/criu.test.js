// Images of models under runc, by criu: with a stand-in for runc and criu, and with a real criu wherever one works.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { repo, scratch } from './lib/environment.js';
import { chat, realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const runc = { sandbox: 'runc', snapshot: { mode: 'always' } };
const prompt = 'My password is xylophone-7391-quartz. Once upon a time';
let made = 0;

/** A directory of programs, and the command that runs a server which finds them before the host's. */
function programs(files) {
  const directory = path.join(scratch, `programs-${++made}`);
  fs.mkdirSync(directory, { mode: 0o755 });
  for (const file of files) fs.copyFileSync(file, path.join(directory, path.basename(file)));
  const within = ['unshare', '--mount', 'sh', '-c', `mount --bind ${directory} /usr/local/sbin && exec "$@"`, 'sh'];
  return { directory, within };
}

function standIn() {
  const { directory, within } = programs(['runc', 'criu'].map((name) => path.join(repo, 'tests/stand_in', name)));
  const file = (name) => (text) => (text === '' ? fs.rmSync(path.join(directory, name), { force: true }) : fs.writeFileSync(path.join(directory, name), text));
  return { within, fault: file('fault'), check: file('check') };
}

function using(server) {
  const images = async () => (await server.call('GET', '/admin/v1/images')).json.images;
  const tiers = async (model) => (await server.modelInfo(model)).tiers;
  return {
    images,
    tiers,
    /** A request: what was said, and its record. */
    ask: async (model) => {
      const { data, response } = await server.openai().chat.completions.create(chat(model, prompt, { temperature: 0, max_tokens: 8 })).withResponse();
      return { said: data.choices[0].message.content, cached: data.usage.prompt_tokens_details?.cached_tokens, ...(await server.record(response.headers.get('x-request-id'))) };
    },
    stop: async (model) => {
      assert.equal((await server.call('POST', `/admin/v1/models/${model}/stop`)).status, 200);
      await until(`${model} stopped`, async () => !(await server.instances()).some((one) => one.model === model));
    },
    imageOf: async (model, other = '') => {
      let found;
      const there = async () => (found = (await images()).find((one) => one.model === model && one.id !== other));
      await until(`an image of ${model}`, there, { timeout_ms: 150_000 }).catch(async (error) => assert.fail(`${error.message}; ${(await tiers(model)).last_snapshot_failure}\n${server.log}`));
      return { ...found, directory: path.join(server.dataDir, 'images', found.id) };
    },
  };
}

describe('images by criu, with a stand-in', { timeout: 300_000 }, () => {
  const { within, fault } = standIn();
  const server = useServer({ within });
  const { ask, imageOf, images, stop } = using(server);
  let said;

  it('thaw doctor says that they can be made', async () => {
    const { stdout } = await server.cli(['doctor']);
    assert.match(stdout, /criu +4\.0-stand-in \(\/usr\/local\/sbin\/criu\): images of models under runc/);
  });

  it('one is made in the background, and the next cold request restores it', async () => {
    await server.deploy(realModel('stories', runc));
    const first = await ask('stories');
    said = first.said;
    assert.equal(first.way, 'start');
    const { id, driver } = await imageOf('stories');
    assert.equal(driver, 'criu');
    assert.match((await server.cli(['images'])).stdout, new RegExp(`${id}.*criu`));
    await stop('stories');
    const second = await ask('stories');
    assert.equal(second.way, 'restore', JSON.stringify(second));
    assert.equal(second.said, said);
    assert.ok(second.phases.some((phase) => phase.name === 'restore'), JSON.stringify(second.phases));
  });

  it('several replicas come up from one at once', async () => {
    await server.deploy(realModel('many', runc));
    await ask('many');
    await imageOf('many');
    await stop('many');
    await server.deploy(realModel('many', { ...runc, scaling: { minReplicas: 3, maxReplicas: 3, idleTimeout: '1h' } }));
    const ready = async () => (await server.instances()).filter((one) => one.model === 'many' && one.state === 'ready');
    await until('three replicas', async () => (await ready()).length === 3);
    assert.deepEqual((await ready()).map((one) => one.way), ['restore', 'restore', 'restore']);
    assert.equal((await server.call('DELETE', '/admin/v1/models/many')).status, 200);
  });

  it('outlives kill -9 of the server, and nothing that was restored does', async () => {
    const { id } = await imageOf('stories');
    await server.end('SIGKILL');
    await server.start();
    await server.nothingLeft();
    assert.deepEqual((await images()).map((one) => one.id), [id]);
    assert.equal((await ask('stories')).way, 'restore');
  });

  it('an engine that criu does not restore is started, and the image goes', async () => {
    const { id, directory } = await imageOf('stories');
    await stop('stories');
    fault('restore-refused');
    const answer = await ask('stories');
    assert.equal(answer.said, said);
    assert.equal(answer.way, 'start');
    assert.match(answer.why, /has bad size/, JSON.stringify(answer));
    await until('it is gone', async () => !(await images()).some((one) => one.id === id));
    assert.ok(!fs.existsSync(directory));
    fault('');
    await imageOf('stories', id);
  });

  it('one that ends after its restore is started, too', async () => {
    const { id } = await imageOf('stories');
    await stop('stories');
    fault('restore-dies');
    const answer = await ask('stories');
    assert.equal(answer.said, said);
    assert.equal(answer.way, 'start');
    fault('');
    await imageOf('stories', id);
  });

  it('a damaged one is dropped, the request is answered all the same, and another one is made', async () => {
    const { id, directory } = await imageOf('stories');
    await stop('stories');
    const file = path.join(directory, 'pages-1.img');
    const fd = fs.openSync(file, 'r+');
    fs.writeSync(fd, 'damage', Math.floor(fs.fstatSync(fd).size / 2));
    fs.closeSync(fd);
    const answer = await ask('stories');
    assert.equal(answer.said, said);
    assert.equal(answer.way, 'start');
    assert.match(answer.why, /damaged/, JSON.stringify(answer));
    await imageOf('stories', id);
  });

  it('one that cannot be made leaves no trace, and the reason is told', async () => {
    fault('dump-refused');
    await server.deploy(realModel('refused', runc));
    assert.equal((await ask('refused')).said, said);
    const { tiers } = using(server);
    await until('the failure is told', async () => /half of stream unix connection/.test((await tiers('refused')).last_snapshot_failure ?? ''));
    assert.ok(!(await images()).some((one) => one.model === 'refused'));
    assert.deepEqual(fs.readdirSync(path.join(server.dataDir, 'images')).filter((name) => name.startsWith('.')), []);
    fault('');
  });
});

describe('where criu does not work', { timeout: 60_000 }, () => {
  const { within, check } = standIn();
  check('Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n');
  const server = useServer({ within });

  it('models are served without images, and everybody who asks hears why', async () => {
    await server.deploy(realModel('plain', { sandbox: 'runc' }));
    assert.equal((await using(server).ask('plain')).way, 'start');
    const refused = await server.call('POST', '/admin/v1/models/plain/snapshot');
    assert.ok(refused.status >= 400, refused.text);
    assert.match(refused.text, /criu: criu 4\.0-stand-in does not work on this kernel \(criu check: vdso: Unexpected rt vDSO area bounds\)/);
    assert.match((await server.cli(['doctor'])).stdout, /vdso: Unexpected rt vDSO area bounds.*no images of models under runc/);
  });
});

const real = (() => {
  const criu = process.env.THAW_TEST_CRIU ?? ['/usr/sbin/criu', '/usr/bin/criu', '/usr/local/sbin/criu'].find((file) => fs.existsSync(file));
  if (!criu) return { missing: 'NOT TESTED with a real criu: it is not installed' };
  const check = spawnSync(criu, ['check'], { encoding: 'utf8', timeout: 10_000 });
  if (check.status === 0) return { criu };
  return { missing: `NOT TESTED with a real criu: its check fails on this kernel: ${check.stderr}` };
})();

describe('images by a real criu', { timeout: 300_000, skip: real.missing ?? false }, () => {
  const server = useServer({ config: { node: { images: { criu: real.criu } } } });
  const { ask, imageOf, stop } = using(server);

  it('hold an engine that goes on where it was, and no prompt of a user', async () => {
    await server.deploy(realModel('stories', runc));
    const first = await ask('stories');
    const { directory, driver } = await imageOf('stories');
    assert.equal(driver, 'criu');
    const contents = Buffer.concat(fs.readdirSync(directory).map((name) => fs.readFileSync(path.join(directory, name))));
    assert.ok(contents.includes('/thaw/model/'), 'the memory of the engine is in it: its command line');
    assert.ok(!contents.includes('xylophone-7391-quartz'), 'a prompt is in the image');
    await stop('stories');
    const second = await ask('stories');
    assert.equal(second.way, 'restore', `${JSON.stringify(second)}\n${server.log}`);
    assert.equal(second.said, first.said);
    assert.equal(second.cached, 0, 'tokens of the prompt were in the image');
    await server.end('SIGKILL');
    await server.start();
    await server.nothingLeft();
    const third = await ask('stories');
    assert.equal(third.way, 'restore', JSON.stringify(third));
    assert.equal(third.said, first.said);
  });
});
