//! A download that outlives its connections.
//!
//! Reading goes on at the byte where a connection broke, with `Range` and `If-Range`. A server
//! that ignores ranges is asked for the whole and the known part is skipped; a file that changed
//! meanwhile is an error, because its beginning has been handed out already.

use std::io::{self, Read};
use std::time::SystemTime;

use crate::error::{Error, Result};

use super::body::Body;
use super::client::{Client, EFBIG, Inner};
use super::exchange::{Range, Reply, Status};
use super::retry::{Backoff, Failure};
use super::url::Url;

/// Where an earlier download stopped; to be kept beside the partial file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Bytes that are there already.
    pub offset: u64,
    /// What the server called the file's state: a strong ETag with its quotes, or the
    /// `Last-Modified` date. Without one only the final hash can tell that the file changed.
    pub validator: Option<String>,
}

/// What became of the wish to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// None was asked; the first byte is byte 0.
    Fresh,
    /// The first byte is the one at the offset asked for.
    Resumed,
    /// The file changed or the server cannot resume: the first byte is byte 0, and the caller has
    /// to forget what it has.
    Restarted,
}

/// What the server says of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where the redirects led, without credentials.
    pub url: String,
    /// Size of the whole file in bytes.
    pub length: Option<u64>,
    /// With its quotes.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub modified: Option<SystemTime>,
}

/// The bytes of one file. Errors carry an [`Error`] with the URL and the reason.
pub struct Download {
    client: Client,
    url: Url,
    body: Option<Body>,
    position: u64,
    skip: u64,
    metadata: Metadata,
    validator: Option<String>,
    start: Start,
    has_ranges: bool,
    backoff: Backoff,
}

/// How an answer continues a download.
enum Fit {
    /// Exactly.
    Exact,
    /// It is the whole file; this many bytes are known.
    Skip(u64),
    /// Nothing is left to send.
    Complete,
    /// It is another part than asked for.
    WrongPart,
    /// It is another file than before.
    Changed,
}

impl Download {
    pub(super) fn start(client: Client, url: Url, point: Option<ResumePoint>) -> Result<Self> {
        let mut point = point.filter(|point| point.offset > 0);
        let mut start = if point.is_some() { Start::Resumed } else { Start::Fresh };
        let mut backoff = Backoff::default();
        loop {
            let range = point
                .as_ref()
                .map(|point| Range { from: point.offset, validator: point.validator.as_deref() });
            match client.0.open(&url, range.as_ref()) {
                Err(failure) => backoff.pause(failure, &client.0.ctx, &client.0.options)?,
                Ok(reply) => {
                    if can_start(&reply, point.as_ref()) {
                        let position = point.map_or(0, |point| point.offset);
                        return Self::with_reply(client, url, reply, position, start);
                    }
                    start = Start::Restarted;
                    let is_whole = reply.status == Status::Whole;
                    if is_whole {
                        return Self::with_reply(client, url, reply, 0, start);
                    }
                    point = None;
                }
            }
        }
    }

    fn with_reply(
        client: Client,
        url: Url,
        reply: Reply,
        position: u64,
        start: Start,
    ) -> Result<Self> {
        let length = total(&reply);
        let metadata = Metadata {
            url: reply.url.to_string(),
            length,
            etag: reply.etag.clone(),
            modified: reply.modified,
        };
        let is_complete = matches!(reply.status, Status::NoSuchPart { .. });
        let download = Self {
            validator: validator(&reply),
            body: (!is_complete).then_some(reply.body),
            client,
            url,
            position,
            skip: 0,
            metadata,
            start,
            has_ranges: true,
            backoff: Backoff::default(),
        };
        download.check_size()?;
        Ok(download)
    }

    /// What the server says of the file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Where the first byte belongs.
    pub fn started(&self) -> Start {
        self.start
    }

    /// Offset in the file of the next byte to be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What to keep in order to go on from here another day.
    pub fn resume_point(&self) -> ResumePoint {
        ResumePoint { offset: self.position, validator: self.validator.clone() }
    }

    fn check_size(&self) -> Result<()> {
        let max = self.client.0.options.max_download;
        let size = self.metadata.length.unwrap_or(self.position).max(self.position);
        if size > max {
            return Err(Error::new(format!(
                "File too large: {} has more than {max} bytes.",
                self.url
            ))
            .with_errno(EFBIG));
        }
        Ok(())
    }

    /// Reads once: bytes, or 0 at the true end.
    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let Some(body) = &mut self.body else { return Ok(0) };
        let count = body.read(buffer).map_err(|err| err.into_failure(&self.url))?;
        if count == 0 {
            self.body = None;
            if self.skip > 0 || self.metadata.length.is_some_and(|length| self.position < length) {
                return Err(Failure::transient(self.failed("Transferred a partial file")));
            }
        }
        Ok(count)
    }

    /// Takes over what was read: counts, and drops what the caller knows already.
    fn advance(&mut self, buffer: &mut [u8], count: usize) -> Result<usize> {
        let skipped = usize::try_from(self.skip).map_or(count, |skip| skip.min(count));
        self.skip -= skipped as u64;
        if skipped > 0 {
            buffer.copy_within(skipped..count, 0);
        }
        let fresh = count - skipped;
        self.position += fresh as u64;
        if fresh > 0 {
            self.backoff.reset();
        }
        if self.metadata.length.is_some_and(|length| self.position > length) {
            return Err(self.failed("Content length incorrect."));
        }
        self.check_size()?;
        Ok(fresh)
    }

    /// Opens a new connection at the current position, once.
    fn reconnect(&mut self) -> Result<(), Failure> {
        let range = (self.position > 0 && self.has_ranges)
            .then_some(Range { from: self.position, validator: self.validator.as_deref() });
        let reply = self.client.0.open(&self.url, range.as_ref()).map_err(|mut failure| {
            // The file was there a moment ago.
            if failure.kind == super::retry::Kind::NotFound {
                failure.kind = super::retry::Kind::Permanent;
            }
            failure
        })?;
        match self.fit(&reply) {
            Fit::Exact => self.skip = 0,
            Fit::Skip(known) => self.skip = known,
            Fit::Complete => {
                (self.skip, self.body) = (0, None);
                return Ok(());
            }
            Fit::WrongPart => {
                // Ask for the whole next time, as if the server knew no ranges.
                self.has_ranges = false;
                return Err(Failure::transient(self.failed("The server sent the wrong part")));
            }
            Fit::Changed => {
                return Err(Failure::permanent(
                    self.failed("The file changed on the server while it was transferred"),
                ));
            }
        }
        if self.metadata.length.is_none() {
            self.metadata.length = total(&reply);
        }
        self.body = Some(reply.body);
        Ok(())
    }

    fn fit(&self, reply: &Reply) -> Fit {
        let is_same_length = match (self.metadata.length, total(reply)) {
            (Some(before), Some(now)) => before == now,
            _ => true,
        };
        let is_same_state = match (&self.validator, validator(reply)) {
            (Some(before), Some(now)) => *before == now,
            _ => true,
        };
        if !is_same_length || !is_same_state {
            return Fit::Changed;
        }
        match reply.status {
            Status::Whole => Fit::Skip(self.position),
            Status::Part { first, .. } if first == self.position => Fit::Exact,
            Status::Part { .. } => Fit::WrongPart,
            Status::NoSuchPart { total: Some(total) } if total == self.position => Fit::Complete,
            Status::NoSuchPart { .. } => Fit::Changed,
        }
    }

    fn failed(&self, why: &str) -> Error {
        Error::new(format!("Transfer failed: {}: {why}", self.url))
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let mut failure = match self.read_once(buffer) {
                Ok(0) => return Ok(0),
                Ok(count) => match self.advance(buffer, count).map_err(io::Error::other)? {
                    0 => continue,
                    fresh => return Ok(fresh),
                },
                Err(failure) => failure,
            };
            self.body = None;
            loop {
                let Inner { ctx, options, .. } = &*self.client.0;
                self.backoff.pause(failure, ctx, options).map_err(io::Error::other)?;
                match self.reconnect() {
                    Ok(()) => break,
                    Err(again) => failure = again,
                }
            }
        }
    }
}

/// True where the answer begins at the wanted byte of the file the caller knows.
fn can_start(reply: &Reply, point: Option<&ResumePoint>) -> bool {
    let Some(point) = point else { return reply.status == Status::Whole };
    // A server may send a part although the validator, which it ignored, is another one.
    let is_known = match (&point.validator, validator(reply)) {
        (Some(before), Some(now)) => *before == now,
        _ => true,
    };
    is_known
        && match reply.status {
            Status::Whole => false,
            Status::Part { first, .. } => first == point.offset,
            Status::NoSuchPart { total } => total == Some(point.offset),
        }
}

/// Size of the whole file, if the answer tells.
fn total(reply: &Reply) -> Option<u64> {
    match reply.status {
        Status::Whole => reply.length,
        Status::Part { total, .. } | Status::NoSuchPart { total } => total,
    }
}

/// What may stand in `If-Range`: a strong ETag, else the date.
fn validator(reply: &Reply) -> Option<String> {
    let strong = reply.etag.as_ref().filter(|etag| etag.starts_with('"') && etag.ends_with('"'));
    strong.or(reply.last_modified.as_ref()).cloned()
}
