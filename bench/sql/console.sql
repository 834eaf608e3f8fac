-- What a console has to show after some months of 3 million sold profiles: histories, the deliveries that made them, orders, activation
-- codes, what is overdue, the order of all changes, endpoints that are behind, and the counts. {profiles} is how many profiles there
-- are, {iccid} the number of the n-th. Profiles come in the order of time, and one in two hundred has each fate below.
SET synchronous_commit = off;
SET work_mem = '256MB';

INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries, last_delivery_at,
                      registered_at, uid, updated_at, ready_at, first_connected_at, last_connected_at, country)
SELECT {iccid}, (ARRAY['gigastore', 'roamify', 'esim-go'])[n % 3 + 1], state, CASE state WHEN 'INSTALLED' THEN true WHEN 'DISABLED' THEN false END,
       state, '234' || lpad(n::text, 12, '0'), '89049032' || lpad(n::text, 12, '0') || lpad(n::text, 12, '0'),
       at, array_length(life, 1), CASE WHEN 'INSTALLED' = ANY(life) THEN 1 ELSE 0 END, array_length(life, 1), at,
       at - interval '1 hour', 'customer-' || n / 3, at, at - interval '1 hour',
       CASE WHEN state = 'INSTALLED' AND n % 5 < 3 THEN at END, CASE WHEN state = 'INSTALLED' AND n % 5 < 3 THEN at END,
       CASE WHEN state = 'INSTALLED' AND n % 5 < 3 THEN 'PL' END
FROM generate_series(0, {profiles} - 1) AS n,
     LATERAL (SELECT now() - interval '1 minute' - interval '85 days' * (1 - n::float8 / {profiles}) AS at) AS a,
     LATERAL (SELECT CASE WHEN n % 200 < 10 THEN ARRAY['RELEASED']
                          WHEN n % 200 < 12 THEN ARRAY['RELEASED', 'DOWNLOADED', 'ERROR']
                          WHEN n % 200 < 13 THEN ARRAY['RELEASED', 'DOWNLOADED']
                          WHEN n % 200 < 23 THEN ARRAY['RELEASED', 'DOWNLOADED', 'INSTALLED', 'DELETED']
                          WHEN n % 200 < 43 THEN ARRAY['RELEASED', 'DOWNLOADED', 'INSTALLED', 'DISABLED']
                          WHEN n % 200 < 45 THEN ARRAY['RELEASED', 'UNAVAILABLE']
                          ELSE ARRAY['RELEASED', 'DOWNLOADED', 'INSTALLED'] END AS life) AS l,
     LATERAL (SELECT life[array_length(life, 1)] AS state) AS s;

-- A UUIDv7 of the time, unlike any other by the number of the profile and of the delivery.
CREATE FUNCTION id_of(at timestamptz, iccid text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n), 3, '0') || '8'
            || lpad(to_hex(substr(iccid, 7, 12)::bigint), 15, '0'))::uuid
$$;

INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider, delivery_id)
SELECT iccid, step, life[step - 1], life[step], CASE life[step] WHEN 'INSTALLED' THEN true WHEN 'DISABLED' THEN false END,
       life[step], 'normal', at, provider, id_of(at, iccid, step)
FROM profiles,
     LATERAL (SELECT CASE WHEN state IN ('RELEASED', 'UNAVAILABLE') THEN array_remove(ARRAY['RELEASED', nullif(state, 'RELEASED')], NULL)
                          WHEN state = 'DOWNLOADED' THEN ARRAY['RELEASED', 'DOWNLOADED']
                          WHEN state = 'ERROR' THEN ARRAY['RELEASED', 'DOWNLOADED', 'ERROR']
                          ELSE array_remove(ARRAY['RELEASED', 'DOWNLOADED', 'INSTALLED', nullif(state, 'INSTALLED')], NULL)
                     END AS life) AS l,
     LATERAL generate_series(1, array_length(life, 1)) AS step,
     LATERAL (SELECT since - interval '7 minutes' * (array_length(life, 1) - step) AS at) AS a;

-- The partitions that the service would have by now. It names them so too.
DO $$
DECLARE month date;
BEGIN
    FOR month IN SELECT generate_series(date_trunc('month', now() - interval '86 days'), now(), '1 month') LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS deliveries_%s PARTITION OF deliveries FOR VALUES FROM (%L) TO (%L)',
                       to_char(month, 'YYYY_MM'), month || ' 00:00:00+00', (month + interval '1 month')::date || ' 00:00:00+00');
    END LOOP;
END
$$;

INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
SELECT delivery_id, received_at, provider || '/esim-status', provider, iccid, 'moved', '{"user-agent": "provider/2.1"}',
       convert_to('{"iccid":"' || iccid || '","profileState":"' || to_state || '","imsi":"260216611193634"}', 'UTF8')
FROM transitions;

-- One in four is reported twice, three in ten are connected, one in a hundred is not applied.
INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, reason, headers, body)
SELECT id_of(at, iccid, 16 + kind), at, provider || '/esim-status', provider, CASE WHEN outcome <> 'malformed' THEN iccid END, outcome,
       CASE outcome WHEN 'malformed' THEN 'the body is not JSON: ' || number % 7 WHEN 'unrecognised' THEN 'profileState is an unknown word' END,
       '{"user-agent": "provider/2.1"}', convert_to('{"iccid":"' || iccid || '"}', 'UTF8')
FROM profiles,
     LATERAL (SELECT substr(iccid, 7, 12)::bigint AS number) AS i,
     LATERAL (VALUES (0, 'repeated', 4), (1, 'connected', 3), (2, 'duplicate', 400), (3, 'late', 500), (4, 'unrecognised', 600),
                     (5, 'ignored', 300), (6, 'foreign', 20000), (7, 'malformed', 400)) AS k (kind, outcome, one_in),
     LATERAL (SELECT since + interval '1 second' * kind AS at) AS a
WHERE number % one_in = kind % one_in;

INSERT INTO orders (iccid, reference, expected_from)
SELECT iccid, 'A-' || substr(iccid, 7, 12)::bigint, since::date FROM profiles WHERE substr(iccid, 7, 12)::bigint % 3 = 0;

INSERT INTO install_credentials (iccid, key_id, sealed, updated_at, host)
SELECT iccid, NULL, convert_to('{"activationCode":"LPA:1$smdp.example.test$K2-204"}', 'UTF8'), since, 'smdp.example.test'
FROM profiles WHERE substr(iccid, 7, 12)::bigint % 3 = 0;

INSERT INTO intents (iccid, intent, at)
SELECT iccid, 'opened', since - interval '10 minutes' FROM profiles WHERE substr(iccid, 7, 12)::bigint % 5 = 0;

WITH late AS (
    UPDATE profiles SET seq = seq + 1, revision = revision + 1
    WHERE since < now() - interval '1 day' AND state IN ('RELEASED', 'DOWNLOADED', 'ERROR')
    RETURNING *
), reasons AS (
    SELECT *, CASE state WHEN 'RELEASED' THEN 'not-installed' WHEN 'DOWNLOADED' THEN 'not-finished' ELSE 'failed' END AS reason FROM late
), noted AS (
    INSERT INTO overdue (iccid, seq, reason, since) SELECT iccid, seq, reason, since FROM reasons
)
INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, reason, received_at, provider)
SELECT iccid, seq, state, state, enabled, raw_state, 'overdue', reason, since + interval '1 day', provider FROM reasons;
INSERT INTO overdue_scans (reason, until)
SELECT reason, now() FROM unnest(ARRAY['not-installed', 'not-finished', 'failed', 'not-connected']) AS reason;

INSERT INTO changes (position, iccid, seq, kind, at)
SELECT row_number() OVER (ORDER BY received_at, iccid, seq), iccid, seq, CASE kind WHEN 'overdue' THEN 'overdue' ELSE 'transition' END, received_at
FROM transitions;
UPDATE change_feed SET last_position = (SELECT max(position) FROM changes);

-- Off, so that nothing is sent while pages are measured.
INSERT INTO endpoints (id, is_configured, url, kinds, providers, sealed, created_at, disabled_because, disabled_at, position)
SELECT 'ep_' || n, false, 'https://shop-' || n || '.example.org/hooks', '{}', '{}', '\x7b7d', now(), 'request', now(),
       (SELECT last_position FROM change_feed) - n * 50000
FROM generate_series(0, 9) AS n;
INSERT INTO endpoint_backlogs (iccid, endpoint, position, since, failures, retry_at)
SELECT iccid, 'ep_1', 1, since, 3, since + interval '1 hour' FROM profiles ORDER BY iccid DESC LIMIT 20000;

INSERT INTO hook_hours (hook, hour, accepted, refused)
SELECT provider || '/esim-status', date_trunc('hour', now()) - interval '1 hour' * n, 1000, 3
FROM generate_series(0, 839) AS n, unnest(ARRAY['gigastore', 'roamify', 'esim-go']) AS provider;
INSERT INTO hook_health (hook, accepted_at) SELECT DISTINCT hook, now() FROM hook_hours;

INSERT INTO profile_counts (provider, state, profiles) SELECT provider, state, count(*) FROM profiles GROUP BY provider, state;
INSERT INTO delivery_counts (day, provider, outcome, deliveries)
SELECT received_at::date, provider, outcome, count(*) FROM deliveries GROUP BY received_at::date, provider, outcome;
INSERT INTO funnel_counts (day, provider, milestone, profiles)
SELECT day, provider, milestone, 9000
FROM unnest(ARRAY['ready', 'opened', 'link-tapped', 'qr-shown', 'downloaded', 'installed', 'connected']) AS milestone,
     unnest(ARRAY['gigastore', 'roamify', 'esim-go']) AS provider,
     LATERAL (SELECT current_date - n AS day FROM generate_series(0, 90) AS n) AS d;
INSERT INTO install_times (day, provider, took, profiles)
SELECT current_date - n, provider, took, 40
FROM generate_series(0, 90) AS n, unnest(ARRAY['gigastore', 'roamify', 'esim-go']) AS provider, generate_series(0, 150) AS took;

DROP FUNCTION id_of;
