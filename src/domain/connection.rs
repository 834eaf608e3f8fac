//! A connection to a mobile network: the only evidence that an eSIM works. It stands beside the install state and never changes
//! it. Only the first connection and the present country are kept: a history of countries would be a profile of movements.

use std::fmt;

use super::{Iccid, Imsi, Profile, Timestamp, Verdict};

/// A country by its ISO 3166-1 code, such as `PL`. It is personal data: `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    /// Parses two letters of either case. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Some(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// The two letters, in upper case.
    pub fn as_str(&self) -> &str {
        // Two ASCII letters are always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Country(…)")
    }
}

/// One provider's statement that a profile is connected, as its adapter read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The profile.
    pub iccid: Iccid,
    /// The provider's slug.
    pub provider: &'static str,
    /// The subscription, if the body names one.
    pub imsi: Option<Imsi>,
    /// Where it is connected, if the body says so in a form that we know.
    pub country: Option<Country>,
    /// When we received the delivery.
    pub received_at: Timestamp,
    /// Oddities that did not invalidate the event, for support.
    pub remarks: Vec<String>,
}

/// What is known of a profile's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connections {
    /// When we first heard that it is connected.
    pub first_connected_at: Option<Timestamp>,
    /// When we last heard so.
    pub last_connected_at: Option<Timestamp>,
    /// Where it was then.
    pub country: Option<Country>,
}

impl Connections {
    /// With one more connection. One that was received before the last says only that the first may have been earlier.
    fn with(&self, connection: &Connection) -> Self {
        let at = connection.received_at;
        let is_newest = self.last_connected_at.is_none_or(|last| last <= at);
        Self {
            first_connected_at: Some(self.first_connected_at.map_or(at, |first| first.min(at))),
            last_connected_at: self.last_connected_at.max(Some(at)),
            country: if is_newest { connection.country.or(self.country) } else { self.country },
        }
    }
}

impl Profile {
    /// Notes a connection. A profile that is not known is not created: nobody has said in which state it is.
    pub fn connect(known: Option<&Self>, connection: &Connection) -> Verdict {
        match known {
            None => Verdict::Unplaced,
            Some(profile) if profile.provider != connection.provider => Verdict::Foreign,
            Some(profile) => {
                let connected = Self {
                    imsi: connection.imsi.clone().or_else(|| profile.imsi.clone()),
                    connections: profile.connections.with(connection),
                    deliveries: profile.deliveries + 1,
                    last_delivery_at: profile.last_delivery_at.max(Some(connection.received_at)),
                    ..profile.clone()
                };
                Verdict::Connected(connected.advanced(Some(profile.state), connection.received_at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u8) -> Timestamp {
        Timestamp::parse(&format!("2026-11-23T10:00:{second:02}Z")).unwrap()
    }

    fn connection(second: u8, country: &str) -> Connection {
        Connection {
            iccid: Iccid::parse("89972123300991848961").unwrap(),
            provider: "gigastore",
            imsi: None,
            country: Country::parse(country),
            received_at: at(second),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_country_has_two_letters() {
        assert_eq!(Country::parse("pl").unwrap().as_str(), "PL");
        for text in ["", "P", "POL", "P1", "ł", "ßß"] {
            assert!(Country::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_first_connection_and_the_present_country_are_kept_in_whichever_order_they_come() {
        let connections = [(5, "DE"), (3, "PL"), (9, ""), (7, "FR")]
            .iter()
            .fold(Connections::default(), |connections, (second, country)| {
                connections.with(&connection(*second, country))
            });
        let Connections { first_connected_at, last_connected_at, country } = connections;
        assert_eq!((first_connected_at, last_connected_at), (Some(at(3)), Some(at(9))));
        assert_eq!(country, Country::parse("DE"));
    }
}
