//! The providers: the built-in ones, and those that the operator declares in TOML files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::args::ServeArgs;
use super::toml_file::TomlFile;
use crate::providers::{Declaration, Flaw, Provider, Providers};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    providers: Vec<Spanned<Declaration>>,
    #[serde(default, rename = "hooks")]
    _hooks: IgnoredAny,
}

/// Where each provider of the operator is declared, by its slug.
type Places = HashMap<&'static str, String>;

/// The providers of these settings. A declaration with the slug of a built-in one replaces it.
///
/// # Errors
/// Names the file, the line, and what to do. A sample that does not hold is an error.
pub fn providers(args: &ServeArgs) -> Result<Providers, String> {
    let mut providers = Providers::built_in()?;
    let mut places = Places::new();
    if let Some(path) = &args.config {
        let file = TomlFile::read("ESIM_STATUS_CONFIG", path)?;
        declare(&file, &mut providers, &mut places)?;
    }
    if let Some(folder) = &args.providers_dir {
        for path in declarations(folder)? {
            let file = TomlFile::read("ESIM_STATUS_PROVIDERS_DIR", &path)?;
            declare(&file, &mut providers, &mut places)?;
        }
    }
    Ok(providers)
}

fn declare(file: &TomlFile, providers: &mut Providers, places: &mut Places) -> Result<(), String> {
    for declaration in file.parse::<File>()?.providers {
        let whole = declaration.span();
        let declared = declaration.into_inner().check().map_err(|Flaw { at, why }| {
            format!("{}: {why}", file.place(Some(at.unwrap_or(whole.clone()))))
        })?;
        let (slug, place) = (declared.slug(), file.place(Some(whole)));
        if let Some(other) = places.get(slug) {
            return Err(format!(
                "{place}: the provider {slug} is declared at {other} too; keep one"
            ));
        }
        providers.declare(declared).map_err(|error| format!("{place}: {error}"))?;
        places.insert(slug, place);
    }
    Ok(())
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
