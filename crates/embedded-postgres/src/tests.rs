use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use sqlx::postgres::PgListener;
use sqlx::{Connection, PgConnection};

use super::cluster::START_PATIENCE;
use super::folder::LOG;
use super::*;

/// The variable that makes a second run of the test binary the process that will be killed.
const ROLE: &str = "EMBEDDED_POSTGRES_TEST_OWNER_OF";

async fn connect(embedded: &Embedded) -> PgConnection {
    PgConnection::connect_with(&embedded.connect_options("postgres")).await.unwrap()
}

async fn run(embedded: &Embedded, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut connect(embedded).await).await.unwrap();
}

async fn count(embedded: &Embedded) -> i64 {
    let mut connection = connect(embedded).await;
    sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut connection).await.unwrap()
}

async fn show(embedded: &Embedded, setting: &str) -> String {
    let sql = "SELECT current_setting($1)";
    let mut connection = connect(embedded).await;
    sqlx::query_scalar(sql).bind(setting).fetch_one(&mut connection).await.unwrap()
}

/// A folder to be created, and the temporary folder that contains it.
fn a_folder() -> (Folder, PathBuf) {
    let outer = Folder::temporary(&RunAs::choose().unwrap()).unwrap();
    let inner = outer.path().join("a deeper one/dev");
    (outer, inner)
}

fn runs(pid: u32) -> bool {
    let answers = kill(Pid::from_raw(pid.cast_signed()), None).is_ok();
    // If no parent collects it, a zombie stays, which holds nothing any more.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    answers && !stat.contains(") Z ")
}

fn goes(pid: u32) -> bool {
    process::wait_until(START_PATIENCE, || Ok(!runs(pid))).unwrap()
}

#[tokio::test]
async fn it_answers_durably_on_its_socket_alone_and_leaves_nothing() {
    let embedded = Embedded::start_ephemeral().unwrap();
    assert_eq!(show(&embedded, "listen_addresses").await, "");
    assert_eq!(show(&embedded, "fsync").await, "on");
    assert_eq!(show(&embedded, "max_connections").await, "200");
    assert_eq!(show(&embedded, "server_encoding").await, "UTF8");
    let (pid, folder) = (embedded.server_pid(), embedded.home.path().to_owned());
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);

    drop(embedded);
    assert!(!runs(pid));
    assert!(!folder.exists());
}

#[tokio::test]
async fn its_url_suits_sqlx_and_psql() {
    let embedded = Embedded::start_ephemeral().unwrap();
    let url = embedded.url("postgres");
    PgConnection::connect(&url).await.unwrap().ping().await.unwrap();
    let psql = embedded.bin_dir().join("psql");
    let answer = Command::new(psql).args([&url, "-XAtc", "SELECT 41 + 1"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "42\n");
}

#[tokio::test]
async fn a_listener_hears_a_notification() {
    let embedded = Embedded::start_ephemeral().unwrap();
    let pool = sqlx::PgPool::connect_with(embedded.connect_options("postgres")).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("changes").await.unwrap();
    run(&embedded, "NOTIFY changes, 'one'").await;
    assert_eq!(listener.recv().await.unwrap().payload(), "one");
}

#[tokio::test]
async fn a_kept_folder_keeps_its_data_and_serves_one_at_a_time() {
    let (_outer, folder) = a_folder();
    let first = Embedded::start_in(&folder).unwrap();
    run(&first, "CREATE TABLE kept AS SELECT 1").await;
    let second = Embedded::start_in(&folder);
    assert!(matches!(second, Err(EmbeddedError::InUse(_))), "{second:?}");
    let sockets = first.socket_dir().to_owned();
    first.stop().unwrap();
    assert!(!sockets.exists());

    let again = Embedded::start_in(&folder).unwrap();
    assert_eq!(count(&again).await, 1);
}

#[tokio::test]
async fn a_server_that_is_stopped_or_killed_comes_back_with_its_data_on_the_same_socket() {
    let mut embedded = Embedded::start_ephemeral().unwrap();
    let options = embedded.connect_options("postgres");
    run(&embedded, "CREATE TABLE kept AS SELECT 1").await;
    for end in [Embedded::stop_server, Embedded::kill_server] {
        let busy = connect(&embedded).await;
        let pid = embedded.server_pid();
        end(&mut embedded).unwrap();
        assert!(!runs(pid));
        PgConnection::connect_with(&options).await.unwrap_err();
        drop(busy);

        embedded.start_server().unwrap();
        assert_ne!(embedded.server_pid(), pid);
        PgConnection::connect_with(&options).await.unwrap();
        assert_eq!(count(&embedded).await, 1);
    }
    let pid = embedded.server_pid();
    embedded.start_server().unwrap();
    assert_eq!(embedded.server_pid(), pid, "it ran already");
    embedded.restart_server().unwrap();
    assert_ne!(embedded.server_pid(), pid);
}

#[test]
fn a_server_that_cannot_start_is_quoted() {
    let mut embedded = Embedded::start_ephemeral().unwrap();
    embedded.stop_server().unwrap();
    fs::write(embedded.home.path().join("postgres/postgresql.conf"), "no_such_setting = on\n")
        .unwrap();
    let failure = embedded.start_server().unwrap_err().to_string();
    assert!(failure.contains("no_such_setting"), "{failure}");
}

/// The body of the process that [`start_owner`] starts. Does nothing in an ordinary test run.
#[test]
fn the_owner_that_is_killed() {
    let Some(folder) = env::var_os(ROLE) else {
        return;
    };
    let embedded = if folder.is_empty() {
        Embedded::start_ephemeral().unwrap()
    } else {
        Embedded::start_in(Path::new(&folder)).unwrap()
    };
    println!("\nserver {} {}", embedded.server_pid(), embedded.home.path().display());
    // Ends with the test, even if the test fails to kill it.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Starts another process with an embedded database. Returns the process, its server's pid and its folder.
fn start_owner(folder: &Path) -> (std::process::Child, u32, PathBuf) {
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tests::the_owner_that_is_killed", "--nocapture"])
        .env(ROLE, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("server ")).unwrap();
    let (pid, path) = line["server ".len()..].split_once(' ').unwrap();
    (owner, pid.parse().unwrap(), path.into())
}

#[test]
fn a_killed_owner_leaves_no_server_and_its_folder_is_swept() {
    let (mut owner, pid, folder) = start_owner(Path::new(""));
    assert!(runs(pid));
    let log = File::open(folder.join(LOG)).unwrap();
    assert!(!process::lock_is_free(&log).unwrap());
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(goes(pid));
    assert!(folder.exists());
    // Another test may be sweeping it at this moment, and hold its locks.
    let swept = || {
        let _sweeps = Folder::temporary(&RunAs::choose().unwrap()).unwrap();
        Ok(!folder.exists())
    };
    drop(log);
    assert!(process::wait_until(START_PATIENCE, swept).unwrap());
}

#[tokio::test]
async fn a_killed_owners_folder_starts_again_at_once() {
    let (_outer, folder) = a_folder();
    drop(Embedded::start_in(&folder).unwrap());
    let (mut owner, pid, _) = start_owner(&folder);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let embedded = Embedded::start_in(&folder).unwrap();
    assert!(!runs(pid));
    run(&embedded, "CREATE TABLE kept AS SELECT 1").await;
    assert_eq!(count(&embedded).await, 1);
}

#[tokio::test]
async fn a_server_whose_guard_was_killed_too_is_ended_by_the_next_start() {
    let (_outer, folder) = a_folder();
    let (mut owner, pid, _) = start_owner(&folder);
    // The guard is in the server's group, and dies from a signal that only makes the server reload its settings.
    killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(runs(pid));
    let embedded = Embedded::start_in(&folder).unwrap();
    assert!(!runs(pid));
    assert_ne!(embedded.server_pid(), pid);
}
