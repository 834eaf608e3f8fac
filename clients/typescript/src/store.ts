import type { Journey } from './api.js';
import type { Intent } from './client.js';
import type { EsimStatusError } from './error.js';
import { follow, type FollowReason, type FollowStatus } from './follow.js';
import { journeyReader } from './reader.js';
import { Transport } from './transport.js';

/**
 * How up to date the journey is.
 *
 * - `connecting`: there is no connection yet, and what is shown may be old;
 * - `live`, `polling`: changes arrive immediately, or after some seconds;
 * - `reconnecting`: the connection is interrupted, and what is shown may be old;
 * - `unknown`: the service does not know the profile yet, and is asked again;
 * - `expired`: the token is no longer accepted. Get a new one from your backend, and start anew with it.
 */
export type EsimLinkStatus = 'connecting' | 'live' | 'polling' | 'reconnecting' | 'unknown' | 'expired';

/** What is known of a profile at one moment. Immutable. */
export interface EsimState {
  /** What the user should do now, or null until it was read for the first time. */
  readonly journey: Journey | null;
  /** How up to date that is. */
  readonly status: EsimLinkStatus;
  /** Whether changes arrive immediately. */
  readonly isLive: boolean;
  /** Why the journey could not be read, or null if it could. It is read again by itself, unless the token has expired. */
  readonly error: EsimStatusError | null;
}

export interface EsimStoreOptions {
  /** The address of the service, such as `https://esim.example.com`. It must allow this page's origin. */
  baseUrl: string;
  /** The language of the journey's texts, such as `de` or `zh-Hant`; by default the browser's. */
  lang?: string | undefined;
}

/** One profile, kept up to date as long as somebody subscribes. Has the form that `useSyncExternalStore` takes. */
export interface EsimStore {
  /** Starts to follow the profile with the first listener, and stops with the last. Returns the end of this subscription. */
  subscribe(this: void, listener: () => void): () => void;
  /** What is known now. The same object until something changes. */
  getSnapshot(this: void): EsimState;
  /** Notes what the user did, for the service's funnel: once for each profile. Failures are ignored. */
  report(this: void, intent: Intent): void;
}

/** What is known before anything was read, and on a server that renders a page. */
export const UNREAD: EsimState = Object.freeze({ journey: null, status: 'connecting', isLive: false, error: null });

/** Some updates are no change of the profile, such as advice that depends on the time. In milliseconds. */
const LOOK_EVERY = 60_000;

/** Follows the profile of an access token and reads its journey after every change. */
export function esimStore(token: string, { baseUrl, lang }: EsimStoreOptions): EsimStore {
  const transport = new Transport({ baseUrl, credential: token, timeoutMs: 15_000, retries: 0 });
  const listeners = new Set<() => void>();
  const reported = new Set<Intent>();
  let state = UNREAD;
  let closing: AbortController | null = null;

  const change = (news: Partial<EsimState>): void => {
    const next = { ...state, ...news };
    state = Object.freeze({ ...next, isLive: next.status === 'live' });
    listeners.forEach((listener) => listener());
  };
  const stop = (): void => closing?.abort();
  const expire = (error: EsimStatusError | null = null): void => {
    stop();
    change({ status: 'expired', error });
  };
  const start = (): void => {
    if (state.status === 'expired') return;
    closing = new AbortController();
    const { signal } = closing;
    const read = journeyReader(transport, lang, signal, {
      onJourney: (journey) => change({ journey, error: null }),
      onFailure: (error) => (error.status === 401 ? expire(error) : change({ error })),
    });
    const onStatus = (status: FollowStatus, reason: FollowReason): void => {
      if (signal.aborted) return;
      if (status === 'stopped') expire();
      else change({ status: reason === 'unknown' ? reason : status });
    };
    const following = follow(token, read, { base: baseUrl, onStatus });
    signal.addEventListener('abort', () => following.close());
    readNowAndThen(signal, read);
  };

  return {
    subscribe(listener) {
      // A function of its own, so that the same listener may subscribe twice.
      const own = (): void => listener();
      listeners.add(own);
      if (listeners.size === 1) start();
      return () => {
        if (!listeners.delete(own) || listeners.size > 0) return;
        stop();
        // What is known stays for the next listener, who must not take it for up to date.
        if (state.status !== 'expired') state = Object.freeze({ ...state, status: 'connecting', isLive: false });
      };
    },
    getSnapshot: () => state,
    report(intent) {
      if (reported.has(intent)) return;
      reported.add(intent);
      // The user may leave the page before the answer.
      const call = { path: { iccid: 'self', intent }, keepalive: true };
      transport.send('PUT /v1/profiles/{iccid}/intents/{intent}', call, async () => {}).catch(() => {});
    },
  };
}

/** Has the journey read when the user comes back to the page, and every minute while it is visible. */
function readNowAndThen(signal: AbortSignal, read: () => void): void {
  const { document } = globalThis;
  const look = (): void => {
    if (document?.visibilityState !== 'hidden') read();
  };
  const timer = setInterval(look, LOOK_EVERY);
  document?.addEventListener('visibilitychange', look);
  signal.addEventListener('abort', () => {
    clearInterval(timer);
    document?.removeEventListener('visibilitychange', look);
  });
}
