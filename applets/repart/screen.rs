//! What a run shows: table and picture before, JSON after.

use std::path::Path;
use std::sync::Arc;

use ::slipway::error::Result;
use ::slipway::format::gpt::Partition;
use ::slipway::notify::Notifier;
use ::slipway::out::json::Mode;
use ::slipway::out::progress::{self, Progress};
use ::slipway::out::table::Look;
use ::slipway::repart::apply::{Observer, Phase};
use ::slipway::repart::model::Plan;
use ::slipway::repart::report::{self, Outcome, Sink};

use super::args::Args;
use crate::app::App;

/// The terminal, or what stands for it.
pub(super) struct Screen<'a> {
    app: &'a App,
    json: Mode,
    is_pretty: bool,
    look: Look,
}

impl<'a> Screen<'a> {
    pub(super) fn new(app: &'a App, args: &Args) -> Self {
        let look = Look::of(app.out.facts(), !args.no_legend);
        Self { app, json: args.json, is_pretty: args.pretty != Some(false), look }
    }

    fn has_table(&self) -> bool {
        !self.json.is_on() && self.is_pretty
    }

    /// DIFFERS: on a terminal, and where something is going to change, the disk as it is comes
    /// first; the peer shows only what it is going to be.
    fn before(&self, plan: &Plan, before: &[Partition]) -> Option<String> {
        let is_wanted = self.look.is_limited && plan.is_change() && !before.is_empty();
        is_wanted.then(|| report::picture_before(plan, before, &self.look))
    }
}

impl Sink for Screen<'_> {
    fn planned(&self, plan: &Plan, before: &[Partition], outcome: &Outcome) -> Result<()> {
        if !self.has_table() {
            return Ok(());
        }
        if plan.partitions.is_empty() {
            log::info!("Empty partition table.");
        } else {
            self.app.out.print(&report::table(plan, outcome, &self.look))?;
        }
        let after = report::picture(plan, &self.look);
        match self.before(plan, before) {
            Some(before) => self.app.out.print(&format!("\n Now:\n{before}\n Then:\n{after}\n")),
            None => self.app.out.print(&format!("\n{after}\n")),
        }
    }

    fn done(&self, plan: &Plan, outcome: &Outcome) -> Result<()> {
        if self.json.is_on() {
            return self.app.out.json(self.json, &report::json(plan, outcome));
        }
        // Root hashes that were not known before.
        if self.has_table() && report::says_more(outcome) {
            return self.app.out.print(&report::table(plan, outcome, &self.look));
        }
        Ok(())
    }
}

/// Tells the service manager how far a run is, and the terminal how many bytes.
pub(super) struct Teller {
    notifier: Notifier,
    progress: Arc<dyn Progress>,
}

impl Teller {
    pub(super) fn new(app: &App) -> Self {
        // Only where somebody looks: the log has its own lines.
        let facts = app.out.facts();
        let progress: Arc<dyn Progress> = match facts.is_stderr_tty && !facts.is_dumb {
            true => progress::for_out(&app.ctx, &app.out),
            false => Arc::new(progress::Silent),
        };
        Self { notifier: Notifier::from_ctx(&app.ctx), progress }
    }
}

impl Observer for Teller {
    fn phase(&self, phase: Phase, _: Option<&Path>, percent: Option<u8>) {
        let name = phase.notify_name();
        let status = format!("Phase {name}");
        match percent {
            Some(percent) => self.notifier.send(&[
                ("STATUS", &status),
                ("X_SYSTEMD_PHASE", &name),
                ("X_SYSTEMD_PHASE_PROGRESS", &percent),
            ]),
            None => self.notifier.send(&[("STATUS", &status), ("X_SYSTEMD_PHASE", &name)]),
        }
    }

    fn progress(&self) -> &dyn Progress {
        &*self.progress
    }
}
