// Images of initialised engines: made in the background, restored for the next request, and nobody's words in them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { binDir, scratch } from './lib/environment.js';
import { imageContents } from './lib/image.js';
import { chat, realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const missing = (() => {
  try {
    execFileSync('runsc', ['--version'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'runsc is not installed';
  }
})();

const gvisor = { sandbox: 'runsc', snapshot: { mode: 'always' } };

function using(server) {
  const images = async () => (await server.call('GET', '/admin/v1/images')).json.images;
  return {
    images,
    ask: (model, prompt) => server.openai().chat.completions.create(chat(model, prompt, { temperature: 0, max_tokens: 8 })).withResponse(),
    stop: async (model) => {
      assert.equal((await server.call('POST', `/admin/v1/models/${model}/stop`)).status, 200);
      await until(`${model} stopped`, async () => !(await server.instances()).some((one) => one.model === model));
    },
    imageOf: async (model) => {
      let found;
      const failure = async () => (await server.modelInfo(model)).tiers.last_snapshot_failure;
      await until(`an image of ${model}`, async () => (found = (await images()).find((one) => one.model === model)), { timeout_ms: 150_000 }).catch(async (error) => {
        assert.fail(`${error.message}; ${await failure()}\n${server.log}`);
      });
      return { ...found, directory: path.join(server.dataDir, 'images', found.id) };
    },
    recordOf: (response) => server.record(response.headers.get('x-request-id')),
  };
}

describe('standby in gVisor', { timeout: 120_000, skip: missing }, () => {
  const server = useServer();
  const { ask } = using(server);

  it('is frozen and woken as under runc', async () => {
    await server.deploy(realModel('rests', { sandbox: 'runsc', snapshot: { mode: 'never' }, standby: { mode: 'always' } }));
    const before = (await ask('rests', 'Once upon a time')).data.choices[0].message.content;
    const frozen = await server.call('POST', '/admin/v1/models/rests/freeze');
    assert.equal(frozen.status, 200, frozen.text);
    const state = async () => (await server.instances()).find((one) => one.model === 'rests')?.state;
    await until('in standby', async () => (await state()) === 'standby');
    const { data, response } = await ask('rests', 'Once upon a time');
    assert.equal(data.choices[0].message.content, before);
    assert.equal((await server.record(response.headers.get('x-request-id'))).way, 'wake');
  });
});

describe('images', { timeout: 300_000, skip: missing }, () => {
  const server = useServer();
  const { ask, imageOf, images, recordOf, stop } = using(server);
  const secret = 'xylophone-7391-quartz';
  const prompt = `My password is ${secret}. Once upon a time`;
  let said;

  it('one is made in the background, of no replica that served anybody', async () => {
    await server.deploy(realModel('stories', gvisor));
    const { data, response } = await ask('stories', prompt);
    said = data.choices[0].message.content;
    assert.equal((await recordOf(response)).way, 'start');
    const { directory, bytes } = await imageOf('stories');
    assert.ok(bytes > 0);
    assert.ok((await server.instances()).some((one) => one.model === 'stories' && one.state === 'ready'), 'the one that serves was left alone');

    const contents = imageContents(directory);
    assert.ok(contents.length > bytes, 'it was uncompressed');
    assert.ok(contents.includes('/thaw/model/'), 'the memory of the engine is in it: its command line');
    assert.ok(!contents.includes(secret), 'a prompt is in the image');
    assert.ok(!contents.includes(Buffer.from(secret, 'utf16le')), 'a prompt is in the image');
    const manifest = fs.readFileSync(path.join(directory, 'manifest.json'), 'utf8');
    assert.ok(!manifest.includes(secret));
  });

  it('the next cold request restores it, with the same answer and without anything cached for anybody', async () => {
    await stop('stories');
    const { data, response } = await ask('stories', prompt);
    const record = await recordOf(response);
    assert.equal(record.way, 'restore', JSON.stringify(record));
    assert.match(record.why, /./, 'the record says why this way');
    assert.ok(record.phases.some((phase) => phase.name === 'restore'), JSON.stringify(record.phases));
    assert.equal(data.choices[0].message.content, said);
    assert.equal(data.usage.prompt_tokens_details.cached_tokens, 0, 'tokens of the prompt were in the image');
    const again = await ask('stories', prompt);
    assert.ok(again.data.usage.prompt_tokens_details.cached_tokens > 0, 'what a cache would have shown');
    const [image] = await images();
    assert.equal(image.restores, 1);
  });

  it('several replicas come up from one at once', async () => {
    const { id } = await imageOf('stories');
    await stop('stories');
    await server.deploy(realModel('stories', { ...gvisor, scaling: { minReplicas: 3, maxReplicas: 3, idleTimeout: '1h' } }));
    const ready = async () => (await server.instances()).filter((one) => one.model === 'stories' && one.state === 'ready');
    await until('three replicas', async () => (await ready()).length === 3);
    const ways = (await ready()).map((one) => one.way);
    if ((await images()).some((one) => one.id === id)) assert.deepEqual(ways, ['restore', 'restore', 'restore']);
    else assert.ok(ways.every((way) => way === 'start'), 'an image of an earlier spec was used');
  });

  it('outlives kill -9 of the server', async () => {
    await server.deploy(realModel('stories', gvisor));
    const { id } = await imageOf('stories');
    await server.end('SIGKILL');
    await server.start();
    await server.nothingLeft();
    assert.deepEqual((await images()).map((one) => one.id), [id]);
    const { data, response } = await ask('stories', prompt);
    assert.equal((await recordOf(response)).way, 'restore');
    assert.equal(data.choices[0].message.content, said);
  });

  it('a replica in standby dies with the server, and the next request restores its image', async () => {
    await server.deploy(realModel('rested', { ...gvisor, standby: { mode: 'always', timeout: '1h' } }));
    const before = (await ask('rested', prompt)).data.choices[0].message.content;
    const { id } = await imageOf('rested');
    assert.equal((await server.call('POST', '/admin/v1/models/rested/freeze')).status, 200);
    const find = async () => (await server.instances()).find((one) => one.model === 'rested');
    await until('in standby', async () => (await find())?.state === 'standby');
    await server.end('SIGKILL');
    await server.start();
    await server.nothingLeft();
    assert.equal(await find(), undefined);
    assert.ok((await images()).some((one) => one.id === id));
    const { data, response } = await ask('rested', prompt);
    assert.equal((await recordOf(response)).way, 'restore');
    assert.equal(data.choices[0].message.content, before);
    assert.equal((await server.call('DELETE', '/admin/v1/models/rested')).status, 200);
  });

  it('a damaged one is dropped, the request is answered all the same, and another one is made', async () => {
    const { id, directory } = await imageOf('stories');
    await stop('stories');
    for (const name of fs.readdirSync(directory).filter((one) => !one.startsWith('manifest'))) {
      const file = path.join(directory, name);
      const fd = fs.openSync(file, 'r+');
      fs.writeSync(fd, 'damage', Math.floor(fs.fstatSync(fd).size / 2));
      fs.closeSync(fd);
    }
    const { data, response } = await ask('stories', prompt);
    assert.equal(data.choices[0].message.content, said);
    const record = await recordOf(response);
    assert.equal(record.way, 'start');
    assert.match(record.why, /damaged/, JSON.stringify(record));
    const another = await imageOf('stories');
    assert.notEqual(another.id, id);
    assert.ok(!fs.existsSync(directory));
  });

  it('thaw images lists them and takes one away', async () => {
    const { id } = await imageOf('stories');
    const listed = await server.cli(['images']);
    assert.match(listed.stdout, new RegExp(id));
    assert.equal((await server.cli(['images', 'rm', id])).code, 0);
    await until('it is gone', async () => !(await images()).some((one) => one.id === id));
  });
});

describe('images of quantised weights, which llama.cpp copies', { timeout: 300_000, skip: missing }, () => {
  const server = useServer();
  const { ask, imageOf, recordOf, stop } = using(server);
  const file = path.join(scratch, 'quantised.gguf');
  const manifestOf = async (model) => {
    const { directory, bytes } = await imageOf(model);
    return { bytes, ...JSON.parse(fs.readFileSync(path.join(directory, 'manifest.json'), 'utf8')) };
  };

  it('are the small one or the fast one, by what was measured, and answer alike', async () => {
    execFileSync(path.join(binDir, 'make-model'), ['--size', '100MB', '--type', 'q4_0', '--out', file], { stdio: 'ignore' });
    const spec = { ...gvisor, source: { path: file }, resources: { device: 'cpu', deviceMemory: '512MiB' } };
    await server.deploy(realModel('chosen', spec));
    await server.deploy(realModel('copied', { ...spec, args: ['--repack'] }));
    const said = (await ask('chosen', 'Hello')).data.choices[0].message.content;
    const chosen = await manifestOf('chosen');
    // "as it is: 95MiB, 70.1 tokens/s; --no-repack: 3MiB, 60.2 tokens/s; 86% of the token rate: the fast one is taken"
    const [, asItIs, without, kept, which] = /^as it is: .*, ([\d.]+) tokens\/s; --no-repack: .*, ([\d.]+) tokens\/s; (\d+)% of the token rate: the (small|fast) one is taken$/.exec(chosen.choice);
    assert.ok(Math.abs(Number(kept) - (100 * without) / asItIs) < 2, chosen.choice);
    if (kept !== '90') assert.equal(which, Number(kept) > 90 ? 'small' : 'fast', chosen.choice);  // 90 is either, rounded
    assert.deepEqual(chosen.extra_args.map(({ text }) => text), which === 'small' ? ['--no-repack'] : []);
    await ask('copied', 'Hello');
    const copied = await manifestOf('copied');
    assert.doesNotMatch(copied.choice, /--no-repack/, 'who says how it is to be is not asked');
    if (which === 'small') assert.ok(chosen.bytes < copied.bytes / 4, `${chosen.bytes} of ${copied.bytes}`);

    await stop('chosen');
    const { data, response } = await ask('chosen', 'Hello');
    assert.equal((await recordOf(response)).way, 'restore');
    assert.equal(data.choices[0].message.content, said);
  });
});
