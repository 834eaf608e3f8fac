//! `DATABASE_URL`, with several hosts as in libpq: for each host we make a URL that sqlx can read.

use std::fs::File;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::Target;

/// Parameters that sqlx honours.
const HONOURED: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "dbname",
    "user",
    "password",
    "options",
    // Defaults of other clients, which have no effect here.
    "fallback_application_name",
    "gssencmode",
];

/// Parameters that are ignored, with the reason or an alternative.
const NOT_HONOURED: [(&str, &str); 13] = [
    ("application_name", "each connection is named after its purpose"),
    ("channel_binding", "sslmode=verify-full prevents a man in the middle"),
    ("keepalives", KEEPALIVES),
    ("keepalives_idle", KEEPALIVES),
    ("keepalives_interval", KEEPALIVES),
    ("keepalives_count", KEEPALIVES),
    ("tcp_user_timeout", KEEPALIVES),
    ("load_balance_hosts", "the host that last worked is tried first"),
    ("client_encoding", "it is always UTF8"),
    ("sslcrl", "certificate revocation is not checked"),
    ("sslnegotiation", "TLS is negotiated by SSLRequest, which every server understands"),
    (
        "require_auth",
        "the server chooses the authentication method; sslmode=verify-full makes sure that it is the right server",
    ),
    ("passfile", "the file is the one that PGPASSFILE names, or ~/.pgpass"),
];

/// The parameter names for the file of trusted CAs.
const ROOTS: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// The value that stands for the public CAs.
const SYSTEM: &str = "system";

const KEEPALIVES: &str = "the service itself pings idle connections";

/// What is wrong with a `DATABASE_URL`. The URL itself is never shown, because it contains a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It cannot be parsed.
    #[error(
        "DATABASE_URL is not a Postgres URL: write it as postgres://user:password@host/database; percent-encode special characters in the password, such as %2F for /"
    )]
    Malformed,
    /// A port is invalid, or the number of ports differs from that of hosts.
    #[error(
        "DATABASE_URL: give each host its port, such as host1:5432,host2:5432, or set one port for all with ?port=5432"
    )]
    Ports,
    /// It asks for a kind of server that the service cannot use, or that does not exist.
    #[error(
        "DATABASE_URL: target_session_attrs={0} is not supported, because the service must write: use read-write, primary or any"
    )]
    Target(String),
    /// `connect_timeout` is not a number of seconds.
    #[error("DATABASE_URL: connect_timeout must be a number of seconds, such as 5")]
    Timeout,
    /// A file that it names cannot be read.
    #[error("DATABASE_URL: the file that {parameter} names cannot be read: {path}: {why}")]
    File {
        /// The parameter.
        parameter: &'static str,
        /// The file.
        path: String,
        /// The system's error.
        why: String,
    },
    /// The value of a parameter is invalid.
    #[error("DATABASE_URL: a parameter has an invalid value: {0}")]
    Parameter(String),
}

/// The contents of a URL.
pub(super) struct Parsed {
    pub hosts: Vec<PgConnectOptions>,
    pub target: Target,
    pub timeout: Option<Duration>,
    pub warnings: Vec<String>,
}

impl Parsed {
    pub(super) fn of(hosts: Vec<PgConnectOptions>, target: Target) -> Self {
        Self { hosts, target, timeout: None, warnings: Vec::new() }
    }
}

pub(super) fn parse(text: &str) -> Result<Parsed, UrlError> {
    let (mut url, in_authority) = one_host(text)?;
    let mut hosts: Vec<_> = if in_authority.is_empty() {
        hosts_alone(PgConnectOptions::new_without_pgpass().get_host())
    } else {
        in_authority.split(',').map(split_port).collect::<Result<_, _>>()?
    };
    let (mut ports, mut target, mut timeout) = (Vec::new(), None, None);
    let (mut kept, mut warnings) = (Vec::new(), Vec::new());
    for (key, value) in url.query_pairs() {
        match &*key {
            // Unlike in libpq, `hostaddr` is also what the certificate is verified against.
            "host" | "hostaddr" => hosts = hosts_alone(&value),
            "port" => ports = value.split(',').map(port).collect::<Result<_, _>>()?,
            "target_session_attrs" => target = Some(target_of(&value)?),
            "connect_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| UrlError::Timeout)?;
                // libpq reads a missing value and 0 as no limit, which would leave the kernel's: minutes.
                timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            name if HONOURED.contains(&name) || name.starts_with("options[") => {
                kept.push((key.into_owned(), value.into_owned()));
            }
            name => {
                let known = NOT_HONOURED.iter().find(|(known, _)| *known == name);
                let why = known.map_or("the parameter is not known", |(_, why)| why);
                warnings.push(format!("{} is ignored: {why}", name.escape_debug()));
            }
        }
    }
    settle_tls(&mut kept)?;
    match &ports[..] {
        [] => {}
        [one] => hosts.iter_mut().for_each(|(_, port)| *port = *one),
        many if many.len() == hosts.len() => {
            hosts.iter_mut().zip(many).for_each(|((_, port), own)| *port = *own);
        }
        _ => return Err(UrlError::Ports),
    }
    let hosts = hosts.into_iter().map(|(host, port)| {
        url.query_pairs_mut().clear().extend_pairs(&kept);
        url.query_pairs_mut().append_pair("host", &host);
        if let Some(port) = port {
            url.query_pairs_mut().append_pair("port", &port.to_string());
        }
        PgConnectOptions::from_str(url.as_str())
            .map_err(|error| UrlError::Parameter(error.to_string()))
    });
    let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    // Of several hosts, all but one are usually standbys, and the service must write.
    let target = target.unwrap_or(if hosts.len() > 1 { Target::ReadWrite } else { Target::Any });
    Ok(Parsed { hosts, target, timeout, warnings })
}

/// Reads the TLS parameters as libpq does, where sqlx would not.
fn settle_tls(parameters: &mut Vec<(String, String)>) -> Result<(), UrlError> {
    for (names, parameter) in [
        (ROOTS, "sslrootcert"),
        (["sslcert", "ssl-cert", "sslcert"], "sslcert"),
        (["sslkey", "ssl-key", "sslkey"], "sslkey"),
    ] {
        for (_, path) in parameters.iter().filter(|(name, _)| names.contains(&&**name)) {
            // The value may be the certificate itself.
            if (parameter, &**path) == ("sslrootcert", SYSTEM) || path.starts_with("-----BEGIN") {
                continue;
            }
            File::open(path).map_err(|error| UrlError::File {
                parameter,
                path: path.clone(),
                why: error.to_string(),
            })?;
        }
    }
    let is_roots = |name: &str| ROOTS.contains(&name);
    let names_roots = parameters.iter().any(|(name, _)| is_roots(name));
    let means_system = parameters.iter().any(|(name, roots)| is_roots(name) && roots == SYSTEM);
    // The public CAs are built in, and trusted unless another CA is named.
    parameters.retain(|(name, _)| !(means_system && is_roots(name)));
    let mode = parameters.iter_mut().find(|(name, _)| matches!(&**name, "sslmode" | "ssl-mode"));
    match mode {
        Some((_, mode)) if means_system && mode != "disable" => "verify-full".clone_into(mode),
        // A URL that names a CA expects that it is checked.
        Some((_, mode)) if names_roots && mode == "require" => "verify-ca".clone_into(mode),
        None if means_system => parameters.push(("sslmode".to_owned(), "verify-full".to_owned())),
        _ => {}
    }
    Ok(())
}

/// Returns the URL with a single placeholder host, and the hosts that it named.
fn one_host(text: &str) -> Result<(Url, String), UrlError> {
    let (scheme, rest) = text.trim().split_once("://").ok_or(UrlError::Malformed)?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(UrlError::Malformed);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(u, h)| (u, h));
    let at = if user.is_empty() { "" } else { "@" };
    let url = Url::parse(&format!("{scheme}://{user}{at}placeholder{rest}"))
        .map_err(|_| UrlError::Malformed)?;
    Ok((url, hosts.to_owned()))
}

/// Parses `host`, `host:port` or `[address]:port`. A folder of sockets is percent-encoded there.
fn split_port(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port_text) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':').unwrap_or_default()),
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let host = percent_decode_str(host).decode_utf8().map_err(|_| UrlError::Malformed)?;
    Ok((host.into_owned(), port(port_text)?))
}

fn hosts_alone(text: &str) -> Vec<(String, Option<u16>)> {
    text.split(',').map(|host| (host.to_owned(), None)).collect()
}

/// An empty text means the default port.
fn port(text: &str) -> Result<Option<u16>, UrlError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.trim().parse().map(Some).map_err(|_| UrlError::Ports)
}

fn target_of(value: &str) -> Result<Target, UrlError> {
    match value {
        "any" => Ok(Target::Any),
        "read-write" => Ok(Target::ReadWrite),
        "primary" => Ok(Target::Primary),
        other => Err(UrlError::Target(other.escape_debug().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        let parsed = parse(text).unwrap();
        parsed.hosts.iter().map(super::super::name_of).collect()
    }

    #[test]
    fn hosts_and_ports_are_read_as_libpq_reads_them() {
        let rows: [(&str, &[&str]); 10] = [
            ("postgres://u:p@h1/db", &["h1:5432"]),
            ("postgresql://u:p@h1:6/db?sslmode=disable", &["h1:6"]),
            ("postgres://u:p@h1:1,h2:2/db", &["h1:1", "h2:2"]),
            ("postgres://u:p@h1,h2:2", &["h1:5432", "h2:2"]),
            ("postgres://u@ad:p@h1,[::1]:2,[::2]/db", &["h1:5432", "::1:2", "::2:5432"]),
            ("postgres://u@/db?host=h1,h2&port=1,2", &["h1:1", "h2:2"]),
            ("postgres://u@h0:9/db?host=h1,h2&port=1", &["h1:1", "h2:1"]),
            ("postgres:///db?host=/run/a,h2", &["/run/a:5432", "h2:5432"]),
            ("postgres://u@%2Frun%2Fa:7/db", &["/run/a:7"]),
            ("postgres://u@127.0.0.1/db?hostaddr=127.0.0.2", &["127.0.0.2:5432"]),
        ];
        for (text, expected) in rows {
            assert_eq!(hosts(text), expected, "{text}");
        }
    }

    #[test]
    fn what_every_host_shares_is_the_same_for_each() {
        let parsed =
            parse("postgres://u%40x:p%2Fq@h1,h2/d%20b?sslmode=require&options[a]=b").unwrap();
        for host in parsed.hosts {
            assert_eq!((host.get_username(), host.get_database()), ("u@x", Some("d b")));
            assert_eq!(host.get_options(), Some("-c a=b"));
            assert!(format!("{host:?}").contains(r#"password: Some("p/q")"#));
        }
    }

    #[test]
    fn several_hosts_are_asked_which_of_them_takes_writes_unless_it_is_said_otherwise() {
        let rows = [
            ("postgres://h1/db", Target::Any),
            ("postgres://h1,h2/db", Target::ReadWrite),
            ("postgres://h1,h2/db?target_session_attrs=any", Target::Any),
            ("postgres://h1/db?target_session_attrs=read-write", Target::ReadWrite),
            ("postgres://h1/db?target_session_attrs=primary", Target::Primary),
        ];
        for (text, target) in rows {
            assert_eq!(parse(text).unwrap().target, target, "{text}");
        }
        let standby = parse("postgres://h1/db?target_session_attrs=standby").err();
        assert_eq!(standby, Some(UrlError::Target("standby".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_never_echoed() {
        let rows = [
            ("mysql://u:secret@h/db", UrlError::Malformed),
            ("host=h password=secret", UrlError::Malformed),
            ("postgres://u:se/cret@h/db", UrlError::Ports),
            ("postgres://u:secret@h1:1,h2:x/db", UrlError::Ports),
            ("postgres://u:secret@h1,h2,h3/db?port=1,2", UrlError::Ports),
            ("postgres://u:secret@h/db?connect_timeout=soon", UrlError::Timeout),
        ];
        for (text, expected) in rows {
            let error = parse(text).err().unwrap();
            assert!(!error.to_string().contains("secret") && !error.to_string().contains("cret@"));
            assert_eq!(error, expected, "{text}");
        }
        assert!(parse("postgres://h/db?sslmode=sometimes").is_err());
    }

    #[test]
    fn a_ca_that_is_named_is_looked_at_and_a_file_that_is_not_there_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let rows = [
            (format!("sslmode=require&sslrootcert={path}"), "VerifyCa"),
            (format!("sslmode=verify-full&sslrootcert={path}"), "VerifyFull"),
            (format!("sslrootcert={path}"), "Prefer"),
            ("sslmode=require".to_owned(), "Require"),
            ("sslrootcert=system".to_owned(), "VerifyFull"),
            ("sslrootcert=system&sslmode=require".to_owned(), "VerifyFull"),
        ];
        for (query, mode) in rows {
            let parsed = parse(&format!("postgres://h/db?{query}")).unwrap();
            assert_eq!(format!("{:?}", parsed.hosts[0].get_ssl_mode()), mode, "{query}");
            assert!(!format!("{:?}", parsed.hosts[0]).contains("system"), "{query}");
        }
        for parameter in ["sslrootcert", "sslcert", "sslkey"] {
            let error = parse(&format!("postgres://h/db?{parameter}=/not/there")).err().unwrap();
            assert!(error.to_string().contains(parameter), "{error}");
            assert!(error.to_string().contains("/not/there"), "{error}");
        }
    }

    #[test]
    fn what_is_not_honoured_is_named_without_its_value() {
        let text = "postgres://h/db?channel_binding=require&keepalives=1&sslpassword=secret&connect_timeout=3";
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.timeout, Some(Duration::from_secs(3)));
        let warnings = parsed.warnings.join("\n");
        for name in ["channel_binding", "keepalives", "sslpassword"] {
            assert!(warnings.contains(name), "{warnings}");
        }
        assert!(!warnings.contains("secret"), "{warnings}");
    }
}
