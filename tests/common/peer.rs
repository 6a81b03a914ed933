//! The real systemd in a root directory of its own, and our binary beside it.
//!
//! `PEER` names the directory. Commands run in a chroot inside a private mount namespace with
//! `/proc`, `/sys`, `/dev` and a fresh `/run`, which needs root. Both programs see the same files by
//! the same paths.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "test helper: a broken test should panic")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The root directory of the peer and a scratch directory inside it.
pub struct Peer {
    root: PathBuf,
    scratch: tempfile::TempDir,
}

impl Peer {
    /// None, with a line that says why, where there is no peer to compare with.
    pub fn new(test: &str) -> Option<Self> {
        let Some(root) = std::env::var_os("PEER").map(PathBuf::from) else {
            println!("SKIP {test}: PEER does not name a root directory with systemd 262");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            println!("SKIP {test}: entering PEER needs root");
            return None;
        }
        let parent = root.join("var/tmp");
        fs::create_dir_all(&parent).unwrap();
        let scratch = tempfile::Builder::new().prefix("slipway-test.").tempdir_in(parent).unwrap();
        // The peer's helpers drop privileges and must still get through.
        fs::set_permissions(
            scratch.path(),
            <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755),
        )
        .unwrap();
        let peer = Self { root, scratch };
        // The shipped binary where there is one: it is what has to agree, and needs no libc inside.
        let binary = std::env::var_os("SLIPWAY_STATIC")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_slipway").into());
        // By another process: a thread that forks in the meantime would hold the copy open for
        // writing, and nobody could run it.
        let copied = Command::new("cp").arg(binary).arg(peer.dir().join("slipway")).status();
        assert!(copied.unwrap().success());
        Some(peer)
    }

    /// The scratch directory as this process sees it.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The scratch directory as commands inside see it.
    pub fn inside(&self) -> PathBuf {
        Path::new("/").join(self.dir().strip_prefix(&self.root).unwrap())
    }

    /// Our binary as commands inside see it.
    pub fn slipway(&self) -> PathBuf {
        self.inside().join("slipway")
    }

    /// A command that runs inside; add arguments and environment to it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        const ENTER: &str = "root=$1; shift
            mount -t proc proc \"$root/proc\"; mount --rbind /sys \"$root/sys\"
            mount --rbind /dev \"$root/dev\"; mount -t tmpfs tmpfs \"$root/run\"
            exec chroot \"$root\" \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["-m", "--propagation", "private", "sh", "-euc", ENTER, "peer"])
            .arg(&self.root)
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command inside to its end.
    pub fn run(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Output {
        self.command(program).args(args).output().unwrap()
    }
}
