//! What an update will do, decided before anything is touched.
//!
//! Pure: discovery in, plan out. The command line, `--dry-run`, the Varlink service and the tests
//! call the same functions, and `update::run` does what the plan says and nothing else.

mod refusal;
mod retain;

pub use refusal::Refusal;
pub use retain::{Policy, Reason, Removal, VacuumPlan, vacuum};

use std::path::PathBuf;

use self::retain::{Room, choose_slot, retain, wipe_disabled};
use super::job::{Goal, PARTIAL_PREFIX, PENDING_PREFIX};
use super::model::{Entry, Instance, Location, Slot, State, Stock, TargetKind, Transfer};
use super::sets::{Member, UpdateSet, UpdateSets};
use crate::format::pattern::{self, Fields};

/// How far an update may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// `acquire`: up to pending.
    Acquire,
    /// `update`: all the way.
    Update,
    /// `update --offline`: install what is pending.
    Install,
}

/// The answer to "which version?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// None, for the reason given; not a failure.
    Nothing(String),
    /// This one.
    Version {
        /// Index of the set.
        set: usize,
        /// Texts for the log.
        notices: Vec<String>,
    },
}

/// What one enabled transfer has to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Nothing: it is in place.
    Keep {
        /// What is there.
        instance: Instance,
    },
    /// Install what is pending.
    Install {
        /// Where it is.
        pending: Location,
        /// Where it goes.
        goal: Goal,
        /// What it shall carry.
        fields: Fields,
    },
    /// Acquire and, unless that is all, install.
    Acquire(Box<Acquisition>),
}

/// One instance to acquire.
#[derive(Clone, Debug)]
pub struct Acquisition {
    /// What to fetch.
    pub source: Instance,
    /// Where it goes.
    pub goal: Goal,
    /// What it shall carry.
    pub fields: Fields,
    /// What is there of it.
    pub partial: Option<Instance>,
}

/// A whole update.
#[derive(Clone, Debug)]
pub struct UpdatePlan {
    /// To which version.
    pub version: String,
    /// What makes room. Empty if nothing has to be acquired.
    pub vacuum: VacuumPlan,
    /// Index of the entry, and its step, for every enabled transfer, in order.
    pub steps: Vec<(usize, Step)>,
}

impl UpdatePlan {
    /// True if something has to be acquired.
    pub fn acquires(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::Acquire(_)))
    }
}

/// The enabled transfers as the sets want them.
pub fn members(entries: &[Entry]) -> Vec<Member<'_>> {
    let enabled = entries.iter().filter(|e| e.transfer.is_enabled);
    enabled
        .map(|e| Member {
            transfer: &e.transfer,
            source: &e.source.instances,
            target: &e.target.instances,
        })
        .collect()
}

/// Says which version to go to: the one asked for, or the candidate.
pub fn select(
    sets: &UpdateSets<'_>,
    version: Option<&str>,
    extent: Extent,
) -> Result<Choice, Refusal> {
    let (index, set) = match version {
        Some(version) => {
            sets.find(version).ok_or_else(|| Refusal::NotFound { version: version.to_owned() })?
        }
        None => match (sets.candidate, sets.candidate()) {
            (Some(index), Some(set)) => (index, set),
            _ => return Ok(Choice::Nothing("No update needed.".to_owned())),
        },
    };
    let version = set.version.to_owned();
    let selected = format!("Selected update '{version}'");
    if set.is_complete() {
        return Ok(Choice::Nothing(format!("{selected} is already installed. Skipping update.")));
    }

    let mut notices = Vec::new();
    if extent == Extent::Install {
        if !set.is_pending() {
            return Err(if set.flags.partial {
                Refusal::OnlyPartial { version }
            } else {
                Refusal::NotPending { version }
            });
        }
    } else if set.is_pending() {
        notices.push(format!("{selected} is already acquired and pending installation."));
    } else {
        check_acquirable(set)?;
        if set.flags.incomplete {
            notices.push(format!("{selected} is already installed, but incomplete. Repairing."));
        }
        // DIFFERS: the peer asks for a vacuum (D4), or installs half a version and fails (D7).
        if set.flags.partial || set.flags.pending {
            notices.push(format!("{selected} is already acquired in part. Continuing."));
        }
        if !set.flags.newest {
            notices.push(format!("{selected} is not the newest, proceeding anyway."));
        }
        if sets.newest_installed.is_some_and(|newest| newest < index) {
            notices.push(format!(
                "{selected} is older than newest installed version, proceeding anyway."
            ));
        }
    }
    notices.push(format!("{selected} for install."));
    Ok(Choice::Version { set: index, notices })
}

fn check_acquirable(set: &UpdateSet<'_>) -> Result<(), Refusal> {
    let version = set.version.to_owned();
    if set.flags.obsolete {
        return Err(Refusal::Obsolete { version });
    }
    if !set.flags.available {
        // What is there in part cannot be completed any more.
        return Err(if set.flags.partial {
            Refusal::Stuck { version }
        } else {
            Refusal::NotAvailable { version }
        });
    }
    Ok(())
}

/// What has to be fetched for a version: index of the entry, and the source. To be measured before
/// [`update`] is asked to plan.
pub fn wanted<'a>(entries: &'a [Entry], set: &UpdateSet<'a>) -> Vec<(usize, &'a Instance)> {
    enabled(entries)
        .enumerate()
        .filter(|(place, _)| {
            let installed = set.installed.get(*place).copied().flatten();
            installed.is_none_or(|i| i.state == State::Partial)
        })
        .filter_map(|(place, (index, _))| {
            Some((index, set.available.get(place).copied().flatten()?))
        })
        .collect()
}

fn enabled(entries: &[Entry]) -> impl Iterator<Item = (usize, &Entry)> {
    entries.iter().enumerate().filter(|(_, e)| e.transfer.is_enabled)
}

/// Plans an update to a set that [`select`] chose. `sizes` has the bytes of each payload where
/// they are known, by index of the entry.
pub fn update(
    entries: &[Entry],
    set: &UpdateSet<'_>,
    sizes: &[Option<u64>],
    policy: &Policy<'_>,
) -> Result<UpdatePlan, Refusal> {
    // All names first: a refusal must come before anything is given up.
    let drafts = enabled(entries)
        .enumerate()
        .map(|(place, (index, entry))| Ok((index, draft(entry, set, place)?)))
        .collect::<Result<Vec<_>, Refusal>>()?;
    check_clashes(entries, &drafts)?;

    let mut vacuum = VacuumPlan::default();
    let mut taken: Vec<Slot> = Vec::new();
    let mut steps = Vec::new();
    let acquires = drafts.iter().any(|(_, draft)| matches!(draft, Draft::Acquire(_)));
    for (index, draft) in drafts {
        let Some(entry) = entries.get(index) else { continue };
        let step = match draft {
            Draft::Done(step) => *step,
            Draft::Acquire(wish) => {
                let Wish { source, name, fields, partial } = *wish;
                let room = Room {
                    space: 1,
                    version: Some(set.version),
                    partial: partial.as_ref(),
                    need_bytes: sizes.get(index).copied().flatten(),
                    taken: &taken,
                };
                let partial = fitting(partial.clone(), room.need_bytes);
                let room = Room { partial: partial.as_ref(), ..room };
                retain(index, entry, policy, room, &mut vacuum)?;
                let goal = goal(index, entry, policy, room, &vacuum, name)?;
                if let Goal::Slot { slot, .. } = &goal {
                    taken.push(slot.clone());
                }
                Step::Acquire(Box::new(Acquisition { source, goal, fields, partial }))
            }
        };
        steps.push((index, step));
    }
    if acquires {
        wipe_disabled(entries, &mut vacuum);
    }
    Ok(UpdatePlan { version: set.version.to_owned(), vacuum, steps })
}

/// A step before slots are given out.
enum Draft {
    Done(Box<Step>),
    Acquire(Box<Wish>),
}

struct Wish {
    source: Instance,
    name: String,
    fields: Fields,
    partial: Option<Instance>,
}

fn draft(entry: &Entry, set: &UpdateSet<'_>, place: usize) -> Result<Draft, Refusal> {
    let transfer = &entry.transfer;
    let installed = set.installed.get(place).copied().flatten();
    match installed {
        Some(instance) if instance.state == State::Installed => {
            return Ok(Draft::Done(Box::new(Step::Keep { instance: instance.clone() })));
        }
        Some(instance) if instance.state == State::Pending => {
            return Ok(Draft::Done(Box::new(install_pending(entry, instance))));
        }
        _ => {}
    }
    let source = set.available.get(place).copied().flatten();
    let source = source.ok_or_else(|| Refusal::NotAvailable { version: set.version.to_owned() })?;
    if transfer.target.is_partition_type_unknown {
        return Err(Refusal::UnknownPartitionType { transfer: transfer.id.clone() });
    }
    let fields = carried(transfer, &source.fields);
    let name = target_name(transfer, set.version, &fields)?;
    // Only the same name can be continued; with another one the leftover is vacuumed.
    let partial = installed.filter(|i| final_name(i, &entry.target) == name).cloned();
    Ok(Draft::Acquire(Box::new(Wish { source: source.clone(), name, fields, partial })))
}

fn install_pending(entry: &Entry, instance: &Instance) -> Step {
    let name = final_name(instance, &entry.target);
    let goal = match &instance.location {
        Location::Slot(slot) => Goal::Slot { slot: (**slot).clone(), label: name },
        _ => Goal::Name { directory: entry.target.place.clone().unwrap_or_default(), name },
    };
    let fields = carried(&entry.transfer, &instance.fields);
    Step::Install { pending: instance.location.clone(), goal, fields }
}

/// The name an instance on its way will have: its path below the directory without the prefix of
/// its state, or its label.
fn final_name(instance: &Instance, stock: &Stock) -> String {
    match &instance.location {
        Location::Slot(slot) => slot.label.clone(),
        Location::Url { name, .. } => name.to_string(),
        Location::Path(path) => {
            let below = stock.place.as_ref().and_then(|place| path.strip_prefix(place).ok());
            let below = below.unwrap_or(path).to_string_lossy().into_owned();
            let (parents, name) = match below.rsplit_once('/') {
                Some((parents, name)) => (Some(parents), name),
                None => (None, below.as_str()),
            };
            let name = name
                .strip_prefix(PARTIAL_PREFIX)
                .or_else(|| name.strip_prefix(PENDING_PREFIX))
                .unwrap_or(name);
            match parents {
                Some(parents) => format!("{parents}/{name}"),
                None => name.to_owned(),
            }
        }
    }
}

/// What a new instance carries: keys of the definition over what the source says.
pub fn carried(transfer: &Transfer, source: &Fields) -> Fields {
    let (key, is_tar) = (&transfer.target.overrides, transfer.source.kind.is_tar());
    Fields {
        partition_uuid: key.partition_uuid.or(source.partition_uuid),
        partition_flags: key.partition_flags.or(source.partition_flags),
        no_auto: key.no_auto.or(source.no_auto),
        grow_fs: key.grow_fs.or(source.grow_fs),
        read_only: key.read_only.or(source.read_only),
        // Time and mode of an archive say nothing of what is in it.
        mtime_usec: source.mtime_usec.filter(|_| !is_tar),
        mode: key.mode.or(source.mode.filter(|_| !is_tar)),
        size_bytes: source.size_bytes,
        tries_done: key.tries_done.or(source.tries_done).or(Some(0)),
        tries_left: key.tries_left.or(source.tries_left).or(Some(3)),
        sha256: source.sha256,
    }
}

fn target_name(transfer: &Transfer, version: &str, fields: &Fields) -> Result<String, Refusal> {
    let refuse = |cause| Refusal::Name { transfer: transfer.id.clone(), cause };
    let Some(pattern) = transfer.target.patterns.first() else {
        return Err(Refusal::NotFound { version: version.to_owned() });
    };
    let name = pattern.format(version, fields).map_err(refuse)?;
    let checked = match transfer.target.kind {
        TargetKind::Partition => pattern::check_label(&name),
        _ => pattern::check_path(&name),
    };
    Ok(checked.map_err(refuse)?.to_owned())
}

/// Two transfers that make the same file would overwrite each other.
fn check_clashes(entries: &[Entry], drafts: &[(usize, Draft)]) -> Result<(), Refusal> {
    let mut paths: Vec<(PathBuf, &str)> = Vec::new();
    for (index, draft) in drafts {
        let Some(entry) = entries.get(*index) else { continue };
        let (Draft::Acquire(wish), Some(place)) = (draft, &entry.target.place) else {
            continue;
        };
        if entry.transfer.target.kind == TargetKind::Partition {
            continue;
        }
        let path = place.join(&wish.name);
        let id = entry.transfer.id.as_str();
        if let Some((_, first)) = paths.iter().find(|(other, _)| *other == path) {
            let transfers = [(*first).to_owned(), id.to_owned()];
            return Err(Refusal::Clash { path: path.display().to_string(), transfers });
        }
        paths.push((path, id));
    }
    Ok(())
}

/// A partial slot is of use only if the payload fits.
fn fitting(partial: Option<Instance>, need_bytes: Option<u64>) -> Option<Instance> {
    partial.filter(|partial| match (&partial.location, need_bytes) {
        (Location::Slot(slot), Some(bytes)) => slot.size_bytes >= bytes,
        _ => true,
    })
}

fn goal(
    index: usize,
    entry: &Entry,
    policy: &Policy<'_>,
    room: Room<'_>,
    vacuum: &VacuumPlan,
    name: String,
) -> Result<Goal, Refusal> {
    if entry.transfer.target.kind != TargetKind::Partition {
        let directory = entry.target.place.clone().unwrap_or_default();
        return Ok(Goal::Name { directory, name });
    }
    let slot = match room.partial.map(|p| &p.location) {
        Some(Location::Slot(slot)) => (**slot).clone(),
        _ => choose_slot(index, entry, policy, room, vacuum)?,
    };
    Ok(Goal::Slot { slot, label: name })
}

#[cfg(test)]
mod tests;
