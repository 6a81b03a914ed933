//! Installing and removing names in a target directory.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::file::Names;
use crate::error::{Context as _, Result};
use crate::sys::btrfs;
use crate::update::job::{EngineOptions, InstallJob, LEGACY_PREFIX, PARTIAL_PREFIX, RemoveJob};
use crate::update::model::TargetKind;

/// Gives a pending file or tree its final name.
pub(super) fn install(job: &InstallJob<'_>, pending: &Path, names: &Names) -> Result<PathBuf> {
    let (files, to) = (&job.options.files, &names.installed);
    let failed = || format!("Failed to rename '{}' to '{}'", pending.display(), to.display());
    if pending != to {
        if job.options.is_sync {
            let file = File::open(pending).context(failed)?;
            files.sync_file(pending, &file).context(failed)?;
        }
        files.create_dirs(crate::sys::fs::parent(to)).context(failed)?;
        files.rename(pending, to).context(failed)?;
        if job.options.is_sync {
            files.sync_parent(to).context(failed)?;
        }
    }
    // DIFFERS: the peer does this before the rename, which then fails (its defect D2).
    if let Some(is_read_only) = job.fields.read_only {
        set_tree_read_only(job, to, is_read_only)
            .context(|| format!("Failed to make '{}' read-only", to.display()))?;
    }
    Ok(to.clone())
}

/// Files have their mode since acquisition; a subvolume has a property, a directory an attribute
/// for its own names.
fn set_tree_read_only(job: &InstallJob<'_>, path: &Path, is_read_only: bool) -> io::Result<()> {
    if !matches!(job.transfer.target.kind, TargetKind::Directory | TargetKind::Subvolume) {
        return Ok(());
    }
    let dir = File::open(path)?;
    if btrfs::is_subvolume(&dir)? {
        return btrfs::set_read_only(&dir, is_read_only);
    }
    match job.options.files.set_immutable(path, is_read_only) {
        // Without privileges, or on a file system without such attributes.
        Err(err)
            if matches!(
                err.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            log::warn!("Failed to make '{}' immutable, ignoring: {err}", path.display());
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

/// Deletes a file or tree in any state, and the directories above it that this leaves empty.
pub(super) fn remove(job: &RemoveJob<'_>, path: &Path) -> Result<()> {
    let files = &job.options.files;
    files.remove(path).context(|| format!("Failed to remove '{}'", path.display()))?;
    let mut changed = path;
    if let Some(top) = &job.directory {
        // A directory that something else is in stays, and ends it.
        for dir in path.ancestors().skip(1).take_while(|dir| dir != top && dir.starts_with(top)) {
            if std::fs::remove_dir(dir).is_err() {
                break;
            }
            changed = dir;
        }
    }
    if job.options.is_sync {
        files
            .sync_parent(changed)
            .context(|| format!("Failed to sync the directory of '{}'", changed.display()))?;
    }
    Ok(())
}

/// Deletes what interrupted runs have left at the top level of a directory, by its prefix.
pub(super) fn clean_temporary(
    directory: &Path,
    keep: &[PathBuf],
    options: &EngineOptions,
) -> Result<u64> {
    const PREFIXES: [&str; 2] = [LEGACY_PREFIX, PARTIAL_PREFIX];
    let failed = || format!("Failed to clean up '{}'", directory.display());
    let entries = match std::fs::read_dir(directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.context(failed)?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.context(failed)?;
        let name = entry.file_name();
        let path = entry.path();
        let is_leftover =
            PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()));
        if is_leftover && !keep.contains(&path) {
            options
                .files
                .remove(&path)
                .context(|| format!("Failed to remove '{}'", path.display()))?;
            removed += 1;
        }
    }
    if options.is_sync && removed > 0 {
        options.files.sync_dir(directory).context(failed)?;
    }
    Ok(removed)
}
