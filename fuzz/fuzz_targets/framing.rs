//! Any bytes as the input of one connection, split anywhere: the verdict does not depend on the splits, and accepted
//! requests end where `httparse`, the parser of hyper, and a second implementation of the rules say that they end.

#![no_main]

#[path = "../../src/listener/framing.rs"]
mod framing;

use framing::{Framing, Refusal};
use httparse::{EMPTY_HEADER, Request, Status};
use libfuzzer_sys::fuzz_target;

/// The state after some bytes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    is_in_head: bool,
    is_between_requests: bool,
}

impl State {
    fn of(framing: &Framing) -> Self {
        let (is_in_head, is_between_requests) =
            (framing.is_in_head(), framing.is_between_requests());
        assert!(is_in_head || !is_between_requests);
        Self { is_in_head, is_between_requests }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (states, refused) = one_by_one(bytes);
    let verdict = refused.map_or_else(|| Ok(states[bytes.len()]), Err);
    for salt in 0..4 {
        assert_eq!(in_pieces(bytes, salt), verdict);
    }
    assert_ends_agree(bytes, &states);
});

/// The state before the first byte and after each byte, up to the one that is refused.
fn one_by_one(bytes: &[u8]) -> (Vec<State>, Option<Refusal>) {
    let mut framing = Framing::default();
    let mut states = vec![State::of(&framing)];
    for at in 0..bytes.len() {
        if let Err(refusal) = framing.advance(&bytes[at..=at]) {
            assert_eq!((refusal.at, bytes[at]), (0, b'\n'), "only a line feed is refused");
            assert!(refusal.flaw.to_string().is_ascii());
            return (states, Some(Refusal { at, ..refusal }));
        }
        states.push(State::of(&framing));
    }
    (states, None)
}

/// The same bytes in pieces whose lengths are derived from `salt`; 0 for a single piece.
fn in_pieces(bytes: &[u8], salt: u64) -> Result<State, Refusal> {
    let mut framing = Framing::default();
    let mut random = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ bytes.len() as u64;
    let mut start = 0;
    while start < bytes.len() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
        // Mostly a few bytes, sometimes none.
        let length = if salt == 0 { bytes.len() } else { (random >> 33) as usize % (8 << salt) };
        let end = bytes.len().min(start + length);
        framing
            .advance(&bytes[start..end])
            .map_err(|refusal| Refusal { at: start + refusal.at, ..refusal })?;
        start = end;
    }
    Ok(State::of(&framing))
}

/// Follows the requests with the parser of hyper, as far as both accept the input.
fn assert_ends_agree(bytes: &[u8], states: &[State]) {
    let mut start = 0;
    while states.get(start).is_some_and(|state| state.is_between_requests) {
        let mut headers = [EMPTY_HEADER; 100];
        let mut request = Request::new(&mut headers);
        let Ok(Status::Complete(length)) = request.parse(&bytes[start..]) else {
            return;
        };
        let head = start + length;
        if head >= states.len() {
            return;
        }
        let Some(end) = assert_body_agrees(&request, bytes, states, head) else {
            return;
        };
        assert!(states[end].is_between_requests, "a request ends after {end} bytes");
        start = end;
    }
}

/// Where the body ends; `None` if the accepted bytes end before that.
fn assert_body_agrees(
    request: &Request<'_, '_>,
    bytes: &[u8],
    states: &[State],
    head: usize,
) -> Option<usize> {
    let all = |name: &str| {
        let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii()).collect::<Vec<_>>()
    };
    let old = request.version == Some(0);
    assert!(all("host").len() == 1 || old && all("host").is_empty(), "one host");
    let end = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => head,
        ([length], []) => {
            assert!(length.iter().all(u8::is_ascii_digit), "a plain number");
            let length: u64 = str::from_utf8(length).ok()?.parse().expect("a number that fits");
            head.checked_add(usize::try_from(length).ok()?)?
        }
        ([], [encoding]) => {
            assert!(encoding.eq_ignore_ascii_case(b"chunked") && !old);
            assert!(!states[head].is_in_head);
            end_of_chunks(bytes, head)?
        }
        (lengths, encodings) => panic!("accepted: lengths {lengths:?} encodings {encodings:?}"),
    };
    assert!(
        (head..end.min(states.len())).all(|at| !states[at].is_between_requests),
        "a body of {} bytes ends too early",
        end - head
    );
    (end < states.len()).then_some(end)
}

/// Where the chunks that begin at `at` end, by RFC 9112, 7.1; `None` if they are incomplete or invalid.
fn end_of_chunks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = line(bytes, &mut at)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if !bytes.get(at..)?.starts_with(b"\r\n") {
            return None;
        }
        at += 2;
    }
    while !line(bytes, &mut at)?.is_empty() {}
    Some(at)
}

/// The next line, without its line break.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = bytes.get(*at..)?;
    let length = rest.windows(2).position(|two| two == b"\r\n")?;
    *at += length + 2;
    Some(&rest[..length])
}
