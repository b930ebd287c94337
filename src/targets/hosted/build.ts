/**
 * Builds the hosted wedge: one freestanding 64-bit program, with the 32-bit
 * entry code inside it. The result is cached by the hash of all it is made of.
 */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { InputError } from '../../elf/input-error.ts';
import { ENTRY_BASE } from '../../substitution/entries.ts';
import { hostedHeaders } from './headers.ts';

const execute = promisify(execFile);

/** @throws Error with the tool's own messages */
async function run(tool: string, args: readonly string[]): Promise<void> {
  try {
    await execute(tool, args);
  } catch (error) {
    const { code, stderr } = error as { code?: string | number; stderr?: string };
    if (code === 'ENOENT') throw new InputError(`${tool} is not installed`, 'install gcc and binutils');
    throw new Error(`${tool} cannot build the wedge:\n${stderr ?? ''}`);
  }
}
const WEDGE = fileURLToPath(new URL('../../../wedge/', import.meta.url));
const FOLDERS = ['core', 'mmu', 'devices', 'run', 'targets/hosted'] as const;

/** Above every guest-virtual address, so that the guest has the lowest 4 GiB to itself. */
const LINK_ADDRESS = 0x1000_0000_0000;

const CFLAGS = [
  '-std=gnu11',
  '-O2',
  '-g',
  '-ffreestanding',
  '-fno-stack-protector',
  '-fno-asynchronous-unwind-tables',
  '-fcf-protection=none',
  '-mgeneral-regs-only',
  '-mfsgsbase',
  '-fpie',
  '-fno-strict-aliasing',
  '-Wall',
  '-Wextra',
  '-Werror',
];

async function sources(): Promise<{ path: string; text: string }[]> {
  const found = [];
  for (const folder of FOLDERS)
    for (const name of (await readdir(join(WEDGE, folder))).sort())
      if (/\.[chS]$/.test(name)) {
        const path = join(folder, name);
        found.push({ path, text: await readFile(join(WEDGE, path), 'utf8') });
      }
  return found;
}

export function cacheRoot(): string {
  return (
    process.env.PREVIRT_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'previrt')
  );
}

async function compile(work: string, paths: readonly string[]): Promise<string> {
  const include = [`-I${work}`, `-I${WEDGE}`, `-Wa,-I${work}`];
  const entry = join(work, 'entry');
  await run('gcc', ['-c', ...include, '-o', `${entry}.o`, join(WEDGE, 'targets/hosted/entry.S')]);
  await run('ld', [`-Ttext=0x${ENTRY_BASE.toString(16)}`, '-e', '0', '-o', `${entry}.elf`, `${entry}.o`]);
  await run('objcopy', ['-O', 'binary', '-j', '.text', `${entry}.elf`, `${entry}.bin`]);
  const files = paths.filter(
    (path) => /\.(c|S)$/.test(path) && !path.endsWith('/entry.S') && !path.endsWith('/entries.S'),
  );
  const output = join(work, 'wedge');
  await run('gcc', [
    ...CFLAGS,
    ...include,
    '-nostdlib',
    '-static',
    '-no-pie',
    `-Wl,-Ttext-segment=0x${LINK_ADDRESS.toString(16)}`,
    '-Wl,-z,noexecstack',
    '-Wl,--build-id=none',
    '-o',
    output,
    ...files.map((path) => join(WEDGE, path)),
  ]);
  return output;
}

/**
 * Path of the wedge's program, built if it is not in the cache.
 * @throws Error with gcc's messages if it does not compile
 */
export async function buildHostedWedge(): Promise<string> {
  const headers = hostedHeaders();
  const files = await sources();
  const hash = createHash('sha256').update(CFLAGS.join(' '));
  for (const [path, text] of headers) hash.update(path).update(text);
  for (const { path, text } of files) hash.update(path).update(text);
  const result = join(cacheRoot(), 'wedge', `hosted-${hash.digest('hex').slice(0, 16)}`);
  try {
    await readFile(result);
    return result;
  } catch {
    // Not built yet.
  }
  const work = await mkdtemp(join(tmpdir(), 'previrt-wedge-'));
  try {
    for (const [path, text] of headers) {
      await mkdir(dirname(join(work, path)), { recursive: true });
      await writeFile(join(work, path), text);
    }
    const built = await compile(
      work,
      files.map(({ path }) => path),
    );
    await mkdir(dirname(result), { recursive: true });
    const fresh = `${result}.${process.pid}`;
    await writeFile(fresh, await readFile(built), { mode: 0o755 });
    await rename(fresh, result);
    return result;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
