//! The providers: the built-in ones, and those that the operator declares in TOML files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::args::ServeArgs;
use super::toml_file::TomlFile;
use crate::providers::{Declaration, Draft, Flaw, Providers};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    providers: Vec<Spanned<Declaration>>,
    #[serde(default, rename = "hooks")]
    _hooks: IgnoredAny,
    #[serde(default, rename = "endpoints")]
    _endpoints: IgnoredAny,
}

/// A provider that the operator declares.
#[derive(Debug)]
pub struct OwnProvider {
    /// The declaration.
    pub draft: Draft,
    /// Where it is.
    place: String,
    /// The sample that does not hold, with its file and line.
    pub flaw: Option<String>,
}

/// The providers of these settings. A declaration with the slug of a built-in one replaces it.
///
/// # Errors
/// Names the file, the line, and what to do. A sample that does not hold is an error.
pub fn providers(args: &ServeArgs) -> Result<Providers, String> {
    let mut providers = Providers::built_in()?;
    for OwnProvider { draft, place, flaw } in own_providers(args)? {
        let declared = draft.finish().map_err(|error| flaw.unwrap_or(error.why))?;
        providers.declare(declared).map_err(|error| format!("{place}: {error}"))?;
    }
    Ok(providers)
}

/// The providers that the operator declares. Their samples need not hold yet.
///
/// # Errors
/// Names the file, the line, and what to do.
pub fn own_providers(args: &ServeArgs) -> Result<Vec<OwnProvider>, String> {
    let mut files = Vec::new();
    if let Some(path) = &args.config {
        files.push(TomlFile::read("ESIM_STATUS_CONFIG", path)?);
    }
    if let Some(folder) = &args.providers_dir {
        for path in declarations(folder)? {
            files.push(TomlFile::read("ESIM_STATUS_PROVIDERS_DIR", &path)?);
        }
    }
    let mut own: Vec<OwnProvider> = Vec::new();
    for file in files {
        for declaration in file.parse::<File>()?.providers {
            let whole = declaration.span();
            let place = file.place(Some(whole.clone()));
            let say = |Flaw { at, why }: &Flaw| {
                format!("{}: {why}", file.place(Some(at.clone().unwrap_or(whole.clone()))))
            };
            let draft = declaration.into_inner().draft().map_err(|flaw| say(&flaw))?;
            if let Some(other) = own.iter().find(|other| other.draft.slug() == draft.slug()) {
                return Err(format!(
                    "{place}: the provider {} is declared at {} too; keep one",
                    draft.slug(),
                    other.place
                ));
            }
            let flaw = draft.flaw().map(say);
            own.push(OwnProvider { draft, place, flaw });
        }
    }
    Ok(own)
}

/// The TOML files of a folder, in the order of their names.
fn declarations(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| {
        let folder = folder.display();
        format!("ESIM_STATUS_PROVIDERS_DIR: the folder {folder} cannot be read: {error}")
    };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Result<Vec<_>, _> = paths.collect();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}
