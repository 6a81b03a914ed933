//! One 512-byte tar header: fields by offset, numbers, checksum.

/// Size of a header, and what everything is padded to.
pub(super) const BLOCK: usize = 512;

/// One header block.
pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

/// Offsets and lengths in bytes.
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE: usize = 156;
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 6);
const MAJOR: (usize, usize) = (329, 8);
const MINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);
const GNU_SPARSE: (usize, usize) = (386, 4 * 24);
const GNU_IS_EXTENDED: usize = 482;
const GNU_REAL_SIZE: (usize, usize) = (483, 12);

impl Header<'_> {
    fn field(&self, (at, len): (usize, usize)) -> &[u8] {
        self.0.get(at..at + len).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    /// True if the checksum is that of the block, summed as unsigned or, as some old programs did,
    /// as signed bytes.
    pub(super) fn is_valid(&self) -> bool {
        let Some(expected) = number(self.field(CHECKSUM)) else { return false };
        let counted = |(at, &byte): (usize, &u8)| {
            if (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&at) { b' ' } else { byte }
        };
        let bytes = || self.0.iter().enumerate().map(counted);
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        expected == unsigned || expected == signed
    }

    pub(super) fn kind(&self) -> u8 {
        self.byte(TYPE)
    }

    /// The name, with the prefix where the format has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(self.field((0, 100)));
        let prefix = text(self.field(PREFIX));
        match self.field(MAGIC) == b"ustar\0" && !prefix.is_empty() {
            true => [prefix, b"/", name].concat(),
            false => name.to_vec(),
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field(LINK)).to_vec()
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number(self.field(MODE))
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(self.field(UID))
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(self.field(GID))
    }

    pub(super) fn size(&self) -> Option<i64> {
        number(self.field(SIZE))
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(self.field(MTIME))
    }

    /// Major and minor number of a device node.
    pub(super) fn device(&self) -> Option<(i64, i64)> {
        Some((number(self.field(MAJOR))?, number(self.field(MINOR))?))
    }

    /// The map, whether it goes on in the next block, and the full size of a GNU sparse file.
    pub(super) fn gnu_sparse(&self) -> (&[u8], bool, Option<i64>) {
        let size = number(self.field(GNU_REAL_SIZE));
        (self.field(GNU_SPARSE), self.byte(GNU_IS_EXTENDED) != 0, size)
    }
}

/// The entries of a piece of a GNU sparse map: offset and length, both in bytes.
pub(super) fn gnu_map(bytes: &[u8]) -> impl Iterator<Item = Option<(u64, u64)>> + '_ {
    let unsigned = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok());
    bytes.chunks_exact(24).take_while(|entry| entry.first() != Some(&0)).map(move |entry| {
        let (offset, len) = entry.split_at(12);
        Some((unsigned(offset)?, unsigned(len)?))
    })
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// A number: octal digits between blanks and NULs, or, with the high bit set, a big-endian two's
/// complement of all further bits. An empty field is 0.
fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign.
        let head = i64::from(first & 0x7f);
        let start = if first & 0x40 != 0 { head - 0x80 } else { head };
        return rest
            .iter()
            .try_fold(start, |value, &byte| value.checked_mul(256)?.checked_add(i64::from(byte)));
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, tail) = digits.split_at(end);
    if tail.first().is_some_and(|&b| b != 0 && b != b' ') {
        return None;
    }
    digits.iter().try_fold(0i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-1\0\0\0\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\x2d\xc6\xc0"), Some(3_000_000));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd"), Some(-3));
        assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b""), None);
    }
}
