//! One update at a time.
//!
//! DIFFERS: the peer has no lock, and of two runs the second renames the files of the first away
//! (D14).

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::sys;

/// Below the root that is updated.
const PATH: &str = "/run/slipway-sysupdate.lock";

/// Names another place for the lock.
const OVERRIDE: &str = "SLIPWAY_SYSUPDATE_LOCK";

/// Held while a target is changed. The kernel gives it back when the process ends, however.
#[derive(Debug)]
pub struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Another run has it.
    pub fn take(ctx: &Ctx) -> Result<Self> {
        let path = match ctx.env_os(OVERRIDE) {
            Some(path) => PathBuf::from(path),
            None => sys::fs::chase(ctx.root(), PATH.as_ref()).unwrap_or_else(|_| ctx.at(PATH)),
        };
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = match opened {
            Ok(file) => file,
            // A tree without /run, or a user who may write to some target but not there: their
            // files can be told apart by nobody else.
            Err(err) => {
                log::debug!("Cannot lock '{}', going on without: {err}", path.display());
                return Ok(Self { _file: None });
            }
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(Errno::WOULDBLOCK) => Err(Error::new(format!(
                "Another update is running: it holds '{}'.",
                path.display()
            ))
            .with_errno(16) // EBUSY
            .hint("Try again when it is done; nothing was changed")),
            Err(err) => {
                log::debug!("Cannot lock '{}', going on without: {err}", path.display());
                Ok(Self { _file: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_run_is_refused_until_the_first_is_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        let first = Lock::take(&ctx).unwrap();
        let err = Lock::take(&ctx).unwrap_err();
        assert!(err.to_string().starts_with("Another update is running"), "{err}");
        drop(first);
        Lock::take(&ctx).unwrap();
    }

    #[test]
    fn tree_without_run_is_not_locked() {
        let dir = tempfile::tempdir().unwrap();
        Lock::take(&Ctx::host([]).with_root(dir.path())).unwrap();
    }
}
