//! What `esim-status dev` prints once it serves: commands that work when they are pasted.

use std::path::Path;

use super::SAMPLE_ICCID as ICCID;

/// What the first screen shows.
pub(super) struct Welcome<'a> {
    /// The address of the public listener, such as `http://127.0.0.1:8080`.
    pub base: &'a str,
    /// The same of the admin listener.
    pub admin: &'a str,
    /// The secret of the hook's URL.
    pub hook: &'a str,
    /// An API key.
    pub key: &'a str,
    /// The install page of the sample profile.
    pub page: &'a str,
    /// Where data and secrets are kept, if they are.
    pub kept: Option<&'a Path>,
}

/// Prints it to standard output.
pub(super) fn print(Welcome { base, admin, hook, key, page, kept }: &Welcome<'_>) {
    // The very file that runs, so that the line works from any folder.
    let program = std::env::current_exe()
        .map_or_else(|_| "esim-status".to_owned(), |path| path.display().to_string());
    let kept = match kept {
        Some(folder) => format!("Data and secrets are kept in {}", folder.display()),
        None => "Nothing is kept.".to_owned(),
    };
    println!(
        "
  esim-status is running. {kept}

  Webhook URL    {base}/webhooks/gigastore/esim-status/{hook}
  API key        {key}
  API            {base}/docs
  Console        {base}/console   (sign in with the API key)
  Health         {admin}/readyz   Metrics  {admin}/metrics

  Open the install page of a sample profile:
    {page}

  Then send webhooks as the provider does, and watch the page follow:
    {program} send {base}/webhooks/gigastore/esim-status/{hook} --state INSTALLED
    {program} send {base}/webhooks/gigastore/esim-status/{hook} --lifecycle --pause 2

  or with curl:
    curl -i {base}/webhooks/gigastore/esim-status/{hook} -d '{{\"iccid\":\"{ICCID}\",\"profileState\":\"INSTALLED\"}}'

  Read it back:
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}/transitions
    curl -s -H 'Authorization: Bearer {key}' {base}/v1/profiles/{ICCID}/evidence

  Ctrl-C ends it.
"
    );
}
