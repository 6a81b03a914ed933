//! Which whole disk is below a file system: from a device number, through dm-crypt and dm-verity,
//! to the disk of its partition. Reads sysfs only.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};

const ENOTBLK: i32 = 15;
const EUCLEAN: i32 = 117;

/// LIMIT: device-mapper layers on top of each other.
const LAYERS_MAX: usize = 16;

/// Where a sysext overlay says what it covers.
const SYSEXT_BACKING: &str = ".systemd-sysext/backing";

/// Where the initrd says what the root is on, if that is not what is mounted there.
pub const VOLATILE_ROOT: &str = "/run/systemd/volatile-root";

/// The whole disk that a directory is on, or that a node belongs to: through dm-crypt and
/// dm-verity, and from a partition to its disk. None where no block device is behind it.
///
/// # Errors
///
/// It is not there, it is neither of these, or a file system on several disks.
pub fn disk_of(ctx: &Ctx, path: &Path) -> Result<Option<PathBuf>> {
    use std::os::unix::fs::FileTypeExt as _;
    let failed = || format!("Failed to determine backing device of '{}'", path.display());
    let metadata = fs::metadata(path).context(failed)?;
    let mut device = if metadata.file_type().is_block_device() {
        number(metadata.rdev())
    } else if metadata.is_dir() {
        let is_spread = fs::File::open(path)
            .and_then(|dir| {
                Ok(crate::sys::btrfs::is_btrfs(&dir)? && crate::sys::btrfs::devices(&dir)? > 1)
            })
            .context(failed)?;
        if is_spread {
            return Err(Error::errno_because(failed(), EUCLEAN)
                .hint("The file system is on several block devices; name the one you mean"));
        }
        match backing(ctx, path)? {
            Some(device) => device,
            None => return Ok(None),
        }
    } else {
        return Err(Error::errno_because(failed(), ENOTBLK));
    };
    let directory =
        |(major, minor)| fs::canonicalize(ctx.sys(format!("dev/block/{major}:{minor}")));
    for _ in 0..LAYERS_MAX {
        // Without sysfs the device itself is all there is.
        let Ok(dir) = directory(device) else { break };
        match lower(&dir)? {
            Some(below) => device = below,
            None => break,
        }
    }
    let dir = directory(device).context(failed)?;
    let disk = if dir.join("partition").exists() { dir.parent() } else { Some(dir.as_path()) };
    disk.map(node).transpose()
}

/// The disk that `Path=auto` means: the one with `/usr`, or what the initrd says it should be.
pub fn automatic(ctx: &Ctx) -> Result<PathBuf> {
    match fs::metadata(VOLATILE_ROOT) {
        Ok(metadata) => {
            use std::os::unix::fs::FileTypeExt as _;
            if !metadata.file_type().is_block_device() {
                let text = "/run/systemd/volatile-root is not linked to a block device.";
                return Err(Error::new(text).with_errno(ENOTBLK));
            }
            return whole_disk(ctx, number(metadata.rdev()));
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => {
            return Err(err).context(|| "Failed to stat /run/systemd/volatile-root".to_owned());
        }
    }
    below_file(ctx, Path::new("/usr"))
}

/// The disk below the file system of a path.
pub fn below_file(ctx: &Ctx, path: &Path) -> Result<PathBuf> {
    let disk = match backing(ctx, path)? {
        Some(device) => Some(whole_disk(ctx, device)?),
        None => None,
    };
    disk.ok_or_else(not_on_partition)
}

fn not_on_partition() -> Error {
    Error::new(
        "File system is not placed on a partition block device, cannot determine whole block \
         device backing root file system.",
    )
    .with_errno(ENOTBLK)
}

/// A partition, as sysfs has it.
#[cfg(feature = "repart")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// Its node.
    pub node: PathBuf,
    /// The node of its disk.
    pub disk: PathBuf,
    /// Its number, from 1.
    pub number: u32,
}

/// The block device that the file system of a path is on, as major and minor; none where there is
/// none.
///
/// # Errors
///
/// The path is not there, or the mount table cannot be read.
#[cfg(feature = "repart")]
pub fn device(ctx: &Ctx, path: &Path) -> Result<Option<(u32, u32)>> {
    backing(ctx, path)
}

/// The node of a block device.
///
/// # Errors
///
/// The kernel does not know it.
#[cfg(feature = "repart")]
pub fn device_node(ctx: &Ctx, (major, minor): (u32, u32)) -> Result<PathBuf> {
    node(&ctx.sys(format!("dev/block/{major}:{minor}")))
}

/// The partitions that a device is or lies on: all of them, the data's and the hash tree's of
/// dm-verity alike.
///
/// # Errors
///
/// Sysfs cannot be read.
#[cfg(feature = "repart")]
pub fn partitions_below(ctx: &Ctx, device: (u32, u32)) -> Result<Vec<Below>> {
    let mut found = Vec::new();
    let mut todo = vec![(device, 0)];
    while let Some(((major, minor), layer)) = todo.pop() {
        let dir = ctx.sys(format!("dev/block/{major}:{minor}"));
        let failed = || format!("Failed to read '{}'", dir.display());
        let dir = fs::canonicalize(&dir).context(failed)?;
        let number = fs::read_to_string(dir.join("partition")).ok();
        if let Some(number) = number.and_then(|text| text.trim().parse().ok()) {
            let disk = node(dir.parent().ok_or_else(not_on_partition)?)?;
            found.push(Below { node: node(&dir)?, disk, number });
            continue;
        }
        if layer == LAYERS_MAX {
            continue;
        }
        let slaves = fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten();
        let devices = slaves.filter_map(|slave| {
            parse_number(fs::read_to_string(slave.path().join("dev")).ok()?.trim())
        });
        todo.extend(devices.map(|device| (device, layer + 1)));
    }
    found.sort_unstable_by(|one, two| one.node.cmp(&two.node));
    found.dedup();
    Ok(found)
}

/// The block device of a file system; none if it has none.
fn backing(ctx: &Ctx, path: &Path) -> Result<Option<(u32, u32)>> {
    let failed = || format!("Failed to determine block device of file system '{}'", path.display());
    // An overlay of extensions hides the real thing.
    if let Ok(text) = fs::read_to_string(path.join(SYSEXT_BACKING)) {
        return Ok(parse_number(text.trim()));
    }
    let device = number(fs::metadata(path).context(failed)?.dev());
    if device.0 != 0 {
        return Ok(Some(device));
    }
    // btrfs and the like have device numbers of their own; the mount table knows better.
    let table = fs::read_to_string(ctx.proc("self/mountinfo")).context(failed)?;
    let source = mount_source(&table, device);
    let Some(source) = source.filter(|source| source.starts_with('/')) else { return Ok(None) };
    Ok(fs::metadata(source).ok().map(|metadata| number(metadata.rdev())))
}

/// The source of the file system with this device number.
fn mount_source(table: &str, device: (u32, u32)) -> Option<&str> {
    table.lines().rev().find_map(|line| {
        let mut words = line.split(' ');
        if parse_number(words.nth(2)?)? != device {
            return None;
        }
        let mut rest = words.skip_while(|word| *word != "-");
        rest.nth(2)
    })
}

/// The whole disk of a partition or of what lies on one.
fn whole_disk(ctx: &Ctx, device: (u32, u32)) -> Result<PathBuf> {
    let mut device = device;
    for _ in 0..LAYERS_MAX {
        let dir = ctx.sys(format!("dev/block/{}:{}", device.0, device.1));
        let failed = || format!("Failed to find whole disk device of '{}'", dir.display());
        let dir = fs::canonicalize(&dir).context(failed)?;
        if dir.join("partition").exists() {
            let disk = dir.parent().ok_or_else(not_on_partition)?;
            return node(disk);
        }
        device = lower(&dir)?.ok_or_else(not_on_partition)?;
    }
    Err(not_on_partition())
}

/// What a device-mapper device lies on. The data and hash devices of dm-verity are two, but
/// partitions of one disk, and then either will do.
fn lower(dir: &Path) -> Result<Option<(u32, u32)>> {
    let Ok(slaves) = fs::read_dir(dir.join("slaves")) else { return Ok(None) };
    let mut found: Vec<(PathBuf, (u32, u32))> = Vec::new();
    for slave in slaves.flatten() {
        let path = fs::canonicalize(slave.path()).context(|| "Failed to read sysfs".to_owned())?;
        let text = fs::read_to_string(path.join("dev")).unwrap_or_default();
        if let Some(device) = parse_number(text.trim()) {
            found.push((path, device));
        }
    }
    let parent = found.first().and_then(|(path, _)| path.parent().map(Path::to_path_buf));
    let is_one_disk = found.iter().all(|(path, _)| path.parent().map(Path::to_path_buf) == parent);
    Ok(if found.len() == 1 || is_one_disk { found.first().map(|f| f.1) } else { None })
}

/// The device node of a directory in sysfs.
fn node(dir: &Path) -> Result<PathBuf> {
    let uevent = fs::read_to_string(dir.join("uevent"))
        .context(|| format!("Failed to read '{}'", dir.display()))?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.ok_or_else(not_on_partition)?;
    Ok(Path::new("/dev").join(name))
}

fn number(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

fn parse_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with a disk `vda` (254:0), its partitions 1 and 2, and device-mapper devices.
    fn sysfs() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let device = |path: &str, dev: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(at(path)).unwrap();
            fs::write(at(path).join("dev"), format!("{dev}\n")).unwrap();
            for (name, text) in files {
                fs::write(at(path).join(name), text).unwrap();
            }
            fs::create_dir_all(at("dev/block")).unwrap();
            symlink(at(path), at("dev/block").join(dev)).unwrap();
        };
        device("devices/vda", "254:0", &[("uevent", "MAJOR=254\nDEVNAME=vda\n")]);
        device("devices/vda/vda1", "254:1", &[("partition", "1\n")]);
        device("devices/vda/vda2", "254:2", &[("partition", "2\n")]);
        device("devices/vdb", "254:16", &[("uevent", "DEVNAME=vdb\n")]);
        for (name, dev, slaves) in
            [("dm-0", "252:0", &["vda1", "vda2"][..]), ("dm-1", "252:1", &["../dm-0"])]
        {
            device(&format!("devices/{name}"), dev, &[]);
            let dir = at("devices").join(name).join("slaves");
            fs::create_dir(&dir).unwrap();
            for slave in slaves {
                let target = at("devices/vda").join(slave);
                symlink(target, dir.join(slave.replace("../", ""))).unwrap();
            }
        }
        let ctx = Ctx::host([]).with_kernel("/proc", dir.path());
        (dir, ctx)
    }

    #[test]
    fn partition_leads_to_its_disk_also_through_verity_and_crypt() {
        let (_dir, ctx) = sysfs();
        for device in [(254, 2), (252, 0), (252, 1)] {
            assert_eq!(whole_disk(&ctx, device).unwrap(), Path::new("/dev/vda"), "{device:?}");
        }
    }

    #[test]
    fn disk_without_partitions_is_refused() {
        let (_dir, ctx) = sysfs();
        let err = whole_disk(&ctx, (254, 16)).unwrap_err();
        assert!(err.to_string().starts_with("File system is not placed on a partition"), "{err}");
    }

    #[test]
    fn mount_table_gives_the_source_of_an_anonymous_device() {
        let table = "22 1 0:20 / / rw - btrfs /dev/vda2 rw\n23 22 0:21 / /proc rw shared:1 - proc proc rw\n";
        assert_eq!(mount_source(table, (0, 20)), Some("/dev/vda2"));
        assert_eq!(mount_source(table, (0, 21)), Some("proc"));
        assert_eq!(mount_source(table, (0, 22)), None);
    }
}
