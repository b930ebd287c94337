/** The generated C headers of the Xen wedge. Pure: file name to text. */

import { HYPERCALL_PAGE, XEN_HOLE } from '../../substitution/entries.ts';
import { define, guarded, hex, wedgeHeaders } from '../wedge-headers.ts';

const constants = (): string =>
  [define('HYPERCALL_PAGE', hex(HYPERCALL_PAGE)), define('XEN_HOLE', hex(XEN_HOLE))].join('');

/** Every header by its path under the include directory. */
export const xenHeaders = (): ReadonlyMap<string, string> =>
  new Map([...wedgeHeaders(XEN_HOLE), ['generated/xen.h', guarded('XEN_LAYOUT_H', constants())]]);
