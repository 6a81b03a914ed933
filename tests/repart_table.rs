//! Partition tables of repart: new ones are placed to the byte as libfdisk places them, and the
//! power may go at any write while one is made or grows.
#![cfg(feature = "repart")]
#![allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]
#![allow(clippy::print_stdout, reason = "says what it skips")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "common/power.rs"]
mod power;

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use power::{Dice, Image, SimDisks};
use sha2::{Digest as _, Sha256};
use slipway::ctx::Ctx;
use slipway::disk::{Access, Disk, Disks as _, FileDisk, in_use, partition_path, table, wipe};
use slipway::format::gpt::{GptError, Partition, Step, Table, types};
use slipway::format::superblock::{self, Label};

use uuid::Uuid;

/// What the peer derives from the seed of the vectors.
const DISK_GUID: &str = "6913f4b6-6690-4a57-a202-f1b53c56dbdf";

/// The hash of both ends of a disk that was empty before these steps.
fn ends(size: u64, steps: &[Step]) -> String {
    const END: u64 = 32 << 10;
    let windows = [0..size.min(END), size.saturating_sub(END)..size];
    let mut hash = Sha256::new();
    for window in windows {
        let mut bytes = vec![0; usize::try_from(window.end - window.start).unwrap()];
        for step in steps {
            let Step::Write { offset, bytes: new, .. } = step else { continue };
            for (i, byte) in new.iter().enumerate() {
                let at = offset + i as u64;
                if window.contains(&at) {
                    bytes[usize::try_from(at - window.start).unwrap()] = *byte;
                }
            }
        }
        hash.update(&bytes);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn fresh_tables_are_those_of_the_peer_to_the_byte() {
    let guid = Uuid::parse_str(DISK_GUID).unwrap();
    let mut count = 0;
    for line in include_str!("vectors/gpt-fresh/tables.txt").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (sector, size) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        let table = Table::create(size, sector, guid).unwrap();
        let usable = (words[3].parse().unwrap(), words[4].parse().unwrap());
        assert_eq!(table.usable(), usable, "{line}");
        assert_eq!(ends(size, &table.writes()), words[2], "{line}");
        count += 1;
    }
    assert!(count > 100, "{count}");
    assert!(matches!(Table::create(20480, 4096, guid), Err(GptError::TooSmall)));
    assert!(matches!(Table::create(0, 512, guid), Err(GptError::TooSmall)));
    assert!(matches!(Table::create(1 << 30, 100, guid), Err(GptError::SectorSize { .. })));
}

fn partition(number: u32, first_lba: u64, last_lba: u64) -> Partition {
    Partition {
        number,
        type_uuid: types::LINUX_GENERIC,
        uuid: Uuid::from_u128(number.into()),
        first_lba,
        last_lba,
        flags: 1 << 59,
        name: format!("part-{number}"),
    }
}

const DISK: &str = "/disk.raw";

fn open(disks: &SimDisks) -> Box<dyn Disk> {
    disks.open(Path::new(DISK), Access::Write).unwrap()
}

fn read(image: Image, sector_size: u32) -> Option<Table> {
    let disks = SimDisks::new(image, sector_size, None);
    table::read(&*open(&disks), Path::new(DISK)).ok().map(|loaded| loaded.table)
}

/// Cuts the power at every step of writing `table` to a disk, and gives what is found afterwards.
fn cut_everywhere(
    start: &Image,
    table: &Table,
    found: &mut dyn FnMut(Option<Table>, &str),
) -> usize {
    let sector_size = table.sector_size();
    let write = |disks: &SimDisks| table::write(&*open(disks), Path::new(DISK), table);
    let whole = SimDisks::new(start.clone(), sector_size, None);
    write(&whole).unwrap();
    let steps = whole.steps();
    for cut in 0..steps {
        for seed in 0..8 {
            let at = format!("{sector_size}: cut at {cut} of {steps}, seed {seed}");
            let disks = SimDisks::new(start.clone(), sector_size, Some(cut));
            write(&disks).expect_err(&at);
            let mut dice = Dice(seed << 32 | cut as u64);
            let left = disks.after_cut(&mut dice);
            found(read(left.clone(), sector_size), &at);
            // Once more, and nobody would know.
            let again = SimDisks::new(left, sector_size, None);
            write(&again).unwrap();
            assert!(again.image().bytes() == whole.image().bytes(), "{at}: written again");
        }
    }
    steps
}

#[test]
fn a_power_cut_while_a_table_is_made_leaves_none_or_the_new_one() {
    for sector_size in [512, 4096] {
        let size = 8 << 20;
        let mut table = Table::create(size, sector_size, Uuid::from_u128(1)).unwrap();
        let (first, last) = table.usable();
        table.set(&partition(1, first, first + 7)).unwrap();
        table.set(&partition(3, first + 8, last)).unwrap();
        let start = Image::new(vec![0; usize::try_from(size).unwrap()]);
        let (mut none, mut new) = (0, 0);
        let steps = cut_everywhere(&start, &table, &mut |found, at| match found {
            None => none += 1,
            Some(found) => {
                let same = found.partitions().eq(table.partitions());
                assert!(same && found.disk_guid() == table.disk_guid(), "{at}");
                new += 1;
            }
        });
        assert_eq!(steps, 10);
        assert!(none > 40 && new > 0, "{none} {new}");
    }
}

#[test]
fn a_power_cut_while_a_table_grows_leaves_the_old_partitions_or_the_new_ones() {
    for sector_size in [512, 4096] {
        let (small, large) = (8 << 20, 12 << 20);
        let mut old = Table::create(small, sector_size, Uuid::from_u128(1)).unwrap();
        let (first, last) = old.usable();
        old.set(&partition(1, first, last - 9)).unwrap();
        let mut start = Image::new(vec![0; usize::try_from(large).unwrap()]);
        for step in old.writes() {
            if let Step::Write { offset, bytes, .. } = step {
                start.write(usize::try_from(offset).unwrap(), &bytes);
            }
        }
        // What a run loads from the disk that has grown.
        let loaded = read(start.clone(), sector_size).unwrap();
        let mut grown = old.clone();
        grown.grow_to(large).unwrap();
        assert_eq!(loaded.usable(), grown.usable());
        let mut new = loaded;
        new.set(&partition(2, last, new.usable().1)).unwrap();
        let (mut olds, mut news) = (0, 0);
        cut_everywhere(&start, &new, &mut |found, at| {
            let found = found.unwrap_or_else(|| panic!("{at}: no table"));
            match found.partitions().count() {
                1 => olds += 1,
                _ => news += 1,
            }
            let expected = if found.partition(2).is_some() { &new } else { &old };
            assert!(found.partitions().eq(expected.partitions()), "{at}");
        });
        assert!(olds > 10 && news > 10, "{olds} {news}");
    }
}

#[test]
fn a_table_grows_with_its_disk_and_never_over_a_partition() {
    let mut table = Table::create(8 << 20, 512, Uuid::from_u128(1)).unwrap();
    table.set(&partition(1, 2048, 16350)).unwrap();
    let old = table.clone();
    assert!(matches!(table.grow_to(4 << 20), Err(GptError::NoRoom)));
    assert!(matches!(table.grow_to(100), Err(GptError::TooSmall)));
    assert_eq!(table, old);
    table.grow_to(16 << 20).unwrap();
    assert_eq!(table.usable(), (2048, 32734));
    table.remove(1).unwrap();
    table.remove(1).unwrap();
    assert!(matches!(table.remove(129), Err(GptError::NoSuchEntry { .. })));
    table.set_disk_guid(Uuid::parse_str(DISK_GUID).unwrap());
    // Nothing is left of what it was.
    let fresh = Table::create(16 << 20, 512, Uuid::parse_str(DISK_GUID).unwrap()).unwrap();
    assert_eq!(table.writes(), fresh.writes());
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a tool; its output if it succeeds.
fn run(words: &[&str]) -> Option<String> {
    let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn has_tool(test: &str, name: &str) -> bool {
    let has = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .any(|dir| Path::new(dir).join(name).exists());
    if !has {
        println!("SKIP {test}: no {name}");
    }
    has
}

/// An image file behind a loop device with nodes for partitions.
struct Loop {
    image: tempfile::NamedTempFile,
    node: String,
}

impl Loop {
    fn new(test: &str, size: u64, sector_size: u32) -> Option<Self> {
        if !is_root() {
            println!("SKIP {test}: not root");
            return None;
        }
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let path = image.path().to_str().unwrap();
        let sector = sector_size.to_string();
        let node = run(&["losetup", "--find", "--show", "-P", "-b", &sector, path]);
        if node.is_none() {
            println!("SKIP {test}: no loop devices");
        }
        Some(Self { node: node?, image })
    }

    fn disk(&self) -> FileDisk {
        FileDisk::open(Path::new(&self.node), Access::Write).unwrap()
    }

    fn kernel(&self) -> Vec<(u32, std::ops::Range<u64>)> {
        let found = in_use::kernel_partitions(&Ctx::host([]), Path::new(&self.node)).unwrap();
        found.into_iter().map(|partition| (partition.number, partition.range)).collect()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run(&["losetup", "-d", &self.node]);
    }
}

const MIB: u64 = 1 << 20;

#[test]
fn the_kernel_learns_of_single_partitions_before_there_is_a_table() {
    for sector_size in [512, 4096] {
        let test = "the_kernel_learns_of_single_partitions_before_there_is_a_table";
        let Some(device) = Loop::new(test, 64 * MIB, sector_size) else { return };
        let disk = device.disk();
        assert!(disk.has_partition_nodes());
        assert_eq!(disk.sector_size_bytes(), sector_size);
        disk.add_partition(1, MIB, 8 * MIB).unwrap();
        disk.add_partition(3, 16 * MIB, 8 * MIB).unwrap();
        assert_eq!(device.kernel(), [(1, MIB..9 * MIB), (3, 16 * MIB..24 * MIB)]);
        let overlap = disk.add_partition(2, 8 * MIB, 2 * MIB).unwrap_err();
        assert_eq!(overlap.kind(), std::io::ErrorKind::ResourceBusy);
        // One that is in use may grow, and its neighbours may come and go, but it stays.
        let node = partition_path(Path::new(&device.node), 1);
        let held = std::fs::OpenOptions::new().read(true).open(&node).unwrap();
        disk.resize_partition(1, MIB, 12 * MIB).unwrap();
        assert_eq!(device.kernel()[0], (1, MIB..13 * MIB));
        let ctx = Ctx::host([]);
        let err =
            in_use::forget_partitions(&ctx, &disk, Path::new(&device.node), &|_| true).unwrap_err();
        assert_eq!(err.errno(), Some(16), "{err}");
        assert_eq!(device.kernel().len(), 2);
        drop(held);
        in_use::forget_partitions(&ctx, &disk, Path::new(&device.node), &|_| true).unwrap();
        assert_eq!(device.kernel(), []);
        disk.remove_partition(1).unwrap();
    }
}

#[test]
fn a_device_that_cannot_be_written_is_not_opened_for_that() {
    let test = "a_device_that_cannot_be_written_is_not_opened_for_that";
    if !is_root() {
        println!("SKIP {test}: not root");
        return;
    }
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8 * MIB).unwrap();
    let path = image.path().to_str().unwrap();
    let Some(node) = run(&["losetup", "--find", "--show", "--read-only", path]) else {
        println!("SKIP {test}: no loop devices");
        return;
    };
    let device = Loop { node, image };
    let open = |access| FileDisk::open(Path::new(&device.node), access);
    let err = open(Access::Write).err().unwrap();
    assert_eq!(err.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(open(Access::Read).is_ok());
}

#[test]
fn a_mounted_partition_refuses_its_disk_and_its_image() {
    let test = "a_mounted_partition_refuses_its_disk_and_its_image";
    if !has_tool(test, "mkfs.ext4") {
        return;
    }
    let Some(device) = Loop::new(test, 64 * MIB, 512) else { return };
    let disk = device.disk();
    disk.add_partition(1, MIB, 16 * MIB).unwrap();
    let node = format!("{}p1", device.node);
    let place = tempfile::tempdir().unwrap();
    let at = place.path().to_str().unwrap();
    assert!(run(&["mkfs.ext4", "-q", &node]).is_some());
    if run(&["mount", &node, at]).is_none() {
        println!("SKIP {test}: cannot mount");
        return;
    }
    let ctx = Ctx::host([]);
    for path in [Path::new(&device.node), device.image.path()] {
        in_use::check(&ctx, path, &[32 * MIB..64 * MIB, 0..MIB]).unwrap();
        let err = in_use::check(&ctx, path, &[16 * MIB..64 * MIB]).unwrap_err().to_string();
        let expected =
            format!("'{}' is in use, refusing: {node} (16M) is mounted at '{at}'", path.display());
        assert_eq!(err, expected);
    }
    run(&["umount", at]).unwrap();
    in_use::check(&ctx, device.image.path(), &[0..64 * MIB]).unwrap();
}

/// What is in the first bytes of an image afterwards is not known to anybody.
#[test]
fn whatever_was_made_on_a_disk_is_unknown_to_libblkid_after_wiping() {
    let test = "whatever_was_made_on_a_disk_is_unknown_to_libblkid_after_wiping";
    if !has_tool(test, "wipefs") || !has_tool(test, "blkid") {
        return;
    }
    let image = tempfile::NamedTempFile::new().unwrap();
    let path = image.path().to_str().unwrap().to_owned();
    let gpt = "label: gpt\nsize=8M\nsize=8M\n";
    let tools: &[&[&str]] = &[
        &["mkfs.ext4", "-q", &path],
        &["mkfs.btrfs", "-q", "-f", &path],
        &["mkfs.xfs", "-q", "-f", &path],
        &["mkfs.vfat", &path],
        &["mkfs.vfat", "-F", "32", "-S", "4096", &path],
        &["mkfs.f2fs", "-q", "-f", &path],
        &["mkfs.minix", &path],
        &["mkfs.cramfs", "/etc", &path],
        &["mkfs.bfs", &path],
        &["mkswap", &path],
        &["mksquashfs", "/etc/hosts", &path, "-quiet", "-no-progress", "-noappend"],
        &["mkfs.erofs", "--quiet", &path, "/etc/apt"],
        &[
            "cryptsetup",
            "-q",
            "luksFormat",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            &path,
            "/etc/hostname",
        ],
        &[
            "cryptsetup",
            "-q",
            "luksFormat",
            "--type",
            "luks1",
            "--pbkdf-force-iterations",
            "1000",
            &path,
            "/etc/hostname",
        ],
        &["sh", "-c", &format!("printf '{gpt}' | sfdisk -q {path}")],
        &["sh", "-c", &format!("printf 'label: dos\\nsize=8M\\n' | sfdisk -q {path}")],
        &["sh", "-c", &format!("printf 'label: sun\\n' | sfdisk -q {path}")],
        &["sh", "-c", &format!("printf 'label: sgi\\n' | sfdisk -q {path}")],
    ];
    let mut count = 0;
    for words in tools {
        image.as_file().set_len(0).unwrap();
        image.as_file().set_len(512 * MIB).unwrap();
        if run(words).is_none() || run(&["wipefs", "-n", &path]).unwrap().is_empty() {
            println!("SKIP {test}: {} makes nothing", words[0]);
            continue;
        }
        let disk = FileDisk::open(image.path(), Access::Write).unwrap();
        assert!(wipe(&disk, 0, disk.size_bytes()).unwrap(), "{words:?}");
        assert_eq!(run(&["wipefs", "-n", &path]).unwrap(), "", "{words:?}");
        assert_eq!(run(&["blkid", "-p", &path]), None, "{words:?}");
        assert!(!wipe(&disk, 0, disk.size_bytes()).unwrap(), "{words:?}: once is enough");
        count += 1;
    }
    assert!(count > 4, "{count}");
}

#[test]
fn wiping_stays_within_its_range_and_finds_what_is_at_its_end() {
    let size = 128 * MIB;
    let plant = |at: u64, magic: &[u8]| {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size + 2 * MIB).unwrap();
        image.as_file().write_all_at(magic, MIB + at).unwrap();
        let disk = FileDisk::open(image.path(), Access::Write).unwrap();
        let was_there = wipe(&disk, MIB, size).unwrap();
        let mut left = vec![0; magic.len()];
        disk.read_at(MIB + at, &mut left).unwrap();
        (was_there, left.iter().all(|byte| *byte == 0))
    };
    let md = 0xa92b_4efc_u32.to_le_bytes();
    let places: [(u64, &[u8]); 14] = [
        (512, b"EFI PART"),
        (4096, b"EFI PART"),
        (size - 512, b"EFI PART"),
        (size - 4096, b"EFI PART"),
        (0, &md),
        (4096, &md),
        (size - 65536, &md),
        (size - 8192, &md),
        (0x4000, b"SKUL\xba\xbe"),
        (32769, b"CD001"),
        (131_072 + 7 * 1024, &0x00ba_b10c_u64.to_le_bytes()),
        (size - 131_072, &0x00ba_b10c_u64.to_be_bytes()),
        (size - 1024, b"Intel Raid ISM Cfg Sig. "),
        (size - 4096 + 60, b"\x83\x74\x02\x6b"),
    ];
    for (at, magic) in places {
        assert_eq!(plant(at, magic), (true, true), "{magic:?} at {at}");
    }
    // The neighbours keep theirs.
    assert_eq!(plant(size + 510, b"\x55\xaa"), (false, false));
    assert_eq!(plant(MIB, b"just data"), (false, false));
}

#[test]
fn labels_are_told_from_file_systems() {
    let label = |plant: &[(usize, &[u8])], size: usize| {
        let mut bytes = vec![0; size];
        for (at, magic) in plant {
            bytes[*at..at + magic.len()].copy_from_slice(magic);
        }
        superblock::label(size as u64, &mut |offset, buffer| {
            let start = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
            Ok(())
        })
        .unwrap()
    };
    assert_eq!(label(&[], 4096), Label::None);
    assert_eq!(label(&[(1080, b"\x53\xef")], 4096), Label::None);
    assert_eq!(label(&[(510, b"\x55\xaa")], 4096), Label::Other("dos"));
    assert_eq!(label(&[(508, b"\xda\xbe")], 4096), Label::Other("sun"));
    assert_eq!(label(&[(0, b"\x0b\xe5\xa9\x41")], 4096), Label::Other("sgi"));
    for size in [0, 1, 511, 512, 513, 1023] {
        assert_eq!(label(&[], size), Label::None, "{size}");
    }
}
