//! What is told about a target, as values: the same for a table, JSON and Varlink.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, Feature};
use super::model::{Entry, Instance, Location};
use super::sets::{UpdateSet, UpdateSets};
use crate::condition::{self, Condition, Kind};
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// `list` as JSON.
///
/// DIFFERS: `current` is always there and names what is in place. The peer calls a partial version
/// current, and has `current+pending` instead of it where the newest is pending (D5); we add that
/// key.
pub fn list(sets: &UpdateSets<'_>, entries: &[Entry]) -> Value {
    let mut object = Map::new();
    let current = sets.current().map(|set| set.version);
    object.insert("current".to_owned(), current.into());
    if let Some(newest) = sets.newest_installed().filter(|set| set.flags.pending) {
        object.insert("current+pending".to_owned(), newest.version.into());
    }
    let all: Vec<Value> = sets.sets.iter().map(|set| set.version.into()).collect();
    object.insert("all".to_owned(), all.into());
    let urls = enabled_urls(entries, |e| &e.transfer.app_stream, None);
    object.insert("appstreamUrls".to_owned(), urls.into());
    Value::Object(object)
}

/// The URLs of all enabled transfers, each once, `@v` replaced.
fn enabled_urls(
    entries: &[Entry],
    of: fn(&Entry) -> &Vec<String>,
    version: Option<&str>,
) -> Vec<String> {
    let mut urls: Vec<String> = Vec::new();
    for url in entries.iter().filter(|e| e.transfer.is_enabled).flat_map(of) {
        let url = match version {
            Some(version) => url.replace("@v", version),
            None => url.clone(),
        };
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

/// `ChangeLog=` of a version.
pub fn change_logs(set: &UpdateSet<'_>, entries: &[Entry]) -> Vec<String> {
    enabled_urls(entries, |e| &e.transfer.change_log, Some(set.version))
}

/// One line of what a version consists of.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    /// Type of the source or target.
    pub kind: &'static str,
    /// Where it is.
    pub path: String,
    /// The instance.
    pub instance: &'a Instance,
}

/// What a version consists of: what is installed, and the source's where nothing is.
pub fn contents<'a>(set: &UpdateSet<'a>, entries: &[Entry]) -> Vec<Content<'a>> {
    let enabled: Vec<&Entry> = entries.iter().filter(|e| e.transfer.is_enabled).collect();
    set.instances()
        .filter_map(|(place, instance, is_installed)| {
            let transfer = &enabled.get(place)?.transfer;
            let kind = if is_installed {
                transfer.target.kind.as_str()
            } else {
                transfer.source.kind.as_str()
            };
            let path = match &instance.location {
                Location::Slot(slot) => slot.shown(),
                other => other.shown(),
            };
            Some(Content { kind, path, instance })
        })
        .collect()
}

/// A version as JSON, with `contents` made from a table that knows which columns there are.
pub fn version(set: &UpdateSet<'_>, entries: &[Entry], contents: Value) -> Value {
    let f = set.flags;
    json!({
        "version": set.version,
        "newest": f.newest,
        "available": f.available,
        "installed": f.installed,
        "partial": f.partial,
        "pending": f.pending,
        "obsolete": f.obsolete,
        "protected": f.protected,
        "incomplete": f.incomplete,
        "changelogUrls": change_logs(set, entries),
        "contents": contents,
    })
}

/// Is the feature or component suggested for this machine? By `Suggest=`, else if all of its
/// conditions hold and there is at least one.
///
/// # Errors
/// A condition cannot be determined.
pub fn is_suggested(feature: &Feature, ctx: &Ctx) -> Result<bool> {
    if let Some(is_suggested) = feature.suggest {
        return Ok(is_suggested);
    }
    let mut conditions = Vec::new();
    for suggestion in &feature.suggest_on {
        let kind = Kind::of(&suggestion.name).ok_or_else(|| {
            Error::new(format!("Unknown condition '{}'", suggestion.name)).with_errno(22)
        })?;
        conditions.extend(Condition::parse(kind, &suggestion.value));
    }
    if conditions.is_empty() { Ok(false) } else { condition::all(&conditions, ctx) }
}

/// A feature as JSON; members that say nothing are left out.
pub fn feature(feature: &Feature, definitions: &Definitions, ctx: &Ctx) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("id", feature.id.as_str().into());
    if let Some(description) = &feature.description {
        put("description", description.as_str().into());
    }
    if !feature.documentation.is_empty() {
        put("documentation", feature.documentation.clone().into());
    }
    if let Some(url) = &feature.app_stream {
        put("appStream", url.as_str().into());
    }
    put("enabled", feature.is_enabled.into());
    match is_suggested(feature, ctx) {
        Ok(is_suggested) => {
            put("suggested", is_suggested.into());
        }
        Err(err) => log::debug!(
            "Failed to determine whether feature '{}' is suggested, omitting field: {err}",
            feature.id
        ),
    }
    let transfers: Vec<&str> = definitions.transfers_of(&feature.id).collect();
    if !transfers.is_empty() {
        put("transfers", transfers.into());
    }
    Value::Object(object)
}
