/**
 * `follow`, in the very form in which the service serves it: the build copies the parts of `/assets/esim-status.js` that
 * belong to it.
 */
import type { Profile, Transition } from './api.js';

/** How changes arrive: by a stream, by polls, not at the moment, or no more. */
export type FollowStatus = 'live' | 'polling' | 'reconnecting' | 'stopped';

/** With `reconnecting`: the service does not know the profile. With `stopped`: the token is no longer accepted. */
export type FollowReason = '' | 'unknown' | 'expired';

export interface FollowOptions {
  /** The address of the service. Required here: this module does not come from the service. */
  base: string;
  /** Called whenever the way in which changes arrive changes. */
  onStatus?: (status: FollowStatus, reason: FollowReason) => void;
}

/** A profile that is being followed. */
export interface Following {
  /** Stops following. Nothing is called back afterwards. */
  close(): void;
}

/**
 * Follows a profile and calls `onChange(profile, transition)` with its first state and after every change; `transition` is
 * null if the change was not seen as it happened.
 *
 * It uses a stream, or long polls if streams do not get through, or polls every few seconds if those fail too. It reconnects
 * forever and misses nothing, until `close()` or until the token is no longer accepted.
 *
 * @param token an access token, which your backend creates with `EsimStatus.createToken`
 */
export function follow(
  token: string, onChange: (profile: Profile, transition: Transition | null) => void, options: FollowOptions,
): Following;
