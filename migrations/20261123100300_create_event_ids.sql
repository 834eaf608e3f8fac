-- The event ids that senders gave, so that one event is applied once. Only for hooks whose senders have them.
-- The key begins with the hook, not the ICCID: an id that comes again with another ICCID is a duplicate too.
CREATE TABLE event_ids (
    hook text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    body_sha256 bytea NOT NULL,
    iccid text COLLATE "C",
    received_at timestamptz NOT NULL,
    PRIMARY KEY (hook, event_id)
);

COMMENT ON TABLE event_ids IS 'The event ids that senders gave, so that one event is applied once';
COMMENT ON COLUMN event_ids.hook IS 'path of the hook; ids are unique within one';
COMMENT ON COLUMN event_ids.event_id IS 'the sender''s id, such as the header webhook-id';
COMMENT ON COLUMN event_ids.body_sha256 IS 'SHA-256 of the raw body, to tell a repeat from a reused id';
COMMENT ON COLUMN event_ids.iccid IS 'the profile that the event spoke of, for erasure';
COMMENT ON COLUMN event_ids.received_at IS 'when the first of its deliveries came; kept for as long as deliveries are';

CREATE INDEX event_ids_received_at ON event_ids USING brin (received_at);
CREATE INDEX event_ids_iccid ON event_ids (iccid) WHERE iccid IS NOT NULL;
