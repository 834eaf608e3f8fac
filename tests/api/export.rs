//! `GET /v1/export`: everything, line by line, without holding the database.

use std::collections::BTreeSet;

use esim_status_testing::{Answer, TestApp, wait_until};
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::esim::{object, put, register};
use super::{ICCID, iccid};

async fn export(app: &TestApp, query: &str) -> Answer {
    let answer = app.backend.get(&format!("/v1/export?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Profiles with two transitions each, more than one page has.
async fn fill(app: &TestApp, profiles: i32) {
    let mut connection = app.database.connect().await;
    let fill = sqlx::query(
        "WITH new AS (
             INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
             SELECT '8997212330099' || lpad(n::text, 7, '0'), 'gigastore', 'INSTALLED', 'INSTALLED', now(), 2, 0, 2, now()
             FROM generate_series(1, $1) AS n RETURNING iccid
         )
         INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, received_at, provider)
         SELECT iccid, seq, CASE seq WHEN 2 THEN 'RELEASED' END, CASE seq WHEN 2 THEN 'INSTALLED' ELSE 'RELEASED' END,
                'x', 'normal', now(), 'gigastore'
         FROM new, generate_series(1, 2) AS seq",
    )
    .bind(profiles);
    connection.execute(fill).await.unwrap();
}

#[tokio::test]
async fn every_profile_and_transition_is_exported_once_and_any_line_can_be_continued_from() {
    let app = TestApp::start().await;
    fill(&app, 1_100).await;
    let whole = export(&app, "of=profiles").await;
    assert_eq!(whole.header("content-type"), "application/x-ndjson");
    let all = lines(&whole);
    let iccids: Vec<_> = all.iter().map(|it| it["iccid"].as_str().unwrap()).collect();
    assert_eq!(iccids, (1..=1_100).map(iccid).collect::<Vec<_>>());
    // As a list shows it.
    let page = app.backend.get("/v1/profiles?limit=1").await.json();
    assert_eq!(all[0], page["items"][0]);
    let rest = export(&app, &format!("of=profiles&after={}", iccid(777))).await;
    assert_eq!(lines(&rest), all[777..]);

    let whole = export(&app, "of=transitions").await;
    let all = lines(&whole);
    assert_eq!(all.len(), 2_200);
    for (index, line) in all.iter().enumerate() {
        assert_eq!(line["iccid"], iccid(index / 2 + 1));
        assert_eq!(line["seq"], index % 2 + 1);
    }
    let rest = export(&app, &format!("of=transitions&after={}:1", iccid(600))).await;
    assert_eq!(lines(&rest), all[1_199..]);
    let none = export(&app, &format!("of=transitions&after={}:2", iccid(1_100))).await;
    assert_eq!(none.text, "");
    for query in [
        "",
        "of=deliveries",
        "of=profiles&format=xml",
        "of=profiles&after=x",
        "of=profiles&limit=1",
        "of=transitions&after=89972123300991848961",
        "of=profiles&after=89972123300991848961:1",
        "of=transitions&after=89972123300991848961:-1",
    ] {
        let answer = app.backend.get(&format!("/v1/export?{query}")).await;
        assert_eq!(answer.problem(), "invalid-parameter", "{query}");
    }
}

#[tokio::test]
async fn csv_has_every_member_and_no_cell_that_is_a_formula() {
    let app = TestApp::start().await;
    let formulas = ["=HYPERLINK(\"https://x\")", "+1", "-1", "@SUM(1)", "a, \"b\"", "ü"];
    for (index, reference) in formulas.iter().enumerate() {
        let iccid = iccid(index);
        let object = json!({ "iccid": iccid, "state": "RELEASED", "reference": reference });
        assert!(put(&app.backend, &iccid, object.to_string()).await.status.is_success());
    }
    let csv = export(&app, "of=profiles&format=csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let mut reader = csv::Reader::from_reader(csv.text.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let place = columns.iter().position(|it| it == "reference").unwrap();
    let cells: Vec<_> = reader.records().map(|it| it.unwrap()[place].to_owned()).collect();
    let expected = ["'=HYPERLINK(\"https://x\")", "'+1", "'-1", "'@SUM(1)", "a, \"b\"", "ü"];
    assert_eq!(cells, expected);
    // Continued, it has no second line of names.
    let rest = export(&app, &format!("of=profiles&format=csv&after={}", iccid(4))).await;
    assert_eq!(rest.text.lines().count(), 1);

    // Each member of JSON is a column, and each column is a member.
    register(&app, &object(ICCID)).await;
    app.report(ICCID, "INSTALLED").await;
    for of in ["profiles", "transitions"] {
        let mut members = BTreeSet::new();
        for line in lines(&export(&app, &format!("of={of}")).await) {
            for (name, value) in line.as_object().unwrap() {
                match value.as_object() {
                    Some(inner) => members.extend(inner.keys().map(|it| format!("{name}.{it}"))),
                    None => _ = members.insert(name.clone()),
                }
            }
        }
        let csv = export(&app, &format!("of={of}&format=csv")).await;
        let mut reader = csv::Reader::from_reader(csv.text.as_bytes());
        let columns: BTreeSet<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        // Only some lines have these.
        let seldom = [
            "checks.eidMod97",
            "device.make",
            "device.model",
            "device.tac",
            "occurredAt",
            "reason",
        ];
        members.remove("device");
        members.extend(seldom.map(str::to_owned).into_iter().filter(|it| columns.contains(it)));
        assert_eq!(columns, members, "{of}");
    }
}

#[tokio::test]
async fn the_changes_go_on_where_an_export_began() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let cursor = export(&app, "of=profiles").await.header("x-changes-cursor").to_owned();
    app.report(ICCID, "INSTALLED").await;
    let changes = app.backend.get(&format!("/v1/changes?after={cursor}")).await.json();
    let items = changes["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["transition"]["toState"], "INSTALLED");
}

#[tokio::test]
async fn a_caller_who_does_not_read_on_holds_no_transaction_and_is_cut_off_at_the_end() {
    let app = TestApp::start().await;
    fill(&app, 20_000).await;
    let mut stream = TcpStream::connect(app.service.public).await.unwrap();
    let request = format!(
        "GET /v1/export?of=transitions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        esim_status_testing::API_KEY
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 4_096];
    stream.read_exact(&mut begin).await.unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200"));
    wait_until("no reader is in a transaction", async || {
        let busy = "SELECT count(*) FROM pg_stat_activity
                    WHERE application_name = 'esim-status reader' AND xact_start IS NOT NULL AND datname = current_database()";
        app.database.scalar::<i64>(busy).await == 0
    })
    .await;
    // Webhooks and reads go on.
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let stopping = tokio::spawn(app.stop());
    let mut rest = Vec::new();
    // The end is that of the connection, not that of the answer.
    let ended = stream.read_to_end(&mut rest).await;
    assert!(ended.is_err() || !rest.ends_with(b"\r\n0\r\n\r\n"));
    stopping.await.unwrap();
}
