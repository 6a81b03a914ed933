//! Verbs that change a target, or the machine: `update`, `acquire`, `vacuum`, `cleanup`, `pending`,
//! `reboot`.

use std::cmp::Ordering;

use ::slipway::error::{Error, Result};
use ::slipway::format::version;
use ::slipway::log::report as report_error;
use ::slipway::notify::Notifier;
use ::slipway::out::glyph::Glyph;
use ::slipway::out::progress::for_out;
use ::slipway::update::definitions::{self, Origin};
use ::slipway::update::model::Entry;
use ::slipway::update::plan::{Extent, Step, VacuumPlan};
use ::slipway::update::run::{self, Done, Prepared, Request, Watchers};
use ::slipway::update::session::{Need, Session};
use ::slipway::update::{installdb, reboot as machine};
use serde_json::{Value, json};

use super::Args;
use crate::app::App;

const ENOENT: i32 = 2;
const EHOSTDOWN: i32 = 112;

/// `update [VERSION]`.
pub(super) fn update(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let extent = if args.offline { Extent::Install } else { Extent::Update };
    go(app, args, operands, "update", extent)
}

/// `acquire [VERSION]`.
pub(super) fn acquire(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    go(app, args, operands, "acquire", Extent::Acquire)
}

fn go(app: &mut App, args: &Args, operands: &[String], verb: &str, extent: Extent) -> Result<u8> {
    args.refuse_suggested(verb)?;
    if args.instances_max.is_some_and(|max| max < 2) {
        let text = "The --instances-max= argument must be >= 2 while updating";
        return Err(Error::new(text).with_errno(22));
    }
    let request = Request { version: operands.first().map(String::as_str), extent };
    let session = args.session(app);
    ::slipway::sys::signal::stop_by_flag(&session.engine.is_cancelled);
    if !args.component_all {
        update_target(app, args, &session, request)?;
        return Ok(0);
    }
    for_all(app, &session, |session| update_target(app, args, session, request))
}

/// Does something for the operating system and all components; goes on after failures.
fn for_all(
    app: &App,
    session: &Session,
    mut job: impl FnMut(&Session) -> Result<()>,
) -> Result<u8> {
    let mut targets = vec![None];
    targets.extend(definitions::components(&app.ctx)?.into_iter().map(Some));
    let mut status = 0;
    for component in targets {
        let is_default = component.is_none();
        let Err(err) = job(&session.with_origin(Origin::of_component(component))) else { continue };
        // Nothing is wrong with a machine that has components only, or some that are off.
        let is_fine = match err.errno() {
            Some(ENOENT) => is_default && err.to_string() == "No transfer definitions found.",
            Some(EHOSTDOWN) => true,
            _ => false,
        };
        if is_fine {
            log::info!("{err}");
        } else {
            report_error(&err);
            status = 1;
        }
    }
    Ok(status)
}

fn update_target(app: &App, args: &Args, session: &Session, request: Request<'_>) -> Result<()> {
    if let Some(name) = &session.origin.component
        && !definitions::load_component(&app.ctx, name)?.is_enabled
    {
        return Err(Error::new("Component is disabled.").with_errno(EHOSTDOWN));
    }
    if args.reboot {
        // Whether to reboot cannot be decided without it, so look before anything is changed.
        machine::booted_version(&app.ctx)?;
    }
    if args.dry_run {
        if let Some(prepared) = run::prepare(session, request)? {
            show_plan(app, args, &prepared, request.extent)?;
        }
        return Ok(());
    }
    let progress = for_out(&app.ctx, &app.out);
    let notifier = Notifier::from_ctx(&app.ctx);
    let watchers = Watchers {
        progress: &*progress,
        notifier: &notifier,
        on_vacuum: &|removed, disabled| tell_vacuumed(app, args, removed, disabled),
    };
    let done = run::update(session, request, &watchers)?;
    if request.extent == Extent::Acquire {
        return Ok(());
    }
    notify(app, session, done.as_ref());
    if args.cleanup == Some(true) {
        clean(session)?;
    }
    match done {
        Some(done) if args.reboot => reboot_into(app, &done),
        _ => Ok(()),
    }
}

/// Tells the subscribers of a live system.
fn notify(app: &App, session: &Session, done: Option<&Done>) {
    if !app.ctx.is_host() {
        return;
    }
    let component = session.origin.component.as_deref();
    let forced = app.ctx.env("SYSTEMD_SYSUPDATE_FORCE_NOTIFY");
    let is_forced = match forced.map(::slipway::conf::value::boolean) {
        Some(Ok(is_forced)) => is_forced,
        Some(Err(err)) => {
            log::debug!("Failed to parse $SYSTEMD_SYSUPDATE_FORCE_NOTIFY, ignoring: {err}");
            false
        }
        None => false,
    };
    match done.filter(|done| !done.resources.is_empty()) {
        Some(done) => {
            run::notify_subscribers(&app.ctx, component, Some(&done.version), &done.resources);
        }
        None if is_forced => run::notify_subscribers(&app.ctx, component, None, &[]),
        None => {}
    }
}

fn reboot_into(app: &App, done: &Done) -> Result<()> {
    let booted = machine::booted_version(&app.ctx)?;
    let order = version::compare(&done.version, &booted);
    if order == Ordering::Greater {
        log::info!("Newly installed version is newer than booted version, rebooting.");
    } else if order == Ordering::Equal && done.is_repair {
        log::info!("Currently booted version was incomplete and has been repaired, rebooting.");
    } else {
        log::info!(
            "Booted version is newer or identical to newly installed version, not rebooting."
        );
        return Ok(());
    }
    machine::reboot(&app.ctx)
}

fn tell_vacuumed(app: &App, args: &Args, removed: u64, disabled: u64) -> Result<()> {
    if args.json.is_on() {
        let value = json!({ "removed": removed, "disabledTransfers": disabled });
        return app.out.json(args.json, &value);
    }
    match (removed, disabled) {
        (0, 0) => log::info!("Found nothing to remove."),
        (removed, 0) => log::info!("Removed {removed} instances."),
        (0, disabled) => log::info!("Removed {disabled} disabled transfers."),
        _ => log::info!("Removed {removed} instances, and {disabled} disabled transfers."),
    }
    Ok(())
}

/// `vacuum`.
pub(super) fn vacuum(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    args.refuse_many("vacuum")?;
    if args.instances_max.is_some_and(|max| max < 1) {
        let text = "The --instances-max= argument must be >= 1 while vacuuming";
        return Err(Error::new(text).with_errno(22));
    }
    let session = args.session(app);
    if args.dry_run {
        let (entries, plan) = run::plan_vacuum(&session)?;
        if args.json.is_on() {
            app.out.json(args.json, &json!({ "remove": removals(&entries, &plan) }))?;
        } else {
            print_removals(app, &entries, &plan)?;
        }
        return Ok(0);
    }
    let (removed, disabled) = run::vacuum(&session)?;
    tell_vacuumed(app, args, removed, disabled)?;
    Ok(0)
}

/// `cleanup`.
pub(super) fn cleanup(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    args.refuse_suggested("cleanup")?;
    args.refuse_dry_run("cleanup")?;
    if args.cleanup == Some(false) {
        let text = "Invocation of 'cleanup' with --cleanup=no is contradictory, refusing.";
        return Err(Error::new(text).with_errno(22));
    }
    let session = args.session(app);
    if !args.component_all {
        clean(&session)?;
        return Ok(0);
    }
    let mut status = 0;
    for component in installdb::recorded(&app.ctx)? {
        if let Err(err) = clean(&session.with_origin(Origin::of_component(component))) {
            report_error(&err);
            status = 1;
        }
    }
    Ok(status)
}

fn clean(session: &Session) -> Result<()> {
    let _lock = run::Lock::take(&session.ctx)?;
    installdb::cleanup(session, &session.definitions(Need::Nothing)?)?;
    Ok(())
}

/// Refuses what makes no sense for the booted system.
fn refuse_elsewhere(args: &Args, verb: &str) -> Result<()> {
    let text = if args.root.is_some() || args.image.is_some() {
        format!("The --root=/--image= switches may not be combined with the '{verb}' operation.")
    } else if args.selects_components() {
        format!(
            "The --component=, --component-all and --component-suggested switches may not be \
             combined with the '{verb}' operation, which only applies to the booted OS version."
        )
    } else {
        return args.refuse_feature_switches(verb);
    };
    Err(Error::new(text).with_errno(22))
}

fn compare(args: &Args, app: &App) -> Result<machine::Comparison> {
    let session = args.session(app);
    let definitions = session.definitions(Need::Enabled)?;
    log::info!("Determining installed update sets{}", app.out.glyph(Glyph::Ellipsis));
    let entries = session.look_at_targets(definitions.transfers)?;
    machine::compare(&app.ctx, &entries)
}

/// `pending`: 0 if a reboot leads to something newer.
pub(super) fn pending(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    refuse_elsewhere(args, "pending")?;
    let comparison = compare(args, app)?;
    log::info!("{}", comparison.text(" Reboot recommended."));
    Ok(u8::from(comparison.order != Ordering::Greater))
}

/// `reboot`: reboots if that leads to something newer.
pub(super) fn reboot(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    refuse_elsewhere(args, "reboot")?;
    let comparison = compare(args, app)?;
    log::info!("{}", comparison.text(""));
    if comparison.order == Ordering::Greater && !args.dry_run {
        machine::reboot(&app.ctx)?;
    }
    Ok(0)
}

fn removals(entries: &[Entry], plan: &VacuumPlan) -> Vec<Value> {
    plan.removals
        .iter()
        .map(|removal| {
            json!({
                "transfer": entries.get(removal.entry).map(|e| e.transfer.id.as_str()),
                "version": removal.instance.version,
                "path": removal.instance.location.shown(),
            })
        })
        .collect()
}

fn print_removals(app: &App, entries: &[Entry], plan: &VacuumPlan) -> Result<()> {
    for removal in &plan.removals {
        app.out.line(&run::removal_text(entries, removal))?;
    }
    for path in run::leftovers(plan) {
        app.out.line(&format!("Removing leftover '{}'.", path.display()))?;
    }
    Ok(())
}

/// What an update would do.
fn show_plan(app: &App, args: &Args, prepared: &Prepared, extent: Extent) -> Result<()> {
    let Prepared { entries, plan, .. } = prepared;
    let mut acquire = Vec::new();
    let mut install = Vec::new();
    for (index, step) in &plan.steps {
        let id = entries.get(*index).map_or("", |e| e.transfer.id.as_str());
        match step {
            Step::Keep { .. } => {}
            Step::Install { pending, goal, .. } => {
                install.push((id, pending.shown(), run::shown(goal)));
            }
            Step::Acquire(job) => {
                let (source, goal) = (job.source.location.shown(), run::shown(&job.goal));
                acquire.push((id, source.clone(), goal.clone()));
                install.push((id, source, goal));
            }
        }
    }
    if extent == Extent::Acquire {
        install.clear();
    }
    if args.json.is_on() {
        let rows = |list: &[(&str, String, String)]| -> Vec<Value> {
            list.iter()
                .map(|(id, from, to)| json!({ "transfer": id, "source": from, "target": to }))
                .collect()
        };
        return app.out.json(
            args.json,
            &json!({
                "version": plan.version,
                "remove": removals(entries, &plan.vacuum),
                "acquire": rows(&acquire),
                "install": rows(&install),
            }),
        );
    }
    app.out.line(&format!("Would update to '{}':", plan.version))?;
    print_removals(app, entries, &plan.vacuum)?;
    let arrow = app.out.glyph(Glyph::ArrowRight);
    for (what, list) in [("Acquiring", acquire), ("Installing", install)] {
        for (_, from, to) in list {
            app.out.line(&format!("{what} '{from}' {arrow} '{to}'."))?;
        }
    }
    Ok(())
}
