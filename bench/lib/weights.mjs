// Model files, and what reading them costs by bench-weights.
import path from 'node:path';

import { run } from './processes.mjs';
import { binary } from './thaw.mjs';

/// {f16, q4, eight}: two models of `bytes`, and eight files that are an eighth of it each.
export async function modelFiles(directory, bytes) {
  const make = async (name, type, size, seed) => {
    const file = path.join(directory, `${name}.gguf`);
    await run([binary('make-model'), '--size', size, '--type', type, '--seed', String(seed), '--out', file]);
    return file;
  };
  const [, number, unit] = /^(\d+)(MB|GB)$/.exec(bytes);
  const eighth = `${(Number(number) * (unit === 'GB' ? 1000 : 1)) / 8}MB`;
  const eight = [];
  for (let i = 0; i < 8; ++i) eight.push(await make(`eighth-${i}`, i % 2 === 0 ? 'f16' : 'q4_0', eighth, i));
  return { f16: await make('f16', 'f16', bytes, 0), q4: await make('q4_0', 'q4_0', bytes, 0), eight };
}

/// One run: {bytes, seconds, cpu_s, …}.
export async function costOf(verb, files, options = []) {
  return JSON.parse(await run([binary('bench-weights'), verb, ...files, ...options]));
}

export const gbPerS = ({ bytes, seconds }) => bytes / seconds / 1e9;
