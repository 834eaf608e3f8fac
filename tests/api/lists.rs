//! `GET /v1/profiles`: filters and paging.
//!
//! Five profiles with different members are listed with every filter, page size and invalid parameter.

use esim_status_testing::TestApp;
use serde_json::json;

use super::iccid;

const EID: &str = "8904903212345123451234567890ABCD";

/// The numbers of the profiles that a query finds, in the order of the answer.
async fn found(app: &TestApp, query: &str) -> Vec<usize> {
    let page = app.backend.get(&format!("/v1/profiles?{query}")).await.json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{query}: {page}"));
    let number = |item: &serde_json::Value| (0..10).find(|number| item["iccid"] == iccid(*number));
    items.iter().filter_map(number).collect()
}

/// Five profiles: 0 and 1 installed, 2 released, 3 in error and with an EID, 4 released and with an IMSI.
async fn with_five() -> TestApp {
    let app = TestApp::start().await;
    // Created in another order than that of their ICCIDs, which is the order of the list.
    for (number, state, eid, imsi) in [
        (3, "ERROR", EID, ""),
        (0, "INSTALLED", "", ""),
        (4, "RELEASED", "", "001010123456789"),
        (1, "ENABLED", "", ""),
        (2, "RELEASED", "", ""),
    ] {
        let body =
            json!({ "iccid": iccid(number), "profileState": state, "eid": eid, "imsi": imsi });
        assert_eq!(app.deliver(body.to_string()).await.outcome(), "moved");
    }
    let mut connection = app.database.connect().await;
    for statement in [
        "UPDATE profiles SET uid = 'customer 7', updated_at = '2026-01-02T03:04:05Z' WHERE iccid LIKE '%0'",
        "UPDATE profiles SET provider = 'other' WHERE iccid LIKE '%2'",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    app
}

#[tokio::test]
async fn profiles_are_found_by_each_filter_and_by_several_together() {
    let app = with_five().await;
    let eid = format!("eid={EID}");
    let eid_in_lower_case = eid.to_lowercase();
    let rows: [(&str, &[usize]); 20] = [
        ("", &[0, 1, 2, 3, 4]),
        ("state=INSTALLED", &[0, 1]),
        ("state=installed", &[0, 1]),
        ("state=DELETED", &[]),
        ("provider=gigastore", &[0, 1, 3, 4]),
        ("provider=nobody", &[]),
        ("uid=customer%207", &[0]),
        ("uid=customer+7", &[0]),
        ("uid=customer", &[]),
        ("imsi=001010123456789", &[4]),
        ("imsi=00101", &[]),
        (&eid, &[3]),
        // An EID may be written in either case.
        (&eid_in_lower_case, &[3]),
        ("updatedSince=2026-01-02T03:04:05Z", &[0, 1, 2, 3, 4]),
        ("updatedSince=2026-01-02T04:04:05%2B01:00", &[0, 1, 2, 3, 4]),
        ("updatedSince=2026-01-02T04:04:05+01:00", &[0, 1, 2, 3, 4]),
        ("updatedSince=2026-01-02T03:04:05.000001Z", &[1, 2, 3, 4]),
        ("updatedSince=9999-12-31T23:59:59Z", &[]),
        ("state=RELEASED&provider=gigastore&imsi=001010123456789", &[4]),
        ("state=RELEASED&uid=customer+7", &[]),
    ];
    for (query, expected) in rows {
        assert_eq!(found(&app, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn pages_have_no_gaps_and_no_duplicates() {
    let app = with_five().await;
    for limit in 1..=6 {
        let (mut numbers, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("limit={limit}{cursor}");
            numbers.extend(found(&app, &query).await);
            let page = app.backend.get(&format!("/v1/profiles?{query}")).await.json();
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(numbers, [0, 1, 2, 3, 4], "by {limit}");
    }
}

#[tokio::test]
async fn an_invalid_parameter_is_named() {
    let app = TestApp::start().await;
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e9", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=!!!!", "cursor"),
        ("cursor=MQ", "cursor"),
        ("cursor=%FF", "cursor"),
        ("cursor=JzsgRFJPUCBUQUJMRQ", "cursor"),
        ("state=TELEPORTED", "state"),
        ("state=%00", "state"),
        ("imsi=x", "imsi"),
        ("imsi=1%00", "imsi"),
        ("eid=x", "eid"),
        ("uid=%00", "uid"),
        ("provider=a%00b", "provider"),
        ("updatedSince=yesterday", "updatedSince"),
        ("updatedSince=2026-02-30T00:00:00Z", "updatedSince"),
        ("updatedSince=2026-01-02T03:04:05", "updatedSince"),
        ("updatedSince=infinity", "updatedSince"),
        ("status=INSTALLED", "status"),
        ("State=INSTALLED", "State"),
        ("iccid=89972123300991848961", "iccid"),
        ("state=ERROR&state=RELEASED", "state"),
        ("<script>=1", "?script?"),
    ] {
        let answer = app.backend.get(&format!("/v1/profiles?{query}")).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.problem()),
            (400, "invalid-parameter"),
            "{query}"
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(&format!("{named}: ")), "{query}: {detail}");
    }
    let long = format!("/v1/profiles?uid={}", "x".repeat(257));
    assert_eq!(app.backend.get(&long).await.problem(), "invalid-parameter");
}
