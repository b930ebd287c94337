/**
 * Runs harness scripts on QEMU's own devices through its qtest protocol
 * (QEMU docs/devel/qtest): the machine is stopped and its time stands still,
 * so this serves whatever does not depend on time.
 */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const MACHINE = ['-machine', 'pc', '-S', '-nodefaults', '-display', 'none'];
const QTEST = ['-qtest', 'stdio', '-qtest-log', 'none'];
const SERIAL = ['-serial', 'null'];
const WIDTHS: Readonly<Record<string, string>> = { 1: 'b', 2: 'w', 4: 'l' };
/** Where QEMU 7.2 puts the two i8259 of its PC in the tree of objects. */
const I8259_PATHS = ['/machine/unattached/device[6]', '/machine/unattached/device[7]'];

function translate(command: string): string {
  const [verb, ...words] = command.split(' ');
  const [a = '', b = '', c = ''] = words;
  if (verb === 'out') return `out${WIDTHS[b]} ${a} ${c}`;
  if (verb === 'in') return `in${WIDTHS[b]} ${a}`;
  if (verb === 'store') return `write${WIDTHS[b]} ${a} ${c}`;
  if (verb === 'load') return `read${WIDTHS[b]} ${a}`;
  if (verb === 'irq')
    return `set_irq_in ${I8259_PATHS[Number(a) >> 3]} unnamed-gpio-in ${Number(a) & 7} ${b}`;
  throw new Error(`no qtest command for: ${command}`);
}

/** One answer a command, in the harness's form. `more` are options. @throws Error if QEMU ends early or refuses a command. */
export async function runQtest(commands: readonly string[], more: readonly string[] = []): Promise<string[]> {
  const qemu = spawn('qemu-system-i386', [...MACHINE, ...SERIAL, ...QTEST, ...more], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  qemu.stdin.write(commands.map((command) => `${translate(command)}\n`).join(''));
  const answers: string[] = [];
  try {
    for await (const line of createInterface({ input: qemu.stdout })) {
      const [status, value] = line.split(' ');
      if (status === 'FAIL') throw new Error(`qtest: ${line} after ${commands[answers.length]}`);
      if (status !== 'OK') continue;
      answers.push(value === undefined ? 'ok' : `0x${Number(value).toString(16)}`);
      if (answers.length === commands.length) return answers;
    }
    throw new Error(`QEMU ended after ${answers.length} of ${commands.length} commands`);
  } finally {
    qemu.kill();
  }
}
