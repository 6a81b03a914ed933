//! `*.feature` and `sysupdate.NAME.component`: what can be switched on and off.

use super::setters::{url, urls};
use crate::conf::ini::{self, Key, Line};
use crate::conf::search::Found;
use crate::conf::value;
use crate::ctx::Ctx;
use crate::error::Result;

/// Start of the keys that make a suggestion depend on the machine.
const SUGGEST_ON: &str = "SuggestOn";

/// A feature, or the metadata of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// File name without suffix, or name of the component.
    pub id: String,
    /// `Description=`.
    pub description: Option<String>,
    /// `Documentation=` URLs.
    pub documentation: Vec<String>,
    /// `AppStream=` URL; features only.
    pub app_stream: Option<String>,
    /// `Enabled=`.
    pub is_enabled: bool,
    /// `Suggest=`.
    pub suggest: Option<bool>,
    /// `SuggestOn…=`.
    pub suggest_on: Vec<Suggestion>,
}

/// One `SuggestOn…=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// Name of the condition: `Architecture`, `Host`, …
    pub name: String,
    /// Its value, with `!` and `|` in front where they were given.
    pub value: String,
}

impl Feature {
    /// One about which nothing is known.
    pub fn new(id: impl Into<String>, is_enabled: bool) -> Self {
        Self {
            id: id.into(),
            description: None,
            documentation: Vec::new(),
            app_stream: None,
            is_enabled,
            suggest: None,
            suggest_on: Vec::new(),
        }
    }
}

struct Draft<'a> {
    ctx: &'a Ctx,
    feature: Feature,
}

/// Reads a feature; it is off unless it says otherwise.
pub(super) fn load(ctx: &Ctx, id: &str, files: &[Found]) -> Result<Feature> {
    load_section(ctx, Feature::new(id, false), files, "Feature")
}

/// Reads a component's metadata; it is on unless it says otherwise.
pub(super) fn load_component(ctx: &Ctx, id: &str, files: &[Found]) -> Result<Feature> {
    load_section(ctx, Feature::new(id, true), files, "Component")
}

fn load_section(
    ctx: &Ctx,
    feature: Feature,
    files: &[Found],
    section: &'static str,
) -> Result<Feature> {
    let mut draft = Draft { ctx, feature };
    ini::load(&mut draft, files, &keys(section))?;
    Ok(draft.feature)
}

fn keys<'a>(section: &'static str) -> Vec<Key<Draft<'a>>> {
    let mut keys = vec![
        Key::new(section, "Description", |d: &mut Draft<'_>, l: &Line<'_>| {
            d.feature.description = Some(l.value.to_owned()).filter(|text| !text.is_empty());
            Ok(())
        }),
        Key::new(section, "Documentation", |d, l| {
            urls(d.ctx, &mut d.feature.documentation, l, value::is_http_url)
        }),
        Key::new(section, "Enabled", |d, l| {
            if let Some(is_enabled) = l.parse(value::boolean) {
                d.feature.is_enabled = is_enabled;
            }
            Ok(())
        }),
        Key::new(section, "Suggest", |d, l| {
            if let Some(suggest) = l.parse(value::tristate) {
                d.feature.suggest = suggest;
            }
            Ok(())
        }),
    ];
    if section == "Feature" {
        keys.push(Key::new(section, "AppStream", |d, l| {
            d.feature.app_stream =
                if l.value.is_empty() { None } else { url(d.ctx, l, value::is_http_url) };
            Ok(())
        }));
    }
    for name in [
        "SuggestOnArchitecture",
        "SuggestOnFirmware",
        "SuggestOnVirtualization",
        "SuggestOnHost",
        "SuggestOnFraction",
        "SuggestOnKernelCommandLine",
        "SuggestOnVersion",
        "SuggestOnCredential",
        "SuggestOnSecurity",
        "SuggestOnOSRelease",
        "SuggestOnMachineTag",
    ] {
        keys.push(Key::new(section, name, suggest_on));
    }
    keys
}

fn suggest_on(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    let name = l.key.strip_prefix(SUGGEST_ON).unwrap_or(l.key);
    let list = &mut d.feature.suggest_on;
    if l.value.is_empty() {
        list.retain(|suggestion| suggestion.name != name);
    } else {
        list.push(Suggestion { name: name.to_owned(), value: l.value.to_owned() });
    }
    Ok(())
}
