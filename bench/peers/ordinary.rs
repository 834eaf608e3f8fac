//! The ordinary handler, as one would write it first: axum and sqlx, a pool, and one transaction for each request. With
//! `--one-statement`, one statement does all the work of a request.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use esim_status_bench::deliveries::PATH;
use esim_status_bench::peer::{self, Answer, Keys, Report};
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use sqlx::{FromRow, PgConnection, PgPool};
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

#[derive(Clone)]
struct App {
    pool: PgPool,
    keys: Arc<Keys>,
    one_statement: bool,
}

/// A delivery that has been authenticated and parsed.
struct Delivery {
    id: Uuid,
    received_at: OffsetDateTime,
    report: Report,
    state: &'static str,
    enabled: Option<bool>,
    headers: String,
    body: Bytes,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(peer::variable("CONNECTIONS")?.parse()?)
        .test_before_acquire(false)
        .connect(&peer::variable("DATABASE_URL")?)
        .await?;
    let one_statement = std::env::args().any(|argument| argument == "--one-statement");
    let app = App { pool, keys: Arc::new(Keys::from_environment()?), one_statement };
    let routes = Router::new()
        .route(PATH, post(receive))
        .route("/v1/profiles/{iccid}", get(show))
        .with_state(app);
    peer::serve(routes).await
}

async fn receive(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    peer::answer(accept(&app, &headers, body).await)
}

async fn accept(app: &App, headers: &HeaderMap, body: Bytes) -> Result<Answer, StatusCode> {
    let report = app.keys.check(headers, &body)?;
    let (state, enabled) = report.claim().ok_or(StatusCode::BAD_REQUEST)?;
    #[expect(clippy::disallowed_methods, reason = "a peer reads the clock where it stands")]
    let (id, received_at) = (peer::new_id(), OffsetDateTime::now_utc());
    let headers = peer::kept_headers(headers);
    let delivery = Delivery { id, received_at, report, state, enabled, headers, body };
    // Two first deliveries of a profile may race: after a retry, the second finds the row that the first has inserted.
    let mut tries = 0;
    loop {
        tries += 1;
        let written = if app.one_statement {
            write_at_once(&app.pool, &delivery).await
        } else {
            write(&app.pool, &delivery).await
        };
        match written {
            Ok(outcome) => return Ok(Answer { delivery_id: id, outcome }),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() && tries < 3 => {}
            Err(error) => {
                eprintln!("{error}");
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
        }
    }
}

#[derive(FromRow)]
struct Known {
    state: String,
    enabled: Option<bool>,
    eid: Option<String>,
    seq: i64,
    installs_seen: i32,
}

async fn write(pool: &PgPool, delivery: &Delivery) -> sqlx::Result<&'static str> {
    let mut transaction = pool.begin().await?;
    let known: Option<Known> = sqlx::query_as(
        "SELECT state, enabled, eid, seq, installs_seen FROM profiles WHERE iccid = $1 FOR UPDATE",
    )
    .bind(&delivery.report.iccid)
    .fetch_optional(&mut *transaction)
    .await?;
    let moved = known.as_ref().is_none_or(|known| {
        let other_device = known.eid.is_some()
            && delivery.report.eid.is_some()
            && known.eid != delivery.report.eid;
        (known.state.as_str(), known.enabled) != (delivery.state, delivery.enabled) || other_device
    });
    let seq = known.as_ref().map_or(0, |known| known.seq) + i64::from(moved);
    save(&mut transaction, known.as_ref(), delivery, seq, moved).await?;
    if moved {
        sqlx::query(
            "INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at,
                                      provider, delivery_id)
             VALUES ($1, $2, $3, $4, $5, $6, 'normal', $7, 'gigastore', $8)",
        )
        .bind(&delivery.report.iccid)
        .bind(seq)
        .bind(known.map(|known| known.state))
        .bind(delivery.state)
        .bind(delivery.enabled)
        .bind(&delivery.report.profile_state)
        .bind(delivery.received_at)
        .bind(delivery.id)
        .execute(&mut *transaction)
        .await?;
    }
    let outcome = if moved { "moved" } else { "repeated" };
    sqlx::query(
        "INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
         VALUES ($1, $2, 'gigastore/esim-status', 'gigastore', $3, $4, $5::jsonb, $6)",
    )
    .bind(delivery.id)
    .bind(delivery.received_at)
    .bind(&delivery.report.iccid)
    .bind(outcome)
    .bind(&delivery.headers)
    .bind(&delivery.body[..])
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(outcome)
}

async fn save(
    connection: &mut PgConnection,
    known: Option<&Known>,
    delivery: &Delivery,
    seq: i64,
    moved: bool,
) -> sqlx::Result<()> {
    let on_device = |state: &str| matches!(state, "INSTALLED" | "DISABLED");
    let came = on_device(delivery.state) && !known.is_some_and(|known| on_device(&known.state));
    let installs_seen = known.map_or(0, |known| known.installs_seen) + i32::from(came);
    let statement = match known {
        None => {
            "INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq,
                                   installs_seen, deliveries, last_delivery_at, updated_at)
             SELECT $1, 'gigastore', $2, $3, $4, $5, $6, $7, $8, $9, 1, $7, now() WHERE $10"
        }
        Some(_) => {
            "UPDATE profiles
             SET state = $2, enabled = $3, raw_state = $4, imsi = coalesce($5, imsi), eid = coalesce($6, eid),
                 since = CASE WHEN $10 THEN $7 ELSE since END, seq = $8, installs_seen = $9,
                 deliveries = deliveries + 1, last_delivery_at = $7, updated_at = now()
             WHERE iccid = $1"
        }
    };
    sqlx::query(statement)
        .bind(&delivery.report.iccid)
        .bind(delivery.state)
        .bind(delivery.enabled)
        .bind(&delivery.report.profile_state)
        .bind(&delivery.report.imsi)
        .bind(&delivery.report.eid)
        .bind(delivery.received_at)
        .bind(seq)
        .bind(installs_seen)
        .bind(moved)
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_at_once(pool: &PgPool, delivery: &Delivery) -> sqlx::Result<&'static str> {
    let outcome: String = sqlx::query_scalar(include_str!("../sql/one_statement.sql"))
        .bind(&delivery.report.iccid)
        .bind(delivery.state)
        .bind(delivery.enabled)
        .bind(&delivery.report.profile_state)
        .bind(&delivery.report.imsi)
        .bind(&delivery.report.eid)
        .bind(delivery.received_at)
        .bind(delivery.id)
        .bind(&delivery.headers)
        .bind(&delivery.body[..])
        .fetch_one(pool)
        .await?;
    Ok(if outcome == "moved" { "moved" } else { "repeated" })
}

#[derive(FromRow, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    iccid: String,
    state: String,
    enabled: Option<bool>,
    raw_state: String,
    provider: String,
    #[serde(with = "rfc3339")]
    since: OffsetDateTime,
    seq: i64,
    #[serde(with = "rfc3339::option")]
    last_delivery_at: Option<OffsetDateTime>,
    deliveries: i64,
    installs_seen: i32,
    registered: bool,
    imsi: Option<String>,
    eid: Option<String>,
    uid: Option<String>,
    #[serde(with = "rfc3339::option")]
    activated_at: Option<OffsetDateTime>,
    #[serde(with = "rfc3339::option")]
    last_seen: Option<OffsetDateTime>,
}

#[expect(clippy::disallowed_types, reason = "a peer uses axum's own extractor")]
async fn show(
    State(app): State<App>,
    axum::extract::Path(iccid): axum::extract::Path<String>,
    headers: HeaderMap,
) -> Response {
    peer::answer(find(&app, &iccid, &headers).await)
}

async fn find(app: &App, iccid: &str, headers: &HeaderMap) -> Result<Profile, StatusCode> {
    app.keys.check_reader(headers)?;
    let profile: Option<Profile> = sqlx::query_as(
        "SELECT iccid, state, enabled, raw_state, provider, since, seq, last_delivery_at, deliveries, installs_seen,
                registered_at IS NOT NULL AS registered, imsi, eid, uid, activated_at, last_seen
         FROM profiles WHERE iccid = $1",
    )
    .bind(iccid)
    .fetch_optional(&app.pool)
    .await
    .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    profile.ok_or(StatusCode::NOT_FOUND)
}
