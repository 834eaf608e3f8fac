//! The official Standard Webhooks library for Python accepts what endpoints get. Those for Rust and JavaScript do so in `tests/api` and
//! `clients/typescript`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use esim_status::domain::Reach;
use esim_status_testing::TestApp;
use esim_status_testing::receiver::Receiver;
use serde_json::{Value, json};

use super::iccid;

const PROGRAM: &str = "
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
request = json.load(sys.stdin)
event = Webhook(request['secret']).verify(request['body'], request['headers'])
try:
    Webhook(request['secret']).verify(request['body'] + ' ', request['headers'])
    sys.exit('accepts a body that was changed')
except WebhookVerificationError:
    print(json.dumps(event))
";

#[tokio::test]
async fn the_library_for_python_accepts_a_delivery() {
    let python =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/standardwebhooks-1.1.0/bin/python");
    assert!(python.exists(), "the library is missing: scripts/test installs it");
    let receiver = Receiver::start().await;
    let app = TestApp::start_with(|settings| settings.reach = Reach::this_machine()).await;
    let body = json!({ "url": receiver.url() }).to_string();
    let created = app.backend.post("/v1/endpoints", body).await;
    app.report(&iccid(1), "INSTALLED").await;
    let request = receiver.has_accepted(1).await.remove(0);
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = headers.map(|name| (name, request.header(name))).into_iter().collect();
    let body = String::from_utf8(request.raw.to_vec()).unwrap();
    let input = json!({ "secret": created.json()["secret"], "headers": headers, "body": body });
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), request.event);
}
