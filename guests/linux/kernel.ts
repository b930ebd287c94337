/**
 * Builds Linux 6.1 for i386 from Debian's unmodified source: annotated by the
 * project's toolchain, or plain, with the ordinary compiler, to compare with.
 */

import { copyFile, cp, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { InputError } from '../../src/elf/input-error.ts';
import { cachedFolder, hashOf, REPOSITORY } from '../cache.ts';
import { runProgram, step } from '../steps.ts';
import { missingOptions } from './config.ts';
import { kernelPackage, kernelSource } from './debian.ts';

export type Variant = 'annotated' | 'plain';

/** The usual one; one with page tables of three levels and entries of 64 bits; one with modules. */
export type Configuration = 'usual' | 'pae' | 'modules';

export interface Kernel {
  /** ELF, as linked. */
  readonly vmlinux: string;
  readonly bzImage: string;
  /** Path of a module of the kernel's own tree, by its name. */
  module(name: string): string;
  /** With modules: the folder it was built in, for modules from outside. */
  readonly build: string;
}

/** Configuration fragments, each on top of those before it. */
const CONFIGS: Record<Configuration, readonly string[]> = {
  usual: ['guests/linux/i386.config'],
  pae: ['guests/linux/i386.config', 'guests/linux/pae.config'],
  modules: ['guests/linux/i386.config', 'guests/linux/modules.config'],
};
/** A module of our own, outside the kernel's tree. */
const MODULE = 'guests/linux/module';
const TOOLCHAIN = [
  'bin/previrt-gcc',
  'bin/previrt-as',
  'bin/previrt-ld',
  'src/x86',
  'src/assembly',
  'src/toolchain',
  'guests/linux/domains.json',
];

/** Line information tells the annotator which header a store comes from; what is loaded does not hold it. */
const LINES = '-g1';

/** What the kernel would otherwise take from the machine that builds it. */
const REPRODUCIBLE = {
  KBUILD_BUILD_TIMESTAMP: '2020-01-01',
  KBUILD_BUILD_USER: 'previrt',
  KBUILD_BUILD_HOST: 'previrt',
};

/** Objects in a build of this configuration, about: for the progress shown. */
const OBJECTS = 800;
const OBJECT_LINE = /^ {2}(CC|AS) /;

/** Configures a kernel in `output`, an empty folder. Returns what builds it there; `flags` go to the compiler too. */
export async function configureKernel(
  variant: Variant,
  output: string,
  flags = '',
  configuration: Configuration = 'usual',
): Promise<() => Promise<void>> {
  const source = await kernelPackage();
  const tree = await kernelSource(source);
  const prefix = variant === 'annotated' ? join(REPOSITORY, 'bin/previrt-') : '';
  const settings = ['ARCH=i386', `O=${output}`, `CROSS_COMPILE=${prefix}`, `KCFLAGS=${flags}`];
  const make = (targets: readonly string[], onLine?: (line: string) => void): Promise<string> =>
    runProgram('make', ['-C', tree, ...settings, ...targets], {
      env: REPRODUCIBLE,
      ...(onLine && { onLine }),
    });
  await step(`Configuring Linux ${source.version}, ${variant}, ${configuration}`, () =>
    configure(tree, output, CONFIGS[configuration], make),
  );
  return () =>
    step(`Building Linux ${source.version}, ${variant}, ${configuration}`, async (report) => {
      let objects = 0;
      await make([`-j${cpus().length}`, 'vmlinux', 'bzImage'], (line) => {
        if (OBJECT_LINE.test(line)) report(`${++objects} of about ${OBJECTS} objects`);
      });
      if (configuration === 'modules') await make([`-j${cpus().length}`, 'modules']);
    });
}

/** What a kernel that is not annotated is made from: a key for the cache. */
export async function plainInputs(
  configuration: Configuration = 'usual',
): Promise<{ readonly texts: string[]; readonly paths: string[] }> {
  const { version } = await kernelPackage();
  const compiler = (await runProgram('gcc', ['--version'])).split('\n')[0]!;
  return {
    texts: [version, compiler, JSON.stringify(REPRODUCIBLE)],
    paths: [...CONFIGS[configuration]],
  };
}

/** The kernel, from the cache or built, which takes minutes. */
export async function buildKernel(variant: Variant, configuration: Configuration = 'usual'): Promise<Kernel> {
  const { texts, paths } = await plainInputs(configuration);
  const key =
    variant === 'annotated' ? hashOf([...texts, LINES], [...paths, ...TOOLCHAIN]) : hashOf(texts, paths);
  const name = configuration === 'usual' ? variant : `${variant}-${configuration}`;
  const folder = await cachedFolder(`linux/${name}-${key}`, async (work) => {
    const output = join(work, 'build');
    await mkdir(output);
    const build = await configureKernel(variant, output, variant === 'annotated' ? LINES : '', configuration);
    await build();
    if (variant === 'annotated') await runProgram('objcopy', ['--strip-debug', join(output, 'vmlinux')]);
    for (const path of ['vmlinux', 'arch/x86/boot/bzImage', '.config'])
      await copyFile(join(output, path), join(work, path.split('/').at(-1)!));
    for (const path of await modulesIn(output))
      await copyFile(join(output, path), join(work, basename(path)));
    if (configuration === 'modules') await removeObjects(output);
    else await rm(output, { recursive: true });
  });
  return {
    vmlinux: join(folder, 'vmlinux'),
    bzImage: join(folder, 'bzImage'),
    module: (module) => join(folder, `${module}.ko`),
    build: join(folder, 'build'),
  };
}

const modulesIn = async (output: string): Promise<string[]> =>
  (await readdir(output, { recursive: true })).filter((path) => path.endsWith('.ko'));

/** Whatever modules from outside do not need, which is most. */
async function removeObjects(output: string): Promise<void> {
  for (const path of await readdir(output, { recursive: true }))
    if (/^(?!scripts\/).*\.(o|ko|a|cmd)$|^vmlinux/.test(path)) await rm(join(output, path));
}

/** Path of our own module, built for a kernel with modules by the toolchain, or by the ordinary compiler. */
export async function buildModule(variant: Variant): Promise<string> {
  const { build } = await buildKernel('annotated', 'modules');
  const key = hashOf([build, variant], [MODULE, ...(variant === 'annotated' ? TOOLCHAIN : [])]);
  const folder = await cachedFolder(`linux/module-${variant}-${key}`, async (work) => {
    // It is built where its source lies.
    await cp(join(REPOSITORY, MODULE), work, { recursive: true });
    const prefix = variant === 'annotated' ? join(REPOSITORY, 'bin/previrt-') : '';
    await runProgram('make', ['-C', build, `M=${work}`, 'ARCH=i386', `CROSS_COMPILE=${prefix}`, 'modules']);
  });
  return join(folder, 'every.ko');
}

async function configure(
  source: string,
  output: string,
  fragments: readonly string[],
  make: (targets: readonly string[]) => Promise<string>,
): Promise<void> {
  const paths = fragments.map((path) => join(REPOSITORY, path));
  const config = join(output, '.config');
  await make(['tinyconfig']);
  const merge = join(source, 'scripts/kconfig/merge_config.sh');
  await runProgram(merge, ['-m', '-O', output, config, ...paths], { cwd: source });
  await make(['olddefconfig']);
  const wanted = await Promise.all(paths.map((path) => readFile(path, 'utf8')));
  const missing = missingOptions(wanted.join('\n'), await readFile(config, 'utf8'));
  if (missing.length > 0)
    throw new InputError(
      `the kernel's configuration lost ${missing.join(', ')}`,
      `correct ${fragments.join(' or ')}`,
    );
}
