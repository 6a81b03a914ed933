//! The tree of a disk image, mounted where nobody else sees it.
//!
//! LIMIT: no Verity, no encryption, no check of file systems and no growing of them.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{FileSystem, Part, Policy, Role, dissect};
use crate::disk::{Access, Disk as _, FileDisk};
use crate::error::{Context as _, Error, Result};
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::mount::{self, Mounts, Options};

/// Where the tree is mounted, in the namespace of this process.
const PLACE: &str = "/run/slipway-image";

/// A mounted image. Everything is unmounted with it.
#[derive(Debug)]
pub struct MountedImage {
    root: PathBuf,
    _mounts: Mounts,
}

impl MountedImage {
    /// Where its tree is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Mounts the tree of an image file or disk. From here on this thread, and those that it starts,
/// have mounts of their own.
///
/// # Errors
///
/// What [`dissect`] says; there is no privilege, or no loop device; or it cannot be mounted.
pub fn mount(image: &Path, access: Access, policy: &Policy) -> Result<MountedImage> {
    let failed = || format!("Failed to open disk image '{}'", image.display());
    // Without O_DIRECT, which only a writer would get.
    let disk = FileDisk::open(image, Access::Read).context(failed)?;
    let parts = dissect(&disk, image, policy)?;
    let is_writable = access == Access::Write;
    let file = OpenOptions::new().read(true).write(is_writable).open(image).context(failed)?;
    mount::private_namespace().map_err(|err| refused(image, err))?;
    let root = PathBuf::from(PLACE);
    fs::create_dir_all(&root).context(|| format!("Failed to create '{PLACE}'"))?;
    let mut tree = Tree {
        image,
        file,
        sector_size: disk.sector_size_bytes(),
        is_writable,
        root,
        mounts: Mounts::default(),
    };
    let has_root = parts.first().is_some_and(|part| part.role == Role::Root);
    if !has_root {
        let options = Options { is_writable: true, has_programs: true, text: "mode=0755" };
        let mounted = tree.mounts.mount(Path::new("tmpfs"), &tree.root, "tmpfs", options);
        mounted.context(|| format!("Failed to mount a root for '{}'", image.display()))?;
        for directory in ["usr", "efi", "var", "home", "srv"] {
            let directory = tree.root.join(directory);
            fs::create_dir(&directory)
                .context(|| format!("Failed to create '{}'", directory.display()))?;
        }
    }
    let mut has_boot = false;
    for part in &parts {
        if let Some(place) = tree.place(part.role, has_boot)? {
            tree.mount(part, &place)?;
            has_boot |= part.role == Role::Xbootldr;
        }
    }
    Ok(MountedImage { root: tree.root, _mounts: tree.mounts })
}

struct Tree<'a> {
    image: &'a Path,
    file: File,
    sector_size: u32,
    is_writable: bool,
    root: PathBuf,
    mounts: Mounts,
}

impl Tree<'_> {
    /// Where a part goes; none if the tree has no directory for it.
    fn place(&self, role: Role, has_boot: bool) -> Result<Option<PathBuf>> {
        let names: &[&str] = match role {
            Role::Root => return Ok(Some(self.root.clone())),
            Role::Usr => &["/usr"],
            Role::Home => &["/home"],
            Role::Srv => &["/srv"],
            Role::Var => &["/var"],
            Role::Tmp => &["/var/tmp"],
            Role::Xbootldr => &["/boot"],
            Role::Esp if has_boot => &["/efi"],
            Role::Esp => &["/boot", "/efi"],
        };
        for name in names {
            let place = crate::sys::fs::chase(&self.root, Path::new(name))
                .context(|| format!("Failed to resolve '{name}' in the image"))?;
            // An ESP does not hide what there is in /boot.
            let is_free = || fs::read_dir(&place).is_ok_and(|mut list| list.next().is_none());
            if place.is_dir() && (role != Role::Esp || *name == "/efi" || is_free()) {
                return Ok(Some(place));
            }
        }
        log::debug!("No directory for the '{}' partition, not mounting it.", role.name());
        Ok(None)
    }

    fn mount(&mut self, part: &Part, place: &Path) -> Result<()> {
        let is_writable = self.is_writable && part.is_writable;
        let device = self.attach(part, is_writable).map_err(|err| refused(self.image, err))?;
        let is_boot = matches!(part.role, Role::Esp | Role::Xbootldr);
        let text = match part.file_system {
            FileSystem::Vfat => "umask=0077",
            _ if is_writable => "",
            file_system => file_system.no_replay(),
        };
        let options = Options { is_writable, has_programs: !is_boot, text };
        let file_system = part.file_system.name();
        self.mounts.mount(device.path(), place, file_system, options).map_err(|err| {
            let is_unknown = err.raw_os_error() == Some(Errno::NODEV.raw_os_error());
            let what = part.role.name();
            let text =
                format!("Failed to mount the {what} partition of '{}'", self.image.display());
            let err = Error::because(text, err);
            if is_unknown {
                err.hint(format!("The kernel does not know {file_system}"))
            } else {
                err
            }
        })
    }

    fn attach(&self, part: &Part, is_writable: bool) -> std::io::Result<LoopDevice> {
        let (offset, size, sector_size) = (part.offset, part.size, self.sector_size);
        loopdev::attach(&self.file, loopdev::Part { offset, size, sector_size, is_writable })
    }
}

/// Says why an image cannot be mounted, and what to do then.
fn refused(image: &Path, err: std::io::Error) -> Error {
    let hint = match Errno::from_io_error(&err) {
        Some(Errno::PERM | Errno::ACCESS) => {
            "Only root can mount images; use --root= with a tree that is mounted"
        }
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOTTY) => {
            "The kernel has no loop devices, or is older than 5.8; use --root= with a tree that is \
             mounted"
        }
        _ => "Mount the image and use --root=",
    };
    let text = format!("Failed to set up a loop device for disk image '{}'", image.display());
    Error::because(text, err).hint(hint)
}
