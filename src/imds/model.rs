//! The vocabulary of metadata: well-known names, endpoints, requests, answers, failures.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde_json::{Map, json};

use crate::error::Error;
use crate::varlink::errors;

/// The interface of the service, which is also the prefix of its errors.
pub const INTERFACE: &str = "io.systemd.InstanceMetadata";

/// Where the service listens.
pub const SOCKET: &str = "/run/systemd/io.systemd.InstanceMetadata";

/// The firewall mark of our requests, and the number of the routing table it selects.
pub const FIREWALL_MARK: u32 = 0x7FFF_0815;

/// How old a cached answer may be, and how long a token is asked for, unless somebody says so.
pub const REFRESH_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// The shortest refresh time; less is raised to it.
pub const REFRESH_MIN: Duration = Duration::from_secs(1);

/// Exit status where this machine has no usable endpoint (`EXIT_NOTCONFIGURED`).
pub const STATUS_NOT_CONFIGURED: u8 = 6;

/// LIMIT: bytes of one value.
pub const DATA_MAX: usize = 4 << 20;

/// A name that means the same on every cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WellKnown {
    /// The root of the data URL; takes a key.
    Base,
    /// The instance's host name.
    Hostname,
    /// The region.
    Region,
    /// The availability zone.
    Zone,
    /// The public IPv4 address.
    Ipv4Public,
    /// The public IPv6 address.
    Ipv6Public,
    /// The first SSH key of the administrator.
    SshKey,
    /// User data as they are.
    Userdata,
    /// The directory of user data; takes a key.
    UserdataBase,
    /// User data in Base64.
    UserdataBase64,
}

impl WellKnown {
    /// All of them, in the order of the peer's lists.
    pub const ALL: [Self; 10] = [
        Self::Base,
        Self::Hostname,
        Self::Region,
        Self::Zone,
        Self::Ipv4Public,
        Self::Ipv6Public,
        Self::SshKey,
        Self::Userdata,
        Self::UserdataBase,
        Self::UserdataBase64,
    ];

    /// As options, `GetVendorInfo` and messages spell it: with dashes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Hostname => "hostname",
            Self::Region => "region",
            Self::Zone => "zone",
            Self::Ipv4Public => "ipv4-public",
            Self::Ipv6Public => "ipv6-public",
            Self::SshKey => "ssh-key",
            Self::Userdata => "userdata",
            Self::UserdataBase => "userdata-base",
            Self::UserdataBase64 => "userdata-base64",
        }
    }

    /// As the Varlink enum spells it, and credentials and the kernel command line: underscores.
    pub fn wire_name(self) -> String {
        self.name().replace('-', "_")
    }

    /// As properties and variables spell it: `USERDATA_BASE64`.
    pub fn property_name(self) -> String {
        self.wire_name().to_ascii_uppercase()
    }

    /// The name with dashes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The name with underscores.
    pub fn parse_wire(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.wire_name() == name)
    }

    /// May a key follow it?
    pub fn takes_key(self) -> bool {
        matches!(self, Self::Base | Self::UserdataBase)
    }
}

/// Where the metadata service is and how it wants to be asked. Texts are as they were configured;
/// only those given as options have been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The cloud, `amazon-ec2`.
    pub vendor: Option<String>,
    /// What a token is PUT from.
    pub token_url: Option<String>,
    /// The header that carries the lifetime wanted, in seconds.
    pub refresh_header_name: Option<String>,
    /// What every key is appended to.
    pub data_url: Option<String>,
    /// What follows every key.
    pub data_url_suffix: Option<String>,
    /// The header that carries the token.
    pub token_header_name: Option<String>,
    /// Further headers, `Name: value`, in order.
    pub extra_headers: Vec<String>,
    /// The service's address.
    pub address_ipv4: Option<Ipv4Addr>,
    /// The service's address.
    pub address_ipv6: Option<Ipv6Addr>,
    /// Keys of the well-known names.
    pub well_known: BTreeMap<WellKnown, String>,
    /// What the properties above cannot say.
    pub traits: Traits,
}

/// What our own provider table knows of a cloud beyond the peer's properties; empty for a cloud
/// that is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// True for a row the peer does not have.
    pub is_extension: bool,
    /// Further status codes that pass by themselves (404 while Azure's service starts).
    pub retry_statuses: Vec<u16>,
    /// How long the statuses above may last before they are believed.
    pub retry_window: Option<Duration>,
    /// Paths (below the authority) that are answered to source ports below 1024 only.
    pub low_port_paths: Vec<String>,
    /// The longest token lifetime the service accepts.
    pub token_lifetime_max: Option<Duration>,
    /// Requests per second the service allows.
    pub requests_per_second: Option<u32>,
    /// Addresses to use where the name in the URL cannot be resolved.
    pub resolve: Vec<IpAddr>,
    /// Recipes of the normalised values by name, `region` → `/instance/zone | last-part`.
    pub recipes: BTreeMap<String, String>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A raw key, or what follows a well-known name that takes one. Begins with `/`.
    pub key: Option<String>,
    /// A well-known name.
    pub well_known: Option<WellKnown>,
    /// Index of the network interface to use; any, where not set.
    pub interface: Option<u32>,
    /// Oldest acceptable answer, and the lifetime of tokens; [`REFRESH_DEFAULT`] where not set.
    pub refresh: Option<Duration>,
    /// May the answer come from the cache, and go there? The engine's default is yes; a service
    /// is not told where not set.
    pub cache: Option<bool>,
    /// The firewall mark.
    pub mark: Mark,
    /// Wait for addresses to appear where there is none that answers?
    pub wait: bool,
}

/// The firewall mark of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// [`FIREWALL_MARK`], if we may.
    #[default]
    Default,
    /// None.
    Off,
    /// This one, or fail.
    Value(u32),
}

impl Request {
    /// A raw key, everything else by default.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..Self::nothing() }
    }

    /// A well-known name, everything else by default.
    pub fn well_known(name: WellKnown) -> Self {
        Self { well_known: Some(name), ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self {
            key: None,
            well_known: None,
            interface: None,
            refresh: None,
            cache: None,
            mark: Mark::Default,
            wait: false,
        }
    }
}

/// One answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The body as received.
    pub data: Vec<u8>,
    /// Index of the interface it came through, where known.
    pub interface: Option<u32>,
}

impl fmt::Debug for Reply {
    /// Without the body: it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("interface", &self.interface)
            .finish()
    }
}

/// Why there is no answer. The names are those of the interface's errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The service has no such key.
    KeyNotFound,
    /// The service refuses to talk to us (403, a redirect to somebody else).
    NotAvailable,
    /// No endpoint is known.
    NotSupported,
    /// The endpoint has no key for this well-known name.
    WellKnownKeyUnset,
    /// The service could not be reached or answered nonsense; the detail says how.
    CommunicationFailure(String),
    /// The overall time limit passed; the detail says what was tried last.
    Timeout(String),
    /// A member of the request is wrong.
    InvalidParameter(String),
    /// The caller may not ask this.
    PermissionDenied,
    /// Something on this machine failed: errno and what.
    System(i32, String),
    /// The peer's service said something that has no name here.
    Other(String, Map<String, serde_json::Value>),
}

impl Failure {
    /// True where the caller should treat the value as absent.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::KeyNotFound | Self::WellKnownKeyUnset)
    }

    /// True where the next key would fail the same way, after the same time.
    pub fn concerns_every_key(&self) -> bool {
        matches!(self, Self::CommunicationFailure(_) | Self::Timeout(_) | Self::PermissionDenied)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let named = |name: &str, text: &str| {
            Self::new(text).with_varlink(format!("{INTERFACE}.{name}"), Map::new())
        };
        let detailed = |name: &str, text: &str, detail: &str| {
            let text =
                if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") };
            named(name, &text)
        };
        match failure {
            Failure::KeyNotFound => named("KeyNotFound", "Key not available."),
            Failure::NotAvailable => named("NotAvailable", "IMDS service refuses to answer.")
                .hint("It may be switched off for this instance (HTTP status 403)."),
            Failure::NotSupported => named("NotSupported", "IMDS not supported on this system.")
                .hint(
                    "SMBIOS names no cloud that is known. 'systemd.imds.vendor=NAME' on the kernel \
                     command line names one of 'imds list-providers'.",
                )
                .with_status(STATUS_NOT_CONFIGURED),
            Failure::WellKnownKeyUnset => {
                named("WellKnownKeyUnset", "Key not known for this IMDS service.")
            }
            Failure::CommunicationFailure(detail) => {
                detailed("CommunicationFailure", "Failed to talk to IMDS service", &detail)
            }
            Failure::Timeout(detail) => {
                detailed("Timeout", "IMDS service did not answer in time", &detail)
            }
            Failure::InvalidParameter(name) => errors::invalid_parameter(&name),
            Failure::PermissionDenied => errors::permission_denied(),
            Failure::System(errno, text) => Self::errno_because(text, errno),
            Failure::Other(name, parameters) => {
                Self::new(format!("IMDS service failed: {name} {}", json!(parameters)))
                    .with_varlink(name, parameters)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for known in WellKnown::ALL {
            assert_eq!(WellKnown::parse(known.name()), Some(known));
            assert_eq!(WellKnown::parse_wire(&known.wire_name()), Some(known));
        }
        assert_eq!(WellKnown::UserdataBase64.property_name(), "USERDATA_BASE64");
        assert_eq!(WellKnown::parse("ipv4_public"), None);
    }

    #[test]
    fn a_reply_does_not_show_what_it_holds() {
        let reply = Reply { data: b"hunter2".to_vec(), interface: None };
        assert_eq!(format!("{reply:?}"), "Reply { data: 7 bytes, interface: None }");
    }

    #[test]
    fn failures_keep_their_names_on_the_wire() {
        let (name, parameters) = errors::to_wire(&Failure::KeyNotFound.into());
        assert_eq!(name, "io.systemd.InstanceMetadata.KeyNotFound");
        assert!(parameters.is_empty());
        assert_eq!(Error::from(Failure::NotSupported).status(), 6);
    }
}
