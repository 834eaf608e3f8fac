// Express and pg, as one would write it first: one process for each core, with prepared statements, a pool and keep-alive.
import cluster from "node:cluster";
import crypto from "node:crypto";
import os from "node:os";
import express from "express";
import pg from "pg";

const CLAIMS = {
  RELEASED: ["RELEASED", null],
  DOWNLOADED: ["DOWNLOADED", null],
  INSTALLED: ["INSTALLED", true],
  ENABLED: ["INSTALLED", true],
  DISABLED: ["DISABLED", false],
  DELETED: ["DELETED", null],
  ERROR: ["ERROR", null],
};
const UNIQUE_VIOLATION = "23505";

const find = {
  name: "find",
  text: `SELECT iccid, state, enabled, raw_state, provider, since, seq, last_delivery_at, deliveries, installs_seen,
                registered_at IS NOT NULL AS registered, imsi, eid, uid, activated_at, last_seen
         FROM profiles WHERE iccid = $1`,
};
const lock = {
  name: "lock",
  text: "SELECT state, enabled, eid, seq, installs_seen FROM profiles WHERE iccid = $1 FOR UPDATE",
};
const insert = {
  name: "insert",
  text: `INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                               deliveries, last_delivery_at, updated_at)
         VALUES ($1, 'gigastore', $2, $3, $4, $5, $6, $7, $8, $9, 1, $7, now())`,
};
const update = {
  name: "update",
  text: `UPDATE profiles
         SET state = $2, enabled = $3, raw_state = $4, imsi = coalesce($5, imsi), eid = coalesce($6, eid),
             since = CASE WHEN seq = $8 THEN since ELSE $7 END, seq = $8, installs_seen = $9,
             deliveries = deliveries + 1, last_delivery_at = $7, updated_at = now()
         WHERE iccid = $1`,
};
const append = {
  name: "append",
  text: `INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider,
                                  delivery_id)
         VALUES ($1, $2, $3, $4, $5, $6, 'normal', $7, 'gigastore', $8)`,
};
const keep = {
  name: "keep",
  text: `INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
         VALUES ($1, $2, 'gigastore/esim-status', 'gigastore', $3, $4, $5, $6)`,
};

class Refused extends Error {
  constructor(status) {
    super(`refused with ${status}`);
    this.status = status;
  }
}

// A UUIDv7: milliseconds, then random bits.
function newId(time) {
  const bytes = crypto.randomBytes(16);
  bytes.writeUIntBE(time, 0, 6);
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function sameText(left, right) {
  const [a, b] = [Buffer.from(left ?? ""), Buffer.from(right)];
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

function check(request, secret) {
  const mac = crypto.createHmac("sha256", secret).update(request.body).digest("hex");
  if (!sameText(request.get("x-signature"), mac)) throw new Refused(401);
  let report;
  try {
    report = JSON.parse(request.body);
  } catch {
    throw new Refused(400);
  }
  const claim = CLAIMS[report.profileState];
  if (!claim || !/^[0-9]{18,22}$/.test(report.iccid)) throw new Refused(400);
  return { ...report, state: claim[0], enabled: claim[1] };
}

async function write(client, id, at, report, headers, body) {
  const onDevice = (state) => state === "INSTALLED" || state === "DISABLED";
  await client.query("BEGIN");
  const known = (await client.query({ ...lock, values: [report.iccid] })).rows[0];
  const otherDevice = known?.eid && report.eid && known.eid !== report.eid;
  const moved = known?.state !== report.state || known.enabled !== report.enabled || otherDevice;
  const seq = Number(known?.seq ?? 0) + (moved ? 1 : 0);
  const came = onDevice(report.state) && !onDevice(known?.state);
  const installs = (known?.installs_seen ?? 0) + (came ? 1 : 0);
  const { iccid, state, enabled, profileState, imsi, eid } = report;
  await client.query({
    ...(known ? update : insert),
    values: [iccid, state, enabled, profileState, imsi, eid, at, seq, installs],
  });
  if (moved) {
    const from = known?.state ?? null;
    await client.query({ ...append, values: [iccid, seq, from, state, enabled, profileState, at, id] });
  }
  const outcome = moved ? "moved" : "repeated";
  await client.query({ ...keep, values: [id, at, iccid, outcome, headers, body] });
  await client.query("COMMIT");
  return outcome;
}

async function receive(pool, request, secret) {
  const at = new Date();
  const report = check(request, secret);
  const id = newId(at.getTime());
  const headers = { "content-type": request.get("content-type"), "user-agent": request.get("user-agent") };
  for (let tries = 1; ; tries += 1) {
    const client = await pool.connect();
    try {
      const outcome = await write(client, id, at, report, headers, request.body);
      return { deliveryId: id, outcome };
    } catch (error) {
      await client.query("ROLLBACK");
      // Two first deliveries of a profile may race: after a retry, the second finds the row that the first has inserted.
      if (error.code !== UNIQUE_VIOLATION || tries === 3) throw error;
    } finally {
      client.release();
    }
  }
}

async function show(pool, request, key) {
  if (!sameText(request.get("authorization"), `Bearer ${key}`)) throw new Refused(401);
  const row = (await pool.query({ ...find, values: [request.params.iccid] })).rows[0];
  if (!row) throw new Refused(404);
  return {
    iccid: row.iccid,
    state: row.state,
    enabled: row.enabled,
    rawState: row.raw_state,
    provider: row.provider,
    since: row.since,
    seq: Number(row.seq),
    lastDeliveryAt: row.last_delivery_at,
    deliveries: Number(row.deliveries),
    installsSeen: row.installs_seen,
    registered: row.registered,
    imsi: row.imsi,
    eid: row.eid,
    uid: row.uid,
    activatedAt: row.activated_at,
    lastSeen: row.last_seen,
  };
}

function serve() {
  const { HOOK_SECRET, API_KEY, PORT, CONNECTIONS } = process.env;
  // pg reads the address of the database from PGHOST and similar variables.
  const pool = new pg.Pool({ max: Math.ceil(CONNECTIONS / os.availableParallelism()) });
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  const raw = express.raw({ type: () => true, limit: "64kb" });
  app.post("/webhooks/gigastore/esim-status", raw, async (request, response) => {
    response.json(await receive(pool, request, HOOK_SECRET));
  });
  app.get("/v1/profiles/:iccid", async (request, response) => {
    response.json(await show(pool, request, API_KEY));
  });
  app.use((error, request, response, next) => {
    if (!(error instanceof Refused)) console.error(error);
    response.status(error.status ?? 503).json({});
  });
  app.listen(Number(PORT), "127.0.0.1", 1024);
}

if (cluster.isPrimary) {
  for (let core = 0; core < os.availableParallelism(); core += 1) cluster.fork();
  process.on("SIGTERM", () => process.exit(0));
} else {
  serve();
}
