import { EsimStatusError } from './error.js';

/** Methods that may be sent again: a second request changes nothing that the first did not. */
const REPEATABLE = ['GET', 'PUT', 'DELETE'];
/** What the service, or a proxy before it, answers while it cannot do its work. */
const TEMPORARY = [429, 502, 503, 504];
/** The first pause, in milliseconds. Each further one is twice as long, up to the longest. */
const FIRST = 250;
const LONGEST = 8_000;
/** The longest `Retry-After` that is waited for, in milliseconds. For a longer one the caller should decide. */
const LONGEST_ASKED = 30_000;
/** The longest that is obeyed by somebody who never gives up, in seconds. */
const LONGEST_OBEYED = 3_600;

/**
 * How many milliseconds to wait before the next attempt, or null if there must be none.
 *
 * Pauses are random, so that not all clients return together after an outage, and never shorter than `Retry-After`.
 *
 * @param attempts how many requests were sent so far
 */
export function pauseAfter(error: EsimStatusError, method: string, attempts: number, random = Math.random): number | null {
  if (!REPEATABLE.includes(method) || !isTemporary(error)) return null;
  const asked = (error.retryAfter ?? 0) * 1_000;
  if (asked > LONGEST_ASKED) return null;
  return Math.max(backOff(attempts, random), asked * (1 + random() / 4));
}

/** Whether the same request may succeed later. */
export function isTemporary({ status, code }: EsimStatusError): boolean {
  return TEMPORARY.includes(status) || code === 'no-answer' || code === 'timed-out';
}

/** A random pause in milliseconds, longer after more attempts. */
export function backOff(attempts: number, random = Math.random): number {
  return Math.min(FIRST * 2 ** (attempts - 1), LONGEST) * (0.5 + random() / 2);
}

/** Calls something until it succeeds. Only failures that may pass are waited out; others are thrown. */
export async function patiently<T>(work: () => Promise<T>, signal?: AbortSignal | null): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof EsimStatusError) || !isTemporary(error)) throw error;
      await pause(pauseAfterFailures(failures, error), signal);
    }
  }
}

/** How many milliseconds somebody who never gives up waits after failures in a row: longer than between two attempts. */
export function pauseAfterFailures(failures: number, { retryAfter }: EsimStatusError): number {
  return Math.max(backOff(failures + 2), Math.min(retryAfter ?? 0, LONGEST_OBEYED) * 1_000);
}

/** Waits for some milliseconds. Rejects with the signal's reason if it is aborted. */
export function pause(time: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, time);
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
  });
}
