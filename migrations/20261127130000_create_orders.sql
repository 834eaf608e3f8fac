-- What a reseller says about the sale of a profile, beside the provider's own object. It is a separate table because
-- webhooks never touch it, and because its indexes are made in no time: a table of profiles may be large.
CREATE TABLE orders (
    iccid text COLLATE "C" PRIMARY KEY,
    reference text COLLATE "C" CHECK (char_length(reference) BETWEEN 1 AND 64),
    expected_from date,
    replaces text COLLATE "C" CHECK (replaces <> iccid),
    replaced_at timestamptz,
    CHECK ((replaces IS NULL) = (replaced_at IS NULL))
);

CREATE INDEX orders_reference ON orders (reference) WHERE reference IS NOT NULL;
CREATE INDEX orders_replaces ON orders (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX orders_expected_from ON orders (expected_from) WHERE expected_from IS NOT NULL;

COMMENT ON TABLE orders IS 'What resellers say about the sale of profiles';
COMMENT ON COLUMN orders.iccid IS 'number of the profile';
COMMENT ON COLUMN orders.reference IS 'the reseller''s own number of the order';
COMMENT ON COLUMN orders.expected_from IS 'day of travel: the first on which the profile is expected to be used';
COMMENT ON COLUMN orders.replaces IS 'number of the profile that this one was given out for';
COMMENT ON COLUMN orders.replaced_at IS 'when that was registered';
