-- One webhook as one statement, as in one_statement.sql, without a server in front of the database: how many events the
-- database can write one at a time. Each client moves eight profiles at a time through their lives, as in `deliveries`:
-- four events each, one of them repeated.
\set i :i + 1
\set n :client_id * 10000000 + :i / 32 * 8 + :i % 8
\set step :i / 8 % 4
\set place CASE WHEN :step > :n % 3 THEN :step ELSE :step + 1 END
WITH given AS (
    SELECT '894400' || lpad((:n)::text, 12, '0') || '0' AS iccid, '234' || lpad((:n)::text, 12, '0') AS imsi,
           '89049032' || lpad((:n)::text, 12, '0') || lpad((:n)::text, 12, '0') AS eid, now() AS received_at,
           (ARRAY['RELEASED', 'INSTALLED', 'DISABLED'])[:place] AS state,
           -- A UUIDv7: milliseconds, then random bits.
           (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
               || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid AS id
), known AS (
    SELECT state, eid, seq, installs_seen FROM profiles
    WHERE iccid = '894400' || lpad((:n)::text, 12, '0') || '0' FOR UPDATE
), judged AS (
    SELECT given.*, CASE given.state WHEN 'INSTALLED' THEN true WHEN 'DISABLED' THEN false END AS enabled,
           known.state AS from_state, coalesce(known.seq, 0) AS seq,
           coalesce(known.installs_seen, 0) + (given.state = 'INSTALLED')::integer AS installs_seen,
           known.state IS DISTINCT FROM given.state AS moved
    FROM given LEFT JOIN known ON true
), saved AS (
    INSERT INTO profiles AS p (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                               deliveries, last_delivery_at, updated_at)
    SELECT iccid, 'gigastore', state, enabled, state, imsi, CASE WHEN state <> 'RELEASED' THEN eid END, received_at,
           seq + moved::integer, installs_seen, 1, received_at, now()
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
    SELECT iccid, seq + 1, from_state, state, enabled, state, 'normal', received_at, 'gigastore', id
    FROM judged WHERE moved
    ON CONFLICT DO NOTHING
)
INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
SELECT id, received_at, 'gigastore/esim-status', 'gigastore', iccid,
       CASE WHEN moved THEN 'moved' ELSE 'repeated' END, '{"content-type": "application/json"}',
       convert_to(format('{"iccid":"%s","imsi":"%s","profileState":"%s"}', iccid, imsi, state), 'UTF8')
FROM judged;
