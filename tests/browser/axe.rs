//! Helper: checks accessibility with axe-core, in the version that `package-lock.json` pins.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::browser::Browser;

/// The script, installed from the npm registry if it is missing.
fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        let script = folder.join("node_modules/axe-core/axe.min.js");
        if !script.exists() {
            let npm = Command::new("npm").arg("ci").current_dir(&folder).status();
            assert!(
                npm.is_ok_and(|status| status.success()),
                "`npm ci` fails in {}",
                folder.display()
            );
        }
        std::fs::read_to_string(script).expect("axe-core is readable")
    })
}

/// Asserts that the current page violates no accessibility rule.
pub async fn assert_accessible(browser: &Browser, what: &str) {
    browser.run(script()).await;
    let violations = browser
        .run_async(
            "axe.run(document).then(({ violations }) => done(violations.map(({ id, nodes }) =>
                ({ id, nodes: nodes.map(({ html, failureSummary }) => html + failureSummary) }))));",
        )
        .await;
    assert_eq!(violations, Value::Array(Vec::new()), "{what}: {violations:#}");
}
