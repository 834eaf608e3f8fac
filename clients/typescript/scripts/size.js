/** Prints how large each entry is when a bundler has put it into a page, in bytes: minified, and with gzip at level 9. */
import { gzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What a page uses of each entry. */
export const ENTRIES = {
  '`.` (`EsimStatus`)': "export { EsimStatus } from 'esim-status-client'",
  '`/browser`, only `follow`': "export { follow } from 'esim-status-client/browser'",
  '`/browser`': "export * from 'esim-status-client/browser'",
  '`/react` (`useEsim`)': "export { useEsim } from 'esim-status-client/react'",
  '`/element` (`<esim-install>`)': "import 'esim-status-client/element'",
};

/** The code that a page loads if it has this source. React is not counted: the page has it anyway. */
export async function bundle(source) {
  const output = await build({
    root,
    configFile: false,
    logLevel: 'error',
    plugins: [{
      name: 'source',
      resolveId: (id) => (id === 'virtual:entry' ? `${root}virtual-entry.js` : null),
      load: (id) => (id === `${root}virtual-entry.js` ? source : null),
    }],
    build: {
      write: false,
      minify: true,
      rolldownOptions: { input: 'virtual:entry', external: ['react'], preserveEntrySignatures: 'strict' },
      modulePreload: false,
    },
  });
  return output.output[0].code;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [entry, source] of Object.entries(ENTRIES)) {
    const code = await bundle(source);
    const sizes = [code.length, gzipSync(code, { level: 9 }).length].map((size) => `${(size / 1_000).toFixed(1)} kB`);
    console.log(`| ${entry} | ${sizes.join(' | ')} |`);
  }
}
