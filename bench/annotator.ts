/**
 * How fast the annotator is, on a corpus of compiler output, beside GNU as on
 * the same files in the same run.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { annotate, type CodeWidth } from '../src/assembly/annotator.ts';
import { parseRules, policyFor } from '../src/assembly/policy.ts';

export interface AnnotatorResult {
  readonly files: number;
  /** Bytes of all files. */
  readonly bytes: number;
  readonly sites: number;
  /** Rates in 10^6 bytes a second: the annotator in its steady state, and the assembler. */
  readonly annotator: number;
  readonly assembler: number;
}

const RULES = new URL('../guests/linux/domains.json', import.meta.url);
/** Passes before the one that counts: the compiler of JavaScript needs some. */
const WARM_UP = 2;

const seconds = (work: () => void): number => {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e9;
};

/** Measures over the `.s` files directly in a folder. Throws if there are none. */
export function benchAnnotator(folder: string, width: CodeWidth): AnnotatorResult {
  const paths = readdirSync(folder)
    .filter((name) => name.endsWith('.s'))
    .map((name) => join(folder, name));
  if (paths.length === 0)
    throw new Error(`${folder}: holds no .s files; build a kernel with -save-temps first`);
  const policy = policyFor(parseRules(JSON.parse(readFileSync(RULES, 'utf8')), RULES.pathname), '');
  const texts = paths.map((path) => readFileSync(path, 'latin1'));
  const bytes = texts.reduce((sum, text) => sum + text.length, 0);

  let sites = 0;
  const pass = () => {
    sites = 0;
    for (const text of texts) sites += annotate(text, policy, width).sites;
  };
  for (let n = 0; n < WARM_UP; n++) pass();
  const annotating = seconds(pass);

  // Starting the assembler is no part of the rate: measured with an empty source, and taken off.
  const assemble = (path: string) =>
    spawnSync('as', [`--${width}`, '-o', '/dev/null', path], { stdio: 'ignore' });
  const starting = seconds(() => paths.forEach(() => void assemble('/dev/null')));
  const assembling = seconds(() => paths.forEach((path) => void assemble(path)));
  return {
    files: paths.length,
    bytes,
    sites,
    annotator: bytes / annotating / 1e6,
    assembler: bytes / (assembling - starting) / 1e6,
  };
}
