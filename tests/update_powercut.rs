//! The power goes at every single write of an update; afterwards the old or the new version is
//! there, complete, and running again finishes the update.
//!
//! Disks forget any subset of the sectors that were not synced, directories any tail of the
//! changes. "Complete" is judged by what a boot loader or the peer goes by: the table parses, and
//! whatever has a final name or type, or the pending one, has exactly the contents it should.
#![cfg(feature = "update")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "the number of cut points is part of the result")]

#[path = "common/engine.rs"]
mod common;
#[path = "common/power.rs"]
mod power;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Run, file, remove, slots, to_partition, transfer};
use power::{Cut, Dice, Image, SimDisks};
use slipway::ctx::Ctx;
use slipway::disk::{Access, table};
use slipway::error::Result;
use slipway::format::gpt::derived_types;
use slipway::format::pattern::Fields;
use slipway::fs::Files;
use slipway::update::engine;
use slipway::update::job::{EngineOptions, Goal, PARTIAL_PREFIX, PENDING_PREFIX};
use slipway::update::model::{Instance, Location, Slot, SourceKind, TargetKind, Transfer};

/// Different memories of the same cut.
const SEEDS: u64 = 2;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn unpacked(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).unwrap();
    let mut bytes = Vec::new();
    slipway::unpack::reader(Box::new(file)).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn golden(name: &str) -> Vec<u8> {
    unpacked(&vectors().join("gpt").join(format!("{name}.img.xz")))
}

/// One of the two transfers of the partition update.
struct Part {
    transfer: Transfer,
    sources: Vec<Instance>,
    payloads: Vec<Vec<u8>>,
    fields: Vec<Fields>,
    suffix: &'static str,
    slots: [u32; 2],
}

impl Part {
    fn label(&self, version: usize) -> String {
        format!("os_{version}{}", self.suffix)
    }
}

fn parts() -> [Part; 2] {
    let source = vectors().join("engine");
    let roots = [
        "root_1_22222221-0000-4000-8000-000000000001.raw",
        "root_2_22222222-0000-4000-8000-000000000002.raw",
        "root_3_22222223-0000-4000-8000-000000000003.raw",
    ];
    let verities = ["verity_1.raw.gz", "verity_2.raw.gz", "verity_3.raw.gz"];
    let part = |names: [&str; 3], type_name: &str, suffix, slots, fields: Vec<Fields>| Part {
        transfer: to_partition(SourceKind::RegularFile, "x_@v", type_name),
        sources: names.iter().map(|name| file("0", source.join(name))).collect(),
        payloads: names.iter().map(|name| unpacked(&source.join(name))).collect(),
        fields,
        suffix,
        slots,
    };
    let fields = roots.iter().map(|name| Fields {
        partition_uuid: Some(name[7..43].parse().unwrap()),
        partition_flags: Some(1 << 63),
        ..Fields::default()
    });
    [
        part(verities, "root-x86-64-verity", "_verity", [3, 4], vec![Fields::default(); 3]),
        part(roots, "root-x86-64", "", [1, 2], fields.collect()),
    ]
}

struct DiskWorld {
    ctx: Ctx,
    options: EngineOptions,
    disks: SimDisks,
}

const DISK: &str = "/disk.img";

impl DiskWorld {
    fn new(root: &Path, image: Image, sector_size: u32, cut: Option<usize>) -> Self {
        let disks = SimDisks::new(image, sector_size, cut);
        let mut options = EngineOptions::new(true);
        options.disks = Arc::new(disks.clone());
        Self { ctx: Ctx::host([]).with_root(root), options, disks }
    }

    /// The slots of a part as they are now.
    fn slots(&self, part: &Part) -> [Slot; 2] {
        slots(&self.options, Path::new(DISK), part.slots)
    }

    /// What an updater does to get to version 3, from wherever it is: this is the planner's part,
    /// by states only.
    fn update(&self, parts: &[Part; 2]) -> Result<()> {
        for part in parts {
            let (_, pending) = derived_types(part.transfer.target.partition_type);
            let slots = self.slots(part);
            let label = part.label(3);
            let slot = match slots.iter().find(|slot| slot.label == label) {
                Some(slot) => slot.clone(),
                None => {
                    let old = slots.iter().find(|slot| slot.label != part.label(2)).unwrap();
                    if old.label != "_empty" {
                        let location = Location::Slot(Box::new(old.clone()));
                        remove(&self.ctx, &part.transfer, &self.options, location, None)?;
                    }
                    let number = old.number;
                    self.slots(part).into_iter().find(|slot| slot.number == number).unwrap()
                }
            };
            let is_there = slot.label == label
                && [pending, part.transfer.target.partition_type].contains(&slot.type_uuid);
            if !is_there {
                self.run(part).acquire(&Goal::Slot { slot, label })?;
            }
        }
        for part in parts {
            let label = part.label(3);
            let slot = self.slots(part).into_iter().find(|slot| slot.label == label).unwrap();
            if slot.type_uuid != part.transfer.target.partition_type {
                let pending = Location::Slot(Box::new(slot.clone()));
                self.run(part).install(&Goal::Slot { slot, label }, &pending)?;
            }
        }
        Ok(())
    }

    /// True if all partitions and their contents are what they are on another disk. One copy of
    /// the table may still be damaged where there was nothing left to do.
    fn is_same(&self, other: &Self) -> bool {
        let content = |world: &Self| {
            let disk = world.options.disks.open(Path::new(DISK), Access::Read).unwrap();
            let table = table::read(&*disk, Path::new(DISK)).unwrap().table;
            let entries: Vec<_> = table.partitions().collect();
            (table.disk_guid(), entries)
        };
        let slots = 1 << 20..6 << 20;
        content(self) == content(other) && self.disks.image().is_same(&other.disks.image(), slots)
    }

    fn run<'a>(&'a self, part: &'a Part) -> Run<'a> {
        Run {
            ctx: &self.ctx,
            transfer: &part.transfer,
            options: &self.options,
            source: &part.sources[2],
            fields: part.fields[2].clone(),
        }
    }

    /// Checks what is there by definition, and returns which versions are complete.
    fn check(&self, parts: &[Part; 2], at: &str) -> Vec<usize> {
        let image = self.disks.image();
        let disk = self.options.disks.open(Path::new(DISK), Access::Read).unwrap();
        let loaded = table::read(&*disk, Path::new(DISK)).unwrap_or_else(|e| panic!("{at}: {e}"));
        assert_eq!(loaded.table.partition(5).unwrap().name, "unrelated", "{at}");
        let mut complete = vec![1, 2, 3];
        for part in parts {
            let real = part.transfer.target.partition_type;
            let (partial, pending) = derived_types(real);
            let slots = self.slots(part);
            for slot in &slots {
                let is_known = [real, partial, pending].contains(&slot.type_uuid);
                assert!(is_known, "{at}: type {}", slot.type_uuid);
                let Some(version) = (1..=3).find(|v| slot.label == part.label(*v)) else {
                    assert_eq!(slot.label, "_empty", "{at}");
                    assert_eq!(slot.type_uuid, real, "{at}: a free slot of another type");
                    continue;
                };
                if slot.type_uuid != partial {
                    let payload = &part.payloads[version - 1];
                    let start = usize::try_from(slot.offset_bytes).unwrap();
                    let mut got = vec![0; payload.len()];
                    image.read(start, &mut got);
                    assert!(got == *payload, "{at}: {} is not what it says", slot.label);
                }
            }
            complete.retain(|version| {
                let label = part.label(*version);
                slots.iter().any(|slot| slot.label == label && slot.type_uuid == real)
            });
        }
        complete
    }
}

fn partition_update(sectors: &str, sector_size: u32) {
    let parts = parts();
    let root = tempfile::tempdir().unwrap();
    let start = Image::new(golden(&format!("{sectors}-3-installed-2")));
    let end = golden(&format!("{sectors}-4-installed-3"));
    let world = |image, cut| DiskWorld::new(root.path(), image, sector_size, cut);

    let whole = world(start.clone(), None);
    whole.update(&parts).unwrap();
    assert!(whole.disks.image().bytes() == end);
    let steps = whole.disks.steps();
    assert!(steps > 60, "{steps}");

    let (mut cuts, mut again) = (0, 0);
    for cut in 0..steps {
        for seed in 0..SEEDS {
            let at = format!("{sectors}, cut at {cut} of {steps}, seed {seed}");
            let mut dice = Dice(seed << 32 | cut as u64);
            let cut_world = world(start.clone(), Some(cut));
            cut_world.update(&parts).expect_err(&at);
            let left = world(cut_world.disks.after_cut(&mut dice), None);
            let complete = left.check(&parts, &at);
            assert!(complete.contains(&2) || complete.contains(&3), "{at}: neither");
            cuts += 1;

            // And once more while it recovers.
            let second = dice.below(steps);
            let cut_again = world(left.disks.image(), Some(second));
            let at = format!("{at}, then at {second}");
            if cut_again.update(&parts).is_err() {
                let left = world(cut_again.disks.after_cut(&mut dice), None);
                let complete = left.check(&parts, &at);
                assert!(complete.contains(&2) || complete.contains(&3), "{at}: neither");
                left.update(&parts).unwrap_or_else(|err| panic!("{at}: {err}"));
                assert!(left.is_same(&whole), "{at}");
                again += 1;
            }
            left.update(&parts).unwrap_or_else(|err| panic!("{at}: {err}"));
            assert_eq!(left.check(&parts, &at), [2, 3], "{at}");
            assert!(left.is_same(&whole), "{at}: the disk is another one in the end");
        }
    }
    println!(
        "{sectors}: {steps} cut points, {cuts} power cuts tried, {again} of them followed by another"
    );
}

#[test]
fn a_partition_update_survives_a_power_cut_at_every_write_512() {
    partition_update("s512", 512);
}

#[test]
fn a_partition_update_survives_a_power_cut_at_every_write_4096() {
    partition_update("s4096", 4096);
}

/// Sources, target directory and transfers of an update of a file, with a link, and of a tree.
struct FileWorld {
    top: tempfile::TempDir,
    transfers: [Transfer; 2],
}

impl FileWorld {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let at = |path: &str| top.path().join(path);
        for version in 1..=2 {
            let tree = at(&format!("src/d_{version}/sub"));
            std::fs::create_dir_all(&tree).unwrap();
            std::fs::write(tree.join("x"), format!("tree {version}")).unwrap();
            let text = format!("file {version} ").repeat(2000);
            std::fs::write(at(&format!("src/f_{version}")), text).unwrap();
        }
        Self {
            transfers: [
                transfer(SourceKind::RegularFile, TargetKind::RegularFile, "f_@v"),
                transfer(SourceKind::Directory, TargetKind::Directory, "d_@v"),
            ],
            top,
        }
    }

    fn target(&self) -> PathBuf {
        self.top.path().join("target")
    }

    /// The target directory with version 1 in it.
    fn reset(&self) {
        let target = self.target();
        let _ = std::fs::remove_dir_all(&target);
        std::fs::create_dir_all(target.join("d_1/sub")).unwrap();
        let source = self.top.path().join("src");
        std::fs::copy(source.join("d_1/sub/x"), target.join("d_1/sub/x")).unwrap();
        std::fs::copy(source.join("f_1"), target.join("f_1")).unwrap();
        std::os::unix::fs::symlink("f_1", target.join("current")).unwrap();
    }

    /// What an updater does to get to version 2, and to be rid of version 1.
    fn update(&self, witness: Option<Arc<Cut>>) -> Result<()> {
        let ctx = Ctx::host([]).with_root(self.top.path());
        let mut options = EngineOptions::new(true);
        if let Some(witness) = witness {
            options.files = Files::witnessed(witness);
        }
        let target = self.target();
        engine::clean_temporary(&target, &[], &options)?;
        let names = ["f_2", "d_2"];
        let sources = names.map(|name| file("2", self.top.path().join("src").join(name)));
        let goal = |name: &str| Goal::Name { directory: target.clone(), name: name.to_owned() };
        let run = |i: usize| Run {
            ctx: &ctx,
            transfer: &self.transfers[i],
            options: &options,
            source: &sources[i],
            fields: Fields::default(),
        };
        let pending = |name: &str| target.join(format!("{PENDING_PREFIX}{name}"));
        for (i, name) in names.iter().enumerate() {
            if !target.join(name).exists() && !pending(name).exists() {
                run(i).acquire(&goal(name))?;
            }
        }
        for (i, name) in names.iter().enumerate() {
            let from = if pending(name).exists() { pending(name) } else { target.join(name) };
            let link = (i == 0).then(|| target.join("current"));
            run(i).install_linked(&goal(name), &Location::Path(from), link)?;
        }
        for (i, name) in ["f_1", "d_1"].iter().enumerate() {
            let path = target.join(name);
            if path.exists() {
                let top = Some(target.clone());
                remove(&ctx, &self.transfers[i], &options, Location::Path(path), top)?;
            }
        }
        Ok(())
    }

    /// Everything with a final or pending name is what it should be, and the link leads to one of
    /// them.
    fn check(&self, at: &str) {
        let (source, target) = (self.top.path().join("src"), self.target());
        let mut complete = [0, 0];
        for entry in std::fs::read_dir(&target).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with(PARTIAL_PREFIX) || name.starts_with(".#") || name == "current" {
                continue;
            }
            let installed = name.strip_prefix(PENDING_PREFIX).unwrap_or(&name);
            // Deleting a tree is not one step; what is being deleted was the old version.
            let inner = if installed.starts_with('d') { "/sub/x" } else { "" };
            let read = |path: PathBuf| std::fs::read(format!("{}{inner}", path.display()));
            let expected = read(source.join(installed)).unwrap();
            let got = read(target.join(&name)).unwrap_or_default();
            assert!(got == expected, "{at}: {name} is not what it says");
            if installed == name {
                complete[usize::from(installed.starts_with('d'))] += 1;
            }
        }
        assert!(complete[0] > 0 && complete[1] > 0, "{at}: neither version");
        let linked = std::fs::read(target.join("current")).unwrap_or_else(|e| panic!("{at}: {e}"));
        assert!(linked.starts_with(b"file"), "{at}");
    }
}

#[test]
fn an_update_of_files_and_trees_survives_a_power_cut_at_every_step() {
    let world = FileWorld::new();
    world.reset();
    let whole = Cut::new(&world.target(), None);
    world.update(Some(Arc::clone(&whole))).unwrap();
    let steps = whole.steps();
    assert!(steps > 20, "{steps}");
    let mut cuts = 0;
    for cut in 0..steps {
        for seed in 0..SEEDS * 4 {
            let at = format!("cut at {cut} of {steps}, seed {seed}");
            let mut dice = Dice(seed << 32 | cut as u64);
            world.reset();
            let witness = Cut::new(&world.target(), Some(cut));
            world.update(Some(Arc::clone(&witness))).expect_err(&at);
            witness.restore(&mut dice);
            world.check(&at);
            world.update(None).unwrap_or_else(|err| panic!("{at}: {err}"));
            world.check(&at);
            let mut names: Vec<_> = std::fs::read_dir(world.target())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["current", "d_2", "f_2"], "{at}");
            cuts += 1;
        }
    }
    println!("files: {steps} cut points, {cuts} power cuts tried");
}
