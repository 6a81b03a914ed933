//! Copying trees.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::sys::fs;

/// LIMIT: directories within directories.
const DEPTH_MAX: usize = 2048;
/// Bytes handed to the kernel at once; cancelling waits for that long.
const CHUNK: usize = 4 << 20;

/// One copy of one tree.
pub(super) struct Copy<'a> {
    progress: &'a mut dyn FnMut(u64) -> io::Result<()>,
    /// Copies of files with several names, by device and inode of the original.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<'a> Copy<'a> {
    pub(super) fn new(progress: &'a mut dyn FnMut(u64) -> io::Result<()>) -> Self {
        Self { progress, linked: BTreeMap::new() }
    }

    /// Copies what is in `from` into `to`, then the metadata of `from` itself.
    pub(super) fn tree(mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.contents(from, to, DEPTH_MAX)
    }

    fn contents(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        let left = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            self.entry(&entry.path(), &to.join(entry.file_name()), left)?;
        }
        // Last, because every name created above has touched the directory.
        metadata(from, to)
    }

    fn entry(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        let stat = std::fs::symlink_metadata(from)?;
        let kind = stat.file_type();
        if kind.is_dir() {
            std::fs::create_dir(to)?;
            return self.contents(from, to, depth);
        }
        if stat.nlink() > 1 {
            if let Some(copy) = self.linked.get(&(stat.dev(), stat.ino())) {
                return std::fs::hard_link(copy, to);
            }
            self.linked.insert((stat.dev(), stat.ino()), to.to_path_buf());
        }
        if kind.is_file() {
            let (source, target) = (File::open(from)?, File::create_new(to)?);
            data(&source, &target, stat.len(), self.progress)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(from)?, to)?;
        } else if kind.is_socket() {
            // A socket without its server is nothing.
            return Ok(());
        } else {
            let file_type = FileType::from_raw_mode(stat.mode());
            rustix::fs::mknodat(CWD, to, file_type, Mode::RUSR | Mode::WUSR, stat.rdev())?;
        }
        metadata(from, to)
    }
}

/// Copies contents of a file: shared blocks, or data with its holes.
fn data(
    source: &File,
    target: &File,
    size: u64,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    if fs::clone_file(target, source).is_ok() {
        return progress(size);
    }
    target.set_len(size)?;
    let mut at = 0;
    while let Some((start, end)) = fs::next_data(source, at)? {
        progress(start - at)?;
        at = start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let done = copy_range(source, target, at, len)?;
            if done == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += done;
            progress(done)?;
        }
    }
    progress(size.saturating_sub(at))
}

fn copy_range(source: &File, target: &File, at: u64, len: usize) -> io::Result<u64> {
    let (mut from, mut to) = (at, at);
    match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), len) {
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            use std::os::unix::fs::FileExt as _;
            let mut buffer = vec![0; len.min(256 << 10)];
            let got = source.read_at(&mut buffer, at)?;
            target.write_all_at(buffer.get(..got).unwrap_or_default(), at)?;
            Ok(got as u64)
        }
        result => Ok(result? as u64),
    }
}

/// Gives a copy the owner, mode, extended attributes and times of its original.
fn metadata(from: &Path, to: &Path) -> io::Result<()> {
    let stat = std::fs::symlink_metadata(from)?;
    let (uid, gid) = (Uid::from_raw(stat.uid()), Gid::from_raw(stat.gid()));
    match rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // Without privileges everything becomes ours, as with any copy; FAT has no owners.
        Err(Errno::PERM | Errno::OPNOTSUPP) => {}
        result => result?,
    }
    // Before the mode, which may forbid writing.
    for name in fs::xattr_names(from)? {
        let set = fs::xattr(from, &name).and_then(|value| fs::set_xattr(to, &name, &value));
        match set {
            // Attributes of security modules and file systems need privileges or support.
            Err(err)
                if matches!(
                    Errno::from_io_error(&err),
                    Some(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS | Errno::INVAL)
                ) => {}
            result => result?,
        }
    }
    if !stat.is_symlink() {
        match rustix::fs::chmodat(CWD, to, Mode::from_raw_mode(stat.mode()), AtFlags::empty()) {
            Err(Errno::PERM) => {}
            result => result?,
        }
    }
    let time = |tv_sec, nsec: i64| Timespec { tv_sec, tv_nsec: nsec as _ };
    let times = Timestamps {
        last_access: time(stat.atime(), stat.atime_nsec()),
        last_modification: time(stat.mtime(), stat.mtime_nsec()),
    };
    match rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::PERM) => Ok(()),
        result => Ok(result?),
    }
}
