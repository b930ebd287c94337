/** A Linux on bare QEMU, without previrt's own run around it: started, stopped, its stream taken, and put back. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { machineOptions, machineWith, PROCESSOR, QEMU } from '../../src/targets/bare/command-line.ts';
import { listenForQmp, type Qmp } from '../../src/targets/bare/qmp.ts';
import { prepareBoot } from '../../src/targets/boot.ts';
import type { RunOptions } from '../../src/targets/target.ts';

export type Machine = Pick<RunOptions, 'elf' | 'memory' | 'append' | 'initrd' | 'disk'>;

interface Running {
  readonly qmp: Qmp;
  readonly process: ChildProcess;
}

/** One guest; QEMUs come and go under it. */
export class BareGuest {
  readonly #folder = mkdtempSync(join(tmpdir(), 'previrt-bare-'));
  readonly #machine: Machine;
  #running: Running | undefined;
  #count = 0;
  output = '';
  #seen = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  async #start(extra: readonly string[]): Promise<Running> {
    const options = this.#machine as RunOptions;
    const { plan } = prepareBoot(options.elf, options);
    const machine = await machineOptions(this.#folder, options, plan);
    const socket = join(this.#folder, `qmp-${++this.#count}`);
    const control = await listenForQmp(socket);
    const qemu = spawn(QEMU, [...machineWith(PROCESSOR), ...machine, '-qmp', `unix:${socket}`, ...extra]);
    qemu.stdout.on('data', (bytes: Buffer) => {
      this.output += bytes.toString('latin1');
    });
    qemu.stderr.on('data', (bytes: Buffer) => {
      this.output += `[qemu: ${bytes.toString()}]`;
    });
    qemu.stdin.on('error', () => {});
    return { qmp: await control.connected, process: qemu };
  }

  async boot(): Promise<void> {
    this.#running = await this.#start([]);
  }

  /** The stream of a machine like it before its first instruction. */
  async template(): Promise<Uint8Array> {
    const running = await this.#start(['-S']);
    const bytes = await this.#write(running);
    running.process.kill('SIGKILL');
    return bytes;
  }

  async #write({ qmp }: Running): Promise<Uint8Array> {
    const file = join(this.#folder, 'stream');
    await qmp.execute('migrate', { uri: `exec:cat > ${file}` });
    await this.#migrated(qmp);
    return readFileSync(file);
  }

  async #migrated(qmp: Qmp): Promise<void> {
    for (;;) {
      const { status } = (await qmp.execute('query-migrate')) as { status?: string };
      if (status === 'completed') return;
      if (status === 'failed') throw new Error(`QEMU could not migrate; ${this.output.slice(-500)}`);
      await sleep(5);
    }
  }

  /** Stops the guest; returns its stream and the wall time in nanoseconds. */
  async stop(): Promise<{ readonly stream: Uint8Array; readonly wallTime: bigint }> {
    const running = this.#running!;
    await running.qmp.execute('stop');
    const wallTime = BigInt(Date.now()) * 1_000_000n;
    return { stream: await this.#write(running), wallTime };
  }

  async goOn(): Promise<void> {
    await this.qmp.execute('cont');
  }

  /** As `stop`, and ends its QEMU. */
  async take(): Promise<{ readonly stream: Uint8Array; readonly wallTime: bigint }> {
    const taken = await this.stop();
    await this.#end();
    return taken;
  }

  /** Ends its QEMU, if it has one that runs, and waits till that is gone. */
  async #end(): Promise<void> {
    const process = this.#running?.process;
    if (!process || process.exitCode !== null || process.signalCode) return;
    const gone = once(process, 'close');
    process.kill('SIGKILL');
    await gone;
  }

  async putBack(stream: Uint8Array): Promise<void> {
    const file = join(this.#folder, 'incoming');
    writeFileSync(file, stream);
    const running = await this.#start(['-S', '-incoming', 'defer']);
    await running.qmp.execute('migrate-incoming', { uri: `exec:cat ${file}` });
    await this.#migrated(running.qmp);
    await running.qmp.execute('cont');
    this.#running = running;
  }

  get qmp(): Qmp {
    return this.#running!.qmp;
  }

  send(text: string): void {
    this.#running!.process.stdin!.write(text);
  }

  /** Waits for a text after all that was expected before. */
  async expect(pattern: RegExp, limit = 60_000): Promise<RegExpExecArray> {
    const deadline = Date.now() + limit;
    for (;;) {
      const match = pattern.exec(this.output.slice(this.#seen));
      if (match) {
        this.#seen += match.index + match[0].length;
        return match;
      }
      if (Date.now() > deadline)
        throw new Error(`no ${pattern} within ${limit} ms:\n${this.output.slice(-2000)}`);
      await sleep(20);
    }
  }

  async close(): Promise<void> {
    await this.#end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
