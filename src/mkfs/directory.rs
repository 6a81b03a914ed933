//! A planned tree as a directory, for programs that are told to put one into a file system.
//!
//! With the privilege to mount, only the directories that differ from their sources are made; the
//! rest is bound to its place in a mount namespace that nobody else sees, so no byte is copied.
//! Without, everything is copied, and blocks are shared where the file system can.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::tree::{Directory, Node, Tree, names, stat};
use crate::error::{Context as _, Error, Result};
use crate::sys::fs;

/// LIMIT: mounts; where more would be needed, files are copied.
const BINDS_MAX: usize = 4096;
/// Files of up to so many bytes are copied rather than bound.
const SMALL: u64 = 64 << 10;
/// LIMIT: bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// What is to be seen at a place: first the original, then the place.
pub(super) type Binds = Vec<(PathBuf, PathBuf)>;

/// Makes the part of a tree in the new directory `top` that has to be made, and says what is to be
/// bound to it; none where that would be too much.
///
/// # Errors
///
/// Sources that cannot be looked at, and those of writing.
pub(super) fn frame(tree: &Tree, top: &Path, now: SystemTime) -> Result<Option<Binds>> {
    if has_later_times(tree)? || count(&tree.top) > BINDS_MAX {
        return Ok(None);
    }
    let mut maker = Maker::new(tree, now, true);
    maker.top(top)?;
    Ok(Some(maker.binds))
}

/// Makes a copy of all of a tree in the new or empty directory `top`.
///
/// # Errors
///
/// Sources that cannot be read, owners that cannot be kept, and those of writing.
pub(super) fn copy(tree: &Tree, top: &Path, now: SystemTime) -> Result<()> {
    Maker::new(tree, now, false).top(top)
}

/// How much is in the directories that are spelt out.
fn count(directory: &Directory) -> usize {
    let children = directory.children.values().map(|node| match node {
        Node::Directory(below) => count(below),
        _ => 1,
    });
    children.sum()
}

/// True if a source is newer than what is made may be; then times are changed, on a copy.
fn has_later_times(tree: &Tree) -> Result<bool> {
    let Some(epoch) = tree.epoch else { return Ok(false) };
    let (epoch, mut is_later) = (timespec(epoch), false);
    tree.each(&mut |found| {
        is_later |= found.source.is_some_and(|(_, metadata)| {
            (metadata.mtime(), metadata.mtime_nsec()) > (epoch.tv_sec, epoch.tv_nsec)
        });
        Ok(())
    })?;
    Ok(is_later)
}

fn timespec(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tv_sec = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: since.subsec_nanos().into() }
}

struct Maker<'a> {
    tree: &'a Tree,
    /// The time of what is made.
    time: Timespec,
    binds: Binds,
    is_binding: bool,
    /// Copies of files with several names, by device and inode of the original.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<'a> Maker<'a> {
    fn new(tree: &'a Tree, now: SystemTime, is_binding: bool) -> Self {
        let time = timespec(tree.epoch.unwrap_or(now));
        Self { tree, time, binds: Vec::new(), is_binding, linked: BTreeMap::new() }
    }

    fn top(&mut self, place: &Path) -> Result<()> {
        set_mode(place, 0o755)?;
        self.children(&self.tree.top, place)?;
        self.dress(original(&self.tree.top)?, place)?;
        for (name, value) in &self.tree.root_xattrs {
            fs::set_xattr(place, name, value).map_err(|err| {
                let what = format!(
                    "Failed to set attribute '{}' of '{}'",
                    name.to_string_lossy(),
                    place.display()
                );
                Error::because(what, err).hint(
                    "Set $TMPDIR to a directory on a file system with extended attributes, or \
                     AddValidateFS=no.",
                )
            })?;
        }
        // Its own time is of this making, whatever its source's is.
        self.set_time(place, self.time, self.time)
    }

    fn children(&mut self, directory: &Directory, place: &Path) -> Result<()> {
        for (name, node) in &directory.children {
            let place = place.join(name);
            match node {
                Node::Directory(below) => {
                    make_directory(&place)?;
                    self.children(below, &place)?;
                    self.dress(original(below)?, &place)?;
                }
                Node::Link(text) => {
                    std::os::unix::fs::symlink(text, &place).context(|| failed(&place))?;
                    self.dress(None, &place)?;
                }
                Node::Whole(source) => self.whole(source, &place)?,
            }
        }
        Ok(())
    }

    /// Binds or copies what is at a path.
    fn whole(&mut self, source: &Path, place: &Path) -> Result<()> {
        let metadata = stat(source)?;
        let is_bound = metadata.is_dir()
            || metadata.is_file() && (metadata.nlink() > 1 || metadata.len() > SMALL);
        if !self.is_binding || !is_bound {
            return self.copied(source, &metadata, place, super::tree::DEPTH_MAX);
        }
        if metadata.is_dir() {
            make_directory(place)?;
        } else {
            File::create_new(place).context(|| failed(place))?;
        }
        self.binds.push((source.to_path_buf(), place.to_path_buf()));
        Ok(())
    }

    fn copied(
        &mut self,
        source: &Path,
        metadata: &Metadata,
        place: &Path,
        depth: usize,
    ) -> Result<()> {
        let failed = || format!("Failed to copy '{}'", source.display());
        let left = depth.checked_sub(1).ok_or_else(|| super::tree::too_deep(source))?;
        if metadata.is_dir() {
            make_directory(place)?;
            for name in names(source)? {
                let child = source.join(&name);
                self.copied(&child, &stat(&child)?, &place.join(&name), left)?;
            }
            return self.dress(Some((source, metadata.clone())), place);
        }
        if metadata.nlink() > 1 {
            let original = (metadata.dev(), metadata.ino());
            if let Some(copy) = self.linked.get(&original) {
                return std::fs::hard_link(copy, place).context(failed);
            }
            self.linked.insert(original, place.to_path_buf());
        }
        if metadata.is_symlink() {
            let text = std::fs::read_link(source).context(failed)?;
            std::os::unix::fs::symlink(text, place).context(failed)?;
        } else if metadata.is_file() {
            copy_file(source, place).context(failed)?;
        } else {
            let kind = FileType::from_raw_mode(metadata.mode());
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, place, kind, mode, metadata.rdev())
                .map_err(io::Error::from)
                .context(failed)?;
        }
        self.dress(Some((source, metadata.clone())), place)
    }

    /// Gives what was made the owner, attributes, mode and times of its original, or those of what
    /// has none.
    fn dress(&self, original: Option<(&Path, Metadata)>, place: &Path) -> Result<()> {
        let Some((source, metadata)) = original else {
            // Without privileges everything is ours; what makes file systems for somebody else
            // has them.
            let root = (Uid::from_raw(0), Gid::from_raw(0));
            let _ = rustix::fs::chownat(
                CWD,
                place,
                Some(root.0),
                Some(root.1),
                AtFlags::SYMLINK_NOFOLLOW,
            );
            return self.set_time(place, self.time, self.time);
        };
        keep(source, &metadata, place)?;
        let time = |tv_sec, nsec: i64| Timespec { tv_sec, tv_nsec: nsec as _ };
        let modified = time(metadata.mtime(), metadata.mtime_nsec());
        let accessed = time(metadata.atime(), metadata.atime_nsec());
        self.set_time(place, self.clamped(accessed), self.clamped(modified))
    }

    fn clamped(&self, time: Timespec) -> Timespec {
        let is_later = (time.tv_sec, time.tv_nsec) > (self.time.tv_sec, self.time.tv_nsec);
        if self.tree.epoch.is_some() && is_later { self.time } else { time }
    }

    fn set_time(
        &self,
        place: &Path,
        last_access: Timespec,
        last_modification: Timespec,
    ) -> Result<()> {
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .context(|| format!("Failed to set the time of '{}'", place.display()))
    }
}

/// What a directory has its metadata from.
fn original(directory: &Directory) -> Result<Option<(&Path, Metadata)>> {
    let origin = directory.origin.as_deref();
    origin.map(|path| stat(path).map(|metadata| (path, metadata))).transpose()
}

fn failed(place: &Path) -> String {
    format!("Failed to create '{}'", place.display())
}

/// Makes a directory of mode 0755, whatever the mask.
fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o755).create(path).context(|| failed(path))?;
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(io::Error::from)
        .context(|| format!("Failed to set the mode of '{}'", path.display()))
}

/// Copies what is in a file, holes left out.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::create_new(to)?);
    if fs::clone_file(&target, &source).is_ok() {
        return Ok(());
    }
    target.set_len(source.metadata()?.len())?;
    let mut at = 0;
    while let Some((start, end)) = fs::next_data(&source, at)? {
        at = start;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(BUFFER).min(16 * BUFFER);
            let (mut in_at, mut out_at) = (at, at);
            let copied = rustix::fs::copy_file_range(
                &source,
                Some(&mut in_at),
                &target,
                Some(&mut out_at),
                part,
            );
            at += match copied {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(done) => done as u64,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    let mut buffer = vec![0; part.min(BUFFER)];
                    source.read_exact_at(&mut buffer, at)?;
                    target.write_all_at(&buffer, at)?;
                    buffer.len() as u64
                }
                Err(err) => return Err(err.into()),
            };
        }
    }
    Ok(())
}

/// Gives a copy the owner, extended attributes and mode of its original.
fn keep(from: &Path, metadata: &Metadata, to: &Path) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|err| foreign_owner(from, metadata, err.into()))?;
    let failed = || format!("Failed to copy metadata of '{}'", from.display());
    for name in fs::xattr_names(from).context(failed)? {
        match fs::xattr(from, &name).and_then(|value| fs::set_xattr(to, &name, &value)) {
            // Attributes of security modules need privileges, those of users may be unknown here.
            Err(err) if is_tolerated(&err) => {
                if name == OsStr::new("security.capability") {
                    log::warn!(
                        "Failed to copy the capabilities of '{}', ignoring.",
                        from.display()
                    );
                }
            }
            result => result.context(failed)?,
        }
    }
    if !metadata.is_symlink() {
        rustix::fs::chmodat(CWD, to, Mode::from_raw_mode(metadata.mode()), AtFlags::empty())
            .map_err(io::Error::from)
            .context(failed)?;
    }
    Ok(())
}

fn is_tolerated(err: &io::Error) -> bool {
    let errno = Errno::from_io_error(err);
    matches!(errno, Some(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS | Errno::NODATA))
}

/// Says that somebody else's file cannot become somebody else's file again.
pub(super) fn foreign_owner(path: &Path, metadata: &Metadata, cause: io::Error) -> Error {
    let (shown, uid, gid) = (path.display(), metadata.uid(), metadata.gid());
    Error::because(format!("Failed to keep owner {uid}:{gid} of '{shown}'"), cause).hint(
        "Without privileges only own files can be put into a file system; run as root, or in a \
         user namespace that has these owners (unshare --map-root-user --map-auto).",
    )
}
