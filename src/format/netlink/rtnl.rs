//! Links, addresses, routes and routing rules as rtnetlink carries them.
//!
//! Only what we ask for and set is understood. A route or rule that does something beyond that
//! (source-dependent, by type of service, negated) is no value of these types, so that it cannot
//! be mistaken for one of ours.
//!
//! External spec: rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`, `linux/fib_rules.h` of
//! Linux 6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ACK, Builder, CREATE, DUMP, Message, REQUEST, array, attributes, u16_at, u32_at};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

/// struct ifinfomsg
const LINK: usize = 16;
/// struct ifaddrmsg
const ADDRESS: usize = 8;
/// struct rtmsg and struct fib_rule_hdr
const ROUTE: usize = 12;
/// struct rtnexthop
const HOP: usize = 8;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const ARPHRD_ETHER: u16 = 1;
const IFA_F_TENTATIVE: u32 = 0x40;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_DEAD: u8 = 1;
const RTNH_F_ONLINK: u8 = 4;
const FIB_RULE_INVERT: u32 = 2;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_PROHIBIT: u8 = 8;
/// The name that the loopback interface has in every network namespace.
const LOOPBACK: &str = "lo";

/// The table that a lookup without a rule of its own uses.
pub const TABLE_MAIN: u32 = 254;
/// Route type: there is a way.
pub const UNICAST: u8 = 1;
/// Route type: this machine itself.
pub const LOCAL: u8 = 2;
/// Scope of what is on this machine.
pub const SCOPE_HOST: u8 = 254;
/// Scope of what may be anywhere.
pub const SCOPE_UNIVERSE: u8 = 0;
/// Scope of what is on the link.
pub const SCOPE_LINK: u8 = 253;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AF_INET
    V4,
    /// AF_INET6
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bits of an address: the prefix of one address alone.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }

    fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn address(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Self::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            Self::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Above zero.
    pub index: u32,
    /// `eth0`
    pub name: String,
    /// Other names of the same interface.
    pub alternative_names: Vec<String>,
    /// What made it, where software did: `veth`, `bridge`.
    pub kind: Option<String>,
    /// Is it switched on?
    pub is_up: bool,
    /// Does it lead back to this machine?
    pub is_loopback: bool,
    /// Does it speak Ethernet?
    pub is_ethernet: bool,
}

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface it belongs to.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// Is the kernel still finding out whether somebody else has it? It cannot be used before.
    pub is_tentative: bool,
}

/// A route. Multipath routes are known by their first living hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpAddr,
    /// How many bits of it count.
    pub prefix: u8,
    /// The table it is in.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// SCOPE_…
    pub scope: u8,
    /// UNICAST, or a type that is no way at all.
    pub kind: u8,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Is the next hop on the link, whatever the addresses say?
    pub is_onlink: bool,
    /// The interface.
    pub interface: Option<u32>,
    /// The lowest counts; zero where not set.
    pub metric: u32,
}

/// What a routing rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look into this table, and go on where it has no way.
    Table(u32),
    /// "Permission denied"
    Prohibit,
}

/// A routing rule. Whatever is not set matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The packets' family.
    pub family: Family,
    /// Rules with low numbers are asked first.
    pub priority: u32,
    /// What to do.
    pub action: Action,
    /// Who made it.
    pub protocol: u8,
    /// Packets with this mark.
    pub mark: Option<u32>,
    /// Packets from this one address; the unspecified one where the sender has not chosen yet.
    pub from: Option<IpAddr>,
    /// Packets to this one address.
    pub to: Option<IpAddr>,
    /// Packets of this machine only, not those it forwards.
    pub is_own: bool,
    /// Packets of sockets that are bound to the interface with this name.
    pub bound_to: Option<String>,
    /// Packets of users with these numbers, first and last.
    pub users: Option<(u32, u32)>,
}

/// Asks for all links.
pub fn list_links() -> Builder {
    Builder::new(RTM_GETLINK, REQUEST | DUMP, &[0; LINK])
}

/// Asks for one link by its name; an alternative one where `is_alternative`.
pub fn link_named(name: &str, is_alternative: bool) -> Builder {
    let kind = if is_alternative { IFLA_ALT_IFNAME } else { IFLA_IFNAME };
    Builder::new(RTM_GETLINK, REQUEST, &[0; LINK]).text(kind, name)
}

/// Asks for one link by its index.
pub fn link_numbered(index: u32) -> Builder {
    let mut head = [0; LINK];
    super::put(&mut head, 4, &index.to_ne_bytes());
    Builder::new(RTM_GETLINK, REQUEST, &head)
}

/// Asks for all addresses.
pub fn list_addresses() -> Builder {
    Builder::new(RTM_GETADDR, REQUEST | DUMP, &[0; ADDRESS])
}

/// Asks for all routes of all tables of a family.
pub fn list_routes(family: Family) -> Builder {
    let mut head = [0; ROUTE];
    super::put(&mut head, 0, &[family.number()]);
    Builder::new(RTM_GETROUTE, REQUEST | DUMP, &head)
}

/// Asks for all rules of a family.
pub fn list_rules(family: Family) -> Builder {
    let mut head = [0; ROUTE];
    super::put(&mut head, 0, &[family.number()]);
    Builder::new(RTM_GETRULE, REQUEST | DUMP, &head)
}

/// Makes a route; before others to the same place, if there are some.
pub fn add_route(route: &Route) -> Builder {
    route_message(RTM_NEWROUTE, REQUEST | ACK | CREATE, route)
}

/// Removes a route that is like this one in everything.
pub fn remove_route(route: &Route) -> Builder {
    route_message(RTM_DELROUTE, REQUEST | ACK, route)
}

/// Makes a rule.
pub fn add_rule(rule: &Rule) -> Builder {
    rule_message(RTM_NEWRULE, REQUEST | ACK | CREATE | super::EXCLUSIVE, rule)
}

/// Removes a rule that is like this one in everything.
pub fn remove_rule(rule: &Rule) -> Builder {
    rule_message(RTM_DELRULE, REQUEST | ACK, rule)
}

fn route_message(kind: u16, flags: u16, route: &Route) -> Builder {
    let family = Family::of(route.destination);
    let mut head = vec![family.number(), route.prefix, 0, 0];
    head.extend([small_table(route.table), route.protocol, route.scope, route.kind]);
    let onlink = if route.is_onlink { RTNH_F_ONLINK } else { 0 };
    head.extend_from_slice(&u32::from(onlink).to_ne_bytes());
    let mut builder = Builder::new(kind, flags, &head).number(RTA_TABLE, route.table);
    if route.prefix > 0 {
        builder = builder.attribute(RTA_DST, &octets(route.destination));
    }
    builder = match route.gateway {
        Some(gateway) if Family::of(gateway) == family => {
            builder.attribute(RTA_GATEWAY, &octets(gateway))
        }
        Some(gateway) => {
            let mut via = u16::from(Family::of(gateway).number()).to_ne_bytes().to_vec();
            via.extend(octets(gateway));
            builder.attribute(RTA_VIA, &via)
        }
        None => builder,
    };
    if let Some(interface) = route.interface {
        builder = builder.number(RTA_OIF, interface);
    }
    if route.metric > 0 {
        builder = builder.number(RTA_PRIORITY, route.metric);
    }
    builder
}

fn rule_message(kind: u16, flags: u16, rule: &Rule) -> Builder {
    let length = |address: Option<IpAddr>| address.map_or(0, |one| Family::of(one).bits());
    let (table, action) = match rule.action {
        Action::Table(table) => (table, FR_ACT_TO_TBL),
        Action::Prohibit => (0, FR_ACT_PROHIBIT),
    };
    let mut head = vec![rule.family.number(), length(rule.to), length(rule.from), 0];
    head.extend([small_table(table), 0, 0, action]);
    head.extend_from_slice(&[0; 4]);
    let mut builder = Builder::new(kind, flags, &head)
        .number(FRA_PRIORITY, rule.priority)
        .attribute(FRA_PROTOCOL, &[rule.protocol]);
    if table > 0 {
        builder = builder.number(FRA_TABLE, table);
    }
    if let Some(mark) = rule.mark {
        builder = builder.number(FRA_FWMARK, mark).number(FRA_FWMASK, u32::MAX);
    }
    for (kind, address) in [(FRA_SRC, rule.from), (FRA_DST, rule.to)] {
        if let Some(address) = address {
            builder = builder.attribute(kind, &octets(address));
        }
    }
    if rule.is_own {
        builder = builder.text(FRA_IIFNAME, LOOPBACK);
    }
    if let Some(name) = &rule.bound_to {
        builder = builder.text(FRA_OIFNAME, name);
    }
    if let Some((first, last)) = rule.users {
        let range = [first.to_ne_bytes(), last.to_ne_bytes()].concat();
        builder = builder.attribute(FRA_UID_RANGE, &range);
    }
    builder
}

/// The table as the fixed head has it; the attribute holds those that do not fit.
fn small_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// LIMIT: names that are not UTF-8 are shown with replacement characters; the kernel's own
/// interface names are at most 15 bytes, alternative ones at most 127.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(super::until_nul(bytes)).into_owned()
}

fn number(bytes: &[u8]) -> Option<u32> {
    u32_at(bytes, 0)
}

/// A link that appeared, changed or was listed.
pub fn link(message: &Message<'_>) -> Option<Link> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let head = message.payload;
    let flags = u32_at(head, 8)?;
    let mut link = Link {
        index: u32_at(head, 4)?,
        is_up: flags & IFF_UP != 0,
        is_loopback: flags & IFF_LOOPBACK != 0,
        is_ethernet: u16_at(head, 2)? == ARPHRD_ETHER,
        ..Link::default()
    };
    for (kind, value) in attributes(head.get(LINK..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_LINKINFO => {
                let info = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = info.map(|(_, value)| text(value));
            }
            IFLA_PROP_LIST => {
                let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                link.alternative_names.extend(names.map(|(_, value)| text(value)));
            }
            _ => {}
        }
    }
    (link.index > 0).then_some(link)
}

/// An address that appeared, changed or was listed.
pub fn address(message: &Message<'_>) -> Option<Address> {
    if message.kind != RTM_NEWADDR {
        return None;
    }
    let &[family, _, flags, _, ..] = message.payload else { return None };
    let family = Family::from_number(family)?;
    let interface = u32_at(message.payload, 4)?;
    let mut flags = u32::from(flags);
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attributes(message.payload.get(ADDRESS..)?) {
        match kind {
            // On a link between two points this is the other one's.
            IFA_ADDRESS => peer = family.address(value),
            IFA_LOCAL => local = family.address(value),
            IFA_FLAGS => flags = number(value).unwrap_or(flags),
            _ => {}
        }
    }
    Some(Address {
        interface: Some(interface).filter(|index| *index > 0)?,
        address: local.or(peer)?,
        is_tentative: flags & IFA_F_TENTATIVE != 0,
    })
}

/// A route that was listed.
pub fn route(message: &Message<'_>) -> Option<Route> {
    if message.kind != RTM_NEWROUTE {
        return None;
    }
    let &[family, prefix, from, tos, table, protocol, scope, kind, ..] = message.payload else {
        return None;
    };
    let family = Family::from_number(family)?;
    let flags = u32_at(message.payload, 8)?;
    if from != 0 || tos != 0 || flags & RTM_F_CLONED != 0 || prefix > family.bits() {
        return None;
    }
    let mut route = Route {
        destination: family.unspecified(),
        prefix,
        table: table.into(),
        protocol,
        scope,
        kind,
        gateway: None,
        is_onlink: flags & u32::from(RTNH_F_ONLINK) != 0,
        interface: None,
        metric: 0,
    };
    for (kind, value) in attributes(message.payload.get(ROUTE..)?) {
        match kind {
            RTA_DST if prefix > 0 => route.destination = family.address(value)?,
            RTA_TABLE => route.table = number(value)?,
            RTA_PRIORITY => route.metric = number(value)?,
            RTA_OIF => route.interface = number(value),
            RTA_MULTIPATH => take_hop(&mut route, value),
            _ => route.gateway = gateway(family, kind, value).or(route.gateway),
        }
    }
    Some(route)
}

fn gateway(family: Family, kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        RTA_GATEWAY => family.address(value),
        RTA_VIA => {
            let family = Family::from_number(u8::try_from(u16_at(value, 0)?).ok()?)?;
            family.address(value.get(2..)?)
        }
        _ => None,
    }
}

/// Reads the first hop that is not dead; the first one where all are.
fn take_hop(route: &mut Route, mut hops: &[u8]) {
    let family = Family::of(route.destination);
    while let (Some(size), Some(&flags), Some(index)) =
        (u16_at(hops, 0), hops.get(2), u32_at(hops, 4))
    {
        let size = usize::from(size);
        let Some(values) = hops.get(HOP..size) else { return };
        if route.interface.is_none() || flags & RTNH_F_DEAD == 0 {
            route.interface = Some(index);
            route.is_onlink = flags & RTNH_F_ONLINK != 0;
            route.gateway = attributes(values).find_map(|(kind, v)| gateway(family, kind, v));
        }
        if flags & RTNH_F_DEAD == 0 {
            return;
        }
        hops = hops.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// A rule that was listed, if its like can be said in a [`Rule`].
pub fn rule(message: &Message<'_>) -> Option<Rule> {
    if message.kind != RTM_NEWRULE {
        return None;
    }
    let &[family, to, from, tos, table, _, _, action, ..] = message.payload else { return None };
    let family = Family::from_number(family)?;
    let flags = u32_at(message.payload, 8)?;
    let is_whole = |length: u8| length == 0 || length == family.bits();
    if tos != 0 || flags & FIB_RULE_INVERT != 0 || !is_whole(to) || !is_whole(from) {
        return None;
    }
    let mut rule = Rule {
        family,
        priority: 0,
        action: match action {
            FR_ACT_TO_TBL => Action::Table(table.into()),
            FR_ACT_PROHIBIT => Action::Prohibit,
            _ => return None,
        },
        protocol: 0,
        mark: None,
        from: None,
        to: None,
        is_own: false,
        bound_to: None,
        users: None,
    };
    for (kind, value) in attributes(message.payload.get(ROUTE..)?) {
        match kind {
            0 => {}
            FRA_PRIORITY => rule.priority = number(value)?,
            FRA_FWMARK => rule.mark = Some(number(value)?),
            // The mark zero is left out, its mask is not.
            FRA_FWMASK if number(value)? == u32::MAX => {
                rule.mark.get_or_insert_default();
            }
            FRA_TABLE if action == FR_ACT_TO_TBL => rule.action = Action::Table(number(value)?),
            FRA_TABLE => {}
            FRA_PROTOCOL => [rule.protocol] = array(value, 0)?,
            FRA_SRC => rule.from = Some(family.address(value)?),
            FRA_DST => rule.to = Some(family.address(value)?),
            FRA_IIFNAME if super::until_nul(value) == LOOPBACK.as_bytes() => rule.is_own = true,
            FRA_OIFNAME => rule.bound_to = Some(text(value)),
            FRA_UID_RANGE => rule.users = Some((number(value)?, u32_at(value, 4)?)),
            // Always there; this value means that nothing is suppressed.
            FRA_SUPPRESS_PREFIXLEN if number(value)? == u32::MAX => {}
            _ => return None,
        }
    }
    // An address goes with its length.
    let is_whole = (to == 0) == rule.to.is_none() && (from == 0) == rule.from.is_none();
    is_whole.then_some(rule)
}

// The vectors are of a little-endian machine.
#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::super::messages;
    use super::*;

    fn vector(name: &str) -> Vec<u8> {
        let text = include_str!("../../../tests/vectors/netlink/linux-6.18.json");
        let all: serde_json::Value = serde_json::from_str(text).unwrap();
        let text = all[name].as_str().unwrap();
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn read<T>(name: &str, decode: impl Fn(&Message<'_>) -> Option<T>) -> Vec<T> {
        messages(&vector(name)).filter_map(|message| decode(&message)).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn links_of_a_kernel_are_read() {
        let links = read("links", link);
        let find = |name: &str| links.iter().find(|link| link.name == name).unwrap();
        assert!(find("lo").is_loopback && !find("lo").is_ethernet);
        let c0 = find("c0");
        assert_eq!(c0.alternative_names, ["an-alternative-name", "other"]);
        assert_eq!(c0.kind.as_deref(), Some("veth"));
        assert!(c0.is_up && c0.is_ethernet && !c0.is_loopback);
        let br0 = find("br0");
        assert_eq!((br0.kind.as_deref(), br0.is_up), (Some("bridge"), false));
    }

    #[test]
    fn addresses_of_a_kernel_are_read() {
        let addresses = read("addresses", address);
        let find = |text: &str| addresses.iter().find(|found| found.address == ip(text));
        assert!(!find("192.0.2.2").unwrap().is_tentative);
        assert!(!find("2001:db8::2").unwrap().is_tentative);
        assert!(find("2001:db8::3").unwrap().is_tentative);
        // The other end's address is not ours.
        assert!(find("192.0.2.5").is_some() && find("192.0.2.6").is_none());
    }

    #[test]
    fn routes_of_a_kernel_are_read() {
        let routes = read("routes_v4", route);
        let find = |text: &str, table| {
            routes.iter().find(|route| route.destination == ip(text) && route.table == table)
        };
        let default = find("0.0.0.0", TABLE_MAIN).unwrap();
        assert_eq!(
            (default.prefix, default.gateway, default.metric),
            (0, Some(ip("192.0.2.1")), 100)
        );
        let double = find("198.51.100.0", TABLE_MAIN).unwrap();
        assert_eq!((double.gateway, double.interface), (Some(ip("192.0.2.1")), default.interface));
        assert_eq!(find("203.0.113.1", TABLE_MAIN).unwrap().gateway, Some(ip("2001:db8::1")));
        assert!(find("203.0.113.2", TABLE_MAIN).unwrap().is_onlink && !default.is_onlink);
        assert_ne!(find("169.254.169.254", TABLE_MAIN).unwrap().kind, UNICAST);
        let own = find("169.254.169.254", 0x7fff_0815).unwrap();
        assert_eq!((own.protocol, own.scope, own.prefix), (73, SCOPE_LINK, 32));
        // For one type of service only.
        assert_eq!(find("198.51.100.7", TABLE_MAIN), None);

        let routes = read("routes_v6", route);
        let own = routes.iter().find(|route| route.table == 0x7fff_0815).unwrap();
        assert_eq!((own.destination, own.metric), (ip("fd00:ec2::254"), 1024));
        let default = routes.iter().find(|route| route.prefix == 0 && route.table == TABLE_MAIN);
        assert_eq!(default.unwrap().gateway, Some(ip("2001:db8::1")));
        assert!(!routes.iter().any(|route| route.destination == ip("2001:db8:2::")));
    }

    #[test]
    fn rules_of_a_kernel_are_read_and_those_that_do_more_are_none() {
        let rules = read("rules_v4", rule);
        let find = |priority| rules.iter().find(|rule| rule.priority == priority);
        let mark = find(30815).unwrap();
        assert_eq!(mark.action, Action::Table(0x7fff_0815));
        assert_eq!((mark.mark, mark.to, mark.protocol), (Some(0x7fff_0815), None, 73));
        let users = find(30816).unwrap();
        assert_eq!((users.action, users.users), (Action::Prohibit, Some((1, u32::MAX - 1))));
        assert_eq!(find(30817).unwrap().from, Some(ip("0.0.0.0")));
        let back = find(30818).unwrap();
        assert!(back.is_own && back.to == Some(ip("169.254.169.254")));
        for priority in 100..=105 {
            assert_eq!(find(priority), None);
        }
        let rules = read("rules_v6", rule);
        let lock = rules.iter().find(|rule| rule.priority == 30819).unwrap();
        assert_eq!((lock.family, lock.to), (Family::V6, Some(ip("fd00:ec2::254"))));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let rules = [read("rules_v4", rule), read("rules_v6", rule)].concat();
        assert!(rules.len() > 8);
        for wanted in rules {
            let bytes = add_rule(&wanted).finish(1);
            let found: Vec<_> = messages(&bytes).filter_map(|message| rule(&message)).collect();
            assert_eq!(found, [wanted]);
        }
        for wanted in [read("routes_v4", route), read("routes_v6", route)].concat() {
            let bytes = add_route(&wanted).finish(1);
            let found: Vec<_> = messages(&bytes).filter_map(|message| route(&message)).collect();
            assert_eq!(found, [wanted]);
        }
    }

    #[test]
    fn truncated_and_changed_dumps_are_read_quietly() {
        for name in ["links", "addresses", "routes_v4", "routes_v6", "rules_v4", "rules_v6"] {
            let whole = vector(name);
            let all = |bytes: &[u8]| {
                for message in messages(bytes) {
                    let _ = (link(&message), address(&message), route(&message), rule(&message));
                }
            };
            for message in messages(&whole) {
                for end in 0..message.payload.len() {
                    let payload = message.payload.get(..end).unwrap();
                    let short = Message { payload, ..message };
                    let _ = (link(&short), address(&short), route(&short), rule(&short));
                }
            }
            for at in 0..whole.len().min(1500) {
                for value in [0, 0xff] {
                    let mut bad = whole.clone();
                    bad[at] = value;
                    all(&bad);
                }
            }
        }
    }
}
