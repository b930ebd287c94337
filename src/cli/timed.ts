/** What takes long says that it goes on. */

/** Milliseconds between two words while nothing else is told. */
const INTERVAL = 2000;

/** While `act` waits, its time is told on standard error. */
export async function timed<T>(act: () => Promise<T>): Promise<T> {
  const since = performance.now();
  const timer = setInterval(
    () => process.stderr.write(`... ${Math.round((performance.now() - since) / 1000)} s\n`),
    INTERVAL,
  );
  try {
    return await act();
  } finally {
    clearInterval(timer);
  }
}
