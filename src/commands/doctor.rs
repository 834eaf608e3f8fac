//! `esim-status doctor`: says in plain words what is wrong.

use std::process::ExitCode;

use clap::Args;
use sqlx::PgConnection;
use url::Url;

use super::{client, send};
use crate::config::{ServeArgs, Settings};
use crate::delivery::{Authenticator, Scheme};
use crate::store::{self, Clocks, Connector, Session};
use crate::web;
use crate::web::webhooks::Hook;

/// The oldest Postgres that the service is tested with, as `server_version_num` has it.
const OLDEST_POSTGRES: i32 = 150_000;

/// What `doctor` takes: the settings of `serve`, and where the service runs.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    serve: ServeArgs,

    /// The running service whose hooks to try [default: http://<listen>]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

/// Prints findings and counts what is wrong.
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
    println!("  odd    {text}");
}

/// Examines settings, database and clock, and tries every hook. Fails if anything is wrong.
///
/// # Errors
/// Where the examination itself cannot go on.
pub async fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    println!("Settings");
    let settings = match Settings::load(&args.serve) {
        Ok(settings) => {
            good("complete, and no secret is weak");
            if !settings.vault.seals() {
                odd(
                    "activation codes and links are stored as they are: set ESIM_STATUS_DATA_KEYS to encrypt them",
                );
            }
            Some(settings)
        }
        Err(error) => {
            error.0.iter().for_each(|complaint| findings.wrong(complaint));
            None
        }
    };
    println!("Database");
    match args.serve.database.connector() {
        Ok(connector) => examine_database(&mut findings, &connector).await,
        Err(_) => odd("not looked at: DATABASE_URL does not say where it is"),
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
    }
    match findings.wrong {
        0 => println!("Nothing is wrong."),
        1 => println!("One thing is wrong."),
        more => println!("{more} things are wrong."),
    }
    Ok(if findings.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine_database(findings: &mut Findings, connector: &Connector) {
    match connector.connect(Session::Reads).await {
        Err(error) => findings
            .wrong(format!("it does not answer: {error}. Is it up, and DATABASE_URL right?")),
        Ok(mut connection) => {
            good("it answers");
            if let Err(error) = question_database(findings, &mut connection).await {
                findings.wrong(format!("it answers, but a question failed: {error}"));
            }
        }
    }
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
        "it takes writes",
        "it is read-only: DATABASE_URL names a standby; name the primary",
    );
    if !condition.durable {
        odd("fsync or synchronous_commit is off: what was acknowledged may be lost in a crash");
    }
    let newest = store::latest_version();
    match condition.schema {
        None => odd("the schema is not there yet; `esim-status serve` and `migrate` make it"),
        Some(at) if at < newest => {
            odd(format!("the schema is at migration {at}, this binary at {newest}; `serve` and `migrate` update it"));
        }
        Some(at) => findings.check(
            at == newest,
            "the schema is that of this binary",
            format!("the schema is at migration {at}, newer than this binary ({newest}): run a newer release"),
        ),
    }
    let clocks = Clocks { ours: web::now(), theirs: condition.now };
    match clocks.difference() {
        Some(ahead) => {
            let seconds = ahead.abs();
            odd(format!("its clock and this machine's differ by {seconds:.0} s: set both by NTP"));
        }
        None => good("its clock agrees with this machine's"),
    }
    Ok(())
}

/// A bad proof must be refused, a good one taken. The body is an empty object: authentic, and malformed, so it is kept under
/// that outcome and changes no profile.
async fn try_hook(findings: &mut Findings, base: &Url, hook: &Hook) -> anyhow::Result<()> {
    let client = client::new()?;
    let url = base.join(&format!("/webhooks/{}", hook.path))?;
    let scheme = hook.authenticator.scheme_name();
    let none = Authenticator::new(Scheme::None);
    let Ok((bad, _)) = send::post(&client, &url, &none, "{}".to_owned()).await else {
        odd(format!(
            "{}: not tried, nothing answers at {base}; start the service or give --url",
            hook.path
        ));
        return Ok(());
    };
    if scheme == "none" {
        odd(format!("{}: takes webhooks from anybody", hook.path));
    } else {
        findings.check(
            bad.as_u16() == 401,
            format!("{}: refuses a webhook without proof", hook.path),
            format!("{}: answers {bad} instead of 401 to a webhook without proof; is this the same configuration?", hook.path),
        );
    }
    let (status, text) = send::post(&client, &url, &hook.authenticator, "{}".to_owned()).await?;
    findings.check(
        status.as_u16() == 400 && text.contains("\"malformed\""),
        format!("{}: takes a proof by {scheme}", hook.path),
        format!("{}: answers {status} to a good proof by {scheme}; has the running service the same secrets, and the same time?", hook.path),
    );
    Ok(())
}
