-- All changes of all profiles in one order, for backends that follow them.
--
-- A number that a writer took itself would not do: of two writers, the one with the smaller number may commit later, and a
-- reader would have passed it by then. So writers only append what they have changed to new_changes, without a number and
-- without an index. Whoever reads next gives these rows their positions, one transaction at a time (the lock of the row in
-- change_feed), and only what is committed is given one. A position is therefore never handed out before a smaller one.
CREATE TABLE new_changes (
    iccid text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    CHECK (kind IN ('transition', 'evidence', 'registered', 'erased'))
)
-- All rows are deleted every minute, so the table is vacuumed by what it has lost, not by its size.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
      autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = false, autovacuum_analyze_threshold = 1000000);

COMMENT ON TABLE new_changes IS 'Changes of profiles that have no position in changes yet';
COMMENT ON COLUMN new_changes.iccid IS 'number of the profile';
COMMENT ON COLUMN new_changes.seq IS 'seq of the profile after the change';
COMMENT ON COLUMN new_changes.kind IS 'what changed; transition: the history after what changes already has of it';
COMMENT ON COLUMN new_changes.at IS 'when it changed, by the clock of the service or of the database';

CREATE TABLE changes (
    position bigint PRIMARY KEY,
    iccid text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    CHECK (kind IN ('transition', 'overdue', 'evidence', 'registered', 'erased'))
);
-- For the end of what it has of a profile, and for erasures.
CREATE INDEX changes_of_profile ON changes (iccid, seq);
CREATE INDEX changes_erased ON changes (at) WHERE kind = 'erased';

COMMENT ON TABLE changes IS 'Changes of all profiles in one order; of an erased profile only that it was erased, and that for a week';
COMMENT ON COLUMN changes.position IS 'place in the order: 1, 2, 3 …, with gaps where profiles were erased';
COMMENT ON COLUMN changes.iccid IS 'number of the profile';
COMMENT ON COLUMN changes.seq IS 'number of the transition; seq of the profile for other kinds';
COMMENT ON COLUMN changes.kind IS 'what changed';
COMMENT ON COLUMN changes.at IS 'when it changed, by the clock of the service or of the database';

CREATE TABLE change_feed (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    last_position bigint NOT NULL DEFAULT 0,
    searched_to text COLLATE "C",
    searches_left smallint NOT NULL,
    search_at timestamptz NOT NULL
);

COMMENT ON TABLE change_feed IS 'How far the changes have come: one row, whose lock is held by whoever gives positions';
COMMENT ON COLUMN change_feed.singleton IS 'there is one row';
COMMENT ON COLUMN change_feed.last_position IS 'the last position that was given';
COMMENT ON COLUMN change_feed.searched_to IS 'the last profile that was searched for transitions without a position; null between two searches';
COMMENT ON COLUMN change_feed.searches_left IS 'how many searches are to begin yet';
COMMENT ON COLUMN change_feed.search_at IS 'when the next one is to begin';

-- The histories that exist, and what replicas of the release before this one write beside new ones, are found by the upkeep: now,
-- and once more a day later.
INSERT INTO change_feed (searches_left, search_at)
SELECT CASE WHEN EXISTS (SELECT FROM profiles) THEN 2 ELSE 0 END, now();
