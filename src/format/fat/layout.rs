//! Where everything goes, decided before anything is written.

use std::collections::HashSet;
use std::fmt;

use super::directory::{self, Facts};
use super::geometry::Geometry;
use super::name;
use super::{ENTRIES_MAX, ENTRY, FILE_MAX, FIRST_CLUSTER, Identity, boot};
use crate::format::bytes::put;

/// In the table: nothing follows. Values from `0x0fff_fff8` on mean so; which one depends on who
/// wrote it, mkfs.fat for the root directory, mtools for what is in it.
const END_ROOT: u32 = 0x0fff_fff8;
const END: u32 = 0x0fff_ffff;
/// In the table: the media byte, and that the file system was left in order.
const HEAD: [u32; 2] = [0x0fff_fff8, 0x0fff_ffff];

/// A file or directory. The root directory is not in the list; it is what has no parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Position of the directory it is in, which comes first; none in the root directory.
    pub parent: Option<usize>,
    /// Name in there.
    pub name: String,
    /// Length in bytes; none for a directory.
    pub len: Option<u64>,
    /// Seconds since the epoch.
    pub modified: i64,
}

/// Why FAT cannot hold something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A name with a letter that no name may have.
    Letter {
        /// The name.
        name: String,
        /// The letter.
        letter: char,
    },
    /// A name that ends with a space or dot.
    Edge {
        /// The name.
        name: String,
    },
    /// A name of more than 255 UTF-16 units.
    TooLong {
        /// The name.
        name: String,
    },
    /// Two names in one directory that only differ in case.
    Same {
        /// The first.
        name: String,
        /// The other.
        other: String,
    },
    /// A file of 4 GiB or more.
    FileTooLarge {
        /// Its name.
        name: String,
        /// Its length in bytes.
        len: u64,
    },
    /// More entries than a directory may have.
    DirectoryTooLarge {
        /// The name at which it was full.
        name: String,
    },
    /// More clusters than there are.
    Full {
        /// What is needed, in bytes.
        needed: u64,
        /// What there is, in bytes.
        available: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letter { name, letter } => {
                write!(
                    f,
                    "FAT cannot hold the name '{}': it has a '{}'",
                    name.escape_debug(),
                    letter.escape_debug()
                )
            }
            Self::Edge { name } => {
                write!(f, "FAT cannot hold the name '{name}': it ends with a space or dot")
            }
            Self::TooLong { name } => {
                write!(f, "FAT cannot hold the name '{name}': it is longer than 255 UTF-16 units")
            }
            Self::Same { name, other } => {
                write!(f, "FAT cannot hold both '{name}' and '{other}': they only differ in case")
            }
            Self::FileTooLarge { name, len } => write!(
                f,
                "FAT cannot hold '{name}': it has {len} bytes, and {FILE_MAX} is the most"
            ),
            Self::DirectoryTooLarge { name } => {
                write!(f, "FAT cannot hold '{name}': there are too many files in its directory")
            }
            Self::Full { needed, available } => write!(
                f,
                "The file system is too small: {needed} bytes are needed, {available} are there"
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// The clusters of a file or directory: a run without gaps. Empty files have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    first: u32,
    count: u32,
}

/// A file system with everything in its place.
#[derive(Clone, Debug)]
pub struct Layout {
    geometry: Geometry,
    identity: Identity,
    nodes: Vec<Node>,
    /// Children of the root directory, then of each node.
    children: Vec<Vec<usize>>,
    /// Run of the root directory, then of each node; they follow each other.
    runs: Vec<Run>,
    /// Clusters in use.
    used: u32,
}

impl Layout {
    /// Places everything.
    ///
    /// # Errors
    ///
    /// What FAT cannot hold, or not at this size.
    pub fn new(geometry: Geometry, identity: Identity, nodes: Vec<Node>) -> Result<Self, Fault> {
        let children = children(&nodes);
        let entries = count_entries(&nodes, &children, identity.label.is_some())?;
        let mut runs = Vec::with_capacity(entries.len());
        let mut used = 0_u64;
        let lens = std::iter::once(None).chain(nodes.iter().map(|node| node.len));
        for (len, entries) in lens.zip(&entries) {
            let count = match len {
                Some(len) => geometry.clusters_for(len),
                None => geometry.clusters_for((entries * ENTRY) as u64).max(1),
            };
            // What does not fit is found out below; until then the numbers only must not wrap.
            let first = u32::try_from(used).unwrap_or(u32::MAX).saturating_add(FIRST_CLUSTER);
            runs.push(Run { first, count: u32::try_from(count).unwrap_or(u32::MAX) });
            used = used.saturating_add(count);
        }
        match u32::try_from(used) {
            Ok(used) if used <= geometry.clusters => {
                Ok(Self { geometry, identity, nodes, children, runs, used })
            }
            _ => Err(Fault::Full {
                needed: used.saturating_mul(geometry.cluster_bytes()),
                available: u64::from(geometry.clusters) * geometry.cluster_bytes(),
            }),
        }
    }

    /// Sizes and places.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What is in it.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Everything before the tables that is not zero: offsets in bytes, and the bytes.
    pub fn heads(&self) -> Vec<(u64, Vec<u8>)> {
        let boot = boot::sector(&self.geometry, &self.identity);
        let free = self.geometry.clusters - self.used;
        let counts = boot::counts(&self.geometry, free, self.used + FIRST_CLUSTER - 1);
        let sector = u64::from(self.geometry.sector_size);
        let backup = u64::from(boot::BACKUP) * sector;
        let copies = vec![(backup, boot.clone()), (backup + sector, counts.clone())];
        [vec![(0, boot), (sector, counts)], copies].concat()
    }

    /// How many entries of the table are not zero.
    pub fn table_len(&self) -> u32 {
        self.used + FIRST_CLUSTER
    }

    /// Entries of the table from `first` on, as many as fill the buffer; zeros behind the last.
    pub fn fill_table(&self, first: u32, buffer: &mut [u8]) {
        buffer.fill(0);
        let count = u32::try_from(buffer.len() / 4).unwrap_or(u32::MAX);
        let end = first.saturating_add(count).min(self.table_len());
        let mut run = self.runs.partition_point(|run| run.first + run.count <= first);
        for cluster in first..end {
            while self.runs.get(run).is_some_and(|run| run.first + run.count <= cluster) {
                run += 1;
            }
            let is_last = self.runs.get(run).is_none_or(|run| run.first + run.count == cluster + 1);
            let value = match HEAD.get(cluster as usize) {
                Some(head) => *head,
                None if is_last && run == 0 => END_ROOT,
                None if is_last => END,
                None => cluster + 1,
            };
            put(buffer, (cluster - first) as usize * 4, &value.to_le_bytes());
        }
    }

    /// Where the contents of a node begin, in bytes.
    pub fn offset(&self, node: usize) -> u64 {
        self.geometry.cluster_offset(self.run(Some(node)).first)
    }

    /// Where a directory begins, in bytes; the root directory is none.
    pub fn directory_offset(&self, node: Option<usize>) -> u64 {
        self.geometry.cluster_offset(self.run(node).first)
    }

    /// The clusters of a directory, with zeros to the end of the last.
    ///
    /// # Errors
    ///
    /// Where there are no short names left.
    pub fn directory(&self, node: Option<usize>) -> Result<Vec<u8>, Fault> {
        let none = Vec::new();
        let children = self.children.get(slot(node)).unwrap_or(&none);
        let children: Vec<(usize, &Node)> =
            children.iter().filter_map(|at| Some((*at, self.nodes.get(*at)?))).collect();
        let names: Vec<&str> = children.iter().map(|(_, node)| node.name.as_str()).collect();
        let mut bytes = Vec::new();
        match node.and_then(|at| self.nodes.get(at)) {
            Some(own) => {
                let above = own.parent.and_then(|parent| self.nodes.get(parent));
                let above_time = above.map_or(own.modified, |above| above.modified);
                let above_cluster = own.parent.map_or(0, |_| self.run(own.parent).first);
                let facts = |cluster, modified| Facts { cluster, len: None, modified };
                directory::push_dots(
                    &mut bytes,
                    facts(self.run(node).first, own.modified),
                    facts(above_cluster, above_time),
                );
            }
            None => {
                if let Some(label) = self.identity.label {
                    directory::push_label(&mut bytes, label, self.identity.created);
                }
            }
        }
        for ((at, child), name) in children.iter().zip(name::assign(&names)?) {
            let run = self.run(Some(*at));
            let facts = Facts {
                cluster: if run.count == 0 { 0 } else { run.first },
                len: child.len.map(|len| u32::try_from(len).unwrap_or(u32::MAX)),
                modified: child.modified,
            };
            directory::push_node(&mut bytes, &name, facts);
        }
        let clusters = u64::from(self.run(node).count) * self.geometry.cluster_bytes();
        bytes.resize(usize::try_from(clusters).unwrap_or(bytes.len()), 0);
        Ok(bytes)
    }

    fn run(&self, node: Option<usize>) -> Run {
        self.runs.get(slot(node)).copied().unwrap_or_default()
    }
}

/// Position in lists that begin with the root directory.
fn slot(node: Option<usize>) -> usize {
    node.map_or(0, |node| node + 1)
}

fn children(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); nodes.len() + 1];
    for (at, node) in nodes.iter().enumerate() {
        if let Some(list) = children.get_mut(slot(node.parent)) {
            list.push(at);
        }
    }
    children
}

/// How many entries the root directory and then each node has, itself not counted; 0 for files.
fn count_entries(
    nodes: &[Node],
    children: &[Vec<usize>],
    has_label: bool,
) -> Result<Vec<usize>, Fault> {
    let mut counts = Vec::with_capacity(children.len());
    for (slot, list) in children.iter().enumerate() {
        let mut count = if slot == 0 { usize::from(has_label) } else { 2 };
        let mut seen: HashSet<String> = HashSet::new();
        for node in list.iter().filter_map(|at| nodes.get(*at)) {
            count += name::entries(&node.name)?;
            if let Some(len) = node.len.filter(|len| *len > FILE_MAX) {
                return Err(Fault::FileTooLarge { name: node.name.clone(), len });
            }
            if count > ENTRIES_MAX {
                return Err(Fault::DirectoryTooLarge { name: node.name.clone() });
            }
            let folded = name::folded(&node.name);
            if !seen.insert(folded.clone()) {
                let is_same = |node: &&Node| name::folded(&node.name) == folded;
                let first = list.iter().filter_map(|at| nodes.get(*at)).find(is_same);
                let name = first.map_or_else(String::new, |first| first.name.clone());
                return Err(Fault::Same { name, other: node.name.clone() });
            }
        }
        counts.push(count);
    }
    Ok(counts)
}
