//! Deleting trees.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{btrfs, fs};

/// LIMIT: directories within directories.
const DEPTH_MAX: usize = 2048;

/// Deletes a file, or a directory and everything below it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = fs::open_dir(fs::parent(path))?;
    remove_at(parent.as_fd(), name, DEPTH_MAX)
}

fn remove_at(parent: impl AsFd, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // POSIX and Linux have different words for "that is a directory"; immutable files say
        // the former as well.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(err) => return Err(err.into()),
    }
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return remove_protected_file(parent, name);
    }
    let dir = open_writable(&parent, name)?;
    let is_subvolume = btrfs::is_subvolume(&dir)?;
    if stat.st_dev != rustix::fs::fstat(&parent)?.st_dev && !is_subvolume {
        return Err(Errno::BUSY.into());
    }
    if is_subvolume {
        let _ = btrfs::set_read_only(&dir, false);
        if btrfs::delete(&parent, name).is_ok() {
            return Ok(());
        }
    }
    let left = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_at(&dir, name, left)?;
        }
    }
    if is_subvolume && btrfs::delete(&parent, name).is_ok() {
        return Ok(());
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Clears what keeps a regular file from being deleted and deletes it.
fn remove_protected_file(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        fs::set_inode_flag(file, IFlags::IMMUTABLE | IFlags::APPEND, false)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
}

/// Opens a directory and makes sure that names in it can be removed.
fn open_writable(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(&parent, name, flags, Mode::empty())?
        }
        result => result?,
    };
    let _ = fs::set_inode_flag(&dir, IFlags::IMMUTABLE | IFlags::APPEND, false);
    if rustix::fs::fstat(&dir)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}
