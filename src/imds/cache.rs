//! The cache below `/run/systemd/imds`: answers, tokens and the interface that works.
//!
//! Files are as the peer has them, so that both find what the other has left: `ifname`,
//! `cache/IFNAME/key-ESCAPED` with its age in an extended attribute, `cache/IFNAME/token` as JSON.
//! A cache is a courtesy: what goes wrong here is told and never fails a request.
//!
//! External spec: systemd-imdsd@.service(8) of systemd 262, `tests/vectors/imds/cache.json`.
//!
//! DIFFERS: where the file system keeps no user attributes (ramfs, tmpfs before Linux 6.6) the peer
//! fails every request; here age and result stand in a file `meta-ESCAPED` beside the answer.
//! DIFFERS: entries that make no sense are dropped with a warning; the peer's requests fail.

mod files;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::model::DATA_MAX;
use crate::ctx::Ctx;
use crate::error::IoText;
use crate::net::interface;

/// Where the service keeps its files.
pub const RUNTIME_DIR: &str = "/run/systemd/imds";

/// `$RUNTIME_DIRECTORY`, the first of them should there be several.
pub fn runtime_directory(ctx: &Ctx) -> Option<PathBuf> {
    let all = ctx.env("RUNTIME_DIRECTORY")?;
    all.split(':').next().filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// How long "there is no such key" is believed, unless the caller wants it fresher.
///
/// DIFFERS: the peer believes it for as long as an answer, so that a key that appears in the first
/// minutes of an instance is missed for a quarter of an hour.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(60);

const TIMESTAMP: &str = "user.imds.timestamp";
const RESULT: &str = "user.imds.result";
const KEY_NOT_FOUND: &str = "key-not-found";

/// LIMIT: bytes of a file name, of every file system that matters.
const NAME_MAX: usize = 255;
/// LIMIT: bytes of a token file; a token has 4096 at most.
const TOKEN_FILE_MAX: usize = 32 << 10;
/// LIMIT: bytes of the other small files.
const SMALL_MAX: usize = 4096;

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// What the cache knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Its value.
    Value(Vec<u8>),
    /// That there is none.
    Absent,
}

/// The cache in one directory.
#[derive(Clone)]
pub struct Cache {
    ctx: Ctx,
    root: PathBuf,
    negative_ttl: Duration,
}

/// Age and meaning of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// When the request began, microseconds since the machine started.
    time: u64,
    is_absent: bool,
}

/// The file beside an entry whose file system keeps no attributes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SideCar {
    #[serde(rename = "timestampUSec")]
    timestamp_usec: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    /// Which file this is about: an entry and its side-car are not replaced in one step.
    inode: u64,
}

#[derive(Serialize, Deserialize)]
struct TokenFile {
    token: String,
    #[serde(rename = "validUntilUSec")]
    valid_until_usec: u64,
}

/// Why an entry is of no use.
enum Useless {
    /// It is not there.
    Missing,
    /// It is too old.
    Quietly,
    /// It makes no sense.
    Broken(String),
}

impl From<io::Error> for Useless {
    fn from(err: io::Error) -> Self {
        match err.kind() {
            ErrorKind::NotFound => Self::Missing,
            _ => Self::Broken(IoText(&err).to_string()),
        }
    }
}

impl Cache {
    /// The cache below `root`, which is made when something is stored.
    pub fn new(ctx: &Ctx, root: impl Into<PathBuf>, negative_ttl: Duration) -> Self {
        Self { ctx: ctx.clone(), root: root.into(), negative_ttl }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The interface that worked last.
    pub fn pinned(&self) -> Option<String> {
        let read = || -> Result<String, Useless> {
            let dir = files::open_root(&self.root, false)?;
            let text = files::read(dir.as_fd(), "ifname", SMALL_MAX)?;
            let text = String::from_utf8(text).map_err(|_| Useless::Broken("not text".into()))?;
            let name = text.strip_suffix('\n').unwrap_or(&text);
            if !is_ifname(name) {
                return Err(Useless::Broken("not the name of an interface".into()));
            }
            Ok(name.to_owned())
        };
        match read() {
            Ok(name) => Some(name),
            Err(Useless::Missing | Useless::Quietly) => None,
            Err(Useless::Broken(reason)) => {
                let path = self.root.join("ifname");
                log::warn!("Ignoring and removing '{}': {reason}", path.display());
                self.unpin();
                None
            }
        }
    }

    /// Remembers the interface that works.
    pub fn pin(&self, name: &str) {
        let write = || -> io::Result<()> {
            let dir = files::open_root(&self.root, true)?;
            let text = format!("{name}\n");
            if files::read(dir.as_fd(), "ifname", SMALL_MAX).is_ok_and(|old| old == text.as_bytes())
            {
                return Ok(());
            }
            files::Draft::new(&self.ctx, dir.as_fd(), text.as_bytes(), PUBLIC)?.publish("ifname")
        };
        self.tell("remember the network interface", write());
    }

    /// Forgets the interface.
    pub fn unpin(&self) {
        let remove = || -> io::Result<()> {
            let dir = files::open_root(&self.root, false)?;
            files::remove(dir.as_fd(), "ifname")
        };
        self.tell("forget the network interface", remove());
    }

    /// What is known of a key on an interface and is younger than `refresh`. What is too old is
    /// removed.
    pub fn load(&self, ifname: &str, key: &str, refresh: Duration) -> Option<Hit> {
        let name = entry_name(key)?;
        let dir = self.open(ifname, false)?;
        match self.read_entry(dir.as_fd(), &name, refresh) {
            Ok(hit) => return Some(hit),
            // Nothing is removed then: another process may have stored it just now.
            Err(Useless::Missing) => return None,
            Err(Useless::Quietly) => {}
            Err(Useless::Broken(reason)) => {
                log::warn!("Dropping cache entry '{name}' of {ifname}: {reason}");
            }
        }
        let _ = files::remove(dir.as_fd(), &name);
        let _ = files::remove(dir.as_fd(), &side_car_name(&name));
        None
    }

    fn read_entry(
        &self,
        dir: std::os::fd::BorrowedFd<'_>,
        name: &str,
        refresh: Duration,
    ) -> Result<Hit, Useless> {
        let file = files::open(dir, name)?;
        let stamp = read_stamp(dir, &file, name)?;
        let now = micros(self.ctx.boottime());
        if stamp.time > now {
            return Err(Useless::Broken("it is from the future".into()));
        }
        let limit = if stamp.is_absent { refresh.min(self.negative_ttl) } else { refresh };
        if stamp.time.saturating_add(micros(limit)) <= now {
            return Err(Useless::Quietly);
        }
        if stamp.is_absent {
            return Ok(Hit::Absent);
        }
        Ok(Hit::Value(files::read_open(file, DATA_MAX)?))
    }

    /// Keeps a value, or that there is none, for the request that began at `since`
    /// ([`Ctx::boottime`]).
    pub fn store(&self, ifname: &str, key: &str, since: Duration, hit: &Hit) {
        let Some(name) = entry_name(key) else {
            log::warn!("Key '{key}' is too long for the name of a file, not caching.");
            return;
        };
        let Some(dir) = self.open(ifname, true) else { return };
        let (bytes, is_absent) = match hit {
            Hit::Value(bytes) => (bytes.as_slice(), false),
            Hit::Absent => (&[][..], true),
        };
        let stamp = Stamp { time: micros(since), is_absent };
        self.tell("cache an answer", self.write_entry(dir.as_fd(), &name, bytes, stamp));
    }

    fn write_entry(
        &self,
        dir: std::os::fd::BorrowedFd<'_>,
        name: &str,
        bytes: &[u8],
        stamp: Stamp,
    ) -> io::Result<()> {
        let draft = files::Draft::new(&self.ctx, dir, bytes, PRIVATE)?;
        let side_car = side_car_name(name);
        match write_stamp(draft.file(), stamp) {
            Ok(()) => {
                draft.publish(name)?;
                files::remove(dir, &side_car)
            }
            Err(Errno::OPNOTSUPP | Errno::PERM) if side_car.len() <= NAME_MAX => {
                let car = SideCar {
                    timestamp_usec: stamp.time,
                    result: stamp.is_absent.then(|| KEY_NOT_FOUND.to_owned()),
                    inode: rustix::fs::fstat(draft.file())?.st_ino,
                };
                let mut text = serde_json::to_vec(&car)?;
                text.push(b'\n');
                // The entry last: with the old side-car a reader would take its age for another's.
                files::Draft::new(&self.ctx, dir, &text, PRIVATE)?.publish(&side_car)?;
                draft.publish(name)
            }
            Err(err) => Err(err.into()),
        }
    }

    /// The token of an interface, if it is still good.
    pub fn load_token(&self, ifname: &str) -> Option<String> {
        let dir = self.open(ifname, false)?;
        let read = || -> Result<String, Useless> {
            let bytes = files::read(dir.as_fd(), "token", TOKEN_FILE_MAX)?;
            // The parser's message could quote the token.
            let file: TokenFile = serde_json::from_slice(&bytes)
                .map_err(|_| Useless::Broken("not what a token file holds".into()))?;
            if file.valid_until_usec <= micros(self.ctx.boottime()) || file.token.is_empty() {
                return Err(Useless::Quietly);
            }
            Ok(file.token)
        };
        match read() {
            Ok(token) => return Some(token),
            Err(Useless::Missing | Useless::Quietly) => {}
            Err(Useless::Broken(reason)) => {
                log::warn!("Dropping cached token of {ifname}: {reason}");
            }
        }
        let _ = files::remove(dir.as_fd(), "token");
        None
    }

    /// Keeps a token for that long.
    pub fn store_token(&self, ifname: &str, token: &str, lifetime: Duration) {
        let Some(dir) = self.open(ifname, true) else { return };
        let until = micros(self.ctx.boottime()).saturating_add(micros(lifetime));
        let file = TokenFile { token: token.to_owned(), valid_until_usec: until };
        let write = || -> io::Result<()> {
            let mut text = serde_json::to_vec(&file)?;
            text.push(b'\n');
            files::Draft::new(&self.ctx, dir.as_fd(), &text, PRIVATE)?.publish("token")
        };
        self.tell("cache the token", write());
    }

    /// Drops a token that the service refused, unless somebody else has a new one already.
    pub fn forget_token(&self, ifname: &str, token: &str) {
        if self.load_token(ifname).is_some_and(|kept| kept == token)
            && let Some(dir) = self.open(ifname, false)
        {
            let _ = files::remove(dir.as_fd(), "token");
        }
    }

    /// The directory of an interface.
    fn open(&self, ifname: &str, is_made: bool) -> Option<OwnedFd> {
        let open = || -> io::Result<OwnedFd> {
            let root = files::open_root(&self.root, is_made)?;
            let cache = files::open_below(root.as_fd(), "cache", is_made)?;
            files::open_below(cache.as_fd(), ifname, is_made)
        };
        match open() {
            Ok(dir) => Some(dir),
            Err(err) if !is_made && err.kind() == ErrorKind::NotFound => None,
            Err(err) => {
                self.tell("open the cache", Err(err));
                None
            }
        }
    }

    fn tell(&self, what: &str, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            Err(err) => {
                log::warn!("Failed to {what} in '{}': {}", self.root.display(), IoText(&err));
            }
        }
    }
}

/// Could this be the main name of a network interface, and hence of a directory?
fn is_ifname(name: &str) -> bool {
    // LIMIT: IFNAMSIZ with its NUL.
    name.len() < 16 && interface::is_valid_name(name)
}

/// `key-` and the key, `/`, `.`, `\` and what cannot be printed as `\xHH`; `None` where that is
/// too long for a file.
fn entry_name(key: &str) -> Option<String> {
    let mut name = String::from("key-");
    for byte in key.bytes() {
        match byte {
            b'/' | b'.' | b'\\' | 0..=0x1f | 0x7f.. => name.push_str(&format!("\\x{byte:02x}")),
            _ => name.push(char::from(byte)),
        }
    }
    (name.len() <= NAME_MAX).then_some(name)
}

fn side_car_name(entry: &str) -> String {
    format!("meta-{}", entry.strip_prefix("key-").unwrap_or(entry))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn write_stamp(file: &OwnedFd, stamp: Stamp) -> rustix::io::Result<()> {
    let flags = XattrFlags::empty();
    rustix::fs::fsetxattr(file, TIMESTAMP, &stamp.time.to_ne_bytes(), flags)?;
    if stamp.is_absent {
        rustix::fs::fsetxattr(file, RESULT, KEY_NOT_FOUND.as_bytes(), flags)?;
    }
    Ok(())
}

fn read_stamp(
    dir: std::os::fd::BorrowedFd<'_>,
    file: &OwnedFd,
    name: &str,
) -> Result<Stamp, Useless> {
    let broken = |what: &str| Useless::Broken(what.to_owned());
    let status = rustix::fs::fstat(file).map_err(io::Error::from)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(broken("not a file"));
    }
    let mut buffer = [0_u8; 64];
    let time = match rustix::fs::fgetxattr(file, TIMESTAMP, &mut buffer) {
        Ok(8) => {
            let bytes = buffer.first_chunk::<8>().ok_or_else(|| broken("no time stamp"))?;
            u64::from_ne_bytes(*bytes)
        }
        Ok(_) | Err(Errno::RANGE) => return Err(broken("its time stamp is not 8 bytes")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => {
            let text = files::read(dir, &side_car_name(name), SMALL_MAX)
                .map_err(|_| broken("it has no time stamp"))?;
            let car: SideCar =
                serde_json::from_slice(&text).map_err(|_| broken("its side-car makes no sense"))?;
            if car.inode != status.st_ino {
                // Half of a replacement, by somebody who is at it or has died.
                return Err(Useless::Quietly);
            }
            return match car.result.as_deref() {
                None => Ok(Stamp { time: car.timestamp_usec, is_absent: false }),
                Some(KEY_NOT_FOUND) => Ok(Stamp { time: car.timestamp_usec, is_absent: true }),
                Some(_) => Err(broken("its result is unknown")),
            };
        }
        Err(err) => return Err(io::Error::from(err).into()),
    };
    let is_absent = match rustix::fs::fgetxattr(file, RESULT, &mut buffer) {
        Ok(n) if buffer.get(..n) == Some(KEY_NOT_FOUND.as_bytes()) => true,
        Ok(_) | Err(Errno::RANGE) => return Err(broken("its result is unknown")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
        Err(err) => return Err(io::Error::from(err).into()),
    };
    Ok(Stamp { time, is_absent })
}

#[cfg(test)]
mod tests;
