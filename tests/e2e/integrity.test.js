// What becomes of a model whose file changes: on the disk while it sleeps, and under a replica that has it mapped.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { model, scratch } from './lib/environment.js';
import { realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const digestOf = (file) => crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex');

/** Changes one bit of a weight, in place. */
function flip(file) {
  const fd = fs.openSync(file, 'r+');
  const place = fs.fstatSync(fd).size - 4;
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, place);
  byte[0] ^= 1;
  fs.writeSync(fd, byte, 0, 1, place);
  fs.closeSync(fd);
}

describe('integrity of model files', { timeout: 240_000 }, () => {
  const server = useServer();
  const directory = fs.mkdtempSync(path.join(scratch, 'integrity-'));
  fs.chmodSync(directory, 0o755);
  const file = path.join(directory, 'weights.gguf');
  fs.copyFileSync(model, file);
  fs.chmodSync(file, 0o644);
  const original = digestOf(file);

  const ask = () => server.openai().completions.create({ model: 'm', prompt: 'Once', max_tokens: 4, temperature: 0 });
  const verify = (...more) => server.cli(['verify', 'm', ...more]);
  const ready = async () => (await server.instances()).find((one) => one.state === 'ready');
  const known = async () => (await server.modelInfo('m')).files[0];
  /** Whether the process has this very file mapped. */
  const maps = (pid, inode) => fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').some((line) => line.split(/\s+/)[4] === String(inode));
  const sleeps = async () => {
    await server.cli(['stop', 'm']);
    await until('it is asleep', async () => (await server.instances()).length === 0);
  };

  it('hashes a file in the background once it has been loaded', async () => {
    await server.deploy(realModel('m', { source: { path: file } }));
    assert.equal((await known()).deployed.sha256, null);
    await ask();
    await until('the digest is recorded', async () => (await known()).deployed.sha256);
    assert.equal((await known()).deployed.sha256, original);
    assert.ok((await known()).deployed.verified_unix_ms > 0);
  });

  it('thaw verify finds it intact', async () => {
    const { code, stdout, stderr } = await verify();
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^intact +\S+weights\.gguf \(.*sha256 [0-9a-f]{64}\)$/m);
    const json = JSON.parse((await verify('--json')).stdout);
    assert.equal(json.ok, true);
    assert.equal(json.models[0].files[0].sha256, original);
    assert.equal((await server.cli(['verify', 'nobody'])).code, 4);
  });

  it('thaw verify names a damaged file, though its size and time are as they were', async () => {
    await sleeps();
    const { atime, mtime } = fs.statSync(file, { bigint: false });
    fs.utimesSync(file, atime, mtime); // to what survives the way through a double
    await server.deploy(realModel('m', { source: { path: file } }));
    assert.equal((await verify()).code, 0);
    flip(file);
    fs.utimesSync(file, atime, mtime);
    const { code, stdout, stderr } = await verify();
    assert.equal(code, 1);
    assert.ok(stdout.includes(`damaged   ${file}: `), stdout);
    assert.ok(stdout.includes(`sha256 now      ${digestOf(file)}`), stdout);
    assert.ok(stdout.includes(`sha256 recorded ${original}`), stdout);
    assert.match(stderr, /not those that were deployed: fetch them again, or, if the new ones are meant, deploy the model again/);
    assert.match(await server.metrics(), /^thaw_model_file_mismatches_total\{model="m"\} 1$/m);
    flip(file);
    assert.equal((await verify()).code, 0, 'the old bytes are back');
  });

  it('replaces the replicas of a file that was replaced, and serves from the new one', async () => {
    await ask();
    const before = await ready();
    assert.ok(maps(before.pid, fs.statSync(file).ino), 'the engine maps its model');
    fs.copyFileSync(file, `${file}.new`);
    fs.chmodSync(`${file}.new`, 0o644);
    flip(`${file}.new`);
    fs.renameSync(`${file}.new`, file);
    await until('the old replica is gone', async () => !(await server.instances()).some((one) => one.id === before.id));
    assert.ok(server.log.includes(`${file} changed under instance ${before.id}: another file was put in its place`), server.log);
    await ask();
    const after = await ready();
    assert.notEqual(after.id, before.id);
    assert.ok(maps(after.pid, fs.statSync(file).ino), 'the new replica maps the new file');

    await until('the new file is hashed', async () => (await known()).changed?.sha256);
    assert.equal((await known()).changed.sha256, digestOf(file));
    assert.equal((await known()).deployed.sha256, original, 'what was deployed is not forgotten');
    const ls = await server.cli(['ls']);
    assert.match(ls.stdout, /^m: 1 file changed since it was deployed; see `thaw ls m`, `thaw verify m`$/m);
    assert.match((await server.cli(['ls', 'm'])).stdout, /CHANGED (just now|.* ago)/);
    assert.match(await server.metrics(), /^thaw_model_file_changes_total\{model="m"\} 1$/m);
    assert.match(await server.metrics(), /^thaw_models_changed 1$/m);
    const { code, stdout } = await verify();
    assert.equal(code, 1, 'nobody has said that this is meant');
    assert.ok(stdout.includes(`changed   ${file}: since the model was deployed another file was put in its place`), stdout);
  });

  it('takes the new file for right when the model is deployed again', async () => {
    await server.deploy(realModel('m', { source: { path: file } }));
    const { code, stdout } = await verify();
    assert.equal(code, 0);
    assert.ok(stdout.includes(digestOf(file)), stdout);
    assert.doesNotMatch((await server.cli(['ls'])).stdout, /changed since/);
    assert.match(await server.metrics(), /^thaw_models_changed 0$/m);
  });

  it('notices a write into the file, too', async () => {
    await ask();
    const before = await ready();
    flip(file);
    await until('the old replica is gone', async () => !(await server.instances()).some((one) => one.id === before.id));
    assert.ok(server.log.includes(`${file} changed under instance ${before.id}: it was written to`), server.log);
    await ask();
  });

  it('leaves a replica whose file is gone in peace, and says clearly why none can be started', async () => {
    await ask();
    const before = await ready();
    fs.renameSync(file, `${file}.away`);
    await until('it is noticed', () => server.log.includes(`${file} is gone; replicas that have it go on`));
    await ask();
    assert.equal((await ready()).id, before.id);
    await sleeps();
    await assert.rejects(ask(), (error) => {
      assert.equal(error.status, 503);
      assert.match(error.message, /weights\.gguf: No such file or directory/);
      return true;
    });
    assert.equal((await verify()).code, 1);
    fs.writeFileSync(file, 'no model at all');
    await assert.rejects(ask(), /no GGUF file/);
    fs.renameSync(`${file}.away`, file);
    await until('it answers again', () => ask());
  });
});
