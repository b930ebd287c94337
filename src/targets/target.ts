/** What every target offers. */

import type { Readable } from 'node:stream';
import type { ElfImage } from '../elf/image.ts';
import type { Machine, ProcessorName } from '../machine/state.ts';
import { USUAL_DOMAINS } from '../substitution/select.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
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
  /** What may be asked of the wedge meanwhile. */
  readonly commands?: Commands | undefined;
  /** COUNT: what the wedge counts; it tells `told` at the end. */
  readonly counts?: number | undefined;
  readonly told?: CountsCollector | undefined;
  /** Aborting it ends the guest. */
  readonly signal: AbortSignal;
}

/** The domains that a kernel is burned for on the way: to count, all of them. */
export const domainsFor = ({ counts }: { readonly counts?: number | undefined }): readonly DomainName[] =>
  counts ? (Object.keys(DOMAINS) as DomainName[]) : USUAL_DOMAINS;

/** A guest that runs, to whoever may ask something of its wedge. */
export interface RunningGuest {
  /** Burns all sites again, for these domains. */
  reburn(domains: readonly DomainName[]): void;
  /** One of the commands of command.ts. */
  send(command: Uint8Array): void;
  /** Its state, once its wedge has said `stopped` with these words; until it goes on. @throws InputError if it cannot be had */
  state(words: string): Machine;
}

/** What is asked of the wedge while the guest runs. */
export interface Commands {
  /** The target tells how to ask. */
  attach(guest: RunningGuest): void;
  /** A message of the wedge: one line, without its end. */
  heard(line: string): void;
}

/** The UART's wire and a place for messages that are not the guest's: file descriptors. */
export interface GuestConsole {
  /** A stream only where commands come with it. */
  readonly input: number | Readable;
  readonly output: number;
  readonly messages: number;
  /** The input is a terminal in raw mode: Ctrl-A x ends the run. */
  readonly terminal: boolean;
}

/** As RunOptions, for a guest that goes on. */
export interface ResumeOptions
  extends Pick<RunOptions, 'disk' | 'domain' | 'console' | 'commands' | 'counts' | 'told' | 'signal'> {
  readonly machine: Machine;
  /** What it was booted from, for names in messages. */
  readonly elf?: ElfImage | undefined;
}

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
  /** Looks at the host without changing it. */
  check(): Promise<readonly Check[]>;
  /** @throws InputError if image or options cannot be run here */
  run(options: RunOptions): Promise<RunStatus>;
  /** Takes up a guest where it stands. @throws InputError if it cannot go on here */
  resume?(options: ResumeOptions): Promise<RunStatus>;
}
