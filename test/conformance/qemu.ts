/** Runs a Multiboot kernel on QEMU as the virtual PC, without annotation or wedge: the reference. */

import { spawn } from 'node:child_process';
import { DISK_SLOT } from '../../src/machine/virtual-pc.ts';
import { withDisk } from './disk.ts';

/** Version 1 of the virtual PC. */
const MACHINE = [
  ...['-M', 'pc,acpi=off,hpet=off', '-cpu', 'pentium3,-apic', '-accel', 'tcg', '-m', '64'],
  ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
];

const DISK = [
  ...['virtio-blk-pci', 'drive=disk', 'disable-legacy=off', 'disable-modern=off', 'vectors=0'],
  // Otherwise it sets its interrupt status twice for one request.
  ...['ioeventfd=off', `addr=${DISK_SLOT.device}`],
];

const diskOptions = (path: string): readonly string[] => [
  ...['-drive', `if=none,id=disk,format=raw,file=${path.replaceAll(',', ',,')}`],
  ...['-device', DISK.join()],
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
  return withDisk((disk) => {
    const options = [...MACHINE, ...diskOptions(disk), '-kernel', kernel, '-append', append];
    return outputUpTo(options, lastLine, timeout);
  });
}

function outputUpTo(options: readonly string[], lastLine: string, timeout: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const qemu = spawn('qemu-system-i386', options, { stdio: ['ignore', 'pipe', 'pipe'] });
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
