//! The `SHA256SUMS` manifest of an update server: strict, in one pass.
//!
//! Why strict: a line read in two ways is a file installed in two ways, so any bad line refuses
//! the whole list, even one that no pattern would match. The messages are the peer's, and so is
//! the place where reading stops. Linear apart from one sort; a list of 70 000 entries is normal.
//!
//! Documents: sha256sum(1) from coreutils; sysupdate.d(5) for `BEST-BEFORE-YYYY-MM-DD`.

use std::fmt;
use std::sync::Arc;

use time::{Date, Month, OffsetDateTime};

use crate::format::pattern::{self, Fields, Match, Pattern};

/// Name of a file whose existence says until when the list may be used.
const BEST_BEFORE: &str = "BEST-BEFORE-";

const HASH_DIGITS: usize = 64;
/// LIMIT: longest name of one file (NAME_MAX).
const MAX_NAME_BYTES: usize = 255;
/// LIMIT: longest path without its NUL (PATH_MAX - 1).
const MAX_PATH_BYTES: usize = 4095;

/// SHA-256 of nothing: what a marker file should have.
const EMPTY_FILE: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// A whole manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Files in the order of the list; every name once. Markers with a good date are not here.
    pub entries: Vec<Entry>,
    /// Everything called `BEST-BEFORE-…`, in the order of the list.
    pub markers: Vec<Marker>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// SHA-256 of the file as served.
    pub hash: [u8; 32],
    /// Path relative to the manifest, with `/` between names; no `.`, `..`, `//` or `%` in it.
    pub name: Arc<str>,
    /// Line, counted from 1.
    pub line: u32,
}

/// A best-before marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The name as listed.
    pub name: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Midnight UTC of its date in µs since the epoch; none if the date is no good.
    pub date_usec: Option<u64>,
    /// True unless the hash is something else than that of the empty file; worth a warning.
    pub is_hash_expected: bool,
    /// True where it is not at the top level and hence means nothing.
    pub is_in_subdirectory: bool,
}

/// What a marker says about a list at some time. `Display` is the message to log or to fail with;
/// `{:#}` is the one for a stale list where the check is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness<'a> {
    /// Not at the top level: a notice.
    Subdirectory(&'a Marker),
    /// Its date is no good: a warning.
    BadDate(&'a Marker),
    /// All is well: an info.
    Fresh,
    /// The list is too old: an error, or a warning where the check is off.
    Stale {
        /// When the list went out of date, in µs since the epoch.
        date_usec: u64,
        /// The time it was compared with, in µs since the epoch.
        now_usec: u64,
    },
}

/// A file that matches a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<'a> {
    /// What `@v` captured.
    pub version: String,
    /// What the other wildcards captured, and the hash.
    pub fields: Fields,
    /// The entry.
    pub entry: &'a Entry,
}

/// Reads a manifest.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)?;
    if bytes.contains(&0) {
        return Err(ManifestError::NulByte);
    }
    let mut manifest = Manifest::default();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let entry = next_entry(&mut rest, line)?;
        let marker = Marker::recognize(&entry);
        let is_in_force = marker.as_ref().is_some_and(Marker::is_in_force);
        manifest.markers.extend(marker);
        // COMPAT(262): a marker that means nothing is a file like any other.
        if !is_in_force {
            manifest.entries.push(entry);
        }
        line += 1;
    }
    manifest.entries = without_repetitions(manifest.entries)?;
    Ok(manifest)
}

/// Takes one line from the front: hash, space, mark, name, newline.
fn next_entry(rest: &mut &str, line: u32) -> Result<Entry, ManifestError> {
    // Hash, separator, mark and newline.
    if rest.len() < HASH_DIGITS + 3 {
        return Err(ManifestError::Corrupt { line });
    }
    if rest.starts_with('\\') {
        return Err(ManifestError::Escape { line });
    }
    let (digits, after) =
        rest.split_at_checked(HASH_DIGITS).ok_or(ManifestError::Digest { line })?;
    let hash = parse_digest(digits, line)?;
    let after = after.strip_prefix(' ').ok_or(ManifestError::Separator { line })?;
    let after = after.strip_prefix([' ', '*']).ok_or(ManifestError::Mark { line })?;
    let (name, after) = after.split_once('\n').ok_or(ManifestError::Truncated { line })?;
    if name.is_empty() {
        return Err(ManifestError::EmptyName { line });
    }
    if !is_relative_path(name) || name.contains('%') {
        return Err(ManifestError::Name { line });
    }
    if name.bytes().any(|c| c < b' ' || c == 0x7f) {
        return Err(ManifestError::ControlCharacter { line });
    }
    *rest = after;
    Ok(Entry { hash, name: name.into(), line })
}

/// COMPAT(262): white space between digits is skipped there, and then digits are missing. The two
/// refusals are told apart as there.
fn parse_digest(text: &str, line: u32) -> Result<[u8; 32], ManifestError> {
    let mut hash = [0; 32];
    let mut count = 0;
    for c in text.bytes().filter(|c| !matches!(c, b' ' | b'\t' | b'\n' | b'\r')) {
        let digit = match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            b'A'..=b'F' => c - b'A' + 10,
            _ => return Err(ManifestError::Digest { line }),
        };
        if let Some(byte) = hash.get_mut(count / 2) {
            *byte = *byte << 4 | digit;
        }
        count += 1;
    }
    match count {
        HASH_DIGITS => Ok(hash),
        odd if odd % 2 == 1 => Err(ManifestError::Digest { line }),
        _ => Err(ManifestError::DigestLength { line, bytes: count / 2 }),
    }
}

/// One slash at the end is tolerated; no pattern matches such a name.
fn is_relative_path(name: &str) -> bool {
    let path = name.strip_suffix('/').unwrap_or(name);
    name.len() <= MAX_PATH_BYTES
        && path
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.len() <= MAX_NAME_BYTES)
}

/// Drops lines that say again what an earlier one said.
///
/// DIFFERS: the peer takes the first of two lines that give one name two hashes. Such a list is
/// wrong, and which half is wrong cannot be known.
fn without_repetitions(entries: Vec<Entry>) -> Result<Vec<Entry>, ManifestError> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name).then(a.line.cmp(&b.line)));
    let mut repeated = Vec::new();
    let mut contradiction: Option<(&Entry, &Entry)> = None;
    for run in sorted.chunk_by(|a, b| a.name == b.name) {
        let Some((first, others)) = run.split_first() else { continue };
        repeated.extend(others.iter().map(|entry| entry.line));
        let other = others.iter().find(|other| other.hash != first.hash);
        if let Some(other) = other.filter(|o| contradiction.is_none_or(|(_, c)| o.line < c.line)) {
            contradiction = Some((first, other));
        }
    }
    if let Some((first, other)) = contradiction {
        return Err(ManifestError::Contradiction {
            line: other.line,
            first_line: first.line,
            name: other.name.to_string(),
        });
    }
    repeated.sort_unstable();
    let is_first = |entry: &Entry| repeated.binary_search(&entry.line).is_err();
    Ok(entries.into_iter().filter(is_first).collect())
}

impl Manifest {
    /// The files that match one of the patterns, in the order of the list. Fails where a name
    /// gives another hash than its line.
    pub fn select<'a>(
        &'a self,
        patterns: &'a [Pattern],
    ) -> impl Iterator<Item = Result<Selected<'a>, ManifestError>> {
        self.entries.iter().filter_map(|entry| {
            let Match::Yes { version, mut fields } = pattern::match_any(patterns, &entry.name)
            else {
                return None;
            };
            if fields.sha256.is_some_and(|hash| hash != entry.hash) {
                return Some(Err(ManifestError::Disagreement { line: entry.line }));
            }
            fields.sha256 = Some(entry.hash);
            Some(Ok(Selected { version, fields, entry }))
        })
    }
}

impl Marker {
    fn recognize(entry: &Entry) -> Option<Self> {
        let path = entry.name.strip_suffix('/').unwrap_or(&entry.name);
        let date = path.rsplit('/').next()?.strip_prefix(BEST_BEFORE)?;
        Some(Self {
            name: entry.name.to_string(),
            line: entry.line,
            date_usec: parse_date(date),
            is_hash_expected: entry.hash == EMPTY_FILE,
            is_in_subdirectory: entry.name.contains('/'),
        })
    }

    fn is_in_force(&self) -> bool {
        self.date_usec.is_some() && !self.is_in_subdirectory
    }

    /// What the marker says at a time given in µs since the epoch. Already the day it names is
    /// too late: it means the midnight that begins it.
    pub fn freshness(&self, now_usec: u64) -> Freshness<'_> {
        match self.date_usec {
            _ if self.is_in_subdirectory => Freshness::Subdirectory(self),
            None => Freshness::BadDate(self),
            Some(date_usec) if date_usec < now_usec => Freshness::Stale { date_usec, now_usec },
            Some(_) => Freshness::Fresh,
        }
    }
}

/// YEAR-MONTH-DAY with up to 4, 2 and 2 digits; spaces may lead each, as strptime(3) has it. Days
/// before 1970 are no good.
fn parse_date(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-');
    let mut number = |max_digits: usize| {
        let digits = parts.next()?.trim_start_matches(' ');
        let is_good =
            (1..=max_digits).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
        if is_good { digits.parse::<u16>().ok() } else { None }
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()?;
    u64::try_from(date.midnight().assume_utc().unix_timestamp()).ok()?.checked_mul(1_000_000)
}

impl fmt::Display for Freshness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subdirectory(marker) => write!(
                f,
                "Ignoring best-before marker '{}' in subdirectory at manifest line {}.",
                marker.name, marker.line
            ),
            Self::BadDate(marker) => write!(
                f,
                "Found best before marker with an invalid date, ignoring: {}",
                marker.name
            ),
            Self::Fresh => f.write_str("Found best before marker, and it checks out, proceeding."),
            // In the alternate form, `{:#}`: what the peer says when the check is off.
            Self::Stale { date_usec, now_usec } => write!(
                f,
                "Best before marker indicates out-of-date file list, {} ({} < {}).",
                if f.alternate() { "but told to ignore this, hence ignoring" } else { "refusing" },
                Timestamp(*date_usec),
                Timestamp(*now_usec)
            ),
        }
    }
}

/// `Wed 2020-01-01 00:00:00 UTC`.
struct Timestamp(u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0 / 1_000_000).map_err(|_| fmt::Error)?;
        let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else {
            return write!(f, "@{seconds}");
        };
        let weekday = at.weekday().to_string();
        let (hour, minute, second) = at.to_hms();
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let weekday = weekday.get(..3).unwrap_or_default();
        write!(f, "{weekday} {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Why a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// A NUL byte anywhere.
    NulByte,
    /// Not text.
    NotUtf8,
    /// Too little left for a line: a blank line, a comment, a cut-off file.
    Corrupt {
        /// Line, counted from 1.
        line: u32,
    },
    /// Written by sha256sum for a name with a newline or backslash.
    Escape {
        /// Line, counted from 1.
        line: u32,
    },
    /// Something else than hexadecimal digits.
    Digest {
        /// Line, counted from 1.
        line: u32,
    },
    /// A hash of another length.
    DigestLength {
        /// Line, counted from 1.
        line: u32,
        /// How many bytes it has.
        bytes: usize,
    },
    /// No space after the hash.
    Separator {
        /// Line, counted from 1.
        line: u32,
    },
    /// Neither a second space nor an asterisk.
    Mark {
        /// Line, counted from 1.
        line: u32,
    },
    /// The last line does not end.
    Truncated {
        /// Line, counted from 1.
        line: u32,
    },
    /// No name.
    EmptyName {
        /// Line, counted from 1.
        line: u32,
    },
    /// An absolute path, a `.`, `..` or empty part, a `%`, too long.
    Name {
        /// Line, counted from 1.
        line: u32,
    },
    /// A control character in the name.
    ControlCharacter {
        /// Line, counted from 1.
        line: u32,
    },
    /// The name gives another hash than the line.
    Disagreement {
        /// Line, counted from 1.
        line: u32,
    },
    /// Two lines give one name two hashes.
    Contradiction {
        /// The later line, counted from 1.
        line: u32,
        /// The earlier line.
        first_line: u32,
        /// The name.
        name: String,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, line) = match self {
            Self::NulByte => return f.write_str("Manifest file has embedded NUL byte, refusing."),
            Self::NotUtf8 => return f.write_str("Manifest file is not valid UTF-8, refusing."),
            Self::DigestLength { line, bytes } => {
                return write!(
                    f,
                    "Manifest hash at line {line} decoded to {bytes} bytes, refusing."
                );
            }
            Self::Contradiction { line, first_line, name } => {
                return write!(
                    f,
                    "Hash of '{name}' at manifest line {line} differs from line {first_line}, \
                     refusing."
                );
            }
            Self::Corrupt { line } => ("Corrupt manifest at line", line),
            Self::Escape { line } => {
                ("File names with escapes not supported in manifest at line", line)
            }
            Self::Digest { line } => ("Failed to parse digest at manifest line", line),
            Self::Separator { line } => ("Missing space separator at manifest line", line),
            Self::Mark { line } => ("Missing binary/text input marker at manifest line", line),
            Self::Truncated { line } => ("Truncated manifest file at line", line),
            Self::EmptyName { line } => ("Empty filename specified at manifest line", line),
            Self::Name { line } => ("Invalid filename specified at manifest line", line),
            Self::ControlCharacter { line } => {
                ("Filename contains control characters at manifest line", line)
            }
            Self::Disagreement { line } => {
                ("SHA256 sum parsed from filename and manifest don't match at line", line)
            }
        };
        write!(f, "{what} {line}, refusing.")
    }
}

impl std::error::Error for ManifestError {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn date(text: &str) -> Option<u64> {
        parse_date(text).map(|usec| usec / 86_400_000_000)
    }

    // Expectations from running systemd-sysupdate 262.1.
    #[test]
    fn dates_are_read_leniently_but_must_exist() {
        assert_eq!(date("2024-02-29"), Some(19782));
        assert_eq!(date("2020-1-1"), date("2020-01-01"));
        assert_eq!(date(" 2020- 1-1"), date("2020-01-01"));
        assert_eq!(date("1970-01-01"), Some(0));
        assert_eq!(date("9999-12-31"), Some(2_932_896));
        for text in [
            "",
            "foo",
            "2020-02-30",
            "2023-02-29",
            "1969-12-31",
            "0001-01-01",
            "20-1-1",
            "2020-001-1",
            "99999-1-1",
            "+2020-1-1",
            "2099-1-0",
            "2099-0-1",
            "2099-13-1",
            "2099-1-1 ",
            "2099 -1-1",
            "2099-1",
            "2099-1-1-1",
            "2099--1",
        ] {
            assert_eq!(date(text), None, "{text:?}");
        }
    }

    #[test]
    fn marker_of_today_is_stale_and_said_so_in_both_forms() {
        let text = format!("{EMPTY}  BEST-BEFORE-2020-01-01\n");
        let manifest = parse(text.as_bytes()).unwrap();
        let midnight = 1_577_836_800_000_000;
        let marker = &manifest.markers[0];
        assert_eq!(marker.freshness(midnight), Freshness::Fresh);
        let stale = marker.freshness(midnight + 1);
        assert_eq!(
            stale.to_string(),
            "Best before marker indicates out-of-date file list, refusing \
             (Wed 2020-01-01 00:00:00 UTC < Wed 2020-01-01 00:00:00 UTC)."
        );
        assert!(
            format!("{stale:#}").contains("list, but told to ignore this, hence ignoring (Wed")
        );
        assert_eq!(manifest.entries, []);
    }

    #[test]
    fn markers_without_force_are_files_too() {
        let text = format!("{EMPTY}  BEST-BEFORE-foo\n{A}  sub/BEST-BEFORE-2020-1-1\n");
        let manifest = parse(text.as_bytes()).unwrap();
        assert_eq!((manifest.entries.len(), manifest.markers.len()), (2, 2));
        assert!(!manifest.markers[1].is_hash_expected);
    }

    #[test]
    fn same_name_with_two_hashes_is_refused() {
        let text = format!("{A}  b\n{A}  a\n{A}  b\n{EMPTY}  a\n{EMPTY}  b\n");
        assert_eq!(
            parse(text.as_bytes()).unwrap_err().to_string(),
            "Hash of 'a' at manifest line 4 differs from line 2, refusing."
        );
        let text = format!("{A}  b\n{A}  a\n{A}  b\n");
        let lines: Vec<u32> =
            parse(text.as_bytes()).unwrap().entries.iter().map(|entry| entry.line).collect();
        assert_eq!(lines, [1, 2]);
    }

    #[test]
    fn every_truncation_is_refused_or_a_shorter_list() {
        let text = format!("{A}  f_1\n{EMPTY} *sub/f_2\n");
        for end in 0..text.len() {
            let result = parse(&text.as_bytes()[..end]);
            let is_line_end = end == 0 || text.as_bytes()[end - 1] == b'\n';
            assert_eq!(result.is_ok(), is_line_end, "{end}");
        }
        assert!(parse(b"x").is_err());
    }

    #[test]
    fn names_have_limits() {
        let check = |name: &str| parse(format!("{A}  {name}\n").as_bytes()).is_ok();
        assert!(check(&"a".repeat(255)));
        assert!(!check(&"a".repeat(256)));
        assert!(check(&"a/".repeat(2047)));
        assert!(!check(&"a/".repeat(2048)));
        assert!(check("a/") && !check("a//") && !check("a/.") && !check("a/..") && !check("/"));
    }

    #[test]
    fn large_lists_are_read_in_one_pass() {
        let mut text = String::new();
        for i in 0..70_000 {
            text.push_str(&format!("{A}  foo_{i}.raw\n"));
        }
        let manifest = parse(text.as_bytes()).unwrap();
        let patterns = [Pattern::parse("foo_@v.raw").unwrap()];
        assert_eq!(manifest.select(&patterns).filter(Result::is_ok).count(), 70_000);
    }
}
