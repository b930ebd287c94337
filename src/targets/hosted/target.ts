/** The hosted target: the guest is a process of this Linux host. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findSection, parseElf, sectionBytes } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { linkOffset } from '../../machine/boot-plan.ts';
import type { Features } from '../../machine/features.ts';
import { LINUX_PANIC } from '../../machine/linux-boot.ts';
import { pageSetSize } from '../../machine/page-set.ts';
import { fileRam, type Ram, readFully, writeFully } from '../../machine/ram.ts';
import type { Machine } from '../../machine/state.ts';
import type { WithoutRam } from '../../machine/state-blob.ts';
import { BURN_SECTIONS, burnedDomains, readBurnInfo, readPatchTable } from '../../substitution/burn-info.ts';
import { substituted } from '../../substitution/select.ts';
import type { DomainName } from '../../x86/site-kinds.ts';
import { awaiting, heldBack } from '../awaiting.ts';
import { connect, escapeFilter, pour, type ToGuest, type Wire } from '../bare/console.ts';
import { prepareBoot } from '../boot.ts';
import { bootFile } from '../boot-file.ts';
import { BOOT_FD, DISK_FD, RAM_FD } from '../boot-layout.ts';
import { GO_ON_COMMAND, typed } from '../command.ts';
import { arrivedParts, awaitedParts } from '../resume-plan.ts';
import { messageFilter } from '../symbolize.ts';
import {
  domainsFor,
  type GuestConsole,
  type Incoming,
  type ReceiveOptions,
  type ResumeOptions,
  RUN_STATUS,
  type RunOptions,
  type RunStatus,
  type Target,
} from '../target.ts';
import { MemoryFile, toldState } from '../told-state.ts';
import { cacheRoot } from '../wedge-build.ts';
import { WedgeGuest } from '../wedge-guest.ts';
import { writeOut } from '../write-out.ts';
import { buildHostedWedge } from './build.ts';
import { hostedChecks } from './check.ts';
import { type Disk, openDisk } from './disk.ts';

/** Said plainly at each start: what --isolation=none means. */
const ISOLATION_NOTE =
  'previrt: --isolation=none: code in the guest can reach all of the guest, its kernel included, but nothing of this host beyond its console and disk\n';

/** The image as it has to be burned for hosted. @throws InputError if it is burned for something else, or has no sites. */
async function burned(options: RunOptions): Promise<Uint8Array> {
  const info = readBurnInfo(options.elf);
  if (info && info.target !== 'hosted')
    throw new InputError(`the image is burned for ${info.target}, not for hosted`, 'unburn it first');
  if (info) return options.elf.bytes;
  const wedge = readFileSync(await buildHostedWedge());
  const { burn } = await import('../../substitution/burn.ts');
  return burn(options.elf.bytes, {
    target: 'hosted',
    domains: domainsFor(options),
    keep: 'table',
    counted: !!options.counts,
    wedge,
  });
}

/** The wedge that was burned in, as a file that can be executed. */
async function wedgeProgram(wedge: Uint8Array): Promise<string> {
  const name = `hosted-${createHash('sha256').update(wedge).digest('hex').slice(0, 32)}`;
  const folder = join(cacheRoot(), 'wedge');
  const path = join(folder, name);
  if (existsSync(path)) return path;
  await mkdir(folder, { recursive: true });
  await writeFile(`${path}.${process.pid}`, wedge, { mode: 0o755 });
  await rename(`${path}.${process.pid}`, path);
  return path;
}

/** A file that only its descriptor names. */
async function anonymousFile(bytes: Uint8Array): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  try {
    const path = join(folder, 'boot');
    writeFileSync(path, bytes, { mode: 0o600 });
    const fd = openSync(path, 'r');
    unlinkSync(path);
    return fd;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function run(options: RunOptions): Promise<RunStatus> {
  const image = parseElf(await burned(options));
  const { plan, panicPattern } = prepareBoot(image, options);
  const wedge = findSection(image, BURN_SECTIONS.wedge);
  if (!wedge) throw new InputError('the image carries no wedge', 'burn it again');
  const program = await wedgeProgram(sectionBytes(image, wedge));
  const disk = options.disk === undefined ? undefined : openDisk(options.disk);
  const bootFd = await anonymousFile(
    bootFile({
      plan,
      ramSize: options.memory,
      sites: readPatchTable(image),
      linkOffset: linkOffset(image),
      domains: burnedDomains(image),
      diskSize: disk?.size,
      panicPattern: panicPattern ?? '',
      escape: options.console.terminal,
      commands: options.attach !== undefined,
      processor: options.processor,
      counts: options.counts,
    }),
  );
  try {
    return await execute(program, options, {
      bootFd,
      diskFd: disk?.fd,
      ramSize: options.memory,
      starts: true,
    });
  } finally {
    closeSync(bootFd);
    if (disk) closeSync(disk.fd);
  }
}

/** What is the same of every guest that goes on. */
const lasting = (options: Pick<ResumeOptions, 'console' | 'attach' | 'counts'>, disk: Disk | undefined) => ({
  domains: domainsFor(options),
  diskSize: disk?.size,
  panicPattern: LINUX_PANIC,
  escape: options.console.terminal,
  commands: options.attach !== undefined,
  counts: options.counts,
});

async function resume(options: ResumeOptions): Promise<RunStatus> {
  const { machine } = options;
  const program = await buildHostedWedge();
  const { descriptor: ramFd, pieces: ramApart } = machine.ram.file!;
  const ramSize = machine.ram.size;
  const disk = options.disk === undefined ? undefined : openDisk(options.disk);
  const parts = { ...arrivedParts(machine, ramSize), ramApart };
  const bootFd = await anonymousFile(bootFile({ ...parts, ...lasting(options, disk) }));
  try {
    return await execute(program, options, { bootFd, diskFd: disk?.fd, ramFd, ramSize, starts: false });
  } finally {
    closeSync(bootFd);
    if (disk) closeSync(disk.fd);
  }
}

async function receive(given: ReceiveOptions): Promise<RunStatus> {
  // That it is there is told as a command is, even if none follows.
  const options = { ...given, attach: given.attach ?? (() => {}) };
  const { ramSize } = options;
  const program = await buildHostedWedge();
  const disk = options.disk === undefined ? undefined : openDisk(options.disk);
  const boot = (parts: ReturnType<typeof awaitedParts>): Uint8Array =>
    bootFile({ ...parts, ...lasting(options, disk) });
  const bootFd = await anonymousFile(boot(awaitedParts(ramSize)));
  const awaited = {
    ready: options.ready,
    // The wedge, which cannot write to the file, reads it anew.
    state: (machine: WithoutRam) =>
      writeFileSync(`/proc/self/fd/${bootFd}`, boot(arrivedParts(machine, ramSize))),
  };
  try {
    return await execute(program, options, { bootFd, diskFd: disk?.fd, ramSize, starts: false, awaited });
  } finally {
    closeSync(bootFd);
    if (disk) closeSync(disk.fd);
  }
}

/** Where the wedge of a process has guest RAM, from its own words. */
function memoryPath(pid: number | undefined, words: string): string {
  const file = /^memory file (\d+)$/.exec(words)?.[1];
  if (pid === undefined || file === undefined) throw new InputError(`the wedge says "${words}"`);
  return `/proc/${pid}/fd/${file}`;
}

/** Reads what is told behind RAM in a guest's memory file. */
const teller =
  (file: number, ramSize: number) =>
  (offset: number, into: Uint8Array): void =>
    readFully(file, into, ramSize + offset, 'the state');

/** Pages that are written to the memory file of a wedge that awaits a guest. */
const incoming = (features: Features, memory: MemoryFile, takeUp: Incoming['takeUp']): Incoming => ({
  features,
  write: (start, bytes) => writeFully(memory.descriptor, bytes, start),
  takeUp,
});

/** The way in for commands, and their answers. */
interface Commands {
  readonly guest: WedgeGuest;
  /** All is there of a guest that is awaited. */
  goOn(): void;
  close(): void;
}

/** Milliseconds that a wedge has to end the run in order after the escape. */
const HEARD = 1000;

/** Characters of a message that are kept till its line ends. */
const LONGEST_LINE = 2 ** 16;

/**
 * The wedge knows the escape, but hears it only when its guest idles or its timer ticks.
 * @param end is called if it should have by now
 */
function watched({ terminal }: GuestConsole, toGuest: ToGuest, end: () => void): ToGuest {
  if (!terminal) return toGuest;
  const watch = escapeFilter(() => void setTimeout(end, HEARD).unref());
  return (bytes) => {
    watch(bytes);
    void toGuest(bytes);
    return undefined; // Whether there is room or not, the escape has to be seen.
  };
}

const connectInput = (console: GuestConsole, toGuest: ToGuest, end: () => void): Wire =>
  connect({ ...console, terminal: false }, watched(console, toGuest, end), () => {});

/** What is typed and what is asked of the wedge take the same way in. */
function connectCommands(
  options: Execution,
  child: ChildProcess,
  end: () => void,
  ramSize: number,
  starts: boolean,
  awaited: boolean,
): Commands {
  const { stdin } = child;
  const memory = new MemoryFile();
  const send = (bytes: Uint8Array): void => void stdin?.write(bytes);
  const open = (words: string): number => memory.open(memoryPath(child.pid, words));
  /** Not readable any more when the process has ended: its descriptor may be another file's then. */
  const ramIn = (file: number): Ram => {
    const ram = fileRam(file, ramSize);
    const read: Ram['read'] = (start, into) => {
      if (memory.descriptor === file) ram.read(start, into);
    };
    return { ...ram, read };
  };
  const state = (words: string, logged: boolean): Machine => {
    const file = open(words);
    return toldState(teller(file, ramSize), ramIn(file), logged);
  };
  const log = (words: string) => {
    const file = open(words);
    const pages = new Uint8Array(pageSetSize(ramSize));
    teller(file, ramSize)(0, pages);
    return { ram: ramIn(file), pages };
  };
  const domains = (asked: readonly DomainName[]) => substituted('hosted', asked);
  const guest = new WedgeGuest({ send, domains, state, log }, options.attach!, starts);
  const { type, there } = heldBack((bytes) => pour(stdin, typed(bytes)), awaited);
  const wire = connectInput(options.console, type, end);
  return {
    guest,
    goOn() {
      send(GO_ON_COMMAND);
      there();
    },
    close() {
      wire.close();
      memory.close();
    },
  };
}

type Execution = Pick<RunOptions, 'console' | 'attach' | 'told' | 'signal'> & Pick<ResumeOptions, 'elf'>;

/** What the wedge's process is given. */
interface Handed {
  readonly bootFd: number;
  readonly diskFd: number | undefined;
  /** What RAM is taken from, if not from the boot file. */
  readonly ramFd?: number | undefined;
  /** Bytes. */
  readonly ramSize: number;
  /** Whether the guest starts; else it goes on. */
  readonly starts: boolean;
  /** If it is awaited: who is told that it can come, and where its state is put then. */
  readonly awaited?: {
    readonly ready: ReceiveOptions['ready'];
    state(machine: WithoutRam): void;
  };
}

async function execute(
  program: string,
  options: Execution,
  { bootFd, diskFd, ramFd, ramSize, starts, awaited }: Handed,
): Promise<RunStatus> {
  const { input, output, messages, terminal } = options.console;
  writeOut(messages, ISOLATION_NOTE);
  const stdio: (number | 'pipe' | 'ignore')[] = [
    options.attach || terminal || typeof input !== 'number' ? 'pipe' : input,
    output,
    'pipe',
  ];
  stdio[BOOT_FD] = bootFd;
  stdio[DISK_FD] = diskFd ?? 'ignore';
  stdio[RAM_FD] = ramFd ?? 'ignore';
  const child = spawn(program, [], {
    stdio,
    argv0: 'previrt-guest',
    // It would lie in the memory of a process whose code is the guest's.
    env: {},
    signal: options.signal,
    killSignal: 'SIGKILL',
  });
  child.stdin?.on('error', () => {}); // The guest has ended; that is seen elsewhere.
  let ended = false;
  const end = (): void => {
    ended = child.kill('SIGKILL');
  };
  const commands =
    options.attach && connectCommands(options, child, end, ramSize, starts, awaited !== undefined);
  const wire =
    terminal && !commands
      ? connectInput(options.console, (bytes) => pour(child.stdin, bytes), end)
      : undefined;
  const symbolize = messageFilter(options.elf, options.told);
  const ram = new MemoryFile();
  const awaits =
    awaited &&
    awaiting(
      (features, place) => {
        ram.open(memoryPath(child.pid, place), 'r+');
        const takeUp = (machine: WithoutRam): void => {
          awaited.state(machine);
          commands?.goOn();
        };
        awaited.ready(incoming(features, ram, takeUp));
      },
      () => child.kill('SIGKILL'),
    );
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    const whole = text.length > LONGEST_LINE ? text.length : text.lastIndexOf('\n') + 1;
    const lines = text.slice(0, whole);
    const heard = awaits ? lines.replace(/.*\n/g, awaits) : lines;
    const said = commands ? commands.guest.heard(heard) : heard;
    if (said) writeOut(messages, symbolize(said));
    text = text.slice(whole);
  });
  try {
    const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    if (ended) return RUN_STATUS.done;
    if (signal) {
      writeOut(messages, `previrt: the guest's process was ended by ${signal}\n`);
      return RUN_STATUS.crash;
    }
    if (commands?.guest.failure) throw commands.guest.failure;
    return status as RunStatus;
  } catch (error) {
    if (!options.signal.aborted) throw error;
    // It has been killed. Until it is gone it has guest RAM and the disk.
    if (child.pid && child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return RUN_STATUS.host;
  } finally {
    commands?.close();
    wire?.close();
    ram.close();
  }
}

const prepare = async (): Promise<void> => void (await buildHostedWedge());

export const hostedTarget: Target = { name: 'hosted', check: hostedChecks, prepare, run, resume, receive };
