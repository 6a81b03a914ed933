//! The plan of a run: the disk and its partitions as they will be.

use std::path::PathBuf;

use uuid::Uuid;

use super::{Definition, FileLists};
use crate::format::gpt::Partition;

/// What a run is going to do, decided before anything is touched.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The disk.
    pub disk: DiskPlan,
    /// Copies of other disks' partitions first, then definitions in the order of their files, then
    /// what is on the disk and belongs to none. Without those that were dropped.
    pub partitions: Vec<PartitionPlan>,
    /// `--seed=`, resolved.
    pub seed: Uuid,
}

/// The disk as it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// As shown and as the nodes of partitions begin.
    pub path: PathBuf,
    /// In bytes, after growing.
    pub size: u64,
    /// In bytes, before; the same unless an image file grows.
    pub old_size: u64,
    /// In bytes.
    pub sector_size: u32,
    /// Alignment, in bytes.
    pub grain: u64,
    /// First byte and end of what partitions may use.
    pub usable: std::ops::Range<u64>,
    /// Identity of the disk.
    pub guid: Uuid,
    /// There is a new table; nothing is kept.
    pub is_from_scratch: bool,
    /// The image file is new.
    pub is_created: bool,
    /// The identity of the disk was nil.
    pub initialises_guid: bool,
}

/// What happens to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is new.
    Create,
    /// Its size or padding changes.
    Resize,
    /// Nothing.
    Unchanged,
}

impl Activity {
    /// As in the table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Resize => "resize",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What decided the size of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SizedBy {
    /// It stays as large as it is.
    #[default]
    Current,
    /// Its lower bound is more than its share.
    Min,
    /// Its upper bound is less than its share.
    Max,
    /// Its share of the free space.
    Weight,
    /// It got what nobody else could take.
    Leftover,
}

/// One partition as it will be.
#[derive(Clone, Debug)]
pub struct PartitionPlan {
    /// What asks for it; none for one that is only there.
    pub definition: Option<Definition>,
    /// Its entry in the table now; none for a new one.
    pub existing: Option<Partition>,
    /// Number, from 1.
    pub number: u32,
    /// Type.
    pub type_uuid: Uuid,
    /// UUID; nil for those that get it from the root hash when that is known.
    pub uuid: Uuid,
    /// Label.
    pub label: String,
    /// Attribute bits.
    pub flags: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
    /// Free space behind it, in bytes.
    pub padding: u64,
    /// In bytes; 0 for a new one.
    pub old_size: u64,
    /// In bytes; 0 for a new one.
    pub old_padding: u64,
    /// What happens.
    pub activity: Activity,
    /// What decided the size.
    pub sized_by: SizedBy,
    /// Room is made, but the partition is not (`--defer-partitions=`).
    pub is_deferred: bool,
    /// Sector size of the file system in it, in bytes.
    pub file_system_sector_size: u32,
    /// Identities that follow from the partition's.
    pub ids: Ids,
    /// Files of supplements that were merged into this one are in here, too.
    pub files: FileLists,
    /// Positions in [`Plan::partitions`] of the others of its Verity set.
    pub siblings: Siblings,
    /// Where the blocks come from that are copied into it.
    pub blocks: Option<Blocks>,
}

/// Identities that follow from a partition's own or from the seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// UUID of the file system.
    pub file_system: Uuid,
    /// UUID of the LUKS header.
    pub luks: Uuid,
    /// UUID of the Verity superblock.
    pub verity: Uuid,
    /// Salt of the hash tree.
    pub verity_salt: [u8; 32],
}

/// The others of a Verity set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    /// The file system.
    pub data: Option<usize>,
    /// The hash tree.
    pub hash: Option<usize>,
    /// The signature.
    pub signature: Option<usize>,
}

/// Blocks to copy, found and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// File or device.
    pub path: PathBuf,
    /// Where in it they begin, in bytes.
    pub offset: u64,
    /// How many bytes; none for a source without end, which fills the partition.
    pub len: Option<u64>,
    /// It is a temporary file of this run, made by `Minimize=`.
    pub is_temporary: bool,
    /// The root hash of the hash tree that it is; what it protects is not to be hashed again.
    pub root_hash: Option<[u8; 32]>,
}

impl PartitionPlan {
    /// True if it comes into being in this run.
    pub fn is_made(&self) -> bool {
        self.activity == Activity::Create && !self.is_deferred
    }
}

impl Plan {
    /// True if there is anything to write. An identity that would be initialised is none alone.
    pub fn is_change(&self) -> bool {
        self.disk.is_from_scratch
            || self.partitions.iter().any(|partition| {
                (partition.existing.is_none() && !partition.is_deferred)
                    || partition.size != partition.old_size && partition.existing.is_some()
            })
    }
}
