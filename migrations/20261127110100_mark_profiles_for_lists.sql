-- What lists of profiles look for, in columns that hardly any webhook changes.
--
-- An index on state or updated_at would cost every webhook a new entry in each index of the row. These columns are null for a
-- profile that goes back and forth between the usual states and was written together with a delivery, so its writes touch no
-- index. A trigger keeps them, because replicas of an older release and operators with psql write profiles too; its condition is
-- all that it costs the others.
ALTER TABLE profiles ADD COLUMN rare_state text, ADD COLUMN rare_since timestamptz, ADD COLUMN unreported_at timestamptz;

CREATE FUNCTION mark_for_lists() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.rare_state := CASE WHEN NEW.state NOT IN ('INSTALLED', 'RELEASED', 'DISABLED') THEN NEW.state END;
    NEW.rare_since := CASE WHEN NEW.rare_state IS NOT NULL THEN NEW.since END;
    IF (NEW.last_delivery_at + interval '2 minutes' >= NEW.updated_at) IS NOT TRUE THEN
        NEW.unreported_at := NEW.updated_at;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER mark_for_lists BEFORE INSERT OR UPDATE ON profiles
    FOR EACH ROW WHEN (
        NEW.rare_state IS DISTINCT FROM CASE WHEN NEW.state NOT IN ('INSTALLED', 'RELEASED', 'DISABLED') THEN NEW.state END
        OR (NEW.rare_state IS NOT NULL AND NEW.rare_since IS DISTINCT FROM NEW.since)
        OR (NEW.last_delivery_at + interval '2 minutes' >= NEW.updated_at) IS NOT TRUE
    ) EXECUTE FUNCTION mark_for_lists();

COMMENT ON COLUMN profiles.rare_state IS 'the state, unless it is INSTALLED, RELEASED or DISABLED';
COMMENT ON COLUMN profiles.rare_since IS 'since, if rare_state is not null';
COMMENT ON COLUMN profiles.unreported_at IS 'when this row last changed without a delivery of the two minutes before: by a registration, from a spool, by psql';

ALTER TABLE upkeep ADD COLUMN rare_states_marked boolean NOT NULL DEFAULT false, ADD COLUMN unreported_from timestamptz;

COMMENT ON COLUMN upkeep.rare_states_marked IS 'whether rare_state is set in all rows of profiles, and indexed';
COMMENT ON COLUMN upkeep.unreported_from IS 'when unreported_at began to be kept';

-- The lock of ALTER TABLE is held: every later write is marked.
UPDATE upkeep SET unreported_from = clock_timestamp();

-- Reading a large table through is left to the upkeep: it marks the rows, and builds the indexes without holding up writers.
DO $$
BEGIN
    IF pg_table_size('profiles') < 64 * 1024 * 1024 THEN
        UPDATE profiles SET rare_state = state, rare_since = since WHERE state NOT IN ('INSTALLED', 'RELEASED', 'DISABLED');
        CREATE INDEX profiles_rare_state ON profiles (rare_state, iccid) WHERE rare_state IS NOT NULL;
        CREATE INDEX profiles_rare_since ON profiles (rare_state, rare_since) WHERE rare_state IS NOT NULL;
        CREATE INDEX profiles_unreported ON profiles (unreported_at) WHERE unreported_at IS NOT NULL;
        UPDATE upkeep SET rare_states_marked = true;
    END IF;
END
$$;
