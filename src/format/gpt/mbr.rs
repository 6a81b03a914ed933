//! The protective MBR: what keeps old tools from taking a GPT disk for an empty one.

use crate::format::bytes;

const RECORDS: usize = 446;
const RECORD_BYTES: usize = 16;
const RECORD_COUNT: usize = 4;
/// In a record: type of the partition.
const TYPE: usize = 4;
/// In a record: sectors.
const SIZE: usize = 12;
const SIGNATURE: usize = 510;

const TYPE_PROTECTIVE: u8 = 0xee;
const TYPE_UNUSED: u8 = 0;
const SIZE_ALL: u32 = u32::MAX;

/// What the first sector is to a GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mbr {
    /// No protection; then the disk is somebody else's.
    None,
    /// Fine as it is. Hybrid ones too: what other records say is not ours to change.
    Good,
    /// Protective, but for a disk of another size; this is how it should be.
    Resized(Vec<u8>),
}

/// Looks at the first sector of a disk with so many sectors.
pub(super) fn inspect(sector: &[u8], sectors: u64) -> Mbr {
    if bytes::array(sector, SIGNATURE) != Some([0x55, 0xaa]) {
        return Mbr::None;
    }
    let offsets = || (0..RECORD_COUNT).map(|i| RECORDS + i * RECORD_BYTES);
    let kind = |offset: usize| sector.get(offset + TYPE).copied().unwrap_or(TYPE_UNUSED);
    let Some(protective) = offsets().find(|offset| kind(*offset) == TYPE_PROTECTIVE) else {
        return Mbr::None;
    };
    let is_hybrid = offsets().any(|o| !matches!(kind(o), TYPE_PROTECTIVE | TYPE_UNUSED));
    // Larger disks have what fits in 32 bits, and some tools write that always.
    let size = u32::try_from(sectors.saturating_sub(1)).unwrap_or(SIZE_ALL);
    let found = bytes::le32(sector, protective + SIZE).unwrap_or(0);
    if is_hybrid || found == size || found == SIZE_ALL {
        return Mbr::Good;
    }
    let mut resized = sector.to_vec();
    bytes::put(&mut resized, protective + SIZE, &size.to_le_bytes());
    Mbr::Resized(resized)
}

/// The first sector of a new table on a disk with so many sectors.
pub(super) fn fresh(sector_size: u32, sectors: u64) -> Vec<u8> {
    let mut sector = vec![0; usize::try_from(sector_size).unwrap_or_default()];
    // Cylinders, heads and sectors: from 0/0/2 to more than they can say.
    bytes::put(&mut sector, RECORDS, &[0, 0, 2, 0, TYPE_PROTECTIVE, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    let size = u32::try_from(sectors.saturating_sub(1)).unwrap_or(SIZE_ALL);
    bytes::put(&mut sector, RECORDS + SIZE, &size.to_le_bytes());
    bytes::put(&mut sector, SIGNATURE, &[0x55, 0xaa]);
    sector
}
