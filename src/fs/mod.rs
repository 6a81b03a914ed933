//! Changes to directory trees, each one seen before it happens.
//!
//! A [`Files`] is to trees what [`crate::disk::Disk`] is to disks: the seam where a test cuts the
//! power. Whoever writes below a target directory does it through this type, so that a
//! [`Witness`] sees every step with its place and can make it fail; what had been synced by then
//! is on record as well.

mod copy;
mod remove;
pub mod undo;

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, IFlags, RenameFlags, renameat_with};

use crate::ctx::Ctx;
use crate::sys::{btrfs, fs};

/// A change of a directory tree that is about to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A directory, subvolume or empty file appears.
    Create(&'a Path),
    /// Contents of a file, or below a directory, are written or their metadata set.
    Write(&'a Path),
    /// Contents and metadata of a file become durable.
    SyncFile(&'a Path),
    /// The names in a directory become durable.
    SyncDir(&'a Path),
    /// The whole file system becomes durable.
    SyncAll(&'a Path),
    /// A name becomes another, replacing what had it.
    Rename(&'a Path, &'a Path),
    /// A file, or a directory with all below it, goes.
    Remove(&'a Path),
}

/// Sees changes before they happen and may refuse them.
pub trait Witness: Send + Sync {
    /// An error stops the change and becomes its result.
    fn before(&self, change: &Change<'_>) -> io::Result<()>;
}

/// How trees are changed. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Files {
    witness: Option<Arc<dyn Witness>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("is_witnessed", &self.witness.is_some()).finish()
    }
}

impl Files {
    /// Changes that somebody watches.
    pub fn witnessed(witness: Arc<dyn Witness>) -> Self {
        Self { witness: Some(witness) }
    }

    /// Announces a change made by other means.
    pub fn announce(&self, change: &Change<'_>) -> io::Result<()> {
        self.witness.as_ref().map_or(Ok(()), |witness| witness.before(change))
    }

    /// Creates a directory and what is missing above it, mode 0755.
    pub fn create_dirs(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for dir in path.ancestors() {
            if dir.as_os_str().is_empty() || dir.is_dir() {
                break;
            }
            missing.push(dir);
        }
        for dir in missing.iter().rev() {
            self.announce(&Change::Create(dir))?;
            match std::fs::create_dir(dir) {
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
                result => {
                    result?;
                    // The umask is none of the definition's business.
                    std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
                }
            }
        }
        Ok(())
    }

    /// Creates a directory for its owner alone, mode 0700; what is missing above it gets 0755. One
    /// that is there keeps its mode.
    pub fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.create_dirs(fs::parent(path))?;
        self.announce(&Change::Create(path))?;
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            // Somebody else was faster.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    /// Creates a file for writing and reading; `is_kept` keeps old contents, otherwise they go.
    /// A symbolic link in its place is refused.
    pub fn create_file(&self, path: &Path, is_kept: bool) -> io::Result<File> {
        self.open_file(path, is_kept, 0o664)
    }

    fn open_file(&self, path: &Path, is_kept: bool, mode: u32) -> io::Result<File> {
        self.announce(&Change::Create(path))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(!is_kept).mode(mode);
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        options.open(path)
    }

    /// Creates a directory, or a btrfs subvolume where that is possible and asked for.
    pub fn create_tree(&self, path: &Path, is_subvolume: bool) -> io::Result<()> {
        self.announce(&Change::Create(path))?;
        if is_subvolume && let Some(name) = path.file_name() {
            let parent = fs::open_dir(fs::parent(path))?;
            if btrfs::is_btrfs(&parent)? && btrfs::create(&parent, name).is_ok() {
                return Ok(());
            }
        }
        std::fs::create_dir(path)
    }

    /// Renames, replacing a file.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.announce(&Change::Rename(from, to))?;
        std::fs::rename(from, to)
    }

    /// Makes a file's contents and metadata durable.
    pub fn sync_file(&self, path: &Path, file: &File) -> io::Result<()> {
        self.announce(&Change::SyncFile(path))?;
        file.sync_all()
    }

    /// Makes the name `path` itself durable.
    pub fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.sync_dir(fs::parent(path))
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.announce(&Change::SyncDir(dir))?;
        fs::sync_dir(dir)
    }

    /// Makes everything on the file system of `path` durable.
    pub fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.announce(&Change::SyncAll(path))?;
        fs::sync_filesystem(path)
    }

    /// Replaces a file as a whole: afterwards the old or the new contents are there.
    pub fn write_atomic(&self, ctx: &Ctx, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.write_beside(ctx, path, bytes, mode, &|temporary| self.rename(temporary, path))
    }

    /// Makes a file as a whole, unless its name is taken: then the error is `AlreadyExists`, and
    /// what is there stays, whenever it came.
    pub fn create_atomic(&self, ctx: &Ctx, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.write_beside(ctx, path, bytes, mode, &|temporary| {
            self.announce(&Change::Rename(temporary, path))?;
            Ok(renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE)?)
        })
    }

    fn write_beside(
        &self,
        ctx: &Ctx,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        put: &dyn Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let temporary = temporary_name(ctx, path);
        // For the owner alone until it is complete and has its mode.
        let mut file = self.open_file(&temporary, false, 0o600)?;
        let written = io::Write::write_all(&mut file, bytes)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| self.sync_file(&temporary, &file))
            .and_then(|()| put(&temporary));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        self.sync_parent(path)
    }

    /// Points a symbolic link elsewhere as one step; its text is made relative to its directory.
    /// Missing directories above it are created. False if it was right already.
    pub fn symlink_atomic(&self, ctx: &Ctx, target: &Path, link: &Path) -> io::Result<bool> {
        let text = relative(fs::parent(link), target);
        if std::fs::read_link(link).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        self.create_dirs(fs::parent(link))?;
        let temporary = temporary_name(ctx, link);
        self.announce(&Change::Create(&temporary))?;
        symlink(&text, &temporary)?;
        let renamed = self.rename(&temporary, link);
        if renamed.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        renamed?;
        Ok(true)
    }

    /// Copies a directory tree into an existing directory: owners, modes, times, extended
    /// attributes, hard links, holes; blocks are shared where the file system can.
    ///
    /// `progress` gets the bytes of each file; an error from it stops the copy.
    pub fn copy_tree(
        &self,
        from: &Path,
        to: &Path,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.announce(&Change::Write(to))?;
        copy::Copy::new(progress).tree(from, to)
    }

    /// Deletes a file, or a directory with everything below it: subvolumes, immutable and
    /// unwritable directories too, but not what is mounted there. Nothing there is fine.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.announce(&Change::Remove(path))?;
        match remove::remove(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Sets or clears the immutable attribute; false where it was so already or the file system
    /// has no such thing.
    pub fn set_immutable(&self, path: &Path, is_immutable: bool) -> io::Result<bool> {
        let dir = File::open(path)?;
        self.announce(&Change::Write(path))?;
        fs::set_inode_flag(dir, IFlags::IMMUTABLE, is_immutable)
    }
}

/// A hidden name beside `path` that nobody else uses. It begins like that one, and is no longer
/// than a name may be.
fn temporary_name(ctx: &Ctx, path: &Path) -> PathBuf {
    const KEPT_MAX: usize = 200;
    let random = u64::from_ne_bytes(ctx.random());
    let own = path.file_name().unwrap_or_default().as_bytes();
    let mut name = std::ffi::OsString::from(".#");
    name.push(OsStr::from_bytes(own.get(..KEPT_MAX).unwrap_or(own)));
    name.push(format!("{random:016x}"));
    path.with_file_name(name)
}

/// The path from a directory to a target; both absolute. Otherwise the target as it is.
fn relative(dir: &Path, target: &Path) -> PathBuf {
    if !dir.is_absolute() || !target.is_absolute() {
        return target.to_path_buf();
    }
    let normal = |path: &Path| -> Vec<std::ffi::OsString> {
        let names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_os_string()),
            _ => None,
        });
        names.collect()
    };
    let (dir, target) = (normal(dir), normal(target));
    let common = dir.iter().zip(&target).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(std::ffi::OsString::from(".."), dir.len() - common);
    up.chain(target.iter().skip(common).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn link_texts_are_relative_to_the_directory_of_the_link() {
        let rel = |dir: &str, target: &str| {
            relative(Path::new(dir), Path::new(target)).display().to_string()
        };
        assert_eq!(rel("/a/b", "/a/b/c_2"), "c_2");
        assert_eq!(rel("/run/x", "/var/lib/c"), "../../var/lib/c");
        assert_eq!(rel("/", "/var"), "var");
    }

    #[test]
    fn a_link_is_replaced_in_one_step_and_left_alone_when_right() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]);
        let (files, link) = (Files::default(), dir.path().join("new/dir/current"));
        assert!(files.symlink_atomic(&ctx, &dir.path().join("f_1"), &link).unwrap());
        assert!(files.symlink_atomic(&ctx, &dir.path().join("f_2"), &link).unwrap());
        assert!(!files.symlink_atomic(&ctx, &dir.path().join("f_2"), &link).unwrap());
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("../../f_2"));
        assert_eq!(std::fs::read_dir(link.parent().unwrap()).unwrap().count(), 1);
    }

    /// Takes the name at the last moment.
    struct Rival;

    impl Witness for Rival {
        fn before(&self, change: &Change<'_>) -> io::Result<()> {
            match change {
                Change::Rename(_, to) => std::fs::write(to, "first"),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn a_file_that_came_first_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let files = Files::witnessed(Arc::new(Rival));
        let error = files.create_atomic(&Ctx::host([]), &path, b"second", 0o400).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = dir.path().join("other");
        Files::default().create_atomic(&Ctx::host([]), &other, b"second", 0o400).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"second");
    }

    #[test]
    fn a_file_with_the_longest_name_is_replaced_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(255));
        for text in ["old", "new"] {
            Files::default().write_atomic(&Ctx::host([]), &path, text.as_bytes(), 0o400).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_has_modes_times_links_holes_and_attributes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("sub/deep")).unwrap();
        std::fs::write(from.join("sub/file"), "text").unwrap();
        std::fs::set_permissions(from.join("sub/file"), Permissions::from_mode(0o751)).unwrap();
        fs::set_mtime(&from.join("sub/file"), 1_234_567_890_000_001).unwrap();
        let has_xattr =
            fs::set_xattr(&from.join("sub/file"), "user.test".as_ref(), b"value").is_ok();
        std::fs::hard_link(from.join("sub/file"), from.join("hard")).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        std::fs::set_permissions(from.join("sub/deep"), Permissions::from_mode(0o500)).unwrap();
        fs::set_mtime(&from.join("sub"), 1_000_000_000_000_000).unwrap();
        std::fs::create_dir(&to).unwrap();

        let mut bytes = 0;
        let mut progress = |n| {
            bytes += n;
            Ok(())
        };
        Files::default().copy_tree(&from, &to, &mut progress).unwrap();

        assert_eq!(std::fs::read(to.join("sub/file")).unwrap(), b"text");
        let file = std::fs::metadata(to.join("sub/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.mtime()), (0o751, 1_234_567_890));
        assert_eq!(file.ino(), std::fs::metadata(to.join("hard")).unwrap().ino());
        assert_eq!(std::fs::metadata(to.join("sub")).unwrap().mtime(), 1_000_000_000);
        assert_eq!(std::fs::metadata(to.join("sub/deep")).unwrap().mode() & 0o777, 0o500);
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
        let sparse = std::fs::metadata(to.join("sparse")).unwrap();
        assert_eq!((sparse.len(), sparse.blocks()), (1 << 20, 0));
        if has_xattr {
            let value = fs::xattr(&to.join("sub/file"), "user.test".as_ref()).unwrap();
            assert_eq!(value, b"value");
        }
        assert!(bytes >= 4);
    }

    #[test]
    fn removing_takes_unwritable_directories_and_never_follows_links() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(&kept, "kept").unwrap();
        std::fs::create_dir(dir.path().join("keptdir")).unwrap();
        std::fs::write(dir.path().join("keptdir/x"), "").unwrap();
        symlink(&kept, tree.join("a/link")).unwrap();
        symlink(dir.path().join("keptdir"), tree.join("a/dirlink")).unwrap();
        std::fs::set_permissions(tree.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        std::fs::set_permissions(tree.join("a"), Permissions::from_mode(0o500)).unwrap();
        let files = Files::default();
        files.remove(&tree).unwrap();
        files.remove(&tree).unwrap();
        assert!(!tree.exists() && kept.exists() && dir.path().join("keptdir/x").exists());
    }
}
