//! Network interfaces: by name, alternative name or index, and the list of them with addresses.
//!
//! The list begins with what is most likely the way out: hardware before software, Ethernet
//! before the rest, switched on before off, and the loopback interface at the end.

use std::cmp::Reverse;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::format::netlink::{Builder, rtnl};
use crate::sys::netlink::Protocol;

/// LIMIT: bytes of a name, IFNAMSIZ less the NUL.
const NAME_MAX: usize = 15;
/// LIMIT: bytes of an alternative name, ALTIFNAMSIZ less the NUL.
const ALTERNATIVE_NAME_MAX: usize = 127;

/// One network interface. The index stays when the name changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interface {
    /// Above zero.
    pub index: u32,
    /// `eth0`, as it was when asked.
    pub name: String,
}

/// An interface and what there is to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index and name.
    pub interface: Interface,
    /// Other names of it.
    pub alternative_names: Vec<String>,
    /// What made it, where software did: `veth`, `bridge`.
    pub kind: Option<String>,
    /// Does it lead back to this machine?
    pub is_loopback: bool,
    /// Is it switched on?
    pub is_up: bool,
    /// Does it speak Ethernet?
    pub is_ethernet: bool,
    /// Its addresses, in the kernel's order; those that cannot be used yet are not there.
    pub addresses: Vec<IpAddr>,
}

impl Link {
    fn new(link: rtnl::Link) -> Self {
        Self {
            interface: Interface { index: link.index, name: link.name },
            alternative_names: link.alternative_names,
            kind: link.kind,
            is_loopback: link.is_loopback,
            is_up: link.is_up,
            is_ethernet: link.is_ethernet,
            addresses: Vec::new(),
        }
    }

    /// Has it an address of the same family?
    pub fn speaks(&self, family: rtnl::Family) -> bool {
        self.addresses.iter().any(|address| rtnl::Family::of(*address) == family)
    }

    /// What comes first in a list.
    fn rank(&self) -> impl Ord + use<> {
        (
            self.is_loopback,
            self.kind.is_some(),
            Reverse(self.is_ethernet),
            Reverse(self.is_up),
            self.interface.index,
        )
    }
}

/// Could this be the name or alternative name of an interface?
pub fn is_valid_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/' | b'%');
    !text.is_empty()
        && text.len() <= ALTERNATIVE_NAME_MAX
        && !matches!(text, "." | ".." | "all" | "default")
        && text.bytes().all(is_plain)
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The interface with this name, alternative name or index.
///
/// # Errors
/// `ENODEV`: there is none; `EINVAL`: the text cannot be a name.
pub fn resolve(text: &str) -> Result<Interface> {
    let failed =
        |errno| Error::errno_because(format!("Failed to resolve interface \"{text}\""), errno);
    if let Some(index) = parse_index(text) {
        return by_index(index).map_err(|err| failed(err.errno().unwrap_or_default()));
    }
    if !is_valid_name(text) {
        return Err(failed(Errno::INVAL.raw_os_error()));
    }
    let mut found = Err(Error::errno_because("", Errno::NODEV.raw_os_error()));
    if text.len() <= NAME_MAX {
        found = one(&rtnl::link_named(text, false));
    }
    if found.is_err() {
        // EINVAL: kernels before 5.5 know no alternative names.
        found = one(&rtnl::link_named(text, true));
    }
    found.map_err(|err| match err.errno() {
        Some(errno) if errno != Errno::INVAL.raw_os_error() => failed(errno),
        _ => failed(Errno::NODEV.raw_os_error()),
    })
}

/// The interface with this index.
///
/// # Errors
/// `ENODEV`: there is none.
pub fn by_index(index: u32) -> Result<Interface> {
    one(&rtnl::link_numbered(index)).map_err(|err| {
        let errno = err.errno().unwrap_or_default();
        Error::errno_because(format!("Failed to find interface {index}"), errno)
    })
}

fn parse_index(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|index| is_number && *index > 0 && i32::try_from(*index).is_ok())
}

fn one(request: &Builder) -> Result<Interface> {
    let links = super::exchange(Protocol::Route, request, true, &mut |message| {
        rtnl::link(message).map(|link| Interface { index: link.index, name: link.name })
    })?;
    let found = links.into_iter().next();
    found.ok_or_else(|| Error::errno_because("No answer", Errno::NODEV.raw_os_error()))
}

/// All interfaces with their addresses, the best first.
///
/// # Errors
/// The kernel does not tell.
pub fn list() -> Result<Vec<Link>> {
    let links = super::exchange(Protocol::Route, &rtnl::list_links(), false, &mut rtnl::link)?;
    let request = rtnl::list_addresses();
    let addresses = super::exchange(Protocol::Route, &request, false, &mut rtnl::address)?;
    Ok(join(links, addresses))
}

fn join(links: Vec<rtnl::Link>, addresses: Vec<rtnl::Address>) -> Vec<Link> {
    let mut links: Vec<Link> = links.into_iter().map(Link::new).collect();
    for address in addresses.into_iter().filter(|address| !address.is_tentative) {
        let owner = links.iter_mut().find(|link| link.interface.index == address.interface);
        if let Some(link) = owner {
            link.addresses.push(address.address);
        }
    }
    links.sort_by_key(Link::rank);
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_kernel_takes_and_numbers_are_indices() {
        let long = "x".repeat(127);
        for good in ["eth0", "a", "enp3s0f1np1", long.as_str(), "1a", "-"] {
            assert!(is_valid_name(good), "{good}");
        }
        let long = "x".repeat(128);
        for bad in ["", ".", "..", "all", "default", "a b", "a/b", "a:b", "a%b", "ä", "7", &long] {
            assert!(!is_valid_name(bad), "{bad}");
        }
        assert_eq!(parse_index("7"), Some(7));
        for bad in ["0", "+7", "-1", "", "2147483648", "4294967297", "eth0"] {
            assert_eq!(parse_index(bad), None, "{bad}");
        }
    }

    #[test]
    fn hardware_comes_first_and_loopback_last() {
        let link = |index, kind: Option<&str>, is_ethernet, is_up| rtnl::Link {
            index,
            name: format!("n{index}"),
            kind: kind.map(str::to_owned),
            is_up,
            is_loopback: index == 1,
            is_ethernet,
            ..rtnl::Link::default()
        };
        let links = vec![
            link(1, None, false, true),
            link(2, Some("bridge"), true, true),
            link(3, None, false, true),
            link(4, None, true, false),
            link(5, None, true, true),
        ];
        let address = |interface, text: &str, is_tentative| rtnl::Address {
            interface,
            address: text.parse().unwrap(),
            is_tentative,
        };
        let addresses = vec![
            address(5, "192.0.2.1", false),
            address(5, "2001:db8::1", true),
            address(9, "192.0.2.9", false),
            address(5, "192.0.2.2", false),
        ];
        let list = join(links, addresses);
        let order: Vec<u32> = list.iter().map(|link| link.interface.index).collect();
        assert_eq!(order, [5, 4, 3, 2, 1]);
        let expected: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap()).into();
        assert_eq!(list[0].addresses, expected);
    }

    #[test]
    fn the_loopback_interface_is_found_by_name_and_index() {
        let lo = resolve("lo").unwrap();
        assert_eq!(lo, Interface { index: 1, name: "lo".into() });
        assert_eq!(resolve("1").unwrap(), lo);
        assert_eq!(by_index(1).unwrap(), lo);
        let last = list().unwrap().pop().unwrap();
        assert!(last.is_loopback && last.interface == lo);
    }

    #[test]
    fn a_missing_interface_is_named_in_the_error() {
        let err = resolve("nosuchdev0").unwrap_err();
        assert_eq!(err.to_string(), "Failed to resolve interface \"nosuchdev0\": No such device");
        for missing in ["2000000000", "a-name-that-is-longer-than-fifteen-bytes"] {
            let expected = format!("Failed to resolve interface \"{missing}\": No such device");
            assert_eq!(resolve(missing).unwrap_err().to_string(), expected);
        }
        assert_eq!(resolve("a b").unwrap_err().errno(), Some(22));
    }
}
