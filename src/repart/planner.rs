//! From definitions and a table to a plan, or to a refusal.
//!
//! In steps, because some facts need others: [`Draft::new`] says which partitions are new, so that
//! the sources of those alone are looked for; [`Draft::measure`] takes what was found;
//! [`Draft::identify`] decides who they are, which a minimised file system has inside;
//! [`minimal_size`] and [`plan`] do the sums. Pure: nothing is opened or written. What had to be
//! given up is told through the log.

mod refusal;

use std::ops::Range;
use std::path::PathBuf;

use uuid::Uuid;

use super::alloc::{self, Event, Extent, Member, Problem};
use super::identity;
use super::members::{self, Limits, down, up};
use super::model::{
    Activity, Blocks, Definition, DiskPlan, FileLists, Ids, Options, PartitionPlan, Plan, Siblings,
    SizedBy, VerityRole,
};
use crate::format::gpt::Partition;
use crate::format::verity;
use crate::repart::target::Target;

pub use refusal::{Refusal, minimal_size_line};

/// What a label in front takes at least, in bytes.
const METADATA: u64 = 1 << 20;
/// Table of entries in the back, in bytes.
const ENTRIES: u64 = 16 << 10;
/// LIMIT: more than that is no usual GPT.
const ENTRIES_MAX: u32 = super::model::PARTITIONS_MAX as u32;

/// What is known of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// As shown and as the nodes of partitions begin.
    pub path: PathBuf,
    /// In bytes, after growing; 0 without a disk.
    pub size: u64,
    /// In bytes, before.
    pub old_size: u64,
    /// In bytes.
    pub sector_size: u32,
    /// Alignment, in bytes, a power of two; `Options::grain` gives it.
    pub grain: u64,
    /// What the table lets partitions use, in bytes, as in its header: not aligned.
    pub usable: Range<u64>,
    /// What is on the disk, in the order of the numbers; empty where it starts from scratch.
    pub partitions: Vec<Partition>,
    /// How many partitions the table takes.
    pub entries: u32,
    /// Identity of the disk; nil where it has none.
    pub guid: Uuid,
    /// There is a new table; nothing is kept.
    pub is_from_scratch: bool,
    /// The image file is new.
    pub is_created: bool,
    /// A block device, not a file.
    pub is_device: bool,
}

impl DiskFacts {
    /// Of no disk (`-`): only the least size can be asked for.
    pub fn none(options: &Options) -> Self {
        let sector_size = options.sector_size.unwrap_or(512);
        Self {
            path: PathBuf::new(),
            size: 0,
            old_size: 0,
            sector_size,
            grain: grain(options, sector_size),
            usable: 0..0,
            partitions: Vec::new(),
            entries: ENTRIES_MAX,
            guid: Uuid::nil(),
            is_from_scratch: true,
            is_created: false,
            is_device: false,
        }
    }

    /// Of the target as it is now.
    pub fn of(target: &Target, options: &Options) -> Self {
        let sector = u64::from(target.sector_size);
        let table = target.table.as_ref();
        let usable = table.map_or(0..0, |table| {
            let (first, last) = table.usable();
            first.saturating_mul(sector)..last.saturating_add(1).saturating_mul(sector)
        });
        Self {
            path: target.path.clone(),
            size: target.size,
            old_size: target.old_size,
            sector_size: target.sector_size,
            grain: grain(options, target.sector_size),
            usable,
            partitions: table.map(|table| table.partitions().collect()).unwrap_or_default(),
            entries: table.map_or(ENTRIES_MAX, |table| table.entry_count().min(ENTRIES_MAX)),
            guid: table.map_or(Uuid::nil(), |table| table.disk_guid()),
            is_from_scratch: target.is_from_scratch,
            is_created: target.is_created,
            is_device: target.is_device,
        }
    }
}

/// Alignment of new partitions, in bytes.
pub fn grain(options: &Options, sector_size: u32) -> u64 {
    options.grain_size.unwrap_or(4096).max(sector_size.into())
}

/// Everything a plan follows from.
#[derive(Clone)]
pub struct Inputs<'a> {
    /// Partitions of other disks first, then definitions in the order of their files.
    pub definitions: Vec<Definition>,
    /// The disk.
    pub disk: DiskFacts,
    /// `--seed=`, resolved.
    pub seed: Uuid,
    /// Which definitions count, and which are put off.
    pub options: &'a Options,
}

/// What was found out about the contents of a new partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// What is copied into it: `CopyBlocks=`, or what `Minimize=` has made.
    pub blocks: Option<Blocks>,
    /// How large its contents are where no blocks are copied, in bytes.
    pub content_size: Option<u64>,
    /// The UUID that it takes over from its source (`CopyBlocks=auto`).
    pub uuid: Option<Uuid>,
}

/// A plan in the making: all partitions that could be part of it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is known so far. Offsets, sizes and numbers of new partitions are not; UUIDs, labels
    /// and flags are after [`Draft::identify`]. The supplements are still partitions of their own.
    pub plan: Plan,
    disk: DiskFacts,
    measures: Vec<Measure>,
    supplement_for: Vec<Option<usize>>,
    /// Hash trees are made for that much, where their definition says nothing.
    hash_sizes: Vec<Option<u64>>,
}

impl Draft {
    /// Which partitions there are and which are wanted.
    pub fn new(inputs: Inputs<'_>) -> Self {
        let Inputs { definitions, disk, seed, options } = inputs;
        let mut definitions = definitions;
        definitions.retain(|definition| options.filter.lets(definition.type_uuid));
        let siblings = siblings(&definitions);
        let supplement_for: Vec<Option<usize>> = definitions
            .iter()
            .map(|definition| {
                let name = definition.supplement_for.as_ref()?;
                definitions.iter().position(|target| target.name == *name)
            })
            .collect();
        let (matched, foreign) = members::match_up(&definitions, &disk.partitions);
        let wanted = definitions.into_iter().zip(matched).zip(siblings);
        let wanted =
            wanted.map(|((definition, existing), siblings)| (Some(definition), existing, siblings));
        let foreign =
            foreign.into_iter().map(|partition| (None, Some(partition), Siblings::default()));
        let mut partitions = Vec::new();
        for (definition, existing, siblings) in wanted.chain(foreign) {
            partitions.push(blank(definition, existing, siblings, &disk, options));
        }
        let count = partitions.len();
        let mut draft = Self {
            plan: Plan { disk: disk_plan(&disk, seed), partitions, seed },
            disk,
            measures: vec![Measure::default(); count],
            supplement_for,
            hash_sizes: vec![None; count],
        };
        draft.supplement_for.resize(count, None);
        draft.size_hash_trees();
        draft
    }

    /// Takes what was found out about a new partition.
    pub fn measure(&mut self, index: usize, measure: Measure) {
        if let Some(partition) = self.plan.partitions.get_mut(index) {
            partition.blocks.clone_from(&measure.blocks);
        }
        if let Some(slot) = self.measures.get_mut(index) {
            *slot = measure;
        }
    }

    /// Takes the disk after it grew. Its partitions must be the same.
    pub fn set_disk(&mut self, disk: DiskFacts) {
        let seed = self.plan.seed;
        let guid = self.plan.disk.guid;
        self.plan.disk = disk_plan(&disk, seed);
        self.plan.disk.guid = guid;
        self.disk = disk;
    }

    /// Position of the partition whose place this one leaves to it, as long as they fit together.
    pub fn supplement_for(&self, index: usize) -> Option<usize> {
        let is_new = self.plan.partitions.get(index)?.existing.is_none();
        self.supplement_for.get(index).copied().flatten().filter(|_| is_new)
    }

    /// Decides UUIDs, labels and attribute bits. `random` makes UUIDs where a derived one is in
    /// use already.
    pub fn identify(&mut self, random: &mut dyn FnMut() -> Uuid) {
        for index in 0..self.plan.partitions.len() {
            self.identify_one(index, random);
        }
    }

    fn identify_one(&mut self, index: usize, random: &mut dyn FnMut() -> Uuid) {
        let Some((earlier, rest)) = self.plan.partitions.split_at_mut_checked(index) else {
            return;
        };
        let Some((partition, later)) = rest.split_first_mut() else { return };
        let Some(definition) = &partition.definition else { return };
        let seed = self.plan.seed;
        let taken = self.measures.get(index).and_then(|measure| measure.uuid);
        let current = partition.existing.as_ref().map(|existing| existing.uuid);
        let mut is_final = true;
        let uuid = if let Some(uuid) = current.filter(|uuid| !uuid.is_nil()) {
            uuid
        } else if let Some(uuid) = definition.uuid.or(taken) {
            uuid
        } else {
            // The root hash gives these their UUIDs; until then nobody knows.
            is_final =
                !definition.is_verity(VerityRole::Data) && !definition.is_verity(VerityRole::Hash);
            let of_type = earlier.iter().filter(|other| other.type_uuid == partition.type_uuid);
            let uuid = identity::partition_uuid(seed, partition.type_uuid, of_type.count() as u64);
            let is_used = earlier.iter().chain(later.iter()).any(|other| {
                let existing = other.existing.as_ref().map(|existing| existing.uuid);
                other.uuid == uuid || existing == Some(uuid)
            });
            if is_used {
                log::warn!(
                    "Partition UUID calculated from seed for partition {index} already used, \
                     reverting to randomized UUID."
                );
                random()
            } else {
                uuid
            }
        };
        partition.uuid = if is_final { uuid } else { Uuid::nil() };
        partition.ids = Ids {
            file_system: identity::file_system_uuid(uuid),
            luks: identity::luks_uuid(uuid),
            verity: identity::verity_uuid(seed),
            verity_salt: identity::verity_salt(seed),
        };
        let current = partition.existing.as_ref().map(|existing| existing.name.as_str());
        let given = current.filter(|label| !label.is_empty());
        partition.label = match given.or_else(|| identity::configured_label(definition)) {
            Some(label) => label.to_owned(),
            None => identity::label(partition.type_uuid, &|label| {
                earlier.iter().any(|other| other.label == label)
            }),
        };
    }

    /// Hash partitions without a size are made for the largest that their data can become.
    fn size_hash_trees(&mut self) {
        for (index, partition) in self.plan.partitions.iter().enumerate() {
            let Some(definition) = partition.definition.as_ref() else { continue };
            let Some(hash) = definition.verity.as_ref() else { continue };
            if hash.role != VerityRole::Hash || partition.existing.is_some() {
                continue;
            }
            let data = partition.siblings.data.and_then(|data| self.plan.partitions.get(data));
            let max = data.and_then(|data| data.definition.as_ref()?.size.max);
            let sector = partition.file_system_sector_size;
            let data_block = hash.data_block_size.unwrap_or(sector);
            let hash_block = hash.hash_block_size.unwrap_or(sector);
            let size = max.and_then(|max| verity::hash_size(max, data_block, hash_block).ok());
            if let Some(slot) = self.hash_sizes.get_mut(index) {
                *slot = size;
            }
        }
    }

    fn problem(&self) -> Problem {
        let DiskFacts { grain, usable, entries, .. } = &self.disk;
        let mut members = Vec::with_capacity(self.plan.partitions.len());
        for (index, partition) in self.plan.partitions.iter().enumerate() {
            let measure = self.measures.get(index);
            let content = measure.and_then(|measure| {
                measure.blocks.as_ref().and_then(|blocks| blocks.len).or(measure.content_size)
            });
            let mut limits = Limits::of(partition, content, *grain);
            if let Some(size) = self.hash_sizes.get(index).copied().flatten() {
                limits.size.min = limits.size.min.or(Some(size));
            }
            let siblings = partition.siblings;
            members.push(Member {
                type_uuid: partition.type_uuid,
                existing: partition.existing.as_ref().map(|existing| {
                    let offset = partition.offset;
                    Extent { number: existing.number, offset, size: partition.old_size }
                }),
                is_foreign: partition.definition.is_none(),
                priority: partition.definition.as_ref().map_or(0, |wanted| wanted.priority),
                limits,
                siblings: [siblings.data, siblings.hash, siblings.signature]
                    .into_iter()
                    .flatten()
                    .collect(),
                supplement_for: self.supplement_for.get(index).copied().flatten(),
            });
        }
        let usable = up(usable.start, *grain)..down(usable.end, *grain);
        Problem { grain: *grain, usable, entries: *entries, members }
    }

    /// How a definition is called in messages.
    fn name(&self, index: usize) -> String {
        let definition =
            self.plan.partitions.get(index).and_then(|partition| partition.definition.as_ref());
        definition.map_or_else(String::new, |definition| definition.path().display().to_string())
    }

    fn tell(&self, events: &[Event]) {
        for (index, partition) in self.plan.partitions.iter().enumerate() {
            let is_supplement = self.supplement_for.get(index).copied().flatten().is_some();
            if is_supplement && partition.existing.is_some() {
                log::info!(
                    "Partition {} already exists on disk, using supplement verbatim.",
                    self.name(index)
                );
            }
        }
        let priority = |index: usize| {
            let definition =
                self.plan.partitions.get(index).and_then(|partition| partition.definition.as_ref());
            definition.map_or(0, |definition| definition.priority)
        };
        for event in events {
            match *event {
                Event::Dropped(index) => log::info!(
                    "Can't fit partition {} of priority {}, dropping.",
                    self.name(index),
                    priority(index)
                ),
                Event::Ignored(index) => log::info!(
                    "Can't grow existing partition {} of priority {}, ignoring.",
                    self.plan.partitions.get(index).map_or("n/a", |partition| &partition.label),
                    priority(index)
                ),
                Event::Unmerged { supplement, target } => log::info!(
                    "Couldn't allocate partitions with {} merged into {}, using supplement \
                     verbatim.",
                    self.name(supplement),
                    self.name(target)
                ),
            }
        }
    }
}

/// How small an image may be, in bytes, before anything is given up.
pub fn minimal_size(draft: &Draft) -> u64 {
    let sum = alloc::sum(&draft.problem());
    image_size(&draft.disk, sum)
}

/// As [`minimal_size`], without what has to be given up on this disk.
pub fn fitted_size(draft: &Draft) -> u64 {
    match alloc::solve(&draft.problem()) {
        Ok(solution) => image_size(&draft.disk, solution.sum),
        Err(no_fit) => image_size(&draft.disk, no_fit.sum),
    }
}

fn image_size(disk: &DiskFacts, sum: alloc::Sum) -> u64 {
    let sector = u64::from(disk.sector_size);
    let backup = up(ENTRIES, sector).saturating_add(sector);
    let front = up(METADATA, disk.grain);
    front.saturating_add(backup).saturating_add(sum.wanted).saturating_add(sum.foreign)
}

/// Decides everything that is still open.
///
/// # Errors
///
/// They do not fit.
pub fn plan(draft: &Draft) -> Result<Plan, Refusal> {
    let problem = draft.problem();
    let solution = match alloc::solve(&problem) {
        Ok(solution) => solution,
        Err(no_fit) => {
            draft.tell(&no_fit.events);
            return Err(Refusal {
                reason: no_fit.reason,
                minimal_size: image_size(&draft.disk, no_fit.sum),
                sum: no_fit.sum,
                current_size: draft.disk.size,
                is_from_scratch: draft.disk.is_from_scratch,
            });
        }
    };
    draft.tell(&solution.events);
    let mut partitions = Vec::new();
    // Where the partitions of the draft are in the plan.
    let mut positions = vec![None; draft.plan.partitions.len()];
    for (index, (partition, placed)) in
        draft.plan.partitions.iter().zip(&solution.placed).enumerate()
    {
        let Some(placed) = placed else { continue };
        if let Some(position) = positions.get_mut(index) {
            *position = Some(partitions.len());
        }
        partitions.push(settle(draft, partition, placed));
    }
    let moved = |index: Option<usize>| positions.get(index?).copied().flatten();
    for partition in &mut partitions {
        let Siblings { data, hash, signature } = partition.siblings;
        partition.siblings =
            Siblings { data: moved(data), hash: moved(hash), signature: moved(signature) };
    }
    Ok(Plan { disk: draft.plan.disk.clone(), partitions, seed: draft.plan.seed })
}

fn settle(draft: &Draft, partition: &PartitionPlan, placed: &alloc::Placed) -> PartitionPlan {
    let mut settled = partition.clone();
    settled.number = placed.number;
    settled.offset = placed.offset;
    settled.size = placed.size;
    settled.padding = placed.padding;
    settled.old_padding = placed.old_padding;
    settled.sized_by = placed.sized_by;
    settled.activity = match &partition.existing {
        None => Activity::Create,
        Some(_) if placed.size != partition.old_size => Activity::Resize,
        Some(_) => Activity::Unchanged,
    };
    if placed.is_foreign {
        settled.definition = None;
    }
    if let (None, Some(definition)) = (&settled.existing, &settled.definition) {
        let (flags, warnings) = identity::flags(definition);
        settled.flags = flags;
        for warning in warnings {
            log::warn!("{warning}");
        }
    }
    let supplement = placed.supplement.and_then(|index| draft.plan.partitions.get(index));
    if let Some(definition) = supplement.and_then(|other| other.definition.as_ref()) {
        append(&mut settled.files, &definition.files);
    }
    settled
}

fn append(files: &mut FileLists, more: &FileLists) {
    files.copy.extend_from_slice(&more.copy);
    files.exclude_sources.extend_from_slice(&more.exclude_sources);
    files.exclude_targets.extend_from_slice(&more.exclude_targets);
    files.make_directories.extend_from_slice(&more.make_directories);
    files.make_symlinks.extend_from_slice(&more.make_symlinks);
}

fn disk_plan(disk: &DiskFacts, seed: Uuid) -> DiskPlan {
    let initialises_guid = disk.guid.is_nil();
    DiskPlan {
        path: disk.path.clone(),
        size: disk.size,
        old_size: disk.old_size,
        sector_size: disk.sector_size,
        grain: disk.grain,
        usable: disk.usable.clone(),
        guid: if initialises_guid { identity::disk_guid(seed) } else { disk.guid },
        is_from_scratch: disk.is_from_scratch,
        is_created: disk.is_created,
        initialises_guid,
    }
}

/// A partition of which only is known what is there and what is wanted.
fn blank(
    definition: Option<Definition>,
    existing: Option<Partition>,
    siblings: Siblings,
    disk: &DiskFacts,
    options: &Options,
) -> PartitionPlan {
    let sector = u64::from(disk.sector_size);
    let lbas = existing.as_ref().map(|existing| (existing.first_lba, existing.last_lba));
    let (first, last) = lbas.unwrap_or((0, 0));
    let old_size = match lbas {
        Some(_) => last.saturating_sub(first).saturating_add(1).saturating_mul(sector),
        None => 0,
    };
    let type_uuid = definition.as_ref().map(|definition| definition.type_uuid);
    let type_uuid = type_uuid.or(existing.as_ref().map(|existing| existing.type_uuid));
    let default_sector = if disk.is_device { disk.sector_size } else { 4096 };
    let sector_size = definition.as_ref().and_then(|wanted| wanted.file_system_sector_size);
    let sector_size = sector_size.or(options.sector_size).unwrap_or(default_sector);
    let is_deferred = existing.is_none()
        && definition.as_ref().is_some_and(|definition| is_deferred(definition, options));
    PartitionPlan {
        number: existing.as_ref().map_or(0, |existing| existing.number),
        type_uuid: type_uuid.unwrap_or_default(),
        uuid: existing.as_ref().map_or(Uuid::nil(), |existing| existing.uuid),
        label: existing.as_ref().map_or_else(String::new, |existing| existing.name.clone()),
        flags: existing.as_ref().map_or(0, |existing| existing.flags),
        offset: first.saturating_mul(sector),
        size: old_size,
        padding: 0,
        old_size,
        old_padding: 0,
        activity: if existing.is_some() { Activity::Unchanged } else { Activity::Create },
        sized_by: SizedBy::Current,
        is_deferred,
        file_system_sector_size: sector_size.max(disk.sector_size),
        ids: Ids::default(),
        files: definition.as_ref().map(|definition| definition.files.clone()).unwrap_or_default(),
        siblings,
        blocks: None,
        definition,
        existing,
    }
}

fn is_deferred(definition: &Definition, options: &Options) -> bool {
    options.defer.contains(&definition.type_uuid)
        || options.defers_factory_reset && definition.is_factory_reset
        || options.defers_empty && identity::configured_label(definition) == Some("_empty")
}

/// The others of each definition's Verity set.
fn siblings(definitions: &[Definition]) -> Vec<Siblings> {
    let find = |key: &str, role: VerityRole, own: VerityRole| {
        if role == own {
            return None;
        }
        definitions.iter().position(|other| {
            other.verity.as_ref().is_some_and(|verity| verity.role == role && verity.key == key)
        })
    };
    let of = |definition: &Definition| match &definition.verity {
        Some(verity) => Siblings {
            data: find(&verity.key, VerityRole::Data, verity.role),
            hash: find(&verity.key, VerityRole::Hash, verity.role),
            signature: find(&verity.key, VerityRole::Signature, verity.role),
        },
        None => Siblings::default(),
    };
    definitions.iter().map(of).collect()
}
