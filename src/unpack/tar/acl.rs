//! Turns the text form of a POSIX.1e ACL, as archives carry it, into the kernel's extended
//! attribute (`system.posix_acl_access`, `system.posix_acl_default`; layout of
//! `linux/posix_acl_xattr.h`).

const USER_OBJECT: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJECT: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The id of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// The attribute for `user::rwx,user:1000:r-x,…`; None where the text is malformed, or says no
/// more than a file mode does.
///
/// An entry with a name and a number goes by the number, as owners do.
/// Names without a number have no meaning on this machine and are left out.
pub(super) fn attribute(text: &[u8], is_default: bool) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for line in text.split([',', '\n']) {
        // `#effective:r--` is a comment of getfacl.
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            entries.extend(entry(line)?);
        }
    }
    entries.sort_unstable();
    let is_more_than_a_mode = is_default || entries.len() > 3;
    if entries.is_empty() || !is_more_than_a_mode {
        return None;
    }
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(permissions.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    Some(out)
}

/// Tag, id and permissions of one line; `Some(None)` for one to leave out.
fn entry(line: &str) -> Option<Option<(u16, u32, u16)>> {
    let mut fields = line.split(':').map(str::trim);
    let kind = fields.next()?;
    let name = fields.next()?;
    // Some write `other:r--`.
    let permissions = match (kind, fields.next()) {
        ("other" | "o" | "mask" | "m", None) => {
            return Some(Some((tag(kind, "")?, NOBODY, bits(name)?)));
        }
        (_, permissions) => bits(permissions?)?,
    };
    let tag = tag(kind, name)?;
    if name.is_empty() {
        return Some(Some((tag, NOBODY, permissions)));
    }
    let id = fields.next().filter(|id| !id.is_empty()).unwrap_or(name);
    Some(id.parse().ok().map(|id| (tag, id, permissions)))
}

fn tag(kind: &str, name: &str) -> Option<u16> {
    Some(match (kind, name.is_empty()) {
        ("user" | "u", true) => USER_OBJECT,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => GROUP_OBJECT,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", true) => MASK,
        ("other" | "o", true) => OTHER,
        _ => return None,
    })
}

fn bits(permissions: &str) -> Option<u16> {
    permissions.chars().try_fold(0, |bits, c| {
        Some(
            bits | match c {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str, is_default: bool) -> Option<String> {
        let bytes = attribute(text.as_bytes(), is_default)?;
        Some(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }

    #[test]
    fn entries_are_sorted_and_numbered() {
        // From the peer: tests/vectors/tar/acl.tar.
        let expected = "0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff\
                        20000000ffffffff";
        let text = "user::rwx,user:1000:r-x,group::r-x,mask::r-x,other::---";
        assert_eq!(hex(text, true).unwrap(), expected);
        let shuffled =
            "other::---\nmask::r-x\ngroup::r-x\nuser:who:r-x:1000\t#effective:r-x\nuser::rwx";
        assert_eq!(hex(shuffled, true).unwrap(), expected);
    }

    #[test]
    fn a_plain_mode_needs_no_attribute() {
        assert_eq!(hex("user::rw-,group::r--,other::r--", false), None);
        assert!(hex("user::rw-,group::r--,other::r--", true).is_some());
        assert_eq!(hex("user::rw-,user:nobody-knows:rwx,group::r--,other::r--", false), None);
    }

    #[test]
    fn nonsense_is_none() {
        for bad in ["", "user", "user::rwz", "who::rwx", "user::", "mask:x:r--", "::::"] {
            assert_eq!(hex(bad, false), None, "{bad}");
        }
    }
}
