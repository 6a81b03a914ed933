//! Gives partitions their offsets and numbers.

use super::Placed;
use super::fit::State;
use crate::repart::members::up;

/// The members of the result; none if the table has too few entries.
pub(super) fn place(state: &State<'_>) -> Option<Vec<Option<Placed>>> {
    let grain = state.problem.grain;
    let mut placed: Vec<Option<Placed>> = vec![None; state.members.len()];
    let mut put = |index: usize, number: u32, offset: u64| {
        let (Some(track), Some(slot)) = (state.members.get(index), placed.get_mut(index)) else {
            return;
        };
        *slot = Some(Placed {
            number,
            offset,
            size: track.size.unwrap_or(0),
            padding: track.padding.unwrap_or(0),
            old_padding: track.old_padding,
            sized_by: track.sized_by,
            is_foreign: track.is_foreign,
            supplement: track.supplement,
        });
    };
    let mut used: Vec<(u32, uuid::Uuid)> = Vec::new();
    for (index, track) in state.members.iter().enumerate() {
        if let Some(extent) = track.member.existing {
            put(index, extent.number, extent.offset);
            used.push((extent.number, track.member.type_uuid));
        }
    }
    for (index, area) in state.areas.iter().enumerate() {
        let owner = area.owner.and_then(|owner| state.members.get(owner));
        let owner = owner.and_then(|track| {
            let end = track.member.existing?.offset.saturating_add(track.size?);
            Some(end.saturating_add(track.padding?))
        });
        let mut start = up(owner.unwrap_or(state.problem.usable.start), grain);
        for (position, track) in state.members.iter().enumerate() {
            if track.area != Some(index) || !state.counts(position) {
                continue;
            }
            let number = number(&used, track.member.type_uuid, state.problem.entries)?;
            used.push((number, track.member.type_uuid));
            put(position, number, start);
            let size = track.size.unwrap_or(0).saturating_add(track.padding.unwrap_or(0));
            start = up(start.saturating_add(size), grain);
        }
    }
    Some(placed)
}

/// The first unused number behind those of the same type, or the first unused one.
fn number(used: &[(u32, uuid::Uuid)], type_uuid: uuid::Uuid, entries: u32) -> Option<u32> {
    let same = used.iter().filter(|(_, other)| *other == type_uuid);
    let last = same.map(|(number, _)| *number).max().unwrap_or(0);
    let is_free = |number: &u32| used.iter().all(|(other, _)| other != number);
    (last + 1..=entries).find(is_free).or_else(|| (1..=entries).find(is_free))
}
