/** The wall clock of this host, by which the time is counted that a guest stands still. */

/** Now, in nanoseconds since 1970-01-01 00:00:00 UTC. */
export const wallTime = (): bigint => BigInt(Date.now()) * 1_000_000n;
