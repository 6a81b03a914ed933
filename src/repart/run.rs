//! One run, from options to a changed disk: who does what in which order.
//!
//! Everything up to [`apply::apply`] only looks, with three exceptions: a new image file is
//! created, an fstab that the image is to contain is written, and `Minimize=` builds in temporary
//! files. What is created goes away again where the run fails.

use uuid::Uuid;

use super::apply::{self, Applied, Observer, Phase};
use super::minimise::{self, Minimised};
use super::model::{Definition, Device, ImageSize, Options, PartitionPlan, Plan, Seed};
use super::planner::{self, DiskFacts, Draft, Inputs, Measure};
use super::report::{self, Sink};
use super::target::{self, Target};
use super::{definitions, eltorito, fstab, sources, split};
use crate::conf::specifier;
use crate::ctx::Ctx;
use crate::disk::{self, HostDisks};
use crate::error::{Error, Result};
use crate::format::gpt::Partition;

/// Those who want to know of a run.
#[derive(Clone, Copy)]
pub struct Watchers<'a> {
    /// Shows the plan and the result.
    pub sink: &'a dyn Sink,
    /// Is told how far it is.
    pub observer: &'a dyn Observer,
}

/// What a run came to.
#[derive(Debug)]
pub enum Ending {
    /// How large a disk must be, in bytes; there is none.
    MinimalSize(u64),
    /// Whether there is anything that a factory reset would remove.
    CanReset(bool),
    /// What was planned, and done unless this was a dry run.
    Done(Summary),
}

/// A run in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How large a disk must be, in bytes.
    pub minimal_size: u64,
    /// How large it was, in bytes.
    pub current_size: u64,
    /// How many partitions were on it that have been kept.
    pub partitions: usize,
}

/// Does what the options ask for.
///
/// # Errors
///
/// What any of the steps says. Nothing is written unless all that can be checked has been.
pub fn run(ctx: &Ctx, options: &Options, watchers: Watchers<'_>) -> Result<Ending> {
    let observer = watchers.observer;
    let seed = seed(ctx, options);
    let definitions = all_definitions(ctx, options, observer)?;
    let mut target = match options.device {
        Device::None => None,
        _ => Some(open(ctx, options, observer)?),
    };
    let mut draft = draft(options, target.as_ref(), definitions, seed);
    if let Some(target) = &mut target {
        let definitions = of_draft(&draft);
        if options.asks_factory_reset {
            return Ok(Ending::CanReset(apply::can_factory_reset(target, &definitions)));
        }
        if target::wants_factory_reset(ctx, options)? {
            apply::factory_reset(ctx, target, &definitions, options)?;
            let disk = DiskFacts::of(target, options);
            draft = Draft::new(Inputs { definitions, disk, seed: draft.plan.seed, options });
        }
    }
    let (tables, _minimised) = prepare(ctx, options, observer, &mut draft)?;
    let minimal_size = planner::minimal_size(&draft);
    let Some(mut target) = target else {
        log::info!("{}", planner::minimal_size_line(minimal_size, None));
        return Ok(Ending::MinimalSize(minimal_size));
    };
    if options.size == Some(ImageSize::Auto) {
        log::info!("{}", planner::minimal_size_line(minimal_size, None));
        target.grow(minimal_size)?;
        draft.set_disk(DiskFacts::of(&target, options));
    }
    observer.phase(Phase::Placing, None, None);
    let plan = planner::plan(&draft).map_err(|refusal| refusal.tell())?;
    finish(ctx, options, watchers, &mut target, &plan, tables)?;
    let is_there = |partition: &&PartitionPlan| partition.existing.is_some();
    Ok(Ending::Done(Summary {
        minimal_size: planner::fitted_size(&draft),
        current_size: plan.disk.old_size,
        partitions: plan.partitions.iter().filter(is_there).count(),
    }))
}

/// Opens the target. That its table is read is told where there is a target.
fn open(ctx: &Ctx, options: &Options, observer: &dyn Observer) -> Result<Target> {
    let target = target::open(ctx, options);
    // A label that it must not have was read, too.
    let has_label = |error: &Error| error.varlink().is_some();
    if target.as_ref().err().is_none_or(has_label) {
        observer.phase(Phase::LoadingTable, None, None);
    }
    target
}

/// Shows the plan, carries it out, and writes what belongs beside the disk.
fn finish(
    ctx: &Ctx,
    options: &Options,
    watchers: Watchers<'_>,
    target: &mut Target,
    plan: &Plan,
    mut tables: fstab::Tables,
) -> Result<()> {
    let boot_header = match &options.el_torito {
        Some(el_torito) => {
            let entries = target.table.as_ref().map_or(0, |table| table.entry_count());
            Some(eltorito::plan(plan, el_torito, entries, created(ctx))?)
        }
        None => None,
    };
    watchers.sink.planned(plan, &before(plan, target), &outcome(plan, &Applied::planned(plan)))?;
    if options.splits {
        split::check(ctx, plan)?;
    }
    let applied = apply::apply(ctx, plan, target, options, watchers.observer)?;
    let mut result = outcome(plan, &applied);
    if !options.is_dry_run {
        if let Some(header) = boot_header {
            header.write(&*target.disk)?;
        }
        // The disk is complete: what is wrong with a file beside it does not undo it.
        target.keep();
        tables.keep();
    }
    if options.splits {
        split::write(ctx, plan, &applied, &*target.disk)?;
        let paths = split::paths(ctx, plan, &applied)?.into_iter().enumerate();
        let paths: std::collections::BTreeMap<_, _> =
            paths.filter_map(|(index, path)| Some((index, path?))).collect();
        result.split_paths = Some(paths).filter(|paths| !paths.is_empty());
    }
    if !options.is_dry_run {
        tables.finish(ctx, plan, options, &result.volume_keys)?;
    }
    watchers.sink.done(plan, &result)
}

/// The partitions that are on the disk now, also those that are lost with their table.
fn before(plan: &Plan, target: &Target) -> Vec<Partition> {
    if !plan.disk.is_from_scratch {
        return plan.partitions.iter().filter_map(|one| one.existing.clone()).collect();
    }
    let table = disk::table::read(&*target.disk, &target.path);
    table.map(|loaded| loaded.table.partitions().collect()).unwrap_or_default()
}

/// What is shown of a result.
fn outcome(plan: &Plan, applied: &Applied) -> report::Outcome {
    let mut outcome = report::Outcome::default();
    for (index, (partition, made)) in plan.partitions.iter().zip(&applied.partitions).enumerate() {
        if let Some(root_hash) = &made.root_hash {
            outcome.root_hashes.insert(index, root_hash.clone());
        }
        if made.uuid != partition.uuid {
            outcome.uuids.insert(index, made.uuid);
        }
    }
    outcome
}

fn draft(
    options: &Options,
    target: Option<&Target>,
    definitions: Vec<Definition>,
    seed: Uuid,
) -> Draft {
    let disk = match target {
        Some(target) => DiskFacts::of(target, options),
        None => DiskFacts::none(options),
    };
    Draft::new(Inputs { definitions, disk, seed, options })
}

/// The definitions that count.
fn of_draft(draft: &Draft) -> Vec<Definition> {
    draft.plan.partitions.iter().filter_map(|partition| partition.definition.clone()).collect()
}

/// Definitions of other disks' partitions, then those of files.
fn all_definitions(
    ctx: &Ctx,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Vec<Definition>> {
    observer.phase(Phase::LoadingDefinitions, None, None);
    let mut all = Vec::new();
    for path in &options.copy_from {
        all.extend(definitions::copy_from(&HostDisks, path)?);
    }
    all.extend(definitions::load(ctx, options)?);
    Ok(all)
}

/// Finds out what the plan cannot do without: sources, identities, minimised contents.
fn prepare(
    ctx: &Ctx,
    options: &Options,
    observer: &dyn Observer,
    draft: &mut Draft,
) -> Result<(fstab::Tables, Minimised)> {
    for index in 0..draft.plan.partitions.len() {
        let partition = draft.plan.partitions.get(index);
        // What is there already stays as it is.
        let new = partition.filter(|partition| partition.existing.is_none());
        let Some(definition) = new.and_then(|new| new.definition.as_ref()) else { continue };
        if definition.copy_blocks.is_some() {
            observer.phase(Phase::OpeningCopyBlockSources, Some(definition.path()), None);
        }
        if let Some(source) = sources::resolve(ctx, definition, options)? {
            let measure =
                Measure { blocks: Some(source.blocks), uuid: source.uuid, content_size: None };
            draft.measure(index, measure);
        }
    }
    for partition in &draft.plan.partitions {
        if let Some(path) = partition.definition.as_ref().map(Definition::path) {
            observer.phase(Phase::AcquiringPartitionLabels, Some(path), None);
        }
    }
    draft.identify(&mut || random_uuid(ctx));
    let mut tables = fstab::check(ctx, &draft.plan, options)?;
    if !options.is_dry_run {
        // Before file systems are filled: it may be among what goes in.
        tables.write(ctx)?;
    }
    let minimised = minimise::minimise(ctx, &draft.plan, options, observer)?;
    for (index, blocks) in &minimised.blocks {
        let measure = Measure { blocks: Some(blocks.clone()), ..Measure::default() };
        draft.measure(*index, measure);
    }
    Ok((tables, minimised))
}
/// What all identities follow from.
fn seed(ctx: &Ctx, options: &Options) -> Uuid {
    match options.seed {
        Seed::Given(seed) => seed,
        Seed::Random => random_uuid(ctx),
        Seed::Machine => {
            match specifier::machine_id(ctx).and_then(|id| Uuid::try_parse(&id).ok()) {
                Some(id) => id,
                None => {
                    log::info!("No machine ID set, using randomized partition UUIDs.");
                    random_uuid(ctx)
                }
            }
        }
    }
}

fn random_uuid(ctx: &Ctx) -> Uuid {
    uuid::Builder::from_random_bytes(ctx.random()).into_uuid()
}

/// Seconds since 1970 that a header says it was made at.
fn created(ctx: &Ctx) -> i64 {
    let given = ctx.env("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = ctx.now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    })
}
