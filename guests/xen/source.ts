/**
 * Xen's source as Debian publishes it, for several of Debian's releases: from
 * the mirror that this machine's apt already uses, checked by apt against
 * Debian's keys, with state of its own, so that nothing of the machine changes.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../src/elf/input-error.ts';
import { cachedFolder } from '../cache.ts';
import { runProgram, step } from '../steps.ts';

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

/** apt with one source and state in `root`. */
function privateOptions(root: string, source: string): string[] {
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    mkdirSync(join(root, folder), { recursive: true });
  const [list, status] = [join(root, 'sources.list'), join(root, 'status')];
  writeFileSync(list, `${source}\n`);
  writeFileSync(status, '');
  const settings = {
    // apt's own user may not write to the cache.
    'APT::Sandbox::User': 'root',
    'Acquire::Retries': '3',
    'Dir::Etc::sourcelist': list,
    'Dir::Etc::sourceparts': '-',
    'Dir::State': join(root, 'state'),
    'Dir::State::status': status,
    'Dir::Cache': join(root, 'cache'),
  };
  return ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
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
 * patches: of the hypervisor they change the banner only, and mirrors lose
 * those files of older releases.
 */
export async function xenSource(version: XenVersion): Promise<XenSource> {
  const release = RELEASES[version];
  const folder = await cachedFolder(`xen/source-${version}`, (work) =>
    step(`Downloading the source of Xen ${version}`, async (report) => {
      const targets = await runProgram('apt-get', ['indextargets', 'Created-By: Packages']);
      const source = `deb-src [signed-by=${KEYRING}] ${mirrorOf(targets, codename())} ${release} main`;
      const root = join(work, 'apt');
      const apt = (...args: string[]): Promise<string> =>
        runProgram('apt-get', [...privateOptions(root, source), ...args], { cwd: work });
      report(`the index of ${release}`);
      await apt('update', '--error-on=any');
      report('the tarball');
      await apt('source', '--download-only', '--tar-only', 'xen');
      await rm(root, { recursive: true });
    }),
  );
  const name = readdirSync(folder).find((file) => TARBALL.test(file));
  if (!name)
    throw new InputError(`${folder} holds no source of Xen`, 'remove it, so that it is downloaded again');
  return { path: join(folder, name), version: TARBALL.exec(name)![1]! };
}
