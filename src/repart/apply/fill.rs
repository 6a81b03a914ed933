//! What partitions contain.

use std::cell::Cell;
use std::fs::File;
use std::time::Duration;

use super::check::{Content, Filling as Prepared, payload};
use super::encrypt::Volume;
use super::{Applied, Job, Phase, number, verity};
use crate::disk::copy::{self, Source};
use crate::disk::{Disk, Window};
use crate::error::{Context as _, Error, Result};
use crate::mkfs;
use crate::out::human;
use crate::repart::model::{PartitionPlan, VerityRole};

/// Fills all new partitions: copies first, then file systems, each hash tree and signature as soon
/// as its data is there.
pub(super) fn all(job: &Job<'_>, contents: Vec<Prepared>, applied: &mut Applied) -> Result<()> {
    let mut filling = Filling { job, contents, applied };
    let order = job.in_order();
    for (index, _) in &order {
        filling.copy(*index)?;
    }
    for (index, _) in &order {
        filling.format(*index)?;
    }
    // Of data that was there before.
    for (index, _) in &order {
        filling.protect(*index)?;
    }
    job.observer.progress().finish();
    Ok(())
}

struct Filling<'a, 'b> {
    job: &'a Job<'a>,
    contents: Vec<Prepared>,
    applied: &'b mut Applied,
}

impl Filling<'_, '_> {
    fn partition(&self, index: usize) -> Result<&PartitionPlan> {
        let partition = self.job.plan.partitions.get(index);
        partition.ok_or_else(|| Error::new("There is no such partition."))
    }

    fn take(&mut self, index: usize, is: fn(&Content) -> bool) -> Option<Content> {
        let filling = self.contents.get_mut(index).filter(|filling| is(&filling.content))?;
        Some(std::mem::take(&mut filling.content))
    }

    fn volume(&self, index: usize) -> Option<&Volume> {
        self.contents.get(index)?.volume.as_ref()
    }

    /// Copies blocks.
    fn copy(&mut self, index: usize) -> Result<()> {
        let content = self.take(index, |content| matches!(content, Content::Blocks(_)));
        let Some(Content::Blocks(file)) = content else { return Ok(()) };
        copy_blocks(self.job, self.partition(index)?, self.volume(index), &file)?;
        self.protect(index)
    }

    /// Makes a file system.
    fn format(&mut self, index: usize) -> Result<()> {
        let content = self.take(index, |content| matches!(content, Content::FileSystem(_)));
        let Some(Content::FileSystem(spec)) = content else { return Ok(()) };
        let (job, partition) = (self.job, self.partition(index)?);
        let number = number(partition);
        job.phase(Phase::FormattingPartition, Some(partition), None);
        log::info!("Formatting future partition {number}.");
        let failed = || format!("Failed to format partition {number}");
        let window = window(job, partition, spec.sector_size)?;
        if partition.siblings.hash.is_some() && !job.medium.is_blank {
            // All of the partition is hashed; what was there before must not count.
            window.zero(0, window.size_bytes()).context(failed)?;
        }
        let mut make = |disk: &dyn Disk| mkfs::make(job.ctx, &spec, disk).context(failed);
        let volume = self.volume(index);
        inside(partition, volume, &window, &mut make)?;
        log::info!("Successfully formatted future partition {number}.");
        encrypt(partition, volume, &window)?;
        sync(job, partition)?;
        self.protect(index)
    }

    /// Makes the hash tree and the signature of the set that this partition is in, as far as that
    /// is still to be done.
    fn protect(&mut self, index: usize) -> Result<()> {
        let partition = self.partition(index)?;
        let siblings = partition.siblings;
        let is_signature = partition
            .definition
            .as_ref()
            .is_some_and(|definition| definition.is_verity(VerityRole::Signature));
        let hash = siblings.hash.or_else(|| {
            let own = self.contents.get(index);
            own.filter(|own| matches!(own.content, Content::HashTree)).map(|_| index)
        });
        if let Some(hash) = hash
            && self.take(hash, |content| matches!(content, Content::HashTree)).is_some()
        {
            let root = verity::hash(self.job, hash)?;
            verity::spread(self.job.plan, hash, &root, self.applied);
            sync(self.job, self.partition(hash)?)?;
        }
        let signature = siblings.signature.or(is_signature.then_some(index));
        let Some(signature) = signature else { return Ok(()) };
        let root = self.applied.partitions.get(signature).and_then(|m| m.root_hash.clone());
        let root = root.or_else(|| verity::existing_root(self.job.plan, signature));
        if let Some(root) = root
            && let Some(Content::Signature(signing)) =
                self.take(signature, |content| matches!(content, Content::Signature(_)))
        {
            let bytes = signing.area(&root, self.job.options)?;
            let partition = self.partition(signature)?;
            let number = number(partition);
            let failed = || format!("Failed to write verity signature to partition {number}");
            self.job.disk().write_at(partition.offset, &bytes).context(failed)?;
            self.job.disk().sync().context(failed)?;
        }
        Ok(())
    }
}

/// The future partition as a disk.
fn window<'a>(job: &'a Job<'_>, partition: &PartitionPlan, sector_size: u32) -> Result<Window<'a>> {
    let window = Window::new(job.disk(), partition.offset, partition.size)
        .context(|| format!("Failed to open partition {}", number(partition)))?;
    Ok(window.with_sector_size(sector_size))
}

fn sync(job: &Job<'_>, partition: &PartitionPlan) -> Result<()> {
    let number = number(partition);
    log::info!("Syncing future partition {number} contents to disk.");
    job.disk().sync().context(|| format!("Failed to sync changes to partition {number}"))
}

/// Lets somebody write what a partition contains: through its encryption, if it has one.
fn inside(
    partition: &PartitionPlan,
    volume: Option<&Volume>,
    window: &dyn Disk,
    fill: &mut dyn FnMut(&dyn Disk) -> Result<()>,
) -> Result<()> {
    match volume {
        Some(volume) => volume.fill(window, payload(partition), fill),
        None => fill(window),
    }
}

/// Makes it a volume that can be opened.
fn encrypt(partition: &PartitionPlan, volume: Option<&Volume>, window: &dyn Disk) -> Result<()> {
    let Some(volume) = volume else { return Ok(()) };
    let number = number(partition);
    log::info!("Encrypting future partition {number}...");
    volume.write_header(window)?;
    log::info!("Successfully encrypted future partition {number}.");
    Ok(())
}

fn copy_blocks(
    job: &Job<'_>,
    partition: &PartitionPlan,
    volume: Option<&Volume>,
    file: &File,
) -> Result<()> {
    let Some(blocks) = &partition.blocks else { return Ok(()) };
    let (number, shown) = (number(partition), blocks.path.display());
    let len = blocks.len.unwrap_or_else(|| payload(partition));
    let size = human::size(len);
    let place = if blocks.offset > 0 { format!(" @ {}", blocks.offset) } else { String::new() };
    log::info!(
        "Copying in '{shown}'{place} ({size}) on block level into future partition {number}."
    );
    let failed = || format!("Failed to copy in data from '{shown}'");
    let began = job.ctx.monotonic();
    let window = window(job, partition, partition.file_system_sector_size)?;
    job.observer.progress().phase(&format!("Copying '{shown}'"), Some(len));
    job.phase(Phase::CopyingPartition, Some(partition), Some(0));
    let (done, percent) = (Cell::new(0_u64), Cell::new(0_u8));
    let mut advance = |bytes: u64| {
        done.set(done.get() + bytes);
        job.observer.progress().advance(bytes);
        let now = u8::try_from(u128::from(done.get()) * 100 / u128::from(len.max(1)));
        let now = now.unwrap_or(100).min(100);
        if now != percent.replace(now) {
            job.phase(Phase::CopyingPartition, Some(partition), Some(now));
        }
    };
    let source = Source { file, offset: blocks.offset, len };
    // What reads as zeros outside of an encrypted volume does not inside.
    let is_blank = job.medium.is_blank && volume.is_none();
    inside(partition, volume, &window, &mut |disk| {
        copy::copy(source, disk, 0, is_blank, &mut advance).context(failed)
    })?;
    if volume.is_none() && partition.siblings.hash.is_some() {
        // All of the partition is hashed; what was there before must not count.
        let rest = window.size_bytes() - len;
        if rest > 0 && !job.medium.is_blank {
            window.zero(len, rest).context(failed)?;
        }
    }
    log::info!("Copying in of '{shown}' on block level completed.");
    encrypt(partition, volume, &window)?;
    sync(job, partition)?;
    let elapsed = job.ctx.monotonic().saturating_sub(began);
    log::info!(
        "Block level copying and synchronization of partition {number} complete in {}.",
        duration(elapsed, len)
    );
    Ok(())
}

/// How long it took and, where that says anything, how fast it was.
fn duration(elapsed: Duration, len: u64) -> String {
    let usec = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let text = human::timespan(usec, 0);
    match len.checked_div(elapsed.as_secs()) {
        Some(speed) => format!("{text} ({}/s)", human::size(speed)),
        None => text,
    }
}
