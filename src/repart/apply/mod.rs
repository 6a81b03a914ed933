//! Makes what was planned.
//!
//! The order is what keeps data: everything is checked before the first byte changes; then what
//! was where new partitions will be is wiped, blocks are copied and file systems are made in space
//! that belongs to nobody yet, all of it is synced, and only then the table is written, the backup
//! first. Until that the old table is what there is: nobody sees a partition that is half full.
//! A disk that starts from scratch loses its old table first, because that would tell of contents
//! that are gone; until the new one is complete it has none.
//!
//! Document: systemd-repart(8) of systemd 262.

mod check;
mod encrypt;
mod fill;
mod phase;
mod reset;
mod table;
mod verity;
mod wipe;

use std::path::Path;

use uuid::Uuid;

use super::model::{Options, PartitionPlan, Plan};
use super::target::Target;
use crate::ctx::Ctx;
use crate::disk::Disk;
use crate::error::Result;
use crate::format::gpt::Table;
use crate::log::NOTICE;

pub use phase::{Observer, Phase, Unobserved};
pub use reset::{can_factory_reset, factory_reset};
pub use verity::params as verity_params;

/// What has come out of a run that was not known before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The disk has been written to.
    pub is_written: bool,
    /// One for each of [`Plan::partitions`], in their order.
    pub partitions: Vec<Made>,
}

/// What a partition has become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Its UUID; that of a partition with Verity follows from the root hash.
    pub uuid: Uuid,
    /// Root hash of the Verity set it is part of, where that has been made in this run.
    pub root_hash: Option<Vec<u8>>,
}

impl Applied {
    /// What is known before anything is done.
    pub fn planned(plan: &Plan) -> Self {
        let mut applied = Self {
            is_written: false,
            partitions: plan
                .partitions
                .iter()
                .map(|partition| Made { uuid: partition.uuid, root_hash: None })
                .collect(),
        };
        for (index, partition) in plan.partitions.iter().enumerate() {
            let hash = partition.blocks.as_ref().and_then(|blocks| blocks.root_hash);
            if let Some(hash) = hash {
                verity::spread(plan, index, &hash, &mut applied);
            }
        }
        applied
    }
}

/// The disk that is written to, and what is known about it.
pub struct Medium<'a> {
    /// It.
    pub disk: &'a dyn Disk,
    /// Its table, which is written last; an empty one where the disk starts from scratch.
    pub table: &'a Table,
    /// It reads as zeros everywhere.
    pub is_blank: bool,
}

/// Makes what was planned, or says why not. Nothing happens in a dry run, and where there is
/// nothing to do; whether there was is in the result.
///
/// # Errors
///
/// Something is missing or in the way, in which case nothing has been written; or the disk cannot
/// be written, in which case it still has its old table.
pub fn apply(
    ctx: &Ctx,
    plan: &Plan,
    target: &mut Target,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Applied> {
    let mut untouched = Applied::planned(plan);
    let has_grown = target.size != target.old_size && !target.is_from_scratch;
    if !plan.is_change() {
        if !target.removed.is_empty() {
            reset::carry_out(ctx, target, observer)?;
            untouched.is_written = true;
        }
        log::info!("No changes.");
        if let Some(table) = target.table.as_ref().filter(|_| has_grown && !options.is_dry_run) {
            let table = table.clone();
            target.begin();
            // The backup belongs to the end of the disk, wherever that is now.
            crate::disk::table::write(&*target.disk, &target.path, &table)?;
            untouched.is_written = true;
        }
        return Ok(untouched);
    }
    if options.is_dry_run {
        log::info!(target: NOTICE, "Refusing to repartition, please re-run with --dry-run=no.");
        return Ok(untouched);
    }
    let Some(table) = target.table.clone() else {
        return Err(check::stale("the disk has no table"));
    };
    check::in_use(ctx, plan, target)?;
    let is_blank = target.is_created;
    let medium = Medium { disk: &*target.disk, table: &table, is_blank };
    let contents = check::all(ctx, plan, &medium, options)?;
    reset::carry_out(ctx, target, observer)?;
    target.begin();
    let medium = Medium { disk: &*target.disk, table: &table, is_blank };
    let job = Job { ctx, plan, medium: &medium, options, observer };
    let (applied, written) = job.run(contents)?;
    target.table = Some(written);
    Ok(applied)
}

/// As [`apply`], for any disk: what uses it, and whether there is anything to do, is for the caller
/// to look at.
///
/// # Errors
///
/// As [`apply`].
pub fn carry_out(
    ctx: &Ctx,
    plan: &Plan,
    medium: &Medium<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Applied> {
    let contents = check::all(ctx, plan, medium, options)?;
    let (applied, _) = Job { ctx, plan, medium, options, observer }.run(contents)?;
    Ok(applied)
}

/// A run that is under way.
struct Job<'a> {
    ctx: &'a Ctx,
    plan: &'a Plan,
    medium: &'a Medium<'a>,
    options: &'a Options,
    observer: &'a dyn Observer,
}

impl Job<'_> {
    fn run(&self, contents: Vec<check::Filling>) -> Result<(Applied, Table)> {
        log::info!("Applying changes to {}.", self.plan.disk.path.display());
        wipe::all(self)?;
        let mut applied = Applied::planned(self.plan);
        fill::all(self, contents, &mut applied)?;
        self.name_the_rest(&mut applied);
        let table = table::edit(self, &applied)?;
        table::write(self, &table)?;
        applied.is_written = true;
        Ok((applied, table))
    }

    fn disk(&self) -> &dyn Disk {
        self.medium.disk
    }

    /// All partitions as they lie on the disk, with their positions in the plan.
    fn in_order(&self) -> Vec<(usize, &PartitionPlan)> {
        let mut partitions: Vec<_> = self.plan.partitions.iter().enumerate().collect();
        partitions.sort_unstable_by_key(|(_, partition)| partition.offset);
        partitions
    }

    /// Those that come into being.
    fn made(&self) -> impl Iterator<Item = (usize, &PartitionPlan)> {
        self.in_order().into_iter().filter(|(_, partition)| partition.is_made())
    }

    fn phase(&self, phase: Phase, partition: Option<&PartitionPlan>, percent: Option<u8>) {
        self.observer.phase(phase, partition.and_then(object), percent);
    }

    /// Partitions that should have got their UUID from a root hash, but there is none.
    fn name_the_rest(&self, applied: &mut Applied) {
        for (partition, made) in self.plan.partitions.iter().zip(&mut applied.partitions) {
            let is_wanted = partition.definition.as_ref().is_some_and(|d| d.uuid.is_some());
            if partition.is_made() && made.uuid.is_nil() && !is_wanted {
                made.uuid = uuid::Builder::from_random_bytes(self.ctx.random()).into_uuid();
            }
        }
    }
}

/// The file that a partition is made by.
fn object(partition: &PartitionPlan) -> Option<&Path> {
    Some(partition.definition.as_ref()?.path())
}

/// The number of a partition as messages have it, from 0.
fn number(partition: &PartitionPlan) -> u32 {
    partition.number.saturating_sub(1)
}
