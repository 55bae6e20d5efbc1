// Is what the simulator foretells what happens? A trace on the real daemon, with the real engine, and the same trace in `thaw sim`, on a fleet that `thaw
// calibrate` measured on the same machine before.
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { heldBytes, memoryGroupOf, residentEach } from './lib/memory.mjs';
import { main, run, temporaryDirectory } from './lib/processes.mjs';
import { randomOf, zipfOf } from './lib/random.mjs';
import { median, say } from './lib/report.mjs';
import { Thaw, binary } from './lib/thaw.mjs';
import { judge, loadRide, policyOf, saveRide } from './replay/verdict.mjs';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    models: { type: 'string' },
    keep: { type: 'string' },
    trace: { type: 'string' },
    minutes: { type: 'string' },
    rate: { type: 'string', default: '0.6' },
    seed: { type: 'string', default: '1' },
    budget: { type: 'string' },
    rounds: { type: 'string' },
    idle: { type: 'string', default: 'timeout' },
    fleet: { type: 'string' },
    again: { type: 'string' },
  },
});
const quick = options.quick;
const GiB = 2 ** 30;
const minutes = Number(options.minutes ?? (quick ? 0.4 : 10));
const perSecond = Number(options.rate);
const seed = Number(options.seed);
const modelCount = 12;
const sizesMb = quick ? [60, 60, 100] : [200, 200, 400];  // in turn
const budgetBytes = Number(options.budget ?? (quick ? 0.8 : 2)) * GiB;
const zipf = 1;
const tokenShare = 1 / 32, answerShare = 1 / 4;  // of the trace's: a CPU is slower than what it was recorded on
const mostTokens = 256, mostAnswer = 32;
const idleTimeoutS = 10;
const longestAnswerMs = 120_000;

/// Azure's trace, its hour pressed into these minutes and thinned to the rate; its tokens scaled; its requests dealt out to models by a Zipf law.
function scaledTrace() {
  const file = options.trace ?? path.join(path.dirname(fileURLToPath(import.meta.url)), '../../shared/traces/AzureLLMInferenceTrace_code.csv');
  if (!existsSync(file)) throw new Error(`no trace ${file}; get AzureLLMInferenceTrace_code.csv from github.com/Azure/AzurePublicDataset and name it with --trace=FILE`);
  const rows = readFileSync(file, 'utf8').trim().split('\n').slice(1).map((line) => line.split(','));
  const ms = (text) => Date.parse(`${text.slice(0, 23).replace(' ', 'T')}Z`);
  const begin = ms(rows[0][0]), span = ms(rows.at(-1)[0]) - begin;
  const wanted = Math.round(minutes * 60 * perSecond);
  if (wanted < 10 || wanted > rows.length) throw new Error(`${wanted} requests wanted, the trace has ${rows.length}: change --minutes or --rate`);
  const random = randomOf(seed);
  const choose = zipfOf(random, modelCount, zipf);
  const requests = Array.from({ length: wanted }, (_, n) => rows[Math.floor(((n + random()) * rows.length) / wanted)]);
  return requests.map(([at, input, output]) => ({
    at: ((ms(at) - begin) / span) * minutes * 60,
    model: `model-${choose()}`,
    input: Math.min(Math.max(Math.round(Number(input) * tokenShare), 4), mostTokens),
    output: Math.min(Math.max(Math.round(Number(output) * answerShare), 2), mostAnswer),
  }));
}

const csvOf = (trace) => `time,model,input_tokens,output_tokens\n${trace.map(({ at, model, input, output }) => `${at.toFixed(6)},${model},${input},${output}`).join('\n')}\n`;

async function makeModels(directory) {
  mkdirSync(directory, { recursive: true });
  const files = [];
  for (let n = 0; n < modelCount; ++n) {
    const megabytes = sizesMb[n % sizesMb.length];
    const file = path.join(directory, `replay-${megabytes}-${n}.gguf`);
    if (!statSync(file, { throwIfNoEntry: false })) {
      await run([binary('make-model'), '--size', `${megabytes}MB`, '--type', 'f16', '--seed', String(n + 1), '--out', file]);
      await run(['sync', '-f', file]);
    }
    await run([binary('bench-pages'), 'drop', file]);
    files.push(file);
  }
  return files;
}

/// Each file is hashed when its model is first loaded, which takes disk and processor: now instead.
async function hash(thaw, name) {
  const response = await fetch(`${thaw.url}/admin/v1/models/${name}/verify`, { method: 'POST', headers: { authorization: `Bearer ${thaw.key}` } });
  const last = JSON.parse((await response.text()).trim().split('\n').at(-1));
  if (!last.ok) throw new Error(`${name}: ${JSON.stringify(last)}`);
}

async function ask(thaw, { model, input, output }, random) {
  const began = performance.now();
  const answer = { model };
  try {
    const response = await fetch(`${thaw.url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${thaw.key}` },
      // Tokens of which no two prompts have the first in common, so that no prompt is in a cache already.
      body: JSON.stringify({ model, stream: true, temperature: 0, max_tokens: output, stream_options: { include_usage: true }, prompt: Array.from({ length: input }, () => 260 + Math.floor(random() * 240)) }),
      signal: AbortSignal.timeout(longestAnswerMs),
    });
    answer.id = response.headers.get('x-request-id');
    if (!response.ok) throw new Error(`${response.status} ${(await response.text()).slice(0, 300)}`);
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
      if (answer.s === undefined && /^data: \{/m.test(text)) answer.s = (performance.now() - began) / 1000;
    }
    if (!text.includes('data: [DONE]')) throw new Error(`the stream broke off: ${text.slice(-200)}`);
    const record = await thaw.request(answer.id);
    answer.way = record.cold ? (record.way ?? 'start') : 'ready';
    answer.record = record;
  } catch (error) {
    answer.error = error.message;
  }
  return answer;
}

/// `--fleet`: as it was measured before.
async function measureMachine(thaw, file) {
  if (options.fleet) return writeFileSync(file, readFileSync(options.fleet));
  say('measuring the machine');
  const environment = { ...process.env, THAW_URL: thaw.url, THAW_API_KEY: thaw.key, XDG_CONFIG_HOME: `${thaw.directory}.config` };
  const rounds = options.rounds ?? (quick ? '1' : '3');
  writeFileSync(file, await run([binary('thaw'), 'calibrate', '--rounds', rounds, ...(quick ? ['--pause', '0'] : [])], { env: environment }));
}

/// Once a second: what the kernel says that models hold, their files in the page cache and all engines' groups, which are in the directory of one of them; and
/// what the server says of its replicas.
async function watch(thaw, files, until) {
  const samples = [];
  let group;
  const begin = performance.now();
  let next = begin;
  while (!until.over) {
    const instances = await thaw.instances();
    if (!group) {
      const instance = instances.find(({ pid }) => pid);
      try {
        const own = instance && memoryGroupOf(instance.pid);
        group = own && { ...own, directory: path.dirname(own.directory) };
      } catch {
        // It has ended since.
      }
    }
    const at = (performance.now() - begin) / 1000;
    samples.push({ at, own: group ? heldBytes(group) : 0, files: await residentEach(files), instances: instances.map(({ model, state }) => ({ model, state })) });
    next += 1000;
    await sleep(Math.max(0, next - performance.now()));
  }
  return samples;
}

/// Seconds that prompts of a fixed length take a ready replica: virtual machines change their pace, and a forecast cannot know.
async function pace(thaw) {
  const random = randomOf(seed + 2);
  const request = { model: 'model-0', input: 128, output: 2 };
  await ask(thaw, request, random);
  const times = [];
  for (let n = 0; n < 7; ++n) times.push((await ask(thaw, request, random)).s);
  await thaw.sleep('model-0');
  return median(times);
}

/// Requests when the trace says, whether or not those before are answered.
async function rideTrace(thaw, trace, files) {
  const random = randomOf(seed + 1);
  const until = { over: false };
  const begin = performance.now();
  const watching = watch(thaw, files, until);
  const answers = [];
  for (const [number, request] of trace.entries()) {
    await sleep(Math.max(0, begin + request.at * 1000 - performance.now()));
    answers.push(ask(thaw, request, random));
    if (number % 60 === 59) say(`${number + 1} of ${trace.length} requests`);
  }
  const all = await Promise.all(answers);
  until.over = true;
  return { answers: all, samples: await watching };
}

main(async () => {
  if (options.again) return judge(options.again, loadRide(options.again));
  if (!policyOf(options.idle)) throw new Error('--idle is timeout or auto');
  const directory = temporaryDirectory('/var/tmp');
  const kept = options.keep ?? directory;
  mkdirSync(kept, { recursive: true });
  const trace = scaledTrace();
  writeFileSync(path.join(kept, 'trace.csv'), csvOf(trace));
  const files = await makeModels(options.models ?? path.join(directory, 'files'));
  const thaw = await Thaw.start(directory, `devices: {cpu: {memory: ${budgetBytes}}}\nscaling: {idle: ${options.idle}}\n`);
  const names = files.map((_, n) => `model-${n}`);
  for (const [n, name] of names.entries()) {
    // Every other one of each size rests in standby, whether or not a start would be quicker: both ways are to be seen.
    const standby = { mode: Math.floor(n / sizesMb.length) % 2 === 0 ? 'always' : 'auto' };
    await thaw.deploy(name, { source: { path: files[n] }, args: ['-c', '1024'], scaling: { targetConcurrency: 2, idleTimeout: `${idleTimeoutS}s` }, standby });
  }
  for (const name of names) await hash(thaw, name);

  await measureMachine(thaw, path.join(kept, 'fleet.yaml'));
  const before = await pace(thaw);
  // As in the simulation: nothing is in memory, and the scheduler has measured nothing yet.
  await thaw.restart();
  for (const name of names) await thaw.call('POST', `/admin/v1/models/${name}/evict`);
  await sleep(2000);  // the pool makes its sandboxes

  say(`${trace.length} requests to ${modelCount} models in ${minutes} minutes`);
  const { answers, samples } = await rideTrace(thaw, trace, files);
  const after = await pace(thaw);
  const requests = trace.map((request, n) => ({ ...request, answer: answers[n] }));
  const ride = { idle: options.idle, budget_bytes: budgetBytes, minutes, models: modelCount, pace: { before, after }, requests, samples };
  saveRide(kept, ride);
  if (options.keep) copyFileSync(`${thaw.directory}.log`, path.join(kept, 'server.log'));
  await judge(kept, ride);
});
