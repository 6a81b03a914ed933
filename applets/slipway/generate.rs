//! `--generate=`: completions and manuals, from the same data as the help.

use std::fs;
use std::path::{Path, PathBuf};

use ::slipway::error::{Context, Error, Result};

use crate::app::{App, Applet};
use crate::cli::{complete, manual};
use crate::{APPLETS, dispatch};

/// What can be made.
pub(super) const KINDS: &[&str] = &["bash", "zsh", "fish", "man", "markdown"];

/// Prints one kind of text about the applets named, or about all; or writes files.
pub(super) fn run(
    app: &mut App,
    kind: &str,
    output: Option<&Path>,
    words: &[PathBuf],
) -> Result<()> {
    let mut applets = Vec::new();
    for word in words {
        let word = word.to_string_lossy();
        applets.push(dispatch::find(&word).ok_or_else(|| dispatch::unknown(&word))?);
    }
    if applets.is_empty() {
        applets.extend_from_slice(APPLETS);
    }
    let files = files(kind, &applets)?;
    let Some(directory) = output else {
        // The first file of completions is the whole; the others only lead to it.
        let is_manual = matches!(kind, "man" | "markdown");
        let count = if is_manual { files.len() } else { 1 };
        let text: String = files.into_iter().take(count).map(|(_, text)| text).collect();
        return app.out.print(&text);
    };
    fs::create_dir_all(directory)
        .context(|| format!("Cannot make directory '{}'", directory.display()))?;
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).context(|| format!("Cannot write '{}'", path.display()))?;
    }
    Ok(())
}

/// The names and texts of the files of one kind.
fn files(kind: &str, applets: &[&'static Applet]) -> Result<Vec<(String, String)>> {
    let names = || applets.iter().flat_map(|a| a.names).filter(|name| **name != "slipway");
    Ok(match kind {
        // Shells load a completion by the name of the command, so each name gets a file.
        "bash" => {
            let whole = ("slipway".to_owned(), complete::bash(applets));
            let lead = ". \"${BASH_SOURCE[0]%/*}/slipway\"\n";
            let leads = names().map(|name| ((*name).to_owned(), lead.to_owned()));
            std::iter::once(whole).chain(leads).collect()
        }
        "fish" => {
            let whole = ("slipway.fish".to_owned(), complete::fish(applets));
            let lead = "source (status dirname)/slipway.fish\n";
            let leads = names().map(|name| (format!("{name}.fish"), lead.to_owned()));
            std::iter::once(whole).chain(leads).collect()
        }
        "zsh" => vec![("_slipway".to_owned(), complete::zsh(applets))],
        "man" => {
            let page = |a: &&Applet| (format!("{}.{}", a.page(), a.section), manual::roff(a));
            applets.iter().map(page).collect()
        }
        "markdown" => {
            let page = |a: &&Applet| (format!("{}.md", a.page()), manual::markdown(a));
            applets.iter().map(page).collect()
        }
        _ => {
            let known = KINDS.join(", ");
            return Err(Error::new(format!("Unknown argument to --generate= switch: {kind}"))
                .hint(format!("one of {known}")));
        }
    })
}
