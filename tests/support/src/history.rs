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
        "SELECT count(*) FROM transitions t
         FULL JOIN (SELECT id, iccid FROM deliveries WHERE outcome = 'moved') d ON d.id = t.delivery_id AND d.iccid = t.iccid
         WHERE t.iccid IS NULL OR d.id IS NULL",
    ),
    (
        "deliveries with more than one transition",
        "SELECT count(*) FROM (SELECT delivery_id FROM transitions GROUP BY delivery_id HAVING count(*) > 1) t",
    ),
    (
        "profiles whose count of deliveries differs from the stored deliveries",
        "SELECT count(*) FROM profiles p
         FULL JOIN (SELECT iccid, count(*) AS kept FROM deliveries
                    WHERE iccid IS NOT NULL AND outcome <> 'duplicate' GROUP BY iccid) d USING (iccid)
         WHERE p.deliveries IS DISTINCT FROM d.kept",
    ),
];

/// Asserts that every history is consistent, and agrees with its profile and with the stored deliveries.
pub async fn assert_straight(database: &Database) {
    for (what, query) in NEVER {
        assert_eq!(database.scalar::<i64>(query).await, 0, "{what}");
    }
}
