//! Who uses a disk: mounts, swap space, and what lies on its partitions.
//!
//! Why: the kernel lets a privileged process write below a mounted file system. Mounts count in
//! every namespace whose table can be read. An image file is in use where a loop device of it is.
//! Nothing here changes anything but [`forget_partitions`]; `/proc` and `/sys` are asked through
//! the context.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::Disk;
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::out::human;

const EBUSY: i32 = 16;
/// Unit of sizes in sysfs, whatever the sector size of the disk is.
const SYSFS_SECTOR: u64 = 512;
/// LIMIT: loop devices of files on loop devices.
const LAYERS_MAX: u32 = 4;

/// Something that uses a part of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The node that is in use: a partition or the disk itself.
    pub node: PathBuf,
    /// Which bytes of the disk are meant.
    pub range: Range<u64>,
    /// By what.
    pub by: User,
}

/// What uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// It is mounted here.
    Mount(PathBuf),
    /// It is swap space.
    Swap,
    /// Another block device or a file system of several devices lies on it; its name.
    Holder(String),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(place) => write!(f, "mounted at '{}'", place.display()),
            Self::Swap => f.write_str("swap space"),
            Self::Holder(name) => write!(f, "used by {name}"),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = human::size(self.range.end - self.range.start);
        write!(f, "{} ({size}) is {}", self.node.display(), self.by)
    }
}

/// A partition as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPartition {
    /// Number, from 1.
    pub number: u32,
    /// Where on the disk, in bytes.
    pub range: Range<u64>,
    /// Its directory in sysfs.
    dir: PathBuf,
}

/// Refuses if any of these bytes of a disk is in use. `path` is a block device or an image file.
///
/// # Errors
///
/// `EBUSY`, naming everything that is in use, with sizes; or the kernel's tables cannot be read.
pub fn check(ctx: &Ctx, path: &Path, ranges: &[Range<u64>]) -> Result<()> {
    let is_meant =
        |used: &Use| ranges.iter().any(|r| used.range.start < r.end && r.start < used.range.end);
    let mut found: Vec<String> =
        users(ctx, path)?.iter().filter(|used| is_meant(used)).map(Use::to_string).collect();
    found.dedup();
    if found.is_empty() {
        return Ok(());
    }
    let text = format!("'{}' is in use, refusing: {}", path.display(), found.join("; "));
    Err(Error::new(text).with_errno(EBUSY).hint("Unmount or stop what uses it, then try again"))
}

/// Everything that uses a block device or an image file.
///
/// # Errors
///
/// The kernel's tables cannot be read.
pub fn users(ctx: &Ctx, path: &Path) -> Result<Vec<Use>> {
    let tables = Tables::read(ctx)?;
    let mut found = Vec::new();
    tables.of(path, LAYERS_MAX, &mut found)?;
    found.sort_unstable_by(|a, b| (a.range.start, &a.node).cmp(&(b.range.start, &b.node)));
    Ok(found)
}

/// The partitions of a block device that the kernel has nodes for, by number.
///
/// # Errors
///
/// sysfs cannot be read.
pub fn kernel_partitions(ctx: &Ctx, path: &Path) -> Result<Vec<KernelPartition>> {
    let metadata = fs::metadata(path).context(|| format!("Failed to stat '{}'", path.display()))?;
    if !metadata.file_type().is_block_device() {
        return Ok(Vec::new());
    }
    let (major, minor) = number(metadata.rdev());
    partitions_in(&ctx.sys(format!("dev/block/{major}:{minor}")))
}

/// Takes the nodes of those partitions of a disk away whose numbers are meant. All or none: where one is in use, those that
/// are gone already are put back.
///
/// # Errors
///
/// `EBUSY` where one is in use; sysfs cannot be read.
pub fn forget_partitions(
    ctx: &Ctx,
    disk: &dyn Disk,
    path: &Path,
    is_meant: &dyn Fn(u32) -> bool,
) -> Result<()> {
    if !disk.has_partition_nodes() {
        return Ok(());
    }
    let mut partitions = kernel_partitions(ctx, path)?;
    partitions.retain(|partition| is_meant(partition.number));
    for (index, partition) in partitions.iter().enumerate() {
        let Err(err) = disk.remove_partition(partition.number) else { continue };
        for gone in partitions.iter().take(index) {
            // Best effort: what failed is the error to show.
            let len = gone.range.end - gone.range.start;
            let _ = disk.add_partition(gone.number, gone.range.start, len);
        }
        let node = super::partition_path(path, partition.number);
        return Err(err).context(|| {
            format!("Failed to remove partition '{}' from the kernel", node.display())
        });
    }
    Ok(())
}

/// The kernel's tables, read once.
struct Tables<'a> {
    ctx: &'a Ctx,
    /// Device number, source and place.
    mounts: BTreeSet<((u32, u32), String, PathBuf)>,
    swaps: Vec<PathBuf>,
}

impl<'a> Tables<'a> {
    fn read(ctx: &'a Ctx) -> Result<Self> {
        let unreadable = || "Failed to read mount table".to_owned();
        let mut mounts = BTreeSet::new();
        parse_mounts(&fs::read(ctx.proc("self/mountinfo")).context(unreadable)?, &mut mounts);
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir(ctx.proc("")).context(unreadable)?.flatten() {
            let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
            let dir = entry.path();
            // Other users' namespaces are theirs; processes come and go.
            let is_new = |link: PathBuf| seen.insert(link);
            if is_process
                && fs::read_link(dir.join("ns/mnt")).map_or(true, is_new)
                && let Ok(table) = fs::read(dir.join("mountinfo"))
            {
                parse_mounts(&table, &mut mounts);
            }
        }
        // A kernel without swap has no such file.
        let swaps = fs::read(ctx.proc("swaps")).unwrap_or_default();
        let swaps = lines(&swaps)
            .skip(1)
            .filter_map(|line| line.split_ascii_whitespace().next().map(unescape))
            .collect();
        Ok(Self { ctx, mounts, swaps })
    }

    /// What uses a block device or file.
    fn of(&self, path: &Path, layers: u32, found: &mut Vec<Use>) -> Result<()> {
        let metadata =
            fs::metadata(path).context(|| format!("Failed to stat '{}'", path.display()))?;
        if metadata.file_type().is_block_device() {
            let (major, minor) = number(metadata.rdev());
            self.of_device(&self.ctx.sys(format!("dev/block/{major}:{minor}")), path, found)?;
        }
        // A loop device of a node hides behind that.
        let Some(layers) = layers.checked_sub(1) else { return Ok(()) };
        for (node, start) in self.loops_of(path).into_iter().filter(|(node, _)| node.exists()) {
            let mut above = Vec::new();
            self.of(&node, layers, &mut above)?;
            found.extend(above.into_iter().map(|used| Use {
                range: used.range.start + start..used.range.end + start,
                ..used
            }));
        }
        Ok(())
    }

    fn of_device(&self, dir: &Path, path: &Path, found: &mut Vec<Use>) -> Result<()> {
        let whole = 0..read_number(&dir.join("size")).unwrap_or(0).saturating_mul(SYSFS_SECTOR);
        self.of_node(dir, path, &whole, found);
        for partition in partitions_in(dir)? {
            let node = super::partition_path(path, partition.number);
            self.of_node(&partition.dir, &node, &partition.range, found);
        }
        Ok(())
    }

    fn of_node(&self, dir: &Path, node: &Path, range: &Range<u64>, found: &mut Vec<Use>) {
        let mut add = |by| found.push(Use { node: node.to_path_buf(), range: range.clone(), by });
        let device = fs::read_to_string(dir.join("dev")).ok().and_then(|text| pair(text.trim()));
        let is_node = |path: &Path| {
            path == node
                || fs::metadata(path).is_ok_and(|metadata| {
                    metadata.file_type().is_block_device()
                        && Some(number(metadata.rdev())) == device
                })
        };
        for (mounted, source, place) in &self.mounts {
            // btrfs has device numbers of its own.
            if Some(*mounted) == device
                || mounted.0 == 0 && source.starts_with('/') && is_node(Path::new(source))
            {
                add(User::Mount(place.clone()));
            }
        }
        if self.swaps.iter().any(|swap| is_node(swap)) {
            add(User::Swap);
        }
        for holder in entries(&dir.join("holders")) {
            let name = holder.file_name().map(|name| name.to_string_lossy().into_owned());
            let mapped = fs::read_to_string(holder.join("dm/name")).unwrap_or_default();
            let name = match (name.unwrap_or_default(), mapped.trim()) {
                (name, "") => name,
                (name, mapped) => format!("{name} ({mapped})"),
            };
            add(User::Holder(name));
        }
        let is_member = |file_system: &PathBuf| {
            dir.file_name().is_some_and(|name| file_system.join("devices").join(name).exists())
        };
        if let Some(spread) = entries(&self.ctx.sys("fs/btrfs")).iter().find(|fs| is_member(fs)) {
            let id = spread.file_name().unwrap_or_default().to_string_lossy().into_owned();
            add(User::Holder(format!("btrfs {id}")));
        }
    }

    /// The loop devices of a file, and where in it each begins.
    ///
    /// LIMIT: the kernel says the path under which the file was attached; under another one, or in
    /// another mount namespace, it is not known again.
    fn loops_of(&self, path: &Path) -> Vec<(PathBuf, u64)> {
        let Ok(path) = path.canonicalize() else { return Vec::new() };
        let mut loops = Vec::new();
        for dir in entries(&self.ctx.sys("block")) {
            let about = dir.join("loop");
            let Ok(file) = fs::read_to_string(about.join("backing_file")) else { continue };
            if Path::new(file.trim_end_matches('\n')) == path
                && let Some(name) = dir.file_name()
            {
                let start = read_number(&about.join("offset")).unwrap_or(0);
                loops.push((Path::new("/dev").join(name), start));
            }
        }
        loops
    }
}

fn partitions_in(dir: &Path) -> Result<Vec<KernelPartition>> {
    let dir = dir.canonicalize().context(|| format!("Failed to read '{}'", dir.display()))?;
    let mut found: Vec<KernelPartition> = entries(&dir)
        .into_iter()
        .filter_map(|dir| {
            let number = u32::try_from(read_number(&dir.join("partition")).ok()?).ok()?;
            let start = read_number(&dir.join("start")).ok()?.checked_mul(SYSFS_SECTOR)?;
            let size = read_number(&dir.join("size")).ok()?.checked_mul(SYSFS_SECTOR)?;
            Some(KernelPartition { number, range: start..start.checked_add(size)?, dir })
        })
        .collect();
    found.sort_unstable_by_key(|partition| partition.number);
    Ok(found)
}

/// What is in a directory, sorted; nothing where there is none.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort_unstable();
    found
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn number(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn lines(table: &[u8]) -> impl Iterator<Item = &str> {
    table.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok())
}

/// `36 35 98:0 /root /place options - type source options`; optional fields come before the dash.
fn parse_mounts(table: &[u8], mounts: &mut BTreeSet<((u32, u32), String, PathBuf)>) {
    for line in lines(table) {
        let mut words = line.split(' ');
        let (Some(device), Some(place)) = (words.nth(2).and_then(pair), words.nth(1)) else {
            continue;
        };
        let source = words.skip_while(|word| *word != "-").nth(2).unwrap_or_default();
        let source = unescape(source).to_string_lossy().into_owned();
        mounts.insert((device, source, unescape(place)));
    }
}

/// Blanks and the like are octal in the kernel's tables.
fn unescape(word: &str) -> PathBuf {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(code.into());
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    PathBuf::from(text)
}

#[cfg(test)]
mod tests;
