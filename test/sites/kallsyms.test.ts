import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type KernelSymbol, readKallsyms } from '../../src/sites/kallsyms.ts';
import { isInText, kallsymsBytes, LAYOUTS, symbolsOf } from './kallsyms-fixture.ts';

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

const plain = (symbols: readonly KernelSymbol[]): string[] =>
  symbols.map(({ address, type, name }) => `${address.toString(16)} ${type} ${name}`);

describe(`kallsyms (PREVIRT_SEED=${SEED})`, () => {
  it.each(LAYOUTS)('are found wherever they lie: addresses %s', (layout) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 16, max: 1000 }),
        fc.uint8Array({ maxLength: 500 }),
        fc.uint8Array({ maxLength: 500 }),
        (count, before, behind) => {
          const symbols = symbolsOf(count);
          // Only chance could make a table of noise; an ascending address in front of a plain list would be one.
          const front = new Uint8Array(Math.ceil(before.length / 4) * 4 + 4);
          front.set(before);
          front.fill(0xff, front.length - 4);
          const table = kallsymsBytes(symbols, layout);
          const found = readKallsyms(Buffer.concat([front, table, behind]), isInText);
          expect(plain(found)).toEqual(plain(symbols));
        },
      ),
      { seed: SEED, numRuns: 30 },
    );
  });

  it('are none where there is no table', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => {
        expect(readKallsyms(bytes, isInText)).toEqual([]);
      }),
      { seed: SEED },
    );
  });

  it('damaged ones give none or others, and end', () => {
    const table = kallsymsBytes(symbolsOf(600), 'relative, in front');
    fc.assert(
      fc.property(fc.nat(table.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const bytes = Uint8Array.from(table);
        bytes[at] = byte;
        for (const { name } of readKallsyms(bytes, isInText)) expect(typeof name).toBe('string');
      }),
      { seed: SEED, numRuns: 500 },
    );
  });

  it('a table that offers a beginning at each word ends as well', () => {
    const table = kallsymsBytes(symbolsOf(200), 'relative, in front');
    const counts = new Uint8Array(2 ** 20);
    for (let at = 0; at < counts.length; at += 4) counts.set([0, 1, 1, 0], at);
    expect(readKallsyms(Buffer.concat([counts, table]), isInText).length).toBe(200);
    expect(readKallsyms(Buffer.concat([counts, table.subarray(1600)]), isInText)).toEqual([]);
    // The same with names as long as their lengths can say.
    for (let at = 0; at < counts.length; at += 4) counts.set([0x82, 0x7f, 0, 0], at);
    expect(readKallsyms(Buffer.concat([counts, table.subarray(1600)]), isInText)).toEqual([]);
  });
});
