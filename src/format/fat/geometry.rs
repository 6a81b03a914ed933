//! Sizes and places of the parts of a FAT32 file system, as `mkfs.fat -F 32` chooses them.

use super::FIRST_CLUSTER;

/// Copies of the allocation table.
pub(super) const TABLES: u32 = 2;
/// Sectors before the tables, before rounding to clusters.
const RESERVED: u64 = 32;
/// LIMIT: of the format; the table's entries have 28 bits, and the last values mean something.
const CLUSTERS_MAX: u64 = 0x0fff_fff6;
/// Where the tool gives up, in clusters.
const CLUSTERS_MIN: u64 = 1;

/// Sizes and places, in sectors unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a sector.
    pub sector_size: u32,
    /// All sectors of the file system; not all that there is room for, but whole tracks.
    pub sectors: u32,
    /// Sectors before the tables.
    pub reserved: u32,
    /// Sectors of one table.
    pub table: u32,
    /// Sectors of a cluster.
    pub cluster: u32,
    /// Clusters.
    pub clusters: u32,
    /// Heads of the imagined drive.
    pub(super) heads: u16,
    /// Sectors of a track of the imagined drive.
    pub(super) track: u16,
}

impl Geometry {
    /// The geometry for so many bytes; none where they are too few or too many for FAT32.
    ///
    /// `sector_size` is a power of two from 512 to 4096.
    pub fn new(size: u64, sector_size: u32) -> Option<Self> {
        let all = u32::try_from(size / u64::from(sector_size)).ok()?;
        let (heads, track) = drive(all);
        let cluster = cluster_size(all);
        let sectors = u64::from(all - all % u32::from(track));
        let reserved = RESERVED.next_multiple_of(cluster);
        let data = sectors.checked_sub(reserved)?;
        let bytes = u64::from(sector_size);
        // The tables take from the room they describe, so this is a little more than fits …
        let most = (data * bytes + 16) / (cluster * bytes + 8);
        let table = ((most + 2) * 4).div_ceil(bytes).next_multiple_of(cluster);
        // … and this is what does.
        let clusters = data.checked_sub(u64::from(TABLES) * table)? / cluster;
        if !(CLUSTERS_MIN..=CLUSTERS_MAX).contains(&clusters) {
            return None;
        }
        Some(Self {
            sector_size,
            sectors: u32::try_from(sectors).ok()?,
            reserved: u32::try_from(reserved).ok()?,
            table: u32::try_from(table).ok()?,
            cluster: u32::try_from(cluster).ok()?,
            clusters: u32::try_from(clusters).ok()?,
            heads,
            track,
        })
    }

    /// Bytes of a cluster.
    pub fn cluster_bytes(&self) -> u64 {
        u64::from(self.cluster) * u64::from(self.sector_size)
    }

    /// How many clusters so many bytes take.
    pub fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_bytes())
    }

    /// Where a copy of the table begins, in bytes.
    pub fn table_offset(&self, copy: u32) -> u64 {
        self.bytes(u64::from(self.reserved) + u64::from(copy) * u64::from(self.table))
    }

    /// How long a copy of the table is, in bytes.
    pub fn table_bytes(&self) -> u64 {
        self.bytes(u64::from(self.table))
    }

    /// Where a cluster begins, in bytes.
    pub fn cluster_offset(&self, cluster: u32) -> u64 {
        let before = u64::from(cluster.saturating_sub(FIRST_CLUSTER));
        self.table_offset(TABLES) + before * self.cluster_bytes()
    }

    fn bytes(&self, sectors: u64) -> u64 {
        sectors * u64::from(self.sector_size)
    }
}

/// Heads and sectors of a track. Thresholds are counts of sectors, whatever their size.
fn drive(sectors: u32) -> (u16, u16) {
    match sectors {
        0..=4096 => (2, 16),
        4097..=32768 => (2, 32),
        32769..=65536 => (4, 32),
        65537..=262_144 => (8, 32),
        262_145..=524_288 => (16, 32),
        524_289..=1_032_192 => (16, 63),
        1_032_193..=2_064_384 => (32, 63),
        2_064_385..=4_128_768 => (64, 63),
        4_128_769..=8_257_536 => (128, 63),
        _ => (255, 63),
    }
}

/// Sectors of a cluster: the size in MiB decides, as if every sector had 512 bytes.
fn cluster_size(sectors: u32) -> u64 {
    const MIB: u32 = 2048;
    match sectors {
        n if n > 32768 * MIB => 64,
        n if n > 16384 * MIB => 32,
        n if n > 8192 * MIB => 16,
        n if n > 260 * MIB => 8,
        _ => 1,
    }
}
