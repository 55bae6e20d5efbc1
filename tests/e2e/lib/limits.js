// What the kernel holds a process to: its control groups, of either version.
import fs from 'node:fs';
import path from 'node:path';

/** A control file of the group in which `controller` counts a process. */
function groupFile(pid, controller, name) {
  const groups = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n').map((line) => line.split(':'));
  const v1 = groups.find(([, controllers]) => controllers.split(',').includes(controller));
  const place = v1 ? path.join('/sys/fs/cgroup', fs.existsSync(`/sys/fs/cgroup/${v1[1]}`) ? v1[1] : controller, v1[2]) : path.join('/sys/fs/cgroup', groups.find(([number]) => number === '0')[2]);
  return path.join(place, name);
}
const read = (file) => fs.readFileSync(file, 'utf8').trim();
const isV1 = (pid) => fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n').some((line) => line.split(':')[1]?.split(',').includes('memory'));

/** {memory and swap in bytes, pids, cpus}. */
export function limitsOf(pid) {
  if (!isV1(pid)) {
    const swap = groupFile(pid, 'memory', 'memory.swap.max');
    const [quota, period] = read(groupFile(pid, 'cpu', 'cpu.max')).split(' ').map(Number);
    return { memory: Number(read(groupFile(pid, 'memory', 'memory.max'))), swap: fs.existsSync(swap) ? Number(read(swap)) : 0, pids: Number(read(groupFile(pid, 'pids', 'pids.max'))), cpus: quota / period };
  }
  const memory = Number(read(groupFile(pid, 'memory', 'memory.limit_in_bytes')));
  const both = groupFile(pid, 'memory', 'memory.memsw.limit_in_bytes');
  const swap = fs.existsSync(both) ? Number(read(both)) - memory : Number(read(groupFile(pid, 'memory', 'memory.swappiness')));
  const cpus = Number(read(groupFile(pid, 'cpu', 'cpu.cfs_quota_us'))) / Number(read(groupFile(pid, 'cpu', 'cpu.cfs_period_us')));
  return { memory, swap, pids: Number(read(groupFile(pid, 'pids', 'pids.max'))), cpus };
}

/** Processor seconds that the process's group has used. */
export function cpuSecondsOf(pid) {
  if (isV1(pid)) return Number(read(groupFile(pid, 'cpuacct', 'cpuacct.usage'))) / 1e9;
  return Number(/usage_usec (\d+)/.exec(read(groupFile(pid, 'cpu', 'cpu.stat')))[1]) / 1e6;
}

/** Bytes a second that the process's group may write to a disk, of the only one that is limited. */
export function writeRateOf(pid) {
  const v1 = fs.existsSync('/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device');
  const text = read(v1 ? groupFile(pid, 'blkio', 'blkio.throttle.write_bps_device') : groupFile(pid, 'io', 'io.max'));
  return Number(/(?:wbps=|\d+:\d+ )(\d+)/.exec(text)?.[1]);
}

/** Whether this host limits block I/O, and the directory lies on one disk of its own. */
export function writesAreLimited(directory) {
  const v1 = fs.existsSync('/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device');
  const v2 = fs.existsSync('/sys/fs/cgroup/cgroup.controllers') && read('/sys/fs/cgroup/cgroup.controllers').split(' ').includes('io');
  const device = fs.statSync(directory).dev;
  const [major, minor] = [(device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00)];
  return (v1 || v2) && fs.existsSync(`/sys/dev/block/${major}:${minor}`);
}
