-- The history of every profile, append-only: nothing updates it, and only the erasure of a profile deletes from it.
CREATE TABLE transitions (
    iccid text COLLATE "C" NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    from_state text CHECK (from_state IN (
        'PREPARING', 'RELEASED', 'DOWNLOADED', 'INSTALLED', 'DISABLED', 'DELETED', 'ERROR', 'UNAVAILABLE'
    )),
    to_state text NOT NULL CHECK (to_state IN (
        'PREPARING', 'RELEASED', 'DOWNLOADED', 'INSTALLED', 'DISABLED', 'DELETED', 'ERROR', 'UNAVAILABLE'
    )),
    enabled boolean,
    raw_state text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('normal', 'unexpected', 'late')),
    occurred_at timestamptz,
    received_at timestamptz NOT NULL,
    provider text NOT NULL,
    delivery_id uuid,
    PRIMARY KEY (iccid, seq)
);

COMMENT ON TABLE transitions IS 'The history of every profile, append-only';
COMMENT ON COLUMN transitions.iccid IS 'the profile';
COMMENT ON COLUMN transitions.seq IS '1, 2, 3 … for each profile, without gaps; the one cursor of readers';
COMMENT ON COLUMN transitions.from_state IS 'state before; null on the first';
COMMENT ON COLUMN transitions.to_state IS 'state that was reported';
COMMENT ON COLUMN transitions.enabled IS 'switched on or off; null where the provider does not say';
COMMENT ON COLUMN transitions.raw_state IS 'the provider''s word, exactly as sent';
COMMENT ON COLUMN transitions.kind IS 'normal or unexpected: applied; late: kept, not applied';
COMMENT ON COLUMN transitions.occurred_at IS 'the provider''s event time, where it sends one';
COMMENT ON COLUMN transitions.received_at IS 'when the delivery reached us';
COMMENT ON COLUMN transitions.provider IS 'slug of the provider that reported it';
COMMENT ON COLUMN transitions.delivery_id IS 'the delivery that caused it, for as long as that is kept';
