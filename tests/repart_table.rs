//! Partition tables of repart: new ones are placed to the byte as libfdisk places them, and the
//! power may go at any write while one is made or grows.
#![cfg(feature = "repart")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

#[path = "common/power.rs"]
mod power;

use std::path::Path;

use power::{Dice, Image, SimDisks};
use sha2::{Digest as _, Sha256};
use slipway::disk::{Access, Disk, Disks as _, table};
use slipway::format::gpt::{GptError, Partition, Step, Table, types};

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
