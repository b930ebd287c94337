import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A guest takes a processor: no more than two run at a time.
    maxWorkers: 2,
    // For machines that are busy; tests that boot guests name their own.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
