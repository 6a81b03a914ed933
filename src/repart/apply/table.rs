//! The table as it will be, and how everybody gets to know it.

use super::{Applied, Job, Phase, number, wipe};
use crate::disk;
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::{Partition, Table};
use crate::repart::model::PartitionPlan;

/// The table with everything in it that the plan says. Nothing is written yet.
pub(super) fn edit(job: &Job<'_>, applied: &Applied) -> Result<Table> {
    let mut table = job.medium.table.clone();
    let planned = &job.plan.disk;
    if planned.is_from_scratch || planned.initialises_guid {
        table.set_disk_guid(planned.guid);
    }
    for (index, partition) in job.in_order() {
        let number = number(partition);
        let entry = if let Some(existing) = &partition.existing {
            if partition.definition.is_none() {
                continue;
            }
            let mut entry = existing.clone();
            adjust(job, partition, &mut entry);
            if entry == *existing {
                continue;
            }
            entry
        } else if partition.is_deferred {
            continue;
        } else {
            job.phase(Phase::AdjustingPartition, Some(partition), None);
            log::info!("Adding new partition {number} to partition table.");
            Partition {
                number: partition.number,
                type_uuid: partition.type_uuid,
                uuid: applied.partitions.get(index).map_or(partition.uuid, |made| made.uuid),
                first_lba: partition.offset / u64::from(table.sector_size()),
                last_lba: (partition.offset + partition.size) / u64::from(table.sector_size()) - 1,
                flags: partition.flags,
                name: partition.label.clone(),
            }
        };
        table.set(&entry).context(|| format!("Failed to update partition {number}"))?;
    }
    Ok(table)
}

/// What changes in the entry of a partition that is there already.
fn adjust(job: &Job<'_>, partition: &PartitionPlan, entry: &mut Partition) {
    let number = number(partition);
    let sector = u64::from(job.medium.table.sector_size());
    let is_larger = partition.size != partition.old_size;
    let [is_named, is_labelled] = [partition.uuid != entry.uuid, partition.label != entry.name];
    if is_larger || is_named || is_labelled {
        job.phase(Phase::AdjustingPartition, Some(partition), None);
    }
    if is_larger {
        log::info!("Growing existing partition {number}.");
        entry.last_lba = (partition.offset + partition.size) / sector - 1;
    }
    if is_named {
        log::info!("Initializing UUID of existing partition {number}.");
        entry.uuid = partition.uuid;
    }
    if is_labelled {
        log::info!("Setting partition label of existing partition {number}.");
        entry.name.clone_from(&partition.label);
    }
}

/// Writes the table and tells the kernel.
pub(super) fn write(job: &Job<'_>, table: &Table) -> Result<()> {
    job.phase(Phase::WritingTable, None, None);
    log::info!("Writing new partition table.");
    // Everything that the table will show is on the disk before it.
    job.disk().sync().context(|| "Failed to sync changes".to_owned())?;
    disk::table::write(job.disk(), &job.plan.disk.path, table)
        .context(|| "Failed to write partition table".to_owned())?;
    tell_kernel(job).map_err(|err| err.hint("The partition table has been written."))?;
    log::info!("Partition table written.");
    Ok(())
}

fn tell_kernel(job: &Job<'_>) -> Result<()> {
    let disk = job.disk();
    if !disk.has_partition_nodes() {
        log::debug!(
            "Not telling kernel to reread partition table, since the disk has no partition nodes."
        );
        return Ok(());
    }
    job.phase(Phase::RereadingTable, None, None);
    log::info!("Informing kernel about changed partitions...");
    let changed = job.plan.partitions.iter().filter(|partition| {
        partition.is_made() || partition.existing.is_some() && partition.size != partition.old_size
    });
    for partition in changed {
        let (number, offset, size) = (partition.number, partition.offset, partition.size);
        let tell = || {
            if partition.existing.is_some() {
                return disk.resize_partition(number, offset, size);
            }
            // Whatever the kernel believed to be there has not been in the table.
            disk.remove_partition(number)?;
            disk.add_partition(number, offset, size)
        };
        wipe::retry(job.ctx, &tell).map_err(|err| {
            let node = disk::partition_path(&job.plan.disk.path, number);
            let text = format!("Failed to make '{}' known to the kernel", node.display());
            Error::because(text, err)
        })?;
    }
    Ok(())
}
