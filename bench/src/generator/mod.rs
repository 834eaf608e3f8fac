//! A load generator on one thread: HTTP/1.1 over connections that stay open, one request at a time on each.
//!
//! With a rate it is an open loop: request *n* is due *n* periods after the start, whatever became of the ones before, and its
//! latency counts from then on. A server that stalls is so charged with all who would have come meanwhile, not with the
//! few that were waiting (coordinated omission). Without a rate each connection asks again as soon as it has its answer.

#[cfg(target_os = "linux")]
mod epoll;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

/// What to send, and how.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// To whom.
    pub address: SocketAddr,
    /// The requests, sent in their order and from the start again.
    pub requests: &'a [Vec<u8>],
    /// The place of the first.
    pub first: usize,
    /// How many connections.
    pub connections: usize,
    /// How many requests a second; `None`: as many as are answered.
    pub rate: Option<f64>,
    /// How long before anything counts.
    pub warm_up: Duration,
    /// How long.
    pub measure: Duration,
}

/// What was seen.
#[derive(Debug)]
pub struct Figures {
    /// Latencies in microseconds, of answers of any status; of requests without one, how long they had waited in the end.
    pub latencies: Histogram<u64>,
    /// Answers a second.
    pub rate: f64,
    /// Answers that were not 2xx, and requests that had none.
    pub refused: u64,
    /// How many requests were sent, those before the measurement too.
    pub sent: usize,
}

impl Figures {
    /// The latency that so many per cent did not exceed, in milliseconds; not a number, where nothing was answered.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        if self.latencies.is_empty() {
            return f64::NAN;
        }
        let micros = self.latencies.value_at_percentile(percent);
        Duration::from_micros(micros).as_secs_f64() * 1_000.0
    }
}

/// Sends the load and measures.
///
/// # Errors
/// Where the server cannot be reached or closes a connection; anywhere but on Linux.
pub fn run(plan: &Plan) -> anyhow::Result<Figures> {
    #[cfg(target_os = "linux")]
    return epoll::Run::open(plan)?.run();
    #[cfg(not(target_os = "linux"))]
    anyhow::bail!("cannot send a load to {}: the generator needs Linux", plan.address);
}

/// The status of an answer, once all of it is there. Only answers that tell their length are understood.
fn whole_answer(bytes: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head]).context("an answer that is no HTTP")?;
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.context("an answer that does not tell its length")?;
    let status = status.context("an answer without a status")?;
    Ok((bytes.len() >= head + 4 + length).then_some(status))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno";
        for length in 0..answer.len() {
            assert_eq!(whole_answer(&answer[..length]).unwrap(), None, "{length}");
        }
        assert_eq!(whole_answer(answer).unwrap(), Some(503));
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_server_that_stalls_is_charged_with_all_who_would_have_come() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut socket, _) = server.accept().unwrap();
            let mut buffer = [0; 64];
            for number in 0_u32.. {
                match socket.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if number == 50 => std::thread::sleep(Duration::from_millis(200)),
                    Ok(_) => {}
                }
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        });
        let requests = [b"GET / HTTP/1.1\r\n\r\n".to_vec()];
        let plan = Plan {
            address,
            requests: &requests,
            first: 0,
            connections: 1,
            rate: Some(1_000.0),
            warm_up: Duration::ZERO,
            measure: Duration::from_secs(1),
        };
        let figures = run(&plan).unwrap();
        assert_eq!((figures.sent, figures.refused), (1_000, 0));
        // One request took 200 ms; those behind it waited for up to as long, half of them for more than 100 ms.
        assert!(figures.percentile_ms(99.0) > 150.0, "{}", figures.percentile_ms(99.0));
        let slow = figures.latencies.count_between(50_000, 1_000_000);
        assert!(slow >= 100, "{slow}");
        serving.join().unwrap();
    }
}
