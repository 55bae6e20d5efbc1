// wrk: many small chat completions over kept-alive connections.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { run } from './processes.mjs';

const quote = (text) => `[==[${text}]==]`;

export class Wrk {
  constructor(directory, model) {
    this.script = path.join(directory, 'post.lua');
    this.body = JSON.stringify({ model, max_tokens: 8, messages: [{ role: 'user', content: 'Hello, how are you?' }] });
  }

  /// {rps, p50Us, p99Us, requests} of one run. A refused or broken request fails the benchmark.
  async run({ url, key, connections, seconds }) {
    writeFileSync(
      this.script,
      `wrk.method = "POST"
wrk.body = ${quote(this.body)}
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = ${quote(`Bearer ${key}`)}
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nJSON {"requests":%d,"us":%d,"p50":%d,"p99":%d,"errors":%d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
`,
      { mode: 0o600 },
    );
    const out = await run(['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, '-s', this.script, `${url}/v1/chat/completions`]);
    const found = /JSON (.*)/.exec(out);
    if (!found) throw new Error(`wrk printed no numbers:\n${out}`);
    const json = JSON.parse(found[1]);
    if (json.errors > 0 || json.requests === 0) throw new Error(`wrk against ${url}: ${json.errors} errors in ${json.requests} requests`);
    return { rps: (json.requests * 1e6) / json.us, p50Us: json.p50, p99Us: json.p99, requests: json.requests };
  }
}
