// What the parts of the tiers benchmark share: the engine, the models, one short request.
import { statSync } from 'node:fs';
import path from 'node:path';

import { run, until } from '../lib/processes.mjs';
import { say } from '../lib/report.mjs';
import { binary } from '../lib/thaw.mjs';

export const engine = process.env.THAW_BENCH_ENGINE;

// As few tokens as there can be, none of them remembered from the last time: the engine's own answer is in every number.
const bodyOf = (model) => JSON.stringify({ model, stream: true, temperature: 0, max_tokens: 2, cache_prompt: false, messages: [{ role: 'user', content: 'Hi' }] });
export const ttft = async (port, model, { key = 'none', command = [] } = {}) =>
  JSON.parse(await run([binary('bench-ttft'), '--port', String(port), '--key', key, '--body', bodyOf(model), ...(command.length ? ['--', ...command] : [])]));
export const pages = (command, file) => run([binary('bench-pages'), command, file]);
export const sleepFor = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const intoMemory = (file) => run(['sh', '-c', 'cat "$1" > /dev/null', 'cat', file]);

export async function makeModel(directory, megabytes, type) {
  const file = path.join(directory, `tiers-${megabytes}-${type}.gguf`);
  if (!statSync(file, { throwIfNoEntry: false })) {
    say(`making ${file}`);
    await run([binary('make-model'), '--size', `${megabytes}MB`, '--type', type, '--seed', String(megabytes), '--out', file]);
  }
  await run(['sync', '-f', file]);  // what is not on the disk yet cannot leave memory
  return { name: `${type.replace('_', '')}-${megabytes}mb`, megabytes, type, file, bytes: statSync(file).size };
}

export const recordOf = (thaw, id) => until('the record of the request', 10_000, () => thaw.request(id).catch(() => null));

/// One request that must find its model as `way` says: {ms, record}.
export async function askBy(thaw, name, way) {
  const { ttft_ms: ms, id } = await ttft(thaw.port, name, thaw);
  const record = await recordOf(thaw, id);
  const came = record.cold ? record.way : 'ready';
  if (came !== way) throw new Error(`the request for ${name} came by way of ${came}, not ${way}: ${record.why ?? ''}`);
  return { ms, record };
}
