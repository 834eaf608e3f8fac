//! Which build this is.

use std::sync::LazyLock;

use metrics::{describe_gauge, gauge};

const INFO: &str = "esim_status_build_info";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, if the environment of the build had it. The build asks no git: images are built without its folder, and every commit
/// would rebuild the crate.
const COMMIT: &str = match option_env!("GIT_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// The version, and the commit if it is known.
pub fn version() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| line(COMMIT));
    &LINE
}

fn line(commit: &str) -> String {
    if commit.is_empty() { VERSION.to_owned() } else { format!("{VERSION} ({commit})") }
}

/// Creates the series that tells version and commit.
pub fn begin_build_info() {
    describe_gauge!(INFO, "Always 1, with the version and, if the build was given it, the commit");
    gauge!(INFO, "version" => VERSION, "commit" => COMMIT).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::{VERSION, line};

    #[test]
    fn the_line_has_a_commit_only_if_it_is_known() {
        assert_eq!(line(""), VERSION);
        assert_eq!(line("1eebf8d"), format!("{VERSION} (1eebf8d)"));
    }
}
