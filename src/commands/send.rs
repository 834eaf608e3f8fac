//! `esim-status send`: plays the provider.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use url::Url;
use uuid::Uuid;

use super::client;
use crate::clock;
use crate::delivery::{Authenticator, Encoding, Scheme, Secrets, StandardSecrets};
use crate::providers::{self, Provider, Sample};

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  One state, the secret in the URL:
    esim-status send http://127.0.0.1:8080/webhooks/gigastore/esim-status/SECRET --state INSTALLED
  A whole life, two seconds between its steps, signed:
    esim-status send http://127.0.0.1:8080/webhooks/gigastore/relayed --lifecycle --pause 2 \\
      --auth standard-webhooks --secret whsec_…
  Bytes of your own, to see what the service says to them:
    esim-status send URL --body '{\"iccid\": 89972123300991848961}'";

/// What `send` takes.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The hook, such as <http://127.0.0.1:8080/webhooks/gigastore/esim-status>
    url: Url,

    /// The state to report, in the provider's words; give it several times for several webhooks
    #[arg(long = "state", value_name = "WORD")]
    states: Vec<String>,

    /// Report a whole life: released, installed, switched off and on, removed
    #[arg(long, conflicts_with_all = ["states", "body"])]
    lifecycle: bool,

    /// Send exactly this body
    #[arg(long, conflicts_with = "states", value_name = "BYTES")]
    body: Option<String>,

    /// The profile
    #[arg(long, default_value = super::SAMPLE_ICCID)]
    iccid: String,

    /// The device
    #[arg(long)]
    eid: Option<String>,

    /// The subscription
    #[arg(long)]
    imsi: Option<String>,

    /// Whose words and body to use
    #[arg(long, default_value = "gigastore")]
    provider: String,

    /// Seconds between two webhooks
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pause: f64,

    #[command(flatten)]
    proof: ProofArgs,
}

/// How to prove the sender.
#[derive(Args)]
struct ProofArgs {
    /// How the hook wants its sender proved; `none` where the URL has the secret already
    #[arg(long, value_enum, default_value_t = Auth::None)]
    auth: Auth,

    /// The hook's secret
    #[arg(long, env = "ESIM_STATUS_SEND_SECRET", hide_env_values = true)]
    secret: Option<String>,

    /// The header of `header` and `hmac-sha256`
    #[arg(long, default_value = "X-Signature", value_name = "NAME")]
    header: http::HeaderName,

    /// How `hmac-sha256` writes the signature
    #[arg(long, value_enum, default_value_t = Written::Hex)]
    encoding: Written,

    /// What `hmac-sha256` puts before the signature, such as `sha256=`
    #[arg(long, default_value = "", value_name = "TEXT")]
    prefix: String,
}

/// The secret is not for logs.
impl std::fmt::Debug for ProofArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProofArgs({:?})", self.auth)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Auth {
    UrlSecret,
    Header,
    HmacSha256,
    StandardWebhooks,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Written {
    Hex,
    Base64,
}

impl ProofArgs {
    fn authenticator(&self) -> anyhow::Result<Authenticator> {
        if self.auth == Auth::None {
            return Ok(Authenticator::new(Scheme::None));
        }
        let secret =
            self.secret.as_deref().context("--secret is missing: give the hook's secret")?;
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
            Auth::None => Scheme::None,
        }))
    }
}

/// Sends what is asked for and prints each answer; fails if one of them is not 2xx.
///
/// # Errors
/// Where the flags make no sense together, or the service does not answer.
pub async fn run(args: &SendArgs) -> anyhow::Result<ExitCode> {
    let provider = providers::find(&args.provider)
        .with_context(|| format!("--provider must be one of: {}", providers::slugs().join(", ")))?;
    let bodies = bodies(args, provider)?;
    let authenticator = args.proof.authenticator()?;
    let client = client::new(&args.url)?;
    let mut all_taken = true;
    for (index, (name, body)) in bodies.into_iter().enumerate() {
        if index > 0 && args.pause > 0.0 {
            tokio::time::sleep(Duration::try_from_secs_f64(args.pause)?).await;
        }
        let (status, text) = post(&client, &args.url, &authenticator, body).await?;
        println!("{name}: {status} {text}");
        all_taken &= status.is_success();
    }
    Ok(if all_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bodies(args: &SendArgs, provider: &dyn Provider) -> anyhow::Result<Vec<(String, String)>> {
    if let Some(body) = &args.body {
        return Ok(vec![("body".to_owned(), body.clone())]);
    }
    let simulator = provider.simulator().with_context(|| {
        format!("{} cannot be played: give --body with a recorded one", provider.slug())
    })?;
    let words: Vec<&str> = if args.lifecycle {
        simulator.lifecycle().to_vec()
    } else {
        args.states.iter().map(String::as_str).collect()
    };
    if words.is_empty() {
        bail!("nothing to send: give --state INSTALLED, --lifecycle, or --body");
    }
    let (eid, imsi) = (args.eid.as_deref(), args.imsi.as_deref());
    let compose = |raw_state| Sample { iccid: &args.iccid, raw_state, eid, imsi };
    Ok(words.into_iter().map(|word| (word.to_owned(), simulator.compose(&compose(word)))).collect())
}

/// Posts one body with its proof; gives back the status and the text of the answer.
pub(super) async fn post(
    client: &reqwest::Client,
    url: &Url,
    authenticator: &Authenticator,
    body: String,
) -> anyhow::Result<(reqwest::StatusCode, String)> {
    let at = clock::now();
    let id = format!("msg_{}", Uuid::new_v4().simple());
    let proof = authenticator.proof(&id, at, body.as_bytes());
    let mut url = url.clone();
    if let Some(secret) = &proof.url_segment {
        let mut segments =
            url.path_segments_mut().ok().context("the URL must be http:// or https://")?;
        segments.pop_if_empty().push(secret);
    }
    let mut request = client.post(url).header("content-type", "application/json").body(body);
    for (name, value) in proof.headers {
        request = request.header(name, value);
    }
    // The URL has a secret in it; the error is better off without.
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    Ok((status, answer.text().await.map_err(reqwest::Error::without_url)?))
}
