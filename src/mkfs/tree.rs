//! What goes into a file system: a plan of directories and files from several sources.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::error::{Error, Result};

/// What is wanted in a file system.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Directory that sources are below of; no symbolic link leads out of it.
    pub root: PathBuf,
    /// What is copied, in this order.
    pub copies: Vec<Copy>,
    /// Absolute paths below [`Request::root`] that are left out; a final slash leaves out only
    /// what is in the directory.
    pub exclude_sources: Vec<String>,
    /// The same for absolute paths of the new file system.
    pub exclude_targets: Vec<String>,
    /// Mount points of other file systems: what sources have in them is left out where they are
    /// copied to `/`.
    pub mount_points: Vec<PathBuf>,
    /// Directories that are made.
    pub directories: Vec<PathBuf>,
    /// Symbolic links that are made: place and text.
    pub symlinks: Vec<(PathBuf, PathBuf)>,
    /// Extended attributes of the root directory.
    pub root_xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Time of what is made rather than copied; now where there is none.
    pub epoch: Option<SystemTime>,
}

/// One thing that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Absolute path below [`Request::root`].
    pub source: PathBuf,
    /// Absolute path in the new file system.
    pub target: PathBuf,
    /// Verity protection of files is kept.
    pub copies_fsverity: bool,
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Tree {
    request: Request,
}

impl Tree {
    /// Plans what a file system will have in it. Looks at sources, but changes nothing.
    ///
    /// # Errors
    ///
    /// Sources that cannot be looked at; targets that are in each other's way.
    pub fn plan(request: Request) -> Result<Self> {
        if !request.root.is_absolute() {
            let shown = request.root.display();
            return Err(Error::new(format!("Source of files '{shown}' is not absolute.")));
        }
        Ok(Self { request })
    }

    /// What was asked for.
    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// True if the file system is going to be empty.
    pub fn is_empty(&self) -> bool {
        let request = &self.request;
        request.copies.is_empty() && request.directories.is_empty() && request.symlinks.is_empty()
    }
}
