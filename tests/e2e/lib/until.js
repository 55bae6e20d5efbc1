import assert from 'node:assert/strict';

const pause_ms = 20;

/**
 * Asks again and again until `probe` returns something truthy, and returns that. No test sleeps for a time in the hope
 * that something has happened by then. The deadline is only there to end a test that has failed.
 */
export async function until(what, probe, { timeout_ms = 60_000 } = {}) {
  const deadline = Date.now() + timeout_ms;
  let last;
  for (;;) {
    try {
      last = undefined;
      const found = await probe();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) assert.fail(`not seen within ${timeout_ms / 1000} s: ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, pause_ms));
  }
}
