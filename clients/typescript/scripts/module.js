/** The module that the service serves as `/assets/esim-status.js`, put together in the same way as in `src/web/page/mod.rs`. */
import { readFileSync } from 'node:fs';

const page = new URL('../../../src/web/page/', import.meta.url);

const source = readFileSync(new URL('mod.rs', page), 'utf8');
const [, recipe] = /const MODULE: &str = concat!\(([\s\S]*?)\n\);/.exec(source) ?? [];
if (!recipe) throw new Error('src/web/page/mod.rs has another form: scripts/module.js cannot find the parts of the module');

const parts = [...recipe.matchAll(/include_str!\("([^"]+)"\)|"((?:[^"\\]|\\.)*)"/g)].map(([, name, text]) => (
  name ? { name, text: readFileSync(new URL(name, page), 'utf8') } : { name: '', text: JSON.parse(`"${text}"`) }
));

/** The whole module, which defines `<esim-install>`. */
export const wholeModule = parts.map(({ text }) => text).join('');

const first = parts.slice(0, 2);
if (first.map(({ name }) => name).join() !== 'esim-status/ask.js,esim-status/follow.js') {
  throw new Error('the module does not begin with ask.js and follow.js, of which /browser consists');
}

/** Its beginning, which is a module that exports `follow` and does nothing else. */
export const followModule = first.map(({ text }) => text).join('');
