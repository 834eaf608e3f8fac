-- One webhook as one statement: lock the profile, write it, append the transition if it moved, store the delivery.
WITH given AS (
    SELECT $1::text AS iccid, $2::text AS state, $3::boolean AS enabled, $4::text AS raw_state, $5::text AS imsi,
           $6::text AS eid, $7::timestamptz AS received_at
), known AS (
    SELECT state, enabled, eid, seq, installs_seen FROM profiles WHERE iccid = $1 FOR UPDATE
), judged AS (
    SELECT given.*, known.state AS from_state, coalesce(known.seq, 0) AS seq,
           coalesce(known.installs_seen, 0)
               + (given.state IN ('INSTALLED', 'DISABLED')
                  AND coalesce(known.state, '') NOT IN ('INSTALLED', 'DISABLED'))::integer AS installs_seen,
           (known.state, known.enabled) IS DISTINCT FROM (given.state, given.enabled)
               OR coalesce(known.eid <> given.eid, false) AS moved
    FROM given LEFT JOIN known ON true
), saved AS (
    INSERT INTO profiles AS p (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                               deliveries, last_delivery_at, updated_at)
    SELECT iccid, 'gigastore', state, enabled, raw_state, imsi, eid, received_at, seq + moved::integer,
           installs_seen, 1, received_at, now()
    FROM judged
    ON CONFLICT (iccid) DO UPDATE
    SET state = excluded.state, enabled = excluded.enabled, raw_state = excluded.raw_state,
        imsi = coalesce(excluded.imsi, p.imsi), eid = coalesce(excluded.eid, p.eid),
        since = CASE WHEN p.seq = excluded.seq THEN p.since ELSE excluded.since END, seq = excluded.seq,
        installs_seen = excluded.installs_seen, deliveries = p.deliveries + 1,
        last_delivery_at = excluded.last_delivery_at, updated_at = excluded.updated_at
), appended AS (
    INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider,
                             delivery_id)
    SELECT iccid, seq + 1, from_state, state, enabled, raw_state, 'normal', received_at, 'gigastore', $8::uuid
    FROM judged WHERE moved
)
INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
SELECT $8, received_at, 'gigastore/esim-status', 'gigastore', iccid,
       CASE WHEN moved THEN 'moved' ELSE 'repeated' END, $9::text::jsonb, $10::bytea
FROM judged
RETURNING outcome
