/**
 * A guest in a domain of this Xen host, reached by the toolstack's own commands:
 * `xl sysrq` tells its wedge to stand still, and `xl dump-core` writes its memory.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { InputError } from '../elf/input-error.ts';
import type { Machine } from '../machine/state.ts';
import { coreState, GuestRuns } from '../targets/xen/core.ts';
import { ENDING_SIGNALS } from './signals.ts';

/** Cores that are dumped at most until the guest stands still, and milliseconds from one to the next. */
const ATTEMPTS = 20;
const INTERVAL = 500;

/** @throws InputError with what it says if it fails */
function xl(...args: string[]): void {
  const { error, status, signal, stderr } = spawnSync('xl', args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  if (error) throw new InputError('there is no xl here', "run this in the Xen host's initial domain");
  if (status !== 0)
    throw new InputError(
      `xl ${args[0]}: ${stderr.trim().split('\n').at(-1) || (signal ? `ended by ${signal}` : `status ${status}`)}`,
    );
}

/** The state in a core, from when the guest stands still, to `look`. */
async function whenStill<T>(domain: string, core: string, look: (machine: Machine) => T): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    xl('dump-core', domain, core);
    const file = openSync(core, 'r');
    try {
      return look(coreState(file));
    } catch (error) {
      if (!(error instanceof GuestRuns) || attempt === ATTEMPTS) throw error;
    } finally {
      closeSync(file);
    }
    await setTimeout(INTERVAL);
  }
}

/**
 * Lets the guest go on after an error.
 * @param stands whether it stands still; else it may have been told to
 * @throws the error, and why it does not go on if it does not
 */
function goesOn(domain: string, stands: boolean, error: Error): never {
  try {
    xl('sysrq', domain, 'G');
  } catch (another) {
    if (!stands) throw error;
    throw new InputError(`${error.message}; and it still stands still: ${(another as Error).message}`);
  }
  throw error;
}

export interface XenHostOptions {
  /** By its name or number. */
  readonly domain: string;
  /** Where there is room for as much as the domain has memory. */
  readonly folder: string;
  /** Whether the guest ends there when all is done; else it goes on. */
  readonly end: boolean;
}

/**
 * Lets `look` have the state of the guest, which stands still meanwhile. If anything
 * fails it goes on there.
 * @throws InputError if `xl` or the guest refuse, and what `look` throws
 */
export async function standStillOnHost<T>(
  { domain, folder, end }: XenHostOptions,
  look: (machine: Machine) => T,
): Promise<T> {
  const work = mkdtempSync(join(folder, '.previrt-'));
  // What a terminal sends ends xl, and with it this, but not before the guest goes on.
  const ignore = (): void => {};
  for (const signal of ENDING_SIGNALS) process.on(signal, ignore);
  let stands = false;
  try {
    xl('sysrq', domain, 'S');
    stands = true;
    const result = await whenStill(domain, join(work, 'core'), look);
    xl('sysrq', domain, end ? 'Q' : 'G');
    return result;
  } catch (error) {
    return goesOn(domain, stands, error as Error);
  } finally {
    rmSync(work, { recursive: true, force: true });
    for (const signal of ENDING_SIGNALS) process.off(signal, ignore);
  }
}
