//! Proxies as libcurl finds them in the environment, and the way through them.
//!
//! Plain requests go to an HTTP proxy with the whole URL in the request line, because most proxies
//! allow tunnels to port 443 only; https goes through a tunnel (CONNECT).
// LIMIT: SOCKS proxies are refused.

use std::fmt;
use std::net::IpAddr;

use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};

use crate::ctx::Ctx;
use crate::error::{Error, Result};

use super::url::{Scheme, Url};

/// What libcurl assumes where a proxy is named without a port.
const DEFAULT_PORT: u16 = 1080;

/// A way out that is not direct.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Proxy {
    /// TLS to the proxy itself.
    is_tls: bool,
    /// `host:port`
    authority: String,
    /// `name[:password]`, percent-encoded.
    user: Option<String>,
    /// Value of `Proxy-Authorization`.
    basic: Option<String>,
    /// What it is used for: a tunnel, or plain requests.
    is_tunnel: bool,
}

/// Without the credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// The proxy that the environment names for a URL.
///
/// # Errors
///
/// It names one that cannot be understood or used.
pub(super) fn from_env(ctx: &Ctx, url: &Url) -> Result<Option<Proxy>> {
    let value = |name: &&str| ctx.env(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let names: &[&str] = match url.scheme() {
        Scheme::File => return Ok(None),
        // Not $HTTP_PROXY: a web server gives that name to a request's "Proxy:" header.
        Scheme::Http => &["http_proxy", "all_proxy", "ALL_PROXY"],
        Scheme::Https => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let Some((name, text)) = names.iter().find_map(|name| Some((name, value(name)?))) else {
        return Ok(None);
    };
    let exceptions = ["no_proxy", "NO_PROXY"].iter().find_map(value).unwrap_or_default();
    if is_exempt(url.host(), &exceptions) {
        return Ok(None);
    }
    let proxy = parse(&text, url.scheme() == Scheme::Https);
    proxy.map(Some).map_err(|why| Error::new(format!("Cannot use the proxy of ${name}: {why}")))
}

fn parse(text: &str, is_tunnel: bool) -> Result<Proxy, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let is_tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        scheme if scheme.starts_with("socks") => {
            return Err(format!("{scheme} is not supported, only http and https are"));
        }
        _ => return Err(format!("unknown kind '{scheme}'")),
    };
    if is_tls {
        super::client::check_tls().map_err(|err| err.to_string())?;
    }
    let url = Url::parse(&format!("http://{rest}")).map_err(|err| err.to_string())?;
    let default = if is_tls { 443 } else { DEFAULT_PORT };
    Ok(Proxy {
        is_tls,
        authority: format!("{}:{}", url.host(), url.explicit_port().unwrap_or(default)),
        user: url.user().map(str::to_owned),
        basic: url.basic(),
        // To a proxy behind TLS everything is tunnelled.
        is_tunnel: is_tunnel || is_tls,
    })
}

/// True where the list in `no_proxy` names the host: as itself, as a part of a domain, as an
/// address, as one of a network, or by `*`.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let host = host.strip_suffix('.').unwrap_or(host);
    let address: Option<IpAddr> = host.parse().ok();
    list.trim() == "*"
        || list.split([',', ' ', '\t']).filter(|word| !word.is_empty()).any(|word| match address {
            Some(address) => is_in_network(address, word),
            None => is_in_domain(host, word),
        })
}

fn is_in_domain(host: &str, domain: &str) -> bool {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
    !domain.is_empty()
        && host
            .strip_suffix(domain.as_str())
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn is_in_network(address: IpAddr, word: &str) -> bool {
    let (network, bits) = word.split_once('/').map_or((word, None), |(n, b)| (n, Some(b)));
    let Ok(network) = network.trim_matches(['[', ']']).parse::<IpAddr>() else { return false };
    let (a, b, size) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let Ok(bits) = bits.map_or(Ok(size), str::parse::<u32>) else { return false };
    let Some(ignored) = size.checked_sub(bits) else { return false };
    a.checked_shr(ignored).unwrap_or(0) == b.checked_shr(ignored).unwrap_or(0)
}

/// The HTTP library's state for one way out.
pub(super) fn agent(
    config: impl FnOnce(Option<ureq::Proxy>) -> Config,
    way: Option<&Proxy>,
) -> Result<Agent> {
    let Some(proxy) = way else { return Ok(Agent::new_with_config(config(None))) };
    let invalid = |err: &dyn fmt::Display| {
        Error::new(format!("Cannot use the proxy {}: {err}", proxy.authority))
    };
    let scheme = if proxy.is_tls { "https" } else { "http" };
    if proxy.is_tunnel {
        let user = proxy.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let tunnel = ureq::Proxy::new(&format!("{scheme}://{user}{}", proxy.authority))
            .map_err(|err| invalid(&err))?;
        return Ok(Agent::new_with_config(config(Some(tunnel))));
    }
    let uri = format!("http://{}/", proxy.authority).parse().map_err(|err| invalid(&err))?;
    let connector = ().chain(TcpConnector::default()).chain(Forward { basic: proxy.basic.clone() });
    Ok(Agent::with_parts(config(None), connector, ProxyResolver { proxy: uri }))
}

/// Finds the proxy's address, whatever is asked for: the proxy resolves the rest.
#[derive(Debug)]
struct ProxyResolver {
    proxy: Uri,
}

impl Resolver for ProxyResolver {
    fn resolve(
        &self,
        _uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(&self.proxy, config, timeout)
    }
}

/// Makes connections to the proxy speak as to one.
struct Forward {
    basic: Option<String>,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forward")
    }
}

impl<In: Transport> Connector<In> for Forward {
    type Out = ForwardTransport<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let authority = details.uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(chained.map(|inner| ForwardTransport {
            inner,
            origin: format!("http://{authority}"),
            basic: self.basic.clone(),
        }))
    }
}

/// Puts the whole URL into the request line.
struct ForwardTransport<T> {
    inner: T,
    origin: String,
    basic: Option<String>,
}

impl<T> fmt::Debug for ForwardTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardTransport").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<T: Transport> Transport for ForwardTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.inner.buffers().output();
        let head = output.get(..amount).unwrap_or_default();
        // Requests have no bodies here, so what begins like a request is one.
        let Some(head) = for_proxy(head, &self.origin, self.basic.as_deref()) else {
            return self.inner.transmit_output(amount, timeout);
        };
        let mut rest = head.as_slice();
        while !rest.is_empty() {
            let output = self.inner.buffers().output();
            let count = rest.len().min(output.len());
            let (Some(to), Some((from, left))) =
                (output.get_mut(..count), rest.split_at_checked(count))
            else {
                break;
            };
            to.copy_from_slice(from);
            self.inner.transmit_output(count, timeout)?;
            rest = left;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

fn for_proxy(head: &[u8], origin: &str, basic: Option<&str>) -> Option<Vec<u8>> {
    let target = head.strip_prefix(b"GET ").filter(|target| target.starts_with(b"/"))?;
    let end = target.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let (line, headers) = target.split_at_checked(end)?;
    let login = basic.map(|basic| format!("Proxy-Authorization: {basic}\r\n")).unwrap_or_default();
    Some([b"GET ", origin.as_bytes(), line, login.as_bytes(), headers].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(env: &[(&str, &str)], url: &str) -> Result<Option<String>> {
        let ctx = env.iter().fold(Ctx::host([]), |ctx, (name, value)| ctx.with_env(name, value));
        let proxy = from_env(&ctx, &Url::parse(url).unwrap())?;
        Ok(proxy.map(|proxy| proxy.authority))
    }

    #[test]
    fn variables_are_chosen_as_libcurl_does() {
        let all = [
            ("http_proxy", "http://h:1"),
            ("HTTP_PROXY", "http://evil:1"),
            ("https_proxy", "s:2"),
            ("HTTPS_PROXY", "S:3"),
            ("all_proxy", "a:4"),
            ("ALL_PROXY", "A:5"),
        ];
        let choose = |from: usize, url: &str| choose(&all[from..], url).unwrap();
        assert_eq!(choose(0, "http://x/").as_deref(), Some("h:1"));
        assert_eq!(choose(1, "http://x/").as_deref(), Some("a:4"), "HTTP_PROXY is not trusted");
        assert_eq!(choose(5, "http://x/").as_deref(), Some("a:5"));
        assert_eq!(choose(0, "https://x/").as_deref(), Some("s:2"));
        assert_eq!(choose(3, "https://x/").as_deref(), Some("s:3"));
        assert_eq!(choose(4, "https://x/").as_deref(), Some("a:4"));
        assert_eq!(choose(6, "https://x/"), None);
        assert_eq!(choose(0, "file:///x"), None);
        let empty = [("http_proxy", ""), ("all_proxy", "a:4")];
        assert_eq!(super::tests::choose(&empty, "http://x/").unwrap().as_deref(), Some("a:4"));
    }

    #[test]
    fn proxy_urls_have_defaults_and_limits() {
        let port = |text| choose(&[("http_proxy", text)], "http://x/");
        assert_eq!(port("http://p").unwrap().as_deref(), Some("p:1080"));
        assert_eq!(port("p:80").unwrap().as_deref(), Some("p:80"));
        assert_eq!(port("me:pw@p/").unwrap().as_deref(), Some("p:1080"));
        assert_eq!(port("http://[::1]:8080").unwrap().as_deref(), Some("[::1]:8080"));
        for (bad, why) in [
            ("socks5h://p:1", "socks5h is not supported"),
            ("ftp://p:1", "unknown kind 'ftp'"),
            ("http://p:x", "port"),
            ("http://", "host"),
        ] {
            let err = port(bad).unwrap_err().to_string();
            assert!(err.starts_with("Cannot use the proxy of $http_proxy: "), "{err}");
            assert!(err.contains(why), "{err}");
        }
    }

    #[test]
    fn exceptions_are_matched_as_libcurl_does() {
        for (host, list, expected) in [
            ("example.com", "*", true),
            ("example.com", "other,*", false),
            ("example.com", "example.com", true),
            ("www.example.com", "example.com", true),
            ("www.example.com", ".example.com", true),
            ("example.com", ".example.com", true),
            ("example.com.", "Example.COM.", true),
            ("notexample.com", "example.com", false),
            ("example.com", "www.example.com", false),
            ("b.org", "a.org, b.org", true),
            ("b.org", "a.org b.org", true),
            ("example.com", "", false),
            ("example.com", ",. ,", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.0.0.0/33", false),
            ("10.1.2.3", "2.3", false),
            ("[fe80::1]", "fe80::/10", true),
            ("[::1]", "[::1]", true),
            ("[::1]", "127.0.0.1", false),
        ] {
            assert_eq!(is_exempt(host, list), expected, "{host} in {list:?}");
        }
    }

    #[test]
    fn request_line_gets_the_whole_url() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
        let forward = for_proxy(head, "http://h:8", Some("Basic eA==")).unwrap();
        let expected = "GET http://h:8/a?b HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\n\
                        Host: h\r\n\r\n";
        assert_eq!(String::from_utf8(forward).unwrap(), expected);
        assert_eq!(for_proxy(b"ost: h\r\n\r\n", "http://h", None), None);
        assert_eq!(for_proxy(b"GET /a", "http://h", None), None);
    }
}
