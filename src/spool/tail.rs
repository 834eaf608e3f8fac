//! Examines the end of SQLite's write-ahead log before SQLite opens it, because SQLite discards a broken end silently.
//!
//! The format is <https://www.sqlite.org/fileformat2.html#walformat>. Once the log has been copied into the file, it is
//! overwritten from its beginning with other salts. So frames with other salts are just old.

use std::fs;
use std::io;
use std::path::Path;

/// The lengths of the log's header and of a frame's header.
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// What SQLite will discard from a log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// The number of bytes in discarded frames.
    pub bytes: usize,
    /// How many of these frames end a transaction: such a transaction was finished, and is lost to damage.
    pub commits: usize,
}

/// Examines the end of the log, if there is one.
pub(super) fn look_at(log: &Path) -> io::Result<Tail> {
    match fs::read(log) {
        Ok(log) => Ok(tail(&log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tail::default()),
        Err(error) => Err(error),
    }
}

fn tail(log: &[u8]) -> Tail {
    let Some(head) = log.get(..HEAD) else { return Tail { bytes: log.len(), commits: 0 } };
    let big_endian = word(head, 0) & 1 == 1;
    let (page, salts) = (word(head, 8) as usize, &head[16..24]);
    let mut sums = checksum(big_endian, [0, 0], &head[..24]);
    if sums != [word(head, 24), word(head, 28)] || page == 0 {
        return Tail { bytes: log.len() - HEAD, commits: 0 };
    }
    // The end of the last intact transaction.
    let (mut whole, mut broken, mut left_out) = (HEAD, false, Tail::default());
    let mut end = HEAD;
    for frame in log[HEAD..].chunks(FRAME_HEAD + page) {
        // A partial frame is the newest one, if it can be identified at all.
        if frame.get(8..16).is_some_and(|it| it != salts) {
            break;
        }
        end += frame.len();
        let ends_transaction = frame.len() >= 8 && word(frame, 4) != 0;
        if frame.len() == FRAME_HEAD + page && !broken {
            sums = checksum(big_endian, sums, &frame[..8]);
            sums = checksum(big_endian, sums, &frame[FRAME_HEAD..]);
            broken = sums != [word(frame, 16), word(frame, 20)];
        } else {
            broken = true;
        }
        if !broken && ends_transaction {
            whole = end;
        }
        left_out.commits +=
            usize::from(broken && ends_transaction && frame.len() == FRAME_HEAD + page);
    }
    left_out.bytes = end - whole;
    left_out
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn checksum(big_endian: bool, [mut first, mut second]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let read = |word: &[u8]| {
        let word = word.try_into().unwrap_or_default();
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
    }
    [first, second]
}
