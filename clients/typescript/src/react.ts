'use client';

/** esim-status for React 18 and newer. */
import { useMemo, useSyncExternalStore } from 'react';
import { esimStore, UNREAD, type EsimState, type EsimStore } from './store.js';

export type { Journey, InstallView, ProfileState, Progress, Step } from './api.js';
export { EsimStatusError, type ErrorCode } from './error.js';
export type { EsimLinkStatus, EsimState } from './store.js';

/** What {@link useEsim} takes besides the token. */
export interface UseEsimOptions {
  /** The address of the service, such as `https://esim.example.com`. It must allow this page's origin. */
  baseUrl: string;
  /** The language of the journey's texts, such as `de` or `zh-Hant`; by default the browser's. */
  lang?: string | undefined;
}

/** What {@link useEsim} returns. */
export interface Esim extends EsimState {
  /** Notes what the user did, for the service's funnel: once for each profile. Failures are ignored. */
  readonly report: EsimStore['report'];
}

/** Without a token there is nothing to follow. */
const NOTHING: EsimStore = { subscribe: () => () => {}, getSnapshot: () => UNREAD, report: () => {} };

/**
 * What the user of this access token should do now, kept up to date while the component is mounted.
 *
 * A new token or language starts afresh; without a token it waits for one. With the status `expired`, get a new token from your backend. On a server
 * the hook renders the state before anything was read, and sends nothing.
 */
export function useEsim(token: string | null | undefined, { baseUrl, lang }: UseEsimOptions): Esim {
  const store = useMemo(() => (token ? esimStore(token, { baseUrl, lang }) : NOTHING), [token, baseUrl, lang]);
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, unread);
  return useMemo(() => ({ ...state, report: store.report }), [state, store]);
}

function unread(): EsimState {
  return UNREAD;
}
