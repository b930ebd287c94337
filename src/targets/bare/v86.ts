/**
 * The virtual PC on v86, an emulator that comes as an npm package and runs
 * inside this process. It has no disk there.
 */

import { createRequire } from 'node:module';
import { V86 } from 'v86';
import { InputError } from '../../elf/input-error.ts';
import { firmware } from '../../machine/firmware.ts';
import { prepareBoot } from '../boot.ts';
import { type Check, RUN_STATUS, type RunOptions, type RunStatus, type Target } from '../target.ts';
import { writeOut } from '../write-out.ts';
import { connect, panicWatch } from './console.ts';
import { unburnedKernel } from './image.ts';

interface Processor {
  readonly in_hlt: Uint8Array;
  reset_cpu(): void;
  /** Called by devices that reset the machine. */
  reboot_internal(): void;
}

/** What the package has beyond the interface that it declares. */
type Machine = InstanceType<typeof V86> & {
  write_memory(bytes: Uint8Array, address: number): void;
  readonly v86: { readonly cpu: Processor };
  add_listener(event: 'cpu-event-halt', listener: () => void): void;
};

/** The least that its VGA card, which is not used, accepts. */
const VGA_MEMORY = 1 << 20;

const buffer = (bytes: Uint8Array): { buffer: ArrayBuffer } => ({
  buffer: Uint8Array.from(bytes).buffer,
});

const wasmPath = (): string => createRequire(import.meta.url).resolve('v86/build/v86.wasm');

async function run(options: RunOptions): Promise<RunStatus> {
  if (options.disk !== undefined) throw new InputError('v86 has no disk', 'use --machine qemu');
  const { plan, panicPattern } = prepareBoot(unburnedKernel(options.elf), options);
  const machine = new V86({
    wasm_path: wasmPath(),
    memory_size: options.memory,
    vga_memory_size: VGA_MEMORY,
    bios: buffer(firmware(plan, false)),
    autostart: false,
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
    log_level: 0,
  }) as unknown as Machine;
  await new Promise<void>((ready) => machine.add_listener('emulator-loaded', () => ready()));
  for (const { address, bytes } of plan.chunks) machine.write_memory(bytes, address);
  try {
    return await new Promise<RunStatus>((resolve) => {
      const end = (status: RunStatus): void => {
        wire.close();
        resolve(status);
      };
      const wire = connect(
        options.console,
        (bytes) => {
          machine.serial_send_bytes(0, bytes);
          return undefined;
        },
        () => end(RUN_STATUS.done),
      );
      const watch = panicWatch(panicPattern, (line) => {
        writeOut(options.console.messages, `previrt: ${line}\n`);
        end(RUN_STATUS.panic);
      });
      machine.add_listener('serial0-output-byte', (byte) => {
        const bytes = Uint8Array.of(byte);
        wire.write(bytes);
        watch(bytes);
      });
      // In `hlt` with interrupts off: how a PC without ACPI is off.
      machine.add_listener('cpu-event-halt', () => end(RUN_STATUS.done));
      const processor = machine.v86.cpu;
      processor.reboot_internal = () => {
        // It would go on for a while, to the triple fault that a kernel tries next, on which v86 gives up.
        processor.reset_cpu();
        processor.in_hlt[0] = 1;
        end(RUN_STATUS.done);
      };
      if (options.signal.aborted) end(RUN_STATUS.host);
      else options.signal.addEventListener('abort', () => end(RUN_STATUS.host), { once: true });
      machine.run();
    });
  } finally {
    await machine.destroy();
  }
}

/** It needs nothing of the host. */
const check = async (): Promise<readonly Check[]> => [];

export const v86Target: Target = { name: 'bare', check, run };
