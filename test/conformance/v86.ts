/** Runs a Multiboot kernel on the embedded emulator v86. */

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { V86 } from 'v86';

const BIOS = '/usr/share/seabios/bios.bin';
const WASM = fileURLToPath(new URL('../../node_modules/v86/build/v86.wasm', import.meta.url));

const toBuffer = async (path: string): Promise<{ buffer: ArrayBuffer }> => {
  const bytes = await readFile(path);
  return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer };
};

/**
 * What the guest writes to its UART up to the line that starts with `lastLine`.
 *
 * @throws Error with the output so far if `timeout` milliseconds pass before that.
 */
export async function runOnV86(
  kernel: string,
  append: string,
  lastLine: string,
  timeout: number,
): Promise<string> {
  const emulator = new V86({
    wasm_path: WASM,
    memory_size: 64 << 20,
    vga_memory_size: 2 << 20,
    bios: await toBuffer(BIOS),
    multiboot: await toBuffer(kernel),
    cmdline: append,
    autostart: true,
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
    log_level: 0,
  });
  const done = new RegExp(`^${lastLine}.*\n`, 'm');
  let output = '';
  try {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no '${lastLine}' within ${timeout} ms; last output:\n${output.slice(-500)}`)),
        timeout,
      );
      emulator.add_listener('serial0-output-byte', (byte: number) => {
        output += String.fromCharCode(byte);
        if (byte !== 10 || !done.test(output)) return;
        clearTimeout(timer);
        resolve(output);
      });
    });
  } finally {
    await emulator.destroy();
  }
}
