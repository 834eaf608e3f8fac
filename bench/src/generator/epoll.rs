//! The load generator on Linux, with epoll and a timer of microsecond precision.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Figures, Plan, whole_answer};
use crate::interrupt;

/// How long to wait for the answers to the last requests.
const PATIENCE: Duration = Duration::from_secs(5);

/// The event data of the timer. Other events have the index of their connection.
const TIMER: u64 = u64::MAX;

struct Connection {
    socket: TcpStream,
    /// The bytes of an incomplete answer.
    received: Vec<u8>,
    /// When the request in flight was due.
    due: Instant,
    /// Whether a request is in flight.
    waits: bool,
}

/// One run of the generator.
pub(super) struct Run<'a> {
    plan: &'a Plan<'a>,
    epoll: Epoll,
    timer: TimerFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    begun: Instant,
    sent: usize,
    /// How many requests were due and answered during the measurement.
    in_time: u32,
    figures: Figures,
}

impl<'a> Run<'a> {
    /// Opens the connections.
    pub fn open(plan: &'a Plan<'a>) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let begun = Instant::now();
        let mut connections = Vec::with_capacity(plan.connections);
        for number in 0..plan.connections {
            let socket =
                TcpStream::connect(plan.address).context("the server cannot be reached")?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            connections.push(Connection { socket, received: Vec::new(), due: begun, waits: false });
        }
        let latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        let figures = Figures { latencies, rate: 0.0, refused: 0, sent: 0 };
        let idle = (0..plan.connections).collect();
        let begun = Instant::now();
        Ok(Self { plan, epoll, timer, connections, idle, begun, sent: 0, in_time: 0, figures })
    }

    /// Sends and measures until the time is over and everything is answered.
    pub fn run(mut self) -> anyhow::Result<Figures> {
        let end = self.begun + self.plan.warm_up + self.plan.measure;
        let mut events = [EpollEvent::empty(); 256];
        loop {
            interrupt::check()?;
            let now = Instant::now();
            let all_sent = self.due(self.sent, now) >= end;
            if all_sent && self.idle.len() == self.connections.len() {
                break;
            }
            if now > end + PATIENCE {
                self.give_up(now, end);
                break;
            }
            self.send_what_is_due(now, end)?;
            let ready = self.epoll.wait(&mut events, EpollTimeout::from(100_u16))?;
            for event in &events[..ready] {
                if event.data() == TIMER {
                    // Reading the timer resets it, or it would wake epoll forever. It is no error if it has not
                    // expired.
                    let _ = self.timer.wait();
                } else if let Ok(number) = usize::try_from(event.data()) {
                    self.receive(number, end)?;
                }
            }
        }
        self.figures.rate = f64::from(self.in_time) / self.plan.measure.as_secs_f64();
        self.figures.sent = self.sent;
        Ok(self.figures)
    }

    /// When request `number` is due: now, if there is no rate.
    fn due(&self, number: usize, now: Instant) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests")]
        let after = |rate| Duration::from_secs_f64(number as f64 / rate);
        self.plan.rate.map_or(now, |rate| self.begun + after(rate))
    }

    /// Sends the requests that are due, including those that were due earlier and found no idle connection.
    fn send_what_is_due(&mut self, now: Instant, end: Instant) -> anyhow::Result<()> {
        while let Some(&number) = self.idle.front() {
            let due = self.due(self.sent, now);
            if due >= end {
                break;
            }
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
            connection.waits = true;
            // A request is much smaller than the socket's send buffer, which is empty.
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
        connection.waits = false;
        self.idle.push_back(number);
        let due = connection.due;
        self.record(due, Instant::now(), end, (200..300).contains(&status));
        Ok(())
    }

    /// Records a latency. In an open loop, requests count that were due during the measurement; in a closed loop,
    /// requests that were answered during it.
    fn record(&mut self, due: Instant, now: Instant, end: Instant, is_good: bool) {
        let at = if self.plan.rate.is_some() { due } else { now };
        if at >= self.begun + self.plan.warm_up && at < end {
            let micros = u64::try_from((now - due).as_micros()).unwrap_or(u64::MAX);
            self.figures.latencies.saturating_record(micros.max(1));
            self.figures.refused += u64::from(!is_good);
            self.in_time += u32::from(now < end);
        }
    }

    /// Records the requests that have no answer yet with the time that they have waited.
    fn give_up(&mut self, now: Instant, end: Instant) {
        let in_flight = self.connections.iter().filter(|connection| connection.waits);
        let mut unanswered: Vec<_> = in_flight.map(|connection| connection.due).collect();
        while self.due(self.sent, now) < end {
            unanswered.push(self.due(self.sent, now));
            self.sent += 1;
        }
        for due in unanswered {
            self.record(due, now, end, false);
        }
    }
}
