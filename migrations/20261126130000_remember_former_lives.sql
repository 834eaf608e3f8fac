-- What an erasure leaves behind once its profile is registered again, perhaps for another customer: from when on deliveries and
-- access tokens count, and where the numbers of the history go on, so that no cursor or tag of the former life fits the new one.
-- Columns without a default, or with a constant one, rewrite nothing; replicas of an older version go on beside them.
ALTER TABLE profiles ADD COLUMN erased_at timestamptz, ADD COLUMN tokens_from timestamptz;
ALTER TABLE erasures ADD COLUMN last_seq bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN profiles.erased_at IS 'when a former life of it was erased: deliveries received before are not about this one';
COMMENT ON COLUMN profiles.tokens_from IS 'access tokens issued before are not good any more';
COMMENT ON COLUMN erasures.last_seq IS 'the number of its last transition; those of a new life go on behind it';
