//! `--copy-from=`: the partitions of another disk as definitions.

use std::path::Path;

use super::file::Draft;
use crate::disk::{Access, Disks, table};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::Table;
use crate::repart::model::{Bounds, CopyBlocks, Definition, Origin};

/// A definition for each partition of the disk, in the order of their numbers: same type, label,
/// UUID, attributes and size, and the same free space behind it, down to the grain.
///
/// # Errors
/// The disk cannot be read or has no GPT.
pub fn copy_from(disks: &dyn Disks, path: &Path, grain: u64) -> Result<Vec<Definition>> {
    let path = std::path::absolute(path)
        .context(|| format!("Failed to make path '{}' absolute", path.display()))?;
    let disk = disks
        .open(&path, Access::Read)
        .context(|| format!("Failed to open '{}'", path.display()))?;
    let loaded = table::read(&*disk, &path).map_err(|err| match err.errno() {
        Some(124) => {
            Error::new(format!("Cannot copy from disk {} with no GPT disk label.", path.display()))
                .with_errno(123)
        }
        _ => err,
    })?;
    Ok(definitions(&loaded.table, &path, grain))
}

fn definitions(table: &Table, path: &Path, grain: u64) -> Vec<Definition> {
    let mut all = Vec::new();
    let sector = u64::from(table.sector_size());
    let partitions: Vec<_> = table.partitions().collect();
    let usable_end = (table.usable().1 + 1).saturating_mul(sector);
    for partition in &partitions {
        let Some(extent) = table.extent(partition) else { continue };
        let size = extent.end - extent.start;
        let next = partitions
            .iter()
            .map(|other| other.first_lba.saturating_mul(sector))
            .filter(|start| *start >= extent.end)
            .min();
        let begin = extent.end.next_multiple_of(grain);
        let padding = match next {
            Some(next) => (next / grain * grain).saturating_sub(begin),
            None => {
                let _ = usable_end;
                0
            }
        };
        let mut definition = Draft::new().definition;
        definition.origin = Origin::Disk { path: path.to_path_buf(), number: partition.number };
        definition.type_uuid = partition.type_uuid;
        definition.label = Some(partition.name.clone());
        definition.uuid = Some(partition.uuid);
        definition.flags = partition.flags;
        definition.size = Bounds { min: Some(size), max: Some(size), ..definition.size };
        definition.padding =
            Bounds { min: Some(padding), max: Some(padding), ..definition.padding };
        definition.copy_blocks =
            Some(CopyBlocks::Range { path: path.to_path_buf(), offset: extent.start, len: size });
        all.push(definition);
    }
    all
}
