//! The two files that systemd-networkd and systemd-resolved read.
//!
//! Sections, settings and their order are the peer's.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::super::model::{Endpoint, FIREWALL_MARK};
use super::{Mode, addresses, complaint};
use crate::ctx::Ctx;
use crate::error::{Context as _, Result};
use crate::fs::Files;

/// Brings up Ethernet before anybody configured a network.
const NETWORK: &str = "/run/systemd/network/85-imds-early.network";
/// Gives the service the name `_imds`.
const RECORDS: &str = "/run/systemd/resolve/static.d/imds-endpoint.rr";
const FILE_MODE: u32 = 0o644;

/// One file as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path in the tree.
    pub path: &'static str,
    /// All of it.
    pub contents: String,
}

/// The files to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePlan {
    /// In the order they are written.
    pub files: Vec<PlannedFile>,
    /// What the user should know before.
    pub warnings: Vec<String>,
}

impl fmt::Display for FilePlan {
    /// As a dry run shows it: warnings as comments, then each file after a line with its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.warnings.iter().try_for_each(|warning| writeln!(f, "# {warning}"))?;
        for file in &self.files {
            writeln!(f, "# {}\n{}", file.path, file.contents)?;
        }
        Ok(())
    }
}

/// What to write for an endpoint. COMPAT(262): nothing in mode `off`, and no records without an
/// address; what an earlier run wrote stays in both cases.
pub fn plan_files(endpoint: &Endpoint, mode: Mode) -> FilePlan {
    let mut plan = FilePlan::default();
    if mode == Mode::Off {
        return plan;
    }
    plan.files.push(PlannedFile { path: NETWORK, contents: network(endpoint, mode) });
    let records: Vec<Value> = addresses(endpoint).map(record).collect();
    if !records.is_empty() {
        let contents = format!("{}\n", Value::from(records));
        plan.files.push(PlannedFile { path: RECORDS, contents });
    }
    plan.warnings.extend(complaint(endpoint, mode));
    plan
}

/// Writes what is not there yet, each file at once.
///
/// # Errors
/// A directory or file cannot be written.
pub fn apply_files(ctx: &Ctx, plan: &FilePlan) -> Result<()> {
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    let files = Files::default();
    for file in &plan.files {
        let path = ctx.at(file.path);
        if is_there(&path, &file.contents) {
            continue;
        }
        let name = Path::new(file.path).file_name().unwrap_or_default().to_string_lossy();
        files
            .create_dirs(path.parent().unwrap_or(&path))
            .and_then(|()| files.write_atomic(ctx, &path, file.contents.as_bytes(), FILE_MODE))
            .context(|| format!("Failed to write '{}'", path.display()))?;
        log::info!("Created {name}.");
    }
    Ok(())
}

/// Removes both files; those that are not there are fine.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_files(ctx: &Ctx) -> Result<()> {
    for path in [NETWORK, RECORDS] {
        let path = ctx.at(path);
        let removed = Files::default().remove(&path);
        removed.context(|| format!("Failed to remove '{}'", path.display()))?;
    }
    Ok(())
}

fn is_there(path: &Path, contents: &str) -> bool {
    let has_mode = std::fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_file() && metadata.permissions().mode() & 0o7777 == FILE_MODE
    });
    has_mode && std::fs::read(path).is_ok_and(|old| old == contents.as_bytes())
}

/// An address record of the name `_imds`, class IN.
fn record(address: IpAddr) -> Value {
    let (kind, octets) = match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (28, address.octets().to_vec()),
    };
    json!({ "key": { "class": 1, "type": kind, "name": "_imds" }, "address": octets })
}

fn network(endpoint: &Endpoint, mode: Mode) -> String {
    let mut text = "\
        # Written by imdsd and written anew at every boot; changes are lost.\n\
        #\n\
        # Metadata come over the network, so a cloud's instance needs one before anybody could\n\
        # have configured it. Any other .network file whose name sorts earlier is preferred.\n"
        .to_owned();
    section(&mut text, "", "Match", &["Type=ether", "Kind=!*"]);
    section(&mut text, "", "Network", &["DHCP=yes", "LinkLocalAddressing=ipv6"]);
    section(&mut text, "", "DHCP", &["UseTimezone=yes", "UseHostname=yes", "UseMTU=yes"]);
    if let Some(first) = addresses(endpoint).next() {
        let family = format!("RequiredFamilyForOnline={}", family(first));
        section(&mut text, "", "Link", &[&family]);
    }
    if mode == Mode::Locked {
        for address in addresses(endpoint) {
            let comment = "Only what carries the mark may talk to the service.";
            let destination = format!("Destination={address}");
            section(&mut text, comment, "Route", &[&destination, "Type=prohibit"]);
        }
    }
    let table = format!("Table=0x{FIREWALL_MARK:X}");
    let mark = format!("FirewallMark=0x{FIREWALL_MARK:X}");
    for address in addresses(endpoint) {
        let destination = format!("Destination={address}");
        let mut lines = vec![destination.as_str()];
        if address.is_ipv4() {
            lines.push("Scope=link");
        }
        lines.push(&table);
        section(&mut text, "What carries the mark gets there by this table.", "Route", &lines);
        let family = format!("Family={}", family(address));
        section(&mut text, "", "RoutingPolicyRule", &[&family, &mark, &table]);
    }
    text
}

fn section(text: &mut String, comment: &str, name: &str, lines: &[&str]) {
    text.push('\n');
    if !comment.is_empty() {
        let _ = writeln!(text, "# {comment}");
    }
    let _ = writeln!(text, "[{name}]");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}
