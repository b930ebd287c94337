/**
 * Builds a target's wedge with the machine's own gcc. The result is cached by
 * the hash of all it is made of; and is found, without making its headers, by
 * that of all sources that there are.
 */

import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { InputError } from '../elf/input-error.ts';
import { sayBefore } from './write-out.ts';

const execute = promisify(execFile);

/** @throws Error with the tool's own messages */
export async function runTool(tool: string, args: readonly string[]): Promise<void> {
  try {
    await execute(tool, args);
  } catch (error) {
    const { code, stderr } = error as { code?: string | number; stderr?: string };
    if (code === 'ENOENT') throw new InputError(`${tool} is not installed`, 'install gcc and binutils');
    throw new Error(`${tool} cannot build the wedge:\n${stderr ?? ''}`);
  }
}

const SOURCES = fileURLToPath(new URL('../', import.meta.url));
/** The wedge's sources. */
export const WEDGE = fileURLToPath(new URL('../../wedge/', import.meta.url));
const SHARED_FOLDERS = ['core', 'mmu', 'devices', 'run'] as const;

/** How every wedge is compiled; a target adds its width. */
const CFLAGS: readonly string[] = [
  '-std=gnu11',
  '-O2',
  // A wedge is one program, and most of its calls cross files.
  '-flto',
  '-g',
  '-ffreestanding',
  '-fno-stack-protector',
  '-fno-asynchronous-unwind-tables',
  '-fcf-protection=none',
  '-mgeneral-regs-only',
  '-fno-strict-aliasing',
  '-Wall',
  '-Wextra',
  '-Werror',
];

export interface WedgeRecipe {
  /** Of the target, and of its folder under wedge/targets/. */
  readonly target: string;
  /** Path in the include directory to text. */
  headers(): Promise<ReadonlyMap<string, string>>;
  readonly cflags: readonly string[];
  /**
   * Links `output`. `sources` are the C and assembly files but for entry.S,
   * and `work` is a folder to build in, where the headers lie.
   */
  link(work: string, output: string, compile: readonly string[], sources: readonly string[]): Promise<void>;
}

async function filesOf(target: string): Promise<{ path: string; text: string }[]> {
  const found = [];
  for (const folder of [...SHARED_FOLDERS, `targets/${target}`])
    for (const name of (await readdir(join(WEDGE, folder))).sort())
      if (/\.([chS]|lds)$/.test(name)) {
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

/** A hash of every source, ours in TypeScript and the wedge's. */
function allSources(): string {
  const hash = createHash('sha256');
  for (const root of [SOURCES, WEDGE])
    for (const name of (readdirSync(root, { recursive: true }) as string[]).sort())
      if (/\.([chS]|lds|ts)$/.test(name)) hash.update(name).update(readFileSync(join(root, name)));
  return hash.digest('hex').slice(0, 16);
}

/** What a target's link step compiles by itself, or includes. */
const APART = /(^|\/)(entry|entries)\.S$/;

/**
 * Path of the wedge's program, built if it is not in the cache.
 * @throws Error with gcc's messages if it does not compile
 */
export async function buildWedge(recipe: WedgeRecipe): Promise<string> {
  const found = join(cacheRoot(), 'wedge', `${recipe.target}-of-${allSources()}`);
  if (existsSync(found)) return realpathSync(found);
  const result = await build(recipe);
  await putIntoCache(found, (fresh) => symlink(result, fresh));
  return result;
}

/** Makes something in the cache, whole or not at all. @throws InputError if it cannot be there */
async function putIntoCache(path: string, make: (fresh: string) => Promise<void>): Promise<void> {
  const fresh = `${path}.${randomUUID()}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await make(fresh);
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true }).catch(() => {});
    throw new InputError(
      `the wedge cannot be kept in ${dirname(path)}: ${(error as Error).message}`,
      'name a folder that has room for it with PREVIRT_CACHE',
    );
  }
}

async function build(recipe: WedgeRecipe): Promise<string> {
  const { target } = recipe;
  const headers = await recipe.headers();
  const files = await filesOf(target);
  const flags = [...CFLAGS, ...recipe.cflags];
  const hash = createHash('sha256').update(flags.join(' ')).update(String(recipe.link));
  for (const [path, text] of headers) hash.update(path).update(text);
  for (const { path, text } of files) hash.update(path).update(text);
  const result = join(cacheRoot(), 'wedge', `${target}-${hash.digest('hex').slice(0, 16)}`);
  if (existsSync(result)) return result;
  sayBefore(`building the wedge for ${target}`);
  const work = await mkdtemp(join(tmpdir(), 'previrt-wedge-'));
  try {
    for (const [path, text] of headers) {
      await mkdir(dirname(join(work, path)), { recursive: true });
      await writeFile(join(work, path), text);
    }
    const compile = [...flags, `-I${work}`, `-I${WEDGE}`, `-Wa,-I${work}`];
    const sources = files.map(({ path }) => path).filter((path) => /\.[cS]$/.test(path) && !APART.test(path));
    const output = join(work, 'wedge');
    await recipe.link(
      work,
      output,
      compile,
      sources.map((path) => join(WEDGE, path)),
    );
    const program = await readFile(output);
    await putIntoCache(result, (fresh) => writeFile(fresh, program, { mode: 0o755 }));
    return result;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
