/**
 * Follows one profile at several base URLs without a browser, and prints each state and status as a line of JSON. Run by
 * `follow.rs`.
 *
 *     node follow.mjs <module> <token> <base>…
 */

// Safari before 14.1 and Firefox before 105 lack this class.
delete globalThis.TextDecoderStream;

const [module, token, ...bases] = process.argv.slice(2);
const { follow } = await import(module);

for (const base of bases) {
  const say = (what) => console.log(JSON.stringify({ base, ...what }));
  follow(token, ({ state }) => say({ state }), { base, onStatus: (status) => say({ status }) });
}
