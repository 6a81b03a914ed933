//! Netlink sockets: sending requests, receiving datagrams, groups of announcements.
//!
//! External spec: netlink(7), `linux/netlink.h` of Linux 6.
#![allow(unsafe_code, reason = "socket options that rustix and nix do not know")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Announcements of new and changed addresses of both families.
pub const GROUPS_ADDRESSES: u32 = 0x10 | 0x100;

/// Announcements of devices by the kernel.
pub const GROUP_KERNEL: u32 = 1;
/// Announcements of devices by udev, when it has looked at them. Only root can send them.
pub const GROUP_UDEV: u32 = 2;

/// What a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Interfaces, addresses, routes, rules.
    Route,
    /// Lists of sockets. Needs a kernel module for each family.
    SocketDiagnosis,
    /// Devices that come and go.
    Uevent,
}

/// A socket to the kernel.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket that hears the announcements of `groups`, a set of RTMGRP_… bits,
    /// or one of the `GROUP_…` of devices.
    pub fn open(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::SocketDiagnosis => Some(netlink::SOCK_DIAG),
            Protocol::Uevent => Some(netlink::KOBJECT_UEVENT),
        };
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)?;
        let socket = Self(socket);
        rustix::net::bind(&socket.0, &netlink::SocketAddrNetlink::new(0, groups))?;
        // Words for errors. Older kernels have none: no reason to do without the rest.
        let _ = socket.enable(libc::NETLINK_EXT_ACK);
        let _ = socket.enable(libc::NETLINK_CAP_ACK);
        Ok(socket)
    }

    fn enable(&self, option: libc::c_int) -> io::Result<()> {
        let one: libc::c_int = 1;
        let size = libc::socklen_t::try_from(size_of_val(&one)).unwrap_or_default();
        // SAFETY: the value is an int that lives during the call, and the size is its size.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const one).cast(),
                size,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends one request.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        send(&self.0, message, SendFlags::empty())?;
        Ok(())
    }

    /// Receives one datagram; the buffer grows to hold it. False when `wait` passed before; no
    /// limit waits for ever. ENOBUFS: announcements were lost.
    pub fn receive(&self, datagram: &mut Vec<u8>, wait: Option<Duration>) -> io::Result<bool> {
        if let Some(wait) = wait
            && !self.is_readable(wait)?
        {
            return Ok(false);
        }
        let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, size) = retry(|| recv(&self.0, &mut [0_u8; 0][..], peek))?;
        datagram.resize(size, 0);
        let (n, _) = retry(|| recv(&self.0, datagram.as_mut_slice(), RecvFlags::empty()))?;
        datagram.truncate(n);
        Ok(true)
    }

    fn is_readable(&self, wait: Duration) -> io::Result<bool> {
        let time = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&time)) {
            Ok(n) => Ok(n > 0),
            // Whoever waits looks at the clock and waits again.
            Err(Errno::INTR) => Ok(false),
            Err(err) => Err(err.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    Ok(rustix::io::retry_on_intr(&mut call)?)
}
