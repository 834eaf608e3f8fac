/** What browsers get, in Node.js and against a running service. It is tried in Chromium by tests/browser/client.rs. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { esimStore, follow, qrCode, type EsimState } from 'esim-status-client/browser';
import { useEsim } from 'esim-status-client/react';
import { baseUrl, client, newProfile, report } from './service.js';

/** Resolves with the first state of a store that satisfies a condition. */
function stateOf(store: ReturnType<typeof esimStore>, isMet: (state: EsimState) => boolean): Promise<EsimState> {
  return new Promise((resolve) => {
    const look = (): void => {
      const state = store.getSnapshot();
      if (isMet(state)) queueMicrotask(() => { end(); resolve(state); });
    };
    const end = store.subscribe(look);
    look();
  });
}

describe('follow', () => {
  it('tells of a change as it happens', async () => {
    const iccid = await newProfile();
    const { token } = await client.createToken(iccid);
    const seen: Array<[string, string | null | undefined]> = [];
    await new Promise<void>((resolve) => {
      const following = follow(token, (profile, transition) => {
        seen.push([profile.state, transition?.fromState]);
        if (profile.state === 'RELEASED') void report(iccid, 'INSTALLED');
        else {
          following.close();
          resolve();
        }
      }, { base: baseUrl });
    });
    assert.deepEqual(seen, [['RELEASED', undefined], ['INSTALLED', 'RELEASED']]);
  });
});

describe('a store', () => {
  it('reads the journey, and reads it again after a webhook', async () => {
    const iccid = await newProfile();
    const { token } = await client.createToken(iccid);
    const store = esimStore(token, { baseUrl, lang: 'de' });
    const keep = store.subscribe(() => {});
    assert.deepEqual(store.getSnapshot(), { journey: null, status: 'connecting', isLive: false, error: null });
    const { journey } = await stateOf(store, (state) => state.isLive && state.journey !== null);
    assert.deepEqual([journey?.step, journey?.title], ['install', 'Installieren Sie Ihre eSIM']);
    await report(iccid, 'INSTALLED');
    const installed = await stateOf(store, (state) => state.journey?.state === 'INSTALLED');
    assert.equal(installed.journey?.step, 'done');
    assert.equal(store.getSnapshot(), store.getSnapshot());
    store.report('opened');
    keep();
    const { status, journey: known } = store.getSnapshot();
    assert.deepEqual([status, known?.state], ['connecting', 'INSTALLED']);
  });

  it('sends nothing without a listener, starts again with the next one, and calls none that has left', async () => {
    const { token } = await client.createToken(await newProfile());
    const store = esimStore(token, { baseUrl });
    let calls = 0;
    for (let mount = 0; mount < 3; mount += 1) store.subscribe(() => { calls += 1; })();
    await stateOf(store, (state) => state.journey !== null);
    assert.equal(calls, 0);
  });

  it('says that its token has expired', async () => {
    const iccid = await newProfile();
    const { token } = await client.createToken(iccid);
    await client.revokeTokens(iccid);
    const store = esimStore(token, { baseUrl });
    const state = await stateOf(store, ({ status }) => status === 'expired');
    assert.equal(state.isLive, false);
  });

  it('has the QR code of its profile', async () => {
    const { token } = await client.createToken(await newProfile());
    assert.match(await (await qrCode(token, { baseUrl })).text(), /<svg/);
  });
});

describe('useEsim', () => {
  it('renders on a server what is known before anything was read', () => {
    function Screen({ token }: { token: string | null }): ReturnType<typeof createElement> {
      const { journey, status, isLive, error } = useEsim(token, { baseUrl });
      return createElement('p', null, JSON.stringify([journey, status, isLive, error]));
    }
    for (const token of ['some.access.token', null]) {
      const html = renderToString(createElement(Screen, { token })).replaceAll('&quot;', '"');
      assert.equal(html, '<p>[null,"connecting",false,null]</p>');
    }
  });
});
