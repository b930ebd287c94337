/** What the wedge tells at the end of a run that counts (wedge/run/counts.c), taken out of its messages. */

import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import { COUNT_MARK } from './boot-layout.ts';

export interface DomainCounts {
  readonly domain: DomainName;
  /** Executions of burned sites that came to the wedge's C, and the nanoseconds they took there. */
  readonly sites: number;
  readonly siteTime: number;
  /** Instructions that trapped and were emulated, and the nanoseconds that took, without the host's own. */
  readonly traps: number;
  readonly trapTime: number;
  /** Entries of page tables that a flush found changed although no site had told. */
  readonly late: number;
}

/** An instruction that trapped. */
export interface TrappedPlace {
  /** Guest-virtual. */
  readonly address: number;
  readonly domain: DomainName;
  readonly count: number;
  /** Nanoseconds. */
  readonly time: number;
}

export interface Counts {
  readonly domains: readonly DomainCounts[];
  readonly places: readonly TrappedPlace[];
}

const LINE = new RegExp(`^${COUNT_MARK} (clock|domain|place)((?: [0-9a-f]+)+)$`);
const NAMES = new Map(Object.entries(DOMAINS).map(([name, id]) => [id as number, name as DomainName]));

export class CountsCollector {
  readonly #lines: { readonly kind: string; readonly numbers: readonly number[] }[] = [];
  #rest = '';

  /** Passes messages on without the lines that tell counts. Those may come in pieces. */
  filter(text: string): string {
    const lines = (this.#rest + text).split('\n');
    const last = lines.pop() as string;
    const whole = lines.filter((line) => !this.#take(line.replace(/\r$/, '')));
    const held = last !== '' && (last.startsWith(COUNT_MARK) || COUNT_MARK.startsWith(last));
    this.#rest = held ? last : '';
    return whole.map((line) => `${line}\n`).join('') + (held ? '' : last);
  }

  #take(line: string): boolean {
    const [, kind, numbers] = LINE.exec(line) ?? [];
    if (kind === undefined || numbers === undefined) return false;
    this.#lines.push({
      kind,
      numbers: numbers
        .trim()
        .split(' ')
        .map((digits) => Number.parseInt(digits, 16)),
    });
    return true;
  }

  /** What was counted; undefined if the wedge has not told. */
  counts(): Counts | undefined {
    const [cycles = 0, nanoseconds = 0] = this.#lines.find(({ kind }) => kind === 'clock')?.numbers ?? [];
    if (cycles === 0) return undefined;
    const time = (value: number): number => Math.round((value * nanoseconds) / cycles);
    return {
      domains: this.#of('domain').flatMap(
        ([id = 0, sites = 0, siteTime = 0, traps = 0, trapTime = 0, late = 0]) => {
          const domain = NAMES.get(id);
          return domain === undefined
            ? []
            : [{ domain, sites, siteTime: time(siteTime), traps, trapTime: time(trapTime), late }];
        },
      ),
      places: this.#of('place').flatMap(([address = 0, id = 0, count = 0, spent = 0]) => {
        const domain = NAMES.get(id);
        return domain === undefined ? [] : [{ address, domain, count, time: time(spent) }];
      }),
    };
  }

  #of(wanted: string): (readonly number[])[] {
    return this.#lines.filter(({ kind }) => kind === wanted).map(({ numbers }) => numbers);
  }
}
