//! Measures the pages of the console on a database of the size that a large operator has after some months: fills it, starts the service
//! beside it, signs in, asks each page several times, and prints median and worst. Deletes the database afterwards.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use esim_status_bench::contenders::{Contender, Place, Running};
use esim_status_bench::deliveries::secret;
use esim_status_bench::interrupt;
use esim_status_bench::postgres::Postgres;
use esim_status_bench::tables::iccid_of;
use reqwest::header;
use url::Url;

/// The database and its server, which are deleted at the end.
const DATABASE: &str = "console";
const FOLDER: &str = "target/bench/console";

/// What the database is filled with.
const FILL: &str = include_str!("../../sql/console.sql");

/// How long the service may take to build the index on the last digits.
const PATIENCE: Duration = Duration::from_mins(10);

/// Measures the pages of the console.
#[derive(Debug, Parser)]
struct Args {
    /// How many profiles there are
    #[arg(long, default_value_t = 3_000_000)]
    profiles: u64,

    /// How often each page is asked for
    #[arg(long, default_value_t = 20)]
    times: u64,

    /// What the median of a page may take, in milliseconds
    #[arg(long, default_value_t = 200)]
    limit: u64,

    /// Keep the database for another run, and use it if there is one
    #[arg(long)]
    keep: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    interrupt::watch()?;
    fs::create_dir_all(FOLDER)?;
    let measured = measure(&args);
    if !args.keep {
        fs::remove_dir_all(FOLDER)?;
    }
    measured
}

/// The server has stopped when this returns.
fn measure(args: &Args) -> anyhow::Result<()> {
    let folder = fs::canonicalize(FOLDER)?;
    let postgres = Postgres::start(&Path::new(FOLDER).join("postgres"))?;
    fill(&postgres, args.profiles)?;
    let place = Place { postgres: &postgres, database: DATABASE, folder: &folder, pool: 1 };
    let mut running = Running::start(Contender::Service, &place)?;
    running.wait()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = format!("http://{}", running.address);
    runtime.block_on(ask_all(args, &address))
}

fn fill(postgres: &Postgres, profiles: u64) -> anyhow::Result<()> {
    let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'");
    let found: i64 = sqlx::Row::try_get(&postgres.ask("postgres", &query)?, 0)?;
    if found == 1 {
        return postgres.migrate(DATABASE);
    }
    let begun = Instant::now();
    // The log must not take more room than the tables.
    postgres.set([("max_wal_size", "1GB"), ("min_wal_size", "256MB")])?;
    postgres.make("console_new")?;
    let iccid = iccid_of("n").context("a formatter for text does not fail")?;
    let statements = FILL.replace("{iccid}", &iccid).replace("{profiles}", &profiles.to_string());
    postgres.execute("console_new", &statements)?;
    postgres.execute("console_new", "VACUUM (FREEZE, ANALYZE)")?;
    postgres.execute("postgres", &format!("ALTER DATABASE console_new RENAME TO {DATABASE}"))?;
    let size = format!("SELECT pg_size_pretty(pg_database_size('{DATABASE}'))");
    let size: String = sqlx::Row::try_get(&postgres.ask("postgres", &size)?, 0)?;
    eprintln!("{profiles} profiles, {size}, made in {:.0?}", begun.elapsed());
    Ok(())
}

/// Somebody who has signed in.
struct Visitor {
    http: reqwest::Client,
    base: Url,
    cookie: String,
    form: String,
}

impl Visitor {
    async fn new(address: &str) -> anyhow::Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let redirect = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder().no_proxy().redirect(redirect).build()?;
        let base = Url::parse(address)?;
        let mut visitor = Self { http, base, cookie: String::new(), form: String::new() };
        let signed_in = visitor.send("/console/sign-in", Some(&[("key", &secret("api"))])).await?;
        let cookie = signed_in.headers().get(header::SET_COOKIE).context("not signed in")?;
        let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
        cookie.clone_into(&mut visitor.cookie);
        let home = visitor.text("/console").await?;
        between(&home, "name=\"form\" value=\"")?.clone_into(&mut visitor.form);
        Ok(visitor)
    }

    /// Sends a form, or asks for a page.
    async fn send(
        &self,
        path: &str,
        fields: Option<&[(&str, &str)]>,
    ) -> anyhow::Result<reqwest::Response> {
        let url = self.base.join(path)?;
        let request = match fields {
            None => self.http.get(url),
            Some(fields) => {
                let mut body = url::form_urlencoded::Serializer::new(String::new());
                body.append_pair("form", &self.form).extend_pairs(fields);
                self.http.post(url).header("sec-fetch-site", "same-origin").body(body.finish())
            }
        };
        Ok(request.header(header::COOKIE, &self.cookie).send().await?)
    }

    async fn text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.send(path, None).await?;
        ensure!(answer.status() == 200, "{path} was answered {}", answer.status());
        Ok(answer.text().await?)
    }

    /// The path of the page of the profile that a search leads to.
    async fn find(&self, wanted: &str) -> anyhow::Result<String> {
        let found = self.send("/console", Some(&[("wanted", wanted)])).await?;
        let location = found.headers().get(header::LOCATION);
        let location = location.with_context(|| format!("{wanted} leads to no profile"))?;
        Ok(location.to_str()?.to_owned())
    }
}

/// What follows a text in a page, up to a quotation mark.
fn between<'a>(page: &'a str, before: &str) -> anyhow::Result<&'a str> {
    let (_, rest) = page.split_once(before).with_context(|| format!("the page has no {before}"))?;
    rest.split_once('"').map(|(value, _)| value).context("the page ends early")
}

/// The times of one kind of page.
struct Figures {
    what: &'static str,
    times: Vec<Duration>,
}

impl Figures {
    fn median(&self) -> Duration {
        self.times.get(self.times.len() / 2).copied().unwrap_or_default()
    }
}

/// Asks for one kind of page several times. `request` is the path of the n-th, and the fields of its form if it is one.
async fn ask(
    visitor: &Visitor,
    args: &Args,
    what: &'static str,
    request: impl Fn(u64) -> (String, Vec<(&'static str, String)>),
) -> anyhow::Result<Figures> {
    let mut times = Vec::new();
    for n in 0..args.times {
        interrupt::check()?;
        let (path, fields) = request(n);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let begun = Instant::now();
        let answer = visitor.send(&path, (!fields.is_empty()).then_some(&fields)).await?;
        let status = answer.status();
        let text = answer.text().await?;
        times.push(begun.elapsed());
        ensure!(status == 200 || status == 303, "{what}: {path} was answered {status}: {text}");
    }
    times.sort_unstable();
    Ok(Figures { what, times })
}

async fn ask_all(args: &Args, address: &str) -> anyhow::Result<()> {
    let visitor = Visitor::new(address).await?;
    // A different profile each time, from the whole table.
    let number = |n: u64| (n * 7_919 * 104_729 + 13) % args.profiles;
    let iccid = |n| esim_status_bench::deliveries::iccid(number(n));
    let last_digits = |n: u64, digits: usize| iccid(n).split_off(iccid(n).len() - digits);
    wait_for_index(&visitor, &last_digits(0, 8)).await?;

    let mut found = Vec::new();
    let page = |path: String| (path, Vec::new());
    let search = |wanted: String| ("/console".to_owned(), vec![("wanted", wanted)]);
    let searches: [(&'static str, &dyn Fn(u64) -> String); 8] = [
        ("search: ICCID", &iccid),
        ("search: last six digits", &|n| last_digits(n, 6)),
        ("search: last ten digits", &|n| last_digits(n, 10)),
        ("search: IMSI", &|n| format!("234{:012}", number(n))),
        ("search: EID", &|n| format!("89049032{0:012}{0:012}", number(n))),
        ("search: order", &|n| format!("A-{}", number(n) / 3 * 3)),
        ("search: customer", &|n| format!("customer-{}", number(n) / 3)),
        ("search: nothing found", &|n| format!("nobody-{n}")),
    ];
    found.push(ask(&visitor, args, "the search", |_| page("/console".to_owned())).await?);
    for (what, term) in searches {
        found.push(ask(&visitor, args, what, |n| search(term(n))).await?);
    }

    let mut profiles = Vec::new();
    for n in 0..args.times {
        profiles.push(visitor.find(&iccid(n)).await?);
    }
    let profile = |n: u64| profiles[usize::try_from(n).unwrap_or_default()].clone();
    found.push(ask(&visitor, args, "a profile", |n| page(profile(n))).await?);
    let sheet = |n| page(format!("{}/evidence", profile(n)));
    found.push(ask(&visitor, args, "an evidence sheet", sheet).await?);
    let mut bodies = Vec::new();
    for path in &profiles {
        bodies.push(between(&visitor.text(path).await?, "name=\"delivery\" value=\"")?.to_owned());
    }
    let body = |n: u64| bodies[usize::try_from(n).unwrap_or_default()].clone();
    let of_profile = |n| (format!("{}/body", profile(n)), vec![("delivery", body(n))]);
    found.push(ask(&visitor, args, "a body", of_profile).await?);

    let overdue = "/console/overdue?reason=not-installed";
    let mut deep = overdue.to_owned();
    for _ in 0..20 {
        let text = visitor.text(&deep).await?;
        deep = between(&text, "<a class=\"button quiet\" href=\"")?.replace("&#38;", "&");
    }
    for (what, path) in [
        ("refused", "/console/refused"),
        ("overdue", "/console/overdue"),
        ("overdue: one reason", overdue),
        ("overdue: page 21", &deep),
        ("funnel of 7 days", "/console/funnel?days=7"),
        ("funnel of 28 days", "/console/funnel"),
        ("funnel of 90 days", "/console/funnel?days=90"),
        ("hooks", "/console/hooks"),
        ("endpoints", "/console/endpoints"),
        ("an endpoint with 20,000 profiles held", "/console/endpoints/ep_1"),
    ] {
        found.push(ask(&visitor, args, what, |_| page(path.to_owned())).await?);
    }
    let hour_ago = esim_status::clock::now().plus_seconds(-3_600).to_string();
    let hour_ago = hour_ago.trim_end_matches('Z').to_owned();
    let replay = |_| {
        let fields = vec![("from", "time".to_owned()), ("time", hour_ago.clone())];
        ("/console/endpoints/ep_2/replay".to_owned(), fields)
    };
    found.push(
        ask(&visitor, args, "a replay of the last hour, before it is confirmed", replay).await?,
    );
    print(args, &found)
}

/// The service builds the index on the last digits a few seconds after its start.
async fn wait_for_index(visitor: &Visitor, digits: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        interrupt::sleep(Duration::from_secs(1))?;
        let found = visitor.send("/console", Some(&[("wanted", digits)])).await?;
        if found.status() == 303 || !found.text().await?.contains("is being built") {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "the index on the last digits was not built");
    }
}

fn print(args: &Args, found: &[Figures]) -> anyhow::Result<()> {
    let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1_000.0);
    println!("| page | median, ms | worst, ms |");
    println!("|---|---|---|");
    for figures in found {
        let worst = figures.times.last().copied().unwrap_or_default();
        println!("| {} | {} | {} |", figures.what, millis(figures.median()), millis(worst));
    }
    let limit = Duration::from_millis(args.limit);
    let slow = found.iter().filter(|it| it.median() > limit).map(|it| it.what);
    let slow: Vec<_> = slow.collect();
    if !slow.is_empty() {
        bail!("the median is above {} ms: {}", args.limit, slow.join(", "));
    }
    Ok(())
}
