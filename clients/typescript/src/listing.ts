import type { Page } from './api.js';

/**
 * A list of the service, which is read page by page, as needed.
 *
 *     for await (const profile of client.profiles({ state: 'ERROR' })) …   // all items
 *     const { items, nextCursor } = await client.profiles().page();        // the first page
 */
export class Listing<Item> implements AsyncIterable<Item> {
  readonly #read: (cursor: string | undefined) => Promise<Page<Item>>;

  /** @param read reads the page at a cursor, or the first page */
  constructor(read: (cursor: string | undefined) => Promise<Page<Item>>) {
    this.#read = read;
  }

  /** One page: the first one, or the one at the `nextCursor` of an earlier page. */
  page(cursor?: string | null): Promise<Page<Item>> {
    return this.#read(cursor ?? undefined);
  }

  /** All pages, one request for each. */
  async *pages(): AsyncGenerator<Page<Item>, void, undefined> {
    let cursor: string | null | undefined;
    do {
      const page = await this.page(cursor);
      yield page;
      cursor = page.nextCursor;
    } while (cursor);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined> {
    for await (const { items } of this.pages()) yield* items;
  }
}
