//! Routes and routing rules: listing, adding, removing, and the way to an address.

use std::net::IpAddr;

use rustix::io::Errno;

use crate::error::{Context as _, Result};
use crate::format::netlink::Builder;
use crate::format::netlink::rtnl;
pub use crate::format::netlink::rtnl::{
    Action, Family, LOCAL, Route, Rule, SCOPE_HOST, SCOPE_LINK, SCOPE_UNIVERSE, TABLE_MAIN, UNICAST,
};
use crate::sys::netlink::Protocol;

/// All routes of a family; none where the kernel does not have the family.
///
/// # Errors
/// The kernel does not tell.
pub fn routes(family: Family) -> Result<Vec<Route>> {
    list(&rtnl::list_routes(family), &mut rtnl::route).context(|| "Failed to list routes".into())
}

/// All rules of a family whose like can be said in a [`Rule`]; none where the kernel does not have
/// the family, or no rules.
///
/// # Errors
/// The kernel does not tell.
pub fn rules(family: Family) -> Result<Vec<Rule>> {
    list(&rtnl::list_rules(family), &mut rtnl::rule)
        .context(|| "Failed to list routing rules".into())
}

fn list<T>(
    request: &Builder,
    read: &mut dyn FnMut(&crate::format::netlink::Message<'_>) -> Option<T>,
) -> Result<Vec<T>> {
    match super::exchange(Protocol::Route, request, false, read) {
        Err(err) if is_unknown_family(err.errno()) => Ok(Vec::new()),
        result => result,
    }
}

fn is_unknown_family(errno: Option<i32>) -> bool {
    [Errno::AFNOSUPPORT, Errno::OPNOTSUPP].iter().any(|known| errno == Some(known.raw_os_error()))
}

/// Makes a route.
///
/// # Errors
/// `EEXIST`: there is one like it in everything; and the kernel's refusals.
pub fn add(route: &Route) -> Result<()> {
    send(&rtnl::add_route(route))
}

/// Removes a route.
///
/// # Errors
/// `ESRCH`: there is none; and the kernel's refusals.
pub fn remove(route: &Route) -> Result<()> {
    send(&rtnl::remove_route(route))
}

/// Makes a rule.
///
/// # Errors
/// `EEXIST`: there is one like it in everything; and the kernel's refusals.
pub fn add_rule(rule: &Rule) -> Result<()> {
    send(&rtnl::add_rule(rule))
}

/// Removes a rule.
///
/// # Errors
/// `ENOENT`: there is none; and the kernel's refusals.
pub fn remove_rule(rule: &Rule) -> Result<()> {
    send(&rtnl::remove_rule(rule))
}

fn send(request: &Builder) -> Result<()> {
    super::exchange(Protocol::Route, request, false, &mut |_| None::<()>).map(drop)
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub interface: u32,
    /// The next machine; none where the address is on the link.
    pub gateway: Option<IpAddr>,
    /// Is the next machine on the link, whatever the addresses say?
    pub is_onlink: bool,
}

/// How packets without a mark would get to an address by the main table, through one interface
/// only if one is given: the longest prefix, then the lowest metric. Only ways count: a route that
/// forbids does not hide the one behind it.
pub fn next_hop(routes: &[Route], destination: IpAddr, interface: Option<u32>) -> Option<Hop> {
    routes
        .iter()
        .filter(|route| route.table == TABLE_MAIN && route.kind == UNICAST)
        .filter(|route| interface.is_none() || route.interface == interface)
        .filter(|route| covers(route, destination))
        .min_by_key(|route| (std::cmp::Reverse(route.prefix), route.metric))
        .and_then(|route| {
            let interface = route.interface?;
            Some(Hop { interface, gateway: route.gateway, is_onlink: route.is_onlink })
        })
}

fn covers(route: &Route, address: IpAddr) -> bool {
    let prefix = u32::from(route.prefix);
    match (route.destination, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            let differs = net.to_bits() ^ address.to_bits();
            differs.leading_zeros() >= prefix
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => {
            let differs = net.to_bits() ^ address.to_bits();
            differs.leading_zeros() >= prefix
        }
        _ => false,
    }
}
