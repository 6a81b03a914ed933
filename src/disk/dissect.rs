//! What the partitions of a disk image are for, and which of them make up its tree.
//!
//! Why: an image is another system to work on, as a directory is. External specification: the
//! Discoverable Partitions Specification (UAPI.2). Choosing is a matter of the table alone;
//! [`mounted`] does what needs privileges.

pub mod mounted;
mod policy;
mod probe;

use std::path::Path;

use super::{Disk, table};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::types::{self, LINUX_GENERIC};
use crate::format::gpt::{FLAG_NO_AUTO, FLAG_READ_ONLY, Partition, Table};
use crate::format::version;

pub use policy::Policy;
pub use probe::{FileSystem, probe};

/// Firmware is not to offer the partition: what an ESP has for the no-auto bit.
const FLAG_NO_BLOCK_IO: u64 = 1 << 1;

const EINVAL: i32 = 22;
const ERFKILL: i32 = 132;
const ENOPKG: i32 = 65;
const ENXIO: i32 = 6;

/// What a partition is in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `/`
    Root,
    /// `/usr`
    Usr,
    /// `/home`
    Home,
    /// `/srv`
    Srv,
    /// `/var`
    Var,
    /// `/var/tmp`
    Tmp,
    /// `/boot`
    Xbootldr,
    /// `/efi` or `/boot`
    Esp,
}

impl Role {
    /// All, in the order in which they are mounted.
    pub const ALL: [Self; 8] = [
        Self::Root,
        Self::Usr,
        Self::Home,
        Self::Srv,
        Self::Var,
        Self::Tmp,
        Self::Xbootldr,
        Self::Esp,
    ];

    /// Its name in policies and in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Usr => "usr",
            Self::Home => "home",
            Self::Srv => "srv",
            Self::Var => "var",
            Self::Tmp => "tmp",
            Self::Xbootldr => "xbootldr",
            Self::Esp => "esp",
        }
    }
}

/// A part of an image that belongs to its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub role: Role,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
    /// False where the table says that it is not to be written to, or Verity data covers it.
    pub is_writable: bool,
    /// What is in it.
    pub file_system: FileSystem,
}

/// The parts of a disk to mount, the root (or `/usr`) first. `path` is for messages.
///
/// # Errors
///
/// There is neither a partition table nor a file system, or nothing that could be a root; or the
/// policy demands what is not so.
pub fn dissect(disk: &dyn Disk, path: &Path, policy: &Policy) -> Result<Vec<Part>> {
    let shown = path.display();
    let unreadable = || format!("Failed to read '{}'", path.display());
    if let Some(file_system) = probe(disk, 0, disk.size_bytes()).context(unreadable)? {
        let is_used =
            policy.allows_use(Role::Root, false).map_err(|err| mismatch(path, &err.to_string()))?;
        if !is_used {
            return Err(no_root(path));
        }
        let size = disk.size_bytes();
        return Ok(vec![Part {
            role: Role::Root,
            offset: 0,
            size,
            is_writable: true,
            file_system,
        }]);
    }
    let table = table::read(disk, path).map_err(|err| {
        Error::new(format!("{shown}: Couldn't identify a suitable partition table or file system."))
            .with_errno(ENOPKG)
            .hint(err.to_string())
    })?;
    let table = table.table;
    let mut parts = Vec::new();
    for Chosen { role, partition, is_writable } in select(&table) {
        let Some(partition) = partition else {
            policy.check_absent(role).map_err(|err| mismatch(path, &err.to_string()))?;
            continue;
        };
        let is_used = policy
            .allows_use(role, partition.flags & FLAG_READ_ONLY != 0)
            .map_err(|err| mismatch(path, &err.to_string()))?;
        let Some(extent) = table.extent(&partition) else { continue };
        if !is_used {
            continue;
        }
        let size = extent.end - extent.start;
        let Some(file_system) = probe(disk, extent.start, size).context(unreadable)? else {
            if matches!(role, Role::Root | Role::Usr) {
                let text = format!(
                    "{shown}: Partition {} ({}) has no file system that is known here.",
                    partition.number,
                    role.name()
                );
                return Err(Error::new(text).with_errno(ENOPKG).hint(
                    "Encrypted partitions are not supported; open and mount the image yourself, \
                     and use --root=",
                ));
            }
            continue;
        };
        parts.push(Part { role, offset: extent.start, size, is_writable, file_system });
    }
    if !parts.first().is_some_and(|part| matches!(part.role, Role::Root | Role::Usr)) {
        return Err(no_root(path));
    }
    Ok(parts)
}

fn no_root(path: &Path) -> Error {
    Error::new(format!("{}: No root partition discovered.", path.display()))
        .with_errno(ENXIO)
        .hint("Neither a root nor a /usr partition for this architecture is to be used")
}

fn mismatch(path: &Path, why: &str) -> Error {
    Error::new(format!("{}: Image does not match image policy.", path.display()))
        .with_errno(ERFKILL)
        .hint(why)
}

/// The partition that a table has for a role, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The role.
    pub role: Role,
    /// The partition.
    pub partition: Option<Partition>,
    /// Whether its flags, and what protects it, leave it writable.
    pub is_writable: bool,
}

/// Chooses a partition for each role: of several the one whose label is the newest version, of
/// this architecture before the other one that runs here. Without any for `/` and `/usr` it is
/// the only one of the generic type.
pub fn select(table: &Table) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = Role::ALL.into_iter().map(|role| choose(table, role)).collect();
    if chosen.iter().take(2).all(|one| one.partition.is_none())
        && let Some(root) = chosen.first_mut()
    {
        let mut generic = table
            .partitions()
            .filter(|one| one.type_uuid == LINUX_GENERIC && one.flags & FLAG_NO_AUTO == 0);
        if let (Some(only), None) = (generic.next(), generic.next()) {
            root.is_writable = only.flags & FLAG_READ_ONLY == 0;
            root.partition = Some(only);
        }
    }
    chosen
}

fn choose(table: &Table, role: Role) -> Chosen {
    let name = role.name();
    for suffix in ["", "-secondary"] {
        let Some(wanted) = types::by_name(&format!("{name}{suffix}")) else { continue };
        let skip = if role == Role::Esp { FLAG_NO_BLOCK_IO } else { FLAG_NO_AUTO };
        let mut newest: Option<Partition> = None;
        for one in table.partitions() {
            // A slot that is free says so.
            if one.type_uuid != wanted || one.flags & skip != 0 || one.name == "_empty" {
                continue;
            }
            let is_newer = newest
                .as_ref()
                .is_none_or(|other| version::compare(&one.name, &other.name).is_gt());
            if is_newer && table.extent(&one).is_some() {
                newest = Some(one);
            }
        }
        if let Some(partition) = newest {
            let verity = types::by_name(&format!("{name}{suffix}-verity"));
            // Whoever writes below Verity breaks what it vouches for.
            let is_protected = verity.is_some_and(|verity| {
                table.partitions().any(|one| one.type_uuid == verity && one.name != "_empty")
            });
            let is_writable = partition.flags & FLAG_READ_ONLY == 0 && !is_protected;
            return Chosen { role, partition: Some(partition), is_writable };
        }
    }
    Chosen { role, partition: None, is_writable: false }
}

// The vectors are packed.
#[cfg(test)]
#[cfg(feature = "update")]
mod tests;
