//! A single-threaded load generator: HTTP/1.1 over kept-alive connections, one request at a time on each.
//!
//! With a rate, the loop is open: request *n* is due *n* periods after the start, whatever happened to earlier
//! requests, and its latency counts from when it was due. So a stall of the server counts for all requests that were
//! due during it, not only for the few that were in flight (no coordinated omission). Without a rate, the loop is
//! closed: each connection sends its next request as soon as it has an answer.

#[cfg(target_os = "linux")]
mod epoll;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

/// What to send, and how fast.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The address of the server.
    pub address: SocketAddr,
    /// The requests, which are sent in order and then from the start again.
    pub requests: &'a [Vec<u8>],
    /// The index of the first request.
    pub first: usize,
    /// The number of connections.
    pub connections: usize,
    /// The number of requests a second; `None` for a closed loop.
    pub rate: Option<f64>,
    /// The length of the warm-up, which does not count.
    pub warm_up: Duration,
    /// The length of the measurement.
    pub measure: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Figures {
    /// Latencies in microseconds, of answers with any status. A request without an answer counts with the time it has
    /// waited.
    pub latencies: Histogram<u64>,
    /// The number of answers a second, of requests that were due and answered during the measurement.
    pub rate: f64,
    /// How many requests were not answered, or not with 2xx.
    pub refused: u64,
    /// How many requests were sent, including the warm-up.
    pub sent: usize,
}

impl Figures {
    /// A percentile of the latency, in milliseconds; NaN if nothing was answered.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        if self.latencies.is_empty() {
            return f64::NAN;
        }
        let micros = self.latencies.value_at_percentile(percent);
        Duration::from_micros(micros).as_secs_f64() * 1_000.0
    }
}

/// Sends the load, and measures.
///
/// # Errors
/// If the server cannot be reached or closes a connection. Always, on systems other than Linux.
pub fn run(plan: &Plan) -> anyhow::Result<Figures> {
    #[cfg(target_os = "linux")]
    return epoll::Run::open(plan)?.run();
    #[cfg(not(target_os = "linux"))]
    anyhow::bail!("cannot send a load to {}: the generator needs Linux", plan.address);
}

/// The status of an answer, once it is complete. The answer must have a `Content-Length`.
fn whole_answer(bytes: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head]).context("the answer is not HTTP")?;
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.context("the answer has no Content-Length")?;
    let status = status.context("the answer has no status")?;
    Ok((bytes.len() >= head + 4 + length).then_some(status))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno";
        for length in 0..answer.len() {
            assert_eq!(whole_answer(&answer[..length]).unwrap(), None, "{length}");
        }
        assert_eq!(whole_answer(answer).unwrap(), Some(503));
        assert!(whole_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_stall_counts_for_every_request_that_was_due_during_it() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut socket, _) = server.accept().unwrap();
            let mut buffer = [0; 64];
            for number in 0_u32.. {
                match socket.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if number == 850 => std::thread::sleep(Duration::from_millis(200)),
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
        // One request took 200 ms, so it and those due later waited for 50 to 200 ms, and were answered after the end.
        assert!(figures.rate < 900.0, "{}", figures.rate);
        assert!(figures.percentile_ms(99.0) > 150.0, "{}", figures.percentile_ms(99.0));
        let slow = figures.latencies.count_between(50_000, 1_000_000);
        assert!(slow >= 100, "{slow}");
        serving.join().unwrap();
    }
}
