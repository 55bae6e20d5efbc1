// Which way of reading a file into the page cache costs what? src/node/weights/page_cache_read.cpp chose from these.
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';

import { main, run, temporaryDirectory } from './lib/processes.mjs';
import { median, say, table } from './lib/report.mjs';
import { binary } from './lib/thaw.mjs';
import { costOf, gbPerS } from './lib/weights.mjs';

const quick = process.argv.includes('--quick');
const rounds = quick ? 1 : 5;
const MiB = 1 << 20;

// [name, verb, options]
const ways = [
  ['thaw', 'fill', []],
  ['cat', 'cat', []],
  ...[
    ['populate-huge-exact', 2, 2], ['populate-huge', 2, 2], ['populate', 2, 8], ['sendfile-sequential', 2, 2], ['sendfile', 2, 2],
    ['pread', 2, 8], ['readahead', 2, 8], ['willneed', 2, 8], ['ring', 8, 1],
  ].map(([way, workers, chunkMiB]) => [
    `${way}, ${workers} x ${chunkMiB}MiB`, 'way', ['--way', way, '--workers', String(workers), '--chunk', String(chunkMiB * MiB)],
  ]),
];

/// The disk's readahead, which most ways depend on; "?" where there is no disk behind.
function readaheadKb(file) {
  const { dev } = statSync(file);
  const device = `/sys/dev/block/${dev >> 8}:${dev & 0xff}`;
  for (const queue of [`${device}/queue`, `${device}/../queue`]) {
    try {
      return readFileSync(`${queue}/read_ahead_kb`, 'utf8').trim();
    } catch {
      // a partition's queue is its disk's
    }
  }
  return '?';
}

main(async () => {
  const file = path.join(temporaryDirectory('/var/tmp'), 'f16.gguf');
  await run([binary('make-model'), '--size', quick ? '512MB' : '2GB', '--type', 'f16', '--out', file]);
  const runs = new Map(ways.map(([name]) => [name, []]));
  for (let round = 0; round < rounds; ++round) {
    say(`round ${round + 1} of ${rounds}`);
    for (let i = 0; i < ways.length; ++i) {
      const [name, verb, options] = ways[(round + i) % ways.length];
      runs.get(name).push(await costOf(verb, [file], options));
    }
  }
  console.log(`Into a cold page cache, ${rounds} interleaved rounds, medians; read_ahead_kb is ${readaheadKb(file)}\n`);
  table(
    ['way', 'GB/s', 'CPU s/GB', 'touching it ms/GB', 'in huge pages'],
    [...runs].map(([name, seen]) => {
      const of = (pick) => median(seen.map(pick));
      return [
        name,
        of(gbPerS).toFixed(2),
        of((r) => (r.cpu_s / r.bytes) * 1e9).toFixed(3),
        of((r) => (r.touch_s / r.bytes) * 1e12).toFixed(0),
        `${of((r) => (r.huge_bytes / r.bytes) * 100).toFixed(0)} %`,
      ];
    }),
  );
});
