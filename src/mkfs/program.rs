//! The programs that make file systems: which one, where it is and what package has it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Where programs are if the environment does not say; administrators' programs are often not in
/// the search path of those who are none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Kind of file system, program (`mkfs.` and the kind where nothing else is said), and the package
/// that has it in most distributions.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("bcachefs", "mkfs.bcachefs", "bcachefs-tools"),
    ("btrfs", "mkfs.btrfs", "btrfs-progs"),
    ("erofs", "mkfs.erofs", "erofs-utils"),
    ("exfat", "mkfs.exfat", "exfatprogs"),
    ("ext2", "mkfs.ext2", "e2fsprogs"),
    ("ext3", "mkfs.ext3", "e2fsprogs"),
    ("ext4", "mkfs.ext4", "e2fsprogs"),
    ("f2fs", "mkfs.f2fs", "f2fs-tools"),
    ("ntfs", "mkfs.ntfs", "ntfs-3g"),
    ("squashfs", "mksquashfs", "squashfs-tools"),
    ("xfs", "mkfs.xfs", "xfsprogs"),
];

/// Finds the program for a kind of file system on this machine; none for those we make ourselves
/// (FAT and swap space).
///
/// # Errors
///
/// That there is none, with the package that has it where that is known.
pub fn find(ctx: &Ctx, file_system: &str) -> Result<Option<PathBuf>> {
    if matches!(file_system, "vfat" | "swap") {
        return Ok(None);
    }
    let row = PROGRAMS.iter().find(|row| row.0 == file_system);
    let name = row.map_or_else(|| format!("mkfs.{file_system}"), |row| row.1.to_owned());
    let is_plain = !file_system.is_empty() && !file_system.contains('/');
    if is_plain && let Some(path) = search(ctx, &name) {
        return Ok(Some(path));
    }
    let error = Error::new(format!("mkfs binary for {file_system} not available."))
        .with_errno(rustix::io::Errno::NOENT.raw_os_error());
    Err(match row {
        Some((_, _, package)) => {
            error.hint(format!("'{name}' is in the package '{package}' of most distributions."))
        }
        None => error,
    })
}

/// A program in the search path or where administrators' programs are.
fn search(ctx: &Ctx, name: &str) -> Option<PathBuf> {
    let path = ctx.env_os("PATH").unwrap_or_default();
    [path, OsStr::new(PATH_DEFAULT)]
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b':'))
        .filter(|dir| dir.starts_with(b"/"))
        .map(|dir| Path::new(OsStr::from_bytes(dir)).join(name))
        .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = find(&Ctx::host([]), "bcachefs").unwrap_err();
        assert_eq!(error.to_string(), "mkfs binary for bcachefs not available.");
        assert!(error.hints()[0].contains("'bcachefs-tools'"), "{:?}", error.hints());
        assert!(find(&Ctx::host([]), "../../bin/sh").is_err());
        assert!(find(&Ctx::host([]), "").is_err());
    }

    #[test]
    fn the_search_path_comes_first_and_only_programs_count() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("mkfs.zzz");
        std::fs::write(&program, "").unwrap();
        let ctx = Ctx::host([("PATH".into(), dir.path().into())]);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(&ctx, "zzz").is_err());
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&ctx, "zzz").unwrap(), Some(program));
        assert_eq!(find(&ctx, "vfat").unwrap(), None);
    }
}
