/**
 * Golden files: `*.golden` holds sections introduced by a line `--- name`:
 * what is tested (before the first), `options` (JSON; `sources` are headers by
 * their paths), `input`, `output` and,
 * if there are any, `notes` (JSON). PREVIRT_UPDATE_GOLDEN=1 rewrites the outputs.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { annotate } from '../../src/assembly/annotator.ts';
import { kernelPolicy } from './kernel-policy.ts';

const folder = new URL('.', import.meta.url);

function parse(content: string): Map<string, string> {
  const sections = new Map<string, string>();
  let name = 'about';
  let lines: string[] = [];
  for (const line of content.split(/(?<=\n)/)) {
    const [, next] = /^--- (\w+)\n$/.exec(line) ?? [];
    if (next === undefined) {
      lines.push(line);
      continue;
    }
    sections.set(name, lines.join(''));
    name = next;
    lines = [];
  }
  return sections.set(name, lines.join(''));
}

describe('golden files', () => {
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.golden'))) {
    it(file, () => {
      const content = readFileSync(new URL(file, folder), 'latin1');
      const sections = parse(content);
      const { width = 32, sources = {}, ...policy } = JSON.parse(sections.get('options') ?? '{}');
      const readSource = (path: string): string | undefined => sources[path]?.join('\n');
      const annotated = (text: string) => annotate(text, { ...kernelPolicy, ...policy }, width, readSource);
      const result = annotated(sections.get('input') ?? '');
      if (process.env.PREVIRT_UPDATE_GOLDEN) {
        const head = content.slice(0, content.indexOf('--- output\n'));
        const notes = result.notes.length > 0 ? `--- notes\n${JSON.stringify(result.notes)}\n` : '';
        writeFileSync(new URL(file, folder), `${head}--- output\n${result.text}${notes}`, 'latin1');
        return;
      }
      expect(result.text).toBe(sections.get('output'));
      expect(result.notes).toEqual(JSON.parse(sections.get('notes') || '[]'));
      expect(annotated(result.text).text).toBe(result.text);
    });
  }
});
