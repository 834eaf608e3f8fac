-- Which profiles were erased, as keyed hashes, so that a late webhook does not bring one back. A registration does.
CREATE TABLE erasures (
    iccid_hmac bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL
);

COMMENT ON TABLE erasures IS 'Which profiles were erased, as keyed hashes';
COMMENT ON COLUMN erasures.iccid_hmac IS 'HMAC-SHA256 of the ICCID under erasure_key';
COMMENT ON COLUMN erasures.erased_at IS 'when it was erased';

-- The key of those hashes: one row, made here, the same for every replica for ever.
CREATE TABLE erasure_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    key bytea NOT NULL CHECK (length(key) = 32)
);

COMMENT ON TABLE erasure_key IS 'The key of the hashes in erasures';
COMMENT ON COLUMN erasure_key.singleton IS 'there is one row';
COMMENT ON COLUMN erasure_key.key IS '32 random bytes';

-- gen_random_uuid() is cryptographically strong; two of them have 244 random bits.
INSERT INTO erasure_key (key)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
