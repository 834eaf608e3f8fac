//! What a failure to open a session means: either the database is down, which passes, or an operator must correct
//! something, and what. The one place that knows the messages of servers, poolers and TLS.

use std::io;

use sqlx::error::DatabaseError;

/// What a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// Whether waiting may help.
    pub is_away: bool,
    /// What was reported, in its own words.
    pub cause: String,
    /// What to do about it.
    pub remedy: Option<&'static str>,
}

const UP: &str = "is it up, and do host and port in DATABASE_URL name it?";
const NAME: &str = "check the host name in DATABASE_URL";
const NO_SERVER: &str = "the peer closed the connection before the session began, as a proxy or load balancer does that has no healthy server behind it";
const NO_POSTGRES: &str = "the peer is not Postgres: check host and port in DATABASE_URL";
const PASSWORD: &str =
    "check user and password in DATABASE_URL, where special characters are percent-encoded";
const NOT_ALLOWED: &str = "create the role, or allow it from this address in pg_hba.conf; if the message says `no encryption`, set sslmode=require in DATABASE_URL";
const NO_DATABASE: &str = "create the database, or correct its name in DATABASE_URL";
const NO_CONNECT: &str = "as its owner: GRANT CONNECT ON DATABASE … TO …";
const FULL: &str = "allow more connections (max_connections, the role's CONNECTION LIMIT), or make this service use fewer (ESIM_STATUS_READERS)";
const STARTING: &str = "the server is starting or stopping: wait";
const STANDBY: &str =
    "name the primary, or all hosts with target_session_attrs=read-write, in DATABASE_URL";
const PARAMETER: &str = "a pooler in between refuses this start-up parameter: add it to pgbouncer's ignore_startup_parameters, or take it out of DATABASE_URL (options, PGOPTIONS)";
const POOLER: &str = "a pooler in between does not know this database or user: look at its [databases] and auth_file";
const VERSION_1: &str = "the server's certificate is X.509 version 1, as `openssl x509 -req` creates it without extensions: create one of version 3 (`openssl x509 -req -extfile`, with subjectAltName), or set sslmode=disable if the network is trusted";
const CA_AS_SERVER: &str = "the server's certificate is also a CA certificate, as `openssl req -x509` creates it: create it with `-addext basicConstraints=critical,CA:FALSE`, or have your own CA sign one, and name that CA in sslrootcert";
const ISSUER: &str = "the server's certificate is not signed by a trusted CA: name the file of the right CA in sslrootcert in DATABASE_URL";
const WRONG_NAME: &str = "the certificate is for another host: use the name of that host in DATABASE_URL, or sslmode=verify-ca";
const EXPIRED: &str = "renew the server's certificate; check this machine's clock";
const CERTIFICATE: &str = "give the server a certificate that rustls accepts";
const TLS: &str = "server and service do not agree on TLS: check sslmode, sslcert and sslkey in DATABASE_URL, and the server's log";
const NO_TLS: &str = "turn ssl on in the server, or set sslmode=prefer or disable in DATABASE_URL if the network is trusted";
const KEY_AND_CERTIFICATE: &str = "check sslcert, sslkey and sslrootcert in DATABASE_URL";

/// Says what an error of connecting, or of the first statement, means.
pub(super) fn diagnose(error: &sqlx::Error) -> Diagnosis {
    let (is_away, cause, remedy) = match error {
        sqlx::Error::Database(error) => return said(&**error),
        sqlx::Error::Io(error) => return broken(error),
        sqlx::Error::Protocol(text) if text.contains("SSLRequest: 0x00") => {
            (true, text.clone(), Some(NO_SERVER))
        }
        sqlx::Error::Protocol(text) => (false, text.clone(), Some(NO_POSTGRES)),
        sqlx::Error::Tls(error) => {
            let cause = error.to_string();
            let remedy = if cause.contains("does not support TLS") { NO_TLS } else { TLS };
            (false, cause, Some(remedy))
        }
        sqlx::Error::Configuration(error) => (false, error.to_string(), Some(KEY_AND_CERTIFICATE)),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            (true, error.to_string(), None)
        }
        other => (false, other.to_string(), None),
    };
    Diagnosis { is_away, cause, remedy }
}

/// The server, or a pooler in front of it, has refused.
fn said(error: &dyn DatabaseError) -> Diagnosis {
    let message = error.message();
    let code = error.code().unwrap_or_default();
    let (is_away, remedy) = match &*code {
        _ if message.contains("unsupported startup parameter") => (false, Some(PARAMETER)),
        "28P01" => (false, Some(PASSWORD)),
        "28000" => (false, Some(NOT_ALLOWED)),
        "3D000" => (false, Some(NO_DATABASE)),
        "42501" => (false, Some(NO_CONNECT)),
        "25006" => (true, Some(STANDBY)),
        "57P01" | "57P02" | "57P03" => (true, Some(STARTING)),
        "53300" => (true, Some(FULL)),
        // A pooler reports everything under one code.
        "08P01" if message.contains("no such") => (false, Some(POOLER)),
        "08P01" if message.contains("authentication") => (false, Some(PASSWORD)),
        // These pass: conflicts (40), connections (08), resources (53), operators (57), the system (58), a lock
        // (55P03), and internal errors of the server (XX).
        code if ["40", "08", "53", "57", "58", "XX"].iter().any(|it| code.starts_with(it)) => {
            (true, None)
        }
        "55P03" => (true, None),
        _ => (false, None),
    };
    Diagnosis { is_away, cause: message.to_owned(), remedy }
}

/// The network or TLS failed before anything was said.
fn broken(error: &io::Error) -> Diagnosis {
    let cause = error.to_string();
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (is_away, remedy) = match tls {
        Some(rustls::Error::InvalidCertificate(_)) => (false, certificate(&cause)),
        Some(_) => (false, TLS),
        None if cause.contains("lookup address") => (true, NAME),
        None => (true, UP),
    };
    Diagnosis { is_away, cause, remedy: Some(remedy) }
}

/// Matches by words: the types of some of these errors belong to a crate that only rustls has.
fn certificate(cause: &str) -> &'static str {
    let remedies = [
        ("UnsupportedCertVersion", VERSION_1),
        ("CaUsedAsEndEntity", CA_AS_SERVER),
        ("UnknownIssuer", ISSUER),
        ("BadSignature", ISSUER),
        ("not valid for name", WRONG_NAME),
        ("NotValidForName", WRONG_NAME),
        ("xpired", EXPIRED),
        ("not valid yet", EXPIRED),
        ("NotValidYet", EXPIRED),
    ];
    remedies.iter().find(|(words, _)| cause.contains(words)).map_or(CERTIFICATE, |(_, it)| it)
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    fn certificate_error(error: CertificateError) -> sqlx::Error {
        let error = rustls::Error::InvalidCertificate(error);
        sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn what_tls_said_is_refused_with_its_remedy_and_what_nobody_said_is_waited_for() {
        let other = |text: &str| {
            let text: Box<dyn std::error::Error + Send + Sync> = text.into();
            certificate_error(CertificateError::Other(rustls::OtherError(text.into())))
        };
        let io = |kind: io::ErrorKind| sqlx::Error::Io(kind.into());
        let protocol = |text: &str| sqlx::Error::Protocol(text.to_owned());
        let rows = [
            (other("UnsupportedCertVersion"), false, VERSION_1),
            (other("CaUsedAsEndEntity"), false, CA_AS_SERVER),
            (certificate_error(CertificateError::UnknownIssuer), false, ISSUER),
            (certificate_error(CertificateError::Expired), false, EXPIRED),
            (certificate_error(CertificateError::NotValidForName), false, WRONG_NAME),
            (certificate_error(CertificateError::Revoked), false, CERTIFICATE),
            (sqlx::Error::Tls("server does not support TLS".into()), false, NO_TLS),
            (protocol("unexpected response from SSLRequest: 0x00"), true, NO_SERVER),
            (protocol("unexpected response from SSLRequest: 0x48"), false, NO_POSTGRES),
            (io(io::ErrorKind::ConnectionRefused), true, UP),
            (io(io::ErrorKind::UnexpectedEof), true, UP),
        ];
        for (error, is_away, remedy) in rows {
            let diagnosis = diagnose(&error);
            assert_eq!((diagnosis.is_away, diagnosis.remedy), (is_away, Some(remedy)), "{error}");
        }
    }
}
