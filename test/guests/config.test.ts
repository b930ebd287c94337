import { describe, expect, it } from 'vitest';
import { missingOptions } from '../../guests/linux/config.ts';

describe('missingOptions', () => {
  const config = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x y"\n';

  it('finds nothing where everything is as asked for', () => {
    expect(
      missingOptions('# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x y"\n', config),
    ).toEqual([]);
  });

  it('names what was dropped, changed or turned on', () => {
    const fragment = 'CONFIG_LOST=y\nCONFIG_C="z"\n# CONFIG_A is not set\n';
    expect(missingOptions(fragment, config)).toEqual(['CONFIG_LOST=y', 'CONFIG_C="z"', 'CONFIG_A=n']);
  });

  it('takes an option that the configuration does not mention for one that is not set', () => {
    expect(missingOptions('# CONFIG_D is not set\nCONFIG_E=n\n', config)).toEqual([]);
  });
});
