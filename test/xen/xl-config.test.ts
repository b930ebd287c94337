import { expect, test } from 'vitest';
import { xlConfig } from '../../src/targets/xen/xl-config.ts';

const PLAIN = {
  name: 'guest',
  kernel: '/boot/guest',
  memory: 64 * 2 ** 20,
  commandLine: 'console=ttyS0',
} as const;

test('a domain without a disk', () => {
  expect(xlConfig(PLAIN)).toBe(
    [
      'name = "guest"',
      'type = "pv"',
      'kernel = "/boot/guest"',
      'extra = "console=ttyS0"',
      'memory = 64',
      'vcpus = 1',
      '',
    ].join('\n'),
  );
});

test('a disk and an initrd', () => {
  const text = xlConfig({ ...PLAIN, disk: '/dev/vg/guest', ramdisk: '/boot/initrd' });
  expect(text).toContain('ramdisk = "/boot/initrd"\n');
  expect(text).toContain('disk = [ "format=raw, vdev=xvda, access=rw, target=/dev/vg/guest" ]\n');
});

test('a domain that stays when it ends', () => {
  const events = ['on_poweroff', 'on_reboot', 'on_crash'];
  expect(xlConfig({ ...PLAIN, atEnd: 'preserve' })).toBe(
    xlConfig(PLAIN) + events.map((event) => `${event} = "preserve"\n`).join(''),
  );
});

test('memory in whole MiB, not less than asked for', () => {
  expect(xlConfig({ ...PLAIN, memory: 2 ** 20 + 1 })).toContain('memory = 2\n');
});

test('nothing ends a string but its end', () => {
  expect(xlConfig({ ...PLAIN, commandLine: 'a="b" \\ \n\xe9' })).toContain(
    'extra = "a=\\"b\\" \\\\ \\012\\303\\251"\n',
  );
});
