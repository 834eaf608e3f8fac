"""FastAPI and asyncpg, as one would write it first: one process for each core, with uvloop, orjson and a pool."""

import hashlib
import hmac
import os
import re
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from uuid import UUID

import asyncpg
import orjson
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

# For each process.
CONNECTIONS = -(-int(os.environ["CONNECTIONS"]) // os.cpu_count())
CLAIMS = {
    "RELEASED": ("RELEASED", None),
    "DOWNLOADED": ("DOWNLOADED", None),
    "INSTALLED": ("INSTALLED", True),
    "ENABLED": ("INSTALLED", True),
    "DISABLED": ("DISABLED", False),
    "DELETED": ("DELETED", None),
    "ERROR": ("ERROR", None),
}
ON_DEVICE = ("INSTALLED", "DISABLED")
ICCID = re.compile(r"[0-9]{18,22}")
FIND = """
    SELECT iccid, state, enabled, raw_state AS "rawState", provider, since, seq, last_delivery_at AS "lastDeliveryAt",
           deliveries, installs_seen AS "installsSeen", registered_at IS NOT NULL AS registered, imsi, eid, uid,
           activated_at AS "activatedAt", last_seen AS "lastSeen"
    FROM profiles WHERE iccid = $1
"""
LOCK = "SELECT state, enabled, eid, seq, installs_seen FROM profiles WHERE iccid = $1 FOR UPDATE"
INSERT = """
    INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries,
                          last_delivery_at, updated_at)
    VALUES ($1, 'gigastore', $2, $3, $4, $5, $6, $7, $8, $9, 1, $7, now())
"""
UPDATE = """
    UPDATE profiles
    SET state = $2, enabled = $3, raw_state = $4, imsi = coalesce($5, imsi), eid = coalesce($6, eid),
        since = CASE WHEN seq = $8 THEN since ELSE $7 END, seq = $8, installs_seen = $9,
        deliveries = deliveries + 1, last_delivery_at = $7, updated_at = now()
    WHERE iccid = $1
"""
APPEND = """
    INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider,
                             delivery_id)
    VALUES ($1, $2, $3, $4, $5, $6, 'normal', $7, 'gigastore', $8)
"""
KEEP = """
    INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
    VALUES ($1, $2, 'gigastore/esim-status', 'gigastore', $3, $4, $5, $6)
"""


@asynccontextmanager
async def lifespan(app):
    # asyncpg reads the address of the database from PGHOST and similar variables.
    async with asyncpg.create_pool(min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan, docs_url=None, openapi_url=None)
HOOK_SECRET = os.environ["HOOK_SECRET"].encode()
BEARER = b"Bearer " + os.environ["API_KEY"].encode()


def new_id(at):
    """A UUIDv7: milliseconds, then random bits."""
    number = int(at.timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)


def check(proof, body):
    mac = hmac.digest(HOOK_SECRET, body, hashlib.sha256).hex()
    if not hmac.compare_digest(mac.encode(), proof.encode("latin-1")):
        raise HTTPException(401)
    try:
        report = orjson.loads(body)
        claim = CLAIMS[report["profileState"]]
        valid = ICCID.fullmatch(report["iccid"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise HTTPException(400) from None
    if not valid:
        raise HTTPException(400)
    return report, claim


async def write(connection, id, at, report, claim, headers, body):
    iccid, eid = report["iccid"], report.get("eid")
    state, enabled = claim
    async with connection.transaction():
        known = await connection.fetchrow(LOCK, iccid)
        if known:
            other_device = known["eid"] and eid and known["eid"] != eid
            moved = (known["state"], known["enabled"]) != claim or bool(other_device)
            came = state in ON_DEVICE and known["state"] not in ON_DEVICE
            seq, installs = known["seq"] + moved, known["installs_seen"] + came
        else:
            moved, seq, installs = True, 1, int(state in ON_DEVICE)
        word = report["profileState"]
        statement = UPDATE if known else INSERT
        await connection.execute(
            statement, iccid, state, enabled, word, report.get("imsi"), eid, at, seq, installs
        )
        if moved:
            from_state = known["state"] if known else None
            await connection.execute(APPEND, iccid, seq, from_state, state, enabled, word, at, id)
        outcome = "moved" if moved else "repeated"
        await connection.execute(KEEP, id, at, iccid, outcome, headers, body)
    return outcome


@app.post("/webhooks/gigastore/esim-status")
async def receive(request: Request):
    at = datetime.now(timezone.utc)
    body = await request.body()
    report, claim = check(request.headers.get("x-signature", ""), body)
    id = new_id(at)
    kept = {name: request.headers.get(name) for name in ("content-type", "user-agent")}
    headers = orjson.dumps(kept).decode()
    for tries in range(3):
        try:
            async with request.app.state.pool.acquire() as connection:
                outcome = await write(connection, id, at, report, claim, headers, body)
                break
        except asyncpg.UniqueViolationError:
            # Two first deliveries of a profile may race: after a retry, the second finds the row that the first has inserted.
            if tries == 2:
                raise HTTPException(503) from None
    answer = orjson.dumps({"deliveryId": id, "outcome": outcome})
    return Response(answer, media_type="application/json")


@app.get("/v1/profiles/{iccid}")
async def show(iccid: str, request: Request):
    given = request.headers.get("authorization", "").encode("latin-1")
    if not hmac.compare_digest(given, BEARER):
        raise HTTPException(401)
    row = await request.app.state.pool.fetchrow(FIND, iccid)
    if row is None:
        raise HTTPException(404)
    return Response(orjson.dumps(dict(row)), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        "server:app",
        app_dir=os.path.dirname(__file__),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        workers=os.cpu_count(),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=1024,
    )
