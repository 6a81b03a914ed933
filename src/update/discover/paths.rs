//! Where `Path=` is: below the root, on a boot partition, below `--transfer-source=`, or a disk.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::ctx::Ctx;
use crate::disk::backing;
use crate::error::{Context as _, Error, Result};
use crate::sys;
use crate::update::model::PathRelativeTo;

/// `Path=` of a partition target that is to be found out.
pub const AUTO: &str = "auto";

/// Magic number of FAT in statfs(2).
const MSDOS_MAGIC: i128 = 0x4d44;

/// Errno where no boot partition can be found.
const ENOKEY: i32 = 126;

/// Resolves the directory of a source or target. It need not exist.
pub fn directory(
    ctx: &Ctx,
    relative_to: PathRelativeTo,
    path: &Path,
    transfer_source: Option<&Path>,
) -> Result<PathBuf> {
    let below = |root: &Path| {
        sys::fs::chase(root, path).context(|| {
            format!("Failed to resolve '{}' (relative to '{}')", path.display(), root.display())
        })
    };
    match relative_to {
        PathRelativeTo::Root => below(ctx.root()),
        PathRelativeTo::Explicit => match transfer_source {
            Some(anchor) => below(anchor),
            None => Err(Error::new(
                "PathRelativeTo=explicit requires --transfer-source= to be specified.",
            )),
        },
        PathRelativeTo::Esp => without_links(&esp(ctx)?, path),
        PathRelativeTo::Xbootldr => without_links(&xbootldr(ctx)?, path),
        PathRelativeTo::Boot => {
            let boot = xbootldr(ctx).or_else(|_| esp(ctx)).map_err(|_| no_boot("$BOOT"))?;
            without_links(&boot, path)
        }
    }
}

fn no_boot(what: &str) -> Error {
    Error::errno_because(format!("Failed to resolve {what}"), ENOKEY).hint(
        "Mount the partition below /efi, /boot or /boot/efi, or name the place in \
         $SYSTEMD_ESP_PATH or $SYSTEMD_XBOOTLDR_PATH",
    )
}

/// Boot partitions are FAT, which has no links: one below them leads elsewhere.
fn without_links(base: &Path, path: &Path) -> Result<PathBuf> {
    let mut result = base.to_path_buf();
    for part in path.components() {
        let std::path::Component::Normal(name) = part else { continue };
        result.push(name);
        if fs::symlink_metadata(&result).is_ok_and(|m| m.file_type().is_symlink()) {
            return Err(Error::errno_because(
                format!("Failed to resolve '{}', symbolic links are not allowed", result.display()),
                40, // ELOOP
            ));
        }
    }
    Ok(result)
}

fn esp(ctx: &Ctx) -> Result<PathBuf> {
    let is_esp = |path: &Path| is_mount_point(path) && is_fat(path);
    find(
        ctx,
        "SYSTEMD_ESP_PATH",
        "SYSTEMD_RELAX_ESP_CHECKS",
        &["/efi", "/boot", "/boot/efi"],
        is_esp,
    )
    .ok_or_else(|| no_boot("ESP"))
}

fn xbootldr(ctx: &Ctx) -> Result<PathBuf> {
    // A mounted /boot is XBOOTLDR where something else is the ESP.
    let is_esp_elsewhere = || {
        esp(ctx).is_ok_and(|esp| Some(esp) != sys::fs::chase(ctx.root(), Path::new("/boot")).ok())
    };
    let is_xbootldr = |path: &Path| is_mount_point(path) && is_esp_elsewhere();
    let relax = "SYSTEMD_RELAX_XBOOTLDR_CHECKS";
    find(ctx, "SYSTEMD_XBOOTLDR_PATH", relax, &["/boot"], is_xbootldr)
        .ok_or_else(|| no_boot("XBOOTLDR"))
}

fn find(
    ctx: &Ctx,
    named: &str,
    relax: &str,
    places: &[&str],
    is_right: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let is_relaxed = matches!(ctx.env(relax), Some("1" | "yes" | "y" | "true" | "t" | "on"));
    if let Some(path) = ctx.env_os(named) {
        let path = Path::new(path);
        return path.is_absolute().then(|| sys::fs::chase(ctx.root(), path).ok()).flatten();
    }
    places.iter().find_map(|place| {
        let path = sys::fs::chase(ctx.root(), Path::new(place)).ok()?;
        (path.is_dir() && (is_relaxed || is_right(&path))).then_some(path)
    })
}

fn is_mount_point(path: &Path) -> bool {
    let parent = sys::fs::parent(path);
    match (fs::metadata(path), fs::metadata(parent)) {
        (Ok(here), Ok(above)) => here.dev() != above.dev() || here.ino() == above.ino(),
        _ => false,
    }
}

fn is_fat(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| i128::from(stat.f_type) == MSDOS_MAGIC)
}

/// Resolves the disk of a partition target: a block device, an image file, the disk below a
/// directory; for `auto` the image the tree is from, or the disk with `/usr`.
pub fn disk(ctx: &Ctx, path: &str) -> Result<PathBuf> {
    if path == AUTO {
        if let Some(image) = ctx.image() {
            return Ok(image.to_path_buf());
        }
        if !ctx.is_host() {
            let text = "Block device is not allowed when using --root= mode.";
            return Err(Error::new(text).with_errno(1)); // EPERM
        }
        let disk = backing::automatic(ctx)?;
        log::debug!("Automatically discovered root block device '{}'.", disk.display());
        return Ok(disk);
    }
    let failed = || format!("Failed to resolve '{path}'");
    let resolved = sys::fs::chase(ctx.root(), Path::new(path)).context(failed)?;
    let kind = fs::metadata(&resolved).context(failed)?.file_type();
    if kind.is_file() {
        return Ok(resolved);
    }
    if kind.is_block_device() || kind.is_char_device() {
        if !ctx.is_host() {
            let text = "When using --root= or --image= access to device nodes is prohibited.";
            return Err(Error::new(text).with_errno(1));
        }
        if kind.is_block_device() {
            return Ok(resolved);
        }
    }
    if kind.is_dir() {
        return backing::below_file(ctx, &resolved);
    }
    Err(Error::new(format!(
        "Target path '{path}' does not refer to regular file, directory or block device, refusing."
    ))
    .with_errno(15)) // ENOTBLK
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn world() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        (dir, ctx)
    }

    fn resolve(ctx: &Ctx, relative_to: PathRelativeTo, path: &str) -> Result<PathBuf> {
        directory(ctx, relative_to, Path::new(path), None)
    }

    #[test]
    fn links_stay_below_the_root() {
        let (dir, ctx) = world();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("link")).unwrap();
        let found = resolve(&ctx, PathRelativeTo::Root, "/link/x").unwrap();
        assert_eq!(found, dir.path().join("real/x"));
    }

    #[test]
    fn boot_is_what_the_environment_says_and_has_no_links() {
        let (dir, ctx) = world();
        fs::create_dir_all(dir.path().join("esp/EFI")).unwrap();
        let ctx = ctx.with_env("SYSTEMD_ESP_PATH", "/esp");
        let found = resolve(&ctx, PathRelativeTo::Boot, "/EFI/Linux").unwrap();
        assert_eq!(found, dir.path().join("esp/EFI/Linux"));
        symlink("/", dir.path().join("esp/EFI/Linux")).unwrap();
        let err = resolve(&ctx, PathRelativeTo::Boot, "/EFI/Linux").unwrap_err();
        assert!(err.to_string().contains("symbolic links are not allowed"), "{err}");
    }

    #[test]
    fn directory_that_is_no_mount_point_is_no_esp_unless_relaxed() {
        let (dir, ctx) = world();
        fs::create_dir(dir.path().join("efi")).unwrap();
        let err = resolve(&ctx, PathRelativeTo::Boot, "/x").unwrap_err();
        assert_eq!(err.to_string(), "Failed to resolve $BOOT: Required key not available");
        let ctx = ctx.with_env("SYSTEMD_RELAX_ESP_CHECKS", "1");
        let found = resolve(&ctx, PathRelativeTo::Boot, "/x").unwrap();
        assert_eq!(found, dir.path().join("efi/x"));
    }

    #[test]
    fn image_files_are_disks_also_below_a_root_but_devices_are_not() {
        let (dir, ctx) = world();
        fs::write(dir.path().join("disk.img"), "").unwrap();
        assert_eq!(disk(&ctx, "/disk.img").unwrap(), dir.path().join("disk.img"));
        let err = disk(&ctx, AUTO).unwrap_err();
        assert_eq!(err.to_string(), "Block device is not allowed when using --root= mode.");
        let err = disk(&Ctx::host([]), "/dev/null").unwrap_err();
        assert!(err.to_string().ends_with("directory or block device, refusing."), "{err}");
    }
}
