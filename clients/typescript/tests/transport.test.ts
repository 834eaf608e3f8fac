/** Retries, time limits and errors, with a service that is made up. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { EsimStatus, EsimStatusError, type EsimStatusOptions } from 'esim-status-client';

const ICCID = '89972123300991848961';
const KEY = 'key-that-nobody-may-see';

interface Asked {
  method: string | undefined;
  url: string;
  at: number;
}

/** A client whose requests get these answers, one after the other, and the last one from then on. */
function clientOf(
  answers: Array<() => Response>, options: Partial<EsimStatusOptions> = {},
): { client: EsimStatus; asked: Asked[] } {
  const asked: Asked[] = [];
  const answer = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    asked.push({ method: init?.method, url: String(url), at: performance.now() });
    assert.ok(!String(url).includes(KEY));
    assert.equal(new Headers(init?.headers).get('Authorization'), `Bearer ${KEY}`);
    const next = answers[Math.min(asked.length, answers.length) - 1];
    assert.ok(next);
    return next();
  };
  const client = new EsimStatus({ baseUrl: 'https://esim.example.com/base/', apiKey: KEY, fetch: answer, ...options });
  return { client, asked };
}

function problem(status: number, code: string, headers: Record<string, string> = {}): () => Response {
  const body = JSON.stringify({ type: '…', title: '…', status, code, detail: 'as it is', requestId: 'r-1' });
  return () => new Response(body, { status, headers: { 'Content-Type': 'application/problem+json', ...headers } });
}

const profile = (): Response => Response.json({ iccid: ICCID });
const nothing = (): Response => new Response(null, { status: 204 });
const unreachable = (): never => { throw new TypeError('fetch failed'); };

async function failureOf(call: Promise<unknown>): Promise<EsimStatusError> {
  const error: unknown = await call.then(() => null, (reason: unknown) => reason);
  assert.ok(error instanceof EsimStatusError, `threw ${String(error)}`);
  assert.ok(!inspect(error, { depth: 9 }).includes(KEY));
  return error;
}

describe('a request', () => {
  it('goes to the path below the base URL, and has only the parameters that are given', async () => {
    const { client, asked } = clientOf([() => Response.json({ items: [], nextCursor: null })]);
    await client.profiles({ reference: 'A 1&2', limit: 5 }).page();
    assert.equal(asked[0]?.url, 'https://esim.example.com/base/v1/profiles?reference=A+1%262&limit=5');
  });

  it('is sent again after failures that may pass', async () => {
    const { client, asked } = clientOf([unreachable, problem(503, 'unavailable'), profile]);
    assert.equal((await client.profile(ICCID)).iccid, ICCID);
    assert.equal(asked.length, 3);
  });

  it('is sent again not before the service asks for it', async () => {
    const { client, asked } = clientOf([problem(429, 'unavailable', { 'Retry-After': '1' }), nothing]);
    await client.erase(ICCID);
    const [first, second] = asked;
    assert.ok(first && second && second.at - first.at >= 990);
  });

  it('is given up when it has failed too often, with what the service said', async () => {
    const { client, asked } = clientOf([problem(503, 'unavailable', { 'Retry-After': '0' })], { retries: 1 });
    const error = await failureOf(client.profile(ICCID));
    assert.deepEqual([error.code, error.detail, error.requestId], ['unavailable', 'as it is', 'r-1']);
    assert.deepEqual([error.retryAfter, error.attempts], [0, 2]);
    assert.equal(asked.length, 2);
  });

  it('is not held for longer than half a minute, but the caller is told', async () => {
    const { client, asked } = clientOf([problem(503, 'unavailable', { 'Retry-After': '3600' })]);
    assert.equal((await failureOf(client.profile(ICCID))).retryAfter, 3_600);
    assert.equal(asked.length, 1);
  });

  it('understands Retry-After as a date', async () => {
    const headers = { 'Retry-After': 'Fri, 27 Nov 2026 10:02:00 GMT', Date: 'Fri, 27 Nov 2026 10:00:00 GMT' };
    const { client } = clientOf([problem(503, 'unavailable', headers)]);
    assert.equal((await failureOf(client.profile(ICCID))).retryAfter, 120);
  });

  it('is never sent again if it creates something', async () => {
    for (const answer of [unreachable, problem(503, 'unavailable', { 'Retry-After': '0' })]) {
      const { client, asked } = clientOf([answer]);
      await failureOf(client.createToken(ICCID));
      await failureOf(client.inquire(ICCID));
      assert.equal(asked.length, 2);
    }
  });

  it('is never sent again if the service understood and refused it', async () => {
    const { client, asked } = clientOf([problem(404, 'unknown-profile')]);
    assert.equal((await failureOf(client.profile(ICCID))).code, 'unknown-profile');
    assert.equal(asked.length, 1);
  });

  it('erases a profile even if the first answer is lost', async () => {
    const { client } = clientOf([unreachable, problem(404, 'unknown-profile')]);
    await client.erase(ICCID);
    const once = clientOf([problem(404, 'unknown-profile')]);
    assert.equal((await failureOf(once.client.erase(ICCID))).code, 'unknown-profile');
  });
});

describe('following a profile', () => {
  it('waits out an outage, and sends no rush of requests to a proxy that does not hold answers back', async () => {
    const changed = (): Response => Response.json({ iccid: ICCID, seq: 2 });
    const outage = problem(503, 'unavailable', { 'Retry-After': '0' });
    const { client, asked } = clientOf([profile, profile, outage, changed], { retries: 0 });
    const seen: number[] = [];
    for await (const { seq } of client.followProfile(ICCID)) {
      seen.push(seq);
      if (seq === 2) break;
    }
    assert.equal(seen.length, 2);
    const [, second, third] = asked;
    assert.ok(second && third && third.at - second.at >= 990);
  });

  it('throws what cannot pass', async () => {
    const { client } = clientOf([profile, problem(404, 'unknown-profile')]);
    await assert.rejects(async () => {
      for await (const { iccid } of client.followProfile(ICCID)) assert.equal(iccid, ICCID);
    }, { code: 'unknown-profile' });
  });
});

describe('an export', () => {
  it('goes on after its last whole line if the connection breaks', async () => {
    const broken = (): Response => new Response(new ReadableStream({
      start: (body) => body.enqueue(new TextEncoder().encode('{"iccid":"1"}\n{"iccid":"2"}\n{"icc')),
      pull: (body) => body.error(new TypeError('terminated')),
    }), { headers: { 'X-Changes-Cursor': 'c-1' } });
    const { client, asked } = clientOf([broken, () => new Response('{"iccid":"3"}\n')]);
    const all: string[] = [];
    const profiles = await client.exportProfiles();
    for await (const { iccid } of profiles) all.push(iccid);
    assert.deepEqual([all, profiles.changesCursor], [['1', '2', '3'], 'c-1']);
    assert.deepEqual(asked.map(({ url }) => new URL(url).search), ['?of=profiles', '?of=profiles&after=2']);
  });
});

describe('a time limit', () => {
  /** An answer whose body never ends, as long as nobody aborts the request. */
  function hanging(seen: AbortSignal[]): typeof fetch {
    return async (_, init) => {
      const { signal } = init as { signal: AbortSignal };
      seen.push(signal);
      return new Response(new ReadableStream({
        start: (body) => signal.addEventListener('abort', () => body.error(signal.reason)),
      }));
    };
  }

  it('holds for the body as well', async () => {
    const seen: AbortSignal[] = [];
    const options = { baseUrl: 'https://esim.example.com', apiKey: KEY, timeoutMs: 20, retries: 1 };
    const client = new EsimStatus({ ...options, fetch: hanging(seen) });
    const error = await failureOf(client.profile(ICCID));
    assert.deepEqual([error.code, error.status, error.attempts], ['timed-out', 0, 2]);
    assert.ok(seen.every(({ aborted }) => aborted));
  });

  it('is not needed by a caller who aborts: the call throws the reason', async () => {
    const seen: AbortSignal[] = [];
    const client = new EsimStatus({ baseUrl: 'https://esim.example.com', apiKey: KEY, fetch: hanging(seen) });
    const stopping = new AbortController();
    const reason = new Error('the user has left');
    const call = client.profile(ICCID, { signal: stopping.signal });
    stopping.abort(reason);
    await assert.rejects(call, reason);
    await assert.rejects(client.profile(ICCID, { signal: stopping.signal }), reason);
    assert.equal(seen.length, 1);
  });

  it('ends a pause between two attempts when the caller aborts', async () => {
    const { client, asked } = clientOf([problem(503, 'unavailable', { 'Retry-After': '25' })]);
    const signal = AbortSignal.timeout(50);
    await assert.rejects(client.profile(ICCID, { signal }), { name: 'TimeoutError' });
    assert.equal(asked.length, 1);
  });
});

describe('an answer that is not from the service', () => {
  it('is not understood, and not taken for a success', async () => {
    const page = (status: number) => () => new Response('<html>', { status, headers: { 'X-Request-Id': 'p-1' } });
    for (const status of [200, 404, 500]) {
      const { client, asked } = clientOf([page(status)]);
      const error = await failureOf(client.profile(ICCID));
      assert.deepEqual([error.code, asked.length], ['not-understood', 1]);
    }
  });

  it('is not followed if it redirects: another server must not get the key', async () => {
    const redirect = (): Response => new Response(null, { status: 302, headers: { Location: 'https://other.example.com' } });
    const { client, asked } = clientOf([redirect]);
    const { code, status } = await failureOf(client.profile(ICCID));
    assert.deepEqual([code, status, asked.length], ['not-understood', 302, 1]);
  });

  it('may have a code of a newer service, which is named', async () => {
    const { client } = clientOf([problem(409, 'brand-new')]);
    const error = await failureOf(client.profile(ICCID));
    assert.equal(error.code, 'not-understood');
    assert.match(error.detail, /brand-new/);
  });
});

describe('what a caller gets wrong', () => {
  it('is refused before anything is sent, and without the secret in the error', async () => {
    const { client, asked } = clientOf([profile]);
    for (const iccid of ['..', '8997212330', '', 'self/../x', 89972123300991848961n as unknown as string]) {
      await assert.rejects(client.erase(iccid), /ICCID/);
    }
    assert.equal(asked.length, 0);
    const refused = (options: { baseUrl?: string; apiKey?: string | undefined }): void => {
      const all = { baseUrl: 'https://esim.example.com', apiKey: KEY, ...options } as EsimStatusOptions;
      assert.throws(() => new EsimStatus(all), (error) => error instanceof TypeError && !inspect(error).includes(KEY));
    };
    for (const apiKey of ['', `${KEY}\n`, `${KEY} 2`, undefined]) refused({ apiKey });
    const secret = [`https://u:${KEY}@esim.example.com`, `https://esim.example.com?key=${KEY}`];
    for (const baseUrl of ['esim.example.com', 'ftp://esim.example.com', ...secret]) refused({ baseUrl });
  });
});
