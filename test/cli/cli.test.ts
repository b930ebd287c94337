import { execFileSync, type StdioOptions, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { assembleObject, FIXTURE_SITES, linkImage, linkVdso, sitesText, siteText } from '../sites/fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');
const directory = mkdtempSync(join(tmpdir(), 'previrt-cli-'));
const path = (name: string) => join(directory, name);
const image = linkImage({ text: sitesText(), embedded: linkVdso() });
const COUNT = FIXTURE_SITES.length + 1;

function previrt(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(PREVIRT, args, {
    cwd: directory,
    encoding: 'utf8',
    env: { ...process.env, PREVIRT_DEBUG: '' },
  });
  return { status, stdout, stderr };
}

// The first burn may have to build the wedge.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

beforeAll(() => {
  writeFileSync(path('vmlinux'), image);
  previrt('--help'); // makes the bundle
});
beforeEach(() => {
  for (const name of readdirSync(directory)) if (name !== 'vmlinux') rmSync(path(name), { recursive: true });
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('burn and unburn', () => {
  test.each(['table', 'copy'])('--keep %s: there and back', (keep) => {
    expect(previrt('burn', 'vmlinux', '--target', 'hosted', '--keep', keep, '-o', 'burned')).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringContaining(`burned ${COUNT} sites for hosted`),
    });
    expect(previrt('unburn', 'burned', '-o', 'back')).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(path('back')).equals(image)).toBe(true);
    expect(readFileSync(path('burned')).equals(image)).toBe(false);
    expect(readdirSync(directory).sort()).toEqual(['back', 'burned', 'vmlinux']);
  });

  test('--json', () => {
    const { stdout } = previrt(
      'burn',
      'vmlinux',
      '--target=hosted',
      '--domains=cpu,entry',
      '--json',
      '-o',
      'burned',
    );
    expect(JSON.parse(stdout)).toMatchObject({
      output: 'burned',
      target: 'hosted',
      domains: ['cpu', 'entry'],
      keep: 'table',
      burned: COUNT - 3,
      left: 3,
    });
  });

  test('in place, through a symbolic link', () => {
    writeFileSync(path('kernel'), image);
    symlinkSync('kernel', path('link'));
    expect(previrt('burn', 'link', '--target', 'hosted', '-o', 'link').status).toBe(0);
    expect(previrt('unburn', 'kernel', '-o', 'link').status).toBe(0);
    expect(readFileSync(path('kernel')).equals(image)).toBe(true);
    expect(readdirSync(directory).sort()).toEqual(['kernel', 'link', 'vmlinux']);
  });
});

test.each([[['--domains', 'cpu']], [['--from-binary']]])('burn %s reads a pipe, once', (options) => {
  const burn = (from: string, to: string) =>
    `"${PREVIRT}" burn ${from} --target hosted ${options.join(' ')} -o ${to}`;
  const script = `mkfifo pipe; cat vmlinux >pipe & ${burn('pipe', 'piped')} && ${burn('vmlinux', 'burned')} && wait $!`;
  const { status, stderr } = spawnSync('bash', ['-c', script], {
    cwd: directory,
    encoding: 'utf8',
    timeout: 20_000,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(readFileSync(path('piped')).equals(readFileSync(path('burned')))).toBe(true);
});

describe('what is written', () => {
  test('to standard output has nothing else behind it', () => {
    previrt('burn', 'vmlinux', '--target', 'hosted', '-o', 'burned');
    const unburn = (redirection: string) =>
      spawnSync('sh', ['-c', `"${PREVIRT}" unburn burned -o /dev/stdout ${redirection}`], { cwd: directory });
    const piped = unburn('| cat');
    expect(piped.stdout.equals(image)).toBe(true);
    expect(piped.stderr.toString()).toMatch(/^\/dev\/stdout: as before burning/);
    expect(unburn('>back').stdout.toString()).toBe('');
    expect(readFileSync(path('back')).equals(image)).toBe(true);
  });

  const burn = (output: string) => previrt('burn', 'vmlinux', '--target', 'hosted', '-o', output);

  test('goes where a symbolic link leads, though nothing is there yet', () => {
    mkdirSync(path('folder'));
    symlinkSync('../kernel', path('folder/link'));
    expect(burn('folder/link').status).toBe(0);
    expect(lstatSync(path('folder/link')).isSymbolicLink()).toBe(true);
    expect(readdirSync(directory).sort()).toEqual(['folder', 'kernel', 'vmlinux']);
  });

  test.each([0o600, 0o666, 0o750])(
    'has the permissions of what it replaces, whatever the umask: %o',
    (mode) => {
      writeFileSync(path('kernel'), '');
      chmodSync(path('kernel'), mode);
      expect(burn('kernel').status).toBe(0);
      expect(statSync(path('kernel')).mode & 0o777).toBe(mode);
    },
  );

  test('may have the longest name that there is', () => {
    const name = 'k'.repeat(255);
    expect(burn(name).status).toBe(0);
    expect(readdirSync(directory).sort()).toEqual([name, 'vmlinux']);
  });

  test.each(['loop', 'loop/kernel'])('goes to no link that leads nowhere: %s', (name) => {
    symlinkSync('loop', path('loop'));
    expect(burn(name)).toMatchObject({
      status: 1,
      stderr: `previrt: cannot write ${name}: too many symbolic links\n`,
    });
  });
});

describe('a module', () => {
  beforeEach(() => writeFileSync(path('m.ko'), assembleObject(siteText(FIXTURE_SITES[0]!))));
  const burn = (...args: string[]) => previrt('burn', 'm.ko', '--target', 'xen', '-o', 'burned', ...args);

  test('there and back', () => {
    const { status, stderr, stdout } = burn('--json');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ target: 'xen', keep: 'copy', burned: 1, left: 0 });
    expect(previrt('unburn', 'burned', '-o', 'back').status).toBe(0);
    expect(readFileSync(path('back')).equals(readFileSync(path('m.ko')))).toBe(true);
  });

  test.each([
    [
      ['--from-binary'],
      'm.ko: a module; --from-binary is for kernels; the kernel that loads it has it disassembled',
    ],
    [['--memory', '64M'], 'm.ko: a module; --memory, --initrd and --append are for kernels; leave them out'],
  ])('%s', (args, why) => {
    expect(burn(...args)).toEqual({ status: 2, stdout: '', stderr: `previrt: ${why}\n` });
    expect(readdirSync(directory).sort()).toEqual(['m.ko', 'vmlinux']);
  });
});

describe('burned for xen', () => {
  const low = linkImage({ text: sitesText(), base: '0x1000000' });
  beforeEach(() => writeFileSync(path('kernel'), low));
  const burn = (...args: string[]) => previrt('burn', 'kernel', '--target', 'xen', '-o', 'burned', ...args);

  test.each(['table', 'copy'])('--keep %s: there and back, machine and all', (keep) => {
    writeFileSync(path('initrd'), 'files');
    expect(burn('--keep', keep, '--memory', '64M', '--initrd', 'initrd', '--append', 'quiet')).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringMatching(/burned \d+ sites for xen/),
    });
    expect(readFileSync(path('burned')).includes('reservetop=0xb800000 notsc vmalloc=56M quiet\0')).toBe(
      true,
    );
    expect(previrt('unburn', 'burned', '-o', 'back')).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(path('back')).equals(low)).toBe(true);
  });

  test('its machine is given when it is burned', () => {
    burn('--memory', '64M');
    for (const args of [
      ['--memory', '32M'],
      ['--initrd', 'kernel'],
      ['--append', 'quiet'],
    ])
      expect(previrt('run', 'burned', '--target', 'xen', ...args)).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(
          /has its memory, initrd and arguments in it; give them to previrt burn/,
        ),
      });
    expect(previrt('burn', 'kernel', '--target', 'hosted', '-o', 'other', '--memory', '64M')).toMatchObject({
      status: 2,
      stderr: 'previrt: --memory, --initrd and --append are for --target xen; give them to previrt run\n',
    });
    expect(readdirSync(directory).sort()).toEqual(['burned', 'kernel', 'vmlinux']);
  });

  test('xl-config', () => {
    burn('--memory', '64M');
    expect(previrt('xl-config', 'burned', '--name', 'guest', '--disk', '/dev/vg/guest')).toMatchObject({
      status: 0,
      stdout: [
        'name = "guest"',
        'type = "pv"',
        `kernel = "${path('burned')}"`,
        'memory = 81',
        'vcpus = 1',
        'disk = [ "format=raw, vdev=xvda, access=rw, target=/dev/vg/guest" ]',
        '',
      ].join('\n'),
    });
    expect(previrt('xl-config', 'vmlinux')).toMatchObject({
      status: 1,
      stderr: 'previrt: vmlinux: not burned for xen; burn it: previrt burn --target xen\n',
    });
  });
});

describe('inspect', () => {
  test('counts', () => {
    const { status, stdout } = previrt('inspect', 'vmlinux');
    expect(status).toBe(0);
    expect(stdout).toContain(`vmlinux: 32-bit, ${COUNT} sites, not burned`);
    expect(stdout).toMatch(/^portio +3$/m);
    expect(stdout).toMatch(/^mov_to_seg +cpu +2$/m);
    expect(stdout).toMatch(/^vdso:\.text +1$/m);
  });

  test('a burned kernel shows its original sites', () => {
    previrt('burn', 'vmlinux', '--target', 'hosted', '-o', 'burned');
    const before = JSON.parse(previrt('inspect', '--json', 'vmlinux').stdout);
    const after = JSON.parse(previrt('inspect', '--json', 'burned').stdout);
    expect(before.burned).toBeNull();
    expect(after.burned).toMatchObject({ target: 'hosted' });
    expect(after.sites).toEqual(before.sites);
  });
});

test.each(['inspect', 'audit', 'burn --from-binary --target=hosted -o out'])(
  'names in a file steer no terminal: %s',
  (command) => {
    // A function that has a site, code without one, and code that is none.
    const text = `.globl _start\n_start:\n${sitesText()}popfl\n.byte 0x0f, 0x0b, 0xff, 0xff\n`;
    const bytes = Buffer.from(linkImage({ text: text.replaceAll('_start', 'Znamed'), base: '0xc1000000' }));
    for (const [name, other] of [
      ['Znamed', '\x1b[2J\x07d'],
      ['.text\0', '.\x9bext\0'],
    ] as const)
      for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at))
        bytes.write(other, at, 'latin1');
    writeFileSync(path('kernel'), bytes);
    const { stdout, stderr } = previrt(...command.split(' '), 'kernel');
    expect(stderr).toBe('');
    expect(stdout).toContain('\\x1b[2J\\x07d');
    expect(stdout).not.toMatch(/[^\P{Cc}\n]/u);
  },
);

describe('audit', () => {
  test('nothing to say: status 0', () => {
    expect(previrt('audit', 'vmlinux')).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringContaining('0 sensitive instructions without a site, 0 more justified'),
    });
  });

  test('an instruction without a site: status 1, burned or not', () => {
    writeFileSync(path('kernel'), linkImage({ text: `${sitesText()}popfl\n` }));
    previrt('burn', 'kernel', '--target', 'hosted', '-o', 'burned');
    for (const name of ['kernel', 'burned']) {
      expect(previrt('audit', name)).toMatchObject({
        status: 1,
        stdout: expect.stringMatching(/^0xc1000080 {2}popf {2}_start \(\.text\) {2}popf$/m),
      });
      const { open, justified } = JSON.parse(previrt('audit', '--json', name).stdout);
      expect(open).toEqual([
        { address: '0xc1000080', kind: 'popf', instruction: 'popf', section: '.text', function: '_start' },
      ]);
      expect(justified).toEqual([]);
    }
  });

  test("a Linux kernel is judged by Linux's rules", () => {
    writeFileSync(
      path('kernel'),
      linkImage({ text: `.globl linux_banner\nlinux_banner:\n${sitesText()}xsaves (%edi)\n` }),
    );
    expect(previrt('audit', 'kernel')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('justified: '),
    });
  });
});

test.each([['inspect', 'vmlinux'], ['audit', '--json', 'vmlinux'], ['burn', '--help'], ['--version']])(
  'no room for what is said: %s',
  (...args) => {
    const full = openSync('/dev/full', 'w');
    const run = (stdio: StdioOptions) =>
      spawnSync(PREVIRT, args, { cwd: directory, stdio, encoding: 'utf8' });
    try {
      expect(run(['ignore', full, 'pipe'])).toMatchObject({
        status: 1,
        stderr: 'previrt: cannot write standard output: no space left\n',
      });
      expect(run(['ignore', 'pipe', full]).status).toBe(0);
      expect(run(['ignore', full, full]).status).toBe(1);
    } finally {
      closeSync(full);
    }
  },
);

describe('at a terminal', () => {
  const typed = (command: string, env: NodeJS.ProcessEnv = {}) =>
    spawnSync('script', ['-qec', `"${PREVIRT}" ${command}`, '/dev/null'], {
      cwd: directory,
      encoding: 'utf8',
      env: { ...process.env, ...env },
    }).stdout;

  test('what takes long says so before: building the wedge', () => {
    mkdirSync(path('bin'));
    writeFileSync(path('bin/gcc'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const env = { PREVIRT_CACHE: path('cache'), PATH: `${path('bin')}:${process.env.PATH}` };
    expect(typed('burn vmlinux --target hosted -o out', env)).toMatch(
      /^building the wedge for hosted \.\.\.\r\n.*gcc cannot build the wedge/,
    );
  });

  test('and disassembling', () => {
    expect(typed('burn vmlinux --from-binary --target hosted -o out')).toMatch(
      /^disassembling vmlinux \.\.\.\r\nvmlinux: /,
    );
  });
});

test('many first starts at once build one bundle', async () => {
  const { spawn } = await import('node:child_process');
  const cache = path('cache');
  const start = () =>
    new Promise<number | null>((resolve) => {
      spawn(PREVIRT, ['inspect', path('vmlinux')], {
        env: { ...process.env, PREVIRT_CACHE: cache },
        stdio: 'ignore',
      }).on('close', resolve);
    });
  expect(await Promise.all([start(), start(), start()])).toEqual([0, 0, 0]);
  expect(readdirSync(join(cache, 'cli'))).toHaveLength(1);
});

/** As `objcopy --only-keep-debug` leaves it: sections without their bytes. */
function onlyKeepDebug(bytes: Uint8Array): Uint8Array {
  const file = join(mkdtempSync(join(tmpdir(), 'previrt-debug-')), 'file');
  try {
    writeFileSync(file, bytes);
    execFileSync('objcopy', ['--only-keep-debug', file]);
    return readFileSync(file);
  } finally {
    rmSync(dirname(file), { recursive: true });
  }
}

describe('bad input is one line and leaves nothing behind', () => {
  const LARGE = join(mkdtempSync(join(tmpdir(), 'previrt-large-')), 'large');
  beforeAll(() => {
    writeFileSync(LARGE, '');
    truncateSync(LARGE, 2 ** 31);
  });
  afterAll(() => rmSync(dirname(LARGE), { recursive: true }));
  const cut = image.subarray(0, image.length / 2);
  const noSites = linkImage({ text: '.globl _start\n_start: ret\n' });
  // name, files, arguments, status, message
  test.each<[string, Record<string, Uint8Array | string>, string[], number, RegExp]>([
    ['no such file', {}, ['inspect', 'absent'], 1, /^previrt: cannot read absent: no such file/],
    ['no such file for xl', {}, ['xl-config', 'absent'], 1, /^previrt: cannot read absent: no such file/],
    [
      'no such kernel',
      {},
      ['resume', 'state', '--kernel', 'absent'],
      1,
      /^previrt: cannot read absent: no such file/,
    ],
    ['too large', {}, ['inspect', LARGE], 1, /^previrt: cannot read \S+: is larger than 2 GiB/],
    ['a directory', {}, ['inspect', '.'], 1, /cannot read \.: is a directory/],
    [
      'truncated',
      { cut },
      ['burn', 'cut', '--target', 'hosted', '-o', 'out'],
      1,
      /^previrt: cut: truncated: /,
    ],
    ['empty', { none: '' }, ['inspect', 'none'], 1, /^previrt: none: not an ELF file/],
    ['no ELF', { text: 'hello' }, ['inspect', 'text'], 1, /^previrt: text: not an ELF file/],
    [
      'no sites',
      { noSites },
      ['burn', 'noSites', '--target', 'hosted', '-o', 'out'],
      1,
      /no sites: .*CROSS_COMPILE/,
    ],
    [
      'only what debuggers want',
      { debug: onlyKeepDebug(image) },
      ['inspect', 'debug'],
      1,
      /^previrt: debug: no sites: section .previrt.sites has none in the file/,
    ],
    ['a 64-bit program', {}, ['burn', '/bin/true', '--target', 'hosted', '-o', 'out'], 1, /64-bit/],
    ['not burned', {}, ['unburn', 'vmlinux', '-o', 'out'], 1, /vmlinux: not burned/],
    [
      'no such directory',
      {},
      ['burn', 'vmlinux', '--target', 'hosted', '-o', 'a/b'],
      1,
      /cannot write a\/b: no such file or directory; create a first/,
    ],
    [
      'output is a directory',
      {},
      ['burn', 'vmlinux', '--target', 'hosted', '-o', '.'],
      1,
      /cannot write \.: is a directory/,
    ],
    [
      'full disk',
      {},
      ['burn', 'vmlinux', '--target', 'hosted', '-o', '/dev/full'],
      1,
      /cannot write \/dev\/full: no space left/,
    ],
    [
      'unknown target',
      {},
      ['burn', 'vmlinux', '--target', 'vmware', '-o', 'out'],
      2,
      /'vmware' is invalid. Allowed choices are hosted/,
    ],
    ['no target', {}, ['burn', 'vmlinux', '-o', 'out'], 2, /--target/],
    ['no output', {}, ['burn', 'vmlinux', '--target', 'hosted'], 2, /--output/],
    [
      'unknown domain',
      {},
      ['burn', 'vmlinux', '--target', 'hosted', '--domains', 'cpu,gpu', '-o', 'out'],
      2,
      /no domain 'gpu'/,
    ],
    [
      'cpu left out',
      {},
      ['burn', 'vmlinux', '--target', 'hosted', '--domains', 'portio', '-o', 'out'],
      2,
      /cpu cannot be left out/,
    ],
    ['unknown command', {}, ['bake'], 2, /unknown command 'bake'/],
    ['a move to nowhere', {}, ['migrate', 'control'], 2, /where to\?; give one of --to and --through/],
    [
      'a machine behind a command',
      {},
      ['migrate', 'control', '--through', 'cat', '--machine', '4.17'],
      2,
      /--machine and --domain go with --to; give them to the `previrt resume -` behind --through/,
    ],
  ])('%s', (_name, files, args, status, message) => {
    for (const [name, bytes] of Object.entries(files)) writeFileSync(path(name), bytes);
    const result = previrt(...args);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toMatch(/^previrt: [^\n]*\n$/);
    expect(result).toMatchObject({ status, stdout: '' });
    expect(readdirSync(directory).sort()).toEqual([...Object.keys(files), 'vmlinux'].sort());
  });
});

test('--version is that of the package', () => {
  const { version } = JSON.parse(
    readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8'),
  ) as { version: string };
  expect(previrt('--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
});
