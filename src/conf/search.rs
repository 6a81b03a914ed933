//! Where configuration files are: `/etc`, `/run`, `/usr/local/lib`, `/usr/lib` as one namespace.
//!
//! A file name in an earlier directory hides the same name in later ones. A symbolic link to
//! `/dev/null` or an empty file hides it without putting anything in its place. Links are followed
//! inside of the root only; what is no regular file does not count, not even for hiding.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ctx::Ctx;
use crate::error::{Context as _, IoText, Result};
use crate::sys::fs::chase;

/// The directories that hold configuration, most important first.
pub const ROOTS: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its file name.
    pub name: String,
    /// Where it was found; for messages.
    pub path: PathBuf,
    /// What to open: all symbolic links are resolved.
    pub target: PathBuf,
}

/// Directories searched for files, most important first.
#[derive(Clone, Debug)]
pub struct SearchPath {
    root: PathBuf,
    dirs: Vec<Dir>,
}

#[derive(Clone, Debug)]
struct Dir {
    /// For messages.
    shown: PathBuf,
    /// Absolute, below the root.
    inside: PathBuf,
}

impl SearchPath {
    /// `/etc/NAME`, `/run/NAME`, … below the root of `ctx`. An empty name means `/etc` and so on
    /// themselves.
    pub fn standard(ctx: &Ctx, name: &str) -> Self {
        let dirs = ROOTS.iter().map(|root| {
            let inside =
                if name.is_empty() { PathBuf::from(root) } else { Path::new(root).join(name) };
            Dir { shown: ctx.at(&inside), inside }
        });
        Self { root: ctx.root().to_path_buf(), dirs: dirs.collect() }
    }

    /// This directory alone, a path of this process.
    ///
    /// # Errors
    /// The path is empty, or it is relative and the working directory is gone.
    pub fn explicit(dir: &Path) -> Result<Self> {
        let inside = std::path::absolute(dir)
            .context(|| format!("Failed to make path '{}' absolute", dir.display()))?;
        let dirs = vec![Dir { shown: dir.to_path_buf(), inside }];
        Ok(Self { root: PathBuf::from("/"), dirs })
    }

    /// These directories, paths of this process, most important first. Files are shown by absolute
    /// paths.
    ///
    /// # Errors
    /// A path is empty, or it is relative and the working directory is gone.
    pub fn explicit_all(dirs: &[PathBuf]) -> Result<Self> {
        let absolute = |dir: &PathBuf| {
            let inside = std::path::absolute(dir)
                .context(|| format!("Failed to make path '{}' absolute", dir.display()))?;
            Ok(Dir { shown: inside.clone(), inside })
        };
        let dirs = dirs.iter().map(absolute).collect::<Result<_>>()?;
        Ok(Self { root: PathBuf::from("/"), dirs })
    }

    /// The directories as paths of this process, links resolved; they need not exist.
    pub fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.dirs.iter().filter_map(|dir| chase(&self.root, &dir.inside).ok())
    }

    /// All files whose name ends in `suffix` (with its dot), sorted by name.
    ///
    /// # Errors
    /// A directory exists but cannot be read.
    pub fn list(&self, suffix: &str) -> Result<Vec<Found>> {
        self.collect(&self.dirs, |name| name.len() > suffix.len() && name.ends_with(suffix))
    }

    /// The file of this name, unless it is masked.
    ///
    /// # Errors
    /// A directory exists but cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Found>> {
        for dir in &self.dirs {
            match self.classify(dir, name)? {
                Kind::File(found) => return Ok(Some(found)),
                Kind::Mask => return Ok(None),
                Kind::Nothing => {}
            }
        }
        Ok(None)
    }

    /// True where a file of this name is hidden by a mask, whatever is behind that.
    ///
    /// # Errors
    /// A directory exists but cannot be read.
    pub fn is_masked(&self, name: &str) -> Result<bool> {
        for dir in &self.dirs {
            match self.classify(dir, name)? {
                Kind::File(_) => return Ok(false),
                Kind::Mask => return Ok(true),
                Kind::Nothing => {}
            }
        }
        Ok(false)
    }

    /// The drop-ins of a file: `NAME.d/*.conf` of all directories, merged and sorted by name.
    ///
    /// # Errors
    /// A directory exists but cannot be read.
    pub fn dropins(&self, name: &str) -> Result<Vec<Found>> {
        let folder = format!("{name}.d");
        let dirs: Vec<Dir> = self
            .dirs
            .iter()
            .map(|dir| Dir { shown: dir.shown.join(&folder), inside: dir.inside.join(&folder) })
            .collect();
        self.collect(&dirs, |name| name.len() > 5 && name.ends_with(".conf"))
    }

    /// A file with its drop-ins behind it, in the order in which they are to be read.
    ///
    /// # Errors
    /// A directory exists but cannot be read.
    pub fn with_dropins(&self, file: Found) -> Result<Vec<Found>> {
        let dropins = self.dropins(&file.name)?;
        Ok(std::iter::once(file).chain(dropins).collect())
    }

    fn collect(&self, dirs: &[Dir], wants: impl Fn(&str) -> bool) -> Result<Vec<Found>> {
        let mut all: BTreeMap<String, Option<Found>> = BTreeMap::new();
        for dir in dirs {
            let Ok(path) = chase(&self.root, &dir.inside) else { continue };
            let names = match names_in(&path) {
                Ok(names) => names,
                Err(err)
                    if matches!(
                        err.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(err) => {
                    return Err(err)
                        .context(|| format!("Failed to read directory '{}'", dir.shown.display()));
                }
            };
            for name in names.into_iter().filter(|name| wants(name)) {
                if all.contains_key(&name) {
                    log::debug!(
                        "File '{}' is masked by previous entry.",
                        dir.shown.join(&name).display()
                    );
                    continue;
                }
                match self.classify(dir, &name)? {
                    Kind::File(found) => {
                        all.insert(name, Some(found));
                    }
                    Kind::Mask => {
                        all.insert(name, None);
                    }
                    Kind::Nothing => {}
                }
            }
        }
        Ok(all.into_values().flatten().collect())
    }

    fn classify(&self, dir: &Dir, name: &str) -> Result<Kind> {
        let path = dir.shown.join(name);
        let target = match chase(&self.root, &dir.inside.join(name)) {
            Ok(target) => target,
            Err(err) => {
                let text = format!("Failed to chase '{}': {}", path.display(), IoText(&err));
                // A link to nowhere is a way to say that there is nothing; a loop is a mistake.
                if err.kind() == io::ErrorKind::NotFound {
                    log::debug!("{text}");
                } else {
                    log::warn!("{text}");
                }
                return Ok(Kind::Nothing);
            }
        };
        // Without /dev in the root the link is a mask all the same.
        if target == self.root.join("dev/null") {
            log::debug!("File '{}' is a mask (symlink to /dev/null).", path.display());
            return Ok(Kind::Mask);
        }
        match fs::symlink_metadata(&target) {
            Ok(meta) if meta.is_file() && meta.len() == 0 => {
                log::debug!("File '{}' is a mask (an empty file).", path.display());
                Ok(Kind::Mask)
            }
            Ok(meta) if meta.is_file() => {
                Ok(Kind::File(Found { name: name.to_owned(), path, target }))
            }
            Ok(_) => {
                log::debug!("File '{}' is not a regular file, skipping.", path.display());
                Ok(Kind::Nothing)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Kind::Nothing),
            Err(err) => Err(err).context(|| format!("Failed to stat '{}'", path.display())),
        }
    }
}

enum Kind {
    File(Found),
    Mask,
    Nothing,
}

/// The names in a directory that are UTF-8, hidden and backup files left out.
fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(name) = OsStr::to_str(&name)
            && !name.starts_with('.')
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn sandbox() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        (dir, ctx)
    }

    fn shown(root: &Path, found: &[Found]) -> Vec<String> {
        found
            .iter()
            .map(|f| f.path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn names_hide_each_other_by_directory_and_are_sorted_across() {
        let (dir, ctx) = sandbox();
        let root = dir.path();
        put(root, "usr/lib/s.d/10-a.transfer", "x");
        put(root, "usr/lib/s.d/20-b.transfer", "x");
        put(root, "usr/local/lib/s.d/10-a.transfer", "x");
        put(root, "run/s.d/15-c.transfer", "x");
        put(root, "etc/s.d/20-b.transfer", "x");
        put(root, "etc/s.d/.hidden.transfer", "x");
        put(root, "etc/s.d/x.transfer~", "x");
        put(root, "etc/s.d/y.conf", "x");
        let found = SearchPath::standard(&ctx, "s.d").list(".transfer").unwrap();
        assert_eq!(
            shown(root, &found),
            ["usr/local/lib/s.d/10-a.transfer", "run/s.d/15-c.transfer", "etc/s.d/20-b.transfer"]
        );
    }

    #[test]
    fn null_links_and_empty_files_mask_but_directories_and_dangling_links_do_not() {
        let (dir, ctx) = sandbox();
        let root = dir.path();
        for name in ["a", "b", "c", "d"] {
            put(root, &format!("usr/lib/s.d/{name}.transfer"), "x");
        }
        fs::create_dir_all(root.join("etc/s.d/c.transfer")).unwrap();
        symlink("/dev/null", root.join("etc/s.d/a.transfer")).unwrap();
        symlink("/nowhere", root.join("etc/s.d/d.transfer")).unwrap();
        put(root, "etc/s.d/b.transfer", "");
        let path = SearchPath::standard(&ctx, "s.d");
        let found = path.list(".transfer").unwrap();
        assert_eq!(shown(root, &found), ["usr/lib/s.d/c.transfer", "usr/lib/s.d/d.transfer"]);
        assert_eq!(path.find("a.transfer").unwrap(), None);
        assert!(path.is_masked("b.transfer").unwrap() && !path.is_masked("x.transfer").unwrap());
        assert!(path.find("c.transfer").unwrap().is_some());
    }

    #[test]
    fn dropins_of_all_directories_are_merged_by_name() {
        let (dir, ctx) = sandbox();
        let root = dir.path();
        put(root, "usr/lib/s.d/10-a.transfer", "x");
        put(root, "etc/s.d/10-a.transfer.d/50-x.conf", "x");
        put(root, "run/s.d/10-a.transfer.d/50-x.conf", "x");
        put(root, "run/s.d/10-a.transfer.d/40-y.conf", "x");
        put(root, "usr/lib/s.d/10-a.transfer.d/61-m.conf", "x");
        put(root, "etc/s.d/10-a.transfer.d/61-m.conf", "");
        put(root, "usr/lib/s.d/10-a.transfer.d/70-m.txt", "x");
        let path = SearchPath::standard(&ctx, "s.d");
        let main = path.find("10-a.transfer").unwrap().unwrap();
        assert_eq!(
            shown(root, &path.with_dropins(main).unwrap()),
            [
                "usr/lib/s.d/10-a.transfer",
                "run/s.d/10-a.transfer.d/40-y.conf",
                "etc/s.d/10-a.transfer.d/50-x.conf"
            ]
        );
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let (dir, ctx) = sandbox();
        let root = dir.path();
        put(root, "usr/share/real", "x");
        put(root, "usr/share/sd/07-x.transfer", "x");
        fs::create_dir_all(root.join("usr/lib/s.d")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        symlink("/usr/share/real", root.join("usr/lib/s.d/05-abs.transfer")).unwrap();
        symlink("../../../../../../../usr/share/real", root.join("usr/lib/s.d/06-up.transfer"))
            .unwrap();
        symlink("/usr/share/sd", root.join("run/s.d")).unwrap();
        symlink("08-loop.transfer", root.join("usr/lib/s.d/08-loop.transfer")).unwrap();
        let found = SearchPath::standard(&ctx, "s.d").list(".transfer").unwrap();
        let targets: Vec<_> = found.iter().map(|f| f.target.clone()).collect();
        let real = root.join("usr/share/real");
        assert_eq!(targets, [real.clone(), real, root.join("usr/share/sd/07-x.transfer")]);
        assert_eq!(found[0].path, root.join("usr/lib/s.d/05-abs.transfer"));
    }

    #[test]
    fn explicit_directory_is_searched_alone() {
        let (dir, _) = sandbox();
        put(dir.path(), "a.transfer", "x");
        put(dir.path(), "a.transfer.d/1.conf", "x");
        let path = SearchPath::explicit(dir.path()).unwrap();
        let found = path.list(".transfer").unwrap();
        assert_eq!(shown(dir.path(), &found), ["a.transfer"]);
        assert_eq!(
            shown(dir.path(), &path.dropins("a.transfer").unwrap()),
            ["a.transfer.d/1.conf"]
        );
    }
}
