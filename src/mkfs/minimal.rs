//! `Minimize=`: file systems that are no larger than what is in them, or not much.
//!
//! Those that are made with their contents are as small as can be. btrfs shrinks by itself, FAT is
//! calculated; of the others a very large one is made, to see how much of it is used, and then one
//! that has half as much again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Spec, build, check, fat_items, fat_settings, temporary_path, vfat, walk};
use crate::ctx::Ctx;
use crate::disk::{Access, FileDisk};
use crate::error::{Context as _, Error, Result};
use crate::fs::undo::Undo;
use crate::sys::fs;

/// Room in the file system that is measured, in bytes; its file is all holes.
const TRIAL_SIZE: u64 = 1 << 40;
/// What sizes are multiples of, in bytes.
const GRAIN: u64 = 4096;

/// What use is counted in, and how much is read at once, in bytes.
const BLOCK: usize = 4096;
const BUFFER: usize = 256 * BLOCK;

/// Least size of file systems, in bytes.
const LEAST: &[(&str, u64)] = &[
    ("ext2", 32 << 20),
    ("ext3", 32 << 20),
    ("ext4", 32 << 20),
    ("f2fs", 128 << 20),
    ("vfat", 100 << 20),
    ("xfs", 300 << 20),
];
/// Least size of a FAT file system with sectors of 4096 bytes, in bytes.
const LEAST_FAT_4K: u64 = 260 << 20;

/// A file system that is as small as it can be, in a temporary file that goes with this.
#[derive(Debug)]
pub struct Minimal {
    path: PathBuf,
    /// How large it is, in bytes.
    pub size: u64,
    _undo: Undo,
}

impl Minimal {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It, for reading.
    ///
    /// # Errors
    ///
    /// Those of opening.
    pub fn open(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }
}

/// Makes a file system as small as its contents allow (`Minimize=`), in a temporary file.
///
/// # Errors
///
/// As [`super::make`].
pub fn make_minimal(ctx: &Ctx, spec: &Spec) -> Result<Minimal> {
    check(ctx, spec)?;
    let path = temporary_path(ctx);
    let failed = || format!("Failed to create '{}'", path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path).context(failed)?;
    let undo = Undo::remove(path.clone());
    let mut minimal = Minimal { path: path.clone(), size: 0, _undo: undo };
    let least = LEAST.iter().find(|row| row.0 == spec.file_system).map_or(GRAIN, |row| row.1);
    let sized = |size: u64, shrinks: bool| -> Result<()> {
        let work = build::Work::new(ctx)?;
        build::build(ctx, spec, &work, &path, size, shrinks)
    };
    match spec.file_system.as_str() {
        "erofs" | "squashfs" => sized(0, false)?,
        // In an empty file it decides itself where to begin; what it allocates at first is a share
        // of the whole and stays.
        "btrfs" => sized(0, true)?,
        "vfat" => {
            let entries = spec.tree.as_ref().map(walk::entries).transpose()?.unwrap_or_default();
            let (settings, items) = (fat_settings(ctx, spec), fat_items(ctx, spec, &entries));
            let least = if spec.sector_size < 4096 { least } else { LEAST_FAT_4K };
            let size = vfat::size_needed(&settings, &items)?.max(least);
            file.set_len(size.next_multiple_of(GRAIN)).context(failed)?;
            let disk = FileDisk::open(&path, Access::Write).context(failed)?;
            vfat::make(&disk, &settings, &items, &mut |_, _| ())?;
        }
        "swap" => return Err(Error::new("Swap space cannot be minimised.")),
        kind => {
            if build::needs_mount(ctx, spec)? {
                return Err(build::cannot_populate(spec));
            }
            sized(TRIAL_SIZE, false)?;
            let used = used_bytes(&path).context(failed)?;
            let spare = if kind == "xfs" { used } else { used / 2 };
            sized((used + spare).max(least).next_multiple_of(GRAIN), false)?;
        }
    }
    minimal.size = std::fs::metadata(&path).context(failed)?.len();
    file.sync_all().context(failed)?;
    Ok(minimal)
}

/// How much of a file is not zero, in bytes. What is allocated is no measure: some programs zero a
/// journal of 1 GiB by writing it.
fn used_bytes(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let (mut at, mut used) = (0, 0);
    let mut buffer = vec![0; BUFFER];
    while let Some((start, end)) = fs::next_data(&file, at)? {
        at = start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let (bytes, _) = buffer.split_at_mut(len);
            file.read_exact_at(bytes, at)?;
            let blocks = bytes.chunks(BLOCK).filter(|block| block.iter().any(|byte| *byte != 0));
            used += blocks.count() as u64 * BLOCK as u64;
            at += len as u64;
        }
    }
    Ok(used)
}
