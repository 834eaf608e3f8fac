//! Gigastore's API: a token for a name and a password, and a search by ICCID. The vendor documents both, and neither a rate limit
//! nor the shape of the answer around the eSIM objects.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::call_rate::CallRate;
use crate::clock;
use crate::config::ApiSettings;
use crate::domain::{Iccid, Report, Timestamp};
use crate::http_client;
use crate::providers::{Gigastore, Registrar};
use crate::telemetry::Span;

/// The max length of an answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The longest pause that the API can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The pause if the API asks for one without saying how long.
const USUAL_PAUSE: Duration = Duration::from_mins(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There were too many calls.
    #[error("the API answered 429 and wants no call for {} s", .0.as_secs())]
    TooMany(Duration),
    /// The API refuses the name and the password, or what they may do.
    #[error(
        "the API answered {0}: check ESIM_STATUS_GIGASTORE_API_USER and ESIM_STATUS_GIGASTORE_API_PASSWORD"
    )]
    Refused(StatusCode),
    /// The API answered something else.
    #[error("the API answered {0}")]
    Status(StatusCode),
    /// The API could not be reached, or not in time.
    #[error("the API could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The answer is not what the vendor documents.
    #[error("the API's answer is not usable: {0}")]
    Unusable(&'static str),
    /// What should give a token for the name and the password does something else, so it may be another server's.
    #[error("the API gives no token: check ESIM_STATUS_GIGASTORE_API_URL")]
    NoToken(#[source] Box<AskError>),
}

impl AskError {
    /// Whether the API is there, and only this question is at fault.
    pub(super) fn is_about_the_question(&self) -> bool {
        match self {
            Self::Unusable(_) => true,
            Self::Status(status) => status.is_client_error(),
            Self::TooMany(_) | Self::Refused(_) | Self::Unreachable(_) | Self::NoToken(_) => false,
        }
    }

    /// The same as an error of the sign-in, which is about no question.
    fn of_the_sign_in(self) -> Self {
        if self.is_about_the_question() { Self::NoToken(Box::new(self)) } else { self }
    }
}

/// A client of the API.
#[derive(Debug)]
pub struct GigastoreApi {
    settings: ApiSettings,
    client: reqwest::Client,
    rate: CallRate,
    token: Option<Token>,
}

#[derive(Debug)]
struct Token {
    value: SecretString,
    renew_at: Instant,
}

/// The answer to a name and a password. It is a secret.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authenticated {
    access_token: String,
    expires_in: f64,
}

impl GigastoreApi {
    /// Creates a client.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(settings: ApiSettings) -> reqwest::Result<Self> {
        let client = http_client::new(&settings.url)?;
        Ok(Self { rate: CallRate::new(settings.calls_a_minute), client, settings, token: None })
    }

    /// Gets a token, to see whether name and password are accepted.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn authenticate(&mut self) -> Result<(), AskError> {
        self.token().await.map(drop).map_err(AskError::of_the_sign_in)
    }

    /// Asks about a profile. Returns when the question was sent, and what was answered; `None` if the API does not know the
    /// profile.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn find(&mut self, iccid: &Iccid) -> Result<(Timestamp, Option<Report>), AskError> {
        let question = json!({
            "pageSize": 10,
            "pageIndex": 0,
            "searchKey": "ICCID",
            "searchQuery": iccid.as_str(),
            "searchMode": "isExact",
            "onlyActiveProfiles": false,
        });
        let mut is_new_token = self.token.is_none();
        loop {
            let token = self.token().await.map_err(AskError::of_the_sign_in)?;
            let url = self.path("gigastore/activations/search-customers");
            let request = self.client.post(url).bearer_auth(token).json(&question);
            self.rate.turn().await;
            let asked_at = clock::now();
            match self.send(request).await {
                // A token may end before its time: one new one is tried.
                Err(AskError::Refused(StatusCode::UNAUTHORIZED)) if !is_new_token => {
                    (self.token, is_new_token) = (None, true);
                }
                Err(error) => {
                    if let AskError::Refused(_) = error {
                        self.token = None;
                    }
                    return Err(error);
                }
                Ok(answer) => return Ok((asked_at, read(&answer, iccid, asked_at)?)),
            }
        }
    }

    async fn token(&mut self) -> Result<String, AskError> {
        if let Some(token) = self.token.as_ref().filter(|token| Instant::now() < token.renew_at) {
            return Ok(token.value.expose_secret().to_owned());
        }
        let ApiSettings { user, password, .. } = &self.settings;
        let password = password.expose_secret();
        let url = self.path("reseller/authenticate");
        let request = self.client.post(url).basic_auth(user, Some(password));
        self.rate.turn().await;
        let answer = self.send(request).await?;
        let Authenticated { access_token, expires_in } = serde_json::from_slice(&answer)
            .map_err(|_| AskError::Unusable("it has no accessToken and expiresIn"))?;
        let lifetime = Duration::try_from_secs_f64(expires_in).unwrap_or_default();
        // Before it expires, so that no question is asked twice.
        let renew_at = Instant::now() + lifetime.mul_f64(0.9);
        self.token = Some(Token { value: access_token.clone().into(), renew_at });
        Ok(access_token)
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.url.as_str().trim_end_matches('/'))
    }

    /// Sends a request, and reads its answer if it is a success.
    async fn send(&mut self, request: RequestBuilder) -> Result<Vec<u8>, AskError> {
        let mut span = Span::question(&self.settings.url);
        let mut trace = HeaderMap::new();
        span.add_to(&mut trace);
        let answer = self.try_send(request.headers(trace), &mut span).await;
        match &answer {
            Err(AskError::Unreachable(_)) => span.fail("connection"),
            Err(AskError::Unusable(_)) => span.fail("unusable"),
            // The status is noted.
            _ => {}
        }
        answer
    }

    async fn try_send(
        &mut self,
        request: RequestBuilder,
        span: &mut Span,
    ) -> Result<Vec<u8>, AskError> {
        let unreachable = |error: reqwest::Error| AskError::Unreachable(error.without_url());
        let answer = request.send().await.map_err(unreachable)?;
        span.got(answer.status().as_u16());
        match answer.status() {
            status if status.is_success() => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(AskError::Refused(status));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let pause = pause_of(&answer);
                self.rate.pause(pause);
                return Err(AskError::TooMany(pause));
            }
            status => {
                if answer.headers().contains_key(http::header::RETRY_AFTER) {
                    self.rate.pause(pause_of(&answer));
                }
                return Err(AskError::Status(status));
            }
        }
        let mut answer = answer;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&part);
            if body.len() > MAX_ANSWER {
                return Err(AskError::Unusable("it is longer than a megabyte"));
            }
        }
        Ok(body)
    }
}

/// How long an answer asks not to be called; the usual pause if that cannot be read.
fn pause_of(answer: &Response) -> Duration {
    let asked = http_client::retry_after(answer.headers(), clock::now(), LONGEST_RETRY_AFTER);
    asked.unwrap_or(USUAL_PAUSE)
}

/// Finds the eSIM object of this profile in an answer. Several that agree are one.
fn read(answer: &[u8], iccid: &Iccid, asked_at: Timestamp) -> Result<Option<Report>, AskError> {
    let answer: Value =
        serde_json::from_slice(answer).map_err(|_| AskError::Unusable("it is not JSON"))?;
    let mut found: Option<Report> = None;
    let mut waiting = vec![&answer];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(members) => {
                let names_it = members
                    .get("iccid")
                    .and_then(Value::as_str)
                    .is_some_and(|text| Iccid::parse(text).is_ok_and(|named| named == *iccid));
                if !names_it || !members.contains_key("state") {
                    waiting.extend(members.values());
                    continue;
                }
                let object = value.to_string();
                let read = Gigastore.parse_esim_object(object.as_bytes(), asked_at);
                let report =
                    read.map_err(|_| AskError::Unusable("its eSIM object cannot be read"))?;
                let report = Report { remarks: Vec::new(), ..report.report };
                if found.as_ref().is_some_and(|other| other.raw_state != report.raw_state) {
                    return Err(AskError::Unusable("it contradicts itself"));
                }
                found = Some(report);
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<Option<String>, AskError> {
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let now = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
        Ok(read(text.as_bytes(), &iccid, now)?.map(|report| report.raw_state))
    }

    #[test]
    fn the_object_is_found_wherever_it_is() {
        let object = r#"{"iccid":"89972123300991848961","state":"INSTALLED","uid":"a"}"#;
        for (text, found) in [
            (format!(r#"{{"customers":[{{"uid":"a","relatedEsims":[{object}]}}]}}"#), true),
            (format!("[{object},{object}]"), true),
            (object.to_owned(), true),
            (object.replace("848961", "848962"), false),
            (r#"{"customers":[]}"#.to_owned(), false),
            (r#"{"iccid":"89972123300991848961"}"#.to_owned(), false),
        ] {
            let read = answer(&text).unwrap();
            assert_eq!(read, found.then(|| "INSTALLED".to_owned()), "{text}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_understood_is_no_answer() {
        let object = r#"{"iccid":"89972123300991848961","state":"INSTALLED"}"#;
        for text in [
            "<html>503</html>".to_owned(),
            String::new(),
            format!("[{object},{}]", object.replace("INSTALLED", "RELEASED")),
            object.replace("\"INSTALLED\"", "7"),
        ] {
            assert!(matches!(answer(&text), Err(AskError::Unusable(_))), "{text}");
        }
    }
}
