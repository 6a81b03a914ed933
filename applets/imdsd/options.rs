//! Values of `imdsd`'s options, checked as the peer checks them and refused in its words.
//!
//! An empty value resets an option; each type here can say so.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ::slipway::conf::{timespan, value};
use ::slipway::imds::engine::is_key;
use ::slipway::imds::model::{Mark, WellKnown};
use ::slipway::net;

use crate::cli::{self, printable};

/// A network interface by name, alternative name or index.
pub(super) struct Name(pub(super) Option<String>);

/// `--refresh=`; none is the default.
pub(super) struct Refresh(pub(super) Option<Duration>);

/// `--well-known=`.
pub(super) struct Known(pub(super) Option<WellKnown>);

/// `--extra-header=`; an empty one gives up those before it.
pub(super) struct Header(pub(super) String);

/// `--address-ipv4=`, `--address-ipv6=`.
pub(super) struct Address<T>(pub(super) Option<T>);

/// `--well-known-key=`.
pub(super) struct KnownKey(pub(super) Option<(WellKnown, String)>);

fn refuse<T>(text: String) -> Result<T, String> {
    Err(cli::sentence(&text))
}

pub(super) fn interface(text: &str) -> Result<Name, String> {
    let is_index = || text.parse::<i32>().is_ok_and(|index| index > 0);
    match text {
        "" => Ok(Name(None)),
        _ if net::interface::is_valid_name(text) || is_index() => Ok(Name(Some(text.to_owned()))),
        _ => refuse(format!("Interface name '{}' is not valid.", printable(text))),
    }
}

pub(super) fn refresh(text: &str) -> Result<Refresh, String> {
    if text.is_empty() {
        return Ok(Refresh(None));
    }
    match timespan::parse(text) {
        Ok(time) => Ok(Refresh(Some(time.unwrap_or(Duration::MAX)))),
        Err(_) => refuse(format!("Failed to parse refresh timeout: {}", printable(text))),
    }
}

pub(super) fn mark(text: &str) -> Result<Mark, String> {
    match text {
        "" => Ok(Mark::Off),
        "default" => Ok(Mark::Default),
        _ => match value::unsigned(text).ok().and_then(|mark| u32::try_from(mark).ok()) {
            Some(mark) => Ok(Mark::Value(mark)),
            None => refuse(format!("Failed to parse --fwmark= parameter: {}", printable(text))),
        },
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    value::boolean(text)
        .map_err(|_| format!("Failed to parse boolean argument to '{{option}}': {text}"))
}

pub(super) fn well_known(text: &str) -> Result<Known, String> {
    match text {
        "" => Ok(Known(None)),
        _ => match WellKnown::parse(text) {
            Some(name) => Ok(Known(Some(name))),
            None => refuse("Failed to parse --well-known= parameter: Invalid argument".to_owned()),
        },
    }
}

/// COMPAT(262): the scheme in lower case, and ASCII; nothing else is looked at.
pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_good = rest.is_some_and(|rest| !rest.is_empty()) && text.is_ascii();
    if is_good || text.is_empty() {
        return Ok(text.to_owned());
    }
    refuse(format!("Invalid URL: {}", printable(text)))
}

/// ASCII without control characters.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

pub(super) fn suffix(text: &str) -> Result<String, String> {
    match is_plain(text) {
        true => Ok(text.to_owned()),
        false => refuse(format!("Invalid URL suffix: {}", printable(text))),
    }
}

pub(super) fn header_name(text: &str) -> Result<String, String> {
    match is_plain(text) && !text.contains(':') {
        true => Ok(text.to_owned()),
        false => refuse(format!("Invalid HTTP header name: {}", printable(text))),
    }
}

pub(super) fn header(text: &str) -> Result<Header, String> {
    match is_plain(text) && (text.is_empty() || text.contains(':')) {
        true => Ok(Header(text.to_owned())),
        false => refuse(format!("Invalid HTTP header: {}", printable(text))),
    }
}

pub(super) fn ipv4(text: &str) -> Result<Address<Ipv4Addr>, String> {
    address(text, "IPv4")
}

pub(super) fn ipv6(text: &str) -> Result<Address<Ipv6Addr>, String> {
    address(text, "IPv6")
}

fn address<T: std::str::FromStr>(text: &str, family: &str) -> Result<Address<T>, String> {
    match (text, text.parse()) {
        ("", _) => Ok(Address(None)),
        (_, Ok(address)) => Ok(Address(Some(address))),
        _ => refuse(format!("Failed to parse {family} address: {}", printable(text))),
    }
}

pub(super) fn known_key(text: &str) -> Result<KnownKey, String> {
    if text.is_empty() {
        return Ok(KnownKey(None));
    }
    let Some((name, key)) = text.split_once(':') else {
        return refuse("--well-known-key= expects colon separated name and key pairs.".to_owned());
    };
    let Some(name) = WellKnown::parse(name) else {
        return refuse("Failed to parse --well-known-key= argument: Invalid argument".to_owned());
    };
    if !is_key(key) {
        return refuse(format!("Well known key '{}' is not valid.", printable(key)));
    }
    Ok(KnownKey(Some((name, key.to_owned()))))
}
