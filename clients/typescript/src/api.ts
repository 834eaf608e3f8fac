/**
 * The types of the HTTP API. Written by scripts/generate.js from docs/openapi.json and docs/problems.md: do not edit.
 *
 * Times are RFC 3339 in UTC. Identifiers are strings.
 */

/** The result of a delivery. */
export interface Answer {
  /** The id of the stored delivery. */
  deliveryId: string;
  /** What the service did with the delivery. */
  outcome: Outcome;
}

/** The members that only a backend sees. */
export interface BackendView {
  /** When the data package was activated, from the registration. */
  activatedAt?: string | null;
  /** What kind of device the profile is on; null if the provider has not said so. */
  device?: Device | null;
  /** The EID of the device's eUICC. */
  eid?: string | null;
  /**
   * The day of travel, from the registration.
   *
   * @example "2026-12-24"
   */
  expectedFrom?: string | null;
  /** The IMSI of the subscription. */
  imsi?: string | null;
  /** When the provider last saw the profile, from the registration. */
  lastSeen?: string | null;
  /** Your own number of the order, from the registration. */
  reference?: string | null;
  /** The ICCID of the profile that was given out for this one. Access tokens for this profile show that one. */
  replacedBy?: string | null;
  /** The ICCID of the profile that this one was given out for, from the registration. */
  replaces?: string | null;
  /**
   * The ICCID of another stored profile that differs only by the check digit at the end. Usually it is the same
   * card, written differently by another system. Only looked up for a single profile about which no webhook has
   * reported anything.
   */
  twin?: string | null;
  /** The customer's id at the provider, from the registration. */
  uid?: string | null;
}

/** One entry of the history, and the webhook that caused it. */
export interface CausedTransition extends Transition {
  /**
   * The SHA-256 of the webhook's body, exactly as received, in hexadecimal; null if no webhook caused the transition, or
   * it is no longer kept: with `deliveryId` it is the latter.
   */
  bodySha256?: string | null;
  /** The id that the provider was answered; null if no webhook caused the transition. */
  deliveryId?: string | null;
  /** The sender's event id; null if it sends none, or the webhook is no longer kept. */
  eventId?: string | null;
  /** The path of the hook that authenticated the sender and received the webhook; null if the webhook is no longer kept. */
  hook?: string | null;
}

/** One change of one profile. */
export interface Change {
  /** When, by the service's clock. */
  at: string;
  /** Where this change is in the order: send it as `after` to continue behind it. */
  cursor: string;
  /**
   * The profile's number.
   *
   * @example "89972123300991848961"
   */
  iccid: string;
  /**
   * What changed. `transition`: its history has a new transition, which may be `late`. `overdue`: something should have
   * happened by now and did not. `evidence`: a provider said where it is connected. `registered`: a backend registered it, or
   * something new about it. `erased`: it was erased, with all earlier changes of it.
   */
  kind: ChangeKind;
  /** The profile as it is now: after this change, or after later ones. Absent with the kind `erased`. */
  profile?: Profile | null;
  /** The transition, with the kinds `transition` and `overdue`. */
  transition?: Transition | null;
}

/** What changed about a profile. */
export type ChangeKind = 'transition' | 'overdue' | 'evidence' | 'registered' | 'erased';

/** Some changes, in their order. */
export interface ChangePage {
  /** The changes, oldest first; none if nothing has changed. */
  items: Array<Change>;
  /** Send this as `after` to get what comes next. It does not expire. */
  nextCursor: string;
}

/** Whether check digits are correct. */
export interface Checks {
  /** The EID has 32 digits and leaves 1 modulo 97. Shown to backends only, if an EID is known. */
  eidMod97?: boolean | null;
  /** Whether the ICCID's last digit is the Luhn check digit of the others. */
  iccidLuhn: boolean;
}

export interface DayCount {
  /**
   * The day in UTC.
   *
   * @example "2026-11-23"
   */
  day: string;
  deliveries: number;
  outcome: Outcome;
  provider: string;
}

/** How far the profiles of one provider have come that were ready on one day. Each number counts profiles once. */
export interface DayFunnel {
  /** How many were connected to a mobile network. */
  connected: number;
  /**
   * The day in UTC.
   *
   * @example "2026-11-23"
   */
  day: string;
  /** How many a device has downloaded, as was reported or follows from an install. */
  downloaded: number;
  /** How many were installed, as was reported or follows from a connection. */
  installed: number;
  /** How many users tapped the link that opens the phone's own setup. */
  linkTapped: number;
  /**
   * How many users opened the page. A page that was opened before its profile was ready counts on the day on which it was
   * opened.
   */
  opened: number;
  provider: string;
  /** How many users were shown the QR code. */
  qrShown: number;
  /** How many could be installed. */
  ready: number;
  /** How long it took from ready to installed; null if no install was reported. */
  secondsToInstall?: InstallTimes | null;
}

/** One webhook request as it was stored. */
export interface Delivery {
  /** The raw body; null if it is not UTF-8. */
  body?: string | null;
  /** The raw body in base64, if it is not UTF-8. */
  bodyBase64?: string | null;
  /** The sender's event id, if it sends one. */
  eventId?: string | null;
  /** The headers that were stored. Credentials and signatures are never among them. */
  headers: Record<string, string>;
  /**
   * The path of the hook that received it, without `/webhooks/`.
   *
   * @example "gigastore/esim-status"
   */
  hook: string;
  /** The profile that the webhook is about, if its ICCID could be read. */
  iccid?: string | null;
  /** The delivery's id. */
  id: string;
  /** What the service did with the webhook. */
  outcome: Outcome;
  /** The slug of the hook's provider. */
  provider: string;
  /** The reason for the outcome, in words. */
  reason?: string | null;
  /** When the service received the webhook. */
  receivedAt: string;
}

/** The kind of a device, as far as the provider has said it. */
export interface Device {
  /**
   * Who made it.
   *
   * @example "Apple"
   */
  make?: string | null;
  /**
   * Its model.
   *
   * @example "iPhone 15"
   */
  model?: string | null;
  /**
   * Its type allocation code: the first eight digits of its IMEI, which leads to the model and not to the device.
   *
   * @example "35328510"
   */
  tac?: string | null;
}

/** An endpoint, and how it does. */
export interface Endpoint {
  /** How many changes come after that one, whether it wants them or not. */
  behind: number;
  /** When the first of them happened. */
  behindSince?: string | null;
  /** Whether it comes from the operator's configuration file. */
  configured: boolean;
  /** When it was created. */
  createdAt: string;
  /** The last change that it is done with, but for the profiles in `heldProfiles`. */
  cursor: string;
  /** How many changes it has accepted. */
  delivered: number;
  /** When it last accepted one. */
  deliveredAt?: string | null;
  /** What it is for. */
  description?: string | null;
  /** Since when it is disabled. */
  disabledAt?: string | null;
  /**
   * Why it is disabled. `request`: a backend asked for that. `gone`: it answered 410. `failing`: it accepted nothing for five days.
   * `lost-place`: the database has not given out its cursor, because a part of it was restored or changed by hand; replay it.
   */
  disabledBecause?: 'request' | 'gone' | 'failing' | 'lost-place' | null;
  /** Since when. */
  failingSince?: string | null;
  /** How often in a row it has accepted nothing. */
  failures: number;
  /** How many changes were given up after five days, while the endpoint accepted those of other profiles. */
  givenUp: number;
  /** How many profiles have changes that it does not accept, while it accepts those of others. They are retried separately. */
  heldProfiles: number;
  /** Its name. */
  id: string;
  /** The kinds of changes that it wants; none: all. */
  kinds: Array<ChangeKind>;
  /** How the last request failed that it did not accept. */
  lastError?: string | null;
  /** Until when secrets before the present one also sign: each for a day. */
  previousSecretUntil?: string | null;
  /** The providers of whose profiles it wants changes; none: all. */
  providers: Array<string>;
  /** When the next attempt is due, if it has to wait. */
  retryAt?: string | null;
  /**
   * The secret that signs the requests. Only the answer that creates it shows it.
   *
   * @example "whsec_…"
   */
  secret?: string | null;
  status: Status;
  /** Where changes are sent. */
  url: string;
}

/** What is to change about an endpoint. What is absent stays as it is. */
export interface EndpointChange {
  /** What it is for, in at most 200 characters; empty: nothing. */
  description?: string | null;
  /** `false` ends the deliveries, `true` begins them again where they ended. */
  enabled?: boolean | null;
  /** The kinds of changes that it wants; none: all. */
  kinds?: Array<ChangeKind> | null;
  /** The providers of whose profiles it wants changes; none: all. */
  providers?: Array<string> | null;
  /**
   * `true` gives it a new secret, which the answer shows. For a day, every secret that signed before also signs.
   *
   * @default false
   */
  rotateSecret?: boolean;
  /** Where changes are sent. */
  url?: string | null;
}

/** All endpoints. */
export interface Endpoints {
  /** The endpoints, oldest first. */
  items: Array<Endpoint>;
}

/** The eSIM object of a provider's API. The provider's adapter reads it; this type only documents it. */
export interface EsimObject {
  /** When the data package was activated. */
  activatedAt?: string | null;
  /**
   * The activation code, which is the content of the QR code. `LPA:` may be missing. A code that cannot be read is
   * ignored and listed in the answer's `remarks`.
   *
   * @example "LPA:1$domain.tld$1234567890ABCDEF123456"
   */
  activationCode?: string | null;
  /** The provider's own install link for iPhones. A template that still contains `<` is ignored. */
  appleUniversalLink?: string | null;
  /**
   * The day of travel: the first on which the profile is expected to be used.
   *
   * @example "2026-12-24"
   */
  expectedFrom?: string | null;
  /**
   * The profile's number. It must be the same as in the path.
   *
   * @example "89972123300991848961"
   */
  iccid: string;
  /**
   * The IMSI of the subscription, a string. A string that is not an IMSI is ignored. A JSON number is refused,
   * because it may have lost digits.
   */
  imsi?: unknown;
  /** The provider's own install page. */
  installationUrl?: string | null;
  /** When the provider last saw the profile. */
  lastSeen?: string | null;
  /**
   * Your own number of the order: 1 to 64 characters. Lists find the profile by it. Add this member and the next two to
   * the provider's object; left out, they keep their value.
   *
   * @example "A-4711"
   */
  reference?: string | null;
  /**
   * The ICCID of the profile that this one was given out for. Its users' access tokens show this profile from now on, until
   * either is erased or this one is registered with null. Erase a profile before you give its ICCID to somebody else.
   */
  replaces?: string | null;
  /**
   * The provider's own word for the state.
   *
   * @example "RELEASED"
   */
  state: string;
  /** The customer's id at the provider. */
  uid?: string | null;
}

/**
 * What the service has recorded about one profile, as of one moment. It has no activation code and no credentials, and
 * names neither device nor subscription.
 */
export interface EvidenceSheet {
  /**
   * Where the profile was then, as two letters (ISO 3166-1); null if unknown.
   *
   * @example "PL"
   */
  country?: string | null;
  /**
   * How many of these transitions were caused by a webhook that is no longer kept. Webhooks are kept for
   * `ESIM_STATUS_DELIVERY_RETENTION_DAYS`.
   */
  deliveriesGone: number;
  /** Whether the profile is switched on; null if the provider does not say. */
  enabled?: boolean | null;
  /** When the provider first said that the profile is connected to a network; null if it never did. */
  firstConnectedAt?: string | null;
  /**
   * The profile's number.
   *
   * @example "89972123300991848961"
   */
  iccid: string;
  /** When the sheet was issued, by the service's clock. */
  issuedAt: string;
  /** When the provider last said so. */
  lastConnectedAt?: string | null;
  /**
   * The webhooks about the profile that caused no transition, as far as they are kept, oldest first: what the provider
   * said again, connections, and what was not applied. A webhook whose ICCID could not be read is not among them.
   */
  otherDeliveries: Array<OtherDelivery>;
  /** Whether `otherDeliveries` has all that are kept. If not, it has the last 1,000. */
  otherDeliveriesComplete: boolean;
  /** The provider's slug. */
  provider: string;
  /** The provider's own word for the state, from its last report. */
  rawState: string;
  /** Your own number of the order, from the registration. */
  reference?: string | null;
  /** When a backend last registered something new about the profile; null if none has registered it. */
  registeredAt?: string | null;
  /** When the profile entered this state, by the service's clock. */
  since: string;
  /** The canonical state. */
  state: ProfileState;
  /** The whole history, oldest first. */
  transitions: Array<CausedTransition>;
  /** Whether `transitions` is the whole history. If not, it has the last 2,000. */
  transitionsComplete: boolean;
}

/** How a hook does. */
export type Health = 'well' | 'unused' | 'silent' | 'refusing';

/** A hook, and what came by it, over all replicas and restarts. */
export interface Hook {
  /** How many webhooks were accepted since the hour before this one began. */
  accepted: number;
  /** In a word. */
  health: Health;
  /**
   * The path below `/webhooks/`, without a secret.
   *
   * @example "gigastore/esim-status"
   */
  hook: string;
  /** When a webhook was last accepted. */
  lastAcceptedAt?: string | null;
  /** Why not. */
  lastRefusal?: string | null;
  /** When a webhook could last not be authenticated. */
  lastRefusedAt?: string | null;
  /** The provider's slug. */
  provider: string;
  /** How many could not be authenticated since then. */
  refused: number;
  /** How many were accepted in that hour of the last four weeks, on average; null before two weeks are known. */
  usual?: number | null;
}

/** All hooks, and the servers that install profiles. */
export interface HookList {
  /** The hooks, in the order of their paths. */
  items: Array<Hook>;
  /** The servers from which a profile was tried within a day. */
  smdp: Array<Smdp>;
}

/** How long installs took, in seconds, to within 5 %. */
export interface InstallTimes {
  /** Half of them took no longer. */
  p50: number;
  /** Nine of ten took no longer. */
  p90: number;
}

/** The install credentials. Anyone who has them can install the profile. */
export interface InstallView {
  /**
   * The activation code, which is the content of the QR code.
   *
   * @example "LPA:1$domain.tld$1234567890ABCDEF123456"
   */
  activationCode: string;
  /** Whether the user must enter a confirmation code. */
  confirmationCodeRequired: boolean;
  links: LinksView;
  /** The matching id of the profile, for entering by hand. */
  matchingId: string;
  /**
   * The path of the QR code as SVG. The same path with `.png` gives a PNG.
   *
   * @example "/v1/profiles/self/qr.svg"
   */
  qr: string;
  /** The SM-DP+ address, for entering by hand. */
  smdpAddress: string;
}

/** The user's next step towards an installed eSIM. */
export interface Journey {
  /** The step in a sentence or two, in the language of the answer. */
  detail: string;
  /** The profile's number. */
  iccid: string;
  /** The install credentials. Only present if the profile can be installed now. */
  install?: InstallView | null;
  /** How many installs the provider allows; null if the provider does not say. */
  installLimit?: number | null;
  /** How many installs onto a device were observed. */
  installsSeen: number;
  /**
   * When the last webhook about the profile was received, or the provider last answered a question about it. It tells
   * how old this knowledge is.
   */
  lastDeliveryAt?: string | null;
  /** When the profile entered this state, by the service's clock. */
  since: string;
  /** The profile's canonical state. */
  state: ProfileState;
  /** The next step. Build your own interface on this member. */
  step: Step;
  /** The progress so far. */
  steps: Array<Progress>;
  /** The step in a few words, in the language of the answer. */
  title: string;
}

/** A public key (RFC 8037). */
export interface Key {
  /**
   * The algorithm of its signatures.
   *
   * @example "EdDSA"
   */
  alg: string;
  /**
   * Its curve.
   *
   * @example "Ed25519"
   */
  crv: string;
  /** Its thumbprint (RFC 7638), which signatures name. */
  kid: string;
  /**
   * The type of the key.
   *
   * @example "OKP"
   */
  kty: string;
  /**
   * What it is for.
   *
   * @example "sig"
   */
  use: string;
  /** The public key, in the base64 of URLs. */
  x: string;
}

/** The public keys of evidence sheets (RFC 7517). */
export interface KeySet {
  /** The keys, the one that signs first; empty if none is configured. */
  keys: Array<Key>;
}

/** Links that open the phone's own eSIM setup. */
export interface LinksView {
  /** For Android 10 or newer; not supported by every device. */
  android: string;
  /** For iOS 17.4 or newer. */
  apple: string;
  /** The provider's own install page. */
  provider?: string | null;
}

/** A new endpoint. */
export interface NewEndpoint {
  /** Behind which change it begins: a cursor of `GET /v1/changes`, a time, `beginning`, or `now`, which is the default. */
  after?: string | null;
  /** What it is for, in at most 200 characters. */
  description?: string | null;
  /**
   * The kinds of changes that it wants; none: all.
   *
   * @default []
   */
  kinds?: Array<ChangeKind>;
  /**
   * The providers of whose profiles it wants changes; none: all. It is notified of erasures whatever the provider was.
   *
   * @default []
   */
  providers?: Array<string>;
  /**
   * Where changes are sent: `https://…`, at a public address unless the operator allows others.
   *
   * @example "https://shop.example.org/webhooks/esim"
   */
  url: string;
}

/** A webhook that caused no transition. */
export interface OtherDelivery {
  /** The SHA-256 of the webhook's body, exactly as received, in hexadecimal. */
  bodySha256: string;
  /** The id that the provider was answered. */
  deliveryId: string;
  /** The sender's event id, if it sends one. */
  eventId?: string | null;
  /** The path of the hook that authenticated the sender and received the webhook. */
  hook: string;
  /** What the service did with the webhook. */
  outcome: Outcome;
  /** The slug of the hook's provider. */
  provider: string;
  /** The reason for the outcome, in words. */
  reason?: string | null;
  /** When the service received the webhook. */
  receivedAt: string;
}

/** What became of one authentic delivery. */
export type Outcome = 'moved' | 'repeated' | 'connected' | 'duplicate' | 'late' | 'unrecognised' | 'ignored' | 'foreign' | 'malformed';

/** What did not happen. */
export type OverdueReason = 'not-installed' | 'not-finished' | 'failed' | 'not-connected';

/** A problem document (RFC 9457). */
export interface Problem {
  /**
   * The problem's stable name, in kebab-case, from a closed catalogue. Match on this member.
   *
   * @example "malformed"
   */
  code: string;
  /** The id of the stored delivery, if the webhook was stored. */
  deliveryId?: string | null;
  /** What is wrong with this request, and what to do. */
  detail: string;
  /** The id of this request, the same as in the header `X-Request-Id` and in the service's log. */
  requestId: string;
  /** The HTTP status. */
  status: number;
  /** What the problem is, in a few words. */
  title: string;
  /**
   * A link to the description of this problem.
   *
   * @example "http://127.0.0.1:8080/problems#malformed"
   */
  type: string;
}

/** The current knowledge about one profile. The members after `checks` are shown to backends only. */
export interface Profile extends BackendView {
  /** Whether check digits are correct. This is information only: nothing is refused for a wrong check digit. */
  checks: Checks;
  /**
   * Where the profile was then, as two letters (ISO 3166-1); null if unknown.
   *
   * @example "PL"
   */
  country?: string | null;
  /** How many webhooks reported something about the profile. */
  deliveries: number;
  /** Whether the profile is switched on; null if the provider does not say. */
  enabled?: boolean | null;
  /**
   * When the provider first said that the profile is connected to a network; null if it never did. The only evidence
   * that the eSIM works.
   */
  firstConnectedAt?: string | null;
  /**
   * The profile's number.
   *
   * @example "89972123300991848961"
   */
  iccid: string;
  /** How many installs onto a device were observed. */
  installsSeen: number;
  /** When the provider last said so. */
  lastConnectedAt?: string | null;
  /**
   * When the last webhook about the profile was received, or the provider last answered a question about it. It tells
   * how old this knowledge is.
   */
  lastDeliveryAt?: string | null;
  /** What should have happened to the profile by now and did not; null if nothing is overdue. */
  overdue?: OverdueReason | null;
  /** The provider's slug. */
  provider: string;
  /** The provider's own word for the state, from its last report. */
  rawState: string;
  /** Whether a backend has registered the profile. */
  registered: boolean;
  /** The `seq` of the last transition. Continue the history (`after`) or the stream (`Last-Event-ID`) from it. */
  seq: number;
  /** When the profile entered this state, by the service's clock. */
  since: string;
  /** The canonical state. */
  state: ProfileState;
}

/**
 * The body of a request to an endpoint: a CloudEvent (<https://cloudevents.io>, version 1.0) about one change. Its content type is
 * `application/cloudevents+json`, and it is signed as Standard Webhooks describes (<https://www.standardwebhooks.com>).
 */
export interface ProfileChanged {
  /** The change, as `GET /v1/changes` lists it. */
  data: Change;
  /** `application/json`. */
  datacontenttype: string;
  /**
   * The same for every delivery of this change, also in the header `webhook-id`. It contains no ICCID.
   *
   * @example "chg_4711_191f0a3c2d8e0"
   */
  id: string;
  /** The public URL of the service. */
  source: string;
  /** `1.0`. */
  specversion: string;
  /** The reference under which the profile was registered. */
  subject?: string | null;
  /** When it changed. */
  time: string;
  /** `profile.changed`. */
  type: string;
}

/**
 * What we believe of a profile, in our words.
 *
 * The order of the variants is the order of a profile's life, and breaks the tie between two reports of one event time.
 */
export type ProfileState = 'PREPARING' | 'RELEASED' | 'DOWNLOADED' | 'INSTALLED' | 'DISABLED' | 'DELETED' | 'ERROR' | 'UNAVAILABLE';

/** One part of the progress, for display. */
export interface Progress {
  /** When it was reached. */
  at?: string | null;
  /**
   * `ready`, `downloaded` (only if it was reported), `installed`, `turned-on` (only if it was off), `connected` (only if
   * the provider tells of connections).
   */
  key: string;
  /** Its status. */
  status: StepStatus;
}

/** A registered profile, and the parts of its registration that could not be used. */
export interface RegisteredView extends Profile {
  /** The members of the provider's object that were ignored, and why. Usually empty. */
  remarks: Array<string>;
}

/** Where an endpoint is to continue. */
export interface Replay {
  /**
   * Behind which change: a cursor of `GET /v1/changes`, a time, `beginning`, or `now`, which leaves out what is waiting. With a
   * time, it continues with the first change that happened then or later.
   */
  after: string;
}

/** An evidence sheet and its signature. */
export interface SignedEvidence {
  /**
   * What the service has recorded. Not for verifying: the signature is over the text of the sheet, which a JSON parser
   * does not keep. The payload of `signed` has it.
   */
  sheet: EvidenceSheet;
  /**
   * The sheet as a compact JWS (RFC 7515) with `EdDSA` (Ed25519), of the type `esim-status-evidence+jws`; its `kid` names
   * a key of `/.well-known/jwks.json`. Null if no key is configured: see `ESIM_STATUS_EVIDENCE_KEYS`.
   */
  signed?: string | null;
}

/** A server that installs profiles (SM-DP+), and what became of the last profiles that tried. */
export interface Smdp {
  /** How many of these are on a device. */
  arrived: number;
  /**
   * Its address, from the activation codes.
   *
   * @example "smdp.example.org"
   */
  host: string;
  /** Whether 20 have tried and none has arrived. */
  ill: boolean;
  /** How many profiles have tried within a day; the last 20 at most, of the last 5,000 changes. */
  tried: number;
}

/** Where a transition comes from. */
export type Source = 'webhook' | 'registration' | 'provider-api' | 'reread';

/** The answer to a delivery that is durable in the spool, but not in the database yet. */
export interface SpooledAnswer {
  /** The id that the delivery will have in the database. */
  deliveryId: string;
  /** Always `spooled`. The outcome is decided when the delivery is written to the database. */
  outcome: SpooledOutcome;
}

/** Stands for an outcome that is not known yet. */
export type SpooledOutcome = 'spooled';

export interface StateCount {
  profiles: number;
  provider: string;
  state: ProfileState;
}

/** How an endpoint does. */
export type Status = 'active' | 'failing' | 'disabled' | 'not-configured';

/** The user's next step. */
export type Step = 'wait' | 'install' | 'finish' | 'turn-on' | 'done' | 'reinstall' | 'contact-support';

/** The status of one part of the progress. */
export type StepStatus = 'done' | 'current' | 'problem' | 'upcoming';

export interface StuckProfile {
  iccid: string;
  provider: string;
  since: string;
  state: ProfileState;
}

/** Counts of profiles and deliveries. */
export interface Summary {
  /** Deliveries by day, provider and outcome. */
  days?: Array<DayCount> | null;
  /**
   * The first day in `days` that has been counted. Only present after an upgrade, until the service has counted the
   * earlier days.
   *
   * @example "2026-11-23"
   */
  daysSince?: string | null;
  /**
   * How far profiles come, by provider and the day in UTC on which they were ready to be installed. Profiles that were not
   * reported as ready before they were on a device are not counted.
   */
  funnel?: Array<DayFunnel> | null;
  /** The parts (`states`, `days`, `funnel`, `stuck`) that could not be read and are left out. Only present if there are any. */
  missing?: Array<string>;
  /** Profiles by provider and state. */
  states?: Array<StateCount> | null;
  /**
   * The profiles that have been stuck longest, at most 50. A profile is stuck if its install failed, if it has been
   * downloaded for more than an hour, or if it has been in preparation for more than a day.
   */
  stuck?: Array<StuckProfile> | null;
}

/** A request for an access token. */
export interface TokenRequest {
  /** How many seconds the token is valid: 1 to 86,400; default 900. */
  ttlSeconds?: number | null;
}

/** An access token for one profile. */
export interface TokenView {
  /** When the token expires. */
  expiresAt: string;
  /** The URL of this profile's install page, with the token in its fragment. */
  installUrl: string;
  /** The token, a JWT. */
  token: string;
}

/** One entry of a profile's history. */
export interface Transition {
  /** Whether the profile is switched on; null if the provider does not say. */
  enabled?: boolean | null;
  /** The state before; null for the first transition. */
  fromState?: ProfileState | null;
  /**
   * The kind of the transition. `late`: recorded, but not applied to the profile. `overdue`: no webhook came; the state is
   * as before.
   */
  kind: TransitionKind;
  /** The provider's time of the event, if it sends one. */
  occurredAt?: string | null;
  /** The slug of the provider that reported the transition. */
  provider: string;
  /** The provider's own word for the state. */
  rawState: string;
  /** With the kind `overdue`: what did not happen. */
  reason?: OverdueReason | null;
  /** When the service received the webhook, or found that the profile is overdue. */
  receivedAt: string;
  /** The number in the profile's history: 1, 2, 3 … without gaps. After an erasure the numbers continue. */
  seq: number;
  /** Where the transition comes from; null with the kind `overdue`. */
  source?: Source | null;
  /** The reported state. */
  toState: ProfileState;
}

/** The data of `event: transition`. */
export interface TransitionEvent extends Transition {
  /** The profile as it is now: after this transition, or after later ones. */
  profile: Profile;
}

/** How a transition fits into a profile's life. No transition is illegal. */
export type TransitionKind = 'normal' | 'unexpected' | 'late' | 'overdue';

/** One page of a list. */
export interface Page<Item> {
  /** The items of this page. */
  items: Item[];
  /** Send this as `cursor` (or, for transitions, as `after`) to get the next page; null on the last page. */
  nextCursor?: string | null;
}

/** Every operation, except those that providers call: what it takes, and what its successful answer contains. */
export interface Operations {
  /** Lists the public keys with which signed evidence sheets can be verified. */
  'GET /.well-known/jwks.json': {
    path: undefined;
    query: undefined;
    body: undefined;
    answer: KeySet;
  };
  /**
   * Lists all changes of all profiles, oldest first, in an order that never changes: no change is ever inserted before one that was
   * answered. For one profile it is the order of its history.
   */
  'GET /v1/changes': {
    path: undefined;
    query: {
      /** A `nextCursor` or `cursor`; a time, before which all changes are left out; `now` for the present end; or `beginning`, which is the default */
      after?: string;
      /** Max number of items; default 50 */
      limit?: number;
      /** Seconds to wait for a change if there is none */
      wait?: number;
    };
    body: undefined;
    answer: ChangePage;
  };
  /**
   * Lists webhooks that were stored but not applied, those with a given outcome, or those that name a customer and no profile, newest
   * first.
   */
  'GET /v1/deliveries': {
    path: undefined;
    query: {
      /** Only deliveries with this outcome; by default, all that were not applied. */
      outcome?: Outcome;
      /** The provider's slug. */
      provider?: string;
      /**
       * Only deliveries that name this customer of a provider and no profile, such as Gigastore's Balance Activation. Not together
       * with `outcome`.
       */
      uid?: string;
      /** The `nextCursor` of an earlier page. */
      cursor?: string;
      /** Max number of items, 1 to 200; default 50. */
      limit?: number;
    };
    body: undefined;
    answer: Page<Delivery>;
  };
  /** Lists all endpoints, and how each does. */
  'GET /v1/endpoints': {
    path: undefined;
    query: undefined;
    body: undefined;
    answer: Endpoints;
  };
  /** Creates an endpoint. The answer is the only one that shows its secret. */
  'POST /v1/endpoints': {
    path: undefined;
    query: undefined;
    body: NewEndpoint;
    answer: Endpoint;
  };
  /** Shows an endpoint and how it does. */
  'GET /v1/endpoints/{id}': {
    path: {
      /** The `id` of an endpoint */
      id: string;
    };
    query: undefined;
    body: undefined;
    answer: Endpoint;
  };
  /**
   * Deletes an endpoint. What waits for it is not delivered. One of the operator's configuration file can be deleted once it is no
   * longer there.
   */
  'DELETE /v1/endpoints/{id}': {
    path: {
      /** The `id` of an endpoint */
      id: string;
    };
    query: undefined;
    body: undefined;
    answer: undefined;
  };
  /** Changes an endpoint. One of the operator's configuration file can only be enabled and disabled. */
  'PATCH /v1/endpoints/{id}': {
    path: {
      /** The `id` of an endpoint */
      id: string;
    };
    query: undefined;
    body: EndpointChange | null;
    answer: Endpoint;
  };
  /**
   * Has an endpoint continue behind another change: further back to get changes again, or further on to leave some out. Also enables it,
   * unless a backend disabled it.
   */
  'POST /v1/endpoints/{id}/replay': {
    path: {
      /** The `id` of an endpoint */
      id: string;
    };
    query: undefined;
    body: Replay;
    answer: Endpoint;
  };
  /**
   * Streams all profiles as they are now, in the order of their ICCIDs, or all transitions, in the order of their profiles and
   * `seq`.
   */
  'GET /v1/export': {
    path: undefined;
    query: {
      /** What is exported */
      of: 'profiles' | 'transitions';
      /** How a line is written; default `ndjson`: one JSON object a line, as `GET /v1/profiles` and `…/transitions` show it */
      format?: 'ndjson' | 'csv';
      /** Continue after this line: its ICCID, or `ICCID:seq` */
      after?: string;
    };
    body: undefined;
    answer: ReadableStream;
  };
  /** Lists the hooks and how they do, and whether installs arrive. What other replicas have received is at most a minute old. */
  'GET /v1/hooks': {
    path: undefined;
    query: undefined;
    body: undefined;
    answer: HookList;
  };
  /** Lists the profiles that match all given filters, in the order of their ICCIDs. */
  'GET /v1/profiles': {
    path: undefined;
    query: {
      /** The canonical state. */
      state?: ProfileState;
      /** The provider's slug. */
      provider?: string;
      /** The customer's id at the provider. */
      uid?: string;
      /** The IMSI of the subscription. */
      imsi?: string;
      /** The EID of the device's eUICC. */
      eid?: string;
      /** Your own number of the order. */
      reference?: string;
      /** `true`: only profiles to which something should have happened by now that did not. */
      overdue?: boolean;
      /** Only profiles that changed, or that a webhook reported, at or after this time (RFC 3339). */
      updatedSince?: string;
      /** The `nextCursor` of an earlier page. */
      cursor?: string;
      /** Max number of items, 1 to 200; default 50. */
      limit?: number;
    };
    body: undefined;
    answer: Page<Profile>;
  };
  /** Returns the profile as it is now. */
  'GET /v1/profiles/{iccid}': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
    };
    query: {
      /** With If-None-Match: how many seconds to wait for a change before answering 304 */
      wait?: number;
    };
    body: undefined;
    answer: Profile;
  };
  /**
   * Registers a profile. The body is the provider's eSIM object, exactly as the provider's API returned it, with
   * `reference`, `expectedFrom` and `replaces` added if you like. The call is idempotent, and works before and after the first webhook. It never overwrites a state that a webhook has reported.
   */
  'PUT /v1/profiles/{iccid}': {
    path: {
      iccid: string;
    };
    query: {
      /** The provider that the object comes from; default `gigastore` */
      provider?: string;
    };
    body: EsimObject;
    answer: RegisteredView;
  };
  /**
   * Erases everything that is stored about a profile. A later webhook does not create the profile again; a new
   * registration does.
   */
  'DELETE /v1/profiles/{iccid}': {
    path: {
      iccid: string;
    };
    query: undefined;
    body: undefined;
    answer: undefined;
  };
  /** Lists every webhook about one profile with its outcome, newest first. */
  'GET /v1/profiles/{iccid}/deliveries': {
    path: {
      iccid: string;
    };
    query: {
      /** The `nextCursor` of an earlier page */
      cursor?: string;
      /** Max number of items; default 50 */
      limit?: number;
    };
    body: undefined;
    answer: Page<Delivery>;
  };
  /**
   * Streams a profile as server-sent events: first `event: profile` with the current profile, then `event: transition`
   * for each change, and `event: profile` without an `id` for each connection to a network.
   */
  'GET /v1/profiles/{iccid}/events': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
    };
    query: {
      /** The same for clients that cannot send the header. If both are given, the header counts */
      lastEventId?: string;
    };
    body: undefined;
    answer: ReadableStream;
  };
  /** Returns all that is recorded about a profile and of the webhooks about it, as of one moment, and signs it. */
  'GET /v1/profiles/{iccid}/evidence': {
    path: {
      iccid: string;
    };
    query: undefined;
    body: undefined;
    answer: SignedEvidence;
  };
  /**
   * Asks the provider's API about the profile, as soon as the budget of calls allows. If the answer differs from what is known,
   * it is a transition with the source `provider-api`.
   */
  'POST /v1/profiles/{iccid}/inquiry': {
    path: {
      iccid: string;
    };
    query: undefined;
    body: undefined;
    answer: undefined;
  };
  /**
   * Notes that the user has opened the page (`opened`), tapped the link that opens the phone's own setup (`link-tapped`), or was
   * shown the QR code (`qr-shown`). Only the first report of each is kept, for the funnel of `/v1/summary`; it is erased with the
   * profile. The install page and the browser module report by themselves.
   */
  'PUT /v1/profiles/{iccid}/intents/{intent}': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
      /** What a page reports of its user. */
      intent: 'opened' | 'link-tapped' | 'qr-shown';
    };
    query: undefined;
    body: undefined;
    answer: undefined;
  };
  /** Returns the user's next step towards an installed eSIM, with the install credentials if they are needed now. */
  'GET /v1/profiles/{iccid}/journey': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
    };
    query: {
      /** The language of `title` and `detail`, such as `de` or `zh-Hant`. By default `Accept-Language` decides, and English stands in for a language that the service does not have. `Content-Language` of the answer names it. */
      lang?: string;
    };
    body: undefined;
    answer: Journey;
  };
  /** Returns the activation code as a QR code in PNG, as large as fits into `size` pixels. */
  'GET /v1/profiles/{iccid}/qr.png': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
    };
    query: {
      /** Width and height in pixels; default 512 */
      size?: number;
    };
    body: undefined;
    answer: Blob;
  };
  /** Returns the activation code as a QR code in SVG. */
  'GET /v1/profiles/{iccid}/qr.svg': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
    };
    query: undefined;
    body: undefined;
    answer: string;
  };
  /** Creates an access token for this profile. */
  'POST /v1/profiles/{iccid}/tokens': {
    path: {
      iccid: string;
    };
    query: undefined;
    body: TokenRequest | null;
    answer: TokenView;
  };
  /** Revokes all access tokens of this profile that have been issued so far. */
  'DELETE /v1/profiles/{iccid}/tokens': {
    path: {
      iccid: string;
    };
    query: undefined;
    body: undefined;
    answer: undefined;
  };
  /** Lists the transitions of a profile, oldest first. */
  'GET /v1/profiles/{iccid}/transitions': {
    path: {
      /** The ICCID, or `self` with an access token */
      iccid: string;
    };
    query: {
      /** Only transitions with a larger `seq` */
      after?: number;
      /** Max number of items; default 50 */
      limit?: number;
    };
    body: undefined;
    answer: Page<Transition>;
  };
  /** Counts profiles by state, deliveries by day, and how far profiles come, each by provider, and lists the profiles that seem stuck. */
  'GET /v1/summary': {
    path: undefined;
    query: {
      /** How many days of deliveries, and of profiles that were ready, to count; default 7 */
      days?: number;
    };
    body: undefined;
    answer: Summary;
  };
}

/** Every `code` of a problem document. */
export const PROBLEM_CODES = [
  'not-authentic',
  'malformed',
  'too-large',
  'unsupported-encoding',
  'unknown-hook',
  'timeout',
  'incomplete-body',
  'unavailable',
  'unauthenticated',
  'forbidden',
  'unknown-profile',
  'no-activation-code',
  'cannot-ask',
  'unknown-endpoint',
  'endpoint-refused',
  'unknown-path',
  'method-not-allowed',
  'invalid-parameter',
  'invalid-body',
  'internal',
] as const;

/** The `code` of a problem document, from the closed catalogue in docs/problems.md. */
export type ProblemCode = (typeof PROBLEM_CODES)[number];
