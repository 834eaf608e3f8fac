//! `TestApp`: a real service over a socket, with its own database.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use esim_status::access::{Access, ApiKeys, Rights, Scope};
use esim_status::config::{Settings, url_secret_hook};
use esim_status::delivery::Secrets;
use esim_status::hook::Hooks;
use esim_status::service::{Ended, Service};
use serde_json::{Value, json};

use super::{Answer, Client, Database};

/// The URL secret of the built-in hook.
pub const HOOK_SECRET: &str = "5f0c1d9b7e2a48c6b3d4";
/// The API key of the backend.
pub const API_KEY: &str = "b81e6f0a93c24d75a1f2";
/// The secret that signs access tokens.
pub const TOKEN_SECRET: &str = "c47a2e9d06b8435fe1a0";

/// The service of one test.
#[derive(Debug)]
pub struct TestApp {
    /// Its database.
    pub database: Database,
    /// The service.
    pub service: Service,
    /// Calls the public listener without a credential.
    pub anybody: Client,
    /// Calls the public listener with the API key.
    pub backend: Client,
    /// Calls the admin listener.
    pub admin: Client,
}

/// Settings of a test's service: free ports, the built-in hook, one API key, one token secret. The service does not look
/// after its tables by itself: a test that needs this calls `store::upkeep`, and no other test is disturbed by it.
///
/// # Panics
/// If the test's own secrets are refused.
pub fn settings(database: &Database) -> Settings {
    let secrets = |name, value| Secrets::parse(name, [value]).expect("the test's secret is good");
    let hook = url_secret_hook(secrets("hook", HOOK_SECRET));
    let hooks = Hooks::from([(hook.path.clone(), Arc::new(hook))]);
    let access = Access {
        api_keys: ApiKeys::new(secrets("API key", API_KEY), vec![Rights::new("test", Scope::ALL)]),
        token_secrets: secrets("token", TOKEN_SECRET),
    };
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Settings {
        first_upkeep: None,
        listen: free,
        admin_listen: free,
        readers: 4,
        max_connections: 1_024,
        max_streams: 256,
        ..Settings::usual(database.connector(), hooks, access)
    }
}

impl TestApp {
    /// A service on a fresh database.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_on(Database::migrated().await, change).await
    }

    /// A service on an existing database, like a second replica.
    ///
    /// # Panics
    /// If the service does not start.
    pub async fn start_on(database: Database, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(&database);
        change(&mut settings);
        let service = Service::start(settings).await.expect("the service starts");
        let anybody = Client::new(format!("http://{}", service.public));
        let admin = Client::new(format!("http://{}", service.admin));
        Self { backend: anybody.with_bearer(API_KEY), anybody, admin, database, service }
    }

    /// Stops the service as SIGTERM would.
    pub async fn stop(self) -> Ended {
        self.service.stop().await
    }

    /// The path of the built-in hook with its secret.
    pub fn hook_path() -> String {
        format!("/webhooks/gigastore/esim-status/{HOOK_SECRET}")
    }

    /// Delivers a body to the built-in hook with its secret.
    pub async fn deliver(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.anybody.post(&Self::hook_path(), body).await
    }

    /// Reports a state of a profile and returns the outcome.
    pub async fn report(&self, iccid: &str, state: &str) -> String {
        let body = json!({ "iccid": iccid, "profileState": state });
        self.deliver(body.to_string()).await.outcome()
    }

    /// The profile as the backend sees it.
    pub async fn profile(&self, iccid: &str) -> Value {
        self.backend.get(&format!("/v1/profiles/{iccid}")).await.json()
    }

    /// The whole history of a profile, up to 200 transitions.
    pub async fn transitions(&self, iccid: &str) -> Vec<Value> {
        let path = format!("/v1/profiles/{iccid}/transitions?limit=200");
        self.backend.get(&path).await.json()["items"].as_array().cloned().unwrap_or_default()
    }

    /// A client with an access token for this profile that is valid for a minute.
    pub fn user(&self, iccid: &str) -> Client {
        let claims = json!({ "aud": "esim-status", "sub": iccid, "exp": unix_now() + 60 });
        self.anybody.with_bearer(sign(&claims, TOKEN_SECRET))
    }

    /// A client with an access token that the service has created.
    pub async fn invited(&self, iccid: &str) -> Client {
        let made = self.backend.post(&format!("/v1/profiles/{iccid}/tokens"), "").await;
        self.anybody.with_bearer(made.json()["token"].as_str().unwrap_or_default())
    }

    /// An access token with these claims, signed with the service's secret.
    pub fn token(claims: &Value) -> String {
        sign(claims, TOKEN_SECRET)
    }

    /// Asserts that a history is consistent: `seq` has no gaps (it starts at 1, unless an earlier history of the
    /// profile was erased), each transition starts from the state that the one before it left, and the profile is in
    /// the state of its last transition that was not late.
    ///
    /// # Panics
    /// If the history is not consistent.
    pub async fn assert_straight(&self, iccid: &str) {
        let (profile, transitions) = (self.profile(iccid).await, self.transitions(iccid).await);
        let mut state = Value::Null;
        let first = transitions.first().and_then(|it| it["seq"].as_u64()).unwrap_or(1);
        let mut seq = first - 1;
        for transition in &transitions {
            seq += 1;
            assert_eq!(transition["seq"], seq, "{transitions:#?}");
            assert_eq!(transition["fromState"], state, "{transitions:#?}");
            if transition["kind"] != "late" {
                state = transition["toState"].clone();
            }
        }
        assert_eq!(profile["state"], state, "{profile:#}");
        assert_eq!(profile["seq"], seq, "{profile:#}");
    }
}

fn sign(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token is signed")
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the test acts as the backend, which has a clock")]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
