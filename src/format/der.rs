//! DER: the encoding of certificates, keys and signatures.
//!
//! Only as much as those take: tags below 31, definite lengths in their shortest form. The reader
//! walks over elements and never recurses; it borrows from the input and allocates nothing.
//!
//! Document: ITU-T X.690, clauses 8 and 10.

/// Tags that are used here.
pub mod tag {
    /// INTEGER
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING
    pub const OCTET_STRING: u8 = 0x04;
    /// NULL
    pub const NULL: u8 = 0x05;
    /// OBJECT IDENTIFIER
    pub const OID: u8 = 0x06;
    /// SEQUENCE
    pub const SEQUENCE: u8 = 0x30;
    /// SET
    pub const SET: u8 = 0x31;
    /// The context-specific, constructed tag `[0]`.
    pub const CONTEXT_0: u8 = 0xa0;
    /// The context-specific, constructed tag `[1]`.
    pub const CONTEXT_1: u8 = 0xa1;
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// What it is.
    pub tag: u8,
    /// With tag and length.
    pub whole: &'a [u8],
    /// Without.
    pub content: &'a [u8],
}

/// Walks over elements that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins at the first element.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// True if nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, whatever it is; `None` if there is none or it is not DER.
    pub fn any(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // LIMIT: four bytes of length, which is more than any input has.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let len = bytes.iter().fold(0_u64, |len, byte| len << 8 | u64::from(*byte));
                let is_shortest = len > 0x7f && bytes.first() != Some(&0);
                (usize::try_from(len).ok().filter(|_| is_shortest)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Element { tag, whole, content })
    }

    /// The next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.any().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// The contents of the next element, which must be a SEQUENCE.
    pub fn sequence(&mut self) -> Option<Self> {
        self.expect(tag::SEQUENCE).map(|element| Self(element.content))
    }
}

/// An element with what is in it.
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    if let (0..=0x7f, Ok(short)) = (len, u8::try_from(len)) {
        bytes.push(short);
    } else {
        let big = (len as u64).to_be_bytes();
        let skip = big.iter().take_while(|byte| **byte == 0).count();
        bytes.push(0x80 | (8 - skip) as u8);
        bytes.extend(big.iter().skip(skip));
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 20] {
            let content = vec![7; len];
            let bytes = element(tag::OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&bytes);
            let element = reader.expect(tag::OCTET_STRING).unwrap();
            assert_eq!((element.content, element.whole), (&content[..], &bytes[..]));
            assert!(reader.is_at_end());
            for cut in 0..bytes.len().min(8) {
                assert_eq!(Reader::new(&bytes[..cut]).any(), None, "{len} {cut}");
            }
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).any(), None, "{len}");
        }
    }

    #[test]
    fn what_is_not_der_is_refused() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 0, 0],
            &[0x1f, 0x1f, 0],
            &[0x04, 0x81, 0x7f],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x04, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x04, 0xff],
        ] {
            assert_eq!(Reader::new(bad).any(), None, "{bad:02x?}");
        }
    }

    #[test]
    fn another_tag_leaves_the_reader_where_it_was() {
        let bytes = [0x02, 1, 5];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.expect(tag::NULL), None);
        assert_eq!(reader.expect(tag::INTEGER).unwrap().content, [5]);
    }
}
