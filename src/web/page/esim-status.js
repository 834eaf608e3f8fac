/**
 * The browser's side of esim-status, in one module without dependencies.
 *
 *     import { follow } from 'https://esim.example.com/assets/esim-status.js';
 *     const following = follow(token, (profile) => console.log(profile.state));
 *
 *     <esim-install token="…"></esim-install>
 *
 * `follow` calls back whenever a profile changes; `<esim-install>` leads the profile's user to an installed eSIM. Both need an
 * access token, and find the service where this module came from. See docs/embedding.md.
 */

const HOME = new URL('..', import.meta.url).href;
const SECOND = 1000;

// ---------------------------------------------------------------------------------------------------------------- follow

/** Without a byte for this long, a stream is dead: the service sends a comment every 15 s. */
const SILENCE = 40 * SECOND;
/** A stream that holds its first byte back for this long is buffered by something on the way. */
const FIRST_BYTE = 8 * SECOND;
/** How long the service holds a long poll, in seconds. */
const WAIT = 30;
const POLL_EVERY = 8 * SECOND;
const LONGEST_PAUSE = 30 * SECOND;

/** The service cannot be used in this way: it refused, or something between changed what it said. */
class Failure extends Error {
  constructor(message, { status = 0, pause = 0 } = {}) {
    super(message);
    Object.assign(this, { status, pause });
  }
}

/** Asks the service as the profile's user. Resolves for 200 and 304 only. */
async function ask(base, path, token, { headers = {}, signal } = {}) {
  const response = await fetch(new URL(path.replace(/^\/+/, ''), base), {
    headers: { ...headers, Authorization: `Bearer ${token}` },
    cache: 'no-store',
    credentials: 'omit',
    referrerPolicy: 'no-referrer',
    signal,
  });
  if (response.ok || response.status === 304) return response;
  const pause = Number(response.headers.get('Retry-After')) * SECOND || 0;
  throw new Failure(`${path} was answered ${response.status}`, { status: response.status, pause });
}

/**
 * Follows a profile and calls `onChange(profile, transition)` with its first state and after every change; `transition` is
 * null where a change was not seen as it happened.
 *
 * It streams; where streams do not come through it polls, with the service holding the answer back until there is something
 * new, and where that fails too, every few seconds. It reconnects for ever, missing nothing, until `close()` or until the
 * token is no longer accepted.
 *
 * @param {string} token an access token, minted by your backend
 * @param {(profile: object, transition: object | null) => void} onChange
 * @param {object} [options]
 * @param {string} [options.base] where the service is; by default, where this module came from
 * @param {(status: string, reason: string) => void} [options.onStatus] told `live`, `polling`, `reconnecting` (reason `unknown`
 *   where the service knows no such profile) and `stopped` (reason `expired`)
 * @returns {{ close(): void }}
 */
export function follow(token, onChange, { base = HOME, onStatus = () => {} } = {}) {
  const home = new URL(base.replace(/\/*$/, '/'), HOME);
  const closing = new AbortController();
  const { signal } = closing;
  const seen = { seq: null, etag: null, profile: '' };
  let retry = SECOND;
  let status = '';
  let wake = () => {};

  const tell = (next, reason = '') => {
    if (signal.aborted || status === next + reason) return;
    status = next + reason;
    queueMicrotask(() => onStatus(next, reason));
  };
  const changed = (profile, transition = null) => {
    const text = JSON.stringify(profile);
    if (signal.aborted || text === seen.profile) return;
    seen.profile = text;
    // What goes wrong in there is not the connection's fault.
    queueMicrotask(() => signal.aborted || onChange(profile, transition));
  };
  const pause = (time) => new Promise((resume) => {
    const timer = setTimeout(resume, time * (0.75 + Math.random() / 2));
    wake = () => { clearTimeout(timer); resume(); };
  });
  /** Runs `work` with a signal that also ends it after `time`; `again` starts that time afresh. */
  const within = async (time, work) => {
    const ending = new AbortController();
    const end = () => ending.abort(new Failure('nothing came for too long'));
    let timer = setTimeout(end, time);
    const close = () => ending.abort(signal.reason);
    signal.addEventListener('abort', close);
    try {
      return await work(ending.signal, (more) => { clearTimeout(timer); timer = setTimeout(end, more); });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', close);
      ending.abort();
    }
  };

  const take = ({ event, data, id, retry: hint }) => {
    if (hint) retry = Number(hint) || retry;
    if (!data) return;
    const content = JSON.parse(data);
    if (event === 'profile') {
      seen.seq = id ?? content.seq ?? null;
      changed(content);
    } else if (event === 'transition' && !(Number(id) <= Number(seen.seq))) {
      seen.seq = id;
      changed(content.profile ?? content, content.transition ?? content);
    }
  };
  const stream = () => within(FIRST_BYTE, async (ending, again) => {
    const headers = seen.seq === null ? {} : { 'Last-Event-ID': String(seen.seq) };
    const response = await ask(home, 'v1/profiles/self/events', token, { headers, signal: ending });
    const type = response.headers.get('Content-Type') ?? '';
    if (!response.body || !type.startsWith('text/event-stream')) throw new Failure('this is no stream');
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      again(SILENCE);
      tell('live');
      const events = (rest + value).split(/\r?\n\r?\n/);
      rest = events.pop();
      events.map(fields).forEach(take);
    }
  });

  const read = (wait) => within((wait + 15) * SECOND, async (ending) => {
    const headers = seen.etag ? { 'If-None-Match': seen.etag } : {};
    const path = `v1/profiles/self${wait && seen.etag ? `?wait=${wait}` : ''}`;
    const response = await ask(home, path, token, { headers, signal: ending });
    if (response.status !== 304) {
      const profile = await response.json();
      seen.etag = response.headers.get('ETag');
      seen.seq = profile.seq ?? seen.seq;
      changed(profile);
    }
    tell('polling');
    return response.status;
  });
  const longPoll = async (until) => {
    while (!signal.aborted && performance.now() < until) {
      const asked = performance.now();
      const held = Boolean(seen.etag);
      const answer = await read(WAIT);
      const soon = performance.now() - asked < SECOND;
      if (!seen.etag || (held && answer === 304 && soon)) throw new Failure('the answer was not held back');
    }
  };
  const poll = async (until) => {
    while (!signal.aborted && performance.now() < until) {
      await read(0);
      await pause(POLL_EVERY);
    }
  };

  /** One way at a time: down where a way does not come through, and up again after a while. */
  const run = async () => {
    const ways = [stream, longPoll, poll];
    let [way, misses, failures, stay] = [0, 0, 0, 30 * SECOND];
    while (!signal.aborted) {
      const before = seen.profile;
      try {
        await ways[way](performance.now() + stay);
        if (way === 0) stay = 30 * SECOND;
        else stay = Math.min(2 * stay, 600 * SECOND);
        const wasLower = way > 0;
        [way, misses, failures] = [0, 0, 0];
        if (wasLower) continue;
        tell('reconnecting');
        await pause(retry);
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401) {
          tell('stopped', 'expired');
          closing.abort();
          return;
        }
        tell('reconnecting', error.status === 404 ? 'unknown' : '');
        if (seen.profile !== before) [misses, failures] = [0, 0];
        // An answer that is of no use speaks against the way, no answer against the connection.
        if (error instanceof Failure && error.status !== 404) misses += 1;
        if (misses > 1) [way, misses] = [(way + 1) % ways.length, 0];
        const backoff = Math.min(retry * 2 ** failures, LONGEST_PAUSE);
        failures += 1;
        await pause(Math.max(backoff, error.pause ?? 0));
      }
    }
  };

  const hurry = () => document.visibilityState === 'visible' && wake();
  globalThis.addEventListener?.('online', hurry);
  globalThis.document?.addEventListener('visibilitychange', hurry);
  signal.addEventListener('abort', () => {
    globalThis.removeEventListener?.('online', hurry);
    globalThis.document?.removeEventListener('visibilitychange', hurry);
    wake();
  });
  run();
  return { close: () => closing.abort() };
}

/** The fields of one server-sent event. */
function fields(text) {
  const event = {};
  for (const line of text.split(/\r?\n/)) {
    const [, name, value] = /^(event|data|id|retry): ?(.*)$/.exec(line) ?? [];
    if (name) event[name] = name === 'data' && event.data ? `${event.data}\n${value}` : value;
  }
  return event;
}

// ----------------------------------------------------------------------------------------------------------------- words

/** What `<esim-install>` says of its own; titles and details come from the service. Replaced through its member `words`. */
const WORDS = {
  language: 'en',
  loading: ['Looking up your eSIM…', ''],
  expired: ['This link has expired', 'For your safety it works for a short time only. Open your eSIM again in the app, the '
    + 'e-mail or the website that brought you here: you get a fresh link there, and nothing is lost.'],
  missing: ['This link is not complete', 'Its last part is missing. Open it again from where you got it, or copy the whole '
    + 'link, to its very end, into the address bar.'],
  unknown: ['We do not see this eSIM yet', 'If you have only just ordered it, leave this page open: it goes on by itself.'],
  unreachable: ['No connection to the service', 'Check that you are online. This page tries again by itself.'],
  offline: 'You are offline. This page goes on by itself when you are back. Installing needs the internet too: Wi-Fi is best.',
  status: { live: 'Live', polling: 'Checking every few seconds', reconnecting: 'Reconnecting…', offline: 'Offline' },
  heard: (age) => `Last heard from the network ${age}`,
  unheard: 'Nothing heard from the network yet',
  justNow: 'just now',
  progress: 'Progress',
  steps: { ready: 'Ready to install', downloaded: 'Downloaded', installed: 'Installed', 'turned-on': 'Turned on' },
  statuses: { done: 'done', current: 'current step', upcoming: 'not yet', problem: 'needs attention' },
  button: { apple: (device) => `Install on this ${device}`, android: () => 'Install on this phone' },
  buttonHint: {
    apple: 'Nothing happens? Open this page in Safari, or use the code below.',
    android: 'Not every Android phone takes this link. If nothing happens, use the code below.',
  },
  needsConfirmation: 'Your phone will ask for a confirmation code. You got it with your order.',
  otherWays: 'QR code and details to type in',
  scan: ['Connect your phone to Wi-Fi.', 'Point its camera at this code and tap what appears.', 'Follow the steps on the phone.'],
  otherPhone: 'To install on another phone, point its camera at this code.',
  qr: 'QR code that holds the activation code of your eSIM',
  noQr: 'The QR code could not be loaded: type the details in instead.',
  byHand: 'Type the details in',
  byHandHint: 'In your phone’s settings, add an eSIM and choose to enter the details by hand.',
  smdpAddress: 'SM-DP+ address',
  matchingId: 'Activation code',
  activationCode: 'Both in one line',
  installs: (seen, limit) => `Installed ${seen === 1 ? 'once' : `${seen} times`} so far; ${limit} installs are allowed in all.`,
  copy: 'Copy',
  copied: 'Copied',
  copyLabel: (what) => `Copy ${what}`,
  copiedLabel: (what) => `${what} copied`,
  notCopied: (what) => `${what} is selected: copy it with your keyboard or menu`,
  doubt: ['Installed it, but this page has not changed?', 'Phones report an install when they next talk to the network: mostly '
    + 'within seconds, now and then only after hours. If your phone’s settings list the eSIM, it is installed. Do not delete '
    + 'it to try again: the number of installs is limited.'],
  system: { apple: 'On iPhone and iPad', android: 'On Android' },
  howTo: {
    finish: {
      apple: ['Keep it on Wi-Fi.', 'Open Settings › Cellular (or Mobile Service).', 'Choose the new eSIM and finish its setup.'],
      android: ['Keep it on Wi-Fi.', 'Open Settings › Network & internet › SIMs.', 'Choose the new eSIM and finish its setup.'],
    },
    'turn-on': {
      apple: ['Open Settings › Cellular (or Mobile Service).', 'Choose this eSIM.', 'Switch on “Turn On This Line”.'],
      android: ['Open Settings › Network & internet › SIMs.', 'Choose this eSIM.', 'Switch on “Use SIM”.'],
    },
    done: {
      apple: ['Open Settings › Cellular (or Mobile Service).', 'Choose this eSIM.', 'Switch on “Data Roaming”.'],
      android: ['Open Settings › Network & internet › SIMs.', 'Choose this eSIM.', 'Switch on “Roaming”.'],
    },
  },
  support: 'Contact support',
  noSupport: 'Contact the company that sold you this eSIM.',
  quote: 'Have this number ready: it tells support which eSIM is yours.',
  iccid: 'eSIM number (ICCID)',
};

// -------------------------------------------------------------------------------------------------------------- the look

const sheet = (css) => {
  const made = new CSSStyleSheet();
  made.replaceSync(css);
  return made;
};

const LOOK = `
:host {
  --_color: var(--esim-color, #2456e6);
  --_on: var(--esim-on-color, var(--_computed-on, #fff));
  --_ink: var(--esim-ink, var(--_computed-ink, #2456e6));
  --_surface: var(--esim-surface, #fff);
  --_soft: var(--esim-soft, #f4f5f8);
  --_text: var(--esim-text, #14171c);
  --_muted: var(--esim-muted, #555d68);
  --_line: var(--esim-line, #e0e4ea);
  --_bad: var(--esim-problem, #b3261e);
  --_radius: var(--esim-radius, 1.25rem);
  display: block;
  container-type: inline-size;
  color: var(--_text);
  font: 400 1rem/1.55 var(--esim-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  text-align: start;
  -webkit-text-size-adjust: 100%;
}
@supports (color: light-dark(#000, #fff)) {
  :host {
    --_surface: var(--esim-surface, light-dark(#fff, #181b21));
    --_soft: var(--esim-soft, light-dark(#f4f5f8, #21252d));
    --_text: var(--esim-text, light-dark(#14171c, #eef1f5));
    --_muted: var(--esim-muted, light-dark(#555d68, #a9b1bd));
    --_line: var(--esim-line, light-dark(#e0e4ea, #323842));
    --_bad: var(--esim-problem, light-dark(#b3261e, #ff9d92));
  }
}
:host([hidden]) { display: none; }
*, ::before, ::after { box-sizing: border-box; }
h1, h2, h3, h4, p, ol, dl, dd, figure { margin: 0; padding: 0; }
.card {
  padding: clamp(1.25rem, 6cqi, 3rem);
  border: 1px solid var(--_line);
  border-radius: var(--_radius);
  background: var(--_surface);
  box-shadow: 0 1px 2px #0000000a, 0 12px 32px -12px #0000001f;
}
.card > * + * { margin-top: 2rem; }
.card > :empty { display: none; }
.hidden {
  position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
:focus-visible { outline: 3px solid var(--_ink); outline-offset: 3px; border-radius: .4rem; }
.title:focus { outline: none; }
.badge {
  display: grid; place-items: center; width: 3.5rem; height: 3.5rem; margin-bottom: 1.25rem;
  border-radius: 50%; background: var(--_color); color: var(--_on);
}
.badge svg { width: 1.75rem; height: 1.75rem; }
.bad .badge { background: none; border: 2px solid var(--_bad); color: var(--_bad); }
.calm .badge { background: var(--_soft); color: var(--_ink); }
.title { font-size: clamp(1.6rem, 6.5cqi, 2.25rem); line-height: 1.15; letter-spacing: -.02em; font-weight: 700; text-wrap: balance; }
.detail { margin-top: .75rem; max-width: 38em; font-size: 1.0625rem; color: var(--_muted); text-wrap: pretty; }
.detail:empty { display: none; }
h3, h4 { font-size: 1rem; line-height: 1.4; font-weight: 650; }
.muted { color: var(--_muted); font-size: .9375rem; }
.notice { padding: .875rem 1rem; border-radius: .75rem; background: var(--_soft); border-inline-start: 4px solid var(--_bad); font-size: .9375rem; }
.button {
  display: flex; align-items: center; justify-content: center; min-height: 3.5rem; padding: .75rem 1.5rem;
  border: 1px solid var(--_ink); border-radius: 1rem; background: var(--_color); color: var(--_on);
  font: inherit; font-size: 1.0625rem; font-weight: 650; text-align: center; text-decoration: none; cursor: pointer;
}
.button:hover { filter: brightness(1.06); }
.button + p { margin-top: .75rem; }
.action > * + * { margin-top: 1.25rem; }
details { border: 1px solid var(--_line); border-radius: 1rem; }
summary { min-height: 3rem; padding: .75rem 1.125rem; border-radius: 1rem; cursor: pointer; font-weight: 650; }
summary::marker { color: var(--_muted); }
details > :not(summary) { margin: 0 1.125rem 1.125rem; }
details > * + :not(summary) { margin-top: .25rem; }
.scan { display: grid; gap: 1.5rem; justify-items: center; }
.qr {
  display: grid; place-items: center; width: min(15rem, 100%); aspect-ratio: 1; padding: .5rem;
  border-radius: 1rem; border: 1px solid var(--_line); background: #fff; color: #14171c; text-align: center; font-size: .9375rem;
}
.qr img { display: block; width: 100%; height: auto; }
.numbered { list-style: none; counter-reset: n; display: grid; gap: .75rem; }
.numbered li { counter-increment: n; display: grid; grid-template-columns: 1.75rem 1fr; gap: .75rem; align-items: start; }
.numbered li::before {
  content: counter(n); display: grid; place-items: center; width: 1.75rem; height: 1.75rem; border-radius: 50%;
  background: var(--_soft); color: var(--_text); font-size: .875rem; font-weight: 650;
}
.row { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 .75rem; align-items: center; padding: .625rem 0; }
.row + .row { border-top: 1px solid var(--_line); }
dt { grid-column: 1; font-size: .875rem; color: var(--_muted); }
dd { display: contents; }
code {
  grid-column: 1; font: 500 .9375rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; user-select: all; -webkit-user-select: all;
}
.copy {
  grid-column: 2; grid-row: 1 / span 2; min-width: 5.25rem; min-height: 2.75rem; padding: .25rem .875rem;
  border: 1px solid var(--_line); border-radius: .75rem; background: var(--_soft); color: var(--_text);
  font: inherit; font-size: .9375rem; font-weight: 600; cursor: pointer;
}
.copy:hover { border-color: var(--_muted); }
.systems { display: grid; gap: 1.25rem; }
.systems h3 { margin-bottom: .75rem; }
.systems > div { padding: 1.25rem; border-radius: 1rem; background: var(--_soft); }
.systems li::before { background: var(--_surface); }
.steps { list-style: none; display: grid; }
.steps li { position: relative; display: grid; grid-template-columns: 1.75rem 1fr auto; gap: .75rem; padding-bottom: 1.25rem; align-items: center; }
.steps li:last-child { padding-bottom: 0; }
.steps li:not(:last-child)::before {
  content: ""; position: absolute; inset-inline-start: calc(.875rem - 1px); top: 1.75rem; bottom: 0; border-inline-start: 2px solid var(--_line);
}
.steps .done:not(:last-child)::before { border-color: var(--_ink); }
.dot { display: grid; place-items: center; width: 1.75rem; height: 1.75rem; border: 2px solid var(--_line); border-radius: 50%; background: var(--_surface); }
.dot svg { width: 1rem; height: 1rem; }
.done .dot { border-color: var(--_ink); background: var(--_color); color: var(--_on); }
.current .dot { border-color: var(--_ink); }
.current .dot::after { content: ""; width: .625rem; height: .625rem; border-radius: 50%; background: var(--_ink); }
.problem .dot { border-color: var(--_bad); color: var(--_bad); }
.current .name, .problem .name { font-weight: 650; }
.upcoming .name { color: var(--_muted); }
time { color: var(--_muted); font-size: .9375rem; font-variant-numeric: tabular-nums; }
.help > * + * { margin-top: 1rem; }
.foot { padding-top: 1.25rem; border-top: 1px solid var(--_line); display: grid; gap: .25rem; }
.pulse { display: flex; flex-wrap: wrap; gap: .125rem 1rem; font-size: .9375rem; color: var(--_muted); }
.link { display: inline-flex; align-items: center; gap: .5rem; }
.link::before { content: ""; width: .5rem; height: .5rem; border-radius: 50%; border: 2px solid currentColor; }
.link.live::before { background: var(--_ink); border-color: var(--_ink); }
.foot a, .help a:not(.button) { color: var(--_ink); min-height: 2.75rem; display: inline-flex; align-items: center; justify-self: start; font-weight: 600; text-underline-offset: .2em; }
@container (min-width: 34rem) {
  .scan { grid-template-columns: 15rem 1fr; align-items: center; justify-items: stretch; gap: 2rem; }
  .action > .button { justify-self: start; }
  .systems:has(> :nth-child(2)) { grid-template-columns: 1fr 1fr; }
  .steps { grid-auto-flow: column; grid-auto-columns: 1fr; }
  .steps li { display: block; padding: 0 .75rem 0 0; }
  .steps li > * { display: block; }
  .steps li > .dot { display: grid; margin-bottom: .625rem; }
  .steps li:not(:last-child)::before { inset-inline: 1.75rem 0; top: calc(.875rem - 1px); bottom: auto; border-inline-start: 0; border-top: 2px solid var(--_line); }
}
@media (prefers-reduced-motion: no-preference) {
  .hero, .action { animation: come .35s ease-out; }
  @keyframes come { from { opacity: 0; transform: translateY(.4rem); } }
  .link.live::before { animation: beat 2.4s ease-in-out infinite; }
  @keyframes beat { 50% { opacity: .35; } }
}
@media (forced-colors: active) { .button, .badge, .dot { border: 2px solid; } }
`;

const ICONS = {
  check: 'M5 12.5l4.5 4.5L19 7.5',
  alert: 'M12 6.5v7M12 17.4v.2',
  phone: 'M8 3h8a1.5 1.5 0 0 1 1.5 1.5v15A1.5 1.5 0 0 1 16 21H8a1.5 1.5 0 0 1-1.5-1.5v-15A1.5 1.5 0 0 1 8 3zM11 18h2',
  clock: 'M12 7v5.3l3.4 2M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z',
};
/** Icon and tone of each step, also of those that are the page's own. */
const FACES = {
  loading: ['clock', 'calm'], wait: ['clock', 'calm'], install: ['phone', 'calm'], reinstall: ['phone', 'calm'],
  finish: ['phone', 'calm'], 'turn-on': ['phone', 'calm'], done: ['check', 'good'], 'contact-support': ['alert', 'bad'],
  expired: ['clock', 'bad'], missing: ['alert', 'bad'], unknown: ['clock', 'calm'], unreachable: ['alert', 'calm'],
};

/** Luminance by WCAG of `[red, green, blue]`, each 0 to 255. */
function luminance(color) {
  const [red, green, blue] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** The colour moved towards `end` until it can be read on `ground`. */
function readable(color, ground, end) {
  let mixed = color;
  for (let share = 0; share <= 1 && contrast(mixed, ground) < 5.2; share += 0.04) {
    mixed = color.map((part, index) => Math.round(part + (end - part) * share));
  }
  return `rgb(${mixed.join(' ')})`;
}

/** Text on the brand's colour, and the brand's colour as text, whatever colour that is. */
function tints(css) {
  const color = (/^rgba?\(([^)]+)\)$/.exec(css)?.[1] ?? '').split(/[ ,/]+/).slice(0, 3).map(Number);
  if (color.length < 3 || color.some(Number.isNaN)) return '';
  const on = contrast(color, [255, 255, 255]) >= 4.5 ? '#fff' : '#000';
  const [onLight, onDark] = [readable(color, [255, 255, 255], 0), readable(color, [24, 27, 33], 255)];
  return `:host { --_computed-on: ${on}; --_computed-ink: ${onLight}; }
    @supports (color: light-dark(#000, #fff)) { :host { --_computed-ink: light-dark(${onLight}, ${onDark}); } }`;
}

// ----------------------------------------------------------------------------------------------------------- the element

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value || value === 0) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

function icon(name) {
  const make = (tag, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const svg = make('svg', {
    viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round',
    'stroke-linejoin': 'round', 'aria-hidden': 'true',
  });
  svg.append(make('path', { d: ICONS[name] }));
  return svg;
}

/** The system whose setup link this device takes (`apple` from iOS 17.4, `android` from 10), and whether it is a phone at all. */
function detect({ userAgent, maxTouchPoints = 0 } = navigator) {
  const mobile = /(iPhone|iPad|iPod).* OS (\d+)_(\d+)/.exec(userAgent);
  // An iPad calls itself a Mac, and has no OS version but that of its browser.
  const desktop = maxTouchPoints > 1 && /Macintosh.*()Version\/(\d+)\.(\d+)/.exec(userAgent);
  const apple = mobile || desktop;
  if (apple) {
    const takesLink = Number(apple[2]) + Number(apple[3]) / 100 >= 17.04;
    return { isPhone: true, system: 'apple', takesLink, name: apple[1] || 'iPad' };
  }
  // Browsers freeze this at 10, so the button's hint has to do for what is older.
  const android = /Android (\d+)/.exec(userAgent);
  if (android) return { isPhone: true, system: 'android', takesLink: Number(android[1]) >= 10, name: 'phone' };
  return { isPhone: false, system: null, takesLink: false, name: '' };
}

/** An address of support that a link may lead to. */
function supportLink(text) {
  try {
    const url = new URL(text);
    return ['https:', 'http:', 'mailto:', 'tel:'].includes(url.protocol) ? url.href : '';
  } catch {
    return '';
  }
}

/**
 * `<esim-install token="…">`: the way to an installed eSIM, kept up to date.
 *
 * Attributes: `token`; `base` where the service is elsewhere than this module; `support-url`; `heading-level` (2).
 * Members: `words`, to replace texts. Events: `esim-change` (`detail` is the journey), `esim-expired`: set a fresh `token`.
 */
class EsimInstall extends (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ['token', 'base', 'support-url'];

  #words = WORDS;
  #device = null;
  #parts = null;
  #tints = null;
  #following = null;
  #journey = null;
  #shown = {};
  #link = '';
  #clockAhead = 0;
  #reading = false;
  #readAgain = false;
  #timers = new Set();
  #qr = '';
  #stop = null;

  get words() { return this.#words; }

  set words(words) {
    this.#words = { ...this.#words, ...words };
    this.#shown = {};
    if (this.isConnected) this.#show(this.#journey);
  }

  connectedCallback() {
    this.#device = detect();
    this.#build();
    this.#start();
  }

  disconnectedCallback() {
    this.#end();
  }

  attributeChangedCallback(_name, before, after) {
    if (!this.isConnected || !this.#parts || before === after) return;
    this.#end();
    this.#start();
  }

  // What runs

  get #base() { return new URL((this.getAttribute('base') ?? HOME).replace(/\/*$/, '/'), HOME); }

  get #token() { return (this.getAttribute('token') ?? '').trim(); }

  #start() {
    this.#stop = new AbortController();
    this.#journey = null;
    this.#link = '';
    if (!this.#token) {
      this.#say('missing');
      return;
    }
    this.#say('loading');
    const { signal } = this.#stop;
    this.#following = follow(this.#token, () => this.#read(), {
      base: this.#base.href,
      onStatus: (status, reason) => signal.aborted || this.#linked(status, reason),
    });
    const online = () => this.#showLink();
    const look = () => document.visibilityState === 'visible' && this.#read();
    globalThis.addEventListener('online', online, { signal });
    globalThis.addEventListener('offline', online, { signal });
    document.addEventListener('visibilitychange', look, { signal });
    this.#every(10 * SECOND, () => this.#showHeard());
    // A report that changes nothing is not a change, and some advice depends on how long ago something was.
    this.#every(120 * SECOND, look);
  }

  #end() {
    this.#stop?.abort();
    this.#following?.close();
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
    this.#following = null;
    this.#forgetQr();
  }

  #every(time, work) {
    const timer = setInterval(work, time);
    this.#timers.add(timer);
  }

  #after(time, work) {
    const timer = setTimeout(() => { this.#timers.delete(timer); work(); }, time);
    this.#timers.add(timer);
  }

  #linked(status, reason) {
    if (status === 'stopped') return this.#expire();
    if (reason === 'unknown') this.#say('unknown');
    this.#link = status;
    // Most interruptions are over before anybody could read of them.
    if (status === 'reconnecting') this.#after(1.5 * SECOND, () => this.#link === status && this.#showLink());
    else this.#showLink();
    if (status === 'reconnecting') this.#after(4 * SECOND, () => this.#link === status && !this.#journey && !reason && this.#say('unreachable'));
  }

  #expire() {
    if (this.#stop.signal.aborted) return;
    const steps = this.#journey?.steps;
    this.#end();
    this.#link = '';
    this.#say('expired', { steps });
    this.dispatchEvent(new CustomEvent('esim-expired', { bubbles: true, composed: true }));
  }

  /** Reads the journey; called again meanwhile, reads it once more afterwards. */
  async #read() {
    const { signal } = this.#stop;
    if (signal.aborted) return;
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    try {
      do {
        this.#readAgain = false;
        const response = await ask(this.#base, 'v1/profiles/self/journey', this.#token, { signal });
        const journey = await response.json();
        const date = Date.parse(response.headers.get('Date') ?? '');
        this.#clockAhead = date ? Date.now() - date : 0;
        this.#show(journey);
        this.dispatchEvent(new CustomEvent('esim-change', { detail: journey, bubbles: true, composed: true }));
      } while (this.#readAgain);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) this.#expire();
      else this.#after(2 * SECOND, () => this.#read());
    } finally {
      this.#reading = false;
    }
  }

  // What is seen

  #build() {
    if (this.#parts) return;
    const root = this.attachShadow({ mode: 'open' });
    const level = Math.min(Math.max(Number(this.getAttribute('heading-level')) || 2, 1), 4);
    const part = (tag, name, attributes = {}, ...children) => h(tag, { class: name, part: name, ...attributes }, ...children);
    const parts = {
      announcer: h('p', { class: 'hidden', role: 'status', 'aria-live': 'polite' }),
      notice: part('p', 'notice', { role: 'status' }),
      badge: part('span', 'badge'),
      title: part(`h${level}`, 'title', { tabindex: -1 }),
      detail: part('p', 'detail'),
      action: part('div', 'action'),
      steps: part('ol', 'steps', { role: 'list' }),
      help: part('div', 'help'),
      link: part('span', 'link'),
      heard: part('span', 'heard'),
      foot: h('div'),
    };
    parts.hero = part('div', 'hero', {}, parts.badge, parts.title, parts.detail);
    parts.pulse = part('p', 'pulse', {}, parts.link, parts.heard);
    parts.card = part('div', 'card', { lang: this.#words.language }, parts.notice, parts.hero, parts.action, parts.steps, parts.help,
      part('div', 'foot', {}, parts.pulse, parts.foot));
    root.append(parts.announcer, parts.card);
    this.#parts = parts;
    if (!('adoptedStyleSheets' in root)) return;
    this.#tints = sheet('');
    root.adoptedStyleSheets = [sheet(LOOK), this.#tints];
    parts.card.style.color = 'var(--_color)';
    this.#tints.replaceSync(tints(getComputedStyle(parts.card).color));
    parts.card.removeAttribute('style');
  }

  /** Shows what no journey tells: a step of the page's own. */
  #say(step, rest = {}) {
    const [title, detail] = this.#words[step];
    this.#show({ step, title, detail, ...rest }, null);
  }

  #show(journey, known = journey) {
    const parts = this.#parts;
    this.#journey = known;
    const [face, tone] = FACES[journey.step] ?? FACES.wait;
    const isNews = parts.title.textContent && parts.title.textContent !== journey.title && journey.step !== 'loading';
    const hadFocus = this.shadowRoot.activeElement;
    parts.card.lang = this.#words.language;
    parts.hero.className = `hero ${tone}`;
    this.#fill('badge', face, () => [icon(face)]);
    parts.title.textContent = journey.title;
    parts.detail.textContent = journey.detail ?? '';
    this.#fill('action', [journey.step, journey.install, journey.iccid], () => this.#action(journey));
    this.#fill('steps', journey.steps, () => (journey.steps ?? []).map((step) => this.#step(step)));
    parts.steps.setAttribute('aria-label', this.#words.progress);
    this.#fill('help', [journey.step, journey.installsSeen], () => this.#help(journey));
    this.#fill('foot', [journey.step, journey.iccid, this.#support(journey)], () => this.#foot(journey));
    this.#showLink();
    this.#showHeard();
    if (isNews) parts.announcer.textContent = `${journey.title}. ${journey.detail ?? ''}`;
    // Whoever was at something that is gone now is brought to what has come instead.
    if (hadFocus && !hadFocus.isConnected) parts.title.focus({ preventScroll: true });
  }

  /** Builds a part anew, but only where what it shows has changed: nobody loses the focus, a selection or an opened detail. */
  #fill(name, content, build) {
    const key = JSON.stringify(content) ?? '';
    if (this.#shown[name] === key) return;
    this.#shown[name] = key;
    this.#parts[name].replaceChildren(...build().filter(Boolean));
  }

  #action(journey) {
    const { step, install } = journey;
    this.#forgetQr();
    if (install) return this.#install(install);
    if (this.#words.howTo[step]) return [this.#howTo(this.#words.howTo[step])];
    if (step === 'contact-support') return this.#callSupport(journey);
    return [];
  }

  #install(install) {
    const { isPhone, system, takesLink, name } = this.#device;
    const words = this.#words;
    const href = takesLink && install.links?.[system];
    const manual = this.#manual(install);
    const note = install.confirmationCodeRequired && h('p', { class: 'muted', part: 'confirmation' }, words.needsConfirmation);
    if (href) {
      return [
        h('a', { class: 'button', part: 'button', href, rel: 'noreferrer' }, words.button[system](name)),
        h('p', { class: 'muted' }, words.buttonHint[system]),
        note,
        h('details', { part: 'details' }, h('summary', {}, words.otherWays),
          h('div', { class: 'action' }, h('p', { class: 'muted' }, words.otherPhone), h('div', { class: 'scan' }, this.#qrCode(install)), ...manual)),
      ];
    }
    return [
      h('div', { class: 'scan' }, this.#qrCode(install), h('ol', { class: 'numbered', role: 'list' }, words.scan.map((text) => h('li', {}, h('span', {}, text))))),
      note,
      h('details', { part: 'details', open: true }, h('summary', {}, words.byHand), h('div', { class: 'action' }, ...manual)),
    ];
  }

  #manual(install) {
    const words = this.#words;
    const rows = [['smdpAddress', install.smdpAddress], ['matchingId', install.matchingId], ['activationCode', install.activationCode]];
    return [
      h('p', { class: 'muted' }, words.byHandHint),
      h('dl', { part: 'codes' }, rows.filter(([, value]) => value).map(([name, value]) => this.#row(words[name], value))),
    ];
  }

  #row(label, value) {
    const words = this.#words;
    const code = h('code', { part: 'code', translate: 'no' }, value);
    const button = h('button', {
      type: 'button', class: 'copy', part: 'copy', 'aria-label': words.copyLabel(label),
      click: async () => {
        const isCopied = await copy(value, code);
        this.#parts.announcer.textContent = '';
        this.#parts.announcer.textContent = isCopied ? words.copiedLabel(label) : words.notCopied(label);
        if (!isCopied) return;
        button.textContent = words.copied;
        this.#after(2.5 * SECOND, () => { button.textContent = words.copy; });
      },
    }, words.copy);
    return h('div', { class: 'row' }, h('dt', {}, label), h('dd', {}, code, button));
  }

  /** The QR code, once it is loaded: it is a credential, so no plain address leads to it. */
  #qrCode(install) {
    const words = this.#words;
    const figure = h('div', { class: 'qr', part: 'qr' });
    const { signal } = this.#stop;
    ask(this.#base, install.qr, this.#token, { signal }).then((response) => response.blob()).then((blob) => {
      if (signal.aborted || !figure.isConnected) return;
      this.#forgetQr();
      this.#qr = URL.createObjectURL(blob);
      figure.replaceChildren(h('img', { src: this.#qr, alt: words.qr, width: 240, height: 240 }));
    }).catch(() => signal.aborted || figure.replaceChildren(h('p', {}, words.noQr)));
    return figure;
  }

  #forgetQr() {
    if (this.#qr) URL.revokeObjectURL(this.#qr);
    this.#qr = '';
  }

  #howTo(systems) {
    const shown = Object.keys(systems).filter((system) => !this.#device.system || this.#device.system === system);
    const heading = `h${Math.min(Number(this.#parts.title.localName[1]) + 1, 6)}`;
    return h('div', { class: 'systems', part: 'how-to' }, shown.map((system) => h('div', {},
      h(heading, { class: 'system' }, this.#words.system[system]),
      h('ol', { class: 'numbered', role: 'list' }, systems[system].map((text) => h('li', {}, h('span', {}, text)))))));
  }

  #support(journey) {
    return supportLink(journey.supportUrl || this.getAttribute('support-url') || '');
  }

  #callSupport(journey) {
    const href = this.#support(journey);
    return [
      href ? h('a', { class: 'button', part: 'button', href, rel: 'noreferrer' }, this.#words.support) : h('p', {}, this.#words.noSupport),
      journey.iccid && h('p', { class: 'muted' }, this.#words.quote),
      journey.iccid && h('dl', { part: 'codes' }, this.#row(this.#words.iccid, journey.iccid)),
    ];
  }

  #step({ key, status, at }) {
    const words = this.#words;
    const mark = { done: 'check', problem: 'alert' }[status];
    return h('li', { class: status, part: 'step', 'aria-current': status === 'current' && 'step' },
      h('span', { class: 'dot' }, mark && icon(mark)),
      h('span', { class: 'name' }, words.steps[key] ?? key, h('span', { class: 'hidden' }, `, ${words.statuses[status] ?? status}`)),
      at && this.#time(at));
  }

  #help({ step, installsSeen, installLimit }) {
    const words = this.#words;
    if (step !== 'install' && step !== 'reinstall') return [];
    return [
      installsSeen > 0 && installLimit > 0 && h('p', { class: 'muted' }, words.installs(installsSeen, installLimit)),
      h('details', { part: 'details' }, h('summary', {}, words.doubt[0]), h('p', { class: 'muted' }, words.doubt[1])),
    ];
  }

  #foot(journey) {
    if (journey.step === 'contact-support') return [];
    const href = this.#support(journey);
    return [
      journey.iccid && h('dl', {}, this.#row(this.#words.iccid, journey.iccid)),
      href && h('a', { href, rel: 'noreferrer' }, this.#words.support),
    ];
  }

  #showLink() {
    const { link, notice } = this.#parts;
    const isOffline = navigator.onLine === false && this.#link !== '';
    const state = isOffline ? 'offline' : this.#link;
    link.className = `link ${state}`;
    link.textContent = this.#words.status[state] ?? '';
    link.hidden = !link.textContent;
    const text = isOffline ? this.#words.offline : '';
    if (notice.textContent !== text) notice.textContent = text;
  }

  #showHeard() {
    const { heard } = this.#parts;
    const journey = this.#journey;
    if (!journey) heard.textContent = '';
    else heard.textContent = journey.lastDeliveryAt ? this.#words.heard(this.#age(journey.lastDeliveryAt)) : this.#words.unheard;
    heard.title = journey?.lastDeliveryAt ? this.#format(journey.lastDeliveryAt) : '';
  }

  #locale() {
    const { language } = this.#words;
    return navigator.languages?.find((tag) => tag.split('-')[0] === language.split('-')[0]) ?? language;
  }

  #age(at) {
    const seconds = Math.max(0, (Date.now() - this.#clockAhead - Date.parse(at)) / SECOND);
    if (seconds < 45) return this.#words.justNow;
    const format = new Intl.RelativeTimeFormat(this.#locale(), { numeric: 'always' });
    const [unit, size] = [['minute', 60], ['hour', 3600], ['day', 86400]].findLast(([, length]) => seconds >= length * 0.9) ?? ['minute', 60];
    return format.format(-Math.max(1, Math.round(seconds / size)), unit);
  }

  #format(at) {
    const date = new Date(at);
    const isToday = date.toDateString() === new Date().toDateString();
    const day = isToday ? {} : { day: 'numeric', month: 'short' };
    return new Intl.DateTimeFormat(this.#locale(), { ...day, hour: '2-digit', minute: '2-digit' }).format(date);
  }

  #time(at) {
    return h('time', { datetime: at }, this.#format(at));
  }
}

/** Copies a text; where the browser forbids that, selects the element that shows it and gives back false. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(shown);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand('copy');
  }
}

if (globalThis.customElements && !customElements.get('esim-install')) customElements.define('esim-install', EsimInstall);
