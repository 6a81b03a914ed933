//! One GPT header: the sector that describes a copy of the table.

use uuid::Uuid;

use super::CopyFault;
use crate::format::bytes;
use crate::format::crc32::crc32;

const SIGNATURE: &[u8; 8] = b"EFI PART";

// Offsets in the header, in bytes.
const REVISION: usize = 8;
const HEADER_SIZE: usize = 12;
const HEADER_CRC: usize = 16;
const MY_LBA: usize = 24;
const ALTERNATE_LBA: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const DISK_GUID: usize = 56;
const ENTRIES_LBA: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_SIZE: usize = 84;
const ENTRIES_CRC: usize = 88;
const MIN_HEADER_BYTES: usize = 92;

const REVISION_1_0: u32 = 0x0001_0000;
const MIN_ENTRY_BYTES: u32 = 128;
/// LIMIT: longest array of entries; the usual one has 16 KiB.
const MAX_ARRAY_BYTES: u64 = 4 << 20;

/// A header that has been checked. The fields that a rewrite may change are here; everything else
/// stays in the raw sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    raw: Vec<u8>,
    header_bytes: usize,
    pub(super) my_lba: u64,
    pub(super) alternate_lba: u64,
    pub(super) first_usable: u64,
    pub(super) last_usable: u64,
    pub(super) entries_lba: u64,
    pub(super) entry_count: u32,
    entry_size: u32,
    pub(super) entries_crc: u32,
}

impl Header {
    /// Checks the header in a sector that was read from `lba` of a disk with so many sectors. The
    /// checksum of the entries is for the caller to compare.
    pub(super) fn parse(sector: Vec<u8>, lba: u64, sectors: u64) -> Result<Self, CopyFault> {
        if !sector.starts_with(SIGNATURE) {
            return Err(CopyFault::Signature);
        }
        let fault = CopyFault::HeaderSize;
        let get32 = |offset| bytes::le32(&sector, offset).ok_or(fault);
        let get64 = |offset| bytes::le64(&sector, offset).ok_or(fault);
        let header_bytes = usize::try_from(get32(HEADER_SIZE)?).map_err(|_| fault)?;
        if header_bytes < MIN_HEADER_BYTES {
            return Err(fault);
        }
        let checked = sector.get(..header_bytes).ok_or(fault)?;
        if checksum(checked) != get32(HEADER_CRC)? {
            return Err(CopyFault::HeaderChecksum);
        }
        let header = Self {
            header_bytes,
            my_lba: get64(MY_LBA)?,
            alternate_lba: get64(ALTERNATE_LBA)?,
            first_usable: get64(FIRST_USABLE)?,
            last_usable: get64(LAST_USABLE)?,
            entries_lba: get64(ENTRIES_LBA)?,
            entry_count: get32(ENTRY_COUNT)?,
            entry_size: get32(ENTRY_SIZE)?,
            entries_crc: get32(ENTRIES_CRC)?,
            raw: sector,
        };
        if header.my_lba != lba {
            return Err(CopyFault::Position);
        }
        if header.first_usable > header.last_usable || header.last_usable >= sectors {
            return Err(CopyFault::UsableRange);
        }
        header.check_array(sectors)?;
        Ok(header)
    }

    /// The array must be of sane size, on the disk, and away from headers and partitions.
    fn check_array(&self, sectors: u64) -> Result<(), CopyFault> {
        let size = self.entry_size;
        let bytes = u64::from(self.entry_count) * u64::from(size);
        if size < MIN_ENTRY_BYTES
            || !size.is_power_of_two()
            || self.entry_count == 0
            || bytes > MAX_ARRAY_BYTES
        {
            return Err(CopyFault::EntryArray);
        }
        let first = self.entries_lba;
        let end = first.checked_add(self.array_sectors()).ok_or(CopyFault::EntryArray)?;
        let is_off_headers = first >= 2 && end <= sectors && !(first..end).contains(&self.my_lba);
        let is_off_partitions = end <= self.first_usable || first > self.last_usable;
        if is_off_headers && is_off_partitions { Ok(()) } else { Err(CopyFault::EntryArray) }
    }

    /// Bytes of one entry.
    pub(super) fn entry_size(&self) -> usize {
        // At most MAX_ARRAY_BYTES.
        usize::try_from(self.entry_size).unwrap_or(usize::MAX)
    }

    /// Bytes of all entries.
    pub(super) fn entries_bytes(&self) -> usize {
        usize::try_from(u64::from(self.entry_count) * u64::from(self.entry_size))
            .unwrap_or(usize::MAX)
    }

    /// Sectors that the entries take.
    pub(super) fn array_sectors(&self) -> u64 {
        (u64::from(self.entry_count) * u64::from(self.entry_size)).div_ceil(self.sector_size())
    }

    fn sector_size(&self) -> u64 {
        // A sector is at most 4096 bytes, and never empty: the signature was found in it.
        u64::try_from(self.raw.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn disk_guid(&self) -> Uuid {
        Uuid::from_bytes_le(bytes::array(&self.raw, DISK_GUID).unwrap_or_default())
    }

    /// True if the other one describes the same table.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let facts = |h: &Self| {
            let array = (h.entry_count, h.entry_size, h.entries_crc);
            (h.disk_guid(), h.first_usable, h.last_usable, array)
        };
        facts(self) == facts(other)
    }

    /// The header of a new table. `lbas` are its own, the other copy's, the first and last usable
    /// one and that of the entries; `entries` how many there are and the bytes of each.
    pub(super) fn fresh(sector_size: u32, lbas: [u64; 5], entries: [u32; 2], guid: Uuid) -> Self {
        let [my_lba, alternate_lba, first_usable, last_usable, entries_lba] = lbas;
        let [entry_count, entry_size] = entries;
        let mut raw = vec![0; usize::try_from(sector_size).unwrap_or_default()];
        bytes::put(&mut raw, 0, SIGNATURE);
        bytes::put(&mut raw, REVISION, &REVISION_1_0.to_le_bytes());
        bytes::put(&mut raw, HEADER_SIZE, &92_u32.to_le_bytes());
        bytes::put(&mut raw, FIRST_USABLE, &first_usable.to_le_bytes());
        bytes::put(&mut raw, ENTRY_COUNT, &entry_count.to_le_bytes());
        bytes::put(&mut raw, ENTRY_SIZE, &entry_size.to_le_bytes());
        let mut header = Self {
            raw,
            header_bytes: MIN_HEADER_BYTES,
            my_lba,
            alternate_lba,
            first_usable,
            last_usable,
            entries_lba,
            entry_count,
            entry_size,
            entries_crc: 0,
        };
        header.set_disk_guid(guid);
        header
    }

    pub(super) fn set_disk_guid(&mut self, guid: Uuid) {
        bytes::put(&mut self.raw, DISK_GUID, &guid.to_bytes_le());
    }

    /// The header of the other copy.
    pub(super) fn twin(&self, my_lba: u64, entries_lba: u64) -> Self {
        Self { my_lba, alternate_lba: self.my_lba, entries_lba, ..self.clone() }
    }

    /// The sector, with checksums for these entries.
    pub(super) fn encode(&self, entries: &[u8]) -> Vec<u8> {
        let mut sector = self.raw.clone();
        bytes::put(&mut sector, MY_LBA, &self.my_lba.to_le_bytes());
        bytes::put(&mut sector, ALTERNATE_LBA, &self.alternate_lba.to_le_bytes());
        bytes::put(&mut sector, LAST_USABLE, &self.last_usable.to_le_bytes());
        bytes::put(&mut sector, ENTRIES_LBA, &self.entries_lba.to_le_bytes());
        bytes::put(&mut sector, ENTRIES_CRC, &crc32(entries).to_le_bytes());
        let crc = checksum(sector.get(..self.header_bytes).unwrap_or_default());
        bytes::put(&mut sector, HEADER_CRC, &crc.to_le_bytes());
        sector
    }
}

/// Computed with the field of the checksum itself as zero.
fn checksum(header: &[u8]) -> u32 {
    let mut header = header.to_vec();
    bytes::put(&mut header, HEADER_CRC, &[0; 4]);
    crc32(&header)
}
