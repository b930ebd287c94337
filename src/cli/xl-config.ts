/** `previrt xl-config`: what Xen's toolstack needs to start a kernel that is burned for it. */

import { basename, extname, resolve } from 'node:path';
import type { Command } from 'commander';
import { parseElf } from '../elf/image.ts';
import { CliError, inPlace } from './errors.ts';
import { readInput } from './files.ts';

interface XlConfigOptions {
  readonly name?: string;
  readonly disk?: string;
}

/** Characters that the toolstack takes in a domain's name. */
const NAME_CHARACTERS = /[^\w.+-]/g;

export function registerXlConfig(program: Command): void {
  program
    .command('xl-config')
    .description("print the configuration with which Xen's toolstack starts what is burned for it")
    .argument('<image>', 'kernel or machine state burned for xen')
    .option('--name <name>', 'of the domain (default: from the file name)')
    .option('--disk <file>', 'raw image or block device on the Xen host')
    .addHelpText(
      'after',
      `
On the Xen host, which must take 32-bit paravirtualized guests:
  previrt burn vmlinux --target xen --memory 256M --initrd initrd.gz -o guest
  previrt xl-config guest > guest.cfg
  xl create -c guest.cfg`,
    )
    .action(async (image: string, options: XlConfigOptions) => {
      const [{ domainMemory, machineIn }, { xlConfig }] = await Promise.all([
        import('../targets/xen/image.ts'),
        import('../targets/xen/xl-config.ts'),
      ]);
      const bytes = readInput(image);
      const machine = inPlace(image, () => machineIn(parseElf(bytes)));
      if (machine === undefined)
        throw new CliError(`${image}: not burned for xen`, 'burn it: previrt burn --target xen');
      if (machine.usesDisk && options.disk === undefined)
        throw new CliError(`${image}: the guest uses a disk`, 'give its image with --disk');
      process.stdout.write(
        xlConfig({
          name: options.name ?? basename(image, extname(image)).replace(NAME_CHARACTERS, '-'),
          kernel: resolve(image),
          memory: domainMemory(machine.memory),
          commandLine: '',
          disk: options.disk,
        }),
      );
    });
}
