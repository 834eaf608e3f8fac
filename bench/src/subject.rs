//! The running service that a program measures.

use clap::Args;
use reqwest::{Client, StatusCode};
use serde_json::json;
use url::Url;

/// Where the service is, and the credentials of its callers.
#[derive(Debug, Clone, Args)]
pub struct Subject {
    /// The service
    #[arg(long)]
    pub url: Url,

    /// The secret of the hook gigastore/esim-status
    #[arg(long)]
    hook_secret: String,

    /// An API key
    #[arg(long)]
    pub api_key: String,
}

impl Subject {
    /// Reports a state of a profile as the provider does, and returns the status of the answer.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn report(
        &self,
        http: &Client,
        iccid: &str,
        state: &str,
    ) -> anyhow::Result<StatusCode> {
        let path = format!("/webhooks/gigastore/esim-status/{}", self.hook_secret);
        let body = json!({ "iccid": iccid, "profileState": state });
        Ok(http.post(self.url.join(&path)?).json(&body).send().await?.status())
    }
}
