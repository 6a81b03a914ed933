//! File system calls the standard library lacks: resolving below a root, durable renames, holes,
//! reflinks, inode flags, extended attributes.

use std::ffi::{OsStr, OsString};

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, IFlags, Mode, OFlags};
use rustix::io::Errno;

/// LIMIT: symbolic links followed in one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// Resolves an absolute path below `root`: symbolic links are followed as if `root` were `/`, `..`
/// stays inside. Components that do not exist are taken as they are written. The result is a path
/// of this process.
pub fn chase(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut below = PathBuf::new();
    let mut todo: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            below.pop();
            continue;
        }
        below.push(&part);
        match rustix::fs::readlink(root.join(&below), Vec::new()) {
            Ok(text) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
                if text.is_absolute() {
                    below = PathBuf::new();
                } else {
                    below.pop();
                }
                todo.extend(parts(&text));
            }
            // Not a link, or not there yet.
            Err(Errno::INVAL | Errno::NOENT) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(root.join(below))
}

/// The names of a path, last one first; `..` is kept.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_os_string()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Opens a directory for `fsync`, `renameat` and friends; symbolic links are followed.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The directory a path is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// Makes the names in a directory durable. File systems that cannot do so for directories do not
/// count as an error.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    match rustix::fs::fsync(open_dir(path)?) {
        Err(Errno::INVAL | Errno::ROFS) => Ok(()),
        result => Ok(result?),
    }
}

/// Makes everything on the file system of `path` durable.
pub fn sync_filesystem(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::syncfs(rustix::fs::open(path, flags, Mode::empty())?)?)
}

/// The inode flags of a file; none where the file system has no such thing.
pub fn inode_flags(file: impl AsFd) -> io::Result<IFlags> {
    match rustix::fs::ioctl_getflags(file) {
        Ok(flags) => Ok(flags),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(IFlags::empty()),
        Err(err) => Err(err.into()),
    }
}

/// Sets or clears one inode flag and says whether that was a change.
pub fn set_inode_flag(file: impl AsFd, flag: IFlags, is_set: bool) -> io::Result<bool> {
    let old = inode_flags(&file)?;
    let new = if is_set { old | flag } else { old - flag };
    if old == new {
        return Ok(false);
    }
    rustix::fs::ioctl_setflags(file, new)?;
    Ok(true)
}

/// Lets `target` share all blocks of `source`; fails where the file system cannot, without having
/// changed anything.
pub fn clone_file(target: impl AsFd, source: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(target, source)?)
}

/// The next range of a file at or after `offset` that holds data, as start and end; `None` where
/// only a hole follows. A file system without holes is all data.
pub fn next_data(file: impl AsFd, offset: u64) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some((start, rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL) => {
            let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
            Ok((offset < size).then_some((offset, size)))
        }
        Err(err) => Err(err.into()),
    }
}

/// Frees the blocks of a range, which then reads as zeros; the size stays.
pub fn punch_hole(file: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, mode, offset, len)?)
}

/// Names of the extended attributes of a file, link or directory; none where there are no such
/// things.
pub fn xattr_names(path: &Path) -> io::Result<Vec<OsString>> {
    let mut list = Vec::new();
    loop {
        let size = match rustix::fs::llistxattr_query(path) {
            Ok(size) => size,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(err) => return Err(err.into()),
        };
        list.resize(size, 0_u8);
        match rustix::fs::llistxattr(path, &mut list) {
            Ok(size) => {
                list.truncate(size);
                let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                return Ok(names.map(|name| OsStr::from_bytes(name).to_os_string()).collect());
            }
            // It grew between the two calls.
            Err(Errno::RANGE) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// The value of an extended attribute, without following a symbolic link.
pub fn xattr(path: &Path, name: &OsStr) -> io::Result<Vec<u8>> {
    loop {
        let mut value = vec![0_u8; rustix::fs::lgetxattr_query(path, name)?];
        match rustix::fs::lgetxattr(path, name, &mut value) {
            Ok(size) => {
                value.truncate(size);
                return Ok(value);
            }
            Err(Errno::RANGE) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// Sets an extended attribute, without following a symbolic link.
pub fn set_xattr(path: &Path, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())?)
}

/// Sets the modification time in µs since the epoch, without following a symbolic link; the access
/// time stays.
pub fn set_mtime(path: &Path, usec: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let seconds = i64::try_from(usec / 1_000_000).map_err(invalid)?;
    let nanos = i64::try_from(usec % 1_000_000 * 1000).map_err(invalid)?;
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos as _ },
    };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dots_never_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("/usr/lib", root.join("abs")).unwrap();
        symlink("../../../../etc", root.join("usr/up")).unwrap();
        let at = |path: &str| chase(root, Path::new(path)).unwrap();
        assert_eq!(at("/abs/x"), root.join("usr/lib/x"));
        assert_eq!(at("/usr/up/passwd"), root.join("etc/passwd"));
        assert_eq!(at("/../../a/./b"), root.join("a/b"));
        assert_eq!(at("/abs/.."), root.join("usr"));
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let err = chase(dir.path(), Path::new("/a")).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn holes_are_skipped_and_the_end_is_known() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", 512 << 10).unwrap();
        let (start, end) = next_data(&file, 0).unwrap().unwrap();
        assert!(start <= 512 << 10 && end > 512 << 10, "{start}..{end}");
        assert_eq!(next_data(&file, 1 << 20).unwrap(), None);
    }

    #[test]
    fn mtime_is_set_to_the_microsecond() {
        let file = tempfile::NamedTempFile::new().unwrap();
        set_mtime(file.path(), 1_600_000_000_123_456).unwrap();
        let time = file.as_file().metadata().unwrap().modified().unwrap();
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_micros(), 1_600_000_000_123_456);
    }
}
