//! Listening: sockets with a name, and one thread per connection with limits per user.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_socket, listen, sockopt,
};

use super::Service;
use crate::error::{Error, Result};
use crate::varlink::wire::Stream;
use crate::varlink::{MAX_CONNECTIONS, xattr};

/// Descriptors that stay free for everything but connections.
const SPARE_FDS: usize = 64;

/// A handle that ends listening: it becomes readable when [`Listening::stop`] was called.
pub struct Listening {
    read: OwnedFd,
    write: OwnedFd,
}

impl Listening {
    /// A fresh handle.
    pub fn new() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Self { read, write })
    }

    /// Ends listening; connections that are open go on.
    pub fn stop(&self) -> io::Result<()> {
        rustix::io::write(&self.write, b"\0")?;
        Ok(())
    }
}

/// Binds a listening socket to a path and takes the place of a socket that is there (of an earlier
/// run, usually); nothing else is replaced. `make_parents` creates leading directories with mode
/// 0755. Paths may be longer than the 107 bytes of a socket address; the file name may not.
///
/// Not by a temporary name and rename: the kernel lists a socket by the name it was bound to, and
/// `list-sockets` could not find it. Nobody gets in meanwhile: the socket appears with at most the
/// mode it shall have, and is marked before it listens.
pub fn bind(path: &Path, mode: u32, make_parents: bool) -> io::Result<OwnedFd> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if make_parents {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o755).create(parent)?;
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let dir_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, dir_flags, Mode::empty())?;
    match path.symlink_metadata() {
        Ok(meta) if meta.file_type().is_socket() => {
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty())?;
        }
        Ok(_) => return Err(Errno::EXIST.into()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(err),
    }
    // What is bound takes its mode from the socket, less the umask.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind_in(&socket, &dir, path)?;
    let finish = || {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        xattr::mark_path(path);
        xattr::mark_socket(socket.as_fd(), xattr::Role::Listen);
        listen(&socket, i32::MAX)?;
        Ok(())
    };
    let result: io::Result<()> = finish();
    if result.is_err() {
        let _ = rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty());
    }
    result.map(|()| socket)
}

/// Binds by the path, or, where that is too long for an address, through the directory's
/// descriptor.
fn bind_in(socket: &OwnedFd, dir: &OwnedFd, path: &Path) -> io::Result<()> {
    let address = SocketAddrUnix::new(path).or_else(|_| SocketAddrUnix::new(by_fd(dir, path)?))?;
    Ok(bind_socket(socket, &address)?)
}

/// `/proc/self/fd/N/NAME`: short, whatever the directory's path is.
pub(crate) fn by_fd(dir: &OwnedFd, path: &Path) -> rustix::io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// Who is connected.
#[derive(Default)]
struct Census {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

impl Census {
    fn enter(&mut self, uid: u32, limit: usize, limit_per_uid: usize) -> bool {
        let of_uid = self.by_uid.entry(uid).or_default();
        // LIMIT: one user must not lock out the others.
        if self.total >= limit || *of_uid >= limit_per_uid {
            return false;
        }
        *of_uid += 1;
        self.total += 1;
        true
    }

    fn leave(&mut self, uid: u32) {
        self.total = self.total.saturating_sub(1);
        if let Some(of_uid) = self.by_uid.get_mut(&uid) {
            *of_uid = of_uid.saturating_sub(1);
            if *of_uid == 0 {
                self.by_uid.remove(&uid);
            }
        }
    }
}

/// Accepts connections and serves each in a thread of its own.
pub(super) fn serve_all(
    service: &Service,
    sockets: &[OwnedFd],
    until: Option<&Listening>,
) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .and_then(|n| usize::try_from(n).ok())
        .map_or(MAX_CONNECTIONS, |n| n.saturating_sub(SPARE_FDS).min(MAX_CONNECTIONS));
    let census = Mutex::new(Census::default());
    std::thread::scope(|scope| {
        loop {
            let mut fds: Vec<PollFd<'_>> =
                sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            fds.extend(until.map(|until| PollFd::new(&until.read, PollFlags::IN)));
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(err) => {
                    return Err(Error::because(
                        "Failed to wait for connections",
                        io::Error::from(err),
                    ));
                }
            }
            if until.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
                return Ok(());
            }
            let ready = fds.iter().zip(sockets).filter(|(fd, _)| !fd.revents().is_empty());
            for (_, socket) in ready {
                let Some(connection) = accept(socket)? else { continue };
                let uid =
                    sockopt::socket_peercred(&connection).map_or(u32::MAX, |c| c.uid.as_raw());
                if !lock(&census).enter(uid, limit, service.connections_per_uid) {
                    log::warn!("Too many connections, refusing connection of user {uid}.");
                    continue;
                }
                let census = &census;
                let work = move || {
                    xattr::mark_socket(connection.as_fd(), xattr::Role::Server);
                    if let Err(err) = service.serve(Stream::socket(connection)) {
                        log::debug!("{err}");
                    }
                    lock(census).leave(uid);
                };
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    log::warn!("Cannot start a thread, refusing connection of user {uid}.");
                    lock(census).leave(uid);
                }
            }
        }
    })
}

fn lock(census: &Mutex<Census>) -> std::sync::MutexGuard<'_, Census> {
    census.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection; `None` where it has gone meanwhile or the process is short of something.
fn accept(socket: &OwnedFd) -> Result<Option<OwnedFd>> {
    match rustix::net::accept_with(socket, SocketFlags::CLOEXEC) {
        Ok(connection) => Ok(Some(connection)),
        Err(
            Errno::INTR
            | Errno::AGAIN
            | Errno::CONNABORTED
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOBUFS,
        ) => Ok(None),
        Err(err) => Err(Error::because("Failed to accept a connection", io::Error::from(err))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_has_its_mode_and_replaces_an_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/sock");
        drop(bind(&path, 0o644, true).unwrap());
        let _socket = bind(&path, 0o600, false).unwrap();
        let meta = path.symlink_metadata().unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert_eq!(bind(&file, 0o666, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    }

    #[test]
    fn one_user_does_not_lock_out_the_others() {
        let mut census = Census::default();
        for _ in 0..16 {
            assert!(census.enter(7, MAX_CONNECTIONS, 16));
        }
        assert!(!census.enter(7, MAX_CONNECTIONS, 16) && census.enter(8, MAX_CONNECTIONS, 16));
        census.leave(7);
        assert!(census.enter(7, MAX_CONNECTIONS, 16));
        assert!(!census.enter(9, 17, 16));
    }
}
