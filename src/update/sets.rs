//! Update sets: one version across all enabled transfers, with its flags and assessment.
//!
//! Pure: takes what discovery found and says which versions there are, which one is newest, and
//! which one to go to. The walk reproduces the flags of systemd-sysupdate 262; what is done with
//! them differs where the peer is at fault (see `DIFFERS`).
//!
//! Linear in the number of instances after sorting: 70 000 versions are a real manifest.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::model::{Instance, State, Transfer};
use crate::format::version;

/// What one enabled transfer contributes: its two lists, newest first, as discovery sorts them.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The definition.
    pub transfer: &'a Transfer,
    /// Instances of the source.
    pub source: &'a [Instance],
    /// Instances of the target.
    pub target: &'a [Instance],
}

/// What is known of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// First of the installed, or first of the available ones.
    pub newest: bool,
    /// Every enabled transfer's source has it.
    pub available: bool,
    /// Some enabled transfer's target has it, in whatever state.
    pub installed: bool,
    /// Older than some `MinVersion=`.
    pub obsolete: bool,
    /// Named by some `ProtectVersion=`.
    pub protected: bool,
    /// Installed, but some target lacks it, and nothing of it is partial or pending.
    pub incomplete: bool,
    /// Some instance was not acquired completely.
    pub partial: bool,
    /// Some instance is acquired and not installed.
    pub pending: bool,
}

/// One version.
#[derive(Clone, Debug)]
pub struct UpdateSet<'a> {
    /// As first discovered: targets before sources, transfers in order.
    pub version: &'a str,
    /// What is known of it.
    pub flags: Flags,
    /// What the targets have, one place per enabled transfer; empty if none has anything.
    pub installed: Vec<Option<&'a Instance>>,
    /// What the sources have; empty unless all have it.
    pub available: Vec<Option<&'a Instance>>,
}

/// All versions.
#[derive(Clone, Debug, Default)]
pub struct UpdateSets<'a> {
    /// Newest first.
    pub sets: Vec<UpdateSet<'a>>,
    /// Index of the newest version of which a target has anything.
    pub newest_installed: Option<usize>,
    /// Index of the version to go to.
    pub candidate: Option<usize>,
}

impl<'a> UpdateSet<'a> {
    /// The instances to show: what is installed, and the source's where nothing is.
    pub fn instances(&self) -> impl Iterator<Item = (usize, &'a Instance, bool)> + '_ {
        (0..self.installed.len().max(self.available.len())).filter_map(|index| {
            let at = |list: &[Option<&'a Instance>]| list.get(index).copied().flatten();
            match at(&self.installed) {
                Some(instance) => Some((index, instance, true)),
                None => Some((index, at(&self.available)?, false)),
            }
        })
    }

    /// True if it is in place in every enabled transfer.
    pub fn is_complete(&self) -> bool {
        let f = self.flags;
        f.installed && !f.incomplete && !f.partial && !f.pending
    }

    /// True if there is something of it in place and nothing of it on its way.
    ///
    /// DIFFERS: the peer counts partial and pending versions as current, so that a failed download
    /// makes `pending` succeed and the reboot timer reboot every night (D5). An incomplete version
    /// does count: it is what runs after a feature was switched on.
    pub fn is_in_place(&self) -> bool {
        self.flags.installed && !self.flags.partial && !self.flags.pending
    }

    /// True if every enabled transfer has it, acquired or in place, and something is left to do.
    ///
    /// DIFFERS: the peer calls a version pending as soon as one transfer is, installs that one and
    /// fails on the next (D7).
    pub fn is_pending(&self) -> bool {
        let have = |i: &Option<&Instance>| i.is_some_and(|i| i.state != State::Partial);
        self.flags.pending && self.installed.iter().all(have)
    }
}

impl<'a> UpdateSets<'a> {
    /// The set of a version, as spelled.
    pub fn find(&self, version: &str) -> Option<(usize, &UpdateSet<'a>)> {
        self.sets.iter().enumerate().find(|(_, set)| set.version == version)
    }

    /// The version to go to.
    pub fn candidate(&self) -> Option<&UpdateSet<'a>> {
        self.sets.get(self.candidate?)
    }

    /// The newest version of which a target has anything.
    pub fn newest_installed(&self) -> Option<&UpdateSet<'a>> {
        self.sets.get(self.newest_installed?)
    }

    /// The version this system is on: the newest one in place.
    pub fn current(&self) -> Option<&UpdateSet<'a>> {
        self.sets.iter().find(|set| set.is_in_place())
    }
}

/// Works out the update sets.
pub fn compute<'a>(members: &[Member<'a>]) -> UpdateSets<'a> {
    let installed = installed_sets(members);
    let available = available_sets(members);
    let mut result = merge(installed, available);
    choose(&mut result);
    result
}

/// One version and the first instance of it in each transfer.
struct Group<'a> {
    version: &'a str,
    instances: Vec<Option<&'a Instance>>,
}

/// Versions of one side, newest first. The spelling is the first transfer's.
fn groups<'a>(lists: &[&'a [Instance]]) -> impl Iterator<Item = Group<'a>> + use<'a> {
    let width = lists.len();
    let mut pool: Vec<(usize, &Instance)> = Vec::new();
    for (index, list) in lists.iter().enumerate() {
        pool.extend(list.iter().map(|instance| (index, instance)));
    }
    // Stable: within a version the order of the transfers, then that of their lists, remains.
    pool.sort_by(|a, b| version::compare(&b.1.version, &a.1.version));

    let mut pool = pool.into_iter().peekable();
    std::iter::from_fn(move || {
        let version = &pool.peek()?.1.version;
        let mut instances = vec![None; width];
        let is_same =
            |next: &(usize, &Instance)| version::compare(version, &next.1.version).is_eq();
        while let Some((index, instance)) = pool.next_if(is_same) {
            if let Some(place) = instances.get_mut(index) {
                place.get_or_insert(instance);
            }
        }
        Some(Group { version, instances })
    })
}

/// Flags that come from the definitions.
fn configured(members: &[Member<'_>], version: &str) -> Flags {
    let is_older = |min: &String| version::compare(min, version).is_gt();
    Flags {
        obsolete: members.iter().any(|m| m.transfer.min_version.as_ref().is_some_and(is_older)),
        protected: is_protected(members, version),
        ..Flags::default()
    }
}

/// True if any transfer protects exactly this spelling.
pub(super) fn is_protected(members: &[Member<'_>], version: &str) -> bool {
    members.iter().any(|m| m.transfer.protect_versions.iter().any(|v| v == version))
}

fn installed_sets<'a>(members: &[Member<'a>]) -> impl Iterator<Item = UpdateSet<'a>> {
    let lists: Vec<_> = members.iter().map(|m| m.target).collect();
    groups(&lists).enumerate().map(|(index, group)| {
        let mut flags = configured(members, group.version);
        flags.installed = true;
        flags.newest = index == 0;
        let has = |state| group.instances.iter().flatten().any(|i| i.state == state);
        flags.partial = has(State::Partial);
        flags.pending = has(State::Pending);
        let is_missing = group.instances.iter().any(Option::is_none);
        flags.incomplete = is_missing && !flags.partial && !flags.pending;
        let (version, installed) = (group.version, group.instances);
        UpdateSet { version, flags, installed, available: Vec::new() }
    })
}

fn available_sets<'a>(members: &[Member<'a>]) -> impl Iterator<Item = UpdateSet<'a>> {
    let lists: Vec<_> = members.iter().map(|m| m.source).collect();
    // Never offer what only some transfers have.
    let is_everywhere = |group: &Group<'_>| group.instances.iter().all(Option::is_some);
    groups(&lists).filter(is_everywhere).enumerate().map(|(index, group)| {
        let mut flags = configured(members, group.version);
        flags.available = true;
        flags.newest = index == 0;
        let (version, available) = (group.version, group.instances);
        UpdateSet { version, flags, installed: Vec::new(), available }
    })
}

/// Joins two lists that are sorted newest first; the installed spelling wins.
fn merge<'a>(
    installed: impl Iterator<Item = UpdateSet<'a>>,
    available: impl Iterator<Item = UpdateSet<'a>>,
) -> UpdateSets<'a> {
    let mut result = UpdateSets::default();
    let mut available = available.peekable();
    for mut set in installed {
        while let Some(newer) =
            available.next_if(|a| version::compare(a.version, set.version) == Ordering::Greater)
        {
            result.sets.push(newer);
        }
        if let Some(same) = available.next_if(|a| version::compare(a.version, set.version).is_eq())
        {
            set.flags.available = true;
            // Either spelling may be the one that is protected.
            set.flags.protected |= same.flags.protected;
            set.flags.obsolete |= same.flags.obsolete;
            set.available = same.available;
        }
        result.sets.push(set);
    }
    result.sets.extend(available);
    result
}

fn choose(result: &mut UpdateSets<'_>) {
    let sets = &result.sets;
    result.newest_installed = sets.iter().position(|set| set.flags.installed);
    let mut candidate = sets.iter().position(|set| {
        let f = set.flags;
        f.newest && f.available && !f.installed && !f.obsolete
    });
    if let Some(installed) = result.newest_installed
        && let Some(set) = sets.get(installed)
    {
        let f = set.flags;
        if candidate.is_none() && f.incomplete && f.available {
            candidate = Some(installed);
        }
        // Sets are sorted: the smaller index is the newer version.
        if !f.incomplete && candidate.is_some_and(|candidate| installed <= candidate) {
            candidate = None;
        }
        if candidate.is_none() && (f.partial || f.pending) {
            candidate = Some(installed);
        }
    }
    result.candidate = candidate;
}

/// How a set is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `×`, red: obsolete.
    Obsolete,
    /// `⤵️`, on its way.
    Moving,
    /// `●`, green: current.
    Current,
    /// `○`: protected.
    Protected,
    /// `↻`: to go to.
    Candidate,
    /// Nothing special.
    Plain,
}

impl Flags {
    /// The word for the combination, and the mark that goes with it. Total: every combination that
    /// can occur has one.
    ///
    /// DIFFERS: the peer aborts on partial and pending versions that are not the newest (D6).
    pub fn assessment(self) -> (Cow<'static, str>, Mark) {
        if !self.installed {
            return match (self.available, self.obsolete, self.newest) {
                (_, true, _) => ("available+obsolete".into(), Mark::Obsolete),
                (_, false, true) => ("candidate".into(), Mark::Candidate),
                (_, false, false) => ("available".into(), Mark::Plain),
            };
        }
        let is_moving = self.partial || self.pending;
        let (mut text, mut mark): (Cow<'_, str>, _) = if self.newest {
            ("current".into(), Mark::Current)
        } else if self.protected {
            ("protected".into(), Mark::Protected)
        } else {
            ("installed".into(), Mark::Plain)
        };
        if self.partial {
            text.to_mut().push_str("+partial");
        } else if self.pending {
            text.to_mut().push_str("+pending");
        }
        if is_moving {
            mark = Mark::Moving;
        }
        if self.obsolete {
            text.to_mut().push_str("+obsolete");
            mark = Mark::Obsolete;
        }
        if self.incomplete {
            text.to_mut().push_str("+incomplete");
        }
        (text, mark)
    }
}
