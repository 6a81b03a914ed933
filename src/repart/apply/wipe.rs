//! What is in the way of new partitions goes.

use rustix::io::Errno;

use super::{Job, Phase, number};
use crate::ctx::Ctx;
use crate::disk::{self, in_use};
use crate::error::{Context as _, Error, Result};
use crate::repart::model::PartitionPlan;

/// How often the kernel is asked to forget a partition, and how long we wait in between: the device
/// manager may be looking at it.
const ATTEMPTS: u32 = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Wipes what was on a disk that starts from scratch, and what was where partitions will be.
pub(super) fn all(job: &Job<'_>) -> Result<()> {
    let is_from_scratch = job.plan.disk.is_from_scratch;
    if is_from_scratch {
        job.phase(Phase::WipingDisk, None, None);
        if !job.medium.is_blank {
            forget_nodes(job)?;
            whole(job)?;
        }
    }
    for (index, partition) in job.made() {
        job.phase(Phase::WipingPartition, Some(partition), None);
        if !job.medium.is_blank {
            signatures(job, partition)?;
            if !is_from_scratch && !job.options.keeps_blocks {
                contents(job, partition)?;
                gap_after(job, index, partition)?;
            }
        }
    }
    if !is_from_scratch && !job.options.keeps_blocks && job.made().next().is_some() {
        gap_at_start(job)?;
    }
    Ok(())
}

/// Makes the kernel forget the partitions of a disk, before anything on it changes: if one of them
/// is in use after all, all of it is as it was.
///
/// DIFFERS: the peer wipes first and fails when it adds partitions of the same numbers.
fn forget_nodes(job: &Job<'_>) -> Result<()> {
    in_use::forget_partitions(job.ctx, job.disk(), &job.plan.disk.path, &|_| true)
}

/// Tries again while something is busy.
pub(super) fn retry(ctx: &Ctx, what: &dyn Fn() -> std::io::Result<()>) -> std::io::Result<()> {
    for _ in 1..ATTEMPTS {
        match what() {
            Err(err) if Errno::from_io_error(&err) == Some(Errno::BUSY) => ctx.sleep(PAUSE),
            result => return result,
        }
    }
    what()
}

fn whole(job: &Job<'_>) -> Result<()> {
    let (disk, size) = (job.disk(), job.disk().size_bytes());
    disk::wipe(disk, 0, size).context(|| "Failed to wipe file system signature".to_owned())?;
    // From here on there is no table; whatever follows must not come before that.
    disk.sync().context(|| "Failed to sync changes".to_owned())?;
    log::info!("Wiped block device.");
    if job.options.keeps_blocks {
        return Ok(());
    }
    match discard(job, 0, size) {
        Ok(true) => log::info!("Discarded entire block device."),
        Ok(false) => {
            log::info!("Storage does not support discard, not discarding entire block device data.")
        }
        Err(err) => return Err(Error::because("Failed to discard entire block device", err)),
    }
    Ok(())
}

fn signatures(job: &Job<'_>, partition: &PartitionPlan) -> Result<()> {
    let number = number(partition);
    disk::wipe(job.disk(), partition.offset, partition.size)
        .context(|| format!("Failed to wipe file system signature of partition {number}"))?;
    log::info!("Successfully wiped file system signatures from future partition {number}.");
    Ok(())
}

fn contents(job: &Job<'_>, partition: &PartitionPlan) -> Result<()> {
    let number = number(partition);
    match discard(job, partition.offset, partition.size) {
        Ok(true) => {
            log::info!("Successfully discarded data from future partition {number}.");
            Ok(())
        }
        Ok(false) => {
            log::info!(
                "Storage does not support discard, not discarding data in future partition \
                 {number}."
            );
            Ok(())
        }
        Err(err) if Errno::from_io_error(&err) == Some(Errno::BUSY) => {
            log::info!(
                "Block device is busy, not discarding partition {number} because it probably is \
                 mounted."
            );
            Ok(())
        }
        Err(err) => Err(Error::because(
            format!("Failed to discard data for future partition {number}"),
            err,
        )),
    }
}

/// The space between a new partition and what comes next.
fn gap_after(job: &Job<'_>, index: usize, partition: &PartitionPlan) -> Result<()> {
    let start = partition.offset + partition.size;
    let others = job.plan.partitions.iter().enumerate().filter(|(other, _)| *other != index);
    let next = others.map(|(_, other)| other.offset).filter(|offset| *offset >= start).min();
    let end = next.unwrap_or(job.plan.disk.usable.end);
    let number = number(partition);
    gap(job, start, end, &format!("gap after partition {number}"))
}

/// The space before the first partition.
fn gap_at_start(job: &Job<'_>) -> Result<()> {
    let first = job.plan.partitions.iter().map(|partition| partition.offset).min();
    let start = job.plan.disk.usable.start;
    gap(job, start, first.unwrap_or(start), "gap at beginning of disk")
}

fn gap(job: &Job<'_>, start: u64, end: u64, what: &str) -> Result<()> {
    let sector = u64::from(job.plan.disk.sector_size);
    let (start, end) = (start.next_multiple_of(sector), end - end % sector);
    if start >= end {
        return Ok(());
    }
    match discard(job, start, end - start) {
        Ok(true) => log::info!("Successfully discarded {what}."),
        Ok(false) => log::info!("Storage does not support discard, not discarding {what}."),
        Err(err) => return Err(Error::because(format!("Failed to discard {what}"), err)),
    }
    Ok(())
}

fn discard(job: &Job<'_>, offset: u64, len: u64) -> std::io::Result<bool> {
    job.disk().discard(offset, len)
}
