//! Early network, and the barrier between this machine and the metadata service.
//!
//! In mode `unlocked` everybody may talk to the service; our own requests carry a firewall mark
//! and find a table that leads to it whatever else is configured. In mode `locked` only what has
//! the mark gets through, and setting a mark needs CAP_NET_ADMIN.
//!
//! There are two ways to have it: [`files`] for systemd-networkd and -resolved, [`routes`] by
//! rtnetlink for everybody else. Both plan first; a dry run shows the plan.
//!
//! It is a barrier of routes, no firewall. LIMIT: what has CAP_NET_ADMIN passes, and so does what
//! runs as root and binds its socket; connections that are open stay open; a service that is known
//! by name only (Tencent's) is not covered; interfaces that come later are from the next run on.
//!
//! External spec: systemd-imdsd(8) of systemd 262, `systemd.imds.network=`.

pub mod files;
pub mod routes;

use std::net::IpAddr;

use super::model::Endpoint;
use crate::conf::cmdline::Cmdline;
use crate::conf::value::{Bad, boolean};

pub use files::{FilePlan, apply_files, plan_files, remove_files};
pub use routes::{RoutePlan, State, apply_routes, plan_removal, plan_routes, remove_routes};

/// The switch on the kernel command line.
const SWITCH: &str = "systemd.imds.network";

/// Who may talk to the metadata service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is set up.
    Off,
    /// What has the mark.
    Locked,
    /// Everybody.
    #[default]
    Unlocked,
}

impl Mode {
    /// As it is spelt.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
        }
    }

    /// A mode by name. COMPAT(262): a word for yes means `locked`, one for no `off`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "locked" => Some(Self::Locked),
            "unlocked" => Some(Self::Unlocked),
            other => boolean(other).ok().map(|yes| if yes { Self::Locked } else { Self::Off }),
        }
    }

    /// What the kernel command line asks for; the last word counts. COMPAT(262): a bad value, or
    /// a bad address of the service, ends the reading; what came before it stands.
    pub fn from_cmdline(line: &Cmdline, is_initrd: bool) -> Self {
        let mut mode = Self::default();
        for (key, value) in line.pairs(is_initrd) {
            let key = key.replace('-', "_");
            match (key.as_str(), value) {
                (SWITCH, None) => log::warn!(
                    "Missing argument for {SWITCH}= kernel command line switch, ignoring."
                ),
                (SWITCH, Some(value)) => match Self::parse(value) {
                    Some(wanted) => mode = wanted,
                    None => {
                        let bad = Bad::Invalid;
                        log::warn!("Failed to parse {SWITCH}= value: {bad}");
                        log::warn!("Failed to parse kernel command line, ignoring: {bad}");
                        break;
                    }
                },
                // The endpoint's reader tells of it.
                ("systemd.imds.address_ipv4" | "systemd.imds.address_ipv6", Some(value))
                    if is_bad_address(&key, value) =>
                {
                    break;
                }
                _ => {}
            }
        }
        mode
    }
}

fn is_bad_address(key: &str, value: &str) -> bool {
    value.parse::<IpAddr>().map_or(true, |address| address.is_ipv4() != key.ends_with("ipv4"))
}

/// The service's addresses, IPv4 first.
fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let first = endpoint.address_ipv4.map(IpAddr::from);
    first.into_iter().chain(endpoint.address_ipv6.map(IpAddr::from))
}

/// Locked without an address: says so.
fn complaint(endpoint: &Endpoint, mode: Mode) -> Option<String> {
    let is_open = mode == Mode::Locked && addresses(endpoint).next().is_none();
    is_open.then(|| {
        "Access to IMDS is to be locked, but no address of the service is known: nothing is locked."
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(line: &str) -> Mode {
        Mode::from_cmdline(&Cmdline::parse(line), false)
    }

    #[test]
    fn modes_are_read_as_the_peer_reads_them() {
        // Observed with systemd 262.1.
        for (line, expected) in [
            ("", Mode::Unlocked),
            ("systemd.imds.network=locked", Mode::Locked),
            ("systemd.imds-network=locked", Mode::Unlocked),
            ("systemd.imds.network=off", Mode::Off),
            ("systemd.imds.network=yes", Mode::Locked),
            ("systemd.imds.network=1", Mode::Locked),
            ("systemd.imds.network=false", Mode::Off),
            ("systemd.imds.network=Locked", Mode::Unlocked),
            ("systemd.imds.network=lockdown", Mode::Unlocked),
            ("systemd.imds.network", Mode::Unlocked),
            ("systemd.imds.network=locked systemd.imds.network", Mode::Locked),
            ("systemd.imds.network=locked systemd.imds.network=bogus", Mode::Locked),
            ("systemd.imds.network= systemd.imds.network=locked", Mode::Unlocked),
            ("systemd.imds.network=locked systemd.imds.network=unlocked", Mode::Unlocked),
            ("systemd.imds.network=locked rd.systemd.imds.network=unlocked", Mode::Locked),
            ("systemd.imds.address_ipv4=bogus systemd.imds.network=locked", Mode::Unlocked),
            ("systemd.imds.address_ipv4=::1 systemd.imds.network=locked", Mode::Unlocked),
            ("systemd.imds.address_ipv4= systemd.imds.network=locked", Mode::Unlocked),
            ("systemd.imds.address_ipv6=::1 systemd.imds.network=locked", Mode::Locked),
        ] {
            assert_eq!(mode(line), expected, "{line}");
        }
        for known in [Mode::Off, Mode::Locked, Mode::Unlocked] {
            assert_eq!(Mode::parse(known.name()), Some(known));
        }
        assert_eq!(
            Mode::from_cmdline(&Cmdline::parse("rd.systemd.imds.network=off"), true),
            Mode::Off
        );
    }
}
