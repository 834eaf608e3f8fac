//! The first screen of `esim-status dev`: commands that work when they are pasted.

use std::path::Path;

use super::dev::DevSecrets;
use crate::service::Service;

/// The vendor's own sample ICCID; its check digit holds.
const ICCID: &str = "89972123300991848961";

/// Prints it to standard output.
pub(super) fn print(service: &Service, secrets: &DevSecrets, kept: Option<&Path>) {
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

  Play the provider:
    {program} send {base}/webhooks/gigastore/esim-status/{hook} --lifecycle --iccid {ICCID}

  or with curl:
    curl -i {base}/webhooks/gigastore/esim-status/{hook} -d '{{\"iccid\":\"{ICCID}\",\"profileState\":\"INSTALLED\"}}'

  Read it back:
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}/transitions

  Ctrl-C ends it.
"
    );
}
