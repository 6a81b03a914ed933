//! What goes into a file system: a plan of directories and files from several sources.
//!
//! The plan is small whatever the sources hold: only directories that differ from their source —
//! because something is left out, added or comes from a second source — are spelt out. All others
//! are named as a whole and looked at when they are needed. That is also what lets a program be
//! given a tree without copying it: see [`super::directory`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Context as _, Error, Result};
use crate::sys::fs;

/// LIMIT: directories within directories.
pub(super) const DEPTH_MAX: usize = 2048;
/// LIMIT: symbolic links followed in one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// What sources have in these is of a running system, not of the one that is built.
const VOLATILE: [&str; 6] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"];

/// What is wanted in a file system.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Directory that sources are below of; no symbolic link leads out of it.
    pub root: PathBuf,
    /// What is copied, in this order.
    pub copies: Vec<Copy>,
    /// Absolute paths below [`Request::root`] that are left out; a final slash leaves out only
    /// what is in the directory.
    pub exclude_sources: Vec<String>,
    /// The same for absolute paths of the new file system.
    pub exclude_targets: Vec<String>,
    /// Set for a root file system.
    pub is_root: bool,
    /// Mount points of other file systems: what sources have in them is left out where they are
    /// copied to `/` of a root file system.
    pub mount_points: Vec<PathBuf>,
    /// Directories that are made.
    pub directories: Vec<PathBuf>,
    /// Symbolic links that are made: place and text.
    pub symlinks: Vec<(PathBuf, PathBuf)>,
    /// Extended attributes of the root directory.
    pub root_xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Time of what is made rather than copied, and the latest of what is copied; now, and any
    /// time, where there is none.
    pub epoch: Option<SystemTime>,
}

/// One thing that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Absolute path below [`Request::root`].
    pub source: PathBuf,
    /// Absolute path in the new file system.
    pub target: PathBuf,
    /// Verity protection of files is kept.
    pub copies_fsverity: bool,
}

/// The plan.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) top: Directory,
    pub(super) root_xattrs: BTreeMap<OsString, Vec<u8>>,
    pub(super) epoch: Option<SystemTime>,
}

/// A directory that is not just a source's.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// Whose owner, mode, attributes and times it has; none for root, 0755 and the epoch.
    pub(super) origin: Option<PathBuf>,
    /// All that is in it.
    pub(super) children: BTreeMap<OsString, Node>,
}

/// Something in a directory.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A directory.
    Directory(Directory),
    /// What is at this path of this machine, with everything below it.
    Whole(PathBuf),
    /// A symbolic link that is made.
    Link(PathBuf),
}

impl Tree {
    /// Plans what a file system will have in it. Looks at sources, but changes nothing.
    ///
    /// # Errors
    ///
    /// Sources that cannot be looked at; targets that are in each other's way.
    pub fn plan(request: Request) -> Result<Self> {
        if !request.root.is_absolute() {
            let shown = request.root.display();
            return Err(Error::new(format!("Source of files '{shown}' is not absolute.")));
        }
        let mut tree = Self {
            top: Directory::default(),
            root_xattrs: request.root_xattrs.clone(),
            epoch: request.epoch,
        };
        for copy in &request.copies {
            tree.copy(&request, copy)?;
        }
        for directory in &request.directories {
            let place = tree.resolve(directory)?;
            tree.directory(&place)?;
        }
        for (link, text) in &request.symlinks {
            tree.create(link, Node::Link(text.clone()))?;
        }
        Ok(tree)
    }

    /// True if the file system is going to be empty.
    pub fn is_empty(&self) -> bool {
        self.top.children.is_empty()
    }

    fn copy(&mut self, request: &Request, copy: &Copy) -> Result<()> {
        if is_left_out(request, copy) {
            log::debug!("'{}' is left out, ignoring.", copy.source.display());
            return Ok(());
        }
        let failed = || format!("Failed to open source file '{}'", copy.source.display());
        let source = fs::chase(&request.root, &copy.source).context(failed)?;
        let metadata = match std::fs::symlink_metadata(&source) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                log::info!(
                    target: crate::log::NOTICE,
                    "Failed to open source file '{}', skipping: No such file or directory",
                    source.display()
                );
                return Ok(());
            }
            Err(err) => return Err(Error::because(failed(), err)),
        };
        if metadata.is_file() {
            return self.create(&copy.target, Node::Whole(source));
        }
        if !metadata.is_dir() {
            let shown = source.display();
            return Err(Error::new(format!("'{shown}' is neither a file nor a directory.")));
        }
        let left_out = LeftOut::new(request, copy, &source)?;
        let Some(node) = left_out.of(&source, &metadata, DEPTH_MAX)? else { return Ok(()) };
        let place = self.resolve(&copy.target)?;
        let Some((name, parents)) = place.split_last() else {
            let new = expand(node)?;
            // The root directory is what its first source makes of it.
            if self.top.origin.is_none() {
                self.top.origin.clone_from(&new.origin);
            }
            return merge_all(&mut self.top, new, Path::new("/"), DEPTH_MAX);
        };
        let shown = copy.target.clone();
        merge(self.directory(parents)?, name.clone(), node, &shown, DEPTH_MAX)
    }

    /// Puts a file or link where there must be nothing yet. Directories above it are made.
    fn create(&mut self, path: &Path, node: Node) -> Result<()> {
        let taken = || {
            Error::errno_because(
                format!("Failed to create target file '{}'", path.display()),
                rustix::io::Errno::EXIST.raw_os_error(),
            )
        };
        let name = path.file_name().ok_or_else(taken)?.to_os_string();
        let parents = self.resolve(fs::parent(path))?;
        let parent = self.directory(&parents)?;
        if parent.children.contains_key(&name) {
            return Err(taken());
        }
        parent.children.insert(name, node);
        Ok(())
    }

    /// The names that lead to a path of the new file system: its symbolic links are followed, and
    /// neither they nor dots lead out of it.
    fn resolve(&self, path: &Path) -> Result<Vec<OsString>> {
        let mut todo = parts(path);
        let mut place: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            place.push(part);
            let Some(text) = self.link_at(&place) else { continue };
            links += 1;
            if links > LINKS_MAX {
                let errno = rustix::io::Errno::LOOP.raw_os_error();
                let what = format!("Failed to resolve '{}'", path.display());
                return Err(Error::errno_because(what, errno));
            }
            place.pop();
            if text.is_absolute() {
                place.clear();
            }
            todo.extend(parts(&text));
        }
        Ok(place)
    }

    /// The text of a link of the new file system.
    fn link_at(&self, place: &[OsString]) -> Option<PathBuf> {
        let mut directory = &self.top;
        for (at, name) in place.iter().enumerate() {
            match directory.children.get(name)? {
                Node::Directory(below) => directory = below,
                Node::Link(text) => return Some(text.clone()),
                Node::Whole(path) => {
                    let mut path = path.clone();
                    path.extend(place.iter().skip(at + 1));
                    return std::fs::read_link(path).ok();
                }
            }
        }
        None
    }

    /// A directory of the new file system; it and those above it are made where there are none.
    fn directory(&mut self, place: &[OsString]) -> Result<&mut Directory> {
        let mut directory = &mut self.top;
        let mut shown = PathBuf::from("/");
        for name in place {
            shown.push(name);
            let new = || Node::Directory(Directory::default());
            let node = directory.children.entry(name.clone()).or_insert_with(new);
            directory = spelt_out(node, &shown)?;
        }
        Ok(directory)
    }
}

/// The names of a path, last one first; `..` is kept.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |part| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// What a node is, where that depends on what is at a path.
pub(super) fn stat(path: &Path) -> Result<Metadata> {
    std::fs::symlink_metadata(path).context(|| format!("Failed to open '{}'", path.display()))
}

/// The names in a directory of this machine, sorted.
pub(super) fn names(path: &Path) -> Result<Vec<OsString>> {
    let failed = || format!("Failed to read directory '{}'", path.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).context(failed)? {
        names.push(entry.context(failed)?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

/// A directory, with what is in it.
fn expand(node: Node) -> Result<Directory> {
    match node {
        Node::Directory(directory) => Ok(directory),
        Node::Link(_) => Ok(Directory::default()),
        Node::Whole(path) => {
            let whole = |name: OsString| (name.clone(), Node::Whole(path.join(name)));
            let children = names(&path)?.into_iter().map(whole).collect();
            Ok(Directory { origin: Some(path), children })
        }
    }
}

/// A node that is a directory, spelt out.
fn spelt_out<'a>(node: &'a mut Node, shown: &Path) -> Result<&'a mut Directory> {
    if let Node::Whole(path) = node
        && stat(path)?.is_dir()
    {
        *node = Node::Directory(expand(Node::Whole(std::mem::take(path)))?);
    }
    match node {
        Node::Directory(directory) => Ok(directory),
        _ => Err(Error::errno_because(
            format!("'{}' cannot be a directory", shown.display()),
            rustix::io::Errno::NOTDIR.raw_os_error(),
        )),
    }
}

fn is_directory(node: &Node) -> Result<bool> {
    Ok(match node {
        Node::Directory(_) => true,
        Node::Link(_) => false,
        Node::Whole(path) => stat(path)?.is_dir(),
    })
}

/// Puts something into a directory, on top of what is there: directories become one, of files the
/// later one stays.
fn merge(
    into: &mut Directory,
    name: OsString,
    node: Node,
    shown: &Path,
    depth: usize,
) -> Result<()> {
    let Some(old) = into.children.get_mut(&name) else {
        into.children.insert(name, node);
        return Ok(());
    };
    match (is_directory(old)?, is_directory(&node)?) {
        (true, true) => merge_all(spelt_out(old, shown)?, expand(node)?, shown, depth),
        (false, false) => {
            *old = node;
            Ok(())
        }
        _ => Err(Error::errno_because(
            format!("'{}' cannot be a directory and something else", shown.display()),
            rustix::io::Errno::EXIST.raw_os_error(),
        )),
    }
}

fn merge_all(into: &mut Directory, new: Directory, shown: &Path, depth: usize) -> Result<()> {
    let left = depth.checked_sub(1).ok_or_else(|| too_deep(shown))?;
    for (name, node) in new.children {
        let shown = shown.join(&name);
        merge(into, name, node, &shown, left)?;
    }
    Ok(())
}

pub(super) fn too_deep(path: &Path) -> Error {
    Error::new(format!("'{}' is too deep in directories.", path.display()))
}

/// True where the whole copy lies in what is left out, as the paths are written. A slash at the end
/// of such a path makes no difference then.
fn is_left_out(request: &Request, copy: &Copy) -> bool {
    request.exclude_sources.iter().any(|path| copy.source.starts_with(path))
        || request.exclude_targets.iter().any(|path| copy.target.starts_with(path))
}

/// What one copy leaves out.
#[derive(Default)]
struct LeftOut {
    /// Paths of this machine; true where only what is in the directory is left out.
    paths: BTreeMap<PathBuf, bool>,
}

impl LeftOut {
    fn new(request: &Request, copy: &Copy, source: &Path) -> Result<Self> {
        let mut left_out = Self::default();
        let mut add = |path: &Path, is_contents: bool| -> Result<()> {
            let real = fs::chase(&request.root, path)
                .context(|| format!("Failed to resolve '{}'", path.display()))?;
            let old = left_out.paths.entry(real).or_insert(is_contents);
            *old &= is_contents;
            Ok(())
        };
        for path in VOLATILE {
            add(Path::new(path), true)?;
        }
        for path in &request.exclude_sources {
            // COMPAT(262): a source that is the same by a link is not left out itself.
            if fs::chase(&request.root, Path::new(path)).is_ok_and(|real| real == source) {
                continue;
            }
            add(Path::new(path), path.ends_with('/'))?;
        }
        for path in &request.exclude_targets {
            if let Ok(below) = Path::new(path).strip_prefix(&copy.target) {
                add(&copy.source.join(below), path.ends_with('/'))?;
            }
        }
        if request.is_root && copy.target == Path::new("/") {
            let volatile = VOLATILE.iter().map(Path::new);
            for path in volatile.chain(request.mount_points.iter().map(PathBuf::as_path)) {
                add(&copy.source.join(path.strip_prefix("/").unwrap_or(path)), true)?;
            }
        }
        left_out.paths.retain(|path, _| path.starts_with(source));
        Ok(left_out)
    }

    /// What is left of a source.
    fn of(&self, path: &Path, metadata: &Metadata, depth: usize) -> Result<Option<Node>> {
        let left = depth.checked_sub(1).ok_or_else(|| too_deep(path))?;
        let rule = self.paths.get(path);
        if rule == Some(&false) {
            return Ok(None);
        }
        let is_spelt_out = metadata.is_dir() && self.has_below(path);
        if !is_spelt_out && rule.is_none() || !metadata.is_dir() {
            return Ok(Some(Node::Whole(path.to_path_buf())));
        }
        let mut directory =
            Directory { origin: Some(path.to_path_buf()), children: BTreeMap::new() };
        if rule.is_none() {
            for name in names(path)? {
                let child = path.join(&name);
                if let Some(node) = self.of(&child, &stat(&child)?, left)? {
                    directory.children.insert(name, node);
                }
            }
        }
        Ok(Some(Node::Directory(directory)))
    }

    /// True if something below a path is left out.
    fn has_below(&self, path: &Path) -> bool {
        use std::ops::Bound;
        let range = (Bound::Excluded(path), Bound::Unbounded);
        let mut later = self.paths.range::<Path, _>(range);
        later.next().is_some_and(|(other, _)| other.starts_with(path))
    }
}

/// One entry of a tree, as [`Tree::each`] meets it.
pub(super) struct Found<'a> {
    /// Path relative to the root of the new file system; empty for the root itself.
    pub(super) path: &'a Path,
    /// What it is copied from, and its metadata; none for what is made.
    pub(super) source: Option<(&'a Path, &'a Metadata)>,
    /// The text of a link that is made.
    pub(super) link: Option<&'a Path>,
}

impl Tree {
    /// Visits every entry; a directory comes before what is in it.
    ///
    /// # Errors
    ///
    /// Sources that cannot be looked at, and what `visit` returns.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&Found<'_>) -> Result<()>) -> Result<()> {
        each_of(&self.top, Path::new(""), visit, DEPTH_MAX)
    }
}

type Visit<'a> = &'a mut dyn FnMut(&Found<'_>) -> Result<()>;

fn each_of(directory: &Directory, path: &Path, visit: Visit<'_>, depth: usize) -> Result<()> {
    let left = depth.checked_sub(1).ok_or_else(|| too_deep(path))?;
    let metadata = directory.origin.as_deref().map(stat).transpose()?;
    let source = directory.origin.as_deref().zip(metadata.as_ref());
    visit(&Found { path, source, link: None })?;
    for (name, node) in &directory.children {
        let path = path.join(name);
        match node {
            Node::Directory(below) => each_of(below, &path, visit, left)?,
            Node::Link(text) => visit(&Found { path: &path, source: None, link: Some(text) })?,
            Node::Whole(source) => each_below(source, &path, visit, left)?,
        }
    }
    Ok(())
}

/// Visits a source and all below it.
fn each_below(source: &Path, path: &Path, visit: Visit<'_>, depth: usize) -> Result<()> {
    let left = depth.checked_sub(1).ok_or_else(|| too_deep(source))?;
    let metadata = stat(source)?;
    visit(&Found { path, source: Some((source, &metadata)), link: None })?;
    if metadata.is_dir() {
        for name in names(source)? {
            each_below(&source.join(&name), &join(path, &name), visit, left)?;
        }
    }
    Ok(())
}

fn join(path: &Path, name: &OsStr) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(name) } else { path.join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Source(tempfile::TempDir);

    impl Source {
        /// A source of empty files, and links where there is an arrow.
        fn new(paths: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for path in paths {
                let (path, text) = path.split_once("->").unwrap_or((path, ""));
                let place = dir.path().join(path);
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                match text {
                    "" => std::fs::write(place, path).unwrap(),
                    text => symlink(text, place).unwrap(),
                }
            }
            Self(dir)
        }

        fn plan(&self, copies: &[(&str, &str)], change: impl Fn(&mut Request)) -> Result<Tree> {
            let copy = |(source, target): &(&str, &str)| Copy {
                source: source.into(),
                target: target.into(),
                copies_fsverity: false,
            };
            let mut request = Request {
                root: self.0.path().to_path_buf(),
                copies: copies.iter().map(copy).collect(),
                ..Request::default()
            };
            change(&mut request);
            Tree::plan(request)
        }

        /// Every path, with where it is from.
        fn list(&self, copies: &[(&str, &str)], change: impl Fn(&mut Request)) -> String {
            let mut lines = Vec::new();
            let tree = self.plan(copies, change).unwrap();
            tree.each(&mut |found| {
                let is_directory = found.source.is_none_or(|(_, metadata)| metadata.is_dir());
                if !is_directory || found.link.is_some() {
                    let from = found.source.and_then(|(path, _)| path.strip_prefix(&self.0).ok());
                    let from = from.or(found.link).unwrap_or(Path::new(""));
                    lines.push(format!("{}={}", found.path.display(), from.display()));
                } else {
                    lines.push(format!("{}/", found.path.display()));
                }
                Ok(())
            })
            .unwrap();
            lines.join(" ")
        }
    }

    impl AsRef<Path> for Source {
        fn as_ref(&self) -> &Path {
            self.0.path()
        }
    }

    fn same(_: &mut Request) {}

    #[test]
    fn later_sources_lie_on_top_of_earlier_ones() {
        let source = Source::new(&["a/d/x", "a/d/y", "b/d/x", "b/e"]);
        let all = source.list(&[("/a", "/"), ("/b", "/")], same);
        assert_eq!(all, "/ d/ d/x=b/d/x d/y=a/d/y e=b/e");
        assert_eq!(
            source.list(&[("/b", "/n/m")], same),
            "/ n/ n/m/ n/m/d/ n/m/d/x=b/d/x n/m/e=b/e"
        );
        assert_eq!(source.list(&[("/nope", "/x")], same), "/");
    }

    #[test]
    fn a_file_is_not_put_where_there_is_something() {
        let source = Source::new(&["a/x", "b"]);
        assert_eq!(source.list(&[("/b", "/n/x")], same), "/ n/ n/x=b");
        let error = source.plan(&[("/a", "/"), ("/b", "/x")], same).unwrap_err();
        assert_eq!(error.to_string(), "Failed to create target file '/x': File exists");
        assert!(source.plan(&[("/a", "/"), ("/a", "/x")], same).is_err());
    }

    #[test]
    fn what_is_left_out_is_left_out_with_or_without_its_directory() {
        let source = Source::new(&["a/d/x", "a/d/y", "a/e/z", "a/f", "proc/1", "tmp/t"]);
        let change = |request: &mut Request| {
            request.exclude_sources = ["/a/d/x", "/a/e/"].map(str::to_owned).to_vec();
            request.exclude_targets = vec!["/t/f".to_owned(), "/elsewhere".to_owned()];
        };
        assert_eq!(source.list(&[("/a", "/t")], change), "/ t/ t/d/ t/d/y=a/d/y t/e/");
        let all = source.list(&[("/", "/")], change);
        assert_eq!(all, "/ a/ a/d/ a/d/y=a/d/y a/e/ a/f=a/f proc/ tmp/");
    }

    #[test]
    fn a_root_file_system_has_nothing_in_the_mount_points_of_others() {
        let source = Source::new(&["r/efi/k", "r/proc/1", "r/usr/x", "efi/k"]);
        let change = |request: &mut Request| {
            request.is_root = true;
            request.mount_points = vec!["/efi".into(), "/boot".into()];
        };
        assert_eq!(source.list(&[("/r", "/")], change), "/ efi/ proc/ usr/ usr/x=r/usr/x");
        let explicit = source.list(&[("/r", "/"), ("/efi", "/efi")], change);
        assert_eq!(explicit, "/ efi/ efi/k=efi/k proc/ usr/ usr/x=r/usr/x");
        let all = source.list(&[("/r", "/")], same);
        assert_eq!(all, "/ efi/ efi/k=r/efi/k proc/ proc/1=r/proc/1 usr/ usr/x=r/usr/x");
    }

    #[test]
    fn links_lead_out_of_neither_the_source_nor_the_file_system() {
        let source =
            Source::new(&["a/up->../../../../etc", "a/abs->/etc", "etc/f", "a/loop->loop"]);
        // The source's own /etc, whatever the link says.
        assert_eq!(source.list(&[("/a/up", "/x")], same), "/ x/ x/f=etc/f");
        let below = source.list(&[("/a", "/"), ("/etc", "/up/new")], same);
        assert_eq!(below, "/ abs=a/abs etc/ etc/new/ etc/new/f=etc/f loop=a/loop up=a/up");
        assert!(source.plan(&[("/a/loop", "/")], same).is_err());
        assert!(source.plan(&[("/a", "/"), ("/etc", "/loop/x")], same).is_err());
        assert_eq!(source.list(&[("/etc", "/../../b")], same), "/ b/ b/f=etc/f");
    }

    #[test]
    fn what_is_made_is_made_within_what_is_copied() {
        let source = Source::new(&["a/d/x", "a/l->d"]);
        let all = source.list(&[("/a", "/")], |request| {
            request.directories = vec!["/l/new/er".into(), "/d".into()];
            request.symlinks = vec![("/d/link".into(), "../x".into())];
        });
        assert_eq!(all, "/ d/ d/link=../x d/new/ d/new/er/ d/x=a/d/x l=a/l");
        let again = |request: &mut Request| request.symlinks = vec![("/d/x".into(), "y".into())];
        assert!(source.plan(&[("/a", "/")], again).is_err());
        let below = |request: &mut Request| request.directories = vec!["/d/x/y".into()];
        assert!(source.plan(&[("/a", "/")], below).is_err());
    }

    #[test]
    fn only_what_differs_is_spelt_out() {
        let source = Source::new(&["a/d/x", "a/e/f/y", "a/g/h"]);
        let tree = source.plan(&[("/a", "/")], |request| {
            request.exclude_sources = vec!["/a/e/f/y".to_owned()];
        });
        let top = tree.unwrap().top;
        assert!(matches!(top.children.get(OsStr::new("d")), Some(Node::Whole(_))));
        assert!(matches!(top.children.get(OsStr::new("e")), Some(Node::Directory(_))));
        assert!(matches!(top.children.get(OsStr::new("g")), Some(Node::Whole(_))));
    }
}
