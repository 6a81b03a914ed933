//! Power cuts: a disk and a directory that forget what has not been synced.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use slipway::disk::{Access, Disk, Disks, Lock};
use slipway::fs::{Change, Witness};

/// Reproducible randomness (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap()
    }
}

/// What the power does.
struct Fuse {
    /// Steps until it goes.
    left: Option<usize>,
    steps: usize,
    is_out: bool,
}

impl Fuse {
    fn new(cut: Option<usize>) -> Self {
        Self { left: cut, steps: 0, is_out: false }
    }

    /// True if the step still happens; the step at the cut happens in part.
    fn step(&mut self) -> bool {
        if self.is_out {
            return false;
        }
        self.steps += 1;
        if let Some(left) = &mut self.left {
            if *left == 0 {
                self.is_out = true;
                return false;
            }
            *left -= 1;
        }
        true
    }
}

fn dead() -> io::Error {
    io::Error::other("the power is out")
}

const PAGE: usize = 4096;

/// A disk image, as what differs from another one.
#[derive(Clone)]
pub struct Image {
    base: Arc<Vec<u8>>,
    pages: BTreeMap<usize, Vec<u8>>,
}

impl Image {
    pub fn new(bytes: Vec<u8>) -> Self {
        assert_eq!(bytes.len() % PAGE, 0);
        Self { base: Arc::new(bytes), pages: BTreeMap::new() }
    }

    pub fn size(&self) -> usize {
        self.base.len()
    }

    pub fn page(&self, number: usize) -> &[u8] {
        let base = || &self.base[number * PAGE..(number + 1) * PAGE];
        self.pages.get(&number).map_or_else(base, Vec::as_slice)
    }

    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let (number, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let len = (PAGE - within).min(buffer.len() - done);
            let page = self.page(number);
            buffer[done..done + len].copy_from_slice(&page[within..within + len]);
            done += len;
        }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (number, within) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let len = (PAGE - within).min(bytes.len() - done);
            let old = self.page(number).to_vec();
            let page = self.pages.entry(number).or_insert(old);
            page[within..within + len].copy_from_slice(&bytes[done..done + len]);
            done += len;
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size()];
        self.read(0, &mut bytes);
        bytes
    }

    /// True if a range is the same in another state of the same disk.
    pub fn is_same(&self, other: &Self, range: std::ops::Range<usize>) -> bool {
        let pages = range.start / PAGE..range.end / PAGE;
        let changed = self.pages.range(pages.clone()).chain(other.pages.range(pages));
        changed.into_iter().all(|(number, _)| self.page(*number) == other.page(*number))
    }
}

struct Sim {
    sector_size: u32,
    /// What survives a cut.
    durable: Image,
    /// What a reader sees.
    current: Image,
    /// Writes since the last sync, as they came.
    volatile: Vec<(usize, Vec<u8>)>,
    fuse: Fuse,
}

/// One disk in memory under one path.
#[derive(Clone)]
pub struct SimDisks(Arc<Mutex<Sim>>);

impl SimDisks {
    /// `cut` is the number of writes and syncs that still succeed.
    pub fn new(image: Image, sector_size: u32, cut: Option<usize>) -> Self {
        let sim = Sim {
            sector_size,
            current: image.clone(),
            durable: image,
            volatile: Vec::new(),
            fuse: Fuse::new(cut),
        };
        Self(Arc::new(Mutex::new(sim)))
    }

    pub fn steps(&self) -> usize {
        self.0.lock().unwrap().fuse.steps
    }

    pub fn image(&self) -> Image {
        self.0.lock().unwrap().current.clone()
    }

    /// What is on the disk when the power is back: of the sectors that were not synced any, in any
    /// order.
    pub fn after_cut(&self, dice: &mut Dice) -> Image {
        let sim = self.0.lock().unwrap();
        let mut image = sim.durable.clone();
        let size = sim.sector_size as usize;
        let mut sectors: Vec<(usize, &[u8])> = Vec::new();
        for (offset, bytes) in &sim.volatile {
            // Sectors are written as a whole or not at all; writes need not begin at one.
            let mut at = 0;
            while at < bytes.len() {
                let end = (at + size - (offset + at) % size).min(bytes.len());
                sectors.push((offset + at, &bytes[at..end]));
                at = end;
            }
        }
        // Now and then all or nothing; the extremes are worth being certain of.
        let odds = [0, 100, 50, 10, 90][dice.below(5)];
        for i in (1..sectors.len()).rev() {
            sectors.swap(i, dice.below(i + 1));
        }
        for (offset, bytes) in sectors {
            if dice.below(100) < odds {
                image.write(offset, bytes);
            }
        }
        image
    }
}

impl Disks for SimDisks {
    fn open(&self, _: &Path, _: Access) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(SimDisk(Arc::clone(&self.0))))
    }
}

struct SimDisk(Arc<Mutex<Sim>>);

impl Disk for SimDisk {
    fn size_bytes(&self) -> u64 {
        self.0.lock().unwrap().current.size() as u64
    }

    fn sector_size_bytes(&self) -> u32 {
        self.0.lock().unwrap().sector_size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let sim = self.0.lock().unwrap();
        if sim.fuse.is_out {
            return Err(dead());
        }
        let start = usize::try_from(offset).unwrap();
        if start + buffer.len() > sim.current.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sim.current.read(start, buffer);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sim = self.0.lock().unwrap();
        if sim.fuse.is_out {
            return Err(dead());
        }
        let start = usize::try_from(offset).unwrap();
        if start + bytes.len() > sim.current.size() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let is_done = sim.fuse.step();
        sim.current.write(start, bytes);
        sim.volatile.push((start, bytes.to_vec()));
        if is_done { Ok(()) } else { Err(dead()) }
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.write_at(offset, &vec![0; usize::try_from(len).unwrap()])
    }

    fn sync(&self) -> io::Result<()> {
        let mut sim = self.0.lock().unwrap();
        if !sim.fuse.step() {
            return Err(dead());
        }
        let sim = &mut *sim;
        for (offset, bytes) in sim.volatile.drain(..) {
            sim.durable.write(offset, &bytes);
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(SimLock))
    }
}

struct SimLock;

impl Lock for SimLock {}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { inode: u64, mode: u32, contents: Vec<u8> },
    Link(PathBuf),
}

type Tree = BTreeMap<PathBuf, Node>;

struct Watched {
    top: PathBuf,
    fuse: Fuse,
    /// The tree before each change, since names were last made durable.
    states: Vec<Tree>,
    /// Files whose contents would not survive, by inode.
    dirty: BTreeMap<u64, ()>,
    /// The sync that has been announced and counts once something follows it.
    syncing: Option<Sync>,
}

enum Sync {
    File(u64),
    Names,
    All,
}

/// Watches a directory, cuts the power at a step, and knows what would be left.
pub struct Cut(Mutex<Watched>);

impl Cut {
    pub fn new(top: &Path, cut: Option<usize>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Watched {
            top: top.to_path_buf(),
            fuse: Fuse::new(cut),
            states: Vec::new(),
            dirty: BTreeMap::new(),
            syncing: None,
        })))
    }

    pub fn steps(&self) -> usize {
        self.0.lock().unwrap().fuse.steps
    }

    /// Makes the directory what it is when the power is back: of the changes of names that were
    /// not synced the first few, of contents that were not synced anything.
    pub fn restore(&self, dice: &mut Dice) {
        let mut watched = self.0.lock().unwrap();
        let now = read_tree(&watched.top);
        watched.states.push(now);
        let state = dice.below(watched.states.len());
        let mut tree = watched.states.swap_remove(state);
        for node in tree.values_mut() {
            if let Node::File { inode, contents, .. } = node
                && watched.dirty.contains_key(inode)
            {
                match dice.below(4) {
                    0 => {}
                    1 => contents.clear(),
                    2 => contents.truncate(dice.below(contents.len() + 1)),
                    _ => contents.fill(0),
                }
            }
        }
        write_tree(&watched.top, &tree);
    }
}

impl Watched {
    fn inode(&self, path: &Path) -> Option<u64> {
        std::fs::symlink_metadata(path).ok().map(|stat| stat.ino())
    }

    /// What has been announced before is over by now.
    fn settle(&mut self) {
        match self.syncing.take() {
            None => {}
            Some(Sync::File(inode)) => {
                self.dirty.remove(&inode);
            }
            Some(Sync::Names) => self.states.clear(),
            Some(Sync::All) => {
                self.states.clear();
                self.dirty.clear();
            }
        }
    }
}

impl Witness for Cut {
    fn before(&self, change: &Change<'_>) -> io::Result<()> {
        let mut watched = self.0.lock().unwrap();
        if watched.fuse.is_out {
            return Err(dead());
        }
        watched.settle();
        let tree = read_tree(&watched.top);
        // Contents written since the last look.
        let touched = |path: &Path| path.starts_with(&watched.top);
        let mut dirty = Vec::new();
        if let Change::Create(path) | Change::Write(path) = change
            && touched(path)
        {
            dirty.extend(watched.inode(path));
        }
        if let Some(last) = watched.states.last() {
            for (path, node) in &tree {
                if let Node::File { inode, .. } = node
                    && last.get(path) != Some(node)
                    && !last.values().any(|old| old == node)
                {
                    dirty.push(*inode);
                }
            }
        }
        watched.dirty.extend(dirty.into_iter().map(|inode| (inode, ())));
        watched.states.push(tree);
        if !watched.fuse.step() {
            return Err(dead());
        }
        watched.syncing = match change {
            Change::SyncFile(path) => watched.inode(path).map(Sync::File),
            Change::SyncDir(_) => Some(Sync::Names),
            Change::SyncAll(_) => Some(Sync::All),
            _ => None,
        };
        Ok(())
    }
}

fn read_tree(top: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let node = if stat.is_dir() {
                todo.push(path.clone());
                Node::Directory
            } else if stat.is_symlink() {
                Node::Link(std::fs::read_link(&path).unwrap())
            } else {
                let contents = std::fs::read(&path).unwrap();
                Node::File { inode: stat.ino(), mode: stat.mode() & 0o7777, contents }
            };
            tree.insert(path.strip_prefix(top).unwrap().to_path_buf(), node);
        }
    }
    tree
}

fn write_tree(top: &Path, tree: &Tree) {
    std::fs::remove_dir_all(top).unwrap();
    std::fs::create_dir(top).unwrap();
    for (path, node) in tree {
        let path = top.join(path);
        match node {
            Node::Directory => std::fs::create_dir(path).unwrap(),
            Node::Link(text) => std::os::unix::fs::symlink(text, path).unwrap(),
            Node::File { mode, contents, .. } => {
                std::fs::write(&path, contents).unwrap();
                std::fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}
