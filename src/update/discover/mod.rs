//! Finds out which instances there are: in directories, in the slots of a disk, in a manifest.
//!
//! Looks, never changes. Lists are sorted here, once, so that everything after is linear.

pub mod blockdev;
pub mod directory;
pub mod paths;

use std::cmp::Ordering;

use super::model::{Instance, Location};
use crate::format::version;

/// Sorts newest first; within a version what is further along comes first, then by path; and says
/// where two things claim to be the same version.
///
/// DIFFERS: the peer sorts by path alone, so that of an installed version and its leftover
/// download it looks at the leftover.
pub fn sort(instances: &mut [Instance]) {
    instances.sort_by(|a, b| {
        version::compare(&b.version, &a.version)
            .then_with(|| b.state.cmp(&a.state))
            .then_with(|| by_place(&a.location, &b.location))
    });
    for pair in instances.windows(2) {
        if let [a, b] = pair
            && version::compare(&a.version, &b.version).is_eq()
        {
            let spellings = if a.version == b.version {
                format!("'{}'", a.version)
            } else {
                format!("'{}'/'{}'", a.version, b.version)
            };
            log::info!(
                "Multiple instances of version {spellings} found at '{}' and '{}'.",
                a.location.shown(),
                b.location.shown()
            );
        }
    }
}

fn by_place(a: &Location, b: &Location) -> Ordering {
    match (a, b) {
        (Location::Path(a), Location::Path(b)) => a.as_os_str().cmp(b.as_os_str()),
        (Location::Url { url: a, .. }, Location::Url { url: b, .. }) => a.cmp(b),
        (Location::Slot(a), Location::Slot(b)) => a.disk.cmp(&b.disk).then(a.number.cmp(&b.number)),
        _ => Ordering::Equal,
    }
}
