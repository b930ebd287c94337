/**
 * npm run circle: boots Linux on a bare PC and moves it, while it counts, to a
 * process, to Xen, to a process and back to the bare PC; prints a timeline.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from '../src/cli/control.ts';
import type { Place } from '../src/cli/requests.ts';
import { InputError } from '../src/elf/input-error.ts';
import type { Moved } from '../src/migration/session.ts';
import { REPOSITORY } from './cache.ts';
import { buildInitramfs } from './linux/initramfs.ts';
import { buildKernel } from './linux/kernel.ts';
import { runMain } from './main.ts';

const SCRIPT = 'i=0; while :; do i=$((i+1)); echo counter $i; usleep 200000; done\n';

/** Milliseconds that it counts in each place. */
const STAY = 2000;

const START = 'bare';
const PLACES: readonly Place[] = [
  { target: 'hosted' },
  { target: 'xen' },
  { target: 'hosted' },
  { target: 'bare' },
];

interface Stage {
  readonly place: string;
  /** Seconds since the start. */
  readonly since: number;
  /** Milliseconds that the guest stood still on its way there. */
  readonly stopped: number;
  readonly counter: number;
}

/** The counter as the console shows it. */
class Counter {
  value = 0;
  #text = '';

  /** @throws InputError if a number is missing or comes twice */
  read(text: string): void {
    this.#text += text;
    const lines = this.#text.split('\n');
    this.#text = lines.pop()!;
    for (const line of lines) {
      const next = Number(/counter (\d+)/.exec(line)?.[1] ?? Number.NaN);
      if (Number.isNaN(next)) continue;
      if (next !== this.value + 1) throw new InputError(`${next} came after ${this.value}`);
      this.value = next;
    }
  }
}

function timeline(stages: readonly Stage[]): string {
  const lines = stages.map(
    ({ place, since, stopped, counter }) =>
      `${since.toFixed(1).padStart(7)} s  ${place.padEnd(8)}${String(counter).padStart(8)}${stopped ? `${Math.round(stopped)} ms`.padStart(14) : ''}`,
  );
  return ['', '   since  place    counter  stood still', ...lines, ''].join('\n');
}

async function travel(control: string, counter: Counter, begin: number): Promise<Stage[]> {
  const seconds = (): number => (performance.now() - begin) / 1000;
  while (counter.value === 0) await sleep(50);
  const stages: Stage[] = [{ place: START, since: seconds(), stopped: 0, counter: counter.value }];
  for (const place of PLACES) {
    await sleep(STAY);
    const { stopped } = await request<Moved>(control, { migrate: place });
    stages.push({ place: place.target, since: seconds(), stopped, counter: counter.value });
    const before = counter.value;
    while (counter.value === before) await sleep(50);
  }
  await sleep(STAY);
  return stages;
}

await runMain(async () => {
  const { vmlinux } = await buildKernel('annotated');
  const initrd = await buildInitramfs('busybox', SCRIPT);
  const folder = mkdtempSync(join(tmpdir(), 'previrt-circle-'));
  const control = join(folder, 'control');
  const args = [
    'run',
    vmlinux,
    '--target',
    START,
    '--initrd',
    initrd,
    '--append',
    'quiet',
    '--control',
    control,
  ];
  const guest = spawn(join(REPOSITORY, 'bin/previrt'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const begin = performance.now();
  const counter = new Counter();
  try {
    const wrong = new Promise<never>((_, reject) => {
      guest.stdout.setEncoding('latin1').on('data', (text: string) => {
        process.stdout.write(text);
        try {
          counter.read(text);
        } catch (error) {
          reject(error);
        }
      });
      guest.on('close', () => reject(new InputError('the guest has ended')));
    });
    const stages = await Promise.race([travel(control, counter, begin), wrong]);
    process.stdout.write(timeline(stages));
  } finally {
    guest.removeAllListeners('close').kill('SIGTERM');
    if (guest.exitCode === null) await once(guest, 'close');
    rmSync(folder, { recursive: true, force: true });
  }
});
