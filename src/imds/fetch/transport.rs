//! Connections: which address, through what, from where, and one question and answer on one.
//!
//! Where a service is known by two addresses, both are tried: the URL's first, the other one a
//! moment later, and who connects first is asked (defect 15 of the peer).

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::retry::{Budget, Trouble};
use super::url::{Host, Server};
use super::{Route, lock};
use crate::ctx::Ctx;
use crate::error::IoText;
use crate::format::http1::{Head, Malformed, Reader};
use crate::imds::model::{Endpoint, FIREWALL_MARK, Failure, Mark};
use crate::net::{Link, interface};
use crate::sys::net::{self, Tie};

/// LIMIT: addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long the rest of an error page may take, which saves a connection and nothing else.
const PAGE: Duration = Duration::from_millis(50);
/// How often a wait for something that is no descriptor looks at the cancel flag.
const TICK: Duration = Duration::from_millis(50);
/// The last source port that only the privileged can have.
const LOW_PORT_MAX: u16 = 1023;
/// Low ports that others expect to be a service's (defect 22 of the peer).
const LOW_PORTS_SPARED: [u16; 3] = [22, 80, 443];

const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();
const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();
const EADDRINUSE: i32 = rustix::io::Errno::ADDRINUSE.raw_os_error();
const EADDRNOTAVAIL: i32 = rustix::io::Errno::ADDRNOTAVAIL.raw_os_error();
const E2BIG: i32 = rustix::io::Errno::TOOBIG.raw_os_error();

/// Makes connections to one endpoint.
pub(super) struct Dialer<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) route: &'a Route,
    /// The address that answered last.
    pub(super) preferred: Option<IpAddr>,
    /// What names have turned out to mean. A resolver that is not there takes seconds to say so,
    /// which is to happen once.
    pub(super) names: &'a Names,
}

/// Names with their addresses and ports.
pub(super) type Names = Mutex<HashMap<(String, u16), Vec<SocketAddr>>>;

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) server: Server,
    /// Who is at the other end.
    pub(super) address: SocketAddr,
    /// Is our port below 1024?
    pub(super) is_low: bool,
    /// Has it carried an answer already?
    is_used: bool,
}

/// Why there is no answer on a connection.
pub(super) enum Broken {
    /// The service had closed it while it was idle; nothing is wrong.
    Stale,
    /// Something is.
    Trouble(Trouble),
    /// Nothing at all came back in time.
    Silence(Trouble),
}

impl Broken {
    pub(super) fn into_trouble(self) -> Trouble {
        match self {
            Self::Trouble(trouble) | Self::Silence(trouble) => trouble,
            Self::Stale => Trouble::transient("connection was closed"),
        }
    }
}

/// A socket that is connecting.
struct Racer {
    socket: OwnedFd,
    address: SocketAddr,
    tie: Option<Tie>,
    until: Duration,
}

impl Dialer<'_> {
    /// Connects to whichever address of a server answers first.
    pub(super) fn connect(
        &self,
        server: &Server,
        is_low: bool,
        budget: &Budget<'_>,
    ) -> Result<Connection, Trouble> {
        let mut waiting: VecDeque<SocketAddr> = self.addresses(server, budget)?.into();
        let all = waiting.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut racers: Vec<Racer> = Vec::new();
        let mut last = String::new();
        let mut next_start = Duration::ZERO;
        loop {
            let is_turn = budget.left(next_start).is_zero() || racers.is_empty();
            if is_turn && let Some(address) = waiting.pop_front() {
                match self.start(address, is_low, budget) {
                    Ok(racer) => racers.push(racer),
                    Err(Trouble::Transient { what, .. }) => last = what,
                    Err(trouble) => return Err(trouble),
                }
                next_start = budget.until(budget.limits.head_start);
                continue;
            }
            if racers.is_empty() {
                return Err(Trouble::transient(last));
            }
            if let Some(racer) =
                self.wait(&mut racers, &mut last, next_start, !waiting.is_empty(), budget)?
            {
                return Ok(Connection {
                    socket: racer.socket,
                    server: server.clone(),
                    address: racer.address,
                    is_low,
                    is_used: false,
                });
            }
            let silent = || format!("no connection to {all} in time");
            budget.check(Duration::MAX, &silent)?;
            racers.retain(|racer| match budget.check(racer.until, &silent) {
                Ok(()) => true,
                Err(_) => {
                    last = format!("no connection to {} in time", racer.address);
                    false
                }
            });
        }
    }

    /// Waits until one of them is there, or for something else to happen.
    fn wait(
        &self,
        racers: &mut Vec<Racer>,
        last: &mut String,
        next_start: Duration,
        has_more: bool,
        budget: &Budget<'_>,
    ) -> Result<Option<Racer>, Trouble> {
        let ends = racers.iter().map(|racer| racer.until);
        let until = ends.chain(has_more.then_some(next_start)).min().unwrap_or_default();
        let fds: Vec<_> = racers.iter().map(|racer| (racer.socket.as_fd(), true)).collect();
        let ready = budget.cancel.wait(&fds, budget.left(until)).map_err(cannot_wait)?;
        for (index, _) in ready.iter().enumerate().filter(|(_, is_ready)| **is_ready).rev() {
            let racer = racers.swap_remove(index);
            let checked = net::finish_connect(&racer.socket)
                .map_err(|err| refused(racer.address, &err))
                .and_then(|()| self.check_local(&racer));
            match checked {
                Ok(()) => return Ok(Some(racer)),
                Err(what) => *last = what,
            }
        }
        Ok(None)
    }

    /// Makes a socket for an address and begins to connect it.
    fn start(
        &self,
        address: SocketAddr,
        is_low: bool,
        budget: &Budget<'_>,
    ) -> Result<Racer, Trouble> {
        let until = budget.until(budget.limits.connect);
        let mut ports = if is_low { low_ports(budget.ctx) } else { Vec::new() };
        loop {
            let (socket, tie) = self.socket(address, budget.ctx)?;
            if is_low && !bind_low(&socket, &address, &mut ports)? {
                return Err(Trouble::transient("no source port below 1024 is free"));
            }
            match net::start_connect(&socket, &address) {
                Ok(_) => return Ok(Racer { socket, address, tie, until }),
                // This port and that peer are still in TIME_WAIT.
                Err(err) if is_low && err.raw_os_error() == Some(EADDRNOTAVAIL) => {}
                Err(err) => return Err(Trouble::transient(refused(address, &err))),
            }
        }
    }

    /// A socket with mark and interface, which must be there before the first packet.
    fn socket(&self, address: SocketAddr, ctx: &Ctx) -> Result<(OwnedFd, Option<Tie>), Trouble> {
        let socket = net::tcp_socket(&address).map_err(|err| {
            Trouble::transient(format!("no socket for {}: {}", address.ip(), IoText(&err)))
        })?;
        let mark = match self.route.mark {
            Mark::Default => Some((FIREWALL_MARK, false)),
            Mark::Off => None,
            Mark::Value(mark) => Some((mark, true)),
        };
        if let Some((mark, is_explicit)) = mark {
            match net::set_mark(&socket, mark) {
                Err(err) if is_explicit || err.raw_os_error() != Some(EPERM) => {
                    return Err(Trouble::broken(format!(
                        "cannot set firewall mark {mark:#x} (that takes CAP_NET_ADMIN): {}",
                        IoText(&err)
                    )));
                }
                // DIFFERS: the peer fails; without the mark a locked-down service does so soon.
                Err(_) | Ok(()) => {}
            }
        }
        let interface = self.route.interface.as_ref();
        let interface = interface.filter(|_| !is_own(ctx, &address));
        let tie = match interface {
            None => None,
            Some(interface) => {
                let tie = net::tie_to_interface(&socket, interface.index, &interface.name);
                Some(tie.map_err(|err| {
                    Trouble::broken(format!(
                        "cannot use interface '{}': {}",
                        interface.name,
                        IoText(&err)
                    ))
                })?)
            }
        };
        Ok((socket, tie))
    }

    /// Where the kernel took the interface as a hint only, the local address tells whether it
    /// followed it (defect 16 of the peer).
    fn check_local(&self, racer: &Racer) -> Result<(), String> {
        let Some(interface) = self.route.interface.as_ref() else { return Ok(()) };
        if racer.tie != Some(Tie::Hint) {
            return Ok(());
        }
        let local = net::local_address(&racer.socket)
            .map_err(|err| format!("no local address: {}", IoText(&err)))?;
        let links = interface::list().map_err(|err| err.to_string())?;
        let link = links.iter().find(|link| link.interface.index == interface.index);
        if link.is_some_and(|link| link.addresses.contains(&local.ip())) {
            return Ok(());
        }
        Err(format!("{} is not reached through '{}'", racer.address.ip(), interface.name))
    }

    /// All addresses of a server, the one to begin with first.
    fn addresses(&self, server: &Server, budget: &Budget<'_>) -> Result<Vec<SocketAddr>, Trouble> {
        let port = server.port;
        let (v4, v6) = (self.endpoint.address_ipv4, self.endpoint.address_ipv6);
        let plain = |address: IpAddr| SocketAddr::new(address, port);
        let mut addresses = match &server.host {
            Host::V4(address) => {
                let twin = v6.filter(|_| v4 == Some(*address));
                [Some(plain((*address).into())), twin.map(|twin| self.scoped(twin.into(), port))]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Host::V6(address, zone) => {
                let first = match zone {
                    Some(zone) => {
                        let scope = zone_index(zone)?;
                        SocketAddr::V6(SocketAddrV6::new(*address, port, 0, scope))
                    }
                    None => self.scoped((*address).into(), port),
                };
                let twin = v4.filter(|_| v6 == Some(*address));
                [Some(first), twin.map(|twin| plain(twin.into()))].into_iter().flatten().collect()
            }
            Host::Name(name) => {
                let asked = (name.clone(), port);
                let known = lock(self.names).get(&asked).cloned();
                match known {
                    Some(known) => known,
                    None => {
                        let found = self.resolve(name, port, budget)?;
                        lock(self.names).insert(asked, found.clone());
                        found
                    }
                }
            }
        };
        if let Some(preferred) = self.preferred {
            addresses.sort_by_key(|address| address.ip() != preferred);
        }
        Ok(addresses)
    }

    /// A link-local address means nothing without an interface.
    fn scoped(&self, address: IpAddr, port: u16) -> SocketAddr {
        match (address, &self.route.interface) {
            (IpAddr::V6(address), Some(interface)) if address.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(address, port, 0, interface.index))
            }
            _ => SocketAddr::new(address, port),
        }
    }

    /// Asks the resolver, which cannot be interrupted and hence has a thread; what the provider
    /// table knows stands in where it does not answer.
    fn resolve(
        &self,
        name: &str,
        port: u16,
        budget: &Budget<'_>,
    ) -> Result<Vec<SocketAddr>, Trouble> {
        let (sender, receiver) = mpsc::channel();
        let asked = name.to_owned();
        let work = move || {
            let found = (asked.as_str(), port).to_socket_addrs();
            let _ = sender.send(found.map(Iterator::collect::<Vec<_>>));
        };
        let thread = std::thread::Builder::new().name("resolver".to_owned()).spawn(work);
        // An initramfs has no resolver, and its C library waits for one all the same: whoever knows
        // the addresses anyway gives it a head start only.
        let known = &self.endpoint.traits.resolve;
        let limits = budget.limits;
        let until = budget.until(if known.is_empty() { limits.resolve } else { limits.head_start });
        let mut why = thread.err().map(|err| IoText(&err).to_string());
        let mut found = Vec::new();
        while why.is_none() && found.is_empty() {
            match receiver.recv_timeout(budget.left(until).min(TICK)) {
                Ok(Ok(addresses)) if addresses.is_empty() => why = Some("no address".to_owned()),
                Ok(Ok(addresses)) => found = addresses,
                Ok(Err(err)) => why = Some(err.to_string()),
                Err(RecvTimeoutError::Timeout) if budget.left(until).is_zero() => {
                    why = Some("no answer in time".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if budget.cancel.is_cancelled() => {
                    return Err(Trouble::cancelled());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => why = Some("resolver died".to_owned()),
            }
        }
        if let Some(why) = why {
            if known.is_empty() {
                return Err(Trouble::broken(format!("cannot resolve '{name}': {why}")));
            }
            log::debug!("Cannot resolve '{name}', using its known addresses: {why}");
            found = known.iter().map(|address| SocketAddr::new(*address, port)).collect();
        }
        Ok(interleaved(found))
    }
}

impl Connection {
    /// True where it can carry one more request.
    pub(super) fn is_idle(&self) -> bool {
        net::is_idle(&self.socket)
    }

    /// Sends a request and reads the answer. True where the connection can be used again.
    pub(super) fn exchange(
        &mut self,
        request: &[u8],
        limit: usize,
        budget: &Budget<'_>,
    ) -> Result<(Head, Vec<u8>, bool), Broken> {
        let mut until = budget.until(budget.limits.first_byte);
        self.send(request, until, budget)?;
        let mut reader = Reader::new(limit);
        let mut buffer = [0; 16 << 10];
        let mut received = 0;
        while !reader.is_complete() {
            match net::receive(&self.socket, &mut buffer) {
                Ok(0) => {
                    if received == 0 && self.is_used {
                        return Err(Broken::Stale);
                    }
                    reader.end().map_err(|err| self.malformed(err))?;
                }
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let used = reader.feed(bytes).map_err(|err| self.malformed(err))?;
                    received += count;
                    if used < count {
                        // Bytes nobody asked for: the connection is out of step.
                        let (head, body) = reader.into_parts();
                        return Ok((head, body, false));
                    }
                    let is_page = reader.head().is_some_and(|head| !head.is_success());
                    // The rest of an error page may take that long once, not between its bytes.
                    until = match is_page {
                        true => until.min(budget.until(PAGE)),
                        false => budget.until(budget.limits.idle),
                    };
                    // A server that never lets us wait is held to the limits as well.
                    if is_page && budget.left(until).is_zero() {
                        break;
                    }
                    self.check(until, false, budget)?;
                }
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                    let is_page = reader.head().is_some_and(|head| !head.is_success());
                    if is_page && budget.left(until).is_zero() {
                        break;
                    }
                    self.check(until, received == 0, budget)?;
                    let fds = [(self.socket.as_fd(), false)];
                    budget
                        .cancel
                        .wait(&fds, budget.left(until))
                        .map_err(|err| Broken::Trouble(cannot_wait(err)))?;
                }
                Err(err) => {
                    // The status of an error page is known, and all that matters.
                    if reader.head().is_some_and(|head| !head.is_success()) {
                        break;
                    }
                    return Err(self.failed(&err, received == 0));
                }
            }
        }
        self.is_used = true;
        let is_reusable = reader.is_reusable();
        let (head, body) = reader.into_parts();
        Ok((head, body, is_reusable))
    }

    fn send(&self, request: &[u8], until: Duration, budget: &Budget<'_>) -> Result<(), Broken> {
        let mut rest = request;
        while !rest.is_empty() {
            match net::send(&self.socket, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                    self.check(until, true, budget)?;
                    let fds = [(self.socket.as_fd(), true)];
                    budget
                        .cancel
                        .wait(&fds, budget.left(until))
                        .map_err(|err| Broken::Trouble(cannot_wait(err)))?;
                }
                Err(err) => return Err(self.failed(&err, true)),
            }
        }
        Ok(())
    }

    fn check(&self, until: Duration, is_silent: bool, budget: &Budget<'_>) -> Result<(), Broken> {
        let address = self.address;
        let what = || match is_silent {
            true => format!("no answer from {address} in time"),
            false => format!("answer from {address} stopped in the middle"),
        };
        budget.check(until, &what).map_err(|trouble| match is_silent {
            true => Broken::Silence(trouble),
            false => Broken::Trouble(trouble),
        })
    }

    fn failed(&self, err: &std::io::Error, is_nothing_there: bool) -> Broken {
        if is_nothing_there && self.is_used {
            return Broken::Stale;
        }
        let what = format!("connection to {} broke: {}", self.address, IoText(err));
        Broken::Trouble(Trouble::transient(what))
    }

    fn malformed(&self, why: Malformed) -> Broken {
        let what = format!("{why}, from {}", self.address);
        Broken::Trouble(match why {
            Malformed::Nothing | Malformed::Truncated => Trouble::transient(what),
            Malformed::TooLarge => Trouble::Final(Failure::System(E2BIG, what)),
            _ => Trouble::broken(what),
        })
    }
}

fn cannot_wait(err: std::io::Error) -> Trouble {
    Trouble::broken(format!("cannot wait: {}", IoText(&err)))
}

fn refused(address: SocketAddr, err: &std::io::Error) -> String {
    format!("cannot connect to {address}: {}", IoText(err))
}

/// Does this machine itself have the address? Then no interface can be chosen for it.
fn is_own(ctx: &Ctx, address: &SocketAddr) -> bool {
    if !net::is_own_address(address) {
        return false;
    }
    // Hosts that take over addresses of others may bind to any; there only the list tells.
    let family = if address.is_ipv6() { "ipv6" } else { "ipv4" };
    let switch = ctx.proc(format!("sys/net/{family}/ip_nonlocal_bind"));
    let is_certain = std::fs::read(switch).is_ok_and(|value| value.starts_with(b"0"));
    let is_listed = |link: &Link| link.addresses.contains(&address.ip());
    is_certain
        || address.ip().is_loopback()
        || interface::list().is_ok_and(|links| links.iter().any(is_listed))
}

/// The scope of a zone, which is an interface's index or name.
fn zone_index(zone: &str) -> Result<u32, Trouble> {
    if let Ok(index) = zone.parse() {
        return Ok(index);
    }
    net::interface_index(zone)
        .map_err(|err| Trouble::broken(format!("no interface '{zone}': {}", IoText(&err))))
}

/// Families in turn, beginning with the resolver's favourite.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_first_ipv6);
    let mut mixed = Vec::new();
    while mixed.len() < ADDRESSES_MAX && !(first.is_empty() && second.is_empty()) {
        mixed.extend(first.pop_front());
        mixed.extend(second.pop_front());
    }
    mixed
}

/// Source ports below 1024 in random order, so that one after the other is not the next to be in
/// TIME_WAIT.
fn low_ports(ctx: &Ctx) -> Vec<u16> {
    let mut ports: Vec<u16> =
        (1..=LOW_PORT_MAX).filter(|port| !LOW_PORTS_SPARED.contains(port)).collect();
    let random = ctx.random::<2048>();
    let draws = random.chunks_exact(2).map(|two| match *two {
        [low, high] => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    });
    for (last, draw) in (1..ports.len()).rev().zip(draws) {
        ports.swap(last, draw % (last + 1));
    }
    ports
}

/// Binds to the next port that nobody uses; false where none is left.
fn bind_low(socket: &OwnedFd, peer: &SocketAddr, ports: &mut Vec<u16>) -> Result<bool, Trouble> {
    while let Some(port) = ports.pop() {
        match net::bind_port(socket, peer, port) {
            Ok(()) => return Ok(true),
            Err(err) => match err.raw_os_error() {
                Some(EADDRINUSE | EADDRNOTAVAIL) => {}
                Some(EACCES) => {
                    return Err(Trouble::broken(
                        "this service answers to source ports below 1024 only, \
                         which takes CAP_NET_BIND_SERVICE: Permission denied",
                    ));
                }
                _ => return Err(Trouble::transient(refused(*peer, &err))),
            },
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_ports_come_in_any_order_and_spare_services_defect_22() {
        let ctx = Ctx::host([]);
        let (one, mut other) = (low_ports(&ctx), low_ports(&ctx));
        assert_ne!(one, other);
        assert!(LOW_PORTS_SPARED.iter().all(|port| !one.contains(port)));
        other.sort_unstable();
        assert_eq!(other.len(), 1020);
        assert_eq!((other.first(), other.last()), (Some(&1), Some(&1023)));
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>();
        let all = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]);
        assert_eq!(interleaved(all), parse(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1"]));
        assert_eq!(interleaved(parse(&["1.0.0.1:1"])), parse(&["1.0.0.1:1"]));
    }

    #[test]
    fn a_hint_is_believed_only_where_the_local_address_agrees_defect_16() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ctx = Ctx::host([]);
        let (limits, cancel) = (super::super::Limits::default(), super::super::Cancel::new());
        let budget = Budget::new(&ctx, &limits, &cancel);
        let checked = |index: u32, tie: Tie| {
            let interface = Some(crate::net::Interface { index, name: "x".into() });
            let route = Route { interface, mark: Mark::Off };
            let endpoint = Endpoint::default();
            let names = Names::default();
            let dialer =
                Dialer { endpoint: &endpoint, route: &route, preferred: None, names: &names };
            let racer = dialer.start(address, false, &budget).unwrap();
            net::wait(&[(racer.socket.as_fd(), true)], Duration::from_secs(10)).unwrap();
            dialer.check_local(&Racer { tie: Some(tie), ..racer })
        };
        let lo = net::interface_index("lo").unwrap();
        assert_eq!(checked(lo, Tie::Hint), Ok(()));
        let text = "127.0.0.1 is not reached through 'x'".to_owned();
        assert_eq!(checked(4_000_000, Tie::Hint), Err(text));
        assert_eq!(checked(4_000_000, Tie::Device), Ok(()), "the kernel has seen to it");
    }

    #[test]
    fn a_name_is_looked_up_once() {
        let (ctx, cancel) = (Ctx::host([]), super::super::Cancel::new());
        let (endpoint, route, names) = (Endpoint::default(), Route::default(), Names::default());
        let dialer = Dialer { endpoint: &endpoint, route: &route, preferred: None, names: &names };
        let server = Server { host: Host::Name("localhost".to_owned()), port: 7 };
        let addresses = |resolve: Duration| {
            let limits = super::super::Limits { resolve, ..super::super::Limits::default() };
            dialer.addresses(&server, &Budget::new(&ctx, &limits, &cancel))
        };
        let first = addresses(Duration::from_secs(30)).unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        // No resolver answers in no time.
        assert_eq!(addresses(Duration::ZERO), Ok(first));
    }

    #[test]
    fn zones_are_names_or_indices() {
        assert_eq!(zone_index("7"), Ok(7));
        assert_eq!(zone_index("lo").ok(), net::interface_index("lo").ok());
        assert!(zone_index("slipway-none").is_err());
    }
}
