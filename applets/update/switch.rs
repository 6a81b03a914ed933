//! Verbs that switch features and components: `enable-feature` and its three siblings.
//!
//! They write a drop-in and nothing else; the next update or vacuum acts on it.

use ::slipway::error::{Error, Result};
use ::slipway::log::report as report_error;
use ::slipway::update::definitions::{
    self, Feature, Origin, component_dropin, dropin_text, feature_dropin, is_component_name,
    is_feature_name, write_dropin,
};
use ::slipway::update::report::is_suggested;
use ::slipway::update::session::Need;

use super::Args;
use crate::app::App;
use crate::cli;

/// `enable-feature`.
pub(super) fn enable_feature(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    switch_features(app, args, operands, true)
}

/// `disable-feature`.
pub(super) fn disable_feature(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    switch_features(app, args, operands, false)
}

/// `enable-component`.
pub(super) fn enable_component(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    switch_components(app, args, operands, true)
}

/// `disable-component`.
pub(super) fn disable_component(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    switch_components(app, args, operands, false)
}

/// One of the four verbs.
struct Switch {
    is_on: bool,
    section: &'static str,
}

impl Switch {
    fn verb(&self) -> String {
        let what = if self.is_on { "enable" } else { "disable" };
        format!("{what}-{}", self.section.to_lowercase())
    }

    fn text(&self) -> String {
        dropin_text(&self.verb(), self.section, self.is_on)
    }

    /// `enabled` or `disabled`.
    fn done(&self) -> &'static str {
        if self.is_on { "enabled" } else { "disabled" }
    }

    /// `Enabling` or `Disabling`.
    fn doing(&self) -> &'static str {
        if self.is_on { "Enabling" } else { "Disabling" }
    }
}

fn switch_features(app: &App, args: &Args, names: &[String], is_on: bool) -> Result<u8> {
    let switch = Switch { is_on, section: "Feature" };
    let verb = switch.verb();
    args.refuse_definitions(&verb)?;
    args.refuse_dry_run(&verb)?;
    if args.component_suggested {
        let text = format!("--component-suggested is not supported for '{verb}'.");
        return Err(Error::new(text).with_errno(95));
    }
    if names.is_empty() != (args.feature_all || args.feature_suggested) {
        return Err(Error::new(
            "Either specify features as positional parameter or via \
             --feature-all/--feature-suggested, not both.",
        )
        .with_errno(22));
    }
    if let Some(name) = names.iter().find(|name| !is_feature_name(name)) {
        let text = format!("Feature name invalid: {}", cli::printable(name));
        return Err(Error::new(text).with_errno(22));
    }

    let mut targets = vec![args.component().map(str::to_owned)];
    if args.component_all {
        targets = vec![None];
        targets.extend(definitions::components(&app.ctx)?.into_iter().map(Some));
    }
    let mut status = 0;
    for component in targets {
        let session = args.session(app).with_origin(Origin::of_component(component.clone()));
        let shown = component.as_deref().unwrap_or("<default>");
        let features = session.definitions(Need::Nothing)?.features;
        for (name, is_found) in selected(app, args, names, &features, shown) {
            if !is_found {
                log::error!("Optional feature not found in component '{shown}': {name}");
                status = 1;
                continue;
            }
            if args.feature_suggested {
                log::info!("{} feature '{name}' of component '{shown}'.", switch.doing());
            }
            let path = feature_dropin(component.as_deref(), &name);
            write_dropin(&app.ctx, &path, &switch.text())?;
            log::info!("Feature '{name}' {}.", switch.done());
        }
    }
    Ok(status)
}

/// The features to switch, and whether there is such a one.
fn selected(
    app: &App,
    args: &Args,
    names: &[String],
    features: &[Feature],
    component: &str,
) -> Vec<(String, bool)> {
    if !names.is_empty() {
        let is_there = |name: &String| features.iter().any(|feature| feature.id == *name);
        return names.iter().map(|name| (name.clone(), is_there(name))).collect();
    }
    let is_wanted = |feature: &&Feature| {
        if !args.feature_suggested {
            return true;
        }
        let id = &feature.id;
        match is_suggested(feature, &app.ctx) {
            Ok(true) => true,
            Ok(false) => {
                log::debug!(
                    "Feature '{id}' of component '{component}' is not suggested, skipping."
                );
                false
            }
            Err(err) => {
                log::warn!(
                    "Failed to determine if feature '{id}' of component '{component}' is \
                     suggested, skipping: {err}"
                );
                false
            }
        }
    };
    features.iter().filter(is_wanted).map(|feature| (feature.id.clone(), true)).collect()
}

fn switch_components(app: &App, args: &Args, names: &[String], is_on: bool) -> Result<u8> {
    let switch = Switch { is_on, section: "Component" };
    let verb = switch.verb();
    args.refuse_definitions(&verb)?;
    args.refuse_feature_switches(&verb)?;
    args.refuse_dry_run(&verb)?;
    if !names.is_empty() && args.selects_components() {
        return Err(Error::new(
            "Either specify component names as positional parameter or via \
             --component=/--component-all/--component-suggested, not both.",
        )
        .with_errno(22));
    }
    if names.is_empty() && !args.selects_components() {
        return Err(Error::new("No component specified.").with_errno(22));
    }
    if let Some(name) = names.iter().find(|name| !is_component_name(name)) {
        let text = format!("Component name invalid: {}", cli::printable(name));
        return Err(Error::new(text).with_errno(22));
    }

    let all = definitions::components(&app.ctx)?;
    let mut wanted: Vec<String> = names.to_vec();
    wanted.extend(args.component().map(str::to_owned));
    if args.component_suggested {
        wanted = suggested(app, &all)?;
    } else if args.component_all {
        wanted.clone_from(&all);
    }
    if wanted.is_empty() {
        log::info!("No components selected.");
    }
    let mut status = 0;
    for name in wanted {
        if !all.contains(&name) {
            log::error!("Component not found: {name}");
            status = 1;
            continue;
        }
        if args.component_suggested {
            log::info!("{} '{name}'.", switch.doing());
        }
        if let Err(err) = write_dropin(&app.ctx, &component_dropin(&name), &switch.text()) {
            report_error(&err);
            status = 1;
            continue;
        }
        log::info!("Component '{name}' {}.", switch.done());
    }
    Ok(status)
}

fn suggested(app: &App, names: &[String]) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    for name in names {
        let component = definitions::load_component(&app.ctx, name)?;
        match is_suggested(&component, &app.ctx) {
            Ok(true) => wanted.push(name.clone()),
            Ok(false) => log::debug!("Component '{name}' is not suggested, skipping."),
            Err(err) => {
                log::warn!("Failed to determine whether '{name}' is suggested, skipping: {err}");
            }
        }
    }
    Ok(wanted)
}
