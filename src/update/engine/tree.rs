//! Directories and subvolumes in a target directory.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::fetch::explain;
use super::file::{Names, make_pending, tolerate};
use crate::error::{Context as _, Error, Result};
use crate::fs::Change;
use crate::out::Progress;
use crate::sys::{btrfs, fs};
use crate::unpack;
use crate::update::job::AcquireJob;
use crate::update::model::{Location, TargetKind};

/// Copies or unpacks a tree and leaves it pending.
pub(super) fn acquire(job: &AcquireJob<'_>, progress: &dyn Progress, names: &Names) -> Result<()> {
    let files = &job.options.files;
    let partial = &names.partial;
    copy(job, progress, partial)?;
    let failed = || format!("Failed to write '{}'", partial.display());
    if let Some(usec) = job.fields.mtime_usec {
        tolerate(fs::set_mtime(partial, usec)).context(failed)?;
    }
    if let Some(mode) = job.fields.mode {
        tolerate(std::fs::set_permissions(partial, Permissions::from_mode(mode)))
            .context(failed)?;
    }
    if job.options.is_sync {
        files.sync_all(partial).context(failed)?;
    }
    make_pending(job, names)
}

/// Makes room for the new tree: what an interrupted run has left is of no use.
fn prepare(job: &AcquireJob<'_>, partial: &Path) -> io::Result<()> {
    let files = &job.options.files;
    files.create_dirs(fs::parent(partial))?;
    files.remove(partial)
}

fn create(job: &AcquireJob<'_>, partial: &Path) -> Result<()> {
    let is_subvolume = job.transfer.target.kind == TargetKind::Subvolume;
    let failed = || format!("Failed to create '{}'", partial.display());
    prepare(job, partial).context(failed)?;
    job.options.files.create_tree(partial, is_subvolume).context(failed)
}

fn copy(job: &AcquireJob<'_>, progress: &dyn Progress, partial: &Path) -> Result<()> {
    let Location::Path(source) = &job.source.location else {
        return Err(Error::new("A directory can only be copied from a directory."));
    };
    let name = source.display();
    // Before the leftovers of the last run go.
    let from = fs::open_dir(source).context(|| format!("Failed to open '{name}'"))?;
    progress.phase(&partial.display().to_string(), None);
    let is_snapshot = job.transfer.target.kind == TargetKind::Subvolume
        && btrfs::is_subvolume(&from).unwrap_or(false)
        && snapshot(job, from, partial).is_ok();
    if !is_snapshot {
        create(job, partial)?;
        let mut advance = |bytes| {
            if job.options.is_cancelled.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(io::Error::other(unpack::Error::Cancelled));
            }
            progress.advance(bytes);
            Ok(())
        };
        job.options.files.copy_tree(source, partial, &mut advance).map_err(|err| {
            let err = match unpack::Error::from_read(err) {
                unpack::Error::Read(err) => unpack::Error::Write(err),
                err => err,
            };
            explain(&name.to_string(), &partial.display().to_string(), err)
        })?;
    }
    progress.finish();
    Ok(())
}

fn snapshot(job: &AcquireJob<'_>, from: impl AsFd, partial: &Path) -> io::Result<()> {
    prepare(job, partial)?;
    let name = partial.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    job.options.files.announce(&Change::Create(partial))?;
    btrfs::snapshot(from, fs::open_dir(fs::parent(partial))?, name)
}
