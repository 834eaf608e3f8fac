import type { Operations } from './api.js';
import { EsimStatusError, errorOf } from './error.js';
import { pause, pauseAfter } from './retry.js';

/** An operation of the API, such as `GET /v1/profiles/{iccid}`. */
export type Operation = keyof Operations;

/** What a successful answer of an operation contains. */
export type AnswerOf<O extends Operation> = Operations[O]['answer'];

/** What every call takes. */
export interface CallOptions {
  /** Ends the call, and all its attempts. The call then throws the signal's reason. */
  signal?: AbortSignal | null;
}

/** One call of an operation. */
export interface Call<O extends Operation> extends CallOptions {
  path?: Operations[O]['path'];
  query?: Operations[O]['query'];
  body?: Operations[O]['body'];
  headers?: Record<string, string>;
  /** How many milliseconds the service may hold the answer back. They are added to the time limit. */
  held?: number;
  /** Whether a browser sends the request to its end after the user has left the page. */
  keepalive?: boolean;
}

/** How requests are sent. */
export interface TransportOptions {
  /** The address of the service, such as `https://esim.example.com`. It may have a path. */
  baseUrl: string | URL;
  /** An API key or an access token. */
  credential: string;
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
  /** The time limit of one attempt in milliseconds. */
  timeoutMs: number;
  /** How often a request that may be repeated is sent again after a failure that may pass. */
  retries: number;
}

/** Sends requests with one credential, within a time limit, and again where that is safe. */
export class Transport {
  readonly #base: string;
  readonly #credential: string;
  readonly #fetch: typeof globalThis.fetch;
  readonly #timeoutMs: number;
  readonly #retries: number;

  constructor({ baseUrl, credential, fetch, timeoutMs, retries }: TransportOptions) {
    this.#base = baseOf(baseUrl);
    // A header with other characters would make fetch throw an error that quotes it.
    if (typeof credential !== 'string' || !/^[\x21-\x7e]+$/.test(credential)) {
      throw new TypeError('the API key or access token is empty, or has a space or a character that no header may have');
    }
    this.#credential = credential;
    // A browser's fetch must be called without an object.
    this.#fetch = fetch ?? ((...request) => globalThis.fetch(...request));
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
  }

  /** Calls an operation and reads its answer, which has the status 2xx or 304. */
  async send<O extends Operation, T>(operation: O, call: Call<O>, read: (response: Response) => Promise<T>): Promise<T> {
    const [method, template] = operation.split(' ') as [string, string];
    const url = this.#base + fill(template, call.path) + search(call.query);
    for (let attempts = 1; ; attempts += 1) {
      try {
        return await this.#attempt(operation, method, url, call, read);
      } catch (error) {
        if (!(error instanceof EsimStatusError)) throw error;
        error.attempts = attempts;
        const time = attempts > this.#retries ? null : pauseAfter(error, method, attempts);
        if (time === null) throw error;
        await pause(time, call.signal);
      }
    }
  }

  async #attempt<O extends Operation, T>(
    operation: O, method: string, url: string, call: Call<O>, read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const { signal, body, headers, held = 0, keepalive = false } = call;
    signal?.throwIfAborted();
    // AbortSignal.any and .timeout are missing in browsers that the service still supports.
    const ending = new AbortController();
    let isLate = false;
    const abort = (): void => ending.abort();
    const timer = setTimeout(() => { isLate = true; abort(); }, this.#timeoutMs + held);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const response = await this.#fetch(url, {
        method,
        headers: {
          ...headers,
          Authorization: `Bearer ${this.#credential}`,
          ...(body ? { 'Content-Type': 'application/json' } : {}),
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
        signal: ending.signal,
        keepalive,
        cache: 'no-store',
        credentials: 'omit',
        referrerPolicy: 'no-referrer',
        // The service never redirects. Whoever does must not be sent the credential.
        redirect: 'manual',
      });
      if (!response.ok && response.status !== 304) throw await errorOf(operation, response);
      return await read(response);
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      if (isLate) {
        const detail = `no complete answer within ${this.#timeoutMs + held} ms`;
        throw new EsimStatusError({ operation, code: 'timed-out', detail });
      }
      if (cause instanceof EsimStatusError) throw cause;
      if (cause instanceof SyntaxError) {
        const detail = 'the answer is not JSON: check baseUrl';
        throw new EsimStatusError({ operation, code: 'not-understood', detail, cause });
      }
      throw new EsimStatusError({ operation, code: 'no-answer', detail: 'the service could not be reached', cause });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }
}

/** The address of the service without a slash at its end. Refuses what would put a secret into an error or a URL. */
function baseOf(baseUrl: string | URL): string {
  let url: URL | null = null;
  try {
    url = new URL(baseUrl);
  } catch {
    // The error of URL quotes its input.
  }
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new TypeError('baseUrl must be an http or https URL without credentials, query and fragment');
  }
  return url.href.replace(/\/+$/, '');
}

/** Puts parameters into the placeholders of a path. */
function fill(template: string, parameters: Record<string, string> = {}): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value: unknown = parameters[name];
    if (name === 'iccid' && (typeof value !== 'string' || !/^(\d{18,22}|self)$/.test(value))) {
      throw new TypeError('an ICCID is a string of 18 to 22 digits: a number would lose some of them');
    }
    return encodeURIComponent(String(value));
  });
}

/** The query string, with its question mark, of those members that are defined. */
function search(query: object = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : '';
}
