// Chance that is the same every time.

/// Numbers in [0, 1) from a seed (xorshift32).
export function randomOf(seed) {
  let x = (seed * 2654435761) >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x / 2 ** 32;
  };
}

/// Draws one of 0 to count - 1 by a Zipf law: the n-th has a share of 1 / n^exponent.
export function zipfOf(random, count, exponent) {
  const shares = Array.from({ length: count }, (_, rank) => 1 / (rank + 1) ** exponent);
  const sum = shares.reduce((a, b) => a + b);
  return () => {
    let left = random() * sum;
    for (let rank = 0; rank < count; ++rank) if ((left -= shares[rank]) < 0) return rank;
    return count - 1;
  };
}
