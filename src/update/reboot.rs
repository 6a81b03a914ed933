//! Is something newer installed than what runs, and how to get there.

use std::cmp::Ordering;
use std::path::Path;
use std::process::Command;

use super::model::Entry;
use super::plan;
use super::sets;
use crate::conf::os_release::OsRelease;
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::format::version;

/// The newest version in place compared with the one that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The newest version in place.
    pub installed: String,
    /// IMAGE_VERSION= of the running system.
    pub booted: String,
    /// `Greater` if a reboot leads to something newer.
    pub order: Ordering,
}

impl Comparison {
    /// The sentence for it; `advice` is added where a reboot would help.
    pub fn text(&self, advice: &str) -> String {
        let Self { installed, booted, order } = self;
        let newest = format!("Newest installed version '{installed}'");
        match order {
            Ordering::Greater => {
                format!("{newest} is newer than booted version '{booted}'.{advice}")
            }
            Ordering::Equal => format!("{newest} matches booted version '{booted}'."),
            Ordering::Less => format!("{newest} is older than booted version '{booted}'."),
        }
    }
}

/// Compares what is installed with what runs.
///
/// # Errors
/// os-release does not say what runs, or nothing is installed.
pub fn compare(ctx: &Ctx, entries: &[Entry]) -> Result<Comparison> {
    let booted = booted_version(ctx)?;
    let members = plan::members(entries);
    let sets = sets::compute(&members);
    let current = sets.current().ok_or_else(|| {
        Error::new("Couldn't find any suitable installed versions.").with_errno(2)
    })?;
    let order = version::compare(current.version, &booted);
    Ok(Comparison { installed: current.version.to_owned(), booted, order })
}

/// IMAGE_VERSION= of the running system.
///
/// # Errors
/// os-release cannot be read or has no such field.
pub fn booted_version(ctx: &Ctx) -> Result<String> {
    let release = OsRelease::load(ctx).context(|| "Failed to parse /etc/os-release".to_owned())?;
    match release.get("IMAGE_VERSION") {
        "" => Err(Error::new("/etc/os-release lacks IMAGE_VERSION= field.").with_errno(61)), // ENODATA
        version => Ok(version.to_owned()),
    }
}

/// Names a command that reboots, for init systems we do not know.
const OVERRIDE: &str = "SLIPWAY_REBOOT_COMMAND";

/// Asks the init system for a reboot.
///
/// DIFFERS: the peer speaks D-Bus to logind only. Whatever init runs, its own command knows how to
/// stop services first.
///
/// # Errors
/// The command is not there or fails.
pub fn reboot(ctx: &Ctx) -> Result<()> {
    let words: Vec<String> = match ctx.env(OVERRIDE) {
        Some(command) => command.split_whitespace().map(str::to_owned).collect(),
        None => default_command().iter().map(|word| (*word).to_owned()).collect(),
    };
    let (program, args) = words.split_first().ok_or_else(|| {
        Error::new(format!("Failed to issue reboot request: ${OVERRIDE} is empty"))
    })?;
    let status = Command::new(program)
        .args(args)
        .status()
        .context(|| format!("Failed to issue reboot request with '{program}'"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!("Failed to issue reboot request: '{program}' returned {status}")))
}

fn default_command() -> &'static [&'static str] {
    let is = |path: &str| Path::new(path).exists();
    if is("/run/systemd/system") {
        &["systemctl", "reboot"]
    } else if is("/run/openrc") {
        &["openrc-shutdown", "--reboot", "now"]
    } else {
        &["reboot"]
    }
}
