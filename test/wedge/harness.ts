/** Parts of the wedge, compiled for this host, with a harness in C around them. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hostedHeaders } from '../../src/targets/hosted/headers.ts';

const WEDGE = fileURLToPath(new URL('../../wedge', import.meta.url));

const SANITIZED = ['-fsanitize=address,undefined', '-fno-sanitize-recover'];

interface Settings {
  /** Generated headers, by path. */
  readonly headers?: ReadonlyMap<string, string>;
  /** For gcc, in place of sanitizers. */
  readonly flags?: readonly string[];
  /** More of them. */
  readonly defines?: readonly string[];
}

export class Harness {
  readonly #folder: string;
  /** Path of the program. */
  readonly program: string;

  /**
   * @param name of NAME-harness.c
   * @param parts paths in wedge/
   * @throws with gcc's messages if it does not compile
   */
  constructor(
    name: string,
    parts: readonly string[],
    { headers = hostedHeaders(), flags = SANITIZED, defines = [] }: Settings = {},
  ) {
    this.#folder = mkdtempSync(join(tmpdir(), `previrt-${name}-`));
    this.program = join(this.#folder, 'harness');
    for (const [path, text] of headers) {
      const file = join(this.#folder, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
    const sources = [
      fileURLToPath(new URL(`./${name}-harness.c`, import.meta.url)),
      ...parts.map((part) => join(WEDGE, part)),
    ];
    const include = [`-I${this.#folder}`, `-I${WEDGE}`];
    execFileSync('gcc', [
      '-O1',
      '-g',
      '-w',
      ...flags,
      ...defines,
      ...include,
      '-o',
      this.program,
      ...sources,
    ]);
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
