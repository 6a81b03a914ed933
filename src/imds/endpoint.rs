//! Where the endpoint's configuration comes from.
//!
//! Command line, environment, kernel command line, credentials, detection: the first source that
//! sets anything wins and is not mixed with the others, except that addresses and keys given as
//! options stay under whatever wins. Values of the sources are used as they are; only options have
//! been checked.
//!
//! DIFFERS: a source that says nothing but the name of a vendor in our table means that row; the
//! peer refuses to work without a data URL. Machines without SMBIOS are configured so.
//!
//! External spec: systemd-imdsd(8) of systemd 262; the edges were observed.

use std::ffi::OsStr;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::model::{Endpoint, STATUS_NOT_CONFIGURED, WellKnown};
use super::network::Mode;
use super::{identity, providers};
use crate::conf::cmdline;
use crate::conf::credential;
use crate::conf::value::Bad;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// LIMIT: highest number of a further header in the environment and among credentials.
const HEADERS_MAX: u32 = 63;

/// Members that are text, as credentials and the kernel command line spell them.
const TEXTS: [&str; 6] = [
    "vendor",
    "token_url",
    "refresh_header_name",
    "data_url",
    "data_url_suffix",
    "token_header_name",
];

/// What the options of `imdsd` gave, already checked; everything unset where there were none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The members that were given. Its traits are not looked at.
    pub endpoint: Endpoint,
}

impl Options {
    /// True where an option makes the command line the source. Addresses and keys alone do not.
    pub fn is_source(&self) -> bool {
        let given = &self.endpoint;
        given.vendor.is_some()
            || given.token_url.is_some()
            || given.refresh_header_name.is_some()
            || given.data_url.is_some()
            || given.data_url_suffix.is_some()
            || given.token_header_name.is_some()
            || !given.extra_headers.is_empty()
    }
}

/// The endpoint in use; `None` where nothing is configured and no cloud is recognized. It may be
/// incomplete: see [`usable`].
///
/// # Errors
/// An address in the environment is malformed; see also [`providers::lookup`].
pub fn resolve(ctx: &Ctx, options: &Options) -> Result<Option<Endpoint>> {
    let mut target = Target::new(&options.endpoint);
    target.is_set = options.is_source();
    if !target.is_set {
        from_environment(ctx, &mut target)?;
    }
    if !target.is_set {
        from_kernel(ctx, &mut target);
    }
    if !target.is_set {
        from_credentials(ctx, &mut target);
    }
    let Target { mut endpoint, is_set } = target;
    if !is_set {
        return Ok(providers::lookup(ctx)?.map(|found| under(endpoint, found)));
    }
    if !ctx.is_strict_compat()
        && is_name_only(&endpoint)
        && let Some(row) = endpoint.vendor.as_deref().and_then(providers::builtin)
    {
        endpoint = over(endpoint, row);
    }
    providers::add_traits(&mut endpoint);
    Ok(Some(endpoint))
}

/// A name for what options and environment say about the endpoint, the same in every process;
/// `None` where they say nothing, so that the endpoint is the machine's own.
pub fn fingerprint(ctx: &Ctx, options: &Options) -> Option<String> {
    let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"SYSTEMD_IMDS_");
    let variables: Vec<_> = ctx.env_all().filter(|(name, _)| is_ours(name)).collect();
    if variables.is_empty() && !options.is_source() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    format!("{:?}", options.endpoint).hash(&mut hasher);
    variables.hash(&mut hasher);
    Some(format!("{:016x}", hasher.finish()))
}

/// The endpoint, if anything can be asked from it.
///
/// # Errors
/// There is none, or it lacks a member; the exit status is [`STATUS_NOT_CONFIGURED`].
pub fn usable(endpoint: Option<Endpoint>) -> Result<Endpoint> {
    let lack = match endpoint {
        None => "No IMDS endpoint information provided or detected, cannot operate.",
        Some(endpoint) if endpoint.data_url.is_none() => "No data base URL provided.",
        Some(endpoint) if endpoint.token_url.is_some() != endpoint.token_header_name.is_some() => {
            "Incomplete token parameters configured for endpoint."
        }
        Some(endpoint) => return Ok(endpoint),
    };
    Err(Error::new(lack).with_status(STATUS_NOT_CONFIGURED))
}

/// True where the vendor is all that is known of where to ask.
fn is_name_only(endpoint: &Endpoint) -> bool {
    endpoint.data_url.is_none()
        && endpoint.token_url.is_none()
        && endpoint.token_header_name.is_none()
        && endpoint.refresh_header_name.is_none()
        && endpoint.data_url_suffix.is_none()
        && endpoint.extra_headers.is_empty()
}

/// What options gave below what was detected.
fn under(given: Endpoint, mut found: Endpoint) -> Endpoint {
    found.address_ipv4 = found.address_ipv4.or(given.address_ipv4);
    found.address_ipv6 = found.address_ipv6.or(given.address_ipv6);
    for (name, key) in given.well_known {
        found.well_known.entry(name).or_insert(key);
    }
    found
}

/// What was given on top of a row of the table.
fn over(given: Endpoint, mut row: Endpoint) -> Endpoint {
    row.address_ipv4 = given.address_ipv4.or(row.address_ipv4);
    row.address_ipv6 = given.address_ipv6.or(row.address_ipv6);
    row.well_known.extend(given.well_known);
    row
}

/// What sources write into.
struct Target {
    endpoint: Endpoint,
    /// True from the first value on, whatever it is.
    is_set: bool,
}

impl Target {
    /// The members of the options that stay.
    fn new(given: &Endpoint) -> Self {
        Self { endpoint: given.clone(), is_set: false }
    }

    fn text(&mut self, name: &str, value: &str) {
        let endpoint = &mut self.endpoint;
        let member = match name {
            "vendor" => &mut endpoint.vendor,
            "token_url" => &mut endpoint.token_url,
            "refresh_header_name" => &mut endpoint.refresh_header_name,
            "data_url" => &mut endpoint.data_url,
            "data_url_suffix" => &mut endpoint.data_url_suffix,
            "token_header_name" => &mut endpoint.token_header_name,
            _ => return,
        };
        *member = Some(value.to_owned()).filter(|value| !value.is_empty());
        self.is_set = true;
    }

    /// DIFFERS: the peer keeps an empty header; it never sends it.
    fn header(&mut self, value: &str) {
        if !value.is_empty() {
            self.endpoint.extra_headers.push(value.to_owned());
        }
        self.is_set = true;
    }

    fn address(&mut self, family: Family, value: &str) -> Result<(), Bad> {
        match family {
            Family::V4 => {
                let address: Ipv4Addr = value.parse().map_err(|_| Bad::Invalid)?;
                self.endpoint.address_ipv4 = Some(address);
            }
            Family::V6 => {
                let address: Ipv6Addr = value.parse().map_err(|_| Bad::Invalid)?;
                self.endpoint.address_ipv6 = Some(address);
            }
        }
        self.is_set = true;
        Ok(())
    }

    fn key(&mut self, name: WellKnown, value: &str) {
        self.endpoint.well_known.insert(name, value.to_owned());
        self.is_set = true;
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// As credentials and the kernel command line spell it.
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "address_ipv4",
            Self::V6 => "address_ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Names that a key can be configured for; the root of the data URL needs none.
fn keyed() -> impl Iterator<Item = WellKnown> {
    WellKnown::ALL.into_iter().filter(|name| *name != WellKnown::Base)
}

fn from_environment(ctx: &Ctx, target: &mut Target) -> Result<()> {
    let variable = |name: &str| format!("SYSTEMD_IMDS_{}", name.to_ascii_uppercase());
    for name in TEXTS {
        if let Some(value) = ctx.env(&variable(name)) {
            target.text(name, value);
        }
    }
    if let Some(value) = ctx.env("SYSTEMD_IMDS_EXTRA_HEADER") {
        target.header(value);
        // COMPAT(262): the first gap ends them.
        for number in 2..=HEADERS_MAX {
            let Some(value) = ctx.env(&format!("SYSTEMD_IMDS_EXTRA_HEADER{number}")) else { break };
            target.header(value);
        }
    }
    for family in Family::ALL {
        let name = variable(family.name());
        if let Some(value) = ctx.env(&name) {
            target.address(family, value).map_err(|bad| {
                let text =
                    format!("Failed read {family} address from environment variable '{name}'");
                Error::errno_because(text, bad.errno())
            })?;
        }
    }
    for name in keyed() {
        if let Some(value) = ctx.env(&format!("SYSTEMD_IMDS_KEY_{}", name.property_name())) {
            target.key(name, value);
        }
    }
    Ok(())
}

/// Words in their order; the first one that is wrong ends the reading.
fn from_kernel(ctx: &Ctx, target: &mut Target) {
    let line = identity::command_line(ctx);
    for (key, value) in line.pairs(cmdline::is_initrd(ctx)) {
        let key = key.replace('-', "_");
        let Some(name) = key.strip_prefix("systemd.imds.") else { continue };
        let family = Family::ALL.into_iter().find(|family| family.name() == name);
        let known = name.strip_prefix("key.").and_then(WellKnown::parse_wire);
        let known = known.filter(|name| *name != WellKnown::Base);
        let is_ours =
            TEXTS.contains(&name) || name == "extra_header" || family.is_some() || known.is_some();
        let Some(value) = value else {
            if is_ours {
                log::warn!("Missing argument for {key}= kernel command line switch, ignoring.");
            }
            continue;
        };
        match (name, family, known) {
            (_, Some(family), _) => {
                if let Err(bad) = target.address(family, value) {
                    log::warn!("Failed to parse '{key}=' parameter: {value}");
                    // COMPAT(262): together with everything behind it.
                    log::warn!("Failed to parse kernel command line, ignoring: {bad}");
                    return;
                }
            }
            (_, _, Some(known)) => target.key(known, value),
            ("extra_header", ..) => {
                if value.is_empty() {
                    target.endpoint.extra_headers.clear();
                }
                target.header(value);
            }
            // COMPAT(262): ends the reading too; who sets up the network tells of it.
            ("network", ..) if Mode::parse(value).is_none() => return,
            _ if is_ours => target.text(name, value),
            _ => {}
        }
    }
}

fn from_credentials(ctx: &Ctx, target: &mut Target) {
    if ctx.env_os("CREDENTIALS_DIRECTORY").is_none() {
        return;
    }
    let read = |name: &str| {
        let name = format!("imds.{name}");
        let value = credential::text(ctx, &name).unwrap_or_else(|err| {
            log::warn!("{}", ignoring(&err));
            None
        });
        value.map(|value| (name, value))
    };
    for name in TEXTS {
        // DIFFERS: the peer reads the token's URL under a wrong name only (defect 18).
        let found = match name {
            "token_url" if ctx.is_strict_compat() => read("vendor_token"),
            "token_url" => read("vendor_token").or_else(|| read("token_url")),
            _ => read(name),
        };
        if let Some((_, value)) = found {
            target.text(name, &value);
        }
    }
    let numbers = (2..=HEADERS_MAX).map(|number| number.to_string());
    for number in std::iter::once(String::new()).chain(numbers) {
        if let Some((_, value)) = read(&format!("extra_header{number}")) {
            target.header(&value);
        }
    }
    for family in Family::ALL {
        if let Some((name, value)) = read(family.name())
            && let Err(bad) = target.address(family, &value)
        {
            log::warn!("Failed read {family} address from credential '{name}', ignoring: {bad}");
        }
    }
    for name in keyed() {
        if let Some((_, value)) = read(&format!("key_{}", name.wire_name())) {
            target.key(name, &value);
        }
    }
}

/// `sentence: cause` becomes `sentence, ignoring: cause`.
fn ignoring(err: &Error) -> String {
    let text = err.to_string();
    match text.rsplit_once(": ") {
        Some((sentence, cause)) => format!("{sentence}, ignoring: {cause}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn world(env: &[(&str, &str)]) -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let mut ctx = Ctx::host([])
            .with_root(at(""))
            .with_kernel(at("proc"), at("sys"))
            .with_env("CREDENTIALS_DIRECTORY", at("creds"))
            .with_env("SYSTEMD_PROC_CMDLINE", "");
        fs::create_dir(at("creds")).unwrap();
        for (name, value) in env {
            if name.starts_with("imds.") {
                fs::write(at("creds").join(name), value).unwrap();
            } else {
                ctx = ctx.with_env(*name, *value);
            }
        }
        (dir, ctx)
    }

    /// Data URL, vendor, IPv4 address, region key, headers; `-` for what is not set.
    fn shown(options: &Options, env: &[(&str, &str)]) -> String {
        let (_dir, ctx) = world(env);
        match resolve(&ctx, options) {
            Ok(Some(e)) => {
                let or = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
                let address = e.address_ipv4.map(|address| address.to_string());
                let region = e.well_known.get(&WellKnown::Region);
                let headers = e.extra_headers.join(",");
                let (url, vendor) = (or(e.data_url.as_ref()), or(e.vendor.as_ref()));
                format!("{url} {vendor} {} {} {headers}", or(address.as_ref()), or(region))
            }
            Ok(None) => "none".to_owned(),
            Err(err) => err.to_string(),
        }
    }

    const URL: (&str, &str) = ("SYSTEMD_IMDS_DATA_URL", "http://e");
    const LINE: &str = "SYSTEMD_PROC_CMDLINE";

    fn given(url: Option<&str>) -> Options {
        let mut endpoint = Endpoint { data_url: url.map(str::to_owned), ..Endpoint::default() };
        endpoint.address_ipv4 = Some(Ipv4Addr::new(9, 9, 9, 9));
        endpoint.well_known.insert(WellKnown::Region, "/opt".to_owned());
        Options { endpoint }
    }

    #[test]
    fn the_first_source_that_sets_anything_wins() {
        // Observed with `GetVendorInfo` of systemd-imdsd 262.1; `-` for a URL is NotSupported there.
        let none = Options::default();
        let v4 = ("SYSTEMD_IMDS_ADDRESS_IPV4", "1.2.3.4");
        let line = (LINE, "systemd.imds.data_url=http://c systemd.imds.key.region=/c");
        let credential = ("imds.data_url", "http://r");
        for (env, expected) in [
            (&[][..], "none"),
            (&[URL, line], "http://e - - - "),
            (&[v4, line], "- - 1.2.3.4 - "),
            (&[("SYSTEMD_IMDS_VENDOR", ""), line], "- - - - "),
            (&[("SYSTEMD_IMDS_KEY_REGION", ""), line], "- - -  "),
            (&[("SYSTEMD_IMDS_EXTRA_HEADER", ""), line], "- - - - "),
            (&[("SYSTEMD_IMDS_EXTRA_HEADER2", "b"), line], "http://c - - /c "),
            (&[line, credential], "http://c - - /c "),
            (&[(LINE, "systemd.imds.address_ipv4=1.1.1.1"), credential], "- - 1.1.1.1 - "),
            (&[(LINE, "systemd.imds.vendor="), credential], "- - - - "),
            (&[(LINE, "systemd.imds.extra_header="), credential], "- - - - "),
            (&[(LINE, "systemd.imds.network=off"), credential], "http://r - - - "),
            (&[(LINE, "systemd.imds.key.bogus=/x"), credential], "http://r - - - "),
            (&[("imds.data_url", "http://r\n")], "http://r\n - - - "),
        ] {
            assert_eq!(shown(&none, env), expected, "{env:?}");
        }
    }

    #[test]
    fn addresses_and_keys_of_options_stay_under_the_source_that_wins() {
        let line = (LINE, "systemd.imds.data_url=http://c systemd.imds.address_ipv4=5.5.5.5");
        for (url, env, expected) in [
            (
                None,
                &[URL, ("SYSTEMD_IMDS_ADDRESS_IPV4", "1.2.3.4")][..],
                "http://e - 1.2.3.4 /opt ",
            ),
            (None, &[URL, ("SYSTEMD_IMDS_KEY_REGION", "/z")], "http://e - 9.9.9.9 /z "),
            (None, &[line], "http://c - 5.5.5.5 /opt "),
            (None, &[], "none"),
            (Some("http://o"), &[URL, ("SYSTEMD_IMDS_VENDOR", "e")], "http://o - 9.9.9.9 /opt "),
        ] {
            assert_eq!(shown(&given(url), env), expected, "{env:?}");
        }
    }

    #[test]
    fn headers_end_at_a_gap_in_the_environment_but_not_among_credentials() {
        let header = "SYSTEMD_IMDS_EXTRA_HEADER";
        let (two, three, four) = (format!("{header}2"), format!("{header}3"), format!("{header}4"));
        let none = Options::default();
        let env = [URL, (header, "a:"), (two.as_str(), "b:"), (four.as_str(), "d:")];
        assert_eq!(shown(&none, &env), "http://e - - - a:,b:");
        let env = [URL, (header, "a:"), (two.as_str(), ""), (three.as_str(), "c:")];
        assert_eq!(shown(&none, &env), "http://e - - - a:,c:");
        let env = [("imds.data_url", "http://r"), ("imds.extra_header", "a:")];
        let more = [("imds.extra_header3", "c:"), ("imds.extra_header64", "d:")];
        assert_eq!(shown(&none, &[&env[..], &more].concat()), "http://r - - - a:,c:");
        let line = "systemd.imds.extra_header=a: systemd.imds.extra_header= \
                    systemd.imds.extra_header=b: systemd.imds.extra_header=c:";
        assert_eq!(shown(&none, &[(LINE, line)]), "- - - - b:,c:");
    }

    #[test]
    fn a_wrong_address_is_fatal_ends_the_line_or_is_left_out() {
        let none = Options::default();
        for bad in ["bad", "", "::1"] {
            assert_eq!(
                shown(&none, &[URL, ("SYSTEMD_IMDS_ADDRESS_IPV4", bad)]),
                "Failed read IPv4 address from environment variable 'SYSTEMD_IMDS_ADDRESS_IPV4': \
                 Invalid argument"
            );
            let line = format!(
                "systemd.imds.data_url=http://c systemd.imds.address_ipv4={bad} \
                 systemd.imds.vendor=v"
            );
            assert_eq!(shown(&none, &[(LINE, &line)]), "http://c - - - ");
            let env = [("imds.data_url", "http://r"), ("imds.address_ipv4", bad)];
            assert_eq!(shown(&none, &env), "http://r - - - ");
        }
        let line = "systemd.imds.data_url=http://c systemd.imds.network=lockdown \
                    systemd.imds.vendor=v";
        assert_eq!(shown(&none, &[(LINE, line)]), "http://c - - - ");
        let line = "systemd.imds.vendor=v systemd.imds.network systemd.imds.data_url \
                    systemd.imds.data-url=http://c rd.systemd.imds.vendor=r systemd.imds.vendor=w";
        assert_eq!(shown(&none, &[(LINE, line)]), "http://c w - - ");
        let initrd = [("SYSTEMD_IN_INITRD", "1"), (LINE, "rd.systemd.imds.vendor=r")];
        assert_eq!(shown(&none, &initrd), "- r - - ");
    }

    #[test]
    fn the_credential_of_the_token_url_has_two_names_defect_18() {
        let token = |env: &[(&str, &str)]| {
            let (_dir, ctx) = world(env);
            resolve(&ctx, &Options::default()).unwrap().and_then(|endpoint| endpoint.token_url)
        };
        let (own, odd) = (("imds.token_url", "http://a"), ("imds.vendor_token", "http://b"));
        let strict = ("SLIPWAY_STRICT_COMPAT", "1");
        assert_eq!(token(&[own]).as_deref(), Some("http://a"));
        assert_eq!(token(&[own, odd]).as_deref(), Some("http://b"));
        assert_eq!(token(&[own, strict]), None);
        assert_eq!(token(&[odd, strict]).as_deref(), Some("http://b"));
    }

    #[test]
    fn a_vendor_alone_is_its_row_and_traits_come_to_every_known_vendor() {
        let none = Options::default();
        let vendor = (LINE, "systemd.imds.vendor=digitalocean systemd.imds.key.region=/r");
        assert_eq!(
            shown(&none, &[vendor]),
            "http://169.254.169.254/metadata/v1 digitalocean 169.254.169.254 /r "
        );
        assert_eq!(shown(&none, &[vendor, ("SLIPWAY_STRICT_COMPAT", "1")]), "- digitalocean - /r ");
        assert_eq!(shown(&none, &[(LINE, "systemd.imds.vendor=foo")]), "- foo - - ");
        let (_dir, ctx) = world(&[URL, ("SYSTEMD_IMDS_VENDOR", "scaleway")]);
        let endpoint = resolve(&ctx, &none).unwrap().unwrap();
        assert_eq!(endpoint.traits.low_port_paths, ["/user_data", "/vendor_data"]);
        assert!(endpoint.well_known.is_empty());
    }

    #[test]
    fn an_unusable_endpoint_is_status_6_with_the_peers_words() {
        let mut endpoint = Endpoint::default();
        let said = |endpoint: Option<&Endpoint>| {
            let err = usable(endpoint.cloned()).unwrap_err();
            assert_eq!(err.status(), 6);
            err.to_string()
        };
        assert!(said(None).starts_with("No IMDS endpoint information provided"));
        assert_eq!(said(Some(&endpoint)), "No data base URL provided.");
        endpoint.data_url = Some("http://x".to_owned());
        assert!(usable(Some(endpoint.clone())).is_ok());
        endpoint.token_url = Some("http://x".to_owned());
        assert_eq!(said(Some(&endpoint)), "Incomplete token parameters configured for endpoint.");
        endpoint.token_header_name = Some("T".to_owned());
        assert!(usable(Some(endpoint.clone())).is_ok());
    }
}
