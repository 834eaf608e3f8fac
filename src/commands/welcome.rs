//! The first screen of `esim-status dev`: commands that work when they are pasted.

use std::path::Path;

use super::dev::{DevSecrets, SAMPLE_ICCID as ICCID};
use crate::service::Service;

/// Prints it to standard output.
pub(super) fn print(service: &Service, secrets: &DevSecrets, page: &str, kept: Option<&Path>) {
    let base = format!("http://{}", service.public);
    let admin = service.admin;
    let (hook, key) = (&secrets.hook, &secrets.api_key);
    // The very file that runs, so that the line works from any folder.
    let program = std::env::current_exe()
        .map_or_else(|_| "esim-status".to_owned(), |path| path.display().to_string());
    let kept = match kept {
        Some(folder) => format!("Data and secrets are kept in {}", folder.display()),
        None => "Nothing is kept.".to_owned(),
    };
    println!(
        "
  esim-status is up. {kept}

  Webhook URL    {base}/webhooks/gigastore/esim-status/{hook}
  API            {base}/docs
  Health         http://{admin}/readyz   Metrics  http://{admin}/metrics

  Open the install page of a sample profile:
    {page}

  and play the provider; the page follows:
    {program} send {base}/webhooks/gigastore/esim-status/{hook} --state INSTALLED
    {program} send {base}/webhooks/gigastore/esim-status/{hook} --lifecycle --pause 2

  or with curl:
    curl -i {base}/webhooks/gigastore/esim-status/{hook} -d '{{\"iccid\":\"{ICCID}\",\"profileState\":\"INSTALLED\"}}'

  Read it back:
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}/transitions

  Ctrl-C ends it.
"
    );
}
