//! Tables that come into being, and tables of disks that grow.
//!
//! Where a new table puts what: as libfdisk 2.42 does, because the peer's layouts follow from it.
//! 128 entries, fewer where those do not fit; partitions begin at 1 MiB, or where the hardware
//! wants them, and on disks of up to four times that directly behind the entries.

use uuid::Uuid;

use super::header::Header;
use super::load::{PRIMARY_ENTRIES_LBA, PRIMARY_LBA};
use super::mbr::{self, Mbr};
use super::{GptError, Table};

/// Entries of a new table.
const ENTRY_COUNT: u32 = 128;
/// Bytes of each of them.
const ENTRY_SIZE: u32 = 128;
/// Where the first partition begins, in bytes, if there is no reason for another place.
pub const FIRST_BYTE: u64 = 1 << 20;

impl Table {
    /// A new table without partitions. Its [`Table::writes`] end with the protective MBR: until
    /// that is there the disk has no table.
    ///
    /// # Errors
    ///
    /// [`GptError::SectorSize`], and [`GptError::TooSmall`] where two copies do not fit.
    pub fn create(size_bytes: u64, sector_size: u32, guid: Uuid) -> Result<Self, GptError> {
        Self::create_from(size_bytes, sector_size, FIRST_BYTE, guid)
    }

    /// As [`Table::create`], with the first partition at `first_byte` where the disk is large
    /// enough for that.
    ///
    /// # Errors
    ///
    /// As [`Table::create`].
    pub fn create_from(
        size_bytes: u64,
        sector_size: u32,
        first_byte: u64,
        guid: Uuid,
    ) -> Result<Self, GptError> {
        if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
            return Err(GptError::SectorSize { bytes: sector_size });
        }
        let ss = u64::from(sector_size);
        let sectors = size_bytes / ss;
        // Two headers and the MBR, and at least one sector for partitions.
        let room = sectors.saturating_sub(4) / 2;
        let array_sectors = (u64::from(ENTRY_COUNT * ENTRY_SIZE)).div_ceil(ss).min(room);
        if array_sectors == 0 {
            return Err(GptError::TooSmall);
        }
        let entry_count = u32::try_from(array_sectors * ss / u64::from(ENTRY_SIZE))
            .unwrap_or(ENTRY_COUNT)
            .min(ENTRY_COUNT);
        let lowest = PRIMARY_ENTRIES_LBA + array_sectors;
        let last_usable = sectors - 2 - array_sectors;
        let wanted = first_byte / ss;
        let is_large = sectors > wanted.saturating_mul(4);
        let first_usable =
            if is_large && wanted < last_usable { wanted.max(lowest) } else { lowest };
        let primary = Header::fresh(
            sector_size,
            [PRIMARY_LBA, sectors - 1, first_usable, last_usable, PRIMARY_ENTRIES_LBA],
            [entry_count, ENTRY_SIZE],
            guid,
        );
        let backup = primary.twin(sectors - 1, last_usable + 1);
        let entries = vec![0; usize::try_from(array_sectors * ss).unwrap_or_default()];
        Ok(Self {
            sector_size,
            mbr: mbr::fresh(sector_size, sectors),
            is_mbr_due: true,
            primary,
            backup,
            is_primary_damaged: false,
            entries,
        })
    }

    /// Puts the entry with this number out of use, and makes it all zero.
    ///
    /// # Errors
    ///
    /// [`GptError::NoSuchEntry`] where the table is not so long; an unused entry is none.
    pub fn remove(&mut self, number: u32) -> Result<(), GptError> {
        let entry = self.raw_range(number).and_then(|range| self.entries.get_mut(range));
        entry.ok_or(GptError::NoSuchEntry { number })?.fill(0);
        Ok(())
    }

    /// Gives the disk another identity.
    pub fn set_disk_guid(&mut self, guid: Uuid) {
        self.primary.set_disk_guid(guid);
        self.backup.set_disk_guid(guid);
    }

    /// Makes it the table of a disk that has so many bytes now: the backup goes to its end, and
    /// partitions may use what lies before that.
    ///
    /// # Errors
    ///
    /// [`GptError::NoRoom`] where the backup would hit a partition, [`GptError::TooSmall`].
    pub fn grow_to(&mut self, size_bytes: u64) -> Result<(), GptError> {
        let sectors = size_bytes / u64::from(self.sector_size);
        if sectors < 6 {
            return Err(GptError::TooSmall);
        }
        if sectors - 1 == self.backup.my_lba {
            return Ok(());
        }
        let mut grown = self.clone();
        grown.move_backup(sectors - 1)?;
        grown.primary.alternate_lba = grown.backup.my_lba;
        if let Mbr::Resized(sector) = mbr::inspect(&grown.mbr, sectors) {
            grown.mbr = sector;
            grown.is_mbr_due = true;
        }
        grown.check_room()?;
        *self = grown;
        Ok(())
    }
}
