//! Makes files below a directory without ever leaving it.
//!
//! The directories from the top to the current one are held open, each opened from the one above by
//! a single name and never through a symbolic link. What a directory shall look like in the end
//! (mode, time, attributes) is set when it is left, because working in it would undo it; so memory
//! grows with depth and not with the number of directories.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::member::{Member, NodeKind};
use crate::error::{Error, Result};

// LIMIT: every level costs an open file, and 1024 is a common limit for those.
const DEPTH_MAX: usize = 256;
/// Longest name of a directory entry.
const NAME_MAX: usize = 255;
/// File data moved at once.
const COPY_BYTES: usize = 128 << 10;

/// Splits a member's path into names: absolute paths become relative and `.` disappears;
/// nothing left means the top. None where there is a `..`, a NUL or a name that no file system takes.
pub(super) fn split(path: &[u8]) -> Option<Vec<OsString>> {
    let is_name = |name: &&[u8]| !name.is_empty() && *name != b".";
    if path.contains(&0) {
        return None;
    }
    path.split(|&b| b == b'/')
        .filter(is_name)
        .map(|name| {
            (name != b".." && name.len() <= NAME_MAX).then(|| OsString::from_vec(name.to_vec()))
        })
        .collect()
}

/// What to give a directory when it is left.
struct Finish {
    mode: Option<Mode>,
    mtime: Timespec,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An open directory on the way down.
struct Level {
    name: OsString,
    fd: OwnedFd,
    finish: Option<Finish>,
}

/// The directory everything is made in.
pub(super) struct Tree<'a> {
    top: BorrowedFd<'a>,
    top_finish: Option<Finish>,
    levels: Vec<Level>,
    is_privileged: bool,
    buffer: Vec<u8>,
}

fn failed(what: &str, member: &Member, err: impl Into<io::Error>) -> Error {
    Error::because(format!("Failed to {what} '{}'", member.shown()), err.into())
}

impl<'a> Tree<'a> {
    pub(super) fn new(top: BorrowedFd<'a>, is_privileged: bool) -> Result<Self> {
        Ok(Self {
            top,
            top_finish: None,
            levels: Vec::new(),
            is_privileged,
            buffer: vec![0; COPY_BYTES],
        })
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.top, |level| level.fd.as_fd())
    }

    /// Makes `parents` the current directory; those that are missing are made.
    pub(super) fn enter(&mut self, parents: &[OsString], member: &Member) -> Result<()> {
        let common = self
            .levels
            .iter()
            .zip(parents)
            .take_while(|(level, name)| level.name == **name)
            .count();
        self.leave(common)?;
        if parents.len() > DEPTH_MAX {
            return Err(failed("create", member, Errno::NAMETOOLONG));
        }
        for name in parents.get(common..).unwrap_or_default() {
            let what = what(member);
            match open_dir(self.current(), name) {
                Ok(fd) => self.push_existing(name, fd)?,
                Err(Errno::NOENT) => {
                    // COMPAT(262): a directory that the archive does not describe is private.
                    rustix::fs::mkdirat(self.current(), name, Mode::RWXU)
                        .map_err(|err| failed(what, member, err))?;
                    let fd =
                        open_dir(self.current(), name).map_err(|err| failed(what, member, err))?;
                    self.levels.push(Level { name: name.clone(), fd, finish: None });
                }
                // A symbolic link, above all.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(failed(what, member, Errno::NOTDIR));
                }
                Err(err) => return Err(failed(what, member, err)),
            }
        }
        Ok(())
    }

    /// Goes down into a directory that an earlier member made, and restores its looks later.
    fn push_existing(&mut self, name: &OsStr, fd: OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(&fd).map_err(io_error)?;
        let mode = Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o7777);
        let is_closed = !self.is_privileged && !mode.contains(Mode::RWXU);
        if is_closed {
            rustix::fs::fchmod(&fd, mode | Mode::RWXU).map_err(io_error)?;
        }
        let finish =
            Finish { mode: is_closed.then_some(mode), mtime: mtime_of(&stat), xattrs: Vec::new() };
        self.levels.push(Level { name: name.to_owned(), fd, finish: Some(finish) });
        Ok(())
    }

    /// Leaves directories until `depth` are open.
    fn leave(&mut self, depth: usize) -> Result<()> {
        while self.levels.len() > depth {
            let Some(Level { name, fd, finish }) = self.levels.pop() else { break };
            if let Some(finish) = finish {
                apply(fd.as_fd(), finish, self.is_privileged).map_err(|err| {
                    let name = super::member::shown(name.as_bytes());
                    Error::because(format!("Failed to complete directory '{name}'"), err)
                })?;
            }
        }
        Ok(())
    }

    /// Leaves everything.
    pub(super) fn finish(mut self) -> Result<()> {
        self.leave(0)?;
        match self.top_finish.take() {
            Some(finish) => apply(self.top, finish, self.is_privileged).map_err(io_error),
            None => Ok(()),
        }
    }

    /// The archive says what the top directory looks like.
    pub(super) fn set_top(&mut self, member: &Member) -> Result<()> {
        self.leave(0)?;
        self.own(self.top, member)?;
        self.top_finish = Some(finish_of(member));
        Ok(())
    }

    /// Makes a directory, or takes one that is there, and enters it.
    pub(super) fn dir(&mut self, name: &OsStr, member: &Member) -> Result<()> {
        let fail = |err: Errno| failed("create directory", member, err);
        let fd = match rustix::fs::mkdirat(self.current(), name, Mode::RWXU) {
            Ok(()) => open_dir(self.current(), name).map_err(fail)?,
            Err(Errno::EXIST) => open_dir(self.current(), name).map_err(|err| match err {
                Errno::LOOP | Errno::NOTDIR => fail(Errno::EXIST),
                err => fail(err),
            })?,
            Err(err) => return Err(fail(err)),
        };
        if !self.is_privileged {
            rustix::fs::fchmod(&fd, Mode::RWXU).map_err(fail)?;
        }
        self.own(fd.as_fd(), member)?;
        self.levels.push(Level { name: name.to_owned(), fd, finish: Some(finish_of(member)) });
        Ok(())
    }

    /// Makes a file and fills it from `read`.
    pub(super) fn file(
        &mut self,
        name: &OsStr,
        member: &Member,
        mut read: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        let fail = |err: io::Error| failed("create regular file", member, err);
        self.clear(name, "regular file", member)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.current(), name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|err| fail(err.into()))?;
        let file = File::from(fd);
        let mut buffer = std::mem::take(&mut self.buffer);
        for &(start, len) in &member.pieces {
            let mut offset = start;
            let end = start + len;
            while offset < end {
                let want = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                let count = read(buffer.get_mut(..want).unwrap_or_default()).map_err(|err| {
                    Error::because(
                        format!("Failed to unpack regular file '{}'", member.shown()),
                        err,
                    )
                })?;
                let data = buffer.get(..count).unwrap_or_default();
                file.write_all_at(data, offset)
                    .map_err(|err| failed("write regular file", member, err))?;
                offset += count as u64;
            }
        }
        self.buffer = buffer;
        let written = member.pieces.last().map_or(0, |&(start, len)| start + len);
        if written < member.size {
            file.set_len(member.size).map_err(fail)?;
        }
        self.own(file.as_fd(), member)?;
        apply(file.as_fd(), finish_of(member), self.is_privileged).map_err(fail)
    }

    pub(super) fn symlink(&mut self, name: &OsStr, member: &Member) -> Result<()> {
        self.clear(name, "symlink", member)?;
        let target = OsStr::from_bytes(&member.link);
        rustix::fs::symlinkat(target, self.current(), name)
            .map_err(|err| failed("create symlink", member, err))?;
        self.dress(name, member, false)
    }

    pub(super) fn node(
        &mut self,
        name: &OsStr,
        member: &Member,
        kind: NodeKind,
        (major, minor): (u32, u32),
    ) -> Result<()> {
        let (file_type, what) = match kind {
            NodeKind::Fifo => (FileType::Fifo, "fifo"),
            NodeKind::Char => (FileType::CharacterDevice, "device node"),
            NodeKind::Block => (FileType::BlockDevice, "device node"),
        };
        self.clear(name, what, member)?;
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(self.current(), name, file_type, Mode::RUSR | Mode::WUSR, device)
            .map_err(|err| failed(&format!("create {what}"), member, err))?;
        self.dress(name, member, true)
    }

    /// Gives an existing file a second name.
    pub(super) fn hardlink(
        &mut self,
        name: &OsStr,
        member: &Member,
        target: &[OsString],
    ) -> Result<()> {
        let missing = |err: Errno| {
            Error::because(
                format!(
                    "Failed to find inode '{}' which shall be hardlinked as '{}'",
                    member.shown_link(),
                    member.shown()
                ),
                io::Error::from(err),
            )
        };
        let Some((last, parents)) = target.split_last() else { return Ok(()) };
        let mut dir: Option<OwnedFd> = None;
        for parent in parents {
            let from = dir.as_ref().map_or(self.top, |fd| fd.as_fd());
            dir = Some(open_dir(from, parent).map_err(missing)?);
        }
        let dir = dir.as_ref().map_or(self.top, |fd| fd.as_fd());
        let stat = rustix::fs::statat(dir, last, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let link = member.shown_link();
            return Err(Error::new(format!("Refusing to hardlink inode '{link}' of type 'dir'")));
        }
        rustix::fs::linkat(dir, last, self.current(), name, AtFlags::empty()).map_err(|err| {
            let (link, shown) = (member.shown_link(), member.shown());
            Error::because(
                format!("Failed to hardlink inode '{link}' as '{shown}'"),
                io::Error::from(err),
            )
        })
    }

    /// Makes way for a member: the last one of a name wins, but never over a directory.
    fn clear(&self, name: &OsStr, what: &str, member: &Member) -> Result<()> {
        match rustix::fs::unlinkat(self.current(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                Err(failed(&format!("install {what}"), member, Errno::EXIST))
            }
            Err(err) => Err(failed(&format!("install {what}"), member, err)),
        }
    }

    fn own(&self, fd: BorrowedFd<'_>, member: &Member) -> Result<()> {
        if !self.is_privileged {
            return Ok(());
        }
        let (uid, gid) = owner(member);
        rustix::fs::fchown(fd, Some(uid), Some(gid))
            .map_err(|err| failed("change owner of", member, err))
    }

    /// Owner, attributes, mode and time of what cannot be opened. Nobody else is here, so the
    /// name still means what was just made.
    fn dress(&self, name: &OsStr, member: &Member, has_mode: bool) -> Result<()> {
        let dir = self.current();
        if self.is_privileged {
            let (uid, gid) = owner(member);
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|err| failed("change owner of", member, err))?;
        }
        if has_mode {
            let mode = Mode::from_raw_mode(member.mode);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty())
                .map_err(|err| failed("change mode of", member, err))?;
        }
        // DIFFERS: this includes `trusted.` and `security.` attributes of links, which the peer's
        // sandbox may not set.
        let path = format!("/proc/self/fd/{}/", dir.as_raw_fd());
        let path: OsString = [OsStr::new(&path), name].into_iter().collect();
        for (key, value) in &member.xattrs {
            let key = OsStr::from_bytes(key);
            let result = rustix::fs::lsetxattr(&path, key, value, XattrFlags::empty());
            tolerate(result, key, self.is_privileged)
                .map_err(|err| failed("set extended attributes of", member, err))?;
        }
        let times = timestamps(member_time(member));
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|err| failed("set time of", member, err))
    }
}

/// What is being made when a parent turns out to be in the way.
fn what(member: &Member) -> &'static str {
    use super::member::Kind;
    match member.kind {
        Kind::File => "create regular file",
        Kind::Dir => "create directory",
        Kind::Symlink => "create symlink",
        Kind::Hardlink => "create hardlink",
        Kind::Node(NodeKind::Fifo, _) => "create fifo",
        Kind::Node(..) => "create device node",
    }
}

/// Opens a directory by one name, never through a link.
pub(super) fn open_dir(at: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

fn owner(member: &Member) -> (Uid, Gid) {
    (Uid::from_raw(member.uid), Gid::from_raw(member.gid))
}

fn member_time(member: &Member) -> Timespec {
    Timespec { tv_sec: member.mtime.0, tv_nsec: member.mtime.1.into() }
}

pub(super) fn mtime_of(stat: &Stat) -> Timespec {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as _ }
}

/// Sets the modification time and leaves the access time.
pub(super) fn timestamps(mtime: Timespec) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: mtime }
}

fn finish_of(member: &Member) -> Finish {
    Finish {
        mode: Some(Mode::from_raw_mode(member.mode)),
        mtime: member_time(member),
        xattrs: member.xattrs.clone(),
    }
}

/// Last touches: mode after the owner (whose change clears setuid), ACLs after the mode (which
/// they change), time at the end.
///
/// DIFFERS: a directory with a default ACL keeps its mode; the peer leaves it at 0000.
fn apply(fd: BorrowedFd<'_>, finish: Finish, is_privileged: bool) -> io::Result<()> {
    if let Some(mode) = finish.mode {
        rustix::fs::fchmod(fd, mode)?;
    }
    for (key, value) in &finish.xattrs {
        let key = OsStr::from_bytes(key);
        let result = rustix::fs::fsetxattr(fd, key, value, XattrFlags::empty());
        tolerate(result, key, is_privileged)?;
    }
    rustix::fs::futimens(fd, &timestamps(finish.mtime))?;
    Ok(())
}

/// A file system without attributes, or a caller who may not set them, is no reason to fail.
fn tolerate(
    result: rustix::io::Result<()>,
    key: &OsStr,
    is_privileged: bool,
) -> rustix::io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) => {}
        Err(Errno::PERM | Errno::ACCESS) if !is_privileged => {}
        result => return result,
    }
    log::debug!("Cannot set extended attribute '{}' here, ignoring", key.to_string_lossy());
    Ok(())
}

fn io_error(err: impl Into<io::Error>) -> Error {
    Error::because("Failed to unpack archive", err.into())
}
