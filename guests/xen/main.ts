/** Builds Xen and prints where it is: `tsx guests/xen/main.ts VERSION [--debug]`. */

import { Argument, Command } from 'commander';
import { runMain } from '../main.ts';
import { buildXen, type XenOptions } from './hypervisor.ts';
import { XEN_VERSIONS, type XenVersion } from './release.ts';

const command = new Command('xen')
  .addArgument(new Argument('<version>', 'of Xen').choices(XEN_VERSIONS))
  .option('--debug', 'with assertions and more messages')
  .action(async (version: XenVersion, options: XenOptions) => {
    process.stdout.write(`${await buildXen(version, options)}\n`);
  });

await runMain(async () => {
  await command.parseAsync();
});
