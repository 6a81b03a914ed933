//! The kernel's list of Unix sockets, through a netlink socket of family `NETLINK_SOCK_DIAG`.
//!
//! Layouts: `linux/netlink.h`, `linux/sock_diag.h`, `linux/unix_diag.h`. Needs the kernel module
//! `unix_diag`; without it the dump fails with ENOENT.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP
const REQUEST_DUMP: u16 = 0x1 | 0x300;
/// Bit of TCP_LISTEN, which Unix sockets use as well.
const LISTENING: u32 = 1 << 10;
const UDIAG_SHOW_NAME: u32 = 1;
const UNIX_DIAG_NAME: u16 = 0;
/// struct nlmsghdr
const HEADER: usize = 16;
/// struct unix_diag_msg
const SOCKET: usize = 16;

/// The paths of all listening Unix stream sockets, in the kernel's order.
pub fn listening_unix_paths() -> io::Result<Vec<PathBuf>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&socket, &request(), SendFlags::empty())?;
    let mut paths = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let (n, _) = rustix::net::recv(&socket, chunk.as_mut_slice(), RecvFlags::empty())?;
        if n == 0 || collect(chunk.get(..n).unwrap_or_default(), &mut paths)? {
            return Ok(paths);
        }
    }
}

/// nlmsghdr and unix_diag_req.
fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 24);
    bytes.extend_from_slice(&40_u32.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(1), 0, 0, 0]);
    bytes.extend_from_slice(&LISTENING.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(&UDIAG_SHOW_NAME.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads one datagram of answers; true at the end of the dump.
fn collect(mut bytes: &[u8], paths: &mut Vec<PathBuf>) -> io::Result<bool> {
    while let (Some(size), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let size = size as usize;
        let Some(message) = bytes.get(HEADER..size) else { break };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = u32_at(message, 0).map_or(0, |value| value.cast_signed());
                return match errno {
                    0 => Ok(true),
                    errno => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                };
            }
            SOCK_DIAG_BY_FAMILY => paths.extend(name(message.get(SOCKET..).unwrap_or_default())),
            _ => {}
        }
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The path among the attributes of a socket; abstract names begin with a NUL and do not count.
fn name(mut attributes: &[u8]) -> Option<PathBuf> {
    while let (Some(size), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let size = usize::from(size);
        let value = attributes.get(4..size)?;
        if kind == UNIX_DIAG_NAME {
            let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
            let path = value.get(..end).filter(|path| path.starts_with(b"/"))?;
            return Some(OsString::from_vec(path.to_vec()).into());
        }
        attributes = attributes.get(size.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &[u8]) -> Vec<u8> {
        let mut message = vec![0; SOCKET];
        message.extend_from_slice(&u16::try_from(name.len() + 4).unwrap().to_ne_bytes());
        message.extend_from_slice(&UNIX_DIAG_NAME.to_ne_bytes());
        message.extend_from_slice(name);
        message.resize(message.len().next_multiple_of(4), 0);
        let mut bytes = u32::try_from(HEADER + message.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(message);
        bytes
    }

    #[test]
    fn paths_are_found_and_abstract_names_are_not() {
        let mut bytes = answer(b"/run/a\0");
        bytes.extend(answer(b"\0abstract"));
        bytes.extend(answer(b"/run/bc"));
        let mut paths = Vec::new();
        assert!(!collect(&bytes, &mut paths).unwrap());
        assert_eq!(paths, [PathBuf::from("/run/a"), PathBuf::from("/run/bc")]);
        for end in 0..bytes.len() {
            let _ = collect(&bytes[..end], &mut Vec::new());
        }
        let _ = collect(&[0xff; 64], &mut Vec::new());
        assert!(!collect(&[0; 64], &mut Vec::new()).unwrap());
    }

    #[test]
    fn the_kernels_error_is_passed_on() {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(collect(&bytes, &mut Vec::new()).unwrap_err().raw_os_error(), Some(2));
    }
}
