//! Disks: a seam between those who write partitions and what a disk happens to be.
//!
//! A disk is a block device or a plain image file; nothing here needs root or a loop device for
//! the latter. The seam is also where a test cuts the power: everything between two
//! [`Disk::sync`]s may be lost, in any order.

pub mod backing;
#[cfg(feature = "repart")]
pub mod copy;
pub mod dissect;
mod file;
#[cfg(feature = "repart")]
pub mod in_use;
pub mod table;
mod window;
#[cfg(feature = "repart")]
mod wipe;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use file::FileDisk;
pub use window::Window;
#[cfg(feature = "repart")]
pub use wipe::wipe;

/// Alignment of the buffer's address that lets [`Disk::write_bulk`] bypass the page cache.
pub const BULK_ALIGN: usize = 4096;

/// Random access to a whole disk. Offsets and lengths are bytes and need no alignment.
pub trait Disk: Send + Sync {
    /// Size of the disk.
    fn size_bytes(&self) -> u64;

    /// Logical sector size: 512, 1024, 2048 or 4096.
    fn sector_size_bytes(&self) -> u32;

    /// Fills the buffer; a range beyond the end is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes; a range beyond the end is an error. Durable after the next
    /// [`Disk::sync`] only.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// As [`Disk::write_at`], for payload: may bypass the page cache where the buffer is aligned to
    /// [`BULK_ALIGN`] and offset and length are whole sectors.
    fn write_bulk(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }

    /// Makes a range read as zeros, whatever was there.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()>;

    /// The next range at or after an offset that may hold anything but zeros; none where only
    /// zeros follow. A disk that does not know where its holes are has none.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let end = self.size_bytes();
        Ok((offset < end).then_some(offset..end))
    }

    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;

    /// Locks the disk against other writers and the device manager until the guard is dropped.
    fn lock(&self) -> io::Result<Box<dyn Lock>>;

    /// Tells the kernel that the entry of a partition has changed, where the disk is one the
    /// kernel knows. Best effort: a table the kernel has not seen is a table all the same.
    fn partition_changed(&self, _number: u32) {}

    /// Gives the blocks of a range back to what stores them; it may read as anything then. False
    /// where the disk cannot do so.
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Makes the disk at least so large, where it is a file; `is_allocated` takes the space now.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where it is not.
    fn grow(&self, _size_bytes: u64, _is_allocated: bool) -> io::Result<()> {
        Err(rustix::io::Errno::OPNOTSUPP.into())
    }

    /// True where the kernel keeps nodes for the partitions of this disk, which then have to be
    /// told about changes.
    fn has_partition_nodes(&self) -> bool {
        false
    }

    /// Makes a node for a partition; offset and length in bytes. Nothing is written to the disk.
    /// Does nothing where there are no nodes.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it would overlap another one, or one with this number is there already.
    fn add_partition(&self, _number: u32, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// Takes the node of a partition away; none with this number is fine.
    ///
    /// # Errors
    ///
    /// `EBUSY` where it is in use.
    fn remove_partition(&self, _number: u32) -> io::Result<()> {
        Ok(())
    }

    /// Makes the node of a partition longer or shorter, also where it is in use.
    ///
    /// # Errors
    ///
    /// As [`Disk::add_partition`].
    fn resize_partition(&self, _number: u32, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// The file or node that these bytes are in, and where they begin in it, so that a program can
    /// be told to write there; none where every byte has to pass through [`Disk::write_at`].
    fn place(&self) -> Option<(PathBuf, u64)> {
        None
    }
}

/// What holds a lock on a disk.
pub trait Lock {}

/// How to open a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For looking.
    Read,
    /// For writing.
    Write,
}

/// Where disks come from.
pub trait Disks: Send + Sync {
    /// Opens a disk by its path.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Disk>>;
}

/// Block devices and image files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDisks;

impl Disks for HostDisks {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(FileDisk::open(path, access)?))
    }
}

/// The node of a partition: `/dev/sda` → `/dev/sda2`, `/dev/nvme0n1` → `/dev/nvme0n1p2`; for image
/// files the same rule gives a name to show.
pub fn partition_path(disk: &Path, number: u32) -> std::path::PathBuf {
    let mut name = disk.as_os_str().to_os_string();
    let is_device = disk.starts_with("/dev");
    let ends_in_digit = name.as_encoded_bytes().last().is_some_and(u8::is_ascii_digit);
    name.push(if ends_in_digit || !is_device { format!("p{number}") } else { number.to_string() });
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_nodes_have_a_p_after_a_digit_and_in_images() {
        let node = |disk: &str| partition_path(Path::new(disk), 2).display().to_string();
        assert_eq!(node("/dev/sda"), "/dev/sda2");
        assert_eq!(node("/dev/nvme0n1"), "/dev/nvme0n1p2");
        assert_eq!(node("/dev/loop0"), "/dev/loop0p2");
        assert_eq!(node("/tmp/disk.img"), "/tmp/disk.imgp2");
    }
}
