//! What the planner hands to the engine: one job per step, with everything already decided.
//!
//! The engine (`update::engine`) knows nothing of versions, limits or definitions. Its functions:
//!
//! - `measure(ctx, &Instance, SourceKind) -> Result<Option<u64>>`: how many bytes the payload has
//!   once it is decoded, if that can be told cheaply and without writing (`@s`, the length of an
//!   uncompressed file, the index of an xz file, a zstd frame header, `Content-Length`); used to
//!   choose a slot before anything is removed.
//! - `acquire(ctx, &AcquireJob, &dyn Progress) -> Result<Acquired>`: fetch, verify, decode and
//!   write below a temporary name, and turn that into the pending one.
//! - `install(ctx, &InstallJob) -> Result<PathBuf>`: give the pending instance its final name or
//!   partition type, then move `CurrentSymlink=`. Returns the path to show: the file, the
//!   partition node, or `IMAGEpN` for an image file.
//! - `remove(ctx, &RemoveJob) -> Result<()>`: delete one instance in any state, or empty its slot.
//! - `clean_temporary(ctx, &Path, keep: &[PathBuf], is_sync) -> Result<u64>`: delete leftovers
//!   (`.#…`, `.sysupdate.partial.…`) at the top level of a target directory, but those to keep;
//!   returns how many.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::model::{Instance, Location, Slot, Transfer};
use crate::disk::{Disks, HostDisks};
use crate::format::pattern::Fields;
use crate::fs::Files;

/// Prefix of the last name component while an instance is being written.
pub const PARTIAL_PREFIX: &str = ".sysupdate.partial.";
/// Prefix of the last name component between acquisition and installation.
pub const PENDING_PREFIX: &str = ".sysupdate.pending.";
/// Prefix that only old versions of the peer left behind.
pub const LEGACY_PREFIX: &str = ".#";
/// Label of a slot that may be written.
pub const EMPTY_LABEL: &str = "_empty";

/// What holds for every step of a run.
#[derive(Clone)]
pub struct EngineOptions {
    /// `--sync=`: make everything durable at the points of the protocol.
    pub is_sync: bool,
    /// Where disks come from.
    pub disks: Arc<dyn Disks>,
    /// How directory trees are changed.
    pub files: Files,
    /// Set by a signal handler or another thread: stop at the next chunk with what is partial
    /// left as partial.
    pub is_cancelled: Arc<AtomicBool>,
}

impl EngineOptions {
    /// Options for this machine's disks and trees.
    pub fn new(is_sync: bool) -> Self {
        Self {
            is_sync,
            disks: Arc::new(HostDisks),
            files: Files::default(),
            is_cancelled: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineOptions").field("is_sync", &self.is_sync).finish_non_exhaustive()
    }
}

/// Where the new instance goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A file or directory: `directory` is `Path=` as a path of this process (it need not exist),
    /// `name` is relative to it and may have directories of its own.
    Name {
        /// `Path=`, resolved.
        directory: PathBuf,
        /// The final name, formatted from the first target pattern.
        name: String,
    },
    /// A partition: the slot as it was when the plan was made, and its final label.
    Slot {
        /// The slot to write: free, partial or pending.
        slot: Slot,
        /// The final label, formatted from the first target pattern.
        label: String,
    },
}

/// Bring one instance to the pending state.
#[derive(Clone, Debug)]
pub struct AcquireJob<'a> {
    /// The definition, for types, `Verify=` and the like.
    pub transfer: &'a Transfer,
    /// What to fetch. `fields.sha256` of a web instance is the manifest's hash of the bytes as
    /// served and must match.
    pub source: &'a Instance,
    /// Where to.
    pub goal: &'a Goal,
    /// What the new instance shall carry: explicit keys over captured values over the source's
    /// own metadata. For partitions also `partition_uuid`, `partition_flags` and the single bits.
    /// `read_only` on a directory is for `install`.
    pub fields: &'a Fields,
    /// An interrupted acquisition of the very same goal: continue it or start over.
    pub partial: Option<&'a Instance>,
    /// Options of the run.
    pub options: &'a EngineOptions,
}

/// A completely acquired instance.
#[derive(Clone, Debug)]
pub struct Acquired {
    /// The pending path, or the slot with its pending type.
    pub location: Location,
}

/// Make one pending instance live.
#[derive(Clone, Debug)]
pub struct InstallJob<'a> {
    /// The definition.
    pub transfer: &'a Transfer,
    /// The pending path or slot: what `acquire` returned, or what discovery found.
    pub pending: &'a Location,
    /// Where to. The goal's slot is the pending one.
    pub goal: &'a Goal,
    /// As in [`AcquireJob`].
    pub fields: &'a Fields,
    /// `CurrentSymlink=` as an absolute path of this process.
    pub current_symlink: Option<PathBuf>,
    /// Options of the run.
    pub options: &'a EngineOptions,
}

/// Delete one instance.
#[derive(Clone, Debug)]
pub struct RemoveJob<'a> {
    /// The definition; a slot gets its `partition_type` back.
    pub transfer: &'a Transfer,
    /// What to delete, in any state.
    pub instance: &'a Instance,
    /// `Path=` as a path of this process: empty parent directories below it are removed as well.
    /// None for partitions.
    pub directory: Option<PathBuf>,
    /// Options of the run.
    pub options: &'a EngineOptions,
}
