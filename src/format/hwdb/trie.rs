//! The compiled hardware database, `hwdb.bin`.
//!
//! Layout (little endian, all offsets from the start of the file): a header of 80 bytes, then nodes
//! and strings. A node has a prefix, children sorted by byte, and values; globs stand in it as
//! ordinary bytes, so a look-up follows the name's own bytes and, at each `*`, `?` and `[`, tries
//! everything below as a pattern.
//!
//! The file is 14 MB and a look-up needs a few pages of it: it is read through [`Pages`]. Offsets
//! are believed only so far that a file full of cycles ends at a bound.
//!
//! External spec: the walk of systemd's sd-hwdb; see hwdb(7).

use std::collections::BTreeMap;
use std::fmt;

use super::super::glob;

/// Where the bytes come from.
pub trait Pages {
    /// Fills the buffer from an offset; false where that is not possible.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> bool;
}

impl Pages for &[u8] {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> bool {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        match from.and_then(|rest| rest.get(..buffer.len())) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It does not begin as one.
    Magic,
    /// Sizes in the header are too small for what we know.
    Header,
    /// An offset leads out of the file.
    Offset,
    /// More nodes or longer strings than any sane file has.
    Endless,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "it is not a compiled hardware database",
            Self::Header => "its header is malformed",
            Self::Offset => "it is truncated or damaged",
            Self::Endless => "it has cycles or is unreasonably large",
        })
    }
}

impl std::error::Error for Broken {}

/// What the file begins with.
pub const MAGIC: &[u8; 8] = b"KSLPHHRH";

/// LIMIT: bytes of one string, of a name, and of a pattern put together from the nodes.
const STRING_MAX: usize = 2048;

/// LIMIT: work of one look-up: visited nodes, children and bytes of patterns tried.
const WORK_MAX: usize = 1 << 20;

/// Bytes of a string that are read at once.
const PIECE: usize = 32;

const HEADER_SIZE: usize = 80;
const NODE_SIZE: u64 = 24;
const CHILD_SIZE: u64 = 16;
const VALUE_SIZE: u64 = 32;

/// Properties with the place they come from, which decides between two.
type Found = BTreeMap<String, ((u16, u32), String)>;

/// The properties of a name.
///
/// # Errors
/// The file is not one, or damaged on the way that the look-up takes.
pub fn query(pages: &mut dyn Pages, name: &str) -> Result<BTreeMap<String, String>, Broken> {
    if name.len() > STRING_MAX {
        return Ok(BTreeMap::new());
    }
    let mut walk = Walk::open(pages, name)?;
    walk.search()?;
    Ok(walk.found.into_iter().map(|(key, (_, value))| (key, value)).collect())
}

struct Walk<'a> {
    pages: &'a mut dyn Pages,
    name: &'a str,
    root: u64,
    node_size: u64,
    child_size: u64,
    value_size: u64,
    work: usize,
    /// The pattern on the way to the node being visited.
    pattern: Vec<u8>,
    found: Found,
}

struct Node {
    prefix: Vec<u8>,
    children: u64,
    children_count: u64,
    values: u64,
    values_count: u64,
}

impl<'a> Walk<'a> {
    fn open(pages: &'a mut dyn Pages, name: &'a str) -> Result<Self, Broken> {
        let mut header = [0; HEADER_SIZE];
        if !pages.read(0, &mut header) || !header.starts_with(MAGIC) {
            return Err(Broken::Magic);
        }
        let number = |index: usize| -> u64 {
            let bytes = header.get(index * 8..).and_then(|rest| rest.first_chunk());
            bytes.copied().map_or(0, u64::from_le_bytes)
        };
        // Later versions may make records longer, not shorter.
        let (node_size, child_size, value_size) = (number(4), number(5), number(6));
        let is_sane = |size: u64, least: u64| (least..=4096).contains(&size);
        // The first format had no file and line in a value.
        if !is_sane(node_size, NODE_SIZE)
            || !is_sane(child_size, CHILD_SIZE)
            || !is_sane(value_size, 16)
        {
            return Err(Broken::Header);
        }
        Ok(Self {
            pages,
            name,
            root: number(7),
            node_size,
            child_size,
            value_size,
            work: 0,
            pattern: Vec::new(),
            found: Found::new(),
        })
    }

    fn spend(&mut self, work: usize) -> Result<(), Broken> {
        self.work = self.work.saturating_add(work);
        if self.work > WORK_MAX { Err(Broken::Endless) } else { Ok(()) }
    }

    fn bytes<const N: usize>(&mut self, offset: u64) -> Result<[u8; N], Broken> {
        let mut buffer = [0; N];
        if self.pages.read(offset, &mut buffer) { Ok(buffer) } else { Err(Broken::Offset) }
    }

    fn number(&mut self, offset: u64) -> Result<u64, Broken> {
        self.bytes(offset).map(u64::from_le_bytes)
    }

    /// A string that ends with NUL.
    fn string(&mut self, offset: u64) -> Result<Vec<u8>, Broken> {
        let mut string = Vec::new();
        loop {
            let at = offset.checked_add(string.len() as u64).ok_or(Broken::Offset)?;
            // In pieces, and byte by byte where the file ends.
            let piece = self.bytes::<PIECE>(at);
            let piece = match &piece {
                Ok(piece) => &piece[..],
                Err(_) => &self.bytes::<1>(at)?[..],
            };
            let end = piece.iter().position(|byte| *byte == 0);
            string.extend_from_slice(piece.get(..end.unwrap_or(piece.len())).unwrap_or_default());
            if string.len() > STRING_MAX {
                return Err(Broken::Endless);
            }
            if end.is_some() {
                self.spend(string.len() / 16)?;
                return Ok(string);
            }
        }
    }

    fn node(&mut self, offset: u64) -> Result<Node, Broken> {
        self.spend(1)?;
        let head: [u8; NODE_SIZE as usize] = self.bytes(offset)?;
        let number = |index: usize| -> u64 {
            let bytes = head.get(index * 8..).and_then(|rest| rest.first_chunk());
            bytes.copied().map_or(0, u64::from_le_bytes)
        };
        let prefix = match number(0) {
            0 => Vec::new(),
            offset => self.string(offset)?,
        };
        let children = offset.checked_add(self.node_size).ok_or(Broken::Offset)?;
        let children_count = number(1) & 0xff;
        // At most 255 times 4096.
        let values =
            children.checked_add(children_count * self.child_size).ok_or(Broken::Offset)?;
        Ok(Node { prefix, children, children_count, values, values_count: number(2) })
    }

    /// The byte and the node of a child.
    fn child(&mut self, node: &Node, index: u64) -> Result<(u8, u64), Broken> {
        let at = node.children.checked_add(index * self.child_size).ok_or(Broken::Offset)?;
        let [byte] = self.bytes(at)?;
        Ok((byte, self.number(at.checked_add(8).ok_or(Broken::Offset)?)?))
    }

    fn child_of(&mut self, node: &Node, byte: u8) -> Result<Option<u64>, Broken> {
        let (mut low, mut high) = (0, node.children_count);
        while low < high {
            let middle = low.midpoint(high);
            let (own, offset) = self.child(node, middle)?;
            match own.cmp(&byte) {
                std::cmp::Ordering::Equal => return Ok(Some(offset)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// Follows the name byte by byte.
    fn search(&mut self) -> Result<(), Broken> {
        let name = self.name.as_bytes();
        let mut at = 0;
        let mut offset = self.root;
        loop {
            let node = self.node(offset)?;
            for (index, byte) in node.prefix.iter().enumerate() {
                if matches!(byte, b'*' | b'?' | b'[') {
                    return self.patterns(&node, index, at);
                }
                if name.get(at) != Some(byte) {
                    return Ok(());
                }
                at += 1;
            }
            for sign in *b"*?[" {
                if let Some(child) = self.child_of(&node, sign)? {
                    self.pattern.push(sign);
                    let child = self.node(child)?;
                    self.patterns(&child, 0, at)?;
                    self.pattern.clear();
                }
            }
            let Some(byte) = name.get(at) else { return self.values(&node) };
            let Some(child) = self.child_of(&node, *byte)? else { return Ok(()) };
            offset = child;
            at += 1;
        }
    }

    /// Everything below the node as patterns for the rest of the name that begins at `at`.
    fn patterns(&mut self, node: &Node, skip: usize, at: usize) -> Result<(), Broken> {
        let length = self.pattern.len();
        self.pattern.extend_from_slice(node.prefix.get(skip..).unwrap_or_default());
        // Each level adds a byte at least, which bounds the depth of the recursion.
        if self.pattern.len() > STRING_MAX {
            return Err(Broken::Endless);
        }
        for index in 0..node.children_count {
            let (byte, offset) = self.child(node, index)?;
            self.pattern.push(byte);
            let child = self.node(offset)?;
            self.patterns(&child, 0, at)?;
            self.pattern.pop();
        }
        if node.values_count > 0 {
            self.spend(self.pattern.len())?;
            let rest = self.name.get(at..).unwrap_or_default();
            if glob::matches(&String::from_utf8_lossy(&self.pattern), rest) {
                self.values(node)?;
            }
        }
        self.pattern.truncate(length);
        Ok(())
    }

    fn values(&mut self, node: &Node) -> Result<(), Broken> {
        let mut at = node.values;
        for _ in 0..node.values_count {
            self.spend(1)?;
            let (key, value) = (self.number(at)?, self.number(at.saturating_add(8))?);
            let place = if self.value_size >= VALUE_SIZE {
                let place = self.number(at.saturating_add(24))?;
                // Line, then priority of the file.
                (((place >> 32) & 0xffff) as u16, (place & 0xffff_ffff) as u32)
            } else {
                (0, 0)
            };
            let key = self.string(key)?;
            // The blank in front has marked properties since there were others.
            if let Some(key) = key.strip_prefix(b" ") {
                let key = String::from_utf8_lossy(key).into_owned();
                let value = String::from_utf8_lossy(&self.string(value)?).into_owned();
                let is_older = self.found.get(&key).is_some_and(|(old, _)| *old > place);
                if !is_older {
                    self.found.insert(key, (place, value));
                }
            }
            at = at.checked_add(self.value_size).ok_or(Broken::Offset)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIN: &[u8] = include_bytes!("../../../tests/vectors/hwdb/hwdb.bin");
    const QUERIES: &str = include_str!("../../../tests/vectors/hwdb/queries.txt");
    const TEXTS: [&str; 3] = [
        include_str!("../../../tests/vectors/hwdb/10-first.hwdb"),
        include_str!("../../../tests/vectors/hwdb/20-patterns.hwdb"),
        include_str!("../../../tests/vectors/hwdb/30-last.hwdb"),
    ];

    fn ask(mut bytes: &[u8], name: &str) -> Result<BTreeMap<String, String>, Broken> {
        query(&mut bytes, name)
    }

    #[test]
    fn the_compiled_form_and_the_text_say_what_the_peer_says() {
        let mut count = 0;
        for block in QUERIES.split("@ ").skip(1) {
            let (name, rest) = block.split_once('\n').unwrap();
            let expected: BTreeMap<String, String> = rest
                .lines()
                .map(|line| line.split_once('=').unwrap())
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(ask(BIN, name), Ok(expected.clone()), "{name}");
            let mut text = BTreeMap::new();
            for record in TEXTS.iter().flat_map(|text| super::super::records(text)) {
                if record.is_match(name) {
                    let own =
                        |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
                    text.extend(record.properties.iter().map(own));
                }
            }
            assert_eq!(text, expected, "{name}");
            count += 1;
        }
        assert_eq!(count, 17);
    }

    #[test]
    fn every_truncation_is_an_error_or_an_answer() {
        for end in 0..BIN.len() {
            let result = ask(&BIN[..end], "test:abc");
            assert!(end >= HEADER_SIZE || result == Err(Broken::Magic));
        }
        assert_eq!(ask(&BIN[..HEADER_SIZE], "test:abc"), Err(Broken::Offset));
    }

    #[test]
    fn every_number_at_its_maximum_or_pointing_back_ends() {
        for at in (8..BIN.len() - 8).step_by(4) {
            for number in [u64::MAX, u64::MAX / 2, 0, 80, 1 << 40] {
                let mut bytes = BIN.to_vec();
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
                for name in ["test:abc", "dmi:bvnAcme:svnAcme:pnBox1:x:"] {
                    let _ = ask(&bytes, name);
                }
            }
        }
    }

    #[test]
    fn cycles_end_at_a_bound() {
        // A node at 80 that is its own child for `*` and for `a`, and has a value that matches.
        let mut bytes = MAGIC.to_vec();
        for number in [262u64, 176, 80, 24, 16, 32, 80, 96, 0] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [0u64, 2, 0, u64::from(b'*'), 80, u64::from(b'a'), 80] {
            bytes.extend(number.to_le_bytes());
        }
        assert_eq!(ask(&bytes, "aaaa"), Err(Broken::Endless));
        // A chain of one child each, as deep as a pattern may be.
        let mut deep = bytes[..80].to_vec();
        for index in 0..3000u64 {
            let next = 80 + (index + 1) * 40;
            for number in [0u64, 1, 0, u64::from(b'*'), next] {
                deep.extend(number.to_le_bytes());
            }
        }
        assert_eq!(ask(&deep, "aaaa"), Err(Broken::Endless));
    }

    #[test]
    fn foreign_files_are_refused() {
        assert_eq!(ask(b"", "x"), Err(Broken::Magic));
        assert_eq!(ask(&[0; 200], "x"), Err(Broken::Magic));
        let mut bytes = BIN.to_vec();
        bytes[32] = 8;
        assert_eq!(ask(&bytes, "x"), Err(Broken::Header));
    }
}
