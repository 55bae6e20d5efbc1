// Pulls of one large file from a web server on this machine: against curl alone, and against curl with what a pull does besides: hashing it and making it durable.
import { createHash, randomFillSync } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { answering, background, freePort, main, run, temporaryDirectory } from './lib/processes.mjs';
import { median, result, say, table } from './lib/report.mjs';
import { Thaw } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const rounds = quick ? 2 : 5;
const megabytes = quick ? 256 : 1000;
const cappedMegabytes = quick ? 32 : 128;
const capMBs = 20; // of one connection
const chunk = 8 << 20;

/// A file of noise on the disk: its digest.
function makeFile(file, size) {
  const fd = openSync(file, 'w', 0o644);
  const hash = createHash('sha256');
  const bytes = Buffer.alloc(chunk);
  for (let left = size * 1e6; left > 0; left -= chunk) {
    const part = bytes.subarray(0, Math.min(chunk, left));
    randomFillSync(part);
    hash.update(part);
    writeSync(fd, part);
  }
  fsyncSync(fd);
  closeSync(fd);
  return hash.digest('hex');
}

/// nginx over the directory: /free as fast as it can, /capped at capMBs a connection.
async function startNginx(directory, files) {
  const home = path.join(directory, 'nginx');
  mkdirSync(home);
  const port = await freePort();
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${home}/${name};`).join(' ');
  writeFileSync(
    `${home}/nginx.conf`,
    `user root; worker_processes 1; daemon off; pid ${home}/pid; error_log ${home}/error.log;
events { worker_connections 256; }
http { access_log off; sendfile on; ${paths}
  server { listen 127.0.0.1:${port};
    location /free/ { alias ${files}/; }
    location /capped/ { alias ${files}/; limit_rate ${capMBs * 1000}k; } } }
`,
  );
  const server = background(['nginx', '-p', home, '-c', `${home}/nginx.conf`, '-e', `${home}/error.log`], `${home}/log`);
  await answering(server, `http://127.0.0.1:${port}/`);
  return `http://127.0.0.1:${port}`;
}

/// Seconds; `act` may say when it ended (Unix, ms).
const timed = async (act) => {
  const begin = performance.timeOrigin + performance.now();
  const ended = await act();
  return ((ended ?? performance.timeOrigin + performance.now()) - begin) / 1000;
};

/// From the order to the end, all of it: fetched, hashed, durable, named. The server says when that was: whoever asks all the time takes a part of the
/// processors that curl has for itself.
async function pull(thaw, url, sha256) {
  let view = await thaw.call('POST', '/admin/v1/pulls', JSON.stringify({ source: { url, sha256 } }));
  while (view.state !== 'done') {
    if (view.state === 'failed') throw new Error(view.error.message);
    await sleep(20);
    view = await thaw.call('GET', `/admin/v1/pulls/${view.id}`);
  }
  return view.ended_unix_ms + 1; // it is cut to whole milliseconds
}

main(async () => {
  const directory = temporaryDirectory('/var/tmp');
  const files = path.join(directory, 'files');
  mkdirSync(files);
  say(`making a file of ${megabytes} MB`);
  const digest = makeFile(path.join(files, 'large.bin'), megabytes);
  const cappedDigest = makeFile(path.join(files, 'capped.bin'), cappedMegabytes);
  const host = await startNginx(directory, files);
  const thaw = await Thaw.start(directory, `sources: {http: true, hosts: [127.0.0.1]}\n`);
  const out = path.join(directory, 'curl.out');
  const curl = async (url) => {
    await run(['curl', '-sf', '-o', out, url]);
  };
  const forget = async () => {
    rmSync(out, { force: true });
    await thaw.call('POST', '/admin/v1/store/gc');
    await run(['sync']);
  };

  const ways = {
    curl: { size: megabytes, act: () => curl(`${host}/free/large.bin`) },
    checked: {
      size: megabytes,
      act: async () => {
        await curl(`${host}/free/large.bin`);
        await run(['sync', out]);
        await run(['sha256sum', out]);
      },
    },
    pull: { size: megabytes, act: () => pull(thaw, `${host}/free/large.bin`, digest) },
    cappedCurl: { size: cappedMegabytes, act: () => curl(`${host}/capped/capped.bin`) },
    cappedPull: { size: cappedMegabytes, act: () => pull(thaw, `${host}/capped/capped.bin`, cappedDigest) },
  };
  const seconds = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
  for (let round = 0; round < rounds + 1; ++round) {
    for (const [name, way] of Object.entries(ways)) {
      await forget();
      const took = await timed(way.act);
      if (round > 0) seconds[name].push(took); // the first warms the page cache up
    }
    say(`round ${round} of ${rounds}`);
  }
  await forget();

  const rate = (name) => ways[name].size / median(seconds[name]);
  console.log(`one file from nginx on this machine, ${rounds} rounds, medians\n`);
  const row = (what, name) => [what, ways[name].size, median(seconds[name]).toFixed(2), rate(name).toFixed(0)];
  table(
    ['', 'MB', 's', 'MB/s'],
    [
      row('curl: in the page cache, not checked', 'curl'),
      row('curl, sync, sha256sum', 'checked'),
      row('thaw: durable and checked', 'pull'),
      row(`curl, ${capMBs} MB/s a connection`, 'cappedCurl'),
      row('thaw, the same, 8 connections', 'cappedPull'),
    ],
  );
  result('pull_vs_curl', rate('pull') / rate('curl'), 'ratio');
  result('pull_vs_curl_checked', rate('pull') / rate('checked'), 'ratio');
  result('pull_parallel_vs_curl', rate('cappedPull') / rate('cappedCurl'), 'ratio');
});
