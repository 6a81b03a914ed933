//! TCP sockets as a metadata service wants them: with a mark, through one interface, from a low
//! port, within a time, and without SIGPIPE.
//!
//! External spec: socket(7), ip(7), ipv6(7), tcp(7).

#![allow(unsafe_code, reason = "IP_UNICAST_IF is in no safe library")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

/// How a socket was tied to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Nothing but this interface can be used.
    Device,
    /// Only the choice of the route was influenced; look at the local address afterwards.
    Hint,
}

/// A TCP socket that does not block, is not connected and does not delay small pieces.
///
/// # Errors
/// EAFNOSUPPORT where the kernel lacks the family, and being out of descriptors.
pub fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = family(address);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// Sets the firewall mark.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn set_mark(socket: &OwnedFd, mark: u32) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Mark, &mark)?)
}

/// Ties a socket to an interface: as tight as permitted.
///
/// # Errors
/// ENODEV where there is no such interface.
pub fn tie_to_interface(socket: &OwnedFd, index: u32, name: &str) -> io::Result<Tie> {
    match setsockopt(socket, sockopt::BindToDevice, &name.into()) {
        Ok(()) => Ok(Tie::Device),
        // Before Linux 5.7 this takes CAP_NET_RAW.
        Err(nix::errno::Errno::EPERM) => {
            hint_interface(socket, index)?;
            Ok(Tie::Hint)
        }
        Err(err) => Err(err.into()),
    }
}

/// Prefers routes through an interface, which anybody may.
///
/// # Errors
/// EADDRNOTAVAIL where there is no such interface.
pub fn hint_interface(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let is_ipv6 = rustix::net::sockopt::socket_domain(socket)? == AddressFamily::INET6;
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_IF)
    } else {
        (libc::IPPROTO_IP, libc::IP_UNICAST_IF)
    };
    // The kernel wants network byte order here, unlike everywhere else.
    let value = index.to_be();
    // SAFETY: the pointer and length are those of a live u32, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives a socket this source port, on every local address.
///
/// # Errors
/// EADDRINUSE where anybody uses it, also a connection that ended a minute ago; EACCES for a port
/// below 1024 without CAP_NET_BIND_SERVICE.
pub fn bind_port(socket: &OwnedFd, peer: &SocketAddr, port: u16) -> io::Result<()> {
    let any = match peer {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Ok(rustix::net::bind(socket, &SocketAddr::new(any, port))?)
}

/// Begins to connect; true where that is done already.
///
/// # Errors
/// Those of connect(2) that are known at once, like ENETUNREACH.
pub fn start_connect(socket: &OwnedFd, address: &SocketAddr) -> io::Result<bool> {
    match rustix::net::connect(socket, address) {
        Ok(()) => Ok(true),
        // After EINTR a connection goes on being made in the background, too.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// What became of a connection once its socket is writable.
///
/// # Errors
/// ECONNREFUSED and the like.
pub fn finish_connect(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(socket)??)
}

/// Sends what the socket takes now.
///
/// # Errors
/// `WouldBlock`, and EPIPE (without a signal) where the peer is gone.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))?)
}

/// Receives what is there; 0 at the end.
///
/// # Errors
/// `WouldBlock` where nothing is there yet.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let result =
        rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()));
    Ok(result.map(|(count, _)| count)?)
}

/// True where an idle connection is still open and silent, so that it can carry a request.
pub fn is_idle(socket: &OwnedFd) -> bool {
    let result = rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(result, Err(Errno::AGAIN))
}

/// The local end of a connection.
///
/// # Errors
/// ENOTCONN is none: an unconnected socket has the address 0.
pub fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(socket)?.try_into()?)
}

/// True where this machine itself has the address, so that packets to it never leave.
pub fn is_own_address(address: &SocketAddr) -> bool {
    if address.ip().is_loopback() {
        return true;
    }
    let mut address = *address;
    address.set_port(0);
    let socket =
        rustix::net::socket_with(family(&address), SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|socket| rustix::net::bind(socket, &address).is_ok())
}

/// The index of the interface with this name.
///
/// # Errors
/// ENODEV where there is none.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

/// Waits until one of the descriptors is ready (true: for writing) or the time is over, and says
/// which are. Errors and hang-ups count as ready: the next call tells more.
///
/// # Errors
/// ENOMEM.
pub fn wait(waits: &[(BorrowedFd<'_>, bool)], time: Duration) -> io::Result<Vec<bool>> {
    let flags = |writes| if writes { PollFlags::OUT } else { PollFlags::IN };
    let mut fds: Vec<PollFd<'_>> =
        waits.iter().map(|(fd, writes)| PollFd::from_borrowed_fd(*fd, flags(*writes))).collect();
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut fds, Some(&time)) {
        // An interrupted wait is one that was short: callers look at the clock anyway.
        Ok(_) | Err(Errno::INTR) => {}
        Err(err) => return Err(err.into()),
    }
    Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn connected() -> (OwnedFd, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = tcp_socket(&address).unwrap();
        let is_done = start_connect(&socket, &address).unwrap();
        assert!(is_done || wait(&[(socket.as_fd(), true)], LONG).unwrap()[0]);
        finish_connect(&socket).unwrap();
        (socket, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_go_both_ways_and_an_idle_connection_is_told_from_a_closed_one() {
        let (socket, mut peer) = connected();
        assert!(is_idle(&socket));
        assert_eq!(send(&socket, b"ping").unwrap(), 4);
        let mut buffer = [0; 4];
        peer.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"ping");
        let error = receive(&socket, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        peer.write_all(b"pong").unwrap();
        assert_eq!(wait(&[(socket.as_fd(), false)], LONG).unwrap(), [true]);
        assert!(!is_idle(&socket), "something waits to be read");
        assert_eq!(receive(&socket, &mut buffer).unwrap(), 4);
        assert!(is_idle(&socket));
        drop(peer);
        assert_eq!(wait(&[(socket.as_fd(), false)], LONG).unwrap(), [true]);
        assert!(!is_idle(&socket));
        assert_eq!(receive(&socket, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn refusals_are_told() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = tcp_socket(&address).unwrap();
        let result = start_connect(&socket, &address).and_then(|_| {
            wait(&[(socket.as_fd(), true)], LONG)?;
            finish_connect(&socket)
        });
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn nothing_is_ready_where_nothing_happened() {
        let (socket, _peer) = connected();
        assert_eq!(wait(&[(socket.as_fd(), false)], Duration::ZERO).unwrap(), [false]);
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own_address(&"127.3.2.1:80".parse().unwrap()));
        assert!(is_own_address(&"[::1]:80".parse().unwrap()));
        assert!(!is_own_address(&"192.0.2.1:80".parse().unwrap()));
    }

    #[test]
    fn sockets_can_be_tied_to_an_interface_and_only_to_one_that_exists() {
        let index = interface_index("lo").unwrap();
        for address in ["127.0.0.1:1", "[::1]:1"] {
            let address = address.parse().unwrap();
            let socket = tcp_socket(&address).unwrap();
            tie_to_interface(&socket, index, "lo").unwrap();
            hint_interface(&tcp_socket(&address).unwrap(), index).unwrap();
            assert!(hint_interface(&tcp_socket(&address).unwrap(), u32::MAX).is_err());
        }
        let error = interface_index("slipway-none").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_port_in_use_is_refused_as_source_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let socket = tcp_socket(&address).unwrap();
        let error = bind_port(&socket, &address, address.port()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }
}
