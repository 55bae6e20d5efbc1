// Does an engine in gVisor answer as fast as the same engine by itself?

import { answering, background, freePort, temporaryDirectory, until } from '../lib/processes.mjs';
import { median, result, say, table } from '../lib/report.mjs';
import { Thaw, engineOf } from '../lib/thaw.mjs';
import { engine, intoMemory, makeModel } from './common.mjs';

const tokens = 64;
const promptWords = 32;
const prompt = Array.from({ length: promptWords }, (_, i) => `w${i}`).join(' ');
const body = (model) => JSON.stringify({ model, prompt, max_tokens: tokens, ignore_eos: true, temperature: 0, cache_prompt: false });

/// By the engine's own clock, so that neither the way there nor thaw counts: {prompt, answer}, tokens/s.
async function measure(url, model, key) {
  const response = await fetch(`${url}/v1/completions`, { method: 'POST', body: body(model), headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' } });
  const text = await response.text();
  if (!response.ok) throw new Error(`${model}: ${response.status} ${text.slice(0, 300)}`);
  const { timings } = JSON.parse(text);
  return { prompt: timings.prompt_per_second, answer: timings.predicted_per_second };
}

/// The engine by itself, with the arguments that thaw gives it.
async function startBare(directory, argv, file) {
  const port = await freePort();
  const replaced = { '-m': file, '--host': '127.0.0.1', '--port': String(port) };
  const args = argv.slice(1).map((word, i) => replaced[argv[i]] ?? word);
  if (!argv.includes('--port')) args.push('--port', String(port));
  const server = background([engine, ...args], `${directory}/bare-${port}.log`);
  const url = `http://127.0.0.1:${port}`;
  await answering(server, `${url}/health`);
  await until('the engine has its model', 60_000, async () => (await fetch(`${url}/health`)).ok);  // 503 before
  return { url, stop: () => server.stop() };
}

async function compare(thaw, directory, model, rounds) {
  const { name, file } = model;
  const kinds = ['runc', 'runsc'];
  for (const kind of kinds) {
    await thaw.deploy(`${name}-${kind}`, { source: { path: file }, sandbox: kind, resources: { device: 'cpu' }, startDeadline: '3m', snapshot: { mode: 'never' }, standby: { mode: 'never' }, scaling: { idleTimeout: '1h' } });
    await thaw.chat(`${name}-${kind}`);
  }
  const instance = (await thaw.instances()).find((one) => one.model === `${name}-runc`);
  const bare = await startBare(directory, engineOf(instance).argv, file);
  await intoMemory(file);
  const cases = {
    bare: () => measure(bare.url, `${name}-runc`, 'none'),
    runc: () => measure(thaw.url, `${name}-runc`, thaw.key),
    runsc: () => measure(thaw.url, `${name}-runsc`, thaw.key),
  };
  const order = Object.keys(cases);
  const rates = Object.fromEntries(order.map((which) => [which, { prompt: [], answer: [] }]));
  for (const which of order) await cases[which]();  // pages are mapped, memory is handed out
  for (let round = 0; round < rounds; ++round)
    for (let i = 0; i < order.length; ++i) {
      const which = order[(round + i) % order.length];
      const { prompt: first, answer } = await cases[which]();
      rates[which].prompt.push(first);
      rates[which].answer.push(answer);
    }
  await bare.stop();
  for (const kind of kinds) await thaw.call('DELETE', `/admin/v1/models/${name}-${kind}`);
  return { model, rates };
}

/// `options`: {rounds, quick, types, models (a directory)}.
export async function rate({ rounds, quick, types, models }) {
  const directory = temporaryDirectory();
  const thaw = await Thaw.start(directory);
  const measured = [];
  for (const type of types) {
    const model = await makeModel(models, quick ? 200 : 1000, type);
    say(`${model.name}: ${rounds} rounds of ${tokens} tokens`);
    measured.push(await compare(thaw, directory, model, rounds));
  }
  await thaw.server.stop();
  const per = (values) => median(values).toFixed(1);
  const ratio = (rates, what) => median(rates.runsc[what]) / median(rates.bare[what]);
  console.log(`Tokens/s by the engine's own clock, a prompt of ${promptWords} words and ${tokens} tokens of answer; medians of ${rounds}\n`);
  table(
    ['', 'bare', 'runc', 'runsc', 'runsc / bare', 'prompt: bare', 'runc', 'runsc', 'runsc / bare'],
    measured.map(({ model, rates }) => [
      model.name,
      ...['bare', 'runc', 'runsc'].map((which) => per(rates[which].answer)),
      ratio(rates, 'answer').toFixed(3),
      ...['bare', 'runc', 'runsc'].map((which) => per(rates[which].prompt)),
      ratio(rates, 'prompt').toFixed(3),
    ]),
  );
  for (const { model, rates } of measured) result(`runsc_token_rate_${model.type}`, ratio(rates, 'answer'), 'ratio');
  for (const { model, rates } of measured) result(`runsc_prompt_rate_${model.type}`, ratio(rates, 'prompt'), 'ratio');
  result('runsc_token_rate', Math.min(...measured.map(({ rates }) => ratio(rates, 'answer'))), 'ratio');
}
