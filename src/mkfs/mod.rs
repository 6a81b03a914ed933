//! Making file systems and filling them: with the `mkfs` programs of the host where those exist,
//! with writers of our own for FAT and swap space.

mod arguments;
mod build;
mod directory;
mod minimal;
mod program;
pub mod swap;
pub mod tree;
pub mod vfat;
mod walk;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use uuid::Uuid;

use crate::ctx::Ctx;
use crate::disk::Disk;
use crate::error::{Context as _, Error, Result};

pub use minimal::{Minimal, make_minimal};
pub use program::find;
pub use tree::Tree;

/// A file system that is to be made.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its kind, by the name its `mkfs` has: `ext4`, `vfat`, `swap`.
    pub file_system: String,
    /// Label of the partition; cut to what the file system can hold.
    pub label: String,
    /// UUID of the file system.
    pub uuid: Uuid,
    /// Sector size it is made for, in bytes.
    pub sector_size: u32,
    /// Unused blocks may be given back to the device.
    pub discards: bool,
    /// `Compression=` and `CompressionLevel=`.
    pub compression: Option<Compression>,
    /// Subvolumes, where there are such things.
    pub subvolumes: Vec<Subvolume>,
    /// The subvolume that is mounted if none is named.
    pub default_subvolume: Option<PathBuf>,
    /// What is put into it; none leaves it empty.
    pub tree: Option<Tree>,
    /// `--offline=`: whether mounts and loop devices must not, or must, be used.
    pub is_offline: Option<bool>,
}

impl Spec {
    /// The time of what is made rather than copied.
    fn epoch(&self, ctx: &Ctx) -> SystemTime {
        self.tree.as_ref().and_then(|tree| tree.epoch).unwrap_or_else(|| ctx.now())
    }
}

/// How files are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Name of the algorithm, as the tool knows it.
    pub algorithm: String,
    /// Level, as the tool knows it.
    pub level: Option<String>,
}

/// One subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Absolute path in the new file system.
    pub path: PathBuf,
    /// It is made read-only.
    pub is_read_only: bool,
    /// Its files are not copied on write.
    pub is_no_data_cow: bool,
}

/// Finds every reason why this file system cannot be made here; changes nothing.
///
/// # Errors
///
/// A program that is missing or too old, files that cannot be read or whose owners cannot be kept.
pub fn check(ctx: &Ctx, spec: &Spec) -> Result<()> {
    find(ctx, &spec.file_system)?;
    check_options(ctx, spec)?;
    let Some(tree) = &spec.tree else { return Ok(()) };
    match spec.file_system.as_str() {
        "swap" => return Err(Error::new("Swap space takes no files.")),
        "vfat" => {
            let entries = walk::entries(tree)?;
            vfat::size_needed(&fat_settings(ctx, spec), &fat_items(ctx, spec, &entries))?;
            return Ok(());
        }
        _ => {}
    }
    let is_privileged = program::is_root();
    let can_mount = is_privileged && spec.is_offline != Some(true);
    if !can_mount && !build::is_dispensable(spec) && build::needs_mount(ctx, spec)? {
        return Err(build::cannot_populate(spec));
    }
    if is_privileged { Ok(()) } else { check_files(tree) }
}

/// Finds out what is asked of a program that is too old for it.
fn check_options(ctx: &Ctx, spec: &Spec) -> Result<()> {
    if spec.file_system != "btrfs" {
        return Ok(());
    }
    let is_compressed = spec.compression.is_some() && spec.tree.is_some();
    let is_no_data_cow = spec.subvolumes.iter().any(|subvolume| subvolume.is_no_data_cow);
    let wanted = [
        (!spec.subvolumes.is_empty(), "Subvolumes=", "--subvol"),
        (is_compressed, "Compression=", "--compress"),
        (is_no_data_cow, "nodatacow in Subvolumes=", "--inode-flags"),
    ];
    if wanted.iter().all(|(is_wanted, ..)| !is_wanted) {
        return Ok(());
    }
    let help = program::help(ctx, spec)?;
    match wanted.iter().find(|(is_wanted, _, option)| *is_wanted && !help.contains(option)) {
        None => Ok(()),
        Some((_, key, option)) => {
            let error = format!("This mkfs.btrfs has no option '{option}' for {key}.");
            Err(Error::new(error).hint("btrfs-progs 6.16 has it."))
        }
    }
}

/// Finds files that this user cannot read or copy as they are.
fn check_files(tree: &Tree) -> Result<()> {
    use rustix::fs::{Access, access};
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let groups = rustix::process::getgroups().unwrap_or_default();
    tree.each(&mut |found| {
        let Some((path, metadata)) = found.source else { return Ok(()) };
        let kind = metadata.file_type();
        let is_group =
            metadata.gid() == gid || groups.iter().any(|group| group.as_raw() == metadata.gid());
        let is_device = kind.is_block_device() || kind.is_char_device();
        if metadata.uid() != uid || !is_group || is_device {
            let cause = std::io::Error::from(rustix::io::Errno::PERM);
            return Err(directory::foreign_owner(path, metadata, cause));
        }
        if !kind.is_file() {
            return Ok(());
        }
        access(path, Access::READ_OK)
            .map_err(std::io::Error::from)
            .context(|| format!("Failed to open '{}'", path.display()))
    })
}

/// Makes a file system that fills `target`, with what is to be in it. Nothing is synced.
///
/// # Errors
///
/// As [`check`], and those of the program and of writing.
pub fn make(ctx: &Ctx, spec: &Spec, target: &dyn Disk) -> Result<()> {
    match spec.file_system.as_str() {
        "vfat" => {
            let entries = match &spec.tree {
                Some(tree) => walk::entries(tree)?,
                None => Vec::new(),
            };
            for entry in entries.iter().filter(|entry| !fits_fat(entry)) {
                log::warn!("FAT cannot hold '/{}', skipping.", entry.path.display());
            }
            let items = fat_items(ctx, spec, &entries);
            vfat::make(target, &fat_settings(ctx, spec), &items, &mut |_, _| ())
        }
        "swap" => {
            let page_size = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
            let settings = swap::Settings { uuid: spec.uuid, label: &spec.label, page_size };
            swap::make(target, &settings)
        }
        _ => build::make(ctx, spec, target),
    }
}

fn fat_settings<'a>(ctx: &Ctx, spec: &'a Spec) -> vfat::Settings<'a> {
    let [a, b, c, d, ..] = spec.uuid.into_bytes();
    vfat::Settings {
        volume_id: u32::from_be_bytes([a, b, c, d]),
        label: &spec.label,
        sector_size: spec.sector_size,
        now: seconds(spec.epoch(ctx)),
    }
}

/// What FAT can hold of a tree.
fn fat_items(ctx: &Ctx, spec: &Spec, entries: &[walk::Entry]) -> Vec<vfat::Item> {
    let now = seconds(spec.epoch(ctx));
    // As the peer has it: nothing in a reproducible image is younger than its epoch, and
    // directories have that.
    // DIFFERS: without one, directories have their times, too, and not that of their copying.
    let is_level = spec.tree.as_ref().is_some_and(|tree| tree.epoch.is_some());
    let item = |entry: &walk::Entry| {
        let source = match (&entry.kind, &entry.source) {
            (walk::Kind::File(len), Some((path, _))) => Some((path.clone(), *len)),
            _ => None,
        };
        let modified = match entry.kind {
            walk::Kind::Directory if is_level => now,
            _ if is_level => entry.modified(now).min(now),
            _ => entry.modified(now),
        };
        vfat::Item { path: entry.path.clone(), source, modified }
    };
    // The root directory has neither a name nor times.
    let is_named = |entry: &&walk::Entry| !entry.path.as_os_str().is_empty();
    entries.iter().filter(|entry| fits_fat(entry)).filter(is_named).map(item).collect()
}

/// True for files and directories.
fn fits_fat(entry: &walk::Entry) -> bool {
    matches!(entry.kind, walk::Kind::Directory | walk::Kind::File(_))
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A name that nobody has, where temporary files belong.
fn temporary_path(ctx: &Ctx) -> PathBuf {
    let parent = ctx.env_os("TMPDIR").map(Path::new).filter(|dir| dir.is_absolute());
    let name = format!(".#repart{:016x}", u64::from_ne_bytes(ctx.random()));
    parent.unwrap_or(Path::new("/var/tmp")).join(name)
}
