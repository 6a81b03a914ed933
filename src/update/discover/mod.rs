//! Finds out which instances there are: in directories, in the slots of a disk, in a manifest.
//!
//! Looks, never changes. Lists are sorted here, once, so that everything after is linear.

pub mod directory;
pub mod partition;
pub mod paths;

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use super::model::{Entry, Instance, Location, State, Stock, TargetKind, Transfer};
use super::web::Listings;
use crate::ctx::Ctx;
use crate::disk::Disks;
use crate::error::Result;
use crate::format::manifest::Selected;
use crate::format::version;
use crate::http::Client;

/// What discovery needs besides definitions. One of these lives as long as the process, so that a
/// manifest is fetched once.
pub struct Finder<'a> {
    /// The outside world.
    pub ctx: &'a Ctx,
    /// Where disks come from.
    pub disks: &'a dyn Disks,
    /// Where manifests come from.
    pub client: &'a Client,
    /// Manifests that were fetched already.
    pub listings: &'a Listings,
    /// `--transfer-source=`.
    pub transfer_source: Option<PathBuf>,
    /// `--verify=`.
    pub verify: Option<bool>,
}

impl Finder<'_> {
    /// Looks at the targets of all transfers.
    ///
    /// # Errors
    /// A place cannot be resolved or read.
    pub fn targets(&self, transfers: Vec<Transfer>) -> Result<Vec<Entry>> {
        let with_target = |transfer: Transfer| {
            let target = self.target(&transfer)?;
            Ok(Entry { transfer, source: Stock::default(), target })
        };
        transfers.into_iter().map(with_target).collect()
    }

    /// Looks at the sources of the enabled transfers.
    ///
    /// # Errors
    /// A place cannot be resolved or read, or a manifest is not to be had or not to be trusted.
    pub fn sources(&self, entries: &mut [Entry]) -> Result<()> {
        for entry in entries.iter_mut().filter(|entry| entry.transfer.is_enabled) {
            entry.source = self.source(&entry.transfer)?;
        }
        Ok(())
    }

    /// Lists a target.
    ///
    /// # Errors
    /// Its place cannot be resolved or read.
    pub fn target(&self, transfer: &Transfer) -> Result<Stock> {
        let target = &transfer.target;
        let mut stock = if target.kind == TargetKind::Partition {
            let disk = paths::disk(self.ctx, &target.path)?;
            partition::list(self.disks, &disk, target.partition_type, &target.patterns)?
        } else {
            let path = Path::new(&target.path);
            let place = paths::directory(self.ctx, target.relative_to, path, None)?;
            let is_directory = target.kind.is_directory();
            let instances = directory::list(&place, &target.patterns, is_directory)?;
            Stock { instances, free: Vec::new(), place: Some(place) }
        };
        sort(&mut stock.instances);
        Ok(stock)
    }

    /// Lists a source.
    ///
    /// # Errors
    /// As [`Finder::target`], and what makes a manifest unusable.
    pub fn source(&self, transfer: &Transfer) -> Result<Stock> {
        let source = &transfer.source;
        let mut stock = if source.kind.is_web() {
            self.web(transfer)?
        } else {
            let anchor = self.transfer_source.as_deref();
            let path = Path::new(&source.path);
            let place = paths::directory(self.ctx, source.relative_to, path, anchor)?;
            let is_directory = source.kind.is_directory();
            let mut instances = directory::list(&place, &source.patterns, is_directory)?;
            // What was left on the way in a source is nobody's version.
            instances.retain(|instance| instance.state == State::Installed);
            Stock { instances, free: Vec::new(), place: Some(place) }
        };
        sort(&mut stock.instances);
        Ok(stock)
    }

    fn web(&self, transfer: &Transfer) -> Result<Stock> {
        let source = &transfer.source;
        let verify = self.verify.unwrap_or(transfer.verify);
        let listing = self.listings.list(self.ctx, self.client, &source.path, verify)?;
        let instance = |found: Selected<'_>| Instance {
            version: found.version,
            fields: found.fields,
            state: State::Installed,
            location: Location::Url {
                base: listing.base().clone(),
                name: found.entry.name.clone(),
            },
        };
        let selected = listing.select(&source.patterns);
        let instances = selected.map(|found| found.map(instance)).collect::<Result<_>>()?;
        Ok(Stock { instances, free: Vec::new(), place: None })
    }
}

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
        // Of one listing: the base is the same.
        (Location::Url { name: a, .. }, Location::Url { name: b, .. }) => a.cmp(b),
        (Location::Slot(a), Location::Slot(b)) => a.disk.cmp(&b.disk).then(a.number.cmp(&b.number)),
        _ => Ordering::Equal,
    }
}
