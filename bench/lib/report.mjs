// Numbers of many rounds, tables, and the RESULT lines that a machine reads.

export function percentile(values, fraction) {
  if (values.length === 0) throw new Error('no values to take a percentile of');
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * fraction;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

export const median = (values) => percentile(values, 0.5);

/// The first column is left-aligned, the others right.
export function table(heads, rows) {
  const lines = [heads, ...rows].map((cells) => cells.map(String));
  const widths = heads.map((_, column) => Math.max(...lines.map((cells) => cells[column].length)));
  const format = (cells) => cells.map((text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join('  ');
  console.log(format(lines[0]));
  console.log(widths.map((width) => '-'.repeat(width)).join('  '));
  for (const cells of lines.slice(1)) console.log(format(cells));
  console.log('');
}

export function result(name, value, unit) {
  console.log(`RESULT ${name} ${Number(value.toPrecision(4))} ${unit}`);
}

/// Progress, kept apart from the table.
export const say = (text) => process.stderr.write(`[bench] ${text}\n`);
