//! Webhooks that are generated and signed beforehand, so that sending them costs no time for that.
//!
//! Each profile has four deliveries: the three states of its life and a repetition of one of them, so three of four
//! move the profile. Some loads have more repetitions. The last state is `DISABLED`, from which the next pass starts. The deliveries of one profile are
//! some thousand others apart, so that two of them are rarely in flight together, and new profiles appear all the time.
//! The mixture is therefore the same for a slow server, which gets only through a part of the file, as for a fast one.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

/// The path of the webhooks.
pub const PATH: &str = "/webhooks/gigastore/esim-status";

/// The header with the hexadecimal HMAC-SHA256 of the body.
pub const HEADER: &str = "X-Signature";

/// The states that every profile passes through, over and over.
const LIFE: [&str; 3] = ["RELEASED", "INSTALLED", "DISABLED"];

/// The distance between two deliveries of one profile, in deliveries: the minimum, and the max random addition.
const APART: (u64, u64) = (1_500, 1_000);

/// A secret that anyone can compute, for a service that only the benchmark can reach.
pub fn secret(purpose: &str) -> String {
    hex::encode(Sha256::digest(format!("esim-status bench: {purpose}")))
}

/// The ICCID of the profile with this number: 19 digits, with a valid check digit.
pub fn iccid(number: u64) -> String {
    let digits = format!("894400{number:012}");
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// The profiles of a load: some of all profiles that exist, spread evenly.
#[derive(Debug, Clone, Copy)]
pub struct Profiles {
    /// How many profiles the load is about.
    pub count: u64,
    /// How many profiles exist.
    pub of: u64,
    /// How many deliveries of each profile repeat its state.
    pub repeats: usize,
}

impl Profiles {
    /// The ICCIDs, in random order, so that an index has no advantage.
    pub fn iccids(self) -> Vec<String> {
        let step = (self.of / self.count.max(1)).max(1);
        let mut iccids: Vec<_> = (0..self.count).map(|place| iccid(place * step)).collect();
        iccids.shuffle(&mut StdRng::seed_from_u64(1));
        iccids
    }
}

/// The body of one request with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The value of [`HEADER`].
    pub signature: String,
    /// The body.
    pub body: String,
}

/// Generates the deliveries of each profile: its three states, and `repeats` repetitions of one of them.
///
/// # Errors
/// Never: HMAC accepts keys of any length.
pub fn make(iccids: &[String], repeats: usize) -> anyhow::Result<Vec<Signed>> {
    let mut random = StdRng::seed_from_u64(2);
    let key = Hmac::<Sha256>::new_from_slice(secret("hook").as_bytes())?;
    let each = LIFE.len() + repeats;
    let mut due = Vec::with_capacity(iccids.len() * each);
    for (number, iccid) in iccids.iter().enumerate() {
        let mut at = (number * each) as u64;
        let repeated = random.random_range(0..LIFE.len());
        let again = std::iter::repeat_n(&LIFE[repeated], repeats);
        let life = LIFE[..=repeated].iter().chain(again).chain(&LIFE[repeated + 1..]);
        for state in life {
            due.push((at, iccid, state));
            at += APART.0 + random.random_range(0..APART.1);
        }
    }
    due.sort_by_key(|(at, ..)| *at);
    let made = due.into_iter().map(|(_, iccid, state)| {
        let body = body(iccid, state);
        let mac = key.clone().chain_update(&body).finalize().into_bytes();
        Signed { signature: hex::encode(mac), body }
    });
    Ok(made.collect())
}

/// A body as Gigastore sends it. A profile without a device has no EID.
fn body(iccid: &str, state: &str) -> String {
    let number = &iccid[6..18];
    let imsi = format!("234{number}");
    let device = match state {
        "RELEASED" => String::new(),
        _ => format!(r#","eid":"89049032{number}{number}""#),
    };
    format!(r#"{{"iccid":"{iccid}","imsi":"{imsi}","profileState":"{state}"{device}}}"#)
}

/// Writes the deliveries, one in each line after the lines with the path and the name of the header.
///
/// # Errors
/// If the file cannot be written.
pub fn write(file: &Path, deliveries: &[Signed]) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "{PATH}\n{HEADER}")?;
    for Signed { signature, body } in deliveries {
        writeln!(out, "{signature} {body}")?;
    }
    Ok(out.flush()?)
}

/// Reads the deliveries as complete requests.
///
/// # Errors
/// If the file cannot be read or has another format.
pub fn read_requests(file: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let file = File::open(file).with_context(|| file.display().to_string())?;
    let mut lines = BufReader::new(file).lines();
    let path = lines.next().context("the file is empty")??;
    let header = lines.next().context("the file has no header")??;
    lines
        .map(|line| {
            let line = line?;
            let (signature, body) = line.split_once(' ').context("a line without a signature")?;
            let length = body.len();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 {header}: {signature}\r\nContent-Length: {length}\r\n\r\n"
            );
            Ok((head + body).into_bytes())
        })
        .collect()
}

/// Requests that read these profiles.
pub fn read_profiles(iccids: &[String]) -> Vec<Vec<u8>> {
    let key = secret("api");
    let request = |iccid: &String| {
        format!(
            "GET /v1/profiles/{iccid} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        .into_bytes()
    };
    iccids.iter().map(request).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use esim_status::domain::Iccid;

    use super::*;

    #[test]
    fn check_digits_are_valid_and_three_of_four_deliveries_move_their_profile() {
        let iccids = Profiles { count: 6_000, of: 3_000_000, repeats: 1 }.iccids();
        assert!(iccids.iter().all(|iccid| Iccid::parse(iccid).unwrap().luhn_holds()));
        let deliveries = make(&iccids, 1).unwrap();
        for known in [None, Some("DISABLED")] {
            let mut states = HashMap::new();
            let moved = deliveries.iter().filter(|delivery| {
                let body: serde_json::Value = serde_json::from_str(&delivery.body).unwrap();
                let state = body["profileState"].as_str().unwrap().to_owned();
                let before = states.insert(body["iccid"].to_string(), state.clone());
                before.or(known.map(str::to_owned)) != Some(state)
            });
            assert_eq!(moved.count(), iccids.len() * 3);
            assert!(states.values().all(|state| state == "DISABLED"));
        }
    }

    #[test]
    fn written_deliveries_are_read_back_as_requests() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let deliveries = make(&[iccid(7)], 1).unwrap();
        write(file.path(), &deliveries).unwrap();
        let requests = read_requests(file.path()).unwrap();
        assert_eq!(requests.len(), 4);
        let text = String::from_utf8(requests[0].clone()).unwrap();
        assert!(text.starts_with("POST /webhooks/gigastore/esim-status HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with(&format!("\r\n\r\n{}", deliveries[0].body)), "{text}");
    }
}
