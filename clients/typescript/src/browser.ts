/**
 * esim-status for browsers, with an access token that your backend has created. Has no dependencies and does nothing when
 * it is imported.
 */
import { Transport } from './transport.js';
import type { CallOptions } from './transport.js';

export type { Journey, InstallView, Profile, ProfileState, Progress, Step, Transition } from './api.js';
export type { Intent } from './client.js';
export { EsimStatusError, type ErrorCode } from './error.js';
export { follow, type Following, type FollowOptions, type FollowReason, type FollowStatus } from './follow.js';
export { esimStore, type EsimLinkStatus, type EsimState, type EsimStore, type EsimStoreOptions } from './store.js';

/**
 * The QR code of the token's profile, an SVG image. It is a credential, so it has no address that an `<img>` could load:
 * show it with `URL.createObjectURL`, which your Content-Security-Policy must allow with `img-src blob:`.
 */
export function qrCode(token: string, { baseUrl, signal }: { baseUrl: string } & CallOptions): Promise<Blob> {
  const transport = new Transport({ baseUrl, credential: token, timeoutMs: 15_000, retries: 2 });
  return transport.send('GET /v1/profiles/{iccid}/qr.svg', { path: { iccid: 'self' }, signal }, (answer) => answer.blob());
}
