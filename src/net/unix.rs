//! The kernel's list of Unix sockets.
//!
//! Needs the kernel module `unix_diag`; without it the list fails with ENOENT.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::error::Result;
use crate::format::netlink::unix_diag;
use crate::sys::netlink::Protocol;

/// The paths of all listening Unix stream sockets, in the kernel's order.
///
/// # Errors
/// The kernel does not tell.
pub fn listening_paths() -> Result<Vec<PathBuf>> {
    super::exchange(
        Protocol::SocketDiagnosis,
        &unix_diag::list_listening(),
        false,
        &mut |message| unix_diag::path(message).map(|path| PathBuf::from(OsStr::from_bytes(path))),
    )
}
