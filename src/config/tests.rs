//! Which settings are accepted, and which are refused.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::access::Scope;

const DATABASE: &str = "postgres://esim@localhost/esim";
const HOOK: &str = "kx81vq02mz77ra40pw55";
const KEY: &str = "b3f0c5d2a1e84976cc10";
const TOKEN: &str = "9d4e7a61f2b85c03ee27";
const OTHER: &str = "c80d64f92b17e35a0f6b";

#[derive(Parser)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
}

fn load(flags: &[&str]) -> Result<Settings, ConfigError> {
    let line = ["serve"].into_iter().chain(flags.iter().copied());
    Settings::load(&Serve::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args)
}

/// Loads the complete settings, with further flags.
fn load_with(flags: &[&str]) -> Result<Settings, ConfigError> {
    let complete = ["--database-url", DATABASE, "--gigastore-secrets", HOOK, "--api-keys", KEY];
    let complete = complete.into_iter().chain(["--token-secrets", TOKEN]);
    load(&complete.chain(flags.iter().copied()).collect::<Vec<_>>())
}

fn complaint(result: Result<Settings, ConfigError>) -> String {
    result.map(|settings| settings.hooks.len()).unwrap_err().to_string()
}

/// Writes a file with this text. Returns it with its temporary folder, which must outlive it.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// Loads the complete settings, with this configuration file.
fn load_file(text: &str) -> Result<Settings, ConfigError> {
    let (_folder, path) = file(text);
    load_with(&["--config", path.to_str().unwrap()])
}

#[test]
fn complete_settings_are_taken() {
    let settings = load_with(&[]).unwrap();
    let others = ["balance-activation", "balance-alert", "country-change", "esim-status"];
    let paths: Vec<_> = settings.hooks.keys().map(|path| &path["gigastore/".len()..]).collect();
    assert_eq!(paths, others, "all with the secrets of the first");
    assert_eq!(
        (settings.access.api_keys.secrets().len(), settings.access.token_secrets.len()),
        (1, 1)
    );
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.public_url, None);
}

#[test]
fn a_time_of_a_provider_that_does_not_exist_is_refused() {
    let flag = "--overdue-failed-hours";
    let settings = load_with(&[flag, "2,roamify=5"]).unwrap();
    assert_eq!(settings.patience.failed.of_provider("roamify"), 5 * 3_600);
    let complaint = complaint(load_with(&[flag, "2,roamfy=5"]));
    for part in ["OVERDUE", "`roamfy`", "roamify"] {
        assert!(complaint.contains(part), "{complaint}");
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let complaint = complaint(load(&[]));
    for name in [
        "DATABASE_URL is missing",
        "ESIM_STATUS_GIGASTORE_SECRETS is missing",
        "ESIM_STATUS_API_KEYS is missing",
        "ESIM_STATUS_TOKEN_SECRETS is missing",
    ] {
        assert!(complaint.contains(name), "{complaint}");
    }
    assert_eq!(complaint.lines().count(), 4, "{complaint}");
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let complaint = complaint(load(&["--database-url", DATABASE, "--api-keys", ""]));
    assert!(complaint.contains("ESIM_STATUS_API_KEYS is missing"), "{complaint}");
}

#[test]
fn weak_secrets_are_named_with_a_remedy_and_without_their_value() {
    for (flag, name) in [
        ("--gigastore-secrets", "ESIM_STATUS_GIGASTORE_SECRETS"),
        ("--api-keys", "ESIM_STATUS_API_KEYS"),
        ("--token-secrets", "ESIM_STATUS_TOKEN_SECRETS"),
    ] {
        for weak in ["kx81vq02", "changeme-changeme-changeme", "xyxyxyxyxyxyxyxyxyxy"] {
            let list = format!("{weak},");
            for value in [weak, &list] {
                let complaint = complaint(load(&[flag, value]));
                let line = complaint.lines().find(|line| line.starts_with(name));
                let line = line.unwrap_or_else(|| panic!("{name} is not named: {complaint}"));
                assert!(line.contains("secret number 1 is"), "{line}");
                assert!(line.contains("openssl rand -hex 32"), "{line}");
                assert!(!complaint.contains(weak), "{complaint}");
            }
        }
    }
}

#[test]
fn an_api_key_may_have_a_name_that_is_not_part_of_it() {
    let (_folder, path) = file(&format!("shop:{KEY}\n\n  app:{OTHER}  \n"));
    let source = |flag, value| {
        let others = ["--database-url", DATABASE, "--gigastore-secrets", HOOK];
        let others = others.into_iter().chain(["--token-secrets", TOKEN]);
        load(&others.chain([flag, value]).collect::<Vec<_>>()).unwrap()
    };
    let lists = format!("shop:{KEY},app:{OTHER}");
    for settings in
        [source("--api-keys", &lists), source("--api-keys-file", path.to_str().unwrap())]
    {
        let keys = settings.access.api_keys;
        assert_eq!(keys.secrets().len(), 2);
        assert!(keys.find(KEY.as_bytes()).is_some() && keys.find(OTHER.as_bytes()).is_some());
        assert!(keys.find(format!("shop:{KEY}").as_bytes()).is_none());
    }
}

#[test]
fn a_name_does_not_make_a_short_key_long() {
    let complaint = complaint(load(&["--api-keys", "a-name-that-is-rather-long:kx81"]));
    assert!(complaint.contains("ESIM_STATUS_API_KEYS: secret number 1 is shorter"), "{complaint}");
}

#[test]
fn a_list_and_a_file_at_once_are_refused() {
    let (_folder, path) = file(HOOK);
    let complaint = complaint(load_with(&["--gigastore-secrets-file", path.to_str().unwrap()]));
    let (name, remedy) = ("ESIM_STATUS_GIGASTORE_SECRETS", "are both set: keep one of them");
    assert_eq!(complaint, format!("{name} and {name}_FILE {remedy}"));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let complaint = complaint(load(&["--token-secrets-file", "/nonexistent/tokens"]));
    assert!(complaint.contains("the file /nonexistent/tokens cannot be read"), "{complaint}");
}

#[test]
fn a_database_url_that_is_none_is_not_echoed() {
    let complaint = complaint(load(&["--database-url", "mysql//root:hunter2hunter2@db"]));
    assert!(complaint.contains("DATABASE_URL is not a Postgres URL"), "{complaint}");
    assert!(!complaint.contains("hunter2"), "{complaint}");
}

#[test]
fn a_public_url_is_an_address_of_the_web_without_a_slash_at_its_end() {
    let settings = load_with(&["--public-url", "https://esim.example.org/status/"]).unwrap();
    assert_eq!(settings.public_url.as_deref(), Some("https://esim.example.org/status"));
    for bad in ["esim.example.org", "ftp://esim.example.org", "https://a.example/?b", ""] {
        let complaint = complaint(load_with(&["--public-url", bad]));
        assert!(complaint.starts_with("ESIM_STATUS_PUBLIC_URL must be"), "{bad}: {complaint}");
    }
}

#[test]
fn an_origin_is_a_scheme_a_host_and_a_port() {
    let good = "https://shop.example.org, http://localhost:3000, capacitor://localhost, ionic://localhost, app://shop:8080";
    assert_eq!(load_with(&["--allowed-origins", good]).unwrap().allowed_origins.len(), 5);
    for bad in [
        "shop.example.org",
        "https://shop.example.org/",
        "capacitor://localhost/index.html",
        "capacitor:localhost",
        "file:///shop",
        "*",
        "null",
    ] {
        let complaint = complaint(load_with(&["--allowed-origins", bad]));
        assert!(complaint.starts_with("ESIM_STATUS_ALLOWED_ORIGINS: "), "{bad}: {complaint}");
    }
}

#[test]
fn settings_never_show_a_secret() {
    let shown = format!("{:?}", load_with(&[]).unwrap());
    for secret in [HOOK, KEY, TOKEN] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let line = ["serve", "--api-keys", KEY, "--token-secrets", TOKEN];
    let shown = format!("{:?}", Serve::try_parse_from(line).unwrap().args);
    assert!(!shown.contains(KEY) && !shown.contains(TOKEN), "{shown}");
}

const SIGNED: &str = r#"
[[hooks]]
path = "gigastore/relayed"
provider = "gigastore"
auth = { kind = "hmac-sha256", header = "X-Signature", encoding = "hex", prefix = "sha256=", secrets = ["kx81vq02mz77ra40pw55"] }
"#;

#[test]
fn a_file_adds_hooks_of_every_kind() {
    let text = format!(
        r#"{SIGNED}
[[hooks]]
path = "gigastore/one"
provider = "gigastore"
auth = {{ kind = "url-secret", secrets = ["{HOOK}", "{OTHER}"] }}

[[hooks]]
path = "gigastore/two"
provider = "gigastore"
auth = {{ kind = "header", header = "X-Secret", secrets = ["{HOOK}"] }}

[[hooks]]
path = "gigastore/three"
provider = "gigastore"
auth = {{ kind = "standard-webhooks", secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }}

[[hooks]]
path = "gigastore/four"
provider = "gigastore"
auth = {{ kind = "none" }}
test_deliveries = "accept"

[[hooks]]
path = "gigastore/five"
provider = "gigastore"
auth = {{ kind = "simlessly", access_key = "11111", secrets = ["{HOOK}"] }}
"#
    );
    let settings = load_file(&text).unwrap();
    let kinds = |path| settings.hooks[path].authenticator.scheme_name();
    assert_eq!(settings.hooks.len(), 10, "the four built-in hooks exist too");
    assert_eq!(kinds(BUILT_IN_HOOK), "url-secret");
    assert_eq!(kinds("gigastore/relayed"), "hmac-sha256");
    assert_eq!(kinds("gigastore/one"), "url-secret");
    assert_eq!(kinds("gigastore/two"), "header");
    assert_eq!(kinds("gigastore/three"), "standard-webhooks");
    assert_eq!(kinds("gigastore/four"), "none");
    assert_eq!(kinds("gigastore/five"), "simlessly");
    for (key, why) in [("1 1", "access_key must be"), ("", "access_key must be")] {
        let wrong = text.replace("\"11111\"", &format!("{key:?}"));
        let complaint = complaint(load_file(&wrong));
        assert!(complaint.contains(why) && complaint.contains("line 28"), "{complaint}");
    }
    let without = complaint(load_file(&text.replace("access_key = \"11111\", ", "")));
    assert!(without.contains("line 31"), "{without}");
    let takes_tests = settings.hooks.values().filter(|hook| hook.takes_tests);
    assert_eq!(takes_tests.map(|hook| &*hook.path).collect::<Vec<_>>(), ["gigastore/four"]);
}

#[test]
fn a_hook_of_the_built_in_ones_name_replaces_it() {
    let settings = load_file(&SIGNED.replace("gigastore/relayed", BUILT_IN_HOOK)).unwrap();
    assert_eq!(settings.hooks.len(), 4);
    for hook in settings.hooks.values() {
        assert_eq!(hook.authenticator.scheme_name(), "hmac-sha256", "{}", hook.path);
    }
    let own =
        format!("{SIGNED}\n{}", SIGNED.replace("gigastore/relayed", "gigastore/country-change"));
    let settings = load_file(&own).unwrap();
    assert_eq!(
        settings.hooks["gigastore/country-change"].authenticator.scheme_name(),
        "hmac-sha256"
    );
    assert_eq!(settings.hooks["gigastore/esim-status"].authenticator.scheme_name(), "url-secret");
}

#[test]
fn with_hooks_of_its_own_a_file_needs_no_built_in_one() {
    let (_folder, path) = file(SIGNED);
    let flags = ["--database-url", DATABASE, "--api-keys", KEY, "--token-secrets", TOKEN];
    let flags = flags.into_iter().chain(["--config", path.to_str().unwrap()]);
    let settings = load(&flags.collect::<Vec<_>>()).unwrap();
    assert_eq!(settings.hooks.keys().map(|it| &**it).collect::<Vec<_>>(), ["gigastore/relayed"]);
}

#[test]
fn secrets_of_a_hook_may_come_from_a_file() {
    let (_folder, path) = file(&format!("{HOOK}\n{OTHER}\n"));
    let secrets = r#"secrets = ["kx81vq02mz77ra40pw55"]"#;
    let from_file = format!("secrets_file = {:?}", path.to_str().unwrap());
    load_file(&SIGNED.replace(secrets, &from_file)).unwrap();
    let complaint = complaint(load_file(&SIGNED.replace(secrets, "secrets_file = '/nonexistent'")));
    assert!(complaint.contains("the file /nonexistent cannot be read"), "{complaint}");
}

#[test]
fn what_a_file_gets_wrong_is_named_with_its_line_and_without_its_secrets() {
    let cases = [
        // The correct text, what replaces it, the line, what the message must name, and the remedy.
        ("provider = \"gigastore\"", "provdier = \"gigastore\"", 4, "provdier", "provider"),
        ("provider = \"gigastore\"", "provider = \"gigastor\"", 2, "provider", "gigastore"),
        ("[\"kx81vq02mz77ra40pw55\"]", "[\"kx81vq02mz\"]", 2, "shorter than 16 bytes", "openssl"),
        ("[\"kx81vq02mz77ra40pw55\"]", "[\"change-me-change-me\"]", 2, "placeholder", "openssl"),
        ("[\"kx81vq02mz77ra40pw55\"]", "[]", 2, "no secret", "openssl"),
        ("[\"kx81vq02mz77ra40pw55\"]", "\"kx81vq02mz77ra40pw55\"", 5, "another type", "list"),
        ("\"gigastore/relayed\"", "\"relayed\"", 2, "path", "gigastore/esim-status"),
        ("\"gigastore/relayed\"", "\"Giga store/relayed\"", 2, "path", "gigastore/esim-status"),
        ("\"X-Signature\"", "\"X Signature\"", 2, "header", "X-Signature"),
        ("\"hex\"", "\"hexadecimal\"", 5, "does not fit", "base64"),
        ("hmac-sha256", "hmac", 5, "does not fit", "simlessly"),
        (
            "[\"kx81vq02mz77ra40pw55\"]",
            "[\"kx81vq02mz77ra40pw55\", 7]",
            5,
            "does not fit",
            "string",
        ),
        ("auth = {", "auth = \"kx81vq02mz77ra40pw55\" # {", 5, "does not fit", "expected"),
        ("[[hooks]]", "[[hook]]", 2, "hook", "hooks"),
        ("prefix", "prefixed", 5, "prefixed", "prefix"),
        ("\"gigastore\"\n", "\"gigastore\n", 4, "string", "expected"),
    ];
    for (old, new, line, wrong, remedy) in cases {
        let text = SIGNED.replace(old, new);
        assert_ne!(text, SIGNED, "{old}");
        let complaint = complaint(load_file(&text));
        for part in [&format!("line {line}"), wrong, remedy] {
            assert!(complaint.contains(part), "{new}: `{part}` is not in: {complaint}");
        }
        for secret in ["kx81vq02mz", "change-me"] {
            assert!(!complaint.contains(secret), "{new}: {complaint}");
        }
    }
}

#[test]
fn a_path_that_is_there_twice_is_named_with_the_line_of_the_second() {
    let complaint = complaint(load_file(&format!("{SIGNED}{SIGNED}")));
    assert!(complaint.contains("line 7"), "{complaint}");
    assert!(
        complaint.contains("two hooks have the path gigastore/relayed; keep one"),
        "{complaint}"
    );
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let complaint = complaint(load_with(&["--config", "/nonexistent/hooks.toml"]));
    assert!(complaint.contains("/nonexistent/hooks.toml cannot be read"), "{complaint}");
}

#[test]
fn a_spool_is_there_only_where_it_was_asked_for() {
    assert!(load_with(&[]).unwrap().spool.is_none());
    let spool = load_with(&["--spool-dir", "/var/spool/esim"]).unwrap().spool.unwrap();
    assert_eq!((spool.folder, spool.max_bytes), ("/var/spool/esim".into(), 1 << 30));
    let spool = load_with(&["--spool-dir=a", "--spool-max-mb=2"]).unwrap().spool.unwrap();
    assert_eq!(spool.max_bytes, 2 << 20);
}

#[test]
fn links_that_nobody_else_can_open_are_warned_of() {
    let warned = |flags: &[&str]| {
        let warnings = load_with(flags).unwrap().warnings();
        warnings.iter().any(|it| it.contains("ESIM_STATUS_PUBLIC_URL"))
    };
    assert!(warned(&["--listen", "0.0.0.0:8080"]) && warned(&["--listen", "[::]:8080"]));
    assert!(!warned(&[]) && !warned(&["--listen", "[::1]:8080"]));
    assert!(!warned(&["--listen", "0.0.0.0:8080", "--public-url", "https://esim.example.org"]));
}

#[test]
fn one_value_for_two_purposes_is_refused_and_hooks_may_share_theirs() {
    for (flags, names) in [
        (&["--api-keys", HOOK] as &[_], ["ESIM_STATUS_GIGASTORE_SECRETS", "ESIM_STATUS_API_KEYS"]),
        (&["--api-keys", TOKEN], ["ESIM_STATUS_API_KEYS", "ESIM_STATUS_TOKEN_SECRETS"]),
        (
            &["--token-secrets", HOOK],
            ["ESIM_STATUS_GIGASTORE_SECRETS", "ESIM_STATUS_TOKEN_SECRETS"],
        ),
    ] {
        let line: Vec<_> = [
            ("--database-url", DATABASE),
            ("--gigastore-secrets", HOOK),
            ("--api-keys", KEY),
            ("--token-secrets", TOKEN),
        ]
        .into_iter()
        .flat_map(|(name, value)| if name == flags[0] { [name, flags[1]] } else { [name, value] })
        .collect();
        let complaint = complaint(load(&line));
        assert!(names.iter().all(|name| complaint.contains(name)), "{complaint}");
        assert!(
            complaint.contains("share a value") && !complaint.contains(flags[1]),
            "{complaint}"
        );
    }
    let hook = |path: &str, secret: &str| {
        format!(
            "[[hooks]]\npath = \"gigastore/{path}\"\nprovider = \"gigastore\"\nauth = {{ kind = \"header\", header = \"x-s\", secrets = [\"{secret}\"] }}\n"
        )
    };
    let complaint = complaint(load_file(&hook("a", KEY)));
    assert!(complaint.contains("the hook gigastore/a and ESIM_STATUS_API_KEYS"), "{complaint}");
    assert!(load_file(&format!("{}{}", hook("a", HOOK), hook("b", HOOK))).is_ok());
    let standard = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (_folder, path) = self::file(&format!(
        "[[hooks]]\npath = \"gigastore/s\"\nprovider = \"gigastore\"\nauth = {{ kind = \"standard-webhooks\", secrets = [\"{standard}\"] }}\n"
    ));
    let flags = ["--database-url", DATABASE, "--api-keys", standard, "--token-secrets", TOKEN];
    let flags = flags.into_iter().chain(["--config", path.to_str().unwrap()]);
    let complaint = self::complaint(load(&flags.collect::<Vec<_>>()));
    assert!(complaint.contains("the hook gigastore/s and ESIM_STATUS_API_KEYS"), "{complaint}");
}

#[test]
fn a_file_with_what_is_no_secret_is_refused_with_the_line() {
    for (text, wanted) in [
        (format!("\u{feff}{KEY}\n"), "line 1: begins with a byte order mark"),
        (format!("{KEY}\n\n # the old one\n{TOKEN}\n"), "line 3: begins with #"),
    ] {
        let (_folder, path) = file(&text);
        let flags =
            ["--database-url", DATABASE, "--gigastore-secrets", HOOK, "--token-secrets", TOKEN];
        let flags = flags.into_iter().chain(["--api-keys-file", path.to_str().unwrap()]);
        let complaint = complaint(load(&flags.collect::<Vec<_>>()));
        assert!(complaint.contains(wanted), "{complaint}");
        assert!(!complaint.contains(KEY), "{complaint}");
    }
}

#[test]
fn api_keys_have_names_that_are_shown_and_values_that_a_header_carries() {
    let keys = |keys: &str| {
        let others =
            ["--database-url", DATABASE, "--gigastore-secrets", HOOK, "--token-secrets", TOKEN];
        load(&others.into_iter().chain(["--api-keys", keys]).collect::<Vec<_>>())
    };
    let settings =
        keys(&format!("shop:{KEY}, support-2 : c80d64f92b17e35a0f6b,77b1c0e4d2a95f386e01"))
            .unwrap();
    let names: Vec<_> = settings.access.api_keys.iter().map(|(_, it)| it.to_string()).collect();
    assert_eq!(names, ["shop", "support-2", "(no name)"]);
    for (wrong, wanted) in [
        ("77b1:c0e4d2a95f386e0177b1c0e4", "key number 1: the text before the colon is not a name"),
        ("a-name-that-is-much-longer-than-names:c0e4d2a95f386e0177b1c0e4", "is not a name"),
        ("a77b1c0e4d2a95f386e01:77b1c0e4d2a95f386e", "is not a name"),
        ("77b1c0e4d2a95f386e01ü", "a header cannot carry"),
    ] {
        let complaint = complaint(keys(wrong));
        assert!(complaint.contains(wanted), "{wrong}: {complaint}");
        assert!(!complaint.contains("c0e4d2"), "{complaint}");
    }
}

#[test]
fn an_api_key_may_be_used_for_its_scopes_and_without_any_for_everything() {
    let keys = |keys: &str| {
        let others =
            ["--database-url", DATABASE, "--gigastore-secrets", HOOK, "--token-secrets", TOKEN];
        load(&others.into_iter().chain(["--api-keys", keys]).collect::<Vec<_>>())
    };
    for (label, shown, scopes) in [
        ("shop:", "shop", [true, true, true]),
        ("", "(no name)", [true, true, true]),
        ("helpdesk[support]:", "helpdesk[support]", [false, false, true]),
        ("sync[read]:", "sync[read]", [true, false, false]),
        ("shop [ write ] :", "shop[write]", [true, true, false]),
        ("lead[read+support]:", "lead[read+support]", [true, false, true]),
        ("all[support+write+read]:", "all", [true, true, true]),
        ("a[b]c", "(no name)", [true, true, true]),
    ] {
        let settings = keys(&format!("{label}{KEY}")).unwrap();
        let (_, rights) = settings.access.api_keys.iter().next().unwrap();
        let allowed = [Scope::Read, Scope::Write, Scope::Support].map(|it| rights.include(it));
        assert_eq!((rights.to_string().as_str(), allowed), (shown, scopes), "{label}");
    }
    for label in ["shop[]:", "shop[admin]:", "shop[read,support]:", "shop[read:", "shop[read]x:"] {
        let complaint = complaint(keys(&format!("{label}{KEY}")));
        assert!(complaint.contains("helpdesk[read+support]:key"), "{label}: {complaint}");
        assert!(!complaint.contains(KEY), "{complaint}");
    }
    let complaint = complaint(keys(&format!("shop[support]{KEY}")));
    assert!(complaint.contains("followed by a colon") && !complaint.contains(KEY), "{complaint}");
}

#[test]
fn secrets_that_a_url_cuts_and_those_on_the_command_line_are_warned_of() {
    let warned =
        |settings: &Settings, of: &str| settings.warnings().iter().any(|it| it.contains(of));
    let with_hook = |hook: &str| {
        load(&[
            "--database-url",
            DATABASE,
            "--api-keys",
            KEY,
            "--token-secrets",
            TOKEN,
            "--gigastore-secrets",
            hook,
        ])
        .unwrap()
    };
    assert!(warned(&with_hook("kx81vq02?mz77ra40pw55"), "percent-encoded"));
    assert!(warned(&with_hook("kx81vq02mz77ra40pw55/"), "percent-encoded"));
    assert!(!warned(&with_hook("kx81vq02/mz77ra40+w55="), "percent-encoded"));

    let line = ["serve", "--api-keys", KEY, "--token-secrets", TOKEN];
    let matches = <Serve as clap::CommandFactory>::command().get_matches_from(line);
    let mut args = <Serve as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().args;
    args.note_values(&matches);
    assert_eq!(args.on_command_line, ["ESIM_STATUS_API_KEYS", "ESIM_STATUS_TOKEN_SECRETS"]);
}

#[test]
fn a_key_that_signs_evidence_is_the_base64_of_32_random_bytes_and_is_never_echoed() {
    let (good, equal) = (
        "csQ2yh4Nk0VDZ7seke8zkbjfH9f98ibdk1+WXW4doAQ=",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    );
    let ids = |settings: Settings| settings.evidence_keys.public().count();
    assert_eq!(ids(load_with(&[]).unwrap()), 0);
    assert_eq!(ids(load_with(&["--evidence-keys", good]).unwrap()), 1);
    let (_folder, path) = file(&format!("{good}\n\n{good}\n"));
    let path = path.to_str().unwrap();
    assert_eq!(ids(load_with(&["--evidence-keys-file", path]).unwrap()), 2);
    for bad in
        ["x5x9", &good[1..], equal, "not base64 at all", "m5x9EIPlF2GgNvWq6cLgXrBh0yTtZkAI,x"]
    {
        let complaint = complaint(load_with(&["--evidence-keys", bad]));
        assert!(
            complaint.starts_with("ESIM_STATUS_EVIDENCE_KEYS: ")
                && complaint.contains("openssl rand"),
            "{complaint}"
        );
        assert!(!complaint.contains(bad), "{complaint}");
    }
    let both = complaint(load_with(&["--evidence-keys", good, "--evidence-keys-file", path]));
    assert!(both.contains("both set"), "{both}");
    let shared = complaint(load_with(&["--evidence-keys", good, "--data-keys", good]));
    assert!(shared.contains("in common") && !shared.contains(good), "{shared}");
    let log = format!("{:?}", load_with(&["--evidence-keys", good]).unwrap());
    assert!(log.contains("SigningKeys(1 keys)") && !log.contains(good), "{log}");
}
