//! Reading a table from a disk: which copy counts, and what of the other one must be repaired.

use std::fmt;
use std::io;

use super::header::Header;
use super::mbr::{self, Mbr};
use super::{GptError, Table};
use crate::format::crc32::crc32;

pub(super) const PRIMARY_LBA: u64 = 1;
/// Where the entries of a primary copy are if nobody says otherwise.
pub(super) const PRIMARY_ENTRIES_LBA: u64 = 2;

/// A table and in what condition it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The table; writing it repairs what is damaged.
    pub table: Table,
    /// The copy at the beginning of the disk.
    pub primary: CopyState,
    /// The copy at the end of the disk.
    pub backup: CopyState,
}

/// In what condition a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// Good.
    Good,
    /// Good, but not at the end of the disk, which has grown or shrunk.
    Misplaced,
    /// Damaged; the other copy was used.
    Damaged(CopyFault),
}

/// What is wrong with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFault {
    /// The disk cannot be read there, or ends before it.
    Unreadable,
    /// Not a GPT header.
    Signature,
    /// An impossible size of the header.
    HeaderSize,
    /// The checksum of the header does not match.
    HeaderChecksum,
    /// The header is not where it says it is.
    Position,
    /// The sectors for partitions are not on the disk.
    UsableRange,
    /// An impossible size or place of the entries.
    EntryArray,
    /// The checksum of the entries does not match.
    EntriesChecksum,
    /// Good, but says something else than the primary copy.
    Outdated,
}

impl fmt::Display for CopyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "cannot be read",
            Self::Signature => "no signature",
            Self::HeaderSize => "bad header size",
            Self::HeaderChecksum => "bad header checksum",
            Self::Position => "wrong position",
            Self::UsableRange => "usable sectors are not on the disk",
            Self::EntryArray => "bad size or place of the entries",
            Self::EntriesChecksum => "bad checksum of the entries",
            Self::Outdated => "differs from the primary copy",
        })
    }
}

/// Reads the table of a disk. `read` returns so many bytes from an offset in bytes; it is asked
/// for whole sectors within the disk only.
///
/// One good copy is enough; of two good ones that differ the primary counts, because it is written
/// last. A missing protective MBR refuses the disk whatever its copies say.
pub fn load(
    disk_size: u64,
    sector_size: u32,
    read: &mut dyn FnMut(u64, usize) -> io::Result<Vec<u8>>,
) -> Result<Loaded, GptError> {
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return Err(GptError::SectorSize { bytes: sector_size });
    }
    let sectors = disk_size / u64::from(sector_size);
    // MBR and two copies of one sector of header and one of entries, and something to divide.
    if sectors < 6 {
        return Err(GptError::TooSmall);
    }
    let mut disk = Source { sector_size, sectors, read };
    let mbr = disk.sectors(0, 1).map_err(GptError::Io)?;
    let (mbr, is_mbr_due) = match mbr::inspect(&mbr, sectors) {
        Mbr::None => return Err(GptError::NoProtectiveMbr),
        Mbr::Good => (mbr, false),
        Mbr::Resized(sector) => (sector, true),
    };
    let primary = disk.copy(PRIMARY_LBA);
    let backup_lba = primary.as_ref().map_or(sectors - 1, |(header, _)| header.alternate_lba);
    let backup =
        if backup_lba > PRIMARY_LBA { disk.copy(backup_lba) } else { Err(CopyFault::Position) };

    let table = |primary, backup, is_primary_damaged, entries| Table {
        sector_size,
        mbr,
        is_mbr_due,
        primary,
        backup,
        is_primary_damaged,
        entries,
    };
    let mut loaded = match (primary, backup) {
        (Ok((primary, entries)), backup) => {
            let (backup, state) = match backup {
                Ok((backup, _)) if primary.agrees(&backup) => (backup, CopyState::Good),
                Ok(_) => (backup_of(&primary), CopyState::Damaged(CopyFault::Outdated)),
                Err(fault) => (backup_of(&primary), CopyState::Damaged(fault)),
            };
            let table = table(primary, backup, false, entries);
            Loaded { table, primary: CopyState::Good, backup: state }
        }
        (Err(fault), Ok((backup, entries))) => {
            let primary = backup.twin(PRIMARY_LBA, PRIMARY_ENTRIES_LBA);
            let table = table(primary, backup, true, entries);
            Loaded { table, primary: CopyState::Damaged(fault), backup: CopyState::Good }
        }
        (Err(primary), Err(backup)) => return Err(GptError::NoTable { primary, backup }),
    };
    if loaded.table.backup.my_lba != sectors - 1 {
        loaded.table.move_backup(sectors - 1)?;
        if loaded.backup == CopyState::Good {
            loaded.backup = CopyState::Misplaced;
        }
    }
    loaded.table.primary.alternate_lba = loaded.table.backup.my_lba;
    loaded.table.backup.alternate_lba = PRIMARY_LBA;
    loaded.table.check_room()?;
    Ok(loaded)
}

/// A backup made from the primary copy, where that says it should be. If that is nowhere, it will
/// be moved.
fn backup_of(primary: &Header) -> Header {
    let lba = primary.alternate_lba;
    primary.twin(lba, lba.saturating_sub(primary.array_sectors()))
}

struct Source<'a> {
    sector_size: u32,
    sectors: u64,
    read: &'a mut dyn FnMut(u64, usize) -> io::Result<Vec<u8>>,
}

impl Source<'_> {
    fn copy(&mut self, lba: u64) -> Result<(Header, Vec<u8>), CopyFault> {
        let sector = self.sectors(lba, 1).map_err(|_| CopyFault::Unreadable)?;
        let header = Header::parse(sector, lba, self.sectors)?;
        let entries = self
            .sectors(header.entries_lba, header.array_sectors())
            .map_err(|_| CopyFault::Unreadable)?;
        let used = entries.get(..header.entries_bytes()).ok_or(CopyFault::Unreadable)?;
        if crc32(used) == header.entries_crc {
            Ok((header, entries))
        } else {
            Err(CopyFault::EntriesChecksum)
        }
    }

    fn sectors(&mut self, lba: u64, count: u64) -> io::Result<Vec<u8>> {
        let too_short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        if lba.checked_add(count).is_none_or(|end| end > self.sectors) {
            return Err(too_short());
        }
        let ss = u64::from(self.sector_size);
        let length = usize::try_from(count * ss).map_err(|_| too_short())?;
        let bytes = (self.read)(lba * ss, length)?;
        if bytes.len() == length { Ok(bytes) } else { Err(too_short()) }
    }
}

impl Table {
    /// Puts the backup at the end of the disk and gives partitions what lies before it.
    pub(super) fn move_backup(&mut self, last_lba: u64) -> Result<(), GptError> {
        let entries_lba =
            last_lba.checked_sub(self.primary.array_sectors()).ok_or(GptError::NoRoom)?;
        self.backup.my_lba = last_lba;
        self.backup.entries_lba = entries_lba;
        for header in [&mut self.primary, &mut self.backup] {
            header.last_usable = entries_lba.saturating_sub(1);
        }
        Ok(())
    }

    /// Checks that writing hits neither a partition nor the other copy.
    pub(super) fn check_room(&self) -> Result<(), GptError> {
        let end = self.primary.entries_lba + self.primary.array_sectors();
        let (first_usable, last_usable) = self.usable();
        let is_apart = end <= first_usable
            && first_usable <= last_usable
            && last_usable < self.backup.entries_lba;
        let is_clear = self.partitions().all(|partition| {
            end <= partition.first_lba && partition.last_lba < self.backup.entries_lba
        });
        if is_apart && is_clear { Ok(()) } else { Err(GptError::NoRoom) }
    }
}
