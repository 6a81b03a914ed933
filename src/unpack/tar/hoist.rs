//! Moves an OS tree that an archive wraps into a directory of its own one level up.
//!
//! Both kinds of archives of an OS are common, `usr/…` and `name-1.2/usr/…`; an update wants the
//! first. systemd 262 does the same ("Rearranging …, moving OS tree one directory up.").

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::member::shown;
use super::tree::{mtime_of, open_dir, timestamps};
use crate::error::{Error, Result};

/// Looks at `top`, and rearranges it where all it has is one directory with an OS tree in it.
pub(super) fn hoist(top: BorrowedFd<'_>, is_privileged: bool) -> Result<()> {
    let Some((name, child)) = only_dir(top).map_err(failed)? else { return Ok(()) };
    if is_os_tree(top) || !is_os_tree(child.as_fd()) {
        return Ok(());
    }
    let text = shown(name.as_bytes());
    log::info!("Rearranging '{text}', moving OS tree one directory up.");
    rearrange(top, &name, child.as_fd(), is_privileged).map_err(failed)?;
    log::info!("Successfully rearranged OS tree.");
    Ok(())
}

fn failed(err: io::Error) -> Error {
    Error::because("Failed to move OS tree one directory up", err)
}

/// Every name in a directory.
fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// The only entry, if it is a directory; hidden names count.
fn only_dir(top: BorrowedFd<'_>) -> io::Result<Option<(OsString, std::os::fd::OwnedFd)>> {
    let mut names = names(top)?;
    let Some(name) = names.pop().filter(|_| names.is_empty()) else { return Ok(None) };
    let stat = rustix::fs::statat(top, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(None);
    }
    let child = open_dir(top, &name)?;
    Ok(Some((name, child)))
}

/// True if there is an os-release file, links resolved inside of the tree.
fn is_os_tree(dir: BorrowedFd<'_>) -> bool {
    ["etc/os-release", "usr/lib/os-release"].iter().any(|path| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(dir, *path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            // No openat2(2): a link that leads nowhere counts, which does no harm.
            Err(Errno::NOSYS) => rustix::fs::statat(dir, *path, AtFlags::SYMLINK_NOFOLLOW).is_ok(),
            result => result.is_ok(),
        }
    })
}

fn rearrange(
    top: BorrowedFd<'_>,
    name: &OsStr,
    child: BorrowedFd<'_>,
    is_privileged: bool,
) -> io::Result<()> {
    // Out of the way, because it may hold something of its own name.
    let inner = names(child)?;
    let mut aside = OsString::from(".#hoist");
    while inner.contains(&aside) {
        aside.push("_");
    }
    let stat = rustix::fs::fstat(child)?;
    rustix::fs::renameat(top, name, top, &aside)?;
    for name in &inner {
        rustix::fs::renameat(child, name, top, name)?;
    }
    // The top directory now is what the inner one was.
    if is_privileged {
        let (uid, gid) =
            (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(top, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(top, Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o7777))?;
    // DIFFERS: the peer loses the extended attributes, security labels among them.
    copy_xattrs(child, top)?;
    rustix::fs::unlinkat(top, &aside, AtFlags::REMOVEDIR)?;
    rustix::fs::futimens(top, &timestamps(mtime_of(&stat)))?;
    Ok(())
}

/// Copies what can be copied.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut list = vec![0; 64 << 10];
    let len = match rustix::fs::flistxattr(from, &mut list) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    let mut value = vec![0; 64 << 10];
    for key in list.get(..len).unwrap_or_default().split(|&b| b == 0).filter(|key| !key.is_empty())
    {
        let key = OsStr::from_bytes(key);
        let len = rustix::fs::fgetxattr(from, key, &mut value)?;
        let result = rustix::fs::fsetxattr(
            to,
            key,
            value.get(..len).unwrap_or_default(),
            XattrFlags::empty(),
        );
        match result {
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            result => result?,
        }
    }
    Ok(())
}
