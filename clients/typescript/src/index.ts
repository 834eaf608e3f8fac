/**
 * esim-status for backends. Needs an API key, so it must not be part of what a browser loads: see the entries `/browser`,
 * `/element` and `/react` for that.
 */
export * from './api.js';
export * from './client.js';
export { EsimStatusError, type ErrorCode } from './error.js';
export type { Export, ExportedTransition } from './export.js';
export { Listing } from './listing.js';
export type { CallOptions } from './transport.js';
