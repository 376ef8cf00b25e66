//! `host:port`, parsed once.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use thiserror::Error;

/// The longest host name that DNS allows.
const MAX_HOST_CHARS: usize = 253;

/// Where a server is reached: a host (a name, an IPv4 address, or an IPv6 address in brackets)
/// and a port other than 0. Prints as it was written, which is also what a socket can be bound to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not an address: {reason}")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl Address {
    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the address is reached from this machine only.
    pub fn is_loopback(&self) -> bool {
        self.host() == "localhost"
            || self
                .host()
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether the address means every interface of a machine; one can listen there, but nobody
    /// can be told to connect to it.
    pub fn is_unspecified(&self) -> bool {
        self.host()
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = |reason| AddressError {
            text: text.to_owned(),
            reason,
        };
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| refuse("it has no port (write host:port)"))?;
        let port = port
            .parse::<u16>()
            .map_err(|_| refuse("its port is not a number from 1 to 65535"))?;
        if port == 0 {
            return Err(refuse("its port is not a number from 1 to 65535"));
        }
        if !is_host(host) {
            return Err(refuse(
                "its host is neither a name, an IPv4 address nor an IPv6 address in brackets",
            ));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= MAX_HOST_CHARS && host.split('.').all(label)
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self})")
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_an_address() {
        for text in [
            "127.0.0.1:8101",
            "localhost:1",
            "node-1.example.com:65535",
            "[::1]:8101",
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        let v6: Address = "[::1]:8101".parse().expect("an IPv6 address");
        assert_eq!((v6.host(), v6.port()), ("::1", 8101));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "127.0.0.1",
            ":8101",
            "host:",
            "host:0",
            "host:65536",
            "::1:80",
            "a b:80",
            "[::1:80",
            "http://h:80",
            "a..b:80",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn loopback_and_unspecified_are_told_apart() {
        let parse = |text: &str| text.parse::<Address>().expect("a good address");
        assert!(parse("127.0.0.9:80").is_loopback());
        assert!(parse("localhost:80").is_loopback());
        assert!(!parse("10.0.0.1:80").is_loopback());
        assert!(parse("0.0.0.0:80").is_unspecified());
        assert!(!parse("10.0.0.1:80").is_unspecified());
    }
}
