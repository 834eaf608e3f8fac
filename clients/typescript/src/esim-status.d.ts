/**
 * `<esim-install>`, the whole install page as an element: exactly the module that the service serves as
 * `/assets/esim-status.js`. Importing it defines the element.
 *
 *     import 'esim-status-client/element';
 *     <esim-install token="…" base="https://esim.example.com"></esim-install>
 */
import type { Journey } from './api.js';

export * from './follow.js';

/**
 * The element's attributes are `token`, `base` (the address of the service), `lang`, `support-url` and `heading-level`.
 * Texts other than the English ones are loaded from the service.
 */
export interface EsimInstallElement extends HTMLElement {
  /** The element's texts, by name. Setting it replaces those that are given; those in `languages.de` count in German only. */
  words: Record<string, unknown>;
}

declare global {
  interface HTMLElementTagNameMap {
    'esim-install': EsimInstallElement;
  }
  interface HTMLElementEventMap {
    /** The journey was read again. */
    'esim-change': CustomEvent<Journey>;
    /** The token is no longer accepted: set a fresh one. */
    'esim-expired': CustomEvent<null>;
  }
}
