// How long does a model whose weights lie on the disk take to its first token, compared with starting the engine by hand, and with what disk and
// engine could do at best?
import { mkdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { cleanUpWith, freePort, main, run, until } from './lib/processes.mjs';
import { median, percentile, result, say, table } from './lib/report.mjs';
import { Thaw, binary, engineOf, poolIsFull } from './lib/thaw.mjs';
import { temporaryDirectory } from './lib/processes.mjs';
import { costOf } from './lib/weights.mjs';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    size: { type: 'string', multiple: true },
    type: { type: 'string', multiple: true },
    eight: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    models: { type: 'string' },
  },
});
const engine = process.env.THAW_BENCH_ENGINE;
const rounds = Number(options.rounds ?? (options.quick ? 2 : 7));
const settleMs = 500;  // memory of the last engine is being freed
const GB = 1e9;

const chatBody = (name) => JSON.stringify({ model: name, stream: true, temperature: 0, max_tokens: 4, messages: [{ role: 'user', content: 'Once upon a time' }] });
const settled = () => new Promise((resolve) => setTimeout(resolve, settleMs));
const ttft = async (port, name, { key = 'none', command = [] } = {}) =>
  JSON.parse(await run([binary('bench-ttft'), '--port', String(port), '--key', key, '--body', chatBody(name), ...(command.length ? ['--', ...command] : [])]));
const pages = (command, files) => run([binary('bench-pages'), command, ...files]);
/// Out of the page cache, with as much free memory that is the machine's own as a start will take: the files, and copies where weights are repacked.
const drop = async (files, type) => {
  await pages('drop', files);
  await back(files, type);
};
const back = (files, type) => pages('back', type === 'f16' ? files : [...files, ...files]);
/// Bytes a second past the page cache: `read` into a few buffers over and over, as fast as this disk is ever read here (scripts/bench weights compares
/// it with fio); `limit` into as much memory as the file takes, which no load can do without and which a hypervisor first has to hand out.
const rateOf = async (verb, files) => {
  const runs = verb === 'read' ? [await costOf(verb, files)] : await inTurn(files, (file) => costOf(verb, [file]));
  return runs.reduce((sum, { bytes }) => sum + bytes, 0) / runs.reduce((sum, { seconds }) => sum + seconds, 0);
};
const inTurn = async (values, act) => {
  const results = [];
  for (const value of values) results.push(await act(value));
  return results;
};
/// {disk, memory}: the mean of what it was before the round and is now.
const ratesDuring = async (files, round) => {
  const rates = async () => ({ disk: await rateOf('read', files), memory: await rateOf('limit', files) });
  const before = await rates();
  await round();
  const after = await rates();
  return { disk: (before.disk + after.disk) / 2, memory: (before.memory + after.memory) / 2 };
};
/// Reads the files into the page cache. A kernel that reclaims by itself (DAMON) takes single pages back at any time: a hundredth may be missing.
const warm = async (files) => {
  for (let attempt = 0; attempt < 5; ++attempt) {
    await run(['sh', '-c', 'cat "$@" > /dev/null', 'cat', ...files]);
    const { bytes, resident } = JSON.parse(await pages('resident', files));
    if (resident >= bytes * 0.99) return;
  }
  throw new Error('the models did not stay in the page cache: this machine has too little memory');
};

/// Where models of gigabytes are made once and kept for the next run: --models DIR; else they are gone at the end.
function modelDirectory() {
  const directory = options.models ?? '/var/tmp/thaw-bench-models';
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  if (!options.models) cleanUpWith(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function makeModel(directory, megabytes, type) {
  const file = path.join(directory, `${megabytes}-${type}.gguf`);
  if (!statSync(file, { throwIfNoEntry: false })) {
    say(`making ${file}`);
    await run([binary('make-model'), '--size', `${megabytes}MB`, '--type', type, '--seed', String(megabytes), '--out', file]);
  }
  return { name: `m${megabytes}-${type.replace('_', '')}`, file, bytes: statSync(file).size };
}

/// A thaw server that knows the models; all are asleep and its pool is full.
async function sleepingThaw(directory, models, config = '', pool = 1) {
  const thaw = await Thaw.start(directory, `node: {pool: ${pool}}\n${config}`);
  for (const { name, file } of models) await thaw.deploy(name, { source: { path: file }, resources: { device: 'cpu' }, scaling: { idleTimeout: '1h' } });
  await thaw.chat(models[0].name);
  const { home } = engineOf((await thaw.instances())[0]);
  const sleep = async () => {
    for (const { name } of models) await thaw.sleep(name);
    await until('a sandbox in the pool', 10_000, () => poolIsFull(home, pool));
  };
  await sleep();
  /// {ms, record} of one request; it must have found its model asleep.
  const measure = async (name) => {
    const { ttft_ms: ms, id } = await ttft(thaw.port, name, thaw);
    const record = await until('the record of the request', 10_000, () => thaw.request(id).catch(() => null));
    if (!record.cold) throw new Error('the request found its model awake');
    return { ms, record };
  };
  return { thaw, sleep, measure };
}

const addRates = (numbers, { disk, memory }) => {
  numbers.disk.push(disk / GB);
  numbers.memory.push(memory / GB);
};

const weightsOf = (record) => record.phases.find((phase) => phase.name === 'weights');

/// One model, all contestants in turn.
async function alone(directory, megabytes, type) {
  const model = await makeModel(modelDirectory(), megabytes, type);
  const files = [model.file];
  const { sleep, measure, thaw } = await sleepingThaw(path.join(directory, `${megabytes}-${type}`), [model]);
  const port = await freePort();
  const byHand = async () => (await ttft(port, model.name, { command: [engine, '-m', model.file, '--host', '127.0.0.1', '--port', String(port)] })).ttft_ms;
  const numbers = { disk: [], memory: [], hand: [], handWarm: [], cold: [], warm: [], vsHand: [], vsIdeal: [], vsMemory: [], fill: [] };
  const cases = {
    hand: async () => {
      await drop(files, type);
      return byHand();
    },
    handWarm: async () => {
      await warm(files);
      await back(files, type);
      return byHand();
    },
    cold: async () => {
      await drop(files, type);
      const { ms, record } = await measure(model.name);
      const weights = weightsOf(record);
      // Not there when the engine itself brought the last page in, and its first token was out before the fill had seen that.
      if (weights) {
        if (weights.read_bytes < model.bytes * 0.99) throw new Error(`only ${weights.read_bytes} of ${model.bytes} bytes were read: the cache was not cold`);
        numbers.fill.push(weights.read_bytes / weights.duration_ms / 1e6);
      }
      await sleep();
      return ms;
    },
    warm: async () => {
      await warm(files);
      await back(files, type);
      const { ms } = await measure(model.name);
      await sleep();
      return ms;
    },
  };
  const order = Object.keys(cases);
  for (let round = 0; round < rounds; ++round) {
    const of = {};
    const rate = await ratesDuring(files, async () => {
      for (let i = 0; i < order.length; ++i) {
        const contestant = order[(round + i) % order.length];
        await settled();
        of[contestant] = await cases[contestant]();
        numbers[contestant].push(of[contestant]);
      }
    });
    addRates(numbers, rate);
    numbers.vsHand.push(of.cold / of.hand);
    numbers.vsIdeal.push(of.cold / Math.max((model.bytes / rate.disk) * 1000, of.warm));
    numbers.vsMemory.push(of.cold / Math.max((model.bytes / rate.memory) * 1000, of.warm));
  }
  await thaw.server.stop();
  return { model, numbers };
}

/// Eight models asked for at the same moment.
async function eightAtOnce(directory, type) {
  const megabytes = options.quick ? [20, 30, 40, 50, 60, 80, 100, 120] : [100, 200, 300, 400, 500, 600, 800, 1100];
  const models = [];
  for (const size of megabytes) models.push(await makeModel(modelDirectory(), size, type));
  const files = models.map(({ file }) => file);
  const bytes = models.reduce((sum, model) => sum + model.bytes, 0);
  const { sleep, measure, thaw } = await sleepingThaw(path.join(directory, `eight-${type}`), models, 'devices: {cpu: {memory: 16GiB}}\n', models.length);
  const all = async () => (await Promise.all([...models].reverse().map(({ name }) => measure(name)))).reverse();
  const numbers = { disk: [], memory: [], last: [], lastWarm: [], first: [], firstAlone: [], vsIdeal: [], vsMemory: [], smallest: [], phases: [] };
  for (let round = 0; round < rounds; ++round) {
    const cases = [
      async () => {
        await drop(files, type);
        const times = await all();
        numbers.last.push(Math.max(...times.map(({ ms }) => ms)));
        numbers.first.push(times[0].ms);
        numbers.phases.push(times.map(({ record }) => record.phases));
      },
      async () => {
        await warm(files);
        await back(files, type);
        numbers.lastWarm.push(Math.max(...(await all()).map(({ ms }) => ms)));
      },
      async () => {
        await drop(files, type);
        numbers.firstAlone.push((await measure(models[0].name)).ms);
      },
    ];
    const rate = await ratesDuring(files, async () => {
      for (let i = 0; i < cases.length; ++i) {
        await settled();
        await cases[(round + i) % cases.length]();
        await sleep();
      }
    });
    addRates(numbers, rate);
    numbers.vsIdeal.push(numbers.last[round] / Math.max((bytes / rate.disk) * 1000, numbers.lastWarm[round]));
    numbers.vsMemory.push(numbers.last[round] / Math.max((bytes / rate.memory) * 1000, numbers.lastWarm[round]));
    numbers.smallest.push(numbers.first[round] / numbers.firstAlone[round]);
  }
  await thaw.server.stop();
  return { bytes, numbers };
}

const spread = (values, digits = 0) => [0.5, 0, 1].map((fraction) => percentile(values, fraction).toFixed(digits));

main(async () => {
  if (!engine) throw new Error('THAW_BENCH_ENGINE does not name a llama-server; use scripts/bench loading');
  const directory = temporaryDirectory();
  const sizes = options.size ?? (options.eight ? [] : options.quick ? ['200'] : ['1000', '2000', '4000']);
  const types = options.type ?? ['f16', 'q4_0'];
  for (const type of types)
    for (const size of sizes) {
      say(`${size} MB, ${type}, ${rounds} rounds`);
      const { model, numbers } = await alone(directory, Number(size), type);
      console.log(`${(model.bytes / GB).toFixed(2)} GB ${type}, ${rounds} interleaved rounds: time to first token, ms\n`);
      table(
        ['', 'median', 'min', 'max'],
        [
          ['thaw, cold page cache', ...spread(numbers.cold)],
          ['thaw, warm page cache', ...spread(numbers.warm)],
          ['llama-server by hand, cold', ...spread(numbers.hand)],
          ['llama-server by hand, warm', ...spread(numbers.handWarm)],
          ['the disk alone', ...spread(numbers.disk.map((rate) => (model.bytes / GB / rate) * 1000))],
          ['the disk into new memory', ...spread(numbers.memory.map((rate) => (model.bytes / GB / rate) * 1000))],
        ],
      );
      console.log(`disk, read directly: ${median(numbers.disk).toFixed(2)} GB/s; weights, as read by thaw during starts: ${numbers.fill.length > 0 ? median(numbers.fill).toFixed(2) : '-'} GB/s\n`);
      const label = `${Number(size) / 1000}gb_${type.replace('_', '')}`;
      result(`cold_ttft_vs_default_${label}`, median(numbers.vsHand), 'ratio');
      result(`cold_ttft_vs_ideal_${label}`, median(numbers.vsIdeal), 'ratio');
      result(`cold_ttft_vs_memory_ideal_${label}`, median(numbers.vsMemory), 'ratio');
    }
  if (options.eight || !options.size)
    for (const type of types) {
      say(`eight at once, ${type}, ${rounds} rounds`);
      const { bytes, numbers } = await eightAtOnce(directory, type);
      console.log(`Eight models of ${(bytes / GB).toFixed(2)} GB together, ${type}, asked for at the same moment, ${rounds} rounds: time to first token, ms\n`);
      table(
        ['', 'median', 'min', 'max'],
        [
          ['the last of eight, cold page cache', ...spread(numbers.last)],
          ['the last of eight, warm page cache', ...spread(numbers.lastWarm)],
          ['the smallest among eight, cold', ...spread(numbers.first)],
          ['the smallest alone, cold', ...spread(numbers.firstAlone)],
          ['the disk alone', ...spread(numbers.disk.map((rate) => (bytes / GB / rate) * 1000))],
          ['the disk into new memory', ...spread(numbers.memory.map((rate) => (bytes / GB / rate) * 1000))],
        ],
      );
      console.log('When each of them was where, last round, smallest first, ms since its request:\n');
      const names = ['weights', 'sandbox', 'load', 'first token'];
      const ends = (phases) => names.map((name) => phases.find((phase) => phase.name === name)).map((phase) => (phase ? (phase.start_ms + phase.duration_ms).toFixed(0) : '-'));
      table(['', ...names.map((name) => `${name} until`)], numbers.phases.at(-1).map((phases, i) => [`model ${i + 1}`, ...ends(phases)]));
      const label = type.replace('_', '');
      result(`eight_vs_ideal_${label}`, median(numbers.vsIdeal), 'ratio');
      result(`eight_vs_memory_ideal_${label}`, median(numbers.vsMemory), 'ratio');
      result(`smallest_of_eight_vs_alone_${label}`, median(numbers.smallest), 'ratio');
    }
});
