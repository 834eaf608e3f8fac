//! Helpers: the eSIM object that a backend registers, the hook with event ids, and a search through every column of a
//! database.

use std::sync::Arc;

use esim_status::config::{Settings, url_secret_hook};
use esim_status::delivery::{Authenticator, Scheme, Secrets, StandardSecrets};
use esim_status::hook::Hook;
use esim_status_testing::{Answer, Client, Database, HOOK_SECRET, TestApp, unix_now, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

/// The IMSI of every object created here.
pub(crate) const IMSI: &str = "001010987654321";

/// The secret part of the activation code.
pub(crate) const MATCHING_ID: &str = "K7-Qh2PLm9-04xZ";

/// The secret part of the URL of the provider's install page.
pub(crate) const PAGE_TOKEN: &str = "eyJhbGciOiJIUzUxMiJ9.c2VjcmV0LXBhZ2U";

/// The secret of the hook whose sender assigns an id to every event.
const RELAY_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The activation code.
pub(crate) fn activation_code() -> String {
    format!("LPA:1$smdp.example.test${MATCHING_ID}")
}

/// An object in the format of the vendor's API, of a profile that is ready to be installed.
pub(crate) fn object(iccid: &str) -> Value {
    json!({
        "iccid": iccid,
        "imsi": IMSI,
        "activationCode": activation_code(),
        "appleUniversalLink": "https://esimsetup.apple.com/esim_qrcode_provisioning?carddata=LPA:1$<SM-DP+ Address>$<Activation Code>",
        "installationUrl": format!("https://install.example.test/#/esim/profile?token={PAGE_TOKEN}"),
        "lastSeen": null,
        "activatedAt": null,
        "state": "RELEASED",
        "uid": "customer-4711",
        "active": true,
    })
}

/// The same with one member changed.
pub(crate) fn object_with(iccid: &str, member: &str, value: impl Into<Value>) -> Value {
    let mut object = object(iccid);
    object[member] = value.into();
    object
}

/// Sends a body with PUT to a profile's path.
pub(crate) async fn put(client: &Client, iccid: &str, body: impl Into<reqwest::Body>) -> Answer {
    let path = format!("/v1/profiles/{iccid}");
    Answer::of(client.request(Method::PUT, &path).body(body)).await
}

/// Registers the profile of this object.
pub(crate) async fn register(app: &TestApp, object: &Value) -> Answer {
    let iccid = object["iccid"].as_str().expect("the object has an iccid");
    let answer = put(&app.backend, iccid, object.to_string()).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer
}

/// Erases a profile.
pub(crate) async fn erase(client: &Client, iccid: &str) -> Answer {
    Answer::of(client.request(Method::DELETE, &format!("/v1/profiles/{iccid}"))).await
}

/// Adds a hook whose sender assigns an id to every event.
pub(crate) fn with_event_ids(settings: &mut Settings) {
    let secret = StandardSecrets::parse("hook", [RELAY_SECRET]).unwrap();
    let plain = url_secret_hook(Secrets::parse("hook", [HOOK_SECRET]).unwrap());
    let path: Arc<str> = Arc::from("gigastore/relayed");
    let authenticator = Authenticator::new(Scheme::StandardWebhooks(secret)).into();
    settings.hooks.insert(path.clone(), Hook { path, authenticator, ..plain }.into());
}

/// Delivers a body as an event with this id.
pub(crate) async fn relay(app: &TestApp, id: &str, body: &str) -> Answer {
    let webhook = standardwebhooks::Webhook::new(RELAY_SECRET).unwrap();
    let at = i64::try_from(unix_now()).unwrap();
    let signature = webhook.sign(id, at, body.as_bytes()).unwrap();
    let request = app.anybody.request(Method::POST, "/webhooks/gigastore/relayed");
    let request = request
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signature);
    Answer::of(request.body(body.to_owned())).await
}

/// Waits until at least this many statements in the test's database wait for a lock.
pub(crate) async fn wait_for_waiting(database: &Database, count: i64) {
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("the statements wait for a lock", async || {
        database.scalar::<i64>(waits).await >= count
    })
    .await;
}

/// Every column of every table that holds this text, as `table.column`, apart from the note for those who follow all changes that
/// a profile was erased: it is all that is kept of the profile, for a week.
pub(crate) async fn places_of(database: &Database, text: &str) -> Vec<String> {
    let mut connection = database.connect().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND data_type IN ('text', 'bytea', 'jsonb', 'json', 'character varying', 'ARRAY')",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the columns are listed");
    assert!(columns.len() > 20, "{columns:?}");
    let mut places = Vec::new();
    for (table, column) in columns {
        // A bytea is searched as bytes, everything else as text.
        let is_of_changes = ["changes", "new_changes"].contains(&table.as_str());
        let without = if is_of_changes { "kind <> 'erased' AND" } else { "" };
        let query = format!(
            r#"SELECT count(*) FROM "{table}"
               WHERE {without} position($1 IN CASE pg_typeof("{column}") WHEN 'bytea'::regtype
                                    THEN decode(substr("{column}"::text, 3), 'hex')
                                    ELSE convert_to("{column}"::text, 'UTF8') END) > 0"#
        );
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(query)).bind(text.as_bytes());
        let count = query.fetch_one(&mut connection).await.expect("the column is searched");
        if count > 0 {
            places.push(format!("{table}.{column}"));
        }
    }
    places
}
