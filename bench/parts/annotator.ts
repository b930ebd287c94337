/** The annotator in its steady state, beside GNU as on the same files. */

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { step } from '../../guests/steps.ts';
import { annotate } from '../../src/assembly/annotator.ts';
import { parseRules, policyFor } from '../../src/assembly/policy.ts';
import { kernelCorpus } from '../corpus.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result } from '../part.ts';
import { median, seconds } from '../timing.ts';

const RULES = new URL('../../guests/linux/domains.json', import.meta.url);
/** Passes before those that count: the compiler of JavaScript needs some. */
const WARM_UP = 2;
const PASSES = 5;

async function run(): Promise<Result> {
  const folder = await kernelCorpus();
  const paths = readdirSync(folder).map((name) => join(folder, name));
  const texts = paths.map((path) => readFileSync(path, 'latin1'));
  const megabytes = texts.reduce((sum, text) => sum + text.length, 0) / 1e6;
  const policy = policyFor(parseRules(JSON.parse(readFileSync(RULES, 'utf8')), RULES.pathname), '');

  return step('Annotating and assembling', async () => {
    let sites = 0;
    const pass = (): void => {
      sites = 0;
      for (const text of texts) sites += annotate(text, policy, 32).sites;
    };
    // Starting the assembler is no part of its rate: measured with an empty source, and taken off.
    const assemble = (files: readonly string[]) => (): void => {
      for (const path of files) spawnSync('as', ['--32', '-o', '/dev/null', path], { stdio: 'ignore' });
    };
    for (let n = 0; n < WARM_UP; n++) pass();
    const [annotating, assembling, starting]: [number[], number[], number[]] = [[], [], []];
    for (let n = 0; n < PASSES; n++) {
      annotating.push(await seconds(pass));
      assembling.push(await seconds(assemble(paths)));
      starting.push(await seconds(assemble(paths.map(() => '/dev/null'))));
    }
    return {
      rows: [
        {
          what: 'annotator',
          value: megabytes / median(annotating),
          unit: 'MB/s',
          goal: GOALS.annotator,
        },
        { what: 'GNU as', value: megabytes / (median(assembling) - median(starting)), unit: 'MB/s' },
        { what: 'corpus', value: megabytes, unit: 'MB' },
        { what: 'files in it', value: paths.length, unit: 'count' },
        { what: 'sites in it', value: sites, unit: 'count' },
      ],
    };
  });
}

export const annotator: Part = {
  name: 'annotator',
  what: 'the annotator on the assembly text of the whole kernel, beside GNU as',
  run,
};
