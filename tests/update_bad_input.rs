//! What is wrong with a source, a disk or a directory is said in words, and the target is what it
//! was before.
//!
//! Each test shows the whole message. "Untouched" is: no new final or pending name, no slot of the
//! final or pending type, and everything that was installed still byte for byte the same.
#![cfg(feature = "update")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "skips are told on standard output")]

#[path = "common/engine.rs"]
mod common;
#[path = "common/http_server.rs"]
mod http_server;
#[path = "common/untouched.rs"]
mod untouched;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use common::{Run, file, sha256, slot, to_partition, transfer, url};
use http_server::{HttpServer, Ranges, Reply};
use slipway::ctx::{Clock, Ctx};
use slipway::disk::{Access, HostDisks};
use slipway::error::Error;
use slipway::format::gpt::derived_types;
use slipway::format::pattern::Fields;
use slipway::update::engine;
use slipway::update::job::{EngineOptions, Goal};
use slipway::update::model::{Instance, Location, SourceKind, TargetKind, Transfer};
use untouched::{Tmpfs, archive, disk_image};

struct QuickClock;

impl Clock for QuickClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn sleep(&self, _: Duration) {}
}

/// A sandbox with a disk (slot 1 holds version 1 of root, slot 2 is free) and a target directory
/// with version 1 of a file.
struct World {
    top: tempfile::TempDir,
    ctx: Ctx,
    options: EngineOptions,
}

impl World {
    fn new() -> Self {
        Self::with_disk("s512-2-installed-1")
    }

    fn with_disk(stage: &str) -> Self {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("disk.img"), disk_image(stage)).unwrap();
        std::fs::create_dir(top.path().join("target")).unwrap();
        std::fs::create_dir(top.path().join("src")).unwrap();
        std::fs::write(top.path().join("target/f_1"), "version 1").unwrap();
        let ctx = Ctx::host([]).with_root(top.path()).with_clock(Arc::new(QuickClock));
        Self { top, ctx, options: EngineOptions::new(true) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn source(&self, name: &str, bytes: &[u8]) -> Instance {
        std::fs::write(self.at("src").join(name), bytes).unwrap();
        file("2", self.at("src").join(name))
    }

    fn name_goal(&self, name: &str) -> Goal {
        Goal::Name { directory: self.at("target"), name: name.to_owned() }
    }

    fn slot_goal(&self) -> Goal {
        let slot = slot(&self.options, &self.at("disk.img"), 2);
        Goal::Slot { slot, label: "os_2".to_owned() }
    }

    fn root(&self) -> Transfer {
        to_partition(SourceKind::UrlFile, "x_@v", "root-x86-64")
    }

    fn acquire(&self, transfer: &Transfer, source: &Instance, goal: &Goal) -> Result<(), Error> {
        let fields = Fields::default();
        let (ctx, options) = (&self.ctx, &self.options);
        Run { ctx, transfer, options, source, fields }.acquire(goal).map(|_| ())
    }

    /// The message, with the sandbox and the server out of it.
    fn refusal(&self, transfer: &Transfer, source: &Instance, goal: &Goal) -> String {
        let before = self.installed();
        let err = self.acquire(transfer, source, goal).expect_err("refused");
        assert_eq!(before, self.installed(), "the target is untouched");
        let text = err.to_string().replace(&self.top.path().display().to_string(), "TOP");
        match source.location {
            Location::Url { ref base, .. } => text.replace(&**base, "SERVER"),
            _ => text,
        }
    }

    fn installed(&self) -> Vec<(String, Vec<u8>)> {
        untouched::installed(
            &self.at("target"),
            &self.at("disk.img"),
            self.root().target.partition_type,
        )
    }
}

fn to_file() -> Transfer {
    transfer(SourceKind::UrlFile, TargetKind::RegularFile, "f_@v")
}

fn to_tree(source: SourceKind) -> Transfer {
    transfer(source, TargetKind::Directory, "d_@v")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

#[test]
fn a_download_with_another_hash_is_not_installed() {
    let (world, server) = (World::new(), HttpServer::start());
    server.on("/x_2", [Reply::file(b"not what was promised".repeat(100))]);
    let source = url("2", server.url("/x_2"), sha256(b"what was promised"));
    for (transfer, goal) in [(world.root(), world.slot_goal()), (to_file(), world.name_goal("f_2"))]
    {
        assert_eq!(
            world.refusal(&transfer, &source, &goal),
            "Checksum of downloaded resource does not match expected checksum, yikes: 'SERVER/x_2'"
        );
    }
    // The peer would say of both that they are partial.
    assert!(world.at("target/.sysupdate.partial.f_2").exists());
    let (partial, _) = derived_types(world.root().target.partition_type);
    let slot = slot(&world.options, &world.at("disk.img"), 2);
    assert_eq!((slot.label.as_str(), slot.type_uuid), ("os_2", partial));
}

#[test]
fn a_download_that_ends_early_is_not_installed() {
    let (world, server) = (World::new(), HttpServer::start());
    let payload = vec![7; 300_000];
    server.on("/x_2", [Reply::file(payload.clone()).ranges(Ranges::Ignored).truncate_after(1000)]);
    let source = url("2", server.url("/x_2"), sha256(&payload));
    let text = world.refusal(&world.root(), &source, &world.slot_goal());
    assert_eq!(text, "Transfer failed: SERVER/x_2: Transferred a partial file");
}

#[test]
fn packed_data_that_ends_early_is_not_installed() {
    let world = World::new();
    let packed = zstd(&b"payload".repeat(5000));
    let source = world.source("x_2", &packed[..packed.len() - 3]);
    assert_eq!(
        world.refusal(&to_file(), &source, &world.name_goal("f_2")),
        "Failed to decode and write 'TOP/src/x_2': zstd data ends too early"
    );
}

#[test]
fn a_payload_that_says_it_is_too_large_is_refused_before_anything_is_written() {
    let world = World::new();
    let large = vec![0; 3 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&large).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(&large).unwrap();
    let sources = [
        ("plain", large.clone()),
        ("zstd", zstd(&large)),
        ("gzip", gzip.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
    ];
    let before = std::fs::read(world.at("disk.img")).unwrap();
    for (name, bytes) in sources {
        let source = world.source(name, &bytes);
        assert_eq!(
            world.refusal(&world.root(), &source, &world.slot_goal()),
            format!(
                "'TOP/src/{name}' does not fit into 'TOP/disk.imgp2': it has 3145728 bytes (3.0M), \
                 there is room for 1048576 bytes (1.0M)"
            )
        );
        assert!(before == std::fs::read(world.at("disk.img")).unwrap(), "{name}");
        let size = engine::measure(&world.ctx, &source, SourceKind::RegularFile).unwrap();
        assert_eq!(size, Some(3 << 20), "{name}");
    }
}

#[test]
fn a_payload_that_turns_out_too_large_never_leaves_its_slot() {
    let (world, server) = (World::new(), HttpServer::start());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[9; 3 << 20]).unwrap();
    let packed = gzip.finish().unwrap();
    server.on("/x_2", [Reply::file(packed.clone())]);
    let source = url("2", server.url("/x_2"), sha256(&packed));
    let next = slot(&world.options, &world.at("disk.img"), 3);
    let image = || std::fs::read(world.at("disk.img")).unwrap();
    let start = usize::try_from(next.offset_bytes).unwrap();
    let before = image()[start..start + 1024].to_vec();
    assert_eq!(
        world.refusal(&world.root(), &source, &world.slot_goal()),
        "'SERVER/x_2' does not fit into 'TOP/disk.imgp2': it is larger, \
         there is room for 1048576 bytes (1.0M)"
    );
    assert_eq!(before, image()[start..start + 1024]);
}

#[test]
fn a_disk_without_a_good_table_is_not_written() {
    for stage in ["c512-both-headers", "c512-no-pmbr", "c512-truncated-disk"] {
        let world = World::with_disk(stage);
        let before = std::fs::read(world.at("disk.img")).unwrap();
        let source = world.source("x_2", b"payload");
        let planned = World::new();
        let Goal::Slot { mut slot, label } = planned.slot_goal() else { panic!() };
        slot.disk = world.at("disk.img");
        assert_eq!(
            world.refusal(&world.root(), &source, &Goal::Slot { slot, label }),
            "Disk TOP/disk.img has no GPT disk label, not suitable.",
            "{stage}"
        );
        assert!(before == std::fs::read(world.at("disk.img")).unwrap());
    }
}

#[test]
fn a_slot_that_somebody_else_took_meanwhile_is_left_alone() {
    let world = World::new();
    let goal = world.slot_goal();
    let first = world.source("x_2", b"first");
    world.acquire(&world.root(), &first, &goal).unwrap();
    let before = std::fs::read(world.at("disk.img")).unwrap();
    let second = world.source("x_3", b"second");
    assert_eq!(
        world.refusal(&world.root(), &second, &goal),
        "Partition 'TOP/disk.imgp2' has been changed by somebody else, refusing."
    );
    assert!(before == std::fs::read(world.at("disk.img")).unwrap());
}

#[test]
fn partitions_of_a_type_that_could_not_be_read_are_never_written() {
    let world = World::new();
    let mut transfer = world.root();
    transfer.target.is_partition_type_unknown = true;
    let source = world.source("x_2", b"payload");
    assert_eq!(
        world.refusal(&transfer, &source, &world.slot_goal()),
        "/usr/lib/sysupdate.d/10-test.transfer: MatchPartitionType= is not known, \
         refusing to write partitions."
    );
}

#[test]
fn an_archive_that_wants_out_of_its_directory_is_refused() {
    let world = World::new();
    let mut bytes = archive("../evil", b'0', "", b"evil");
    bytes.resize(bytes.len() + 1024, 0);
    let source = world.source("d_2.tar", &bytes);
    let text = world.refusal(&to_tree(SourceKind::Tar), &source, &world.name_goal("d_2"));
    assert!(
        text.starts_with(
            "Failed to unpack 'TOP/src/d_2.tar' into 'TOP/target/.sysupdate.partial.d_2': "
        ) && text.contains("Invalid path name in entry"),
        "{text}"
    );
    assert!(!world.at("target/evil").exists() && !world.at("evil").exists());
}

#[test]
fn an_archive_cannot_write_through_its_own_links() {
    let world = World::new();
    let outside = world.at("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut bytes = archive("link", b'2', outside.to_str().unwrap(), b"");
    bytes.extend(archive("link/evil", b'0', "", b"evil"));
    bytes.resize(bytes.len() + 1024, 0);
    let source = world.source("d_2.tar", &bytes);
    let text = world.refusal(&to_tree(SourceKind::Tar), &source, &world.name_goal("d_2"));
    assert!(text.starts_with("Failed to unpack 'TOP/src/d_2.tar'"), "{text}");
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn an_archive_with_another_hash_stays_partial() {
    let (world, server) = (World::new(), HttpServer::start());
    let mut bytes = archive("file", b'0', "", b"contents");
    bytes.resize(bytes.len() + 1024, 0);
    server.on("/d_2.tar", [Reply::file(bytes.clone())]);
    let wrong = url("2", server.url("/d_2.tar"), sha256(b"other"));
    let transfer = to_tree(SourceKind::UrlTar);
    assert_eq!(
        world.refusal(&transfer, &wrong, &world.name_goal("d_2")),
        "Checksum of downloaded resource does not match expected checksum, yikes: \
         'SERVER/d_2.tar'"
    );
    assert!(world.at("target/.sysupdate.partial.d_2/file").exists());
    // The same with its right hash takes the place of what was left.
    let right = url("2", server.url("/d_2.tar"), sha256(&bytes));
    world.acquire(&transfer, &right, &world.name_goal("d_2")).unwrap();
    let pending = world.at("target/.sysupdate.pending.d_2");
    assert_eq!(std::fs::read(pending.join("file")).unwrap(), b"contents");
    assert!(!world.at("target/.sysupdate.partial.d_2").exists());
}

#[test]
fn a_link_in_place_of_the_partial_file_is_not_followed() {
    let world = World::new();
    std::fs::write(world.at("victim"), "precious").unwrap();
    let partial = world.at("target/.sysupdate.partial.f_2");
    std::os::unix::fs::symlink(world.at("victim"), &partial).unwrap();
    let source = world.source("x_2", b"payload");
    world.acquire(&to_file(), &source, &world.name_goal("f_2")).unwrap();
    assert_eq!(std::fs::read(world.at("victim")).unwrap(), b"precious");
    let pending = world.at("target/.sysupdate.pending.f_2");
    assert!(std::fs::symlink_metadata(&pending).unwrap().is_file());
    assert_eq!(std::fs::read(pending).unwrap(), b"payload");
}

#[test]
fn a_source_that_is_gone_or_no_file_is_named() {
    let (world, server) = (World::new(), HttpServer::start());
    let goal = world.name_goal("f_2");
    let missing = file("2", world.at("src/x_2"));
    assert_eq!(
        world.refusal(&to_file(), &missing, &goal),
        "Failed to open 'TOP/src/x_2': No such file or directory"
    );
    let directory = file("2", world.at("src"));
    assert_eq!(world.refusal(&to_file(), &directory, &goal), "'TOP/src' is not a regular file.");
    server.on("/x_2", [Reply::status(404)]);
    let gone = url("2", server.url("/x_2"), sha256(b""));
    let text = world.refusal(&to_file(), &gone, &goal);
    assert!(text.contains("404"), "{text}");
    // Nothing at all was begun.
    assert_eq!(std::fs::read_dir(world.at("target")).unwrap().count(), 1);
    let mut unknown = url("2", server.url("/x_2"), [0; 32]);
    unknown.fields.sha256 = None;
    assert_eq!(
        world.refusal(&to_file(), &unknown, &goal),
        "No hash is known for 'SERVER/x_2', refusing."
    );
}

#[test]
fn a_cancelled_run_leaves_a_partial_file_that_the_next_run_replaces() {
    let world = World::new();
    let source = world.source("x_2", &zstd(&b"payload".repeat(5000)));
    let goal = world.name_goal("f_2");
    world.options.is_cancelled.store(true, Ordering::Relaxed);
    assert_eq!(world.refusal(&to_file(), &source, &goal), "Interrupted.");
    assert!(world.at("target/.sysupdate.partial.f_2").exists());
    world.options.is_cancelled.store(false, Ordering::Relaxed);
    world.acquire(&to_file(), &source, &goal).unwrap();
    let pending = std::fs::read(world.at("target/.sysupdate.pending.f_2")).unwrap();
    assert_eq!(pending, b"payload".repeat(5000));
}

#[test]
fn a_full_file_system_is_named_with_what_is_left() {
    let world = World::new();
    let Some(_mounted) = Tmpfs::mount(&world.at("target")) else {
        println!("SKIP a_full_file_system_is_named_with_what_is_left: mounting needs root");
        return;
    };
    for packed in [false, true] {
        let plain: Vec<u8> = (0..3_u32 << 20).map(|i| (i % 251) as u8).collect();
        let bytes = if packed { zstd(&plain) } else { plain };
        let source = world.source("x_2", &bytes);
        let goal = world.name_goal("f_2");
        assert_eq!(
            world.refusal(&to_file(), &source, &goal),
            "Failed to write 'TOP/target/.sysupdate.partial.f_2': No space left on device"
        );
        let err = world.acquire(&to_file(), &source, &goal).unwrap_err();
        assert_eq!(err.errno(), Some(28));
        assert!(err.hints()[0].ends_with("left."), "{:?}", err.hints());
    }
}

#[test]
fn an_image_file_on_a_full_file_system_fails_without_a_pending_slot() {
    let world = World::new();
    let directory = world.at("small");
    std::fs::create_dir(&directory).unwrap();
    let Some(_mounted) = Tmpfs::mount(&directory) else {
        println!(
            "SKIP an_image_file_on_a_full_file_system_fails_without_a_pending_slot: \
             mounting needs root"
        );
        return;
    };
    // A sparse copy of the disk takes next to nothing, until a slot is filled.
    let image = std::fs::read(world.at("disk.img")).unwrap();
    let disk = directory.join("disk.img");
    let copy = std::fs::File::create(&disk).unwrap();
    copy.set_len(image.len() as u64).unwrap();
    for (i, page) in image.chunks(4096).enumerate().filter(|(_, p)| p.iter().any(|b| *b != 0)) {
        std::os::unix::fs::FileExt::write_all_at(&copy, page, i as u64 * 4096).unwrap();
    }
    std::fs::write(directory.join("filler"), vec![1; 600 << 10]).unwrap();
    let free = slot(&world.options, &disk, 2);
    let source = world.source("x_2", &[3; 1 << 20]);
    let goal = Goal::Slot { slot: free, label: "os_2".to_owned() };
    let err = world.acquire(&world.root(), &source, &goal).unwrap_err();
    assert_eq!(err.errno(), Some(28));
    assert!(err.to_string().ends_with("No space left on device"), "{err}");
    let (partial, _) = derived_types(world.root().target.partition_type);
    assert_eq!(slot(&world.options, &disk, 2).type_uuid, partial);
}

#[test]
fn a_plain_file_is_a_disk_and_nothing_else_is() {
    use slipway::disk::Disks as _;
    let world = World::new();
    let err = HostDisks.open(&world.at("target"), Access::Write).err().unwrap();
    assert_eq!(err.raw_os_error(), Some(21));
}
