/** `previrt burn`: substitutes the sites of a kernel for a target. */

import { type Command, Option } from 'commander';
import { isObjectFile } from '../elf/image.ts';
import { DEFAULT_MEMORY } from '../machine/virtual-pc.ts';
import { formatDiscovery } from '../report/discovery.ts';
import { formatBytes, plural } from '../report/table.ts';
import { BURN_TARGETS, type BurnTargetName } from '../substitution/select.ts';
import { sayBefore } from '../targets/write-out.ts';
import type { DomainName } from '../x86/site-kinds.ts';
import { burnState, isMachineState } from './burn-state.ts';
import { domainsOption } from './domains.ts';
import { inPlace, UsageError } from './errors.ts';
import { besides, readInput, writeOutput } from './files.ts';
import { kernelIn } from './kernel-file.ts';
import { memoryOption } from './memory-size.ts';

export interface BurnCommandOptions {
  readonly target: BurnTargetName;
  readonly domains: readonly DomainName[];
  readonly keep: 'table' | 'copy';
  readonly fromBinary?: boolean;
  readonly memory?: number;
  readonly initrd?: string;
  readonly append?: string;
  readonly output: string;
  readonly json?: boolean;
}

/** The burned image, given the wedge; kernel and choice are checked before it is built. */
type Finish = (wedge: Uint8Array) => Uint8Array;
/** Puts the options of a target, checked, to a burned image. */
type Finisher = (finish: Finish, options: BurnCommandOptions) => Finish;

interface Burner {
  /** Path of the wedge, which may have to be built. */
  wedge(): Promise<string>;
  readonly finisher: Finisher;
}

const BURNERS: Readonly<Record<BurnTargetName, () => Promise<Burner>>> = {
  hosted: async () => {
    const { buildHostedWedge } = await import('../targets/hosted/build.ts');
    return {
      wedge: buildHostedWedge,
      finisher(finish, { memory, initrd, append }) {
        if (memory !== undefined || initrd !== undefined || append !== undefined)
          throw new UsageError(
            '--memory, --initrd and --append are for --target xen',
            `give them to previrt run`,
          );
        return finish;
      },
    };
  },
  xen: async () => {
    const [{ onMachine }, { buildXenWedge }] = await Promise.all([
      import('../targets/xen/target.ts'),
      import('../targets/xen/build.ts'),
    ]);
    return {
      wedge: buildXenWedge,
      finisher: (finish, { memory = DEFAULT_MEMORY, initrd, append = '' }) =>
        onMachine(finish, { memory, initrd: initrd === undefined ? undefined : readInput(initrd), append }),
    };
  },
};

interface Prepared {
  readonly finish: Finish;
  /** What was found in a kernel that is not annotated. */
  readonly found: string | undefined;
}

/** The burned module: it needs no wedge, which is its kernel's. */
async function burnedModule(
  path: string,
  bytes: Uint8Array,
  options: BurnCommandOptions,
): Promise<Uint8Array> {
  const { fromBinary, memory, initrd, append } = options;
  if (fromBinary)
    throw new UsageError(
      `${path}: a module; --from-binary is for kernels`,
      'the kernel that loads it has it disassembled',
    );
  if (memory !== undefined || initrd !== undefined || append !== undefined)
    throw new UsageError(
      `${path}: a module; --memory, --initrd and --append are for kernels`,
      'leave them out',
    );
  const { burnModule } = await import('../substitution/burn-module.ts');
  return inPlace(path, () => burnModule(bytes, options));
}

/** The burned kernel, and what was found in one that is not annotated. */
async function burnedKernel(
  path: string,
  bytes: Uint8Array,
  options: BurnCommandOptions,
): Promise<{ burned: Uint8Array; found: string | undefined }> {
  const { wedge, finisher } = await BURNERS[options.target]();
  const { finish, found } = await prepare(path, bytes, options);
  const complete = finisher(finish, options);
  const program = readInput(await wedge());
  return { burned: inPlace(path, () => complete(program)), found };
}

async function prepare(path: string, bytes: Uint8Array, options: BurnCommandOptions): Promise<Prepared> {
  if (options.fromBinary) {
    const { prepareBinaryBurn } = await import('../substitution/burn-binary.ts');
    const { file, image } = kernelIn(path, bytes);
    sayBefore(`disassembling ${path}`);
    const { discovery, missed, finish } = inPlace(path, () => prepareBinaryBurn(image, { ...options, file }));
    return { finish, found: formatDiscovery(path, discovery, missed) };
  }
  const { prepareBurn } = await import('../substitution/burn.ts');
  return { finish: inPlace(path, () => prepareBurn(bytes, options)), found: undefined };
}

export function registerBurn(program: Command): void {
  program
    .command('burn')
    .description("substitute a kernel's or a module's sites for a target")
    .argument(
      '<image>',
      'annotated kernel (vmlinux) or module; with --from-binary any kernel; for xen a machine state too',
    )
    .addOption(
      new Option('--target <name>', 'what the kernel shall run on')
        .choices(Object.keys(BURN_TARGETS))
        .makeOptionMandatory(),
    )
    .addOption(domainsOption())
    .addOption(
      new Option(
        '--from-binary',
        'a kernel that is not annotated, also as bzImage: what would fail silently is made to trap',
      ).conflicts('domains'),
    )
    .addOption(
      new Option('--keep <how>', 'keep the originals in the patch table, or a copy of the image')
        .choices(['table', 'copy'])
        .default('table'),
    )
    .addOption(memoryOption())
    .option('--initrd <file>', 'xen: initial RAM disk, which becomes part of the image')
    .option('--append <text>', 'xen: more arguments for the kernel')
    .requiredOption('-o, --output <file>', 'where to write what is burned')
    .option('--json', 'say what was done as JSON')
    .addHelpText(
      'after',
      `
A kernel burned for hosted runs with previrt run. One burned for xen is a
domain as it is: its memory, its initrd and its arguments are part of it, and
previrt xl-config prints what a toolstack needs. previrt unburn takes either
back, byte for byte.

A machine state (previrt snapshot) becomes a domain in which the guest goes on.

Modules (object files) are burned here only for a kernel that does not announce
what it loads (docs/annotation.md).`,
    )
    .action(async (image: string, options: BurnCommandOptions) => {
      if (isMachineState(image)) return burnState(image, options);
      const { burnReport } = await import('../substitution/burn-info.ts');
      const bytes = readInput(image);
      const { burned, found } = isObjectFile(bytes)
        ? { burned: await burnedModule(image, bytes, options), found: undefined }
        : await burnedKernel(image, bytes, options);
      const report = burnReport(burned);
      writeOutput(options.output, burned);
      besides(options.output).write(
        options.json
          ? `${JSON.stringify({ output: options.output, size: burned.length, ...report })}\n`
          : `${found ?? ''}${options.output}: burned ${plural(report.burned, 'site')} for ${report.target} (${report.domains.join(', ')}), ` +
              `left ${report.left}; ${formatBytes(burned.length)}\n`,
      );
    });
}
