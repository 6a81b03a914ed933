//! Was this process started to serve Varlink, and on what?
//!
//! The rules are socket activation's: `LISTEN_FDS` descriptors from 3 on, for this process only
//! (`LISTEN_PID`, and `LISTEN_PIDFDID` where it is set), of which those named `varlink` in
//! `LISTEN_FDNAMES` count. `SYSTEMD_VARLINK_LISTEN` names a path instead, or `-` for standard
//! input and output. A process that was started so serves instead of reading its command line.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::net::sockopt;

use crate::ctx::Ctx;
use crate::error::{Context, Error, Result};
use crate::sys::inherited::take_inherited;

/// The variables of socket activation; not for the processes we start.
pub const VARIABLES: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES"];

/// First descriptor of socket activation.
pub const FIRST_FD: i32 = 3;

/// LIMIT: descriptors anybody may announce.
const MAX_LISTEN_FDS: i32 = 4096;

/// `f_type` of the file system that numbers processes, `PIDFS_MAGIC` of linux/magic.h.
const PIDFS_MAGIC: i64 = 0x5049_4446;

/// What there is to serve.
#[derive(Debug)]
pub enum Activation {
    /// One connection that somebody else has accepted.
    Connection(OwnedFd),
    /// Standard input and output.
    Stdio {
        /// Where calls come from.
        read: OwnedFd,
        /// Where replies go.
        write: OwnedFd,
    },
    /// Listening sockets.
    Listen(Vec<OwnedFd>),
    /// A path to listen on.
    Path(PathBuf),
}

/// Takes the descriptors this process was started with; `None` where it was not started to
/// serve Varlink. To be called once, before anything else opens files.
pub fn detect(ctx: &Ctx) -> Result<Option<Activation>> {
    detect_named(ctx, |name| name == "varlink")
}

/// As [`detect`], for a program that has no use for descriptors but Varlink, whatever their names
/// are.
pub fn detect_any(ctx: &Ctx) -> Result<Option<Activation>> {
    detect_named(ctx, |_| true)
}

fn detect_named(ctx: &Ctx, is_ours: fn(&str) -> bool) -> Result<Option<Activation>> {
    let failed = || "Failed to check if invoked in Varlink mode".to_owned();
    if let Some(target) = ctx.env_os("SYSTEMD_VARLINK_LISTEN") {
        if target == "-" {
            let read = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), FIRST_FD);
            let write = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), FIRST_FD);
            return Ok(Some(Activation::Stdio {
                read: read.context(failed)?,
                write: write.context(failed)?,
            }));
        }
        return Ok(Some(Activation::Path(target.into())));
    }
    let fds = announced(ctx, std::process::id(), own_pidfd_id, is_ours)?;
    if fds.is_empty() {
        return Ok(None);
    }
    let mut sockets = fds
        .into_iter()
        .map(take_inherited)
        .collect::<std::io::Result<Vec<OwnedFd>>>()
        .context(failed)?;
    let listening = sockets
        .iter()
        .map(sockopt::socket_acceptconn)
        .collect::<rustix::io::Result<Vec<bool>>>()
        .context(failed)?;
    if listening.iter().all(|&is| is) {
        return Ok(Some(Activation::Listen(sockets)));
    }
    match sockets.pop() {
        Some(socket) if sockets.is_empty() => Ok(Some(Activation::Connection(socket))),
        _ => Err(Error::errno_because(failed(), nix::libc::EINVAL)),
    }
}

/// The same world for processes we start: without the variables of socket activation.
#[must_use]
pub fn cleared(ctx: &Ctx) -> Ctx {
    let ctx = VARIABLES.iter().fold(ctx.clone(), |ctx, name| ctx.without_env(name));
    ctx.without_env("SYSTEMD_VARLINK_LISTEN")
}

/// The numbers of the descriptors that are meant for us and have one of our names.
fn announced(
    ctx: &Ctx,
    pid: u32,
    pidfd_id: impl Fn() -> Option<u64>,
    is_ours: fn(&str) -> bool,
) -> Result<Vec<i32>> {
    let invalid =
        || Error::errno_because("Failed to check if invoked in Varlink mode", nix::libc::EINVAL);
    let (Some(for_pid), Some(count)) = (ctx.env("LISTEN_PID"), ctx.env("LISTEN_FDS")) else {
        return Ok(Vec::new());
    };
    if for_pid.parse::<u32>().map_err(|_| invalid())? != pid {
        return Ok(Vec::new());
    }
    if let Some(id) = ctx.env("LISTEN_PIDFDID") {
        let id = id.parse::<u64>().map_err(|_| invalid())?;
        if pidfd_id().is_some_and(|own| own != id) {
            return Ok(Vec::new());
        }
    }
    let count = count.parse::<i32>().map_err(|_| invalid())?;
    if !(1..=MAX_LISTEN_FDS).contains(&count) {
        return Err(invalid());
    }
    let names: Vec<&str> = match ctx.env("LISTEN_FDNAMES") {
        Some(names) => names.split(':').collect(),
        None => (0..count).map(|_| "unknown").collect(),
    };
    if i32::try_from(names.len()) != Ok(count) {
        return Err(invalid());
    }
    let numbers = FIRST_FD..FIRST_FD.saturating_add(count);
    Ok(numbers.zip(names).filter(|(_, name)| is_ours(name)).map(|(fd, _)| fd).collect())
}

/// The number that names this process for good; `None` on kernels before 6.9.
fn own_pidfd_id() -> Option<u64> {
    let flags = rustix::process::PidfdFlags::empty();
    let fd = rustix::process::pidfd_open(rustix::process::getpid(), flags).ok()?;
    let kind = rustix::fs::fstatfs(&fd).ok()?.f_type;
    #[allow(clippy::useless_conversion, reason = "f_type has another width on other machines")]
    if i64::try_from(kind).ok()? != PIDFS_MAGIC {
        return None;
    }
    Some(rustix::fs::fstat(&fd).ok()?.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fds(variables: &[(&str, &str)]) -> Result<Vec<i32>> {
        let ctx =
            variables.iter().fold(Ctx::host([]), |ctx, (name, value)| ctx.with_env(*name, *value));
        announced(&ctx, 42, || Some(7), |name| name == "varlink")
    }

    #[test]
    fn only_descriptors_for_us_named_varlink_count() {
        let pid = ("LISTEN_PID", "42");
        let two = ("LISTEN_FDS", "2");
        let named = |names| fds(&[pid, two, ("LISTEN_FDNAMES", names)]).unwrap();
        assert_eq!(named("varlink:varlink"), [3, 4]);
        assert_eq!(named("other:varlink"), [4]);
        assert!(named("a:b").is_empty());
        assert!(fds(&[pid, two]).unwrap().is_empty());
        assert!(fds(&[]).unwrap().is_empty());
        let name = ("LISTEN_FDNAMES", "varlink:varlink");
        assert!(fds(&[("LISTEN_PID", "43"), two, name]).unwrap().is_empty());
        assert!(fds(&[pid, two, name, ("LISTEN_PIDFDID", "8")]).unwrap().is_empty());
        assert_eq!(fds(&[pid, two, name, ("LISTEN_PIDFDID", "7")]).unwrap().len(), 2);
    }

    #[test]
    fn contradictions_are_errors_in_the_peers_words() {
        let error =
            fds(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "varlink")])
                .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Failed to check if invoked in Varlink mode: Invalid argument"
        );
        for count in ["0", "-1", "x", "5000"] {
            assert!(fds(&[("LISTEN_PID", "42"), ("LISTEN_FDS", count)]).is_err(), "{count}");
        }
    }

    #[test]
    fn started_processes_do_not_inherit_the_variables() {
        let ctx = Ctx::host([]).with_env("LISTEN_FDS", "1").with_env("SYSTEMD_VARLINK_LISTEN", "-");
        assert_eq!(cleared(&ctx).env_all().count(), 0);
    }
}
