
/** `follow`. Part of esim-status.js. */

/** A stream without a byte for this long is dead. The service sends a comment every 15 s. */
const SILENCE = 40 * SECOND;
/** The service sends a stream's first event immediately. If it is not there after this time, a proxy holds it back. */
const FIRST_EVENT = 6 * SECOND;
/** A stream works if data still arrives this long after its first event. */
const PROOF_OF_LIFE = 10 * SECOND;
/** How long the service holds a long poll, in seconds. */
const WAIT = 30;
const POLL_EVERY = 8 * SECOND;
/** How long to poll before streams are tried again. */
const [SHORT_STAY, LONG_STAY] = [30 * SECOND, 600 * SECOND];

/**
 * Follows a profile and calls `onChange(profile, transition)` with its first state and after every change; `transition`
 * is null if the change was not seen as it happened.
 *
 * It uses a stream. If streams do not get through, it uses long polls, for which the service holds the answer back
 * until there is a change. If those fail too, it polls every few seconds. It reconnects forever and misses nothing,
 * until `close()` or until the token is no longer accepted.
 *
 * @param {string} token an access token, minted by your backend
 * @param {(profile: object, transition: object | null) => void} onChange
 * @param {object} [options]
 * @param {string} [options.base] where the service is; by default, where this module came from
 * @param {(status: string, reason: string) => void} [options.onStatus] called with `live`, `polling`, `reconnecting`
 *   (reason `unknown` if the profile does not exist) and `stopped` (reason `expired`)
 * @returns {{ close(): void }}
 */
export function follow(token, onChange, { base = HOME, onStatus = () => {} } = {}) {
  const home = new URL(base.replace(/\/*$/, '/'), HOME);
  const closing = new AbortController();
  const { signal } = closing;
  const pauses = new Pauses();
  const seen = { iccid: '', seq: null, etag: null, place: null, profile: '' };
  /** When the current stream brought its first event, and its last byte after that; 0 before. */
  const heard = { first: 0, last: 0 };
  let retry = SECOND;
  let status = '';

  const tell = (next, reason = '') => {
    if (signal.aborted || status === next + reason) return;
    status = next + reason;
    queueMicrotask(() => onStatus(next, reason));
  };
  const changed = (profile, transition = null) => {
    const text = JSON.stringify(profile);
    if (signal.aborted || (text === seen.profile && !transition)) return;
    seen.profile = text;
    // An error in the caller's function must not count as a failure of the connection.
    queueMicrotask(() => signal.aborted || onChange(profile, transition));
  };

  const take = ({ event, data, id, retry: hint }) => {
    if (hint) retry = Math.max(Number(hint) || 0, SECOND / 2);
    if (!data) return;
    const { profile, ...content } = JSON.parse(data);
    if (event === 'profile' && (id || content.iccid !== seen.iccid)) {
      // The first one, or one that was given out for the profile that was followed: it has its own numbers.
      [seen.iccid, seen.seq] = [content.iccid, content.seq];
      changed(content);
    } else if (event === 'profile') {
      // The stream was resumed. If the profile has changed, the transitions that changed it follow.
      if (content.seq === seen.seq) changed(content);
    } else if (event === 'transition' && Number(id) > seen.seq) {
      seen.seq = Number(id);
      changed(profile, content);
    }
  };
  const stream = () => within(signal, FIRST_EVENT, async (ending, again) => {
    const headers = seen.seq === null ? {} : { 'Last-Event-ID': String(seen.seq) };
    const response = await ask(home, 'v1/profiles/self/events', token, { headers, signal: ending });
    const type = response.headers.get('Content-Type') ?? '';
    if (!response.body || !type.startsWith('text/event-stream')) throw new Failure('this is no stream');
    const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const texts = (rest + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
      rest = texts.pop();
      const events = texts.map(fields);
      events.forEach(take);
      // Comments alone do not show that the stream works: some proxies pass them on and hold the events back.
      if (!heard.first && !events.some(({ data }) => data)) continue;
      heard.last = performance.now();
      heard.first = heard.first || heard.last;
      again(SILENCE);
      tell('live');
    }
  });

  /** Resolves with whether the profile was sent, and whether it has changed. */
  const read = (wait) => within(signal, READ + wait * SECOND, async (ending) => {
    const headers = seen.etag ? { 'If-None-Match': seen.etag } : {};
    const path = `v1/profiles/self${wait ? `?wait=${wait}` : ''}`;
    const response = await ask(home, path, token, { headers, signal: ending });
    const isSent = response.status !== 304;
    const before = seen.place;
    if (isSent) {
      const profile = await response.json();
      seen.etag = response.headers.get('ETag');
      [seen.iccid, seen.seq] = [profile.iccid, profile.seq];
      // What the service holds a long poll for.
      seen.place = [profile.iccid, profile.seq, profile.firstConnectedAt, profile.country].join();
      changed(profile);
    }
    tell('polling');
    return { isSent, isNews: isSent && seen.place !== before };
  });
  const longPoll = async (until) => {
    for (let wait = 0; ; wait = WAIT) {
      const asked = performance.now();
      const { isSent, isNews } = await read(wait);
      const isHeld = isNews || (!isSent && performance.now() - asked > SECOND);
      if (!seen.etag || (wait && !isHeld)) throw new Failure('answers are not held back');
      if (signal.aborted || performance.now() >= until) return;
      // Never send the next request without a pause, whatever the reason for this answer.
      if (isSent) await pauses.wait(SECOND);
    }
  };
  const poll = async (until) => {
    for (;;) {
      await read(0);
      if (signal.aborted || performance.now() >= until) return;
      await pauses.wait(POLL_EVERY);
    }
  };

  /**
   * One way at a time: down where a way does not come through, and up again after a while.
   *
   * A stream that answers and brings no event is given up immediately. One that is refused, cut or not answered is
   * tried a second time. Where the connection may be at fault, or the whole service, one read that succeeds shows that
   * it is over.
   */
  const run = async () => {
    const ways = [stream, longPoll, poll];
    let [way, misses, failures, stay] = [0, 0, 0, SHORT_STAY];
    let [isProbe, isProven] = [false, false];
    while (!signal.aborted) {
      Object.assign(heard, { first: 0, last: 0 });
      const until = performance.now() + (isProbe ? 0 : stay);
      const error = await ways[way](until).then(() => null, (reason) => reason);
      if (signal.aborted) return;
      if (error?.status === 401) {
        tell('stopped', 'expired');
        closing.abort();
        return;
      }
      if (way > 0 && !error) {
        // Reads get through. If streams still do not, the streams are the problem.
        if (isProbe) isProven = true;
        else stay = Math.min(2 * stay, LONG_STAY);
        [way, misses, failures, isProbe] = [0, 0, 0, false];
        continue;
      }
      const isUnknown = error?.status === 404;
      tell('reconnecting', isUnknown ? 'unknown' : '');
      const isAway = Boolean(error) && (!(error instanceof Failure) || error.status >= 500);
      const isUseless = !heard.first && (!error || (error instanceof Failure && !error.status));
      if (heard.first) failures = 0;
      if (heard.last - heard.first > PROOF_OF_LIFE) [misses, stay, isProven] = [0, SHORT_STAY, false];
      else if (!isUnknown) misses += isUseless || (way === 0 && isAway && isProven) ? 2 : 1;
      if (misses > 1) {
        [way, misses] = [(way + 1) % ways.length, 0];
        isProbe = isAway && !isProven;
      }
      await pauses.backOff(failures, error?.pause, retry);
      failures += 1;
    }
  };

  const hurry = () => globalThis.document?.visibilityState !== 'hidden' && pauses.hurry();
  globalThis.addEventListener?.('online', hurry);
  globalThis.document?.addEventListener('visibilitychange', hurry);
  signal.addEventListener('abort', () => {
    globalThis.removeEventListener?.('online', hurry);
    globalThis.document?.removeEventListener('visibilitychange', hurry);
    pauses.end();
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
