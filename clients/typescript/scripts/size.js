/** Prints how large each entry is when a bundler has put it into a page: minified, and with gzip at level 9. In bytes. */
import { gzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What a page uses of each entry. */
export const ENTRIES = {
  'esim-status-client': "export { EsimStatus } from 'esim-status-client'",
  'esim-status-client/browser (follow)': "export { follow } from 'esim-status-client/browser'",
  'esim-status-client/browser (all)': "export * from 'esim-status-client/browser'",
  'esim-status-client/react': "export { useEsim } from 'esim-status-client/react'",
  'esim-status-client/element': "import 'esim-status-client/element'",
  'nothing of them': ['', '/browser', '/react'].map((entry) => `import 'esim-status-client${entry}'`).join('\n'),
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
      rolldownOptions: { input: 'virtual:entry', external: ['react'], preserveEntrySignatures: 'strict', output: { format: 'es' } },
      modulePreload: false,
    },
  });
  return output.output[0].code;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [entry, source] of Object.entries(ENTRIES)) {
    const code = await bundle(source);
    console.log(`${entry.padEnd(36)} ${String(code.length).padStart(6)} minified ${String(gzipSync(code, { level: 9 }).length).padStart(6)} gzip`);
  }
}
