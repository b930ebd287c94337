/** What every target offers. */

import type { Readable } from 'node:stream';
import type { ElfImage } from '../elf/image.ts';
import type { Features } from '../machine/features.ts';
import type { PageSet } from '../machine/page-set.ts';
import type { Ram } from '../machine/ram.ts';
import type { Machine, ProcessorName } from '../machine/state.ts';
import type { WithoutRam } from '../machine/state-blob.ts';
import { USUAL_DOMAINS } from '../substitution/select.ts';
import type { GuestPhysical } from '../x86/address.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import type { Reburned } from './command.ts';
import type { CountsCollector } from './counts.ts';

export interface RunOptions {
  /** The annotated kernel, burned or not. */
  readonly elf: ElfImage;
  /** Bytes of guest RAM. */
  readonly memory: number;
  readonly initrd?: Uint8Array | undefined;
  /** What the user adds to the virtual PC's own command line. */
  readonly append: string;
  /** What the guest may know of its processor; bare is a pentium3. */
  readonly processor?: ProcessorName | undefined;
  /** Path of the disk's image. */
  readonly disk?: string | undefined;
  /** Xen: which kind of domain. */
  readonly domain?: 'dom0' | 'domU' | undefined;
  readonly console: GuestConsole;
  /** Is given the guest once it runs. Without it, nothing can be asked. */
  readonly attach?: ((guest: RunningGuest) => void) | undefined;
  /** COUNT: what the wedge counts; it tells `told` at the end. */
  readonly counts?: number | undefined;
  readonly told?: CountsCollector | undefined;
  /** Aborting it ends the guest. */
  readonly signal: AbortSignal;
}

/** The domains that a kernel is burned for on the way: to count, all of them. */
export const domainsFor = ({ counts }: { readonly counts?: number | undefined }): readonly DomainName[] =>
  counts ? (Object.keys(DOMAINS) as DomainName[]) : USUAL_DOMAINS;

/** The memory of a guest that runs. */
export interface Written {
  /** As it is at this moment. */
  readonly ram: Ram;
  /** Pages that were written to since this was asked before; undefined if it was not. */
  readonly pages?: PageSet | undefined;
}

/** A place that waits for a guest, whose memory comes before its state. */
export interface Incoming {
  /** What its processor can do. */
  readonly features: Features;
  /** Whole pages, which were zero before they were first written. @throws InputError if they do not arrive */
  write(start: GuestPhysical, bytes: Uint8Array): void | Promise<void>;
  /** The guest goes on here: with what was written as its RAM. */
  takeUp(machine: WithoutRam): void | Promise<void>;
}

/** A guest that runs, to whoever may ask something of it: one thing at a time. */
export interface RunningGuest {
  /** Burns all sites again. @throws InputError with the reason if it cannot be done */
  reburn(domains: readonly DomainName[]): Promise<Reburned>;
  /**
   * Makes it stand still between two of its instructions, and gives its state,
   * which can be read until it goes on. @throws InputError if it cannot; it runs then
   */
  stop(): Promise<Machine>;
  /** Lets it go on where it stands. */
  goOn(): Promise<void>;
  /** Ends the run of a guest that stands still. */
  letGo(): void;
  /** From when this is first asked, what it writes to is logged: where the target can do that. Until it is stopped. */
  written?(): Promise<Written>;
  /** What user code can see of its processor. */
  features(): Promise<Features>;
  /** Ends that log without a stop. */
  forgetWritten?(): Promise<void>;
}

/** The UART's wire and a place for messages that are not the guest's: file descriptors. */
export interface GuestConsole {
  /** A stream only where something may be asked. */
  readonly input: number | Readable;
  readonly output: number;
  readonly messages: number;
  /** The input is a terminal in raw mode: Ctrl-A x ends the run. */
  readonly terminal: boolean;
}

/** As RunOptions, for a guest that goes on. */
export interface ResumeOptions
  extends Pick<RunOptions, 'disk' | 'domain' | 'console' | 'attach' | 'counts' | 'told' | 'signal'> {
  readonly machine: Machine;
  /** What it was booted from, for names in messages. */
  readonly elf?: ElfImage | undefined;
}

/** As ResumeOptions, for a guest that is awaited. */
export interface ReceiveOptions extends Omit<ResumeOptions, 'machine'> {
  /** Bytes of guest RAM. */
  readonly ramSize: number;
  /** Is given the place, once. */
  readonly ready: (incoming: Incoming) => void;
}

/** Of a guest that will be taken up. */
export type PrepareOptions = Pick<ReceiveOptions, 'domain' | 'disk' | 'ramSize'>;

/** How a guest ended; also the exit status of `previrt run`. */
export const RUN_STATUS = {
  /** It powered off or reset the machine. */
  done: 0,
  /** The target could not run it. */
  host: 1,
  /** Its kernel panicked. */
  panic: 3,
  /** It lost itself: a triple fault, an instruction nobody knows. */
  crash: 4,
} as const;

export type RunStatus = (typeof RUN_STATUS)[keyof typeof RUN_STATUS];

/** Something a target needs of the host. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What was found. */
  readonly found: string;
  /** What to do if it is missing. */
  readonly advice: string;
}

export interface Target {
  readonly name: string;
  /** What its processor can do, where no wedge says it. */
  readonly features?: Features;
  /** Looks at the host without changing it. */
  check(): Promise<readonly Check[]>;
  /** @throws InputError if image or options cannot be run here */
  run(options: RunOptions): Promise<RunStatus>;
  /**
   * Builds what has to be built once, and whatever else of a run can be there before it starts: a guest waits for that.
   * @throws InputError if it cannot be
   */
  prepare?(options: PrepareOptions): Promise<void>;
  /**
   * Takes up a guest where it stands; if it can be received too, one whose RAM lies in a file.
   * @throws InputError if it cannot go on here
   */
  resume?(options: ResumeOptions): Promise<RunStatus>;
  /** The same for one that comes when it is awaited, its memory first. */
  receive?(options: ReceiveOptions): Promise<RunStatus>;
}

/** Whether guests can go on there. */
export const takesUp = ({ resume, receive }: Target): boolean =>
  resume !== undefined || receive !== undefined;
