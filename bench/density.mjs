// Two hundred models on a machine whose memory holds a quarter of their weights: is every request answered, and does memory stay within its budget?
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { heldBytes, memoryGroupOf, residentBytes } from './lib/memory.mjs';
import { cpuSeconds, main, residentKib, run, temporaryDirectory } from './lib/processes.mjs';
import { randomOf, zipfOf } from './lib/random.mjs';
import { percentile, result, say, table } from './lib/report.mjs';
import { Thaw, binary } from './lib/thaw.mjs';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    models: { type: 'string' },
    rate: { type: 'string', default: '0.25' },
    minutes: { type: 'string' },
    seed: { type: 'string', default: '1' },
    budget: { type: 'string' },
  },
});
const quick = options.quick;
const fileCount = quick ? 10 : 40;
const fileMegabytes = quick ? 100 : 1000;
const modelCount = quick ? 50 : 200;
const minutes = Number(options.minutes ?? (quick ? 0.5 : 10));
const budgetBytes = Number(options.budget ?? (quick ? 1 : 10)) * 2 ** 30;  // of memory, for all that models hold
const perSecond = Number(options.rate);  // requests, Poisson
const zipf = 0.9;  // of the models' popularity
const longestAnswerMs = 120_000;
const MiB = 2 ** 20;
const mib = (bytes) => Math.round(bytes / MiB);

async function makeFiles(directory) {
  mkdirSync(directory, { recursive: true });
  const files = [];
  for (let i = 0; i < fileCount; ++i) {
    const type = i % 2 ? 'q4_0' : 'f16';
    const file = path.join(directory, `density-${fileMegabytes}-${i}-${type}.gguf`);
    if (!statSync(file, { throwIfNoEntry: false })) {
      await run([binary('make-model'), '--size', `${fileMegabytes}MB`, '--type', type, '--seed', String(i + 1), '--out', file]);
      await run(['sync', '-f', file]);
      await run([binary('bench-pages'), 'drop', file]);
    }
    files.push(file);
  }
  for (const file of files) {
    const { blocks, nlink, size } = statSync(file);
    if (nlink !== 1 || blocks * 512 < size) throw new Error(`${file} is linked or has holes`);
  }
  return files;
}

/// One streamed answer: {ms to its first text, or error}.
async function ask(thaw, name, number) {
  const began = performance.now();
  const answer = { model: name, began };
  try {
    const response = await fetch(`${thaw.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${thaw.key}` },
      body: JSON.stringify({ model: name, stream: true, temperature: 0, max_tokens: 4, messages: [{ role: 'user', content: `Question ${number}: once upon a time` }] }),
      signal: AbortSignal.timeout(longestAnswerMs),
    });
    answer.id = response.headers.get('x-request-id');
    if (!response.ok) throw new Error(`${response.status} ${(await response.text()).slice(0, 300)}`);
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
      if (!answer.ms && /"content":\s*"/.test(text)) answer.ms = performance.now() - began;
    }
    if (!text.includes('data: [DONE]')) throw new Error(`the stream broke off: ${text.slice(-200)}`);
    answer.ms ??= performance.now() - began;
  } catch (error) {
    answer.error = error.message;
  }
  return answer;
}

/// Once a second: what the kernel says that models hold. All engines' groups are in the directory of one of them.
async function watch(thaw, files, until) {
  const samples = [];
  let group;
  let next = performance.now();
  while (!until.over) {
    if (!group) {
      const [instance] = (await thaw.instances()).filter(({ pid }) => pid);
      try {
        const own = instance && memoryGroupOf(instance.pid);
        group = own && { ...own, directory: path.dirname(own.directory) };
      } catch {
        // It has ended since.
      }
    }
    if (group) {
      const cached = await residentBytes(files);
      const held = heldBytes(group);
      const instances = await thaw.instances();
      samples.push({ cached, held, both: cached + held, instances: instances.length });
      if (cached + held > budgetBytes) say(`over: ${mib(cached)} + ${mib(held)} MiB; ${instances.map((i) => `${i.model} ${i.state} ${mib(i.reserved_bytes)}/${mib(i.held_bytes ?? 0)}`).join(', ')}`);
    }
    next += 1000;
    await sleep(Math.max(0, next - performance.now()));
  }
  return samples;
}

/// Requests as they come, whether or not those before are answered.
async function ride(thaw, names) {
  const random = randomOf(Number(options.seed));
  const choose = zipfOf(random, modelCount, zipf);  // ranks are dealt out so that popular models do not share a file
  const answers = [];
  const end = performance.now() + minutes * 60_000;
  let next = performance.now();
  for (let number = 0; ; ++number) {
    next += (-Math.log(1 - random()) / perSecond) * 1000;
    if (next > end) break;
    await sleep(Math.max(0, next - performance.now()));
    answers.push(ask(thaw, names[choose()], number));
    if (number % 60 === 59) say(`${number + 1} requests`);
  }
  return Promise.all(answers);
}

async function waysUp(thaw, answers) {
  const counts = new Map();
  for (const answer of answers) {
    const record = answer.id && (await thaw.request(answer.id).catch(() => null));
    answer.way = !record ? 'not kept' : !record.cold ? 'ready' : (record.way ?? 'start');
    counts.set(answer.way, (counts.get(answer.way) ?? 0) + 1);
  }
  return counts;
}

main(async () => {
  const directory = temporaryDirectory('/var/tmp');
  const files = await makeFiles(options.models ?? path.join(directory, 'files'));
  const thaw = await Thaw.start(directory, `devices: {cpu: {memory: ${budgetBytes}}}\n`);
  const names = [];
  for (let i = 0; i < modelCount; ++i) {
    names.push(`model-${i}`);
    await thaw.deploy(names[i], { source: { path: files[i % fileCount] } });
  }
  say(`${modelCount} models over ${fileCount} files of ${fileMegabytes} MB, ${minutes} minutes at ${perSecond} requests a second`);
  const until = { over: false };
  const watching = watch(thaw, files, until);
  const cpu = cpuSeconds(thaw.pid);
  const answers = await ride(thaw, names);
  until.over = true;
  const samples = await watching;
  const serverCpu = cpuSeconds(thaw.pid) - cpu;
  const ways = await waysUp(thaw, answers);

  const failed = answers.filter(({ error }) => error);
  for (const { model, id, error } of failed.slice(0, 10)) say(`failed: ${model} (${id}): ${error}`);
  const answered = answers.filter(({ error }) => !error);
  if (answered.length === 0 || samples.length < minutes * 50) throw new Error(`only ${answered.length} answers and ${samples.length} samples: nothing to report`);
  const over = samples.filter(({ both }) => both > budgetBytes);
  console.log(`${answers.length} requests to ${new Set(answers.map(({ model }) => model)).size} of ${modelCount} models in ${minutes} minutes, memory budget ${budgetBytes / 2 ** 30} GiB\n`);
  const row = (name, some) => [name, some.length, ...[0.5, 0.9, 0.99, 1].map((q) => (some.length ? percentile(some.map(({ ms }) => ms), q).toFixed(0) : ''))];
  table(['first token, ms', 'requests', 'p50', 'p90', 'p99', 'max'], [row('all', answered), ...[...ways.keys()].sort().map((way) => row(way, answered.filter((answer) => answer.way === way)))]);
  const memory = (name, key) => [name, ...[0.5, 0.99, 1].map((q) => (percentile(samples.map((sample) => sample[key]), q) / MiB).toFixed(0))];
  table(['MiB, each second', 'p50', 'p99', 'max'], [memory('models\' files in memory (mincore)', 'cached'), memory('engines besides (control group)', 'held'), memory('both', 'both')]);
  console.log(`instances at once: ${Math.max(...samples.map(({ instances }) => instances))}; the server: ${serverCpu.toFixed(1)} CPU seconds, ${(residentKib(thaw.pid).rss / 1024).toFixed(0)} MiB\n`);
  result('density_failed', failed.length, 'requests');
  result('density_over_budget_s', over.length, 's');
  result('density_p99_ttft_ms', percentile(answered.map(({ ms }) => ms), 0.99), 'ms');
  result('density_p50_ttft_ms', percentile(answered.map(({ ms }) => ms), 0.5), 'ms');
  result('density_requests', answers.length, 'requests');
});
