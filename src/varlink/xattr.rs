//! The marks by which Varlink sockets are found: extended attribute `user.varlink`.
//!
//! Only kernels from 7.0 on keep them on sockets. A mark is a courtesy to `list-sockets`, so
//! failure to set one is nothing to tell anybody about.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

const NAME: &str = "user.varlink";

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Waits for connections.
    Listen,
    /// The service's end of a connection.
    Server,
    /// The client's end of a connection.
    Client,
}

/// Marks a socket.
pub fn mark_socket(socket: BorrowedFd<'_>, role: Role) {
    let value: &[u8] = match role {
        Role::Listen => b"listen",
        Role::Server => b"server",
        Role::Client => b"client",
    };
    let _ = rustix::fs::fsetxattr(socket, NAME, value, XattrFlags::empty());
}

/// Marks the path of a listening socket.
pub fn mark_path(path: &Path) {
    let _ = rustix::fs::lsetxattr(path, NAME, b"entrypoint", XattrFlags::empty());
}

/// True where the path carries the mark of an entry point.
pub fn is_entrypoint(path: &Path) -> bool {
    let mut value = [0_u8; 16];
    rustix::fs::lgetxattr(path, NAME, &mut value)
        .is_ok_and(|n| value.get(..n) == Some(b"entrypoint"))
}

/// True where this kernel keeps marks on sockets.
pub fn is_supported() -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::fs::fsetxattr(&socket, NAME, b"client", XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(false),
        Err(err) => Err(err.into()),
    }
}
