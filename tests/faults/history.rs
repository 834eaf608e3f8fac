//! What must hold of the database, whatever happened.

use esim_status_testing::Database;

use super::senders::{Acknowledged, Senders};

/// Each query counts what must not be, and says what that is.
const NEVER: [(&str, &str); 5] = [
    (
        "transitions whose seq has a gap before it, or whose from_state is not what the one before left",
        "SELECT count(*) FROM (
             SELECT seq, from_state, row_number() OVER w AS number, lag(to_state) OVER w AS before
             FROM transitions WINDOW w AS (PARTITION BY iccid ORDER BY seq)) t
         WHERE seq <> number OR from_state IS DISTINCT FROM before",
    ),
    (
        "profiles that are not what their last transition left",
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
        "profiles that have counted other deliveries than are kept",
        "SELECT count(*) FROM profiles p
         FULL JOIN (SELECT iccid, count(*) AS kept FROM deliveries
                    WHERE iccid IS NOT NULL AND outcome <> 'duplicate' GROUP BY iccid) d USING (iccid)
         WHERE p.deliveries IS DISTINCT FROM d.kept",
    ),
];

/// Asserts that every history is one straight line and agrees with its profile and with the deliveries.
pub(crate) async fn assert_straight(database: &Database) {
    for (what, query) in NEVER {
        assert_eq!(database.scalar::<i64>(query).await, 0, "{what}");
    }
}

/// Counts those that were acknowledged and are not there as they were acknowledged.
pub(crate) async fn lost(database: &Database, acknowledged: &[Acknowledged]) -> usize {
    let numbers: Vec<_> = acknowledged.iter().map(|it| it.number).collect();
    let ids: Vec<_> = acknowledged.iter().map(|it| it.delivery_id.as_str()).collect();
    let outcomes: Vec<_> = acknowledged.iter().map(|it| it.outcome.as_str()).collect();
    let query = r#"
        SELECT a.number FROM UNNEST($1::bigint[], $2::text[], $3::text[]) AS a (number, id, outcome)
        LEFT JOIN deliveries d ON d.id = a.id::uuid AND d.outcome = a.outcome
              AND substring(convert_from(d.body, 'UTF8') FROM '"n":([0-9]+)')::bigint = a.number
        WHERE d.id IS NULL"#;
    let query = sqlx::query_scalar::<_, i64>(query).bind(numbers).bind(ids).bind(outcomes);
    let lost = query.fetch_all(&mut database.connect().await).await.unwrap();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    lost.len()
}

/// Asserts that each profile has as many transitions as its sender has moved it, no matter how often it had to repeat.
pub(crate) async fn assert_moved_once_each(database: &Database, senders: &Senders) {
    let (iccids, counts): (Vec<_>, Vec<_>) = senders.moved().into_iter().unzip();
    assert!(!iccids.is_empty(), "nothing was sent");
    let query =
        "SELECT a.iccid, a.seq, p.seq FROM UNNEST($1::text[], $2::bigint[]) AS a (iccid, seq)
                 FULL JOIN profiles p USING (iccid) WHERE p.seq IS DISTINCT FROM a.seq";
    let query = sqlx::query_as::<_, (Option<String>, Option<i64>, Option<i64>)>(query);
    let query = query.bind(iccids).bind(counts);
    let wrong = query.fetch_all(&mut database.connect().await).await.unwrap();
    assert!(wrong.is_empty(), "profile, moved so often, has so many transitions: {wrong:?}");
}
