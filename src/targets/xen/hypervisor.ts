/**
 * Runs Xen under QEMU, by emulation, with the guest as its initial domain.
 *
 * The domain's console is Xen's serial line, where `XenWire` takes Xen's own
 * messages out. They are kept: they say how the run ended, since Xen reports
 * the end of its initial domain there, and their tail is shown after a failure.
 * The exit status is in the last line that the wedge writes, `previrt: status
 * N`, before it asks for a reboot; a guest without it that shuts down is done.
 * Not QEMU's debug-exit device: a domain that `xl` starts could not reach it.
 *
 * Input: Xen keeps 128 bytes for its initial domain and drops what exceeds
 * them. So it gets a few at a time, from when the domain has shown by writing
 * that it runs, or has had time to.
 */

import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { InputError } from '../../elf/input-error.ts';
import { substituted } from '../../substitution/select.ts';
import { awaiting, heldBack } from '../awaiting.ts';
import { connect, type ToGuest } from '../bare/console.ts';
import { GO_ON_COMMAND, typed } from '../command.ts';
import { qemuEnded, startQemu } from '../start-qemu.ts';
import {
  type GuestConsole,
  type ReceiveOptions,
  RUN_STATUS,
  type RunningGuest,
  type RunStatus,
} from '../target.ts';
import { MemoryFile } from '../told-state.ts';
import { WedgeGuest } from '../wedge-guest.ts';
import { writeOut } from '../write-out.ts';
import { awaitedPlace, loggedPages, MEMORY_FILE, stoppedState } from './stopped.ts';
import { HANDED_OVER, Preamble, WedgeMessages, XenWire } from './wire.ts';

const QEMU = 'qemu-system-x86_64';

/** With what i386 programs look for when they start, so that those of a guest that comes from this host find it. */
const PROCESSOR = 'qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt';

/** A processor without SMAP and SMEP, which a Linux that runs as initial domain does not survive. */
const MACHINE: readonly string[] = [
  ...['-M', 'pc', '-cpu', PROCESSOR, '-accel', 'tcg', '-nodefaults', '-no-user-config'],
  ...['-display', 'none', '-no-reboot', '-serial', 'stdio'],
];

/**
 * Xen's own command line. A buffer for what it sends that it cannot have makes
 * it wait for the serial line (serial_async_transmit in xen/drivers/char/
 * serial.c); else it drops what exceeds the buffer while nobody reads. "`" as
 * the key that switches the console's input means none.
 */
const XEN_OPTIONS =
  'com1=115200,8n1 console=com1 serial_tx_buffer=2G console_timestamps=boot conswitch=` loglvl=all guest_loglvl=all';

const MiB = 2 ** 20;
/** Bytes that Xen needs beside its initial domain and that one's kernel as it is loaded: for itself and its tables. */
const XEN_MEMORY = 48 * MiB;
/** A domain's command line with its end: MAX_GUEST_CMDLINE (xen/include/public/xen.h). */
const LONGEST_COMMAND_LINE = 1023;

/** Milliseconds in which the guest must have been started, on a busy machine too. */
const START_LIMIT = 240_000;
/** Milliseconds of silence after which nothing more is awaited of a half-written message. */
const SILENCE = 200;
/** Bytes of input at a time, and milliseconds from one to the next. */
const INPUT_PORTION = 32;
const INPUT_INTERVAL = 10;
/** Bytes of it that are kept until more is asked for. */
const INPUT_KEPT = 4096;
/** Milliseconds after which a domain that writes nothing may get input. */
const INPUT_DELAY = 3000;
/** Messages of Xen that are kept, and of these shown after a failure. */
const LOG = 400;
const TAIL = 40;

export interface XenRun {
  /** Path of the hypervisor. */
  readonly xen: string;
  /** What the initial domain runs: a path, or the bytes of an ELF file. */
  readonly kernel: string | Uint8Array;
  readonly initrd?: string | Uint8Array | undefined;
  readonly commandLine: string;
  /**
   * Last line of what the domain writes before the guest does. If it never
   * comes, the line before the end says why.
   */
  readonly preamble?: string;
  readonly attach?: ((guest: RunningGuest) => void) | undefined;
  /** Whether the guest starts; else it goes on. */
  readonly starts?: boolean;
  /** Bytes of the guest's own RAM, where something may be asked of it. */
  readonly ramSize?: number | undefined;
  /** It is awaited: who is told that it can come. */
  readonly ready?: ReceiveOptions['ready'] | undefined;
  /** Bytes of the initial domain's memory. */
  readonly memory: number;
  /** Bytes of memory for domains that it starts. */
  readonly spare?: number;
  /** Path of a raw image that the initial domain finds as its first virtio disk. */
  readonly disk?: string | undefined;
  readonly console: GuestConsole;
  /** Puts names to the addresses in what the wedge says. */
  readonly symbolize?: ((text: string) => string) | undefined;
  /** Aborting it ends the guest. */
  readonly signal: AbortSignal;
}

/** Why the guest was not started: what Xen or its toolstack then says, and what to do. */
const REFUSALS: readonly { readonly log: RegExp; readonly what: string; readonly advice: string }[] = [
  {
    log: /CONFIG_PV32 missing|^Dom0 failed to switch to compat/,
    what: 'this Xen takes no 32-bit paravirtualized guests',
    advice: 'use one that is built with CONFIG_PV32',
  },
  {
    log: /Not enough (RAM|memory)|allocation (is )?too small|^Dom0 memory clipped|Out of memory/,
    what: 'too little memory for the domain',
    advice: 'give it more with --memory',
  },
  {
    log: /^ERROR: |^Mismatch between Xen and DOM0 kernel|^Failed to load the kernel|no loader found/,
    what: 'Xen does not take this kernel',
    advice: 'burn it for Xen: previrt burn --target xen',
  },
];

/** Messages of Xen that end a run, and how; whatever else Xen would still do is not waited for. */
const ENDS: readonly { readonly log: RegExp; readonly status: RunStatus }[] = [
  { log: /^Hardware Dom0 (shutdown: rebooting|halted)/, status: RUN_STATUS.done },
  { log: /^Hardware (Dom0 (crashed|shutdown)|domain 0 did)/, status: RUN_STATUS.crash },
  // The last line of a panic of Xen itself.
  { log: /^(Reboot|Crash) in five seconds/, status: RUN_STATUS.crash },
];

/** A comma in a value is written twice. */
const quote = (text: string): string => text.replaceAll(',', ',,');

/** Not locked by QEMU: while a guest moves from one machine to another, both have its disk. */
const driveOf = (disk: string): string =>
  `if=virtio,format=raw,cache=writeback,file=${quote(resolve(disk))},file.locking=off`;

/** Puts a file into the folder, under a name without characters that QEMU would understand. */
const provide = (folder: string, name: string, file: string | Uint8Array): Promise<void> =>
  typeof file === 'string' ? symlink(resolve(file), join(folder, name)) : writeFile(join(folder, name), file);

/**
 * QEMU's options; it runs in `folder`, where the files are.
 * @throws InputError if they cannot be used
 */
async function machineOptions(folder: string, run: XenRun): Promise<string[]> {
  if (!existsSync(run.xen))
    throw new InputError(`${run.xen}: there is no Xen`, 'build it with guests/xen/main.ts');
  if (Buffer.byteLength(run.commandLine) > LONGEST_COMMAND_LINE)
    throw new InputError(`the command line has more than ${LONGEST_COMMAND_LINE} bytes`, 'shorten it');
  await provide(folder, 'xen', run.xen);
  await provide(folder, 'kernel', run.kernel);
  if (run.initrd !== undefined) await provide(folder, 'initrd', run.initrd);
  const memory = Math.ceil(run.memory / MiB);
  const kernelSize = (await stat(join(folder, 'kernel'))).size;
  const total = memory + Math.ceil(((run.spare ?? 0) + kernelSize + XEN_MEMORY) / MiB);
  const modules = [`kernel ${run.commandLine}`, ...(run.initrd === undefined ? [] : ['initrd'])];
  return [
    ...['-m', `${total}M`, '-kernel', 'xen'],
    // Shared, so that a stopped guest's memory can be read.
    ...['-object', `memory-backend-memfd,id=${MEMORY_FILE},size=${total}M,share=on`],
    ...['-machine', `memory-backend=${MEMORY_FILE}`],
    ...['-append', `${XEN_OPTIONS} dom0_mem=${memory}M,max:${memory}M`],
    ...['-initrd', modules.map(quote).join(',')],
    ...(run.disk === undefined ? [] : ['-drive', driveOf(run.disk)]),
  ];
}

/** Gives the domain its input in portions, once it runs. */
class Input {
  readonly #send: (bytes: Uint8Array) => void;
  #waiting = Buffer.alloc(0);
  #timer: NodeJS.Timeout | undefined;
  #open = false;
  #room: (() => void)[] = [];

  constructor(send: (bytes: Uint8Array) => void) {
    this.#send = send;
  }

  write: ToGuest = (bytes) => {
    this.#waiting = Buffer.concat([this.#waiting, bytes]);
    if (this.#open) this.#next();
    if (this.#waiting.length <= INPUT_KEPT) return undefined;
    return new Promise<void>((resolve) => {
      this.#room.push(resolve);
    });
  };

  open(): void {
    this.#open = true;
    this.#next();
  }

  close(): void {
    this.#open = false;
    clearTimeout(this.#timer);
  }

  #next(): void {
    if (this.#timer || this.#waiting.length === 0) return;
    this.#send(this.#waiting.subarray(0, INPUT_PORTION));
    this.#waiting = this.#waiting.subarray(INPUT_PORTION);
    if (this.#waiting.length <= INPUT_KEPT) for (const resolve of this.#room.splice(0)) resolve();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#open) this.#next();
    }, INPUT_INTERVAL);
  }
}

/** Why the guest was not started. */
function refusal(log: readonly string[], preamble: Preamble): InputError {
  for (const { log: pattern, what, advice } of REFUSALS) {
    const line = [...log, preamble.lastLine].find((message) => pattern.test(message));
    if (line !== undefined) return new InputError(`${what}: "${line.trim()}"`, advice);
  }
  const last = log.findLast((message) => /\w/.test(message) && !ENDS.some((end) => end.log.test(message)));
  const why = preamble.lastLine || (last ? `"${last.trim()}"` : 'Xen says nothing');
  return new InputError(`the guest was not started: ${why}`);
}

const isStatus = (value: number): value is RunStatus =>
  (Object.values(RUN_STATUS) as number[]).includes(value);

async function execute(folder: string, run: XenRun): Promise<RunStatus> {
  const options = await machineOptions(folder, run);
  const { ramSize = 0 } = run;
  const qemu = startQemu(QEMU, [...MACHINE, ...options], folder);
  qemu.stdin.on('error', () => {}); // QEMU has ended; that is seen elsewhere.
  const wire = new XenWire();
  const preamble = new Preamble(run.preamble);
  const wedge = new WedgeMessages();
  /** Xen's messages: of its start, then of the time since. */
  let log: string[] = [];
  /** Ended by us, and as what; or by Xen. */
  let ordered: RunStatus | undefined;
  let outcome: RunStatus = RUN_STATUS.crash;
  const order = (status: RunStatus): void => {
    ordered ??= status;
    qemu.kill('SIGKILL');
  };
  const input = new Input((bytes) => qemu.stdin.write(bytes));
  const { type, there } = heldBack(
    (bytes) => input.write(run.attach ? typed(bytes) : bytes),
    run.ready !== undefined,
  );
  const goOn = (): void => {
    void input.write(GO_ON_COMMAND);
    there();
  };
  const terminal = connect(run.console, type, () => order(RUN_STATUS.done));
  const memory = new MemoryFile();
  const asked =
    run.attach &&
    new WedgeGuest(
      {
        send: (command) => void input.write(command),
        domains: (asked) => substituted('xen', asked),
        state: (words, logged) => stoppedState(qemu.pid, words, memory, logged),
        log: (words) => loggedPages(qemu.pid, words, memory, ramSize),
      },
      run.attach,
      run.starts ?? true,
    );
  const place = new MemoryFile();
  const awaits =
    run.ready &&
    awaiting(
      (features, words) => {
        run.ready!({ features, ...awaitedPlace(qemu.pid, words, place, ramSize, goOn) });
      },
      () => order(RUN_STATUS.host),
    );
  const start = setTimeout(() => qemu.kill('SIGKILL'), START_LIMIT);
  const show = (bytes: Uint8Array): void => {
    const { guest, said } = wedge.receive(preamble.receive(bytes));
    terminal.write(guest);
    const heard = awaits ? said.replace(/.*\n/g, awaits) : said;
    const told = asked ? asked.heard(heard) : heard;
    if (told) writeOut(run.console.messages, run.symbolize?.(told) ?? told);
  };
  // Whoever was kept from running that long first reads what has come meanwhile.
  let settling: NodeJS.Immediate | undefined;
  const silence = setTimeout(() => {
    settling = setImmediate(() => show(wire.flush()));
  }, SILENCE);
  let started = false;
  /** The domain has written something, the preamble included. */
  let alive = false;
  let patience: NodeJS.Timeout | undefined;
  qemu.stdout.on('data', (bytes: Buffer) => {
    const { guest, messages } = wire.receive(bytes);
    show(guest);
    clearImmediate(settling);
    silence.refresh();
    log = [...log, ...messages].slice(-LOG);
    if (!started && wire.handedOver && preamble.over) {
      started = true;
      clearTimeout(start);
      // What came of the guest already, even in the same piece, stays.
      log = log.slice(log.findLastIndex((message) => message.startsWith(HANDED_OVER)) + 1);
      patience = setTimeout(() => input.open(), INPUT_DELAY);
    }
    alive ||= guest.length > 0;
    if (started && alive) input.open();
    const end = ENDS.find((entry) => messages.some((message) => entry.log.test(message)));
    if (!end) return;
    outcome = end.status;
    qemu.kill('SIGKILL');
  });
  const abort = (): void => order(RUN_STATUS.host);
  run.signal.addEventListener('abort', abort, { once: true });
  if (run.signal.aborted) abort();
  try {
    await qemuEnded(qemu, QEMU);
    show(wire.flush());
  } finally {
    clearTimeout(start);
    clearTimeout(silence);
    clearImmediate(settling);
    clearTimeout(patience);
    run.signal.removeEventListener('abort', abort);
    input.close();
    terminal.close();
    memory.close();
    place.close();
  }
  if (ordered !== undefined) return ordered;
  if (!started) throw refusal(log, preamble);
  if (asked?.failure) throw asked.failure;
  const written = wire.status;
  if (written !== undefined) outcome = isStatus(written) ? written : RUN_STATUS.crash;
  if (outcome === RUN_STATUS.crash || outcome === RUN_STATUS.host) {
    const text = log.slice(-TAIL).map((message) => `(XEN) ${message}\n`);
    writeOut(run.console.messages, `previrt: the domain failed; the end of Xen's log:\n${text.join('')}`);
  }
  return outcome;
}

/**
 * Runs a domain to its end.
 * @throws InputError if Xen or QEMU cannot run it: with Xen's reason, in a line
 */
export async function runXen(run: XenRun): Promise<RunStatus> {
  const folder = await mkdtemp(join(tmpdir(), 'previrt-xen-'));
  try {
    return await execute(folder, run);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
