/** The machine state file: what was written comes back, on disk and from a wedge's own layout. */

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/machine/ram.ts';
import type { Machine } from '../../src/machine/state.ts';
import { decodeMachineState, encodeMachineState } from '../../src/machine/state-blob.ts';
import { verifyRam } from '../../src/machine/state-reader.ts';
import { machines } from './state-arbitrary.ts';
import { allOf, machineOf, StateFolder } from './state-fixture.ts';

const folder = new StateFolder();
afterAll(() => folder.remove());

const told = ({ state, sites }: Omit<Machine, 'ram'>) => ({ state, sites });

describe.each([
  ['plain', {}],
  ['compressed', { compress: true }],
])('%s', (_name, options) => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(machines(), (machine) => {
        folder.write('state', machine, options);
        folder.read('state', (read) => {
          verifyRam(read);
          expect(told(read)).toEqual(told(machine));
          expect(Buffer.compare(allOf(read), allOf(machine))).toBe(0);
        });
      }),
      { numRuns: 60 },
    );
  });

  it('is the same when it is written again', () => {
    fc.assert(
      fc.property(machines(), (machine) => {
        const first = folder.write('state', machine, options);
        const second = folder.read('state', (read) => folder.write('again', read, options));
        expect(Buffer.compare(first, second)).toBe(0);
      }),
      { numRuns: 20 },
    );
  });
});

it("comes back from the wedge's layout", () => {
  fc.assert(
    fc.property(machines(), (machine) => {
      expect(decodeMachineState(encodeMachineState(machine))).toEqual(told(machine));
    }),
  );
});

it('reads any part of RAM, across blocks and zeros', () => {
  const ram = new Uint8Array(3 * 2 ** 20);
  for (const at of [0, 5000, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 3 * PAGE_SIZE, ram.length - 1]) ram[at] = 7;
  folder.write('state', machineOf(ram));
  folder.read('state', ({ ram: stored, blocks }) => {
    expect(blocks.length).toBe(5);
    fc.assert(
      fc.property(fc.nat(ram.length), fc.nat(2 ** 21), (start, size) => {
        const into = new Uint8Array(Math.min(size, ram.length - start)).fill(1);
        stored.read(start as never, into);
        expect(Buffer.compare(into, ram.subarray(start, start + into.length))).toBe(0);
      }),
      { numRuns: 200 },
    );
    expect(() => stored.read((ram.length - 1) as never, new Uint8Array(2))).toThrow(RangeError);
  });
});

it('one that no reader would take is not written', () => {
  const { state, ...rest } = machineOf(new Uint8Array(PAGE_SIZE));
  const virtio_blk = { ...state.devices.virtio_blk, queue_size: 3 };
  const machine = { ...rest, state: { ...state, devices: { ...state.devices, virtio_blk } } };
  expect(() => folder.write('wrong', machine)).toThrow(/^note virtio_blk: queue_size cannot be 3$/);
});
