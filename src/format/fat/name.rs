//! Names: long ones, the short ones beside them, and labels.

use std::collections::{HashMap, HashSet};

use super::layout::Fault;

/// LIMIT: of the format, in UTF-16 units.
const LONG_MAX: usize = 255;
/// UTF-16 units in one entry of a long name.
pub(super) const UNITS: usize = 13;
/// LIMIT: of the tail that tells short names apart.
const TAIL_MAX: u32 = 999_999;

/// Short names that are devices to DOS and its heirs, with any extension.
const DEVICES: [&str; 12] =
    ["AUX", "CLOCK$", "COM1", "COM2", "COM3", "COM4", "CON", "LPT1", "LPT2", "LPT3", "NUL", "PRN"];

/// The stem of a short name is in lower case.
const STEM_LOWER: u8 = 0x08;
/// The extension of a short name is in lower case.
const EXTENSION_LOWER: u8 = 0x10;

/// A name as the entries of a directory have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Stem and extension, padded with spaces.
    pub(super) short: [u8; 11],
    /// Which parts of the short name are in lower case.
    pub(super) case: u8,
    /// The long name; empty where the short one says it all.
    pub(super) long: Vec<u16>,
}

/// How many entries a name takes, or why it cannot be.
pub(super) fn entries(name: &str) -> Result<usize, Fault> {
    let long = check(name)?;
    let count = match exact(name) {
        Some((_, Some(_))) => 1,
        _ => 1 + long.len().div_ceil(UNITS),
    };
    Ok(count)
}

/// What two names that are the same to FAT have in common.
pub(super) fn folded(name: &str) -> String {
    // Unit by unit, as the format compares: a letter whose capital is two letters is itself.
    let fold = |letter: char| {
        let mut upper = letter.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => one,
            _ => letter,
        }
    };
    name.chars().map(fold).collect()
}

/// The UTF-16 units of a name that FAT can hold.
///
/// DIFFERS: mtools, and so the peer, copies `a:b` as `b` and `a.` as `a`, and says nothing.
fn check(name: &str) -> Result<Vec<u16>, Fault> {
    let is_bad = |letter: char| letter < ' ' || "\"*/:<>?\\|\u{7f}".contains(letter);
    if let Some(letter) = name.chars().find(|letter| is_bad(*letter)) {
        return Err(Fault::Letter { name: name.to_owned(), letter });
    }
    // Every reader strips these, and would find another name.
    if name.is_empty() || name.ends_with(['.', ' ']) {
        return Err(Fault::Edge { name: name.to_owned() });
    }
    let long: Vec<u16> = name.encode_utf16().collect();
    if long.len() > LONG_MAX {
        return Err(Fault::TooLong { name: name.to_owned() });
    }
    Ok(long)
}

/// True for what a short name may have besides spaces.
fn is_short(letter: u8) -> bool {
    letter.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&letter)
}

/// Stem and extension.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(0) | None => (name, ""),
        Some(dot) => name
            .split_at_checked(dot)
            .map_or((name, ""), |(stem, rest)| (stem, rest.strip_prefix('.').unwrap_or(rest))),
    }
}

/// The short name that a name is but for its case, and the flags that give its case back where
/// there are any that do.
fn exact(name: &str) -> Option<([u8; 11], Option<u8>)> {
    let (stem, extension) = split(name);
    let is_part = |part: &str, max: usize| part.len() <= max && part.bytes().all(is_short);
    let is_device = DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device));
    if stem.is_empty() || is_device || !is_part(stem, 8) || !is_part(extension, 3) {
        return None;
    }
    let flag = |part: &str, flag: u8| {
        let has_upper = part.bytes().any(|letter| letter.is_ascii_uppercase());
        let has_lower = part.bytes().any(|letter| letter.is_ascii_lowercase());
        (!has_upper || !has_lower).then_some(if has_lower { flag } else { 0 })
    };
    let case = flag(stem, STEM_LOWER).zip(flag(extension, EXTENSION_LOWER));
    Some((padded(stem, extension), case.map(|(stem, extension)| stem | extension)))
}

fn padded(stem: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    let (left, right) = short.split_at_mut(8);
    for (slot, letter) in left.iter_mut().zip(stem.bytes()) {
        *slot = letter.to_ascii_uppercase();
    }
    for (slot, letter) in right.iter_mut().zip(extension.bytes()) {
        *slot = letter.to_ascii_uppercase();
    }
    short
}

/// The letters of a part that can be in a short name.
fn reduced(part: &str, max: usize) -> String {
    part.chars()
        .filter(|letter| !matches!(letter, ' ' | '.'))
        .map(|letter| match u8::try_from(letter) {
            Ok(byte) if is_short(byte) => letter.to_ascii_uppercase(),
            _ => '_',
        })
        .take(max)
        .collect()
}

/// The names of one directory's children, in their order, with short names that are all different.
pub(super) fn assign(names: &[&str]) -> Result<Vec<Name>, Fault> {
    let mut taken: HashSet<[u8; 11]> =
        names.iter().filter_map(|name| exact(name)).map(|(short, _)| short).collect();
    // The next tail for a beginning; without it five thousand neighbours take minutes.
    let mut tails: HashMap<(String, String), u32> = HashMap::new();
    let mut result = Vec::with_capacity(names.len());
    for name in names {
        let long = check(name)?;
        let (short, case, long) = match exact(name) {
            Some((short, Some(case))) => (short, case, Vec::new()),
            Some((short, None)) => (short, 0, long),
            None => (numbered(name, &mut taken, &mut tails)?, 0, long),
        };
        result.push(Name { short, case, long });
    }
    Ok(result)
}

fn numbered(
    name: &str,
    taken: &mut HashSet<[u8; 11]>,
    tails: &mut HashMap<(String, String), u32>,
) -> Result<[u8; 11], Fault> {
    let (stem, extension) = split(name);
    let (mut stem, extension) = (reduced(stem, 6), reduced(extension, 3));
    if stem.is_empty() {
        stem.push('_');
    }
    let tail = tails.entry((stem.clone(), extension.clone())).or_insert(1);
    while *tail <= TAIL_MAX {
        let number = format!("~{tail}");
        *tail += 1;
        let kept = stem.get(..stem.len().min(8 - number.len())).unwrap_or_default();
        let short = padded(&format!("{kept}{number}"), &extension);
        if taken.insert(short) {
            return Ok(short);
        }
    }
    Err(Fault::DirectoryTooLarge { name: name.to_owned() })
}

/// The label that a partition's label becomes: capitals, eleven at most, and `_` for what a label
/// cannot have.
pub fn label(text: &str) -> String {
    let letter = |letter: char| match u8::try_from(letter.to_ascii_uppercase()) {
        Ok(byte) if is_short(byte) || byte == b' ' => char::from(byte),
        _ => '_',
    };
    text.chars().take(11).map(letter).collect()
}

/// A label as it is on disk; none for one that says nothing.
pub fn volume_label(text: &str) -> Option<[u8; 11]> {
    let text = label(text);
    if text.trim().is_empty() {
        return None;
    }
    let mut label = [b' '; 11];
    for (slot, letter) in label.iter_mut().zip(text.bytes()) {
        *slot = letter;
    }
    Some(label)
}
