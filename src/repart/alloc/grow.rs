//! Shares the free space of each area among its partitions.
//!
//! Those whose bounds keep them from taking their share are served first, so that the rest is
//! shared among the others alone.

use super::fit::{State, Track};
use crate::repart::members::{down, up};
use crate::repart::model::SizedBy;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A partition nobody may change keeps its size.
    Foreign,
    /// Who needs more than the share gets it.
    Overcharge,
    /// Who can take less than the share gets that.
    Undercharge,
    /// The rest.
    Distribute,
}

/// What is left of an area, and of the weights that share it.
struct Pool {
    span: u64,
    weights: u64,
    grain: u64,
}

impl Pool {
    fn share(&self, weight: u32) -> u64 {
        share(self.span, weight.into(), self.weights)
    }

    /// COMPAT(262): the peer aborts where a charge is larger than the span; nothing is left then.
    fn charge(&mut self, amount: u64, weight: u32) {
        self.span = self.span.saturating_sub(up(amount, self.grain));
        self.weights = self.weights.saturating_sub(weight.into());
    }
}

/// The part of `span` for `weight` of `sum`.
fn share(span: u64, mut weight: u64, mut sum: u64) -> u64 {
    if weight == 0 {
        return 0;
    }
    if weight >= sum {
        return span;
    }
    loop {
        if let Some(product) = span.checked_mul(weight) {
            return product.checked_div(sum).unwrap_or(0);
        }
        weight /= 2;
        sum = sum.div_ceil(2);
    }
}

/// Decides all sizes and paddings.
pub(super) fn grow(state: &mut State<'_>) {
    for area in 0..state.areas.len() {
        grow_area(state, area);
    }
    for track in &mut state.members {
        if track.member.existing.is_some() && track.size.is_none() {
            track.size = Some(track.old_size());
            track.padding = Some(track.old_padding);
        }
    }
}

fn grow_area(state: &mut State<'_>, index: usize) {
    let Some(area) = state.areas.get(index) else { return };
    let (owner, free) = (area.owner, area.size);
    let grain = state.problem.grain;
    let is_new = |(_, track): &(usize, &Track<'_>)| track.area == Some(index);
    let new = state.members.iter().enumerate().filter(is_new).map(|(index, _)| index);
    let participants: Vec<usize> = owner.into_iter().chain(new).collect();

    let mut pool = Pool { span: free, weights: 0, grain };
    for track in participants.iter().filter_map(|index| state.members.get(*index)) {
        let limits = state.limits(track);
        pool.weights += u64::from(limits.size.weight) + u64::from(limits.padding.weight);
    }
    let owned = owner.and_then(|owner| state.members.get(owner)?.member.existing);
    if let Some(extent) = owned {
        let end = up(extent.offset.saturating_add(extent.size), grain);
        pool.span = pool.span.saturating_add(end.saturating_sub(extent.offset));
    }
    for phase in [Phase::Foreign, Phase::Overcharge, Phase::Undercharge, Phase::Distribute] {
        while run(state, &participants, phase, &mut pool) {}
    }
    for participant in &participants {
        top_up(state, *participant, &mut pool);
    }
    // Nobody takes it, so it stays free behind the last one.
    let last = participants.last().and_then(|last| state.members.get_mut(*last));
    if let Some(track) = last {
        track.padding = Some(track.padding.unwrap_or(0).saturating_add(down(pool.span, grain)));
    }
}

/// One walk through the participants; true if the shares of those before may have changed.
fn run(state: &mut State<'_>, participants: &[usize], phase: Phase, pool: &mut Pool) -> bool {
    let mut again = false;
    for index in participants {
        let Some(track) = state.members.get(*index) else { continue };
        let limits = state.limits(track);
        let size_range = state.size_range(track);
        let (size, padding, is_foreign) = (track.size, track.padding, track.is_foreign);
        let old_size = track.old_size();
        let mut sized = None;
        if size.is_none() {
            sized = if is_foreign && phase == Phase::Foreign {
                Some((old_size, SizedBy::Current))
            } else {
                decide(phase, pool, limits.size.weight, &size_range)
            };
            if let Some((size, by)) = sized {
                pool.charge(size, limits.size.weight);
                again |= is_early(phase) && by != SizedBy::Current;
            }
        }
        let mut padded = None;
        if padding.is_none() {
            padded = decide(phase, pool, limits.padding.weight, &limits.padding_range());
            if let Some((padding, _)) = padded {
                pool.charge(padding, limits.padding.weight);
                again |= is_early(phase);
            }
        }
        let Some(track) = state.members.get_mut(*index) else { continue };
        if let Some((size, by)) = sized {
            track.size = Some(size);
            track.sized_by = by;
        }
        if let Some((padding, _)) = padded {
            track.padding = Some(padding);
        }
    }
    again
}

fn is_early(phase: Phase) -> bool {
    matches!(phase, Phase::Overcharge | Phase::Undercharge)
}

/// What a phase gives to somebody with this weight and these bounds, if it decides.
fn decide(
    phase: Phase,
    pool: &Pool,
    weight: u32,
    range: &std::ops::Range<u64>,
) -> Option<(u64, SizedBy)> {
    let share = pool.share(weight);
    match phase {
        Phase::Foreign => None,
        Phase::Overcharge => (range.start > share).then_some((range.start, SizedBy::Min)),
        Phase::Undercharge => (range.end < share).then_some((range.end, SizedBy::Max)),
        Phase::Distribute => {
            let size = down(share, pool.grain).min(range.end).max(range.start);
            Some((size, SizedBy::Weight))
        }
    }
}

/// Gives what is left to one that can still take it.
fn top_up(state: &mut State<'_>, index: usize, pool: &mut Pool) {
    let Some(track) = state.members.get(index) else { return };
    if pool.span == 0 || track.is_foreign {
        return;
    }
    let max = state.size_range(track).end;
    let size = track.size.unwrap_or(0);
    let larger = down(size.saturating_add(pool.span), pool.grain).max(size).min(max.max(size));
    if larger == size {
        return;
    }
    pool.charge(larger - size, 0);
    if let Some(track) = state.members.get_mut(index) {
        track.size = Some(larger);
        track.sized_by = SizedBy::Leftover;
    }
}
