//! A configured hook: a path below `/webhooks/`, the provider that delivers there, and how its sender is authenticated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::delivery::{AuthenticDelivery, Authenticator};
use crate::providers::{Malformed, Provider, Reading};

/// One configured hook.
pub struct Hook {
    /// The path below `/webhooks/`, such as `gigastore/esim-status`.
    pub path: Arc<str>,
    /// The provider that delivers there.
    pub provider: &'static dyn Provider,
    /// How a sender is authenticated.
    pub authenticator: Arc<Authenticator>,
    /// Whether a portal's test of the URL ([`Provider::is_test`]) is answered 200, and stored as `ignored`. Otherwise it
    /// is malformed: from a provider, such a body is a fault.
    pub takes_tests: bool,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (provider, scheme) = (self.provider.slug(), self.authenticator.scheme_name());
        write!(f, "Hook({} of {provider} by {scheme})", self.path)
    }
}

impl Hook {
    /// Reads what the hook's provider has delivered.
    ///
    /// # Errors
    /// [`Malformed`], whose reason contains no identifier.
    pub fn read(&self, delivery: &AuthenticDelivery) -> Result<Reading, Malformed> {
        match self.provider.parse(delivery) {
            Err(_) if self.takes_tests && self.provider.is_test(delivery) => {
                Ok(Reading::ignored(None, "a portal's try of the URL"))
            }
            parsed => parsed,
        }
    }
}

/// Every hook by its path.
pub type Hooks = BTreeMap<Arc<str>, Arc<Hook>>;
