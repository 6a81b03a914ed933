//! Who made this machine: what firmware and kernel command line say.
//!
//! A cloud is known by the strings of its firmware (SMBIOS), which the kernel joins to a modalias
//! and the provider table matches with patterns. The asset tag of the chassis is not in there, nor
//! are serial number and UUID, so they are appended; see `providers.hwdb` for the names that come
//! out of this. Machines without SMBIOS may have a word on the kernel command line.
//!
//! External spec: Documentation/ABI/testing/sysfs-class-dmi of Linux.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::condition;
use crate::conf::cmdline::{self, Cmdline};
use crate::conf::value;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::format::smbios;

/// LIMIT: bytes of one string of the firmware.
const STRING_MAX: u64 = 4096;

/// LIMIT: bytes of the firmware's tables.
const TABLE_MAX: u64 = 1 << 20;

/// LIMIT: words of the kernel command line, and bytes of one, that are asked for.
const WORDS_MAX: usize = 256;
const WORD_MAX: usize = 128;

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `dmi:bvn…:`; not set where there is no SMBIOS.
    pub modalias: Option<String>,
    /// The asset tag of the chassis, without blanks at its end; empty where there is none.
    pub chassis_asset_tag: String,
    /// The serial number of the machine; root only.
    pub product_serial: String,
    /// The UUID of the machine, lower case; root only.
    pub product_uuid: String,
    /// Words of the kernel command line.
    pub words: Vec<String>,
}

impl Identity {
    /// The names that the compiled database is asked for.
    ///
    /// DIFFERS: the peer's generator asks with the asset tag as it is, its daemon (through udev)
    /// without blanks at the end; we have one answer for both.
    pub fn names(&self) -> Vec<String> {
        let Some(modalias) = &self.modalias else { return Vec::new() };
        let mut names = vec![modalias.clone()];
        if !self.chassis_asset_tag.is_empty() {
            names.push(format!("{modalias}cat{}:", self.chassis_asset_tag));
        }
        names
    }

    /// The names that only our own table and text files are asked for.
    pub fn own_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Some(mut name) = self.names().pop() {
            for (key, text) in [("psn", &self.product_serial), ("puu", &self.product_uuid)] {
                if !text.is_empty() {
                    name.push_str(&format!("{key}{text}:"));
                }
            }
            names.push(name);
        }
        names.extend(self.words.iter().map(|word| format!("cmdline:{word}")));
        names
    }
}

/// Reads who this machine is; `None` where nothing says so, and in a container, whose host it is
/// that the firmware speaks of, unless `systemd.imds=yes` says that we may.
///
/// # Errors
/// None at present; what cannot be read is not there.
pub fn read(ctx: &Ctx) -> Result<Option<Identity>> {
    let line = command_line(ctx);
    if condition::container(ctx).is_some() && !is_forced(ctx, &line) {
        log::debug!("Running in a container, not looking for a metadata service.");
        return Ok(None);
    }
    let mut identity = match directory(ctx) {
        Some(directory) => from_sysfs(&directory),
        None => from_tables(ctx).unwrap_or_default(),
    };
    identity.words = line
        .words()
        .filter(|word| !word.is_empty() && word.len() <= WORD_MAX)
        .take(WORDS_MAX)
        .map(str::to_owned)
        .collect();
    let is_known = identity.modalias.is_some() || !identity.words.is_empty();
    Ok(is_known.then_some(identity))
}

/// The kernel command line; nothing where there is none, as before `/proc` is there.
pub(super) fn command_line(ctx: &Ctx) -> Cmdline {
    Cmdline::effective(ctx).unwrap_or_else(|err| {
        log::debug!("{err}, going on without kernel command line");
        Cmdline::default()
    })
}

fn is_forced(ctx: &Ctx, line: &Cmdline) -> bool {
    line.value("systemd.imds", cmdline::is_initrd(ctx))
        .is_some_and(|word| value::boolean(word) == Ok(true))
}

/// Where the kernel shows the strings.
pub(super) fn directory(ctx: &Ctx) -> Option<PathBuf> {
    ["class/dmi/id", "devices/virtual/dmi/id"]
        .into_iter()
        .map(|path| ctx.sys(path))
        .find(|path| path.is_dir())
}

fn from_sysfs(directory: &Path) -> Identity {
    let text = |name: &str| string(&directory.join(name)).unwrap_or_default();
    let modalias = string(&directory.join("modalias")).filter(|text| !text.is_empty());
    Identity {
        modalias,
        chassis_asset_tag: text("chassis_asset_tag"),
        product_serial: text("product_serial"),
        product_uuid: text("product_uuid").to_ascii_lowercase(),
        words: Vec::new(),
    }
}

/// What the kernel would say if it had been built to: from the tables themselves.
fn from_tables(ctx: &Ctx) -> Option<Identity> {
    let read = |name: &str| {
        let mut bytes = Vec::new();
        let file = fs::File::open(ctx.sys("firmware/dmi/tables").join(name)).ok()?;
        file.take(TABLE_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let version = smbios::version(&read("smbios_entry_point")?)?;
    let strings = smbios::parse(&read("DMI")?, version);
    let text = |text: &Option<String>| cleaned(text.as_deref().unwrap_or_default());
    Some(Identity {
        modalias: Some(strings.modalias()),
        chassis_asset_tag: text(&strings.chassis_asset_tag).unwrap_or_default(),
        product_serial: text(&strings.product_serial).unwrap_or_default(),
        product_uuid: strings.product_uuid.unwrap_or_default(),
        words: Vec::new(),
    })
}

/// A string without its end of line and blanks there. One with control characters is none.
fn string(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(STRING_MAX).read_to_end(&mut bytes).ok()?;
    cleaned(&String::from_utf8_lossy(&bytes))
}

fn cleaned(text: &str) -> Option<String> {
    let text = text.trim_ascii_end();
    (!text.contains(char::is_control)).then(|| text.to_owned())
}
