//! HTTP/1.1 client of the updater: fetch a small file whole, or download a large one as a stream
//! that survives a broken connection.
//!
//! External spec: RFC 9110 and 9112 (ureq speaks them); what is asked, accepted and refused here
//! follows libcurl as systemd-pull 262 uses it, and what it lacks (retries, resuming) is added.
//! Everything from the net is hostile: redirects, lengths, ranges and validators are checked, and
//! nothing is allocated by a length a server claims.
//!
//! A scheme other than http and https is refused, but `file://` works without a server, because
//! the peer's does too.

use std::sync::Arc;
use std::time::Duration;

use super::download::{Download, ResumePoint};
use super::exchange::Agents;
use super::retry::{Backoff, Failure, Kind};
use super::url::{Scheme, Url};
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Time and size limits. The defaults are libcurl's as the peer sets them, where it has one.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the client says it is.
    pub user_agent: String,
    /// For name lookup, connection and TLS handshake.
    pub connect_timeout: Duration,
    /// A transfer slower than this many bytes per second …
    pub low_speed_limit: u64,
    /// … for this long is given up.
    pub low_speed_time: Duration,
    /// Attempts after the first one without a byte of progress in between.
    pub retries: u32,
    /// Longest wait before the first of them.
    pub retry_first: Duration,
    /// Longest wait before any of them.
    pub retry_max: Duration,
    /// Longest wait a server may ask for.
    pub retry_after_max: Duration,
    /// Redirects followed for one request.
    pub max_redirects: u32,
    /// Longest body of a download, bytes.
    pub max_download: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(300),
            low_speed_limit: 30,
            low_speed_time: Duration::from_secs(60),
            retries: 3,
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(120),
            max_redirects: 30,
            max_download: 64 << 30,
        }
    }
}

/// Makes requests. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) ctx: Ctx,
    pub(super) options: Options,
    pub(super) agents: Agents,
}

impl Client {
    /// A client with the default limits. Touches neither the net nor the certificate store.
    pub fn new(ctx: &Ctx) -> Self {
        Self::with_options(ctx, Options::default())
    }

    /// A client with other limits.
    pub fn with_options(ctx: &Ctx, options: Options) -> Self {
        Self(Arc::new(Inner { ctx: ctx.clone(), options, agents: Agents::default() }))
    }

    /// Gets a small file whole; `None` where the server says there is none (404).
    ///
    /// # Errors
    ///
    /// Anything but an answer of the 200 family, after the retries; more than `max` bytes.
    pub fn fetch(&self, url: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let url = parse(url)?;
        let mut backoff = Backoff::default();
        loop {
            match self.fetch_once(&url, max) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(Failure { kind: Kind::NotFound, .. }) => return Ok(None),
                Err(failure) => backoff.pause(failure, &self.0.ctx, &self.0.options)?,
            }
        }
    }

    fn fetch_once(&self, url: &Url, max: u64) -> Result<Vec<u8>, Failure> {
        let mut reply = self.0.open(url, None)?;
        let too_large = || {
            Failure::permanent(
                Error::new(format!("File too large: {url} has more than {max} bytes."))
                    .with_errno(EFBIG),
            )
        };
        if reply.length.is_some_and(|length| length > max) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            let count = reply.body.read(&mut chunk).map_err(|err| err.into_failure(url))?;
            let Some(part) = chunk.get(..count).filter(|part| !part.is_empty()) else { break };
            bytes.extend_from_slice(part);
            if bytes.len() as u64 > max {
                return Err(too_large());
            }
        }
        Ok(bytes)
    }

    /// Starts a download, at the beginning or where an earlier one ended. Reading from the result
    /// reconnects by itself and goes on where the connection broke.
    ///
    /// # Errors
    ///
    /// Anything but an answer of the 200 family, after the retries; also 404.
    pub fn download(&self, url: &str, start: Option<ResumePoint>) -> Result<Download> {
        Download::start(self.clone(), parse(url)?, start)
    }
}

pub(super) const EFBIG: i32 = 27;

fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|err| Error::because(format!("URL '{text}'"), err))?;
    if url.scheme() == Scheme::Https {
        check_tls()?;
    }
    Ok(url)
}

#[cfg(feature = "tls")]
pub(super) fn check_tls() -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "tls"))]
pub(super) fn check_tls() -> Result<()> {
    Err(Error::new("https:// is not available: this slipway was built without the feature 'tls'.")
        .hint("Use http:// with signature verification, or a slipway built with 'tls'."))
}
