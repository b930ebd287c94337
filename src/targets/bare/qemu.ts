/**
 * Virtual PC version 1 on QEMU, by emulation: no hardware support, and the
 * annotated kernel as it is.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ElfImage, sectionAt } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { readSymbols } from '../../elf/symbols.ts';
import { type BootPlan, linkOffset } from '../../machine/boot-plan.ts';
import { LINUX_PANIC } from '../../machine/linux-boot.ts';
import { writeFully } from '../../machine/ram.ts';
import { type Machine, PROCESSORS } from '../../machine/state.ts';
import { readAllSites } from '../../sites/embedded.ts';
import { readKallsyms } from '../../sites/kallsyms.ts';
import { PATCH_NOT_BURNED, patchEntry } from '../../sites/patch-table.ts';
import { type GuestVirtual, guestVirtual } from '../../x86/address.ts';
import { prepareBoot } from '../boot.ts';
import { NO_PLAN } from '../resume-plan.ts';
import { QEMU_ADVICE, qemuEnded, startQemu } from '../start-qemu.ts';
import {
  type Check,
  type PrepareOptions,
  type ResumeOptions,
  RUN_STATUS,
  type RunOptions,
  type RunStatus,
  type Target,
} from '../target.ts';
import { wallTime } from '../wall-time.ts';
import { writeOut } from '../write-out.ts';
import {
  type Hardware,
  machineOptions,
  machineWith,
  PROCESSOR,
  QEMU,
  RICHER,
  RICHER_FEATURES,
} from './command-line.ts';
import { connect, panicWatch } from './console.ts';
import { withXgetbv } from './cpu-sections.ts';
import { endOfFile } from './end-of-file.ts';
import { unburnedKernel } from './image.ts';
import { inFolder } from './in-folder.ts';
import { QemuGone } from './listen.ts';
import { encodeStream, type MigrationStream } from './migration-stream.ts';
import { payerOn } from './owed-ticks.ts';
import { toStream } from './pc-state.ts';
import { type Known, QemuGuest, takeStream } from './qemu-guest.ts';
import { listenForQmp, type Qmp } from './qmp.ts';
import { listenForQtest } from './qtest.ts';
import { templateFor } from './template.ts';
import { Typist } from './typist.ts';

/** Milliseconds between two looks at whether the processor has stopped for good. */
const HALT_POLL = 200;

/** A processor in `hlt` that no interrupt will wake: how a PC without ACPI is off. */
const isOff = (registers: string): boolean => {
  const flags = Number.parseInt(/EFL=([0-9a-f]+)/i.exec(registers)?.[1] ?? '0', 16);
  const INTERRUPTS = 1 << 9;
  return /HLT=1/.test(registers) && (flags & INTERRUPTS) === 0;
};

/** Resolves when the processor is off; rejects when QEMU ends first. */
async function powerOff(qmp: Qmp): Promise<void> {
  while (!isOff(await qmp.monitor('info registers'))) await sleep(HALT_POLL);
}

/** What QEMU writes to its log when a fault cannot be delivered: the processor shuts down, and the PC resets, which ends QEMU. */
const TRIPLE_FAULT = 'Triple fault';
/** Bytes of the log in which that is then: at most the registers and some interrupts are behind it. Before may be a day's ticks. */
const LOG_END = 0x1_0000;

/** What a machine begins with. */
interface Beginning extends Hardware {
  readonly processor: string;
  readonly plan: BootPlan;
  readonly panicPattern: string | undefined;
  readonly known: Known;
  /** Of a guest that goes on. */
  readonly machine?: Machine;
}

/** A stream with the guest's state for a machine like that of the template, in a file. @throws InputError if the guest cannot go on there */
function incoming(folder: string, template: MigrationStream, machine: Machine): string {
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
}

/** Runs the machine until it is off, has reset, or is ended. */
async function execute(
  folder: string,
  options: Pick<RunOptions, 'console' | 'signal' | 'attach'>,
  { processor, plan, panicPattern, known, machine, ...hardware }: Beginning,
): Promise<RunStatus> {
  const log = join(folder, 'log');
  const common = [...machineWith(processor), ...(await machineOptions(folder, hardware, plan))];
  const stream = machine && incoming(folder, await templateFor(hardware), machine);
  const control = await listenForQmp(join(folder, 'qmp'));
  const lines = await listenForQtest(join(folder, 'qtest'));
  const say = (text: string): void => writeOut(options.console.messages, `previrt: ${text}\n`);

  // By names without characters that QEMU would understand, and short enough for sockets: it runs in the folder.
  const args = [...common, '-qmp', 'unix:qmp', '-qtest', 'unix:qtest', '-qtest-log', 'none'];
  args.push('-d', 'cpu_reset', '-D', 'log');
  if (stream !== undefined) args.push('-S', '-incoming', 'defer');
  const qemu = startQemu(QEMU, args, folder);
  let status: RunStatus | undefined;
  const end = (result: RunStatus): void => {
    status ??= result;
    qemu.kill('SIGKILL');
  };
  const abort = (): void => end(RUN_STATUS.host);
  // Bytes that the UART took before it has its state would be lost with what it was.
  let start: (typist: Typist) => void;
  const started = new Promise<Typist>((resolve) => {
    start = resolve;
  });
  const wire = connect(
    options.console,
    (bytes) => started.then((typist) => typist.type(bytes)),
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
      const tests = await lines.connected;
      const typist = new Typist(tests, (bytes) => qemu.stdin.write(bytes));
      const machinery = {
        qmp,
        payer: await payerOn(qmp, tests, log),
        read: async () => {
          const left = await typist.read();
          if (left > 0) say(`the guest does not read: ${left} bytes that were typed wait`);
        },
        folder,
        end: () => end(RUN_STATUS.done),
      };
      const guest = new QemuGuest(machinery, known, machine?.state);
      if (stream !== undefined) {
        await takeStream(qmp, stream);
        await guest.goOn();
      }
      start(typist);
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

async function prepare({ disk, ramSize }: PrepareOptions): Promise<void> {
  await templateFor({ disk, memory: ramSize });
}

export const qemuTarget: Target = {
  name: 'bare',
  features: RICHER_FEATURES,
  check,
  prepare,
  run,
  resume,
};
