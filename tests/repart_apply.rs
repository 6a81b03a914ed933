//! What is written to a disk that is partitioned: where, in which order, and what is left when the
//! power goes or a write fails.
//!
//! Disks are simulated: one forgets any subset of the sectors that were not synced, one writes down
//! what it is told and fails where it is asked to. Both turn discarded blocks into garbage.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]
#![allow(clippy::print_stdout, reason = "the number of cut points is part of the result")]

#[path = "common/power.rs"]
mod power;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use power::{Dice, Image, SimDisks};
use slipway::ctx::Ctx;
use slipway::disk::{Access, Disk, Disks as _, FileDisk, Lock, in_use, table};
use slipway::error::Result;
use slipway::format::gpt::{Partition, Step, Table, types};
use slipway::repart::apply::{self, Applied, Medium, Observer, Phase, Unobserved};
use slipway::repart::model::{Device, Empty, ImageSize, Options, Plan};
use slipway::repart::planner::{self, DiskFacts, Draft, Inputs, Measure};
use slipway::repart::report::{Outcome, Sink};
use slipway::repart::{definitions, minimise, run, sources, split, target};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 24 * MIB;
const SECTORS: [u32; 2] = [512, 4096];
/// Different memories of the same cut.
const SEEDS: u64 = 2;
const SEED: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// A disk that writes down what it is told, fails once where it is asked to, and makes garbage of
/// what is discarded.
struct Recorder {
    inner: Box<dyn Disk>,
    fail_at: Option<(usize, i32)>,
    log: Mutex<Vec<Op>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Op {
    Write(Range<u64>),
    Discard(Range<u64>),
    Sync,
}

impl Recorder {
    fn new(inner: Box<dyn Disk>, fail_at: Option<(usize, i32)>) -> Self {
        Self { inner, fail_at, log: Mutex::new(Vec::new()) }
    }

    fn note(&self, op: Op) -> io::Result<()> {
        let mut log = self.log.lock().unwrap();
        log.push(op);
        match self.fail_at {
            Some((at, errno)) if log.len() == at + 1 => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

impl Disk for Recorder {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn sector_size_bytes(&self) -> u32 {
        self.inner.sector_size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Op::Write(offset..offset + bytes.len() as u64))?;
        self.inner.write_at(offset, bytes)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.note(Op::Write(offset..offset + len))?;
        self.inner.zero(offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Op::Sync)?;
        self.inner.sync()
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.inner.lock()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.note(Op::Discard(offset..offset + len))?;
        self.inner.write_at(offset, &vec![0xd1; usize::try_from(len).unwrap()])?;
        Ok(true)
    }
}

/// Definitions and what they copy.
struct World {
    dir: tempfile::TempDir,
    ctx: Ctx,
    options: Options,
}

/// One existing partition that grows, copies, a hash tree, swap space, and one that stays empty.
const DEFINITIONS: &[(&str, &str)] = &[
    ("10-root", "Type=root\nSizeMinBytes=4M\nSizeMaxBytes=4M\n"),
    ("20-home", "Type=home\nCopyBlocks=BLOB\nSizeMinBytes=2M\nSizeMaxBytes=2M\n"),
    (
        "30-usr",
        "Type=usr\nCopyBlocks=BLOB\nVerity=data\nVerityMatchKey=u\nSizeMinBytes=2M\nSizeMaxBytes=2M\n",
    ),
    (
        "40-usr-verity",
        "Type=usr-verity\nVerity=hash\nVerityMatchKey=u\nSizeMinBytes=256K\nSizeMaxBytes=256K\n",
    ),
    ("50-swap", "Type=swap\nSizeMinBytes=1M\nSizeMaxBytes=1M\n"),
    ("60-srv", "Type=srv\nSizeMinBytes=1M\nSizeMaxBytes=1M\n"),
];

fn blob() -> Vec<u8> {
    let mut dice = Dice(7);
    let mut bytes: Vec<u8> = (0..MIB / 8).flat_map(|_| dice.roll().to_le_bytes()).collect();
    // A hole in the middle.
    bytes[200_000..800_000].fill(0);
    bytes.extend_from_slice(&[5; 4096 + 512]);
    bytes
}

fn world(definitions: &[(&str, &str)]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blob");
    fs::write(&path, blob()).unwrap();
    let repart = dir.path().join("repart.d");
    fs::create_dir(&repart).unwrap();
    for (name, text) in definitions {
        let text = text.replace("BLOB", path.to_str().unwrap());
        fs::write(repart.join(format!("{name}.conf")), format!("[Partition]\n{text}")).unwrap();
    }
    let options = Options { definitions: vec![repart], ..Options::default() };
    World { dir, ctx: Ctx::host(std::env::vars_os()), options }
}

/// A partition of the disk before: number, type, place in MiB.
const BEFORE: &[(u32, &str, Range<u64>)] = &[(1, "root", 1..3), (3, "user-home", 8..10)];

fn sectors(range: &Range<u64>, sector: u32) -> (u64, u64) {
    (range.start * MIB / u64::from(sector), range.end * MIB / u64::from(sector) - 1)
}

/// A disk with two partitions and garbage everywhere else, some of which looks like a swap space.
fn disk_before(sector: u32) -> Image {
    let mut dice = Dice(u64::from(sector));
    let mut bytes: Vec<u8> = (0..SIZE / 8).flat_map(|_| dice.roll().to_le_bytes()).collect();
    for at in [10 * MIB, 11 * MIB] {
        let at = usize::try_from(at).unwrap() + 4086;
        bytes[at..at + 10].copy_from_slice(b"SWAPSPACE2");
    }
    let mut table = Table::create(SIZE, sector, Uuid::from_u128(99)).unwrap();
    for (number, name, range) in BEFORE {
        let (first_lba, last_lba) = sectors(range, sector);
        let type_uuid = types::by_name(name).unwrap();
        let uuid = Uuid::from_u128(u128::from(*number));
        let name = format!("old-{number}");
        let number = *number;
        table
            .set(&Partition { number, type_uuid, uuid, first_lba, last_lba, flags: 0, name })
            .unwrap();
    }
    for step in table.writes() {
        if let Step::Write { offset, bytes: sector, .. } = step {
            let at = usize::try_from(offset).unwrap();
            bytes[at..at + sector.len()].copy_from_slice(&sector);
        }
    }
    Image::new(bytes)
}

fn open(disks: &SimDisks) -> Box<dyn Disk> {
    disks.open(Path::new("disk"), Access::Write).unwrap()
}

fn read_table(disk: &dyn Disk) -> Option<Table> {
    Some(table::read(disk, Path::new("disk")).ok()?.table)
}

fn plan_with(world: &World, disk: DiskFacts) -> Plan {
    let definitions = definitions::load(&world.ctx, &world.options).unwrap();
    let mut draft = Draft::new(Inputs { definitions, disk, seed: SEED, options: &world.options });
    for index in 0..draft.plan.partitions.len() {
        let partition = &draft.plan.partitions[index];
        let Some(definition) = &partition.definition else { continue };
        if partition.existing.is_some() {
            continue;
        }
        if let Some(source) = sources::resolve(&world.ctx, definition, &world.options).unwrap() {
            let measure =
                Measure { blocks: Some(source.blocks), uuid: source.uuid, content_size: None };
            draft.measure(index, measure);
        }
    }
    draft.identify(&mut || panic!("all UUIDs follow from the seed"));
    planner::plan(&draft).unwrap_or_else(|refusal| panic!("{:?}", refusal.reason))
}

/// The table to begin with and the plan.
fn plan(world: &World, disk: &dyn Disk) -> (Table, Plan) {
    let sector = disk.sector_size_bytes();
    let is_from_scratch = world.options.empty == Empty::Force;
    let table = if is_from_scratch {
        Table::create(SIZE, sector, Uuid::nil()).unwrap()
    } else {
        read_table(disk).unwrap()
    };
    let (first, last) = table.usable();
    let facts = DiskFacts {
        path: PathBuf::from("disk"),
        size: SIZE,
        old_size: SIZE,
        sector_size: sector,
        grain: planner::grain(&world.options, sector),
        usable: first * u64::from(sector)..(last + 1) * u64::from(sector),
        partitions: table.partitions().collect(),
        entries: 128,
        guid: table.disk_guid(),
        is_from_scratch,
        is_created: false,
        is_device: false,
    };
    (table, plan_with(world, facts))
}

fn run(world: &World, disk: &dyn Disk, observer: &dyn Observer) -> (Plan, Result<Applied>) {
    let (table, plan) = plan(world, disk);
    let medium = Medium { disk, table: &table, is_blank: false };
    let applied = apply::carry_out(&world.ctx, &plan, &medium, &world.options, observer);
    (plan, applied)
}

fn extent(table: &Table, number: u32) -> Range<usize> {
    let partition = table.partition(number).unwrap();
    let range = table.extent(&partition).unwrap();
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

/// Where what was there before is.
fn kept() -> impl Iterator<Item = Range<usize>> {
    BEFORE.iter().map(|(_, _, range)| {
        usize::try_from(range.start * MIB).unwrap()..usize::try_from(range.end * MIB).unwrap()
    })
}

/// A run without accidents: the disk, its table and what it did.
fn finished(world: &World, sector: u32) -> (Image, Table, Plan, Vec<Op>) {
    let disks = SimDisks::new(disk_before(sector), sector, None);
    let recorder = Recorder::new(open(&disks), None);
    let (plan, applied) = run(world, &recorder, &Unobserved);
    assert!(applied.unwrap().is_written);
    let table = read_table(&*open(&disks)).unwrap();
    (disks.image(), table, plan, recorder.log.into_inner().unwrap())
}

fn bytes(image: &Image, range: Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; range.len()];
    image.read(range.start, &mut bytes);
    bytes
}

/// New partitions have in them what they should.
fn check_contents(image: &Image, after: &Image, table: &Table) {
    for number in table.partitions().map(|p| p.number) {
        let is_empty = table.partition(number).unwrap().type_uuid == types::by_name("srv").unwrap();
        if !BEFORE.iter().any(|(old, ..)| *old == number) && !is_empty {
            let range = extent(table, number);
            assert!(image.is_same(after, range), "partition {number}");
        }
    }
}

#[test]
fn contents_are_what_was_asked_for() {
    for sector in SECTORS {
        let world = world(DEFINITIONS);
        let (image, table, plan, _) = finished(&world, sector);
        let by_type = |name: &str| {
            let wanted = types::by_name(name).unwrap();
            let found = table.partitions().find(|p| p.type_uuid == wanted).unwrap();
            (extent(&table, found.number), found)
        };
        for name in ["home", "usr"] {
            let (range, _) = by_type(name);
            let have = bytes(&image, range);
            assert!(have[..blob().len()] == blob());
        }
        let (swap, _) = by_type("swap");
        let page = bytes(&image, swap.start..swap.start + 4096);
        assert_eq!(&page[4086..], b"SWAPSPACE2");
        let (root, _) = by_type("root");
        assert_eq!(root.len() as u64, 4 * MIB);
        // The rest of a protected partition is part of what is protected.
        let (usr, data) = by_type("usr");
        assert!(bytes(&image, usr.start + blob().len()..usr.end).iter().all(|byte| *byte == 0));
        let (tree, hash) = by_type("usr-verity");
        assert_eq!(&bytes(&image, tree.start..tree.start + 8), b"verity\0\0");
        assert_ne!((data.uuid, hash.uuid), (Uuid::nil(), Uuid::nil()));
        assert_eq!(plan.partitions.iter().filter(|p| p.uuid.is_nil()).count(), 2);
    }
}

#[test]
fn a_hash_tree_names_the_partitions_it_belongs_to() {
    let world = world(DEFINITIONS);
    let disks = SimDisks::new(disk_before(512), 512, None);
    let (plan, applied) = run(&world, &*open(&disks), &Unobserved);
    let applied = applied.unwrap();
    let table = read_table(&*open(&disks)).unwrap();
    let mut seen = 0;
    for (partition, made) in plan.partitions.iter().zip(&applied.partitions) {
        let entry = table.partition(partition.number).unwrap();
        assert_eq!(entry.uuid, made.uuid);
        if let Some(hash) = &made.root_hash {
            seen += 1;
            let half =
                if types::name(entry.type_uuid).unwrap().ends_with("verity") { 16 } else { 0 };
            assert_eq!(entry.uuid.as_bytes(), &hash[half..half + 16]);
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn nothing_outside_of_the_plan_is_written() {
    for sector in SECTORS {
        let world = world(DEFINITIONS);
        let (image, table, plan, log) = finished(&world, sector);
        let (first, last) = table.usable();
        let sector = u64::from(sector);
        let mut allowed = vec![0..first * sector, (last + 1) * sector..SIZE];
        let made = plan.partitions.iter().filter(|partition| partition.is_made());
        allowed.extend(made.map(|partition| partition.offset..partition.offset + partition.size));
        let taken: Vec<Range<u64>> = plan
            .partitions
            .iter()
            .filter(|partition| !partition.is_made())
            .map(|partition| partition.offset..partition.offset + partition.size)
            .collect();
        for op in &log {
            match op {
                Op::Write(range) => assert!(
                    allowed.iter().any(|a| a.start <= range.start && range.end <= a.end),
                    "{range:?}"
                ),
                Op::Discard(range) => assert!(
                    range.start >= first * sector
                        && range.end <= (last + 1) * sector
                        && !taken.iter().any(|t| t.start < range.end && range.start < t.end),
                    "{range:?}"
                ),
                Op::Sync => {}
            }
        }
        let before = disk_before(u32::try_from(sector).unwrap());
        for range in kept() {
            assert!(image.is_same(&before, range));
        }
    }
}

#[test]
fn the_table_is_the_last_thing_that_is_written() {
    let world = world(DEFINITIONS);
    let (_, table, _, log) = finished(&world, 512);
    let (first, last) = table.usable();
    let is_table = |op: &Op| match op {
        Op::Write(range) => range.end <= first * 512 || range.start > last * 512,
        _ => false,
    };
    let begin = log.iter().position(is_table).unwrap();
    assert_eq!(log[begin - 1], Op::Sync);
    assert!(log[begin..].iter().all(|op| *op == Op::Sync || is_table(op)));
    assert_eq!(log.last(), Some(&Op::Sync));
    // The backup comes first.
    let Op::Write(range) = &log[begin] else { panic!() };
    assert!(range.start > last * 512);
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    for sector in SECTORS {
        let world = world(DEFINITIONS);
        let (image, ..) = finished(&world, sector);
        let disks = SimDisks::new(image, sector, None);
        let (_, plan) = plan(&world, &*open(&disks));
        assert!(!plan.is_change());
        assert!(plan.partitions.iter().all(|p| p.size == p.old_size && p.existing.is_some()));
    }
}

#[test]
fn the_power_may_go_at_any_write() {
    for sector in SECTORS {
        let world = world(DEFINITIONS);
        let (after, new_table, ..) = finished(&world, sector);
        let before = disk_before(sector);
        let old_table = read_table(&*open(&SimDisks::new(before.clone(), sector, None))).unwrap();
        let steps = {
            let disks = SimDisks::new(before.clone(), sector, None);
            run(&world, &Recorder::new(open(&disks), None), &Unobserved).1.unwrap();
            disks.steps()
        };
        let mut seen_new = 0;
        for cut in 0..steps {
            for seed in 0..SEEDS {
                let disks = SimDisks::new(before.clone(), sector, Some(cut));
                let (_, result) = run(&world, &Recorder::new(open(&disks), None), &Unobserved);
                assert!(result.is_err(), "cut {cut}");
                let image = disks.after_cut(&mut Dice(seed << 32 | cut as u64));
                for range in kept() {
                    assert!(image.is_same(&before, range), "cut {cut}");
                }
                let again = SimDisks::new(image.clone(), sector, None);
                let found = read_table(&*open(&again)).unwrap();
                let partitions: Vec<Partition> = found.partitions().collect();
                if partitions == new_table.partitions().collect::<Vec<_>>() {
                    seen_new += 1;
                    check_contents(&image, &after, &new_table);
                } else {
                    assert_eq!(partitions, old_table.partitions().collect::<Vec<_>>());
                    run(&world, &Recorder::new(open(&again), None), &Unobserved).1.unwrap();
                }
                let end = read_table(&*open(&again)).unwrap();
                assert_eq!(
                    end.partitions().collect::<Vec<_>>(),
                    new_table.partitions().collect::<Vec<_>>()
                );
                check_contents(&again.image(), &after, &new_table);
            }
        }
        println!("{sector}: {steps} cut points, new table after {seen_new} of them");
        assert!(steps > 20 && seen_new > 0);
    }
}

#[test]
fn a_disk_that_starts_anew_has_the_old_table_no_table_or_the_new_one() {
    for sector in SECTORS {
        let mut world = world(&DEFINITIONS[1..]);
        world.options.empty = Empty::Force;
        let (after, new_table, ..) = finished(&world, sector);
        let before = disk_before(sector);
        let old_table = read_table(&*open(&SimDisks::new(before.clone(), sector, None))).unwrap();
        let mut seen = [0; 3];
        for cut in 0.. {
            let disks = SimDisks::new(before.clone(), sector, Some(cut));
            let is_done = run(&world, &Recorder::new(open(&disks), None), &Unobserved).1.is_ok();
            if is_done {
                break;
            }
            let image = disks.after_cut(&mut Dice(cut as u64));
            let again = SimDisks::new(image.clone(), sector, None);
            let found = read_table(&*open(&again)).map(|t| t.partitions().collect::<Vec<_>>());
            match found {
                None => seen[1] += 1,
                Some(found) if found == new_table.partitions().collect::<Vec<_>>() => {
                    seen[2] += 1;
                    check_contents(&image, &after, &new_table);
                }
                Some(found) => {
                    seen[0] += 1;
                    assert_eq!(found, old_table.partitions().collect::<Vec<_>>());
                    // Nothing of what the table tells of is gone yet.
                    for range in kept() {
                        assert!(image.is_same(&before, range), "cut {cut}");
                    }
                }
            }
            run(&world, &Recorder::new(open(&again), None), &Unobserved).1.unwrap();
            check_contents(&again.image(), &after, &new_table);
        }
        println!("{sector}: old, none, new: {seen:?}");
        assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
    }
}

#[test]
fn a_write_that_fails_leaves_the_old_table() {
    let world = world(DEFINITIONS);
    let (after, new_table, _, log) = finished(&world, 512);
    let (_, last) = new_table.usable();
    let is_primary = |op: &Op| matches!(op, Op::Write(range) if range.start < 34 * 512);
    let commit = log.iter().position(is_primary).unwrap();
    assert!(matches!(&log[commit - 2], Op::Write(range) if range.start > last * 512));
    let before = disk_before(512);
    let old: Vec<Partition> = read_table(&*open(&SimDisks::new(before.clone(), 512, None)))
        .unwrap()
        .partitions()
        .collect();
    for errno in [5, 28] {
        for at in 0..log.len() {
            let disks = SimDisks::new(before.clone(), 512, None);
            let recorder = Recorder::new(open(&disks), Some((at, errno)));
            let (_, result) = run(&world, &recorder, &Unobserved);
            let err = result.unwrap_err();
            assert_eq!(err.errno(), Some(errno), "{err}");
            let found: Vec<Partition> = read_table(&*open(&disks)).unwrap().partitions().collect();
            if at <= commit {
                assert_eq!(found, old, "write {at}");
            }
            for range in kept() {
                assert!(disks.image().is_same(&before, range));
            }
            if found == old {
                run(&world, &Recorder::new(open(&disks), None), &Unobserved).1.unwrap();
            }
            check_contents(&disks.image(), &after, &new_table);
        }
    }
}

/// Phase, object, percent.
type Seen = (String, Option<String>, Option<u8>);

/// Writes down phases.
#[derive(Default)]
struct Phases(Mutex<Vec<Seen>>);

impl Observer for Phases {
    fn phase(&self, phase: Phase, object: Option<&Path>, percent: Option<u8>) {
        let object = object.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        self.0.lock().unwrap().push((phase.varlink_name().to_owned(), object, percent));
    }
}

#[test]
fn phases_come_in_their_order_with_their_objects() {
    let world = world(DEFINITIONS);
    let phases = Phases::default();
    let disks = SimDisks::new(disk_before(512), 512, None);
    run(&world, &*open(&disks), &phases).1.unwrap();
    let phases = phases.0.into_inner().unwrap();
    let mut order: Vec<String> = Vec::new();
    for (name, object, _) in &phases {
        let text = match object {
            Some(object) => format!("{name} {object}"),
            None => name.clone(),
        };
        if order.last() != Some(&text) {
            order.push(text);
        }
    }
    // By their places on the disk.
    let new = ["20-home", "40-usr-verity", "30-usr", "50-swap", "60-srv"];
    let mut expected: Vec<String> = new.iter().map(|n| format!("wiping_partition {n}")).collect();
    expected.extend(["20-home", "30-usr"].map(|n| format!("copying_partition {n}")));
    expected.push("formatting_partition 50-swap".to_owned());
    expected.push("adjusting_partition 10-root".to_owned());
    expected.extend(new.iter().map(|n| format!("adjusting_partition {n}")));
    // The kernel does not know this disk.
    expected.push("writing_table".to_owned());
    assert_eq!(order, expected);
    let percents: Vec<u8> = phases.iter().filter_map(|(_, _, percent)| *percent).collect();
    assert_eq!(percents.iter().filter(|p| **p == 0).count(), 2);
    assert_eq!(percents.iter().filter(|p| **p == 100).count(), 2);
}

#[test]
fn a_source_that_shrinks_is_found_before_anything_is_written() {
    let world = world(DEFINITIONS);
    let disks = SimDisks::new(disk_before(512), 512, None);
    let disk = open(&disks);
    let (table, plan) = plan(&world, &*disk);
    fs::write(world.dir.path().join("blob"), [1; 512]).unwrap();
    let medium = Medium { disk: &*disk, table: &table, is_blank: false };
    let err =
        apply::carry_out(&world.ctx, &plan, &medium, &world.options, &Unobserved).unwrap_err();
    assert!(err.to_string().ends_with("is shorter than it was."), "{err}");
    assert_eq!(disks.steps(), 0);
}

#[test]
fn a_plan_for_another_disk_is_refused() {
    let world = world(DEFINITIONS);
    let disks = SimDisks::new(disk_before(512), 512, None);
    let disk = open(&disks);
    let (table, plan) = plan(&world, &*disk);
    let refused = |plan: &Plan, table: &Table| {
        let medium = Medium { disk: &*disk, table, is_blank: false };
        let err =
            apply::carry_out(&world.ctx, plan, &medium, &world.options, &Unobserved).unwrap_err();
        assert!(err.to_string().starts_with("The plan does not fit the disk"), "{err}");
        assert_eq!(disks.steps(), 0);
    };
    // Somebody was there in the meantime.
    let mut other = table.clone();
    let foreign = other.partition(3).unwrap();
    let added = Partition {
        number: 9,
        first_lba: foreign.last_lba + 1,
        last_lba: foreign.last_lba + 8,
        ..foreign.clone()
    };
    other.set(&added).unwrap();
    refused(&plan, &other);
    // A defect of the planner.
    let first_new = plan.partitions.iter().position(|p| p.existing.is_none()).unwrap();
    for (offset, size) in [(8 * MIB, MIB), (0, MIB), (23 * MIB, MIB), (5 * MIB + 7, MIB), (MIB, 0)]
    {
        let mut wrong = plan.clone();
        wrong.partitions[first_new].offset = offset;
        wrong.partitions[first_new].size = size;
        refused(&wrong, &table);
    }
    let grown = plan.partitions.iter().position(|p| p.number == 1).unwrap();
    let mut wrong = plan.clone();
    wrong.partitions[grown].size = MIB;
    refused(&wrong, &table);
}

/// A run on an image file, from its opening on.
fn on_file(world: &World, path: &Path, is_dry_run: bool) -> (Plan, Applied) {
    let mut options = world.options.clone();
    options.device = Device::Path(path.to_path_buf());
    options.is_dry_run = is_dry_run;
    let world = World { dir: tempfile::tempdir().unwrap(), ctx: world.ctx.clone(), options };
    let mut target = target::open(&world.ctx, &world.options).unwrap();
    let plan = plan_with(&world, DiskFacts::of(&target, &world.options));
    let applied =
        apply::apply(&world.ctx, &plan, &mut target, &world.options, &Unobserved).unwrap();
    target.keep();
    (plan, applied)
}

#[test]
fn a_dry_run_writes_nothing_and_plans_what_the_real_one_does() {
    for sector in SECTORS {
        let world = world(DEFINITIONS);
        let image = world.dir.path().join("disk.raw");
        fs::write(&image, disk_before(sector).bytes()).unwrap();
        let (dry, applied) = on_file(&world, &image, true);
        assert!(!applied.is_written);
        assert!(fs::read(&image).unwrap() == disk_before(sector).bytes());
        let (real, applied) = on_file(&world, &image, false);
        assert!(applied.is_written);
        assert_eq!(format!("{dry:?}"), format!("{real:?}"));
        let after = fs::read(&image).unwrap();
        let (again, applied) = on_file(&world, &image, false);
        assert!(!again.is_change() && !applied.is_written);
        assert!(fs::read(&image).unwrap() == after);
    }
}

#[test]
fn factory_reset_deletes_what_is_marked_and_nothing_else() {
    let mut world = world(&[
        ("10-root", "Type=root\nSizeMinBytes=2M\nSizeMaxBytes=2M\n"),
        (
            "20-uh",
            "Type=user-home\nFactoryReset=yes\nSizeMinBytes=2M\nSizeMaxBytes=2M\nLabel=new\n",
        ),
    ]);
    let image = world.dir.path().join("disk.raw");
    let before = disk_before(512).bytes();
    fs::write(&image, &before).unwrap();
    world.options.device = Device::Path(image.clone());
    let definitions = definitions::load(&world.ctx, &world.options).unwrap();
    let mut dry = world.options.clone();
    dry.is_dry_run = true;
    let mut target = target::open(&world.ctx, &dry).unwrap();
    assert!(apply::can_factory_reset(&target, &definitions));
    let reset = apply::factory_reset(&world.ctx, &mut target, &definitions, &dry);
    assert_eq!(reset.unwrap(), 0);
    drop(target);
    assert!(fs::read(&image).unwrap() == before);

    let mut target = target::open(&world.ctx, &world.options).unwrap();
    let reset = apply::factory_reset(&world.ctx, &mut target, &definitions, &world.options);
    assert_eq!(reset.unwrap(), 1);
    assert!(!apply::can_factory_reset(&target, &definitions));
    // Not yet on the disk: what comes now may still be refused.
    assert!(fs::read(&image).unwrap() == before);
    let plan = plan_with(&world, DiskFacts::of(&target, &world.options));
    let applied =
        apply::apply(&world.ctx, &plan, &mut target, &world.options, &Unobserved).unwrap();
    target.keep();
    assert!(applied.is_written);
    let disks = SimDisks::new(Image::new(fs::read(&image).unwrap()), 512, None);
    let names: Vec<String> =
        read_table(&*open(&disks)).unwrap().partitions().map(|p| p.name).collect();
    assert_eq!(names, ["old-1", "new"]);
}

#[test]
fn split_files_are_the_partitions_and_names_do_not_clash() {
    let named = [
        ("10-a", "Type=home\nCopyBlocks=BLOB\nSizeMinBytes=2M\nSizeMaxBytes=2M\nSplitName=a\n"),
        ("20-b", "Type=srv\nSizeMinBytes=1M\nSizeMaxBytes=1M\nSplitName=-\n"),
        ("30-c", "Type=var\nSizeMinBytes=1M\nSizeMaxBytes=1M\nSplitName=%n.%T\n"),
    ];
    let world1 = world(&named);
    let image = world1.dir.path().join("disk.raw");
    fs::write(&image, disk_before(512).bytes()).unwrap();
    let (plan, applied) = on_file(&world1, &image, false);
    split::check(&world1.ctx, &plan).unwrap();
    let disk = slipway::disk::FileDisk::open(&image, Access::Read).unwrap();
    split::write(&world1.ctx, &plan, &applied, &disk).unwrap();
    let a = fs::read(world1.dir.path().join("disk.a.raw")).unwrap();
    assert!(a.len() == 2 << 20 && a[..blob().len()] == blob());
    let number = plan.partitions[2].number - 1;
    let c = world1.dir.path().join(format!("disk.{number}.4d21b016b53445c2a9fb5c16e091fd2d.raw"));
    assert_eq!(fs::metadata(c).unwrap().len(), MIB);
    assert_eq!(fs::read_dir(world1.dir.path()).unwrap().count(), 5);
    // There they are already.
    assert_eq!(split::check(&world1.ctx, &plan).unwrap_err().errno(), Some(17));
    let err = split::write(&world1.ctx, &plan, &applied, &disk).unwrap_err();
    assert_eq!(err.errno(), Some(17));
    assert_eq!(fs::read_dir(world1.dir.path()).unwrap().count(), 5);

    let world2 = world(&[
        ("10-a", "Type=home\nSizeMaxBytes=1M\nSizeMinBytes=1M\nSplitName=x\n"),
        ("20-b", "Type=srv\nSizeMaxBytes=1M\nSizeMinBytes=1M\nSplitName=x\n"),
    ]);
    let image = world2.dir.path().join("disk");
    fs::write(&image, disk_before(512).bytes()).unwrap();
    let (plan, _) = on_file(&world2, &image, true);
    let err = split::check(&world2.ctx, &plan).unwrap_err();
    let name = world2.dir.path().join("disk.x");
    let told = format!("have the same resolved split name \"{}\", refusing.", name.display());
    assert!(err.to_string().ends_with(&told), "{err}");
}

#[test]
fn sources_have_sizes_that_can_be_copied() {
    let resolve = |text: &str| {
        let world = world(&[("10-a", text)]);
        for (name, len) in [("zero", 0), ("odd", 700)] {
            fs::write(world.dir.path().join(name), vec![1; len]).unwrap();
        }
        let dir = world.dir.path().to_str().unwrap();
        let text = text.replace("DIR", dir).replace("BLOB", &format!("{dir}/blob"));
        fs::write(world.dir.path().join("repart.d/10-a.conf"), format!("[Partition]\n{text}"))
            .unwrap();
        let definitions = definitions::load(&world.ctx, &world.options).unwrap();
        let found = sources::resolve(&world.ctx, &definitions[0], &world.options);
        found
            .map(|source| source.unwrap().blocks)
            .map_err(|err| err.to_string().replace(world.dir.path().to_str().unwrap(), ""))
    };
    assert_eq!(resolve("Type=home\nCopyBlocks=BLOB\n").unwrap().len, Some(blob().len() as u64));
    assert_eq!(resolve("Type=home\nCopyBlocks=/dev/zero\n").unwrap().len, None);
    assert_eq!(
        resolve("Type=home\nCopyBlocks=DIR/zero\n").unwrap_err(),
        "File to copy bytes from '/zero' has zero size, refusing."
    );
    assert_eq!(
        resolve("Type=home\nCopyBlocks=DIR/odd\n").unwrap_err(),
        "File to copy bytes from '/odd' has size that is not multiple of 512, refusing."
    );
    assert_eq!(
        resolve("Type=home\nCopyBlocks=DIR/none\n").unwrap_err(),
        "Failed to open '/none': No such file or directory"
    );
    assert_eq!(
        resolve("Type=swap\nCopyBlocks=auto\n").unwrap_err(),
        "Partition type swap not supported from automatic source block device discovery."
    );
}

#[test]
fn an_image_is_searched_for_the_partition_itself() {
    let world = world(&[
        ("10-a", "Type=root\nCopyBlocks=auto\n"),
        ("20-b", "Type=home\nCopyBlocks=auto\n"),
    ]);
    let definitions = definitions::load(&world.ctx, &world.options).unwrap();
    let image = world.dir.path().join("os.raw");
    fs::write(&image, disk_before(512).bytes()).unwrap();
    let ctx = world.ctx.clone().with_image(&image, world.dir.path().join("root"));
    let found = sources::resolve(&ctx, &definitions[0], &world.options).unwrap().unwrap();
    assert_eq!((found.blocks.offset, found.blocks.len), (MIB, Some(2 * MIB)));
    assert_eq!((found.blocks.path, found.uuid), (image, Some(Uuid::from_u128(1))));
    let err = sources::resolve(&ctx, &definitions[1], &world.options).unwrap_err();
    assert_eq!(err.errno(), Some(6), "{err}");
}

#[test]
fn a_minimised_hash_tree_is_made_in_a_temporary_file_that_goes_again() {
    let world = world(&[
        ("10-a", "Type=usr\nCopyBlocks=BLOB\nVerity=data\nVerityMatchKey=u\n"),
        ("20-b", "Type=usr-verity\nVerity=hash\nVerityMatchKey=u\nMinimize=best\n"),
    ]);
    // A whole number of blocks.
    let bytes = [blob(), vec![9; 4096 - 512]].concat();
    fs::write(world.dir.path().join("blob"), &bytes).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let ctx = world.ctx.clone().with_env("TMPDIR", temporary.path());
    let disks = SimDisks::new(disk_before(512), 512, None);
    let disk = open(&disks);
    let (table, mut plan) = plan(&world, &*disk);
    let hash = plan.partitions.iter().position(|p| p.siblings.data.is_some() && p.blocks.is_none());
    let hash = hash.unwrap();
    let data = plan.partitions[hash].siblings.data.unwrap();
    plan.partitions[data].size = bytes.len() as u64;
    let made = minimise::minimise(&ctx, &plan, &world.options, &Unobserved).unwrap();
    let (index, blocks) = made.blocks[0].clone();
    assert_eq!((index, made.blocks.len()), (hash, 1));
    assert!(blocks.path.starts_with(temporary.path()) && blocks.is_temporary);
    // The same as without.
    let medium = Medium { disk: &*disk, table: &table, is_blank: false };
    let direct = apply::carry_out(&ctx, &plan, &medium, &world.options, &Unobserved).unwrap();
    let direct = direct.partitions[hash].root_hash.clone().unwrap();
    assert_eq!(blocks.root_hash.unwrap().to_vec(), direct);
    let start = usize::try_from(plan.partitions[hash].offset).unwrap();
    let len = usize::try_from(blocks.len.unwrap()).unwrap();
    assert!(fs::read(&blocks.path).unwrap() == self::bytes(&disks.image(), start..start + len));
    // And its root hash counts.
    plan.partitions[hash].blocks = Some(blocks);
    let planned = Applied::planned(&plan);
    assert_eq!(planned.partitions[data].uuid.as_bytes(), &direct[..16]);
    assert_eq!(planned.partitions[hash].uuid.as_bytes(), &direct[16..]);
    drop(made);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_grown_image_gets_its_backup_table_even_if_nothing_else_changes() {
    let mut world = world(&[("10-a", "Type=root\nSizeMinBytes=2M\nSizeMaxBytes=2M\n")]);
    let image = world.dir.path().join("disk.raw");
    fs::write(&image, disk_before(512).bytes()).unwrap();
    let (plan, applied) = on_file(&world, &image, false);
    assert!(!plan.is_change() && !applied.is_written);
    world.options.size = Some(ImageSize::Bytes(SIZE + 4 * MIB));
    let (plan, applied) = on_file(&world, &image, false);
    assert!(!plan.is_change() && applied.is_written);
    let bytes = fs::read(&image).unwrap();
    assert_eq!(bytes.len() as u64, SIZE + 4 * MIB);
    assert_eq!(&bytes[bytes.len() - 512..][..8], b"EFI PART");
    let (_, applied) = on_file(&world, &image, false);
    assert!(!applied.is_written);
}

/// Nobody looks.
struct Unseen;

impl Sink for Unseen {
    fn planned(&self, _: &Plan, _: &[Partition], _: &Outcome) -> Result<()> {
        Ok(())
    }

    fn done(&self, _: &Plan, _: &Outcome) -> Result<()> {
        Ok(())
    }
}

/// A loop device that goes with this.
struct Loop(PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// The image as a disk that the kernel looks for partitions on; none where that cannot be.
fn attached(image: &Path) -> Option<Loop> {
    let run = std::process::Command::new("losetup").args(["-fP", "--show"]).arg(image).output();
    let output = run.ok().filter(|output| output.status.success())?;
    Some(Loop(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())))
}

/// What the kernel has of a disk: numbers, and sizes in bytes.
fn nodes(disk: &Path) -> Vec<(u32, u64)> {
    let name = disk.file_name().unwrap().to_str().unwrap().to_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new("/sys/class/block").join(&name)).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(number) = fs::read_to_string(path.join("partition")) {
            let sectors: u64 =
                fs::read_to_string(path.join("size")).unwrap().trim().parse().unwrap();
            found.push((number.trim().parse().unwrap(), sectors * 512));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn a_disk_that_the_kernel_knows_is_partitioned_again_and_its_nodes_follow() {
    const NAME: &str = "a_disk_that_the_kernel_knows_is_partitioned_again_and_its_nodes_follow";
    if !rustix::process::geteuid().is_root() {
        println!("SKIP {NAME}: loop devices need root");
        return;
    }
    let mut world = world(&DEFINITIONS[1..]);
    let image = world.dir.path().join("disk.raw");
    fs::write(&image, disk_before(512).bytes()).unwrap();
    let Some(device) = attached(&image) else {
        println!("SKIP {NAME}: there are no loop devices");
        return;
    };
    let there = [(1, 2 * MIB), (3, 2 * MIB)];
    if nodes(&device.0) != there {
        // Where somebody else looks at the device just then, the kernel's own scan is skipped.
        let _ = std::process::Command::new("partx").arg("--update").arg(&device.0).output();
    }
    if nodes(&device.0) != there {
        println!("SKIP {NAME}: the kernel does not look for partitions");
        return;
    }
    // A new partition beside others.
    let (plan, _) = on_file(&world, &device.0, false);
    let sizes = |plan: &Plan| {
        let mut sizes: Vec<(u32, u64)> =
            plan.partitions.iter().map(|p| (p.number, p.size)).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(nodes(&device.0), sizes(&plan));
    // All anew, with the same numbers: the peer fails here, after it has wiped the disk.
    world.options.empty = Empty::Force;
    for _ in 0..2 {
        let (plan, applied) = on_file(&world, &device.0, false);
        assert!(applied.is_written);
        assert_eq!(nodes(&device.0), sizes(&plan));
    }
}

#[test]
fn a_disk_of_which_somebody_has_a_partition_open_keeps_all_its_nodes() {
    const NAME: &str = "a_disk_of_which_somebody_has_a_partition_open_keeps_all_its_nodes";
    if !rustix::process::geteuid().is_root() {
        println!("SKIP {NAME}: loop devices need root");
        return;
    }
    let mut world = world(&[
        ("10-a", "Type=root\nFactoryReset=yes\nSizeMinBytes=2M\n"),
        ("20-b", "Type=user-home\nFactoryReset=yes\nSizeMinBytes=2M\n"),
    ]);
    let image = world.dir.path().join("disk.raw");
    let before = disk_before(512).bytes();
    fs::write(&image, &before).unwrap();
    let Some(device) = attached(&image) else {
        println!("SKIP {NAME}: there are no loop devices");
        return;
    };
    let disk = FileDisk::open(&device.0, Access::Read).unwrap();
    if nodes(&device.0).is_empty() {
        // Kernels need not look for partitions themselves.
        for partition in slipway::disk::table::read(&disk, &device.0).unwrap().table.partitions() {
            let (start, end) = (partition.first_lba * 512, (partition.last_lba + 1) * 512);
            disk.add_partition(partition.number, start, end - start).unwrap();
        }
    }
    let all = [(1, 2 * MIB), (3, 2 * MIB)];
    assert_eq!(nodes(&device.0), all);
    let last = format!("{}p3", device.0.display());
    let Ok(_held) = File::open(&last) else {
        println!("SKIP {NAME}: there is no {last}");
        return;
    };
    for is_reset in [false, true] {
        world.options.empty = if is_reset { Empty::Refuse } else { Empty::Force };
        world.options.factory_reset = Some(is_reset);
        world.options.device = Device::Path(device.0.clone());
        let watchers = run::Watchers { sink: &Unseen, observer: &Unobserved };
        let err = run::run(&world.ctx, &world.options, watchers).unwrap_err();
        assert_eq!(err.errno(), Some(16), "{err}");
        assert_eq!(nodes(&device.0), all);
    }
    assert!(fs::read(&image).unwrap() == before);
    in_use::forget_partitions(&world.ctx, &disk, &device.0, &|number| number == 1).unwrap();
    assert_eq!(nodes(&device.0), all[1..]);
}

#[test]
fn another_root_must_not_read_devices_of_this_machine() {
    let world = world(&[
        ("10-a", "Type=home\nCopyBlocks=/dev/zero\n"),
        ("20-b", "Type=root\nCopyBlocks=auto\n"),
    ]);
    let definitions = definitions::load(&world.ctx, &world.options).unwrap();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("dev")).unwrap();
    std::os::unix::fs::symlink("/", root.path().join("dev/zero")).unwrap();
    let ctx = world.ctx.clone().with_root(root.path());
    for definition in &definitions {
        let err = sources::resolve(&ctx, definition, &world.options).unwrap_err();
        assert_eq!(err.errno(), Some(1), "{err}");
    }
}
