//! Announcements of devices: as the kernel sends them, and as udev passes them on.
//!
//! The kernel's begin with `ACTION@PATH`, udev's with a head that says where the properties are.
//! Both then have `KEY=VALUE` texts, each with a NUL behind it. Offsets are checked before they are
//! used; what is neither is no announcement.
//!
//! External spec: `lib/kobject_uevent.c` of Linux 6; udev's head as systemd 262 sends it.

/// What udev's announcements begin with.
const UDEV_PREFIX: &[u8] = b"libudev\0";
/// Behind the prefix, in network byte order.
const UDEV_MAGIC: u32 = 0xfeed_cafe;
/// Where the magic is, in bytes.
const MAGIC_AT: usize = 8;
/// Where the offset of the properties is, in bytes, in the byte order of the machine.
const OFFSET_AT: usize = 16;
/// Where their length is.
const LENGTH_AT: usize = 20;

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change` …
    pub action: String,
    /// Path below `/sys`, with a slash in front.
    pub path: String,
    /// `block` …
    pub subsystem: String,
    /// `disk`, `partition` …
    pub kind: String,
    /// Name of the node below `/dev`.
    pub name: String,
}

/// Reads one datagram; none if it is no announcement.
pub fn parse(datagram: &[u8]) -> Option<Uevent> {
    let properties = match datagram.strip_prefix(UDEV_PREFIX) {
        Some(_) => {
            let magic = u32::from_be_bytes(word(datagram, MAGIC_AT)?);
            let from = usize::try_from(u32::from_ne_bytes(word(datagram, OFFSET_AT)?)).ok()?;
            let len = usize::try_from(u32::from_ne_bytes(word(datagram, LENGTH_AT)?)).ok()?;
            let range = from..from.checked_add(len)?;
            datagram.get(range).filter(|_| magic == UDEV_MAGIC)?
        }
        None => {
            let end = datagram.iter().position(|byte| *byte == 0)?;
            datagram.get(..end).filter(|head| head.contains(&b'@'))?;
            datagram.get(end + 1..)?
        }
    };
    let value = |key: &str| {
        properties.split(|byte| *byte == 0).find_map(|line| {
            let value = line.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        })
    };
    let name = value("DEVNAME").unwrap_or_default();
    Some(Uevent {
        action: value("ACTION")?,
        path: value("DEVPATH")?,
        subsystem: value("SUBSYSTEM")?,
        kind: value("DEVTYPE").unwrap_or_default(),
        name: name.strip_prefix("/dev/").unwrap_or(&name).to_owned(),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES: &[u8] =
        b"ACTION=add\0DEVPATH=/devices/virtual/block/loop3\0SUBSYSTEM=block\0\
        DEVNAME=loop3\0DEVTYPE=disk\0DISKSEQ=7\0SEQNUM=1\0";

    fn kernel() -> Vec<u8> {
        [b"add@/devices/virtual/block/loop3\0", PROPERTIES].concat()
    }

    fn udev() -> Vec<u8> {
        let mut bytes = UDEV_PREFIX.to_vec();
        bytes.extend(UDEV_MAGIC.to_be_bytes());
        let len = u32::try_from(PROPERTIES.len()).unwrap();
        for word in [40_u32, 40, len, 0, 0, 0, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend_from_slice(PROPERTIES);
        bytes
    }

    #[test]
    fn kernel_and_udev_say_the_same() {
        let event = parse(&kernel()).unwrap();
        assert_eq!((event.action.as_str(), event.name.as_str()), ("add", "loop3"));
        assert_eq!((event.subsystem.as_str(), event.kind.as_str()), ("block", "disk"));
        assert_eq!(event.path, "/devices/virtual/block/loop3");
        assert_eq!(parse(&udev()), Some(event));
    }

    #[test]
    fn what_is_cut_or_lies_is_no_announcement_and_no_panic() {
        for whole in [kernel(), udev()] {
            for end in 0..whole.len() {
                let _ = parse(&whole[..end]);
            }
        }
        for at in [OFFSET_AT, LENGTH_AT] {
            let mut lying = udev();
            lying[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
            assert_eq!(parse(&lying), None);
        }
        assert_eq!(parse(b"x"), None);
        assert_eq!(parse(b"\0ACTION=add\0"), None);
        assert_eq!(parse(b""), None);
    }
}
