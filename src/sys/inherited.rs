//! Inherited descriptors: what neither the standard library nor rustix has.

#![allow(unsafe_code, reason = "descriptors known by number only")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// Takes over a descriptor that this process was started with, and sets close-on-exec on it.
///
/// To be called once per descriptor, early, and only for numbers that the starter announced
/// (socket activation, an option of the command line): nobody else may own it.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer and fails with EBADF for a number that is not open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and by the contract above nothing in this process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Duplicates an inherited descriptor that stays where it is.
pub fn duplicate_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer and fails with EBADF for a number that is not open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Moves descriptors to the numbers from 3 on, open for the program that replaces this one. What
/// was there is closed without its owner's knowledge, so only the call of exec may follow.
pub fn place(fds: Vec<OwnedFd>) -> io::Result<()> {
    let count =
        RawFd::try_from(fds.len()).map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))?;
    let first = FIRST + count;
    // Out of the way first, so that none overwrites another.
    let high = fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, first))
        .collect::<rustix::io::Result<Vec<OwnedFd>>>()?;
    // Their numbers may be among the targets; closing them later would close those.
    fds.into_iter().for_each(std::mem::forget);
    for (target, fd) in (FIRST..).zip(&high) {
        // SAFETY: dup2 takes numbers only; nobody uses the descriptor that is replaced any more,
        // by the contract above.
        if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn inherited_descriptors_are_taken_once() {
        let file = tempfile::tempfile().unwrap();
        let copy = duplicate_inherited(file.as_raw_fd()).unwrap();
        let number = copy.into_raw_fd();
        drop(take_inherited(number).unwrap());
        assert_eq!(take_inherited(i32::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(duplicate_inherited(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
