//! What to give up: leftovers, what disabled transfers own, and old versions above the limit.

use std::path::PathBuf;

use super::Refusal;
use crate::format::gpt::types;
use crate::format::version;
use crate::update::model::{Entry, Instance, Location, Slot, State, TargetKind};
use crate::update::sets::UpdateSets;

/// What decides over old versions.
#[derive(Clone, Debug, Default)]
pub struct Policy<'a> {
    /// `--instances-max=`.
    pub instances_max: Option<u64>,
    /// IMAGE_VERSION= of the running system, where the target is that system.
    pub running: Option<&'a str>,
    /// Protected by any enabled transfer.
    ///
    /// DIFFERS: the peer protects a version only in the transfer that names it, and so keeps a
    /// kernel whose root file system is gone (D9).
    pub protected: Vec<&'a str>,
    /// The newest version that is complete.
    pub newest_complete: Option<&'a str>,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The transfer is disabled.
    Disabled,
    /// Not completely acquired.
    Partial,
    /// Acquired and not installed.
    Pending,
    /// There are too many, or its slot is needed.
    Old,
}

/// One instance to delete.
#[derive(Clone, Debug)]
pub struct Removal {
    /// Index of the entry.
    pub entry: usize,
    /// What.
    pub instance: Instance,
    /// Why.
    pub reason: Reason,
}

/// Everything to delete.
#[derive(Clone, Debug, Default)]
pub struct VacuumPlan {
    /// In order.
    pub removals: Vec<Removal>,
    /// Directories in which to look for leftovers of no transfer.
    pub clean: Vec<PathBuf>,
    /// Leftovers that are still needed.
    pub keep: Vec<PathBuf>,
    /// Texts for the log.
    pub notices: Vec<String>,
}

impl VacuumPlan {
    /// What is reported: the largest number of instances any enabled transfer loses, and how many
    /// disabled transfers lose something.
    pub fn counts(&self) -> (u64, u64) {
        let mut per_entry: Vec<(usize, u64, bool)> = Vec::new();
        for removal in &self.removals {
            match per_entry.iter_mut().find(|(entry, ..)| *entry == removal.entry) {
                Some((_, count, _)) => *count += 1,
                None => {
                    per_entry.push((removal.entry, 1, removal.reason == Reason::Disabled));
                }
            }
        }
        let old = per_entry.iter().filter(|e| !e.2).map(|e| e.1).max().unwrap_or(0);
        let disabled = per_entry.iter().filter(|e| e.2).count();
        (old, u64::try_from(disabled).unwrap_or(u64::MAX))
    }
}

impl<'a> Policy<'a> {
    /// Collects what must stay.
    pub fn new(
        entries: &'a [Entry],
        sets: &UpdateSets<'a>,
        instances_max: Option<u64>,
        running: Option<&'a str>,
    ) -> Self {
        let enabled = entries.iter().filter(|e| e.transfer.is_enabled);
        Self {
            instances_max,
            running,
            protected: enabled
                .flat_map(|e| e.transfer.protect_versions.iter().map(String::as_str))
                .collect(),
            newest_complete: sets.sets.iter().find(|s| s.is_complete()).map(|s| s.version),
        }
    }

    fn is_protected(&self, version: &str) -> bool {
        self.protected.contains(&version)
    }

    /// True for what no limit removes.
    ///
    /// DIFFERS: where older versions are protected, or `-m` is small, the peer removes the newest
    /// version, or the one that runs (D8).
    fn is_vital(&self, version: &str) -> bool {
        let same =
            |other: Option<&str>| other.is_some_and(|o| version::compare(o, version).is_eq());
        same(self.newest_complete) || same(self.running)
    }
}

/// The room one transfer needs for the version to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room<'a> {
    /// 1 if an instance is to be added.
    pub space: u64,
    /// The version to be added: what is there of it already stays.
    pub version: Option<&'a str>,
    /// An interrupted acquisition that will be continued.
    pub partial: Option<&'a Instance>,
    /// Bytes of the payload, if known.
    pub need_bytes: Option<u64>,
    /// Slots that another transfer of this plan takes.
    pub taken: &'a [Slot],
}

/// Plans the `vacuum` verb.
pub fn vacuum(entries: &[Entry], policy: &Policy<'_>) -> Result<VacuumPlan, Refusal> {
    let mut plan = VacuumPlan::default();
    for (index, entry) in entries.iter().enumerate() {
        if entry.transfer.is_enabled {
            retain(index, entry, policy, Room::default(), &mut plan)?;
        }
    }
    wipe_disabled(entries, &mut plan);
    Ok(plan)
}

/// Disabled transfers lose everything.
pub(super) fn wipe_disabled(entries: &[Entry], plan: &mut VacuumPlan) {
    for (entry, e) in entries.iter().enumerate().filter(|(_, e)| !e.transfer.is_enabled) {
        plan_cleaning(e, plan);
        // Oldest first, as everywhere.
        for instance in e.target.instances.iter().rev() {
            // An enabled transfer may own the very same thing by another pattern.
            let is_owned = entries
                .iter()
                .filter(|e| e.transfer.is_enabled)
                .any(|e| e.target.instances.iter().any(|i| i.location == instance.location));
            if !is_owned {
                let instance = instance.clone();
                plan.removals.push(Removal { entry, instance, reason: Reason::Disabled });
            }
        }
    }
}

fn plan_cleaning(entry: &Entry, plan: &mut VacuumPlan) {
    if entry.transfer.target.kind == TargetKind::Partition
        || !entry.transfer.target.remove_temporary
    {
        return;
    }
    if let Some(place) = &entry.target.place
        && !plan.clean.contains(place)
    {
        plan.clean.push(place.clone());
    }
}

/// Plans what one enabled transfer gives up.
pub(super) fn retain(
    index: usize,
    entry: &Entry,
    policy: &Policy<'_>,
    room: Room<'_>,
    plan: &mut VacuumPlan,
) -> Result<(), Refusal> {
    check_slots(entry)?;
    plan_cleaning(entry, plan);
    if let Some(Location::Path(path)) = room.partial.map(|p| &p.location) {
        plan.keep.push(path.clone());
    }

    // What is on its way goes first, so that its slots are free when we count.
    let mut rest: Vec<&Instance> = Vec::new();
    let mut removed: Vec<(&Instance, Reason)> = Vec::new();
    for instance in entry.target.instances.iter().rev() {
        if room.partial.is_some_and(|partial| partial.location == instance.location) {
            continue;
        }
        match instance.state {
            State::Partial => removed.push((instance, Reason::Partial)),
            State::Pending if room.version == Some(&instance.version) => rest.push(instance),
            State::Pending if policy.is_protected(&instance.version) => {
                plan.notices.push(format!(
                    "Version '{}' is pending but protected, not removing.",
                    instance.version
                ));
                rest.push(instance);
            }
            State::Pending => removed.push((instance, Reason::Pending)),
            State::Installed => rest.push(instance),
        }
    }

    let may_go: Vec<&Instance> =
        rest.iter().copied().filter(|i| may_go(i, entry, policy, room)).collect();
    let limit = policy.instances_max.or(entry.transfer.target.instances_max);
    let over = limit.map_or(0, |limit| {
        let count = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        count.saturating_sub(limit.saturating_sub(room.space))
    });
    let mut over = usize::try_from(over).unwrap_or(usize::MAX);
    let mut old: Vec<&Instance> = Vec::new();
    if room.space > 0 && needs_slot(entry, &removed, room) {
        // The oldest one whose slot is large enough, whatever the limit says.
        let victim = may_go.iter().copied().find(|i| slot_fits(i, room));
        let victim = victim.ok_or_else(|| no_slot(entry, policy, room))?;
        old.push(victim);
        over = over.saturating_sub(1);
    }
    let victim = old.first().copied();
    old.extend(may_go.iter().copied().filter(|i| victim != Some(*i)).take(over));
    // Oldest first again.
    let in_order = may_go.iter().copied().filter(|i| old.contains(i));
    removed.extend(in_order.map(|i| (i, Reason::Old)));

    for (instance, reason) in removed {
        plan.removals.push(Removal { entry: index, instance: instance.clone(), reason });
    }
    Ok(())
}

fn may_go(instance: &Instance, entry: &Entry, policy: &Policy<'_>, room: Room<'_>) -> bool {
    let version = instance.version.as_str();
    // Without a single complete version, the transfer's own newest is the best there is.
    let is_last_resort = policy.newest_complete.is_none()
        && entry
            .target
            .instances
            .iter()
            .find(|i| i.state == State::Installed)
            .is_some_and(|newest| version::compare(&newest.version, version).is_eq());
    !(policy.is_protected(version)
        || policy.is_vital(version)
        || is_last_resort
        || room.version == Some(version))
}

/// One slot alone cannot be updated: the version in it would be lost first.
fn check_slots(entry: &Entry) -> Result<(), Refusal> {
    let target = &entry.transfer.target;
    if target.kind != TargetKind::Partition
        || entry.target.free.len() + entry.target.instances.len() >= 2
    {
        return Ok(());
    }
    let patterns: Vec<&str> = target.patterns.iter().map(|p| p.as_str()).collect();
    Err(Refusal::FewSlots {
        partition_type: target.partition_type,
        type_name: types::name(target.partition_type),
        patterns: patterns.join("|"),
    })
}

fn needs_slot(entry: &Entry, removed: &[(&Instance, Reason)], room: Room<'_>) -> bool {
    entry.transfer.target.kind == TargetKind::Partition
        && room.partial.is_none()
        && !entry.target.free.iter().any(|slot| is_usable(slot, room))
        && !removed.iter().any(|(instance, _)| slot_fits(instance, room))
}

fn slot_fits(instance: &Instance, room: Room<'_>) -> bool {
    matches!(&instance.location, Location::Slot(slot) if is_usable(slot, room))
}

fn is_usable(slot: &Slot, room: Room<'_>) -> bool {
    room.need_bytes.is_none_or(|bytes| slot.size_bytes >= bytes)
        && !room.taken.iter().any(|t| t.disk == slot.disk && t.number == slot.number)
}

/// Chooses among the slots that are free once the removals are done.
///
/// DIFFERS: with the size unknown the peer takes the smallest slot even if it is too small (D10);
/// then we take the largest.
pub(super) fn choose_slot(
    index: usize,
    entry: &Entry,
    policy: &Policy<'_>,
    room: Room<'_>,
    plan: &VacuumPlan,
) -> Result<Slot, Refusal> {
    let freed = plan.removals.iter().filter(|r| r.entry == index).filter_map(|r| {
        match &r.instance.location {
            Location::Slot(slot) => Some(&**slot),
            _ => None,
        }
    });
    let mut slots: Vec<&Slot> =
        entry.target.free.iter().chain(freed).filter(|slot| is_usable(slot, room)).collect();
    slots.sort_unstable_by_key(|slot| slot.number);
    let slot = match room.need_bytes {
        Some(_) => slots.iter().min_by_key(|slot| slot.size_bytes),
        None => slots.iter().min_by_key(|slot| u64::MAX - slot.size_bytes),
    };
    let slot = slot.ok_or_else(|| no_slot(entry, policy, room))?;
    Ok((*slot).clone())
}

fn no_slot(entry: &Entry, policy: &Policy<'_>, room: Room<'_>) -> Refusal {
    let small = |slot: &Slot| format!("slot {} has only {} bytes", slot.shown(), slot.size_bytes);
    let taken = |slot: &Slot| format!("slot {} is used by another transfer", slot.shown());
    let mut slots: Vec<(u32, String)> = entry
        .target
        .free
        .iter()
        .map(|slot| {
            let is_small = room.need_bytes.is_some_and(|bytes| slot.size_bytes < bytes);
            (slot.number, if is_small { small(slot) } else { taken(slot) })
        })
        .collect();
    for instance in &entry.target.instances {
        let Location::Slot(slot) = &instance.location else { continue };
        let version = instance.version.as_str();
        let why = if policy.is_protected(version) {
            format!("slot {} holds protected version '{version}'", slot.shown())
        } else if policy.is_vital(version) {
            format!("slot {} holds version '{version}', which is needed", slot.shown())
        } else {
            small(slot)
        };
        slots.push((slot.number, why));
    }
    slots.sort_unstable();
    Refusal::NoSlot {
        transfer: entry.transfer.id.clone(),
        need_bytes: room.need_bytes,
        slots: slots.into_iter().map(|(_, why)| why).collect(),
    }
}
