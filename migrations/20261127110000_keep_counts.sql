-- Counts of profiles by state and of deliveries by day, so that a summary reads a few rows and not the tables.
--
-- A writer only appends what it has changed, to a table without an index: no row is hot, and nobody waits. The upkeep of the
-- service adds that up. A replica of an older release appends nothing, and neither does psql: the upkeep counts anew every day.
CREATE TABLE count_changes (
    provider text NOT NULL,
    day date,
    outcome text,
    from_state text,
    to_state text,
    n bigint NOT NULL,
    CHECK ((day IS NULL) = (outcome IS NULL))
)
-- All rows are deleted every minute, so the table is vacuumed by what it has lost, not by its size.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
      autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = false, autovacuum_analyze_threshold = 1000000);

COMMENT ON TABLE count_changes IS 'What has changed the counts and is not added to them yet';
COMMENT ON COLUMN count_changes.provider IS 'slug of the provider of the deliveries and profiles';
COMMENT ON COLUMN count_changes.day IS 'day in UTC on which the deliveries were received; null if there are none';
COMMENT ON COLUMN count_changes.outcome IS 'what became of the deliveries; null if there are none';
COMMENT ON COLUMN count_changes.from_state IS 'state that the profiles were in before; null if they were created, or not changed';
COMMENT ON COLUMN count_changes.to_state IS 'state that the profiles are in now; null if they were erased, or not changed';
COMMENT ON COLUMN count_changes.n IS 'how many deliveries, and how many profiles; negative for deliveries that were erased';

CREATE TABLE profile_counts (
    provider text NOT NULL,
    state text NOT NULL,
    profiles bigint NOT NULL,
    PRIMARY KEY (provider, state)
);

COMMENT ON TABLE profile_counts IS 'How many profiles are in which state, without count_changes';
COMMENT ON COLUMN profile_counts.provider IS 'slug of the provider';
COMMENT ON COLUMN profile_counts.state IS 'canonical state';
COMMENT ON COLUMN profile_counts.profiles IS 'how many profiles';

CREATE TABLE delivery_counts (
    day date NOT NULL,
    provider text NOT NULL,
    outcome text NOT NULL,
    deliveries bigint NOT NULL,
    PRIMARY KEY (day, provider, outcome)
);

COMMENT ON TABLE delivery_counts IS 'How many deliveries were received on which day, without count_changes';
COMMENT ON COLUMN delivery_counts.day IS 'day of receipt in UTC';
COMMENT ON COLUMN delivery_counts.provider IS 'slug of the provider';
COMMENT ON COLUMN delivery_counts.outcome IS 'what became of the deliveries';
COMMENT ON COLUMN delivery_counts.deliveries IS 'how many deliveries';

-- How far the upkeep has come: one row.
CREATE TABLE upkeep (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    profiles_counted_at timestamptz,
    days_counted_at timestamptz,
    days_counted_from date
);

COMMENT ON TABLE upkeep IS 'How far the upkeep of the tables has come';
COMMENT ON COLUMN upkeep.singleton IS 'there is one row';
COMMENT ON COLUMN upkeep.profiles_counted_at IS 'when all profiles were last counted; null: profile_counts is not complete yet';
COMMENT ON COLUMN upkeep.days_counted_at IS 'when the deliveries of the newest days were last counted; null: never';
COMMENT ON COLUMN upkeep.days_counted_from IS 'the first day that delivery_counts has completely; null: none yet';

-- Counting tables with rows is left to the upkeep: it takes minutes for millions of rows.
INSERT INTO upkeep (profiles_counted_at, days_counted_at, days_counted_from)
SELECT CASE WHEN empty THEN now() END, CASE WHEN empty THEN now() END, CASE WHEN empty THEN date '1970-01-01' END
FROM (SELECT NOT EXISTS (SELECT FROM profiles) AND NOT EXISTS (SELECT FROM deliveries) AS empty) AS tables;
