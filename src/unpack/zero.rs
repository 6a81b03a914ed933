//! Finds the zeros in a buffer, so that they need not be written.

/// A stretch of a buffer that is all zero or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where in the buffer; both ends are multiples of the granularity, or the end of the buffer.
    pub range: std::ops::Range<usize>,
    /// True if every byte is zero.
    pub is_zero: bool,
}

/// True if every byte is zero; true for nothing at all.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Most blocks with data say so at once; the rest is compared in pieces that are large even
    // where the compiler optimizes for size: with bytes this was a third of the time of an update.
    if bytes.first().is_some_and(|&b| b != 0) {
        return false;
    }
    let (pieces, rest) = bytes.as_chunks::<64>();
    let is_zero = |piece: &[u8; 64]| {
        let (words, _) = piece.as_chunks::<16>();
        words.iter().fold(0, |acc, word| acc | u128::from_ne_bytes(*word)) == 0
    };
    pieces.iter().all(is_zero) && rest.iter().all(|&b| b == 0)
}

/// Splits `bytes` into alternating runs of zero and non-zero blocks of `granularity` bytes. A
/// short last block counts as a block.
pub fn runs(bytes: &[u8], granularity: usize) -> impl Iterator<Item = Run> + '_ {
    let granularity = granularity.max(1);
    let mut blocks = bytes.chunks(granularity).map(|block| (block.len(), is_zero(block)));
    let mut next = blocks.next();
    let mut start = 0;
    std::iter::from_fn(move || {
        let (mut len, is_zero) = next.take()?;
        for block in blocks.by_ref() {
            if block.1 != is_zero {
                next = Some(block);
                break;
            }
            len += block.0;
        }
        let range = start..start + len;
        start = range.end;
        Some(Run { range, is_zero })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_the_buffer_and_alternate() {
        let mut bytes = vec![0u8; 10 * 512 + 7];
        bytes[3 * 512 + 511] = 1;
        bytes[4 * 512] = 1;
        bytes[10 * 512 + 6] = 1;
        let found: Vec<_> = runs(&bytes, 512).map(|r| (r.range, r.is_zero)).collect();
        assert_eq!(
            found,
            [(0..1536, true), (1536..2560, false), (2560..5120, true), (5120..5127, false)]
        );
        assert_eq!(runs(&[], 512).count(), 0);
        assert_eq!(runs(&[0, 0, 0], 0).count(), 1);
    }

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        for len in [1, 15, 127, 128, 129, 300] {
            assert!(is_zero(&vec![0; len]));
            for at in 0..len {
                let mut bytes = vec![0; len];
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {len}");
            }
        }
        assert!(is_zero(&[]));
    }
}
