//! A thousand streams that are never read: memory stays bounded, streams with unread data are cut, and webhooks are not
//! affected.
//!
//! Raw TCP clients with small receive buffers open streams of the real binary and never read, while a profile keeps
//! changing.

use std::time::{Duration, Instant};

use esim_status_testing::{API_KEY, wait_until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::iccid;
use super::postgres::Postgres;
use super::service::Service;
use super::turn::{beside_others, from_environment, measured, median_and_worst};
use super::wire::Wire;

/// Adds a long history, which some streams request from its beginning: more than fits into the socket buffers of a
/// connection. It is inserted directly, which is quicker than by webhooks.
const HISTORY: &str = "
    WITH history AS (
        INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, received_at, provider)
        SELECT p.iccid, p.seq + n,
               CASE n % 2 WHEN 1 THEN p.state ELSE 'ERROR' END, CASE n % 2 WHEN 1 THEN 'ERROR' ELSE p.state END,
               CASE n % 2 WHEN 1 THEN 'ERROR' ELSE p.raw_state END, 'normal', now(), p.provider
        FROM profiles p, generate_series(1, 8000) AS n WHERE p.iccid = $1
        RETURNING seq)
    UPDATE profiles SET seq = (SELECT max(seq) FROM history) WHERE iccid = $1";

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// Opens a stream from the beginning of the history and never reads from it.
async fn open(service: &Service, iccid: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(service.address()).await.unwrap();
    let request = format!(
        "GET /v1/profiles/{iccid}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\nLast-Event-ID: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// How many streams the service counts as open.
async fn streams(service: &Service) -> usize {
    let metrics = service.admin().get("/metrics").await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("esim_status_streams "));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

/// Twenty of the streams follow the profile that has a long history and keeps changing. `ESIM_STATUS_HOT_STREAMS` sets
/// another number, up to all of them, and `ESIM_STATUS_STREAMS` how many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_that_are_never_read_use_bounded_memory_and_delay_no_webhook() {
    let turn = beside_others().await;
    let count = usize::try_from(from_environment("ESIM_STATUS_STREAMS", 1_000)).unwrap();
    let hot = from_environment("ESIM_STATUS_HOT_STREAMS", 20);
    let hot = usize::try_from(hot).unwrap().min(count);
    let (_, most_files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most_files, most_files).unwrap();
    let postgres = Postgres::start();
    let service = Service::start(&postgres.url()).await;
    let database = postgres.database();
    let mut wire = Wire::new(service.public());
    for number in 0..20 {
        let body = json!({ "iccid": iccid(number), "profileState": "RELEASED" }).to_string();
        assert_eq!(wire.deliver(&body).await.unwrap().status, 200);
    }
    let history = sqlx::query(HISTORY).bind(iccid(0));
    history.execute(&mut database.connect().await).await.unwrap();
    let before = service.resident_kib();
    let begun = Instant::now();
    let mut open_streams = Vec::new();
    for number in 0..count {
        // Only the first profile has the long history and changes.
        let whose = if number < hot { 0 } else { 1 + number % 19 };
        open_streams.push(open(&service, &iccid(whose)).await);
    }
    wait_until("all streams are open", async || streams(&service).await == count).await;

    let (mut most, mut times, mut refused) = (0, Vec::new(), 0);
    // The service cuts each stream when the client has read nothing for 15 s.
    for state in STATES.iter().cycle() {
        let body = json!({ "iccid": iccid(0), "profileState": state }).to_string();
        let sent = Instant::now();
        match wire.deliver(&body).await.unwrap().status {
            200 => times.push(sent.elapsed()),
            status => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
        most = most.max(service.resident_kib());
        if times.len() % 10 == 0 && streams(&service).await == count - hot {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_mins(1) + turn.slack(),
            "the streams with unread data are not cut"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cut = begun.elapsed();
    let (median, worst) = median_and_worst(&times);
    measured(
        "streams that are never read",
        format!(
            "{count} streams, {hot} of them on a profile with 8,000 changes and more: RSS {} MiB before, {} MiB at most; the \
             {hot} were cut within {cut:.1?}; {} deliveries meanwhile, {refused} refused, {median:.2?} (median), {worst:.2?} (worst)",
            before / 1024,
            most / 1024,
            times.len(),
        ),
    );
    // Less than a tenth of a megabyte for each stream.
    let limit = before + 96 * u64::try_from(count).unwrap();
    assert!(most < limit, "{most} KiB after {before} KiB");
    // A busy machine may refuse a few deliveries, which has nothing to do with the streams.
    assert!(refused <= times.len() / 20 && median < turn.budget(), "{refused} refused, {median:?}");
    drop(open_streams);
}
