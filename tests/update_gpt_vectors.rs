//! The stages of updates that systemd-sysupdate 262.1 made of a disk, made again: whole images are
//! compared, so tables, slots and everything in between. See vectors/engine/PROVENANCE.
#![cfg(feature = "update")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "common/engine.rs"]
mod common;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use common::{Run, file, remove, slot, to_partition};
use slipway::ctx::Ctx;
use slipway::format::pattern::Fields;
use slipway::update::job::{EngineOptions, Goal};
use slipway::update::model::{Location, SourceKind, Transfer};

const ROOTS: [(&str, u32); 3] = [
    ("root_1_22222221-0000-4000-8000-000000000001.raw", 1),
    ("root_2_22222222-0000-4000-8000-000000000002.raw", 2),
    ("root_3_22222223-0000-4000-8000-000000000003.raw", 1),
];

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn golden(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(vectors().join("gpt").join(format!("{name}.img.xz"))).unwrap();
    let mut bytes = Vec::new();
    slipway::unpack::reader(Box::new(file)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A disk and the two transfers that update it.
struct World {
    directory: tempfile::TempDir,
    ctx: Ctx,
    options: EngineOptions,
    verity: Transfer,
    root: Transfer,
}

impl World {
    fn new(stage: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("disk.img"), golden(stage)).unwrap();
        Self {
            ctx: Ctx::host([]).with_root(directory.path()),
            options: EngineOptions::new(true),
            verity: to_partition(SourceKind::RegularFile, "verity_@v.raw.gz", "root-x86-64-verity"),
            root: to_partition(SourceKind::RegularFile, "root_@v_@u.raw", "root-x86-64"),
            directory,
        }
    }

    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    fn goal(&self, number: u32, label: String) -> Goal {
        Goal::Slot { slot: slot(&self.options, &self.disk(), number), label }
    }

    /// Acquires or updates both transfers to a version; the slots are those the peer chose.
    fn each(&self, version: usize, work: &dyn Fn(&Run<'_>, Goal)) {
        let source = vectors().join("engine");
        let (name, number) = ROOTS[version - 1];
        let text = version.to_string();
        let gz = file(&text, source.join(format!("verity_{version}.raw.gz")));
        let run = Run {
            ctx: &self.ctx,
            transfer: &self.verity,
            options: &self.options,
            source: &gz,
            fields: Fields::default(),
        };
        work(&run, self.goal(number + 2, format!("os_{version}_verity")));
        let raw = file(&text, source.join(name));
        let fields = Fields {
            partition_uuid: Some(name[7..43].parse().unwrap()),
            partition_flags: Some(1 << 63),
            ..Fields::default()
        };
        let run = Run { transfer: &self.root, source: &raw, fields, ..run };
        work(&run, self.goal(number, format!("os_{version}")));
    }

    fn remove(&self, transfer: &Transfer, number: u32) {
        let location = Location::Slot(Box::new(slot(&self.options, &self.disk(), number)));
        remove(&self.ctx, transfer, &self.options, location, None).unwrap();
    }

    fn check(&self, stage: &str) {
        let (ours, theirs) = (std::fs::read(self.disk()).unwrap(), golden(stage));
        assert_eq!(ours.len(), theirs.len());
        let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!(first, None, "{stage}: first byte that differs");
    }
}

fn acquire(run: &Run<'_>, goal: Goal) {
    run.acquire(&goal).unwrap();
}

fn install(run: &Run<'_>, goal: Goal) {
    let Goal::Slot { slot, .. } = &goal else { panic!() };
    run.install(&goal, &Location::Slot(Box::new(slot.clone()))).unwrap();
}

fn update(run: &Run<'_>, goal: Goal) {
    run.update(&goal).unwrap();
}

fn sequence(sectors: &str) {
    let stage = |name: &str| format!("{sectors}-{name}");
    let world = World::new(&stage("0-empty"));
    world.each(1, &acquire);
    world.check(&stage("1-acquired-1"));
    world.each(1, &install);
    world.check(&stage("2-installed-1"));
    world.each(2, &update);
    world.check(&stage("3-installed-2"));
    world.remove(&world.verity, 3);
    world.remove(&world.root, 1);
    world.each(3, &update);
    world.check(&stage("4-installed-3"));
}

#[test]
fn updates_of_a_disk_with_512_byte_sectors_are_the_peers_byte_for_byte() {
    sequence("s512");
}

#[test]
fn updates_of_a_disk_with_4096_byte_sectors_are_the_peers_byte_for_byte() {
    sequence("s4096");
}

#[test]
fn what_the_peer_left_acquired_is_installed_as_the_peer_does() {
    for sectors in ["s512", "s4096"] {
        let world = World::new(&format!("{sectors}-1-acquired-1"));
        world.each(1, &install);
        world.check(&format!("{sectors}-2-installed-1"));
    }
}

#[test]
fn what_the_peer_left_pending_and_partial_is_vacuumed_as_the_peer_does() {
    for sectors in ["s512", "s4096"] {
        let world = World::new(&format!("{sectors}-5-failed-4"));
        world.remove(&world.verity, 4);
        world.remove(&world.root, 2);
        world.check(&format!("{sectors}-6-vacuumed"));
    }
}

/// DIFFERS: the peer begins to write and leaves the slot partial.
#[test]
fn a_payload_larger_than_its_slot_is_refused_before_anything_is_written() {
    let world = World::new("s512-4-installed-3");
    world.remove(&world.root, 2);
    let before = std::fs::read(world.disk()).unwrap();
    let big = world.directory.path().join("root_4_44444444-0000-4000-8000-000000000004.raw");
    std::fs::File::create(&big).unwrap().set_len(9 << 20).unwrap();
    let source = file("4", &big);
    let run = Run {
        ctx: &world.ctx,
        transfer: &world.root,
        options: &world.options,
        source: &source,
        fields: Fields::default(),
    };
    let err = run.acquire(&world.goal(2, "os_4".to_owned())).unwrap_err().to_string();
    let disk = world.disk();
    assert_eq!(
        err,
        format!(
            "'{}' does not fit into '{}p2': it has 9437184 bytes (9.0M), \
             there is room for 1048576 bytes (1.0M)",
            big.display(),
            disk.display()
        )
    );
    assert_eq!(before, std::fs::read(disk).unwrap());
}

/// DIFFERS: the peer never applies the single bits (its defect D1); 262.1 leaves 0 here.
#[test]
fn single_bits_are_set_with_the_final_type_where_the_type_knows_them() {
    let world = World::new("s512-0-empty");
    let flags = |number| {
        let disk = world.options.disks.open(&world.disk(), slipway::disk::Access::Read).unwrap();
        let table = slipway::disk::table::read(&*disk, &world.disk()).unwrap().table;
        table.partition(number).unwrap().flags
    };
    let source = file("1", vectors().join("engine").join(ROOTS[0].0));
    let bits = Fields {
        partition_flags: Some(7),
        no_auto: Some(true),
        grow_fs: Some(true),
        read_only: Some(true),
        ..Fields::default()
    };
    let mut run = Run {
        ctx: &world.ctx,
        transfer: &world.root,
        options: &world.options,
        source: &source,
        fields: bits,
    };
    let goal = world.goal(1, "os_1".to_owned());
    let pending = run.acquire(&goal).unwrap().location;
    assert_eq!(flags(1), 7);
    run.install(&goal, &pending).unwrap();
    assert_eq!(flags(1), 7 | 1 << 59 | 1 << 60 | 1 << 63);
    // Verity data does not grow.
    run.transfer = &world.verity;
    run.update(&world.goal(3, "os_1_verity".to_owned())).unwrap();
    assert_eq!(flags(3), 7 | 1 << 60 | 1 << 63);
}
