//! The partition table of a disk: read it, or change it under the lock, in the steps that survive
//! a power cut.

use std::io;
use std::path::Path;

use super::Disk;
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::{self, CopyState, GptError, Loaded, Step, Table};

/// Errno of a disk that is not what it should be.
const EMEDIUMTYPE: i32 = 124;

/// Reads the table. `path` is for messages.
///
/// # Errors
///
/// There is no GPT, or none that could be trusted; or the disk cannot be read.
pub fn read(disk: &dyn Disk, path: &Path) -> Result<Loaded> {
    let mut read = |offset: u64, len: usize| -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        disk.read_at(offset, &mut buffer)?;
        Ok(buffer)
    };
    gpt::load(disk.size_bytes(), disk.sector_size_bytes(), &mut read).map_err(|err| match err {
        GptError::Io(err) => Error::because(
            format!("Failed to read the partition table of '{}'", path.display()),
            err,
        ),
        err => Error::new(format!("Disk {} has no GPT disk label, not suitable.", path.display()))
            .with_errno(EMEDIUMTYPE)
            .hint(err.to_string()),
    })
}

/// Locks the disk, reads the table, lets `change` work on it and writes it back, if it is another
/// one then or one of its copies was damaged. The result is the table as it is now on the disk.
///
/// # Errors
///
/// As [`read`]; what `change` says, in which case nothing has been written; or the disk cannot be
/// written.
pub fn change(
    disk: &dyn Disk,
    path: &Path,
    change: &mut dyn FnMut(&mut Table) -> Result<()>,
) -> Result<Table> {
    // Device managers wait for this lock before they look at the disk.
    let lock = disk.lock().context(|| format!("Failed to lock '{}'", path.display()))?;
    let Loaded { mut table, primary, backup } = read(disk, path)?;
    let old = table.clone();
    change(&mut table)?;
    let is_whole = primary == CopyState::Good && backup == CopyState::Good;
    if table != old || !is_whole {
        write(disk, path, &table)?;
    }
    drop(lock);
    Ok(table)
}

/// Writes a table, in the steps that survive a power cut. The lock is the caller's.
///
/// # Errors
///
/// The disk cannot be written.
pub fn write(disk: &dyn Disk, path: &Path, table: &Table) -> Result<()> {
    let failed = || format!("Failed to write the partition table of '{}'", path.display());
    for step in table.writes() {
        match step {
            Step::Write { offset, bytes, what } => {
                disk.write_at(offset, &bytes).context(|| format!("{}: {what}", failed()))?;
            }
            Step::Sync => disk.sync().context(failed)?,
        }
    }
    Ok(())
}
