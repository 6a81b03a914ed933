//! The wildcards: which text each one accepts and how its value is written.

use uuid::Uuid;

use crate::format::number;

/// LIMIT: the bits of an access mode that `@m` may carry.
const MODE_MASK: u32 = 0o775;

/// What stands behind an `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// `@v`.
    Version,
    /// `@u`.
    PartitionUuid,
    /// `@f`.
    PartitionFlags,
    /// `@a`.
    NoAuto,
    /// `@g`.
    GrowFs,
    /// `@r`.
    ReadOnly,
    /// `@t`.
    Mtime,
    /// `@m`.
    Mode,
    /// `@s`.
    Size,
    /// `@d`.
    TriesDone,
    /// `@l`.
    TriesLeft,
    /// `@h`.
    Sha256,
}

const TABLE: [(Wildcard, char, &str); 12] = [
    (Wildcard::Version, 'v', "version"),
    (Wildcard::PartitionUuid, 'u', "partition UUID"),
    (Wildcard::PartitionFlags, 'f', "partition flags"),
    (Wildcard::NoAuto, 'a', "no-auto flag"),
    (Wildcard::GrowFs, 'g', "grow-file-system flag"),
    (Wildcard::ReadOnly, 'r', "read-only flag"),
    (Wildcard::Mtime, 't', "modification time"),
    (Wildcard::Mode, 'm', "access mode"),
    (Wildcard::Size, 's', "size"),
    (Wildcard::TriesDone, 'd', "tries done"),
    (Wildcard::TriesLeft, 'l', "tries left"),
    (Wildcard::Sha256, 'h', "SHA-256 hash"),
];

impl Wildcard {
    /// The wildcard with this letter.
    pub fn from_letter(letter: char) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == letter).map(|row| row.0)
    }

    /// The letter behind the `@`.
    pub fn letter(self) -> char {
        TABLE.iter().find(|row| row.0 == self).map_or('?', |row| row.1)
    }

    /// What it stands for, in words.
    pub fn about(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }
}

/// What wildcards captured, or what a resource knows about an instance besides its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `@u`: partition UUID.
    pub partition_uuid: Option<Uuid>,
    /// `@f`: GPT attribute bits.
    pub partition_flags: Option<u64>,
    /// `@a`: GPT attribute bit 63.
    pub no_auto: Option<bool>,
    /// `@g`: GPT attribute bit 59.
    pub grow_fs: Option<bool>,
    /// `@r`: GPT attribute bit 60, or no write permission.
    pub read_only: Option<bool>,
    /// `@t`: modification time in µs since the epoch.
    pub mtime_usec: Option<u64>,
    /// `@m`: access mode, within 0775.
    pub mode: Option<u32>,
    /// `@s`: uncompressed size in bytes.
    pub size_bytes: Option<u64>,
    /// `@d`: boot attempts done.
    pub tries_done: Option<u64>,
    /// `@l`: boot attempts left.
    pub tries_left: Option<u64>,
    /// `@h`: SHA-256 of the file as served.
    pub sha256: Option<[u8; 32]>,
}

impl Fields {
    /// Every value of `self`, and those of `other` where `self` has none.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            partition_uuid: self.partition_uuid.or(other.partition_uuid),
            partition_flags: self.partition_flags.or(other.partition_flags),
            no_auto: self.no_auto.or(other.no_auto),
            grow_fs: self.grow_fs.or(other.grow_fs),
            read_only: self.read_only.or(other.read_only),
            mtime_usec: self.mtime_usec.or(other.mtime_usec),
            mode: self.mode.or(other.mode),
            size_bytes: self.size_bytes.or(other.size_bytes),
            tries_done: self.tries_done.or(other.tries_done),
            tries_left: self.tries_left.or(other.tries_left),
            sha256: self.sha256.or(other.sha256),
        }
    }

    /// Takes the value a wildcard other than `@v` captured; `None` if it cannot be one.
    pub(super) fn capture(&mut self, wildcard: Wildcard, text: &str) -> Option<()> {
        match wildcard {
            Wildcard::Version => {}
            Wildcard::PartitionUuid => self.partition_uuid = Some(parse_uuid(text)?),
            Wildcard::PartitionFlags => {
                self.partition_flags = Some(number::parse_hex_u64(text).ok()?)
            }
            Wildcard::NoAuto => self.no_auto = Some(number::parse_bool(text)?),
            Wildcard::GrowFs => self.grow_fs = Some(number::parse_bool(text)?),
            Wildcard::ReadOnly => self.read_only = Some(number::parse_bool(text)?),
            Wildcard::Mtime => self.mtime_usec = Some(parse_finite(text)?),
            Wildcard::Mode => {
                let mode = number::parse_mode(text).ok()?;
                self.mode = Some((mode & !MODE_MASK == 0).then_some(mode)?);
            }
            Wildcard::Size => self.size_bytes = Some(parse_finite(text)?),
            Wildcard::TriesDone => self.tries_done = Some(parse_finite(text)?),
            Wildcard::TriesLeft => self.tries_left = Some(parse_finite(text)?),
            Wildcard::Sha256 => self.sha256 = Some(parse_sha256(text)?),
        }
        Some(())
    }

    /// The text for a wildcard other than `@v`; `None` if the value is not known.
    pub(super) fn format(&self, wildcard: Wildcard) -> Option<String> {
        let flag = |value: Option<bool>| value.map(|value| u8::from(value).to_string());
        let decimal = |value: Option<u64>| value.map(|value| value.to_string());
        match wildcard {
            Wildcard::Version => None,
            Wildcard::PartitionUuid => self.partition_uuid.map(|uuid| uuid.simple().to_string()),
            Wildcard::PartitionFlags => self.partition_flags.map(|flags| format!("{flags:x}")),
            Wildcard::NoAuto => flag(self.no_auto),
            Wildcard::GrowFs => flag(self.grow_fs),
            Wildcard::ReadOnly => flag(self.read_only),
            Wildcard::Mtime => decimal(self.mtime_usec),
            Wildcard::Mode => self.mode.map(|mode| format!("{mode:03o}")),
            Wildcard::Size => decimal(self.size_bytes),
            Wildcard::TriesDone => decimal(self.tries_done),
            Wildcard::TriesLeft => decimal(self.tries_left),
            Wildcard::Sha256 => self.sha256.map(|hash| to_hex(&hash)),
        }
    }
}

/// The highest number means "unknown" in the peer's structures and is no value.
fn parse_finite(text: &str) -> Option<u64> {
    number::parse_u64(text).ok().filter(|value| *value != u64::MAX)
}

/// 32 hex digits, plain or with dashes at the four usual places; no braces, no `urn:`.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    if matches!(text.len(), 32 | 36) { Uuid::try_parse(text).ok() } else { None }
}

/// Exactly 64 hex digits of any case.
fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(hash)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_one_of_two_spellings() {
        let plain = "f4d1234f3ebf47c4b31d4052982f9a2f";
        let dashed = "F4D1234F-3EBF-47C4-B31D-4052982F9A2F";
        assert!(parse_uuid(plain).is_some());
        assert_eq!(parse_uuid(plain), parse_uuid(dashed));
        for text in ["", "f4d1234f-3ebf47c4b31d4052982f9a2f", "{f4d1234f3ebf47c4b31d4052982f9a2f}"]
        {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
        assert_eq!(parse_uuid(&format!("{{{dashed}}}")), None);
        assert_eq!(parse_uuid(&format!("urn:uuid:{dashed}")), None);
    }

    #[test]
    fn known_values_win_over_others() {
        let a = Fields { mode: Some(0o644), ..Fields::default() };
        let b = Fields { mode: Some(0o755), tries_left: Some(3), ..Fields::default() };
        assert_eq!(
            a.or(&b),
            Fields { mode: Some(0o644), tries_left: Some(3), ..Fields::default() }
        );
    }
}
