//! The outside world as a parameter: root directory, kernel file systems, environment, clock and
//! randomness.
//!
//! Why: every test runs unprivileged in a directory of its own, and `--root=` falls out of the
//! same seam. The core never reads `std::env`, the system clock or `/proc` by name; it asks here.
//! Shared by threads, hence immutable.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Time since the epoch, UTC.
    fn now(&self) -> SystemTime;
    /// Waits. Tests return at once.
    fn sleep(&self, time: Duration);
    /// Time since some point in the past, never going back; for measuring.
    fn monotonic(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        )
    }
    /// Time since the machine started, with the time it was suspended (`CLOCK_BOOTTIME`); for
    /// time stamps that other processes read.
    fn boottime(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(now.tv_sec).unwrap_or_default(),
            u32::try_from(now.tv_nsec).unwrap_or_default(),
        )
    }
}

/// Where random bytes come from.
pub trait Random: Send + Sync {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The world an operation works on. Cloning is cheap.
#[derive(Clone)]
pub struct Ctx {
    root: PathBuf,
    image: Option<PathBuf>,
    proc: PathBuf,
    sys: PathBuf,
    env: Arc<BTreeMap<OsString, OsString>>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Ctx {
    /// The real machine, with the environment given.
    pub fn host(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            root: PathBuf::from("/"),
            image: None,
            proc: PathBuf::from("/proc"),
            sys: PathBuf::from("/sys"),
            env: Arc::new(env.into_iter().collect()),
            clock: Arc::new(HostClock),
            random: Arc::new(HostRandom),
        }
    }

    /// The same world with the operating system tree at `root`; `/proc` and `/sys` stay.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// The same world with the operating system tree of a disk image, which is mounted at `root`.
    #[must_use]
    pub fn with_image(mut self, image: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        self.image = Some(image.into());
        self.with_root(root)
    }

    /// Other places for `/proc` and `/sys`; for tests and early boot.
    #[must_use]
    pub fn with_kernel(mut self, proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Self {
        self.proc = proc.into();
        self.sys = sys.into();
        self
    }

    /// Another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of randomness.
    #[must_use]
    pub fn with_random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        Arc::make_mut(&mut self.env).insert(name.into(), value.into());
        self
    }

    /// One environment variable less.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        Arc::make_mut(&mut self.env).remove(name.as_ref());
        self
    }

    /// Where the operating system tree is; `/` unless `--root=` was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The disk image that the tree is from, if it is from one.
    pub fn image(&self) -> Option<&Path> {
        self.image.as_deref()
    }

    /// True where the tree is the running system's.
    pub fn is_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of the tree as a path of this process; `..` never leaves the root, but
    /// symbolic links are not followed here (that is `sys::fs::chase`). A relative path stays.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if !path.is_absolute() || self.is_host() {
            return path.to_path_buf();
        }
        let mut below = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => below.push(name),
                Component::ParentDir => {
                    below.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.root.join(below)
    }

    /// A file below `/proc`.
    pub fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.proc.join(path)
    }

    /// A file below `/sys`.
    pub fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.sys.join(path)
    }

    /// An environment variable.
    pub fn env_os(&self, name: &str) -> Option<&OsStr> {
        self.env.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// An environment variable, if it is there and valid UTF-8.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env_os(name).and_then(OsStr::to_str)
    }

    /// True where the peer's defects are wanted too: `SLIPWAY_STRICT_COMPAT` is a word for yes.
    pub fn is_strict_compat(&self) -> bool {
        self.env("SLIPWAY_STRICT_COMPAT").and_then(crate::out::parse_flag) == Some(true)
    }

    /// The whole environment, sorted by name.
    pub fn env_all(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The time.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Time since some point in the past, for measuring.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Time since the machine started, with the time it was suspended.
    pub fn boottime(&self) -> Duration {
        self.clock.boottime()
    }

    /// Waits.
    pub fn sleep(&self, time: Duration) {
        self.clock.sleep(time);
    }

    /// Random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }
}

struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

struct HostRandom;

impl Random for HostRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => rest = rest.get_mut(n..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // The call is older than every kernel we run on; without it nothing is safe.
                Err(err) => panic!("no randomness: {err}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_go_below_the_root_and_dots_stay_inside() {
        let ctx = Ctx::host([]).with_root("/r");
        assert_eq!(ctx.at("/etc/x"), Path::new("/r/etc/x"));
        assert_eq!(ctx.at("/../../etc"), Path::new("/r/etc"));
        assert_eq!(ctx.at("rel"), Path::new("rel"));
        assert_eq!(Ctx::host([]).at("/a/../b"), Path::new("/a/../b"));
    }

    #[test]
    fn two_draws_differ() {
        let ctx = Ctx::host([]);
        assert_ne!(ctx.random::<16>(), ctx.random::<16>());
    }
}
