//! File systems made by programs: a tree is put together in a directory, the program makes a file
//! of it, and the file is copied into place.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::walk::{self, Entry, Kind};
use super::{Spec, find};
use crate::ctx::Ctx;
use crate::disk::Disk;
use crate::disk::copy::{self, Source};
use crate::error::{Context as _, Error, Result};
use crate::sys::fs;

/// Makes a file system with the program for it.
pub(super) fn make(ctx: &Ctx, spec: &Spec, target: &dyn Disk) -> Result<()> {
    let work = Work::new(ctx)?;
    let image = work.path.join("image");
    let len = image_of(ctx, spec, &work, &image, target.size_bytes())?;
    if len > target.size_bytes() {
        return Err(Error::new(format!(
            "The {} file system has {len} bytes, and there is room for {}.",
            spec.file_system,
            target.size_bytes()
        )));
    }
    let file = File::open(&image).context(|| format!("Failed to open '{}'", image.display()))?;
    copy::copy(Source { file: &file, offset: 0, len }, target, 0, false, &mut |_| ())
        .context(|| format!("Failed to write the {} file system", spec.file_system))
}

/// Makes a file system in a new file, of `size` bytes where contents do not decide that; how long
/// it is.
pub(super) fn image_of(
    ctx: &Ctx,
    spec: &Spec,
    work: &Work,
    image: &Path,
    size: u64,
) -> Result<u64> {
    let Some(program) = find(ctx, &spec.file_system)? else {
        return Err(Error::new(format!("No program makes {}.", spec.file_system)));
    };
    let tree = work.path.join("tree");
    match &spec.tree {
        Some(planned) => {
            let entries = walk::entries(planned.request())?;
            materialise(&entries, &tree)?;
            for (name, value) in &planned.request().root_xattrs {
                fs::set_xattr(&tree, name, value)
                    .context(|| format!("Failed to set attribute '{}'", name.to_string_lossy()))?;
            }
            set_times(&tree, &entries, spec.epoch(ctx))?;
        }
        None => make_directory(&tree)?,
    }
    let failed = || format!("Failed to create '{}'", image.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(image).context(failed)?;
    if !is_sized_by_contents(spec) {
        file.set_len(size).context(failed)?;
    }
    run(ctx, &program, &arguments(ctx, spec, &tree, image))?;
    Ok(std::fs::metadata(image).context(failed)?.len())
}

/// A private directory that goes with its value.
pub(super) struct Work {
    pub(super) path: PathBuf,
}

impl Work {
    pub(super) fn new(ctx: &Ctx) -> Result<Self> {
        let parent = ctx.env_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let random: [u8; 8] = ctx.random();
        let path = parent.join(format!(".#repart{:016x}", u64::from_le_bytes(random)));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .context(|| format!("Failed to create directory '{}'", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// True for file systems that are as large as what is in them.
fn is_sized_by_contents(spec: &Spec) -> bool {
    matches!(spec.file_system.as_str(), "erofs" | "squashfs")
}

/// The words behind the name of the program.
fn arguments(ctx: &Ctx, spec: &Spec, tree: &Path, image: &Path) -> Vec<OsString> {
    let uuid = spec.uuid.to_string();
    let label =
        |max: usize| spec.label.get(..spec.label.floor_char_boundary(max)).unwrap_or_default();
    let discard = if spec.discards { "discard" } else { "nodiscard" };
    let (tree, image) = (tree.as_os_str(), image.as_os_str());
    let has_tree = spec.tree.is_some();
    let mut words: Vec<OsString> = Vec::new();
    let mut say = |more: &[&OsStr]| words.extend(more.iter().map(|word| (*word).to_owned()));
    match spec.file_system.as_str() {
        "ext2" | "ext3" | "ext4" => {
            let extended = format!("{discard},lazy_itable_init=1,hash_seed={uuid}");
            let fixed = [
                "-L",
                label(16),
                "-U",
                &uuid,
                "-I",
                "256",
                "-m",
                "0",
                "-E",
                &extended,
                "-b",
                "4096",
                "-T",
                "default",
            ];
            say(&fixed.map(OsStr::new));
            if has_tree {
                say(&["-d".as_ref(), tree]);
            }
        }
        "btrfs" => {
            say(&["-L", &spec.label, "-U", &uuid].map(OsStr::new));
            if !spec.discards {
                say(&["--nodiscard".as_ref()]);
            }
            if has_tree {
                say(&["-r".as_ref(), tree]);
            }
            if let Some(compression) = &spec.compression {
                let level = compression
                    .level
                    .as_ref()
                    .map_or_else(String::new, |level| format!(":{level}"));
                say(&["--compress", &format!("{}{level}", compression.algorithm)].map(OsStr::new));
            }
            say(&[format!("--sectorsize={}", spec.sector_size).as_ref()]);
        }
        "xfs" => {
            let fixed = ["-L", label(12), "-m", &format!("uuid={uuid}"), "-m", "reflink=1"];
            say(&fixed.map(OsStr::new));
            if !spec.discards {
                say(&["-K".as_ref()]);
            }
            if has_tree {
                say(&["-p".as_ref(), tree]);
            }
            say(&["-s", &format!("size={}", spec.sector_size)].map(OsStr::new));
        }
        "erofs" => {
            say(&["-U", &uuid, "--quiet"].map(OsStr::new));
            if let Some(compression) = &spec.compression {
                let level = compression
                    .level
                    .as_ref()
                    .map_or_else(String::new, |level| format!(",level={level}"));
                say(&[format!("-z{}{level}", compression.algorithm).as_ref()]);
            }
        }
        "squashfs" => {
            say(&[tree, image, "-noappend".as_ref()]);
            if let Some(compression) = &spec.compression {
                say(&["-comp", &compression.algorithm].map(OsStr::new));
                if let Some(level) = &compression.level {
                    say(&["-Xcompression-level", level].map(OsStr::new));
                }
            }
        }
        "f2fs" => {
            let trim = if spec.discards { "1" } else { "0" };
            say(&["-f", "-l", &spec.label, "-U", &uuid, "-t", trim].map(OsStr::new));
        }
        _ => {}
    }
    let name = format!("SYSTEMD_REPART_MKFS_OPTIONS_{}", spec.file_system.to_uppercase());
    let extra = ctx.env(&name).unwrap_or_default().split_whitespace();
    words.extend(extra.map(OsString::from));
    match spec.file_system.as_str() {
        "squashfs" => {}
        "erofs" => words.extend([image.to_owned(), tree.to_owned()]),
        _ => words.push(image.to_owned()),
    }
    words
}

/// Runs a program; what it says is in the log, or in the error where it fails.
fn run(ctx: &Ctx, program: &Path, words: &[OsString]) -> Result<()> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(ctx.env_all()).stdin(Stdio::null());
    let output = command.output().context(|| format!("Failed to run '{}'", program.display()))?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let lines = || told.lines().filter(|line| !line.trim().is_empty());
    if output.status.success() {
        for line in lines() {
            log::debug!("{name}: {}", escape(line));
        }
        return Ok(());
    }
    let error = Error::new(format!("'{name}' failed: {}.", output.status));
    Err(lines().fold(error, |error, line| error.hint(escape(line))))
}

/// What a program says may be made for a terminal.
fn escape(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_control()).collect()
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o755)
        .create(path)
        .context(|| format!("Failed to create directory '{}'", path.display()))
}

/// Puts entries together in a directory that is made for them; times come after.
fn materialise(entries: &[Entry], top: &Path) -> Result<()> {
    let mut linked: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    for entry in entries {
        let place = place(top, entry);
        let failed = || format!("Failed to copy '/{}'", entry.path.display());
        let source = entry.source.as_ref();
        if let Some((_, metadata)) =
            source.filter(|(_, metadata)| metadata.nlink() > 1 && !metadata.is_dir())
        {
            let original = (metadata.dev(), metadata.ino());
            if let Some(copy) = linked.get(&original) {
                std::fs::hard_link(copy, &place).context(failed)?;
                continue;
            }
            linked.insert(original, place.clone());
        }
        match (&entry.kind, source) {
            (Kind::Directory, _) => make_directory(&place)?,
            (Kind::Link(text), _) => std::os::unix::fs::symlink(text, &place).context(failed)?,
            (Kind::File(_), Some((path, _))) => copy_file(path, &place).context(failed)?,
            (Kind::Special, Some((_, metadata))) => {
                let kind = FileType::from_raw_mode(metadata.mode());
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(CWD, &place, kind, mode, metadata.rdev())
                    .map_err(io::Error::from)
                    .context(failed)?;
            }
            (Kind::File(_) | Kind::Special, None) => {}
        }
        if let Some((path, metadata)) = source {
            keep(path, metadata, &place).context(failed)?;
        }
    }
    Ok(())
}

fn place(top: &Path, entry: &Entry) -> PathBuf {
    if entry.path.as_os_str().is_empty() { top.to_path_buf() } else { top.join(&entry.path) }
}

/// Copies what is in a file, holes left out.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (File::open(from)?, File::create_new(to)?);
    if fs::clone_file(&target, &source).is_ok() {
        return Ok(());
    }
    let len = source.metadata()?.len();
    target.set_len(len)?;
    let mut at = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Some((start, end)) = fs::next_data(&source, at)? {
        at = start;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let (bytes, _) = buffer.split_at_mut(part);
            source.read_exact_at(bytes, at)?;
            target.write_all_at(bytes, at)?;
            at += part as u64;
        }
    }
    Ok(())
}

/// Gives a copy the owner, extended attributes and mode of its original.
fn keep(from: &Path, metadata: &Metadata, to: &Path) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    for name in fs::xattr_names(from)? {
        match fs::xattr(from, &name).and_then(|value| fs::set_xattr(to, &name, &value)) {
            // Attributes of security modules need privileges.
            Err(err) if Errno::from_io_error(&err) == Some(Errno::PERM) => {}
            Err(err) if Errno::from_io_error(&err) == Some(Errno::OPNOTSUPP) => {}
            result => result?,
        }
    }
    if !metadata.is_symlink() {
        rustix::fs::chmodat(CWD, to, Mode::from_raw_mode(metadata.mode()), AtFlags::empty())?;
    }
    Ok(())
}

/// Sets times, innermost first: every name that is made touches its directory.
fn set_times(top: &Path, entries: &[Entry], epoch: SystemTime) -> Result<()> {
    let epoch = epoch.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = Timespec {
        tv_sec: i64::try_from(epoch.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: epoch.subsec_nanos().into(),
    };
    for entry in entries.iter().rev() {
        let (last_access, last_modification) = match &entry.source {
            Some((_, metadata)) => (
                Timespec { tv_sec: metadata.atime(), tv_nsec: metadata.atime_nsec() },
                Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() },
            ),
            None => (epoch, epoch),
        };
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(CWD, place(top, entry), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .context(|| format!("Failed to set the time of '/{}'", entry.path.display()))?;
    }
    Ok(())
}
