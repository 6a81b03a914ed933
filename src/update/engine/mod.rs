//! The engine: does what the planner has decided, one job at a time.
//!
//! An acquisition streams: receiving, hashing, decoding and writing overlap in threads with
//! bounded queues, so memory does not depend on the size of the image. Nothing gets its pending
//! name or type before it is complete, verified and durable, and nothing becomes live before it is
//! pending. Every state on disk is one that the peer knows, at every step, so that either can
//! finish or clean what the other began.
//!
//! See [`super::job`] for what the functions are given.

mod checkpoint;
mod fetch;
mod file;
mod output;
mod place;
mod pool;
mod pump;
mod slot;
mod source;
mod tree;

use std::path::{Path, PathBuf};

use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::out::Progress;
use crate::update::job::{AcquireJob, Acquired, EngineOptions, Goal, InstallJob, RemoveJob};
use crate::update::model::{Instance, Location, SourceKind, TargetKind};

use self::file::Names;

/// How many bytes the payload has at least once it is decoded, as far as the source says without
/// being read as a whole; also the proof that the source answers. None for trees and archives and
/// where nothing is said.
///
/// # Errors
///
/// The source cannot be opened.
pub fn measure(ctx: &Ctx, source: &Instance, kind: SourceKind) -> Result<Option<u64>> {
    match kind {
        SourceKind::UrlFile | SourceKind::RegularFile => {
            Ok(source::Source::open(ctx, source, None)?.least_bytes().or(source.fields.size_bytes))
        }
        SourceKind::UrlTar | SourceKind::Tar => {
            source::Source::open(ctx, source, None)?;
            Ok(None)
        }
        SourceKind::Directory | SourceKind::Subvolume => Ok(None),
    }
}

/// Fetches, verifies, decodes and writes one instance, and makes it pending.
///
/// # Errors
///
/// The source fails, does not verify or does not fit, the target cannot be written, or the run was
/// cancelled. What is there then is partial.
pub fn acquire(ctx: &Ctx, job: &AcquireJob<'_>, progress: &dyn Progress) -> Result<Acquired> {
    match job.goal {
        Goal::Name { directory, name } => {
            let names = Names::new(directory, name);
            match job.transfer.target.kind {
                TargetKind::Directory | TargetKind::Subvolume => {
                    tree::acquire(ctx, job, progress, &names)?;
                }
                TargetKind::RegularFile | TargetKind::Partition => {
                    file::acquire(ctx, job, progress, &names)?;
                }
            }
            Ok(Acquired { location: Location::Path(names.pending) })
        }
        Goal::Slot { slot, label } => {
            let slot = slot::acquire(ctx, job, progress, slot, label)?;
            Ok(Acquired { location: Location::Slot(Box::new(slot)) })
        }
    }
}

/// Makes a pending instance live, then moves `CurrentSymlink=`. Returns the path to show.
///
/// # Errors
///
/// The target cannot be changed; it is pending still, or live without its link.
pub fn install(ctx: &Ctx, job: &InstallJob<'_>) -> Result<PathBuf> {
    let (path, is_linkable) = match (job.goal, job.pending) {
        (Goal::Name { directory, name }, Location::Path(pending)) => {
            (place::install(job, pending, &Names::new(directory, name))?, true)
        }
        (Goal::Slot { label, .. }, Location::Slot(slot)) => slot::install(job, slot, label)?,
        _ => return Err(Error::new("The pending instance is of another kind than its target.")),
    };
    if let Some(link) = job.current_symlink.as_deref().filter(|_| is_linkable) {
        relink(ctx, &path, link, job.options)?;
    }
    Ok(path)
}

/// Deletes an instance, or empties its slot.
///
/// # Errors
///
/// The target cannot be changed.
pub fn remove(_: &Ctx, job: &RemoveJob<'_>) -> Result<()> {
    match &job.instance.location {
        Location::Path(path) => place::remove(job, path),
        Location::Slot(slot) => slot::remove(job, slot),
        url @ Location::Url { .. } => Err(Error::new(format!("Cannot remove '{}'.", url.shown()))),
    }
}

/// Deletes leftovers (`.#…`, `.sysupdate.partial.…`) at the top level of a target directory, but
/// not those in `keep`, and says how many there were.
///
/// # Errors
///
/// The directory cannot be read or changed. One that is not there has no leftovers.
pub fn clean_temporary(directory: &Path, keep: &[PathBuf], options: &EngineOptions) -> Result<u64> {
    place::clean_temporary(directory, keep, options)
}

/// Points `CurrentSymlink=` to what is installed. Also the repair where the power went between
/// the two steps of an installation.
///
/// # Errors
///
/// The link cannot be created.
pub fn relink(ctx: &Ctx, path: &Path, link: &Path, options: &EngineOptions) -> Result<()> {
    let failed = || format!("Failed to update symlink '{}'", link.display());
    let files = &options.files;
    if files.symlink_atomic(ctx, path, link).context(failed)? {
        let text = std::fs::read_link(link).context(failed)?;
        if options.is_sync {
            files.sync_parent(link).context(failed)?;
        }
        log::info!("Updated symlink '{}' → '{}'.", link.display(), text.display());
    }
    Ok(())
}
