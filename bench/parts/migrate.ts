/** Moving a running guest, and burning it again: how long it stands still. */

import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { step } from '../../guests/steps.ts';
import { request } from '../../src/cli/control.ts';
import type { Place, Snapshot } from '../../src/cli/requests.ts';
import { InputError } from '../../src/elf/input-error.ts';
import type { Moved } from '../../src/migration/session.ts';
import { USUAL_DOMAINS } from '../../src/substitution/select.ts';
import type { Reburned } from '../../src/targets/command.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result, Row } from '../part.ts';
import { PREVIRT } from '../peers/previrt.ts';
import { median } from '../timing.ts';

const TIMES = 9;
/** Xen, or a PC, comes up under an emulator each time. */
const XEN_TIMES = 3;
const MODULE_LOADS = 200;

/** Keeps memory and processor busy, as compiling does: forks, a file of 24 MiB written again and again. */
const WORK =
  '(while :; do seq 20000 | md5sum; done) > /tmp/sums & (while :; do dd if=/dev/urandom of=/tmp/file bs=64k count=384; done) 2> /dev/null &\n';

/** A guest of 128 MiB that may be asked, and its console. */
class Guest {
  readonly #process: ChildProcess;
  #output = '';
  #news: () => void = () => {};
  #ended = false;

  constructor(args: readonly string[]) {
    this.#process = spawn(PREVIRT, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    this.#process.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.#output += text;
      this.#news();
    });
    this.#process.on('close', () => {
      this.#ended = true;
      this.#news();
    });
  }

  /** Types a line, and waits for what it prints. @throws InputError if the guest ends before */
  async type(line: string, expected: RegExp): Promise<RegExpExecArray> {
    this.#process.stdin?.write(line);
    for (;;) {
      const found = expected.exec(this.#output);
      if (found) {
        this.#output = this.#output.slice(found.index + found[0].length);
        return found;
      }
      if (this.#ended) throw new InputError('the guest has ended', this.#output.slice(-500));
      await new Promise<void>((resolve) => {
        this.#news = resolve;
      });
    }
  }

  end(): void {
    this.#process.kill('SIGTERM');
  }
}

const PROMPT = /guest# /;

const times = async (count: number, measure: () => Promise<number>): Promise<number> => {
  const values: number[] = [];
  for (let n = 0; n < count; n++) values.push(await measure());
  return median(values);
};

/** Milliseconds of loading and unloading a module with `sites` sites, by the guest's clock. */
async function moduleLoads(folder: string): Promise<Row> {
  const { vmlinux } = await buildKernel('annotated', 'modules');
  const control = join(folder, 'modules.control');
  const initrd = await buildInitramfs('modules');
  const guest = new Guest(['run', vmlinux, '--initrd', initrd, '--control', control]);
  try {
    await guest.type('', PROMPT);
    const before = await request<Reburned>(control, { reburn: USUAL_DOMAINS });
    await guest.type('insmod /lib/every.ko quiet=1\n', PROMPT);
    const loaded = await request<Reburned>(control, { reburn: USUAL_DOMAINS });
    const loop = `for i in $(seq ${MODULE_LOADS}); do rmmod every; insmod /lib/every.ko quiet=1; done`;
    const [, from, to] = await guest.type(
      `a=$(cut -d" " -f1 /proc/uptime); ${loop}; echo took $a $(cut -d" " -f1 /proc/uptime)\n`,
      /took ([\d.]+) ([\d.]+)\r/,
    );
    const sites = loaded.sites - before.sites;
    const value = ((Number(to) - Number(from)) * 1000) / MODULE_LOADS;
    return { what: `insmod and rmmod of a module with ${sites} sites, all of it`, value, unit: 'ms' };
  } finally {
    guest.end();
  }
}

async function run(folder: string): Promise<Result> {
  const { vmlinux } = await buildKernel('annotated');
  const initrd = await buildInitramfs('glibc');
  const control = join(folder, 'migrate.control');
  const file = join(folder, 'state');
  const guest = new Guest(['run', vmlinux, '--cpu', 'pentium3', '--initrd', initrd, '--control', control]);
  const moved = async (place: Place): Promise<number> =>
    (await request<Moved>(control, { migrate: place })).stopped;
  const rows: Row[] = [];
  await step('Moving a guest', async (report) => {
    try {
      await guest.type('', PROMPT);
      await guest.type(WORK, PROMPT);
      report('burning again');
      let sites = 0;
      const rewriting = await times(TIMES, async () => {
        const done = await request<Reburned>(control, { reburn: USUAL_DOMAINS });
        sites = done.sites;
        return done.microseconds / 1000;
      });
      const what = `burning the ${sites} sites of a running guest again`;
      rows.push({ what, value: rewriting, unit: 'ms', goal: GOALS.reburn });
      report('process to process');
      const local = await times(TIMES, () => moved({ target: 'hosted' }));
      rows.push({ what: 'process to process, stopped', value: local, unit: 'ms', goal: GOALS.move });
      report('a file');
      const saved = await times(
        TIMES,
        async () => (await request<Snapshot>(control, { snapshot: { file, compress: false } })).stopped,
      );
      rows.push({ what: 'writing a file, stopped', value: saved, unit: 'ms' });
      const back: number[] = [];
      const forth = await times(XEN_TIMES, async () => {
        report('to Xen and back');
        const there = await moved({ target: 'xen' });
        back.push(await moved({ target: 'hosted' }));
        return there;
      });
      const xen = 'process to Xen, stopped';
      rows.push({ what: xen, value: forth, unit: 'ms', goal: GOALS.moveToXen });
      rows.push({ what: 'Xen to process, stopped', value: median(back), unit: 'ms' });
      const over: number[] = [];
      const put = await times(XEN_TIMES, async () => {
        report('to bare metal and back');
        const there = await moved({ target: 'bare' });
        over.push(await moved({ target: 'hosted' }));
        return there;
      });
      rows.push({ what: 'process to bare metal, stopped, QEMU started meanwhile', value: put, unit: 'ms' });
      const from = 'bare metal to process, stopped';
      rows.push({ what: from, value: median(over), unit: 'ms', goal: GOALS.moveFromBare });
    } finally {
      guest.end();
    }
    report('from a file');
    const resumed = await times(TIMES, async () => {
      const begin = performance.now();
      const again = new Guest(['resume', file]);
      await again.type('\n', PROMPT);
      again.end();
      return performance.now() - begin;
    });
    rows.push({
      what: 'previrt resume, to the first prompt',
      value: resumed,
      unit: 'ms',
      goal: GOALS.resume,
    });
    report('modules');
    rows.push(await moduleLoads(folder));
  });
  return { rows };
}

export const migrate: Part = {
  name: 'migrate',
  what: 'how long a guest stands still that moves, is written to a file, or is burned again',
  run,
};
