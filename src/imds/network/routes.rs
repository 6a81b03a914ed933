//! The same in the kernel, for systems without systemd-networkd.
//!
//! A table of our own has routes to each address of the service, and a rule sends there what
//! carries the mark. The next hop is copied from the main table: on some clouds the service
//! answers through the gateway only. Where the main table knows no way it is on the link.
//!
//! DIFFERS: the peer locks with a prohibit route in the main table. For IPv4 that locks itself out
//! where `rp_filter` is on, as most distributions have it: the kernel looks up the way back of the
//! service's answer without a mark, meets the prohibit route and drops the answer. Here rules
//! lock, and let that one look-up through; they also win over any route to the service that DHCP
//! may bring. In order of priority:
//!
//! | packets to the service | |
//! |---|---|
//! | with the mark | our table |
//! | of users other than root, bound to a network card | a table without a way out |
//! | of users other than root | prohibited |
//! | of root, from no address yet: every connection that is not bound | prohibited |
//! | of this machine: the look-up of the way back, which is root's and has an address | our table |
//! | the rest: forwarded ones | prohibited |
//!
//! The second row is there because Linux believes an IPv4 socket that is bound to an interface
//! (SO_BINDTODEVICE, IP_UNICAST_IF, both for everybody) that every address for which it finds no
//! way is on the link, and a prohibition is no way. A route that says "this is my own address" is
//! one, and connecting to that fails with "Network is unreachable".
//!
//! IPv6 has neither and needs the last row only. What is ours is known by its protocol
//! number; nothing else is ever removed.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use rustix::io::Errno;

use super::super::model::{Endpoint, FIREWALL_MARK};
use super::{Mode, addresses, complaint};
use crate::error::{Error, Result};
use crate::net::interface::{self, Interface, Link};
use crate::net::route::{
    self, Action, Family, Hop, LOCAL, Route, Rule, SCOPE_HOST, SCOPE_LINK, SCOPE_UNIVERSE, UNICAST,
};

/// Who made our routes and rules. Not one of the numbers that are given out
/// (`/etc/iproute2/rt_protos`).
pub const PROTOCOL: u8 = 73;

/// The number of the first of our rules, below that of the main table's (32766).
const PRIORITY: u32 = 30815;
const PRIORITY_BOUND: u32 = PRIORITY + 1;
const PRIORITY_USERS: u32 = PRIORITY + 2;
const PRIORITY_ROOT: u32 = PRIORITY + 3;
const PRIORITY_BACK: u32 = PRIORITY + 4;
const PRIORITY_REST: u32 = PRIORITY + 5;

/// The table without a way out.
const TABLE_DEAD_END: u32 = FIREWALL_MARK + 1;

/// Everybody but root; the number after the last one means nobody.
const USERS: (u32, u32) = (1, u32::MAX - 1);

/// What the kernel gives an IPv6 route that has no metric.
const METRIC_IPV6: u32 = 1024;

/// What the kernel has now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The best first.
    pub links: Vec<Link>,
    /// Of both families.
    pub routes: Vec<Route>,
    /// Of both families.
    pub rules: Vec<Rule>,
}

impl State {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It does not tell.
    pub fn read() -> Result<Self> {
        let mut state = Self { links: interface::list()?, ..Self::default() };
        for family in Family::ALL {
            state.routes.extend(route::routes(family)?);
            state.rules.extend(route::rules(family)?);
        }
        Ok(state)
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.interface.index == index)
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A route appears.
    AddRoute(Route),
    /// A route goes.
    RemoveRoute(Route),
    /// A rule appears.
    AddRule(Rule),
    /// A rule goes.
    RemoveRule(Rule),
}

/// One step, and the same as a command line of ip(8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub change: Change,
    /// How to say it.
    pub command: String,
}

/// What to change, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePlan {
    /// None where all is as it shall be.
    pub steps: Vec<Step>,
    /// What the user should know before.
    pub warnings: Vec<String>,
}

impl fmt::Display for RoutePlan {
    /// As a dry run shows it: warnings as comments, then one command a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.warnings.iter().try_for_each(|warning| writeln!(f, "# {warning}"))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", step.command))
    }
}

/// The difference between what an endpoint needs and what is there. The service is reached
/// through `interface`; where none is given, through the one that the main table leads to, or the
/// best one, and after it through all other network cards.
pub fn plan_routes(
    endpoint: &Endpoint,
    mode: Mode,
    interface: Option<&Interface>,
    state: &State,
) -> RoutePlan {
    let mut plan = RoutePlan::default();
    let (mut routes, mut rules) = (Vec::new(), Vec::new());
    if mode != Mode::Off {
        plan.warnings.extend(complaint(endpoint, mode));
        // A mock or tunnel on this machine needs no route.
        for address in addresses(endpoint).filter(|address| !address.is_loopback()) {
            let family = Family::of(address);
            // Every kernel that has IPv6 has rules for it.
            if family == Family::V6 && !state.rules.iter().any(|rule| rule.family == family) {
                continue;
            }
            let mut ways = Vec::new();
            match first_way(address, interface, state) {
                Ok(first) => {
                    if interface.is_none() {
                        ways = other_ways(address, &first, state);
                    }
                    ways.push(first);
                }
                Err(Some(warning)) => plan.warnings.push(warning),
                Err(None) => {}
            }
            rules.extend(wanted_rules(address, mode));
            if mode == Mode::Locked && family == Family::V4 {
                for (route, rule) in ways.iter().filter_map(|way| dead_end(way, state)) {
                    routes.push(route);
                    rules.push(rule);
                }
            }
            routes.extend(ways);
        }
    }
    difference(&mut plan, state, &routes, &rules);
    plan
}

/// Everything of ours goes.
pub fn plan_removal(state: &State) -> RoutePlan {
    let mut plan = RoutePlan::default();
    difference(&mut plan, state, &[], &[]);
    plan
}

/// What is ours and not wanted goes first, locks before ways; then ways come before locks, so that
/// whatever stops us midway, marked requests get through.
fn difference(plan: &mut RoutePlan, state: &State, routes: &[Route], rules: &[Rule]) {
    let mut steps = Vec::new();
    let mut stale: Vec<&Rule> = state.rules.iter().filter(|rule| is_own_rule(rule)).collect();
    stale.retain(|rule| !rules.iter().any(|wanted| is_same_rule(wanted, rule)));
    stale.sort_by_key(|rule| std::cmp::Reverse(rule.priority));
    steps.extend(stale.into_iter().cloned().map(Change::RemoveRule));
    let stale = state.routes.iter().filter(|route| is_own_route(route));
    let stale = stale.filter(|route| !routes.iter().any(|wanted| is_same_route(wanted, route)));
    steps.extend(stale.cloned().map(Change::RemoveRoute));
    let missing = routes.iter().filter(|wanted| !has_route(state, wanted));
    steps.extend(missing.cloned().map(Change::AddRoute));
    let is_there = |wanted: &Rule| state.rules.iter().any(|rule| is_same_rule(wanted, rule));
    let mut missing: Vec<&Rule> = rules.iter().filter(|wanted| !is_there(wanted)).collect();
    missing.sort_by_key(|rule| rule.priority);
    steps.extend(missing.into_iter().cloned().map(Change::AddRule));
    for change in steps {
        let command = command(&change, state);
        plan.steps.push(Step { change, command });
    }
}

fn is_own_rule(rule: &Rule) -> bool {
    rule.protocol == PROTOCOL && (PRIORITY..=PRIORITY_REST).contains(&rule.priority)
}

fn is_own_route(route: &Route) -> bool {
    route.protocol == PROTOCOL && [FIREWALL_MARK, TABLE_DEAD_END].contains(&route.table)
}

/// Somebody else's that does the same is as good.
fn is_same_rule(a: &Rule, b: &Rule) -> bool {
    *a == Rule { protocol: a.protocol, ..b.clone() }
}

fn is_same_route(a: &Route, b: &Route) -> bool {
    *a == Route { protocol: a.protocol, ..b.clone() }
}

fn has_route(state: &State, wanted: &Route) -> bool {
    state.routes.iter().any(|route| is_same_route(wanted, route))
}

/// The best route to an address in our table; a warning, or nothing, where there can be none now.
fn first_way(
    address: IpAddr,
    interface: Option<&Interface>,
    state: &State,
) -> Result<Route, Option<String>> {
    let family = Family::of(address);
    let hop = route::next_hop(&state.routes, address, interface.map(|wanted| wanted.index));
    let link = match (interface, hop) {
        (Some(wanted), _) => state.link(wanted.index),
        (None, Some(hop)) => state.link(hop.interface),
        (None, None) => best(&state.links, family),
    };
    let Some(link) = link else {
        return Err(Some(format!("No network interface leads to {address} yet; run again later.")));
    };
    let name = &link.interface.name;
    if !link.is_up {
        let warning = format!("Interface '{name}' is down, no route to {address} yet.");
        return Err(Some(warning));
    }
    // An interface without an IPv6 address may have IPv6 switched off; it leads nowhere anyway.
    if family == Family::V6 && !link.speaks(family) {
        log::debug!("Interface '{name}' has no IPv6 address, no route to {address}.");
        return Err(None);
    }
    Ok(through(address, link, hop, 0))
}

/// The routes through all other network cards, each less good than the one before: a request that
/// is bound to one of them finds its way too, and so do all when the first one goes down. As in
/// the peer's file, interfaces that software made do not count.
fn other_ways(address: IpAddr, first: &Route, state: &State) -> Vec<Route> {
    let is_card = |link: &&Link| {
        link.kind.is_none() && link.is_ethernet && link.is_up && link.speaks(Family::of(address))
    };
    let others = state.links.iter().filter(is_card);
    let others = others.filter(|link| first.interface != Some(link.interface.index));
    let way = |(rank, link): (u32, &Link)| {
        let hop = route::next_hop(&state.routes, address, Some(link.interface.index));
        through(address, link, hop, rank)
    };
    (1..).zip(others).map(way).collect()
}

/// A route in our table; without a hop the address is on the link.
fn through(address: IpAddr, link: &Link, hop: Option<Hop>, rank: u32) -> Route {
    let family = Family::of(address);
    let gateway = hop.and_then(|hop| hop.gateway);
    let (scope, metric) = match (family, gateway) {
        (Family::V4, None) => (SCOPE_LINK, rank),
        (Family::V4, Some(_)) => (SCOPE_UNIVERSE, rank),
        (Family::V6, _) => (SCOPE_UNIVERSE, METRIC_IPV6 + rank),
    };
    Route {
        destination: address,
        prefix: family.bits(),
        table: FIREWALL_MARK,
        protocol: PROTOCOL,
        scope,
        kind: UNICAST,
        gateway,
        is_onlink: hop.is_some_and(|hop| hop.is_onlink),
        interface: Some(link.interface.index),
        metric,
    }
}

/// The first that has an address of the family, else the first that is switched on, else the
/// first. The list has the best ones first.
fn best(links: &[Link], family: Family) -> Option<&Link> {
    let mut links: Vec<&Link> = links.iter().filter(|link| !link.is_loopback).collect();
    links.sort_by_key(|link| (!link.is_up, !link.speaks(family)));
    links.into_iter().next()
}

/// What keeps sockets that are bound to the interface of a way from taking it.
fn dead_end(way: &Route, state: &State) -> Option<(Route, Rule)> {
    let name = &state.link(way.interface?)?.interface.name;
    let route = Route {
        table: TABLE_DEAD_END,
        scope: SCOPE_HOST,
        kind: LOCAL,
        gateway: None,
        is_onlink: false,
        ..way.clone()
    };
    let rule = Rule {
        priority: PRIORITY_BOUND,
        action: Action::Table(TABLE_DEAD_END),
        bound_to: Some(name.clone()),
        users: Some(USERS),
        ..prohibition(way.destination)
    };
    Some((route, rule))
}

/// Nobody may send packets to an address.
fn prohibition(address: IpAddr) -> Rule {
    Rule {
        family: Family::of(address),
        priority: PRIORITY_REST,
        action: Action::Prohibit,
        protocol: PROTOCOL,
        mark: None,
        from: None,
        to: Some(address),
        is_own: false,
        bound_to: None,
        users: None,
    }
}

fn wanted_rules(address: IpAddr, mode: Mode) -> Vec<Rule> {
    let rule = prohibition(address);
    let table = Action::Table(FIREWALL_MARK);
    let mark = Some(FIREWALL_MARK);
    let priority = PRIORITY;
    let mut rules = vec![Rule { priority, action: table, mark, to: None, ..rule.clone() }];
    if mode != Mode::Locked {
        return rules;
    }
    if rule.family == Family::V4 {
        let from = Some(Ipv4Addr::UNSPECIFIED.into());
        rules.extend([
            Rule { priority: PRIORITY_USERS, users: Some(USERS), ..rule.clone() },
            Rule { priority: PRIORITY_ROOT, from, ..rule.clone() },
            Rule { priority: PRIORITY_BACK, action: table, is_own: true, ..rule.clone() },
        ]);
    }
    rules.push(rule);
    rules
}

fn command(change: &Change, state: &State) -> String {
    let (verb, address) = match change {
        Change::AddRoute(route) => ("route add", route.destination),
        Change::RemoveRoute(route) => ("route del", route.destination),
        Change::AddRule(rule) => ("rule add", any(rule.family)),
        Change::RemoveRule(rule) => ("rule del", any(rule.family)),
    };
    let mut text = format!("ip {}{verb}", if address.is_ipv6() { "-6 " } else { "" });
    match change {
        Change::AddRoute(route) | Change::RemoveRoute(route) => {
            route_words(&mut text, route, state);
        }
        Change::AddRule(rule) | Change::RemoveRule(rule) => rule_words(&mut text, rule),
    }
    text
}

fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn route_words(text: &mut String, route: &Route, state: &State) {
    let kind = if route.kind == LOCAL { " local" } else { "" };
    let _ = write!(text, "{kind} {}/{}", route.destination, route.prefix);
    if let Some(gateway) = route.gateway {
        let is_other = gateway.is_ipv6() != route.destination.is_ipv6();
        let _ = write!(text, " via {}{gateway}", if is_other { "inet6 " } else { "" });
    }
    if let Some(index) = route.interface {
        let name =
            state.link(index).map_or_else(|| index.to_string(), |l| l.interface.name.clone());
        let _ = write!(text, " dev {name}");
    }
    if route.scope == SCOPE_LINK {
        text.push_str(" scope link");
    }
    if route.is_onlink {
        text.push_str(" onlink");
    }
    if route.metric > 0 {
        let _ = write!(text, " metric {}", route.metric);
    }
    let _ = write!(text, " table 0x{:x} proto {}", route.table, route.protocol);
}

fn rule_words(text: &mut String, rule: &Rule) {
    let _ = write!(text, " pref {}", rule.priority);
    let bits = rule.family.bits();
    for (word, address) in [("from", rule.from), ("to", rule.to)] {
        if let Some(address) = address {
            let _ = write!(text, " {word} {address}/{bits}");
        }
    }
    if let Some(mark) = rule.mark {
        let _ = write!(text, " fwmark 0x{mark:x}");
    }
    if rule.is_own {
        text.push_str(" iif lo");
    }
    if let Some(name) = &rule.bound_to {
        let _ = write!(text, " oif {name}");
    }
    if let Some((first, last)) = rule.users {
        let _ = write!(text, " uidrange {first}-{last}");
    }
    match rule.action {
        Action::Table(table) => {
            let _ = write!(text, " table 0x{table:x}");
        }
        Action::Prohibit => text.push_str(" prohibit"),
    }
    let _ = write!(text, " proto {}", rule.protocol);
}

/// Does the steps. What is done already, and what is gone already, is fine.
///
/// # Errors
/// The kernel's refusal of a step; those before it stay done.
pub fn apply_routes(plan: &RoutePlan) -> Result<()> {
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    for step in &plan.steps {
        let (result, fine) = match &step.change {
            Change::AddRoute(one) => (route::add(one), Errno::EXIST),
            Change::AddRule(one) => (route::add_rule(one), Errno::EXIST),
            Change::RemoveRoute(one) => (route::remove(one), Errno::SRCH),
            Change::RemoveRule(one) => (route::remove_rule(one), Errno::NOENT),
        };
        match result {
            Err(err) if err.errno() == Some(fine.raw_os_error()) => {}
            Err(err) => {
                let is_forbidden = err.errno() == Some(Errno::PERM.raw_os_error());
                let err = Error::because(format!("Failed to do '{}'", step.command), err);
                return Err(match is_forbidden {
                    true => err.hint("Changing routes needs CAP_NET_ADMIN."),
                    false => err,
                });
            }
            Ok(()) => log::debug!("Done: {}", step.command),
        }
    }
    Ok(())
}

/// Removes all of ours from the kernel.
///
/// # Errors
/// The kernel's refusal of a step; those before it stay done.
pub fn remove_routes() -> Result<()> {
    apply_routes(&plan_removal(&State::read()?))
}
