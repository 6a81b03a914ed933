//! One question and its answer, redirects included: what is sent, and which answers are taken.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED, LOCATION,
    RETRY_AFTER,
};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body as UreqBody};

use crate::ctx::Ctx;
use crate::error::Error;

use super::body::{Body, broken};
use super::client::{Inner, Options, check_tls};
use super::date;
use super::proxy::{self, Proxy};
use super::retry::{Failure, Kind};
use super::url::{Scheme, Url, UrlError};

/// LIMIT: a longer response header is refused.
const MAX_HEADER: usize = 64 << 10;
/// Large enough that a receive call carries more than it costs.
const INPUT_BUFFER: usize = 256 << 10;

/// The part of a file that is wanted.
pub(super) struct Range<'a> {
    /// First byte.
    pub(super) from: u64,
    /// Send the whole file instead if this is no longer its validator.
    pub(super) validator: Option<&'a str>,
}

/// An answer whose body has not been read.
pub(super) struct Reply {
    pub(super) status: Status,
    /// Where the last redirect led.
    pub(super) url: Url,
    /// Of this body; unknown where the server does not say.
    pub(super) length: Option<u64>,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    pub(super) modified: Option<SystemTime>,
    pub(super) body: Body,
}

/// What kind of answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The whole file.
    Whole,
    /// The part asked for, up to and including `last`; `total` unless the server hides it.
    Part { first: u64, last: u64, total: Option<u64> },
    /// There is no such part; the file's size if the server says.
    NoSuchPart { total: Option<u64> },
}

/// HTTP libraries' state: connections to be used again, one pool per way out.
#[derive(Default)]
pub(super) struct Agents(Mutex<HashMap<(bool, Option<Proxy>), Agent>>);

impl Inner {
    /// Asks for a file or a part of it and follows redirects. Everything but success, and "no such
    /// part" where a part was asked for, is a failure.
    pub(super) fn open(&self, url: &Url, range: Option<&Range<'_>>) -> Result<Reply, Failure> {
        let mut url = url.clone();
        for _ in 0..=self.options.max_redirects {
            if url.scheme() == Scheme::File {
                return open_file(&url, range, &self.ctx, &self.options);
            }
            let response = self.send(&url, range)?;
            let code = response.status().as_u16();
            if !matches!(code, 301 | 302 | 303 | 307 | 308) {
                return self.accept(url, response, range);
            }
            url = redirect(&url, response.headers())?;
        }
        Err(Failure::permanent(Error::new(format!(
            "Transfer failed: {url}: Maximum ({}) redirects followed",
            self.options.max_redirects
        ))))
    }

    fn send(&self, url: &Url, range: Option<&Range<'_>>) -> Result<Response<UreqBody>, Failure> {
        let agent = self.agent(url).map_err(Failure::permanent)?;
        let mut request = agent.get(url.wire());
        if let Some(basic) = url.basic() {
            request = request.header("Authorization", basic);
        }
        if let Some(range) = range {
            request = request.header("Range", format!("bytes={}-", range.from));
            if let Some(validator) = range.validator {
                request = request.header("If-Range", validator);
            }
        }
        log::debug!("GET {url}");
        request.call().map_err(|err| broken(url, err))
    }

    fn agent(&self, url: &Url) -> Result<Agent, Error> {
        let proxy = proxy::from_env(&self.ctx, url)?;
        let is_tls = url.scheme() == Scheme::Https;
        if is_tls {
            check_tls()?;
        }
        let mut agents = self.agents.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (is_tls, proxy);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = new_agent(&self.ctx, &self.options, is_tls, key.1.as_ref())?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn accept(
        &self,
        url: Url,
        response: Response<UreqBody>,
        range: Option<&Range<'_>>,
    ) -> Result<Reply, Failure> {
        let code = response.status().as_u16();
        let headers = response.headers();
        let refuse = |why: &str| {
            Failure::permanent(Error::new(format!("HTTP request to {url} failed: {why}.")))
        };
        let status = match (code, range) {
            (206, Some(_)) => content_range(headers)
                .ok_or_else(|| refuse("the server did not say which part it sends"))?,
            // DIFFERS: the peer takes a part for the whole.
            (206, None) => return Err(refuse("the server sent a part of the file, unasked")),
            (200..300, _) => Status::Whole,
            (416, Some(_)) => {
                Status::NoSuchPart { total: text(headers, CONTENT_RANGE).and_then(total_of) }
            }
            (code, _) => return Err(self.refused(&url, code, headers)),
        };
        if text(headers, CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(refuse("the server encoded the content, although asked not to"));
        }
        let last_modified = text(headers, LAST_MODIFIED).map(str::to_owned);
        Ok(Reply {
            status,
            length: text(headers, CONTENT_LENGTH).and_then(|length| length.trim().parse().ok()),
            etag: text(headers, ETAG).map(str::to_owned),
            modified: last_modified.as_deref().and_then(date::parse),
            last_modified,
            url,
            body: Body::new(Box::new(response.into_body().into_reader()), &self.ctx, &self.options),
        })
    }

    fn refused(&self, url: &Url, code: u16, headers: &HeaderMap) -> Failure {
        let error = Error::new(match code {
            401 => format!("Access to {url} requires authentication."),
            code => format!("HTTP request to {url} failed with code {code}."),
        });
        let kind = match code {
            404 => Kind::NotFound,
            408 | 425 | 429 | 500 | 502..=504 => {
                Kind::Transient(text(headers, RETRY_AFTER).and_then(|text| self.retry_after(text)))
            }
            _ => Kind::Permanent,
        };
        Failure { error, kind }
    }

    fn retry_after(&self, text: &str) -> Option<Duration> {
        if let Ok(seconds) = text.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        date::parse(text).map(|date| date.duration_since(self.ctx.now()).unwrap_or_default())
    }
}

fn redirect(url: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::permanent(Error::new(format!("Transfer failed: {url}: {why}")))
    };
    let location =
        text(headers, LOCATION).ok_or_else(|| failed(&"Redirect without a destination"))?;
    let next = url.resolve(location.trim()).map_err(|err| failed(&err))?;
    if next.scheme() == Scheme::File {
        return Err(failed(&UrlError::UnsupportedScheme));
    }
    if url.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
        // COMPAT(262): followed, since content is authenticated by its hash and the manifest by
        // its signature; but it is worth a word.
        log::warn!("{url} redirects from https to http ({next}).");
    }
    Ok(next.with_user_of(url))
}

/// A file URL: no server, same answers.
fn open_file(
    url: &Url,
    range: Option<&Range<'_>>,
    ctx: &Ctx,
    options: &Options,
) -> Result<Reply, Failure> {
    let failed = |err: io::Error| {
        let is_absent = err.kind() == io::ErrorKind::NotFound;
        let error = Error::because(format!("Transfer failed: {url}"), err);
        Failure { error, kind: if is_absent { Kind::NotFound } else { Kind::Permanent } }
    };
    let path = url.file_path().map_err(|err| failed(io::Error::other(err)))?;
    let mut file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(failed(io::Error::other("Not a regular file")));
    }
    let total = meta.len();
    // The inode's change time: any write to the file makes another validator.
    let etag = {
        use std::os::unix::fs::MetadataExt as _;
        format!("\"{:x}-{:x}-{:x}.{:x}\"", meta.ino(), total, meta.ctime(), meta.ctime_nsec())
    };
    let wanted = range.filter(|range| range.validator.is_none_or(|validator| validator == etag));
    let status = match wanted.map(|range| range.from) {
        None => Status::Whole,
        Some(from) if from >= total => Status::NoSuchPart { total: Some(total) },
        Some(from) => {
            io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(failed)?;
            Status::Part { first: from, last: total - 1, total: Some(total) }
        }
    };
    Ok(Reply {
        status,
        url: url.clone(),
        length: Some(total - wanted.map_or(0, |range| range.from.min(total))),
        etag: Some(etag),
        last_modified: None,
        modified: meta.modified().ok(),
        body: Body::new(Box::new(file), ctx, options),
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn content_range(headers: &HeaderMap) -> Option<Status> {
    let text = text(headers, CONTENT_RANGE)?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let fits = first <= last && last < u64::MAX && total.is_none_or(|total| last < total);
    fits.then_some(Status::Part { first, last, total })
}

fn total_of(content_range: &str) -> Option<u64> {
    content_range.trim().strip_prefix("bytes")?.trim().strip_prefix("*/")?.parse().ok()
}

fn new_agent(
    ctx: &Ctx,
    options: &Options,
    is_tls: bool,
    proxy: Option<&Proxy>,
) -> Result<Agent, Error> {
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(options.user_agent.as_str())
        // An encoded body would not have the manifest's hash.
        .accept_encoding("identity")
        .timeout_connect(Some(options.connect_timeout))
        .timeout_per_read(Some(options.low_speed_time))
        .timeout_per_write(Some(options.low_speed_time))
        .max_response_header_size(MAX_HEADER)
        .input_buffer_size(INPUT_BUFFER);
    #[cfg(feature = "tls")]
    let builder = if is_tls { builder.tls_config(super::tls::config(ctx)?) } else { builder };
    #[cfg(not(feature = "tls"))]
    let _ = (ctx, is_tls);
    proxy::agent(|tunnel| builder.proxy(tunnel).build(), proxy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn range(value: &str) -> Option<Status> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, value.parse().unwrap());
        content_range(&headers)
    }

    #[test]
    fn content_range_is_read_and_checked() {
        let part = |first, last, total| Some(Status::Part { first, last, total });
        assert_eq!(range("bytes 5-9/10"), part(5, 9, Some(10)));
        assert_eq!(range("bytes 5-9/*"), part(5, 9, None));
        for bad in ["", "bytes", "bytes 5-4/10", "bytes 5-10/10", "bytes */10", "items 5-9/10"] {
            assert_eq!(range(bad), None, "{bad:?}");
        }
        assert_eq!(range("bytes 0-18446744073709551615/*"), None);
        assert_eq!(range("bytes 0-18446744073709551616/*"), None);
        assert_eq!(total_of("bytes */77"), Some(77));
        assert_eq!(total_of("bytes 1-2/77"), None);
    }
}
