//! Measures outgoing webhooks: how fast and how late changes reach an endpoint, and whether all do, in the order of their profiles.
//!
//! Creates an endpoint at a running service, which must allow this machine (`esim-status dev` does), reports two states of many
//! profiles as fast as it can, and is the server that the changes are delivered to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use clap::Parser;
use esim_status_bench::subject::Subject;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Measures outgoing webhooks of a running service.
#[derive(Debug, Parser, Clone)]
struct Args {
    /// The service.
    #[command(flatten)]
    service: Subject,

    /// How many profiles change twice
    #[arg(long, default_value_t = 10_000)]
    profiles: u64,

    /// The number of the first profile: other ones than in an earlier run
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// How many senders report concurrently
    #[arg(long, default_value_t = 64)]
    senders: u64,

    /// One request in so many is refused with 500; 0: none
    #[arg(long, default_value_t = 0)]
    refuse: u32,

    /// How long the server takes to answer, in milliseconds
    #[arg(long, default_value_t = 0)]
    dawdle: u64,

    /// For how many seconds from the begin the server answers 503
    #[arg(long, default_value_t = 0)]
    down: u64,
}

/// What the server has got.
struct Server {
    args: Args,
    begun: Instant,
    got: Mutex<Got>,
}

struct Got {
    requests: u64,
    positions: HashSet<i64>,
    last: HashMap<String, i64>,
    twice: u64,
    out_of_order: u64,
    lag: Histogram<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder().no_proxy().build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let body =
        json!({ "url": format!("http://{}/", listener.local_addr()?), "kinds": ["transition"] });
    let api_key = &args.service.api_key;
    let endpoints = args.service.url.join("/v1/endpoints")?;
    let create = http.post(endpoints).bearer_auth(api_key).json(&body).send().await?;
    let created: Value = create.error_for_status()?.json().await?;
    let id = created["id"].as_str().context("the endpoint has no id")?;
    let endpoint = args.service.url.join(&format!("/v1/endpoints/{id}"))?;

    let begun = Instant::now();
    let got = Got {
        requests: 0,
        positions: HashSet::new(),
        last: HashMap::new(),
        twice: 0,
        out_of_order: 0,
        lag: Histogram::new(3)?,
    };
    let server = Arc::new(Server { args: args.clone(), begun, got: Mutex::new(got) });
    let routes = Router::new().fallback(receive).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let mut senders = JoinSet::new();
    for sender in 0..args.senders {
        senders.spawn(report(args.clone(), http.clone(), sender));
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    let reported = begun.elapsed();
    let wanted = usize::try_from(args.profiles * 2)?;
    let limit = Duration::from_mins(20);
    while server.got().positions.len() < wanted {
        if begun.elapsed() > limit {
            let shown: Value = http.get(endpoint).bearer_auth(api_key).send().await?.json().await?;
            bail!("after {limit:?} some are missing; the endpoint says: {shown:#}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    http.delete(endpoint).bearer_auth(api_key).send().await?.error_for_status()?;
    let got = server.got();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let rate = wanted as f64 / took.as_secs_f64();
    let millis = |quantile| got.lag.value_at_quantile(quantile);
    println!(
        "| changes | reported in | all delivered in | a second | requests | twice | out of order | lag, ms: median | p99 | worst |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {wanted} | {reported:.1?} | {took:.1?} | {rate:.0} | {} | {} | {} | {} | {} | {} |",
        got.requests,
        got.twice,
        got.out_of_order,
        millis(0.5),
        millis(0.99),
        got.lag.max()
    );
    Ok(())
}

/// Reports two states of every profile of one sender. Retries what is refused under load.
async fn report(args: Args, http: reqwest::Client, sender: u64) -> anyhow::Result<()> {
    for state in ["RELEASED", "INSTALLED"] {
        for number in (sender..args.profiles).step_by(usize::try_from(args.senders)?) {
            let iccid = format!("8988{:015}", args.first + number);
            while args.service.report(&http, &iccid, state).await? != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

async fn receive(State(server): State<Arc<Server>>, body: Bytes) -> StatusCode {
    let Server { args, begun, .. } = &*server;
    if args.dawdle > 0 {
        tokio::time::sleep(Duration::from_millis(args.dawdle)).await;
    }
    if begun.elapsed() < Duration::from_secs(args.down) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let refused = args.refuse > 0 && rand::random_ratio(1, args.refuse);
    match server.note(&body, refused) {
        Ok(()) if refused => StatusCode::INTERNAL_SERVER_ERROR,
        Ok(()) => StatusCode::NO_CONTENT,
        Err(error) => {
            eprintln!("an event cannot be read: {error:#}");
            StatusCode::BAD_REQUEST
        }
    }
}

impl Server {
    fn got(&self) -> std::sync::MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, body: &[u8], refused: bool) -> anyhow::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the server's own clock")]
        let now = OffsetDateTime::now_utc();
        let event: Value = serde_json::from_slice(body)?;
        let id = event["id"].as_str().context("no id")?;
        let position = id.split('_').nth(1).context("no position")?.parse()?;
        let iccid = event["data"]["iccid"].as_str().context("no iccid")?;
        let at = OffsetDateTime::parse(event["time"].as_str().context("no time")?, &Rfc3339)?;
        let mut got = self.got();
        got.requests += 1;
        if refused {
            return Ok(());
        }
        if !got.positions.insert(position) {
            got.twice += 1;
            return Ok(());
        }
        let before = got.last.insert(iccid.to_owned(), position);
        got.out_of_order += u64::from(before.is_some_and(|before| before > position));
        let lag = (now - at).whole_milliseconds();
        got.lag.record(u64::try_from(lag).unwrap_or_default())?;
        Ok(())
    }
}
