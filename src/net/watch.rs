//! Waiting for addresses to appear.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Context as _, Result};
use crate::format::netlink::{messages, rtnl};
use crate::sys::netlink::{GROUPS_ADDRESSES, Protocol, Socket};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface has an address that can be used.
    Address {
        /// Index of the interface.
        interface: u32,
        /// The address.
        address: IpAddr,
    },
    /// More happened than could be kept: look at the list of interfaces again.
    Lost,
}

/// Hears of addresses from the moment it is made. Make it first and look at the list second, so
/// that nothing falls in between.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    /// Events of one datagram that nobody has taken yet, the last one first.
    waiting: Vec<Event>,
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// No socket.
    pub fn new() -> Result<Self> {
        let socket = Socket::open(Protocol::Route, GROUPS_ADDRESSES)
            .context(|| "Failed to watch network addresses".to_owned())?;
        Ok(Self { socket, waiting: Vec::new() })
    }

    /// The next event. None where `wait` passed before, or where something happened that is none
    /// (a signal, an address that cannot be used yet): look at the clock and ask again.
    ///
    /// # Errors
    /// The socket fails.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        if let Some(event) = self.waiting.pop() {
            return Ok(Some(event));
        }
        let mut datagram = Vec::new();
        match self.socket.receive(&mut datagram, Some(wait)) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(err) if err.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                return Ok(Some(Event::Lost));
            }
            Err(err) => return Err(err).context(|| "Failed to watch network addresses".to_owned()),
        }
        let addresses = messages(&datagram).filter_map(|message| rtnl::address(&message));
        self.waiting = addresses
            .filter(|address| !address.is_tentative)
            .map(|found| Event::Address { interface: found.interface, address: found.address })
            .collect();
        self.waiting.reverse();
        Ok(self.waiting.pop())
    }
}

impl AsFd for Watch {
    /// Readable where [`Watch::next`] has something to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
