//! FAT32 file systems of any names and lengths, read again by a reader of its own.

use std::collections::HashSet;

use slipway::format::fat::{Geometry, Identity, Layout, Node, volume_label};

use crate::kind;

/// Where an entry of a long name has its letters.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// One node a line: `depth size name`; a size of `/` makes a directory. First line: the label.
pub fn run(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let label = lines.next().unwrap_or_default();
    let mut nodes: Vec<Node> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for line in lines.take(300) {
        let mut words = line.splitn(3, ' ');
        let depth: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let len = words.next().and_then(|word| word.parse().ok());
        open.truncate(depth);
        let name = words.next().unwrap_or_default().to_owned();
        nodes.push(Node { parent: open.last().copied(), name, len, modified: depth as i64 - 9 });
        if len.is_none() {
            open.push(nodes.len() - 1);
        }
    }
    let sector_size = 512 << (input.len() % 4);
    let Some(geometry) = Geometry::new((input.len() as u64 + 40) << 14, sector_size) else {
        return 0;
    };
    let identity = Identity { volume_id: 1, label: volume_label(label), created: 0 };
    let layout = match Layout::new(geometry, identity, nodes) {
        Ok(layout) => layout,
        Err(fault) => return kind(&std::mem::discriminant(&fault)),
    };
    let mut table = vec![0; usize::try_from(geometry.table_bytes()).unwrap()];
    layout.fill_table(0, &mut table);
    let mut halves = table.clone();
    let (left, right) = halves.split_at_mut(table.len() / 8 * 4);
    layout.fill_table(0, left);
    layout.fill_table(u32::try_from(left.len() / 4).unwrap(), right);
    assert!(halves == table, "the table depends on how it is asked for");

    let mut seen = HashSet::new();
    for directory in std::iter::once(None).chain((0..layout.nodes().len()).map(Some)) {
        if directory.is_none_or(|at| layout.nodes()[at].len.is_none()) {
            read(&layout, directory, &table, &mut seen);
        }
    }
    let used = table.chunks(4).skip(2).filter(|entry| *entry != [0; 4]).count();
    assert_eq!(used, seen.len(), "clusters that belong to nobody");
    1 + layout.nodes().len().min(30) as u64
}

/// Reads a directory as a driver does, and checks it against what was to be in it.
fn read(layout: &Layout, directory: Option<usize>, table: &[u8], seen: &mut HashSet<u32>) {
    let nodes = layout.nodes();
    let bytes = layout.directory(directory).unwrap();
    if directory.is_none() {
        follow(layout, 2, bytes.len() as u64, table, seen);
    }
    let mut children = nodes.iter().filter(|node| node.parent == directory);
    let mut shorts = HashSet::new();
    let mut long: Vec<u16> = Vec::new();
    let mut sums = HashSet::new();
    for entry in bytes.chunks(32).take_while(|entry| entry[0] != 0) {
        if entry[11] == 0x0f {
            let unit = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let units: Vec<u16> = UNITS.iter().map(|at| unit(*at)).collect();
            long.splice(0..0, units);
            sums.insert(entry[13]);
            continue;
        }
        let short: [u8; 11] = entry[..11].try_into().unwrap();
        // A label may be the name of a file, too.
        if entry[11] == 8 {
            continue;
        }
        assert!(shorts.insert(short), "two of {short:?}");
        if short[0] == b'.' {
            continue;
        }
        let node = children.next().expect("more entries than nodes");
        let end = long.iter().position(|unit| *unit == 0).unwrap_or(long.len());
        let name = if long.is_empty() {
            let part = |part: &[u8], flag: u8| {
                let text = std::str::from_utf8(part).unwrap().trim_end().to_owned();
                if entry[12] & flag == 0 { text } else { text.to_lowercase() }
            };
            let (stem, extension) = (part(&short[..8], 8), part(&short[8..], 16));
            if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
        } else {
            let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
            assert!(sums.len() == 1 && sums.contains(&sum), "another checksum");
            String::from_utf16(&long[..end]).unwrap()
        };
        assert_eq!(name, node.name);
        (long, sums) = (Vec::new(), HashSet::new());
        let word = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
        let cluster = word(26) | word(20) << 16;
        let len = word(28) | word(30) << 16;
        assert_eq!(u64::from(len), node.len.unwrap_or(0));
        let at = nodes.iter().position(|other| std::ptr::eq(other, node)).unwrap();
        let len = node.len.unwrap_or_else(|| layout.directory(Some(at)).unwrap().len() as u64);
        if len == 0 {
            assert_eq!(cluster, 0);
        } else {
            assert_eq!(layout.geometry().cluster_offset(cluster), layout.offset(at));
            follow(layout, cluster, len, table, seen);
        }
    }
    assert!(children.next().is_none(), "fewer entries than nodes");
}

/// Follows a chain of clusters to its end.
fn follow(layout: &Layout, first: u32, len: u64, table: &[u8], seen: &mut HashSet<u32>) {
    let mut cluster = first;
    for left in (0..layout.geometry().clusters_for(len)).rev() {
        assert!(seen.insert(cluster), "cluster {cluster} belongs to two");
        let at = cluster as usize * 4;
        let next = u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        assert_eq!(next >= 0x0fff_fff8, left == 0, "a chain of another length");
        cluster = next;
    }
}

/// Names of all kinds, in directories.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "",
        "LABEL\n0 5 README.TXT\n0 / EFI\n1 / BOOT\n2 70000 BOOTX64.EFI\n0 / loader\n1 0 entries.srel",
        "a label\n0 1 Long name.conf\n0 1 Long name 2.conf\n0 1 long\u{1f980}~1\n0 1 aux.c\n0 1 a+b",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
