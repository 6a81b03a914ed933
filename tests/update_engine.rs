//! The engine on good input: what arrives on disk, and downloads that are taken up again.
#![cfg(feature = "update")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "common/engine.rs"]
mod common;
#[path = "common/http_server.rs"]
mod http_server;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{Run, file, remove, sha256, slot, to_partition, transfer, url};
use http_server::{HttpServer, Ranges, Reply};
use slipway::ctx::{Clock, Ctx};
use slipway::error::Error;
use slipway::format::pattern::Fields;
use slipway::update::engine;
use slipway::update::job::{Acquired, EngineOptions, Goal};
use slipway::update::model::{Instance, Location, SourceKind, TargetKind, Transfer};

struct QuickClock;

impl Clock for QuickClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn sleep(&self, _: Duration) {}
}

struct World {
    top: tempfile::TempDir,
    ctx: Ctx,
    options: EngineOptions,
}

impl World {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("src")).unwrap();
        let ctx = Ctx::host([]).with_root(top.path()).with_clock(Arc::new(QuickClock));
        Self { top, ctx, options: EngineOptions::new(true) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn goal(&self, name: &str) -> Goal {
        Goal::Name { directory: self.at("target"), name: name.to_owned() }
    }

    /// A disk with slots of 16 MiB and old contents in them.
    fn disk(&self) -> PathBuf {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gpt");
        let packed = std::fs::File::open(packed.join("s512-0-empty.img.xz")).unwrap();
        let mut reader = slipway::unpack::reader(Box::new(packed)).unwrap();
        let disk = self.at("disk.img");
        let mut image = std::fs::File::create(&disk).unwrap();
        std::io::copy(&mut reader, &mut image).unwrap();
        image.set_len(64 << 20).unwrap();
        let opened = slipway::disk::FileDisk::open(&disk, slipway::disk::Access::Write).unwrap();
        slipway::disk::table::change(&opened, &disk, &mut |table| {
            let mut slot = table.partition(1).unwrap();
            (slot.first_lba, slot.last_lba) = (65536, 65536 + 32767);
            table.set(&slot).unwrap();
            Ok(())
        })
        .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&image, &vec![0xaa; 16 << 20], 32 << 20).unwrap();
        disk
    }

    fn acquire(
        &self,
        transfer: &Transfer,
        source: &Instance,
        goal: &Goal,
        fields: Fields,
    ) -> Result<Acquired, Error> {
        let (ctx, options) = (&self.ctx, &self.options);
        Run { ctx, transfer, options, source, fields }.acquire(goal)
    }
}

fn to_file(source: SourceKind) -> Transfer {
    transfer(source, TargetKind::RegularFile, "f_@v")
}

/// Data with runs of zeros of all sizes, an odd length and no period.
fn payload(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes: Vec<u8> = (0..len.div_ceil(8))
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 8).to_le_bytes()
        })
        .collect();
    bytes.truncate(len);
    for (at, zeros) in [(5000, 100), (70_000, 4096), (200_000, 300_000), (1_500_000, 2 << 20)] {
        if let Some(part) = bytes.get_mut(at..at + zeros) {
            part.fill(0);
        }
    }
    bytes
}

fn packed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(bytes).unwrap();
    let mut xz = Vec::new();
    for part in bytes.chunks(1 << 20) {
        let mut stream = liblzma::write::XzEncoder::new(Vec::new(), 0);
        stream.write_all(part).unwrap();
        xz.extend(stream.finish().unwrap());
    }
    vec![
        ("plain", bytes.to_vec()),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("zstd", zstd::bulk::compress(bytes, 1).unwrap()),
        ("xz", xz),
    ]
}

#[test]
fn every_format_from_disk_and_web_arrives_in_files_and_slots() {
    let (world, server) = (World::new(), HttpServer::start());
    let plain = payload((6 << 20) + 12_345);
    let root = to_partition(SourceKind::UrlFile, "x_@v", "root-x86-64");
    for (name, bytes) in packed(&plain) {
        std::fs::write(world.at("src").join(name), &bytes).unwrap();
        server.on(&format!("/{name}"), [Reply::file(bytes.clone())]);
        let local = file("1", world.at("src").join(name));
        let remote = url("1", server.url(&format!("/{name}")), sha256(&bytes));
        for source in [local, remote] {
            let goal = world.goal(name);
            world
                .acquire(&to_file(SourceKind::UrlFile), &source, &goal, Fields::default())
                .unwrap();
            let pending = world.at("target").join(format!(".sysupdate.pending.{name}"));
            assert!(std::fs::read(&pending).unwrap() == plain, "{name}");
            let stat = std::fs::metadata(&pending).unwrap();
            assert!(stat.blocks() * 512 < plain.len() as u64 - (2 << 20), "{name}: no holes");

            let disk = world.disk();
            let slot = slot(&world.options, &disk, 1);
            assert_eq!(slot.size_bytes, 16 << 20);
            let start = usize::try_from(slot.offset_bytes).unwrap();
            let goal = Goal::Slot { slot, label: "os_1".to_owned() };
            world.acquire(&root, &source, &goal, Fields::default()).unwrap();
            let image = std::fs::read(&disk).unwrap();
            assert!(image[start..start + plain.len()] == plain, "{name}");
            let rest = &image[start + plain.len()..start + (16 << 20)];
            assert!(rest.iter().all(|byte| *byte == 0xaa), "{name}: beyond the payload");
        }
    }
}

#[test]
fn the_rest_of_a_slot_is_zeroed_where_asked_for() {
    let world = World::new();
    let mut root = to_partition(SourceKind::RegularFile, "x_@v", "root-x86-64-verity-sig");
    root.target.partition_type = slipway::format::gpt::types::by_name("root-x86-64").unwrap();
    root.target.zero_fill = true;
    std::fs::write(world.at("src/x_1"), "short").unwrap();
    let disk = world.disk();
    let slot = slot(&world.options, &disk, 1);
    let start = usize::try_from(slot.offset_bytes).unwrap();
    let goal = Goal::Slot { slot, label: "os_1".to_owned() };
    let source = file("1", world.at("src/x_1"));
    world.acquire(&root, &source, &goal, Fields::default()).unwrap();
    let image = std::fs::read(&disk).unwrap();
    assert_eq!(&image[start..start + 5], b"short");
    assert!(image[start + 5..start + (16 << 20)].iter().all(|byte| *byte == 0));
}

#[test]
fn modes_times_and_origin_arrive_and_the_link_moves_last() {
    let (world, server) = (World::new(), HttpServer::start());
    let reply = Reply::file(b"payload".to_vec())
        .etag("\"tag\"")
        .last_modified("Tue, 14 Nov 2023 22:13:20 GMT");
    server.on("/f_2", [reply]);
    let source = url("2", server.url("/f_2"), sha256(b"payload"));
    let transfer = to_file(SourceKind::UrlFile);
    let (ctx, options) = (&world.ctx, &world.options);
    let fields = Fields { mode: Some(0o4775), read_only: Some(true), ..Fields::default() };
    let run = Run { ctx, transfer: &transfer, options, source: &source, fields };
    let goal = world.goal("sub/dir/f_2");
    let pending = run.acquire(&goal).unwrap().location;
    let expected = world.at("target/sub/dir/.sysupdate.pending.f_2");
    assert_eq!(pending, Location::Path(expected.clone()));
    let origin = slipway::sys::fs::xattr(&expected, "user.source_url".as_ref());
    if let Ok(origin) = origin {
        assert_eq!(origin, server.url("/f_2").as_bytes());
        let tag = slipway::sys::fs::xattr(&expected, "user.source_etag".as_ref()).unwrap();
        assert_eq!(tag, b"\"tag\"");
    }
    let link = world.at("run/current");
    let path = run.install_linked(&goal, &pending, Some(link.clone())).unwrap();
    assert_eq!(path, world.at("target/sub/dir/f_2"));
    let stat = std::fs::metadata(&path).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o4555, 1_700_000_000));
    assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("../target/sub/dir/f_2"));
    // And away with it: directories that this leaves empty go as well, Path= itself stays.
    let top = Some(world.at("target"));
    remove(ctx, &transfer, options, Location::Path(path), top).unwrap();
    assert_eq!(std::fs::read_dir(world.at("target")).unwrap().count(), 0);
}

#[test]
fn a_tree_is_copied_made_read_only_and_can_be_removed_again() {
    let world = World::new();
    std::fs::create_dir_all(world.at("src/d_1/sub")).unwrap();
    std::fs::write(world.at("src/d_1/sub/x"), "x").unwrap();
    let source = file("1", world.at("src/d_1"));
    for kind in [TargetKind::Directory, TargetKind::Subvolume] {
        let transfer = transfer(SourceKind::Directory, kind, "d_@v");
        let (ctx, options) = (&world.ctx, &world.options);
        let fields = Fields {
            read_only: Some(true),
            mode: Some(0o750),
            mtime_usec: Some(1_600_000_000_000_000),
            ..Fields::default()
        };
        let run = Run { ctx, transfer: &transfer, options, source: &source, fields };
        let path = run.update(&world.goal("d_1")).unwrap();
        assert_eq!(std::fs::read(path.join("sub/x")).unwrap(), b"x");
        let stat = std::fs::metadata(&path).unwrap();
        assert_eq!((stat.permissions().mode() & 0o7777, stat.mtime()), (0o750, 1_600_000_000));
        remove(ctx, &transfer, options, Location::Path(path.clone()), None).unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn leftovers_are_cleaned_but_those_to_keep() {
    let world = World::new();
    std::fs::create_dir_all(world.at("target/.sysupdate.partial.d_1/sub")).unwrap();
    for name in [".#old", ".sysupdate.partial.f_1", ".sysupdate.pending.f_1", "f_0", ".hidden"] {
        std::fs::write(world.at("target").join(name), "").unwrap();
    }
    let keep = [world.at("target/.sysupdate.partial.f_1")];
    let target = world.at("target");
    assert_eq!(engine::clean_temporary(&target, &keep, &world.options).unwrap(), 2);
    assert_eq!(engine::clean_temporary(&target, &[], &world.options).unwrap(), 1);
    assert_eq!(engine::clean_temporary(&world.at("none"), &[], &world.options).unwrap(), 0);
    let mut names: Vec<_> = std::fs::read_dir(target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".hidden", ".sysupdate.pending.f_1", "f_0"]);
}

/// A server that once gives up in the middle, and goes on giving nothing.
fn broken(server: &HttpServer, path: &str, bytes: &[u8], tag: &str) {
    let first = Reply::file(bytes.to_vec()).etag(tag).reset_after(bytes.len() / 2);
    server.on(path, [first, Reply::hang_up()]);
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended_in_files_and_slots() {
    let (world, server) = (World::new(), HttpServer::start());
    let plain = payload(4 << 20);
    let disk = world.disk();
    let root = to_partition(SourceKind::UrlFile, "x_@v", "root-x86-64");
    let slot_goal =
        || Goal::Slot { slot: slot(&world.options, &disk, 1), label: "os_2".to_owned() };
    let source = url("2", server.url("/f_2"), sha256(&plain));
    for is_slot in [false, true] {
        let transfer = if is_slot { root.clone() } else { to_file(SourceKind::UrlFile) };
        let goal = || if is_slot { slot_goal() } else { world.goal("f_2") };
        broken(&server, "/f_2", &plain, "\"1\"");
        world.acquire(&transfer, &source, &goal(), Fields::default()).unwrap_err();
        server.on("/f_2", [Reply::file(plain.clone()).etag("\"1\"")]);
        let before = server.count("/f_2");
        world.acquire(&transfer, &source, &goal(), Fields::default()).unwrap();
        assert_eq!(server.count("/f_2"), before + 1);
        let log = server.log();
        let range = log.last().unwrap().header("range").expect("resumed").to_owned();
        let from: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
        assert!(from > 1 << 20 && from <= plain.len() / 2, "{range}");
    }
    assert!(std::fs::read(world.at("target/.sysupdate.pending.f_2")).unwrap() == plain);
    let start = 32 << 20;
    assert!(std::fs::read(&disk).unwrap()[start..start + plain.len()] == plain);
    // Nothing is kept of what is done.
    let kept = std::fs::read_dir(world.at("var/lib/slipway/sysupdate/resume")).unwrap();
    assert_eq!(kept.count(), 0);
}

#[test]
fn what_does_not_fit_together_is_fetched_again_from_the_start() {
    let plain = payload(4 << 20);
    type Spoil = fn(&World, &HttpServer, &[u8]);
    let spoils: [(&str, Spoil); 4] = [
        ("the partial file was changed", |world, server, plain| {
            let partial = world.at("target/.sysupdate.partial.f_2");
            let file = std::fs::File::options().write(true).open(partial).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", 1000).unwrap();
            server.on("/f_2", [Reply::file(plain.to_vec()).etag("\"1\"")]);
        }),
        ("the partial file is gone", |world, server, plain| {
            std::fs::remove_file(world.at("target/.sysupdate.partial.f_2")).unwrap();
            server.on("/f_2", [Reply::file(plain.to_vec()).etag("\"1\"")]);
        }),
        ("the file on the server is another one", |_, server, plain| {
            server.on("/f_2", [Reply::file(plain.to_vec()).etag("\"2\"")]);
        }),
        ("the server knows no ranges", |_, server, plain| {
            let reply = Reply::file(plain.to_vec()).etag("\"1\"").ranges(Ranges::Ignored);
            server.on("/f_2", [reply]);
        }),
    ];
    for (what, spoil) in spoils {
        let (world, server) = (World::new(), HttpServer::start());
        let source = url("2", server.url("/f_2"), sha256(&plain));
        let transfer = to_file(SourceKind::UrlFile);
        broken(&server, "/f_2", &plain, "\"1\"");
        world.acquire(&transfer, &source, &world.goal("f_2"), Fields::default()).unwrap_err();
        spoil(&world, &server, &plain);
        world
            .acquire(&transfer, &source, &world.goal("f_2"), Fields::default())
            .unwrap_or_else(|err| panic!("{what}: {err}"));
        let pending = std::fs::read(world.at("target/.sysupdate.pending.f_2")).unwrap();
        assert!(pending == plain, "{what}");
    }
}

#[test]
fn a_lie_about_the_rest_of_a_file_costs_one_more_download() {
    let (world, server) = (World::new(), HttpServer::start());
    let plain = payload(4 << 20);
    let mut other = plain.clone();
    other[3 << 20] ^= 1;
    let source = url("2", server.url("/f_2"), sha256(&plain));
    let transfer = to_file(SourceKind::UrlFile);
    broken(&server, "/f_2", &plain, "\"1\"");
    world.acquire(&transfer, &source, &world.goal("f_2"), Fields::default()).unwrap_err();
    server.on("/f_2", [Reply::file(other).etag("\"1\""), Reply::file(plain.clone()).etag("\"1\"")]);
    world.acquire(&transfer, &source, &world.goal("f_2"), Fields::default()).unwrap();
    assert!(std::fs::read(world.at("target/.sysupdate.pending.f_2")).unwrap() == plain);
}

#[test]
fn an_interrupted_packed_download_starts_over_by_itself() {
    let (world, server) = (World::new(), HttpServer::start());
    let plain = payload(4 << 20);
    let bytes = zstd::bulk::compress(&plain, 1).unwrap();
    let source = url("2", server.url("/f_2"), sha256(&bytes));
    let transfer = to_file(SourceKind::UrlFile);
    broken(&server, "/f_2", &bytes, "\"1\"");
    world.acquire(&transfer, &source, &world.goal("f_2"), Fields::default()).unwrap_err();
    server.on("/f_2", [Reply::file(bytes).etag("\"1\"")]);
    world.acquire(&transfer, &source, &world.goal("f_2"), Fields::default()).unwrap();
    assert_eq!(server.log().last().unwrap().header("range"), None);
    assert!(std::fs::read(world.at("target/.sysupdate.pending.f_2")).unwrap() == plain);
}
