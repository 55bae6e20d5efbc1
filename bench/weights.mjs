// How near to the disk do weights come, past the page cache and into it? Against fio and cat.
import path from 'node:path';

import { main, run, temporaryDirectory } from './lib/processes.mjs';
import { median, result, say, table } from './lib/report.mjs';
import { costOf, gbPerS, modelFiles } from './lib/weights.mjs';
import { binary } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const bytes = quick ? '512MB' : '2GB';
const selectionRounds = quick ? 1 : 3;
const readerRounds = quick ? 3 : 11;
const fillRounds = quick ? 1 : 5;
// Memory that was freed a moment ago is in a state that free memory seldom is in: a hypervisor that takes free memory back (page reporting)
// does so within seconds.
const settleMs = 3000;

// What fio is tried with. Registered buffers and files, one thread, as many reads under way as ours; and buffers in huge pages, as ours are: with
// small ones a read is as many segments as pages, and fio comes to two thirds of its rate here. malloc is how it gets them without a reserved pool.
const fioEnv = { ...process.env, GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1' };
const fioSettings = [['256k', 16], ['512k', 8], ['512k', 16], ['1m', 4], ['1m', 8], ['2m', 4], ['2m', 8], ['4m', 4], ['4m', 8]].map(([blockSize, depth]) => ({ blockSize, depth }));

/// One run of fio over whole files: {seconds, bytes}. Its own clock counts, without its start.
async function fio(files, { blockSize, depth }) {
  const out = await run(['fio', '--name=read', '--readonly', '--rw=read', '--direct=1', '--ioengine=io_uring', '--fixedbufs=1', '--registerfiles=1', '--thread=1',
    '--invalidate=0', `--bs=${blockSize}`, `--iodepth=${depth}`, '--file_service_type=roundrobin', `--filename=${files.join(':')}`, '--output-format=json'], { env: fioEnv });
  const { read } = JSON.parse(out).jobs[0];
  return { seconds: read.runtime / 1000, bytes: read.io_bytes };
}

/// The fastest of fio's settings for these files.
async function bestOfFio(files) {
  const rates = new Map(fioSettings.map((setting) => [setting, []]));
  for (let round = 0; round < selectionRounds; ++round)
    for (const [setting, seen] of rates) seen.push(gbPerS(await fio(files, setting)));
  return [...rates].reduce((best, [setting, seen]) => (median(seen) > best.rate ? { setting, rate: median(seen) } : best), { rate: 0 });
}

/// Ours, as `thaw doctor --disks` finds the disk is read best.
async function calibrate(directory, file) {
  const out = await run([binary('thaw'), 'doctor', '--disks', '--data-dir', path.join(directory, 'state'), '--path', file, '--json'], {
    env: { ...process.env, THAW_URL: 'http://127.0.0.1:1' },  // no server's models
  });
  const disk = JSON.parse(out).disks.find((candidate) => candidate.path === file);
  if (!disk.direct) throw new Error(`${file}: ${disk.why}; direct reads are what is measured`);
  return { chunk: disk.chunk_bytes, depth: disk.depth };
}

const shown = ({ blockSize, depth }) => `${blockSize} x ${depth}`;

/// Reader and fio in turn, the first one changing. `best`: fio's setting.
async function compareReader(files, ours, best, rounds) {
  const reader = () => costOf('read', files, ['--chunk', String(ours.chunk), '--depth', String(ours.depth)]);
  const runs = { ours: [], fio: [], ratios: [], cpu: [] };
  for (let round = 0; round < rounds; ++round) {
    const measure = { ours: reader, fio: () => fio(files, best.setting) };
    const seen = {};
    for (const name of round % 2 === 0 ? ['ours', 'fio'] : ['fio', 'ours']) seen[name] = await measure[name]();
    runs.ours.push(gbPerS(seen.ours));
    runs.fio.push(gbPerS(seen.fio));
    runs.ratios.push(gbPerS(seen.ours) / gbPerS(seen.fio));
    runs.cpu.push((seen.ours.cpu_s / seen.ours.bytes) * 1e9);
  }
  return { setting: best.setting, ours: median(runs.ours), fio: median(runs.fio), ratio: median(runs.ratios), cpu: median(runs.cpu) };
}

/// The page-cache fill and cat in turn, and every other round a direct read into as much memory.
async function compareFill(file, rounds) {
  const runs = { fill: [], cat: [], limit: [], cpu: [], vsCat: [] };
  for (let round = 0; round < rounds; ++round) {
    const seen = {};
    for (const way of round % 2 === 0 ? ['fill', 'cat'] : ['cat', 'fill']) {
      seen[way] = await costOf(way, [file], ['--settle-ms', String(settleMs), '--no-touch']);
      runs[way].push(gbPerS(seen[way]));
    }
    if (round % 2 === 0) runs.limit.push(gbPerS(await costOf('limit', [file])));
    runs.cpu.push((seen.fill.cpu_s / seen.fill.bytes) * 1e9);
    runs.vsCat.push(gbPerS(seen.fill) / gbPerS(seen.cat));
  }
  const medians = Object.fromEntries(Object.entries(runs).map(([name, values]) => [name, median(values)]));
  return { ...medians, vsLimit: medians.fill / medians.limit };
}

main(async () => {
  const directory = temporaryDirectory('/var/tmp');
  say(`making models of ${bytes}`);
  const { f16, q4, eight } = await modelFiles(directory, bytes);
  const ours = await calibrate(directory, f16);
  say(`thaw doctor --disks: ${ours.chunk >> 10}k x ${ours.depth}`);

  say('looking for the best settings of fio');
  const bestOfOne = await bestOfFio([f16]);
  const bestOfEight = await bestOfFio(eight);
  const reads = new Map();
  for (const [name, files, best, rounds] of [
    ['F16', [f16], bestOfOne, readerRounds],
    ['Q4_0', [q4], bestOfOne, Math.ceil(readerRounds / 2)],
    ['8 files at once', eight, bestOfEight, Math.ceil(readerRounds / 2)],
  ]) {
    say(`reading ${name}`);
    reads.set(name, await compareReader(files, ours, best, rounds));
  }
  const fills = new Map();
  for (const [name, file] of [['F16', f16], ['Q4_0', q4]]) {
    say(`filling the page cache with ${name}`);
    fills.set(name, await compareFill(file, name === 'F16' ? fillRounds : Math.ceil(fillRounds / 2)));
  }

  console.log(`Direct reads of ${bytes}, interleaved, medians; thaw reads in ${ours.chunk >> 10}k x ${ours.depth}\n`);
  table(
    ['', 'thaw GB/s', 'fio GB/s', 'its best setting', 'thaw / fio', 'CPU s/GB'],
    [...reads].map(([name, r]) => [name, r.ours.toFixed(2), r.fio.toFixed(2), shown(r.setting), r.ratio.toFixed(3), r.cpu.toFixed(4)]),
  );
  console.log(`${bytes} into a cold page cache, interleaved, medians; "limit" is the direct reader into as much memory\n`);
  table(
    ['', 'thaw GB/s', 'cat GB/s', 'limit GB/s', 'thaw / cat', 'thaw / limit', 'CPU s/GB'],
    [...fills].map(([name, f]) => [name, f.fill.toFixed(2), f.cat.toFixed(2), f.limit.toFixed(2), f.vsCat.toFixed(2), f.vsLimit.toFixed(2), f.cpu.toFixed(4)]),
  );
  const worst = (values, pick) => values.reduce((a, b) => (pick(b) < pick(a) ? b : a));
  const read = worst([...reads.values()], (r) => r.ratio);
  const fill = worst([...fills.values()], (f) => f.vsCat);
  result('reader_vs_fio', read.ratio, 'ratio');
  result('reader_cpu_s_per_gb', Math.max(...[...reads.values()].map((r) => r.cpu)), 's/GB');
  result('fill_vs_cat', fill.vsCat, 'ratio');
  result('fill_vs_limit', Math.min(...[...fills.values()].map((f) => f.vsLimit)), 'ratio');
  result('fill_cpu_s_per_gb', Math.max(...[...fills.values()].map((f) => f.cpu)), 's/GB');
});
