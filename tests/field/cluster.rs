//! Helper: three nodes, each with etcd, Patroni and PostgreSQL, which run the files of `deploy/ha`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use esim_status_testing::part::{Part, folder, free_port, give, installed, run, unprivileged};
use esim_status_testing::process::{children, kill_with_children, signal};
use esim_status_testing::{Client, Database, server};
use nix::sys::signal::Signal;
use reqwest::Method;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How long a cluster may take to start, or to become whole again after a fault, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The password of every role.
const PASSWORD: &str = "6d0b5c2f9a41";

/// PostgreSQL is no child of Patroni, so this shell ends both when the test ends.
const WITH_POSTGRES: &str = r#""$1" "$2" & patroni=$!
trap 'kill -9 $patroni; kill -QUIT "$(head -n 1 "$3")"' QUIT
wait $patroni"#;

/// The nodes. They end with the test.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

/// What a node is, by the path of Patroni's health check.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Primary,
    SynchronousStandby,
}

#[derive(Debug)]
struct Node {
    name: String,
    // Dropped before the folder, which has the file that says which process is PostgreSQL.
    patroni: Option<Part>,
    etcd: Option<Part>,
    folder: TempDir,
    ports: Ports,
    etcd_settings: Vec<String>,
    patroni_settings: Vec<String>,
    frozen: Vec<i32>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    patroni: u16,
    postgres: u16,
}

impl Cluster {
    /// Starts three nodes. Returns when one is the primary and another one its synchronous standby.
    pub(crate) async fn start() -> Self {
        let ports = [(); 3].map(|()| Ports {
            etcd: free_port(),
            etcd_peer: free_port(),
            patroni: free_port(),
            postgres: free_port(),
        });
        let mut nodes: Vec<_> = (0..3).map(|index| Node::new(index, &ports)).collect();
        nodes.iter_mut().for_each(Node::start);
        let this = Self { nodes };
        this.is_whole().await;
        let role = format!("CREATE ROLE esim_status LOGIN PASSWORD '{PASSWORD}'");
        this.execute(role).await;
        this
    }

    /// Creates a database, and returns the `DATABASE_URL` that names all nodes.
    pub(crate) async fn create(&self, database: &str) -> String {
        self.execute(format!("CREATE DATABASE {database} OWNER esim_status")).await;
        let hosts = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports.postgres));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!(
            "postgres://esim_status:{PASSWORD}@{hosts}/{database}?target_session_attrs=read-write"
        )
    }

    async fn execute(&self, statement: String) {
        let mut connection = self.database("postgres").await.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }

    /// Waits until there are a primary, a synchronous standby and another standby.
    pub(crate) async fn is_whole(&self) {
        self.wait("the cluster is whole", async || {
            let (mut primaries, mut standbys, mut synchronous) = (0, 0, 0);
            for node in &self.nodes {
                primaries += usize::from(node.answers("/primary").await);
                standbys += usize::from(node.answers("/replica").await);
                synchronous += usize::from(node.answers("/synchronous").await);
            }
            ((primaries, standbys, synchronous) == (1, 2, 1)).then_some(())
        })
        .await;
    }

    /// The node that is this now.
    pub(crate) async fn find(&self, role: Role) -> usize {
        let path = match role {
            Role::Primary => "/primary",
            Role::SynchronousStandby => "/synchronous",
        };
        self.wait(path, async || {
            for (index, node) in self.nodes.iter().enumerate() {
                if node.answers(path).await {
                    return Some(index);
                }
            }
            None
        })
        .await
    }

    /// A database on the present primary, as its superuser sees it.
    pub(crate) async fn database(&self, name: &str) -> Database {
        let primary = self.find(Role::Primary).await;
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.nodes[primary].ports.postgres)
            .username("postgres")
            .password(PASSWORD)
            .database(name)
            .ssl_mode(PgSslMode::Disable);
        Database { options }
    }

    /// Waits for something, and shows the nodes' logs if it does not happen.
    pub(crate) async fn wait<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "this did not happen within {PATIENCE:?}: {what}\n{}",
                self.nodes.iter().map(Node::end_of_log).collect::<String>()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes the synchronous standby the primary, as an operator does before maintenance.
    pub(crate) async fn switch_over(&self) {
        let candidate = &self.nodes[self.find(Role::SynchronousStandby).await];
        let mut command = unprivileged(&installed("patronictl"));
        command.envs(candidate.patroni_settings.iter().filter_map(|it| it.split_once('=')));
        command.arg("-c").arg(candidate.configuration());
        command.args(["switchover", "esim-status", "--force", "--candidate", &candidate.name]);
        spawn_blocking(move || run(&mut command)).await.unwrap();
    }

    /// Kills PostgreSQL on this node with SIGKILL; its Patroni lives.
    pub(crate) fn kill_postgres(&self, index: usize) {
        kill_with_children(self.nodes[index].postmaster());
    }

    /// Kills everything on this node with SIGKILL, like a power failure.
    pub(crate) fn kill(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let postmaster = node.postmaster();
        let parts = node.patroni.take().into_iter().chain(node.etcd.take());
        parts.for_each(Part::kill);
        kill_with_children(postmaster);
    }

    /// Kills etcd on this node.
    pub(crate) fn kill_etcd(&mut self, index: usize) {
        self.nodes[index].etcd.take().expect("etcd runs").kill();
    }

    /// Starts what was killed on this node.
    pub(crate) fn start_again(&mut self, index: usize) {
        self.nodes[index].start();
    }

    /// Stops everything on this node with SIGSTOP: it keeps its connections and answers nothing.
    pub(crate) fn freeze(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        for parent in [node.patroni_pid(), node.etcd_pid(), node.postmaster()] {
            // What is stopped first cannot start another child.
            signal(parent, Signal::SIGSTOP);
            node.frozen.push(parent);
            for child in children(parent) {
                signal(child, Signal::SIGSTOP);
                node.frozen.push(child);
            }
        }
    }

    /// Lets a frozen node continue.
    pub(crate) fn thaw(&mut self, index: usize) {
        for pid in self.nodes[index].frozen.drain(..) {
            signal(pid, Signal::SIGCONT);
        }
    }
}

impl Node {
    fn new(index: usize, all: &[Ports; 3]) -> Self {
        let (folder, ports) = (folder(), all[index]);
        let name = format!("node{}", index + 1);
        let here = folder.path().display();
        // What an operator fills in, and on one machine the ports and folders.
        let mut values = vec![
            ("127.0.0.1,ADDRESS:5432".to_owned(), format!("127.0.0.1:{}", ports.postgres)),
            ("ADDRESS:5432".to_owned(), format!("127.0.0.1:{}", ports.postgres)),
            ("ADDRESS:8008".to_owned(), format!("127.0.0.1:{}", ports.patroni)),
            ("ADDRESS:2379".to_owned(), format!("127.0.0.1:{}", ports.etcd)),
            ("ADDRESS:2380".to_owned(), format!("127.0.0.1:{}", ports.etcd_peer)),
            ("REST_PASSWORD".to_owned(), PASSWORD.to_owned()),
            (
                "SUPERUSER_PASSWORD=SUPERUSER_PASSWORD".to_owned(),
                format!("SUPERUSER_PASSWORD={PASSWORD}"),
            ),
            (
                "REPLICATION_PASSWORD=REPLICATION_PASSWORD".to_owned(),
                format!("REPLICATION_PASSWORD={PASSWORD}"),
            ),
            ("/var/lib/postgresql/15/esim-status".to_owned(), format!("{here}/data")),
            ("/var/lib/postgresql/pgpass-patroni".to_owned(), format!("{here}/pgpass")),
            ("/usr/lib/postgresql/15/bin".to_owned(), server().bin_dir().display().to_string()),
        ];
        for (index, ports) in all.iter().enumerate() {
            let number = index + 1;
            values.push((format!("NODE{number}:2379"), format!("127.0.0.1:{}", ports.etcd)));
            values.push((format!("NODE{number}:2380"), format!("127.0.0.1:{}", ports.etcd_peer)));
        }
        values.push(("NODE".to_owned(), name.clone()));
        values.push(("TOKEN=TOKEN".to_owned(), "TOKEN=test".to_owned()));
        let mut etcd_settings = settings("etcd.env", &values);
        etcd_settings.push(format!("ETCD_DATA_DIR={here}/etcd"));
        let patroni_settings = settings("node.env", &values);

        let configuration = folder.path().join("patroni");
        fs::create_dir(&configuration).unwrap();
        fs::copy(files().join("patroni.yml"), configuration.join("config.yml")).unwrap();
        // Debian's folder of sockets may be missing, or not be ours.
        let own = format!("postgresql: {{ parameters: {{ unix_socket_directories: {here} }} }}");
        fs::write(configuration.join("own.yml"), own).unwrap();
        give(&configuration);
        let (patroni, etcd, frozen) = (None, None, Vec::new());
        Self { name, patroni, etcd, folder, ports, etcd_settings, patroni_settings, frozen }
    }

    /// Starts what does not run.
    fn start(&mut self) {
        if self.etcd.is_none() {
            let etcd = installed("etcd").display().to_string();
            let arguments = self.etcd_settings.iter().map(|it| &**it).chain([&*etcd]);
            let arguments: Vec<_> = arguments.collect();
            let log = self.folder.path().join("etcd.log");
            self.etcd = Some(Part::start(Path::new("/usr/bin/env"), &arguments, &log));
        }
        if self.patroni.is_none() {
            let patroni = installed("patroni").display().to_string();
            let configuration = self.configuration().display().to_string();
            let pid_file = self.pid_file().display().to_string();
            let shell = ["/bin/sh", "-c", WITH_POSTGRES, "sh", &patroni, &configuration, &pid_file];
            let arguments: Vec<_> =
                self.patroni_settings.iter().map(|it| &**it).chain(shell).collect();
            let part = Part::start(Path::new("/usr/bin/env"), &arguments, &self.log());
            self.patroni = Some(part);
        }
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("patroni")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("data/postmaster.pid")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("patroni.log")
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("--- {}\n{}\n", self.name, lines.join("\n"))
    }

    /// Whether Patroni answers 200 there.
    async fn answers(&self, path: &str) -> bool {
        let client = Client::new(format!("http://127.0.0.1:{}", self.ports.patroni));
        let request = client.request(Method::GET, path).timeout(Duration::from_secs(1));
        request.send().await.is_ok_and(|answer| answer.status() == 200)
    }

    fn postmaster(&self) -> i32 {
        let file = fs::read_to_string(self.pid_file()).expect("PostgreSQL runs");
        file.lines().next().unwrap().parse().unwrap()
    }

    fn etcd_pid(&self) -> i32 {
        self.etcd.as_ref().expect("etcd runs").pid()
    }

    fn patroni_pid(&self) -> i32 {
        self.patroni.as_ref().expect("Patroni runs").pid()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in &self.frozen {
            signal(*pid, Signal::SIGKILL);
        }
    }
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ha")
}

/// The variables of a file, with these values filled in.
fn settings(file: &str, values: &[(String, String)]) -> Vec<String> {
    let text = fs::read_to_string(files().join(file)).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let filled =
                values.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
            let (_, value) = filled.split_once('=').expect("a line sets a variable");
            let missing =
                ["NODE", "ADDRESS", "PASSWORD", "TOKEN"].iter().find(|it| value.contains(**it));
            assert_eq!(missing, None, "{file}: nothing is filled in for {line}");
            filled
        })
        .collect()
}
