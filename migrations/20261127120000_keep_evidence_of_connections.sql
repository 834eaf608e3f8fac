-- Evidence that an eSIM works, beside its state: the first connection, the last, and the country of the last. A history of countries
-- would be a profile of movements, so there is none.
ALTER TABLE profiles
    ADD COLUMN first_connected_at timestamptz,
    ADD COLUMN last_connected_at timestamptz,
    ADD COLUMN country text COLLATE "C";

COMMENT ON COLUMN profiles.first_connected_at IS 'when its provider first said that it is connected, by our clock';
COMMENT ON COLUMN profiles.last_connected_at IS 'when its provider last said so';
COMMENT ON COLUMN profiles.country IS 'where it was then: ISO 3166-1 code of two letters';

-- One outcome more. What is stored satisfies the narrower check, so nothing has to be read to validate this one.
ALTER TABLE deliveries DROP CONSTRAINT deliveries_outcome_check;
ALTER TABLE deliveries ADD CONSTRAINT deliveries_outcome_check CHECK (outcome IN (
    'moved', 'repeated', 'connected', 'duplicate', 'late', 'unrecognised', 'ignored', 'foreign', 'malformed'
)) NOT VALID;
