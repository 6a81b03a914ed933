//! One refusal, three faces: the message, the Varlink error and the exit status.
//!
//! Formats and domains have small enums of their own that carry data; at their edge they become
//! this one [`Error`]. It keeps the sentence, the place in a file, the cause, hints, and, where a
//! caller over Varlink needs it, the typed error with its fields.

mod strerror;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// What every fallible function of the core returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal or failure, ready to be shown, sent or turned into an exit status.
pub struct Error(Box<Inner>);

#[derive(Debug, Default)]
struct Inner {
    message: String,
    place: Option<(PathBuf, Option<u32>)>,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    errno: Option<i32>,
    varlink: Option<(String, Map<String, Value>)>,
    status: Option<u8>,
    is_silent: bool,
}

impl Error {
    /// A sentence without a cause: capital first letter, objects in 'single quotes', and a final
    /// stop only where the peer's text has one.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Inner { message: message.into(), ..Inner::default() }))
    }

    /// A sentence and its cause, shown as `message: cause`. The errno of an I/O error is kept.
    pub fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let errno = source
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
            .or_else(|| source.downcast_ref::<Error>().and_then(Error::errno));
        let mut error = Self::new(message);
        error.0.errno = errno;
        error.0.source = Some(source);
        error
    }

    /// A sentence whose cause is a bare errno value.
    pub fn errno_because(message: impl Into<String>, errno: i32) -> Self {
        Self::because(message, io::Error::from_raw_os_error(errno))
    }

    /// An exit status without a message: the answer itself was the message.
    pub fn silent(status: u8) -> Self {
        let mut error = Self::new(String::new()).with_status(status);
        error.0.is_silent = true;
        error
    }

    /// Names the file, and the line in it counted from 1, that the error is about.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<Path>, line: impl Into<Option<u32>>) -> Self {
        self.0.place = Some((path.as_ref().to_path_buf(), line.into()));
        self
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Sets the errno that scripts and Varlink clients see.
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno);
        self
    }

    /// Sets the exit status; 1 when nobody does.
    #[must_use]
    pub fn with_status(mut self, status: u8) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Sets the Varlink error and its parameters.
    #[must_use]
    pub fn with_varlink(mut self, name: impl Into<String>, parameters: Map<String, Value>) -> Self {
        self.0.varlink = Some((name.into(), parameters));
        self
    }

    /// The lines that say what to do.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// The file, and the line in it, that the error is about.
    pub fn place(&self) -> Option<(&Path, Option<u32>)> {
        self.0.place.as_ref().map(|(path, line)| (path.as_path(), *line))
    }

    /// The errno of the failure or of its innermost cause.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// What the process returns.
    pub fn status(&self) -> u8 {
        self.0.status.unwrap_or(1)
    }

    /// True where there is nothing to print, only a status to return.
    pub fn is_silent(&self) -> bool {
        self.0.is_silent
    }

    /// The typed Varlink error, if somebody gave one. Without one a server sends
    /// `io.systemd.System` with the errno.
    pub fn varlink(&self) -> Option<(&str, &Map<String, Value>)> {
        self.0.varlink.as_ref().map(|(name, parameters)| (name.as_str(), parameters))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.0.place {
            write!(f, "{}:", path.display())?;
            if let Some(line) = line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.0.message)?;
        let mut cause = self.0.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(err) = cause {
            match err.downcast_ref::<io::Error>() {
                Some(io) => write!(f, ": {}", IoText(io))?,
                None => write!(f, ": {err}")?,
            }
            // Our own Display has printed its causes already.
            cause = if err.is::<Error>() { None } else { err.source() };
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

/// Shows an I/O error as glibc's strerror(3) does, whatever the libc, and without Rust's
/// ` (os error 2)` tail.
pub struct IoText<'a>(pub &'a io::Error);

impl fmt::Display for IoText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error().and_then(strerror::strerror) {
            Some(text) => f.write_str(text),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Turns a failed result into an [`Error`] with a sentence in front of the cause.
pub trait Context<T> {
    /// `Err(cause)` becomes `sentence: cause`.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| Error::because(message(), err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_place_object_and_cause() {
        let err = Error::errno_because("Failed to open '/x'", 2).at("/etc/a.transfer", 7);
        assert_eq!(
            err.to_string(),
            "/etc/a.transfer:7: Failed to open '/x': No such file or directory"
        );
        assert_eq!((err.errno(), err.status()), (Some(2), 1));
    }

    #[test]
    fn chain_is_printed_once() {
        let inner = Error::errno_because("Cannot read", 5);
        let outer = Error::because("Cannot list", inner);
        assert_eq!(outer.to_string(), "Cannot list: Cannot read: Input/output error");
        assert_eq!(outer.errno(), Some(5));
    }

    #[test]
    fn errors_of_rustix_keep_their_text_and_errno() {
        let err = Err::<(), _>(io::Error::from(rustix::io::Errno::ACCESS))
            .context(|| "Cannot stat".to_owned())
            .unwrap_err();
        assert_eq!(err.to_string(), "Cannot stat: Permission denied");
        assert_eq!(err.errno(), Some(13));
    }
}
