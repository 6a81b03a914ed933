//! A response body that refuses to be slow, and what its failures mean.

use std::io::{self, Read};
use std::time::Duration;

use crate::ctx::Ctx;
use crate::error::Error;

use super::client::Options;
use super::retry::Failure;
use super::url::Url;

/// The bytes of a response.
pub(super) struct Body {
    reader: Box<dyn Read + Send>,
    ctx: Ctx,
    limit: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Body {
    pub(super) fn new(reader: Box<dyn Read + Send>, ctx: &Ctx, options: &Options) -> Self {
        Self {
            reader,
            ctx: ctx.clone(),
            limit: options.low_speed_limit,
            window: options.low_speed_time,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// As `Read::read`. A server that is silent for the whole window is stopped by the socket's
    /// time-out, one that drips by the count of bytes per window.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        // The time the caller took since the last read is not the server's.
        let before = self.ctx.monotonic();
        let count = self.reader.read(buffer).map_err(|err| BodyError::Broken(err.into()))?;
        let now = self.ctx.monotonic();
        self.bytes += count as u64;
        self.waited += now.saturating_sub(before);
        if self.waited >= self.window {
            let wanted = u128::from(self.limit) * self.waited.as_millis() / 1000;
            if u128::from(self.bytes) < wanted && count > 0 {
                return Err(BodyError::Slow { limit: self.limit, window: self.window });
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(count)
    }
}

/// Why the bytes stopped.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The connection or the framing broke.
    Broken(ureq::Error),
    /// Slower than allowed.
    Slow {
        /// Bytes per second.
        limit: u64,
        /// Over this time.
        window: Duration,
    },
}

impl BodyError {
    pub(super) fn into_failure(self, url: &Url) -> Failure {
        match self {
            Self::Broken(err) => broken(url, err),
            Self::Slow { limit, window } => Failure::transient(too_slow(url, limit, window)),
        }
    }
}

fn too_slow(url: &Url, limit: u64, window: Duration) -> Error {
    Error::new(format!(
        "Transfer failed: {url}: less than {limit} bytes per second for {} seconds",
        window.as_secs_f32()
    ))
    .with_errno(ETIMEDOUT)
}

const ETIMEDOUT: i32 = 110;

/// Turns a failure of the HTTP library into a sentence, and says whether it may pass.
pub(super) fn broken(url: &Url, err: ureq::Error) -> Failure {
    use ureq::Error as E;
    let failed = |cause: String| Error::new(format!("Transfer failed: {url}: {cause}"));
    match err {
        E::Io(err) => broken_io(url, err),
        E::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Failure::transient(failed("Connection timed out".to_owned()).with_errno(ETIMEDOUT))
        }
        E::Timeout(_) => Failure::transient(
            failed("The server sent nothing for too long".to_owned()).with_errno(ETIMEDOUT),
        ),
        E::ConnectionFailed => Failure::transient(failed("Connection failed".to_owned())),
        E::HostNotFound => Failure::permanent(failed("Could not resolve host name".to_owned())),
        E::LargeResponseHeader(_, limit) => {
            Failure::permanent(failed(format!("Response header is longer than {limit} bytes")))
        }
        err => Failure::permanent(failed(err.to_string())),
    }
}

fn broken_io(url: &Url, err: io::Error) -> Failure {
    use io::ErrorKind as K;
    let is_transient = match err.kind() {
        K::ConnectionRefused
        | K::ConnectionReset
        | K::ConnectionAborted
        | K::NotConnected
        | K::BrokenPipe
        | K::UnexpectedEof
        | K::TimedOut
        | K::WouldBlock
        | K::Interrupted
        | K::NetworkDown
        | K::NetworkUnreachable
        | K::HostUnreachable
        | K::AddrNotAvailable => true,
        // What getaddrinfo(3) calls EAI_AGAIN has no kind of its own.
        _ => {
            let text = err.to_string();
            text.contains("Try again") || text.contains("Temporary failure")
        }
    };
    let error = if err.kind() == K::UnexpectedEof {
        Error::new(format!("Transfer failed: {url}: Transferred a partial file"))
    } else {
        Error::because(format!("Transfer failed: {url}"), err)
    };
    if is_transient { Failure::transient(error) } else { Failure::permanent(error) }
}
