//! `--copy-from=`: the partitions of another disk as definitions.

use std::ops::Range;
use std::path::Path;

use super::file::blank;
use crate::disk::{Access, Disks, table};
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::{Partition, Table};
use crate::repart::model::{CopyBlocks, Definition, Origin};

/// A definition for each partition of the disk, in the order of their numbers: same type, label,
/// UUID, attributes and size, and the same free space behind it. What is free before the first and
/// behind the last partition does not count.
///
/// # Errors
/// The disk cannot be read or has no GPT.
pub fn copy_from(disks: &dyn Disks, path: &Path) -> Result<Vec<Definition>> {
    let path = std::path::absolute(path)
        .context(|| format!("Failed to make path '{}' absolute", path.display()))?;
    let disk = disks
        .open(&path, Access::Read)
        .context(|| format!("Failed to open device '{}'", path.display()))?;
    let loaded = table::read(&*disk, &path).map_err(|err| match err.errno() {
        Some(EMEDIUMTYPE) => {
            let path = path.display();
            Error::new(format!("Cannot copy from disk {path} with no GPT disk label."))
                .with_errno(EHWPOISON)
        }
        _ => err,
    })?;
    Ok(definitions(&loaded.table, &path))
}

const EMEDIUMTYPE: i32 = 124;
const EHWPOISON: i32 = 133;

fn definitions(table: &Table, path: &Path) -> Vec<Definition> {
    let partitions: Vec<_> = table
        .partitions()
        .filter_map(|partition| table.extent(&partition).map(|extent| (partition, extent)))
        .collect();
    let define = |(partition, extent): &(Partition, Range<u64>)| {
        let size = extent.end - extent.start;
        let starts = partitions.iter().map(|(_, other)| other.start);
        let next = starts.filter(|start| *start >= extent.end).min();
        let padding = next.unwrap_or(extent.end) - extent.end;
        let mut definition = blank();
        definition.origin = Origin::Disk { path: path.to_path_buf(), number: partition.number };
        definition.type_uuid = partition.type_uuid;
        definition.label = Some(partition.name.clone()).filter(|label| !label.is_empty());
        definition.uuid = Some(partition.uuid);
        definition.flags = partition.flags;
        definition.size.min = Some(size);
        definition.size.max = Some(size);
        definition.padding.min = Some(padding);
        definition.padding.max = Some(padding);
        definition.copy_blocks =
            Some(CopyBlocks::Range { path: path.to_path_buf(), offset: extent.start, len: size });
        definition
    };
    partitions.iter().map(define).collect()
}
