//! Slots of a partitioned disk.
//!
//! The label is the final one from the first write on; the type says how far it is: derived
//! "partial" while the payload is written, derived "pending" once it is complete, verified and
//! durable, the real one after installation. Each step is one rewrite of the table.

use std::path::PathBuf;

use uuid::Uuid;

use super::fetch::{Place, fetch};
use super::output::{Output, SlotOutput};
use crate::ctx::Ctx;
use crate::disk::{Access, Disk, partition_path, table};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::types::designator;
use crate::format::gpt::{
    FLAG_GROW_FS, FLAG_NO_AUTO, FLAG_READ_ONLY, Partition, Table, derived_types,
};
use crate::format::pattern::Fields;
use crate::out::Progress;
use crate::update::job::{AcquireJob, EMPTY_LABEL, EngineOptions, InstallJob, RemoveJob};
use crate::update::model::{Slot, Transfer};

const EBUSY: i32 = 16;

/// Fetches into a slot and leaves it pending.
pub(super) fn acquire(
    ctx: &Ctx,
    job: &AcquireJob<'_>,
    progress: &dyn Progress,
    slot: &Slot,
    label: &str,
) -> Result<Slot> {
    check_type(job.transfer)?;
    let disk = open(job.options, slot)?;
    let (partial, pending) = derived_types(job.transfer.target.partition_type);
    let mut place = SlotPlace { disk: &*disk, slot: slot.clone(), label, partial };
    let fetched = fetch(ctx, job, progress, &mut place)?;
    let node = place.name();
    let output = place.slot_output();
    if job.transfer.target.zero_fill && fetched.size_bytes < slot.size_bytes {
        let rest = slot.size_bytes - fetched.size_bytes;
        output
            .zero(fetched.size_bytes, rest)
            .context(|| format!("Failed to zero the rest of '{node}'"))?;
    }
    if job.options.is_sync {
        disk.sync().context(|| format!("Failed to sync '{node}'"))?;
    }
    let written = place.slot.clone();
    change(&*disk, &written, &mut |entry| {
        entry.type_uuid = pending;
        if let Some(uuid) = job.fields.partition_uuid {
            entry.uuid = uuid;
        }
        // DIFFERS: bits 0 to 2 make the peer fail (its defect D17).
        if let Some(flags) = job.fields.partition_flags {
            entry.flags = flags;
        }
    })
}

/// Gives a pending slot its real type. Returns the path to show, and whether it is the node of a
/// device.
pub(super) fn install(job: &InstallJob<'_>, slot: &Slot, label: &str) -> Result<(PathBuf, bool)> {
    check_type(job.transfer)?;
    let disk = open(job.options, slot)?;
    let real = job.transfer.target.partition_type;
    let (_, pending) = derived_types(real);
    if slot.type_uuid != pending && slot.type_uuid != real {
        return Err(Error::new(format!("'{}' is not pending.", node(slot).display())));
    }
    change(&*disk, slot, &mut |entry| {
        label.clone_into(&mut entry.name);
        entry.type_uuid = real;
        // DIFFERS: the peer sets these bits while the type is one that has none (its defect D1).
        entry.flags = single_bits(entry.flags, real, job.fields);
    })?;
    disk.partition_changed(slot.number);
    let node = node(slot);
    let is_device = node.starts_with("/dev");
    Ok((node, is_device))
}

/// Empties a slot. Its data, UUID and flags stay.
pub(super) fn remove(job: &RemoveJob<'_>, slot: &Slot) -> Result<()> {
    check_type(job.transfer)?;
    let disk = open(job.options, slot)?;
    let real = job.transfer.target.partition_type;
    let (partial, pending) = derived_types(real);
    change(&*disk, slot, &mut |entry| {
        EMPTY_LABEL.clone_into(&mut entry.name);
        if entry.type_uuid == partial || entry.type_uuid == pending {
            entry.type_uuid = real;
        }
    })?;
    disk.partition_changed(slot.number);
    Ok(())
}

/// `PartitionNoAuto=`, `PartitionGrowFileSystem=`, `ReadOnly=`, for types that know them.
fn single_bits(flags: u64, type_uuid: Uuid, fields: &Fields) -> u64 {
    let designator = designator(type_uuid);
    let bits = [
        (fields.no_auto, FLAG_NO_AUTO, designator.knows_no_auto()),
        (fields.grow_fs, FLAG_GROW_FS, designator.knows_grow_fs()),
        (fields.read_only, FLAG_READ_ONLY, designator.knows_read_only()),
    ];
    bits.into_iter().fold(flags, |flags, (wanted, bit, is_known)| match wanted {
        Some(true) if is_known => flags | bit,
        Some(false) if is_known => flags & !bit,
        _ => flags,
    })
}

/// DIFFERS: the peer writes to generic partitions then (its defect D18).
fn check_type(transfer: &Transfer) -> Result<()> {
    if transfer.target.is_partition_type_unknown {
        return Err(Error::new("MatchPartitionType= is not known, refusing to write partitions.")
            .at(&transfer.file, None));
    }
    Ok(())
}

fn open(options: &EngineOptions, slot: &Slot) -> Result<Box<dyn Disk>> {
    options
        .disks
        .open(&slot.disk, Access::Write)
        .context(|| format!("Failed to open '{}'", slot.disk.display()))
}

/// The partition node, or what stands for it.
fn node(slot: &Slot) -> PathBuf {
    // A name under /dev/disk has no rule for the names of its partitions.
    let disk = if slot.disk.starts_with("/dev") { slot.disk.canonicalize().ok() } else { None };
    partition_path(disk.as_deref().unwrap_or(&slot.disk), slot.number)
}

/// Changes the entry of a slot, if it is still the one that was planned with. Returns the slot as
/// it is then.
fn change(disk: &dyn Disk, slot: &Slot, edit: &mut dyn FnMut(&mut Partition)) -> Result<Slot> {
    let mut changed = slot.clone();
    table::change(disk, &slot.disk, &mut |table| {
        let mut entry = find(table, slot)?;
        edit(&mut entry);
        changed.label.clone_from(&entry.name);
        changed.type_uuid = entry.type_uuid;
        table.set(&entry).context(|| format!("Failed to change '{}'", node(slot).display()))
    })?;
    Ok(changed)
}

/// The entry of a slot. Somebody else may have changed the table since it was read.
fn find(table: &Table, slot: &Slot) -> Result<Partition> {
    let entry = table.partition(slot.number).filter(|entry| {
        let extent = table.extent(entry);
        extent == Some(slot.offset_bytes..slot.offset_bytes + slot.size_bytes)
            && entry.name == slot.label
            && entry.type_uuid == slot.type_uuid
    });
    entry.ok_or_else(|| {
        Error::new(format!(
            "Partition '{}' has been changed by somebody else, refusing.",
            node(slot).display()
        ))
        .with_errno(EBUSY)
    })
}

/// A slot that is being written.
struct SlotPlace<'a> {
    disk: &'a dyn Disk,
    /// As it is in the table now.
    slot: Slot,
    label: &'a str,
    partial: Uuid,
}

impl SlotPlace<'_> {
    fn slot_output(&self) -> SlotOutput<'_> {
        SlotOutput {
            disk: self.disk,
            offset_bytes: self.slot.offset_bytes,
            size_bytes: self.slot.size_bytes,
        }
    }
}

impl Place for SlotPlace<'_> {
    fn name(&self) -> String {
        node(&self.slot).display().to_string()
    }

    fn earlier(&self) -> Option<Box<dyn Output + '_>> {
        let is_ours = self.slot.type_uuid == self.partial && self.slot.label == self.label;
        is_ours.then(|| Box::new(self.slot_output()) as Box<dyn Output>)
    }

    fn begin(&mut self, _: u64) -> Result<()> {
        let (label, partial) = (self.label, self.partial);
        self.slot = change(self.disk, &self.slot, &mut |entry| {
            label.clone_into(&mut entry.name);
            entry.type_uuid = partial;
        })?;
        Ok(())
    }

    fn output(&self) -> Result<Box<dyn Output + '_>> {
        Ok(Box::new(self.slot_output()))
    }

    fn room_bytes(&self) -> Option<u64> {
        Some(self.slot.size_bytes)
    }
}
