//! One run on one target: where its definitions are, how to look, how to work.
//!
//! What the command line, the Varlink service and the tests have in common. Holds no state of the
//! target itself: every verb looks anew.

use std::path::PathBuf;
use std::sync::Arc;

use super::definitions::{self, Definitions, Origin};
use super::discover::Finder;
use super::job::EngineOptions;
use super::model::{Entry, Transfer};
use super::web::Listings;
use crate::conf::os_release::OsRelease;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::http::Client;
use crate::out::glyph::{self, Glyph};

/// Options that hold for all verbs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `--transfer-source=`.
    pub transfer_source: Option<PathBuf>,
    /// `--verify=`.
    pub verify: Option<bool>,
    /// `--instances-max=`.
    pub instances_max: Option<u64>,
    /// `--offline`.
    pub is_offline: bool,
}

/// One run on one target.
pub struct Session {
    /// The outside world.
    pub ctx: Ctx,
    /// Which target.
    pub origin: Origin,
    /// How to look.
    pub settings: Settings,
    /// How to work.
    pub engine: EngineOptions,
    client: Client,
    listings: Arc<Listings>,
}

/// What transfers a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// None.
    Nothing,
    /// One, enabled or not.
    Any,
    /// One that is enabled.
    Enabled,
}

impl Session {
    /// A run on one target.
    pub fn new(ctx: &Ctx, origin: Origin, settings: Settings, engine: EngineOptions) -> Self {
        let client = Client::new(ctx);
        Self { ctx: ctx.clone(), origin, settings, engine, client, listings: Arc::default() }
    }

    /// The same for another target, with the manifests that were fetched already.
    #[must_use]
    pub fn with_origin(&self, origin: Origin) -> Self {
        Self {
            ctx: self.ctx.clone(),
            origin,
            settings: self.settings.clone(),
            engine: self.engine.clone(),
            client: self.client.clone(),
            listings: Arc::clone(&self.listings),
        }
    }

    /// Loads the definitions.
    ///
    /// # Errors
    /// A file is unusable, or there is not what is needed.
    pub fn definitions(&self, need: Need) -> Result<Definitions> {
        let has_transfer_source = self.settings.transfer_source.is_some();
        let all = definitions::load(&self.ctx, &self.origin, has_transfer_source)?;
        if need != Need::Nothing {
            all.require(&self.origin, need == Need::Enabled)?;
        }
        Ok(all)
    }

    /// Looks at the targets of all transfers.
    ///
    /// # Errors
    /// A place cannot be looked at.
    pub fn look_at_targets(&self, transfers: Vec<Transfer>) -> Result<Vec<Entry>> {
        self.finder().targets(transfers)
    }

    /// Looks at the sources of the enabled ones.
    ///
    /// # Errors
    /// A place cannot be looked at, or a manifest not be trusted.
    pub fn look_at_sources(&self, entries: &mut [Entry]) -> Result<()> {
        self.finder().sources(entries)
    }

    fn finder(&self) -> Finder<'_> {
        Finder {
            ctx: &self.ctx,
            disks: &*self.engine.disks,
            client: &self.client,
            listings: &self.listings,
            transfer_source: self.settings.transfer_source.clone(),
            verify: self.settings.verify,
        }
    }

    /// IMAGE_VERSION= of the system this target is, if it is the one that runs.
    pub fn running_version(&self) -> Option<String> {
        if !self.ctx.is_host() || self.origin.component.is_some() {
            return None;
        }
        let version = OsRelease::load(&self.ctx).ok()?.get("IMAGE_VERSION").to_owned();
        Some(version).filter(|version| !version.is_empty())
    }

    pub(super) fn ellipsis(&self) -> &'static str {
        Glyph::Ellipsis.text(glyph::is_utf8(&self.ctx))
    }

    pub(super) fn glyph(&self, glyph: Glyph) -> &'static str {
        glyph.text(glyph::is_utf8(&self.ctx))
    }
}
