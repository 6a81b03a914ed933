//! Where `CopyBlocks=` copies from: found, allowed and measured before anything is planned.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use uuid::Uuid;

use super::model::{Blocks, CopyBlocks, Definition, Options};
use crate::ctx::Ctx;
use crate::disk::{Access, Disk as _, FileDisk, backing, table};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::Partition;
use crate::format::gpt::types::{self, Designator};
use crate::sys;

/// Sizes of sources are multiples of that.
const BLOCK_BYTES: u64 = 512;

/// What is copied, and what comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The blocks.
    pub blocks: Blocks,
    /// UUID of the partition they are from, where `CopyBlocks=auto` found one: the new one is to be
    /// the same.
    pub uuid: Option<Uuid>,
}

/// Finds and measures what a definition copies; none where it copies nothing.
///
/// # Errors
///
/// There is no such source, it may not be used (`EPERM`) or its size is not one that can be copied.
pub fn resolve(ctx: &Ctx, definition: &Definition, options: &Options) -> Result<Option<Source>> {
    Ok(match &definition.copy_blocks {
        None => None,
        Some(CopyBlocks::Range { path, offset, len }) => {
            Some(plain(path.clone(), *offset, Some(*len)))
        }
        Some(CopyBlocks::Path(path)) => Some(named(ctx, path, options)?),
        Some(CopyBlocks::Auto) => Some(automatic(ctx, definition.type_uuid, options)?),
    })
}

fn plain(path: PathBuf, offset: u64, len: Option<u64>) -> Source {
    let blocks = Blocks { path, offset, len, is_temporary: false, root_hash: None };
    Source { blocks, uuid: None }
}

/// True where a tree was named that is not the running system's: what it says must not make us read
/// this machine's devices.
fn is_confined(ctx: &Ctx, options: &Options) -> bool {
    !ctx.is_host() && !options.is_root_found
}

fn not_permitted(text: &str) -> Error {
    Error::new(text).with_errno(Errno::PERM.raw_os_error())
}

fn named(ctx: &Ctx, path: &Path, options: &Options) -> Result<Source> {
    let failed = || format!("Failed to open '{}'", path.display());
    let real = sys::fs::chase(ctx.root(), path).context(failed)?;
    let stat = fs::metadata(&real).context(failed)?;
    let kind = stat.file_type();
    if !kind.is_file() && is_confined(ctx, options) {
        return Err(not_permitted(
            "Copying from block device node is not permitted in --image=/--root= mode, refusing.",
        ));
    }
    if kind.is_char_device() {
        return Ok(plain(real, 0, None));
    }
    let real = if kind.is_dir() {
        let device = backing::device(ctx, &real)?.ok_or_else(|| {
            Error::errno_because(
                format!("Unable to determine backing block device of '{}'", path.display()),
                Errno::NODEV.raw_os_error(),
            )
        })?;
        backing::device_node(ctx, device)?
    } else if kind.is_file() || kind.is_block_device() {
        real
    } else {
        return Err(Error::new(format!(
            "Specified path to copy blocks from '{}' is not a regular file, block device or \
             directory, refusing.",
            path.display()
        ))
        .with_errno(Errno::INVAL.raw_os_error()));
    };
    let size = FileDisk::open(&real, Access::Read).context(failed)?.size_bytes();
    check_size(path, size)?;
    Ok(plain(real, 0, Some(size)))
}

fn check_size(path: &Path, size: u64) -> Result<()> {
    let fault = if size == 0 {
        "zero size"
    } else if !size.is_multiple_of(BLOCK_BYTES) {
        "size that is not multiple of 512"
    } else {
        return Ok(());
    };
    Err(Error::new(format!("File to copy bytes from '{}' has {fault}, refusing.", path.display()))
        .with_errno(Errno::INVAL.raw_os_error()))
}

/// The partition of this type that the running system, or the image, is made of.
fn automatic(ctx: &Ctx, type_uuid: Uuid, options: &Options) -> Result<Source> {
    let shown = types::name(type_uuid).unwrap_or_else(|| type_uuid.to_string());
    if let Some(image) = ctx.image() {
        return of_image(image, type_uuid, &shown);
    }
    if is_confined(ctx, options) {
        return Err(not_permitted(
            "Automatic discovery of backing block devices not permitted in --root= mode, refusing.",
        ));
    }
    let Some(places) = places(type_uuid, &shown) else {
        return Err(Error::new(format!(
            "Partition type {shown} not supported from automatic source block device discovery."
        ))
        .with_errno(Errno::OPNOTSUPP.raw_os_error()));
    };
    let mut found: Option<(PathBuf, Partition, u64)> = None;
    for place in places {
        let path = sys::fs::chase(ctx.root(), Path::new(place))
            .context(|| format!("Failed to determine backing device of {place}"))?;
        let Ok(Some(device)) = backing::device(ctx, &path) else { continue };
        for partition in backing::partitions_below(ctx, device)? {
            let table = disk_table(&partition.disk)?;
            let entry = table.partition(partition.number);
            let Some(entry) = entry.filter(|entry| entry.type_uuid == type_uuid) else { continue };
            let size = table.extent(&entry).map_or(0, |range| range.end - range.start);
            if found.as_ref().is_some_and(|(node, ..)| *node != partition.node) {
                return Err(several(&shown));
            }
            found = Some((partition.node, entry, size));
        }
        if found.is_some() {
            break;
        }
    }
    let Some((node, entry, size)) = found else {
        return Err(Error::new(format!(
            "Unable to automatically discover suitable partition to copy blocks from for partition \
             type {shown}."
        ))
        .with_errno(Errno::NXIO.raw_os_error()));
    };
    check_size(&node, size)?;
    Ok(Source { uuid: Some(entry.uuid), ..plain(node, 0, Some(size)) })
}

fn several(shown: &str) -> Error {
    Error::new(format!("Multiple matching partitions found for partition type {shown}, refusing."))
        .with_errno(Errno::NOTUNIQ.raw_os_error())
}

fn disk_table(path: &Path) -> Result<crate::format::gpt::Table> {
    let disk = FileDisk::open(path, Access::Read)
        .context(|| format!("Failed to open block device '{}'", path.display()))?;
    Ok(table::read(&disk, path)?.table)
}

/// The partition of an image, without the help of the kernel.
fn of_image(image: &Path, type_uuid: Uuid, shown: &str) -> Result<Source> {
    let table = disk_table(image)?;
    let mut fitting = table.partitions().filter(|entry| entry.type_uuid == type_uuid);
    let range = fitting.next().and_then(|entry| Some((table.extent(&entry)?, entry)));
    if fitting.next().is_some() {
        return Err(several(shown));
    }
    let Some((range, entry)) = range else {
        return Err(Error::new(format!(
            "Unable to automatically discover suitable partition to copy blocks from for partition \
             type {shown}."
        ))
        .with_errno(Errno::NXIO.raw_os_error()));
    };
    let source = plain(image.to_path_buf(), range.start, Some(range.end - range.start));
    Ok(Source { uuid: Some(entry.uuid), ..source })
}

/// Where a partition of this type is mounted, or what it protects is.
fn places(type_uuid: Uuid, name: &str) -> Option<&'static [&'static str]> {
    Some(match types::designator(type_uuid) {
        Designator::Esp => &["/efi", "/boot"],
        Designator::Xbootldr => &["/boot"],
        Designator::System | Designator::SystemVerity if name.starts_with("root") => &["/"],
        Designator::System | Designator::SystemVerity if name.starts_with("usr") => &["/usr"],
        _ => return None,
    })
}
