//! What the definitions and the options say, and the plan that follows from them.

mod options;

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::format::gpt::Partition;

pub use options::{
    AppendFstab, Ddi, Device, ElTorito, Empty, Filter, ImageSize, JoinSignature, KeySource,
    Options, Seed,
};

/// LIMIT: a GPT of the usual size has so many entries.
pub const PARTITIONS_MAX: usize = 128;
/// What a partition has at least if its definition says nothing, in bytes.
pub const SIZE_MIN_DEFAULT: u64 = 10 << 20;
/// Size of a partition with a Verity signature, in bytes.
pub const VERITY_SIG_SIZE: u64 = 16 << 10;
/// What LUKS2 metadata takes from a partition, in bytes.
pub const LUKS_OVERHEAD: u64 = 32 << 20;

/// One definition: a `*.conf` file with its drop-ins, or a partition of a `--copy-from=` disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// File name without `.conf`; what `SupplementFor=` calls it.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// `Type=`, after `--architecture=`.
    pub type_uuid: Uuid,
    /// `Label=`; an empty one is a label, too.
    pub label: Option<String>,
    /// `VolumeLabel=`.
    pub volume_label: Option<String>,
    /// `VolumeName=`.
    pub volume_name: Option<String>,
    /// `UUID=`; nil where it says `null`.
    pub uuid: Option<Uuid>,
    /// `Priority=`.
    pub priority: i32,
    /// `SizeMinBytes=`, `SizeMaxBytes=`, `Weight=`.
    pub size: Bounds,
    /// `PaddingMinBytes=`, `PaddingMaxBytes=`, `PaddingWeight=`.
    pub padding: Bounds,
    /// `CopyBlocks=`.
    pub copy_blocks: Option<CopyBlocks>,
    /// `Format=`, or what follows from other keys.
    pub format: Option<FileSystem>,
    /// `Format=empty`: a partition that is set aside.
    pub is_placeholder: bool,
    /// What is put into the file system.
    pub files: FileLists,
    /// `Subvolumes=`.
    pub subvolumes: Vec<Subvolume>,
    /// `DefaultSubvolume=`.
    pub default_subvolume: Option<PathBuf>,
    /// `BlockDeviceReplace=`.
    pub block_device_replace: Option<PathBuf>,
    /// `Encrypt=` and its neighbours; none where it is off.
    pub encrypt: Option<Encrypt>,
    /// `Verity=` and its neighbours; none where it is off.
    pub verity: Option<Verity>,
    /// `FactoryReset=`.
    pub is_factory_reset: bool,
    /// `Flags=`.
    pub flags: u64,
    /// `NoAuto=`.
    pub no_auto: Option<bool>,
    /// `ReadOnly=`.
    pub read_only: Option<bool>,
    /// `GrowFileSystem=`.
    pub grow_file_system: Option<bool>,
    /// `SplitName=`; none where it is off (`-`). Specifiers that depend on the plan are left in it.
    pub split_name: Option<String>,
    /// `Minimize=`.
    pub minimize: Minimize,
    /// `MountPoint=`.
    pub mount_points: Vec<MountPoint>,
    /// `EncryptedVolume=`.
    pub encrypted_volume: Option<EncryptedVolume>,
    /// `Compression=`.
    pub compression: Option<String>,
    /// `CompressionLevel=`.
    pub compression_level: Option<String>,
    /// `SupplementFor=`.
    pub supplement_for: Option<String>,
    /// `AddValidateFS=`, after its default.
    pub adds_validate_fs: bool,
    /// `FileSystemSectorSize=`, in bytes.
    pub file_system_sector_size: Option<u32>,
}

/// Where a definition comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File {
        /// Absolute path.
        path: PathBuf,
        /// Absolute paths of the drop-ins, in the order of their use.
        drop_ins: Vec<PathBuf>,
    },
    /// A partition of another disk.
    Disk {
        /// The disk.
        path: PathBuf,
        /// Number of the partition, from 1.
        number: u32,
    },
}

/// Bounds of a size, as configured and rounded to 4096.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// At least, in bytes.
    pub min: Option<u64>,
    /// At most, in bytes.
    pub max: Option<u64>,
    /// Share of what is free.
    pub weight: u32,
}

/// What is copied block by block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyBlocks {
    /// `auto`: the device that carries the same partition of the running system.
    Auto,
    /// A file, a device, or a directory for the device it is on.
    Path(PathBuf),
    /// A range of a disk (`--copy-from=`).
    Range {
        /// The disk.
        path: PathBuf,
        /// Where it begins, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
    },
}

/// A kind of file system, by the name its `mkfs` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem(pub String);

impl FileSystem {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// True for those that are made with their contents and then never change.
    pub fn is_read_only(&self) -> bool {
        matches!(self.name(), "erofs" | "squashfs")
    }

    /// True for swap space, which takes no files.
    pub fn is_swap(&self) -> bool {
        self.name() == "swap"
    }

    /// True for FAT.
    pub fn is_vfat(&self) -> bool {
        self.name() == "vfat"
    }
}

/// What is put into a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLists {
    /// `CopyFiles=`.
    pub copy: Vec<CopyFiles>,
    /// `ExcludeFiles=`: absolute paths of the source; a final slash means the contents only.
    pub exclude_sources: Vec<String>,
    /// `ExcludeFilesTarget=`: the same for paths of the target.
    pub exclude_targets: Vec<String>,
    /// `MakeDirectories=`.
    pub make_directories: Vec<PathBuf>,
    /// `MakeSymlinks=`: path and target.
    pub make_symlinks: Vec<(PathBuf, PathBuf)>,
}

impl FileLists {
    /// True if nothing is put in.
    pub fn is_empty(&self) -> bool {
        self.copy.is_empty() && self.make_directories.is_empty() && self.make_symlinks.is_empty()
    }
}

/// One `CopyFiles=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFiles {
    /// Absolute path below the copy source.
    pub source: PathBuf,
    /// Absolute path in the new file system.
    pub target: PathBuf,
    /// `fsverity=copy`.
    pub copies_fsverity: bool,
}

/// One `Subvolumes=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Absolute path in the new file system.
    pub path: PathBuf,
    /// `ro`.
    pub is_read_only: bool,
    /// `nodatacow`.
    pub is_no_data_cow: bool,
}

/// How a partition is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypt {
    /// The key file opens it.
    pub has_key_file: bool,
    /// The TPM opens it.
    pub has_tpm2: bool,
    /// `EncryptKDF=`.
    pub kdf: Option<Kdf>,
    /// `KeyFile=`.
    pub key_file: Option<PathBuf>,
    /// `Discard=`.
    pub discard: Option<bool>,
    /// `TPM2PCRs=`, as written.
    pub tpm2_pcrs: Option<String>,
    /// `Integrity=inline` with `IntegrityAlgorithm=`.
    pub integrity: Option<String>,
}

/// `EncryptKDF=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// `argon2id`
    Argon2id,
    /// `pbkdf2`
    Pbkdf2,
    /// `minimal`: PBKDF2-SHA512 with 1000 iterations.
    Minimal,
}

/// What a partition is to a Verity-protected file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// `Verity=`.
    pub role: VerityRole,
    /// `VerityMatchKey=`.
    pub key: String,
    /// `VerityDataBlockSizeBytes=`.
    pub data_block_size: Option<u32>,
    /// `VerityHashBlockSizeBytes=`.
    pub hash_block_size: Option<u32>,
}

/// `Verity=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerityRole {
    /// The file system.
    Data,
    /// Its hash tree.
    Hash,
    /// The signature of the root hash.
    Signature,
}

/// `Minimize=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Minimize {
    /// As large as there is room.
    #[default]
    Off,
    /// As small as it can be.
    Best,
    /// About as small as it can be.
    Guess,
}

/// One `MountPoint=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// Absolute path.
    pub place: PathBuf,
    /// Mount options that are added.
    pub options: Option<String>,
}

/// `EncryptedVolume=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedVolume {
    /// Name of the open volume; `luks-UUID` where none is given.
    pub name: Option<String>,
    /// Key file in crypttab.
    pub key_file: Option<String>,
    /// Options in crypttab.
    pub options: Option<String>,
    /// `fixate-volume-key`.
    pub fixates_volume_key: bool,
}

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

impl Definition {
    /// What says so: the file, or the disk whose partition is copied.
    pub fn path(&self) -> &Path {
        match &self.origin {
            Origin::File { path, .. } | Origin::Disk { path, .. } => path,
        }
    }

    /// True if this is the part of a Verity set.
    pub fn is_verity(&self, role: VerityRole) -> bool {
        self.verity.as_ref().is_some_and(|verity| verity.role == role)
    }

    /// True if files or attributes are put into its file system.
    pub fn is_populated(&self) -> bool {
        !self.files.is_empty() || self.adds_validate_fs
    }
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
