//! Extracts a tar archive below one directory, and never outside of it.
//!
//! Who made the archive is not known to be a friend before its signature has been checked, and
//! unpacking starts earlier than that. So nothing is opened by a path of more than one component,
//! no symbolic link is ever followed, `..` is refused, and every length is bounded. The headers are
//! read here and not by a crate, because the common one reads names and attributes of any length
//! into memory, splits attributes at newlines, and turns holes into zeros.
//!
//! What arrives on disk follows systemd 262 (modes with setuid, numeric owners, times to the
//! nanosecond, extended attributes, ACLs, hard links, holes, FIFOs, device nodes, duplicates,
//! hoisting); `tests/vectors/tar` says how it was observed.
//!
//! External documents: POSIX.1-2024 `pax` (ustar and pax formats), the GNU tar manual
//! "Basic Tar Format" and "Storing Sparse Files", libarchive's `SCHILY.*` and `LIBARCHIVE.*` keys.

use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};

mod acl;
mod header;
mod hoist;
mod member;
mod pax;
mod tree;

use member::{Kind, Member, Members};
use tree::Tree;

// LIMIT: inodes are a resource too; a distribution has a few hundred thousand.
const ENTRIES_MAX: u64 = 1 << 24;

/// Bounds and choices of one [`extract`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most bytes of file contents to write, holes not counted.
    pub max_bytes: u64,
    /// Give files the owner the archive names, and make device nodes; what root does. Otherwise
    /// everything belongs to the caller, and attributes only root may set are left out.
    pub is_privileged: bool,
    /// Move an OS tree that is the only thing in the archive's only directory one level up.
    pub hoist: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_bytes: super::MAX_BYTES,
            is_privileged: rustix::process::geteuid().is_root(),
            hoist: true,
        }
    }
}

/// What an [`extract`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of file contents written.
    pub bytes: u64,
}

/// Reads an archive (already decompressed, see [`super::reader`]) to the end of the stream and
/// makes its members in `dir`, which should be empty.
///
/// # Errors
/// Where this is no archive, is damaged, truncated or too large, wants something outside of `dir`,
/// or cannot be written. What was made until then is left for the caller to remove.
pub fn extract(input: impl Read, dir: BorrowedFd<'_>, options: &Options) -> Result<Extracted> {
    let mut members = Members::new(input);
    let mut tree = Tree::new(dir, options.is_privileged)?;
    let mut done = Extracted { entries: 0, bytes: 0 };
    while let Some(member) = members.next()? {
        done.entries += 1;
        if done.entries > ENTRIES_MAX {
            return Err(Error::new(format!(
                "Archive has more than {ENTRIES_MAX} entries, refusing"
            )));
        }
        if member.kind == Kind::File {
            done.bytes = done.bytes.saturating_add(member.data_bytes());
            if done.bytes > options.max_bytes {
                let limit = super::Error::TooLarge { limit: options.max_bytes };
                return Err(Error::because("Failed to unpack archive", limit));
            }
        }
        make(&mut tree, &mut members, &member)?;
    }
    tree.finish()?;
    if options.hoist {
        hoist::hoist(dir, options.is_privileged)?;
    }
    members.drain()?;
    Ok(done)
}

/// Makes one member.
fn make(tree: &mut Tree<'_>, members: &mut Members<impl Read>, member: &Member) -> Result<()> {
    let Some(path) = tree::split(&member.path) else {
        // DIFFERS: names the entry; the peer's text ends before the colon.
        let shown = member.shown();
        return Err(Error::new(format!("Invalid path name in entry, refusing: '{shown}'")));
    };
    let Some((name, parents)) = path.split_last() else {
        return match member.kind {
            Kind::Dir => tree.set_top(member),
            _ => Err(Error::new("Archives root inode is not a directory, refusing.")),
        };
    };
    tree.enter(parents, member)?;
    match &member.kind {
        Kind::Dir => tree.dir(name, member),
        Kind::File => tree.file(name, member, |data| members.read(data)),
        Kind::Symlink => tree.symlink(name, member),
        Kind::Hardlink => {
            let Some(target) = tree::split(&member.link).filter(|target| !target.is_empty()) else {
                return Err(Error::new(format!(
                    "Invalid hardlink path name '{}' in entry, refusing.",
                    member.shown_link()
                )));
            };
            tree.hardlink(name, member, &target)
        }
        Kind::Node(kind, device) => tree.node(name, member, *kind, *device),
    }
}

#[cfg(test)]
mod tests;
