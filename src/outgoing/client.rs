//! One request to an endpoint. The service chooses neither the URL nor the server behind it, so it follows no redirects, uses no
//! proxy, connects to allowed addresses only, and reads little of the answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::clock;
use crate::delivery::StandardSecrets;
use crate::domain::{EndpointUrl, LONGEST_WAIT, Reach};
use crate::http_client;
use crate::telemetry::Span;
use crate::web::endpoint_event::{CONTENT_TYPE, Message};

/// How long an endpoint may take to answer, connection included. Standard Webhooks recommends 15 to 30 s.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// How long a connection may take to be established.
const CONNECTING: Duration = Duration::from_secs(5);

/// How many bytes of an answer are read, so that its connection can be used again.
const MAX_ANSWER: usize = 16 << 10;

/// How long an unused connection is kept: less than servers and NATs do usually.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// Why an endpoint did not accept a change.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It exists no longer.
    #[error("answered 410 Gone")]
    Gone,
    /// It answered something else than 2xx, and perhaps when to call again.
    #[error("answered {0}{redirect}", redirect = if .0.is_redirection() { ": redirects are not followed" } else { "" })]
    Answered(StatusCode, Option<Duration>),
    /// It did not answer in time.
    #[error("did not answer within {} s", TIME_LIMIT.as_secs())]
    Slow,
    /// It has no address that it may have.
    #[error(
        "its name resolves to no address that endpoints may have: only to private ones, or it has no TLS and its network is not in ESIM_STATUS_ENDPOINT_NETWORKS"
    )]
    NoAllowedAddress,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Unreachable(String),
}

impl Failure {
    /// How long the endpoint asks not to be called.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Answered(_, wait) => *wait,
            _ => None,
        }
    }

    /// Whether it says that the endpoint is away, and not that the endpoint cannot digest what was sent.
    pub(super) fn is_away(&self) -> bool {
        match self {
            Self::Answered(status, _) => {
                matches!(status.as_u16(), 429 | 502 | 503 | 504)
            }
            Self::Gone | Self::Slow | Self::NoAllowedAddress | Self::Unreachable(_) => true,
        }
    }

    /// Notes on the span of the request why there was no answer.
    fn note_on(&self, span: &mut Span) {
        match self {
            // The status is noted.
            Self::Gone | Self::Answered(..) => {}
            Self::Slow => span.fail("timeout"),
            Self::NoAllowedAddress => span.fail("no_allowed_address"),
            Self::Unreachable(_) => span.fail("connection"),
        }
    }
}

/// Where an endpoint is, and what signs the requests to it.
#[derive(Debug)]
pub(super) struct Target {
    pub url: EndpointUrl,
    pub secrets: Arc<StandardSecrets>,
}

/// The client of all endpoints.
#[derive(Debug)]
pub(super) struct Client {
    encrypted: reqwest::Client,
    plain: reqwest::Client,
}

impl Client {
    /// A client that reaches these addresses.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) fn new(reach: &Reach) -> reqwest::Result<Self> {
        http_client::use_ring();
        let build = |is_encrypted| {
            reqwest::Client::builder()
                .timeout(TIME_LIMIT)
                .connect_timeout(CONNECTING)
                .pool_idle_timeout(MAX_IDLE)
                .redirect(Policy::none())
                // A proxy would resolve names itself, so nobody could check where they lead.
                .no_proxy()
                .user_agent(concat!("esim-status/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(Resolver { reach: reach.clone(), is_encrypted }))
                .build()
        };
        Ok(Self { encrypted: build(true)?, plain: build(false)? })
    }

    /// Sends a message, signed at this moment, as a part of this round. Any 2xx accepts it.
    pub(super) async fn send(
        &self,
        target: &Target,
        message: &Message,
        round: &Span,
    ) -> Result<(), Failure> {
        let mut span = round.post(target.url.as_url());
        let sent = self.try_send(target, message, &mut span).await;
        if let Err(failure) = &sent {
            failure.note_on(&mut span);
        }
        sent
    }

    async fn try_send(
        &self,
        target: &Target,
        message: &Message,
        span: &mut Span,
    ) -> Result<(), Failure> {
        let client = if target.url.is_encrypted() { &self.encrypted } else { &self.plain };
        let timestamp = clock::now().unix_seconds();
        let mut trace = HeaderMap::new();
        span.add_to(&mut trace);
        let request = client
            .post(target.url.as_str())
            .headers(trace)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", target.secrets.sign(&message.id, timestamp, &message.body))
            .body(message.body.clone());
        let mut answer = request.send().await.map_err(failure)?;
        let (status, wait) = (
            answer.status(),
            http_client::retry_after(answer.headers(), clock::now(), LONGEST_WAIT),
        );
        span.got(status.as_u16());
        let mut read = 0;
        // A connection whose answer is not read to its end is closed.
        while let Ok(Some(chunk)) = answer.chunk().await
            && read < MAX_ANSWER
        {
            read += chunk.len();
        }
        match status {
            _ if status.is_success() => Ok(()),
            StatusCode::GONE => Err(Failure::Gone),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(Failure::Answered(status, wait))
            }
            _ => Err(Failure::Answered(status, None)),
        }
    }
}

fn failure(error: reqwest::Error) -> Failure {
    let is_slow = error.is_timeout();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
        if cause.is::<NoAllowedAddress>() {
            return Failure::NoAllowedAddress;
        }
    }
    if is_slow && error.is_connect() {
        return Failure::Unreachable(format!("none within {} s", CONNECTING.as_secs()));
    }
    if is_slow {
        return Failure::Slow;
    }
    // The deepest cause names neither the URL nor what was sent.
    let cause = if cause.source().is_none() && !cause.is::<reqwest::Error>() {
        cause.to_string()
    } else {
        error.without_url().to_string()
    };
    Failure::Unreachable(cause)
}

/// A name has no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("no allowed address")]
struct NoAllowedAddress;

/// Resolves names, and leaves out the addresses that may not be called. The connection goes to an address that was checked, whatever
/// the name resolves to a moment later.
#[derive(Debug)]
struct Resolver {
    reach: Reach,
    is_encrypted: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, is_encrypted) = (self.reach.clone(), self.is_encrypted);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> =
                found.filter(|address| reach.allows(address.ip(), is_encrypted)).collect();
            if allowed.is_empty() {
                return Err(NoAllowedAddress.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
