/**
 * Bundles the command line for bin/previrt: `tsx bundle.ts DIRECTORY`.
 *
 * Modules that find files of the project beside themselves keep doing so: in
 * the bundle their `import.meta` still names the source they came from. Many
 * may build at once; the first to be ready wins and the others step back.
 */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';

const ROOT = join(import.meta.dirname, '..', '..');

const keepPlaces: Plugin = {
  name: 'keep-places',
  setup(bundler) {
    bundler.onLoad({ filter: /\/(src|guests)\/.*\.ts$|\/iced_x86\.js$/ }, ({ path }) => ({
      loader: path.endsWith('.ts') ? 'ts' : 'js',
      contents: readFileSync(path, 'utf8')
        .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)))
        .replaceAll('import.meta.filename', JSON.stringify(path))
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
        .replaceAll('__dirname', JSON.stringify(dirname(path))),
    }));
  },
};

async function bundle(directory: string): Promise<void> {
  const parent = dirname(directory);
  mkdirSync(parent, { recursive: true });
  const temporary = mkdtempSync(join(parent, '.new-'));
  try {
    await build({
      entryPoints: [join(ROOT, 'src/cli/main.ts')],
      outdir: temporary,
      bundle: true,
      splitting: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      // They load files from their own directories. The decoder does too, but takes
      // three times as long to load as a package: Node would scan it for its exports.
      external: ['v86', 'esbuild', 'tsx'],
      // Packages that are CommonJS ask for Node's own modules by require().
      banner: {
        js: "import { createRequire as previrtRequire } from 'node:module'; const require = previrtRequire(import.meta.url);",
      },
      logLevel: 'silent',
      plugins: [keepPlaces],
    });
    symlinkSync(join(ROOT, 'node_modules'), join(temporary, 'node_modules'));
    renameSync(temporary, directory);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(join(directory, 'main.js'))) throw error;
  }
}

const [directory] = process.argv.slice(2);
if (!directory) throw new Error('usage: bundle.ts DIRECTORY');
try {
  await bundle(directory);
} catch (error) {
  process.stderr.write(`previrt: cannot make the bundle ${directory}: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
