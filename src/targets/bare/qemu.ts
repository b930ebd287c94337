/**
 * Virtual PC version 1 on QEMU, by emulation: no hardware support, and the
 * annotated kernel as it is.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { InputError } from '../../elf/input-error.ts';
import { firmware } from '../../machine/firmware.ts';
import { DISK_SLOT } from '../../machine/virtual-pc.ts';
import { prepareBoot } from '../boot.ts';
import { type Check, RUN_STATUS, type RunOptions, type RunStatus, type Target } from '../target.ts';
import { connect, lineWatch } from './console.ts';
import { refuseBurned } from './image.ts';
import { listenForQmp, type Qmp } from './qmp.ts';

const QEMU = 'qemu-system-i386';

/**
 * A Pentium III is the i686 that Debian's i386 programs ask for (cmov), with
 * FXSR and sysenter, and has no more that a host might lack; without its APIC.
 */
export const QEMU_MACHINE: readonly string[] = [
  ...['-M', 'pc,acpi=off,hpet=off', '-cpu', 'pentium3,-apic', '-accel', 'tcg'],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
];

/** Milliseconds between two looks at whether the processor has stopped for good. */
const HALT_POLL = 200;

/** A processor in `hlt` that no interrupt will wake: how a PC without ACPI is off. */
export const isOff = (registers: string): boolean => {
  const flags = Number.parseInt(/EFL=([0-9a-f]+)/i.exec(registers)?.[1] ?? '0', 16);
  const INTERRUPTS = 1 << 9;
  return /HLT=1/.test(registers) && (flags & INTERRUPTS) === 0;
};

/** Resolves when the processor is off; rejects when QEMU ends first. */
async function powerOff(qmp: Qmp): Promise<void> {
  while (!isOff(await qmp.monitor('info registers'))) await sleep(HALT_POLL);
}

/** A comma in an option's value is written twice. */
const quote = (path: string): string => path.replaceAll(',', ',,');

/** Writes what the machine starts from into `folder`; returns the options that name it. */
async function machineFiles(
  folder: string,
  options: RunOptions,
  plan: ReturnType<typeof prepareBoot>['plan'],
) {
  const args: string[] = ['-m', `${options.memory / 2 ** 20}M`];
  const rom = join(folder, 'rom');
  await writeFile(rom, firmware(plan, options.disk !== undefined));
  args.push('-bios', rom);
  for (const [index, { address, bytes }] of plan.chunks.entries()) {
    const file = join(folder, `chunk-${index}`);
    await writeFile(file, bytes);
    args.push('-device', `loader,file=${quote(file)},addr=0x${address.toString(16)},force-raw=on`);
  }
  if (options.disk !== undefined) {
    args.push('-drive', `if=none,id=disk,format=raw,file=${quote(options.disk)}`);
    args.push('-device', `virtio-blk-pci,drive=disk,disable-modern=on,addr=${DISK_SLOT.device}`);
  }
  return args;
}

/** How the run came to its end, by whichever comes first. */
function ending(child: ChildProcess, options: RunOptions): Promise<RunStatus> {
  return new Promise((resolve, reject) => {
    let errors = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.on('error', () => reject(new InputError(`cannot start ${QEMU}`, 'install qemu-system-x86')));
    child.on('close', (status) => {
      if (options.signal.aborted || status === 0) resolve(status === 0 ? RUN_STATUS.done : RUN_STATUS.host);
      else
        reject(new InputError(`QEMU: ${errors.trim().split('\n').at(-1) ?? `ended with status ${status}`}`));
    });
  });
}

async function run(options: RunOptions): Promise<RunStatus> {
  refuseBurned(options.elf);
  const { plan, panicPattern } = prepareBoot(options.elf, options);
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  let status: RunStatus | undefined;
  let child: ChildProcess | undefined;
  try {
    const socket = join(folder, 'qmp');
    const { connected, close } = await listenForQmp(socket, () => {});
    const args = await machineFiles(folder, options, plan);
    child = spawn(QEMU, [...QEMU_MACHINE, ...args, '-qmp', `unix:${socket}`], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // A Ctrl-C at the terminal is ours to handle.
      detached: true,
    });
    const end = (result: RunStatus): void => {
      status ??= result;
      child?.kill('SIGKILL');
    };
    const ended = ending(child, options);
    const wire = connect(
      options.console,
      (bytes) => child?.stdin?.write(bytes),
      () => end(RUN_STATUS.done),
    );
    child.stdin?.on('error', () => {});
    const watch =
      panicPattern === undefined ? undefined : lineWatch(panicPattern, () => end(RUN_STATUS.panic));
    child.stdout?.on('data', (bytes: Buffer) => {
      wire.write(bytes);
      watch?.(bytes);
    });
    const abort = (): void => end(RUN_STATUS.host);
    options.signal.addEventListener('abort', abort, { once: true });
    connected
      .then(powerOff)
      .then(() => end(RUN_STATUS.done))
      .catch(() => {});
    try {
      return await ended;
    } catch (error) {
      if (status !== undefined) return status;
      throw error;
    } finally {
      options.signal.removeEventListener('abort', abort);
      wire.close();
      close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function check(): Promise<readonly Check[]> {
  const { status, stdout } = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
  return [
    {
      name: `${QEMU}`,
      ok: status === 0,
      found: status === 0 ? stdout.split('\n')[0]! : 'not installed',
      advice: 'install qemu-system-x86',
    },
  ];
}

export const qemuTarget: Target = { name: 'bare', check, run };
