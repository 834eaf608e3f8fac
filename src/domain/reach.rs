//! Which addresses the service may send changes to. A backend names the URL, so without a limit it could have the service call what
//! only the service can reach: a database, a cloud's metadata, the admin listener (server-side request forgery).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The addresses that endpoints may have: public ones with TLS, and the networks that the operator allows.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    networks: Vec<IpNet>,
}

/// The URL of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// Why a text is no URL of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpointUrl {
    /// No URL, or one without a host.
    #[error("must be a URL such as https://shop.example.org/webhooks/esim")]
    Unreadable,
    /// Longer than 2,000 bytes.
    #[error("must have at most 2000 bytes")]
    TooLong,
    /// A fragment, which is never sent.
    #[error("must not have a fragment (#…)")]
    Fragment,
    /// Plain HTTP, and no network is allowed.
    #[error(
        "must begin with https://; plain http is possible only to networks that ESIM_STATUS_ENDPOINT_NETWORKS allows"
    )]
    NotEncrypted,
    /// A user name or password.
    #[error(
        "must not contain a user name or password: check the signature of the requests instead"
    )]
    Credentials,
    /// An address that endpoints may not have.
    #[error(
        "must not lead to a private address, unless ESIM_STATUS_ENDPOINT_NETWORKS allows its network"
    )]
    Private,
}

impl Reach {
    /// Public addresses with TLS, and every address of these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self { networks }
    }

    /// The same with the networks of this machine alone, for developers and tests.
    pub fn this_machine() -> Self {
        let (v4, v6) =
            (Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8), Ipv6Net::from(Ipv6Addr::LOCALHOST));
        Self::new(vec![v4.into(), v6.into()])
    }

    /// Whether a request may go to this address.
    pub fn allows(&self, address: IpAddr, is_encrypted: bool) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
            || is_encrypted && is_public(address)
    }
}

impl EndpointUrl {
    /// Reads a URL. Whether a name resolves to an allowed address is found out for each connection, because it can change.
    ///
    /// # Errors
    /// [`InvalidEndpointUrl`].
    pub fn parse(text: &str, reach: &Reach) -> Result<Self, InvalidEndpointUrl> {
        if text.len() > 2_000 {
            return Err(InvalidEndpointUrl::TooLong);
        }
        let url = Url::parse(text).map_err(|_| InvalidEndpointUrl::Unreadable)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(InvalidEndpointUrl::Unreadable);
        }
        if url.fragment().is_some() {
            return Err(InvalidEndpointUrl::Fragment);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpointUrl::Credentials);
        }
        let url = Self(url);
        if !url.is_encrypted() && reach.networks.is_empty() {
            return Err(InvalidEndpointUrl::NotEncrypted);
        }
        if url.address().is_some_and(|address| !reach.allows(address, url.is_encrypted())) {
            return Err(InvalidEndpointUrl::Private);
        }
        Ok(url)
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether requests to it are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Its address, if it has one instead of a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Blocks that are not reachable from everywhere, by IANA's registry of IPv4 addresses for special purposes, and multicast.
const NOT_PUBLIC_4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// All that is public is in this block (RFC 4291, section 2.4) …
const GLOBAL_UNICAST_6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// … but for these blocks of IANA's registry. Teredo and 6to4 contain an IPv4 address that may be any.
const NOT_PUBLIC_6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// By this prefix a network without IPv4 reaches IPv4 addresses (RFC 6052).
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

fn is_public(address: IpAddr) -> bool {
    let within_4 = |address: Ipv4Addr, (block, length)| {
        Ipv4Net::new(block, length).is_ok_and(|block| block.contains(&address))
    };
    let within_6 = |address: Ipv6Addr, (block, length)| {
        Ipv6Net::new(block, length).is_ok_and(|block| block.contains(&address))
    };
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_4.into_iter().any(|block| within_4(address, block)),
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_public(mapped.into());
            }
            if within_6(address, NAT64) {
                let [.., a, b, c, d] = address.octets();
                return is_public(Ipv4Addr::new(a, b, c, d).into());
            }
            within_6(address, GLOBAL_UNICAST_6)
                && !NOT_PUBLIC_6.into_iter().any(|block| within_6(address, block))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(networks: &[&str]) -> Reach {
        Reach::new(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[test]
    fn only_public_addresses_are_allowed_unless_a_network_is_named() {
        let usual = Reach::default();
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address = private.parse().unwrap();
            assert!(!usual.allows(address, true), "{private}");
            assert!(!reach(&["192.0.2.0/24"]).allows(address, true), "{private}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            let address = public.parse().unwrap();
            assert!(usual.allows(address, true), "{public}");
            assert!(!usual.allows(address, false), "{public} without TLS");
        }
        let inside = reach(&["10.8.0.0/16", "::1/128"]);
        for (address, allowed) in
            [("10.8.1.2", true), ("10.9.1.2", false), ("::1", true), ("127.0.0.1", false)]
        {
            assert_eq!(inside.allows(address.parse().unwrap(), false), allowed, "{address}");
        }
    }

    #[test]
    fn a_url_is_encrypted_without_credentials_and_never_a_disguised_private_address() {
        use InvalidEndpointUrl::{
            Credentials, Fragment, NotEncrypted, Private, TooLong, Unreadable,
        };

        let usual = Reach::default();
        let long = format!("https://example.org/{}", "a".repeat(2_000));
        for (text, why) in [
            ("", Unreadable),
            ("shop.example.org/hook", Unreadable),
            ("ftp://example.org/", Unreadable),
            ("https://example.org/#part", Fragment),
            ("file:///etc/passwd", Unreadable),
            (long.as_str(), TooLong),
            ("http://example.org/", NotEncrypted),
            ("https://user@example.org/", Credentials),
            ("https://:pass@example.org/", Credentials),
            ("https://127.0.0.1/", Private),
            // The URL standard reads all of these as 127.0.0.1 or 169.254.169.254.
            ("https://2130706433/", Private),
            ("https://0x7f.1/", Private),
            ("https://0177.0.0.1/", Private),
            ("https://127.1/", Private),
            ("https://[::ffff:169.254.169.254]/", Private),
            ("https://169.254.169.254./latest/meta-data", Private),
            ("https://[::1]:9090/metrics", Private),
        ] {
            assert_eq!(EndpointUrl::parse(text, &usual), Err(why), "{text}");
        }
        let url = EndpointUrl::parse("https://shop.example.org:8443/hooks?id=1", &usual).unwrap();
        assert_eq!(url.as_str(), "https://shop.example.org:8443/hooks?id=1");
        let inside = reach(&["127.0.0.0/8"]);
        assert!(EndpointUrl::parse("http://127.0.0.1:8000/hook", &inside).is_ok());
        assert!(
            EndpointUrl::parse("http://inside/hook", &inside).is_ok(),
            "its address is checked later"
        );
        assert_eq!(EndpointUrl::parse("http://10.0.0.1/", &inside), Err(Private));
    }
}
