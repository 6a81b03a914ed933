//! Instances in the slots of a partitioned disk: the label carries the version, the type the state.

use std::path::Path;

use uuid::Uuid;

use crate::disk::{Access, Disks, table};
use crate::error::{Context as _, Result};
use crate::format::gpt::{self, Partition, Table};
use crate::format::pattern::{Match, Pattern, match_any};
use crate::update::job::EMPTY_LABEL;
use crate::update::model::{Instance, Location, Slot, State, Stock};

/// Lists what is on a disk: used slots that match, and free ones.
pub fn list(
    disks: &dyn Disks,
    path: &Path,
    partition_type: Uuid,
    patterns: &[Pattern],
) -> Result<Stock> {
    let failed = || format!("Failed to create partition table context from '{}'", path.display());
    let disk = disks.open(path, Access::Read).context(failed)?;
    let table = table::read(&*disk, path)?.table;
    let (partial, pending) = gpt::derived_types(partition_type);

    let mut stock = Stock { place: Some(path.to_path_buf()), ..Stock::default() };
    for partition in table.partitions() {
        let state = match partition.type_uuid {
            t if t == partition_type => State::Installed,
            t if t == partial => State::Partial,
            t if t == pending => State::Pending,
            _ => continue,
        };
        let Some(slot) = slot(path, &table, &partition) else { continue };
        if partition.name == EMPTY_LABEL {
            // A derived type here is what a power cut in the middle of emptying leaves.
            stock.free.push(slot);
        } else if let Match::Yes { version, fields } = match_any(patterns, &partition.name) {
            let location = Location::Slot(Box::new(slot));
            let mut instance = Instance { version, fields, state, location };
            inherit(&mut instance, &partition);
            stock.instances.push(instance);
        }
    }
    Ok(stock)
}

fn slot(disk: &Path, table: &Table, partition: &Partition) -> Option<Slot> {
    let extent = table.extent(partition)?;
    Some(Slot {
        disk: disk.to_path_buf(),
        number: partition.number,
        offset_bytes: extent.start,
        size_bytes: extent.end - extent.start,
        label: partition.name.clone(),
        type_uuid: partition.type_uuid,
    })
}

/// What the label does not say, the entry does.
fn inherit(instance: &mut Instance, partition: &Partition) {
    let fields = &mut instance.fields;
    fields.partition_uuid.get_or_insert(partition.uuid);
    fields.partition_flags.get_or_insert(partition.flags);
    fields.read_only.get_or_insert(partition.flags & gpt::FLAG_READ_ONLY != 0);
}
