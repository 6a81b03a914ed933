//! Entries of directories.

use time::OffsetDateTime;

use super::ENTRY;
use super::name::{Name, UNITS};
use crate::format::bytes::put;

/// Attribute: a label, not a file.
const LABEL: u8 = 0x08;
/// Attribute: a directory.
const DIRECTORY: u8 = 0x10;
/// Attribute: changed since the last backup; every file is.
const ARCHIVE: u8 = 0x20;
/// Attributes of the entries of long names: a combination that means nothing else.
const LONG: u8 = 0x0f;
/// In the number of a long name's entry: the last piece.
const LAST: u8 = 0x40;

/// What an entry says besides the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// First cluster; 0 for empty files, and for the root directory seen from below.
    pub(super) cluster: u32,
    /// Length in bytes; none for a directory.
    pub(super) len: Option<u32>,
    /// Seconds since the epoch.
    pub(super) modified: i64,
}

/// The entry of the label.
pub(super) fn push_label(bytes: &mut Vec<u8>, label: [u8; 11], created: i64) {
    push(bytes, label, LABEL, 0, Facts { cluster: 0, len: None, modified: created });
}

/// The entries `.` and `..` of a directory.
pub(super) fn push_dots(bytes: &mut Vec<u8>, own: Facts, above: Facts) {
    push(bytes, *b".          ", DIRECTORY, 0, own);
    push(bytes, *b"..         ", DIRECTORY, 0, above);
}

/// The entries of a file or directory.
pub(super) fn push_node(bytes: &mut Vec<u8>, name: &Name, facts: Facts) {
    let sum = checksum(name.short);
    let pieces = name.long.chunks(UNITS).enumerate();
    let count = name.long.len().div_ceil(UNITS);
    for (index, piece) in pieces.rev() {
        let number = u8::try_from(index + 1).unwrap_or_default();
        push_piece(bytes, piece, if index + 1 == count { number | LAST } else { number }, sum);
    }
    let attributes = if facts.len.is_none() { DIRECTORY } else { ARCHIVE };
    push(bytes, name.short, attributes, name.case, facts);
}

fn push(bytes: &mut Vec<u8>, short: [u8; 11], attributes: u8, case: u8, facts: Facts) {
    let mut entry = [0; ENTRY];
    let mut set = |offset: usize, value: &[u8]| put(&mut entry, offset, value);
    let (date, time) = stamp(facts.modified);
    set(0, &short);
    set(11, &[attributes, case]);
    // Made, used, changed: all when it was changed, as mtools does.
    set(14, &time.to_le_bytes());
    set(16, &date.to_le_bytes());
    set(18, &date.to_le_bytes());
    let [c0, c1, c2, c3] = facts.cluster.to_le_bytes();
    set(20, &[c2, c3]);
    set(22, &time.to_le_bytes());
    set(24, &date.to_le_bytes());
    set(26, &[c0, c1]);
    set(28, &facts.len.unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&entry);
}

fn push_piece(bytes: &mut Vec<u8>, piece: &[u16], number: u8, sum: u8) {
    // A zero ends a name that does not fill its piece; the rest is ones.
    let mut units = [0xffff_u16; UNITS];
    for (slot, unit) in units.iter_mut().zip(piece.iter().copied().chain([0])) {
        *slot = unit;
    }
    let mut entry = [0; ENTRY];
    put(&mut entry, 0, &[number]);
    put(&mut entry, 11, &[LONG, 0, sum]);
    for (index, unit) in units.iter().enumerate() {
        let offset = match index {
            0..5 => 1 + 2 * index,
            5..11 => 14 + 2 * (index - 5),
            _ => 28 + 2 * (index - 11),
        };
        put(&mut entry, offset, &unit.to_le_bytes());
    }
    bytes.extend_from_slice(&entry);
}

/// What ties the pieces of a long name to the short one.
fn checksum(short: [u8; 11]) -> u8 {
    short.iter().fold(0_u8, |sum, letter| sum.rotate_right(1).wrapping_add(*letter))
}

/// Date and time, UTC. Two seconds is the finest, 1980 the earliest and 2107 the last year.
fn stamp(seconds: i64) -> (u16, u16) {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_199;
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds.clamp(FIRST, LAST)) else {
        return (0, 0);
    };
    let years = u16::try_from(time.year() - 1980).unwrap_or_default();
    let date = years << 9 | u16::from(u8::from(time.month())) << 5 | u16::from(time.day());
    let clock =
        u16::from(time.hour()) << 11 | u16::from(time.minute()) << 5 | u16::from(time.second() / 2);
    (date, clock)
}
