//! What was ever installed by whom, so that `cleanup` can tell orphans from other people's files.
//!
//! One symbolic link per directory and pattern; its text is `PATH/./PATTERN`, its name the SHA-256
//! of that. The peer reads and writes the same links. Partitions are not in it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::definitions::{Definitions, Origin};
use super::discover::{directory, paths};
use super::model::{Location, TargetKind};
use super::session::Session;
use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::format::pattern::{Match, Pattern, descends_any, match_any};
use crate::sys;

const STATE: &str = "/var/lib/systemd/sysupdate";
const NAME: &str = "installdb";

/// Names another directory for the databases.
const OVERRIDE: &str = "SLIPWAY_SYSUPDATE_STATE";

/// Between directory and pattern.
const SEPARATOR: &str = "/./";

/// Remembers that files of these patterns in this directory are ours.
pub(super) fn record(session: &Session, patterns: &[Pattern], directory: &Path) -> Result<()> {
    let database = database(&session.ctx, &session.origin)?;
    let path = inside(&session.ctx, directory)?;
    for pattern in patterns {
        let text = format!("{path}{SEPARATOR}{pattern}");
        let link = database.join(hash(&text));
        let failed = || {
            format!("Failed to add '{text}' in '{}' entry to install database", database.display())
        };
        session.engine.files.create_dirs(&database).context(failed)?;
        match symlink(&text, &link) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.context(failed)?,
        }
    }
    Ok(())
}

/// Where the database of a target is.
///
/// DIFFERS: runs with `--definitions=` have one of their own. In the peer they use the default
/// one, and the next plain `cleanup` deletes what they installed (D19).
fn database(ctx: &Ctx, origin: &Origin) -> Result<PathBuf> {
    let name = match (&origin.directory, &origin.component) {
        (Some(directory), _) => {
            let directory = std::path::absolute(directory)
                .context(|| format!("Failed to make path '{}' absolute", directory.display()))?;
            format!("definitions-{}", hash(&directory.to_string_lossy()))
        }
        (None, Some(component)) => format!("{NAME}.{component}"),
        (None, None) => NAME.to_owned(),
    };
    Ok(state(ctx)?.join(name))
}

fn state(ctx: &Ctx) -> Result<PathBuf> {
    match ctx.env_os(OVERRIDE) {
        Some(path) => Ok(PathBuf::from(path)),
        None => sys::fs::chase(ctx.root(), STATE.as_ref())
            .context(|| format!("Failed to open '{STATE}/'")),
    }
}

/// The targets for which there is a database: components, and none for the default target.
///
/// # Errors
/// The directory cannot be read.
pub fn recorded(ctx: &Ctx) -> Result<Vec<Option<String>>> {
    let directory = state(ctx)?;
    let entries = match fs::read_dir(&directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(|| {
            format!("Failed to enumerate installdb directory '{}'", directory.display())
        })?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.strip_prefix(NAME) {
            Some("") => found.push(None),
            Some(rest) => {
                found.extend(rest.strip_prefix('.').map(|component| Some(component.to_owned())));
            }
            None => {}
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A path of this process as a path of the tree.
fn inside(ctx: &Ctx, path: &Path) -> Result<String> {
    let below = path.strip_prefix(ctx.root()).map_err(|_| {
        Error::new(format!(
            "Resolved resource path '{}' is not below root '{}'.",
            path.display(),
            ctx.root().display()
        ))
    })?;
    let below = below
        .to_str()
        .ok_or_else(|| Error::new(format!("Path '{}' is not valid UTF-8", path.display())))?;
    Ok(format!("/{below}"))
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who owns what now: directory and patterns of every enabled transfer.
type Owners<'a> = Vec<(PathBuf, &'a [Pattern])>;

/// Deletes what nobody owns any more and returns how many files and directories that were.
///
/// DIFFERS: without any definition the peer takes everything for orphaned and deletes it (D19).
///
/// # Errors
/// There are no definitions, or something cannot be looked at or deleted.
pub fn cleanup(session: &Session, definitions: &Definitions) -> Result<u64> {
    let ctx = &session.ctx;
    let database = database(ctx, &session.origin)?;
    let target = session.origin.component.as_deref().unwrap_or("<default>");
    let links = links(&database)?;
    if links.is_empty() {
        log::debug!("Not cleaning up component '{target}', install database is empty.");
        return Ok(0);
    }
    if definitions.transfers.is_empty() {
        return Err(Error::new(format!(
            "No transfer definitions of '{target}' are left, refusing to delete all it ever installed."
        ))
        .with_errno(2)
        .hint(format!("To forget what was installed, delete '{}'", database.display())));
    }
    let mut owners: Owners<'_> = Vec::new();
    for transfer in definitions.transfers.iter().filter(|t| t.is_enabled) {
        let target = &transfer.target;
        if target.kind != TargetKind::Partition {
            let path = Path::new(&target.path);
            let place = paths::directory(ctx, target.relative_to, path, None)?;
            owners.push((place, &target.patterns));
        }
    }
    let mut removed = 0;
    for link in links {
        match clean_entry(session, &link, &owners)? {
            Verdict::Keep(count) => removed += count,
            Verdict::Expunge(count) => {
                removed += count;
                fs::remove_file(&link).context(|| {
                    format!("Failed to remove install database entry '{}'", link.display())
                })?;
            }
        }
    }
    Ok(removed)
}

fn links(database: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(database) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries
            .context(|| format!("Failed to open install database '{}'", database.display()))?,
    };
    let mut links: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    links.sort_unstable();
    Ok(links)
}

/// What becomes of an entry, and how many things were deleted.
enum Verdict {
    Keep(u64),
    Expunge(u64),
}

fn clean_entry(session: &Session, link: &Path, owners: &Owners<'_>) -> Result<Verdict> {
    let Some((path, pattern)) = read_entry(link) else { return Ok(Verdict::Expunge(0)) };
    let Some(directory) = straight(&session.ctx, &path) else {
        log::debug!("Install database path '{path}' does not exist, expunging database entry.");
        return Ok(Verdict::Expunge(0));
    };
    let patterns = [pattern];
    let (mut removed, mut kept) = (0, 0);
    for is_directory in [false, true] {
        for instance in directory::list(&directory, &patterns, is_directory)? {
            let Location::Path(path) = &instance.location else { continue };
            let name = path.strip_prefix(&directory).unwrap_or(path).to_string_lossy().into_owned();
            if is_owned(owners, &directory, &name) {
                let path = path.display();
                log::debug!("Path '{path}' is owned by current transfer files, keeping.");
                kept += 1;
                continue;
            }
            session.engine.files.remove(path).context(|| {
                format!("Failed to remove '{name}' which is no longer owned by any transfer files")
            })?;
            prune(&directory, path);
            log::info!(
                "Successfully removed '{name}' which is no longer owned by any transfer files."
            );
            removed += 1;
        }
    }
    Ok(if kept == 0 { Verdict::Expunge(removed) } else { Verdict::Keep(removed) })
}

/// Removes parents that became empty.
fn prune(directory: &Path, path: &Path) {
    for parent in path.ancestors().skip(1) {
        if parent == directory || !parent.starts_with(directory) || fs::remove_dir(parent).is_err()
        {
            return;
        }
    }
}

/// Directory and pattern of an entry that is what its name says.
fn read_entry(link: &Path) -> Option<(String, Pattern)> {
    let shown = link.file_name()?.to_string_lossy().into_owned();
    let text = fs::read_link(link).ok()?.to_str()?.to_owned();
    if hash(&text) != shown {
        log::warn!("Invalid hash of install database entry '{shown}', expunging database entry.");
        return None;
    }
    let parsed = text
        .split_once(SEPARATOR)
        .and_then(|(path, pattern)| Some((path.to_owned(), Pattern::parse(pattern).ok()?)));
    if parsed.is_none() {
        log::warn!("Malformed install database entry '{shown}', expunging database entry.");
    }
    parsed
}

/// A path of the tree without any symbolic link in it; none if it is not there or has one.
fn straight(ctx: &Ctx, path: &str) -> Option<PathBuf> {
    let mut result = ctx.root().to_path_buf();
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => {
                result.push(name);
                if !fs::symlink_metadata(&result).ok()?.is_dir() {
                    return None;
                }
            }
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(result)
}

fn is_owned(owners: &Owners<'_>, directory: &Path, name: &str) -> bool {
    // What is on its way belongs to whom the finished thing will belong.
    let (parents, last) = name.rsplit_once('/').map_or(("", name), |(p, n)| (p, n));
    let (last, _) = directory::split_state(last);
    let name = if parents.is_empty() { last.to_owned() } else { format!("{parents}/{last}") };
    owners.iter().filter(|(place, _)| place == directory).any(|(_, patterns)| {
        matches!(match_any(patterns, &name), Match::Yes { .. }) || descends_any(patterns, &name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::definitions;
    use crate::update::job::EngineOptions;
    use crate::update::session::Settings;

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            for file in ["dst/a_1", "dst/a_2", "dst/b_1", "dst/sub/c_1", "dst/other"] {
                world.write(file, "");
            }
            world.define("a", "a_@v");
            world
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn define(&self, name: &str, pattern: &str) {
            self.write(
                &format!("etc/sysupdate.d/{name}.transfer"),
                &format!(
                    "[Source]\nType=regular-file\nPath=/src\nMatchPattern=x_@v\n\
                     [Target]\nPath=/dst\nMatchPattern={pattern}\n"
                ),
            );
        }

        fn session(&self) -> Session {
            let ctx = Ctx::host([]).with_root(self.0.path());
            Session::new(&ctx, Origin::default(), Settings::default(), EngineOptions::new(false))
        }

        fn record(&self, pattern: &str) {
            let patterns = [Pattern::parse(pattern).unwrap()];
            record(&self.session(), &patterns, &self.0.path().join("dst")).unwrap();
        }

        fn cleanup(&self) -> Result<u64> {
            let session = self.session();
            let definitions = definitions::load(&session.ctx, &session.origin, false).unwrap();
            cleanup(&session, &definitions)
        }

        fn has(&self, path: &str) -> bool {
            self.0.path().join(path).exists()
        }

        fn entries(&self) -> usize {
            links(&self.0.path().join("var/lib/systemd/sysupdate/installdb")).unwrap().len()
        }
    }

    #[test]
    fn entry_is_a_link_named_by_its_hash_as_the_peer_writes_it() {
        let world = World::new();
        world.record("a_@v");
        world.record("a_@v");
        let text = "/dst/./a_@v";
        let path = world.0.path().join("var/lib/systemd/sysupdate/installdb").join(hash(text));
        assert_eq!(fs::read_link(path).unwrap(), Path::new(text));
        assert_eq!(world.entries(), 1);
        // From a run of systemd-sysupdate 262.1 with MatchPattern=a_@v below /tmp/model/dst.
        assert_eq!(
            hash("/tmp/model/dst/./a_@v"),
            "9e080b87409c5e09b60e1590c29a40bb0dc424a909810a3be873dcc2c6be150f"
        );
    }

    #[test]
    fn orphans_go_and_what_is_owned_or_never_recorded_stays() {
        let world = World::new();
        for pattern in ["a_@v", "b_@v", "sub/c_@v"] {
            world.record(pattern);
        }
        assert_eq!(world.cleanup().unwrap(), 2);
        assert!(world.has("dst/a_1") && world.has("dst/a_2") && world.has("dst/other"));
        assert!(!world.has("dst/b_1") && !world.has("dst/sub"));
        assert_eq!(world.entries(), 1);
        assert_eq!(world.cleanup().unwrap(), 0);
    }

    #[test]
    fn without_definitions_nothing_is_deleted() {
        let world = World::new();
        world.record("a_@v");
        fs::remove_file(world.0.path().join("etc/sysupdate.d/a.transfer")).unwrap();
        let err = world.cleanup().unwrap_err();
        assert!(err.to_string().contains("refusing to delete"), "{err}");
        assert!(world.has("dst/a_1"));
    }

    #[test]
    fn forged_entries_are_expunged_and_links_on_the_way_not_followed() {
        let world = World::new();
        let database = world.0.path().join("var/lib/systemd/sysupdate/installdb");
        world.record("a_@v");
        symlink("/etc/./passwd@v", database.join("0".repeat(64))).unwrap();
        let text = "/way/./b_@v";
        symlink(text, database.join(hash(text))).unwrap();
        symlink("dst", world.0.path().join("way")).unwrap();
        assert_eq!(world.cleanup().unwrap(), 0);
        assert_eq!(world.entries(), 1);
        assert!(world.has("dst/b_1"));
    }

    #[test]
    fn other_definitions_have_a_database_of_their_own() {
        let world = World::new();
        let mut session = world.session();
        session.origin.directory = Some("/elsewhere".into());
        record(&session, &[Pattern::parse("b_@v").unwrap()], &world.0.path().join("dst")).unwrap();
        assert_eq!(recorded(&session.ctx).unwrap(), []);
        world.record("a_@v");
        assert_eq!(recorded(&session.ctx).unwrap(), [None]);
        assert_eq!(world.cleanup().unwrap(), 0);
        assert!(world.has("dst/b_1"));
    }
}
