// The commands as a user types them, against a real engine.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { hasStories, model, realEngine } from './lib/environment.js';
import { fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const yaml = (source) => `apiVersion: thaw/v1
kind: Model
metadata: {name: stories}
spec:
  source: {path: ${source}}
  engine: llama.cpp
  args: ["-c", "512"]
  resources: {device: cpu, deviceMemory: 64MiB, cpus: 1}
  scaling: {minReplicas: 0, maxReplicas: 2, targetConcurrency: 4, idleTimeout: 1h,
            queue: {maxLength: 100, timeout: 60s}}
  startDeadline: 60s
`;

describe('the command line', { timeout: 240_000 }, () => {
  const server = useServer({ config: { engines: { 'llama.cpp': realEngine() } } });
  const write = (name, text) => {
    fs.writeFileSync(path.join(server.directory, name), text);
    return name;
  };
  before(() => fs.copyFileSync(model, path.join(server.directory, 'stories.gguf')));

  it('deploys a YAML file, whose relative path counts from the file; again means update', async () => {
    const first = await server.cli(['deploy', write('model.yaml', yaml('./stories.gguf'))]);
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stdout, /^deployed stories: gguf v3, /);
    const again = await server.cli(['deploy', 'model.yaml']);
    assert.equal(again.code, 0);
    assert.match(again.stdout, /^updated stories/);
    const piped = await server.cli(['deploy', '-', '--json'], { input: yaml('stories.gguf') });
    assert.equal(piped.code, 0, piped.stderr);
    assert.equal(JSON.parse(piped.stdout).created, false);
  });

  it('deploys a weight file under its own or a given name', async () => {
    assert.match((await server.cli(['deploy', 'stories.gguf', '--name', 'plain', '--device-memory', '64MiB'])).stdout, /^deployed plain/);
    const { code, stdout } = await server.cli(['ls', 'plain', '--json']);
    assert.equal(code, 0);
    assert.equal(JSON.parse(stdout).spec.source.path, path.join(server.directory, 'stories.gguf'));
    assert.equal(JSON.parse(stdout).device_memory_bytes, 64 << 20);
  });

  it('says what is wrong with a spec, where, and what was meant', async () => {
    const bad = yaml('./stories.gguf').replace('idleTimeout: 1h', 'idleTimout: 1h').replace('cpus: 1', 'cpus: many');
    const { code, stderr } = await server.cli(['deploy', write('bad.yaml', bad)]);
    assert.equal(code, 2);
    const place = (word) => bad.split('\n').flatMap((line, at) => (line.includes(word) ? [`bad.yaml:${at + 1}:${line.indexOf(word) + 1}`] : []))[0];
    assert.ok(stderr.includes(`${place('idleTimout')}: spec.scaling.idleTimout: unknown key; did you mean idleTimeout?\n`), stderr);
    assert.ok(stderr.includes(`${place('many')}: spec.resources.cpus: "many" is not a number`), stderr);
    assert.equal((await server.cli(['deploy', write('no.gguf', 'not weights')])).code, 2);
    assert.equal((await server.cli(['deploy', 'missing.yaml'])).code, 4);
  });

  it('runs a prompt, streams the answer and draws the timeline', async () => {
    const { code, stdout, stderr } = await server.cli(['run', 'stories', 'Once upon a time', '--timing', '--max-tokens', '12', '--temperature', '0']);
    assert.equal(code, 0, stderr);
    assert.ok(stdout.trim().length > 0);
    for (const word of ['queue', 'sandbox', 'exec', 'load', 'first token', 'tokens/s']) assert.ok(stderr.includes(word), `${word} in:\n${stderr}`);
    assert.match(stderr, /cold/);

    const warm = await server.cli(['run', 'stories', '--json', '--max-tokens', '5'], { input: 'Once upon a time' });
    assert.equal(warm.code, 0, warm.stderr);
    const answer = JSON.parse(warm.stdout);
    assert.equal(answer.usage.completion_tokens, 5);
    assert.equal(answer.timing.cold, false);
    assert.equal(answer.timing.id, answer.request_id);
    assert.ok(answer.text.length > 0);
    if (hasStories) assert.equal(answer.finish_reason, 'length');
  });

  it('lists models and instances, as tables and as JSON', async () => {
    const table = await server.cli(['ls']);
    assert.match(table.stdout, /^NAME +STATE +REPLICAS/);
    assert.match(table.stdout, /^stories +ready +1\/2 /m);
    assert.match(table.stdout, /^plain +asleep +0\/1 /m);
    assert.deepEqual(JSON.parse((await server.cli(['ls', '--json'])).stdout).models.map((one) => one.name).sort(), ['plain', 'stories']);

    const ps = await server.cli(['ps']);
    assert.match(ps.stdout, /^ID +MODEL +STATE/);
    assert.match(ps.stdout, /^ *\d+ +stories +ready +start +cpu/m);
    const [instance] = JSON.parse((await server.cli(['ps', '--json'])).stdout).instances;
    assert.equal(instance.served, 2);
    assert.equal(instance.in_flight, 0);
    assert.equal(instance.device_bytes, 64 << 20);
    assert.ok(instance.pid > 0 && fs.existsSync(`/proc/${instance.pid}`));
  });

  it('shows the engine\'s log, and follows it until Ctrl-C', async () => {
    const { code, stdout } = await server.cli(['logs', 'stories', '--tail', '20']);
    assert.equal(code, 0);
    assert.ok(stdout.split('\n').length > 3 && stdout.split('\n').length <= 21, stdout);
    const lines = (await server.cli(['logs', 'stories', '--json', '--tail', '2'])).stdout.trim().split('\n');
    assert.equal(lines.length, 2);
    assert.equal(typeof JSON.parse(lines[0]).line, 'string');

    const follower = server.spawn(['logs', 'stories', '-f', '--tail', '0']);
    const ended = new Promise((resolve) => follower.once('close', resolve));
    let seen = '';
    follower.stdout.setEncoding('utf8').on('data', (text) => (seen += text));
    await until('new lines arrive', async () => {
      await server.openai().completions.create({ model: 'stories', prompt: 'Once', max_tokens: 1 });
      return seen.length > 0;
    });
    follower.kill('SIGINT');
    assert.equal(await ended, 130);
  });

  it('stops a model, which wakes again, and forgets one', async () => {
    assert.match((await server.cli(['stop', 'stories'])).stdout, /^stopping 1 instance of stories/);
    await until('it sleeps', async () => (await server.instances()).length === 0);
    await server.nothingLeft();
    assert.match((await server.cli(['stop', 'stories'])).stdout, /asleep already/);
    assert.equal((await server.cli(['run', 'stories', 'Once', '--max-tokens', '1'])).code, 0);

    assert.match((await server.cli(['rm', 'stories'])).stdout, /^removed stories/);
    assert.ok(fs.existsSync(path.join(server.directory, 'stories.gguf')));
    assert.equal((await server.cli(['rm', 'stories'])).code, 4);
    await until('its instance goes', async () => (await server.instances()).length === 0);
    await assert.rejects(server.openai().models.retrieve('stories'));
  });

  it('examines the host', async () => {
    const { code, stdout } = await server.cli(['doctor', '--json', '--config', server.configFile, '--data-dir', server.dataDir]);
    const report = JSON.parse(stdout);
    assert.equal(code, report.ok ? 0 : 1);
    assert.equal(report.ok, true, stdout); // this host runs these tests
    const topics = report.findings.map((finding) => finding.topic).join(',');
    for (const topic of ['privileges', 'runc', 'cgroup', 'io_uring', 'engine', 'cuda', 'server']) assert.match(topics, new RegExp(topic, 'i'));
    assert.match((await server.cli(['doctor', '--config', server.configFile])).stdout, /^ok +\S/m);
    const secure = await server.cli(['doctor', '--security', '--json', '--config', server.configFile, '--data-dir', server.dataDir]);
    const data = JSON.parse(secure.stdout).findings.filter((finding) => finding.topic === 'data');
    assert.deepEqual(data.map((finding) => finding.level), ['ok'], 'the modes that the server sets are the right ones');
    const fresh = await server.cli(['doctor', '--security', '--json', '--data-dir', `${server.dataDir}-none`]);
    assert.doesNotMatch(fresh.stdout, /chmod/, 'nobody is told to close /var/lib, or whatever the directory would lie in');
  });

  it('tells failures apart by its exit code, with words that help', async () => {
    const cases = [
      [['run', 'nobody', 'x'], {}, 4, /nobody/],
      [['ls', 'nobody'], {}, 4, /nobody/],
      [['logs', 'nobody'], {}, 4, /nobody/],
      [['ls'], { THAW_API_KEY: 'thaw_1_wrong' }, 5, /API key/],
      [['ls'], { THAW_URL: 'http://127.0.0.1:1' }, 3, /cannot reach thaw at http:\/\/127\.0\.0\.1:1: .*thaw serve/],
      [['lss'], {}, 2, /did you mean "ls"\?/],
      [['run'], {}, 2, /MODEL/],
      [['ls', '--nonsense'], {}, 2, /nonsense/],
      [['serve', '--listen', 'x:y:z'], {}, 2, /listen/],
    ];
    for (const [args, env, code, words] of cases) {
      const result = await server.cli(args, { env });
      assert.equal(result.code, code, `${args}: ${result.stderr}`);
      assert.match(result.stderr, words, `${args}`);
    }
    assert.equal((await server.cli([])).code, 2);
    for (const command of ['serve', 'deploy', 'ls', 'ps', 'run', 'logs', 'stop', 'rm', 'doctor']) {
      const help = await server.cli([command, '--help']);
      assert.equal(help.code, 0);
      assert.match(help.stdout, /Example:\n {2}thaw /, command);
    }
  });

  it('finds another server by THAW_URL and THAW_API_KEY alone', async () => {
    const env = { THAW_URL: `${server.url}/`, THAW_API_KEY: server.key, XDG_CONFIG_HOME: '/nonexistent', HOME: '/nonexistent' };
    await server.deploy(fakeModel('elsewhere'));
    assert.match((await server.cli(['ls'], { env })).stdout, /^elsewhere/m);
    assert.equal((await server.cli(['ls'], { env: { ...env, THAW_API_KEY: '' } })).code, 5);
  });
});
