//! Which file system there is, by the magic numbers of those that images are made of.

use std::io;

use crate::disk::Disk;

/// A file system that an image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 or ext4
    Ext4,
    /// btrfs
    Btrfs,
    /// XFS
    Xfs,
    /// EROFS
    Erofs,
    /// squashfs
    Squashfs,
    /// F2FS
    F2fs,
    /// FAT
    Vfat,
}

/// Where a magic number is, what it is and whose.
const MAGIC: [(u64, &[u8], FileSystem); 9] = [
    (0x438, &[0x53, 0xef], FileSystem::Ext4),
    (0x10040, b"_BHRfS_M", FileSystem::Btrfs),
    (0, b"XFSB", FileSystem::Xfs),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], FileSystem::Erofs),
    (0, b"hsqs", FileSystem::Squashfs),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], FileSystem::F2fs),
    (54, b"FAT12   ", FileSystem::Vfat),
    (54, b"FAT16   ", FileSystem::Vfat),
    (82, b"FAT32   ", FileSystem::Vfat),
];

impl FileSystem {
    /// What the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::F2fs => "f2fs",
            Self::Vfat => "vfat",
        }
    }

    /// What keeps it from replaying its journal, which a device that cannot be written refuses.
    pub fn no_replay(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "norecovery",
            Self::Btrfs => "rescue=nologreplay",
            Self::Erofs | Self::Squashfs | Self::F2fs | Self::Vfat => "",
        }
    }
}

/// The file system in a part of a disk; none if it is not one of these.
///
/// # Errors
///
/// The disk cannot be read.
pub fn probe(disk: &dyn Disk, offset: u64, size: u64) -> io::Result<Option<FileSystem>> {
    for (at, magic, file_system) in MAGIC {
        let len = magic.len();
        if at + len as u64 > size {
            continue;
        }
        let mut found = [0; 8];
        let Some(found) = found.get_mut(..len) else { continue };
        disk.read_at(offset + at, found)?;
        if found == magic {
            return Ok(Some(file_system));
        }
    }
    Ok(None)
}
