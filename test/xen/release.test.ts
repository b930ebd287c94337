import { expect, test } from 'vitest';
import { bzImagePayload } from '../../guests/xen/dom0.ts';
import { isLost, mirrorOf } from '../../guests/xen/release.ts';

const target = (fields: Readonly<Record<string, string>>): string =>
  Object.entries(fields)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');

test("the mirror is that of the machine's own release", () => {
  const targets = [
    { 'Repo-URI': 'https://a/', Release: 'nodistro', Component: 'main' },
    { 'Repo-URI': 'https://b/', Release: 'bookworm', Component: 'contrib' },
    { 'Repo-URI': 'https://c/', Release: 'bookworm', Component: 'main', Label: 'Somebody' },
    { 'Repo-URI': 'https://d/', Release: 'bookworm-security', Component: 'main', Label: 'Debian-Security' },
    { 'Repo-URI': 'https://e/debian/', Release: 'bookworm', Component: 'main', Label: 'Debian' },
  ];
  expect(mirrorOf(targets.map(target).join('\n'), 'bookworm')).toBe('https://e/debian/');
});

test('the mirror before the lists are fetched', () => {
  const text = target({ 'Repo-URI': 'https://e/', Release: 'bookworm', Component: 'main' });
  expect(mirrorOf(text, 'bookworm')).toBe('https://e/');
});

test('no mirror', () => {
  expect(() => mirrorOf('', 'bookworm')).toThrow('apt has no source for main of Debian bookworm');
});

test('what a mirror has lost is told from a mirror that does not answer', () => {
  const messages = (reason: string): string =>
    `Err:1 http://e/debian trixie/main xen 4.20.4 (tar)\nE: Failed to fetch http://e/xen.orig.tar.xz  ${reason}\nE: Failed to fetch some archives.`;
  expect(isLost(messages('404  Not Found [IP: 203.0.113.80 80]'))).toBe(true);
  expect(isLost(messages("Temporary failure resolving 'e'"))).toBe(false);
  expect(isLost(messages('503  Service Unavailable'))).toBe(false);
});

test("a bzImage's payload", () => {
  const image = Buffer.alloc(3 * 512 + 100);
  image.writeUInt8(2, 0x1f1);
  image.writeUInt32LE(8, 0x248);
  image.writeUInt32LE(9, 0x24c);
  image.write('xz...', 3 * 512 + 8);
  expect(bzImagePayload(image).toString()).toBe('xz...');
});
