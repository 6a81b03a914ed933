//! What the command line, or a call over Varlink, says.

use std::path::PathBuf;

use uuid::Uuid;

/// `--empty=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Empty {
    /// Only disks that have a GPT.
    #[default]
    Refuse,
    /// Empty disks, too.
    Allow,
    /// Only empty disks.
    Require,
    /// Whatever there is is lost.
    Force,
    /// A new image file.
    Create,
}

impl Empty {
    /// As in options and Varlink.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
            Self::Require => "require",
            Self::Force => "force",
            Self::Create => "create",
        }
    }

    /// The mode with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Refuse, Self::Allow, Self::Require, Self::Force, Self::Create]
            .into_iter()
            .find(|mode| mode.name() == text)
    }
}

/// What is partitioned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The disk that the root file system is on.
    #[default]
    Root,
    /// `-`: none; only how large a disk must be is said.
    None,
    /// A block device, an image file, or a directory for the disk it is on.
    Path(PathBuf),
}

/// `--size=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSize {
    /// As small as the definitions allow.
    Auto,
    /// In bytes, a multiple of 4096.
    Bytes(u64),
}

/// `--seed=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seed {
    /// The machine ID.
    #[default]
    Machine,
    /// `random`
    Random,
    /// This one.
    Given(Uuid),
}

/// `--include-partitions=` and `--exclude-partitions=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All definitions count.
    #[default]
    All,
    /// Only those of these types.
    Include(Vec<Uuid>),
    /// Those of other types.
    Exclude(Vec<Uuid>),
}

impl Filter {
    /// True if definitions of this type count.
    pub fn wants(&self, type_uuid: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Include(types) => types.contains(&type_uuid),
            Self::Exclude(types) => !types.contains(&type_uuid),
        }
    }
}

/// `--make-ddi=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ddi {
    /// System extension.
    Sysext,
    /// Configuration extension.
    Confext,
    /// Portable service.
    Portable,
}

impl Ddi {
    /// As in the option and in the name of the directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sysext => "sysext",
            Self::Confext => "confext",
            Self::Portable => "portable",
        }
    }
}

/// `--append-fstab=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendFstab {
    /// There must be no file.
    #[default]
    No,
    /// Our block is replaced, the rest stays.
    Auto,
    /// The file is replaced.
    Replace,
}

/// `--el-torito=` and its neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElTorito {
    /// `--el-torito-system=`, at most 32 characters.
    pub system: Option<String>,
    /// `--el-torito-volume=`, at most 32 characters.
    pub volume: Option<String>,
    /// `--el-torito-publisher=`, at most 128 characters.
    pub publisher: Option<String>,
}

/// A key or certificate: where it is and in what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// Path or URI.
    pub path: String,
    /// `file`, `engine:NAME` or `provider:NAME`.
    pub kind: String,
}

/// One `--join-signature=`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSignature {
    /// Root hash it is for.
    pub root_hash: Vec<u8>,
    /// Detached PKCS#7 in DER.
    pub signature: Vec<u8>,
}

/// Everything the command line or a Varlink call says.
#[derive(Clone, Default)]
pub struct Options {
    /// What is partitioned.
    pub device: Device,
    /// Nothing is changed.
    pub is_dry_run: bool,
    /// `--empty=`.
    pub empty: Empty,
    /// `--size=`.
    pub size: Option<ImageSize>,
    /// `--offline=`; none for `auto`.
    pub is_offline: Option<bool>,
    /// `--discard=no`.
    pub keeps_blocks: bool,
    /// `--cow=`; none for `auto`.
    pub cow: Option<bool>,
    /// `--sector-size=`, in bytes.
    pub sector_size: Option<u32>,
    /// `--grain-size=`, in bytes.
    pub grain_size: Option<u64>,
    /// `--architecture=`, by its canonical name.
    pub architecture: Option<String>,
    /// `--seed=`.
    pub seed: Seed,
    /// `--factory-reset=`.
    pub factory_reset: Option<bool>,
    /// `--can-factory-reset`.
    pub asks_factory_reset: bool,
    /// `--definitions=`; empty for the usual places.
    pub definitions: Vec<PathBuf>,
    /// `--split=`.
    pub splits: bool,
    /// `--include-partitions=`, `--exclude-partitions=`.
    pub filter: Filter,
    /// `--defer-partitions=`.
    pub defer: Vec<Uuid>,
    /// `--defer-partitions-empty=`.
    pub defers_empty: bool,
    /// `--defer-partitions-factory-reset=`.
    pub defers_factory_reset: bool,
    /// The root is not the machine's, but nobody named it: the initrd found it.
    pub is_root_found: bool,
    /// `--copy-source=`.
    pub copy_source: Option<PathBuf>,
    /// `--copy-from=`.
    pub copy_from: Vec<PathBuf>,
    /// `--make-ddi=`.
    pub ddi: Option<Ddi>,
    /// `--key-file=`: what is in it.
    pub key: Option<Vec<u8>>,
    /// `--private-key=`.
    pub private_key: Option<KeySource>,
    /// `--certificate=`.
    pub certificate: Option<KeySource>,
    /// `--join-signature=`.
    pub join_signatures: Vec<JoinSignature>,
    /// `--generate-fstab=`.
    pub fstab: Option<PathBuf>,
    /// `--generate-crypttab=`.
    pub crypttab: Option<PathBuf>,
    /// `--append-fstab=`.
    pub append_fstab: AppendFstab,
    /// `--el-torito=`.
    pub el_torito: Option<ElTorito>,
}
