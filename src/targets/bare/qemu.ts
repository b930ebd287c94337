/**
 * Virtual PC version 1 on QEMU, by emulation: no hardware support, and the
 * annotated kernel as it is.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { InputError } from '../../elf/input-error.ts';
import type { BootPlan } from '../../machine/boot-plan.ts';
import { firmware } from '../../machine/firmware.ts';
import { DISK_SLOT } from '../../machine/virtual-pc.ts';
import { prepareBoot } from '../boot.ts';
import { type Check, RUN_STATUS, type RunOptions, type RunStatus, type Target } from '../target.ts';
import { connect, panicWatch } from './console.ts';
import { unburnedKernel } from './image.ts';
import { listenForQmp, type Qmp } from './qmp.ts';

export const QEMU = 'qemu-system-i386';
const ADVICE = 'install qemu-system-x86';

/**
 * A Pentium III is the i686 that Debian's i386 programs ask for (cmov), with
 * FXSR and sysenter, and has no more that a host might lack; without its APIC.
 */
export const QEMU_MACHINE: readonly string[] = [
  ...['-M', 'pc,acpi=off,hpet=off', '-cpu', 'pentium3,-apic', '-accel', 'tcg'],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
];

/** Virtio of the virtual PC's disk and no more: what its driver has agreed to, every target must keep. */
const DISK_PROPERTIES: readonly string[] = [
  ...['disable-legacy=off', 'disable-modern=off', 'vectors=0', 'queue-size=256', 'num-queues=1'],
  ...['indirect_desc=off', 'event_idx=off', 'queue_reset=off', 'any_layout=off'],
  ...['config-wce=off', 'discard=off', 'write-zeroes=off'],
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

/**
 * Writes what the machine starts from into `folder`; returns the options that name it.
 * @throws InputError if image and options do not fit together
 */
export async function machineOptions(folder: string, options: RunOptions, plan: BootPlan): Promise<string[]> {
  const rom = join(folder, 'rom');
  await writeFile(rom, firmware(plan, options.disk !== undefined));
  const args = ['-m', `${options.memory / 1024}K`, '-bios', rom];
  for (const [index, { address, bytes }] of plan.chunks.entries()) {
    const file = join(folder, `chunk-${index}`);
    await writeFile(file, bytes);
    args.push('-device', `loader,file=${quote(file)},addr=0x${address.toString(16)},force-raw=on`);
  }
  if (options.disk !== undefined) {
    args.push('-drive', `if=none,id=disk,format=raw,cache=writeback,file=${quote(options.disk)}`);
    args.push('-device', `virtio-blk-pci,drive=disk,${DISK_PROPERTIES.join(',')},addr=${DISK_SLOT.device}`);
  }
  return args;
}

/** What QEMU writes to its log when a fault cannot be delivered: the processor shuts down, and the PC resets. */
const TRIPLE_FAULT = 'Triple fault';

/** Resolves when QEMU has ended by itself: the guest reset the machine. @throws InputError if it could not run it */
function ended(qemu: ChildProcess): Promise<void> {
  let errors = '';
  qemu.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  return new Promise((resolve, reject) => {
    qemu.on('error', () => reject(new InputError(`cannot start ${QEMU}`, ADVICE)));
    qemu.on('close', (status) => {
      if (status === 0) resolve();
      else reject(new InputError(errors.trim().split('\n').at(-1) || `${QEMU} ended with status ${status}`));
    });
  });
}

/** Runs the machine until it is off, has reset, or is ended. */
async function execute(folder: string, options: RunOptions): Promise<RunStatus> {
  const { plan, panicPattern } = prepareBoot(unburnedKernel(options.elf), options);
  const socket = join(folder, 'qmp');
  const log = join(folder, 'log');
  const machine = await machineOptions(folder, options, plan);
  const control = await listenForQmp(socket);
  const say = (text: string): void => writeFileSync(options.console.messages, `previrt: ${text}\n`);

  const args = [...QEMU_MACHINE, ...machine, '-qmp', `unix:${quote(socket)}`, '-d', 'cpu_reset', '-D', log];
  // In a process group of its own: a Ctrl-C at the terminal is for us to handle.
  const qemu = spawn(QEMU, args, { stdio: 'pipe', detached: true });
  let status: RunStatus | undefined;
  const end = (result: RunStatus): void => {
    status ??= result;
    qemu.kill('SIGKILL');
  };
  const abort = (): void => end(RUN_STATUS.host);
  const wire = connect(
    options.console,
    (bytes) => qemu.stdin.write(bytes),
    () => end(RUN_STATUS.done),
  );
  qemu.stdin.on('error', () => {}); // QEMU has ended; that is seen elsewhere.
  const watch = panicWatch(panicPattern, (line) => {
    say(line);
    end(RUN_STATUS.panic);
  });
  qemu.stdout.on('data', (bytes: Buffer) => {
    wire.write(bytes);
    watch(bytes);
  });
  options.signal.addEventListener('abort', abort, { once: true });
  if (options.signal.aborted) abort();
  control.connected
    .then(powerOff)
    .then(() => end(RUN_STATUS.done))
    .catch(() => {}); // QEMU has ended.
  try {
    await ended(qemu);
  } catch (error) {
    if (status === undefined) throw error;
  } finally {
    options.signal.removeEventListener('abort', abort);
    wire.close();
    control.close();
  }
  if (status !== undefined) return status;
  if (!readFileSync(log, 'latin1').includes(TRIPLE_FAULT)) return RUN_STATUS.done;
  say('the guest crashed: a triple fault');
  return RUN_STATUS.crash;
}

async function run(options: RunOptions): Promise<RunStatus> {
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  try {
    return await execute(folder, options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function check(): Promise<readonly Check[]> {
  const { status, stdout } = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
  return [
    {
      name: QEMU,
      ok: status === 0,
      found: status === 0 ? stdout.split('\n')[0]! : 'not installed',
      advice: ADVICE,
    },
  ];
}

export const qemuTarget: Target = { name: 'bare', check, run };
