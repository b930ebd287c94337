/** A whole build of the kernel through the toolchain, against one with the plain compiler. */

import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { configureKernel, type Variant } from '../../guests/linux/kernel.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result } from '../part.ts';
import { seconds } from '../timing.ts';

/**
 * One after the other, in an order that favours neither: what the first has
 * brought into the host's page cache, and a host that becomes slower.
 */
const ORDER: readonly Variant[] = ['plain', 'annotated', 'annotated', 'plain'];

/** Seconds that a build takes once it is configured. */
async function timedBuild(variant: Variant, folder: string): Promise<number> {
  const output = mkdtempSync(join(folder, 'build-'));
  try {
    return await seconds(await configureKernel(variant, output));
  } finally {
    rmSync(output, { recursive: true });
  }
}

async function run(folder: string): Promise<Result> {
  const times: Record<Variant, number[]> = { plain: [], annotated: [] };
  for (const variant of ORDER) times[variant].push(await timedBuild(variant, folder));
  const [plain, annotated] = [Math.min(...times.plain), Math.min(...times.annotated)];
  return {
    rows: [
      { what: 'build, annotated to plain', value: annotated / plain, unit: 'ratio', goal: GOALS.build },
      { what: 'annotated', value: annotated, unit: 's' },
      { what: 'plain', value: plain, unit: 's' },
    ],
  };
}

export const build: Part = {
  name: 'build',
  what: 'building the kernel, annotated to plain: two builds each, some ten minutes',
  run,
};
