//! Netlink: messages, attributes, acknowledgements.
//!
//! A datagram is a row of messages, a message a fixed head and a row of attributes; everything is
//! in the byte order of the machine and padded to four bytes. Lengths are checked before they are
//! used: what does not fit ends the row. What the attributes of links, addresses, routes and rules
//! mean is in [`rtnl`], what those of Unix sockets mean in [`unix_diag`].
//!
//! External spec: netlink(7), `linux/netlink.h` of Linux 6.

pub mod rtnl;
pub mod unix_diag;

/// An answer: zero for "done", or an error number.
pub const ERROR: u16 = 2;
/// The end of a dump.
pub const DONE: u16 = 3;

/// NLM_F_REQUEST
pub const REQUEST: u16 = 0x1;
/// NLM_F_ACK: answer even where there is nothing to say.
pub const ACK: u16 = 0x4;
/// NLM_F_ROOT | NLM_F_MATCH: everything of a kind.
pub const DUMP: u16 = 0x300;
/// NLM_F_EXCL: fail where there is one already.
pub const EXCLUSIVE: u16 = 0x200;
/// NLM_F_CREATE
pub const CREATE: u16 = 0x400;

/// NLM_F_DUMP_INTR: what a dump shows changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// NLM_F_CAPPED: the request is not quoted in full.
const CAPPED: u16 = 0x100;
/// NLM_F_ACK_TLVS: attributes follow the quoted request.
const HAS_ATTRIBUTES: u16 = 0x200;
/// NLMSGERR_ATTR_MSG
const ERROR_TEXT: u16 = 1;

/// struct nlmsghdr
const HEADER: usize = 16;
/// struct nlattr
const ATTRIBUTE: usize = 4;
/// Flags in an attribute's type: nested, network byte order.
const KIND_MASK: u16 = 0x3fff;

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is; the numbers below 16 are the same for all families.
    pub kind: u16,
    /// NLM_F_…
    pub flags: u16,
    /// The number of the request it answers; zero in announcements.
    pub sequence: u32,
    /// Head and attributes.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// True in a dump that has to be repeated to be consistent.
    pub fn is_interrupted(&self) -> bool {
        self.flags & INTERRUPTED != 0
    }

    /// What an acknowledgement says: the error number, zero for success, and the kernel's own
    /// words where it has some. None where the message is none.
    pub fn acknowledgement(&self) -> Option<(i32, Option<String>)> {
        let number = i32::from_ne_bytes(array(self.payload, 0)?).saturating_neg();
        match self.kind {
            // The end of a dump may carry an error as well.
            DONE => return Some((number, None)),
            ERROR => {}
            _ => return None,
        }
        let quoted = match self.flags & CAPPED {
            0 => u32_at(self.payload, 4)? as usize,
            _ => HEADER,
        };
        let text = Some(self.payload)
            .filter(|_| self.flags & HAS_ATTRIBUTES != 0)
            .and_then(|payload| payload.get(4_usize.checked_add(quoted)?.next_multiple_of(4)..))
            .and_then(|rest| attributes(rest).find(|(kind, _)| *kind == ERROR_TEXT))
            .map(|(_, value)| String::from_utf8_lossy(until_nul(value)).into_owned());
        Some((number, text))
    }
}

/// The messages of a datagram. Ends at the first one that is not whole.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let size = u32_at(bytes, 0)? as usize;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: bytes.get(HEADER..size)?,
        };
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a row: type without its flags, and value. Ends at the first one that is not
/// whole.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let size = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let value = bytes.get(ATTRIBUTE..size)?;
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A message in the making.
#[derive(Clone, Debug)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// A message with its fixed head.
    pub fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        // The sequence number is the sender's business; the port is filled in by the kernel.
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(head);
        let mut builder = Self(bytes);
        builder.pad();
        builder
    }

    /// Appends an attribute. LIMIT: a value longer than an attribute can say is left out.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        if let Ok(size) = u16::try_from(ATTRIBUTE + value.len()) {
            self.0.extend_from_slice(&size.to_ne_bytes());
            self.0.extend_from_slice(&kind.to_ne_bytes());
            self.0.extend_from_slice(value);
            self.pad();
        }
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends a text and its NUL.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// The message, ready to be sent under a sequence number.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let size = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        put(&mut self.0, 0, &size.to_ne_bytes());
        put(&mut self.0, 8, &sequence.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    super::bytes::array(bytes, at)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    super::bytes::put(bytes, at, value);
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: i32, flags: u16, quoted: &[u8], text: Option<&str>) -> Vec<u8> {
        let mut head = number.to_ne_bytes().to_vec();
        head.extend_from_slice(quoted);
        let builder = Builder::new(ERROR, flags, &head);
        text.map_or(builder.clone(), |text| builder.text(ERROR_TEXT, text)).finish(7)
    }

    fn read(bytes: &[u8]) -> Option<(i32, Option<String>)> {
        messages(bytes).next()?.acknowledgement()
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let bytes = Builder::new(18, REQUEST | DUMP, &[1; 16]).text(3, "eth0").finish(9);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!((all.len(), all[0].kind, all[0].sequence), (1, 18, 9));
        let values: Vec<_> = attributes(&all[0].payload[16..]).collect();
        assert_eq!(values, [(3, &b"eth0\0"[..])]);
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn an_error_has_a_number_and_the_kernels_own_words() {
        let request = Builder::new(24, REQUEST, &[0; 12]).finish(7);
        let text = "Nexthop device is not up";
        assert_eq!(
            read(&answer(-100, HAS_ATTRIBUTES, &request, Some(text))),
            Some((100, Some(text.into())))
        );
        let capped = answer(-100, HAS_ATTRIBUTES | CAPPED, &request[..16], Some(text));
        assert_eq!(read(&capped), Some((100, Some(text.into()))));
        assert_eq!(read(&answer(0, 0, &request, None)), Some((0, None)));
        // The least number has no positive twin.
        assert_eq!(read(&answer(i32::MIN, 0, &request, None)), Some((i32::MAX, None)));
    }

    #[test]
    fn every_truncation_and_every_length_ends_quietly() {
        let request = Builder::new(24, REQUEST, &[0; 12]).finish(7);
        let bytes = answer(-1, HAS_ATTRIBUTES, &request, Some("words"));
        for end in 0..bytes.len() {
            assert_eq!(messages(&bytes[..end]).count(), 0);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                for message in messages(&bad) {
                    let _ = message.acknowledgement();
                    let _ = attributes(message.payload).count();
                }
            }
        }
        assert_eq!(messages(&[0xff; 64]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
