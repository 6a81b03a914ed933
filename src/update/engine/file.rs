//! Files in a target directory.
//!
//! What is on disk at every step is what the peer would have there: `.sysupdate.partial.NAME` while
//! it is written, `.sysupdate.pending.NAME` once it is complete, verified and durable, `NAME` after
//! installation.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::IFlags;

use super::fetch::{Place, fetch};
use super::output::{FileOutput, Output};
use super::source::Served;
use crate::ctx::Ctx;
use crate::error::{Context as _, Result};
use crate::fs::{Change, Files};
use crate::out::Progress;
use crate::sys::fs;
use crate::update::job::{AcquireJob, PARTIAL_PREFIX, PENDING_PREFIX};

/// The names of one instance in its three states.
pub(super) struct Names {
    pub(super) installed: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) pending: PathBuf,
}

impl Names {
    pub(super) fn new(directory: &Path, name: &str) -> Self {
        // A leading slash is tolerated, but it never leaves the directory.
        let installed = directory.join(name.trim_start_matches('/'));
        let prefixed = |prefix: &str| {
            let mut name = OsStr::new(prefix).to_os_string();
            name.push(installed.file_name().unwrap_or_default());
            installed.with_file_name(name)
        };
        Self { partial: prefixed(PARTIAL_PREFIX), pending: prefixed(PENDING_PREFIX), installed }
    }
}

/// Fetches a file and leaves it pending.
pub(super) fn acquire(
    ctx: &Ctx,
    job: &AcquireJob<'_>,
    progress: &dyn Progress,
    names: &Names,
) -> Result<()> {
    let files = &job.options.files;
    let mut place = PartialFile { files, path: &names.partial, file: None };
    let fetched = fetch(ctx, job, progress, &mut place)?;
    let failed = || format!("Failed to write '{}'", names.partial.display());
    let file = place.open_file().context(failed)?;
    files.announce(&Change::Write(&names.partial)).context(failed)?;
    file.set_len(fetched.size_bytes).context(failed)?;
    set_metadata(ctx, job, &file, &names.partial, fetched.served.as_ref()).context(failed)?;
    if job.options.is_sync {
        files.sync_file(&names.partial, &file).context(failed)?;
        files.sync_parent(&names.partial).context(failed)?;
    }
    make_pending(job, names)
}

/// Renames what is partial, now that it is complete.
pub(super) fn make_pending(job: &AcquireJob<'_>, names: &Names) -> Result<()> {
    let files = &job.options.files;
    let failed = || {
        format!("Failed to rename '{}' to '{}'", names.partial.display(), names.pending.display())
    };
    files.rename(&names.partial, &names.pending).context(failed)?;
    if job.options.is_sync {
        files.sync_parent(&names.pending).context(failed)?;
    }
    Ok(())
}

/// Gives the file its times, attributes and mode. FAT knows few of these and must not be a reason
/// to fail.
fn set_metadata(
    ctx: &Ctx,
    job: &AcquireJob<'_>,
    file: &File,
    path: &Path,
    served: Option<&Served>,
) -> io::Result<()> {
    if let Some(served) = served {
        // For people and for the peer's tools; nobody depends on them.
        let _ = fs::set_xattr(path, "user.source_url".as_ref(), served.url.as_bytes());
        if let Some(etag) = &served.etag {
            let _ = fs::set_xattr(path, "user.source_etag".as_ref(), etag.as_bytes());
        }
    }
    if let Ok(now) = ctx.now().duration_since(UNIX_EPOCH) {
        let usec = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).to_le_bytes();
        let _ = fs::set_xattr(path, "user.crtime_usec".as_ref(), &usec);
    }
    if let Some(usec) = job.fields.mtime_usec.or(served.and_then(|served| served.mtime_usec)) {
        tolerate(fs::set_mtime(path, usec))?;
    }
    if let Some(mode) = file_mode(job, file)? {
        tolerate(file.set_permissions(Permissions::from_mode(mode)))?;
    }
    Ok(())
}

/// The mode the file shall have, if it is not to stay as it was created.
fn file_mode(job: &AcquireJob<'_>, file: &File) -> io::Result<Option<u32>> {
    if job.fields.read_only == Some(true) {
        let mode = match job.fields.mode {
            Some(mode) => mode,
            None => file.metadata()?.permissions().mode() & 0o7777,
        };
        return Ok(Some(mode & !0o222));
    }
    Ok(job.fields.mode)
}

/// FAT refuses to change what it cannot store.
pub(super) fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(err)
            if matches!(
                err.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// The file that is being written.
struct PartialFile<'a> {
    files: &'a Files,
    path: &'a Path,
    file: Option<File>,
}

impl PartialFile<'_> {
    fn open_file(&self) -> io::Result<File> {
        match &self.file {
            Some(file) => file.try_clone(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn prepare(&mut self, kept_bytes: u64) -> io::Result<()> {
        self.files.create_dirs(fs::parent(self.path))?;
        // Something else of that name can only be a leftover.
        if std::fs::symlink_metadata(self.path).is_ok_and(|stat| !stat.is_file()) {
            self.files.remove(self.path)?;
        }
        let file = self.files.create_file(self.path, kept_bytes > 0)?;
        // Zeros are not written, so nothing may be there.
        file.set_len(kept_bytes)?;
        // Copy on write only fragments what is written once; most file systems have no such flag.
        let _ = fs::set_inode_flag(&file, IFlags::NOCOW, true);
        self.files.announce(&Change::Write(self.path))?;
        self.file = Some(file);
        Ok(())
    }
}

impl Place for PartialFile<'_> {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn earlier(&self) -> Option<Box<dyn Output + '_>> {
        let is_file = std::fs::symlink_metadata(self.path).is_ok_and(|stat| stat.is_file());
        let file = is_file.then(|| File::open(self.path).ok())??;
        Some(Box::new(FileOutput { file }))
    }

    fn begin(&mut self, kept_bytes: u64) -> Result<()> {
        self.prepare(kept_bytes).context(|| format!("Failed to create '{}'", self.name()))
    }

    fn output(&self) -> Result<Box<dyn Output + '_>> {
        let file = self.open_file().context(|| format!("Failed to open '{}'", self.name()))?;
        Ok(Box::new(FileOutput { file }))
    }

    fn room_bytes(&self) -> Option<u64> {
        None
    }
}
