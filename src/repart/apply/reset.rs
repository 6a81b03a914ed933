//! Factory reset: marked partitions go, and come back empty.

use super::{Observer, Phase, check};
use crate::ctx::Ctx;
use crate::disk::{self, in_use};
use crate::error::{Context as _, Result};
use crate::log::NOTICE;
use crate::repart::members;
use crate::repart::model::{Definition, Options};
use crate::repart::target::Target;

/// The existing partitions that are marked for it, in the order of their numbers.
fn marked(target: &Target, definitions: &[Definition]) -> Vec<crate::format::gpt::Partition> {
    let Some(table) = target.table.as_ref().filter(|_| !target.is_from_scratch) else {
        return Vec::new();
    };
    let partitions: Vec<_> = table.partitions().collect();
    let (matched, _) = members::match_up(definitions, &partitions);
    let pairs = definitions.iter().zip(matched);
    let mut marked: Vec<_> = pairs
        .filter(|(definition, _)| definition.is_factory_reset)
        .filter_map(|(_, partition)| partition)
        .collect();
    marked.sort_unstable_by_key(|partition| partition.number);
    marked
}

/// True if there is something that a factory reset would delete. `definitions` are those that are
/// not left out.
pub fn can_factory_reset(target: &Target, definitions: &[Definition]) -> bool {
    !marked(target, definitions).is_empty()
}

/// Takes the partitions that are marked for it out of the table of `target`, so that what follows is
/// planned without them. On the disk they stay until [`super::apply`] begins: whatever is refused
/// until then is refused with everything in its place. `definitions` are those that are not left
/// out. How many will be deleted is returned.
///
/// DIFFERS: the peer deletes first and finds out later what it cannot make anew; it deletes mounted
/// partitions, too, and discards what is in them.
///
/// # Errors
///
/// One of them is in use.
pub fn factory_reset(
    ctx: &Ctx,
    target: &mut Target,
    definitions: &[Definition],
    options: &Options,
) -> Result<usize> {
    if options.is_dry_run {
        log::info!(target: NOTICE, "Refusing to factory reset, please re-run with --dry-run=no.");
        return Ok(0);
    }
    let marked = marked(target, definitions);
    let Some(mut table) = target.table.clone().filter(|_| !marked.is_empty()) else {
        log::info!("Applying factory reset.");
        log::info!("Factory reset requested, but no partitions to delete found.");
        return Ok(0);
    };
    let lost: Vec<_> = marked.iter().filter_map(|partition| table.extent(partition)).collect();
    check::refuse_users(ctx, target, &lost)?;
    for partition in &marked {
        table.remove(partition.number).context(|| failed(partition.number))?;
        target.removed.push(partition.number);
    }
    target.table = Some(table);
    Ok(marked.len())
}

/// Does on the disk what [`factory_reset`] has done to the table.
///
/// # Errors
///
/// The kernel keeps one of the partitions, in which case it keeps all; or the table cannot be written.
pub(super) fn carry_out(ctx: &Ctx, target: &mut Target, observer: &dyn Observer) -> Result<()> {
    let Some(table) = target.table.clone().filter(|_| !target.removed.is_empty()) else {
        return Ok(());
    };
    log::info!("Applying factory reset.");
    let removed = std::mem::take(&mut target.removed);
    for number in &removed {
        log::info!("Removing partition {} for factory reset.", number.saturating_sub(1));
    }
    let is_meant = |number| removed.contains(&number);
    in_use::forget_partitions(ctx, &*target.disk, &target.path, &is_meant)?;
    observer.phase(Phase::WritingTable, None, None);
    target.begin();
    disk::table::write(&*target.disk, &target.path, &table)?;
    log::info!("Successfully deleted {} partitions.", removed.len());
    Ok(())
}

fn failed(number: u32) -> String {
    format!("Failed to remove partition {}", number.saturating_sub(1))
}
