/**
 * How fast a kernel is burned and unburned, in one process and as a command.
 * `tsx bench/burn.ts [VMLINUX] [--json]`; without a kernel one of the size of
 * Linux 6.1 is made: 5 MB, 5,500 sites.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { formatTable } from '../src/report/table.ts';
import { burn } from '../src/substitution/burn.ts';
import { unburn } from '../src/substitution/unburn.ts';
import { DOMAINS, type DomainName } from '../src/x86/site-kinds.ts';
import { FIXTURE_SITES, linkImage, sitesText } from '../test/sites/fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', 'bin', 'previrt');
const RUNS = 9;

export interface BurnTime {
  readonly name: string;
  /** Milliseconds: the first time, and the median of the later ones. */
  readonly first: number;
  readonly median: number;
}

const syntheticKernel = (): Uint8Array =>
  linkImage({
    text: sitesText(Array.from({ length: 5500 }, (_, index) => FIXTURE_SITES[index % FIXTURE_SITES.length]!)),
    embedded: new Uint8Array(5e6).fill(1),
  });

function measure(name: string, body: () => void): BurnTime {
  const times = Array.from({ length: RUNS }, () => {
    const start = performance.now();
    body();
    return performance.now() - start;
  });
  const later = times.slice(1).sort((a, b) => a - b);
  return { name, first: times[0]!, median: later[later.length >> 1]! };
}

export function benchBurn(kernel: Uint8Array = syntheticKernel()): BurnTime[] {
  const options = {
    target: 'hosted',
    domains: Object.keys(DOMAINS) as DomainName[],
    keep: 'table',
    wedge: new Uint8Array(0),
  } as const;
  const directory = mkdtempSync(join(tmpdir(), 'previrt-bench-'));
  try {
    const [image, burned] = [join(directory, 'vmlinux'), join(directory, 'burned')];
    writeFileSync(image, kernel);
    const bytes = burn(kernel, options);
    return [
      measure('burn', () => burn(kernel, options)),
      measure('unburn', () => unburn(bytes)),
      measure('previrt burn', () =>
        execFileSync(PREVIRT, ['burn', image, '--target', 'hosted', '-o', burned]),
      ),
      measure('previrt unburn', () => execFileSync(PREVIRT, ['unburn', burned, '-o', image])),
      measure('previrt inspect', () => execFileSync(PREVIRT, ['inspect', image])),
      measure('previrt --help', () => execFileSync(PREVIRT, ['--help'])),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const path = process.argv.slice(2).find((argument) => !argument.startsWith('-'));
  const rows = benchBurn(path === undefined ? undefined : readFileSync(path));
  const table = formatTable(
    [
      { title: 'what', align: 'left' },
      { title: 'first ms', align: 'right' },
      { title: 'median ms', align: 'right' },
    ],
    rows.map(({ name, first, median }) => [name, first.toFixed(0), median.toFixed(0)]),
  );
  process.stdout.write(process.argv.includes('--json') ? `${JSON.stringify(rows)}\n` : `${table}\n`);
}
