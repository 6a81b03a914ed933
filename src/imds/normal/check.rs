//! What a value must look like to be passed on.
//!
//! A service that answers with an error page and status 200, or somebody who answers in its place,
//! must not get that into a host name or a record of addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

/// LIMIT: bytes of a value of one line.
const LINE_MAX: usize = 1024;

/// What kind of value a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    HostName,
    Ipv4,
    Ipv6,
    /// An address that others can reach us at.
    Ipv6Public,
    Mac,
    /// One line.
    Line,
    /// Several lines.
    Lines,
    Keys,
    /// Whatever it is.
    Bytes,
}

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        match name {
            "hostname" => Self::HostName,
            "ipv4-local" | "ipv4-public" => Self::Ipv4,
            "ipv6-local" => Self::Ipv6,
            "ipv6-public" => Self::Ipv6Public,
            "mac" => Self::Mac,
            "ssh-key" | "ssh-keys" => Self::Keys,
            "tags" => Self::Lines,
            "vendor-data" => Self::Bytes,
            _ if name.starts_with("userdata") => Self::Bytes,
            _ => Self::Line,
        }
    }

    /// The canonical form of a value that is not empty; `None` where it means nothing.
    ///
    /// # Errors
    /// What it is not, as a fragment of a sentence.
    pub(super) fn canonical(self, text: &str) -> Result<Option<String>, &'static str> {
        match self {
            Self::HostName => host_name(text).map(Some).ok_or("not a host name"),
            Self::Ipv4 => match ipv4(text) {
                Some(address) if address.is_unspecified() => Ok(None),
                Some(address) => Ok(Some(address.to_string())),
                None => Err("not an IPv4 address"),
            },
            Self::Ipv6 | Self::Ipv6Public => match ipv6(text) {
                Some(address) if address.is_unspecified() => Ok(None),
                Some(address) if self == Self::Ipv6Public && is_local(address) => Ok(None),
                Some(address) => Ok(Some(address.to_string())),
                None => Err("not an IPv6 address"),
            },
            Self::Mac => mac(text).map(Some).ok_or("not a hardware address"),
            Self::Line | Self::Lines | Self::Keys | Self::Bytes => {
                if text.len() > LINE_MAX && matches!(self, Self::Line | Self::Lines) {
                    return Err("too long");
                }
                if text.chars().any(char::is_control) {
                    return Err("not one line of text");
                }
                if self == Self::Line && text.contains(['<', '>']) {
                    return Err("not a name");
                }
                Ok(Some(text.to_owned()))
            }
        }
    }
}

/// An address, with or without prefix length.
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    without_prefix_length(text).parse().ok()
}

/// An address, with or without brackets and prefix length. A bracket may stand alone: some put one
/// pair around a whole list.
pub(super) fn ipv6(text: &str) -> Option<Ipv6Addr> {
    without_prefix_length(text.trim_matches(['[', ']'])).trim_matches(['[', ']']).parse().ok()
}

fn without_prefix_length(text: &str) -> &str {
    match text.split_once('/') {
        Some((address, length)) if length.bytes().all(|b| b.is_ascii_digit()) => address,
        _ => text,
    }
}

/// Link-local, loopback, or an address of this site.
fn is_local(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local()
}

fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then(|| text.to_owned())
}

fn mac(text: &str) -> Option<String> {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    if digits.len() != 12 || !digits.iter().all(char::is_ascii_hexdigit) {
        return None;
    }
    let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
    Some(pairs.join(":").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_one_way_or_refused() {
        for (name, text, expected) in [
            ("hostname", "demo.example.", Ok(Some("demo.example"))),
            ("hostname", "a b", Err("not a host name")),
            ("hostname", "-a", Err("not a host name")),
            ("hostname", "a..b", Err("not a host name")),
            ("hostname", "<html>", Err("not a host name")),
            ("ipv4-public", "203.0.113.1/24", Ok(Some("203.0.113.1"))),
            ("ipv4-public", "0.0.0.0", Ok(None)),
            ("ipv4-public", "203.0.113", Err("not an IPv4 address")),
            ("ipv6-public", "[2001:DB8:0:0::1]", Ok(Some("2001:db8::1"))),
            ("ipv6-public", "2001:db8::1/64", Ok(Some("2001:db8::1"))),
            ("ipv6-public", "fe80::1", Ok(None)),
            ("ipv6-local", "fe80::1", Ok(Some("fe80::1"))),
            ("ipv6-public", "203.0.113.1", Err("not an IPv6 address")),
            ("mac", "000D3A00000A", Ok(Some("00:0d:3a:00:00:0a"))),
            ("mac", "00-0d-3a-00-00-0a", Ok(Some("00:0d:3a:00:00:0a"))),
            ("mac", "00:0d:3a:00:00", Err("not a hardware address")),
            ("region", "eu\nwest", Err("not one line of text")),
            ("region", "eu west", Ok(Some("eu west"))),
            ("region", "<html>", Err("not a name")),
        ] {
            let found = Kind::of(name).canonical(text);
            assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{name} {text}");
        }
        let long = "a".repeat(LINE_MAX + 1);
        assert_eq!(Kind::Line.canonical(&long), Err("too long"));
        assert!(host_name(&"a".repeat(64)).is_none());
        assert!(host_name(&["a"; 128].join(".")).is_none());
    }
}
