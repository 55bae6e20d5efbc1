// How much of what disk and bus allow does the device pipeline reach? Emulated devices; rates scaled 1:10; contents verified.
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import path from 'node:path';

import { cleanUpWith, main, run } from './lib/processes.mjs';
import { median, result, say, table } from './lib/report.mjs';
import { binary } from './lib/thaw.mjs';

const quick = process.argv.includes('--quick');
const mib = quick ? 256 : 768;
const rounds = quick ? 1 : 3;

const rate = (mbS) => (mbS / 100).toFixed(mbS % 100 ? 1 : 0);  // unscaled, GB/s

main(async () => {
  const directory = mkdtempSync('/var/tmp/thaw-bench-');  // a disk, where /tmp often is none
  cleanUpWith(() => rmSync(directory, { recursive: true, force: true }));
  const free = statfsSync(directory);
  if (free.bavail * free.bsize < 2 * mib * 2 ** 20) throw new Error(`${directory} has no room for a file of ${mib} MiB`);
  say(`${rounds} rounds of 11 cases, ${mib} MiB each`);
  const emulator = path.join(path.dirname(binary('bench-pipeline')), 'emulator', 'libcuda.so.1');
  const output = await run([binary('bench-pipeline'), path.join(directory, 'weights'), String(mib), emulator, String(rounds)]);
  const cases = new Map();
  for (const line of output.trim().split('\n')) {
    const one = JSON.parse(line);
    const key = `${one.disk_mb_s} ${one.bus_mb_s} ${one.devices}`;
    if (!cases.has(key)) cases.set(key, { ...one, times: [], cpu: [] });
    cases.get(key).times.push(one.seconds);
    cases.get(key).cpu.push(one.loader_cpu_s);
  }

  const rows = [];
  const overlaps = [];
  const results = [];
  for (const one of cases.values()) {
    const seconds = median(one.times);
    const cpu = (median(one.cpu) / one.bytes) * 1e9;
    if (one.disk_mb_s === 0) {
      rows.push(['unlimited', one.devices, '', (seconds * 1000).toFixed(0), '', cpu.toFixed(3)]);
      results.push([`pipeline_unlimited_gb_s_${one.devices}`, one.bytes / seconds / 1e9, 'GB/s'], [`pipeline_cpu_s_per_gb_${one.devices}`, cpu, 's']);
      continue;
    }
    const ideal = Math.max(one.bytes / one.disk_mb_s, one.bytes_of_device / one.bus_mb_s) / 1e6;
    const overlap = ideal / seconds;
    rows.push([`disk ${rate(one.disk_mb_s)}, bus ${rate(one.bus_mb_s)} GB/s`, one.devices, (ideal * 1000).toFixed(0), (seconds * 1000).toFixed(0), overlap.toFixed(3), cpu.toFixed(3)]);
    results.push([`pipeline_overlap_disk${rate(one.disk_mb_s)}_bus${rate(one.bus_mb_s)}_devices${one.devices}`, overlap, 'ratio']);
    overlaps.push(overlap);
  }
  console.log(`Loads of ${mib} MiB, rates scaled 1:10, medians of ${rounds}; every byte checked\n`);
  table(['', 'devices', 'ideal ms', 'ms', 'overlap', 'loader CPU s/GB'], rows);
  for (const [name, value, unit] of results) result(name, value, unit);
  result('pipeline_overlap', Math.min(...overlaps), 'ratio');
});
