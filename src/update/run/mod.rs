//! Carries out plans: makes room, acquires, installs, and tells everybody.
//!
//! Every refusal comes before the first change. After it the order is that of the peer: old
//! versions go, every transfer is acquired, then every transfer is installed, so that an
//! interruption leaves what the next run can finish.

mod lock;
mod progress;
mod subscribers;

pub use lock::Lock;
pub use subscribers::{Resource, notify_subscribers};

use std::path::PathBuf;

use self::progress::Reporter;
use super::definitions::current_symlink_path;
use super::engine;
use super::installdb;
use super::job::{AcquireJob, Goal, InstallJob, LEGACY_PREFIX, PARTIAL_PREFIX, RemoveJob};
use super::model::{Entry, Location, TargetKind, Transfer};
use super::plan::{
    self, Acquisition, Choice, Extent, Policy, Reason, Step, UpdatePlan, VacuumPlan,
};
use super::session::{Need, Session};
use super::sets::{self, UpdateSets};
use crate::error::Result;
use crate::log::NOTICE;
use crate::notify::Notifier;
use crate::out::Progress;
use crate::out::glyph::Glyph;

/// What an update is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The version, or the candidate.
    pub version: Option<&'a str>,
    /// How far to go.
    pub extent: Extent,
}

/// Who is told how an update goes.
pub struct Watchers<'a> {
    /// Bytes and phases.
    pub progress: &'a dyn Progress,
    /// The service manager.
    pub notifier: &'a Notifier,
    /// Once room was made: how many instances, how many disabled transfers.
    pub on_vacuum: &'a dyn Fn(u64, u64) -> Result<()>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The version that is acquired or installed now.
    pub version: String,
    /// True if it was installed although it had been installed in part before.
    pub is_repair: bool,
    /// What this run installed.
    pub resources: Vec<Resource>,
}

/// A plan together with what it speaks of.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Transfers and what was found for them.
    pub entries: Vec<Entry>,
    /// What to do.
    pub plan: UpdatePlan,
    /// The version is there in part.
    pub is_repair: bool,
}

/// Looks at everything and works out the sets, saying so as the peer does.
pub fn survey(session: &Session) -> Result<Vec<Entry>> {
    let definitions = session.definitions(Need::Enabled)?;
    let dots = session.ellipsis();
    log::debug!("Discovering installed instances{dots}");
    let mut entries = session.look_at_targets(definitions.transfers)?;
    if !session.settings.is_offline {
        log::info!("Discovering available instances{dots}");
        session.look_at_sources(&mut entries)?;
    }
    log::info!("Determining installed update sets{dots}");
    if !session.settings.is_offline {
        log::info!("Determining available update sets{dots}");
    }
    Ok(entries)
}

/// Decides what an update would do. None if there is nothing to do.
///
/// # Errors
/// Something cannot be looked at, or the plan is refused. Nothing was changed.
pub fn prepare(session: &Session, request: Request<'_>) -> Result<Option<Prepared>> {
    let entries = survey(session)?;
    let members = plan::members(&entries);
    let sets = sets::compute(&members);
    let index = match plan::select(&sets, request.version, request.extent)? {
        Choice::Nothing(why) => {
            log::info!("{why}");
            return Ok(None);
        }
        Choice::Version { set, notices } => {
            notices.iter().for_each(|notice| log::info!(target: NOTICE, "{notice}"));
            set
        }
    };
    let Some(set) = sets.sets.get(index) else { return Ok(None) };
    let running = session.running_version();
    let policy = Policy::new(&entries, &sets, session.settings.instances_max, running.as_deref());
    let sizes = measure(session, &entries, &sets, index)?;
    let plan = plan::update(&entries, set, &sizes, &policy)?;
    let is_repair = set.flags.incomplete || set.flags.partial || set.flags.pending;
    Ok(Some(Prepared { entries, plan, is_repair }))
}

/// Asks every source for its size. This also proves that it answers before anything is given up.
///
/// DIFFERS: the peer removes the old version first and then finds out whether the new one is to be
/// had and fits (D10, D11).
fn measure(
    session: &Session,
    entries: &[Entry],
    sets: &UpdateSets<'_>,
    index: usize,
) -> Result<Vec<Option<u64>>> {
    let mut sizes = vec![None; entries.len()];
    let Some(set) = sets.sets.get(index) else { return Ok(sizes) };
    for (entry, source) in plan::wanted(entries, set) {
        if let (Some(e), Some(size)) = (entries.get(entry), sizes.get_mut(entry)) {
            *size = engine::measure(&session.ctx, source, e.transfer.source.kind)?;
        }
    }
    Ok(sizes)
}

/// Runs an update. None if there was nothing to do.
///
/// # Errors
/// A refusal, or a step failed; what was done by then stays and can be continued.
pub fn update(
    session: &Session,
    request: Request<'_>,
    watchers: &Watchers<'_>,
) -> Result<Option<Done>> {
    let _lock = Lock::take(&session.ctx)?;
    let Some(prepared) = prepare(session, request)? else { return Ok(None) };
    apply(session, &prepared, request.extent, watchers).map(Some)
}

/// Carries out what [`prepare`] decided.
///
/// # Errors
/// A step failed; what was done by then stays and can be continued.
pub fn apply(
    session: &Session,
    prepared: &Prepared,
    extent: Extent,
    watchers: &Watchers<'_>,
) -> Result<Done> {
    let Prepared { entries, plan, is_repair } = prepared;
    let version = plan.version.as_str();
    let notifier = watchers.notifier;
    if plan.acquires() {
        ready(notifier, version, &format!("Making room for '{version}'."));
        log::info!("Making room for 1 updates{}", session.ellipsis());
        make_room(session, entries, &plan.vacuum)?;
        let (removed, disabled) = plan.vacuum.counts();
        (watchers.on_vacuum)(removed, disabled)?;
        notifier.status(&format!("Updating to '{version}'."));
    }

    let count = plan.steps.iter().filter(|(_, s)| matches!(s, Step::Acquire(_))).count();
    let reporter = Reporter::new(watchers.progress, notifier, version, count);
    let mut pending: Vec<Option<Location>> = Vec::new();
    for (index, step) in &plan.steps {
        let Some(entry) = entries.get(*index) else { continue };
        pending.push(match step {
            Step::Keep { instance } => {
                log::debug!(
                    "No need to acquire '{}', already installed.",
                    instance.location.shown()
                );
                None
            }
            Step::Install { pending, .. } => Some(pending.clone()),
            Step::Acquire(job) => Some(acquire(session, entry, job, &reporter)?),
        });
        reporter.next();
    }
    reporter.finish();

    let mut resources = Vec::new();
    if extent != Extent::Acquire {
        ready(notifier, version, &format!("Installing '{version}'."));
        for ((index, step), pending) in plan.steps.iter().zip(&pending) {
            let Some(entry) = entries.get(*index) else { continue };
            if let Some(path) = install(session, entry, step, pending.as_ref())? {
                resources.push(Resource { transfer: entry.transfer.id.clone(), path });
            }
        }
        log::info!("{} Successfully installed update '{version}'.", session.glyph(Glyph::Sparkles));
        notifier.status(&format!("Installed '{version}'."));
    }
    Ok(Done { version: version.to_owned(), is_repair: *is_repair, resources })
}

fn ready(notifier: &Notifier, version: &str, status: &str) {
    notifier.send(&[("READY", &1), ("X_SYSUPDATE_VERSION", &version), ("STATUS", &status)]);
}

/// Runs the `vacuum` verb and returns what is reported.
///
/// # Errors
/// There are no transfers, or something cannot be removed.
pub fn vacuum(session: &Session) -> Result<(u64, u64)> {
    let _lock = Lock::take(&session.ctx)?;
    let (entries, plan) = plan_vacuum(session)?;
    log::info!("Making room{}", session.ellipsis());
    make_room(session, &entries, &plan)?;
    Ok(plan.counts())
}

/// Decides what the `vacuum` verb would do.
///
/// # Errors
/// There are no transfers, or a partition table has too few slots.
pub fn plan_vacuum(session: &Session) -> Result<(Vec<Entry>, VacuumPlan)> {
    let definitions = session.definitions(Need::Any)?;
    let entries = session.look_at_targets(definitions.transfers)?;
    let members = plan::members(&entries);
    let sets = sets::compute(&members);
    let running = session.running_version();
    let policy = Policy::new(&entries, &sets, session.settings.instances_max, running.as_deref());
    let plan = plan::vacuum(&entries, &policy)?;
    Ok((entries, plan))
}

/// What a removal is called in messages.
pub fn removal_text(entries: &[Entry], removal: &plan::Removal) -> String {
    let kind = entries.get(removal.entry).map_or("", |e| e.transfer.target.kind.as_str());
    let what = match removal.reason {
        Reason::Disabled => "disabled ",
        Reason::Partial => "old partial ",
        Reason::Pending => "old pending ",
        Reason::Old => "old ",
    };
    format!("Removing {what}'{}' ({kind}).", removal.instance.location.shown())
}

/// What cleaning would delete besides the removals of a plan, for a dry run.
pub fn leftovers(plan: &VacuumPlan) -> Vec<PathBuf> {
    let is_leftover = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_planned = |r: &plan::Removal| r.instance.location == Location::Path(path.clone());
        (name.starts_with(LEGACY_PREFIX) || name.starts_with(PARTIAL_PREFIX))
            && !plan.keep.contains(path)
            && !plan.removals.iter().any(is_planned)
    };
    let entries = plan.clean.iter().filter_map(|directory| std::fs::read_dir(directory).ok());
    let mut found: Vec<PathBuf> =
        entries.flatten().flatten().map(|entry| entry.path()).filter(is_leftover).collect();
    found.sort_unstable();
    found
}

fn make_room(session: &Session, entries: &[Entry], plan: &VacuumPlan) -> Result<()> {
    plan.notices.iter().for_each(|notice| log::debug!("{notice}"));
    for removal in &plan.removals {
        let Some(entry) = entries.get(removal.entry) else { continue };
        log::info!("{} {}", session.glyph(Glyph::Recycling), removal_text(entries, removal));
        let is_partition = entry.transfer.target.kind == TargetKind::Partition;
        let job = RemoveJob {
            transfer: &entry.transfer,
            instance: &removal.instance,
            directory: entry.target.place.clone().filter(|_| !is_partition),
            options: &session.engine,
        };
        engine::remove(&session.ctx, &job)?;
    }
    for directory in &plan.clean {
        engine::clean_temporary(directory, &plan.keep, &session.engine)?;
    }
    Ok(())
}

fn acquire(
    session: &Session,
    entry: &Entry,
    job: &Acquisition,
    reporter: &Reporter<'_>,
) -> Result<Location> {
    let source = job.source.location.shown();
    log::info!(
        "{} Acquiring {source} {} {}...",
        session.glyph(Glyph::Download),
        session.glyph(Glyph::ArrowRight),
        shown(&job.goal)
    );
    let job = AcquireJob {
        transfer: &entry.transfer,
        source: &job.source,
        goal: &job.goal,
        fields: &job.fields,
        partial: job.partial.as_ref(),
        options: &session.engine,
    };
    let acquired = engine::acquire(&session.ctx, &job, reporter)?;
    log::info!("Successfully acquired '{source}'.");
    Ok(acquired.location)
}

/// Where something goes, for messages.
pub fn shown(goal: &Goal) -> String {
    match goal {
        Goal::Name { directory, name } => directory.join(name).display().to_string(),
        Goal::Slot { slot, .. } => slot.shown(),
    }
}

/// Installs what is pending and returns where it is now; none for what was in place.
fn install(
    session: &Session,
    entry: &Entry,
    step: &Step,
    pending: Option<&Location>,
) -> Result<Option<PathBuf>> {
    let transfer = &entry.transfer;
    let (goal, fields, source) = match step {
        Step::Keep { instance } => {
            log::info!(
                "Resource '{}' instance is already in the target but is not pending.",
                instance.location.shown()
            );
            // DIFFERS: the peer leaves the link behind where the power went just before it.
            let link =
                current_symlink_path(&session.ctx, &transfer.target, entry.target.place.as_deref());
            if let (Location::Path(path), Some(link)) = (&instance.location, link) {
                engine::relink(&session.ctx, path, &link, &session.engine)?;
            }
            return Ok(None);
        }
        Step::Install { goal, fields, pending } => (goal, fields, pending.shown()),
        Step::Acquire(job) => (&job.goal, &job.fields, job.source.location.shown()),
    };
    let Some(pending) = pending else { return Ok(None) };
    let directory = match goal {
        Goal::Name { directory, .. } => Some(directory.as_path()),
        Goal::Slot { .. } => None,
    };
    let job = InstallJob {
        transfer,
        pending,
        goal,
        fields,
        current_symlink: current_symlink_path(&session.ctx, &transfer.target, directory),
        options: &session.engine,
    };
    let path = engine::install(&session.ctx, &job)?;
    record(session, transfer, directory);
    log::info!(
        "Successfully installed '{source}' ({}) as '{}' ({}).",
        source_kind(step, transfer),
        path.display(),
        transfer.target.kind.as_str()
    );
    Ok(Some(path))
}

fn source_kind(step: &Step, transfer: &Transfer) -> &'static str {
    match step {
        Step::Acquire(_) => transfer.source.kind.as_str(),
        _ => transfer.target.kind.as_str(),
    }
}

/// Remembers who owns the file, for `cleanup`. An update that cannot be cleaned up is an update.
fn record(session: &Session, transfer: &Transfer, directory: Option<&std::path::Path>) {
    let Some(directory) = directory else { return };
    let recorded = installdb::record(session, &transfer.target.patterns, directory);
    if let Err(err) = recorded {
        log::warn!("{err}, ignoring.");
    }
}
