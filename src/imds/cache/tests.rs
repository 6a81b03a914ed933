//! The cache on a real file system, against what was seen of the peer's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::Value;

use super::*;
use crate::ctx::Clock;

/// A clock that stands until it is moved.
#[derive(Default)]
struct Boot(AtomicU64);

impl Clock for Boot {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep(&self, time: Duration) {
        self.0.fetch_add(micros(time), Ordering::SeqCst);
    }

    fn boottime(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct World {
    dir: tempfile::TempDir,
    ctx: Ctx,
    cache: Cache,
}

const HOUR: Duration = Duration::from_secs(3600);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Ctx::host([]).with_clock(Arc::new(Boot(AtomicU64::new(1_000_000_000))));
    let cache = Cache::new(&ctx, dir.path().join("imds"), NEGATIVE_TTL);
    World { dir, ctx, cache }
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("imds").join(name)
    }

    fn mode(&self, name: &str) -> u32 {
        self.path(name).metadata().unwrap().permissions().mode() & 0o7777
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache/eth0")).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn store(&self, key: &str, value: &str) {
        let hit = Hit::Value(value.as_bytes().to_vec());
        self.cache.store("eth0", key, self.ctx.boottime(), &hit);
    }

    fn load(&self, key: &str, refresh: Duration) -> Option<String> {
        match self.cache.load("eth0", key, refresh)? {
            Hit::Value(value) => Some(String::from_utf8(value).unwrap()),
            Hit::Absent => Some("absent".to_owned()),
        }
    }

    /// Can this file system keep user attributes?
    fn has_attributes(&self) -> bool {
        self.store("/probe", "");
        let is_there = !self.path("cache/eth0/meta-\\x2fprobe").exists();
        assert!(self.load("/probe", HOUR).is_some());
        self.cache.load("eth0", "/probe", Duration::ZERO);
        is_there
    }
}

#[test]
fn names_of_entries_are_those_of_the_vectors() {
    let vectors = include_str!("../../../tests/vectors/imds/cache.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let rows = vectors["escaping"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let key = row["key"].as_str().unwrap();
        assert_eq!(entry_name(key).as_deref(), row["file"].as_str(), "{key}");
    }
    assert_eq!(entry_name("a b\\\u{7f}\n").unwrap(), "key-a b\\x5c\\x7f\\x0a");
    assert!(entry_name(&"x".repeat(251)).is_some());
    assert!(entry_name(&"x".repeat(252)).is_none(), "255 bytes are the limit");
}

#[test]
fn files_have_the_peers_places_modes_and_attributes() {
    let world = world();
    world.cache.pin("eth0");
    world.store("/meta-data/hostname", "host");
    world.cache.store("eth0", "/gone", seconds(1000), &Hit::Absent);
    world.cache.store_token("eth0", "TOK1", seconds(450));
    assert_eq!(fs::read(world.path("ifname")).unwrap(), b"eth0\n");
    assert_eq!(
        fs::read_to_string(world.path("cache/eth0/token")).unwrap(),
        "{\"token\":\"TOK1\",\"validUntilUSec\":1450000000}\n"
    );
    let entry = "cache/eth0/key-\\x2fmeta-data\\x2fhostname";
    assert_eq!(fs::read(world.path(entry)).unwrap(), b"host");
    for (name, mode) in [
        ("ifname", 0o644),
        ("cache", 0o755),
        ("cache/eth0", 0o755),
        (entry, 0o600),
        ("cache/eth0/token", 0o600),
    ] {
        assert_eq!(world.mode(name), mode, "{name}");
    }
    if !world.has_attributes() {
        assert!(world.names().iter().any(|name| name.starts_with("meta-")));
        return;
    }
    let mut buffer = [0; 64];
    let mut attribute = |name: &str, key: &str| {
        let len = rustix::fs::getxattr(world.path(name), key, &mut buffer).unwrap();
        buffer[..len].to_vec()
    };
    assert_eq!(attribute(entry, TIMESTAMP), 1_000_000_000_u64.to_ne_bytes());
    assert_eq!(attribute("cache/eth0/key-\\x2fgone", TIMESTAMP), 1_000_000_000_u64.to_ne_bytes());
    assert_eq!(attribute("cache/eth0/key-\\x2fgone", RESULT), b"key-not-found");
    let names = world.names();
    assert!(names.iter().all(|name| name.starts_with("key-") || name == "token"), "{names:?}");
}

#[test]
fn who_asks_decides_what_is_too_old_and_what_is_too_old_goes() {
    let world = world();
    world.store("/a", "1");
    world.ctx.sleep(seconds(100));
    assert_eq!(world.load("/a", seconds(101)).as_deref(), Some("1"));
    assert_eq!(world.load("/a", HOUR).as_deref(), Some("1"));
    assert_eq!(world.load("/a", seconds(100)), None, "not older, but as old");
    assert!(world.names().is_empty());
    assert_eq!(world.load("/a", HOUR), None);
}

#[test]
fn absence_is_believed_for_a_minute_defect_6() {
    let world = world();
    world.cache.store("eth0", "/a", world.ctx.boottime(), &Hit::Absent);
    world.ctx.sleep(seconds(59));
    assert_eq!(world.load("/a", HOUR).as_deref(), Some("absent"));
    world.ctx.sleep(seconds(1));
    assert_eq!(world.load("/a", HOUR), None);
}

#[test]
fn a_new_value_takes_the_place_of_the_old_one() {
    let world = world();
    world.store("/a", "1");
    world.store("/a", "2");
    assert_eq!(world.load("/a", HOUR).as_deref(), Some("2"));
    world.cache.store("eth0", "/a", world.ctx.boottime(), &Hit::Absent);
    assert_eq!(world.load("/a", HOUR).as_deref(), Some("absent"));
    world.store("/a", "");
    assert_eq!(world.load("/a", HOUR).as_deref(), Some(""), "empty is not absent");
    assert!(world.names().iter().all(|name| !name.starts_with('.')));
}

#[test]
fn interfaces_do_not_share_entries() {
    let world = world();
    world.store("/a", "1");
    assert_eq!(world.cache.load("eth1", "/a", HOUR), None);
    assert!(!world.path("cache/eth1").exists(), "looking makes nothing");
}

#[test]
fn entries_that_make_no_sense_are_dropped() {
    let world = world();
    world.store("/a", "1");
    let entry = world.path("cache/eth0/key-\\x2fa");
    // Without a time stamp, as copied by somebody.
    fs::remove_file(&entry).unwrap();
    fs::write(&entry, "x").unwrap();
    assert_eq!(world.load("/a", HOUR), None);
    assert!(!entry.exists());
    // From the future: another boot's.
    world.cache.store("eth0", "/a", seconds(5000), &Hit::Value(b"x".to_vec()));
    assert_eq!(world.load("/a", HOUR), None);
    assert!(!entry.exists());
    // Not a file.
    fs::create_dir(&entry).unwrap();
    assert_eq!(world.load("/a", HOUR), None);
    fs::remove_dir(&entry).unwrap();
    fs::write(world.dir.path().join("elsewhere"), "secret").unwrap();
    symlink(world.dir.path().join("elsewhere"), &entry).unwrap();
    assert_eq!(world.load("/a", HOUR), None);
    assert!(world.dir.path().join("elsewhere").exists());
    if world.has_attributes() {
        for (name, value) in [(TIMESTAMP, &b"short"[..]), (RESULT, b"unheard-of")] {
            world.store("/a", "1");
            rustix::fs::setxattr(&entry, name, value, XattrFlags::empty()).unwrap();
            assert_eq!(world.load("/a", HOUR), None, "{name}");
            assert!(!entry.exists());
        }
    }
}

#[test]
fn directories_that_are_links_are_not_followed() {
    let world = world();
    fs::create_dir_all(world.path("cache")).unwrap();
    fs::create_dir(world.dir.path().join("elsewhere")).unwrap();
    symlink(world.dir.path().join("elsewhere"), world.path("cache/eth0")).unwrap();
    world.store("/a", "1");
    world.cache.store_token("eth0", "T", HOUR);
    assert_eq!(world.load("/a", HOUR), None);
    assert_eq!(fs::read_dir(world.dir.path().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn tokens_end_with_their_time_and_only_the_refused_one_is_forgotten() {
    let world = world();
    assert_eq!(world.cache.load_token("eth0"), None);
    world.cache.store_token("eth0", "T", seconds(10));
    assert_eq!(world.cache.load_token("eth0").as_deref(), Some("T"));
    world.cache.forget_token("eth0", "other");
    assert_eq!(world.cache.load_token("eth0").as_deref(), Some("T"));
    world.ctx.sleep(seconds(10));
    assert_eq!(world.cache.load_token("eth0"), None);
    world.cache.store_token("eth0", "U", seconds(10));
    world.cache.forget_token("eth0", "U");
    assert!(!world.path("cache/eth0/token").exists());
    for text in ["", "{", "{\"token\":1,\"validUntilUSec\":2}", "[]"] {
        fs::write(world.path("cache/eth0/token"), text).unwrap();
        assert_eq!(world.cache.load_token("eth0"), None, "{text}");
        assert!(!world.path("cache/eth0/token").exists());
    }
}

#[test]
fn pinned_interface_is_one_line_and_nonsense_is_removed() {
    let world = world();
    assert_eq!(world.cache.pinned(), None);
    world.cache.unpin();
    world.cache.pin("eth0");
    world.cache.pin("eth1");
    assert_eq!(world.cache.pinned().as_deref(), Some("eth1"));
    for text in ["", "\n", "a/b\n", "..\n", "7\n", "eth0\neth1\n", "sixteen-letters-\n"] {
        fs::write(world.path("ifname"), text).unwrap();
        assert_eq!(world.cache.pinned(), None, "{text:?}");
        assert!(!world.path("ifname").exists(), "{text:?}");
    }
}

#[test]
fn side_car_stands_for_attributes_defect_17() {
    let world = world();
    world.store("/a", "1");
    let entry = world.path("cache/eth0/key-\\x2fa");
    // As on a file system without attributes: the age is in the other file.
    let car = |inode: u64, time: u64, result: &str| {
        let text = format!("{{\"timestampUSec\":{time},\"inode\":{inode}{result}}}\n");
        fs::write(world.path("cache/eth0/meta-\\x2fa"), text).unwrap();
    };
    let plain = || {
        fs::remove_file(&entry).ok();
        fs::write(&entry, "1").unwrap();
        entry.metadata().unwrap().ino()
    };
    car(plain(), 1_000_000_000, "");
    assert_eq!(world.load("/a", HOUR).as_deref(), Some("1"));
    car(plain(), 1_000_000_000, ",\"result\":\"key-not-found\"");
    assert_eq!(world.load("/a", HOUR).as_deref(), Some("absent"));
    car(plain(), 900_000_000, "");
    assert_eq!(world.load("/a", seconds(100)), None, "too old");
    assert!(world.names().is_empty(), "both go");
    for (offset, result) in [(1, ""), (0, ",\"result\":\"other\"")] {
        car(plain() + offset, 1_000_000_000, result);
        assert_eq!(world.load("/a", HOUR), None, "{offset} {result}");
        assert!(world.names().is_empty());
    }
}
