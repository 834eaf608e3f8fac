import { PROBLEM_CODES, type ProblemCode } from './api.js';

/**
 * What went wrong. The service's own codes are explained in its document `/problems`. The client adds:
 *
 * - `no-answer`: the service could not be reached, or the connection broke;
 * - `timed-out`: no complete answer within the time limit;
 * - `not-understood`: something between answered instead of the service, or the service is newer than this client and has a
 *   code that this client does not know.
 */
export type ErrorCode = ProblemCode | 'no-answer' | 'timed-out' | 'not-understood';

/** What an {@link EsimStatusError} is made of. */
export interface Failing {
  /** The operation, with a placeholder instead of the ICCID, such as `GET /v1/profiles/{iccid}`. */
  operation: string;
  code: ErrorCode;
  /** A sentence for the log. Never contains the API key. */
  detail: string;
  /** The HTTP status, or 0 if there was no answer. */
  status?: number;
  requestId?: string | null;
  /** In seconds. */
  retryAfter?: number | null;
  cause?: unknown;
}

/**
 * A call that failed. Match on {@link code}.
 *
 * Its message names the operation without the ICCID, so it can be logged. Neither the API key nor an access token is ever
 * in it. An aborted call is no `EsimStatusError`: it throws the reason of its signal, as `fetch` does.
 */
export class EsimStatusError extends Error {
  override readonly name = 'EsimStatusError';
  /** What went wrong, from a closed list. */
  readonly code: ErrorCode;
  /** The HTTP status, or 0 if there was no answer. */
  readonly status: number;
  /** What is wrong with this request, and what to do. */
  readonly detail: string;
  /** The id under which the service has logged this request, or null if the service did not answer. */
  readonly requestId: string | null;
  /** How many seconds the service asks to wait before the next attempt, or null if it does not. */
  readonly retryAfter: number | null;
  /** The operation, with a placeholder instead of the ICCID, such as `GET /v1/profiles/{iccid}`. */
  readonly operation: string;
  /** How many requests were sent before the client gave up. */
  attempts = 1;

  constructor({ operation, code, detail, status = 0, requestId = null, retryAfter = null, cause }: Failing) {
    super(`${operation}: ${code}${status ? ` (${status})` : ''}: ${detail}`, cause === undefined ? undefined : { cause });
    this.operation = operation;
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}

/** Whether a text is a code of the service's catalogue. */
export function isProblemCode(code: unknown): code is ProblemCode {
  return PROBLEM_CODES.some((known) => known === code);
}

/** The error that an answer without success stands for. Reads the body, which may be anything. */
export async function errorOf(operation: string, response: Response): Promise<EsimStatusError> {
  const { status, headers } = response;
  const problem: unknown = await response.json().catch(() => null);
  const { code, detail, requestId } = (problem ?? {}) as Record<'code' | 'detail' | 'requestId', unknown>;
  const isKnown = isProblemCode(code);
  const unknown = typeof code === 'string' ? `with the code ${code}` : 'without a problem document: check baseUrl';
  return new EsimStatusError({
    operation,
    status,
    code: isKnown ? code : 'not-understood',
    detail: isKnown && typeof detail === 'string' ? detail : `answered ${status} ${unknown}`,
    requestId: typeof requestId === 'string' ? requestId : headers.get('X-Request-Id'),
    retryAfter: retryAfterOf(headers),
  });
}

/** `Retry-After`, which is seconds or a date, in seconds; null if it is absent or unreadable. */
export function retryAfterOf(headers: Headers): number | null {
  const text = headers.get('Retry-After')?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text);
  const now = Date.parse(headers.get('Date') ?? '') || Date.now();
  const seconds = (Date.parse(text) - now) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}
