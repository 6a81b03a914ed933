//! Starting a process with a socket on descriptor 3, as socket activation does.
#![allow(unsafe_code, reason = "what happens between fork and exec")]

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::libc;

/// The descriptor that the started process finds.
const TARGET: libc::c_int = 3;
/// Room for `LISTEN_PID=` and any process number.
const PID_SIZE: usize = 32;

/// Starts `program` with the arguments and exactly the environment given, plus the variables of
/// socket activation for one descriptor named `varlink`, which is `socket`. It gets SIGTERM when
/// the calling thread ends.
pub fn spawn_activated(
    program: &OsStr,
    arguments: &[OsString],
    environment: impl Iterator<Item = (OsString, OsString)>,
    socket: BorrowedFd<'_>,
) -> io::Result<Child> {
    let mut activated = Activated {
        program: c_string(program.as_bytes())?,
        arguments: vec![c_string(program.as_bytes())?],
        environment: vec![c_string(b"LISTEN_FDS=1")?, c_string(b"LISTEN_FDNAMES=varlink")?],
        socket: socket.as_raw_fd(),
        pointers: Vec::new(),
    };
    for argument in arguments {
        activated.arguments.push(c_string(argument.as_bytes())?);
    }
    for (name, value) in environment {
        let mut line = name.into_vec();
        line.push(b'=');
        line.extend_from_slice(value.as_bytes());
        activated.environment.push(c_string(&line)?);
    }
    // All memory the child needs is reserved here: after fork nothing may allocate.
    activated.pointers.reserve(activated.arguments.len() + activated.environment.len() + 3);

    let mut command = Command::new(program);
    // SAFETY: the closure makes only calls that are async-signal-safe (prctl, dup2, fcntl,
    // getpid, execve) and fills memory that was reserved before the fork.
    unsafe { command.pre_exec(move || activated.exec()) };
    command.spawn()
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

struct Activated {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    socket: libc::c_int,
    /// Arguments, null, environment, null; filled after the fork.
    pointers: Vec<*const libc::c_char>,
}

// SAFETY: the pointers are made and used in the child only, by its only thread.
unsafe impl Send for Activated {}
// SAFETY: as above.
unsafe impl Sync for Activated {}

impl Activated {
    /// Replaces the forked process; returns only on failure.
    fn exec(&mut self) -> io::Result<()> {
        // The number of the process is known only now, hence not the usual way to set variables.
        let mut pid = [0_u8; PID_SIZE];
        // SAFETY: getpid has no preconditions.
        let number = unsafe { libc::getpid() };
        write!(pid.as_mut_slice(), "LISTEN_PID={number}\0")?;

        // SAFETY: the calls take numbers only; `socket` is open, as the caller holds it borrowed
        // until the process was started.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            let moved = if self.socket == TARGET {
                libc::fcntl(TARGET, libc::F_SETFD, 0)
            } else {
                libc::dup2(self.socket, TARGET)
            };
            if moved < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.pointers.extend(self.arguments.iter().map(|argument| argument.as_ptr()));
        self.pointers.push(std::ptr::null());
        let middle = self.pointers.len();
        self.pointers.push(pid.as_ptr().cast());
        self.pointers.extend(self.environment.iter().map(|line| line.as_ptr()));
        self.pointers.push(std::ptr::null());
        let (arguments, environment) = self.pointers.split_at(middle);
        // SAFETY: both lists are null-terminated and point to NUL-terminated strings that live
        // on this stack and in `self` until the call replaces the process or fails.
        unsafe {
            libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_process_finds_its_socket_and_its_own_number() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let script = r#"echo "$$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES $EXTRA $1" >&3"#;
        let arguments = ["-c", script, "sh", "arg"].map(OsString::from);
        let environment = [(OsString::from("EXTRA"), OsString::from("yes"))];
        let program = OsStr::new("/bin/sh");
        let mut child =
            spawn_activated(program, &arguments, environment.into_iter(), theirs.as_fd()).unwrap();
        drop(theirs);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        let id = child.id();
        assert_eq!(text, format!("{id} {id} 1 varlink yes arg\n"));
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_missing_program_is_an_error_here() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let program = OsStr::new("/no/such/program");
        let error = spawn_activated(program, &[], std::iter::empty(), theirs.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
