//! Directories and subvolumes in a target directory.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::fetch::{expected_hash, explain, verify};
use super::file::{Names, make_pending, tolerate};
use super::pump::{Stream, receiving};
use super::source::Source;
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::fs::Change;
use crate::out::Progress;
use crate::sys::{btrfs, fs};
use crate::unpack;
use crate::update::job::AcquireJob;
use crate::update::model::{Location, SourceKind, TargetKind};

/// Copies or unpacks a tree and leaves it pending.
pub(super) fn acquire(
    ctx: &Ctx,
    job: &AcquireJob<'_>,
    progress: &dyn Progress,
    names: &Names,
) -> Result<()> {
    let files = &job.options.files;
    let partial = &names.partial;
    match job.transfer.source.kind {
        SourceKind::Directory | SourceKind::Subvolume => copy(job, progress, partial)?,
        _ => extract(ctx, job, progress, partial)?,
    }
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

/// Unpacks an archive. The hash is known to be right only at its end; until then everything is
/// under the partial name.
fn extract(ctx: &Ctx, job: &AcquireJob<'_>, progress: &dyn Progress, partial: &Path) -> Result<()> {
    let expected = expected_hash(job)?;
    let source = Source::open(ctx, job.source, None)?;
    let name = source.name.clone();
    let place = partial.display().to_string();
    progress.phase(&place, source.packed_bytes());
    create(job, partial)?;
    let failed = || format!("Failed to open '{}'", partial.display());
    let directory = fs::open_dir(partial).context(failed)?;
    job.options.files.announce(&Change::Write(partial)).context(failed)?;
    let stream = Stream {
        input: source.into_reader(),
        hash: Sha256::new(),
        offset: 0,
        mark: None,
        is_cancelled: &job.options.is_cancelled,
        progress,
    };
    let ((), sha256) = receiving(stream, |reader| {
        let explain = |err| explain(&name, &place, err);
        let mut plain = unpack::reader(Box::new(reader)).map_err(explain)?;
        unpack::tar::extract(&mut plain, directory.as_fd(), &unpack::tar::Options::default())
            .context(|| format!("Failed to unpack '{name}' into '{place}'"))?;
        // The hash covers what comes after the end of the archive, too.
        io::copy(&mut plain, &mut io::sink())
            .map_err(|err| explain(unpack::Error::from_read(err)))?;
        Ok::<_, Error>(())
    })?;
    verify(expected, sha256, &name)?;
    progress.finish();
    Ok(())
}
