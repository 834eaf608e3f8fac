//! A TOML file of settings. What is wrong in it is named with its line, and its values are never echoed: they may be secrets.

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;

/// A file that was read.
pub(super) struct TomlFile {
    name: String,
    text: String,
}

impl TomlFile {
    /// Reads the file that a setting names.
    ///
    /// # Errors
    /// Names the setting and the file.
    pub(super) fn read(setting: &str, path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{setting}: the file {name} cannot be read: {error}"))?;
        Ok(Self { name, text })
    }

    /// Parses the whole file.
    ///
    /// # Errors
    /// Says what is wrong, and in which line. The error's own `Display` would quote the line.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        toml::from_str(&self.text).map_err(|error| {
            format!("{}: {}", self.place(error.span()), without_value(error.message()))
        })
    }

    /// The file and the line where this begins.
    pub(super) fn place(&self, span: Option<Range<usize>>) -> String {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        format!("{}, line {}", self.name, before.matches('\n').count() + 1)
    }
}

/// Removes the value that serde's message quotes as unexpected: it may be a secret.
fn without_value(message: &str) -> String {
    let shows = ["invalid type", "invalid value", "unknown variant"];
    let shows = shows.iter().any(|kind| message.starts_with(kind));
    match message.rsplit_once(", expected ") {
        Some((_, "a sequence")) if shows => {
            "a value of another type than expected; write a list, such as [\"…\"]".to_owned()
        }
        Some((_, wanted)) if shows => format!("a value that does not fit; expected {wanted}"),
        _ => message.to_owned(),
    }
}
