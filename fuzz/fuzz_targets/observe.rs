//! Reports and registrations in any order and with any times, as input of the state machine; `Story` checks its
//! invariants.

#![no_main]

use arbitrary::Arbitrary;
use esim_status_fuzz::domain::{Claim, Eid, Iccid, Imsi, ProfileState, Report, Timestamp};
use esim_status_fuzz::story::Story;
use libfuzzer_sys::fuzz_target;

/// Longer stories find nothing new.
const LONGEST_STORY: usize = 64;

#[derive(Debug, Arbitrary)]
struct Event {
    registers: bool,
    foreign: bool,
    state: Option<u8>,
    enabled: Option<bool>,
    device: Option<u8>,
    imsi: Option<u8>,
    received: Time,
    occurred: Option<Time>,
}

/// A time close to those of other events, or anywhere in the calendar.
#[derive(Debug, Arbitrary)]
enum Time {
    Near(i8),
    Minutes(i16),
    Anywhere(i64),
}

impl Time {
    fn timestamp(&self) -> Timestamp {
        let start = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        start.plus_seconds(match *self {
            Self::Near(seconds) => seconds.into(),
            Self::Minutes(minutes) => i64::from(minutes) * 60,
            Self::Anywhere(seconds) => seconds,
        })
    }
}

impl Event {
    fn report(&self) -> Report {
        let state = |number: u8| ProfileState::ALL[usize::from(number) % ProfileState::ALL.len()];
        // The same EID in either case, another EID, and a very short one.
        let device = |number: u8| ["ABCDEF", "abcdef", "89049032", "0"][usize::from(number) % 4];
        let claim = self.state.map(|number| Claim { state: state(number), enabled: self.enabled });
        Report {
            iccid: Iccid::parse("89972123300991848961").expect("an ICCID"),
            provider: if self.foreign { "other" } else { "gigastore" },
            raw_state: claim.map_or("WHATEVER".to_owned(), |claim| claim.state.to_string()),
            claim,
            eid: self.device.map(|number| Eid::parse(device(number)).expect("an EID")),
            device: None,
            imsi: self.imsi.map(|number| Imsi::parse(&format!("00101{number}")).expect("an IMSI")),
            occurred_at: self.occurred.as_ref().map(Time::timestamp),
            received_at: self.received.timestamp(),
            remarks: Vec::new(),
        }
    }
}

fuzz_target!(|events: Vec<Event>| {
    let mut story = Story::default();
    for event in events.iter().take(LONGEST_STORY) {
        let report = event.report();
        if event.registers {
            // An eSIM object has neither an EID nor the time of an event, and an unknown state in it counts as
            // `Preparing`.
            let wait = Claim { state: ProfileState::Preparing, enabled: None };
            let claim = report.claim.or(Some(wait));
            story.register(&Report { claim, eid: None, occurred_at: None, ..report });
        } else {
            story.observe(&report);
        }
    }
});
