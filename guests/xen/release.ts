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

/**
 * Xen's versions: the release of Debian that has each, and a tarball of the
 * source that it had once, with its SHA-256, known from lists that apt checked:
 * a mirror may list what is newer and not have it yet.
 */
const RELEASES = {
  '4.14': {
    codename: 'bullseye',
    tarball: 'xen_4.14.6.orig.tar.xz',
    sha256: '6365e5435b9a18dbce3433ec27e5409d2b1a421d5f6aacfb06833f15d3d9aedd',
  },
  '4.17': {
    codename: 'bookworm',
    tarball: 'xen_4.17.5+72-g01140da4e8.orig.tar.xz',
    sha256: '53922f4d0a02c577f2ea9d63f65989cd88715779eebeed879ca1d314103ee06e',
  },
  '4.20': {
    codename: 'trixie',
    tarball: 'xen_4.20.3+127-gc42374a105.orig.tar.xz',
    sha256: 'df0831854a55a8f31cb3cb85036f2edc928e2ef098d77f815f5714bfafac68f3',
  },
} as const;
export type XenVersion = keyof typeof RELEASES;
export const XEN_VERSIONS = Object.keys(RELEASES) as XenVersion[];

/** Of package debian-archive-keyring: the keys of all releases, old and new. */
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** Of package apt: downloads single files as apt does, and checks them. */
const APT_HELPER = '/usr/lib/apt/apt-helper';

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

/** The mirror that this machine's apt uses. */
const machineMirror = async (): Promise<string> =>
  mirrorOf(await runProgram('apt-get', ['indextargets', 'Created-By: Packages']), codename());

/**
 * Makes downloads of a type (`deb` or `deb-src`) from the release with this
 * Xen, in `work`; nothing of apt's own stays there.
 */
async function fromRelease(
  version: XenVersion,
  type: 'deb' | 'deb-src',
  work: string,
  download: (apt: Apt) => Promise<void>,
): Promise<void> {
  const source = `${type} [signed-by=${KEYRING}] ${await machineMirror()} ${RELEASES[version].codename} main`;
  const root = join(work, 'apt');
  const options = privateOptions(root, [source]);
  const apt: Apt = (program, ...args) => runProgram(program, [...options, ...args], { cwd: work });
  try {
    await apt('apt-get', 'update', '--error-on=any');
    await download(apt);
  } finally {
    await rm(root, { recursive: true });
  }
}

/** Whether these messages of apt say that a mirror does not have what it lists. */
export const isLost = (messages: string): boolean => /^E: Failed to fetch .* 404 /m.test(messages);

/** Downloads the source that the release lists, or the known one, into `work`. */
async function downloadSource(version: XenVersion, work: string): Promise<void> {
  try {
    await fromRelease(version, 'deb-src', work, async (apt) => {
      await apt('apt-get', 'source', '--download-only', '--tar-only', 'xen');
    });
  } catch (error) {
    if (!(error instanceof ProgramFailure && isLost(error.output))) throw error;
    const { tarball, sha256 } = RELEASES[version];
    process.stderr.write(`The mirror does not have what it lists; taking ${tarball} instead.\n`);
    const place = `${(await machineMirror()).replace(/\/$/, '')}/pool/main/x/xen/${tarball}`;
    const options = ['-q', '-o', 'APT::Sandbox::User=root', 'download-file'];
    await runProgram(APT_HELPER, [...options, place, join(work, tarball), `SHA256:${sha256}`]);
  }
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
    step(`Downloading the source of Xen ${version}`, () => downloadSource(version, work)),
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
      fromRelease(version, 'deb', work, async (apt) => {
        const dependencies = await apt('apt-cache', 'depends', '--important', ...metaPackages);
        const named = [...dependencies.matchAll(/^ +Depends: (\S+)$/gm)].map((match) => match[1]!);
        await apt('apt-get', 'download', ...packages, ...named);
      }),
    ),
  );
}
