import type {
  Change, ChangePage, Delivery, Endpoint, EndpointChange, EsimObject, HookList, Journey, KeySet, NewEndpoint, Operations, Profile, RegisteredView, SignedEvidence,
  Summary, TokenView, Transition,
} from './api.js';
import { EsimStatusError } from './error.js';
import { exported, type Export, type ExportedTransition, type Opened } from './export.js';
import { Listing } from './listing.js';
import { patiently, pause } from './retry.js';
import { Transport, type AnswerOf, type Call, type CallOptions, type Operation } from './transport.js';

/** How to reach the service. */
export interface EsimStatusOptions {
  /** The address of the service, such as `https://esim.example.com`. It may have a path. */
  baseUrl: string | URL;
  /** One of the service's API keys. It is sent in a header only, and is in no error, no URL and no printed client. */
  apiKey: string;
  /** Replaces the global `fetch`, for instance to use a proxy. */
  fetch?: typeof globalThis.fetch;
  /** The time limit of one request with its answer, in milliseconds; default 10,000. A long poll adds its own time. */
  timeoutMs?: number;
  /**
   * How often a request is sent again after a failure that may pass; default 2, 0 for never. Only `GET`, `PUT` and `DELETE`
   * are, and only after 429, 502, 503, 504, a broken connection or the time limit.
   */
  retries?: number;
}

/** Filters of a list, without its position. */
export type ProfileFilter = Omit<Operations['GET /v1/profiles']['query'], 'cursor'>;
/** Filters of a list, without its position. */
export type DeliveryFilter = Omit<Operations['GET /v1/deliveries']['query'], 'cursor'>;
/** What a page reports of its user. */
export type Intent = Operations['PUT /v1/profiles/{iccid}/intents/{intent}']['path']['intent'];
/** What {@link EsimStatus.lookUp} finds profiles by. */
export type LookUp = { imsi: string } | { eid: string } | { uid: string } | { reference: string };

/** A profile, and the name of this state of it. */
export interface ProfileReading {
  profile: Profile;
  /** Send it with the next call to learn of changes only. Opaque. */
  etag: string | null;
}

/** The service holds a long poll at most this many seconds. */
const LONGEST_WAIT = 60;
/** An answer that comes sooner and has nothing new was not held back. In milliseconds. */
const SHORTEST_WAIT = 1_000;

/**
 * The API of esim-status for backends. It needs an API key, so it must not run in a browser.
 *
 * Every method may throw an {@link EsimStatusError}, and takes a `signal` that ends it. An ICCID is a string of 18 to 22
 * digits, times are RFC 3339 in UTC.
 */
export class EsimStatus {
  readonly #transport: Transport;

  constructor({ baseUrl, apiKey, fetch, timeoutMs = 10_000, retries = 2 }: EsimStatusOptions) {
    this.#transport = new Transport({ baseUrl, credential: apiKey, fetch, timeoutMs, retries });
  }

  // One profile

  /**
   * Registers a profile. The call is idempotent, works before and after the first webhook, and never overwrites a state
   * that a webhook has reported.
   *
   * @param esim the provider's eSIM object exactly as its API returned it, with `reference`, `expectedFrom` and `replaces`
   *   added if you like
   */
  register<T extends EsimObject>(
    iccid: string, esim: T, { provider, signal }: { provider?: string } & CallOptions = {},
  ): Promise<RegisteredView> {
    return this.#json('PUT /v1/profiles/{iccid}', { path: { iccid }, query: { provider }, body: esim, signal });
  }

  /** The profile as it is now. */
  profile(iccid: string, options: CallOptions = {}): Promise<Profile> {
    return this.#json('GET /v1/profiles/{iccid}', { path: { iccid }, ...options });
  }

  /**
   * Waits until the profile changes, or for `waitSeconds` (at most 60; default 30). Resolves with null if it did not change.
   * Without an `etag` it does not wait.
   */
  profileChange(
    iccid: string, { etag, waitSeconds = 30, signal }: { etag?: string | null; waitSeconds?: number } & CallOptions = {},
  ): Promise<ProfileReading | null> {
    const wait = etag ? Math.min(waitSeconds, LONGEST_WAIT) : undefined;
    const headers: Record<string, string> = etag ? { 'If-None-Match': etag } : {};
    const call = { path: { iccid }, query: { wait }, headers, held: (wait ?? 0) * 1_000, signal };
    return this.#transport.send('GET /v1/profiles/{iccid}', call, async (response) => (
      response.status === 304 ? null : { profile: await response.json() as Profile, etag: response.headers.get('ETag') }
    ));
  }

  /**
   * The profile as it is now, and again after every change, until the loop ends or the signal is aborted. An outage is
   * waited out; what cannot pass, such as `unknown-profile`, is thrown.
   */
  async *followProfile(iccid: string, { signal }: CallOptions = {}): AsyncGenerator<Profile, never, undefined> {
    let etag: string | null = null;
    for (let seen = ''; ;) {
      const asked = Date.now();
      const reading: ProfileReading | null = await patiently(() => this.profileChange(iccid, { etag, signal }), signal);
      if (reading) etag = reading.etag;
      const text = reading ? JSON.stringify(reading.profile) : seen;
      if (reading && text !== seen) {
        seen = text;
        yield reading.profile;
      } else if (Date.now() - asked < SHORTEST_WAIT) {
        // Something between does not hold answers back, or removes the ETag. That must not make a rush of requests.
        await pause(SHORTEST_WAIT, signal);
      }
    }
  }

  /** The history of a profile, oldest first; with `after` only what has a larger `seq`. */
  transitions(
    iccid: string, { after, limit, signal }: { after?: number; limit?: number } & CallOptions = {},
  ): Listing<Transition> {
    return new Listing((cursor) => this.#json('GET /v1/profiles/{iccid}/transitions', {
      path: { iccid }, query: { after: cursor === undefined ? after : Number(cursor), limit }, signal,
    }));
  }

  /** What the user should do now, in the language `lang`. Contains the install credentials if they are needed now. */
  journey(iccid: string, { lang, signal }: { lang?: string } & CallOptions = {}): Promise<Journey> {
    return this.#json('GET /v1/profiles/{iccid}/journey', { path: { iccid }, query: { lang }, signal });
  }

  /** The activation code as a QR code: an SVG image, as text. */
  qrSvg(iccid: string, options: CallOptions = {}): Promise<string> {
    const call = { path: { iccid }, ...options };
    return this.#transport.send('GET /v1/profiles/{iccid}/qr.svg', call, (answer) => answer.text());
  }

  /** The activation code as a QR code: a PNG image of about `size` pixels. */
  qrPng(iccid: string, { size, signal }: { size?: number } & CallOptions = {}): Promise<Blob> {
    const call = { path: { iccid }, query: { size }, signal };
    return this.#transport.send('GET /v1/profiles/{iccid}/qr.png', call, (answer) => answer.blob());
  }

  /** Notes what the user did, once for each profile. For apps that draw their own screens. */
  noteIntent(iccid: string, intent: Intent, options: CallOptions = {}): Promise<void> {
    return this.#done('PUT /v1/profiles/{iccid}/intents/{intent}', { path: { iccid, intent }, ...options });
  }

  /** Every webhook about this profile with its outcome, newest first. */
  deliveriesOf(iccid: string, { limit, signal }: { limit?: number } & CallOptions = {}): Listing<Delivery> {
    return new Listing((cursor) => (
      this.#json('GET /v1/profiles/{iccid}/deliveries', { path: { iccid }, query: { cursor, limit }, signal })
    ));
  }

  /** All that is recorded about a profile, signed if the service has a key. */
  evidence(iccid: string, options: CallOptions = {}): Promise<SignedEvidence> {
    return this.#json('GET /v1/profiles/{iccid}/evidence', { path: { iccid }, ...options });
  }

  /** The same as an HTML page to print. */
  evidencePage(iccid: string, options: CallOptions = {}): Promise<string> {
    const call = { path: { iccid }, headers: { Accept: 'text/html' }, ...options };
    return this.#transport.send('GET /v1/profiles/{iccid}/evidence', call, (answer) => answer.text());
  }

  /** Has the provider's API asked about the profile, as soon as the budget of calls allows. */
  inquire(iccid: string, options: CallOptions = {}): Promise<void> {
    return this.#done('POST /v1/profiles/{iccid}/inquiry', { path: { iccid }, ...options });
  }

  // Its user

  /**
   * Creates an access token for this profile's user, and the address of the install page. Whoever has it can install the
   * eSIM. It is valid for `ttlSeconds`: 1 to 86,400; default 900.
   */
  createToken(iccid: string, { ttlSeconds, signal }: { ttlSeconds?: number } & CallOptions = {}): Promise<TokenView> {
    return this.#json('POST /v1/profiles/{iccid}/tokens', { path: { iccid }, body: { ttlSeconds }, signal });
  }

  /** Ends all access tokens of this profile. */
  revokeTokens(iccid: string, options: CallOptions = {}): Promise<void> {
    return this.#done('DELETE /v1/profiles/{iccid}/tokens', { path: { iccid }, ...options });
  }

  /** Erases everything about a profile. Throws `unknown-profile` if there is none. */
  async erase(iccid: string, options: CallOptions = {}): Promise<void> {
    try {
      await this.#done('DELETE /v1/profiles/{iccid}', { path: { iccid }, ...options });
    } catch (error) {
      // The answer to an earlier attempt was lost, and that attempt erased the profile.
      const isErased = error instanceof EsimStatusError && error.code === 'unknown-profile' && error.attempts > 1;
      if (!isErased) throw error;
    }
  }

  // All profiles

  /** The profiles that match all given filters, in the order of their ICCIDs. `limit` is the size of a page. */
  profiles({ signal, ...filter }: ProfileFilter & CallOptions = {}): Listing<Profile> {
    return new Listing((cursor) => this.#json('GET /v1/profiles', { query: { ...filter, cursor }, signal }));
  }

  /** The profiles with this IMSI, EID, customer's id or order number, at most 200. */
  async lookUp(by: LookUp, options: CallOptions = {}): Promise<Profile[]> {
    // Without a filter the service would list everybody.
    if (!Object.values(by).some((value) => value)) throw new TypeError('lookUp needs an imsi, an eid, a uid or a reference');
    const { items } = await this.profiles({ ...by, limit: 200, ...options }).page();
    return items;
  }

  /** The webhooks that were stored and not applied, or those with a given outcome, newest first. */
  deliveries({ signal, ...filter }: DeliveryFilter & CallOptions = {}): Listing<Delivery> {
    return new Listing((cursor) => this.#json('GET /v1/deliveries', { query: { ...filter, cursor }, signal }));
  }

  /**
   * Counts of profiles and webhooks, how far profiles come, and the profiles that seem stuck.
   *
   * @param options `days` is how many to count: 1 to 90; default 7
   */
  summary({ days, signal }: { days?: number } & CallOptions = {}): Promise<Summary> {
    return this.#json('GET /v1/summary', { query: { days }, signal });
  }

  /** The hooks and how they do, and whether installs arrive. */
  hooks(options: CallOptions = {}): Promise<HookList> {
    return this.#json('GET /v1/hooks', options);
  }

  /** The public keys that verify evidence sheets. */
  evidenceKeys(options: CallOptions = {}): Promise<KeySet> {
    return this.#json('GET /.well-known/jwks.json', options);
  }

  // A copy of everything

  /**
   * Some changes of all profiles, oldest first, in an order that never changes. Keep `nextCursor`, and send it as `after`.
   *
   * @param options `after` is a cursor, or `now` for the present end; by default the beginning. `limit` is 1 to 200; default
   *   50. `waitSeconds` is how long to wait for a change if there is none: 0 to 60; default 0.
   */
  changes(
    { after, limit, waitSeconds, signal }: { after?: string; limit?: number; waitSeconds?: number } & CallOptions = {},
  ): Promise<ChangePage> {
    const wait = waitSeconds === undefined ? undefined : Math.min(waitSeconds, LONGEST_WAIT);
    return this.#json('GET /v1/changes', { query: { after, limit, wait }, held: (wait ?? 0) * 1_000, signal });
  }

  /**
   * Every change of every profile as it happens, until the loop ends or the signal is aborted. Keep each change's `cursor`
   * with what you have done about it, and go on after it: no change is missed. An outage is waited out.
   *
   * @param options `after` is a cursor, or `now` to skip what has happened so far; by default the beginning
   */
  async *followChanges({ after, signal }: { after?: string } & CallOptions = {}): AsyncGenerator<Change, never, undefined> {
    for (let place = after; ;) {
      const asked = Date.now();
      const options = { after: place, limit: 200, waitSeconds: 30, signal };
      const { items, nextCursor } = await patiently(() => this.changes(options), signal);
      yield* items;
      const isHeld = items.length > 0 || place === 'now' || Date.now() - asked > SHORTEST_WAIT;
      place = nextCursor;
      if (!isHeld) await pause(SHORTEST_WAIT, signal);
    }
  }

  /** All profiles as they are now, in the order of their ICCIDs; with `after` those after this ICCID. */
  exportProfiles({ after, signal }: { after?: string } & CallOptions = {}): Promise<Export<Profile>> {
    return exported((place) => this.#export('profiles', place, signal), ({ iccid }) => iccid, { after, signal });
  }

  /** All transitions, in the order of their profiles and `seq`; with `after`, an `ICCID:seq`, those after it. */
  exportTransitions({ after, signal }: { after?: string } & CallOptions = {}): Promise<Export<ExportedTransition>> {
    const nameOf = ({ iccid, seq }: ExportedTransition): string => `${iccid}:${seq}`;
    return exported((place) => this.#export('transitions', place, signal), nameOf, { after, signal });
  }

  // Where changes are delivered to

  /** The endpoints, and how each does. */
  async endpoints(options: CallOptions = {}): Promise<Endpoint[]> {
    return (await this.#json('GET /v1/endpoints', options)).items;
  }

  /** An endpoint, and how it does. */
  endpoint(id: string, options: CallOptions = {}): Promise<Endpoint> {
    return this.#json('GET /v1/endpoints/{id}', { path: { id }, ...options });
  }

  /**
   * Has every change delivered to your server, as a signed webhook. Keep the `secret` of the answer: no other answer shows it.
   *
   * The call is not sent again after a failure: look into `endpoints()` whether the endpoint was created.
   */
  createEndpoint(body: NewEndpoint, options: CallOptions = {}): Promise<Endpoint> {
    return this.#json('POST /v1/endpoints', { body, ...options });
  }

  /** Changes an endpoint. What is absent stays as it is. */
  changeEndpoint(id: string, body: EndpointChange, options: CallOptions = {}): Promise<Endpoint> {
    return this.#json('PATCH /v1/endpoints/{id}', { path: { id }, body, ...options });
  }

  /** Has an endpoint continue after another change: a cursor, `now` or `beginning`. */
  replayEndpoint(id: string, after: string, options: CallOptions = {}): Promise<Endpoint> {
    return this.#json('POST /v1/endpoints/{id}/replay', { path: { id }, body: { after }, ...options });
  }

  /** Deletes an endpoint. What waits for it is not delivered. */
  async deleteEndpoint(id: string, options: CallOptions = {}): Promise<void> {
    try {
      await this.#done('DELETE /v1/endpoints/{id}', { path: { id }, ...options });
    } catch (error) {
      // The answer to an earlier attempt was lost, and that attempt deleted the endpoint.
      const isDeleted = error instanceof EsimStatusError && error.code === 'unknown-endpoint' && error.attempts > 1;
      if (!isDeleted) throw error;
    }
  }

  #export(of: 'profiles' | 'transitions', after: string | undefined, signal: CallOptions['signal']): Promise<Opened> {
    return this.#transport.send('GET /v1/export', { query: { of, after }, signal }, async ({ body, headers }) => {
      // Only an answer without a body, such as 204, has none.
      if (!body) throw new SyntaxError('the answer is empty');
      return { body, changesCursor: headers.get('X-Changes-Cursor') };
    });
  }

  #json<O extends Operation>(operation: O, call: Call<O>): Promise<AnswerOf<O>> {
    return this.#transport.send(operation, call, (response) => response.json() as Promise<AnswerOf<O>>);
  }

  #done<O extends Operation>(operation: O, call: Call<O>): Promise<void> {
    return this.#transport.send(operation, call, async () => {});
  }
}
