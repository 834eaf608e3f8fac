//! Helper: a certificate authority by openssl, in a folder. Its own certificate is `ca.crt`.

use std::fs;
use std::path::Path;

use esim_status_testing::part::{run, unprivileged};

/// The folder with the certificates and their keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority<'a>(pub &'a Path);

impl Authority<'_> {
    /// Runs openssl in the folder, and returns what it prints.
    pub(crate) fn openssl(self, arguments: &str) -> String {
        let mut openssl = unprivileged("openssl".as_ref());
        openssl.current_dir(self.0).args(arguments.split(' '));
        run(&mut openssl)
    }

    /// Creates a certificate signed by the CA, with these extensions, or without any, as in PostgreSQL's manual.
    pub(crate) fn sign(self, name: &str, extensions: Option<&str>) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        self.openssl(&format!(
            "req -new {key} -keyout {name}.key -out {name}.csr -subj /CN=localhost"
        ));
        let extensions = extensions.map_or_else(String::new, |text| {
            fs::write(self.0.join("extensions"), text).unwrap();
            " -extfile extensions".to_owned()
        });
        self.openssl(&format!(
            "x509 -req -in {name}.csr -days 30 -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt{extensions}"
        ));
    }

    /// Creates a self-signed certificate, as in PostgreSQL's manual: it is also its own CA.
    pub(crate) fn self_sign(self, name: &str) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        self.openssl(&format!(
            "req -new -x509 -days 30 {key} -keyout {name}.key -out {name}.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        ));
    }
}
