//! Loads definitions: `*.conf` files with drop-ins, the built-in ones of `--make-ddi=`, and the
//! partitions of `--copy-from=` disks.
//!
//! One file that cannot be used makes the whole run fail: a disk with half of its partitions is no
//! disk. What is merely not understood is told with file and line and ignored, as in the peer.
//! Document: repart.d(5).

mod check;
mod copy_from;
mod ddi;
mod file;
mod lists;
pub mod split_name;
mod together;
mod values;

pub use copy_from::copy_from;

use file::Text;
use uuid::Uuid;

use super::model::{Definition, Options};
use crate::conf::search::SearchPath;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::format::gpt::types;
use crate::out::escape;

/// Loads the files that the options ask for, in the order of their names, without those whose type
/// the options leave out.
///
/// # Errors
/// A file cannot be read or is not usable, or several of them contradict each other.
pub fn load(ctx: &Ctx, options: &Options) -> Result<Vec<Definition>> {
    let mut definitions = Vec::new();
    match search_path(ctx, options)? {
        Some(search) => {
            for found in search.list(".conf")? {
                let files = search.with_dropins(found.clone())?;
                definitions.extend(file::load(ctx, options, &found, &Text::Files(&files))?);
            }
        }
        None => {
            for (found, text) in options.ddi.into_iter().flat_map(ddi::built_in) {
                definitions.extend(file::load(ctx, options, &found, &Text::Built(&text))?);
            }
        }
    }
    together::check(&definitions)?;
    Ok(definitions)
}

/// None where the definitions are built in.
fn search_path(ctx: &Ctx, options: &Options) -> Result<Option<SearchPath>> {
    if let Some(ddi) = options.ddi {
        return ddi::directory(ddi).map(|found| SearchPath::explicit(&found)).transpose();
    }
    if options.definitions.is_empty() {
        return Ok(Some(SearchPath::standard(ctx, "repart.d")));
    }
    SearchPath::explicit_all(&options.definitions).map(Some)
}

/// Reads a list of types as `--include-partitions=` and its neighbours take it: names or UUIDs
/// with commas between them.
///
/// # Errors
/// One of them is neither.
pub fn parse_types(text: &str) -> Result<Vec<Uuid>> {
    text.split(',')
        .map(|word| {
            types::parse(word).ok_or_else(|| {
                let word = escape::line(word);
                Error::new(format!("'{word}' is not a valid partition type identifier or GUID"))
                    .with_errno(22)
            })
        })
        .collect()
}
