import { describe, expect, it } from 'vitest';
import { bestOf, isSwitching, type Measurements, parseOsbench, slowdowns } from '../../bench/osbench.ts';
import { geometricMean, median } from '../../bench/timing.ts';

const CONSOLE = `[    0.113217] Run /init as init process
# osbench 32-bit
null_syscall      \t       233.7\tns
fork_sh_c         \t   1816790.7\tns
fork_cow_page     \t     10032.9\tns\r
[   12.388373] Out of memory: Killed process 27 (osbench) total-vm:66748kB
sha256_64M        \t       399.0\tms
memcpy_32M        \t     10952.9\tMB/s
previrt: script exited 0`.split('\n');

const measurements = (rows: Record<string, [number, string]>): Measurements =>
  new Map(Object.entries(rows).map(([name, [value, unit]]) => [name, { value, unit }]));

describe('osbench', () => {
  it('is read from a console, without what starts a program of the system', () => {
    expect(parseOsbench(CONSOLE)).toEqual(
      measurements({
        null_syscall: [233.7, 'ns'],
        fork_cow_page: [10032.9, 'ns'],
        sha256_64M: [399, 'ms'],
        memcpy_32M: [10952.9, 'MB/s'],
      }),
    );
  });

  it('has rows that switch address spaces and rows that do not', () => {
    const switching = ['pipe_rt', 'yield_2proc', 'fork_exit', 'fork_exec', 'vfork_exec', 'fork_cow_page'];
    const staying = ['null_syscall', 'stat', 'anon_fault_page', 'sig_deliver', 'memcpy_32M'];
    expect([...switching, ...staying].filter(isSwitching)).toEqual(switching);
  });

  it('keeps the best of each row: the least time, the greatest rate', () => {
    const first = measurements({ stat: [9, 'ns'], memcpy_32M: [100, 'MB/s'] });
    const second = measurements({ stat: [8, 'ns'], memcpy_32M: [90, 'MB/s'], pipe_rt: [5, 'ns'] });
    const third = measurements({ stat: [10, 'ns'], memcpy_32M: [95, 'MB/s'] });
    expect(bestOf([first, second, third])).toEqual(
      measurements({ stat: [8, 'ns'], memcpy_32M: [100, 'MB/s'], pipe_rt: [5, 'ns'] }),
    );
  });

  it('compares times and rates the same way, where both sides have the row', () => {
    const native = measurements({ stat: [2, 'ns'], memcpy_32M: [100, 'MB/s'], open_close: [1, 'ns'] });
    const guest = measurements({ stat: [6, 'ns'], memcpy_32M: [50, 'MB/s'], null_int80: [1, 'ns'] });
    expect(slowdowns(guest, native)).toEqual(
      new Map([
        ['stat', 3],
        ['memcpy_32M', 2],
      ]),
    );
  });
});

describe('several times', () => {
  it('have a median', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(3);
    expect(() => median([])).toThrow();
  });

  it('have a geometric mean', () => {
    expect(geometricMean([2, 8])).toBeCloseTo(4);
    expect(geometricMean([0.5, 2])).toBeCloseTo(1);
  });
});
