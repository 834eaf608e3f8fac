/** Every call of a backend, against a running service. */
import assert from 'node:assert/strict';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { inspect } from 'node:util';
import { EsimStatus, EsimStatusError, type Profile, type ProfileChanged, type Transition } from 'esim-status-client';
import { Webhook } from 'standardwebhooks';
import { apiKey, baseUrl, client, newIccid, newProfile, report } from './service.js';

/** The error that a call is expected to throw. */
async function failureOf(call: Promise<unknown>): Promise<EsimStatusError> {
  const error: unknown = await call.then(() => null, (reason: unknown) => reason);
  assert.ok(error instanceof EsimStatusError, `threw ${String(error)}`);
  return error;
}

describe('a backend', () => {
  it('registers a profile, and reads it and its journey', async () => {
    const iccid = newIccid();
    const esim = { iccid, state: 'RELEASED', activationCode: 'LPA:1$rsp.example.com$A-1', unknownMember: [1] };
    const registered = await client.register(iccid, esim, { provider: 'gigastore' });
    assert.deepEqual(registered.remarks, []);
    const profile = await client.profile(iccid);
    assert.equal(profile.state, 'RELEASED');
    assert.equal(profile.iccid, iccid);
    const journey = await client.journey(iccid);
    assert.equal(journey.step, 'install');
    assert.equal(journey.install?.smdpAddress, 'rsp.example.com');
    const german = await client.journey(iccid, { lang: 'de' });
    assert.equal(german.title, 'Installieren Sie Ihre eSIM');
    assert.deepEqual({ ...german, title: journey.title, detail: journey.detail }, journey);
  });

  it('has the QR code as SVG and as PNG', async () => {
    const iccid = await newProfile();
    assert.match(await client.qrSvg(iccid), /^<\?xml|^<svg/);
    const png = await client.qrPng(iccid, { size: 300 });
    assert.equal(png.type, 'image/png');
    assert.ok(png.size > 100);
  });

  it('waits for a change by a long poll, and learns that nothing changed', async () => {
    const iccid = await newProfile();
    const before = await client.profileChange(iccid);
    assert.ok(before?.etag);
    assert.equal(await client.profileChange(iccid, { etag: before.etag, waitSeconds: 0 }), null);
    const waiting = client.profileChange(iccid, { etag: before.etag, waitSeconds: 30 });
    assert.equal(await report(iccid, 'INSTALLED'), 'moved');
    const after = await waiting;
    assert.equal(after?.profile.state, 'INSTALLED');
    assert.notEqual(after.etag, before.etag);
  });

  it('follows a profile until it has seen enough', async () => {
    const iccid = await newProfile();
    const states: string[] = [];
    for await (const { state } of client.followProfile(iccid)) {
      states.push(state);
      if (state === 'RELEASED') assert.equal(await report(iccid, 'INSTALLED'), 'moved');
      if (state === 'INSTALLED') assert.equal(await report(iccid, 'DISABLED'), 'moved');
      if (state === 'DISABLED') break;
    }
    assert.deepEqual(states, ['RELEASED', 'INSTALLED', 'DISABLED']);
  });

  it('stops following when its signal is aborted', async () => {
    const iccid = await newProfile();
    const stopping = new AbortController();
    const reason = new Error('enough');
    await assert.rejects(async () => {
      for await (const profile of client.followProfile(iccid, { signal: stopping.signal })) {
        assert.equal(profile.state, 'RELEASED');
        setImmediate(() => stopping.abort(reason));
      }
    }, reason);
  });

  it('iterates over all transitions, whatever the size of a page', async () => {
    const iccid = await newProfile();
    for (const state of ['DOWNLOADED', 'INSTALLED', 'DISABLED', 'INSTALLED']) await report(iccid, state);
    const all: Transition[] = [];
    for await (const transition of client.transitions(iccid, { limit: 2 })) all.push(transition);
    assert.deepEqual(all.map(({ seq }) => seq), all.map((_, index) => index + 1));
    assert.ok(all.length >= 4);
    const later = await client.transitions(iccid, { after: all.length - 1 }).page();
    assert.deepEqual(later.items, all.slice(-1));
    let pages = 0;
    for await (const { items } of client.transitions(iccid, { limit: 2 }).pages()) {
      pages += 1;
      assert.ok(items.length <= 2);
    }
    assert.equal(pages, Math.ceil(all.length / 2));
  });

  it('iterates over profiles that match, and looks them up by its own order number', async () => {
    const reference = `A-${newIccid()}`;
    const iccids = (await Promise.all([1, 2, 3].map(() => newProfile({ reference })))).sort();
    const found: Profile[] = [];
    for await (const profile of client.profiles({ reference, limit: 1 })) found.push(profile);
    assert.deepEqual(found.map(({ iccid }) => iccid), iccids);
    assert.deepEqual((await client.lookUp({ reference })).map(({ iccid }) => iccid), iccids);
    assert.deepEqual(await client.lookUp({ reference: 'nobody' }), []);
    await assert.rejects(client.lookUp({ reference: '' }), TypeError);
    assert.deepEqual((await client.profiles({ reference, state: 'ERROR' }).page()).items, []);
  });

  it('lists webhooks of one profile, and those that were not applied', async () => {
    const iccid = await newProfile();
    await report(iccid, 'INSTALLED');
    assert.equal(await report(iccid, 'SINGING'), 'unrecognised');
    const outcomes = [];
    for await (const { outcome } of client.deliveriesOf(iccid, { limit: 1 })) outcomes.push(outcome);
    assert.deepEqual(outcomes, ['unrecognised', 'moved']);
    const { items } = await client.deliveries({ outcome: 'unrecognised', limit: 5 }).page();
    assert.equal(items[0]?.iccid, iccid);
  });

  it('reads the summary, the hooks and the evidence with its keys', async () => {
    const iccid = await newProfile();
    await report(iccid, 'INSTALLED');
    assert.ok((await client.summary({ days: 2 })).states?.some(({ provider }) => provider === 'gigastore'));
    assert.ok((await client.hooks()).items.some(({ hook }) => hook === 'gigastore/esim-status'));
    assert.equal((await client.evidence(iccid)).sheet.iccid, iccid);
    assert.match(await client.evidencePage(iccid), /^<!doctype html>/i);
    assert.ok(Array.isArray((await client.evidenceKeys()).keys));
  });

  it('cannot ask a provider whose API is not configured', async () => {
    const { code, status } = await failureOf(client.inquire(await newProfile()));
    assert.deepEqual([code, status], ['cannot-ask', 409]);
  });

  it('follows the changes of all profiles, and goes on where it stopped', async () => {
    const { nextCursor } = await client.changes({ after: 'now' });
    const iccid = await newProfile();
    await report(iccid, 'INSTALLED');
    const kinds: string[] = [];
    let cursor = '';
    for await (const change of client.followChanges({ after: nextCursor })) {
      if (change.iccid !== iccid) continue;
      kinds.push(change.kind);
      cursor = change.cursor;
      if (change.transition?.toState === 'INSTALLED') break;
    }
    assert.ok(kinds.includes('transition'), kinds.join());
    const waiting = client.changes({ after: cursor, waitSeconds: 30 });
    await report(iccid, 'DISABLED');
    assert.ok((await waiting).items.length > 0);
    for await (const change of client.followChanges({ after: cursor })) {
      if (change.iccid === iccid && change.profile?.state === 'DISABLED') break;
    }
  });

  it('exports all profiles and all transitions, and continues an export', async () => {
    const iccids = (await Promise.all([1, 2, 3].map(() => newProfile()))).sort();
    const profiles = await client.exportProfiles();
    assert.ok(profiles.changesCursor);
    const all: string[] = [];
    for await (const { iccid } of profiles) all.push(iccid);
    assert.deepEqual(all, [...all].sort());
    assert.deepEqual(iccids.filter((iccid) => !all.includes(iccid)), []);
    for await (const { iccid } of await client.exportProfiles({ after: iccids[0] })) {
      assert.ok(iccid > (iccids[0] ?? ''));
    }
    for await (const { iccid, seq } of await client.exportTransitions({ after: `${iccids[0]}:0` })) {
      assert.deepEqual([iccid, seq], [iccids[0], 1]);
      break;
    }
  });

  it('has changes delivered to a server that checks them with the official library', async (test) => {
    const requests: { body: string; headers: IncomingHttpHeaders }[] = [];
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => { body += chunk.toString(); });
      request.on('end', () => { requests.push({ body, headers: request.headers }); response.end(); });
    });
    await new Promise<void>((listening) => { server.listen(0, '127.0.0.1', listening); });
    test.after(() => { server.closeAllConnections(); server.close(); });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/esim`;
    const { id, secret } = await client.createEndpoint({ url, kinds: ['registered'], description: 'a test' });
    assert.ok(secret);
    const iccid = await newProfile({ reference: 'order-17' });
    const events: ProfileChanged[] = [];
    const webhook = new Webhook(secret);
    for (const end = Date.now() + 30_000; !events.some(({ data }) => data.iccid === iccid);) {
      assert.ok(Date.now() < end, 'the change is delivered');
      const request = requests.shift();
      if (request) events.push(webhook.verify(request.body, request.headers as Record<string, string>) as ProfileChanged);
      else await new Promise((soon) => { setTimeout(soon, 20); });
    }
    const event = events.find(({ data }) => data.iccid === iccid);
    assert.deepEqual([event?.type, event?.subject, event?.data.kind], ['profile.changed', 'order-17', 'registered']);
    assert.throws(() => new Webhook('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw').verify('{}', { 'webhook-id': 'a' }));

    assert.deepEqual((await client.changeEndpoint(id, { enabled: false })).disabledBecause, 'request');
    assert.equal((await client.replayEndpoint(id, 'beginning')).status, 'disabled');
    assert.ok((await client.endpoints()).some((endpoint) => endpoint.id === id));
    assert.equal((await client.endpoint(id)).description, 'a test');
    await client.deleteEndpoint(id);
    assert.equal((await failureOf(client.endpoint(id))).code, 'unknown-endpoint');
  });

  it('creates a token for the user, notes an intent, and ends the token', async () => {
    const iccid = await newProfile();
    const { token, installUrl, expiresAt } = await client.createToken(iccid, { ttlSeconds: 60 });
    assert.ok(installUrl.endsWith(`/install#${token}`));
    assert.ok(Date.parse(expiresAt) > Date.now());
    await client.noteIntent(iccid, 'opened');
    const asUser = new EsimStatus({ baseUrl, apiKey: token });
    assert.equal((await asUser.profile('self')).iccid, iccid);
    assert.equal((await failureOf(asUser.summary())).code, 'forbidden');
    await client.revokeTokens(iccid);
    assert.equal((await failureOf(asUser.profile('self'))).code, 'unauthenticated');
  });

  it('erases a profile, once', async () => {
    const iccid = await newProfile();
    await client.erase(iccid);
    const error = await failureOf(client.erase(iccid));
    assert.deepEqual([error.code, error.status], ['unknown-profile', 404]);
  });

  it('gets an error with the id of the request, and without the key, whatever it prints', async () => {
    const wrong = new EsimStatus({ baseUrl, apiKey: 'wrong-key-1234567890' });
    const error = await failureOf(wrong.profile(newIccid()));
    assert.deepEqual([error.code, error.status, error.operation], ['unauthenticated', 401, 'GET /v1/profiles/{iccid}']);
    assert.ok(error.requestId);
    const printed = inspect([error, wrong], { depth: 9, showHidden: true }) + JSON.stringify([error, wrong]);
    assert.ok(!printed.includes('wrong-key'), printed);
    const invalid = await failureOf(client.profiles({ limit: 1_000 }).page());
    assert.deepEqual([invalid.code, invalid.status], ['invalid-parameter', 400]);
    assert.match(invalid.detail, /limit/);
    assert.ok(!invalid.message.includes(apiKey));
  });
});
