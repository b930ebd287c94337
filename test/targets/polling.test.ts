/** A guest that takes no interrupts: it asks the UART whether something was typed. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { Guest } from '../boots/guest.ts';
import { smallGuest } from './small-guest.ts';

const TIMEOUT = 60_000;

const work = mkdtempSync(join(tmpdir(), 'previrt-polling-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

it.each(['hosted', 'xen', 'bare'])(
  'shows its prompt and reads what is typed on %s',
  async (target) => {
    const body = `mov $0x3f8, %edx; mov $'?', %al; outb %al, %dx
1:      mov $0x3fd, %edx; inb %dx, %al; test $1, %al; jz 1b
        mov $0x3f8, %edx; inb %dx, %al; outb %al, %dx`;
    const guest = new Guest([smallGuest(work, 'polls', 0, body), '--target', target, '--memory', '32M']);
    try {
      await guest.expect(/\?/, TIMEOUT / 2);
      guest.send('y');
      const { status, output } = await guest.end(TIMEOUT / 2);
      expect(output).toBe('?y');
      expect(status).toBe(0);
    } finally {
      await guest.close();
    }
  },
  TIMEOUT,
);
