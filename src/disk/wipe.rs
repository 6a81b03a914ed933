//! Makes a range forget what was in it.

use std::io;

use super::Disk;
use crate::format::superblock;

/// Overwrites everything in a range that a file system, a volume or a partition table is known by.
/// True if there was anything.
///
/// # Errors
///
/// The disk cannot be read or written.
pub fn wipe(disk: &dyn Disk, offset: u64, len: u64) -> io::Result<bool> {
    let mut read = |at: u64, buffer: &mut [u8]| disk.read_at(offset + at, buffer);
    let found = superblock::find(len, &mut read)?;
    for signature in &found {
        disk.write_at(offset + signature.offset, &vec![0; signature.len])?;
    }
    Ok(!found.is_empty())
}
