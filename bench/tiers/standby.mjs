// What does it take to wake a model that rests in standby, and is what thaw says of its memory what the kernel says?
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';

import { heldBytes, memoryGroupOf, residentBytes } from '../lib/memory.mjs';
import { answering, background, freePort, temporaryDirectory, until } from '../lib/processes.mjs';
import { median, result, say, table } from '../lib/report.mjs';
import { Thaw } from '../lib/thaw.mjs';
import { costOf } from '../lib/weights.mjs';
import { askBy, engine, intoMemory, makeModel, pages, sleepFor, ttft } from './common.mjs';

const wakeSlackMs = 50;  // of the ideal, beside what disk and engine need
const settleMs = 300;  // what was freed is being taken back
const smallestOfDisk = 100e6;  // bytes; with less there is no rate to speak of

const settled = () => sleepFor(settleMs);

/// llama-server's router with room for one model, which it swaps for the other. Its weights are read anew.
async function startRouter(directory, model, other) {
  const models = path.join(directory, 'models');
  mkdirSync(models);
  for (const { name, file } of [model, other]) symlinkSync(file, path.join(models, `${name}.gguf`));
  const port = await freePort();
  const server = background([engine, '--models-dir', models, '--models-max', '1', '--host', '127.0.0.1', '--port', String(port)], path.join(directory, 'router.log'));
  await answering(server, `http://127.0.0.1:${port}/health`);
  return {
    stop: () => server.stop(),
    async swap() {
      await ttft(port, other.name);
      await pages('drop', model.file);
      const { ttft_ms: ms } = await ttft(port, model.name);
      await ttft(port, other.name);  // lest it maps the file while others are measured: who runs keeps pages in memory
      return ms;
    },
  };
}

const ask = async (thaw, name, way) => (await askBy(thaw, name, way)).ms;

async function inStandby(thaw, { name, file }) {
  await thaw.call('POST', `/admin/v1/models/${name}/freeze`);
  const instance = await until(`${name} in standby`, 30_000, async () => (await thaw.instances()).find((one) => one.model === name && one.state === 'standby'));
  const kernel = heldBytes(memoryGroupOf(instance.pid)) + (await residentBytes([file]));
  return { held: instance.device_bytes, kernel };
}

/// All the ways of one model, in turn, the first one changing.
async function measure(directory, model, other, rounds) {
  const { name, file, bytes } = model;
  const thaw = await Thaw.start(directory);
  await thaw.deploy(name, { source: { path: file }, resources: { device: 'cpu' }, startDeadline: '2m', scaling: { idleTimeout: '1h' }, standby: { mode: 'always', timeout: '1h' } });
  const router = await startRouter(directory, model, other);
  const port = await freePort();
  const numbers = { awake: [], resident: [], paged: [], start: [], hand: [], router: [], held: [], books: [], added: [], rate: [], ideal: [], plain: [], vsIdeal: [], vsPlain: [], fill: [], vsFill: [] };
  const books = ({ held, kernel }) => {
    numbers.held.push(held);
    numbers.books.push(Math.abs(held - kernel) / kernel);
  };
  const ready = () => thaw.chat(name);
  const cases = {
    awake: async () => {
      await ready();
      return ask(thaw, name, 'ready');
    },
    resident: async () => {
      await ready();
      books(await inStandby(thaw, model));
      await intoMemory(file);
      await settled();
      return ask(thaw, name, 'wake');
    },
    paged: async () => {
      await ready();
      books(await inStandby(thaw, model));
      await settled();
      return ask(thaw, name, 'wake');
    },
    start: async () => {
      await thaw.sleep(name);
      await pages('drop', file);
      await settled();
      return ask(thaw, name, 'start');
    },
    hand: async () => {
      await thaw.sleep(name);
      await pages('drop', file);
      await settled();
      return (await ttft(port, name, { command: [engine, '-m', file, '--host', '127.0.0.1', '--port', String(port)] })).ttft_ms;
    },
    router: async () => {
      await thaw.sleep(name);
      return router.swap();
    },
  };
  const order = Object.keys(cases);
  const diskRate = async () => {
    const { bytes: read, seconds } = await costOf('read', [file]);
    return read / seconds;
  };
  /// What reading the file into the page cache takes by itself, into memory that was freed as long ago as in a wake.
  const fillMs = async () => {
    await thaw.sleep(name);
    return (await costOf('fill', [file], ['--settle-ms', String(settleMs)])).seconds * 1000;
  };
  for (let round = 0; round < rounds; ++round) {
    const of = {};
    const before = await diskRate();
    const fill = await fillMs();
    for (let i = 0; i < order.length; ++i) {
      const which = order[(round + i) % order.length];
      of[which] = await cases[which]();
      numbers[which].push(of[which]);
    }
    const rate = (before + (await diskRate())) / 2;
    const disk = (bytes / rate) * 1000;
    numbers.rate.push(rate);
    numbers.added.push(of.resident - of.awake);
    numbers.plain.push(disk + wakeSlackMs);
    numbers.ideal.push(Math.max(disk, of.awake) + wakeSlackMs);
    numbers.vsPlain.push(of.paged / numbers.plain.at(-1));
    numbers.fill.push(fill);
    numbers.vsFill.push(of.paged / (Math.max(fill, of.awake) + wakeSlackMs));
    numbers.vsIdeal.push(of.paged / numbers.ideal.at(-1));
  }
  await router.stop();
  const { tiers } = await thaw.call('GET', `/admin/v1/models/${name}`);
  await thaw.server.stop();
  return { model, numbers, tiers };
}

/// `options`: {rounds, sizes (MB), types, models (a directory)}.
export async function standby({ rounds, sizes, types, models }) {
  const other = await makeModel(models, 2, 'f16');
  const measured = [];
  for (const megabytes of sizes)
    for (const type of types) {
      const model = await makeModel(models, megabytes, type);
      say(`${model.name}, ${rounds} rounds`);
      measured.push(await measure(temporaryDirectory(), model, other, rounds));
    }
  const ms = (values) => median(values).toFixed(median(values) < 100 ? 1 : 0);
  const mb = (bytes) => (bytes / 1e6).toFixed(1);
  console.log(`Time to first token, ms; ${rounds} interleaved rounds, medians. Cold: the model's file is not in the page cache\n`);
  table(
    ['', 'ready', 'standby, weights in memory', 'standby, paged out', 'thaw start, cold', 'llama-server by hand, cold', 'router swap, cold'],
    measured.map(({ model, numbers: n }) => [model.name, ...[n.awake, n.resident, n.paged, n.start, n.hand, n.router].map(ms)]),
  );
  console.log(`Ideal: max(bytes / the disk's rate, the ready replica's own answer) + ${wakeSlackMs} ms, each round's own. Held: what is charged in standby\n`);
  table(
    ['', 'added by waking', 'disk GB/s', 'ideal', 'paged out / ideal', 'paged out / (disk + 50 ms)', 'fill alone', 'paged out / (fill + 50 ms)', 'freeze', 'held, MB', 'books error'],
    measured.map(({ model, numbers: n, tiers }) => [
      model.name,
      ms(n.added),
      (median(n.rate) / 1e9).toFixed(2),
      ms(n.ideal),
      median(n.vsIdeal).toFixed(2),
      median(n.vsPlain).toFixed(2),
      ms(n.fill),
      median(n.vsFill).toFixed(2),
      tiers.costs.freeze.mean_ms.toFixed(1),
      mb(median(n.held)),
      Math.max(...n.books).toFixed(4),
    ]),
  );
  const worst = (values) => Math.max(...values);
  const small = measured.filter(({ model }) => model.bytes < smallestOfDisk);
  const big = measured.filter(({ model }) => model.bytes >= smallestOfDisk);
  if (small.length > 0) result('wake_standby_added_ms', worst(small.map(({ numbers }) => median(numbers.added))), 'ms');
  for (const { model, numbers } of big) result(`wake_standby_added_ms_${model.name.replace('-', '_')}`, median(numbers.added), 'ms');
  if (big.length > 0) result('wake_paged_vs_ideal', worst(big.map(({ numbers }) => median(numbers.vsIdeal))), 'ratio');
  if (big.length > 0) result('wake_paged_vs_fill', worst(big.map(({ numbers }) => median(numbers.vsFill))), 'ratio');
  if (big.length > 0) result('wake_paged_vs_start', worst(big.map(({ numbers }) => median(numbers.paged) / median(numbers.start))), 'ratio');
  result('books_error', worst(measured.map(({ numbers }) => worst(numbers.books))), 'ratio');
}
