//! URLs as the updater meets them: http, https and file, cut into what a request needs.
//!
//! Own and small, because the peer's rules are not the WHATWG's: a manifest's sub-path is appended
//! verbatim, a query or fragment of the base does not matter, and nothing else may be a source.
//! External spec: RFC 3986.

use std::fmt;
use std::path::PathBuf;

/// LIMIT: longer URLs are refused.
const MAX_URL: usize = 8192;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `file://`
    File,
}

impl Scheme {
    /// As it is written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::File => "file",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http | Self::File => 80,
        }
    }
}

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Empty, too long, or with control characters.
    Malformed,
    /// Neither http, https nor file.
    UnsupportedScheme,
    /// No host, or one that cannot be.
    BadHost,
    /// Not a number below 65536.
    BadPort,
    /// A file URL with a host, a relative path or a NUL byte.
    BadFilePath,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "URL is malformed",
            Self::UnsupportedScheme => "Unsupported protocol",
            Self::BadHost => "URL has no valid host name",
            Self::BadPort => "URL has no valid port number",
            Self::BadFilePath => "URL does not name a local file",
        })
    }
}

impl std::error::Error for UrlError {}

/// One parsed URL without its fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    /// `name[:password]`, percent-encoded.
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Begins with `/`; bytes a request line cannot carry are percent-encoded.
    target: String,
}

impl Url {
    /// Parses an absolute URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.is_empty() || text.len() > MAX_URL || text.chars().any(char::is_control) {
            return Err(UrlError::Malformed);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::UnsupportedScheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "file" => Scheme::File,
            _ => return Err(UrlError::UnsupportedScheme),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(cut).ok_or(UrlError::Malformed)?;
        let (user, host_port) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let (host, port) = split_host(host_port)?;
        let slash = if target.starts_with('/') { "" } else { "/" };
        let url = Self {
            scheme,
            user,
            host: host.to_ascii_lowercase(),
            port,
            target: format!("{slash}{}", encode(target)),
        };
        if scheme == Scheme::File {
            url.file_path()?;
        } else if !is_host(&url.host) {
            return Err(UrlError::BadHost);
        }
        Ok(url)
    }

    /// What the `Location` of a redirect means, seen from here.
    pub fn resolve(&self, location: &str) -> Result<Self, UrlError> {
        let has_scheme = location
            .split_once(':')
            .is_some_and(|(scheme, _)| is_scheme(scheme) && !scheme.is_empty());
        if has_scheme {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        if location.chars().any(char::is_control) || location.len() > MAX_URL {
            return Err(UrlError::Malformed);
        }
        let location = location.split_once('#').map_or(location, |(before, _)| before);
        let path = self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path);
        let target = if location.is_empty() {
            self.target.clone()
        } else if location.starts_with('/') {
            without_dots(location)
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            without_dots(&format!("{directory}/{location}"))
        };
        let url = Self { target: encode(&target), ..self.clone() };
        if url.scheme == Scheme::File {
            url.file_path()?;
        }
        Ok(url)
    }

    /// What carries the bytes.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Lower case; IPv6 addresses in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }

    /// `name[:password]`, percent-encoded.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// True where both name the same server, so that credentials may be shown to it.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port()) == (other.scheme, &other.host, other.port())
    }

    /// The same place, asked for with another URL's credentials if both are one server's and it
    /// has none of its own.
    #[must_use]
    pub fn with_user_of(mut self, other: &Self) -> Self {
        if self.user.is_none() && self.is_same_origin(other) {
            self.user.clone_from(&other.user);
        }
        self
    }

    /// The URL without credentials and fragment.
    pub fn wire(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }

    /// Name and password as the `Authorization` and `Proxy-Authorization` headers carry them.
    #[cfg(feature = "update")]
    pub(super) fn basic(&self) -> Option<String> {
        let mut user = decode(self.user.as_ref()?);
        if !user.contains(&b':') {
            user.push(b':');
        }
        Some(format!("Basic {}", crate::crypto::text::base64(&user)))
    }

    /// The port, if the URL names one.
    #[cfg(feature = "update")]
    pub(super) fn explicit_port(&self) -> Option<u16> {
        self.port
    }

    fn authority(&self) -> String {
        match self.port.filter(|port| *port != self.scheme.default_port()) {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The local file that a file URL names, percent-decoded.
    pub fn file_path(&self) -> Result<PathBuf, UrlError> {
        use std::os::unix::ffi::OsStringExt as _;
        let is_local = self.host.is_empty() || self.host == "localhost";
        let path = self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path);
        let bytes = decode(path);
        if !is_local || self.user.is_some() || self.port.is_some() || bytes.contains(&0) {
            return Err(UrlError::BadFilePath);
        }
        Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }
}

/// Shows the URL without credentials: it goes into logs and error texts.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

/// Appends a file name or sub-path to a base, as `Path=` and manifest entries are joined: the
/// base's query, fragment and trailing slashes do not matter, the component is taken verbatim.
pub fn join(base: &str, component: &str) -> String {
    let end = base.find(['?', '#']).unwrap_or(base.len());
    let base = base.get(..end).unwrap_or(base).trim_end_matches('/');
    format!("{base}/{component}")
}

fn split_host(text: &str) -> Result<(&str, Option<u16>), UrlError> {
    if text.starts_with('[') && !text.contains(']') {
        return Err(UrlError::BadHost);
    }
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at_checked(end + 1).ok_or(UrlError::BadHost)?,
        None => text.split_at_checked(text.find(':').unwrap_or(text.len())).unwrap_or((text, "")),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            Some(port.parse().map_err(|_| UrlError::BadPort)?)
        }
        _ => return Err(UrlError::BadPort),
    };
    if port == Some(0) {
        return Err(UrlError::BadPort);
    }
    Ok((host, port))
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Percent-encodes what a request line or the URI type below us cannot carry. What is encoded
/// already stays.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 127.. => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (byte == b'%').then(|| (hex_digit(ahead.next()), hex_digit(ahead.next())));
        if let Some((Some(high), Some(low))) = digits {
            decoded.push(high << 4 | low);
            bytes = ahead;
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    byte.and_then(|b| char::from(b).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
}

/// Removes `.` and `..` components of a path, leaving a query alone.
fn without_dots(target: &str) -> String {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at_checked(at).unwrap_or((target, "")),
        None => (target, ""),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.trim_start_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let is_directory = path.ends_with("/.") || path.ends_with("/..");
    let slash = if is_directory && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wire(text: &str) -> String {
        Url::parse(text).unwrap().wire()
    }

    #[test]
    fn parts_are_found_and_normalised() {
        let url = Url::parse("HTTPS://me:p%40ss@Example.COM:8443/a b/ü?x=1#frag").unwrap();
        assert_eq!(url.wire(), "https://example.com:8443/a%20b/%C3%BC?x=1");
        assert_eq!(url.user(), Some("me:p%40ss"));
        assert_eq!((url.scheme(), url.port()), (Scheme::Https, 8443));
        assert_eq!(wire("http://h:80"), "http://h/");
        assert_eq!(wire("http://h?q"), "http://h/?q");
        assert_eq!(wire("http://[::1]:99/x%20y"), "http://[::1]:99/x%20y");
        assert!(!url.to_string().contains("me:"), "credentials are not shown");
        assert_eq!(url.basic().as_deref(), Some("Basic bWU6cEBzcw=="));
        let same = Url::parse("https://example.com:8443/z").unwrap().with_user_of(&url);
        assert_eq!(same.user(), url.user());
        let other = Url::parse("http://example.com:8443/z").unwrap().with_user_of(&url);
        assert_eq!(other.user(), None, "another scheme is another server");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        use UrlError::*;
        for (text, error) in [
            ("", Malformed),
            ("x", UnsupportedScheme),
            ("ftp://h/", UnsupportedScheme),
            ("http:///x", BadHost),
            ("http://a b/", BadHost),
            ("http://[::1/", BadHost),
            ("http://[zz]/", BadHost),
            ("http://h:0/", BadPort),
            ("http://h:65536/", BadPort),
            ("http://h:x/", BadPort),
            ("http://[::1]x/", BadPort),
            ("http://h/\n", Malformed),
            ("file://other/x", BadFilePath),
            ("file:///a%00b", BadFilePath),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Url::parse(&format!("http://h/{}", "x".repeat(9000))), Err(Malformed));
    }

    #[test]
    fn names_are_joined_as_the_peer_does() {
        for base in ["http://h/d", "http://h/d/", "http://h/d?x=1", "http://h/d/#f", "http://h/d//"]
        {
            assert_eq!(join(base, "sub/f_2"), "http://h/d/sub/f_2", "{base}");
        }
    }

    #[test]
    fn redirects_resolve_like_references() {
        let base = Url::parse("http://u:p@h:8080/a/b/c?q").unwrap();
        for (location, result) in [
            ("/x", "http://h:8080/x"),
            ("x", "http://h:8080/a/b/x"),
            ("../x", "http://h:8080/a/x"),
            ("../../../../x", "http://h:8080/x"),
            ("./", "http://h:8080/a/b/"),
            ("?y", "http://h:8080/a/b/c?y"),
            ("", "http://h:8080/a/b/c?q"),
            ("//other/x", "http://other/x"),
            ("https://o/x#y", "https://o/x"),
            ("/a/./b/..", "http://h:8080/a/"),
        ] {
            assert_eq!(base.resolve(location).unwrap().wire(), result, "{location:?}");
        }
        assert_eq!(base.resolve("gopher://x/"), Err(UrlError::UnsupportedScheme));
        assert_eq!(base.resolve("javascript:x"), Err(UrlError::UnsupportedScheme));
    }

    #[test]
    fn file_urls_name_files() {
        let base = Url::parse("file:///var/x").unwrap();
        assert_eq!(base.resolve("a%00b"), Err(UrlError::BadFilePath));
        let path = |text| Url::parse(text).unwrap().file_path().unwrap();
        assert_eq!(path("file:///srv/a%20b"), PathBuf::from("/srv/a b"));
        assert_eq!(path("file://localhost/x?y"), PathBuf::from("/x"));
        assert_eq!(path("file:///100%"), PathBuf::from("/100%"));
    }

    #[test]
    fn every_truncation_is_handled() {
        let text = "https://me:pw@[::1]:8443/a%20b/../ü?x=1#frag";
        for (at, _) in text.char_indices() {
            let _ = Url::parse(&text[..at]).map(|url| url.resolve(&text[at..]));
        }
    }
}
