//! Strict message framing: finds where each request ends, and refuses requests whose end is ambiguous.
//!
//! If a proxy and a server disagree about where a request ends, an attacker can hide a request inside another one
//! ("request smuggling"). hyper is lenient in the places where the two usually disagree: it accepts a bare line feed as
//! the end of a line, lets `Transfer-Encoding` win over `Content-Length`, merges equal lengths and does not require
//! `Host`. [`Framing`] sees every byte before hyper does (see [`super::socket`]), follows heads and bodies without
//! storing them, and refuses everything ambiguous.
//!
//! [`Framing`] checks nothing else. If other malformed requests pass, hyper refuses them. Each connection has one
//! [`Framing`] of about a hundred bytes.

use std::mem;

use memchr::memchr;

/// How many bytes of a line are stored. Every line whose content matters fits, such as `content-length` with fifteen
/// digits.
const KEPT: usize = 32;

/// The first byte that must not be passed on, as an index into the given bytes, and the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) at: usize,
    pub(super) flaw: Flaw,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    #[error("a line begins with white space")]
    FoldedLine,
    #[error("a header line has no name, no colon, or white space before the colon")]
    NoName,
    #[error("the content length is not one plain number")]
    BadLength,
    #[error("there is more than one content length")]
    TwoLengths,
    #[error("the transfer encoding is not chunked alone, or comes with HTTP/1.0")]
    BadEncoding,
    #[error("there is both a content length and a transfer encoding")]
    LengthAndEncoding,
    #[error("there is no host")]
    NoHost,
    #[error("there is more than one host")]
    TwoHosts,
    #[error("the line before a chunk, or the end of one, is malformed")]
    BadChunk,
}

/// Follows the requests of one connection. It must not be used after a [`Refusal`].
#[derive(Debug, Default)]
pub(super) struct Framing {
    place: Place,
    head: Head,
    line: Line,
}

/// The part of a request that the next byte belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

/// The facts about the current head that have been read so far.
#[derive(Debug, Default)]
struct Head {
    /// The last byte of the request line, which is the minor HTTP version.
    minor: Option<u8>,
    host: bool,
    chunked: bool,
    length: Option<u64>,
}

/// The current line: its beginning, its length and its last two bytes.
#[derive(Debug, Default)]
struct Line {
    kept: [u8; KEPT],
    length: usize,
    last: [u8; 2],
}

impl Framing {
    /// Reads the next bytes of the connection. A refused byte is always the line feed that would end a bad line.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if let Place::Body(left) | Place::Chunk(left) = &mut self.place {
                let step = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= step as u64;
                at += step;
                self.place = match self.place {
                    Place::Body(0) => Place::Head,
                    Place::Chunk(0) => Place::ChunkEnd,
                    place => place,
                };
            } else if let Some(step) = memchr(b'\n', rest) {
                at += step;
                self.line.push(&rest[..step]);
                let line = mem::take(&mut self.line);
                self.take_line(&line).map_err(|flaw| Refusal { at, flaw })?;
                at += 1;
            } else {
                self.line.push(rest);
                break;
            }
        }
        Ok(())
    }

    /// Whether all bytes so far belong to complete requests.
    pub(super) fn is_between_requests(&self) -> bool {
        self.is_in_head() && self.head.minor.is_none() && self.line.length == 0
    }

    /// Whether the next byte belongs to a head. Then hyper can still answer 400 itself.
    pub(super) fn is_in_head(&self) -> bool {
        self.place == Place::Head
    }

    fn take_line(&mut self, line: &Line) -> Result<(), Flaw> {
        let (text, whole) = line.text()?;
        if let [b' ' | b'\t', ..] = text {
            return Err(Flaw::FoldedLine);
        }
        self.place = match self.place {
            Place::Head if self.head.minor.is_none() => {
                // Empty lines before a request are allowed (RFC 9112, 2.2).
                self.head.minor = (!text.is_empty()).then_some(line.last[0]);
                Place::Head
            }
            Place::Head if text.is_empty() => mem::take(&mut self.head).end()?,
            Place::Head => self.head.take_field(text, whole)?,
            Place::ChunkSize => match chunk_size(text, whole)? {
                0 => Place::Trailers,
                size => Place::Chunk(size),
            },
            Place::ChunkEnd if text.is_empty() => Place::ChunkSize,
            Place::Trailers if text.is_empty() => Place::Head,
            Place::Trailers => Place::Trailers,
            Place::ChunkEnd | Place::Body(_) | Place::Chunk(_) => return Err(Flaw::BadChunk),
        };
        Ok(())
    }
}

impl Head {
    fn is_http_1_0(&self) -> bool {
        self.minor == Some(b'0')
    }

    fn take_field(&mut self, text: &[u8], whole: bool) -> Result<Place, Flaw> {
        let Some(colon) = memchr(b':', text) else {
            // A name that does not fit into the stored bytes is none of the names below.
            return (!whole).then_some(Place::Head).ok_or(Flaw::NoName);
        };
        let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
        if matches!(name.last(), None | Some(b' ' | b'\t')) {
            return Err(Flaw::NoName);
        }
        if name.eq_ignore_ascii_case(b"host") {
            if mem::replace(&mut self.host, true) {
                return Err(Flaw::TwoHosts);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value, 10).filter(|_| whole);
            if self.length.replace(length.ok_or(Flaw::BadLength)?).is_some() {
                return Err(Flaw::TwoLengths);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_known = whole && value.eq_ignore_ascii_case(b"chunked") && !self.is_http_1_0();
            if !is_known || mem::replace(&mut self.chunked, true) {
                return Err(Flaw::BadEncoding);
            }
        }
        if self.chunked && self.length.is_some() {
            return Err(Flaw::LengthAndEncoding);
        }
        Ok(Place::Head)
    }

    /// What follows the head, after its empty line.
    fn end(self) -> Result<Place, Flaw> {
        if !self.host && !self.is_http_1_0() {
            return Err(Flaw::NoHost);
        }
        Ok(match self.length {
            _ if self.chunked => Place::ChunkSize,
            None | Some(0) => Place::Head,
            Some(length) => Place::Body(length),
        })
    }
}

impl Line {
    fn push(&mut self, piece: &[u8]) {
        if let Some(room) = self.kept.get_mut(self.length..) {
            let fits = room.len().min(piece.len());
            room[..fits].copy_from_slice(&piece[..fits]);
        }
        self.length = self.length.saturating_add(piece.len());
        match *piece {
            [] => {}
            [only] => self.last = [self.last[1], only],
            [.., before, last] => self.last = [before, last],
        }
    }

    /// The stored bytes of the line without its carriage return, and whether they are the whole line. Refuses a bare
    /// line feed.
    fn text(&self) -> Result<(&[u8], bool), Flaw> {
        if self.last[1] != b'\r' {
            return Err(Flaw::BareLineFeed);
        }
        let whole = self.kept.get(..self.length - 1);
        Ok(whole.map_or((&self.kept[..], false), |text| (text, true)))
    }
}

/// Parses digits only: no sign, no white space, no list. Returns `None` for anything else, and for a number that does
/// not fit.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let mut digits = text.iter().map(|byte| char::from(*byte).to_digit(radix));
    let first = u64::from(digits.next()??);
    digits.try_fold(first, |sum, digit| sum.checked_mul(radix.into())?.checked_add(digit?.into()))
}

/// Parses `1a` and `1a;name=value`, also with white space after the number.
fn chunk_size(text: &[u8], whole: bool) -> Result<u64, Flaw> {
    let end = text.iter().position(|byte| b"; \t".contains(byte));
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let is_proper = rest.trim_ascii_start().first().map_or(whole, |byte| *byte == b';');
    number(digits, 16).filter(|_| is_proper).ok_or(Flaw::BadChunk)
}

#[cfg(test)]
pub(in crate::listener) mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Reads `bytes` in pieces cut at `cuts`. Returns where and why they are refused, or whether they were complete
    /// requests.
    fn read(bytes: &[u8], cuts: &[Index]) -> Result<bool, Refusal> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.push(0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut framing = Framing::default();
        for piece in cuts.windows(2) {
            framing
                .advance(&bytes[piece[0]..piece[1]])
                .map_err(|refusal| Refusal { at: piece[0] + refusal.at, ..refusal })?;
        }
        Ok(framing.is_between_requests())
    }

    fn flaw(request: &str) -> Option<Flaw> {
        read(request.as_bytes(), &[]).err().map(|refusal| refusal.flaw)
    }

    #[test]
    fn each_doubtful_head_is_refused_for_its_flaw() {
        let post = "POST / HTTP/1.1\r\nHost: a\r\n";
        for (fields, expected) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Flaw::LengthAndEncoding),
            ("transfer-encoding: chunked\r\ncontent-length: 0\r\n", Flaw::LengthAndEncoding),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", Flaw::TwoLengths),
            ("Content-Length: 1\r\ncOnTeNt-LeNgTh: 1\r\n", Flaw::TwoLengths),
            ("Content-Length: 1, 1\r\n", Flaw::BadLength),
            ("Content-Length: +1\r\n", Flaw::BadLength),
            ("Content-Length: -1\r\n", Flaw::BadLength),
            ("Content-Length: 0x1\r\n", Flaw::BadLength),
            ("Content-Length:\r\n", Flaw::BadLength),
            ("Content-Length: 99999999999999999999\r\n", Flaw::BadLength),
            ("Content-Length: 1\u{661}\r\n", Flaw::BadLength),
            ("Content-Length:                              1\r\n", Flaw::BadLength),
            ("Transfer-Encoding: gzip\r\n", Flaw::BadEncoding),
            ("Transfer-Encoding: gzip, chunked\r\n", Flaw::BadEncoding),
            ("Transfer-Encoding: chunked, chunked\r\n", Flaw::BadEncoding),
            ("Transfer-Encoding: xchunked\r\n", Flaw::BadEncoding),
            ("Transfer-Encoding: \"chunked\"\r\n", Flaw::BadEncoding),
            ("Transfer-Encoding:\r\n", Flaw::BadEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Flaw::BadEncoding),
            ("Host: b\r\n", Flaw::TwoHosts),
            ("X: y\r\n z\r\n", Flaw::FoldedLine),
            ("X: y\r\n\tTransfer-Encoding: chunked\r\n", Flaw::FoldedLine),
            (" \r\n", Flaw::FoldedLine),
            ("X: y\n", Flaw::BareLineFeed),
            ("\n", Flaw::BareLineFeed),
            ("Content-Length : 1\r\n", Flaw::NoName),
            ("Transfer-Encoding\t: chunked\r\n", Flaw::NoName),
            (": y\r\n", Flaw::NoName),
            ("Content-Length\r\n", Flaw::NoName),
        ] {
            assert_eq!(flaw(&format!("{post}{fields}\r\n")), Some(expected), "{fields:?}");
        }
        assert_eq!(flaw("GET / HTTP/1.1\r\n\r\n"), Some(Flaw::NoHost));
        assert_eq!(flaw("GET / HTTP/1.1\nHost: a\r\n\r\n"), Some(Flaw::BareLineFeed));
        assert_eq!(flaw("GET / HTTP/1.1\r\nHost: a\r\n\n"), Some(Flaw::BareLineFeed));
        assert_eq!(flaw("\nGET / HTTP/1.1\r\n"), Some(Flaw::BareLineFeed));
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(flaw(old), Some(Flaw::BadEncoding));
        assert_eq!(flaw("GET / HTTP/1.0\r\n\r\n"), None);
    }

    #[test]
    fn each_doubtful_chunk_is_refused() {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, expected) in [
            ("1\nx\r\n0\r\n\r\n", Flaw::BareLineFeed),
            ("1;a\nx\r\n0\r\n\r\n", Flaw::BareLineFeed),
            ("1\r\nx\n0\r\n\r\n", Flaw::BareLineFeed),
            ("0\r\n\n", Flaw::BareLineFeed),
            ("0\r\nX: y\n\r\n", Flaw::BareLineFeed),
            ("0\r\n X: y\r\n\r\n", Flaw::FoldedLine),
            ("1\r\nxx\r\n0\r\n\r\n", Flaw::BadChunk),
            ("\r\n", Flaw::BadChunk),
            ("x\r\n", Flaw::BadChunk),
            ("-1\r\n", Flaw::BadChunk),
            ("0x1\r\n", Flaw::BadChunk),
            ("1 1\r\n", Flaw::BadChunk),
            (" 1\r\n", Flaw::FoldedLine),
            ("10000000000000000\r\n", Flaw::BadChunk),
        ] {
            assert_eq!(flaw(&format!("{post}{body}")), Some(expected), "{body:?}");
        }
    }

    #[test]
    fn the_bytes_before_the_offending_line_feed_are_passed() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\n";
        let refusal = Refusal { at: bytes.len() - 1, flaw: Flaw::BareLineFeed };
        assert_eq!(read(bytes, &[]), Err(refusal));
    }

    /// Generates the bytes of a request that RFC 9112 allows.
    pub(in crate::listener) fn request() -> impl Strategy<Value = Vec<u8>> {
        let sized = prop::collection::vec(any::<u8>(), 0..200).prop_map(|body| {
            let head =
                format!("content-LENGTH:{} {}\t\r\n\r\n", " ".repeat(body.len() % 8), body.len());
            [head.into_bytes(), body].concat()
        });
        let chunk =
            (prop::collection::vec(any::<u8>(), 1..99), "(| ;a|;name=\"a;b\" ; [a-z]{1,60})");
        let chunked = (prop::collection::vec(chunk, 0..4), "(X-[a-z]{1,50}: [ -~]{0,50}\r\n){0,3}")
            .prop_map(|(chunks, trailers)| {
                let mut text = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
                for (data, extension) in chunks {
                    text.extend(format!("{:x}{extension}\r\n", data.len()).bytes());
                    text.extend(data);
                    text.extend(b"\r\n");
                }
                text.extend(format!("0\r\n{trailers}\r\n").bytes());
                text
            });
        let bodiless = Just(b"\r\n".to_vec());
        let head = "(\r\n)?(GET|POST|PUT|DELETE|HEAD|PURGE) /[a-z/?=&]{0,60} HTTP/1\\.1\r\n\
                    (X[a-z-]{0,50}:[ -~]{0,80}\r\n){0,3}(Host|HOST|host): [a-z.:]{0,40}\r\n";
        (head, prop_oneof![bodiless, sized, chunked])
            .prop_map(|(head, rest)| [head.into_bytes(), rest].concat())
    }

    proptest! {
        #[test]
        fn well_formed_requests_pass_in_whatever_pieces_they_come(
            requests in prop::collection::vec(request(), 1..5),
            cuts in prop::collection::vec(any::<Index>(), 0..20),
        ) {
            prop_assert_eq!(read(&requests.concat(), &cuts), Ok(true));
        }

        #[test]
        fn the_verdict_does_not_depend_on_the_pieces(
            requests in prop::collection::vec(request(), 1..4),
            edits in prop::collection::vec((any::<Index>(), "[\r\n\t :;,0x]"), 1..4),
            cuts in prop::collection::vec(any::<Index>(), 0..20),
        ) {
            let mut bytes = requests.concat();
            for (place, byte) in edits {
                let place = place.index(bytes.len());
                bytes[place] = byte.as_bytes()[0];
            }
            let each = vec![(); bytes.len()];
            prop_assert_eq!(read(&bytes, &cuts), read(&bytes, &[]));
            let mut framing = Framing::default();
            let one_by_one = each.iter().enumerate().try_for_each(|(at, ())| {
                framing.advance(&bytes[at..=at]).map_err(|refusal| Refusal { at, ..refusal })
            });
            prop_assert_eq!(one_by_one.err(), read(&bytes, &[]).err());
        }
    }
}
