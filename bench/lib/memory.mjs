// What the kernel says of memory: of control groups, of either version, and of files in the page cache.
import { readFileSync } from 'node:fs';
import path from 'node:path';

import { run } from './processes.mjs';
import { binary } from './thaw.mjs';

/// The control group that counts a process's memory: {directory, v1}.
export function memoryGroupOf(pid) {
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n').map((line) => line.split(':'));
  const v1 = groups.find(([, controllers]) => controllers.split(',').includes('memory'));
  const directory = v1 ? path.join('/sys/fs/cgroup/memory', v1[2]) : path.join('/sys/fs/cgroup', groups.find(([number]) => number === '0')[2]);
  return { directory, v1: Boolean(v1) };
}

/// Bytes that a group and those in it cannot give back: all but file pages.
export function heldBytes({ directory, v1 }) {
  const stat = new Map(readFileSync(`${directory}/memory.stat`, 'utf8').trim().split('\n').map((line) => line.split(' ')));
  const of = (...names) => names.reduce((sum, name) => sum + Number(stat.get(name) ?? 0), 0);
  if (!v1) return of('anon', 'shmem', 'kernel') - of('slab_reclaimable');
  return of('total_rss', 'total_shmem') + Number(readFileSync(`${directory}/memory.kmem.usage_in_bytes`, 'utf8'));
}

/// Bytes of these files that are in the page cache (mincore).
export async function residentBytes(files) {
  return (await residentEach(files)).reduce((sum, bytes) => sum + bytes, 0);
}

/// The same of each of them.
export async function residentEach(files) {
  return JSON.parse(await run([binary('bench-pages'), 'resident', ...files])).files;
}
