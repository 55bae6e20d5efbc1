// What the audit log says, that it survives, and that it cannot be changed unseen.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { Server, chat, fakeModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

const auditDir = (server) => path.join(server.dataDir, 'audit');
const logFiles = (server) => fs.readdirSync(auditDir(server)).filter((name) => /^audit-\d+\.log$/.test(name)).sort();
const records = (server) =>
  logFiles(server).flatMap((name) => fs.readFileSync(path.join(auditDir(server), name), 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line)));
const verify = async (server, ...args) => {
  const result = await server.cli(['audit', 'verify', '--data-dir', server.dataDir, '--json', ...args]);
  assert.equal(result.stderr, '');
  return { code: result.code, ...JSON.parse(result.stdout) };
};
const anchorFile = (server) => path.join(server.directory, 'anchors.jsonl');

/** A server that exports signed heads every 100 ms. */
function useAuditedServer(audit = {}) {
  const server = new Server();
  const config = { audit: { export: anchorFile(server), exportInterval: '100ms', ...audit } };
  fs.writeFileSync(server.configFile, JSON.stringify(config));
  before(() => server.start());
  after(() => server.destroy());
  return server;
}

describe('the audit log', { timeout: 240_000 }, () => {
  const server = useAuditedServer();

  it('has every act of the administration twice: before it is carried out, and before it is answered', async () => {
    const keyId = `key:${parseInt(server.key.split('_')[1], 36)}`;
    await server.deploy(fakeModel('stories'));
    assert.equal((await server.call('POST', '/admin/v1/models/stories/stop?kill=1')).status, 200);
    assert.equal((await server.call('POST', '/admin/v1/models', 'no: spec')).status, 400);
    assert.equal((await server.call('DELETE', '/admin/v1/models/none')).status, 404);
    const acts = records(server).filter((one) => one.who === keyId);
    assert.deepEqual(acts.map((one) => [one.event, one.action, one.subject, one.status]), [
      ['begun', 'model.deploy', '', 0],
      ['done', 'model.deploy', 'stories', 201],
      ['begun', 'model.stop', 'stories', 0],
      ['done', 'model.stop', 'stories', 200],
      ['begun', 'model.deploy', '', 0],
      ['done', 'model.deploy', '', 400],
      ['begun', 'model.remove', 'none', 0],
      ['done', 'model.remove', 'none', 404],
    ]);
    assert.equal(acts[2].detail, '?kill=1');
    assert.match(acts[0].detail, /^sha256:[0-9a-f]{64}$/);
    assert.equal(acts[5].detail, 'invalid_spec');
    for (const act of acts) {
      assert.equal(act.from, '127.0.0.1');
      assert.match(act.request, /^req_/);
    }
    assert.equal(acts[0].request, acts[1].request);
    assert.deepEqual(records(server).slice(0, 3).map((one) => [one.event, one.action, one.who]), [
      ['note', 'log.open', 'local'],
      ['begun', 'key.create', 'local'],
      ['done', 'key.create', 'local'],
    ]);
  });

  it('has every refusal, and neither inference nor keys', async () => {
    const before = records(server).length;
    assert.equal((await fetch(`${server.url}/admin/v1/models`)).status, 401);
    assert.equal((await fetch(`${server.url}/v1/models`, { headers: { authorization: `Bearer ${server.key.slice(0, -1)}${server.key.endsWith('x') ? 'y' : 'x'}` } })).status, 401);
    assert.equal((await server.call('GET', '/admin/v1/nothing')).status, 404);
    assert.equal((await server.call('PUT', '/admin/v1/models')).status, 405);
    assert.equal((await server.call('GET', '/admin/v1/models/none')).status, 404);
    assert.equal((await server.call('GET', '/admin/v1/models')).status, 200);
    const answer = await server.openai().chat.completions.create(chat('stories', 'a secret prompt', { max_tokens: 2 }));
    assert.ok(answer.choices[0].message.content);
    const fresh = records(server).slice(before);
    const keyId = parseInt(server.key.split('_')[1], 36);
    assert.deepEqual(fresh.map((one) => [one.event, one.action, one.who.split(':')[0], one.route, one.subject, one.status, one.detail]), [
      ['refused', 'model.list', 'unknown', '/admin/v1/models', '', 401, 'missing_api_key'],
      ['refused', 'access', 'unknown', '/v1/models', '', 401, `invalid_api_key, sent as key:${keyId}`],
      ['refused', 'access', 'key', '/admin/v1/nothing', '', 404, 'unknown_url'],
      ['refused', 'access', 'key', '/admin/v1/models', '', 405, 'method_not_allowed'],
      ['refused', 'model.show', 'key', '/admin/v1/models/*', 'none', 404, 'model_not_found'],
    ]);
    const secret = server.key.split('_').at(-1);
    for (const { name, parentPath, path: directory } of fs.readdirSync(auditDir(server), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())) {
      const text = fs.readFileSync(path.join(parentPath ?? directory, name), 'latin1');
      assert.ok(!text.includes(secret) && !text.includes('a secret prompt'), name);
    }
  });

  it('counts a storm of refusals instead of filling the disk', async () => {
    const before = records(server).length;
    const storm = 300;
    await Promise.all(Array.from({ length: storm }, async () => assert.equal((await fetch(`${server.url}/v1/models`)).status, 401)));
    const fresh = () => records(server).slice(before);
    const counted = () => fresh().filter((one) => one.action === 'access.many').reduce((sum, one) => sum + parseInt(one.detail, 10), 0);
    const single = () => fresh().filter((one) => one.detail === 'missing_api_key').length;
    await until('every refusal is counted', () => single() + counted() === storm);
  });

  it('is shown, verified and exported by the CLI', async () => {
    const tail = await server.cli(['audit', 'tail', '-n', '3', '--data-dir', server.dataDir]);
    assert.equal(tail.code, 0, tail.stderr);
    assert.equal(tail.stdout.split('\n').length, 4);
    const exported = await server.cli(['audit', 'export', '--data-dir', server.dataDir]);
    assert.deepEqual(exported.stdout.split('\n').slice(0, -1).map((line) => JSON.parse(line)), records(server));
    assert.equal((await server.cli(['audit', 'export', '--until', '2001', '--data-dir', server.dataDir])).stdout, '');
    const newest = records(server).at(-1).seq;
    await until('the newest head is exported', () => fs.readFileSync(anchorFile(server), 'utf8').includes(`{"seq":${newest},`));
    const report = await verify(server, '--anchor', anchorFile(server));
    assert.deepEqual({ code: report.code, ok: report.ok, findings: report.findings, records: report.records }, { code: 0, ok: true, findings: [], records: newest });
    assert.ok(report.heads_matched >= 2);
    const elsewhere = await server.cli(['audit', 'verify', '--data-dir', path.join(server.directory, 'none')]);
    assert.equal(elsewhere.code, 4);
    assert.match(elsewhere.stderr, /--data-dir/);
  });

  it('is followed as it grows', async () => {
    const child = server.spawn(['audit', 'tail', '-f', '-n', '0', '--json', '--data-dir', server.dataDir]);
    let shown = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (shown += text));
    const ended = new Promise((resolve) => child.once('close', resolve));
    try {
      await until('it shows what happens', async () => {
        await server.call('POST', '/admin/v1/models/followed/stop');
        return shown.includes('"followed"');
      });
    } finally {
      child.kill('SIGINT');
      assert.equal(await ended, 130);
    }
  });

  it('goes on after kill -9, and cuts what was half written', async () => {
    await server.end('SIGKILL');
    const file = path.join(auditDir(server), logFiles(server).at(-1));
    const whole = fs.readFileSync(file, 'utf8');
    fs.appendFileSync(file, whole.slice(whole.lastIndexOf('\n', whole.length - 2) + 1, -30));
    assert.equal((await verify(server, '--anchor', anchorFile(server))).incomplete_end, true);
    await server.start();
    const repaired = records(server).filter((one) => one.action === 'log.repair');
    assert.equal(repaired.length, 1);
    assert.match(repaired[0].detail, /^cut \d+ bytes/);
    await server.deploy(fakeModel('again'));
    const report = await verify(server, '--anchor', anchorFile(server));
    assert.deepEqual(report.findings, []);
    assert.equal(report.code, 0);
  });

  it('shows what was altered, cut or written anew, and where', async () => {
    await server.end();
    const file = path.join(auditDir(server), logFiles(server).at(-1));
    const whole = fs.readFileSync(file, 'utf8');
    const lines = whole.split('\n').slice(0, -1);
    const findings = async (changed) => {
      fs.writeFileSync(file, changed.map((line) => `${line}\n`).join(''));
      const report = await verify(server, '--anchor', anchorFile(server));
      assert.equal(report.code, report.findings.length === 0 ? 0 : 1);
      return report.findings.map((one) => `${one.kind} ${path.basename(one.file)}:${one.line}`);
    };
    const name = path.basename(file);
    const altered = [...lines];
    altered[4] = altered[4].replace('"status":201', '"status":200');
    // Behind it, if an anchor happened to be taken there, that this does not fit either.
    assert.equal((await findings(altered))[0], `altered ${name}:5`);
    assert.equal((await findings(lines.filter((_, i) => i !== 5)))[0], `gap ${name}:6`);
    fs.rmSync(path.join(auditDir(server), 'head.json')); // whoever cuts the log takes this along
    const cut = await findings(lines.slice(0, -2));
    assert.ok(cut.some((text) => text.startsWith('truncated anchors.jsonl')), `${cut}`);
    assert.deepEqual(await findings(lines), []);
    await server.start();
  });
});

describe('an audit log that cannot be written', { timeout: 240_000 }, () => {
  const server = useServer();

  it('has administrative acts refused, while inference goes on', async () => {
    await server.end();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=700', 'thaw-audit-test', auditDir(server)]);
    try {
      await server.start();
      await server.deploy(fakeModel('stories'));
      const filler = path.join(auditDir(server), 'filler');
      assert.throws(() => fs.writeFileSync(filler, Buffer.alloc(1 << 20)), /ENOSPC/);
      // What is left of the log's last block takes a few records more: of an act that begins in it and does not end in it, the answer says so.
      const stop = () => server.call('POST', '/admin/v1/models/stories/stop');
      let refused = await stop();
      for (; refused.status !== 503; refused = await stop()) assert.ok(refused.status === 200 || refused.json.error.code === 'audit_incomplete', refused.text);
      assert.equal(refused.json.error.code, 'audit_unavailable');
      assert.match(refused.json.error.message, /audit log cannot be written.*No space left on device/);
      assert.equal((await server.call('DELETE', '/admin/v1/models/stories')).status, 503);
      assert.equal((await server.call('GET', '/admin/v1/models/stories')).status, 200, 'it was not removed, and reading goes on');
      assert.equal((await fetch(`${server.url}/admin/v1/models`)).status, 401);
      const answer = await server.openai().chat.completions.create(chat('stories', 'hello', { max_tokens: 2 }));
      assert.ok(answer.choices[0].message.content);
      fs.rmSync(filler);
      assert.equal((await server.call('DELETE', '/admin/v1/models/stories')).status, 200);
      const report = await verify(server);
      assert.deepEqual(report.findings, []);
    } finally {
      await server.end();
      execFileSync('umount', [auditDir(server)]);
    }
  });
});
