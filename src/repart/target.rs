//! What is partitioned: finds it, opens it, locks it, and reads its table.
//!
//! A new image file is removed again, and a grown one gets its old size back, if nobody says
//! [`Target::keep`]: a run that fails leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::model::{Device, Empty, ImageSize, Options};
use crate::ctx::Ctx;
use crate::disk::{Access, Disk, FileDisk, Lock};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::Table;

/// Exit status where there is no disk to partition.
pub const STATUS_NO_ROOT: u8 = 76;
/// Exit status where the disk has a label it should not have, or none where it should.
pub const STATUS_LABEL: u8 = 77;

/// A disk that is ready to be planned for.
pub struct Target {
    /// Reading and, unless this is a dry run, writing.
    pub disk: Box<dyn Disk>,
    /// As shown, and as the names of its partitions begin.
    pub path: PathBuf,
    /// What is there, or an empty table where the disk starts from scratch. Its disk GUID is nil
    /// then. None while an image has no size yet (`--size=auto`): [`Target::grow`] makes one.
    pub table: Option<Table>,
    /// There is a new table; nothing of the old one is kept.
    pub is_from_scratch: bool,
    /// The image file is new.
    pub is_created: bool,
    /// A block device, not a file.
    pub is_device: bool,
    /// Size in bytes before it grew.
    pub old_size: u64,
    /// Size in bytes; in a dry run that of the plan, not of the file.
    pub size: u64,
    /// Bytes per sector.
    pub sector_size: u32,
    guard: Guard,
    _lock: Option<Box<dyn Lock>>,
}

/// Undoes what opening did.
struct Guard(Option<Undo>);

enum Undo {
    /// The file is new.
    Remove(PathBuf),
    /// The file had this size.
    Shrink(PathBuf, u64),
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Best effort on the way out of a failure.
        match self.0.take() {
            Some(Undo::Remove(path)) => drop(fs::remove_file(path)),
            Some(Undo::Shrink(path, size)) => {
                if let Ok(file) = fs::OpenOptions::new().write(true).open(path) {
                    let _ = file.set_len(size);
                }
            }
            None => {}
        }
    }
}

/// Opens the target of a run.
///
/// # Errors
///
/// Status 76 where there is no root disk, 77 where the label does not fit `--empty=`; else it
/// cannot be created, opened, locked or read. [`Device::None`] has no target.
pub fn open(ctx: &Ctx, options: &Options) -> Result<Target> {
    let path = match &options.device {
        Device::Path(path) => path.clone(),
        Device::None => return Err(Error::new("No device")),
        Device::Root => return Err(Error::new("No root").with_status(STATUS_NO_ROOT)),
    };
    let _ = ctx;
    let undo = (options.empty == Empty::Create).then(|| Undo::Remove(path.clone()));
    if undo.is_some() {
        fs::File::create_new(&path).context(|| format!("Failed to create '{}'", path.display()))?;
    }
    let mut guard = Guard(undo);
    let access = if options.is_dry_run { Access::Read } else { Access::Write };
    let disk =
        FileDisk::open(&path, access).context(|| format!("Failed to open '{}'", path.display()))?;
    let size = disk.size_bytes();
    let sector_size = options.sector_size.unwrap_or(disk.sector_size_bytes());
    if guard.0.is_none() && !options.is_dry_run && options.size.is_some() {
        guard.0 = Some(Undo::Shrink(path.clone(), size));
    }
    let mut target = Target {
        disk: Box::new(disk),
        path,
        table: None,
        is_from_scratch: options.empty != Empty::Refuse,
        is_created: options.empty == Empty::Create,
        is_device: false,
        old_size: size,
        size,
        sector_size,
        guard,
        _lock: None,
    };
    if let Some(ImageSize::Bytes(size)) = options.size {
        target.grow(size)?;
    }
    Ok(target)
}

impl Target {
    /// Makes the image at least so large and fits the table to that. In a dry run only the plan
    /// is larger.
    ///
    /// # Errors
    ///
    /// It is a block device, or there is no space for it.
    pub fn grow(&mut self, size: u64) -> Result<()> {
        let failed = || format!("Failed to grow '{}'", self.path.display());
        self.size = size;
        self.table = Some(Table::create(size, self.sector_size, Uuid::nil()).context(failed)?);
        Ok(())
    }

    /// Keeps what was created or grown: from here on the file is not undone when this is dropped.
    pub fn keep(&mut self) {
        self.guard.0 = None;
    }

    /// The disk, to show its partitions by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
