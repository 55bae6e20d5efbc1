// What a server and its instances leave on the host: control groups, processes, mounts, namespaces, runtime state.
import fs from 'node:fs';
import path from 'node:path';

/** The label under which the node files everything of a data directory: 64-bit FNV-1a of its canonical path, in hex. */
export function labelOf(dataDir) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(fs.realpathSync(dataDir))) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, '0');
}

export const homeOf = (label) => `/run/thaw/${label}`;

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return ''; // the process or group has just gone
  }
}

function list(directory) {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

function link(file) {
  try {
    return fs.readlinkSync(file);
  } catch {
    return '';
  }
}

const processes = () => list('/proc').filter((name) => /^\d+$/.test(name));

/** Directories of the groups below the label, in all hierarchies; the label's own with `parents`. */
function groupsOf(label, { parents = false } = {}) {
  const found = [];
  const walk = (directory, depth) => {
    for (const entry of list(directory)) {
      const below = path.join(directory, entry);
      if (!fs.statSync(below, { throwIfNoEntry: false })?.isDirectory()) continue;
      if (entry === label) {
        if (parents) found.push(below);
        for (const child of list(below)) if (fs.statSync(path.join(below, child), { throwIfNoEntry: false })?.isDirectory()) found.push(path.join(below, child));
      } else if (depth > 0) {
        walk(below, depth - 1);
      }
    }
  };
  walk('/sys/fs/cgroup', 4);
  return found;
}

/** Whether a gVisor sandbox was made ahead and has been shown no model yet; null for one of another kind. */
function emptyGvisor(label, name) {
  const box = path.join(homeOf(label), 'boxes', name);
  if (!fs.existsSync(path.join(box, 'stage'))) return null;
  if (!read(path.join(box, 'config.json')).includes('"--become"')) return false;
  const shown = processes().some((pid) => sandboxOf(pid, label) === name && read(`/proc/${pid}/mountinfo`).includes(`${box}/stage/thaw/model/`));
  return !shown;
}

/** Names of sandboxes made ahead and still empty: no model was shown to them, no engine listens. They are no instances. */
function emptySandboxes(label) {
  const boxes = path.join(homeOf(label), 'boxes');
  const empty = (name) => list(path.join(boxes, name, 'model')).length === 0 && list(path.join(boxes, name, 'run')).length === 0;
  return list(boxes).filter((name) => emptyGvisor(label, name) ?? empty(name));
}

/** Whether a process runs; one that has ended and was not yet waited for does not. */
export const runs = (pid) => /^State:\s+[^ZX]/m.test(read(`/proc/${pid}/status`));

/** Name of the sandbox that a process is in. */
export const sandboxOf = (pid, label) => read(`/proc/${pid}/cgroup`).match(new RegExp(`/${label}/([^/\\n]+)`))?.[1];

/** The namespaces of a process, as "net:[4026532]". */
export function namespacesOf(pid) {
  return list(`/proc/${pid}/ns`).map((name) => link(`/proc/${pid}/ns/${name}`)).filter((ns) => ns && ns !== link(`/proc/self/ns/${ns.split(':')[0]}`));
}

/**
 * All that is left of the instances of a data directory, a line each; empty when nothing is. While the server runs, sandboxes made ahead may
 * be there. `namespaces`: of instances that were, as namespacesOf() gave them.
 */
export function traces(label, dataDir, { serverGone = false, namespaces = [] } = {}) {
  const home = homeOf(label);
  const allowed = serverGone ? [] : emptySandboxes(label);
  const found = [];
  for (const group of groupsOf(label, { parents: serverGone })) if (!allowed.includes(path.basename(group))) found.push(`control group ${group}`);
  for (const kind of ['boxes', 'runc'])
    for (const name of list(path.join(home, kind))) if (!allowed.includes(name)) found.push(`state ${home}/${kind}/${name}`);
  if (serverGone && fs.existsSync(home)) found.push(`directory ${home}`);

  const mountTables = new Set();
  for (const pid of processes()) {
    const sandbox = sandboxOf(pid, label);
    if (sandbox && !allowed.includes(sandbox)) found.push(`process ${pid} (${read(`/proc/${pid}/comm`).trim()}) in ${sandbox}`);
    for (const ns of namespacesOf(pid)) if (namespaces.includes(ns)) found.push(`namespace ${ns} of process ${pid}`);
    const table = link(`/proc/${pid}/ns/mnt`);
    if (sandbox || mountTables.has(table)) continue;
    mountTables.add(table);
    for (const line of read(`/proc/${pid}/mountinfo`).split('\n')) {
      if (allowed.some((name) => line.includes(`${home}/boxes/${name}/run `))) continue; // the small tmpfs of an empty one
      const held = line.includes(home) || line.includes(dataDir) || namespaces.some((ns) => line.includes(ns));
      if (held) found.push(`mount in process ${pid}: ${line}`);
    }
  }
  return found;
}

/** Kills and removes whatever is there, for the end of a test that failed. Synchronous: it also runs when the process exits. */
export function sweep(label) {
  const deadline = Date.now() + 5_000;
  while (Date.now() < deadline) {
    const groups = groupsOf(label, { parents: true }).sort((a, b) => b.length - a.length);
    if (groups.length === 0) break;
    for (const group of groups) {
      for (const pid of read(path.join(group, 'cgroup.procs')).split('\n').filter(Boolean)) {
        try {
          process.kill(Number(pid), 'SIGKILL');
        } catch {
          // it has gone by itself
        }
      }
      try {
        fs.rmdirSync(group);
      } catch {
        // its processes are still leaving
      }
    }
  }
  fs.rmSync(homeOf(label), { recursive: true, force: true });
}
