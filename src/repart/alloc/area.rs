//! Free areas: what is behind an existing partition, and what is before the first one.

use std::ops::Range;

use super::{Extent, Member};
use crate::repart::members::{down, up};

/// One free area.
#[derive(Clone, Debug)]
pub(super) struct Area {
    /// Position of the partition it follows; none for the one in front.
    pub(super) owner: Option<usize>,
    /// In bytes.
    pub(super) size: u64,
    /// What new partitions have taken of it.
    pub(super) reserved: u64,
}

impl Area {
    /// What is not reserved.
    pub(super) fn free(&self) -> u64 {
        self.size.saturating_sub(self.reserved)
    }
}

/// For each member what is free behind it, and the areas: behind partitions in the order of their
/// numbers, then the one in front.
pub(super) fn find(members: &[Member], usable: &Range<u64>, grain: u64) -> (Vec<u64>, Vec<Area>) {
    let mut existing: Vec<(usize, Extent)> = members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| Some((index, member.existing?)))
        .collect();
    existing.sort_unstable_by_key(|(_, extent)| extent.number);
    let mut paddings = vec![0; members.len()];
    let mut areas = Vec::new();
    for (index, extent) in &existing {
        let end = extent.offset.saturating_add(extent.size);
        let starts = existing.iter().map(|(_, other)| other.offset);
        let next = starts.filter(|start| *start >= end).min().unwrap_or(usable.end);
        let size = down(next, grain).saturating_sub(up(end, grain));
        if let Some(padding) = paddings.get_mut(*index) {
            *padding = size;
        }
        if size > 0 {
            areas.push(Area { owner: Some(*index), size, reserved: 0 });
        }
    }
    let first = existing.iter().map(|(_, extent)| extent.offset).min();
    let front = first.map_or(usable.end, |first| down(first, grain));
    let size = front.saturating_sub(usable.start);
    if size > 0 {
        areas.push(Area { owner: None, size, reserved: 0 });
    }
    (paddings, areas)
}
