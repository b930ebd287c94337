/** What directives have changed where a statement stands: the code's width, the syntax, the section. */

import type { Policy } from './policy.ts';

export interface Section {
  readonly executable: boolean;
  /** Its code runs away from the address that it is linked at. */
  readonly absolute: boolean;
  /** What is in it has no sites: the linker throws it away, or it is data, be it a template of code. */
  readonly ignored: boolean;
}

/** What a macro's body must not change outside of it. */
interface Place {
  readonly width: 16 | 32 | 64;
  readonly foreign: boolean;
  readonly section: Section;
  readonly previous: Section;
  /** What `.pushsection` saved last. */
  readonly pushed: Pushed | undefined;
}

type Pushed = Pick<Place, 'section' | 'previous' | 'pushed'>;

/** Sections whose flags the assembler knows without being told. */
const CODE_SECTION = /^\.(text|init|fini)(\.|$)|\.text(\.|$)/;
const DATA_SECTION = /^\.(ro)?data(\.|$)/;

export class AssemblerState {
  private readonly policy: Policy;
  private readonly flags = new Map<string, string>();
  private readonly outside: Place[] = [];
  private place: Place;

  constructor(policy: Policy, width: Place['width']) {
    this.policy = policy;
    const section = this.describe('.text', undefined);
    this.place = { width, foreign: false, section, previous: section, pushed: undefined };
  }

  get width(): Place['width'] {
    return this.place.width;
  }

  /** The same object until another section is entered. */
  get section(): Section {
    return this.place.section;
  }

  /** 32- and 64-bit code in AT&T syntax, in a section that is not ignored. */
  get readable(): boolean {
    const { foreign, width, section } = this.place;
    return !foreign && width !== 16 && !section.ignored;
  }

  setWidth(width: Place['width']): void {
    this.place = { ...this.place, width };
  }

  /** Whether what follows is not AT&T syntax. */
  setForeign(foreign: boolean): void {
    this.place = { ...this.place, foreign };
  }

  enter(name: string, flags?: string): void {
    this.place = { ...this.place, previous: this.place.section, section: this.describe(name, flags) };
  }

  push(name: string, flags: string | undefined): void {
    const { section, previous, pushed } = this.place;
    this.place = { ...this.place, pushed: { section, previous, pushed } };
    this.enter(name, flags);
  }

  pop(): void {
    this.place = { ...this.place, ...this.place.pushed };
  }

  swap(): void {
    const { section, previous } = this.place;
    this.place = { ...this.place, section: previous, previous: section };
  }

  beginMacro(): void {
    this.outside.push(this.place);
  }

  endMacro(): void {
    this.place = this.outside.pop() ?? this.place;
  }

  private describe(name: string, flags: string | undefined): Section {
    if (flags !== undefined) this.flags.set(name, flags);
    const known = this.flags.get(name);
    const among = (sections: readonly string[]) =>
      sections.some((section) => name === section || name.startsWith(`${section}.`));
    const executable = known?.includes('x') ?? CODE_SECTION.test(name);
    return {
      executable,
      absolute: among(this.policy.absoluteSections),
      ignored: among(this.policy.discardedSections) || (!executable && DATA_SECTION.test(name)),
    };
  }
}
