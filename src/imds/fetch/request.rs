//! What is sent: the bytes of one request.
//!
//! Everything that comes from outside is checked here, so that no header can be smuggled in.

use std::net::IpAddr;

use super::url::Url;
use crate::imds::model::Endpoint;

/// Our name. DIFFERS: the peer's is `systemd-imdsd/<version>`.
const AGENT: &str = concat!("slipway/", env!("CARGO_PKG_VERSION"));

/// Headers that change how a message is read or who it is for; never taken from a configuration.
const REFUSED: [&str; 8] = [
    "Connection",
    "Content-Length",
    "Expect",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    // Every service refuses to talk to a forwarder.
    "X-Forwarded-For",
];

/// The endpoint's headers, checked once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    /// Header of the token.
    pub(super) token: Option<String>,
    /// Header of the token's lifetime.
    refresh: Option<String>,
    /// Whole lines, without their ends.
    extra: Vec<String>,
    /// Which of our own headers an extra one replaces.
    replaces_host: bool,
    replaces_agent: bool,
    replaces_accept: bool,
}

impl Headers {
    /// Reads them from the endpoint; the error names the header that cannot be sent.
    pub(super) fn of(endpoint: &Endpoint) -> Result<Self, String> {
        let mut headers = Self {
            token: checked_name(endpoint.token_header_name.as_deref())?,
            refresh: checked_name(endpoint.refresh_header_name.as_deref())?,
            ..Self::default()
        };
        for line in &endpoint.extra_headers {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            // COMPAT(262): without a name or a value nothing is sent.
            if name.is_empty() || value.trim().is_empty() {
                continue;
            }
            let is_sound = value.chars().all(|c| c == '\t' || !c.is_control());
            if !is_token(name) || !is_sound {
                return Err(format!("extra header '{}' is not valid", name.escape_debug()));
            }
            if REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(name)) {
                log::warn!("Extra header '{name}' cannot be set, ignoring.");
                continue;
            }
            headers.replaces_host |= name.eq_ignore_ascii_case("Host");
            headers.replaces_agent |= name.eq_ignore_ascii_case("User-Agent");
            headers.replaces_accept |= name.eq_ignore_ascii_case("Accept");
            headers.extra.push(line.clone());
        }
        Ok(headers)
    }

    /// Asks for a token that lives so many seconds. Without a body, hence without its length.
    pub(super) fn put(&self, url: &Url, address: IpAddr, lifetime: u64) -> Vec<u8> {
        let host = url.server.host_header(address);
        let mut text = format!(
            "PUT {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\n",
            url.target
        );
        if let Some(name) = &self.refresh {
            text.push_str(&format!("{name}: {lifetime}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Asks for a value.
    pub(super) fn get(&self, url: &Url, address: IpAddr, token: Option<&str>) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\n", url.target);
        let mut add = |is_wanted: bool, name: &str, value: &str| {
            if is_wanted {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        add(!self.replaces_host, "Host", &url.server.host_header(address));
        add(!self.replaces_agent, "User-Agent", AGENT);
        add(!self.replaces_accept, "Accept", "*/*");
        if let (Some(name), Some(token)) = (&self.token, token) {
            add(true, name, token);
        }
        for line in &self.extra {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

fn checked_name(name: Option<&str>) -> Result<Option<String>, String> {
    match name {
        None | Some("") => Ok(None),
        Some(name) if is_token(name) => Ok(Some(name.to_owned())),
        Some(name) => Err(format!("header name '{}' is not valid", name.escape_debug())),
    }
}

/// RFC 9110 section 5.6.2
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(headers: &Headers, token: Option<&str>) -> String {
        let url = Url::parse("http://169.254.169.254/latest/x?y").unwrap();
        let address = "169.254.169.254".parse().unwrap();
        String::from_utf8(headers.get(&url, address, token).to_vec()).unwrap()
    }

    fn headers(extra: &[&str]) -> Result<Headers, String> {
        let extra_headers = extra.iter().map(|&line| line.to_owned()).collect();
        Headers::of(&Endpoint {
            token_header_name: Some("X-aws-ec2-metadata-token".into()),
            refresh_header_name: Some("X-aws-ec2-metadata-token-ttl-seconds".into()),
            extra_headers,
            ..Endpoint::default()
        })
    }

    #[test]
    fn requests_are_the_peers_but_for_the_name() {
        let headers = headers(&["Metadata: true", "B:c", "Empty:", "Blank:  ", ":x"]).unwrap();
        assert_eq!(
            get(&headers, Some("T==")),
            format!(
                "GET /latest/x?y HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: {AGENT}\r\n\
                 Accept: */*\r\nX-aws-ec2-metadata-token: T==\r\nMetadata: true\r\nB:c\r\n\r\n"
            )
        );
        let url = Url::parse("http://169.254.169.254/latest/api/token").unwrap();
        let put = headers.put(&url, "169.254.169.254".parse().unwrap(), 900);
        assert_eq!(
            String::from_utf8(put).unwrap(),
            format!(
                "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
                 User-Agent: {AGENT}\r\nAccept: */*\r\n\
                 X-aws-ec2-metadata-token-ttl-seconds: 900\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_header_of_the_configuration_replaces_ours() {
        let headers = headers(&["host: a", "User-agent: b", "ACCEPT: c"]).unwrap();
        assert_eq!(
            get(&headers, None),
            "GET /latest/x?y HTTP/1.1\r\nhost: a\r\nUser-agent: b\r\nACCEPT: c\r\n\r\n"
        );
    }

    #[test]
    fn no_header_can_be_smuggled_in() {
        for bad in ["A: b\r\nC: d", "A: b\nC: d", "A\r\nB: c", "A B: c", "A: \0", "\u{e4}: b"] {
            assert!(headers(&[bad]).is_err(), "{bad:?}");
        }
        for name in REFUSED {
            let headers = headers(&[&format!("{}: 1", name.to_ascii_lowercase())]).unwrap();
            assert!(headers.extra.is_empty(), "{name}");
        }
        let endpoint = Endpoint { token_header_name: Some("A: b".into()), ..Endpoint::default() };
        assert!(Headers::of(&endpoint).is_err());
    }
}
