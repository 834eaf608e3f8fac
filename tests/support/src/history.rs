//! The invariants of the database that must hold after every fault.

use super::Database;

/// Descriptions of violations, each with a query that counts them.
const NEVER: [(&str, &str); 5] = [
    (
        "transitions with a gap before their seq, or whose from_state is not the to_state of the transition before",
        "SELECT count(*) FROM (
             SELECT seq, from_state, row_number() OVER w AS number, lag(to_state) OVER w AS before
             FROM transitions WINDOW w AS (PARTITION BY iccid ORDER BY seq)) t
         WHERE seq <> number OR from_state IS DISTINCT FROM before",
    ),
    (
        "profiles that differ from their last transition",
        "SELECT count(*) FROM profiles p
         FULL JOIN (SELECT DISTINCT ON (iccid) * FROM transitions ORDER BY iccid, seq DESC) t USING (iccid)
         WHERE (p.seq, p.state, p.enabled, p.raw_state) IS DISTINCT FROM (t.seq, t.to_state, t.enabled, t.raw_state)",
    ),
    (
        "transitions without their delivery, or deliveries that moved a profile without a transition",
        "SELECT count(*) FROM (SELECT * FROM transitions WHERE kind <> 'overdue') t
         FULL JOIN (SELECT id, iccid FROM deliveries WHERE outcome = 'moved') d ON d.id = t.delivery_id AND d.iccid = t.iccid
         WHERE t.iccid IS NULL OR d.id IS NULL",
    ),
    (
        "deliveries with more than one transition",
        "SELECT count(*) FROM (SELECT delivery_id FROM transitions WHERE kind <> 'overdue' GROUP BY delivery_id HAVING count(*) > 1) t",
    ),
    (
        "profiles whose count of deliveries differs from the stored deliveries",
        "SELECT count(*) FROM profiles p
         FULL JOIN (SELECT iccid, count(*) AS kept FROM deliveries
                    WHERE iccid IS NOT NULL AND outcome <> 'duplicate' GROUP BY iccid) d USING (iccid)
         WHERE p.deliveries IS DISTINCT FROM d.kept",
    ),
];

/// The same about the counts, with the changes that are not added up yet.
const NEVER_MISCOUNTED: [(&str, &str); 3] = [
    (
        "states with another number of profiles than is counted",
        "SELECT count(*) FROM (
             SELECT provider, state, sum(n) AS n
             FROM (SELECT provider, state, profiles AS n FROM profile_counts
                   UNION ALL SELECT provider, to_state, n FROM count_changes WHERE to_state IS NOT NULL
                   UNION ALL SELECT provider, from_state, -n FROM count_changes WHERE from_state IS NOT NULL) AS c
             GROUP BY provider, state) AS counted
         FULL JOIN (SELECT provider, state, count(*) AS n FROM profiles GROUP BY provider, state) AS stored
             USING (provider, state)
         WHERE coalesce(counted.n, 0) <> coalesce(stored.n, 0)",
    ),
    (
        "days with another number of deliveries than is counted",
        "SELECT count(*) FROM (
             SELECT day, provider, outcome, sum(n) AS n
             FROM (SELECT day, provider, outcome, deliveries AS n FROM delivery_counts
                   UNION ALL SELECT day, provider, outcome, n FROM count_changes WHERE day IS NOT NULL) AS c
             GROUP BY day, provider, outcome) AS counted
         FULL JOIN (SELECT (received_at AT TIME ZONE 'UTC')::date AS day, provider, outcome, count(*) AS n
                    FROM deliveries GROUP BY 1, 2, 3) AS stored USING (day, provider, outcome)
         WHERE coalesce(counted.n, 0) <> coalesce(stored.n, 0)",
    ),
    (
        // An erased profile stays counted, and one that got another provider is counted for the one that it had.
        "days on which another number of profiles were ready, and have come so far, than is counted",
        "SELECT count(*) FROM (
             SELECT day, milestone, sum(n) AS n
             FROM (SELECT day, milestone, profiles AS n FROM funnel_counts
                   UNION ALL
                   SELECT ready_on, m.milestone, n FROM count_changes
                   JOIN (VALUES ('ready', 1), ('downloaded', 16), ('installed', 32), ('connected', 64)) AS m (milestone, bit)
                       ON milestones & bit <> 0) AS c
             WHERE milestone IN ('ready', 'downloaded', 'installed', 'connected') GROUP BY day, milestone) AS counted
         FULL JOIN (
             SELECT (ready_at AT TIME ZONE 'UTC')::date AS day, m.milestone, count(*) AS n
             FROM profiles JOIN (VALUES ('ready', 1), ('downloaded', 2), ('installed', 3), ('connected', 4)) AS r (reached, step)
                 USING (reached)
             JOIN (VALUES ('ready', 1), ('downloaded', 2), ('installed', 3), ('connected', 4)) AS m (milestone, step)
                 ON m.step <= r.step
             GROUP BY 1, 2) AS stored USING (day, milestone)
         WHERE coalesce(counted.n, 0) < coalesce(stored.n, 0)
            OR coalesce(counted.n, 0) > coalesce(stored.n, 0)
               AND NOT EXISTS (SELECT FROM erasures) AND NOT EXISTS (SELECT FROM profiles WHERE erased_at IS NOT NULL)",
    ),
];

/// What must never be found in the order of all changes.
const NEVER_MISPLACED: [(&str, &str); 4] = [
    (
        "transitions that have no position, and will get none",
        "SELECT count(*) FROM transitions AS t
         WHERE NOT EXISTS (SELECT FROM changes AS c
                           WHERE c.iccid = t.iccid AND c.seq = t.seq AND c.kind IN ('transition', 'overdue'))
           AND NOT EXISTS (SELECT FROM new_changes AS n WHERE n.iccid = t.iccid AND n.seq >= t.seq)",
    ),
    (
        "transitions with two positions",
        "SELECT count(*) FROM (SELECT FROM changes WHERE kind IN ('transition', 'overdue')
                               GROUP BY iccid, seq HAVING count(*) > 1) AS twice",
    ),
    (
        "changes that are placed before an earlier one of their profile",
        "SELECT count(*) FROM (SELECT seq, lag(seq) OVER (PARTITION BY iccid ORDER BY position) AS before FROM changes) AS c
         WHERE seq < before",
    ),
    (
        "positions that were not given",
        "SELECT count(*) FROM changes WHERE position > (SELECT last_position FROM change_feed)",
    ),
];

/// Asserts that every history is consistent, and agrees with its profile and with the stored deliveries, that all are counted,
/// and that every transition has one position among all changes, or will get one.
pub async fn assert_straight(database: &Database) {
    for (what, query) in NEVER {
        assert_eq!(database.scalar::<i64>(query).await, 0, "{what}");
    }
    assert_placed(database).await;
    assert_counted(database).await;
}

/// Asserts that every transition has one position among all changes, in the order of its profile, or will get one.
pub async fn assert_placed(database: &Database) {
    for (what, query) in NEVER_MISPLACED {
        assert_eq!(database.scalar::<i64>(query).await, 0, "{what}");
    }
}

/// Asserts that the counts are those of the tables.
pub async fn assert_counted(database: &Database) {
    for (what, query) in NEVER_MISCOUNTED {
        assert_eq!(database.scalar::<i64>(query).await, 0, "{what}");
    }
}
