//! What is in a planned tree, entry by entry, from several sources on top of each other.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use super::tree::Request;
use crate::error::{Context as _, Error, Result};
use crate::sys::fs;

/// LIMIT: directories within directories.
const DEPTH_MAX: usize = 2048;

/// What sources have in these is of a running system, not of the one that is built.
const VOLATILE: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"];

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
    /// When it was changed, in seconds since the epoch.
    pub(super) fn modified(&self, epoch: i64) -> i64 {
        self.source.as_ref().map_or(epoch, |(_, metadata)| metadata.mtime())
    }
}

/// All entries, the root directory first.
///
/// # Errors
///
/// Sources that cannot be looked at; files that are in each other's way.
pub(super) fn entries(request: &Request) -> Result<Vec<Entry>> {
    let mut walk = Walk { request, found: BTreeMap::new() };
    walk.put(PathBuf::new(), Kind::Directory, None)?;
    for copy in &request.copies {
        let source = fs::chase(&request.root, &copy.source)
            .context(|| format!("Failed to resolve '{}'", copy.source.display()))?;
        let metadata = match std::fs::symlink_metadata(&source) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                log::info!(
                    target: crate::log::NOTICE,
                    "File or directory '{}' does not exist, ignoring.",
                    source.display()
                );
                continue;
            }
            Err(err) => {
                return Err(Error::because(format!("Failed to open '{}'", source.display()), err));
            }
        };
        let target = relative(&copy.target);
        walk.directories(target.parent().unwrap_or(Path::new("")))?;
        let is_root = target.as_os_str().is_empty();
        walk.copy(source, metadata, target, is_root, DEPTH_MAX)?;
    }
    for directory in &request.directories {
        walk.directories(&relative(directory))?;
    }
    for (link, text) in &request.symlinks {
        let link = relative(link);
        walk.directories(link.parent().unwrap_or(Path::new("")))?;
        walk.put(link, Kind::Link(text.clone()), None)?;
    }
    Ok(walk.found.into_values().collect())
}

struct Walk<'a> {
    request: &'a Request,
    /// By path; a directory sorts before what is in it.
    found: BTreeMap<PathBuf, Entry>,
}

impl Walk<'_> {
    fn copy(
        &mut self,
        source: PathBuf,
        metadata: Metadata,
        path: PathBuf,
        is_root: bool,
        depth: usize,
    ) -> Result<()> {
        if self.is_excluded(&source, &path, false) {
            return Ok(());
        }
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File(metadata.len()),
            kind if kind.is_symlink() => Kind::Link(
                std::fs::read_link(&source)
                    .context(|| format!("Failed to read '{}'", source.display()))?,
            ),
            // A socket without its server is nothing.
            kind if kind.is_socket() => return Ok(()),
            _ => Kind::Special,
        };
        let is_directory = kind == Kind::Directory;
        self.put(path.clone(), kind, Some((source.clone(), metadata)))?;
        if !is_directory
            || self.is_excluded(&source, &path, true)
            || self.is_elsewhere(&source, is_root)
        {
            return Ok(());
        }
        let left = depth.checked_sub(1).ok_or_else(|| {
            Error::new(format!("'{}' is too deep in directories.", source.display()))
        })?;
        let failed = || format!("Failed to read directory '{}'", source.display());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&source).context(failed)? {
            names.push(entry.context(failed)?.file_name());
        }
        names.sort();
        for name in names {
            let child = source.join(&name);
            let metadata = std::fs::symlink_metadata(&child)
                .context(|| format!("Failed to open '{}'", child.display()))?;
            self.copy(child, metadata, path.join(&name), is_root, left)?;
        }
        Ok(())
    }

    /// True for what `ExcludeFiles=` and `ExcludeFilesTarget=` leave out: an entry, or only what is
    /// in it.
    fn is_excluded(&self, source: &Path, target: &Path, contents: bool) -> bool {
        let source = source.strip_prefix(&self.request.root).unwrap_or(source);
        let hits = |excluded: &String, path: &Path| {
            excluded.ends_with('/') == contents && relative(Path::new(excluded)) == path
        };
        self.request.exclude_sources.iter().any(|excluded| hits(excluded, source))
            || self.request.exclude_targets.iter().any(|excluded| hits(excluded, target))
    }

    /// True for directories whose contents are no part of this file system.
    fn is_elsewhere(&self, source: &Path, is_root: bool) -> bool {
        let below = source.strip_prefix(&self.request.root).unwrap_or(source);
        let is = |place: &Path| !below.as_os_str().is_empty() && relative(place) == below;
        let explicit = self.request.copies.iter().any(|copy| is(&copy.source));
        VOLATILE.iter().any(|place| is(Path::new(place)))
            || is_root && !explicit && self.request.mount_points.iter().any(|place| is(place))
    }

    /// Makes directories where there are none.
    fn directories(&mut self, path: &Path) -> Result<()> {
        let mut below = PathBuf::new();
        for name in path.components() {
            below.push(name);
            if self.found.get(&below).is_none_or(|found| found.kind != Kind::Directory) {
                self.put(below.clone(), Kind::Directory, None)?;
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        path: PathBuf,
        kind: Kind,
        source: Option<(PathBuf, Metadata)>,
    ) -> Result<()> {
        match self.found.get_mut(&path) {
            None => {
                self.found.insert(path.clone(), Entry { path, kind, source });
            }
            Some(found) if found.kind == Kind::Directory && kind == Kind::Directory => {
                // The root directory is what its first source makes of it.
                if source.is_some() && !(path.as_os_str().is_empty() && found.source.is_some()) {
                    found.source = source;
                }
            }
            Some(_) => {
                return Err(Error::new(format!("'/{}' is there already.", path.display()))
                    .with_errno(rustix::io::Errno::EXIST.raw_os_error()));
            }
        }
        Ok(())
    }
}

/// An absolute path without its slash, and without dots.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}
