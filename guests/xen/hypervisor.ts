/**
 * Builds the Xen hypervisor from Debian's source, with 32-bit paravirtualized
 * guests enabled: Debian's own binaries refuse them.
 */

import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { InputError } from '../../src/elf/input-error.ts';
import { cachedFolder, hashOf } from '../cache.ts';
import { missingOptions } from '../linux/config.ts';
import { runProgram, step } from '../steps.ts';
import { type XenVersion, xenSource } from './release.ts';

export interface XenOptions {
  /** With assertions, and the reason of every refused memory operation in its log; slower. */
  readonly debug?: boolean;
}

/** What differs from the configuration that Xen builds by default, which is Debian's. */
const config = (debug: boolean): string =>
  `CONFIG_PV32=y\n${debug ? 'CONFIG_DEBUG=y' : '# CONFIG_DEBUG is not set'}\n`;

const SETTINGS = [
  'XEN_TARGET_ARCH=x86_64',
  // Debian's, whatever else is first on the path.
  'PYTHON=/usr/bin/python3',
  // Xen 4.14 is older than this compiler's warnings.
  'EXTRA_CFLAGS_XEN_CORE=-Wno-error',
  // What the banner would otherwise take from the machine that builds it.
  'XEN_WHOAMI=previrt',
  'XEN_DOMAIN=previrt',
  'XEN_BUILD_HOST=previrt',
  'XEN_BUILD_DATE=2020-01-01',
  'XEN_BUILD_TIME=00:00:00',
];

/** Objects of a build, about: for the progress shown. */
const OBJECTS = 450;
/** A line of make that compiles: short from Xen 4.17 on, the whole command before. */
const OBJECT_LINE = /^ {2}CC |^gcc .* -c /;

/** Path of the hypervisor, an ELF file for Multiboot: from the cache, or built, which takes a minute or two. */
export async function buildXen(version: XenVersion, { debug = false }: XenOptions = {}): Promise<string> {
  const source = await xenSource(version);
  const variant = debug ? 'debug' : 'release';
  const compiler = (await runProgram('gcc', ['--version'])).split('\n')[0]!;
  const key = hashOf([source.version, compiler, config(debug), ...SETTINGS]);
  const folder = await cachedFolder(`xen/${version}-${variant}-${key}`, (work) =>
    step(`Building Xen ${source.version}, ${variant}`, async (report) => {
      const tree = join(work, 'tree');
      await mkdir(tree);
      await runProgram('tar', ['--strip-components=1', '-xf', source.path], { cwd: tree });
      await configure(tree, debug);
      let objects = 0;
      const onLine = (line: string): void => {
        if (OBJECT_LINE.test(line)) report(`${++objects} of about ${OBJECTS} objects`);
      };
      await make(tree, [`-j${cpus().length}`], onLine);
      await copyFile(join(tree, 'xen/xen'), join(work, 'xen'));
      await rm(tree, { recursive: true });
    }),
  );
  return join(folder, 'xen');
}

const make = (tree: string, targets: readonly string[], onLine?: (line: string) => void): Promise<string> =>
  runProgram('make', ['-C', join(tree, 'xen'), ...SETTINGS, ...targets], onLine && { onLine });

async function configure(tree: string, debug: boolean): Promise<void> {
  const file = join(tree, 'xen/.config');
  await writeFile(file, config(debug));
  await make(tree, ['olddefconfig']);
  const missing = missingOptions(config(debug), await readFile(file, 'utf8'));
  if (missing.length > 0) throw new InputError(`Xen's configuration lost ${missing.join(', ')}`);
}
