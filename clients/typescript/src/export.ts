import type { Transition } from './api.js';
import { EsimStatusError } from './error.js';
import { pause, pauseAfterFailures } from './retry.js';

/** A transition and the profile whose it is. */
export interface ExportedTransition extends Transition {
  iccid: string;
}

/** All profiles or all transitions, one after the other, while they arrive. It can be iterated once. */
export interface Export<Line> extends AsyncIterable<Line> {
  /** Follow the changes from here when the export is done, to keep a copy. Null if something between removed the header. */
  readonly changesCursor: string | null;
}

/** An answer whose body is read while it arrives. */
export interface Opened {
  body: ReadableStream<Uint8Array>;
  changesCursor: string | null;
}

/**
 * The lines of an export. If the connection breaks, the export goes on after the last whole line.
 *
 * @param open sends the request for what comes after a line
 * @param nameOf the name of a line, to continue after it
 */
export async function exported<Line>(
  open: (after: string | undefined) => Promise<Opened>,
  nameOf: (line: Line) => string,
  { after, signal }: { after?: string; signal?: AbortSignal | null },
): Promise<Export<Line>> {
  const first = await open(after);

  async function* lines(): AsyncGenerator<Line, void, undefined> {
    let last = after;
    let { body } = first;
    for (let failures = 0; ;) {
      try {
        for await (const line of linesOf<Line>(body, signal)) {
          last = nameOf(line);
          failures = 0;
          yield line;
        }
        return;
      } catch (error) {
        signal?.throwIfAborted();
        // A line that is no JSON will not become any.
        if (error instanceof SyntaxError) throw error;
        failures += 1;
        const detail = 'the connection broke';
        const broken = new EsimStatusError({ operation: 'GET /v1/export', code: 'no-answer', detail, cause: error });
        if (failures > MAX_FAILURES) throw broken;
        await pause(pauseAfterFailures(failures, broken), signal);
      }
      ({ body } = await open(last));
    }
  }
  return { changesCursor: first.changesCursor, [Symbol.asyncIterator]: lines };
}

/** How often in a row a stream may break before it has brought a line. */
const MAX_FAILURES = 5;

/** The lines of JSON in a body. Rejects if the connection breaks, or with the signal's reason. */
async function* linesOf<Line>(
  body: ReadableStream<Uint8Array>, signal: AbortSignal | null | undefined,
): AsyncGenerator<Line, void, undefined> {
  const reader = body.getReader();
  const stop = (): void => void reader.cancel().catch(() => {});
  signal?.addEventListener('abort', stop, { once: true });
  const decoder = new TextDecoder();
  try {
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      signal?.throwIfAborted();
      if (done) return;
      const texts = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = texts.pop() ?? '';
      for (const text of texts) yield JSON.parse(text) as Line;
    }
  } finally {
    signal?.removeEventListener('abort', stop);
    // The consumer may have left the loop before the end.
    stop();
  }
}
