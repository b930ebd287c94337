/**
 * Builds the conformance guest: a Multiboot kernel, and inside it a user program
 * that is linked on its own and never annotated, and a module that the kernel
 * loads by itself. Cached by the hash of all it is made of.
 */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const RULES = fileURLToPath(new URL('./domains.json', import.meta.url));
const KERNEL = fileURLToPath(new URL('./kernel/', import.meta.url));
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

/** What the kernel is linked from, boot code first. */
const SUPPORT = [
  'boot.S',
  'traps.S',
  'run.S',
  'codes.S',
  'main.c',
  'console.c',
  'memory.c',
  'tables.c',
  'paging.c',
  'traps.c',
  'access.c',
  'codes.c',
  'modules.c',
  'prepare.c',
  'clean.c',
] as const;

/** The tests in the order in which they run, from the simplest to the hardest. */
const TESTS = [
  'flags',
  'each',
  'iret',
  'user',
  'fault',
  'shadow',
  'segment',
  'descriptor',
  'control',
  'far',
  'exception',
  'operand',
  'registers',
  'string',
  'paging',
  'pae',
  'uart',
  'pic',
  'pit',
  'rtc',
  'bus',
  'form',
  'device',
  'module',
  'step',
  'trapped',
  'tick',
  'fpu',
  'lowmem',
  'debug',
  'selftest',
] as const;

const FLAGS = [
  '-m32',
  '-march=i686',
  '-std=gnu11',
  '-O2',
  '-g1',
  '-ffreestanding',
  '-fno-pic',
  '-fno-stack-protector',
  '-fno-asynchronous-unwind-tables',
  '-fno-toplevel-reorder',
  '-fno-tree-loop-distribute-patterns',
  '-fcf-protection=none',
  '-mgeneral-regs-only',
  '-Wall',
  '-Wextra',
  '-Wno-override-init',
  '-Werror',
];

export interface ConformanceOptions {
  /** Built by the annotating toolchain; otherwise by plain gcc. */
  readonly annotated: boolean;
  /** Its rules name no announcements; its module is burned ahead of time for this target instead. */
  readonly moduleBurnedFor?: string;
}

const cacheRoot = (): string =>
  process.env.PREVIRT_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'previrt');

async function hashOf(folders: readonly string[], seed: string): Promise<string> {
  const hash = createHash('sha256').update(seed);
  for (const folder of folders)
    for (const entry of (await readdir(folder, { recursive: true, withFileTypes: true })).sort((a, b) =>
      join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1,
    ))
      if (entry.isFile()) {
        const path = join(entry.parentPath, entry.name);
        hash.update(`${path.slice(folder.length)}\0`).update(await readFile(path));
      }
  return hash.digest('hex').slice(0, 16);
}

/** The user program as a flat image, and as ELF for its symbols. */
async function buildUser(work: string): Promise<string> {
  const elf = join(work, 'user.elf');
  await run('gcc', ['-m32', `-I${KERNEL}`, '-c', '-o', `${work}/user.o`, join(KERNEL, 'user.S')]);
  await run('ld', ['-m', 'elf_i386', '-Ttext=0x40000000', '-e', 'user_start', '-o', elf, `${work}/user.o`]);
  await run('objcopy', ['-O', 'binary', '-j', '.text', elf, join(work, 'user.bin')]);
  return elf;
}

/** What a build works with. */
interface Workshop {
  readonly work: string;
  /** What stands in front of the tools' names. */
  readonly tool: string;
  readonly rules: string;
}

async function compile({ work, tool, rules }: Workshop, source: string): Promise<string> {
  const object = join(work, `${source.replaceAll('/', '-')}.o`);
  const args = [...FLAGS, `-Wa,-I${work}`, '-c', '-o', object, join(KERNEL, source)];
  await run(`${tool}gcc`, args, { env: { ...process.env, PREVIRT_RULES: rules } });
  return object;
}

/** The loadable part, as the kernel has it inside. */
async function buildModule(workshop: Workshop, target: string | undefined): Promise<void> {
  const { work, tool } = workshop;
  const object = await compile(workshop, 'module/part.c');
  const part = join(work, 'part.o');
  await run(`${tool}objcopy`, ['--strip-debug', object, part]);
  if (target !== undefined)
    await run(join(REPOSITORY, 'bin/previrt'), ['burn', part, '--target', target, '-o', part]);
}

async function rulesWithoutAnnouncements(work: string): Promise<string> {
  const path = join(work, 'domains.json');
  const { announcements: _, ...rules } = JSON.parse(await readFile(RULES, 'utf8'));
  await writeFile(path, JSON.stringify(rules));
  return path;
}

async function buildKernel(
  work: string,
  { annotated, moduleBurnedFor }: ConformanceOptions,
): Promise<string> {
  const tool = annotated ? join(REPOSITORY, 'bin/previrt-') : '';
  const rules = moduleBurnedFor === undefined ? RULES : await rulesWithoutAnnouncements(work);
  const workshop = { work, tool, rules };
  const [user] = await Promise.all([buildUser(work), buildModule(workshop, moduleBurnedFor)]);
  const sources = [...SUPPORT, ...TESTS.map((name) => `tests/${name}.c`)];
  const objects = await Promise.all(sources.map((source) => compile(workshop, source)));
  const elf = join(work, 'conformance.elf');
  await run(`${tool}ld`, [
    ...['-m', 'elf_i386', '-T', join(KERNEL, 'kernel.ld'), '--build-id=none', '-z', 'noexecstack'],
    ...['--no-warn-rwx-segments', '-R', user, '-o', elf, ...objects],
  ]);
  return elf;
}

/**
 * Path of the guest's ELF file, built if it is not in the cache.
 *
 * @throws if the compiler refuses, with its message.
 */
export async function buildConformance(options: ConformanceOptions): Promise<string> {
  const layers = [
    ...(options.annotated ? ['x86', 'assembly', 'toolchain'] : []),
    ...(options.moduleBurnedFor === undefined ? [] : ['elf', 'sites', 'substitution']),
  ];
  const inputs = [KERNEL, ...layers.map((name) => join(REPOSITORY, 'src', name))];
  const rules = await readFile(RULES, 'utf8');
  const seed = JSON.stringify([FLAGS, SUPPORT, TESTS, rules, options.moduleBurnedFor ?? '']);
  const target = join(
    cacheRoot(),
    'conformance',
    `${options.annotated ? 'annotated' : 'plain'}-${await hashOf(inputs, seed)}`,
    'conformance.elf',
  );
  const built = await readFile(target).then(
    () => true,
    () => false,
  );
  if (built) return target;
  const work = await mkdtemp(join(tmpdir(), 'conformance-'));
  try {
    const elf = await buildKernel(work, options);
    await mkdir(dirname(target), { recursive: true });
    const staged = `${target}.${process.pid}`;
    await run('cp', [elf, staged]);
    await rename(staged, target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}
