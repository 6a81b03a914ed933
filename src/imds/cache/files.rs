//! Small files in a directory that others may write to as well: no symbolic link is followed, and
//! what appears under a name is complete.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::ctx::Ctx;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a directory by its path, making it and what is missing above it, mode 0755.
pub(super) fn open_root(path: &Path, is_made: bool) -> io::Result<OwnedFd> {
    match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) if is_made => {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
            Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
        }
        result => Ok(result?),
    }
}

/// Opens a directory in another one, making it, mode 0755.
pub(super) fn open_below(dir: BorrowedFd<'_>, name: &str, is_made: bool) -> io::Result<OwnedFd> {
    let flags = DIRECTORY.union(OFlags::NOFOLLOW);
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if is_made => {
            match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(err) => return Err(err.into()),
            }
            let made = rustix::fs::openat(dir, name, flags, Mode::empty())?;
            // The umask is none of the peer's business.
            let _ = rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755));
            give_to_owner(dir, &made);
            Ok(made)
        }
        result => Ok(result?),
    }
}

/// Opens a file for reading.
pub(super) fn open(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// Reads an open file of at most that many bytes.
pub(super) fn read_open(file: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::from(file).take(most).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(Errno::FBIG.into());
    }
    Ok(bytes)
}

/// Reads a file of at most that many bytes.
pub(super) fn read(dir: BorrowedFd<'_>, name: &str, limit: usize) -> io::Result<Vec<u8>> {
    read_open(open(dir, name)?, limit)
}

/// Removes a file. Nothing there is fine.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// What root makes in the service's directory belongs to the service: it must be able to read it
/// once it runs as a user of its own.
fn give_to_owner(dir: BorrowedFd<'_>, made: &OwnedFd) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if let Ok(status) = rustix::fs::fstat(dir)
        && status.st_uid != 0
    {
        let (uid, gid) = (rustix::fs::Uid::from_raw(status.st_uid), status.st_gid);
        let _ = rustix::fs::fchown(made, Some(uid), Some(rustix::fs::Gid::from_raw(gid)));
    }
}

/// A file without a name, or with a temporary one, that is complete before it gets its own.
pub(super) struct Draft<'a> {
    dir: BorrowedFd<'a>,
    file: OwnedFd,
    /// The name it goes by until it gets its own.
    temporary: String,
    has_name: bool,
}

impl<'a> Draft<'a> {
    /// Writes the bytes.
    pub(super) fn new(ctx: &Ctx, dir: BorrowedFd<'a>, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(mode);
        let temporary = format!(".#{:016x}", u64::from_ne_bytes(ctx.random()));
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let draft = match rustix::fs::openat(dir, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Self { dir, file, temporary, has_name: false },
            // Not every file system has nameless files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(dir, temporary.as_str(), flags, mode)?;
                Self { dir, file, temporary, has_name: true }
            }
            Err(err) => return Err(err.into()),
        };
        let mut file = File::from(draft.file.try_clone()?);
        io::Write::write_all(&mut file, bytes)?;
        rustix::fs::fchmod(&draft.file, mode)?;
        give_to_owner(dir, &draft.file);
        Ok(draft)
    }

    /// The file.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives it its name, in place of what has it.
    ///
    /// No sync: the directory does not outlive the machine's uptime.
    pub(super) fn publish(mut self, name: &str) -> io::Result<()> {
        if !self.has_name {
            let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let link = |to: &str| {
                rustix::fs::linkat(CWD, from.as_str(), self.dir, to, AtFlags::SYMLINK_FOLLOW)
            };
            match link(name) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => link(&self.temporary)?,
                Err(err) => return Err(err.into()),
            }
            self.has_name = true;
        }
        rustix::fs::renameat(self.dir, self.temporary.as_str(), self.dir, name)?;
        self.has_name = false;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.has_name {
            let _ = remove(self.dir, &self.temporary);
        }
    }
}
