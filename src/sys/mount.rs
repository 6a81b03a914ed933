//! Mounts that nobody else sees: a mount namespace of our own, and what is mounted in it.
#![allow(unsafe_code, reason = "unshare has no safe wrapper in rustix")]

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives this thread, and those it starts from now on, a mount namespace of its own. What is
/// mounted here is not seen elsewhere; what is mounted or unmounted elsewhere is seen here.
///
/// # Errors
///
/// `EPERM` without the privilege; `EINVAL` in a chroot whose root is no mount point.
pub fn private_namespace() -> io::Result<()> {
    // SAFETY: only unsharing the table of descriptors is unsafe, and that is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(())
}

/// How to mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// Whether it may be written to.
    pub is_writable: bool,
    /// Whether programs in it may be run, and be more than their callers.
    pub has_programs: bool,
    /// What is said to the file system, words with commas between them.
    pub text: &'a str,
}

/// What was mounted; it is unmounted with this, the last one first.
#[derive(Debug, Default)]
pub struct Mounts {
    places: Vec<PathBuf>,
}

impl Mounts {
    /// Mounts a device, or what the file system calls so; its device nodes mean nothing.
    ///
    /// # Errors
    ///
    /// As mount(2).
    pub fn mount(
        &mut self,
        source: &Path,
        place: &Path,
        file_system: &str,
        options: Options<'_>,
    ) -> io::Result<()> {
        let mut flags = MountFlags::NODEV;
        flags.set(MountFlags::RDONLY, !options.is_writable);
        flags.set(MountFlags::NOEXEC | MountFlags::NOSUID, !options.has_programs);
        let text = CString::new(options.text)?;
        mount(source, place, file_system, flags, text.as_c_str())?;
        self.places.push(place.to_path_buf());
        Ok(())
    }

    /// Lets a directory or file, and what is mounted in it, be seen at another place, too; there it
    /// is only for reading where the kernel permits that.
    ///
    /// # Errors
    ///
    /// As mount(2).
    pub fn bind(&mut self, source: &Path, place: &Path) -> io::Result<()> {
        mount_bind_recursive(source, place)?;
        self.places.push(place.to_path_buf());
        // Nobody is going to write; that nobody could is worth trying.
        let _ = mount_remount(place, MountFlags::BIND | MountFlags::RDONLY, "");
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        while let Some(place) = self.places.pop() {
            if unmount(&place, UnmountFlags::NOFOLLOW).is_err() {
                // Something in it is open; then it goes with the namespace.
                let _ = unmount(&place, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
            }
        }
    }
}
