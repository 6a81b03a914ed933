//! Network interfaces, addresses, routes and rules over rtnetlink, and the list of Unix sockets.
//!
//! Everything here is about the network namespace of the process. Reading needs no privilege.
//!
//! External spec: rtnetlink(7), linux/rtnetlink.h and linux/fib_rules.h of Linux 6.

pub mod interface;
pub mod route;
pub mod unix;
pub mod watch;

pub use interface::{Interface, Link};

use std::time::Duration;

use crate::error::{Error, IoText, Result};
use crate::format::netlink::{Builder, DONE, Message, messages};
use crate::sys::netlink::{Protocol, Socket};

/// LIMIT: how often a list that changed while it was read is read again.
const ATTEMPTS: u32 = 8;
/// LIMIT: how long the kernel may take to answer. It answers while we send.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a request and gives each answer to `collect`, to the end of a dump or to the
/// acknowledgement. An answer to a request for one thing that is neither ends it as well, if
/// `is_single`.
fn exchange<T>(
    protocol: Protocol,
    request: &Builder,
    is_single: bool,
    collect: &mut dyn FnMut(&Message<'_>) -> Option<T>,
) -> Result<Vec<T>> {
    let socket = Socket::open(protocol, 0)
        .map_err(|err| Error::because("Failed to open netlink socket", err))?;
    for _ in 0..ATTEMPTS {
        if let Some(found) = attempt(&socket, request, is_single, collect)? {
            return Ok(found);
        }
    }
    Err(Error::errno_because(
        "Netlink list keeps changing",
        rustix::io::Errno::AGAIN.raw_os_error(),
    ))
}

/// None where the list changed meanwhile.
fn attempt<T>(
    socket: &Socket,
    request: &Builder,
    is_single: bool,
    collect: &mut dyn FnMut(&Message<'_>) -> Option<T>,
) -> Result<Option<Vec<T>>> {
    const SEQUENCE: u32 = 1;
    let failed = |err: std::io::Error| Error::because("Failed to talk netlink", err);
    socket.send(&request.clone().finish(SEQUENCE)).map_err(failed)?;
    let (mut found, mut is_changed) = (Vec::new(), false);
    let mut datagram = Vec::new();
    loop {
        if !socket.receive(&mut datagram, Some(PATIENCE)).map_err(failed)? {
            return Err(failed(rustix::io::Errno::TIMEDOUT.into()));
        }
        for message in messages(&datagram).filter(|message| message.sequence == SEQUENCE) {
            is_changed |= message.is_interrupted();
            match message.acknowledgement() {
                Some((0, _)) => return Ok((!is_changed).then_some(found)),
                Some((errno, text)) => return Err(refusal(errno, text)),
                None if message.kind == DONE => return Ok((!is_changed).then_some(found)),
                None => found.extend(collect(&message)),
            }
            if is_single && !found.is_empty() {
                return Ok(Some(found));
            }
        }
    }
}

/// The kernel's "no": its own words, where it has some, and the error number.
fn refusal(errno: i32, text: Option<String>) -> Error {
    match text {
        Some(text) => Error::errno_because(text, errno),
        None => {
            let err = std::io::Error::from_raw_os_error(errno);
            Error::new(IoText(&err).to_string()).with_errno(errno)
        }
    }
}
