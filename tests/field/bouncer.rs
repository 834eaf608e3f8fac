//! Helper: a real pgbouncer in front of a database.

use std::fs;

use esim_status_testing::part::{Part, folder, free_port, give, installed};
use esim_status_testing::{Database, wait_until};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The startup parameters that pgbouncer is commonly configured to ignore.
pub(crate) const IGNORED: &str = "extra_float_digits,options";

/// The pooler. It ends with the test.
#[derive(Debug)]
pub(crate) struct Bouncer {
    _part: Part,
    _folder: TempDir,
    url: String,
}

impl Bouncer {
    /// Starts a pooler with this pool mode (session, transaction or statement). It ignores these startup parameters and
    /// refuses others.
    pub(crate) async fn start(before: &Database, pool_mode: &str, ignored: &str) -> Self {
        let (folder, port, options) = (folder(), free_port(), &before.options);
        let (user, database) = (options.get_username(), options.get_database().unwrap());
        let socket = options.get_socket().expect("the server has a socket").display();
        let settings = format!(
            "[databases]\n\
             * = host={socket} port={server_port} user={user}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = {pool_mode}\n\
             ignore_startup_parameters = {ignored}\n\
             default_pool_size = 40\n",
            server_port = options.get_port(),
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        give(&file);
        let log = folder.path().join("log");
        let mut pooler = Part::start(&installed("pgbouncer"), &[&file.display().to_string()], &log);
        wait_until("pgbouncer accepts connections", || {
            assert!(pooler.runs(), "{}", fs::read_to_string(&log).unwrap_or_default());
            async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }
        })
        .await;
        let url = format!("postgres://{user}@127.0.0.1:{port}/{database}");
        Self { _part: pooler, _folder: folder, url }
    }

    /// The `DATABASE_URL` that connects through the pooler.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
