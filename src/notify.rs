//! sd_notify(3): tells the service manager how we are.
//!
//! Datagrams of `NAME=value` lines to the socket in `$NOTIFY_SOCKET`: a path, an abstract name
//! (`@…`) or `vsock:CID:PORT`. Without that variable, and when nobody listens any more, nothing
//! happens: no job fails because nobody watches it.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::{fmt, path::Path};

use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};

/// Where notifications go. Cheap to clone; all clones share one socket.
#[derive(Clone, Default)]
pub struct Notifier(Option<Arc<Way>>);

enum Way {
    Unix(UnixDatagram),
    /// A virtual machine's manager, on the host. Its own connection for each message.
    Vsock {
        cid: u32,
        port: u32,
        is_stream: bool,
    },
}

impl Notifier {
    /// Connects to `$NOTIFY_SOCKET`; a notifier that does nothing where that is not set.
    ///
    /// # Errors
    /// The variable is set to something that is no address, or nobody listens there.
    pub fn connect(ctx: &Ctx) -> Result<Self> {
        let Some(address) = ctx.env("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(Self(None));
        };
        let message = || format!("Failed to connect to notification socket '{address}'");
        let way = if let Some(rest) = address.strip_prefix("vsock") {
            Way::parse_vsock(rest).ok_or_else(|| Error::errno_because(message(), 22))?
        } else {
            let socket = UnixDatagram::unbound().context(message)?;
            let target = match address.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).context(message)?,
                None if address.starts_with('/') => {
                    SocketAddr::from_pathname(Path::new(address)).context(message)?
                }
                None => return Err(Error::errno_because(message(), 97)),
            };
            socket.connect_addr(&target).context(message)?;
            Way::Unix(socket)
        };
        Ok(Self(Some(Arc::new(way))))
    }

    /// As [`Notifier::connect`], but a failure is told at level debug and notifications are off.
    pub fn from_ctx(ctx: &Ctx) -> Self {
        Self::connect(ctx).unwrap_or_else(|err| {
            log::debug!("{err}, ignoring.");
            Self(None)
        })
    }

    /// True where somebody listens.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Sends these fields as one message. Line feeds in a value would begin another field: they
    /// become spaces. A failure is told at level debug.
    pub fn send(&self, fields: &[(&str, &dyn fmt::Display)]) {
        let Some(way) = &self.0 else { return };
        let lines: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_string().replace(['\n', '\r'], " ")))
            .collect();
        if let Err(err) = way.send(lines.join("\n").as_bytes()) {
            log::debug!("Failed to send notification, ignoring: {err}");
        }
    }

    /// `STATUS=…`: what we are doing, in words.
    pub fn status(&self, text: &str) {
        self.send(&[("STATUS", &text)]);
    }

    /// `EXIT_STATUS=…`: what this process is about to return.
    pub fn exit_status(&self, status: u8) {
        self.send(&[("EXIT_STATUS", &status)]);
    }
}

impl Way {
    /// What follows `vsock`: `:CID:PORT`, `-stream:CID:PORT` or `-dgram:CID:PORT`.
    fn parse_vsock(rest: &str) -> Option<Self> {
        let (kind, rest) = rest.split_once(':')?;
        let is_stream = match kind {
            "" | "-stream" => true,
            "-dgram" => false,
            _ => return None,
        };
        let (cid, port) = rest.split_once(':')?;
        let cid = if cid.is_empty() { 2 } else { cid.parse().ok()? };
        Some(Self::Vsock { cid, port: port.parse().ok()?, is_stream })
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.send(message).map(|_| ()),
            Self::Vsock { cid, port, is_stream } => vsock(*cid, *port, *is_stream, message),
        }
    }
}

fn vsock(cid: u32, port: u32, is_stream: bool, message: &[u8]) -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, VsockAddr};
    use nix::sys::socket::{connect, send, socket};
    use std::os::fd::AsRawFd as _;

    let kind = if is_stream { SockType::Stream } else { SockType::Datagram };
    let socket = socket(AddressFamily::Vsock, kind, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &VsockAddr::new(cid, port))?;
    let mut rest = message;
    while !rest.is_empty() {
        let sent = send(socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL)?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn fields_arrive_as_lines_of_one_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let server = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::from_ctx(&Ctx::host([]).with_env("NOTIFY_SOCKET", &path));
        notifier.send(&[("READY", &1), ("X_SYSUPDATE_VERSION", &"7"), ("STATUS", &"a\nb")]);
        notifier.exit_status(3);
        assert_eq!(receive(&server), "READY=1\nX_SYSUPDATE_VERSION=7\nSTATUS=a b");
        assert_eq!(receive(&server), "EXIT_STATUS=3");
        drop(server);
        notifier.status("nobody hears this");
    }

    #[test]
    fn abstract_names_work() {
        let name = format!("slipway-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let server = UnixDatagram::bind_addr(&address).unwrap();
        let ctx = Ctx::host([]).with_env("NOTIFY_SOCKET", format!("@{name}"));
        Notifier::from_ctx(&ctx).status("x");
        assert_eq!(receive(&server), "STATUS=x");
    }

    #[test]
    fn without_a_listener_nothing_happens() {
        assert!(!Notifier::from_ctx(&Ctx::host([])).is_on());
        for bad in ["relative", "/nowhere/at/all", "vsock", "vsock:x:1", "vsock-seqpacket:1:2"] {
            let ctx = Ctx::host([]).with_env("NOTIFY_SOCKET", bad);
            assert!(Notifier::connect(&ctx).is_err(), "{bad}");
            Notifier::from_ctx(&ctx).status("x");
        }
        assert!(matches!(
            Way::parse_vsock("-dgram::9"),
            Some(Way::Vsock { cid: 2, port: 9, is_stream: false })
        ));
    }
}
