//! Everything that can be found out before the first byte changes.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Medium, encrypt, number, verity};
use crate::ctx::Ctx;
use crate::disk::in_use;
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::Table;
use crate::mkfs;
use crate::out::human;
use crate::repart::contents;
use crate::repart::model::{
    Blocks, Definition, LUKS_OVERHEAD, Options, PartitionPlan, Plan, VerityRole,
};
use crate::repart::target::Target;

/// What a partition is filled with, found and ready.
#[derive(Default)]
pub(super) enum Content {
    /// Nothing: it exists already, is room only, or is set aside.
    #[default]
    Nothing,
    /// Blocks of this file or device.
    Blocks(File),
    /// A file system.
    FileSystem(Box<mkfs::Spec>),
    /// A hash tree over another partition.
    HashTree,
    /// The signature of a root hash.
    Signature(Box<verity::Signing>),
}

/// How a partition is filled.
#[derive(Default)]
pub(super) struct Filling {
    /// With what.
    pub(super) content: Content,
    /// Through what, if it is encrypted.
    pub(super) volume: Option<encrypt::Volume>,
}

/// Checks the plan against the disk as it is, and whether all of it can be made here. Changes
/// nothing.
///
/// # Errors
///
/// The first thing that is missing or in the way.
pub(super) fn all(
    ctx: &Ctx,
    plan: &Plan,
    medium: &Medium<'_>,
    options: &Options,
) -> Result<Vec<Filling>> {
    layout(plan, medium)?;
    let mut contents = Vec::with_capacity(plan.partitions.len());
    for (index, partition) in plan.partitions.iter().enumerate() {
        contents.push(match &partition.definition {
            Some(definition) if partition.is_made() => {
                filling(ctx, plan, medium, index, options)
                    .map_err(|err| name(err, definition.path()))?
            }
            _ => Filling::default(),
        });
    }
    Ok(contents)
}

/// Says in which file the fault is, unless the message does.
fn name(err: Error, path: &Path) -> Error {
    err.hint(format!("Asked for by '{}'; nothing was written.", path.display()))
}

fn filling(
    ctx: &Ctx,
    plan: &Plan,
    medium: &Medium<'_>,
    index: usize,
    options: &Options,
) -> Result<Filling> {
    let partition = plan.partitions.get(index);
    let found = partition.and_then(|partition| Some((partition, partition.definition.as_ref()?)));
    let Some((partition, definition)) = found else { return Ok(Filling::default()) };
    Ok(Filling {
        content: content(ctx, plan, medium, index, options, (partition, definition))?,
        volume: encrypt::prepare(ctx, partition, definition, options)?,
    })
}

fn content(
    ctx: &Ctx,
    plan: &Plan,
    medium: &Medium<'_>,
    index: usize,
    options: &Options,
    (partition, definition): (&PartitionPlan, &Definition),
) -> Result<Content> {
    if let Some(place) = &definition.block_device_replace {
        return Err(Error::new(format!(
            "BlockDeviceReplace=: moving the file system at '{}' is not supported",
            place.display()
        ))
        .with_errno(Errno::OPNOTSUPP.raw_os_error()));
    }
    if let Some(blocks) = &partition.blocks {
        return source(blocks, partition).map(Content::Blocks);
    }
    if definition.is_verity(VerityRole::Hash) {
        verity::check_hash(plan, index)?;
        return Ok(Content::HashTree);
    }
    if definition.is_verity(VerityRole::Signature) {
        let signing = verity::Signing::prepare(plan, medium, index, options)?;
        return Ok(Content::Signature(Box::new(signing)));
    }
    if definition.format.is_none() || definition.is_placeholder {
        return Ok(Content::Nothing);
    }
    let spec = contents::spec(ctx, plan, index, options)?;
    mkfs::check(ctx, &spec)?;
    Ok(Content::FileSystem(Box::new(spec)))
}

/// Opens what is copied and sees that it is still there, and that there is room.
fn source(blocks: &Blocks, partition: &PartitionPlan) -> Result<File> {
    let shown = blocks.path.display();
    let failed = || format!("Failed to open '{shown}'");
    // Not to hang on a fifo.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(&blocks.path).context(failed)?;
    let room = payload(partition);
    if let Some(len) = blocks.len
        && len > room
    {
        return Err(Error::new(format!(
            "Partition {}'s contents ({}) don't fit in the partition ({})",
            number(partition),
            human::size(len),
            human::size(room)
        ))
        .with_errno(Errno::FBIG.raw_os_error()));
    }
    let stat = file.metadata().context(failed)?;
    let end = blocks.len.and_then(|len| blocks.offset.checked_add(len));
    if stat.is_file() && end.is_none_or(|end| end > stat.len()) {
        return Err(Error::new(format!("'{shown}' is shorter than it was.")));
    }
    Ok(file)
}

/// How much a partition can hold, in bytes.
pub(super) fn payload(partition: &PartitionPlan) -> u64 {
    let is_encrypted = partition.definition.as_ref().is_some_and(|d| d.encrypt.is_some());
    partition.size.saturating_sub(if is_encrypted { LUKS_OVERHEAD } else { 0 })
}

/// The disk is not as it was when the plan was made, or the plan is wrong.
pub(super) fn stale(what: &str) -> Error {
    Error::new(format!("The plan does not fit the disk, refusing: {what}"))
        .with_errno(Errno::STALE.raw_os_error())
}

/// Nothing moves or shrinks, nothing overlaps, all of it is where partitions may be. A plan that
/// says otherwise is a defect; it must not cost anybody's data.
fn layout(plan: &Plan, medium: &Medium<'_>) -> Result<()> {
    let table = medium.table;
    let sector = u64::from(table.sector_size());
    let usable = usable(table);
    if plan.disk.size != medium.disk.size_bytes() {
        return Err(stale("the disk has another size"));
    }
    if plan.disk.sector_size != table.sector_size() {
        return Err(stale("the table is for another sector size"));
    }
    let mut taken: Vec<(u32, Range<u64>)> = Vec::new();
    let planned = |number: u32| {
        plan.partitions.iter().find(|p| p.existing.as_ref().is_some_and(|p| p.number == number))
    };
    for existing in table.partitions() {
        let number = existing.number;
        let Some(partition) = planned(number) else {
            return Err(stale(&format!("partition {number} is not in it")));
        };
        let old = table.extent(&existing).unwrap_or(0..0);
        let is_kept = partition.existing.as_ref() == Some(&existing)
            && partition.number == number
            && partition.offset == old.start
            && partition.size >= old.end - old.start
            && (partition.definition.is_some() || partition.size == old.end - old.start);
        if !is_kept && !old.is_empty() {
            return Err(stale(&format!("partition {number} would not be kept")));
        }
        taken.push((number, old.start..old.start + partition.size));
    }
    for partition in plan.partitions.iter().filter(|p| p.existing.is_none() && !p.is_deferred) {
        let number = partition.number;
        let end = partition.offset.checked_add(partition.size);
        let range = partition.offset..end.ok_or_else(|| stale("a partition has no end"))?;
        let is_aligned = range.start.is_multiple_of(sector) && range.end.is_multiple_of(sector);
        let is_inside = usable.start <= range.start && range.end <= usable.end;
        if range.is_empty() || !is_aligned || !is_inside {
            return Err(stale(&format!("partition {number} cannot be there")));
        }
        taken.push((number, range));
    }
    taken.sort_unstable_by_key(|(_, range)| range.start);
    for pair in taken.windows(2) {
        if let [(first, one), (second, two)] = pair
            && (one.end > two.start || first == second)
        {
            return Err(stale(&format!("partitions {first} and {second} overlap")));
        }
    }
    Ok(())
}

/// What partitions may use, in bytes.
fn usable(table: &Table) -> Range<u64> {
    let sector = u64::from(table.sector_size());
    let (first, last) = table.usable();
    first * sector..last.saturating_add(1).saturating_mul(sector)
}

/// Refuses where what is written over is in use.
pub(super) fn in_use(ctx: &Ctx, plan: &Plan, target: &Target) -> Result<()> {
    if plan.disk.is_from_scratch {
        let whole = 0..u64::MAX;
        refuse_users(ctx, target, std::slice::from_ref(&whole))?;
        return refuse_owner(target);
    }
    let made = plan.partitions.iter().filter(|partition| partition.is_made());
    let lost: Vec<Range<u64>> =
        made.map(|partition| partition.offset..partition.offset + partition.size).collect();
    refuse_users(ctx, target, &lost)
}

/// The kernel also knows of uses that no table shows, such as those of other namespaces.
fn refuse_owner(target: &Target) -> Result<()> {
    if !target.is_device {
        return Ok(());
    }
    let flags = OFlags::EXCL.bits().cast_signed();
    match File::options().read(true).custom_flags(flags).open(&target.path) {
        Err(err) if Errno::from_io_error(&err) == Some(Errno::BUSY) => Err(err)
            .context(|| format!("Disk '{}' is in use by somebody, refusing", target.path.display()))
            .map_err(|err| err.hint("Nothing was written.")),
        _ => Ok(()),
    }
}

/// Refuses where one of these ranges of the disk is in use.
pub(super) fn refuse_users(ctx: &Ctx, target: &Target, lost: &[Range<u64>]) -> Result<()> {
    let shown = target.path.display();
    let users = in_use::users(ctx, &target.path)
        .context(|| format!("Failed to find out who uses '{shown}'"))?;
    let is_hit = |range: &Range<u64>| {
        lost.iter().any(|lost| lost.start < range.end && range.start < lost.end)
    };
    let hit: Vec<String> = users
        .iter()
        .filter(|user| is_hit(&user.range))
        .map(|user| format!("'{}' is {}", user.node.display(), user.by))
        .collect();
    if hit.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("Disk '{shown}' is in use, refusing: {}", hit.join(", ")))
        .with_errno(Errno::BUSY.raw_os_error())
        .hint("Nothing was written."))
}
