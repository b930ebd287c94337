import { expect, test } from 'vitest';
import { bzImagePayload } from '../../guests/xen/dom0.ts';
import { MissingFromMirror, mirrorOf } from '../../guests/xen/release.ts';

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

test('what a mirror has lost is known by its message, and excuses nothing else', () => {
  const { message } = new MissingFromMirror('the source');
  expect(message).toMatch(/^the source is listed/);
  expect(MissingFromMirror.says(message)).toBe(true);
  for (const other of ['', 'no reason given', 'qemu-system-i386 is missing'])
    expect(MissingFromMirror.says(other)).toBe(false);
});

test("a bzImage's payload", () => {
  const image = Buffer.alloc(3 * 512 + 100);
  image.writeUInt8(2, 0x1f1);
  image.writeUInt32LE(8, 0x248);
  image.writeUInt32LE(9, 0x24c);
  image.write('xz...', 3 * 512 + 8);
  expect(bzImagePayload(image).toString()).toBe('xz...');
});
