//! Checks of the database after a fault: every acknowledged delivery is stored, and every profile was moved as often as
//! its sender moved it.

use esim_status_testing::Database;
pub(crate) use esim_status_testing::history::assert_straight;

use super::senders::{Acknowledged, Senders};

/// Asserts that every acknowledged delivery is stored as it was acknowledged. Returns how many are not, which is 0.
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
    assert!(lost.is_empty(), "acknowledged but not stored: {lost:?}");
    lost.len()
}

/// Asserts that each profile has one transition for each change that its sender reported, no matter how often the
/// sender had to retry.
pub(crate) async fn assert_moved_once_each(database: &Database, senders: &Senders) {
    let (iccids, counts): (Vec<_>, Vec<_>) = senders.moved().into_iter().unzip();
    assert!(!iccids.is_empty(), "nothing was sent");
    let query =
        "SELECT a.iccid, a.seq, p.seq FROM UNNEST($1::text[], $2::bigint[]) AS a (iccid, seq)
                 FULL JOIN profiles p USING (iccid) WHERE p.seq IS DISTINCT FROM a.seq";
    let query = sqlx::query_as::<_, (Option<String>, Option<i64>, Option<i64>)>(query);
    let query = query.bind(iccids).bind(counts);
    let wrong = query.fetch_all(&mut database.connect().await).await.unwrap();
    assert!(
        wrong.is_empty(),
        "(profile, changes that were sent, transitions that are stored): {wrong:?}"
    );
}
