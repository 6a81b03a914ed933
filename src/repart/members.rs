//! Which definition an existing partition belongs to, and within which limits a partition may
//! grow.

use std::ops::Range;

use uuid::Uuid;

use super::model::{
    Bounds, Definition, Filter, LUKS_OVERHEAD, PartitionPlan, SIZE_MIN_DEFAULT, VERITY_SIG_SIZE,
    VerityRole,
};
use crate::format::gpt::{Partition, types};

/// What a partition has at least, whatever its definition says, in bytes.
const HARD_MIN: u64 = 4096;

/// For each definition the partition that is there already: each partition goes to the first
/// definition of its type that has none yet. Partitions nobody wants come last.
///
/// `partitions` are in the order of their numbers, `definitions` in list order.
pub fn match_up(
    definitions: &[Definition],
    partitions: &[Partition],
) -> (Vec<Option<Partition>>, Vec<Partition>) {
    let mut matched: Vec<Option<Partition>> = vec![None; definitions.len()];
    let mut foreign = Vec::new();
    for partition in partitions {
        let mut free = definitions.iter().zip(&mut matched).filter(|(definition, taken)| {
            taken.is_none() && definition.type_uuid == partition.type_uuid
        });
        match free.next() {
            Some((_, slot)) => *slot = Some(partition.clone()),
            None => foreign.push(partition.clone()),
        }
    }
    (matched, foreign)
}

impl Filter {
    /// True if definitions of this type count.
    pub fn lets(&self, type_uuid: Uuid) -> bool {
        match self {
            Self::All => true,
            Self::Include(types) => types.contains(&type_uuid),
            Self::Exclude(types) => !types.contains(&type_uuid),
        }
    }
}

/// What a partition's size and padding depend on. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What it has at least for what it is or holds; no definition goes below that.
    pub floor: u64,
    /// Lower bound if none is configured.
    pub default_min: u64,
    /// Its size is this and nothing else.
    pub fixed: Option<u64>,
    /// As configured.
    pub size: Bounds,
    /// As configured.
    pub padding: Bounds,
}

impl Limits {
    /// Those of a partition without definition: it stays as it is. Its weight counts until its
    /// area knows that it does not grow.
    pub fn foreign(size: u64) -> Self {
        Self {
            floor: size,
            default_min: 0,
            fixed: Some(size),
            size: Bounds { weight: 1000, ..Bounds::default() },
            padding: Bounds::default(),
        }
    }

    /// Those of a partition with a definition. `old_size` is none for a new one; `content` is what
    /// is copied into it.
    pub fn of(partition: &PartitionPlan, content: Option<u64>, grain: u64) -> Self {
        let Some(definition) = &partition.definition else {
            return Self::foreign(partition.old_size);
        };
        let is_signature = definition.is_verity(VerityRole::Signature)
            || types::designator(definition.type_uuid).is_verity_sig();
        let is_small = definition.verity.is_some()
            || definition.format.as_ref().is_some_and(|format| format.is_read_only());
        let floor = match &partition.existing {
            Some(_) => partition.old_size,
            None => HARD_MIN.max(need(partition, definition, content, grain)),
        };
        Self {
            floor,
            default_min: if is_small { 1 } else { SIZE_MIN_DEFAULT },
            fixed: is_signature.then_some(VERITY_SIG_SIZE),
            size: definition.size,
            padding: definition.padding,
        }
    }

    /// The limits of a partition that takes the place of another one, too.
    #[must_use]
    pub fn merged(self, supplement: &Self) -> Self {
        let mut size = tighter(self.size, supplement.size);
        let mut padding = tighter(self.padding, supplement.padding);
        // COMPAT(262): no lower bound of the supplement undoes the target's, and a least padding
        // counts only where both have one.
        if supplement.size.min.is_none() {
            size.min = None;
        }
        if self.padding.min.is_none() || supplement.padding.min.is_none() {
            padding.min = None;
        }
        Self { size, padding, ..self }
    }

    /// Least and largest size.
    pub fn size_range(&self, grain: u64, old_size: u64) -> Range<u64> {
        if let Some(size) = self.fixed {
            return size..size;
        }
        let min = up(self.size.min.unwrap_or(self.default_min), grain).max(self.floor);
        let max = self.size.max.map_or(u64::MAX, |max| down(max, grain).max(old_size).max(min));
        min..max
    }

    /// Least and largest padding.
    pub fn padding_range(&self) -> Range<u64> {
        let min = self.padding.min.unwrap_or(0);
        min..self.padding.max.unwrap_or(u64::MAX).max(min)
    }
}

fn tighter(one: Bounds, other: Bounds) -> Bounds {
    let max = match (one.max, other.max) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    Bounds { min: one.min.max(other.min), max, weight: other.weight }
}

/// What a new partition needs for its contents.
fn need(
    partition: &PartitionPlan,
    definition: &Definition,
    content: Option<u64>,
    grain: u64,
) -> u64 {
    let is_encrypted = definition.encrypt.is_some();
    let overhead = if is_encrypted { up(LUKS_OVERHEAD, grain) } else { 0 };
    let payload = match content {
        Some(content) => up(content, grain),
        None if definition.format.is_some() || is_encrypted => {
            file_system_min(partition, definition).map_or(grain, |min| up(min, grain))
        }
        None => 0,
    };
    overhead.saturating_add(payload)
}

/// The size below which a file system makes no sense, where one is known.
pub fn file_system_min(partition: &PartitionPlan, definition: &Definition) -> Option<u64> {
    use types::Designator::{Esp, Xbootldr};
    let format = definition.format.as_ref()?;
    if format.is_vfat() && matches!(types::designator(definition.type_uuid), Esp | Xbootldr) {
        // The least for FAT32, which needs 65525 clusters.
        let is_large = partition.file_system_sector_size >= 4096;
        return Some(if is_large { 260 << 20 } else { 100 << 20 });
    }
    match format.name() {
        "ext4" => Some(32 << 20),
        "btrfs" => Some(256 << 20),
        "xfs" => Some(300 << 20),
        _ => None,
    }
}

/// Rounded up to a multiple of `grain`, a power of two.
pub(crate) fn up(value: u64, grain: u64) -> u64 {
    down(value.saturating_add(grain - 1), grain)
}

/// Rounded down to a multiple of `grain`, a power of two.
pub(crate) fn down(value: u64, grain: u64) -> u64 {
    value & !(grain - 1)
}
