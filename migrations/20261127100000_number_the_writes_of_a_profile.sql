-- What tells a writer that a profile is as it was read: a number that every write of its row raises.
--
-- Writers of this release raise it in their statements. For everybody else (replicas of an older release beside this one, an
-- operator with psql) the trigger does, so nobody's write can be overlooked. Its condition is all that it costs a writer that
-- raises the number itself.
--
-- The numbers of a new row begin with the time, so those of a profile that was erased and registered again are not those of its
-- former life. A column with a constant default rewrites nothing.
ALTER TABLE profiles ADD COLUMN revision bigint NOT NULL DEFAULT 1;
ALTER TABLE profiles ALTER COLUMN revision SET DEFAULT (extract(epoch FROM now()) * 1000000)::bigint;

CREATE FUNCTION raise_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END
$$;

CREATE TRIGGER raise_revision BEFORE UPDATE ON profiles
    FOR EACH ROW WHEN (NEW.revision = OLD.revision) EXECUTE FUNCTION raise_revision();

COMMENT ON COLUMN profiles.revision IS 'raised by every write of the row: two reads with the same number read the same row';
