//! Instances in a directory: names that match, with the prefix of their state taken off.

use std::fs::{self, DirEntry, FileType, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};
use crate::format::pattern::{Match, Pattern, descends_any, match_any};
use crate::update::job::{PARTIAL_PREFIX, PENDING_PREFIX};
use crate::update::model::{Instance, Location, State};

/// LIMIT: directories below one another; patterns cannot name more.
const DEPTH_MAX: usize = 128;

/// Permission bits that are inherited.
pub const MODE_MASK: u32 = 0o775;

/// Lists what matches below `directory`: files, or directories where `is_directory`. A directory
/// that does not exist is empty.
pub fn list(directory: &Path, patterns: &[Pattern], is_directory: bool) -> Result<Vec<Instance>> {
    let mut found = Vec::new();
    let mut todo = vec![(directory.to_path_buf(), String::new(), 0)];
    while let Some((path, below, depth)) = todo.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(err) if is_gone(&err) => {
                let path = path.display();
                log::debug!("Directory {path} does not exist, not loading any resources: {err}");
                continue;
            }
            Err(err) => {
                return Err(err)
                    .context(|| format!("Failed to open directory '{}'", path.display()));
            }
        };
        for entry in entries {
            let entry =
                entry.context(|| format!("Failed to read directory '{}'", path.display()))?;
            let Some(seen) = look(&entry, &below)? else { continue };
            let is_dir = seen.kind.is_dir();
            // What is on its way is looked at as a whole only.
            let is_open = is_dir && seen.state == State::Installed && depth < DEPTH_MAX;
            if is_open && descends_any(patterns, &seen.relative) {
                todo.push((seen.path.clone(), seen.relative.clone(), depth + 1));
            }
            let is_right_kind = if is_directory { is_dir } else { seen.kind.is_file() };
            if is_right_kind
                && let Match::Yes { version, fields } = match_any(patterns, &seen.relative)
            {
                let mut instance = Instance {
                    version,
                    fields,
                    state: seen.state,
                    location: Location::Path(seen.path),
                };
                inherit(&mut instance, &seen.metadata);
                found.push(instance);
            }
        }
    }
    Ok(found)
}

struct Seen {
    path: PathBuf,
    /// Relative to the resource, without the prefix of its state.
    relative: String,
    state: State,
    kind: FileType,
    metadata: Metadata,
}

/// Looks at one entry; none if it is of no interest or just went away.
fn look(entry: &DirEntry, below: &str) -> Result<Option<Seen>> {
    // A pattern is text, so a name that is none cannot match.
    let Ok(name) = entry.file_name().into_string() else { return Ok(None) };
    let path = entry.path();
    let failed = || format!("Failed to stat '{}'", path.display());
    let kind = match entry.file_type() {
        Err(err) if is_gone(&err) => return Ok(None),
        kind => kind.context(failed)?,
    };
    if !kind.is_dir() && !kind.is_file() {
        return Ok(None);
    }
    let metadata = match entry.metadata() {
        Err(err) if is_gone(&err) => return Ok(None),
        metadata => metadata.context(failed)?,
    };
    let (name, state) = split_state(&name);
    let relative = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
    Ok(Some(Seen { relative, state, kind, metadata, path }))
}

/// Takes the prefix of a state off a name.
pub fn split_state(name: &str) -> (&str, State) {
    if let Some(name) = name.strip_prefix(PARTIAL_PREFIX) {
        (name, State::Partial)
    } else if let Some(name) = name.strip_prefix(PENDING_PREFIX) {
        (name, State::Pending)
    } else {
        (name, State::Installed)
    }
}

/// What the name does not say, the inode does.
fn inherit(instance: &mut Instance, metadata: &Metadata) {
    let fields = &mut instance.fields;
    fields.mode.get_or_insert(metadata.mode() & MODE_MASK);
    if fields.mtime_usec.is_none() {
        let seconds = u64::try_from(metadata.mtime()).ok();
        let usec = u64::try_from(metadata.mtime_nsec() / 1000).unwrap_or(0);
        fields.mtime_usec = seconds.and_then(|s| s.checked_mul(1_000_000)?.checked_add(usec));
    }
}

fn is_gone(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|t| Pattern::parse(t).unwrap()).collect()
    }

    fn versions(directory: &Path, texts: &[&str], is_directory: bool) -> Vec<(String, State)> {
        let mut found: Vec<_> = list(directory, &patterns(texts), is_directory)
            .unwrap()
            .into_iter()
            .map(|i| (i.version, i.state))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn missing_directory_is_empty() {
        assert_eq!(versions(Path::new("/does/not/exist"), &["a_@v"], false), []);
    }

    #[test]
    fn states_links_and_kinds_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a_1", ".sysupdate.partial.a_2", ".sysupdate.pending.a_3", "other"] {
            fs::write(at(name), "x").unwrap();
        }
        symlink("a_1", at("a_4")).unwrap();
        fs::create_dir(at("a_5")).unwrap();
        assert_eq!(
            versions(dir.path(), &["a_@v"], false),
            [
                ("1".to_owned(), State::Installed),
                ("2".to_owned(), State::Partial),
                ("3".to_owned(), State::Pending)
            ]
        );
        assert_eq!(versions(dir.path(), &["a_@v"], true), [("5".to_owned(), State::Installed)]);
    }

    #[test]
    fn patterns_with_directories_and_any_depth_descend() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d_1.extra.d/x")).unwrap();
        fs::write(dir.path().join("d_1.extra.d/x/file"), "").unwrap();
        fs::write(dir.path().join("d_1.extra.d/x/.sysupdate.partial.file"), "").unwrap();
        fs::write(dir.path().join("d_1.extra.d/foo_7"), "").unwrap();
        let deep = [("1".to_owned(), State::Partial), ("1".to_owned(), State::Installed)];
        assert_eq!(versions(dir.path(), &["d_@v.extra.d/x/file"], false), deep);
        assert_eq!(
            versions(dir.path(), &["**/foo_@v"], false),
            [("7".to_owned(), State::Installed)]
        );
    }

    #[test]
    fn directory_that_matches_is_also_descended_into() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("foo_1")).unwrap();
        fs::write(dir.path().join("foo_1/image"), "").unwrap();
        fs::write(dir.path().join("foo_2"), "").unwrap();
        for texts in [["foo_@v", "foo_@v/image"], ["foo_@v/image", "foo_@v"]] {
            let found = versions(dir.path(), &texts, false);
            assert_eq!(found.len(), 2, "{found:?}");
        }
    }

    #[test]
    fn inode_fills_in_what_the_name_leaves_open() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a_1_700", "a_2"] {
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o4757)).unwrap();
        }
        let found = list(dir.path(), &patterns(&["a_@v_@m", "a_@v"]), false).unwrap();
        let mode = |v: &str| found.iter().find(|i| i.version == v).and_then(|i| i.fields.mode);
        assert_eq!((mode("1"), mode("2")), (Some(0o700), Some(0o755)));
        assert!(found.iter().all(|i| i.fields.mtime_usec.is_some()));
    }
}
