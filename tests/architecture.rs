//! The invariants of `docs/ARCHITECTURE.md` about where things may be: which module imports which, where a crate may be
//! used, where the clock is read.
//!
//! The tests read the source files as text, without comments and string literals, and compare them with the tables
//! below. The tables are the rule.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with the modules of ours that it may import. A module that is not here fails the test: say what it may import.
const ARROWS: [(&str, &[&str]); 25] = [
    ("domain", &[]),
    ("texts", &["domain"]),
    ("budget", &[]),
    ("clock", &["domain"]),
    ("delivery", &["domain"]),
    ("providers", &["delivery", "domain"]),
    ("store", &["budget", "domain"]),
    ("telemetry", &["domain"]),
    ("spool", &["delivery", "domain"]),
    ("hook", &["providers", "delivery"]),
    ("access", &["delivery", "domain"]),
    ("signing", &[]),
    (
        "ingest",
        &["budget", "store", "spool", "hook", "providers", "delivery", "domain", "telemetry"],
    ),
    ("registry", &["budget", "store", "spool", "domain", "telemetry"]),
    ("feed", &["store", "domain", "telemetry"]),
    (
        "config",
        &["access", "hook", "signing", "store", "providers", "delivery", "domain", "telemetry"],
    ),
    ("reread", &["delivery", "domain", "providers", "registry", "store"]),
    ("listener", &["budget", "telemetry"]),
    ("http_client", &["config", "domain"]),
    (
        "inquiry",
        &[
            "clock",
            "config",
            "domain",
            "http_client",
            "providers",
            "registry",
            "store",
            "telemetry",
        ],
    ),
    (
        "web",
        &[
            "access",
            "budget",
            "clock",
            "config",
            "delivery",
            "domain",
            "feed",
            "hook",
            "ingest",
            "providers",
            "registry",
            "signing",
            "spool",
            "store",
            "telemetry",
            "texts",
        ],
    ),
    (
        "outgoing",
        &[
            "budget",
            "clock",
            "delivery",
            "domain",
            "feed",
            "http_client",
            "store",
            "telemetry",
            "web",
        ],
    ),
    (
        "service",
        &[
            "budget",
            "clock",
            "config",
            "domain",
            "feed",
            "ingest",
            "inquiry",
            "listener",
            "outgoing",
            "providers",
            "registry",
            "reread",
            "spool",
            "store",
            "telemetry",
            "web",
        ],
    ),
    (
        "commands",
        &[
            "access",
            "budget",
            "clock",
            "config",
            "delivery",
            "domain",
            "hook",
            "http_client",
            "inquiry",
            "listener",
            "providers",
            "registry",
            "reread",
            "service",
            "signing",
            "store",
            "telemetry",
            "web",
        ],
    ),
    ("cli", &["commands", "config", "telemetry"]),
];

/// Words that may be used only in files whose paths begin with one of these prefixes.
const ONLY_IN: [(&str, &[&str]); 13] = [
    ("axum", &["web/", "listener/"]),
    ("tower_http", &["web/"]),
    ("hyper", &["listener/"]),
    ("hyper_util", &["listener/"]),
    (
        "sqlx",
        &[
            "store/",
            "spool/",
            "ingest/",
            "inquiry/",
            "outgoing/",
            "registry/",
            "reread/",
            "feed",
            "web/state.rs",
            "config/",
            "service/",
            "commands/",
        ],
    ),
    ("anyhow", &["commands/", "main.rs"]),
    ("ring", &["signing.rs", "http_client.rs"]),
    ("reqwest", &["commands/", "http_client.rs", "inquiry/", "outgoing/", "telemetry/otlp/"]),
    ("opentelemetry", &["telemetry/"]),
    ("opentelemetry_http", &["telemetry/"]),
    ("opentelemetry_otlp", &["telemetry/"]),
    ("opentelemetry_sdk", &["telemetry/"]),
    ("clap", &["cli.rs", "commands/", "config/", "telemetry/", "main.rs"]),
];

/// Words that must not be used in files whose paths begin with one of these prefixes.
const NEVER_IN: [(&str, &[&str]); 3] = [
    ("tokio", &["domain/", "delivery/", "providers/"]),
    ("async", &["domain/", "delivery/", "providers/"]),
    ("tracing", &["domain/", "delivery/", "providers/"]),
];

/// Code that may occur only in files whose paths begin with one of these prefixes.
const TEXT_ONLY_IN: [(&str, &[&str]); 13] = [
    ("AuthenticDelivery::restored(", &["spool/", "reread/"]),
    ("now_utc(", &["clock.rs"]),
    ("SystemTime::now", &["clock.rs"]),
    ("now_v7(", &[]),
    ("eprintln!(", &["main.rs"]),
    ("eprint!(", &[]),
    ("#[allow", &[]),
    ("#![allow", &[]),
    ("#[ignore", &[]),
    ("sqlx::query!(", &["store/"]),
    ("sqlx::query_as!(", &["store/"]),
    ("sqlx::query_scalar!(", &["store/"]),
    ("query_unchecked!", &[]),
];

/// Exceptions to [`ONLY_IN`], each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 3] = [
    ("web/journey.rs", "sqlx", "takes a connection, to read more than one table over it"),
    ("web/problem.rs", "sqlx", "an error of the pool becomes a problem"),
    ("web/health.rs", "sqlx", "readiness asks the database itself"),
];

/// The max number of lines of a file, without its tests.
const LONGEST: usize = 400;

/// A source file: its whole text, and its code without comments, string literals and tests.
struct Source {
    /// The path below `src`.
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code(text) }
    }

    /// `domain` for `domain/profile/mod.rs`, `service` for `service.rs`.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The modules that enclose this file, outermost first.
    fn place(&self) -> Vec<&str> {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let mut place: Vec<_> = path.split('/').collect();
        if place.last().is_some_and(|last| ["mod", "lib", "main"].contains(last)) {
            place.pop();
        }
        place
    }

    /// The files that this file declares as test modules.
    fn files_of_tests(&self) -> impl Iterator<Item = String> {
        let folder = self.place().into_iter().fold(String::new(), |path, part| path + part + "/");
        let declared = self.text.split("#[cfg(test)]\nmod ").skip(1);
        let names = declared.filter_map(|rest| rest.split_whitespace().next());
        names
            .filter_map(|name| name.strip_suffix(';'))
            .map(move |name| format!("{folder}{name}.rs"))
    }

    /// The modules of this crate that this file names with `crate::` or `super::`, in `use` or anywhere else.
    fn imports(&self) -> BTreeSet<String> {
        let tokens = tokens(&self.code);
        let mut imports = BTreeSet::new();
        for (index, token) in tokens.iter().enumerate() {
            // `pub(crate)` and `$crate` do not begin a path, and the second `super` of two continues one.
            let begins = tokens.get(index + 1) == Some(&"::")
                && (index == 0 || !["::", "$"].contains(&tokens[index - 1]));
            if !begins {
                continue;
            }
            match *token {
                "crate" => first_segments(&tokens[index + 2..], &mut imports),
                "super" => {
                    let ups = tokens[index..].chunks(2).take_while(|it| it == &["super", "::"]);
                    let ups = ups.count();
                    // `super` reaches a top-level module only if there are enough of them to leave this file's module.
                    if ups >= self.place().len() {
                        first_segments(&tokens[index + 2 * ups..], &mut imports);
                    }
                }
                _ => {}
            }
        }
        imports.remove(self.module());
        imports
    }

    fn uses(&self, word: &str) -> bool {
        tokens(&self.code).contains(&word)
    }
}

/// The first segment of a path, or of each path of a group.
fn first_segments(tokens: &[&str], into: &mut BTreeSet<String>) {
    if tokens.first() != Some(&"{") {
        into.extend(tokens.first().map(|&name| name.to_owned()));
        return;
    }
    let (mut depth, mut at_start) = (0, false);
    for token in tokens {
        match *token {
            "{" => {
                depth += 1;
                at_start = depth == 1;
            }
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            "," => at_start = depth == 1,
            name if at_start => {
                into.insert(name.to_owned());
                at_start = false;
            }
            _ => {}
        }
    }
}

/// Splits code into words, `::`, and single characters.
fn tokens(code: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// Returns the text without comments, string literals, and test modules.
fn code(text: &str) -> String {
    let text = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(before, _)| before);
    let text = text.split_once("#[cfg(test)]\npub(").map_or(text, |(before, _)| before);
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"', '\'', 'r']) {
        let (before, from) = rest.split_at(at);
        code.push_str(before);
        let begins_a_word = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hashes = from[1..].bytes().take_while(|&b| b == b'#').count();
        let raw = from.starts_with('r') && begins_a_word && from[1 + hashes..].starts_with('"');
        let length = if from.starts_with("//") {
            from.find('\n').unwrap_or(from.len())
        } else if from.starts_with("/*") {
            from.find("*/").map_or(from.len(), |end| end + 2)
        } else if raw {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            from[begin..].find(&end).map_or(from.len(), |at| begin + at + end.len())
        } else if from.starts_with('"') {
            quoted(from)
        } else if from.starts_with("'\"'") {
            3
        } else if let Some(after) = from.strip_prefix("'\\") {
            after[1..].find('\'').map_or(from.len(), |at| at + 4)
        } else {
            code.push_str(&from[..1]);
            rest = &from[1..];
            continue;
        };
        code.push(' ');
        rest = &from[length..];
    }
    code + rest
}

/// The length of a string literal, including its quotes.
fn quoted(from: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in from.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    from.len()
}

/// Every source file of the service, except files of tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&root, &mut files);
    assert!(files.len() > 40, "some files were not found: {files:?}");
    let source = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        Source::new(&file.strip_prefix(&root).unwrap().to_string_lossy(), &text)
    };
    let sources: Vec<_> = files.into_iter().map(source).collect();
    let tests: BTreeSet<_> = sources.iter().flat_map(Source::files_of_tests).collect();
    assert!(tests.contains("delivery/oracle.rs"), "files of tests are not found: {tests:?}");
    sources.into_iter().filter(|source| !tests.contains(&source.path)).collect()
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The files of ours that each file names by a path, `mod.rs` standing for its folder. What a parent declares or hands out is no
/// arrow: only names of other files count.
fn references(source: &Source, modules: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let tokens = tokens(&source.code);
    let place: Vec<String> = source.place().into_iter().map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let begins = tokens.get(index + 1) == Some(&"::")
            && (index == 0 || !["::", "$"].contains(&tokens[index - 1]));
        if !begins {
            continue;
        }
        let (base, rest) = match *token {
            "crate" => (Vec::new(), &tokens[index + 2..]),
            "self" => (place.clone(), &tokens[index + 2..]),
            "super" => {
                let ups = tokens[index..].chunks(2).take_while(|it| it == &["super", "::"]).count();
                let Some(kept) = place.len().checked_sub(ups) else { continue };
                (place[..kept].to_vec(), &tokens[index + 2 * ups..])
            }
            // A path may also begin with the name of a child.
            name => {
                let child: Vec<_> = place.iter().cloned().chain([name.to_owned()]).collect();
                if !modules.contains(&child) {
                    continue;
                }
                (place.clone(), &tokens[index..])
            }
        };
        for path in paths(rest) {
            let whole: Vec<_> = base.iter().cloned().chain(path).collect();
            // The longest beginning that is a file.
            let file =
                (1..=whole.len()).rev().map(|n| &whole[..n]).find(|it| modules.contains(*it));
            found.extend(file.map(<[String]>::to_vec));
        }
    }
    found.remove(&place);
    found
}

/// The paths of a `use` tree, or the one path that begins here.
fn paths(tokens: &[&str]) -> Vec<Vec<String>> {
    let mut path = Vec::new();
    let mut index = 0;
    while let Some(&token) = tokens.get(index) {
        match token {
            "{" => {
                let (mut all, mut depth, mut begin) = (Vec::new(), 0, index + 1);
                for (at, &inner) in tokens.iter().enumerate().skip(index) {
                    match inner {
                        "{" => depth += 1,
                        "}" if depth == 1 => {
                            all.extend(paths(&tokens[begin..at]));
                            break;
                        }
                        "}" => depth -= 1,
                        "," if depth == 1 => {
                            all.extend(paths(&tokens[begin..at]));
                            begin = at + 1;
                        }
                        _ => {}
                    }
                }
                let with_front = |rest: Vec<String>| path.iter().cloned().chain(rest).collect();
                return all.into_iter().map(with_front).collect();
            }
            "::" => {}
            name if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                // Two words in a row: the path has ended.
                if index > 0 && tokens[index - 1] != "::" {
                    break;
                }
                path.push(name.to_owned());
            }
            _ => break,
        }
        index += 1;
    }
    vec![path]
}

/// Files that lead back to themselves, each circle once. A file and the folder that it is in are one neighbourhood: a child may
/// use what its parent defines, so arrows to an ancestor do not count.
fn circles(sources: &[Source]) -> Vec<String> {
    let own = |source: &Source| source.place().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(own).collect();
    let arrows: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = sources
        .iter()
        .map(|source| {
            let from = own(source);
            let to = references(source, &modules).into_iter();
            (from.clone(), to.filter(|it| !from.starts_with(it)).collect())
        })
        .collect();
    let mut circles = BTreeSet::new();
    for start in arrows.keys() {
        let (mut seen, mut work) = (BTreeSet::new(), vec![vec![start.clone()]]);
        while let Some(way) = work.pop() {
            for next in way.last().and_then(|last| arrows.get(last)).into_iter().flatten() {
                if next == start {
                    // Each circle is reported once, from its first file.
                    if way.iter().min() == Some(start) {
                        let names: Vec<_> = way.iter().map(|it| it.join("/")).collect();
                        circles.insert(names.join(" → "));
                    }
                } else if seen.insert(next.clone()) {
                    work.push(way.iter().cloned().chain([next.clone()]).collect());
                }
            }
        }
    }
    circles.into_iter().collect()
}

/// What is wrong in these files.
fn wrong_arrows(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|it| !["lib.rs", "main.rs"].contains(&&*it.path)) {
        let Some((_, may)) = ARROWS.iter().find(|(module, _)| *module == source.module()) else {
            wrong.push(format!(
                "{}: ARROWS does not say what {} may import",
                source.path,
                source.module()
            ));
            continue;
        };
        let bad = source.imports().into_iter().filter(|name| !may.contains(&&**name));
        wrong.extend(bad.map(|name| format!("{} imports {name}", source.path)));
    }
    wrong
}

fn misplaced_words(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        let path = source.path.as_str();
        let below = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        for (word, places) in ONLY_IN {
            let excepted = EXCEPTIONS.iter().any(|(file, it, _)| (*file, *it) == (path, word));
            if source.uses(word) && !below(places) && !excepted {
                wrong.push(format!("{path} uses {word}"));
            }
        }
        for (word, places) in NEVER_IN {
            if source.uses(word) && below(places) {
                wrong.push(format!("{path} uses {word}"));
            }
        }
    }
    wrong
}

fn misplaced_texts(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for (text, places) in TEXT_ONLY_IN {
            let below = places.iter().any(|prefix| source.path.starts_with(prefix));
            if source.code.contains(text) && !below {
                wrong.push(format!("{} has `{text}`", source.path));
            }
        }
    }
    wrong
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn modules_import_only_what_they_may() {
    assert_none(&wrong_arrows(&sources()));
}

#[test]
fn no_file_leads_back_to_itself() {
    assert_none(&circles(&sources()));
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let two = |first: &str, second: &str| {
        circles(&[Source::new("a/one.rs", first), Source::new("a/two.rs", second)])
    };
    for back in [
        "use super::one::Thing;",
        "use super::{one};",
        "use crate::a::{one::Thing, other};",
        "fn f() { crate::a::one::thing() }",
    ] {
        assert_eq!(two("use super::two::Thing;", back), ["a/one → a/two"], "{back}");
    }
    assert_eq!(two("use super::two::Thing;", "use super::Thing;"), [""; 0]);
    assert_eq!(two("use super::two::Thing;", "// use super::one::Thing;"), [""; 0]);
}

#[test]
fn crates_are_used_only_where_they_may_be() {
    assert_none(&misplaced_words(&sources()));
}

#[test]
fn the_clock_is_read_in_one_place_and_no_lint_or_test_is_silenced() {
    assert_none(&misplaced_texts(&sources()));
}

#[test]
fn the_exceptions_are_still_needed() {
    let sources = sources();
    for (path, word, _) in EXCEPTIONS {
        let source = sources.iter().find(|source| source.path == path);
        assert!(
            source.is_some_and(|source| source.uses(word)),
            "{path} does not use {word}, so this exception can go"
        );
    }
}

#[test]
fn every_file_begins_with_a_module_comment() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    assert_none(
        &silent.map(|source| format!("{} begins without //!", source.path)).collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_is_long() {
    let long = sources().into_iter().filter_map(|source| {
        let lines = source.text.split("#[cfg(test)]\nmod tests {").next()?;
        let lines = lines.split("#[cfg(test)]\npub(").next()?.lines().count();
        (lines > LONGEST).then(|| format!("{} has {lines} lines", source.path))
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn a_module_is_a_folder_or_a_file_and_never_both() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let both = sources().into_iter().filter(|it| root.join(&it.path).with_extension("").is_dir());
    assert_none(
        &both.map(|source| format!("{} beside its folder", source.path)).collect::<Vec<_>>(),
    );
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for text in [
        "use crate::store::Thing;",
        "use crate::{domain::Iccid, store};",
        "use crate::{\n    domain::{Eid, Iccid},\n    store::{self, profiles},\n};",
        "use super::super::store::Thing;",
        "use super::super::{store::Thing};",
        "fn f() -> crate::store::Thing { todo() }",
        "fn f() { let c = 'r'; let s = \"// \\\"\"; crate :: store :: thing() }",
        "pub use crate::store as other;",
        "fn f() { g::<crate::store::Thing>(r#\"\"\"#) }",
    ] {
        let source = Source::new("delivery/secret.rs", text);
        assert_eq!(wrong_arrows(&[source]), ["delivery/secret.rs imports store"], "{text}");
    }
    let source = Source::new("delivery/mod.rs", "use super::store::Thing;");
    assert_eq!(wrong_arrows(&[source]), ["delivery/mod.rs imports store"]);
    let source = Source::new("helpers/mod.rs", "");
    assert_eq!(wrong_arrows(&[source]).len(), 1);
}

#[test]
fn text_that_is_not_an_import_is_not_reported() {
    for text in [
        "use super::store::Thing;",
        "//! See [`crate::store`].\nuse crate::domain::Iccid;",
        "/* use crate::store; */ pub(crate) fn f() {}",
        "const TEXT: &str = \"use crate::store;\";",
        "const TEXT: &str = r#\"\"crate::store\"\"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::store;\n}",
        "use crate::delivery::{secret, store};",
    ] {
        let source = Source::new("delivery/secret.rs", text);
        assert_eq!(wrong_arrows(&[source]), [""; 0], "{text}");
    }
}

#[test]
fn a_misplaced_word_is_found() {
    let source = |path, text| [Source::new(path, text)];
    assert_eq!(misplaced_words(&source("ingest/mod.rs", "use axum::Router;")).len(), 1);
    assert_eq!(misplaced_words(&source("domain/state.rs", "async fn f() {}")).len(), 1);
    assert_eq!(misplaced_words(&source("providers/mod.rs", "tokio::spawn(f)")).len(), 1);
    assert_eq!(misplaced_words(&source("web/mod.rs", "use axum::Router; // sqlx")).len(), 0);
    for text in ["#[allow(dead_code)]", "SystemTime::now()", "sqlx::query!(\"\")", "#[ignore]"] {
        assert_eq!(misplaced_texts(&source("ingest/mod.rs", text)).len(), 1, "{text}");
    }
}
