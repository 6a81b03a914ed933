//! GUID partition tables: reading with repair, changing entries, and the steps of a safe rewrite.
//!
//! Why our own: an update changes a label and a type of one entry, and everything else on the disk
//! must stay as it was, byte for byte, on block devices and image files alike, for sectors of 512
//! and 4096 bytes. So a table keeps the raw sectors it came from and patches them. One good copy
//! of the two is enough; writing makes both good.
//!
//! Never allocates by a length it has not checked. Document: UEFI specification 2.10, chapter 5.

mod fresh;
mod header;
mod load;
mod mbr;
pub mod types;

use std::fmt;
use std::io;
use std::ops::Range;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::format::bytes;
use header::Header;

pub use fresh::FIRST_BYTE;
pub use load::{CopyFault, CopyState, Loaded, load};

/// Longest label in UTF-16 units.
pub const MAX_LABEL_UNITS: usize = 36;

/// Attribute bit: the file system in it is grown when it is mounted.
pub const FLAG_GROW_FS: u64 = 1 << 59;
/// Attribute bit: is mounted read-only.
pub const FLAG_READ_ONLY: u64 = 1 << 60;
/// Attribute bit: is not mounted by itself.
pub const FLAG_NO_AUTO: u64 = 1 << 63;

// Offsets in an entry, in bytes.
const TYPE: usize = 0;
const UUID: usize = 16;
const FIRST_LBA: usize = 32;
const LAST_LBA: usize = 40;
const FLAGS: usize = 48;
const NAME: usize = 56;

/// A partition table, with everything that is needed to write it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    sector_size: u32,
    /// The protective MBR.
    mbr: Vec<u8>,
    /// Set where it must be written, too.
    is_mbr_due: bool,
    primary: Header,
    backup: Header,
    is_primary_damaged: bool,
    /// Raw array of entries, in whole sectors.
    entries: Vec<u8>,
}

/// One entry in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Position in the table, from 1.
    pub number: u32,
    /// What it is for.
    pub type_uuid: Uuid,
    /// Which one it is.
    pub uuid: Uuid,
    /// First sector.
    pub first_lba: u64,
    /// Last sector, inclusive.
    pub last_lba: u64,
    /// Attribute bits.
    pub flags: u64,
    /// Label.
    pub name: String,
}

/// One step of writing a table. The order is what makes a power cut harmless: one of the two
/// copies is complete at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write whole sectors.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
        /// What it is, for messages.
        what: &'static str,
    },
    /// Wait until everything written so far is durable.
    Sync,
}

impl Table {
    /// Identity of the disk.
    pub fn disk_guid(&self) -> Uuid {
        self.primary.disk_guid()
    }

    /// Bytes per sector.
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// How many entries there is room for.
    pub fn entry_count(&self) -> u32 {
        self.primary.entry_count
    }

    /// First and last sector for partitions, inclusive.
    pub fn usable(&self) -> (u64, u64) {
        (self.primary.first_usable, self.primary.last_usable)
    }

    /// The partition with this number, if there is one.
    pub fn partition(&self, number: u32) -> Option<Partition> {
        Partition::decode(number, self.raw(number)?)
    }

    /// All partitions in the order of their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        (1..=self.entry_count()).filter_map(|number| self.partition(number))
    }

    /// Where a partition is, in bytes of the disk; none if its entry makes no sense.
    pub fn extent(&self, partition: &Partition) -> Option<Range<u64>> {
        let (first, last) = (partition.first_lba, partition.last_lba);
        let is_on_disk = first <= last && last < self.backup.my_lba;
        let offset = |lba: u64| lba.checked_mul(self.sector_size.into());
        if is_on_disk { Some(offset(first)?..offset(last + 1)?) } else { None }
    }

    /// Makes the entry with this number say what `partition` says. Nothing is written yet. What
    /// does not differ keeps its bytes, and so do reserved parts of the entry. An unused entry
    /// comes into use; a new range must be free.
    pub fn set(&mut self, partition: &Partition) -> Result<(), GptError> {
        let number = partition.number;
        let Some(raw) = self.raw(number) else {
            return Err(GptError::NoSuchEntry { number });
        };
        let old = Partition::decode(number, raw);
        let old_range = old.as_ref().map(|old| (old.first_lba, old.last_lba));
        if old_range != Some((partition.first_lba, partition.last_lba)) {
            self.check_range(partition)?;
        }
        if partition.type_uuid.is_nil() {
            return Err(GptError::NilType { number });
        }
        let name = if old.as_ref().is_some_and(|old| old.name == partition.name) {
            None
        } else {
            Some(encode_name(&partition.name)?)
        };
        let mut entry = raw.to_vec();
        if old.is_none() {
            entry.fill(0);
        }
        bytes::put(&mut entry, TYPE, &partition.type_uuid.to_bytes_le());
        bytes::put(&mut entry, UUID, &partition.uuid.to_bytes_le());
        bytes::put(&mut entry, FIRST_LBA, &partition.first_lba.to_le_bytes());
        bytes::put(&mut entry, LAST_LBA, &partition.last_lba.to_le_bytes());
        bytes::put(&mut entry, FLAGS, &partition.flags.to_le_bytes());
        if let Some(name) = name {
            bytes::put(&mut entry, NAME, &name);
        }
        let offset = self.raw_range(number).map_or(0, |range| range.start);
        bytes::put(&mut self.entries, offset, &entry);
        Ok(())
    }

    /// What to write, in order. The copy that was damaged comes first; if none was, the backup, as
    /// UEFI and the peer have it. The protective MBR is written only where it must change.
    ///
    /// DIFFERS: the peer begins with the backup even where that is the only good copy.
    pub fn writes(&self) -> Vec<Step> {
        let ss = u64::from(self.sector_size);
        let used = self.entries.get(..self.primary.entries_bytes()).unwrap_or_default();
        let copy = |header: &Header, array: &'static str, what: &'static str| {
            let bytes = header.encode(used);
            [
                Step::Write {
                    offset: header.entries_lba * ss,
                    bytes: self.entries.clone(),
                    what: array,
                },
                Step::Sync,
                Step::Write { offset: header.my_lba * ss, bytes, what },
                Step::Sync,
            ]
        };
        let backup = copy(&self.backup, "backup partition entries", "backup GPT header");
        let primary = copy(&self.primary, "primary partition entries", "primary GPT header");
        let mut steps = Vec::with_capacity(10);
        if self.is_primary_damaged {
            steps.extend(primary.into_iter().chain(backup));
        } else {
            steps.extend(backup.into_iter().chain(primary));
        }
        if self.is_mbr_due {
            steps.push(Step::Write { offset: 0, bytes: self.mbr.clone(), what: "protective MBR" });
            steps.push(Step::Sync);
        }
        steps
    }

    fn raw_range(&self, number: u32) -> Option<Range<usize>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let size = self.primary.entry_size();
        (number <= self.entry_count()).then(|| index * size..(index + 1) * size)
    }

    fn raw(&self, number: u32) -> Option<&[u8]> {
        self.entries.get(self.raw_range(number)?)
    }

    fn check_range(&self, partition: &Partition) -> Result<(), GptError> {
        let (first, last) = (partition.first_lba, partition.last_lba);
        let (first_usable, last_usable) = self.usable();
        let is_inside = first_usable <= first && first <= last && last <= last_usable;
        let is_free = self
            .partitions()
            .all(|p| p.number == partition.number || p.last_lba < first || last < p.first_lba);
        if is_inside && is_free {
            Ok(())
        } else {
            Err(GptError::Range { number: partition.number })
        }
    }
}

impl Partition {
    fn decode(number: u32, raw: &[u8]) -> Option<Self> {
        let type_uuid = Uuid::from_bytes_le(bytes::array(raw, TYPE)?);
        if type_uuid.is_nil() {
            return None;
        }
        let (units, _) = raw.get(NAME..NAME + 2 * MAX_LABEL_UNITS)?.as_chunks::<2>();
        let units =
            units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
        Some(Self {
            number,
            type_uuid,
            uuid: Uuid::from_bytes_le(bytes::array(raw, UUID)?),
            first_lba: bytes::le64(raw, FIRST_LBA)?,
            last_lba: bytes::le64(raw, LAST_LBA)?,
            flags: bytes::le64(raw, FLAGS)?,
            name: char::decode_utf16(units)
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        })
    }
}

fn encode_name(name: &str) -> Result<Vec<u8>, GptError> {
    if name.encode_utf16().count() > MAX_LABEL_UNITS || name.contains('\0') {
        return Err(GptError::Label { name: name.to_owned() });
    }
    let mut bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.resize(2 * MAX_LABEL_UNITS, 0);
    Ok(bytes)
}

/// The types that a slot has while a version for it is only partially there, and while it is
/// complete but not installed: (partial, pending). Nothing boots from either.
pub fn derived_types(type_uuid: Uuid) -> (Uuid, Uuid) {
    let derive = |id: u128| {
        // A key shorter than the block is padded with zeros anyhow.
        let mut key = [0; 64];
        bytes::put(&mut key, 0, type_uuid.as_bytes());
        let mut mac = Hmac::<Sha256>::new(&key.into());
        mac.update(&id.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let half = bytes::array(&hash, 0).unwrap_or_default();
        uuid::Builder::from_random_bytes(half).into_uuid()
    };
    (
        derive(0xaccf_a0c2_da24_460a_9fc9_0bb8_fc78_5219),
        derive(0x80f3_d61e_2383_43b9_81f5_ce37_93f4_7d4c),
    )
}

/// Why a table cannot be read or changed.
#[derive(Debug)]
pub enum GptError {
    /// Neither 512, 1024, 2048 nor 4096.
    SectorSize {
        /// Bytes.
        bytes: u32,
    },
    /// Too small for a table.
    TooSmall,
    /// The first sector does not protect a GPT.
    NoProtectiveMbr,
    /// Neither copy is good.
    NoTable {
        /// What is wrong with the primary one.
        primary: CopyFault,
        /// What is wrong with the backup.
        backup: CopyFault,
    },
    /// A copy cannot be put where it belongs without overwriting a partition.
    NoRoom,
    /// There is no entry with that number.
    NoSuchEntry {
        /// The number.
        number: u32,
    },
    /// A label that is too long or has a NUL in it.
    Label {
        /// The label.
        name: String,
    },
    /// A range of sectors that is not free.
    Range {
        /// The partition.
        number: u32,
    },
    /// A partition without a type.
    NilType {
        /// The partition.
        number: u32,
    },
    /// The disk cannot be read.
    Io(io::Error),
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SectorSize { bytes } => write!(f, "Sector size {bytes} is not supported"),
            Self::TooSmall => f.write_str("Disk is too small for a GPT"),
            Self::NoProtectiveMbr => f.write_str("No protective MBR in the first sector"),
            Self::NoTable { primary, backup } => {
                write!(f, "Both GPT copies are damaged (primary: {primary}; backup: {backup})")
            }
            Self::NoRoom => f.write_str("No room for both GPT copies beside the partitions"),
            Self::NoSuchEntry { number } => write!(f, "GPT has no entry {number}"),
            Self::Label { name } => write!(f, "'{name}' is not suitable as GPT partition label"),
            Self::Range { number } => write!(f, "Sectors for partition {number} are not free"),
            Self::NilType { number } => write!(f, "Partition {number} needs a type"),
            Self::Io(_) => f.write_str("Failed to read partition table"),
        }
    }
}

impl std::error::Error for GptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(err) => Some(err),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
