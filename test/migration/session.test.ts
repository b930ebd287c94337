/**
 * A session between runs that only note what is asked of them: what comes after
 * what, and that there are never two running copies, whatever goes wrong.
 */

import type { Readable } from 'node:stream';
import { setImmediate as breathe } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/elf/input-error.ts';
import type { Features } from '../../src/machine/features.ts';
import { memoryRam, PAGE_SIZE } from '../../src/machine/ram.ts';
import { FEATURE_WORDS } from '../../src/machine/state.ts';
import { type Asked, type Destination, Session, type Surroundings } from '../../src/migration/session.ts';
import type { RunningGuest, RunStatus } from '../../src/targets/target.ts';
import { machineOf } from '../machine/state-fixture.ts';

const KNOWN: Features = FEATURE_WORDS.map(() => 1);
const LESS: Features = FEATURE_WORDS.map(() => 0);
const RAM = new Uint8Array(8 * PAGE_SIZE).fill(7);
const ALL_PAGES = Uint8Array.of(0xff);

/** All that may go wrong on the way, in order. */
const STEPS = ['target begins', 'log', 'page', 'log again', 'stop', 'rest', 'state', 'target runs'] as const;
type Step = (typeof STEPS)[number];

function later<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** What happens, in order; and in which run the guest is executed. */
class Scene {
  readonly events: string[] = [];
  /** The run in which the guest is executed. */
  where: string | undefined;
  /** Is told of each step before it is done. */
  readonly #before: (step: Step) => Promise<void> | void;

  constructor(before: (step: Step) => Promise<void> | void = () => {}) {
    this.#before = before;
  }

  /** What was read, and in which run. */
  get read(): string[] {
    return this.events.filter((event) => event.includes('reads'));
  }

  #step(step: Step): Promise<void> | void {
    this.events.push(step);
    return this.#before(step);
  }

  #runsIn(name: string): void {
    expect(this.where).toBeUndefined();
    this.where = name;
  }

  #stop(): void {
    this.#step('stop');
    this.where = undefined;
  }

  /** A guest in a run, which ends when it is told to. */
  async #run(
    name: string,
    { signal, attach, console }: Surroundings,
    begin: () => Promise<void> | void,
  ): Promise<RunStatus> {
    const end = later<RunStatus>();
    const abort = (): void => {
      if (this.where === name) this.where = undefined;
      end.resolve(1);
    };
    signal.addEventListener('abort', abort);
    (console.input as Readable)
      .on('data', (bytes) => this.events.push(`${name} reads ${bytes}`))
      .on('end', () => this.events.push(`${name} reads no more`));
    let logs = 0;
    const guest: RunningGuest = {
      reburn: () => Promise.reject(new InputError('not here')),
      features: async () => KNOWN,
      written: async () => {
        this.#step(logs === 0 ? 'log' : 'log again');
        return { ram: memoryRam(RAM), pages: logs++ === 0 ? undefined : ALL_PAGES };
      },
      forgetWritten: async () => void this.events.push('forget'),
      stop: async () => {
        this.#stop();
        return { ...machineOf(RAM), written: ALL_PAGES };
      },
      goOn: async () => {
        this.#runsIn(name);
        this.events.push(`${name} goes on`);
      },
      letGo: () => {
        expect(this.where).not.toBe(name);
        end.resolve(0);
      },
    };
    await begin();
    if (!signal.aborted) {
      this.#runsIn(name);
      attach(guest);
    }
    const status = await end.promise;
    this.events.push(`${name} ends`);
    return status;
  }

  /** @param ends what becomes of the first run when it has ended */
  session(ends: (status: RunStatus) => RunStatus = (status) => status): Session {
    const start = async (surroundings: Surroundings) =>
      ends(await this.#run('source', surroundings, () => {}));
    const console = { input: 0, output: 1, messages: 2, terminal: false };
    return new Session(start, console, new AbortController().signal);
  }

  /**
   * @param features of its processor
   * @param prepare what it does before it begins
   */
  target(
    features: Features = KNOWN,
    prepare: (lives: () => void) => Promise<void> = async () => {},
  ): Destination {
    const await_ =
      (...[ready, lives]: Parameters<Extract<Destination, { receive: unknown }>['receive']>) =>
      (surroundings: Surroundings) =>
        this.#run('target', surroundings, async () => {
          await prepare(lives);
          this.#step('target begins');
          const state = later<void>();
          surroundings.signal.addEventListener('abort', () => state.resolve());
          ready({
            features,
            write: async () => {
              await this.#step(this.events.includes('stop') ? 'rest' : 'page');
              await breathe();
            },
            takeUp: () => {
              this.#step('state');
              state.resolve();
            },
          });
          await state.promise;
          if (!surroundings.signal.aborted) this.#step('target runs');
        });
    return { receive: await_ };
  }
}

const asked = (calledOff = new AbortController().signal): Asked => ({ tell: () => {}, calledOff });

/** Fails at a step, once. */
const failingAt = (wanted: Step): Scene => {
  let failed = false;
  return new Scene((step) => {
    if (step !== wanted || failed) return;
    failed = true;
    throw new InputError(`${step} failed`);
  });
};

describe('a guest that moves', () => {
  it('is copied while it runs, stands still, and is let go when it runs there', async () => {
    const scene = new Scene();
    await scene.session().move(scene.target(), asked());
    expect(scene.events).toEqual([
      ...['target begins', 'log', 'page', 'log again', 'page'],
      ...['stop', 'rest', 'state', 'target runs', 'source ends'],
    ]);
    expect(scene.where).toBe('target');
  });

  it.each(STEPS)('goes on at the source if this goes wrong: %s', async (step) => {
    const scene = failingAt(step);
    const session = scene.session();
    const moved = session.move(scene.target(), asked());
    await expect(moved).rejects.toThrow(`${step} failed`);
    expect(scene.where).toBe('source');
    expect(scene.events).not.toContain('source ends');
    // Nobody reads the log any more; a stop has ended it.
    const at = STEPS.indexOf(step);
    expect(scene.events.includes('forget')).toBe(at >= STEPS.indexOf('log') && at <= STEPS.indexOf('stop'));
    // Nothing is left of it: the next one arrives.
    await session.move(scene.target(), asked());
    expect(scene.where).toBe('target');
    expect(scene.events.at(-1)).toBe('source ends');
  });

  it('says what to do if it could not move, as whoever refused it did', async () => {
    const refused = { receive: () => () => Promise.reject(new InputError('no disk', 'take --domain domU')) };
    await expect(new Scene().session().move(refused, asked())).rejects.toMatchObject({
      message: 'it did not go on there: no disk',
      advice: 'take --domain domU',
    });
  });

  it('is where it is though the run that it has left was killed', async () => {
    const scene = new Scene();
    const session = scene.session(() => {
      throw new InputError('killed');
    });
    let ended = false;
    const end = session.ended().finally(() => {
      ended = true;
    });
    end.catch(() => {});
    await session.move(scene.target(), asked());
    await breathe();
    expect([scene.where, ended]).toEqual(['target', false]);
  });

  it('does not stand still for a processor that lacks something', async () => {
    const scene = new Scene();
    await expect(scene.session().move(scene.target(LESS), asked())).rejects.toThrow(
      'the processor there lacks',
    );
    expect(scene.events).toEqual(['target begins', 'target ends']);
    expect(scene.where).toBe('source');
  });

  it.each(STEPS)('is where it can be when it is called off at this: %s', async (wanted) => {
    const off = new AbortController();
    const scene = new Scene((step) => {
      if (step === wanted) off.abort(new InputError('never mind'));
    });
    const moved = scene.session().move(scene.target(), asked(off.signal));
    const at = STEPS.indexOf(wanted);
    // Once its state is on the way, it may run there.
    const lands = at >= STEPS.indexOf('state');
    if (lands) await moved;
    else await expect(moved).rejects.toThrow('it did not go on there: never mind');
    expect(scene.where).toBe(lands ? 'target' : 'source');
    expect(scene.events.includes('stop')).toBe(at >= STEPS.indexOf('stop'));
    expect(scene.events.includes('source ends')).toBe(lands);
  });

  it('goes on at the source if nothing is taken any more where it goes', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const scene = new Scene((step) => {
        if (step === 'rest') {
          vi.advanceTimersByTimeAsync(60_000);
          return new Promise(() => {});
        }
      });
      const moved = scene.session().move(scene.target(), asked());
      await expect(moved).rejects.toThrow('nothing of the guest was taken there for 30 s');
      expect(scene.where).toBe('source');
    } finally {
      vi.useRealTimers();
    }
  });

  it('waits for a place that prepares for long, as long as that says so', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const scene = new Scene();
      const prepare = async (lives: () => void): Promise<void> => {
        for (let minute = 0; minute < 10; minute++) {
          await vi.advanceTimersByTimeAsync(60_000);
          lives();
        }
      };
      await scene.session().move(scene.target(KNOWN, prepare), asked());
      expect(scene.where).toBe('target');

      const silent = new Scene();
      const hang = async (): Promise<void> => void (await vi.advanceTimersByTimeAsync(130_000));
      const moved = silent.session().move(silent.target(KNOWN, hang), asked());
      await expect(moved).rejects.toThrow('nothing has been heard from there for 120 s');
      expect(silent.where).toBe('source');
    } finally {
      vi.useRealTimers();
    }
  });

  it('reads what is typed meanwhile where it is then', async () => {
    const scene = new Scene((step) => {
      if (step === 'log again') session.type(Buffer.from('before'));
      if (step === 'rest') session.type(Buffer.from('meanwhile'));
    });
    const session = scene.session();
    await session.move(scene.target(), asked());
    session.type(Buffer.from('after'));
    await breathe();
    expect(scene.read).toEqual(['source reads before', 'target reads meanwhile', 'target reads after']);
  });

  it('reads what was typed, and its end, where it was, if it could not move', async () => {
    const scene = new Scene((step) => {
      if (step !== 'rest') return;
      session.type(Buffer.from('meanwhile'));
      session.type(undefined);
      throw new InputError('no room');
    });
    const session = scene.session();
    await expect(session.move(scene.target(), asked())).rejects.toThrow('no room');
    await breathe();
    expect(scene.read).toEqual(['source reads meanwhile', 'source reads no more']);
  });

  it('lets nobody type without end while it cannot read', async () => {
    let room: Promise<unknown> | undefined;
    const scene = new Scene((step) => {
      if (step !== 'rest') return;
      expect(session.type(Buffer.alloc(1000))).toBeUndefined();
      room = session.type(Buffer.alloc(100_000));
      expect(room).toBeDefined();
    });
    const session = scene.session();
    await session.move(scene.target(), asked());
    await room;
  });
});

describe('a guest that stands still to be looked at', () => {
  const looked = (scene: Scene, end: boolean, look: () => object, calledOff?: AbortSignal) =>
    scene.session().standStill(look, { end, calledOff: asked(calledOff).calledOff });

  it.each([true, false])('ends then: %s', async (end) => {
    const scene = new Scene();
    const { stopped } = await looked(scene, end, () => {
      expect(scene.where).toBeUndefined();
      return {};
    });
    expect(stopped).toBeGreaterThanOrEqual(0);
    await breathe();
    expect(scene.events).toEqual(['stop', end ? 'source ends' : 'source goes on']);
  });

  it('goes on if the look fails, or is called off, even if it was to end', async () => {
    const failing = new Scene();
    const failed = looked(failing, true, () => {
      throw new InputError('no room');
    });
    await expect(failed).rejects.toThrow('no room');
    expect(failing.where).toBe('source');

    const off = new AbortController();
    const scene = new Scene();
    const look = (): object => {
      off.abort(new InputError('never mind'));
      return {};
    };
    await expect(looked(scene, true, look, off.signal)).rejects.toThrow('never mind');
    expect(scene.where).toBe('source');
  });

  it('does not stand still for what was called off before its turn', async () => {
    const off = new AbortController();
    off.abort(new InputError('never mind'));
    const scene = new Scene();
    await expect(looked(scene, true, () => ({}), off.signal)).rejects.toThrow('never mind');
    expect(scene.events).toEqual([]);
  });

  it('reads what is typed meanwhile when it goes on: its wedge waits for orders', async () => {
    const scene = new Scene();
    const session = scene.session();
    const look = async () => {
      session.type(Buffer.from('meanwhile'));
      await breathe();
      expect(scene.read).toEqual([]);
      return {};
    };
    await session.standStill(look, { end: false, calledOff: asked().calledOff });
    await breathe();
    expect(scene.events).toEqual(['stop', 'source goes on', 'source reads meanwhile']);
  });
});
