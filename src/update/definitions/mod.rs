//! Loads definitions: transfers, features and components, from the search path or one directory.
//!
//! One broken transfer makes every verb of its target fail: updating the rest would leave a mix of
//! versions. Documents: sysupdate.d(5), sysupdate.features(5), sysupdate.components(5).

mod feature;
mod setters;
mod transfer;

pub use feature::{Feature, Suggestion};
pub use transfer::current_symlink_path;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::model::Transfer;
use crate::conf::search::{Found, SearchPath};
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::fs::Files;
use crate::sys::fs::{chase, parent};

const ENOENT: i32 = 2;

/// Where definitions are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `--definitions=`: this directory only.
    pub directory: Option<PathBuf>,
    /// `--component=`.
    pub component: Option<String>,
}

/// Everything that is defined for one target.
#[derive(Clone, Debug)]
pub struct Definitions {
    /// Sorted by file name, which is the order of work; disabled ones included.
    pub transfers: Vec<Transfer>,
    /// Sorted by id.
    pub features: Vec<Feature>,
    /// Of the component, if the target is one.
    pub component: Option<Feature>,
}

impl Origin {
    /// The same place for another component.
    #[must_use]
    pub fn of_component(component: Option<String>) -> Self {
        Self { directory: None, component }
    }

    /// Name of the directories in the search path.
    fn directory_name(&self) -> String {
        match &self.component {
            Some(component) => format!("sysupdate.{component}.d"),
            None => "sysupdate.d".to_owned(),
        }
    }

    fn search_path(&self, ctx: &Ctx) -> Result<SearchPath> {
        match &self.directory {
            // Messages name files by paths that are good from anywhere.
            Some(directory) => SearchPath::explicit(&absolute(directory)?),
            None => Ok(SearchPath::standard(ctx, &self.directory_name())),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .context(|| format!("Failed to make path '{}' absolute", path.display()))
}

/// Loads everything of a target.
///
/// # Errors
/// A file cannot be read, or a transfer is not usable.
pub fn load(ctx: &Ctx, origin: &Origin, has_transfer_source: bool) -> Result<Definitions> {
    let search = origin.search_path(ctx)?;
    let features = load_features(ctx, &search)?;
    let mut files = search.list(".transfer")?;
    if files.is_empty() {
        files = search.list(".conf")?;
        if !files.is_empty() {
            log::warn!("As of v257, transfer definitions should have the '.transfer' extension.");
        }
    }
    let mut transfers = Vec::new();
    for file in files {
        let all = search.with_dropins(file.clone())?;
        let mut transfer = transfer::load(ctx, &file, &all, has_transfer_source)?;
        transfer.is_enabled = is_enabled(&transfer, &features);
        transfers.push(transfer);
    }
    let component = match &origin.component {
        Some(name) => Some(load_component(ctx, name)?),
        None => None,
    };
    Ok(Definitions { transfers, features, component })
}

impl Definitions {
    /// Refuses a target without transfers, or, if only enabled ones count, without such.
    ///
    /// # Errors
    /// There are none.
    pub fn require(&self, origin: &Origin, is_enabled_only: bool) -> Result<()> {
        if self.transfers.iter().any(|t| t.is_enabled || !is_enabled_only) {
            return Ok(());
        }
        let hint = if self.transfers.is_empty() {
            match &origin.directory {
                Some(directory) => {
                    format!("'{}' has no usable *.transfer files.", directory.display())
                }
                None => format!(
                    "They are the *.transfer files in {} below /etc, /run, /usr/local/lib, /usr/lib.",
                    origin.directory_name()
                ),
            }
        } else {
            "All of them belong to features that are not enabled.".to_owned()
        };
        Err(Error::new(match &origin.component {
            Some(name) => format!("No transfer definitions for component '{name}' found."),
            None => "No transfer definitions found.".to_owned(),
        })
        .with_errno(ENOENT)
        .hint(hint))
    }

    /// A feature by its id.
    pub fn feature(&self, id: &str) -> Option<&Feature> {
        self.features.iter().find(|feature| feature.id == id)
    }

    /// The ids of the transfers that ask for a feature, sorted as they are worked on.
    pub fn transfers_of<'a>(&'a self, feature: &'a str) -> impl Iterator<Item = &'a str> {
        let asks = move |list: &[String]| list.iter().any(|f| f == feature);
        self.transfers
            .iter()
            .filter(move |t| asks(&t.features) || asks(&t.requisite_features))
            .map(|t| t.id.as_str())
    }
}

fn is_enabled(transfer: &Transfer, features: &[Feature]) -> bool {
    let is_on = |id: &String| features.iter().any(|f| f.id == *id && f.is_enabled);
    (transfer.features.is_empty() || transfer.features.iter().any(is_on))
        && transfer.requisite_features.iter().all(is_on)
}

fn load_features(ctx: &Ctx, search: &SearchPath) -> Result<Vec<Feature>> {
    let mut features = Vec::new();
    for file in search.list(".feature")? {
        let id = file.name.strip_suffix(".feature").unwrap_or(&file.name).to_owned();
        let all = search.with_dropins(file)?;
        features.push(feature::load(ctx, &id, &all)?);
    }
    Ok(features)
}

/// Loads the metadata of a component; without a file for it the defaults hold.
///
/// # Errors
/// A file cannot be read or is malformed.
pub fn load_component(ctx: &Ctx, name: &str) -> Result<Feature> {
    let search = SearchPath::standard(ctx, "");
    let file = format!("sysupdate.{name}.component");
    let mut files: Vec<Found> = search.find(&file)?.into_iter().collect();
    files.extend(search.dropins(&file)?);
    feature::load_component(ctx, name, &files)
}

/// The names of all components: those with a directory in the search path. Sorted.
pub fn components(ctx: &Ctx) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for directory in SearchPath::standard(ctx, "").dirs() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let component = name
                .to_str()
                .and_then(|n| n.strip_prefix("sysupdate."))
                .and_then(|n| n.strip_suffix(".d"))
                .filter(|n| is_component_name(n));
            if let Some(component) = component
                && entry.path().is_dir()
            {
                names.insert(component.to_owned());
            }
        }
    }
    Ok(names.into_iter().collect())
}

/// True for what can be the name of a component: part of a file name, and not such that its
/// directory looks like the drop-ins of another one.
pub fn is_component_name(name: &str) -> bool {
    let is_name = !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 200 // LIMIT: leaves room for what is around it in a file name.
        && !name.contains('/')
        && !name.chars().any(char::is_control);
    is_name && !name.ends_with(".component")
}

/// True for what can be the id of a feature.
pub fn is_feature_name(name: &str) -> bool {
    is_component_name(name) || (name.ends_with(".component") && !name.contains('/'))
}

/// Where to put the drop-in that switches a feature on or off, as a path of the tree.
pub fn feature_dropin(component: Option<&str>, feature: &str) -> PathBuf {
    let origin = Origin::of_component(component.map(str::to_owned));
    Path::new("/etc")
        .join(origin.directory_name())
        .join(format!("{feature}.feature.d"))
        .join(ENABLED_DROPIN)
}

/// Where to put the drop-in that switches a component on or off, as a path of the tree.
pub fn component_dropin(component: &str) -> PathBuf {
    Path::new("/etc").join(format!("sysupdate.{component}.component.d")).join(ENABLED_DROPIN)
}

const ENABLED_DROPIN: &str = "50-systemd-sysupdate-enabled.conf";

/// Writes the drop-in that switches something on or off.
///
/// # Errors
/// It cannot be written.
pub fn write_dropin(ctx: &Ctx, path: &Path, text: &str) -> Result<()> {
    let failed = || format!("Failed to write drop-in '{}'", path.display());
    let files = Files::default();
    let path = chase(ctx.root(), path).context(failed)?;
    files.create_dirs(parent(&path)).context(failed)?;
    files.write_atomic(ctx, &path, text.as_bytes(), 0o644).context(failed)
}

/// What is in such a drop-in; `section` is `Feature` or `Component`.
pub fn dropin_text(verb: &str, section: &str, is_enabled: bool) -> String {
    let value = if is_enabled { "yes" } else { "no" };
    format!("# Generated via 'systemd-sysupdate {verb}'\n\n[{section}]\nEnabled={value}\n")
}

#[cfg(test)]
mod tests;
