//! Hash trees and signatures of root hashes, between their data and the table.

use uuid::Uuid;

use super::{Applied, Job, number};
use crate::crypto::verity;
use crate::disk::Window;
use crate::error::{Context as _, Error, Result};
use crate::format::bytes;
use crate::format::verity::{Geometry, Superblock};
use crate::repart::model::{Options, PartitionPlan, Plan, VerityRole};

/// Parameters of the tree in the hash partition at this position, for so many bytes of data.
///
/// # Errors
///
/// It is no hash partition, or the data is no whole number of blocks.
pub fn params(plan: &Plan, index: usize, data_bytes: u64) -> Result<Superblock> {
    let partition = plan.partitions.get(index);
    let found = partition.and_then(|p| Some((p, p.definition.as_ref()?.verity.as_ref()?)));
    let Some((partition, verity)) = found else {
        return Err(Error::new("There is no definition of a hash partition."));
    };
    let block = |wanted: Option<u32>| wanted.unwrap_or(partition.file_system_sector_size);
    let data_block_size = block(verity.data_block_size);
    if !data_bytes.is_multiple_of(u64::from(data_block_size)) {
        return Err(Error::new(format!(
            "Verity data of {data_bytes} bytes is no whole number of blocks of {data_block_size} \
             bytes."
        )));
    }
    Ok(Superblock {
        uuid: partition.ids.verity.into_bytes(),
        salt: partition.ids.verity_salt.to_vec(),
        geometry: Geometry {
            data_block_size,
            hash_block_size: block(verity.hash_block_size),
            data_blocks: data_bytes / u64::from(data_block_size),
        },
    })
}

/// Everything that can be known to be missing or not to fit.
pub(super) fn check(plan: &Plan, index: usize, options: &Options) -> Result<()> {
    let Some(partition) = plan.partitions.get(index) else { return Ok(()) };
    let is = |role| partition.definition.as_ref().is_some_and(|d| d.is_verity(role));
    if is(VerityRole::Signature) {
        let _ = options;
        return Err(Error::new(format!(
            "Partition {}: signing root hashes is not supported.",
            number(partition)
        )));
    }
    if is(VerityRole::Hash) && partition.blocks.is_none() {
        let data = data_of(plan, partition)?;
        let needed = params(plan, index, data.size)?.geometry.hash_size();
        let needed = needed.context(|| "Failed to size the hash tree".to_owned())?;
        if needed > partition.size {
            return Err(does_not_fit(partition));
        }
    }
    Ok(())
}

fn does_not_fit(partition: &PartitionPlan) -> Error {
    let size = crate::out::human::size(partition.size);
    Error::errno_because(
        format!(
            "Verity hash data does not fit in partition {} with size {size}",
            number(partition)
        ),
        rustix::io::Errno::NOSPC.raw_os_error(),
    )
}

fn data_of<'a>(plan: &'a Plan, hash: &PartitionPlan) -> Result<&'a PartitionPlan> {
    let data = hash.siblings.data.and_then(|data| plan.partitions.get(data));
    match data {
        Some(data) if data.existing.is_some() || data.is_made() => Ok(data),
        _ => Err(Error::new(format!(
            "Partition {} is to protect a partition that is not there.",
            number(hash)
        ))),
    }
}

/// Hashes the data and writes the tree into the hash partition at this position.
pub(super) fn hash(job: &Job<'_>, index: usize, advance: &dyn Fn(u64)) -> Result<[u8; 32]> {
    let Some(partition) = job.plan.partitions.get(index) else {
        return Err(Error::new("There is no such partition."));
    };
    let data = data_of(job.plan, partition)?;
    log::info!("Calculating Verity protection data for future partition {}...", number(partition));
    let failed = || format!("Failed to setup verity hash data of partition {}", number(partition));
    let from = Window::new(job.disk(), data.offset, data.size).context(failed)?;
    let to = Window::new(job.disk(), partition.offset, partition.size).context(failed)?;
    verity::build(&from, &to, &params(job.plan, index, data.size)?, advance).context(failed)
}

/// Tells everybody of a Verity set its root hash, and gives the data and the hash tree the UUIDs
/// that they are found by: the first and the last half of it.
pub(super) fn spread(plan: &Plan, index: usize, hash: &[u8; 32], applied: &mut Applied) {
    let Some(partition) = plan.partitions.get(index) else { return };
    let siblings = partition.siblings;
    let half = |offset| bytes::array(hash, offset).map(Uuid::from_bytes).unwrap_or_default();
    let uuids = [(siblings.data, Some(half(0))), (Some(index), Some(half(16)))];
    for (member, uuid) in uuids.into_iter().chain([(siblings.signature, None)]) {
        let Some(member) = member else { continue };
        let planned = plan.partitions.get(member);
        let Some((planned, made)) = planned.zip(applied.partitions.get_mut(member)) else {
            continue;
        };
        made.root_hash = Some(hash.to_vec());
        let is_wanted = planned.definition.as_ref().is_some_and(|d| d.uuid.is_some());
        if let Some(uuid) = uuid
            && made.uuid.is_nil()
            && !is_wanted
            && planned.existing.is_none()
        {
            made.uuid = uuid;
        }
    }
}

/// What goes into the signature partition at this position.
pub(super) fn signature(job: &Job<'_>, index: usize, _root_hash: &[u8]) -> Result<Vec<u8>> {
    check(job.plan, index, job.options)?;
    Ok(Vec::new())
}
