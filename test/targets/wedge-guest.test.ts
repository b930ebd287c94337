/** What is asked of a wedge, and what becomes of it when the wedge does not answer, or answers late. */

import { setImmediate as breathe } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/elf/input-error.ts';
import { memoryRam, PAGE_SIZE } from '../../src/machine/ram.ts';
import { GO_ON_COMMAND, STOP_COMMAND } from '../../src/targets/command.ts';
import { WedgeGuest } from '../../src/targets/wedge-guest.ts';
import { machineOf } from '../machine/state-fixture.ts';

const MACHINE = machineOf(new Uint8Array(PAGE_SIZE));
const SILENT = 'the guest does not come to its wedge: no answer for 30 s';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

/** A guest, and what has been sent to its wedge. */
function guestWith(state: () => typeof MACHINE = () => MACHINE) {
  const sent: Uint8Array[] = [];
  const wire = {
    send: (command: Uint8Array) => void sent.push(command),
    domains: () => [],
    state,
    log: () => ({ ram: memoryRam(new Uint8Array(0)), pages: new Uint8Array(0) }),
  };
  return { guest: new WedgeGuest(wire, () => {}, true), sent };
}

describe('a wedge', () => {
  it('that stands still tells its state, and goes on when it is told to', async () => {
    const { guest, sent } = guestWith();
    const stopped = guest.stop();
    expect(guest.heard('previrt: stopped, memory file 3\nother words\n')).toBe('other words\n');
    expect(await stopped).toBe(MACHINE);
    const goesOn = guest.goOn();
    guest.heard('previrt: goes on\n');
    await goesOn;
    expect(sent).toEqual([STOP_COMMAND, GO_ON_COMMAND]);
  });

  it('goes on if its state cannot be had', async () => {
    const { guest, sent } = guestWith(() => {
      throw new InputError('too many open files');
    });
    const stopped = guest.stop();
    guest.heard('previrt: stopped, memory file 3\n');
    await breathe();
    expect(sent).toEqual([STOP_COMMAND, GO_ON_COMMAND]);
    guest.heard('previrt: goes on\n');
    await expect(stopped).rejects.toThrow('too many open files');
  });

  it('that does not answer is asked nothing more, and if it stops after all it goes on', async () => {
    const { guest, sent } = guestWith();
    const refused = expect(guest.stop()).rejects.toThrow(SILENT);
    await vi.advanceTimersByTimeAsync(31_000);
    await refused;
    await expect(guest.features()).rejects.toThrow(SILENT);
    expect(sent).toEqual([STOP_COMMAND]);
    guest.heard('previrt: stopped, memory file 3\n');
    expect(sent).toEqual([STOP_COMMAND, GO_ON_COMMAND]);
    guest.heard('previrt: goes on\n');
    const again = guest.stop();
    guest.heard('previrt: stopped, memory file 3\n');
    expect(await again).toBe(MACHINE);
  });
});
