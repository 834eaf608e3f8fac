//! The documents in `docs/` that are generated from the code are up to date. After an intended change:
//!
//! ```sh
//! UPDATE_DOCS=1 cargo test --test docs
//! ```
//!
//! and read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use esim_status::access::{Access, ApiKeys, Rights, Scope};
use esim_status::budget::{LIMITS, Limit, SHUTDOWN};
use esim_status::cli::Cli;
use esim_status::config::{self, ApiSettings, Setting, Settings, SpoolSettings};
use esim_status::delivery::Secrets;
use esim_status::hook::Hooks;
use esim_status::service::connections_needed;
use esim_status::store::Connector;
use esim_status::web;
use esim_status::web::problem::CATALOGUE;
use sqlx::postgres::PgConnectOptions;

/// Compares a document with its file, or writes the file.
fn assert_written(name: &str, document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, document).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(document.lines()).position(|(file, code)| file != code);
    let line = differing.unwrap_or_else(|| written.lines().count().min(document.lines().count()));
    assert!(
        written == document,
        "docs/{name} differs from the code, from line {} on\n  file: {}\n  code: {}\n\
         If the code is right: UPDATE_DOCS=1 cargo test --test docs",
        line + 1,
        written.lines().nth(line).unwrap_or("(ends)"),
        document.lines().nth(line).unwrap_or("(ends)"),
    );
}

/// Compares what is between two markers of a document with the text, or writes it there.
fn assert_section(name: &str, section: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let document = fs::read_to_string(path).unwrap();
    let (begin, end) = (
        format!("<!-- {section}: written by tests/docs.rs -->\n"),
        format!("<!-- end of {section} -->"),
    );
    let (before, rest) = document.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    assert_written(name, &format!("{before}{begin}\n{text}\n{end}{after}"));
}

/// The settings of `serve`, as a table. A variable that ends in `_FILE` is listed beside the one without it.
fn settings() -> Result<String, std::fmt::Error> {
    let all = config::settings();
    let is_file = |it: &Setting| {
        let name = it.variable.strip_suffix("_FILE");
        name.is_some_and(|name| all.iter().any(|other| other.variable == name))
    };
    let mut text = String::from("| variable | default | meaning |\n|---|---|---|\n");
    for setting in all.iter().filter(|it| !is_file(it)) {
        let Setting { variable, default, meaning } = setting;
        let file = format!("{variable}_FILE");
        let or_file = if all.iter().any(|it| it.variable == file) { ", `…_FILE`" } else { "" };
        let default = default.as_ref().map_or("none".to_owned(), |it| format!("`{it}`"));
        writeln!(text, "| `{variable}`{or_file} | {default} | {meaning} |")?;
    }
    Ok(text)
}

/// The limits of `budget.rs`, as a table.
fn limits() -> Result<String, std::fmt::Error> {
    let mut text = String::from("| limit | ms | what it limits |\n|---|---|---|\n");
    for Limit { name, time, meaning } in LIMITS {
        writeln!(text, "| `{name}` | {} | {} |", time.as_millis(), meaning.trim())?;
    }
    Ok(text)
}

fn problems() -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "<!-- Written by tests/docs.rs from src/web/catalogue.rs. -->\n\n\
         # Problems\n\n\
         Every error is answered with one of these, as `application/problem+json` (RFC 9457). `code` never changes its meaning; \
         `detail` says what is wrong in this case; `requestId` finds the cause in the log. Only a connection that is refused before its request is complete gets a bare status.\n\n\
         | code | status | what it is |\n|---|---|---|\n",
    );
    for entry in &CATALOGUE {
        let (name, status) = (entry.name, entry.status.as_u16());
        writeln!(text, "| [`{name}`](#{name}) | {status} | {} |", entry.title)?;
    }
    for entry in &CATALOGUE {
        let (name, status) = (entry.name, entry.status);
        writeln!(text, "\n## {name}\n\n`{status}`. {}.\n\n{}", entry.title, entry.remedy)?;
    }
    Ok(text)
}

#[test]
fn openapi_json_is_up_to_date() {
    let document = web::openapi().to_pretty_json().unwrap();
    assert_written("openapi.json", &format!("{document}\n"));
}

#[test]
fn the_tables_in_operations_md_are_up_to_date() {
    // One after the other, because both are written into one file.
    assert_section("operations.md", "settings", &settings().unwrap());
    assert_section("operations.md", "limits", &limits().unwrap());
}

/// The rows of the table of connections in `operations.md`, each with what it counts and what for.
fn connections() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| connections | for |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let (count, purpose) = row.trim_matches('|').split_once('|').unwrap();
        (count.replace('`', "").trim().to_owned(), purpose.to_owned())
    })
    .collect()
}

#[test]
fn the_table_of_connections_adds_up() {
    for (has_spool, has_api) in [(false, false), (false, true), (true, false), (true, true)] {
        let connector = Connector::from(PgConnectOptions::new_without_pgpass());
        let secrets = || Secrets::parse("test", ["b81e6f0a93c24d75a1f2"]).unwrap();
        let api_keys = ApiKeys::new(secrets(), vec![Rights::new("test", Scope::ALL)]);
        let access = Access { api_keys, token_secrets: secrets() };
        let mut settings = Settings::usual(connector, Hooks::new(), access);
        let (folder, max_bytes) = ("spool".into(), 1);
        settings.spool = has_spool.then_some(SpoolSettings { folder, max_bytes });
        let (url, user) = ("https://api.example.org".parse().unwrap(), "user".to_owned());
        let api = ApiSettings { url, user, password: "secret".into(), calls_a_minute: 1 };
        settings.api = has_api.then_some(api);
        let rows = connections().into_iter().filter(|(_, purpose)| {
            (has_spool || !purpose.contains("a spool"))
                && (has_api || !purpose.contains("ESIM_STATUS_GIGASTORE_API_USER"))
        });
        let count = |it: &str| match it.trim() {
            "ESIM_STATUS_WRITERS" => settings.writers,
            "ESIM_STATUS_READERS" => usize::try_from(settings.readers).unwrap(),
            number => number.parse().unwrap(),
        };
        let sum: usize = rows.map(|(row, _)| row.split('+').map(count).sum::<usize>()).sum();
        assert_eq!(sum, connections_needed(&settings), "spool {has_spool}, API {has_api}");
    }
}

/// Variables that the documents name and that are none of the service's: of the tests, and of the client's example shop.
const OF_OTHERS: [&str; 11] = [
    "ESIM_STATUS_API_KEY",
    "ESIM_STATUS_BROWSER_URL",
    "ESIM_STATUS_CUT_EVERYWHERE",
    "ESIM_STATUS_HA_FAULTS",
    "ESIM_STATUS_HELD_SECONDS",
    "ESIM_STATUS_HOT_STREAMS",
    "ESIM_STATUS_KILL_ROUNDS",
    "ESIM_STATUS_OVERLOAD_SECONDS",
    "ESIM_STATUS_SEED",
    "ESIM_STATUS_STREAMS",
    "ESIM_STATUS_URL",
];

/// All documents for people.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "bench", "clients/typescript", "crates/embedded-postgres", "docs"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|it| it == "md")).collect()
}

/// The words of a text that begin like this and consist of such letters.
fn words<'a>(
    text: &'a str,
    beginning: &'a str,
    is_part: impl Fn(char) -> bool + 'a,
) -> impl Iterator<Item = &'a str> {
    text.split(move |c| !is_part(c)).filter(move |word| word.starts_with(beginning))
}

#[test]
fn every_file_names_only_settings_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known: BTreeSet<_> = config::settings().into_iter().map(|it| it.variable).collect();
    let others = [
        ".env.example",
        "deploy/caddy/Caddyfile",
        "deploy/grafana/esim-status.json",
        "deploy/kubernetes/base/workload.yaml",
        "deploy/kubernetes/spool/kustomization.yaml",
        "docker-compose.yml",
        "Dockerfile",
        "scripts/env",
    ];
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for file in others.iter().map(|file| root.join(file)).chain(documents()) {
        let text = fs::read_to_string(&file).unwrap();
        for word in words(&text, "ESIM_STATUS_", is_part) {
            // What ends in an underscore is the beginning of several.
            let exists = known.contains(word) || word.ends_with('_') || OF_OTHERS.contains(&word);
            assert!(exists, "{} names {word}, which is no setting of `serve`", file.display());
        }
    }
}

/// Settings that the container's image or `docker-compose.yml` itself decides.
const OF_COMPOSE: [&str; 2] = ["ESIM_STATUS_LISTEN", "ESIM_STATUS_ADMIN_LISTEN"];

#[test]
fn docker_compose_passes_every_setting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compose = fs::read_to_string(root.join("docker-compose.yml")).unwrap();
    let settings = config::settings().into_iter().map(|it| it.variable);
    for setting in settings.filter(|it| !it.ends_with("_FILE")) {
        let is_passed = compose.lines().any(|line| {
            line.trim_start().strip_prefix(&*setting).is_some_and(|it| it.starts_with(':'))
        });
        let is_of_compose = OF_COMPOSE.contains(&&*setting);
        assert!(is_passed || is_of_compose, "docker-compose.yml does not pass {setting}");
    }
}

/// The number behind a text of a file.
fn number_behind(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

#[test]
fn every_file_allows_the_shutdown_its_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let seconds = SHUTDOWN.as_secs();
    let operations = read("docs/operations.md");
    assert!(operations.contains(&format!("Allow the notice plus {seconds} s before SIGKILL")));
    let supervisor = format!("sends SIGTERM and then waits {seconds} s plus the shutdown notice");
    assert!(operations.contains(&supervisor));
    let mut cli = Cli::command();
    let serve = cli.find_subcommand_mut("serve").unwrap().render_long_help().to_string();
    let serve = serve.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(serve.contains(&format!("within {seconds} seconds plus the shutdown notice")));

    let compose = read("docker-compose.yml");
    let (_, compose) = compose.split_once("\n  esim-status:\n").unwrap();
    assert!(compose.contains(&format!("The shutdown takes up to {seconds} s after its notice")));
    // Without a setting the notice is half a second.
    assert!(number_behind(compose, "stop_grace_period: ") > seconds);
    let pod = read("deploy/kubernetes/base/workload.yaml");
    assert!(pod.contains(&format!("The notice below plus {seconds} s")));
    let notice = "ESIM_STATUS_SHUTDOWN_NOTICE_SECONDS\n              value: \"";
    let needed = number_behind(&pod, notice) + seconds;
    assert!(number_behind(&pod, "terminationGracePeriodSeconds: ") > needed);
}

#[test]
fn every_metric_that_a_document_names_exists_and_the_guide_has_all() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut known = BTreeSet::new();
    let mut folders = vec![root.join("src/telemetry")];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let source = fs::read_to_string(file).unwrap();
            known.extend(words(&source, "esim_status_", is_part).map(str::to_owned));
        }
    }
    let others = ["deploy/prometheus/alerts.yml", "deploy/grafana/esim-status.json"];
    for file in others.iter().map(|file| root.join(file)).chain(documents()) {
        let text = fs::read_to_string(&file).unwrap();
        for word in words(&text, "esim_status_", is_part) {
            let of_histogram = ["_bucket", "_count", "_sum"].iter();
            let name = of_histogram.fold(word, |word, end| word.strip_suffix(end).unwrap_or(word));
            let exists = known.contains(word) || known.contains(name);
            assert!(exists, "{} names {word}, which no metric is called", file.display());
        }
    }
    let guide = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let missing: Vec<_> = known.iter().filter(|name| !guide.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
}

#[test]
fn problems_md_is_up_to_date() {
    assert_written("problems.md", &problems().unwrap());
}

#[test]
fn problems_have_unique_names_and_complete_sentences() {
    let names: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    for entry in &CATALOGUE {
        let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(entry.name.chars().all(kebab), "{}", entry.name);
        assert!(entry.status.is_client_error() || entry.status.is_server_error(), "{}", entry.name);
        assert!(!entry.title.ends_with('.') && entry.remedy.ends_with('.'), "{}", entry.name);
    }
}

/// A reference to a schema that the document does not have is an error for every generator of clients.
#[test]
fn every_reference_in_the_openapi_document_leads_somewhere() {
    fn references<'a>(value: &'a serde_json::Value, into: &mut Vec<&'a str>) {
        match value {
            serde_json::Value::Object(members) => {
                into.extend(members.get("$ref").and_then(serde_json::Value::as_str));
                members.values().for_each(|value| references(value, into));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|it| references(it, into)),
            _ => {}
        }
    }
    let document = serde_json::to_value(esim_status::web::openapi()).unwrap();
    let mut all = Vec::new();
    references(&document, &mut all);
    assert!(!all.is_empty());
    for reference in all {
        let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        assert!(found.is_some(), "{reference} leads nowhere");
    }
}
