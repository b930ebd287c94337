/** Makes Debian's kernel with its initramfs and prints where they are: `tsx guests/linux/stock-main.ts FLAVOUR [--disk FILE]`. */

import { Argument, Command } from 'commander';
import { MEBIBYTE } from '../../src/machine/virtual-pc.ts';
import { runMain } from '../main.ts';
import { makeDisk } from './disk.ts';
import { FLAVOURS, type Flavour, STOCK_DISK_SIZE, stockKernel } from './stock.ts';

const command = new Command('stock')
  .addArgument(new Argument('<flavour>', "of Debian's kernel").choices(FLAVOURS))
  .option(
    '--disk <file>',
    `also makes an image of a disk with its root, of ${STOCK_DISK_SIZE / MEBIBYTE} MiB`,
  )
  .action(async (flavour: Flavour, { disk }: { disk?: string }) => {
    const { vmlinuz, initramfs, root } = await stockKernel(flavour);
    if (disk !== undefined) await makeDisk(disk, STOCK_DISK_SIZE, root);
    process.stdout.write(`${[vmlinuz, initramfs, root].join('\n')}\n`);
  });

await runMain(async () => {
  await command.parseAsync();
});
