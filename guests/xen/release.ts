/**
 * Xen as Debian's releases have it: from the mirror that this machine's apt
 * already uses, checked by apt against Debian's keys, with state of its own, so
 * that nothing of the machine changes and its own release does not matter.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../src/elf/input-error.ts';
import { plural } from '../../src/report/table.ts';
import { cachedFolder, hashOf } from '../cache.ts';
import { ProgramFailure, runProgram, step } from '../steps.ts';

/** Xen's versions and the release of Debian that has each. */
const RELEASES = { '4.14': 'bullseye', '4.17': 'bookworm', '4.20': 'trixie' } as const;
export type XenVersion = keyof typeof RELEASES;
export const XEN_VERSIONS = Object.keys(RELEASES) as XenVersion[];

/** Of package debian-archive-keyring: the keys of all releases, old and new. */
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The fields of deb822 paragraphs, as apt prints them. */
const paragraphs = (text: string): Map<string, string>[] =>
  text
    .split(/\n\n+/)
    .map(
      (paragraph) => new Map(paragraph.split('\n').map((line) => line.split(/: (.*)/s) as [string, string])),
    );

/**
 * Where apt gets this machine's release of Debian from.
 * @throws InputError if it is not Debian
 */
export function mirrorOf(targets: string, codename: string): string {
  const main = paragraphs(targets).find(
    (target) =>
      target.get('Release') === codename &&
      target.get('Component') === 'main' &&
      // Known once the lists have been fetched.
      (target.get('Label') ?? 'Debian') === 'Debian',
  );
  const mirror = main?.get('Repo-URI');
  if (!mirror)
    throw new InputError(`apt has no source for main of Debian ${codename}`, "add one to apt's sources");
  return mirror;
}

const codename = (): string =>
  /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';

/** apt with these sources and state in `root`. */
function privateOptions(root: string, sources: readonly string[]): string[] {
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    mkdirSync(join(root, folder), { recursive: true });
  const [list, status] = [join(root, 'sources.list'), join(root, 'status')];
  writeFileSync(list, sources.map((source) => `${source}\n`).join(''));
  writeFileSync(status, '');
  const settings = {
    // apt's own user may not write to the cache.
    'APT::Sandbox::User': 'root',
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    'Acquire::Retries': '3',
    'Dir::Etc::sourcelist': list,
    'Dir::Etc::sourceparts': '-',
    'Dir::State': join(root, 'state'),
    'Dir::State::status': status,
    'Dir::Cache': join(root, 'cache'),
  };
  return ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
}

/** Runs one of apt's programs in the folder that downloads go to; returns what it prints. */
type Apt = (program: 'apt-get' | 'apt-cache', ...args: readonly string[]) => Promise<string>;

/** A kind of package, in apt's words and in ours. */
type Kind = (typeof KINDS)[keyof typeof KINDS];
const KINDS = {
  source: { type: 'deb-src', what: 'source of' },
  packages: { type: 'deb', what: 'packages for' },
} as const;

const MISSING = 'is listed by the package mirror, which does not have it';

/** Nothing here can make up for what a mirror has lost, for a while. */
export class MissingFromMirror extends InputError {
  constructor(what: string) {
    super(`${what} ${MISSING}`, 'try again in some days, or take another version of Xen');
  }

  /** Whether this is the message of one. */
  static says(message: string): boolean {
    return message.endsWith(MISSING);
  }
}

/** In the messages of apt that a mirror has answered so. */
const NOT_FOUND = /^E: Failed to fetch .* 404 /m;

/**
 * Makes downloads from the release with this Xen, in `work`; nothing of apt's own stays there.
 * @throws MissingFromMirror if the mirror does not have what it lists
 */
async function fromRelease(
  version: XenVersion,
  { type, what }: Kind,
  work: string,
  download: (apt: Apt) => Promise<void>,
): Promise<void> {
  const targets = await runProgram('apt-get', ['indextargets', 'Created-By: Packages']);
  const source = `${type} [signed-by=${KEYRING}] ${mirrorOf(targets, codename())} ${RELEASES[version]} main`;
  const root = join(work, 'apt');
  const options = privateOptions(root, [source]);
  const apt: Apt = (program, ...args) => runProgram(program, [...options, ...args], { cwd: work });
  await apt('apt-get', 'update', '--error-on=any');
  try {
    await download(apt);
  } catch (error) {
    if (!(error instanceof ProgramFailure && NOT_FOUND.test(error.output))) throw error;
    throw new MissingFromMirror(`Debian ${RELEASES[version]}'s ${what} Xen ${version}`);
  }
  await rm(root, { recursive: true });
}

const TARBALL = /^xen_(.+)\.orig\.tar\.\w+$/;

export interface XenSource {
  /** Path of the tarball. */
  readonly path: string;
  /** Of the package's upstream part, such as 4.17.5+72-g01140da4e8. */
  readonly version: string;
}

/**
 * The upstream part of the source package, downloaded once. Not Debian's own
 * patches: of the hypervisor they change little more than the banner, and
 * mirrors lose those files of other releases.
 */
export async function xenSource(version: XenVersion): Promise<XenSource> {
  const folder = await cachedFolder(`xen/source-${version}`, (work) =>
    step(`Downloading the source of Xen ${version}`, () =>
      fromRelease(version, KINDS.source, work, async (apt) => {
        await apt('apt-get', 'source', '--download-only', '--tar-only', 'xen');
      }),
    ),
  );
  const name = readdirSync(folder).find((file) => TARBALL.test(file));
  if (!name)
    throw new InputError(`${folder} holds no source of Xen`, 'remove it, so that it is downloaded again');
  return { path: join(folder, name), version: TARBALL.exec(name)![1]! };
}

/** A folder with packages of the release, for amd64; of `metaPackages`, those that they depend on. */
export function releasePackages(
  version: XenVersion,
  packages: readonly string[],
  metaPackages: readonly string[],
): Promise<string> {
  return cachedFolder(`xen/packages-${version}-${hashOf([...packages, ...metaPackages])}`, (work) =>
    step(`Downloading ${plural(packages.length + metaPackages.length, 'package')} for Xen ${version}`, () =>
      fromRelease(version, KINDS.packages, work, async (apt) => {
        const dependencies = await apt('apt-cache', 'depends', '--important', ...metaPackages);
        const named = [...dependencies.matchAll(/^ +Depends: (\S+)$/gm)].map((match) => match[1]!);
        await apt('apt-get', 'download', ...packages, ...named);
      }),
    ),
  );
}
