//! `--install`: a link to this executable for every name of every applet.
//!
//! Everything is looked at before anything is changed: one file of somebody else in the way, and
//! nothing happens. A link appears under its final name at once, by rename(2), and a second run
//! finds nothing to do.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::slipway::error::{Context, Error, Result};
use ::slipway::sys;

use super::applets;
use crate::app::App;
use crate::dispatch;

/// Where links go unless told otherwise.
pub(super) const DIRECTORY: &str = "/usr/bin";

/// What is to be linked to.
struct Target {
    /// The executable, as a path of this process.
    file: PathBuf,
    /// What a symbolic link says, as seen below the root directory.
    text: PathBuf,
    is_hard: bool,
}

/// Makes the links of all applets, or of those named after the directory.
pub(super) fn run(app: &mut App, words: &[PathBuf], is_hard: bool) -> Result<()> {
    let (directory, chosen) = match words.split_first() {
        Some((directory, chosen)) => (directory.clone(), chosen),
        None => (PathBuf::from(DIRECTORY), words),
    };
    // Below another root there is no working directory to start from.
    let directory = if app.ctx.is_host() { directory } else { Path::new("/").join(directory) };
    let names = names(chosen)?;
    let place = app.ctx.at(&directory);
    if !place.is_dir() {
        return Err(Error::new(format!("'{}' is not a directory", place.display())));
    }
    let target = find_target(app, &directory, &place, is_hard)?;

    let mut missing = Vec::new();
    let mut foreign = Vec::new();
    for name in names {
        let link = place.join(name);
        match look(&link, &target).context(|| format!("Cannot look at '{}'", link.display()))? {
            State::Ours => {}
            State::Missing => missing.push(link),
            State::Foreign => foreign.push(format!("'{}'", link.display())),
        }
    }
    if !foreign.is_empty() {
        return Err(Error::new(format!("Not links to slipway: {}", foreign.join(", ")))
            .hint("nothing was changed; name the applets to link after the directory"));
    }
    for link in &missing {
        make(link, &target).context(|| format!("Cannot make '{}'", link.display()))?;
        app.out.line(&format!("{} → {}", link.display(), target.text.display()))?;
    }
    if missing.is_empty() {
        return app.out.line(&format!("Nothing to do in '{}'", place.display()));
    }
    sys::fs::sync_dir(&place).context(|| format!("Cannot sync '{}'", place.display()))
}

/// All names of the applets chosen; of all applets where none is.
fn names(chosen: &[PathBuf]) -> Result<Vec<&'static str>> {
    if chosen.is_empty() {
        return Ok(applets().flat_map(|applet| applet.names).copied().collect());
    }
    let known = chosen.iter().map(|word| {
        let word = word.to_string_lossy();
        let applet = dispatch::find(&word).filter(|applet| !applet.is_multiplexer());
        let name = applet.and_then(|applet| applet.names.iter().find(|name| **name == word));
        name.copied().ok_or_else(|| dispatch::unknown(&word))
    });
    known.collect()
}

/// Finds this executable below the root directory, preferably beside the links.
fn find_target(app: &App, directory: &Path, place: &Path, is_hard: bool) -> Result<Target> {
    let proc = app.ctx.proc("self/exe");
    let file = fs::read_link(&proc)
        .context(|| format!("Cannot find this executable by '{}'", proc.display()))?;
    let same = |path: &Path| is_same(path, &file).unwrap_or(false);

    if let Some(name) = file.file_name().filter(|name| same(&place.join(name))) {
        return Ok(Target { file: place.join(name), text: PathBuf::from(name), is_hard });
    }
    if app.ctx.is_host() {
        return Ok(Target { text: file.clone(), file, is_hard });
    }
    let beside = place.join("slipway");
    if beside.is_file() {
        return Ok(Target { file: beside, text: PathBuf::from("slipway"), is_hard });
    }
    let root = fs::canonicalize(app.ctx.root())
        .context(|| format!("Cannot open '{}'", app.ctx.root().display()))?;
    match file.strip_prefix(&root) {
        Ok(below) => Ok(Target { text: Path::new("/").join(below), file, is_hard }),
        Err(_) => {
            let root = app.ctx.root().display();
            Err(Error::new(format!("'{}' is not below '{root}'", file.display()))
                .hint(format!("copy it to '{}' there first", directory.join("slipway").display())))
        }
    }
}

enum State {
    Missing,
    Ours,
    Foreign,
}

/// Says whose a name is. A symbolic link that leads to another slipway, or to where one was, is
/// ours to replace.
fn look(link: &Path, target: &Target) -> io::Result<State> {
    let metadata = match fs::symlink_metadata(link) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(State::Missing),
        other => other?,
    };
    if !metadata.is_symlink() {
        let is_ours = is_same(link, &target.file)?;
        return Ok(if is_ours { State::Ours } else { State::Foreign });
    }
    let text = fs::read_link(link)?;
    if text == target.text && !target.is_hard {
        return Ok(State::Ours);
    }
    let is_slipway = text.file_name() == Some(OsStr::new("slipway")) || text == target.text;
    Ok(if is_slipway { State::Missing } else { State::Foreign })
}

fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (fs::symlink_metadata(a)?, fs::metadata(b)?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Makes one link under a name nobody looks for, then gives it its own.
fn make(link: &Path, target: &Target) -> io::Result<()> {
    let mut name = link.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".slipway-{}", std::process::id()));
    let new = link.with_file_name(name);
    // What a run that was cut short has left.
    match fs::remove_file(&new) {
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    if target.is_hard {
        fs::hard_link(&target.file, &new)?;
    } else {
        std::os::unix::fs::symlink(&target.text, &new)?;
    }
    fs::rename(&new, link).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&new);
    })
}
