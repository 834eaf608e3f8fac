import type { Journey } from './api.js';
import { EsimStatusError } from './error.js';
import { backOff, pause } from './retry.js';
import type { Transport } from './transport.js';

/** What a reader tells. */
export interface ReaderEvents {
  onJourney(journey: Journey): void;
  /** The journey could not be read. It is read again after a pause, unless the reader is ended. */
  onFailure(error: EsimStatusError): void;
}

/**
 * Returns a function that has the journey of an access token read, until the signal is aborted.
 *
 * There is one read at a time. If the function is called during a read, there is one more, because the answer may be older
 * than the reason for the call.
 */
export function journeyReader(transport: Transport, signal: AbortSignal, { onJourney, onFailure }: ReaderEvents): () => void {
  let isReading = false;
  let isWanted = false;

  const read = async (): Promise<void> => {
    for (let failures = 0; isWanted && !signal.aborted;) {
      isWanted = false;
      try {
        const call = { path: { iccid: 'self' }, signal };
        const journey = await transport.send('GET /v1/profiles/{iccid}/journey', call, (answer) => answer.json() as Promise<Journey>);
        failures = 0;
        if (!signal.aborted) onJourney(journey);
      } catch (error) {
        if (signal.aborted || !(error instanceof EsimStatusError)) return;
        failures += 1;
        isWanted = true;
        onFailure(error);
        const least = Math.min(error.retryAfter ?? 0, 3_600) * 1_000;
        await pause(Math.max(backOff(failures + 2), least), signal).catch(() => {});
      }
    }
  };
  return () => {
    isWanted = true;
    if (isReading) return;
    isReading = true;
    void read().finally(() => { isReading = false; });
  };
}
