//! `esim-status send`: sends webhooks as a provider does.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use url::Url;
use uuid::Uuid;

use crate::clock;
use crate::delivery::{AccessKey, Authenticator, Encoding, Scheme, Secrets, StandardSecrets};
use crate::domain::Timestamp;
use crate::http_client;
use crate::providers::{Provider, Providers, Sample};

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  Report one state, with the secret in the URL:
    esim-status send http://127.0.0.1:8080/webhooks/gigastore/esim-status/SECRET --state INSTALLED
  Report a whole life, signed, with two seconds between the steps:
    esim-status send http://127.0.0.1:8080/webhooks/gigastore/relayed --lifecycle --pause 2 \\
      --auth standard-webhooks --secret whsec_…
  Report that the eSIM has connected for the first time, in Poland:
    esim-status send http://127.0.0.1:8080/webhooks/gigastore/esim-status/SECRET --connected PL
  Play Roamify, which signs the body:
    esim-status send http://127.0.0.1:8080/webhooks/roamify/events --provider roamify --lifecycle \\
      --auth hmac-sha256 --header X-Roamify-Signature --secret …
  Play Simlessly, which signs headers and body:
    esim-status send http://127.0.0.1:8080/webhooks/simlessly/events --provider simlessly --lifecycle \\
      --auth simlessly --access-key … --secret …
  Send any body, to see the service's answer:
    esim-status send URL --body '{\"iccid\": 89972123300991848961}'";

/// The arguments of `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// URL of the hook, such as <http://127.0.0.1:8080/webhooks/gigastore/esim-status>
    url: Url,

    /// State to report, in the provider's words; repeat the flag to send several webhooks
    #[arg(long = "state", value_name = "WORD")]
    states: Vec<String>,

    /// Report a whole life: released, installed, disabled, enabled, removed
    #[arg(long, conflicts_with_all = ["states", "body"])]
    lifecycle: bool,

    /// Report a first connection in this country, after the states
    #[arg(long, value_name = "COUNTRY")]
    connected: Option<String>,

    /// Send exactly this body
    #[arg(long, conflicts_with_all = ["states", "connected"], value_name = "BYTES")]
    body: Option<String>,

    /// The profile
    #[arg(long, default_value = super::SAMPLE_ICCID)]
    iccid: String,

    /// EID of the device's eUICC
    #[arg(long)]
    eid: Option<String>,

    /// IMSI of the subscription
    #[arg(long)]
    imsi: Option<String>,

    /// Provider whose format to send
    #[arg(long, default_value = "gigastore")]
    provider: String,

    /// Seconds to wait between two webhooks
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pause: f64,

    #[command(flatten)]
    credentials: CredentialArgs,
}

/// How to authenticate as the sender.
#[derive(Args)]
struct CredentialArgs {
    /// How the hook authenticates its sender; `none` if the URL contains the secret already
    #[arg(long, value_enum, default_value_t = Auth::None)]
    auth: Auth,

    /// Secret of the hook
    #[arg(long, env = "ESIM_STATUS_SEND_SECRET", hide_env_values = true)]
    secret: Option<String>,

    /// Access key beside the secret, for `simlessly`
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,

    /// Name of the header, for `header` and `hmac-sha256`
    #[arg(long, default_value = "X-Signature", value_name = "NAME")]
    header: http::HeaderName,

    /// Encoding of the signature, for `hmac-sha256`
    #[arg(long, value_enum, default_value_t = Written::Hex)]
    encoding: Written,

    /// Text before the signature, such as `sha256=`, for `hmac-sha256`
    #[arg(long, default_value = "", value_name = "TEXT")]
    prefix: String,
}

/// The secret is not for logs.
impl std::fmt::Debug for CredentialArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialArgs({:?})", self.auth)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Auth {
    UrlSecret,
    Header,
    HmacSha256,
    StandardWebhooks,
    Simlessly,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Written {
    Hex,
    Base64,
}

impl CredentialArgs {
    fn authenticator(&self) -> anyhow::Result<Authenticator> {
        if self.auth == Auth::None {
            return Ok(Authenticator::new(Scheme::None));
        }
        let secret =
            self.secret.as_deref().context("--secret is missing: set it to the hook's secret")?;
        let plain = || Secrets::parse("--secret", [secret]);
        Ok(Authenticator::new(match self.auth {
            Auth::UrlSecret => Scheme::UrlSecret(plain()?),
            Auth::Header => Scheme::Header { name: self.header.clone(), secrets: plain()? },
            Auth::HmacSha256 => Scheme::HmacSha256 {
                header: self.header.clone(),
                encoding: match self.encoding {
                    Written::Hex => Encoding::Hex,
                    Written::Base64 => Encoding::Base64,
                },
                prefix: self.prefix.clone(),
                secrets: plain()?,
            },
            Auth::StandardWebhooks => {
                Scheme::StandardWebhooks(StandardSecrets::parse("--secret", [secret])?)
            }
            Auth::Simlessly => Scheme::Simlessly {
                access_key: (self.access_key.as_deref().and_then(AccessKey::parse)).context(
                    "--access-key is missing, or no header can carry it: set it to the hook's",
                )?,
                secrets: plain()?,
            },
            Auth::None => Scheme::None,
        }))
    }
}

/// Sends the webhooks and prints each answer. Fails if one of them is not 2xx.
///
/// # Errors
/// If the flags contradict each other, or if the service does not answer.
pub async fn run(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let providers = Providers::built_in().map_err(anyhow::Error::msg)?;
    let provider = providers
        .find(&args.provider)
        .with_context(|| format!("--provider must be one of: {}", providers.slugs().join(", ")))?;
    let events = events(args, provider)?;
    let authenticator = args.credentials.authenticator()?;
    let client = http_client::new(&args.url)?;
    let mut all_taken = true;
    let mut last = None;
    for (name, compose) in events {
        if last.is_some() && args.pause > 0.0 {
            tokio::time::sleep(Duration::try_from_secs_f64(args.pause)?).await;
        }
        // Many providers tell whole seconds, and events of one second have no order.
        let next = last.map(|at: Timestamp| at.plus_seconds(1));
        let at = Some(clock::now()).max(next).unwrap_or_else(clock::now);
        last = Some(at);
        let (status, text) = post(&client, &args.url, &authenticator, compose(at)).await?;
        println!("{name}: {status} {text}");
        all_taken &= status.is_success();
    }
    Ok(if all_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The name of an event, and what makes its body for the time at which it happens.
type Event<'a> = (String, Box<dyn Fn(Timestamp) -> String + 'a>);

fn events<'a>(args: &'a SendArgs, provider: &'a dyn Provider) -> anyhow::Result<Vec<Event<'a>>> {
    if let Some(body) = &args.body {
        return Ok(vec![("body".to_owned(), Box::new(|_| body.clone()))]);
    }
    let simulator = provider.simulator().with_context(|| {
        format!("{} cannot be played: give --body with a recorded one", provider.slug())
    })?;
    let words: Vec<&str> = if args.lifecycle {
        simulator.lifecycle()
    } else {
        args.states.iter().map(String::as_str).collect()
    };
    if words.is_empty() && args.connected.is_none() {
        bail!("nothing to send: give --state INSTALLED, --lifecycle, --connected PL, or --body");
    }
    let (eid, imsi) = (args.eid.as_deref(), args.imsi.as_deref());
    let event = |raw_state: &'a str| -> Event<'a> {
        let compose =
            move |at| simulator.compose(&Sample { iccid: &args.iccid, raw_state, eid, imsi, at });
        (raw_state.to_owned(), Box::new(compose))
    };
    let mut events: Vec<_> = words.into_iter().map(event).collect();
    if let Some(country) = &args.connected {
        let body = simulator.compose_connection(&args.iccid, imsi, country).with_context(|| {
            format!("{} reports no connections: leave out --connected", provider.slug())
        })?;
        events.push((format!("connected {country}"), Box::new(move |_| body.clone())));
    }
    Ok(events)
}

/// Posts one body with its credentials. Returns the status and the text of the answer.
pub(super) async fn post(
    client: &reqwest::Client,
    url: &Url,
    authenticator: &Authenticator,
    body: String,
) -> anyhow::Result<(reqwest::StatusCode, String)> {
    let at = clock::now();
    let id = format!("msg_{}", Uuid::new_v4().simple());
    let credentials = authenticator.credentials_for(&id, at, body.as_bytes());
    let mut url = url.clone();
    if let Some(secret) = &credentials.url_segment {
        let mut segments =
            url.path_segments_mut().ok().context("the URL must be http:// or https://")?;
        segments.pop_if_empty().push(secret);
    }
    let mut request = client.post(url).header("content-type", "application/json").body(body);
    for (name, value) in credentials.headers {
        request = request.header(name, value);
    }
    // The URL may contain a secret, which the error must not show.
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    Ok((status, answer.text().await.map_err(reqwest::Error::without_url)?))
}
