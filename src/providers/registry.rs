//! The providers that a service understands: those with an adapter in code, and the declared ones.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use toml::Spanned;

use super::declared::{Declaration, Declared, Flaw};
use super::{EsimAccess, EsimGo, Gigastore, Provider, Simlessly};

/// The providers with an adapter in code.
static IN_CODE: [&dyn Provider; 4] = [&Gigastore, &EsimAccess, &EsimGo, &Simlessly];

/// The declarations that this binary has built in, each with the name of its file.
const BUILT_IN: [(&str, &str); 1] =
    [("providers/roamify.toml", include_str!("../../providers/roamify.toml"))];

/// The providers that a service understands. Cheap to clone.
#[derive(Clone, Default)]
pub struct Providers {
    declared: BTreeMap<&'static str, &'static Declared>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    providers: Vec<Spanned<Declaration>>,
}

/// The slug belongs to an adapter in code, which no declaration replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the provider {0} has an adapter in code, which a declaration cannot replace: choose another slug"
)]
pub struct InCode(&'static str);

impl Providers {
    /// Those that this binary has built in.
    ///
    /// # Errors
    /// Which built-in declaration is wrong, or has a sample that does not hold. The tests find that first.
    pub fn built_in() -> Result<Self, String> {
        let mut providers = Self::default();
        for (name, text) in BUILT_IN {
            let file: File = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
            for declaration in file.providers {
                let declared = declaration.into_inner().check();
                let declared = declared.map_err(|Flaw { at, why }| {
                    let before = text.get(..at.unwrap_or_default().start).unwrap_or_default();
                    format!("{name}, line {}: {why}", before.matches('\n').count() + 1)
                })?;
                providers.declare(declared).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(providers)
    }

    /// Adds a declared provider. It replaces an earlier one with the same slug.
    ///
    /// # Errors
    /// [`InCode`] if the slug is that of an adapter in code.
    pub fn declare(&mut self, declared: Declared) -> Result<(), InCode> {
        let slug = declared.slug();
        if IN_CODE.iter().any(|provider| provider.slug() == slug) {
            return Err(InCode(slug));
        }
        // Hooks and waiting deliveries use it for as long as the process lives, and it is made once, at the start.
        self.declared.insert(slug, Box::leak(Box::new(declared)));
        Ok(())
    }

    /// Finds a provider by its slug.
    pub fn find(&self, slug: &str) -> Option<&'static dyn Provider> {
        self.all().find(|provider| provider.slug() == slug)
    }

    /// The slugs of all providers, for messages.
    pub fn slugs(&self) -> Vec<&'static str> {
        self.all().map(Provider::slug).collect()
    }

    /// Every provider.
    pub fn all(&self) -> impl Iterator<Item = &'static dyn Provider> {
        let declared = self.declared.values().map(|provider| *provider as &dyn Provider);
        IN_CODE.into_iter().chain(declared)
    }

    /// The declared ones.
    pub fn declared(&self) -> impl Iterator<Item = &'static Declared> {
        self.declared.values().copied()
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Providers({})", self.slugs().join(", "))
    }
}
