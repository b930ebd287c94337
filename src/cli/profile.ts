/** `previrt profile`: where a run was trapped, by function; and what the next build needs of it. */

import type { Command } from 'commander';
import type { ProfiledStatement } from '../assembly/profile.ts';
import { formatTime } from '../report/counts.ts';
import { formatTable } from '../report/table.ts';
import type { TrappedPlace } from '../targets/counts.ts';
import { DOMAINS } from '../x86/site-kinds.ts';
import { CliError } from './errors.ts';
import { readInput } from './files.ts';

/** What `previrt run --profile` writes. */
export interface ProfileFile {
  readonly profile: 1;
  readonly places: readonly TrappedPlace[];
}

export const encodeProfile = (places: readonly TrappedPlace[]): Uint8Array =>
  Buffer.from(`${JSON.stringify({ profile: 1, places } satisfies ProfileFile)}\n`);

/** @throws CliError if it is not what `previrt run --profile` wrote */
function readProfileFile(path: string): ProfileFile {
  const fail = (): never => {
    throw new CliError(
      `${path}: not what previrt run --profile writes`,
      'make it with previrt run --profile FILE',
    );
  };
  let content: Partial<ProfileFile> | null;
  try {
    content = JSON.parse(Buffer.from(readInput(path)).toString('utf8')) as Partial<ProfileFile> | null;
  } catch (error) {
    if (error instanceof SyntaxError) return fail();
    throw error;
  }
  const numbers = (place: TrappedPlace): boolean =>
    [place.address, place.count, place.time].every((value) => Number.isSafeInteger(value) && value >= 0);
  const places = content?.profile === 1 && Array.isArray(content.places) ? content.places : fail();
  if (
    !places.every(
      (place) =>
        place !== null && typeof place === 'object' && numbers(place) && Object.hasOwn(DOMAINS, place.domain),
    )
  )
    return fail();
  return { profile: 1, places };
}

export function registerProfile(program: Command): void {
  program
    .command('profile')
    .description('show where a run was trapped, by function')
    .argument('<file>', 'what previrt run --profile wrote')
    .argument('<image>', 'the kernel that ran, burned or not')
    .option('--json', 'print what the next build needs, for PREVIRT_PROFILE')
    .addHelpText(
      'after',
      `
Accesses to device registers that trapped become sites of the next build with
  previrt profile FILE IMAGE --json >found.json
  PREVIRT_PROFILE=$PWD/found.json make ...`,
    )
    .action(async (file: string, image: string, options: { readonly json?: boolean }) => {
      const [{ openKernel }, { statementFinder }] = await Promise.all([
        import('./image.ts'),
        import('../sites/trapped.ts'),
      ]);
      const { places } = readProfileFile(file);
      const { elf, sites } = openKernel(image);
      const find = statementFinder(elf);
      const annotated = new Set(sites.map(({ address }) => address as number));
      const found = places
        .map((place) => ({ ...place, ...find(place.address), annotated: annotated.has(place.address) }))
        .sort((a, b) => b.time - a.time);
      if (options.json) {
        const statements = found.flatMap(({ domain, statement, annotated }): ProfiledStatement[] =>
          statement && !annotated && (domain === 'mmio' || domain === 'pagetable')
            ? [{ ...statement, domain }]
            : [],
        );
        process.stdout.write(`${JSON.stringify({ statements }, null, 2)}\n`);
        return;
      }
      const columns = [
        { title: 'function', align: 'left' },
        { title: 'address', align: 'left' },
        { title: 'domain', align: 'left' },
        { title: 'site', align: 'left' },
        { title: 'traps', align: 'right' },
        { title: 'time', align: 'right' },
      ] as const;
      const rows = found.map((place) => [
        ...[
          place.function || '(none)',
          place.address.toString(16),
          place.domain,
          place.annotated ? 'yes' : 'no',
        ],
        ...[place.count, formatTime(place.time)],
      ]);
      process.stdout.write(`${formatTable(columns, rows)}\n`);
    });
}
