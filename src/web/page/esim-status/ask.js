/**
 * The browser's side of esim-status, in one module without dependencies.
 *
 *     import { follow } from 'https://esim.example.com/assets/esim-status.js';
 *     const following = follow(token, (profile) => console.log(profile.state));
 *
 *     <esim-install token="…"></esim-install>
 *
 * `follow` calls back whenever a profile changes; `<esim-install>` leads the profile's user to an installed eSIM. Both
 * need an access token, and find the service where this module came from. See docs/embedding.md.
 */

/** Apart from `HOME`, because bundlers take `new URL('…', import.meta.url)` for a file to be copied. */
const HERE = import.meta.url;
const HOME = new URL('..', HERE).href;
const SECOND = 1000;

/** How long one read may take, not counting the time for which the service was asked to hold it. */
const READ = 15 * SECOND;
/** How long the texts may take at each of two attempts: nothing is shown meanwhile. */
const TEXTS = 4 * SECOND;
const LONGEST_PAUSE = 30 * SECOND;
/** The max `Retry-After` that is obeyed. A browser's timers would fire immediately for more than 24 days. */
const LONGEST_RETRY_AFTER = 3600 * SECOND;

/** The service refused the request, or something between changed its answer. */
class Failure extends Error {
  constructor(message, { status = 0, pause = 0 } = {}) {
    super(message);
    Object.assign(this, { status, pause });
  }
}

/** Sends a request with the user's access token. `rest` is passed to `fetch`. Resolves for 2xx and 304 only. */
async function ask(base, path, token, { headers = {}, ...rest } = {}) {
  const response = await fetch(new URL(path.replace(/^\/+/, ''), base), {
    headers: { ...headers, Authorization: `Bearer ${token}` },
    cache: 'no-store',
    credentials: 'omit',
    referrerPolicy: 'no-referrer',
    ...rest,
  });
  if (response.ok || response.status === 304) return response;
  throw new Failure(`${path} was answered ${response.status}`, { status: response.status, pause: retryAfter(response.headers) });
}

/** `Retry-After`, which is seconds or a date, in milliseconds; 0 if it is absent or unreadable. */
function retryAfter(headers) {
  const text = headers.get('Retry-After') ?? '';
  const now = Date.parse(headers.get('Date') ?? '') || Date.now();
  const time = /^\d+$/.test(text) ? Number(text) * SECOND : Date.parse(text) - now;
  return Math.min(Math.max(time, 0), LONGEST_RETRY_AFTER) || 0;
}

/** Runs `work` with a signal that aborts with `signal` or after `time`. Its second argument restarts the timer. */
async function within(signal, time, work) {
  const ending = new AbortController();
  let isLate = false;
  const end = () => { isLate = true; ending.abort(); };
  const close = () => ending.abort();
  let timer = setTimeout(end, time);
  signal.addEventListener('abort', close);
  try {
    return await work(ending.signal, (more) => { clearTimeout(timer); timer = setTimeout(end, more); });
  } catch (error) {
    throw isLate ? new Failure('nothing came for too long') : error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', close);
    ending.abort();
  }
}

/** Pauses between attempts, one at a time. They are random, so that not all clients return together after an outage. */
class Pauses {
  #timer = 0;
  #resume = () => {};
  #notBefore = 0;

  /** Waits for about `time`, and at least for `least`, which the service asked for. */
  wait(time, least = 0) {
    this.end();
    this.#notBefore = performance.now() + Math.max(least, time / 4);
    return new Promise((resume) => {
      this.#resume = resume;
      this.#timer = setTimeout(resume, Math.max(time * (0.75 + Math.random() / 2), least * (1 + Math.random() / 4)));
    });
  }

  /** Waits after a number of failures in a row, longer for each. */
  backOff(failures, least = 0, first = SECOND) {
    return this.wait(Math.min(first * 2 ** failures, LONGEST_PAUSE), least);
  }

  /** Shortens the current pause to a quarter, or to what the service asked for, if the user looks or the network is back. */
  hurry() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#resume, Math.max(this.#notBefore - performance.now(), 0));
  }

  /** Ends the current pause. */
  end() {
    clearTimeout(this.#timer);
    this.#resume();
  }
}
