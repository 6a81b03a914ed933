//! URLs of a metadata service: an endpoint's texts and a key, appended to each other.
//!
//! Own rules, which are those that the peer has from its library: nothing is encoded, a fragment
//! is dropped, dot segments are removed before sending, double slashes stay. A key may leave the
//! data URL's directory, but never its server.
//!
//! External spec: RFC 3986 sections 3 and 5.2.4, RFC 6874 (zones of link-local addresses).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// LIMIT: longer URLs are refused.
const MAX: usize = 8192;

/// What a URL names before its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Lower case.
    Name(String),
    V4(Ipv4Addr),
    /// With the zone, an interface's name or index.
    V6(Ipv6Addr, Option<String>),
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) server: Server,
    /// Path and query, as they are sent.
    pub(super) target: String,
}

/// Why a URL cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Too long, not ASCII, a blank or a control character.
    Characters,
    /// Neither `http://` nor `https://`.
    Scheme,
    /// `https://`, for which there is no metadata service.
    Secure,
    /// No server, a user name, or a port that is none.
    Server,
}

impl Wrong {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Characters => "too long, or with characters that a URL cannot have",
            Self::Scheme => "no http:// URL",
            Self::Secure => "https:// is not supported for metadata",
            Self::Server => "no valid server in it",
        }
    }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        if text.len() > MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Wrong::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(Wrong::Scheme)?;
        if scheme.eq_ignore_ascii_case("https") {
            return Err(Wrong::Secure);
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(Wrong::Scheme);
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(cut).ok_or(Wrong::Server)?;
        let server = Server::parse(authority).ok_or(Wrong::Server)?;
        Ok(Self { server, target: without_dots(target) })
    }

    /// The path without the query.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The same place as a directory: with a slash after its path.
    pub(super) fn with_slash(&self) -> Self {
        let target = match self.target.split_once('?') {
            Some((path, query)) => format!("{path}/?{query}"),
            None => format!("{}/", self.target),
        };
        Self { server: self.server.clone(), target }
    }

    /// What a redirect from here leads to, given by the server at this address.
    pub(super) fn redirect(&self, location: &str, address: IpAddr) -> Redirect {
        let to = if location.starts_with('/') && !location.starts_with("//") {
            Self::parse(&format!("http://x{location}"))
                .map(|url| Self { server: self.server.clone(), target: url.target })
        } else if location.starts_with("//") {
            Self::parse(&format!("http:{location}"))
        } else {
            Self::parse(location)
        };
        match to {
            Ok(to) if !self.server.is_same(&to.server, address) => Redirect::Stranger,
            // A query that got lost on the way is still ours to send.
            Ok(to) if to.path() == self.with_slash().path() => Redirect::Slash,
            Err(Wrong::Secure) => Redirect::Stranger,
            Ok(_) | Err(_) => Redirect::Elsewhere,
        }
    }
}

/// Where a redirect leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The same path as a directory.
    Slash,
    /// Somewhere else on the same server, or nowhere.
    Elsewhere,
    /// Another server.
    Stranger,
}

impl Server {
    fn parse(authority: &str) -> Option<Self> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let (address, zone) = match address.split_once('%') {
                    // RFC 6874 writes the % of the zone as %25; people often do not.
                    Some((address, zone)) => {
                        (address, Some(zone.strip_prefix("25").unwrap_or(zone)))
                    }
                    None => (address, None),
                };
                if zone.is_some_and(|zone| zone.is_empty() || zone.contains(['/', '%'])) {
                    return None;
                }
                (Host::V6(address.parse().ok()?, zone.map(str::to_owned)), port)
            }
            None => {
                let (host, port) =
                    authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?;
                (Host::parse(host)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => 80,
            Some("") => 80,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            _ => return None,
        };
        (port != 0).then_some(Self { host, port })
    }

    /// Is the other one the same, or what our `Host` header called it?
    fn is_same(&self, other: &Self, address: IpAddr) -> bool {
        let is_address = match (&self.host, &other.host, address) {
            // Our header had the name.
            (Host::Name(_), _, _) => false,
            (_, Host::V4(host), IpAddr::V4(address)) => *host == address,
            (_, Host::V6(host, _), IpAddr::V6(address)) => *host == address,
            _ => false,
        };
        self.port == other.port && (self.host == other.host || is_address)
    }

    /// As the `Host` header has it when `address` is asked: zones are of this machine only.
    pub(super) fn host_header(&self, address: IpAddr) -> String {
        let host = match (&self.host, address) {
            (Host::Name(name), _) => name.clone(),
            (_, IpAddr::V4(address)) => address.to_string(),
            (_, IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl Host {
    fn parse(host: &str) -> Option<Self> {
        if let Ok(address) = host.parse() {
            return Some(Self::V4(address));
        }
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        is_name.then(|| Self::Name(host.to_ascii_lowercase()))
    }
}

/// Removes `.` and `..` segments, also those in disguise (`%2e`), from a path; a query is left
/// alone. The result begins with a slash.
fn without_dots(target: &str) -> String {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at_checked(at).unwrap_or((target, "")),
        None => (target, ""),
    };
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        // What a dot segment at the end leaves is a directory.
        if is_last {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn target(text: &str) -> String {
        Url::parse(text).unwrap().target
    }

    #[test]
    fn dots_and_fragments_go_and_everything_else_stays() {
        for (url, expected) in [
            ("http://h", "/"),
            ("http://h?x", "/?x"),
            ("http://h/latest/meta-data/hostname", "/latest/meta-data/hostname"),
            ("http://h/latest//user-data", "/latest//user-data"),
            ("http://h//x", "//x"),
            ("http://h/latest/../x", "/x"),
            ("http://h/latest/%2e%2E/x", "/x"),
            ("http://h/latest/.%2e/x", "/x"),
            ("http://h/a/./b/%2e/c", "/a/b/c"),
            ("http://h/a/b/..", "/a/"),
            ("http://h/a/b/.", "/a/b/"),
            ("http://h/..", "/"),
            ("http://h/../../x", "/x"),
            ("http://h/a//../b", "/a/b"),
            ("http://h/target#frag?x", "/target"),
            ("http://h/a?b=../c#d", "/a?b=../c"),
            ("http://h/%zz%", "/%zz%"),
            ("http://h/...", "/..."),
            ("http://h/a%2fb", "/a%2fb"),
            ("http://h/{\"x\"}|", "/{\"x\"}|"),
        ] {
            assert_eq!(target(url), expected, "{url}");
        }
    }

    #[test]
    fn servers_are_names_and_addresses_with_zones() {
        let server = |text: &str| Url::parse(text).unwrap().server;
        let v4 = Host::V4(Ipv4Addr::new(169, 254, 169, 254));
        assert_eq!(server("http://169.254.169.254/x"), Server { host: v4, port: 80 });
        let name = Host::Name("metadata.tencentyun.com".to_owned());
        assert_eq!(
            server("HTTP://Metadata.TencentYun.com:8080"),
            Server { host: name, port: 8080 }
        );
        let link: Ipv6Addr = "fe80::a9fe:a9fe".parse().unwrap();
        let zoned = Host::V6(link, Some("eth0".to_owned()));
        assert_eq!(server("http://[fe80::a9fe:a9fe%25eth0]/").host, zoned);
        assert_eq!(server("http://[fe80::a9fe:a9fe%eth0]/").host, zoned);
        assert_eq!(
            server("http://[fe80::a9fe:a9fe]:81/"),
            Server { host: Host::V6(link, None), port: 81 }
        );
    }

    #[test]
    fn the_host_header_has_brackets_and_no_zone() {
        let header = |text: &str, address: &str| {
            Url::parse(text).unwrap().server.host_header(address.parse().unwrap())
        };
        assert_eq!(header("http://169.254.169.254:80/", "169.254.169.254"), "169.254.169.254");
        assert_eq!(header("http://169.254.169.254/", "fd00:ec2::254"), "[fd00:ec2::254]");
        assert_eq!(header("http://[fe80::1%25eth0]:99/", "fe80::1"), "[fe80::1]:99");
        assert_eq!(header("http://Some.Name:99/", "192.0.2.1"), "some.name:99");
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        for (url, wrong) in [
            ("", Wrong::Scheme),
            ("h/x", Wrong::Scheme),
            ("file:///x", Wrong::Scheme),
            ("https://h/", Wrong::Secure),
            ("http:///x", Wrong::Server),
            ("http://u@h/x", Wrong::Server),
            ("http://u:p@h/x", Wrong::Server),
            ("http://h:0/", Wrong::Server),
            ("http://h:65536/", Wrong::Server),
            ("http://h:+80/", Wrong::Server),
            ("http://[::1/", Wrong::Server),
            ("http://[::1]x/", Wrong::Server),
            ("http://[fe80::1%25]/", Wrong::Server),
            ("http://h\\x/", Wrong::Server),
            ("http://h/x y", Wrong::Characters),
            ("http://h/x\ty", Wrong::Characters),
            ("http://h/x\r\nA: b", Wrong::Characters),
            ("http://h/\u{fc}", Wrong::Characters),
            ("http://h/\x7f", Wrong::Characters),
        ] {
            assert_eq!(Url::parse(url), Err(wrong), "{url:?}");
        }
        assert_eq!(Url::parse(&format!("http://h/{}", "x".repeat(MAX))), Err(Wrong::Characters));
    }

    #[test]
    fn only_a_redirect_to_the_same_directory_is_known() {
        let url = Url::parse("http://h/a/b?q=1").unwrap();
        for (location, expected) in [
            ("/a/b/", Redirect::Slash),
            ("/a/b/?q=1", Redirect::Slash),
            ("http://h/a/b/", Redirect::Slash),
            ("http://h:80/a/b/?q=1", Redirect::Slash),
            ("//h/a/b/", Redirect::Slash),
            ("/a/c/../b/", Redirect::Slash),
            ("/a/b", Redirect::Elsewhere),
            ("/a/", Redirect::Elsewhere),
            ("/", Redirect::Elsewhere),
            ("b/", Redirect::Elsewhere),
            ("", Redirect::Elsewhere),
            ("http://h/a/b/\r\nX: y", Redirect::Elsewhere),
            ("ftp://h/a/b/", Redirect::Elsewhere),
            ("http://h:81/a/b/", Redirect::Stranger),
            ("http://other/a/b/", Redirect::Stranger),
            ("//other/a/b/", Redirect::Stranger),
            ("https://h/a/b/", Redirect::Stranger),
        ] {
            let address = "192.0.2.1".parse().unwrap();
            assert_eq!(url.redirect(location, address), expected, "{location:?}");
        }
        let url = Url::parse("http://169.254.169.254/a").unwrap();
        let twin = "fd00:ec2::254".parse().unwrap();
        assert_eq!(url.redirect("http://[fd00:ec2::254]/a/", twin), Redirect::Slash);
        assert_eq!(url.redirect("http://[fd00:ec2::255]/a/", twin), Redirect::Stranger);
        let url = Url::parse("http://h/a/b?q=1").unwrap();
        assert_eq!(url.with_slash().target, "/a/b/?q=1");
    }
}
