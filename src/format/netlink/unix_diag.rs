//! Unix sockets as the kernel lists them.
//!
//! External spec: `linux/sock_diag.h`, `linux/unix_diag.h`.

use super::{Builder, DUMP, Message, REQUEST, attributes, until_nul};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_UNIX: u8 = 1;
/// Bit of TCP_LISTEN, which Unix sockets use as well.
const LISTENING: u32 = 1 << 10;
const UDIAG_SHOW_NAME: u32 = 1;
const UNIX_DIAG_NAME: u16 = 0;
/// struct unix_diag_msg
const SOCKET: usize = 16;

/// Asks for all listening sockets with their names.
pub fn list_listening() -> Builder {
    let mut head = vec![AF_UNIX, 0, 0, 0];
    head.extend_from_slice(&LISTENING.to_ne_bytes());
    head.extend_from_slice(&0_u32.to_ne_bytes());
    head.extend_from_slice(&UDIAG_SHOW_NAME.to_ne_bytes());
    head.extend_from_slice(&[0; 8]);
    Builder::new(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, &head)
}

/// The path that a listed socket is bound to. Abstract names begin with a NUL and do not count.
pub fn path<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    attributes(message.payload.get(SOCKET..)?)
        .find(|(kind, _)| *kind == UNIX_DIAG_NAME)
        .map(|(_, name)| until_nul(name))
        .filter(|path| path.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    #[test]
    fn paths_are_found_and_abstract_names_are_not() {
        let mut bytes = Vec::new();
        for name in [&b"/run/a\0"[..], b"\0abstract", b"/run/bc"] {
            let answer = Builder::new(SOCK_DIAG_BY_FAMILY, 0, &[0; SOCKET]);
            bytes.extend(answer.attribute(UNIX_DIAG_NAME, name).finish(0));
        }
        let paths: Vec<_> = messages(&bytes).filter_map(|message| path(&message)).collect();
        assert_eq!(paths, [&b"/run/a"[..], b"/run/bc"]);
        for end in 0..bytes.len() {
            assert!(messages(&bytes[..end]).filter_map(|message| path(&message)).count() < 2);
        }
    }
}
