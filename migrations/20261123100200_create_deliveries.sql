-- Every authentic webhook request with what became of it, append-only, partitioned by month of receipt.
-- The service makes the partitions ahead and drops them after the retention.
CREATE TABLE deliveries (
    id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    hook text NOT NULL,
    provider text NOT NULL,
    iccid text COLLATE "C",
    outcome text NOT NULL CHECK (outcome IN (
        'moved', 'repeated', 'duplicate', 'late', 'unrecognised', 'ignored', 'foreign', 'malformed'
    )),
    reason text,
    event_id text,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (id, received_at)
) PARTITION BY RANGE (received_at);

COMMENT ON TABLE deliveries IS 'Every authentic webhook request with what became of it, append-only';
COMMENT ON COLUMN deliveries.id IS 'UUIDv7, made from received_at; its order is the order of receipt';
COMMENT ON COLUMN deliveries.received_at IS 'when the request reached us; the partition key';
COMMENT ON COLUMN deliveries.hook IS 'path of the hook, such as gigastore/esim-status';
COMMENT ON COLUMN deliveries.provider IS 'slug of the hook''s provider';
COMMENT ON COLUMN deliveries.iccid IS 'the profile it speaks of, where that could be read';
COMMENT ON COLUMN deliveries.outcome IS 'what became of it';
COMMENT ON COLUMN deliveries.reason IS 'why, in words for support; never echoes the body';
COMMENT ON COLUMN deliveries.event_id IS 'the sender''s event id, where it sends one';
COMMENT ON COLUMN deliveries.headers IS 'a safe subset of the request''s headers, no proof among them';
COMMENT ON COLUMN deliveries.body IS 'the raw bytes as received';

CREATE INDEX deliveries_iccid ON deliveries (iccid, id) WHERE iccid IS NOT NULL;
-- What was kept but not applied is rare and is what support looks for.
CREATE INDEX deliveries_not_applied ON deliveries (outcome, id) WHERE outcome NOT IN ('moved', 'repeated');
-- Nearly free on an append-only table; serves the counts by day.
CREATE INDEX deliveries_received_at ON deliveries USING brin (received_at);
