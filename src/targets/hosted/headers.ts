/** The generated C headers of the hosted wedge. Pure: file name to text. */

import { ENTRY_END, HOSTED_END, LOW_CODE, LOW_WINDOW } from '../../substitution/entries.ts';
import { BOOT_FD, DISK_FD, RAM_FD } from '../boot-layout.ts';
import { define, guarded, hex, wedgeHeaders } from '../wedge-headers.ts';

const constants = (): string =>
  [
    define('LOW_CODE', hex(LOW_CODE)),
    define('LOW_WINDOW', hex(LOW_WINDOW)),
    define('HOSTED_END', hex(HOSTED_END)),
    define('BOOT_FD', String(BOOT_FD)),
    define('DISK_FD', String(DISK_FD)),
    define('RAM_FD', String(RAM_FD)),
  ].join('');

/** Every header by its path under the include directory. */
export const hostedHeaders = (): ReadonlyMap<string, string> =>
  new Map([...wedgeHeaders(ENTRY_END), ['generated/hosted.h', guarded('HOSTED_LAYOUT_H', constants())]]);
