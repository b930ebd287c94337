/** Times of things that are done more than once. */

/** Seconds that `body` takes. */
export async function seconds(body: () => unknown): Promise<number> {
  const start = performance.now();
  await body();
  return (performance.now() - start) / 1000;
}

/** The middle one; of an even number the upper. */
export const median = (values: readonly number[]): number => {
  const middle = [...values].sort((a, b) => a - b)[values.length >> 1];
  if (middle === undefined) throw new Error('the median of nothing');
  return middle;
};

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
