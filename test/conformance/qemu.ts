/** Runs a Multiboot kernel on QEMU as the virtual PC, without annotation or wedge: the reference. */

import { spawn } from 'node:child_process';

/** Version 1 of the virtual PC, as far as a kernel without a disk sees it. */
const MACHINE = [
  ...['-M', 'pc,acpi=off,hpet=off', '-cpu', 'pentium3,-apic', '-accel', 'tcg', '-m', '64'],
  ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
];

/**
 * What the guest writes to its UART up to the line that starts with `lastLine`.
 *
 * @throws Error with the output so far if QEMU ends or `timeout` milliseconds pass before that.
 */
export function runOnQemu(
  kernel: string,
  append: string,
  lastLine: string,
  timeout: number,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const qemu = spawn('qemu-system-i386', [...MACHINE, '-kernel', kernel, '-append', append], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let errors = '';
    const done = new RegExp(`^${lastLine}.*\n`, 'm');
    const fail = (what: string): void => {
      qemu.kill();
      reject(new Error(`${what}; last output:\n${output.slice(-500)}${errors}`));
    };
    const timer = setTimeout(() => fail(`no '${lastLine}' within ${timeout} ms`), timeout);
    qemu.on('error', (error) => fail(error.message));
    qemu.on('exit', (code) => fail(`QEMU ended with status ${code}`));
    qemu.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    qemu.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString('latin1');
      if (!done.test(output)) return;
      clearTimeout(timer);
      qemu.kill();
      resolve(output);
    });
  });
}
