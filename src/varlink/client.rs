//! Calling services: connect, call, many replies, descriptors, take over a connection.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use rustix::fs::{Mode as FileMode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Map, Value};

use super::address::{Address, BRIDGES};
use super::message::{Mode, Reply as WireReply, Request};
use super::wire::{Raw, Stream};
use super::{CALL_TIMEOUT, MAX_COLLECT, MAX_FDS, activation, errors, xattr};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::sys::spawn::spawn_activated;

/// A connection to a service.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Kept for its end: it is told to stop and reaped.
    process: Option<Process>,
    timeout: Option<Duration>,
    attached: Vec<OwnedFd>,
    /// A reply is still to come: after a failure, or when a stream of replies was not read to its
    /// end. Replies carry no numbers, so the next call could not tell it from its own.
    is_owed: bool,
}

/// What a service answered: parameters, or an error and its parameters.
#[derive(Debug, Default)]
pub struct Reply {
    /// Qualified name of the error.
    pub error: Option<String>,
    /// Parameters in the order sent.
    pub parameters: Map<String, Value>,
    /// More replies follow.
    pub continues: bool,
    /// Descriptors, if [`Client::accept_fds`] was called.
    pub fds: Vec<OwnedFd>,
}

impl Reply {
    /// The parameters, or the error as a value: its text is the errno's where the error stands
    /// for one, else its name; its parameters are in [`Error::varlink`].
    pub fn into_result(self) -> Result<Map<String, Value>> {
        match self.error {
            None => Ok(self.parameters),
            Some(name) => Err(reply_error(&name, self.parameters)),
        }
    }
}

/// An error reply as an error of ours.
pub fn reply_error(name: &str, parameters: Map<String, Value>) -> Error {
    let error = match errors::meaning(name, &parameters) {
        errors::Meaning::Errno(errno) => {
            Error::new(crate::error::IoText(&io::Error::from_raw_os_error(errno)).to_string())
                .with_errno(errno)
        }
        errors::Meaning::ExpectedMore => {
            Error::new("called without 'more' flag, but flag needs to be set.")
                .with_errno(libc::EBADE)
        }
        errors::Meaning::Name => Error::new(name).with_errno(libc::EBADR),
    };
    error.with_varlink(name, parameters)
}

/// What a client holds after an upgrade.
#[derive(Debug)]
pub struct Upgraded {
    /// The confirming reply.
    pub parameters: Map<String, Value>,
    /// The connection.
    pub raw: Raw,
    /// What carries or serves the connection, if we started it; asked to end when dropped.
    pub process: Option<Process>,
}

impl Client {
    /// A client of a connected stream socket.
    pub fn from_socket(socket: impl Into<OwnedFd>) -> Self {
        let stream = Stream::socket(socket);
        xattr::mark_socket(stream.read_fd(), xattr::Role::Client);
        Self::new(stream, None)
    }

    fn new(stream: Stream, process: Option<Process>) -> Self {
        Self { stream, process, timeout: Some(CALL_TIMEOUT), attached: Vec::new(), is_owed: false }
    }

    /// Connects to an address, or to a path that is a socket or an executable (`/…` or `./…`).
    pub fn connect_to(ctx: &Ctx, address: &str) -> Result<Self> {
        if !address.starts_with('/') && !address.starts_with("./") {
            return Self::connect(ctx, &Address::parse(address)?)
                .map_err(|err| named(address, err));
        }
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let path = Path::new(address);
        let kind = std::fs::metadata(path)
            .map_err(|err| Error::because(format!("Failed to open '{address}'"), err))?;
        let target = if kind.file_type().is_socket() {
            Address::Unix(path.to_path_buf())
        } else if kind.is_file() && kind.permissions().mode() & 0o111 != 0 {
            Address::Exec(path.to_path_buf())
        } else {
            return Err(Error::new(format!(
                "Unrecognized path '{address}' is neither an AF_UNIX socket, nor an executable \
                 binary."
            )));
        };
        let failed = |err| match target {
            Address::Unix(_) => Error::because(format!("Failed to connect to '{address}'"), err),
            _ => Error::because(format!("Failed to execute '{address}'"), err),
        };
        Self::connect(ctx, &target).map_err(failed)
    }

    /// Connects.
    pub fn connect(ctx: &Ctx, address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(Self::from_socket(connect_path(path)?)),
            Address::Abstract(name) => {
                let socket = stream_socket()?;
                let address = SocketAddrUnix::new_abstract_name(name.as_bytes())?;
                rustix::net::connect(&socket, &address)?;
                Ok(Self::from_socket(socket))
            }
            Address::Exec(path) => Self::activate(ctx, path.as_os_str(), &[]),
            Address::Bridge { scheme, url } => {
                let folder =
                    ctx.env_os("SYSTEMD_VARLINK_BRIDGES_DIR").unwrap_or(OsStr::new(BRIDGES));
                let program = Path::new(folder).join(scheme);
                Self::activate(ctx, program.as_os_str(), &[url.into()]).map_err(|err| {
                    match err.kind() {
                        ErrorKind::NotFound => io::Error::from_raw_os_error(libc::EPROTONOSUPPORT),
                        _ => err,
                    }
                })
            }
            Address::SshUnix { host, path } => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                let theirs = OwnedFd::from(theirs);
                let output = theirs.try_clone()?;
                let process = Process(
                    ssh(ctx).args(["-W", path, host]).stdin(theirs).stdout(output).spawn()?,
                );
                Ok(Self::new(Stream::socket(ours), Some(process)))
            }
            Address::SshExec { host, command } => {
                let mut process = Process(
                    ssh(ctx)
                        .args(["-e", "none", "-T", host, "env", "SYSTEMD_VARLINK_LISTEN=-"])
                        .args(command)
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()?,
                );
                let pipes = process.0.stdout.take().zip(process.0.stdin.take());
                let (read, write) = pipes.ok_or(ErrorKind::BrokenPipe)?;
                Ok(Self::new(Stream::pipes(read.into(), write.into()), Some(process)))
            }
        }
    }

    /// Starts a program with a socket on descriptor 3.
    ///
    /// DIFFERS: a program that cannot be started is told at once, with the reason; with the peer
    /// the first call fails as if the service had hung up.
    fn activate(ctx: &Ctx, program: &OsStr, arguments: &[OsString]) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let ctx = activation::cleared(ctx);
        let environment =
            ctx.env_all().map(|(name, value)| (name.to_os_string(), value.to_os_string()));
        let child = spawn_activated(program, arguments, environment, theirs.as_fd())?;
        let mut client = Self::from_socket(ours);
        client.process = Some(Process(child));
        Ok(client)
    }

    /// How long to wait for a reply; `None` is for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Keeps descriptors that come with replies.
    pub fn accept_fds(&mut self) {
        self.stream.set_accepts_fds(true);
    }

    /// Attaches a descriptor to the next call and returns its index there.
    pub fn push_fd(&mut self, fd: OwnedFd) -> Result<usize> {
        if self.attached.len() >= MAX_FDS {
            return Err(Error::errno_because("Too many descriptors", libc::ENOBUFS));
        }
        self.attached.push(fd);
        Ok(self.attached.len() - 1)
    }

    /// Calls a method and returns what comes back, be it an error of the service.
    pub fn call(&mut self, method: &str, parameters: Map<String, Value>) -> Result<Reply> {
        self.send(method, parameters, Mode::Plain)?;
        self.reply(method, false)
    }

    /// Calls a method; an error of the service is an error here.
    pub fn invoke(
        &mut self,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<Map<String, Value>> {
        self.call(method, parameters)?.into_result()
    }

    /// Calls a method that answers many times. The iterator ends behind the final reply or the
    /// first failure; an error of the service is an item with [`Reply::error`] set.
    pub fn call_more(
        &mut self,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<Replies<'_>> {
        self.send(method, parameters, Mode::More)?;
        Ok(Replies { client: self, method: method.to_owned(), is_over: false })
    }

    /// Calls a method that answers many times and gathers the parameters of all replies; `Err`
    /// inside is an error of the service.
    pub fn collect(
        &mut self,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<std::result::Result<Vec<Map<String, Value>>, Reply>> {
        let mut all = Vec::new();
        for reply in self.call_more(method, parameters)? {
            let reply = reply?;
            if reply.error.is_some() {
                return Ok(Err(reply));
            }
            // LIMIT: a service may talk for ever.
            if all.len() >= MAX_COLLECT {
                return Err(failed(method, libc::ENOBUFS));
            }
            all.push(reply.parameters);
        }
        Ok(Ok(all))
    }

    /// Calls a method without waiting for anything.
    pub fn oneway(&mut self, method: &str, parameters: Map<String, Value>) -> Result<()> {
        self.send(method, parameters, Mode::Oneway)
    }

    /// Calls a method that takes over the connection; `Err` inside is an error of the service.
    pub fn upgrade(
        mut self,
        method: &str,
        parameters: Map<String, Value>,
    ) -> Result<std::result::Result<Upgraded, Reply>> {
        self.send(method, parameters, Mode::Upgrade)?;
        let reply = self.reply(method, false)?;
        if reply.error.is_some() {
            return Ok(Err(reply));
        }
        let raw = self
            .stream
            .into_raw()
            .map_err(|err| Error::because(format!("Failed to upgrade {method}()"), err))?;
        Ok(Ok(Upgraded { parameters: reply.parameters, raw, process: self.process }))
    }

    /// The descriptor that becomes readable when something arrives or the service hangs up.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.read_fd()
    }

    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }

    fn send(&mut self, method: &str, parameters: Map<String, Value>, mode: Mode) -> Result<()> {
        if self.is_owed {
            return Err(failed(method, libc::ENOTCONN));
        }
        let request = Request { mode, ..Request::new(method, parameters) };
        self.is_owed = mode != Mode::Oneway;
        let attached = std::mem::take(&mut self.attached);
        let fds: Vec<_> = attached.iter().map(AsFd::as_fd).collect();
        let deadline = self.deadline();
        self.stream
            .send(request.to_bytes(), &fds, deadline)
            .map_err(|err| failed(method, transport_errno(&err)))
    }

    fn reply(&mut self, method: &str, may_continue: bool) -> Result<Reply> {
        let deadline = self.deadline();
        let message = match self.stream.receive(deadline) {
            Ok(Some(message)) => message,
            Ok(None) => return Err(failed(method, libc::ECONNRESET)),
            Err(err) => return Err(failed(method, transport_errno(&err))),
        };
        // COMPAT(262): a reply that makes no sense looks like a broken connection.
        let reply =
            WireReply::parse(&message.bytes).map_err(|_| failed(method, libc::ECONNRESET))?;
        if reply.continues && !may_continue {
            return Err(failed(method, libc::ECONNRESET));
        }
        let WireReply { error, parameters, continues } = reply;
        self.is_owed = continues;
        Ok(Reply { error, parameters, continues, fds: message.fds })
    }
}

/// The replies of one call.
#[derive(Debug)]
pub struct Replies<'a> {
    client: &'a mut Client,
    method: String,
    is_over: bool,
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let reply = self.client.reply(&self.method, true);
        self.is_over = !reply.as_ref().is_ok_and(|reply| reply.continues);
        Some(reply)
    }
}

fn failed(method: &str, errno: i32) -> Error {
    Error::errno_because(format!("Failed to issue {method}() call"), errno)
}

fn named(url: &str, err: io::Error) -> Error {
    Error::because(format!("Failed to connect to URL '{url}'"), err)
}

/// COMPAT(262): a deadline is ETIME, a broken pipe looks like a broken connection.
fn transport_errno(err: &io::Error) -> i32 {
    match err.kind() {
        ErrorKind::TimedOut => libc::ETIME,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => libc::ECONNRESET,
        _ => err.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Connects to a path of any length.
fn connect_path(path: &Path) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    match SocketAddrUnix::new(path) {
        Ok(address) => rustix::net::connect(&socket, &address)?,
        // Longer than an address: through a descriptor of the socket file itself.
        Err(_) => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, FileMode::empty())?;
            let short = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
            rustix::net::connect(&socket, &SocketAddrUnix::new(short)?)?;
        }
    }
    Ok(socket)
}

fn ssh(ctx: &Ctx) -> Command {
    let mut command = Command::new(ctx.env_os("SYSTEMD_SSH").unwrap_or(OsStr::new("ssh")));
    let ctx = activation::cleared(ctx);
    command.env_clear().envs(ctx.env_all());
    command
}

/// A process that carries or serves the connection; asked to end and reaped with it.
#[derive(Debug)]
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // Not reaped yet, so the number is still its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
