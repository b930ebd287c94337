import { defineConfig } from 'vitest/config';

/** Files that measure time by the host's clock: one after the other, when all others are done. */
const ALONE = ['test/**/*.alone.test.ts'];

export default defineConfig({
  test: {
    // For machines that are busy; tests that boot guests name their own.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: ALONE,
          // A guest takes a processor: no more than two run at a time.
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
