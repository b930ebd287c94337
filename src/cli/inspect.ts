/** `previrt inspect`: the sites of a kernel by domain, kind, section and function. */

import type { Command } from 'commander';

interface InspectOptions {
  readonly json?: boolean;
}

export function registerInspect(program: Command): void {
  program
    .command('inspect')
    .description("count a kernel's sites by domain, kind, section and function")
    .argument('<image>', 'annotated kernel (vmlinux), burned or not')
    .option('--json', 'print everything, each site included, as JSON')
    .action(async (image: string, options: InspectOptions) => {
      const [{ openKernel }, { inspection, formatInspection }] = await Promise.all([
        import('./image.ts'),
        import('../report/inspection.ts'),
      ]);
      const report = inspection(openKernel(image));
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : formatInspection(image, report));
    });
}
