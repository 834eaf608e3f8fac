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

/** Without a byte for this long, a stream is dead: the service sends a comment every 15 s. */
const SILENCE = 40 * SECOND;
/** A stream that holds its first byte back for this long is buffered by something on the way. */
const FIRST_BYTE = 8 * SECOND;
/** How long the service holds a long poll, in seconds. */
const WAIT = 30;
const POLL_EVERY = 8 * SECOND;
const LONGEST_PAUSE = 30 * SECOND;
/** How long to poll before streams are tried again. */
const [SHORT_STAY, LONG_STAY] = [30 * SECOND, 600 * SECOND];

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
    if (signal.aborted || (text === seen.profile && !transition)) return;
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
    const { profile, ...content } = JSON.parse(data);
    if (event === 'profile' && id) {
      seen.seq = Number(id);
      changed(content);
    } else if (event === 'profile') {
      // Resumed. Where there is something new in it, the transitions that led there follow.
      if (content.seq === seen.seq) changed(content);
    } else if (event === 'transition' && Number(id) > seen.seq) {
      seen.seq = Number(id);
      changed(profile, content);
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
    const path = `v1/profiles/self${wait ? `?wait=${wait}` : ''}`;
    const response = await ask(home, path, token, { headers, signal: ending });
    if (response.status !== 304) {
      const profile = await response.json();
      seen.etag = response.headers.get('ETag');
      seen.seq = profile.seq;
      changed(profile);
    }
    tell('polling');
    return response.status;
  });
  const longPoll = async (until) => {
    for (let wait = 0; !signal.aborted && performance.now() < until; wait = WAIT) {
      const asked = performance.now();
      const answer = await read(wait);
      const isHeld = wait === 0 || answer !== 304 || performance.now() - asked > SECOND;
      if (!seen.etag || !isHeld) throw new Failure('answers are not held back');
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
    let [way, misses, failures, stay] = [0, 0, 0, SHORT_STAY];
    while (!signal.aborted) {
      const before = seen.profile;
      try {
        await ways[way](performance.now() + stay);
        const wasStream = way === 0;
        stay = wasStream ? SHORT_STAY : Math.min(2 * stay, LONG_STAY);
        [way, misses, failures] = [0, 0, 0];
        if (!wasStream) continue;
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
