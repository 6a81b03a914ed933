//! Which partition goes to which area, and which are given up if they cannot all go.

use std::collections::HashSet;
use std::ops::Range;

use super::area::{self, Area};
use super::{Event, Member, Problem, Sum};
use crate::repart::members::{Limits, up};
use crate::repart::model::SizedBy;

/// LIMIT: so many combinations of supplements are tried.
const TRIES_MAX: usize = 4096;

/// A problem being solved.
pub(super) struct State<'a> {
    pub(super) problem: &'a Problem,
    pub(super) members: Vec<Track<'a>>,
    pub(super) areas: Vec<Area>,
}

/// What is known of a member so far.
#[derive(Clone)]
pub(super) struct Track<'a> {
    pub(super) member: &'a Member,
    pub(super) is_foreign: bool,
    pub(super) is_dropped: bool,
    /// Position of the supplement whose place it takes.
    pub(super) supplement: Option<usize>,
    /// Position of the area it is assigned to, for a new one.
    pub(super) area: Option<usize>,
    /// What is free behind an existing one now.
    pub(super) old_padding: u64,
    pub(super) size: Option<u64>,
    pub(super) padding: Option<u64>,
    pub(super) sized_by: SizedBy,
}

impl<'a> State<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let (paddings, areas) = area::find(&problem.members, &problem.usable, problem.grain);
        let mut members: Vec<Track<'a>> = problem
            .members
            .iter()
            .zip(paddings)
            .map(|(member, old_padding)| Track {
                member,
                is_foreign: member.is_foreign,
                is_dropped: false,
                supplement: None,
                area: None,
                old_padding,
                size: None,
                padding: None,
                sized_by: SizedBy::Current,
            })
            .collect();
        for (index, member) in problem.members.iter().enumerate() {
            // One that is there already leaves its place to nobody.
            let target = member.supplement_for.filter(|_| member.existing.is_none());
            if let Some(target) = target.and_then(|target| members.get_mut(target)) {
                target.supplement = Some(index);
            }
        }
        Self { problem, members, areas }
    }

    /// True if another one takes its place.
    pub(super) fn is_merged(&self, index: usize) -> bool {
        let target = self.members.get(index).and_then(|track| track.member.supplement_for);
        target
            .and_then(|target| self.members.get(target))
            .is_some_and(|target| target.supplement == Some(index))
    }

    /// True if it is a partition of the result.
    pub(super) fn counts(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|track| !track.is_dropped) && !self.is_merged(index)
    }

    pub(super) fn limits(&self, track: &Track<'_>) -> Limits {
        if track.is_foreign {
            return Limits::foreign(track.old_size());
        }
        let supplement = track.supplement.and_then(|index| self.members.get(index));
        match supplement {
            Some(other) => track.member.limits.merged(&other.member.limits),
            None => track.member.limits,
        }
    }

    pub(super) fn size_range(&self, track: &Track<'_>) -> Range<u64> {
        self.limits(track).size_range(self.problem.grain, track.old_size())
    }

    /// Least size with its padding, up to where the next one may begin.
    fn min_with_padding(&self, track: &Track<'_>) -> u64 {
        let padding = self.limits(track).padding_range().start;
        let sum = self.size_range(track).start.saturating_add(padding);
        let offset = track.member.existing.map_or(0, |extent| extent.offset);
        up(offset.saturating_add(sum), self.problem.grain).saturating_sub(offset)
    }

    /// Where the owner of an area must end at least, and where it could end at most, if there is
    /// an owner.
    fn owner_ends(&self, area: &Area) -> Option<(u64, u64)> {
        let track = self.members.get(area.owner?)?;
        let extent = track.member.existing?;
        let end = up(extent.offset.saturating_add(extent.size), self.problem.grain);
        let need =
            up(extent.offset.saturating_add(self.min_with_padding(track)), self.problem.grain);
        Some((need, end.saturating_add(area.free())))
    }

    fn available(&self, area: &Area) -> u64 {
        self.owner_ends(area).map_or(area.free(), |(need, end)| end.saturating_sub(need))
    }

    /// What partitions need at least.
    pub(super) fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for (index, track) in self.members.iter().enumerate() {
            if self.counts(index) {
                let part = if track.is_foreign { &mut sum.foreign } else { &mut sum.wanted };
                *part = part.saturating_add(self.min_with_padding(track));
            }
        }
        sum
    }

    /// Assigns all new partitions to areas. The error is the size of the largest area.
    pub(super) fn fit(&mut self, events: &mut Vec<Event>) -> Result<(), u64> {
        loop {
            let largest = match self.assign() {
                Ok(()) => return Ok(()),
                Err(largest) => largest,
            };
            let mut tried = HashSet::new();
            if self.unmerge(&mut Vec::new(), &mut tried, events) {
                return Ok(());
            }
            if !self.give_up(events) {
                return Err(largest);
            }
        }
    }

    /// First fit, smallest area first.
    fn assign(&mut self) -> Result<(), u64> {
        for area in &mut self.areas {
            area.reserved = 0;
        }
        for track in &mut self.members {
            track.area = None;
        }
        let mut areas = std::mem::take(&mut self.areas);
        areas.sort_by_cached_key(|area| self.available(area));
        self.areas = areas;
        let largest = self.areas.last().map_or(0, |area| self.available(area));
        let is_fine = |area: &Area| self.owner_ends(area).is_none_or(|(need, end)| need <= end);
        if !self.areas.iter().all(is_fine) {
            return Err(largest);
        }
        for index in 0..self.members.len() {
            let Some(track) = self.members.get(index).filter(|_| self.counts(index)) else {
                continue;
            };
            let need = self.min_with_padding(track);
            if track.member.existing.is_some() {
                let room = track.old_size().saturating_add(track.old_padding);
                if !track.is_foreign && room < need {
                    return Err(largest);
                }
                continue;
            }
            let Some(found) = self.areas.iter().position(|area| self.available(area) >= need)
            else {
                return Err(largest);
            };
            if let Some(area) = self.areas.get_mut(found) {
                area.reserved = area.reserved.saturating_add(need);
            }
            if let Some(track) = self.members.get_mut(index) {
                track.area = Some(found);
            }
        }
        Ok(())
    }

    /// Lets supplements come into being, as few as possible: each alone, then together.
    fn unmerge(
        &mut self,
        unmerged: &mut Vec<usize>,
        tried: &mut HashSet<Vec<usize>>,
        events: &mut Vec<Event>,
    ) -> bool {
        for is_deep in [false, true] {
            for target in 0..self.members.len() {
                let Some(supplement) = self.set_supplement(target, None) else { continue };
                unmerged.push(target);
                let mut set = unmerged.clone();
                set.sort_unstable();
                let fits = if is_deep {
                    // The order of the others makes no difference.
                    tried.len() < TRIES_MAX
                        && tried.insert(set)
                        && self.unmerge(unmerged, tried, events)
                } else {
                    self.assign().is_ok()
                };
                unmerged.pop();
                if fits {
                    events.push(Event::Unmerged { supplement, target });
                    return true;
                }
                self.set_supplement(target, Some(supplement));
            }
        }
        false
    }

    fn set_supplement(&mut self, target: usize, supplement: Option<usize>) -> Option<usize> {
        let track = self.members.get_mut(target)?;
        std::mem::replace(&mut track.supplement, supplement)
    }

    /// Gives up all partitions of the highest priority value, if that is above 0.
    fn give_up(&mut self, events: &mut Vec<Event>) -> bool {
        let highest = self
            .members
            .iter()
            .filter(|track| !track.is_dropped)
            .map(Track::priority)
            .max()
            .filter(|priority| *priority > 0);
        let Some(highest) = highest else { return false };
        for index in 0..self.members.len() {
            let Some(track) = self.members.get(index) else { continue };
            if track.is_dropped || track.priority() < highest {
                continue;
            }
            for index in std::iter::once(index).chain(track.member.siblings.iter().copied()) {
                self.give_up_one(index, events);
            }
        }
        true
    }

    fn give_up_one(&mut self, index: usize, events: &mut Vec<Event>) {
        let is_merged = self.is_merged(index);
        let Some(track) = self.members.get_mut(index) else { return };
        if track.is_dropped || track.is_foreign {
            return;
        }
        if track.member.existing.is_some() {
            track.is_foreign = true;
            // A stranger takes nobody's place.
            track.supplement = None;
            events.push(Event::Ignored(index));
            return;
        }
        track.is_dropped = true;
        track.area = None;
        events.push(Event::Dropped(index));
        // What is not wanted any more does not bind others.
        if let Some(target) = track.member.supplement_for.filter(|_| is_merged) {
            self.set_supplement(target, None);
        }
    }
}

impl Track<'_> {
    pub(super) fn old_size(&self) -> u64 {
        self.member.existing.map_or(0, |extent| extent.size)
    }

    fn priority(&self) -> i32 {
        if self.is_foreign { 0 } else { self.member.priority }
    }
}
