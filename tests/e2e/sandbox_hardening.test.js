// What an operator sees of a sandbox's walls: refusals that are told, secrets that only the engine has.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, it } from 'node:test';

import { attack, hostileModel, refusedAll, tell } from './lib/attacks.js';
import { scratch } from './lib/environment.js';
import { realModel, useServer } from './lib/server.js';
import { until } from './lib/until.js';

describe('node.seccomp: report', { timeout: 180_000 }, () => {
  const server = useServer({ config: { node: { seccomp: 'report' } } });
  const told = () => [...server.log.matchAll(/sandbox (\S+): (\S+) \(pid \d+\) was refused the system call (\w+)/g)].map(([, sandbox, program, call]) => ({ sandbox, program, call }));

  it('has nothing to tell of llama-server: whole answers, streams, many at once', async () => {
    await server.deploy(realModel('stories'));
    const ask = (stream) => server.openai().completions.create({ model: 'stories', prompt: 'Once upon a time', max_tokens: 8, stream });
    await ask(false);
    for await (const _ of await ask(true));
    await Promise.all(Array.from({ length: 6 }, () => ask(false)));
    assert.deepEqual(told(), []);
  });

  it('tells which call, of which program, in which sandbox, and refuses it all the same', async () => {
    await server.deploy(hostileModel('runc', 'runc'));
    refusedAll(await attack(server, 'runc', 'kernel'));
    refusedAll(await attack(server, 'runc', 'namespaces'));
    await until('it is told', () => told().some((one) => one.call === 'pivot_root'));
    const calls = new Set(told().map((one) => one.call));
    for (const call of ['ptrace', 'bpf', 'io_uring_setup', 'keyctl', 'unshare', 'mount', 'clone']) assert.ok(calls.has(call), `${call} among ${[...calls]}`);
    const box = server.log.match(/instance \d+ of runc is in sandbox (\S+)/)[1];
    assert.ok(told().every((one) => one.sandbox === box && one.program.startsWith('hostile')), JSON.stringify(told().slice(0, 3)));
    const lines = told().map((one) => one.call);
    assert.equal(lines.length, new Set(lines).size, 'each once');
  });

  it('leaves nothing', async () => {
    assert.deepEqual(await server.end(), { code: 0, signal: null });
    await server.nothingLeft({ serverGone: true });
  });
});

for (const kind of ['runc', 'runsc']) {
  describe(`secrets under ${kind}`, { timeout: 120_000 }, () => {
    const directory = path.join(scratch, `kept-${kind}`);
    const server = useServer({ config: { node: { secretsDir: directory } } });
    const word = `s3cr3t-${kind}-${process.pid}`;

    before(async () => {
      fs.mkdirSync(directory, { mode: 0o700 });
      fs.writeFileSync(path.join(directory, 'token'), word, { mode: 0o400 });
      await server.deploy(hostileModel('holder', kind, { secrets: [{ name: 'hf-token', file: 'token' }] }));
    });

    it('are a file that is the engine\'s own, and that it cannot change', async () => {
      assert.equal(await tell(server, 'holder', 'cat /run/secrets/hf-token'), `mode=400 mine=yes text=${word}`);
    });

    it('are in no environment, argument, spec or log', async () => {
      const [{ pid }] = await server.instances();
      for (const file of ['environ', 'cmdline']) assert.ok(!fs.readFileSync(`/proc/${pid}/${file}`, 'latin1').includes(word), file);
      assert.ok(!(await server.call('GET', '/admin/v1/models/holder')).text.includes(word));
      assert.ok(!server.log.includes(word));
      for (const name of fs.readdirSync(server.dataDir, { recursive: true }).filter((one) => fs.statSync(path.join(server.dataDir, one)).isFile()))
        assert.ok(!fs.readFileSync(path.join(server.dataDir, name)).includes(word), name);
    });

    it('are read anew at each start, and what is missing is named with the remedy', async () => {
      await server.call('POST', '/admin/v1/models/holder/stop');
      await until('it is stopped', async () => (await server.instances()).length === 0);
      fs.rmSync(path.join(directory, 'token'));
      await assert.rejects(() => tell(server, 'holder', 'hello'), (error) => {
        assert.match(error.message, /secret hf-token.*put it into the file/s);
        return true;
      });
    });
  });
}
