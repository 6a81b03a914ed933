//! The outer shell of OpenPGP data: armour and packet framing, RFC 9580 sections 4.2 and 6.
//!
//! Own and strict, although the OpenPGP library has both: what comes from the net is cut into
//! bounded pieces here, before anything complicated looks at it.

/// LIMIT: more packets than this are not looked at.
const MAX_PACKETS: usize = 20_000;

/// Tag numbers that matter here.
pub(super) mod tag {
    pub(crate) const SIGNATURE: u8 = 2;
    pub(crate) const PUBLIC_KEY: u8 = 6;
    pub(crate) const USER_ID: u8 = 13;
    pub(crate) const PUBLIC_SUBKEY: u8 = 14;
    pub(crate) const USER_ATTRIBUTE: u8 = 17;
}

/// One packet: its tag and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// Cuts bytes into packets; the iterator ends with an error where they are none.
pub(super) struct Packets<'a> {
    rest: &'a [u8],
    seen: usize,
}

/// The bytes are no packets, or more than anybody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotPackets;

impl<'a> Packets<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, seen: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], NotPackets> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(NotPackets)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, NotPackets> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn packet(&mut self) -> Result<Packet<'a>, NotPackets> {
        let first = self.number(1)?;
        let (tag, length) = match first {
            0xc0..=0xff => {
                let length = match self.number(1)? {
                    short @ 0..192 => short,
                    // Two octets encode 192 to 8383.
                    middle @ 192..224 => ((middle - 192) << 8) + self.number(1)? + 192,
                    255 => self.number(4)?,
                    // Bodies in parts are for streamed data, not for keys and signatures.
                    _ => return Err(NotPackets),
                };
                (first & 0x3f, length)
            }
            0x80..0xc0 => {
                let length = match first & 3 {
                    0 => self.number(1)?,
                    1 => self.number(2)?,
                    2 => self.number(4)?,
                    _ => return Err(NotPackets),
                };
                (first >> 2 & 0xf, length)
            }
            _ => return Err(NotPackets),
        };
        let tag = u8::try_from(tag).ok().filter(|tag| *tag != 0).ok_or(NotPackets)?;
        Ok(Packet { tag, body: self.take(length)? })
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, NotPackets>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.seen += 1;
        let packet = if self.seen > MAX_PACKETS { Err(NotPackets) } else { self.packet() };
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

/// The bytes of an armoured block of this kind, or nothing where the text is none.
pub(super) fn dearmor(text: &[u8], kind: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines().map(str::trim_end).skip_while(|line| line.is_empty());
    if lines.next()? != format!("-----BEGIN PGP {kind}-----") {
        return None;
    }
    // Headers, up to an empty line.
    lines.by_ref().find(|line| line.is_empty())?;
    let end = format!("-----END PGP {kind}-----");
    let mut bytes = Vec::new();
    let (mut group, mut digits, mut padding) = (0u32, 0, 0);
    for line in lines.by_ref() {
        // The checksum is obsolete: what it guards is signed.
        if line == end || line.starts_with('=') && line.len() == 5 && digits % 4 == 0 {
            if line == end {
                let is_end = digits % 4 == 0 && lines.all(str::is_empty);
                return is_end.then_some(bytes);
            }
            continue;
        }
        for byte in line.bytes() {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            padding = if byte == b'=' { padding + 1 } else { padding };
            if padding > 0 && (byte != b'=' || padding > 2) {
                return None;
            }
            group = group << 6 | u32::from(value);
            digits += 1;
            if digits % 4 == 0 {
                let [_, high, middle, low] = group.to_be_bytes();
                bytes.extend([high, middle, low].into_iter().take(3 - padding));
                group = 0;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8]) -> Vec<Result<(u8, usize), NotPackets>> {
        Packets::new(bytes).map(|p| p.map(|p| (p.tag, p.body.len()))).collect()
    }

    #[test]
    fn every_form_of_length_is_read() {
        let body = |n: usize| vec![7; n];
        for (head, length) in [
            (vec![0xc2, 0], 0),
            (vec![0xc2, 191], 191),
            (vec![0xc2, 192, 0], 192),
            (vec![0xc2, 223, 255], 8383),
            (vec![0xc2, 255, 0, 0, 0x20, 0xc0], 8384),
            (vec![0x88, 5], 5),
            (vec![0x89, 1, 0], 256),
            (vec![0x8a, 0, 1, 0, 0], 65536),
        ] {
            let bytes = [head.clone(), body(length)].concat();
            assert_eq!(split(&bytes), [Ok((2, length))], "{head:?}");
            for at in 1..head.len() {
                assert_eq!(split(&bytes[..at]), [Err(NotPackets)], "{head:?} cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_no_packet_ends_the_list() {
        assert_eq!(split(&[0xc2, 0, 0x0a, 0xc2, 0]), [Ok((2, 0)), Err(NotPackets)]);
        for bad in [&[0xc0, 0][..], &[0x80, 0], &[0xc2, 230, 1], &[0x8b, 1], &[0xc2, 255, 255]] {
            assert_eq!(split(bad), [Err(NotPackets)], "{bad:?}");
        }
        assert_eq!(split(&[0xc2, 255, 255, 255, 255, 255]), [Err(NotPackets)]);
        assert_eq!(split(&[0xc2, 0].repeat(30_000)).len(), MAX_PACKETS + 1);
    }

    #[test]
    fn armour_is_taken_off() {
        let armour = |body: &str| {
            let text = format!(
                "\n-----BEGIN PGP SIGNATURE-----\r\nVersion: x\n\n{body}-----END PGP SIGNATURE-----\n\n"
            );
            dearmor(text.as_bytes(), "SIGNATURE")
        };
        assert_eq!(armour("Zm9v\nYmFy\n=abcd\n").unwrap(), b"foobar");
        assert_eq!(armour("Zm9vYg==\n").unwrap(), b"foob");
        assert_eq!(armour("").unwrap(), b"");
        for bad in ["Zm9\n", "Zm9v!\n", "Zg==Zg==\n", "Z===\n", "Zm9v\n\n-----BEGIN X-----\n"] {
            assert_eq!(armour(bad), None, "{bad:?}");
        }
        assert_eq!(dearmor(b"-----BEGIN PGP SIGNATURE-----\n\nZm9v\n", "SIGNATURE"), None);
        assert_eq!(dearmor(b"-----BEGIN PGP SIGNED MESSAGE-----\n\n", "SIGNATURE"), None);
        assert_eq!(dearmor(&[0xff], "SIGNATURE"), None);
    }
}
