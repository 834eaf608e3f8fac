/** Builds the package into `dist/`: the compiled sources, and the module of the service with its typings. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { followModule, wholeModule } from './module.js';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
rmSync('dist', { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc'], { stdio: 'inherit' });
writeFileSync('dist/esim-status.js', wholeModule);
writeFileSync('dist/follow.js', followModule);
for (const name of ['esim-status.d.ts', 'follow.d.ts']) copyFileSync(`src/${name}`, `dist/${name}`);
for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) copyFileSync(`../../${name}`, name);
