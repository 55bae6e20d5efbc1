// What does each way up cost a request: a wake from standby, a restore from an image, a start? And what do the engine's answers cost in gVisor, which
// images need?
import { mkdirSync, rmSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { cleanUpWith, main } from './lib/processes.mjs';
import { engine } from './tiers/common.mjs';
import { rate } from './tiers/rate.mjs';
import { snapshots } from './tiers/snapshots.mjs';
import { standby } from './tiers/standby.mjs';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    part: { type: 'string', multiple: true },
    size: { type: 'string', multiple: true },
    type: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    models: { type: 'string' },
    pool: { type: 'string' },
    subject: { type: 'string', multiple: true },
  },
});
const parts = { standby, snapshots, rate };

main(async () => {
  if (!engine) throw new Error('THAW_BENCH_ENGINE does not name a llama-server; use scripts/bench tiers');
  const chosen = values.part ?? Object.keys(parts);
  for (const part of chosen) if (!parts[part]) throw new Error(`no part '${part}': ${Object.keys(parts).join(', ')}`);
  const models = values.models ?? '/var/tmp/thaw-bench-tiers';
  mkdirSync(models, { recursive: true, mode: 0o755 });
  if (!values.models) cleanUpWith(() => rmSync(models, { recursive: true, force: true }));
  const options = {
    models,
    quick: values.quick,
    subjects: values.subject,
    pool: Number(values.pool ?? 1),
    rounds: Number(values.rounds ?? (values.quick ? 2 : 7)),
    sizes: (values.size ?? (values.quick ? ['1', '200'] : ['1', '1000', '4000'])).map(Number),
    types: values.type ?? ['f16', 'q4_0'],
  };
  for (const part of chosen) await parts[part](options);
});
