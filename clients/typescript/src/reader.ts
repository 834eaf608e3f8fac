import type { Journey } from './api.js';
import { EsimStatusError } from './error.js';
import { pause, pauseAfterFailures } from './retry.js';
import type { Transport } from './transport.js';

/** What a reader tells. */
export interface ReaderEvents {
  onJourney(journey: Journey): void;
  /** The journey could not be read. It is read again after a pause, unless the reader is ended. */
  onFailure(error: EsimStatusError): void;
}

/**
 * Returns a function that has the journey of an access token read in a language, until the signal is aborted.
 *
 * There is one read at a time. If the function is called during a read, there is one more, because the answer may be older
 * than the reason for the call.
 */
export function journeyReader(
  transport: Transport, lang: string | undefined, signal: AbortSignal, { onJourney, onFailure }: ReaderEvents,
): () => void {
  let isReading = false;
  let isWanted = false;

  const read = async (): Promise<void> => {
    for (let failures = 0; isWanted && !signal.aborted;) {
      isWanted = false;
      try {
        const call = { path: { iccid: 'self' }, query: { lang }, signal };
        const body = (answer: Response): Promise<Journey> => answer.json();
        const journey = await transport.send('GET /v1/profiles/{iccid}/journey', call, body);
        failures = 0;
        if (!signal.aborted) onJourney(journey);
      } catch (error) {
        if (signal.aborted || !(error instanceof EsimStatusError)) return;
        failures += 1;
        isWanted = true;
        onFailure(error);
        await pause(pauseAfterFailures(failures, error), signal).catch(() => {});
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
