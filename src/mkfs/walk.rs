//! What is in a planned tree, entry by entry, for writers that need to know all of it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::tree::Tree;
use crate::error::{Context as _, Result};

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A file, and its length in bytes.
    File(u64),
    /// A symbolic link, and its text.
    Link(PathBuf),
    /// A device, pipe or socket.
    Special,
}

/// One entry. Directories come before what is in them.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Path relative to the root of the new file system; empty for the root itself.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
    /// What it is copied from, and its metadata; none for what is made.
    pub(super) source: Option<(PathBuf, Metadata)>,
}

impl Entry {
    /// When it was changed, in seconds since the epoch; what is made, at `epoch`.
    pub(super) fn modified(&self, epoch: i64) -> i64 {
        self.source.as_ref().map_or(epoch, |(_, metadata)| metadata.mtime())
    }
}

/// All entries, the root directory first.
///
/// # Errors
///
/// Sources that cannot be looked at.
pub(super) fn entries(tree: &Tree) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    tree.each(&mut |found| {
        let kind = match (found.source, found.link) {
            (None, None) => Kind::Directory,
            (None, Some(text)) => Kind::Link(text.to_path_buf()),
            (Some((path, metadata)), _) => match metadata.file_type() {
                kind if kind.is_dir() => Kind::Directory,
                kind if kind.is_file() => Kind::File(metadata.len()),
                kind if kind.is_symlink() => Kind::Link(
                    std::fs::read_link(path)
                        .context(|| format!("Failed to read '{}'", path.display()))?,
                ),
                _ => Kind::Special,
            },
        };
        let source = found.source.map(|(path, metadata)| (path.to_path_buf(), metadata.clone()));
        entries.push(Entry { path: found.path.to_path_buf(), kind, source });
        Ok(())
    })?;
    Ok(entries)
}
