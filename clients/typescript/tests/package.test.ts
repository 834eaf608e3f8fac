/** What the package consists of, and that it is what the service's own documents and modules say. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { PROBLEM_CODES } from 'esim-status-client';
import { baseUrl } from './service.js';

// The tests run in the folder of the package.
const read = (path: string): string => readFileSync(path, 'utf8');

interface Packed {
  filename: string;
  files: Array<{ path: string }>;
}

/** A backend. What it gets wrong must not compile. */
const BACKEND = `
  import { EsimStatus, EsimStatusError, type ProblemCode } from 'esim-status-client';

  const client = new EsimStatus({ baseUrl: 'https://esim.example.com', apiKey: 'key' });
  for await (const { iccid, overdue } of client.profiles({ state: 'ERROR' })) console.log(iccid.length, overdue);
  // @ts-expect-error: there is no such state
  client.profiles({ state: 'SINGING' });
  // @ts-expect-error: an ICCID is a string
  client.profile(89972123300991848961);
  // @ts-expect-error: the filter is missing
  client.lookUp({});
  const known: ProblemCode = 'unknown-profile';
  const isOne = (error: EsimStatusError) => error.code === known;
  // @ts-expect-error: there is no such code
  export const isOther = (error: EsimStatusError) => isOne(error) || error.code === 'not-found';
`;

interface Sizes {
  ENTRIES: Record<string, string>;
  bundle(source: string): Promise<string>;
}

function pack(...options: string[]): Packed {
  const said = execFileSync('npm', ['pack', '--json', '--ignore-scripts', ...options], { encoding: 'utf8' });
  const [packed] = JSON.parse(said) as Packed[];
  assert.ok(packed);
  return packed;
}

describe('the generated types', () => {
  it('are those of the documents', () => {
    execFileSync(process.execPath, ['scripts/generate.js', '--check'], { stdio: 'inherit' });
  });

  it('contain every code of the catalogue', () => {
    const catalogue = [...read('../../docs/problems.md').matchAll(/^## (.+)$/gm)].map(([, code]) => code);
    assert.deepEqual([...PROBLEM_CODES], catalogue);
  });

  it('have no operation that the client cannot call', () => {
    const entries = read('src/api.ts').matchAll(/^ {2}'([A-Z]+ \/\S+)': \{$/gm);
    const operations = [...entries].map(([, operation]) => operation ?? '');
    assert.ok(operations.length > 15);
    const client = read('src/client.ts');
    const missing = operations.filter((operation) => !client.includes(`'${operation}'`));
    // Streams are for browsers: `follow` reads them, and a backend waits by long polls.
    assert.deepEqual(missing, ['GET /v1/profiles/{iccid}/events']);
  });
});

describe('the module for browsers', () => {
  it('is the very module that the service serves, and its beginning', async () => {
    const answer = await fetch(`${baseUrl}/assets/esim-status.js`);
    const served = await answer.text();
    assert.equal(read('dist/esim-status.js'), served);
    assert.ok(served.startsWith(read('dist/follow.js')));
  });

  it('defines the element only where it is asked to', () => {
    assert.ok(read('dist/esim-status.js').includes('customElements.define'));
    assert.ok(!read('dist/follow.js').includes('customElements'));
  });
});

describe('the package', () => {
  it('contains what belongs into it, and nothing else', () => {
    const modules = readdirSync('src').filter((name) => !name.endsWith('.d.ts')).map((name) => name.replace('.ts', ''));
    const expected = [...modules, 'esim-status', 'follow'].flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`]);
    const paths = pack('--dry-run').files.map(({ path }) => path);
    assert.deepEqual(paths.sort(), [...expected, 'LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'package.json'].sort());
  });

  it('works where it is installed, without React, and has types for backends that know no DOM', () => {
    const folder = mkdtempSync(join(tmpdir(), 'esim-status-client-'));
    try {
      const { filename } = pack('--pack-destination', folder);
      const target = join(folder, 'node_modules/esim-status-client');
      mkdirSync(target, { recursive: true });
      execFileSync('tar', ['-xzf', join(folder, filename), '-C', target, '--strip-components=1']);
      const script = `
        const { EsimStatus } = await import('esim-status-client');
        const { follow, esimStore } = await import('esim-status-client/browser');
        await import('esim-status-client/element');
        console.log(typeof EsimStatus, typeof follow, typeof esimStore);`;
      const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: folder, encoding: 'utf8' });
      assert.equal(said, 'function function function\n');
      writeFileSync(join(folder, 'backend.mts'), BACKEND);
      const types = [join(process.cwd(), 'node_modules/@types')];
      const compilerOptions = {
        module: 'nodenext', lib: ['es2022'], strict: true, noEmit: true, types: ['node'], typeRoots: types,
      };
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['backend.mts'] }));
      execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', folder], { stdio: 'inherit' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('depends on nothing, and asks for React only where it is used', () => {
    const { dependencies, peerDependenciesMeta } = JSON.parse(read('package.json')) as Record<string, unknown>;
    assert.equal(dependencies, undefined);
    assert.deepEqual(peerDependenciesMeta, { react: { optional: true } });
    const users = readdirSync('dist').filter((name) => name.endsWith('.js') && /from 'react'/.test(read(`dist/${name}`)));
    assert.deepEqual(users, ['react.js']);
    for (const name of readdirSync('dist').filter((file) => file.endsWith('.js'))) {
      assert.ok(!/^(?:import|export) .*from '(?!\.\/|react')/m.test(read(`dist/${name}`)), name);
    }
  });

  it('is as small as its README says, and a page that uses nothing of it loads nothing of it', async () => {
    const { ENTRIES, bundle } = await import(join(process.cwd(), 'scripts/size.js')) as Sizes;
    assert.equal(await bundle("import 'esim-status-client'; import 'esim-status-client/react'"), '');
    const said = [...read('README.md').matchAll(/^\| (`.+) \| ([\d.]+) kB \| ([\d.]+) kB \|$/gm)];
    assert.deepEqual(said.map(([, entry]) => entry), Object.keys(ENTRIES));
    for (const [, entry = '', minified, compressed] of said) {
      const code = await bundle(ENTRIES[entry] ?? '');
      const sizes: Array<[number, number]> = [
        [Number(minified) * 1_000, code.length],
        [Number(compressed) * 1_000, gzipSync(code, { level: 9 }).length],
      ];
      for (const [expected, size] of sizes) assert.ok(Math.abs(size / expected - 1) < 0.1, `${entry} has ${size} bytes`);
    }
  });

  it('names no registry in what is committed', () => {
    for (const path of ['package-lock.json', 'package.json', '.npmrc']) {
      assert.ok(!/"resolved"|registry=|https?:\/\/[^"]*registry/.test(read(path)), path);
    }
  });

  it('has no any', () => {
    for (const name of readdirSync('src')) assert.ok(!/[:<] ?any\b|as any\b/.test(read(`src/${name}`)), name);
  });
});
