/**
 * Virtual PC version 1 on QEMU, by emulation: no hardware support, and the
 * annotated kernel as it is.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ElfImage, sectionAt } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { readSymbols } from '../../elf/symbols.ts';
import type { BootPlan } from '../../machine/boot-plan.ts';
import { linkOffset } from '../../machine/boot-plan.ts';
import { featuresWith } from '../../machine/features.ts';
import { firmware } from '../../machine/firmware.ts';
import { LINUX_PANIC } from '../../machine/linux-boot.ts';
import { writeFully } from '../../machine/ram.ts';
import { type Machine, PROCESSORS } from '../../machine/state.ts';
import { DISK_SLOT } from '../../machine/virtual-pc.ts';
import { readAllSites } from '../../sites/embedded.ts';
import { readKallsyms } from '../../sites/kallsyms.ts';
import { PATCH_NOT_BURNED, patchEntry } from '../../sites/patch-table.ts';
import { type GuestVirtual, guestVirtual } from '../../x86/address.ts';
import { prepareBoot } from '../boot.ts';
import { NO_PLAN } from '../resume-plan.ts';
import { QEMU_ADVICE, qemuEnded, startQemu } from '../start-qemu.ts';
import {
  type Check,
  type ResumeOptions,
  RUN_STATUS,
  type RunOptions,
  type RunStatus,
  type Target,
} from '../target.ts';
import { wallTime } from '../wall-time.ts';
import { writeOut } from '../write-out.ts';
import { connect, panicWatch, pour } from './console.ts';
import { withXgetbv } from './cpu-sections.ts';
import { endOfFile } from './end-of-file.ts';
import { unburnedKernel } from './image.ts';
import { QemuGone } from './listen.ts';
import { encodeStream, readStream } from './migration-stream.ts';
import { payerOn } from './owed-ticks.ts';
import { toStream } from './pc-state.ts';
import { type Known, QemuGuest, takeStream, writeStream } from './qemu-guest.ts';
import { listenForQmp, type Qmp } from './qmp.ts';
import { listenForQtest } from './qtest.ts';

export const QEMU = 'qemu-system-i386';

/** What no kernel finds on the virtual PC (PROCESSORS.pentium3): a guest that is taken over must not use it. */
const HIDDEN = ['apic', 'vme', 'mce', 'sep', 'mtrr', 'mca', 'pat', 'pse36'] as const;

/**
 * A Pentium III is the i686 that Debian's i386 programs ask for (cmov), with
 * FXSR, and has no more that a host might lack.
 */
const PROCESSOR = `pentium3,${HIDDEN.map((feature) => `-${feature}`)}`;
/**
 * With what programs of a guest that comes from elsewhere may have found there. To a processor
 * with XSAVE alone, without XSAVEOPT, QEMU refuses CR4.OSXSAVE (cr4_reserved_bits, target/i386/cpu.h).
 */
const RICHER = `${PROCESSOR},+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+xsave,+xsaveopt`;
/** The same as words of CPUID, for kernels: xsave is for programs (withXgetbv). */
const RICHER_FEATURES = featuresWith(PROCESSORS.pentium3, [
  'sse2',
  'sse3',
  'ssse3',
  'sse4_1',
  'sse4_2',
  'popcnt',
]);

const machineWith = (processor: string): readonly string[] => [
  ...['-M', 'pc,acpi=off,hpet=off', '-cpu', processor, '-accel', 'tcg'],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
];

export const QEMU_MACHINE = machineWith(PROCESSOR);

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
export async function machineOptions(
  folder: string,
  options: Pick<RunOptions, 'memory' | 'disk'>,
  plan: BootPlan,
): Promise<string[]> {
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

/** What QEMU writes to its log when a fault cannot be delivered: the processor shuts down, and the PC resets, which ends QEMU. */
const TRIPLE_FAULT = 'Triple fault';
/** Bytes of the log in which that is then: at most the registers and some interrupts are behind it. Before may be a day's ticks. */
const LOG_END = 0x1_0000;

/** What a machine begins with. */
interface Beginning extends Pick<RunOptions, 'memory' | 'disk'> {
  readonly processor: string;
  readonly plan: BootPlan;
  readonly panicPattern: string | undefined;
  readonly known: Known;
  /** Of a guest that goes on. */
  readonly machine?: Machine;
}

/**
 * What a machine like it writes before its first instruction, with the guest's state in it, in a file.
 * @throws InputError if the guest cannot go on there
 */
async function incoming(
  folder: string,
  options: readonly string[],
  machine: Machine,
  hasDisk: boolean,
): Promise<string> {
  const socket = join(folder, 'template.qmp');
  const control = await listenForQmp(socket);
  // It only looks at the disk, which the machine that the guest comes from may still lock.
  const unlocked = hasDisk ? ['-set', 'drive.disk.file.locking=off'] : [];
  const qemu = startQemu(QEMU, [...options, ...unlocked, '-qmp', `unix:${quote(socket)}`, '-S']);
  const ended = qemuEnded(qemu, QEMU);
  try {
    const gone = ended.then((): never => {
      throw new InputError(
        `${QEMU} ${qemu.signalCode ? `was ended by ${qemu.signalCode}` : 'does not start'}`,
      );
    });
    const template = readStream(
      await Promise.race([control.connected.then((qmp) => writeStream(qmp, folder)), gone]),
    );
    const file = join(folder, 'incoming');
    const descriptor = openSync(file, 'wx', 0o600);
    try {
      let position = 0;
      for (const bytes of encodeStream(toStream(template, machine, wallTime()))) {
        writeFully(descriptor, bytes, position);
        position += bytes.length;
      }
    } finally {
      closeSync(descriptor);
    }
    return file;
  } finally {
    qemu.kill('SIGKILL');
    control.close();
    // Before that it holds the disk.
    await ended.catch(() => {});
  }
}

/** Runs the machine until it is off, has reset, or is ended. */
async function execute(
  folder: string,
  options: Pick<RunOptions, 'console' | 'signal' | 'attach'>,
  { processor, plan, panicPattern, known, machine, ...hardware }: Beginning,
): Promise<RunStatus> {
  const socket = join(folder, 'qmp');
  const tests = join(folder, 'qtest');
  const log = join(folder, 'log');
  const common = [...machineWith(processor), ...(await machineOptions(folder, hardware, plan))];
  const stream = machine && (await incoming(folder, common, machine, hardware.disk !== undefined));
  const control = await listenForQmp(socket);
  const lines = await listenForQtest(tests);
  const say = (text: string): void => writeOut(options.console.messages, `previrt: ${text}\n`);

  const args = [...common, '-qmp', `unix:${quote(socket)}`];
  args.push('-qtest', `unix:${quote(tests)}`, '-qtest-log', 'none');
  args.push('-d', 'cpu_reset', '-D', log);
  if (stream !== undefined) args.push('-S', '-incoming', 'defer');
  const qemu = startQemu(QEMU, args);
  let status: RunStatus | undefined;
  const end = (result: RunStatus): void => {
    status ??= result;
    qemu.kill('SIGKILL');
  };
  const abort = (): void => end(RUN_STATUS.host);
  // Bytes that the UART took before it has its state would be lost with what it was.
  let start: () => void;
  const started = new Promise<void>((resolve) => {
    start = resolve;
  });
  const wire = connect(
    options.console,
    (bytes) => started.then(() => pour(qemu.stdin, bytes)),
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
  /** Why the guest does not go on here. */
  let failure: unknown;
  control.connected
    .then(async (qmp) => {
      const machinery = {
        qmp,
        payer: await payerOn(qmp, await lines.connected, log),
        folder,
        end: () => end(RUN_STATUS.done),
      };
      const guest = new QemuGuest(machinery, known, machine?.state);
      if (stream !== undefined) {
        await takeStream(qmp, stream);
        await guest.goOn();
      }
      start();
      options.attach?.(guest);
      await powerOff(qmp);
      end(RUN_STATUS.done);
    })
    .catch((error: unknown) => {
      if (error instanceof QemuGone || status !== undefined) return; // QEMU has ended; that is seen elsewhere.
      failure = error;
      end(RUN_STATUS.host);
    });
  try {
    await qemuEnded(qemu, QEMU);
  } catch (error) {
    if (status === undefined) throw error;
  } finally {
    options.signal.removeEventListener('abort', abort);
    wire.close();
    control.close();
    lines.close();
  }
  if (failure !== undefined) throw failure;
  if (status !== undefined) return status;
  if (qemu.signalCode) throw new InputError(`${QEMU} was ended by ${qemu.signalCode}`);
  if (!Buffer.from(endOfFile(log, LOG_END)).includes(TRIPLE_FAULT)) return RUN_STATUS.done;
  say('the guest crashed: a triple fault');
  return RUN_STATUS.crash;
}

async function inFolder<T>(act: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  try {
    return await act(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** `modules`, the head of Linux' list (kernel/module/main.c), by the symbol table, or else by the kernel's own. */
function modulesList(kernel: ElfImage): GuestVirtual | undefined {
  const inImage = (address: number): boolean => sectionAt(kernel, address, 1) !== undefined;
  const symbols = readSymbols(kernel);
  const symbol = symbols.find(({ name }) => name === 'modules');
  if (symbol) return guestVirtual(symbol.value);
  const known = symbols.length > 0 ? [] : readKallsyms(kernel.bytes, inImage);
  const found = known.find(({ name }) => name === 'modules');
  return found && guestVirtual(found.address);
}

function run(options: RunOptions): Promise<RunStatus> {
  const { memory, disk } = options;
  const kernel = unburnedKernel(options.elf);
  const known = {
    ramSize: memory,
    features: PROCESSORS.pentium3,
    sites: readAllSites(kernel).map((site) => ({ ...patchEntry(site, PATCH_NOT_BURNED), owner: 0 })),
    linkOffset: linkOffset(kernel),
    modules: modulesList(kernel),
  };
  const beginning = { ...prepareBoot(kernel, options), processor: PROCESSOR, known, memory, disk };
  return inFolder((folder) => execute(folder, options, beginning));
}

function resume({ machine: from, disk, elf, ...options }: ResumeOptions): Promise<RunStatus> {
  const { features, link_offset: linkOffset } = from.state;
  const sites = from.sites.filter(({ owner }) => owner === 0);
  const machine = { ...from, state: { ...from.state, cpu: withXgetbv(from.state.cpu) } };
  const ramSize = machine.ram.size;
  const known = { ramSize, features, sites, linkOffset, modules: elf && modulesList(elf) };
  const beginning = { machine, disk, known, processor: RICHER, memory: ramSize };
  return inFolder((folder) =>
    execute(folder, options, { ...beginning, plan: NO_PLAN, panicPattern: LINUX_PANIC }),
  );
}

async function check(): Promise<readonly Check[]> {
  const { status, stdout } = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
  return [
    {
      name: QEMU,
      ok: status === 0,
      found: status === 0 ? stdout.split('\n')[0]! : 'not installed',
      advice: QEMU_ADVICE,
    },
  ];
}

export const qemuTarget: Target = { name: 'bare', features: RICHER_FEATURES, check, run, resume };
