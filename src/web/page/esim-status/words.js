
/** Which language the element speaks, and how it gets the texts. Titles and details come from the service. Part of esim-status.js. */

/** The languages of the service. English is in this module; the page loads the file of another one if its user reads it. */
const LANGUAGES = [
  'en', 'de', 'fr', 'es', 'it', 'pt-BR', 'nl', 'pl', 'tr', 'ru', 'uk', 'ar', 'he', 'vi', 'zh-Hans', 'zh-Hant', 'ja', 'ko',
];
const RIGHT_TO_LEFT = ['ar', 'he'];

/** The language of ours that a tag such as `pt-PT` names, if any, by the rules of the service (`src/texts/language.rs`). */
function languageOf(tag) {
  const [primary, ...rest] = tag.trim().toLowerCase().split(/[-_]/);
  if (primary === 'zh') {
    const isTraditional = !rest.includes('hans') && rest.some((part) => ['hant', 'hk', 'mo', 'tw'].includes(part));
    return isTraditional ? 'zh-Hant' : 'zh-Hans';
  }
  const known = primary === 'iw' ? 'he' : primary;
  return LANGUAGES.find((language) => language.split('-')[0] === known);
}

/** The first language of ours that these tags name. */
function preferred(tags) {
  return tags.map((tag) => languageOf(tag ?? '')).find(Boolean) ?? 'en';
}

/** The texts of a language. What a file of an earlier release lacks is English. */
async function textsOf(base, language, signal) {
  const load = () => within(signal, TEXTS, async (ending) => {
    // The page preloads the same request, so it must not differ in its mode.
    const response = await fetch(new URL(`assets/esim-status.${language}.json`, base), { signal: ending });
    if (!response.ok) throw new Failure(`the texts were answered ${response.status}`, { status: response.status });
    return response.json();
  });
  const texts = await load().catch(() => signal.aborted || load());
  return merged(ENGLISH, texts);
}

/** Texts with some of them replaced. Of a group of texts, those that are not replaced stay. */
function merged(texts, replaced) {
  const isGroup = (value) => value?.constructor === Object;
  const entries = Object.entries(replaced).map(([name, value]) => {
    return [name, isGroup(value) && isGroup(texts[name]) ? { ...texts[name], ...value } : value];
  });
  return { ...texts, ...Object.fromEntries(entries) };
}

/** A text with its placeholders filled in. A page may also replace a text by a function of the values. */
function fill(text, values) {
  if (typeof text === 'function') return text(...Object.values(values));
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');
}
