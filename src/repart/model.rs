//! What the definitions and the options say, and the plan that follows from them.

mod options;

mod plan;

use std::path::{Path, PathBuf};

use uuid::Uuid;

pub use plan::{Activity, Blocks, DiskPlan, Ids, PartitionPlan, Plan, Siblings, SizedBy};

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
