//! What the updater talks about: transfers, their two resources, and instances of versions.
//!
//! Values only. Definitions are loaded into these types, discovery fills in instances, the planner
//! reads them, the engine acts on them.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::disk::partition_path;
use crate::format::pattern::{Fields, Pattern};
use crate::http::url;

/// One `*.transfer` file.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// File name without its suffix.
    pub id: String,
    /// The file, for messages.
    pub file: PathBuf,
    /// True if its features allow it.
    pub is_enabled: bool,
    /// `MinVersion=`: older ones are obsolete.
    pub min_version: Option<String>,
    /// `ProtectVersion=`: never removed.
    pub protect_versions: Vec<String>,
    /// `Verify=`: demand a signature of the manifest.
    pub verify: bool,
    /// `ChangeLog=` URLs, `@v` not yet replaced.
    pub change_log: Vec<String>,
    /// `AppStream=` URLs.
    pub app_stream: Vec<String>,
    /// `Features=`: any of them enables.
    pub features: Vec<String>,
    /// `RequisiteFeatures=`: all of them are needed.
    pub requisite_features: Vec<String>,
    /// `[Source]`.
    pub source: Source,
    /// `[Target]`.
    pub target: Target,
}

/// `[Source]` of a transfer.
#[derive(Clone, Debug)]
pub struct Source {
    /// `Type=`.
    pub kind: SourceKind,
    /// `Path=` as written, specifiers expanded: a URL or an absolute path.
    pub path: String,
    /// `PathRelativeTo=`.
    pub relative_to: PathRelativeTo,
    /// `MatchPattern=`.
    pub patterns: Vec<Pattern>,
}

/// `[Target]` of a transfer.
#[derive(Clone, Debug)]
pub struct Target {
    /// `Type=`.
    pub kind: TargetKind,
    /// `Path=` as written, specifiers expanded; `auto` for partitions.
    pub path: String,
    /// `PathRelativeTo=`.
    pub relative_to: PathRelativeTo,
    /// `MatchPattern=`; the first one names new instances.
    pub patterns: Vec<Pattern>,
    /// `MatchPartitionType=`.
    pub partition_type: Uuid,
    /// True where `MatchPartitionType=` could not be understood: list, but never write.
    pub is_partition_type_unknown: bool,
    /// `PartitionUUID=`, `PartitionFlags=`, `PartitionNoAuto=`, `PartitionGrowFileSystem=`,
    /// `ReadOnly=`, `Mode=`, `TriesLeft=`, `TriesDone=`, where given.
    pub overrides: Fields,
    /// `PartitionZeroFill=`, or what the partition type asks for.
    pub zero_fill: bool,
    /// `InstancesMax=`, at least 2; none is bounded by the slots.
    pub instances_max: Option<u64>,
    /// `RemoveTemporary=`.
    pub remove_temporary: bool,
    /// `CurrentSymlink=`.
    pub current_symlink: Option<String>,
}

/// `Type=` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A file named in a SHA256SUMS manifest on a web server.
    UrlFile,
    /// A tar archive named in such a manifest.
    UrlTar,
    /// A local tar archive.
    Tar,
    /// A local file.
    RegularFile,
    /// A local directory tree.
    Directory,
    /// A local btrfs subvolume.
    Subvolume,
}

/// `Type=` of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A GPT partition whose label carries the version.
    Partition,
    /// A file.
    RegularFile,
    /// A directory tree.
    Directory,
    /// A btrfs subvolume, or a directory where there is no btrfs.
    Subvolume,
}

/// `PathRelativeTo=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathRelativeTo {
    /// The root directory.
    #[default]
    Root,
    /// The EFI system partition.
    Esp,
    /// The extended boot loader partition.
    Xbootldr,
    /// XBOOTLDR if there is one, else the ESP.
    Boot,
    /// The directory of `--transfer-source=`.
    Explicit,
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Acquisition was interrupted.
    Partial,
    /// Completely acquired, not installed.
    Pending,
    /// In place.
    Installed,
}

/// One version of a resource that is actually there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The version as spelled.
    pub version: String,
    /// What the name says and what the object itself says.
    pub fields: Fields,
    /// How far it has come; always `Installed` for sources.
    pub state: State,
    /// Where it is.
    pub location: Location,
}

/// Where an instance is. Small: a manifest may have 70 000 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file or directory, as a path of this process. The name on disk may carry a prefix for
    /// its state.
    Path(PathBuf),
    /// A file on a web server; [`Location::shown`] joins its URL.
    Url {
        /// The URL its manifest was found below.
        base: Arc<str>,
        /// As the manifest names it, relative to the base.
        name: Arc<str>,
    },
    /// A slot of a partitioned disk.
    Slot(Box<Slot>),
}

/// One partition entry as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The whole disk: a block device or an image file.
    pub disk: PathBuf,
    /// Partition number, from 1.
    pub number: u32,
    /// First byte on the disk.
    pub offset_bytes: u64,
    /// Length.
    pub size_bytes: u64,
    /// Label.
    pub label: String,
    /// Type as it is on disk: the configured one, or the one derived from it.
    pub type_uuid: Uuid,
}

/// What a target or source offers, as one listing saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Newest first; of one version those in place before those on their way, then by path.
    pub instances: Vec<Instance>,
    /// Slots that may be written, in order of their number. Partitions only.
    pub free: Vec<Slot>,
    /// Where it all is; none for web sources.
    pub place: Option<PathBuf>,
}

/// One transfer with everything that was found for it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The definition.
    pub transfer: Transfer,
    /// What can be had; empty if nobody looked.
    pub source: Stock,
    /// What is there.
    pub target: Stock,
}

impl Location {
    /// As messages and listings show it.
    pub fn shown(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Url { base, name } => url::join(base, name),
            Self::Slot(slot) => slot.shown(),
        }
    }
}

impl Slot {
    /// The partition's node, or for an image file its name with `p` and the number.
    ///
    /// DIFFERS: the peer shows `/proc/self/fd/3p2` (D3).
    pub fn shown(&self) -> String {
        partition_path(&self.disk, self.number).display().to_string()
    }
}

impl SourceKind {
    /// As `Type=` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UrlFile => "url-file",
            Self::UrlTar => "url-tar",
            Self::Tar => "tar",
            Self::RegularFile => "regular-file",
            Self::Directory => "directory",
            Self::Subvolume => "subvolume",
        }
    }

    /// True if it is listed by a manifest.
    pub fn is_web(self) -> bool {
        matches!(self, Self::UrlFile | Self::UrlTar)
    }

    /// True if an instance is an archive: its own time and mode say nothing of what is in it.
    pub fn is_tar(self) -> bool {
        matches!(self, Self::Tar | Self::UrlTar)
    }

    /// True if an instance is a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::Subvolume)
    }
}

impl TargetKind {
    /// As `Type=` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::RegularFile => "regular-file",
            Self::Directory => "directory",
            Self::Subvolume => "subvolume",
        }
    }

    /// True if an instance is a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::Subvolume)
    }
}
