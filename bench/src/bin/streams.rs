//! Measures how much memory an idle stream costs, and how long a change takes to reach its followers.
//!
//! Opens many streams to a running service over loopback, and reads the service's memory from `/proc` before and after.
//! Then reports changes of one profile, and measures the time until the first and the last follower has each change.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use esim_status_bench::subject::Subject;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Measures the live streams of a running service.
#[derive(Debug, Parser)]
struct Args {
    /// The service.
    #[command(flatten)]
    service: Subject,

    /// The process id of the service
    #[arg(long)]
    pid: u32,

    /// How many idle streams to open, each on its own profile
    #[arg(long, default_value_t = 1_000)]
    idle: usize,

    /// How many followers one profile has
    #[arg(long, default_value_t = 1_000)]
    followers: usize,

    /// How many changes to time
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    drop(rustls::crypto::ring::default_provider().install_default());
    let bench = Bench { http: reqwest::Client::builder().no_proxy().build()?, args };
    bench.raise_open_files()?;

    // Profiles must exist before they can be followed.
    for number in 0..bench.args.idle {
        bench.report(&idle_iccid(number), "RELEASED").await?;
    }
    // Open one stream first, so that memory that is allocated only once does not count.
    let _warm = bench.open(&idle_iccid(0)).await?;
    let before = bench.resident_kib()?;
    let mut open = Vec::with_capacity(bench.args.idle);
    for number in 0..bench.args.idle {
        open.push(bench.open(&idle_iccid(number)).await?);
    }
    let after = bench.resident_kib()?;
    #[expect(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^53")]
    let each = (after - before) as f64 / bench.args.idle as f64;
    println!("| idle streams | RSS before, MiB | RSS after, MiB | KiB a stream |");
    println!("|---|---|---|---|");
    println!("| {} | {} | {} | {each:.1} |", bench.args.idle, before / 1024, after / 1024);
    drop(open);

    let (first, last) = bench.time_followers().await?;
    println!();
    println!(
        "| followers of one profile | rounds | answer to first, ms: median / worst | answer to last, ms: median / worst |"
    );
    println!("|---|---|---|---|");
    let (followers, rounds) = (bench.args.followers, bench.args.rounds);
    println!("| {followers} | {rounds} | {} | {} |", show(first), show(last));
    Ok(())
}

struct Bench {
    args: Args,
    http: reqwest::Client,
}

/// An open stream, which is read line by line.
type Stream = BufReader<TcpStream>;

impl Bench {
    fn raise_open_files(&self) -> anyhow::Result<()> {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};

        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let needed = self.args.idle + self.args.followers + 100;
        if most < needed as u64 {
            bail!("the limit on open files is {most}, {needed} are needed: raise `ulimit -n`");
        }
        Ok(())
    }

    async fn report(&self, iccid: &str, state: &str) -> anyhow::Result<()> {
        let status = self.args.service.report(&self.http, iccid, state).await?;
        ensure!(status.is_success(), "a webhook was answered {status}");
        Ok(())
    }

    /// Opens a stream and reads its first event.
    async fn open(&self, iccid: &str) -> anyhow::Result<Stream> {
        let Subject { url, api_key: key, .. } = &self.args.service;
        let host = url.host_str().context("the URL has no host")?;
        let port = url.port_or_known_default().context("the URL has no port")?;
        let mut socket = TcpStream::connect((host, port)).await?;
        let request = format!(
            "GET /v1/profiles/{iccid}/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut stream = BufReader::with_capacity(2_048, socket);
        wait_for(&mut stream, "event: profile").await?;
        Ok(stream)
    }

    /// The resident memory of the service.
    fn resident_kib(&self) -> anyhow::Result<i64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.args.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("the status of the process has no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }

    /// Measures the time from the answer to a webhook until the first and the last follower has the change.
    async fn time_followers(&self) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
        const ICCID: &str = "8944999999999999999";
        self.report(ICCID, "RELEASED").await?;
        let (heard, mut arrivals) = mpsc::unbounded_channel();
        for _ in 0..self.args.followers {
            let (mut stream, heard) = (self.open(ICCID).await?, heard.clone());
            tokio::spawn(async move {
                while wait_for(&mut stream, "event: transition").await.is_ok() {
                    if heard.send(Instant::now()).is_err() {
                        break;
                    }
                }
            });
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for round in 0..self.args.rounds {
            let state = if round % 2 == 0 { "INSTALLED" } else { "RELEASED" };
            self.report(ICCID, state).await?;
            let answered = Instant::now();
            let mut times = Vec::with_capacity(self.args.followers);
            while times.len() < self.args.followers {
                let next = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await;
                let at = next.context("a follower did not get the change within 30 s")?;
                times.push(
                    at.context("the followers have ended")?.saturating_duration_since(answered),
                );
            }
            first.extend(times.iter().min());
            last.extend(times.iter().max());
        }
        Ok((first, last))
    }
}

async fn wait_for(stream: &mut Stream, wanted: &str) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            bail!("the stream ended");
        }
        if line.starts_with(wanted) {
            return Ok(());
        }
        if line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.1 200") {
            bail!("the stream was refused: {}", line.trim());
        }
    }
}

fn idle_iccid(number: usize) -> String {
    format!("89440000{number:011}")
}

/// Median and worst, in milliseconds.
fn show(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
    format!("{:.1} / {:.1}", ms(times.get(times.len() / 2)), ms(times.last()))
}
