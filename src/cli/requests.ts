/** What may be asked of a run through its control socket, and who does it. */

import { isAbsolute } from 'node:path';
import { InputError } from '../elf/input-error.ts';
import { type DiskLock, elsewhere } from '../migration/elsewhere.ts';
import type { Asked, Session, Stopped } from '../migration/session.ts';
import { type ReceiveOptions, takesUp } from '../targets/target.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import type { Answerer } from './control.ts';
import { type Wanted, writeState } from './state-file.ts';
import { findTarget, TARGETS } from './targets.ts';

/** What of a run stays as it is when its guest moves. */
export type Lasting = Pick<ReceiveOptions, 'disk' | 'elf' | 'ramSize'>;

/** Where a guest is to go on: as the options of `previrt run`. */
export interface Place {
  readonly target: string;
  readonly machine?: string | undefined;
  readonly domain?: 'dom0' | 'domU' | undefined;
}

export interface Snapshot extends Stopped {
  /** That the file takes. */
  readonly bytes: number;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isDomain = (name: unknown): name is DomainName =>
  typeof name === 'string' && Object.hasOwn(DOMAINS, name);
const isText = (value: unknown): value is string => typeof value === 'string';
const isPlace = (value: unknown): value is Place =>
  isObject(value) &&
  isText(value.target) &&
  Object.hasOwn(TARGETS, value.target) &&
  [undefined, 'dom0', 'domU'].includes(value.domain as string | undefined) &&
  (value.machine === undefined || isText(value.machine));

/** Whether the guest is to end need not be said. */
type Asking = Omit<Wanted, 'end'> & Partial<Pick<Wanted, 'end'>>;

const isWanted = (value: unknown): value is Asking =>
  isObject(value) &&
  isText(value.file) &&
  isAbsolute(value.file) &&
  typeof value.compress === 'boolean' &&
  [undefined, false, true].includes(value.end as boolean | undefined);

/** A command of the shell that leads to another machine. */
interface Way {
  readonly through: string;
}

const isWay = (value: unknown): value is Way => isObject(value) && isText(value.through);

async function move(
  session: Session,
  { target: name, machine: version, domain }: Place,
  lasting: Lasting,
  asked: Asked,
): Promise<object> {
  const target = await findTarget(name, version);
  if (!takesUp(target)) throw new InputError(`a guest cannot be taken up on ${name} ${version}`);
  const { resume, receive } = target;
  // What is built then takes longer than the guest waits for.
  await target.prepare?.({ ...lasting, domain });
  return session.move(
    receive
      ? { receive: (ready) => (surroundings) => receive({ ...surroundings, ...lasting, domain, ready }) }
      : {
          resume: (machine) => (surroundings) => resume!({ ...surroundings, ...lasting, domain, machine }),
          features: target.features,
        },
    asked,
  );
}

const snapshot = (
  session: Session,
  { file, compress, end = false }: Asking,
  { calledOff }: Asked,
): Promise<Snapshot> =>
  session.standStill((machine) => ({ bytes: writeState(machine, { file, compress, end }) }), {
    end,
    calledOff,
  });

/** @throws InputError from what it returns, for what is no request */
export const answerer =
  (session: Session, lasting: Lasting, image: DiskLock): Answerer =>
  async (request, asked) => {
    if (isObject(request)) {
      const { reburn, migrate, snapshot: wanted } = request;
      if (Array.isArray(reburn) && reburn.every(isDomain)) return session.reburn(reburn);
      if (isPlace(migrate)) return move(session, migrate, lasting, asked);
      if (isWay(migrate)) return session.move(elsewhere(migrate.through, lasting.ramSize, image), asked);
      if (isWanted(wanted)) return snapshot(session, wanted, asked);
    }
    throw new InputError(
      `a request is {"reburn": [domains]}, {"migrate": {"target": name}}, {"migrate": {"through": command}} or {"snapshot": {"file": path, "compress": false}}; domains: ${Object.keys(DOMAINS).join(', ')}`,
    );
  };
