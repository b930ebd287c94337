/** Ticks that are owed on bare QEMU: the account, and its paying to a processor that takes them or does not. */

import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { zeroRecord } from '../../src/elf/record.ts';
import { MACHINE_STATE } from '../../src/machine/state.ts';
import { type Account, accountOf, OwedTicks, type Payer } from '../../src/targets/bare/owed-ticks.ts';

const SECOND = 1_000_000_000n;
/** Clocks: 4 ms. */
const PERIOD = 4773;
const LIMIT = 10_000;

/** A machine that stopped at time and wall time of 100 s, with its timer in mode 2 since 1 s. */
function machine(timer: object, irr = 0, imr = 0, backlog = 0) {
  const state = zeroRecord(MACHINE_STATE);
  const [channel, ...others] = state.devices.i8254.channels;
  const [master, slave] = state.devices.i8259;
  const begun = { ...channel!, mode: 2, period: PERIOD, loaded: 1, running: 1, gate: 1, start: SECOND };
  const edges = (99n * 1_193_182n) / BigInt(PERIOD);
  return {
    ...state,
    time: 100n * SECOND,
    wall_time: 100n * SECOND,
    devices: {
      ...state.devices,
      i8254: {
        ...state.devices.i8254,
        backlog,
        channels: [{ ...begun, edges, reload_at: 2n ** 64n - 1n, ...timer }, ...others],
      },
      i8259: [{ ...master!, irr, imr }, slave!],
    },
  };
}

const dueAt = (account: Account | undefined, time: bigint): number => Number(account!.due(time));

test('a guest that stood still is due what has passed, and what it was owed before, whether it masks it or not', () => {
  const at = 103n * SECOND;
  for (const imr of [0, 1]) {
    expect(dueAt(accountOf(machine({}, 0, imr), at), at)).toBe(749);
    expect(dueAt(accountOf(machine({}, 0, imr, 50), at), at)).toBe(799);
    // One that is requested is still to be taken.
    expect(dueAt(accountOf(machine({}, 1, imr, 50), at), at)).toBe(800);
  }
});

test('from then on it is due what its timer raises', () => {
  const account = accountOf(machine({}), 100n * SECOND);
  expect(dueAt(account, 100n * SECOND)).toBe(0);
  expect(dueAt(account, 101n * SECOND)).toBe(250);
});

test('nobody is owed more than a day, nor anything for a clock that went back', () => {
  const later = 100_000n * SECOND;
  expect(dueAt(accountOf(machine({}), later), later)).toBe(21_598_768); // 86,400 s of 4,000,228 ns
  expect(dueAt(accountOf(machine({}), 50n * SECOND), 50n * SECOND)).toBe(0);
});

test.each([
  ['counts down once', { mode: 0 }],
  ['has not been loaded', { loaded: 0 }],
  ['stands still', { running: 0 }],
  ['is being programmed anew', { reload_at: 101n * SECOND }],
])('there is no account of a timer that %s', (_, timer) => {
  expect(accountOf(machine(timer), 103n * SECOND)).toBeUndefined();
});

let folder: string;
let file: string;
let ticks: number;
let logs: boolean[];

const take = (): void => appendFileSync(file, 'pic_interrupt irq 0 intno 48\n');

/** @param tick what becomes of one */
const payer = (tick: () => void): Payer => ({
  file,
  log: async (on) => void logs.push(on),
  tick: async () => {
    ticks++;
    tick();
  },
});

/** So many from the start, and no more. */
const owed = (count: bigint): Account => ({ period: 4_000_000n, due: () => count });

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-ticks-'));
  file = join(folder, 'log');
  // Neither what was taken before nor another interrupt counts.
  writeFileSync(file, 'pic_interrupt irq 0 intno 48\npic_interrupt irq 4 intno 52\n');
  ticks = 0;
  logs = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test(
  'all that is owed is paid, and then nobody looks any more',
  async () => {
    const debt = await OwedTicks.open(payer(take));
    debt.pay(owed(100n));
    while (logs.at(-1)) await setTimeout(10);
    expect(ticks).toBe(100);
    await debt.stop();
    expect(debt.owed(0n)).toBe(0n);
    await debt.close();
    expect(logs).toEqual([true, false]);
  },
  LIMIT,
);

test(
  'what the processor takes by itself is not paid twice, and what is lost is paid again',
  async () => {
    let lost = 0;
    const debt = await OwedTicks.open(payer(() => (lost++ % 2 === 0 ? undefined : take())));
    for (let taken = 0; taken < 20; taken++) take();
    debt.pay(owed(30n));
    while (logs.at(-1)) await setTimeout(10);
    expect(ticks).toBe(20);
    await debt.stop();
    await debt.close();
  },
  LIMIT,
);

test('a guest that takes none gets no flood of them, and is owed them still when it stops', async () => {
  const debt = await OwedTicks.open(payer(() => {}));
  debt.pay(owed(100n));
  await setTimeout(300);
  await debt.stop();
  expect(ticks).toBeGreaterThan(0);
  expect(ticks).toBeLessThan(100);
  expect(debt.owed(0n)).toBe(100n * 4_000_000n);
  await debt.close();
  expect(logs).toEqual([true, false]);
});

test('a QEMU that has ended pays nothing, and the debt stays', async () => {
  const gone = payer(() => {
    throw new Error('QEMU closed its socket for tests');
  });
  const debt = await OwedTicks.open(gone);
  debt.pay(owed(7n));
  await debt.stop();
  expect(debt.owed(0n)).toBe(28_000_000n);
  await debt.close();
});

test('a guest that counts no ticks is owed none', async () => {
  const debt = await OwedTicks.open(payer(take));
  debt.pay(undefined);
  await debt.stop();
  expect(debt.owed(0n)).toBe(0n);
  await debt.close();
  expect(ticks).toBe(0);
  expect(logs).toEqual([true, false]);
});

test(
  'a guest whose state could not be had is owed the time that it stood still',
  async () => {
    const STOPPED = 1n;
    let now = 100n;
    const account = { period: 4_000_000n, due: (time: bigint) => (time === STOPPED ? 120n : now) };
    const debt = await OwedTicks.open(payer(take));
    debt.pay(account);
    while (logs.at(-1)) await setTimeout(10);
    expect(ticks).toBe(100);
    // It has had 20 since then, which nobody counted, and has missed 10.
    now = 130n;
    await debt.stop();
    await debt.reopen(STOPPED);
    expect(debt.owed(2n)).toBe(10n * 4_000_000n);
    debt.pay();
    while (logs.at(-1)) await setTimeout(10);
    expect(ticks).toBe(110);
    await debt.stop();
    await debt.close();
    expect(logs).toEqual([true, false, true, false]);
  },
  LIMIT,
);
