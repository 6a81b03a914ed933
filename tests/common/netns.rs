//! Network namespaces that a test makes: only in there does an address like 169.254.169.254 exist.
//!
//! A namespace lives as long as its [`Namespace`]; making one needs root.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "test helper: a broken test should panic")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, loopback up.
pub struct Namespace(Child);

impl Namespace {
    /// None, with a line that says why, where there may be none.
    pub fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP {test}: making network namespaces needs root");
            return None;
        }
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let namespace = Self(holder);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        while fs::read_link(namespace.path()).unwrap() == own {
            thread::sleep(Duration::from_millis(1));
        }
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Joins two namespaces by a pair of Ethernet interfaces, both up: `here` in this one, `there`
    /// in the other.
    pub fn connect(&self, here: &str, other: &Self, there: &str) {
        let pid = other.0.id();
        self.ip(&format!("link add {here} type veth peer name {there} netns {pid}"));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
    }

    /// Runs ip(8) inside, arguments separated by blanks; it has to succeed.
    pub fn ip(&self, args: &str) {
        let output = self.command("ip").args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Lets a command that is complete run inside.
    pub fn enter(&self, inner: &Command) -> Command {
        let mut command = self.command(inner.get_program());
        command.args(inner.get_args());
        command.env_clear();
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }

    /// Does work on a thread that is inside: sockets made there belong to this namespace for good.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).unwrap();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .unwrap();
                work()
            });
            worker.join().unwrap()
        })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
