//! File systems made by programs: where the program writes, and how it gets at what goes in.
//!
//! | Target | Way |
//! |---|---|
//! | an image file, ext2 to ext4 | in place, at an offset |
//! | a range of a device | in place, by a loop device |
//! | all else | a temporary file, whose blocks are then copied |
//!
//! Programs that take a directory get one (see [`super::directory`]). Those that cannot make a file
//! system on a device that is then mounted, where nobody else sees it, and filled by ourselves.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::arguments::Job;
use super::tree::Tree;
use super::{Spec, directory, find, program};
use crate::ctx::Ctx;
use crate::disk::copy::{self, Source};
use crate::disk::{Disk, Lock};
use crate::error::{Context as _, Error, Result};
use crate::fs::Files;
use crate::fs::undo::Undo;
use crate::sys::fs;
use crate::sys::loopdev::{self, LoopDevice, Part};
use crate::sys::mount::{self, Mounts};

/// Makes a file system with the program for it.
pub(super) fn make(ctx: &Ctx, spec: &Spec, target: &dyn Disk) -> Result<()> {
    let work = Work::new(ctx)?;
    if let Some((path, offset)) = target.place() {
        let is_file = std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if is_file && is_ext(spec) {
            return in_place(ctx, spec, target, &work, &path, offset);
        }
        let may_attach = spec.is_offline != Some(true) && program::is_root();
        let must_mount = needs_mount(ctx, spec)? && !is_dispensable(spec);
        let is_mounted = must_mount || needs_mount(ctx, spec)? || is_crude(ctx, spec)?;
        if may_attach && (is_mounted || !is_file) {
            let made =
                attach(target, &path, offset, spec.sector_size).and_then(|(device, lock)| {
                    let made = on_device(ctx, spec, &work, &device, is_mounted);
                    drop(lock);
                    made
                });
            match made {
                Err(err) if !must_mount && is_unknown(&err) => {
                    log::debug!("{err}; making the file system in a file.");
                }
                result => return result,
            }
        }
    }
    let bare = Spec { tree: None, ..spec.clone() };
    let spec = if needs_mount(ctx, spec)? {
        if !is_dispensable(spec) {
            return Err(cannot_populate(spec));
        }
        let kind = &spec.file_system;
        log::warn!(
            "Cannot set attributes of new {kind} filesystems here, ignoring AddValidateFS=."
        );
        &bare
    } else {
        spec
    };
    let image = work.path.join("image");
    build(ctx, spec, &work, &image, target.size_bytes(), false)?;
    let file = File::open(&image).context(|| format!("Failed to open '{}'", image.display()))?;
    let len = file.metadata().context(|| "Failed to measure a file system".to_owned())?.len();
    if len > target.size_bytes() {
        return Err(Error::errno_because(
            format!(
                "The {} file system has {len} bytes, and there is room for {}",
                spec.file_system,
                target.size_bytes()
            ),
            rustix::io::Errno::NOSPC.raw_os_error(),
        ));
    }
    copy::copy(Source { file: &file, offset: 0, len }, target, 0, false, &mut |_| ())
        .context(|| format!("Failed to write the {} file system", spec.file_system))
}

/// Makes a file system in a new file: as long as its contents want, or of `size` bytes.
pub(super) fn build(
    ctx: &Ctx,
    spec: &Spec,
    work: &Work,
    image: &Path,
    size: u64,
    shrinks: bool,
) -> Result<()> {
    let failed = || format!("Failed to create '{}'", image.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(image).context(failed)?;
    if !is_sized_by_contents(spec) {
        file.set_len(size).context(failed)?;
    }
    run(ctx, spec, work, Place { node: image, range: None, shrinks })
}

/// Where a program writes.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a Path,
    range: Option<(u64, u64)>,
    shrinks: bool,
}

/// Makes a file system within an image file.
fn in_place(
    ctx: &Ctx,
    spec: &Spec,
    target: &dyn Disk,
    work: &Work,
    node: &Path,
    offset: u64,
) -> Result<()> {
    let size = target.size_bytes();
    // What the program does not write must not be what was there before.
    target
        .zero(0, size)
        .and_then(|()| target.sync())
        .context(|| format!("Failed to empty {size} bytes of '{}'", node.display()))?;
    run(ctx, spec, work, Place { node, range: Some((offset, size)), shrinks: false })
}

/// The target as a device of its own, locked against the device manager.
fn attach(
    target: &dyn Disk,
    path: &Path,
    offset: u64,
    sector_size: u32,
) -> Result<(LoopDevice, Box<dyn Lock>)> {
    let failed = || format!("Failed to make a loop device of '{}'", path.display());
    target.sync().context(failed)?;
    let file = OpenOptions::new().read(true).write(true).open(path).context(failed)?;
    let part = Part { offset, size: target.size_bytes(), sector_size, is_writable: true };
    let device = loopdev::attach(&file, part).context(failed)?;
    let node = crate::disk::FileDisk::open(device.path(), crate::disk::Access::Read);
    let lock = node.and_then(|disk| disk.lock()).context(failed)?;
    Ok((device, lock))
}

fn on_device(
    ctx: &Ctx,
    spec: &Spec,
    work: &Work,
    device: &LoopDevice,
    is_mounted: bool,
) -> Result<()> {
    let place = Place { node: device.path(), range: None, shrinks: false };
    if is_mounted && let Some(tree) = &spec.tree {
        let empty = Spec { tree: None, ..spec.clone() };
        run(ctx, &empty, work, place)?;
        fill_mounted(ctx, spec, tree, work, device.path())?;
    } else {
        run(ctx, spec, work, place)?;
    }
    let failed = || format!("Failed to sync '{}'", device.path().display());
    File::open(device.path()).and_then(|node| node.sync_all()).context(failed)
}

/// Mounts a new file system where only this thread sees it and copies the tree into it.
fn fill_mounted(ctx: &Ctx, spec: &Spec, tree: &Tree, work: &Work, device: &Path) -> Result<()> {
    let place = work.path.join("mounted");
    make_private(&place)?;
    log::info!("Populating {} filesystem.", spec.file_system);
    let fill = || -> Result<()> {
        let failed = || format!("Failed to mount a new {} file system", spec.file_system);
        mount::private_namespace().context(failed)?;
        let mut mounts = Mounts::default();
        let options = mount::Options { is_writable: true, ..mount::Options::default() };
        mounts.mount(device, &place, &spec.file_system, options).context(failed)?;
        directory::copy(tree, &place, ctx.now())?;
        fs::sync_filesystem(&place).context(|| format!("Failed to sync '{}'", place.display()))
    };
    in_thread(fill)?;
    log::info!("Successfully populated {} filesystem.", spec.file_system);
    Ok(())
}

/// What `mkfs.erofs` is to be asked for. DIFFERS: nothing where it is older than 1.6 and makes blocks
/// of 4096 bytes only; the peer fails then.
fn erofs_block_size(ctx: &Ctx, spec: &Spec) -> Result<Option<u32>> {
    const USUAL: u32 = 4096;
    if spec.file_system != "erofs" || spec.sector_size == USUAL {
        return Ok(None);
    }
    Ok(knows_block_size(&program::help(ctx, spec)?).then_some(spec.sector_size))
}

/// True if `mkfs.erofs --help` has an option for the block size.
fn knows_block_size(help: &str) -> bool {
    help.lines().any(|line| line.trim_start().starts_with("-b#"))
}

/// Runs the program, with a directory of what goes in.
fn run(ctx: &Ctx, spec: &Spec, work: &Work, place: Place<'_>) -> Result<()> {
    let Some(program) = find(ctx, &spec.file_system)? else {
        return Err(Error::new(format!("No program makes {}.", spec.file_system)));
    };
    let (kind, shown) = (&spec.file_system, place.node.display());
    let block_size = erofs_block_size(ctx, spec)?;
    let start = |tree: Option<&Path>| {
        log::info!("Formatting {shown} as {kind}");
        let Place { node, range, shrinks } = place;
        let words = Job { spec, tree, node, range, shrinks, block_size }.arguments(ctx);
        program::run(ctx, &program, &words)
    };
    let empty = Tree::plan(super::tree::Request { root: "/".into(), ..Default::default() })?;
    match &spec.tree {
        None if !is_sized_by_contents(spec) && !place.shrinks => start(None)?,
        tree => {
            let tree = tree.as_ref().unwrap_or(&empty);
            log::info!("Preparing to populate {kind} filesystem.");
            with_directory(ctx, spec, tree, work, &start)?;
        }
    }
    if is_ext(spec)
        && let Some(tree) = &spec.tree
    {
        ext_root(ctx, tree, work, place)?;
    }
    let (label, uuid) = (super::arguments::label(spec), spec.uuid);
    match kind.as_str() {
        "squashfs" => {
            log::info!("{shown} successfully formatted as {kind} (no label or uuid specified)");
        }
        _ => {
            log::info!("{shown} successfully formatted as {kind} (label \"{label}\", uuid {uuid})")
        }
    }
    Ok(())
}

/// Calls `start` with a directory in which the tree is, bound together or copied.
fn with_directory(
    ctx: &Ctx,
    spec: &Spec,
    tree: &Tree,
    work: &Work,
    start: &(dyn Fn(Option<&Path>) -> Result<()> + Sync),
) -> Result<()> {
    let ready = || log::info!("Ready to populate {} filesystem.", spec.file_system);
    let frame = work.path.join("frame");
    if program::is_root() && spec.is_offline != Some(true) {
        make_private(&frame)?;
        if let Some(binds) = directory::frame(tree, &frame, ctx.now())? {
            let bound = in_thread(|| {
                let mut mounts = Mounts::default();
                let bound = mount::private_namespace().and_then(|()| {
                    binds.iter().try_for_each(|(source, place)| mounts.bind(source, place))
                });
                if let Err(err) = bound {
                    log::debug!("Cannot bind files to their places ({err}), copying them.");
                    return Ok(false);
                }
                ready();
                start(Some(&frame)).map(|()| true)
            })?;
            if bound {
                return remove(&frame);
            }
        }
        remove(&frame)?;
    }
    let copied = work.path.join("tree");
    make_private(&copied)?;
    directory::copy(tree, &copied, ctx.now())?;
    ready();
    start(Some(&copied))?;
    remove(&copied)
}

/// Calls something in a thread of its own, which may change what it sees of the machine.
fn in_thread<T: Send>(call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(call).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// `mkfs.ext4` takes all of a tree but the owner and mode of its root directory.
fn ext_root(ctx: &Ctx, tree: &Tree, work: &Work, place: Place<'_>) -> Result<()> {
    let Some(origin) = &tree.top.origin else { return Ok(()) };
    let metadata = super::tree::stat(origin)?;
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    if (mode & 0o7777, uid, gid) == (0o755, 0, 0) {
        return Ok(());
    }
    let Some(debugfs) = program::search(ctx, "debugfs") else {
        log::warn!("'debugfs' is not available, the root directory keeps mode 0755.");
        return Ok(());
    };
    let script = work.path.join("commands");
    let text = format!(
        "set_inode_field <2> mode 0{mode:o}\n\
         set_inode_field <2> uid {uid}\n\
         set_inode_field <2> gid {gid}\n"
    );
    std::fs::write(&script, text).context(|| format!("Failed to write '{}'", script.display()))?;
    let mut node = place.node.as_os_str().to_os_string();
    if let Some((offset, _)) = place.range {
        node.push(format!("?offset={offset}"));
    }
    program::run(ctx, &debugfs, &["-w".into(), "-f".into(), script.into(), node])
}

/// A private directory that goes with its value.
pub(super) struct Work {
    pub(super) path: PathBuf,
    _undo: Undo,
}

impl Work {
    pub(super) fn new(ctx: &Ctx) -> Result<Self> {
        let path = super::temporary_path(ctx);
        make_private(&path)?;
        let undo = Undo::remove(path.clone());
        Ok(Self { path, _undo: undo })
    }
}

fn make_private(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .context(|| format!("Failed to create directory '{}'", path.display()))
}

/// Removes what was made, but never what is mounted there.
fn remove(path: &Path) -> Result<()> {
    Files::default().remove(path).context(|| format!("Failed to remove '{}'", path.display()))
}

/// True for file systems that are as large as what is in them.
pub(super) fn is_sized_by_contents(spec: &Spec) -> bool {
    matches!(spec.file_system.as_str(), "erofs" | "squashfs")
}

fn is_ext(spec: &Spec) -> bool {
    matches!(spec.file_system.as_str(), "ext2" | "ext3" | "ext4")
}

/// True if files can get in only where the new file system is mounted.
pub(super) fn needs_mount(ctx: &Ctx, spec: &Spec) -> Result<bool> {
    Ok(spec.tree.is_some() && !takes_directory(ctx, spec)?)
}

/// True if the program takes a directory, but loses much of what is in it: hard links, holes, and
/// owner, mode and attributes of the directory itself.
fn is_crude(ctx: &Ctx, spec: &Spec) -> Result<bool> {
    Ok(spec.file_system == "btrfs"
        && spec.tree.is_some()
        && !program::help(ctx, spec)?.contains("--subvol"))
}

/// True if the kernel does not let us, or knows no loop devices or file systems of this kind.
fn is_unknown(err: &Error) -> bool {
    use rustix::io::Errno;
    let errnos = [Errno::NODEV, Errno::NOENT, Errno::NXIO, Errno::PERM, Errno::ACCESS];
    errnos.iter().any(|errno| err.errno() == Some(errno.raw_os_error()))
}

/// True if a file system is as good without what is to be put in: attributes for a check that is
/// not made where there are none.
pub(super) fn is_dispensable(spec: &Spec) -> bool {
    spec.tree.as_ref().is_none_or(Tree::is_empty)
}

/// True if the program can be given a directory.
fn takes_directory(ctx: &Ctx, spec: &Spec) -> Result<bool> {
    Ok(match spec.file_system.as_str() {
        "ext2" | "ext3" | "ext4" | "btrfs" | "erofs" | "squashfs" => true,
        // Older ones know files of a form of their own only, which cannot say everything.
        "xfs" => program::help(ctx, spec)?.contains("dirname"),
        _ => false,
    })
}

/// That files cannot get into a file system.
pub(super) fn cannot_populate(spec: &Spec) -> Error {
    let kind = &spec.file_system;
    let error = Error::new(format!("Populating {kind} filesystems is not possible here."));
    match kind.as_str() {
        "xfs" => error.hint(
            "mkfs.xfs can do so without mounting from xfsprogs 6.17 on; an older one needs root \
             and loop devices.",
        ),
        _ => error.hint("It needs root, loop devices and --offline=no or auto."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_mkfs_erofs_is_not_asked_for_a_block_size() {
        // erofs-utils 1.9 and 1.5.
        assert!(knows_block_size("usage:\n -b#   set block size to # (# = page size by default)"));
        assert!(!knows_block_size("usage:\n -d#   set output message level to # (maximum 9)"));
        assert!(!knows_block_size(""));
    }
}
