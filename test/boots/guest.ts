/** Runs `previrt run` and talks to the guest over its console, as a person at a terminal would. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');

/** How much of the console an error shows. */
const TAIL = 2000;

export interface Ending {
  /** Exit status; null if a signal ended it. */
  readonly status: number | null;
  /** All that the guest printed. */
  readonly output: string;
  /** Standard error. */
  readonly messages: string;
  /** What it left in its folder for temporary files. */
  readonly left: readonly string[];
  /** Its child processes, as they were when it was sent a signal, that still run. */
  readonly orphans: readonly number[];
}

/** The child processes of a process (proc(5)). */
function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Neither gone nor a zombie. */
export function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

export class Guest {
  readonly #process;
  readonly #folder = mkdtempSync(join(tmpdir(), 'previrt-boot-'));
  readonly #ended: Promise<number | null>;
  #output = '';
  #messages = '';
  /** Output before this has been expected already. */
  #seen = 0;
  #running = true;
  #children: number[] = [];
  /** Called at every event. */
  #news: () => void = () => {};

  constructor(args: readonly string[], command = 'run') {
    this.#process = spawn(PREVIRT, [command, ...args], {
      stdio: 'pipe',
      env: { ...process.env, TMPDIR: this.#folder, PREVIRT_DEBUG: '' },
    });
    this.#process.stdin.on('error', () => {}); // It has ended.
    this.#process.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.#output += text;
      this.#news();
    });
    this.#process.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#messages += text;
    });
    this.#ended = new Promise((resolve) => {
      this.#process.on('close', (status) => {
        this.#running = false;
        this.#news();
        resolve(status);
      });
    });
  }

  /** Waits until `done`, which is asked at every event. @throws Error with the console's end after `limit` milliseconds */
  async #until(done: () => boolean, limit: number, what: string): Promise<void> {
    const error = (text: string): Error =>
      new Error(
        `${text}; end of the console:\n${this.#output.slice(-TAIL)}\nstandard error: ${this.#messages}`,
      );
    const deadline = Date.now() + limit;
    while (!done()) {
      const rest = deadline - Date.now();
      if (rest <= 0) throw error(`no ${what} within ${limit} ms`);
      if (!this.#running) throw error(`the run ended without ${what}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, rest);
        this.#news = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /**
   * Waits for the guest to print a text that comes after all that was expected before.
   * @throws Error with the console's end if it does not within `limit` milliseconds, or the run ends
   */
  async expect(pattern: RegExp, limit: number): Promise<RegExpExecArray> {
    let match: RegExpExecArray | null = null;
    const found = (): boolean => {
      match = pattern.exec(this.#output.slice(this.#seen));
      return match !== null;
    };
    await this.#until(found, limit, String(pattern));
    const hit = match as unknown as RegExpExecArray;
    this.#seen += hit.index + hit[0].length;
    return hit;
  }

  send(text: string): void {
    this.#process.stdin.write(text);
  }

  /** Sends a signal to previrt itself. */
  signal(name: NodeJS.Signals): void {
    this.#children = childrenOf(this.#process.pid!);
    this.#process.kill(name);
  }

  /** Of previrt. */
  get pid(): number {
    return this.#process.pid!;
  }

  /** The processes that previrt has started, and that run. */
  children(): number[] {
    return childrenOf(this.#process.pid!);
  }

  /** Waits for the end of the run. @throws Error with the console's end after `limit` milliseconds */
  async end(limit: number): Promise<Ending> {
    await this.#until(() => !this.#running, limit, 'an end of the run');
    return {
      status: await this.#ended,
      output: this.#output,
      messages: this.#messages,
      left: readdirSync(this.#folder),
      orphans: this.#children.filter(runs),
    };
  }

  /** Ends the run if it still goes on, and removes what it left. */
  async close(): Promise<void> {
    if (this.#running) {
      for (const child of childrenOf(this.#process.pid!)) process.kill(child, 'SIGKILL');
      this.#process.kill('SIGKILL');
      await this.#ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
