-- What is past its retention is found by a b-tree. The BRIN went blind: its ranges keep the oldest time that they ever held,
-- and vacuum gives the room of old rows to new ones, so after one retention every range may hold an old row.
--
-- Building it holds up everybody who claims an event id, so it is built here only where that takes a moment. On a large table,
-- and on one that another transaction holds, the upkeep of the service builds it with CREATE INDEX CONCURRENTLY. That cannot be
-- a migration: it waits for every transaction that is open, the replicas that wait for this migration among them.
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '1s', true);
    IF pg_table_size('event_ids') < 64 * 1024 * 1024 THEN
        CREATE INDEX event_ids_age ON event_ids (received_at);
        DROP INDEX event_ids_received_at;
    END IF;
EXCEPTION
    WHEN lock_not_available THEN
        RAISE NOTICE 'event_ids is in use: the upkeep builds its index';
END
$$;

COMMENT ON COLUMN event_ids.received_at IS 'when its first delivery was written, by the database''s clock; kept for the retention, 14 days at least';
