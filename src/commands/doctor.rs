//! `esim-status doctor`: examines settings, database, clock and hooks, and prints what is wrong and how to fix it.

use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use sqlx::PgConnection;
use url::Url;

use super::{send, try_body};
use crate::clock;
use crate::config::{ServeArgs, Settings};
use crate::delivery::{Authenticator, Scheme, Secrets};
use crate::hook::Hook;
use crate::http_client;
use crate::inquiry::GigastoreApi;
use crate::providers::Provider;
use crate::service::{StartError, connections_needed};
use crate::store::install_credentials::{self, Missing};
use crate::store::{self, Clocks, Connector, SchemaError, Session, StoreError};

/// The oldest Postgres that the service is tested with, in the format of `server_version_num`.
const OLDEST_POSTGRES: i32 = 150_000;

/// The arguments of `doctor`: the settings of `serve`, and the URL of the running service.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The settings.
    #[command(flatten)]
    pub serve: ServeArgs,

    /// URL of the running service whose hooks to test [default: http://<listen>]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,

    /// Only show what the body in this file becomes, by each provider; needs no other setting than those of the providers
    #[arg(long, value_name = "FILE")]
    try_body: Option<PathBuf>,

    /// Only by this provider
    #[arg(long, value_name = "SLUG", requires = "try_body")]
    provider: Option<String>,
}

/// Prints findings, and counts those that are wrong.
#[derive(Debug, Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn wrong(&mut self, text: impl std::fmt::Display) {
        println!("  WRONG  {text}");
        self.wrong += 1;
    }

    fn check(&mut self, holds: bool, well: impl std::fmt::Display, wrong: impl std::fmt::Display) {
        if holds { good(well) } else { self.wrong(wrong) }
    }
}

fn good(text: impl std::fmt::Display) {
    println!("  ok     {text}");
}

fn odd(text: impl std::fmt::Display) {
    println!("  note   {text}");
}

/// Examines settings, database and clock, and tests every hook. Fails if anything is wrong.
///
/// # Errors
/// If the examination itself cannot continue.
pub async fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if let Some(body) = &args.try_body {
        return try_body::run(&args.serve, body, args.provider.as_deref());
    }
    let mut findings = Findings::default();
    println!("Settings");
    let settings = match Settings::load(&args.serve) {
        Ok(settings) => {
            good("complete, and no secret is weak");
            let declared = settings.providers.declared();
            let declared = declared.map(|it| format!("{} {}", it.slug(), it.samples()));
            good(format!(
                "every sample of the declared providers becomes what it says ({})",
                declared.collect::<Vec<_>>().join(", ")
            ));
            settings.known_to_everybody().iter().for_each(|known| findings.wrong(known));
            settings.warnings().iter().for_each(odd);
            Some(settings)
        }
        Err(error) => {
            error.0.iter().for_each(|complaint| findings.wrong(complaint));
            None
        }
    };
    println!("Database");
    match args.serve.database.connector() {
        Ok(connector) => examine_database(&mut findings, &connector, settings.as_ref()).await,
        Err(_) => odd("not examined: set DATABASE_URL to a valid URL first"),
    }
    if let Some(settings) = settings {
        println!("Hooks");
        let base = match &args.url {
            Some(url) => url.clone(),
            None => Url::parse(&format!("http://{}", settings.listen))?,
        };
        for hook in settings.hooks.values() {
            try_hook(&mut findings, &base, hook).await?;
        }
        if let Some(api) = settings.api {
            println!("Gigastore's API");
            match GigastoreApi::new(api)?.authenticate().await {
                Ok(()) => good("accepts the user name and the password"),
                Err(error) => findings.wrong(format!("{:#}", anyhow::Error::from(error))),
            }
        }
    }
    match findings.wrong {
        0 => println!("Nothing is wrong."),
        1 => println!("One thing is wrong."),
        more => println!("{more} things are wrong."),
    }
    Ok(if findings.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine_database(
    findings: &mut Findings,
    connector: &Connector,
    settings: Option<&Settings>,
) {
    let hosts = connector.examine().await;
    if hosts.len() > 1 {
        for (host, found) in &hosts {
            match found {
                Ok(server) if server.in_recovery => good(format!("{host}: a standby")),
                Ok(server) if server.read_only => odd(format!("{host}: read-only")),
                Ok(_) => good(format!("{host}: accepts writes")),
                Err(failure) => odd(format!("{host}: {failure}")),
            }
        }
    }
    match connector.connect(Session::Writer).await {
        Err(error) if error.is_away() => findings.wrong(format!("it does not answer: {error}")),
        Err(error) => findings.wrong(format!("it refuses the service's connection: {error}")),
        Ok(mut connection) => {
            good("it answers");
            if let Err(error) = store::refuse_shared_sessions(connector, &mut connection).await {
                findings.wrong(error);
            }
            if let Err(error) = question_database(findings, &mut connection).await {
                question_failed(findings, error.into());
            }
            if let Err(error) = question_session(findings, &mut connection, settings).await {
                question_failed(findings, error);
            }
        }
    }
}

/// Names the pooler if the error comes from one; otherwise prints the error with all its causes.
fn question_failed(findings: &mut Findings, error: StoreError) {
    match error {
        StoreError::Database(error) if store::is_of_a_pooler(&error) => {
            findings.wrong(SchemaError::Pooled);
        }
        error => {
            let error = anyhow::Error::new(error);
            findings.wrong(format!("it answers, but a query failed: {error:#}"));
        }
    }
}

/// Checks that a session keeps its settings, that there are enough connections, and that there is a data key for all
/// stored credentials.
async fn question_session(
    findings: &mut Findings,
    connection: &mut PgConnection,
    settings: Option<&Settings>,
) -> Result<(), StoreError> {
    let lost = Session::Writer.lost_settings(connection).await?;
    findings.check(
        lost.is_empty(),
        "a session keeps its timeouts and settings",
        format!("a session loses its settings ({}), because a pooler in between drops them: use one that pools by session, or connect to Postgres directly", lost.join(", ")),
    );
    let Some(settings) = settings else { return Ok(()) };
    let needed = connections_needed(settings);
    match store::limit(connection).await? {
        Some(limit) if limit.connections < needed => odd(format!(
            "a replica may need {needed} connections and is allowed {} ({}): raise that limit, or lower ESIM_STATUS_READERS; otherwise, under load, lists are answered 503",
            limit.connections, limit.set_by
        )),
        _ => good(format!("it allows the {needed} connections that a replica may need")),
    }
    if store::condition(connection).await?.schema.is_none() {
        return Ok(());
    }
    match install_credentials::missing_keys(connection, &settings.vault).await? {
        Missing::None => good("all stored credentials can be opened"),
        Missing::Some(keys) => findings.wrong(format!("some credentials are sealed with data keys that are not in ESIM_STATUS_DATA_KEYS ({}): add them back after the first key", keys.join(", "))),
        Missing::All(keys) => findings.wrong(StartError::DataKeys(keys)),
    }
    Ok(())
}

async fn question_database(
    findings: &mut Findings,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let condition = store::condition(connection).await?;
    findings.check(
        condition.version >= OLDEST_POSTGRES,
        format!("PostgreSQL {}", condition.version / 10_000),
        format!("PostgreSQL {} is too old: use 15 or newer", condition.version / 10_000),
    );
    findings.check(
        !condition.read_only,
        "it accepts writes",
        "it is read-only: DATABASE_URL names a standby; name the primary",
    );
    if !condition.durable {
        odd(
            "fsync or synchronous_commit is off, so a crash can lose acknowledged deliveries: turn both on",
        );
    }
    let newest = store::latest_version();
    match condition.schema {
        None => odd("the schema does not exist yet: `esim-status serve` or `esim-status migrate` creates it"),
        Some(at) if at < newest => {
            odd(format!("the schema is at migration {at}, this binary at {newest}: `esim-status serve` or `esim-status migrate` updates it"));
        }
        Some(at) => findings.check(
            at == newest,
            "the schema is that of this binary",
            format!("the schema is at migration {at}, newer than this binary ({newest}): run a newer release"),
        ),
    }
    let clocks = Clocks { ours: clock::now(), theirs: condition.now };
    match clocks.difference() {
        Some(ahead) => {
            let seconds = ahead.abs();
            odd(format!(
                "its clock and this machine's differ by {seconds:.0} s: synchronise both with NTP"
            ));
        }
        None => good("its clock agrees with this machine's"),
    }
    Ok(())
}

/// Tests that a hook refuses a webhook without credentials, and accepts one with them, also in a URL as it is pasted
/// into a portal. The body is an empty object: once authenticated, it is malformed, a test delivery or an event of
/// another kind. It is stored with that outcome, and changes no profile.
async fn try_hook(findings: &mut Findings, base: &Url, hook: &Hook) -> anyhow::Result<()> {
    let client = http_client::new(base)?;
    let url = base.join(&format!("/webhooks/{}", hook.path))?;
    let scheme = hook.authenticator.scheme_name();
    let none = Authenticator::new(Scheme::None);
    let Ok((bad, _)) = send::post(&client, &url, &none, "{}".to_owned()).await else {
        odd(format!(
            "{}: not tested, because nothing answers at {base}: start the service, or name another address with --url",
            hook.path
        ));
        return Ok(());
    };
    if scheme == "none" {
        odd(format!("{}: accepts webhooks from anybody: give it a secret", hook.path));
    } else {
        findings.check(
            bad.as_u16() == 401,
            format!("{}: refuses a webhook without credentials", hook.path),
            format!("{}: answers {bad} instead of 401 to a webhook without credentials: check that the running service has these settings", hook.path),
        );
    }
    let (status, text) = send::post(&client, &url, &hook.authenticator, "{}".to_owned()).await?;
    let is_good = is_taken(hook, status, &text);
    findings.check(
        is_good,
        format!("{}: accepts credentials by {scheme}", hook.path),
        format!("{}: answers {status} to valid credentials by {scheme}: check that the running service has the same secrets and the same time", hook.path),
    );
    if let Scheme::UrlSecret(secrets) = hook.authenticator.scheme()
        && is_good
    {
        try_pasted(&client, &url, hook, secrets).await?;
    }
    Ok(())
}

/// Whether this is the answer to an authentic empty object.
fn is_taken(hook: &Hook, status: reqwest::StatusCode, text: &str) -> bool {
    let is_ignored = try_body::read(hook, Bytes::from_static(b"{}")).is_ok();
    match status.as_u16() {
        200 => is_ignored && text.contains("\"ignored\""),
        status => status == 400 && !is_ignored && text.contains("\"malformed\""),
    }
}

/// Tests each secret in a URL that is assembled by hand, without percent-encoding. Something on the way may change such
/// a URL too, such as a proxy that merges slashes.
async fn try_pasted(
    client: &reqwest::Client,
    url: &Url,
    hook: &Hook,
    secrets: &Secrets,
) -> anyhow::Result<()> {
    let none = Authenticator::new(Scheme::None);
    let mut lost = Vec::new();
    for (index, secret) in secrets.iter().enumerate() {
        let pasted = Url::parse(&format!("{url}/{}", String::from_utf8_lossy(secret.expose())))?;
        let (status, text) = send::post(client, &pasted, &none, "{}".to_owned()).await?;
        if !is_taken(hook, status, &text) {
            lost.push((index + 1).to_string());
        }
    }
    if lost.is_empty() {
        good(format!("{}: a URL with the secret pasted at its end arrives unchanged", hook.path));
    } else {
        // The same secrets were accepted when they were percent-encoded.
        odd(format!(
            "{}: a URL with the secret pasted at its end does not arrive unchanged (secret number {}): percent-encode the secret in the sender's URL, or replace it with one from `openssl rand -hex 32`",
            hook.path,
            lost.join(", ")
        ));
    }
    Ok(())
}
