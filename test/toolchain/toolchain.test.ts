/**
 * The cross toolchain against the real one: the same commands with the same
 * results, but for the sites. Everything runs in a folder of its own, with a
 * cache and a TMPDIR of its own, so that what is left behind shows.
 */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

// Compilers run in here; on a loaded machine that takes its time.
vi.setConfig({ testTimeout: 60_000 });

const bin = fileURLToPath(new URL('../../bin', import.meta.url));

const SENSITIVE = 'void f(void) { asm volatile("cli; hlt"); }\n';
const HARMLESS = 'int f(int x) { return x + 1; }\n';
const FILES: Record<string, string> = {
  'sensitive.c': SENSITIVE,
  'harmless.c': HARMLESS,
  'wrong.c': 'void f(void) { asm volatile("cli; bogus"); }\n',
  'жы.s': '\tcli\n\tbogus\n',
  'syntax.c': 'void f(void) {\n',
  'sensitive.s': '\t.text\nf:\tcli\n\tret\n',
  'wrong.s': '\tcli\n\tbogus\n',
  'macro.S': '#define OFF cli\n.macro m op\n\\op\n.endm\nm hlt\nOFF\n',
  'sensitive.cc':
    'struct S { static void f() { asm volatile("cli"); } };\nvoid g() { S::f(); }\ninline void h() { asm("hlt"); }\nvoid i() { h(); }\n',
  'harmless.s': '\tnop\n',
  'stride.s': 't: cli\n.fill t + 2 - ., 1, 0x90\n',
  'device.h': 'static inline void set(int *p) { *p = 1; }\n',
  'device.c': '#include "device.h"\nvoid f(int *p) { set(p); }\n',
  'args.rsp': '-m32 -O2 -c "sensitive.c" -o out.o\n',
  'as.rsp': '--32 sensitive.s -o out.o\n',
  'space name.c': SENSITIVE,
};

let folder: string;
let environment: NodeJS.ProcessEnv;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-toolchain-'));
  for (const name of ['work', 'tmp', 'cache', 'links', 'arch/x86/entry/vdso'].map((name) =>
    join(folder, name),
  )) {
    mkdirSync(name, { recursive: true });
  }
  for (const [name, content] of Object.entries(FILES)) writeFileSync(join(folder, 'work', name), content);
  execFileSync('mkfifo', [join(folder, 'work/pipe')]);
  environment = {
    ...process.env,
    TMPDIR: join(folder, 'tmp'),
    PREVIRT_CACHE: join(folder, 'cache'),
    CCACHE_DIR: join(folder, 'ccache'),
    LC_ALL: 'C',
  };
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
}

function run(command: string, input = '', tools = bin): Outcome {
  // `$P` is the toolchain's prefix.
  const result: SpawnSyncReturns<string> = spawnSync('sh', ['-c', command], {
    cwd: join(folder, 'work'),
    env: { ...environment, BIN: bin, P: tools === '' ? '' : `${tools}/previrt-` },
    input,
    encoding: 'utf8',
  });
  return {
    status: result.status,
    stdout: result.stdout,
    // Names of temporary files, and of the tool itself, differ.
    stderr: result.stderr.replace(/cc[A-Za-z0-9]{6}/g, 'ccXXXXXX'),
  };
}

/** How many site records an object has. */
function siteCount(object: string): number {
  const { stdout } = run(`readelf -SW ${object}`);
  const sizes = [...stdout.matchAll(/\.previrt\.sites\s+PROGBITS\s+\w+ \w+ (\w+)/g)];
  return sizes.reduce((sum, [, size]) => sum + Number.parseInt(size as string, 16) / 12, 0);
}

describe('like the real tools', () => {
  it.each([
    ['gcc --version'],
    ['gcc -dumpmachine'],
    ['gcc -print-file-name=include'],
    ['g++ --version'],
    ['as --version'],
    ['as --help'],
    ['ld --version'],
    ['ld -v'],
    ['readelf --version'],
    ['strings --version'],
    ['gcc -E sensitive.c'],
    ['gcc -m32 -O2 -S sensitive.c -o -'],
    ['gcc -c -x c /dev/null -o out.o'],
    ['gcc -c -x assembler /dev/null -o out.o'],
    ['gcc -Wa,--version -c -x assembler /dev/null -o out.o'],
    ['gcc -x assembler-with-cpp -E macro.S'],
    ['gcc -c wrong.c -o out.o'],
    ['gcc -pipe -c wrong.c -o out.o'],
    ['gcc -c syntax.c -o out.o'],
    ['gcc -c wrong.s -o out.o'],
    ['gcc -c nowhere.c -o out.o'],
    ['gcc -m32 -c sensitive.c -o /nowhere/out.o'],
    ['as --32 wrong.s -o out.o'],
    ['as --32 sensitive.s wrong.s -o out.o'],
    ['as --32 жы.s -o out.o'],
    ['as --32 nowhere.s -o out.o'],
    ['as --32 --bogus-option sensitive.s -o out.o'],
    ['as --32 -o'],
    ['ld --bogus-option'],
    ['nm nowhere.o'],
  ])('%s', (command) => {
    expect(run(`"$P"${command}`)).toEqual(run(`"$P"${command}`, '', ''));
  });

  it.each([
    ['as --32 -o out.o', '\tcli\n\tbogus\n'],
    ['as --32 -o out.o -', '\tcli\n\tbogus\n'],
    ['as --32 -o out.o', '\tnop\n\tbogus\n'],
    ['gcc -m32 -x c -c - -o out.o', FILES['wrong.c'] as string],
    ['gcc -m32 -pipe -x c -c - -o out.o', FILES['wrong.c'] as string],
  ])('%s with %j as standard input', (command, input) => {
    expect(run(`"$P"${command}`, input)).toEqual(run(`"$P"${command}`, input, ''));
  });

  it.each([['-m32'], ['-m64'], ['-m32 -g -pipe'], ['-m64 -O2 -g']])(
    'objects without sites, %s',
    (options) => {
      const build = `gcc ${options} -c harmless.c -o out.o && sha256sum out.o`;
      expect(run(`"$P"${build}`)).toEqual(run(build, '', ''));
    },
  );
});

describe('annotates', () => {
  it.each([
    ['gcc -m32 -c sensitive.c -o out.o', 2],
    ['gcc -m64 -O2 -g -c sensitive.c -o out.o', 2],
    ['gcc -m32 -pipe -c sensitive.c -o out.o', 2],
    ['gcc -m32 -c "space name.c" -o out.o', 2],
    ['gcc @args.rsp', 2],
    ['gcc -m32 -x c -c - -o out.o <sensitive.c', 2],
    ['gcc -m32 -c sensitive.s -o out.o', 1],
    ['gcc -m32 -c macro.S -o out.o', 2],
    ['gcc -m32 -x assembler-with-cpp -c - -o out.o <macro.S', 2],
    ['g++ -m32 -c sensitive.cc -o out.o', 2],
    ['g++ -m64 -O2 -ffunction-sections -c sensitive.cc -o out.o', 2],
    ['as --32 sensitive.s -o out.o', 1],
    ['as --32 -o out.o <sensitive.s', 1],
    ['as @as.rsp', 1],
    ['gcc -m32 -Wa,-defsym,X=1 -c sensitive.c -o out.o', 2],
    ['as --32 sensitive.s /dev/null -o out.o', 1],
    ['as --32 /dev/stdin -o out.o <sensitive.s', 1],
    ['gcc -m32 -x assembler -c /dev/stdin -o out.o <sensitive.s', 1],
    ['as --32 pipe -o out.o & cat sensitive.s >pipe; wait $!', 1],
  ])('%s', (command, sites) => {
    expect(run(`rm -f out.o; "$P"${command}`)).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(siteCount('out.o')).toBe(sites);
  });

  it('through a symbolic link, a relative path and PATH', () => {
    symlinkSync(join(bin, 'previrt-gcc'), join(folder, 'links/previrt-gcc'));
    const commands = [
      '../links/previrt-gcc -m32 -c sensitive.c -o out.o',
      'PATH=$PWD/../links:$PATH previrt-gcc -m32 -c sensitive.c -o out.o',
      'cd "$BIN" && ./previrt-gcc -m32 -c "$OLDPWD/sensitive.c" -o "$OLDPWD/out.o"',
    ];
    for (const command of commands) {
      expect(run(`rm -f out.o; ${command}`), command).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(siteCount('out.o'), command).toBe(2);
    }
  });

  it('behind ccache', () => {
    if (run('command -v ccache').status !== 0) return;
    for (let time = 0; time < 2; time++) {
      expect(run('rm -f out.o; ccache "$P"gcc -m32 -c sensitive.c -o out.o').status).toBe(0);
      expect(siteCount('out.o')).toBe(2);
    }
  });

  it('user code by the rule for its path', () => {
    const source = join(folder, 'arch/x86/entry/vdso/note.c');
    writeFileSync(
      source,
      'void f(void) { asm volatile("int $0x80; cpuid" ::: "eax", "ebx", "ecx", "edx"); }\n',
    );
    expect(run(`"$P"gcc -m32 -O2 -c ${source} -o out.o`).status).toBe(0);
    expect(siteCount('out.o')).toBe(1);
  });

  it.each(['-g1 -gdwarf-4', '-g1 -gdwarf-5'])('accesses by the lines of a relative header, %s', (options) => {
    const rules = { domains: ['mmio'], absoluteSections: [], discardedSections: [], files: [] };
    const accesses = [{ domain: 'mmio', file: 'device.h', functions: ['set'] }];
    writeFileSync(join(folder, 'accesses.json'), JSON.stringify({ ...rules, accesses }));
    const compile = `"$P"gcc -m32 -O2 ${options} -c device.c -o out.o`;
    expect(run(`rm -f out.o; PREVIRT_RULES=../accesses.json ${compile}`).status).toBe(0);
    expect(siteCount('out.o')).toBe(1);
  });

  it('in parallel from a cold cache, leaving nothing behind', async () => {
    const cold = join(folder, 'cold');
    const tmp = join(folder, 'cold-tmp');
    mkdirSync(tmp);
    const statuses = await Promise.all(
      [...Array(6).keys()].map(
        (job) =>
          new Promise((resolve) => {
            spawn(join(bin, 'previrt-gcc'), ['-m32', '-c', 'sensitive.c', '-o', `parallel${job}.o`], {
              cwd: join(folder, 'work'),
              env: { ...environment, PREVIRT_CACHE: cold, TMPDIR: tmp },
              stdio: 'ignore',
            }).on('close', resolve);
          }),
      ),
    );
    expect(statuses).toEqual(Array(6).fill(0));
    for (let job = 0; job < 6; job++) expect(siteCount(`parallel${job}.o`)).toBe(2);
    expect(readdirSync(tmp)).toEqual([]);
    const left = readdirSync(cold).filter((name) => !/^toolchain(-[0-9a-f]{64})?$/.test(name));
    expect(left).toEqual([]);
    const state = readdirSync(cold).find((name) => name.startsWith('toolchain-')) as string;
    // The server comes when it has started.
    await expect
      .poll(() => readdirSync(join(cold, state)).sort(), { timeout: 30_000 })
      .toEqual(['annotator.mjs', 'origins', 'patterns', 'server']);
  });
});

/** Runs the assembler, a tool that it calls replaced by a script; what is written to standard output. */
function withTool(name: string, script: string): string {
  const tools = mkdtempSync(join(folder, 'tools-'));
  writeFileSync(join(tools, name), `#!/bin/bash\n${script}\n`, { mode: 0o755 });
  const { status, stdout } = run(`rm -f out.o; PATH=${tools}:$PATH "$P"as --32 sensitive.s -o out.o`);
  expect(status).toBe(0);
  expect(siteCount('out.o')).toBe(1);
  return stdout;
}

describe('the resident annotator', () => {
  it('gets its token by no command line', () => {
    withTool('bash', 'exec /bin/bash "$@"');
    const server = join(folder, 'cache', run('ls ../cache | grep toolchain-').stdout.trim(), 'server');
    // The server of the call before has started.
    const token = run(`until [ -e ${server} ]; do sleep 0.1; done; cat ${server}`)
      .stdout.trim()
      .split(' ')[1];
    const commandLine = withTool('bash', 'echo "$@"; exec /bin/bash "$@"');
    expect(commandLine).toContain('sensitive.s');
    expect(commandLine).not.toContain(token);
  });

  it('keeps nothing open of the build that starts it, and finds a cache with a relative name', () => {
    const build = 'exec 20>held; "$P"as --32 sensitive.s -o out.o';
    const started = 'timeout 20 sh -c "until [ -e ../held-cache/toolchain-*/server ]; do sleep 0.1; done"';
    const open = 'ls -l /proc/[0-9]*/fd 2>&1 | grep -o "/dev/null$\\|$PWD/held$" | sort -u';
    const { stdout } = run(`PREVIRT_CACHE=../held-cache bash -c '${build}' && ${started} && ${open}`);
    expect(stdout).toBe('/dev/null\n');
  });

  it('is not believed when it has written nothing', () => {
    withTool('bash', 'exit 0');
  });
});

describe('guards', () => {
  it('makes a slot that outgrows its stride an error', () => {
    const { status, stderr } = run('"$P"as --32 stride.s -o out.o');
    expect(status).toBe(1);
    expect(stderr).toContain('stride.s:2: Error: attempt to move .org backwards');
  });

  it('places the records in a linked image without a warning, or a dynamic relocation', () => {
    const link =
      '"$P"gcc -m32 -fPIC -O2 -c sensitive.c -o out.o && "$P"ld -m elf_i386 -shared --orphan-handling=warn';
    expect(run(`${link} out.o -o out.so`)).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(siteCount('out.so')).toBe(2);
    expect(run('readelf -r out.so').stdout).toContain('There are no relocations');
  });

  it('discards the records of a discarded copy of an inline function', () => {
    const compile = '"$P"g++ -m32 -fno-pic -c';
    expect(
      run(
        `${compile} sensitive.cc -o out.o && ${compile} -Dg=g2 -Di=i2 sensitive.cc -o out2.o && ` +
          '"$P"ld -m elf_i386 -e 0 out.o out2.o -o out',
      ),
    ).toEqual({ status: 0, stdout: '', stderr: '' });
    expect([siteCount('out.o'), siteCount('out2.o'), siteCount('out')]).toEqual([2, 2, 2]);
  });

  it.each([
    ['{', 'JSON'],
    ['{"domains":["cpus"],"files":[]}', "unknown domain 'cpus'"],
  ])('reports a bad rule file in one line: %s', (content, message) => {
    const rules = join(folder, 'rules.json');
    writeFileSync(rules, content);
    const { status, stderr } = run(`PREVIRT_RULES=${rules} "$P"gcc -m32 -c sensitive.c -o out.o`);
    expect(status).not.toBe(0);
    const lines = stderr.trim().split('\n');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(rules);
    expect(lines[0]).toContain(message);
  });

  it('takes no source for harmless that it could not look through', () => {
    withTool('grep', 'exit 2');
  });

  it.each(['toolchain-*', 'toolchain-*/annotator.mjs', 'toolchain-*/patterns'])(
    'makes again what is gone from the cache: %s',
    (gone) => {
      const command = `rm -rf out.o ../cache/${gone}; "$P"as --32 sensitive.s -o out.o`;
      expect(run(command)).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(siteCount('out.o')).toBe(1);
    },
  );

  it.each(['', '-', 'harmless.s -'])(
    'assembles nothing of a source that there is no room for: %j',
    (inputs) => {
      const { status } = run(
        `ulimit -f 2; "$P"as --32 ${inputs} -o out.o`,
        `${'# comment\n'.repeat(1000)}\tnop\n`,
      );
      expect(status).not.toBe(0);
    },
  );

  it('names what to do if the cache cannot be written', () => {
    const { status, stderr } = run('PREVIRT_CACHE=/proc/none "$P"as --32 sensitive.s -o out.o');
    expect(status).toBe(1);
    expect(stderr).toContain('set PREVIRT_CACHE to a writable directory');
  });

  it('ships every tool a kernel build asks for', () => {
    const tools =
      'gcc g++ cpp as ld ar nm objcopy objdump strip readelf ranlib size strings addr2line c++filt gcov';
    const present = readdirSync(bin);
    for (const tool of tools.split(' ')) expect(present).toContain(`previrt-${tool}`);
    expect(readFileSync(join(bin, 'previrt-gcc'), 'utf8')).toMatch(/^#!\/bin\/sh\n/);
  });
});
