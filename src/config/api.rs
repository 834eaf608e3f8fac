//! How to reach a provider's API.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;
use url::Url;

use super::is_this_machine;
use super::secrets::read_lines;

/// The API of Gigastore, which is asked about profiles of which a webhook may have been lost.
#[derive(Clone, Args)]
pub struct ApiArgs {
    /// User name of Gigastore's API, which is asked where a webhook may have been lost; without it nothing is asked
    #[arg(
        id = "gigastore_api_user",
        long = "gigastore-api-user",
        env = "ESIM_STATUS_GIGASTORE_API_USER",
        value_name = "NAME"
    )]
    user: Option<String>,

    /// Password of Gigastore's API
    #[arg(
        id = "gigastore_api_password",
        long = "gigastore-api-password",
        env = "ESIM_STATUS_GIGASTORE_API_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    password: Option<String>,

    /// A file with the same, in one line
    #[arg(
        id = "gigastore_api_password_file",
        long = "gigastore-api-password-file",
        env = "ESIM_STATUS_GIGASTORE_API_PASSWORD_FILE",
        value_name = "FILE"
    )]
    password_file: Option<PathBuf>,

    /// Where Gigastore's API is
    #[arg(
        id = "gigastore_api_url",
        long = "gigastore-api-url",
        env = "ESIM_STATUS_GIGASTORE_API_URL",
        default_value = "https://api.giga.store",
        value_name = "URL"
    )]
    url: Url,

    /// Max calls a minute to Gigastore's API by all replicas together, 1 to 6000
    #[arg(
        id = "gigastore_api_calls_a_minute", long = "gigastore-api-calls-a-minute", env = "ESIM_STATUS_GIGASTORE_API_CALLS_A_MINUTE", default_value_t = 30, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=6_000)
    )]
    calls_a_minute: u32,
}

/// The values may be secrets.
impl std::fmt::Debug for ApiArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiArgs(…)")
    }
}

/// How to reach a provider's API.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// Where it is.
    pub url: Url,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: SecretString,
    /// The max number of calls in a minute.
    pub calls_a_minute: u32,
}

impl ApiArgs {
    /// How to reach the API; `None` if nothing says so.
    ///
    /// # Errors
    /// Says what is missing or unsafe.
    pub fn settings(&self) -> Result<Option<ApiSettings>, String> {
        let name = "ESIM_STATUS_GIGASTORE_API_PASSWORD";
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                return Err(format!("{name} and {name}_FILE are both set: keep one of them"));
            }
            (Some(password), None) => Some(password.clone()),
            (None, Some(file)) => match <[String; 1]>::try_from(read_lines(name, file)?) {
                Ok([password]) => Some(password),
                Err(lines) => {
                    return Err(format!("{name}_FILE has {} lines: it must have one", lines.len()));
                }
            },
            (None, None) => None,
        };
        let url = &self.url;
        match (&self.user, password) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(format!(
                "{name} is missing: set it to the password of ESIM_STATUS_GIGASTORE_API_USER, or remove both"
            )),
            (None, Some(_)) => Err(format!(
                "ESIM_STATUS_GIGASTORE_API_USER is missing: set it to the name that {name} belongs to, or remove both"
            )),
            _ if url.scheme() != "https" && !is_this_machine(url) => Err(
                "ESIM_STATUS_GIGASTORE_API_URL must begin with https://: the password is sent to it".to_owned(),
            ),
            (Some(user), Some(password)) => Ok(Some(ApiSettings {
                url: url.clone(),
                user: user.clone(),
                password: password.into(),
                calls_a_minute: self.calls_a_minute,
            })),
        }
    }
}
