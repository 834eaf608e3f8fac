//! A load generator on one thread: HTTP/1.1 over connections that stay open, one request at a time on each.
//!
//! With a rate it is an open loop: request *n* is due *n* periods after the start, whatever became of the ones before, and its
//! latency counts from then on. A server that stalls is so charged with all who would have come meanwhile, not with the
//! few that were waiting (coordinated omission). Without a rate each connection asks again as soon as it has its answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

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
    /// Latencies in microseconds, of answers of any status.
    pub latencies: Histogram<u64>,
    /// Answers a second.
    pub rate: f64,
    /// Answers that were not 2xx.
    pub refused: u64,
    /// How many requests were sent, those before the measurement too.
    pub sent: usize,
}

impl Figures {
    /// The latency that so many per cent did not exceed, in milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let micros = self.latencies.value_at_percentile(percent);
        Duration::from_micros(micros).as_secs_f64() * 1_000.0
    }
}

/// How long the server may leave the last requests without an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stands for the timer among the numbers of the connections.
const TIMER: u64 = u64::MAX;

/// Sends the load and measures.
///
/// # Errors
/// Where the server cannot be reached, closes a connection, or does not answer.
pub fn run(plan: &Plan) -> anyhow::Result<Figures> {
    Run::open(plan)?.run()
}

struct Connection {
    socket: TcpStream,
    /// What of an answer has come.
    received: Vec<u8>,
    /// When the request in flight was to be sent.
    due: Instant,
}

struct Run<'a> {
    plan: &'a Plan<'a>,
    epoll: Epoll,
    timer: TimerFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    begun: Instant,
    sent: usize,
    figures: Figures,
}

impl<'a> Run<'a> {
    fn open(plan: &'a Plan<'a>) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let begun = Instant::now();
        let mut connections = Vec::with_capacity(plan.connections);
        for number in 0..plan.connections {
            let socket = TcpStream::connect(plan.address).context("the server is not there")?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            connections.push(Connection { socket, received: Vec::new(), due: begun });
        }
        let latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        let figures = Figures { latencies, rate: 0.0, refused: 0, sent: 0 };
        let idle = (0..plan.connections).collect();
        Ok(Self { plan, epoll, timer, connections, idle, begun: Instant::now(), sent: 0, figures })
    }

    fn run(mut self) -> anyhow::Result<Figures> {
        let end = self.begun + self.plan.warm_up + self.plan.measure;
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let now = Instant::now();
            if now < end {
                self.send_what_is_due(now)?;
            } else if self.idle.len() == self.connections.len() {
                break;
            } else if now > end + PATIENCE {
                bail!("the server left requests without an answer");
            }
            let ready = self.epoll.wait(&mut events, EpollTimeout::from(100_u16))?;
            for event in &events[..ready] {
                if event.data() == TIMER {
                    // Read, or it would wake us for ever; that it was not due after all is no error.
                    let _ = self.timer.wait();
                } else if let Ok(number) = usize::try_from(event.data()) {
                    self.receive(number, end)?;
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests")]
        let answers = self.figures.latencies.len() as f64;
        self.figures.rate = answers / self.plan.measure.as_secs_f64();
        self.figures.sent = self.sent;
        Ok(self.figures)
    }

    /// When request `number` is to be sent; now, where there is no rate.
    fn due(&self, number: usize, now: Instant) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests")]
        let after = |rate| Duration::from_secs_f64(number as f64 / rate);
        self.plan.rate.map_or(now, |rate| self.begun + after(rate))
    }

    fn send_what_is_due(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some(&number) = self.idle.front() {
            let due = self.due(self.sent, now);
            if due > now {
                let wait = TimeSpec::from(due - now);
                self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
                break;
            }
            self.idle.pop_front();
            let requests = self.plan.requests;
            let request = &requests[(self.plan.first + self.sent) % requests.len()];
            let connection = &mut self.connections[number];
            connection.due = due;
            // A request is far smaller than a socket's buffer, and that is empty.
            connection.socket.write_all(request).context("the server closed a connection")?;
            self.sent += 1;
        }
        Ok(())
    }

    fn receive(&mut self, number: usize, end: Instant) -> anyhow::Result<()> {
        let connection = &mut self.connections[number];
        let mut buffer = [0; 4_096];
        match connection.socket.read(&mut buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(length) => connection.received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let Some(status) = whole_answer(&connection.received)? else {
            return Ok(());
        };
        connection.received.clear();
        self.idle.push_back(number);
        // Open loop: all that were due in the time, however late they were answered. Else: all that were answered in it.
        let (now, due) = (Instant::now(), connection.due);
        let at = if self.plan.rate.is_some() { due } else { now };
        if at >= self.begun + self.plan.warm_up && at < end {
            let micros = u64::try_from((now - due).as_micros()).unwrap_or(u64::MAX);
            self.figures.latencies.saturating_record(micros.max(1));
            self.figures.refused += u64::from(!(200..300).contains(&status));
        }
        Ok(())
    }
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
