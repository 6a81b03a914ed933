//! Behaviour on hand-made disks and damage; the golden disks are with the other vectors.

use super::*;
use crate::format::crc32::crc32;

const SECTORS: u64 = 100;
const ENTRIES: u32 = 8;

/// A disk of 100 sectors, 8 entries, and one partition.
fn disk(ss: usize) -> Vec<u8> {
    let mut disk = vec![0; ss * SECTORS as usize];
    disk[446 + 4] = 0xee;
    disk[446 + 12..446 + 16].copy_from_slice(&(SECTORS as u32 - 1).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let array = 128 * ENTRIES as usize;
    let array_sectors = array.div_ceil(ss);
    let (first, last) = (2 + array_sectors, SECTORS as usize - 2 - array_sectors);
    let mut entries = vec![0; array_sectors * ss];
    entries[..16].fill(1);
    entries[16..32].fill(2);
    entries[32] = first as u8;
    entries[40] = first as u8 + 9;
    entries[56] = b'a';
    // Reserved by UEFI, set by somebody.
    entries[49] = 7;
    for (lba, alternate, entries_lba) in [(1, SECTORS - 1, 2), (SECTORS - 1, 1, last as u64 + 1)] {
        let mut header = vec![0; ss];
        header[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
        header[12] = 92;
        header[24..32].copy_from_slice(&lba.to_le_bytes());
        header[32..40].copy_from_slice(&alternate.to_le_bytes());
        header[40] = first as u8;
        header[48] = last as u8;
        header[56..72].fill(9);
        header[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        header[80] = ENTRIES as u8;
        header[84] = 128;
        header[88..92].copy_from_slice(&crc32(&entries[..array]).to_le_bytes());
        // Not ours, and to be kept.
        header[ss - 1] = 0x77;
        let at = |lba: u64| lba as usize * ss;
        disk[at(lba)..at(lba) + ss].copy_from_slice(&header);
        disk[at(entries_lba)..][..entries.len()].copy_from_slice(&entries);
        seal(&mut disk, ss, lba);
    }
    disk
}

/// Makes the checksum of a header right.
fn seal(disk: &mut [u8], ss: usize, lba: u64) {
    let header = &mut disk[lba as usize * ss..][..ss];
    let size = u32::from_le_bytes(header[12..16].try_into().unwrap()) as usize;
    header[16..20].fill(0);
    let crc = crc32(&header[..size.min(ss)]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
}

fn read(disk: &[u8], ss: usize) -> Result<Loaded, GptError> {
    load(disk.len() as u64, ss as u32, &mut |offset, length| {
        Ok(disk[offset as usize..offset as usize + length].to_vec())
    })
}

fn apply(disk: &mut [u8], steps: &[Step]) {
    for step in steps {
        if let Step::Write { offset, bytes, .. } = step {
            disk[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
}

fn relabeled(table: &Table, name: &str) -> Table {
    let mut table = table.clone();
    let mut partition = table.partition(1).unwrap();
    partition.name = name.to_owned();
    table.set(&partition).unwrap();
    table
}

#[test]
fn unchanged_table_is_written_back_byte_for_byte() {
    for ss in [512, 1024, 2048, 4096] {
        let disk = disk(ss);
        let loaded = read(&disk, ss).unwrap();
        assert_eq!((loaded.primary, loaded.backup), (CopyState::Good, CopyState::Good));
        let mut written = disk.clone();
        apply(&mut written, &loaded.table.writes());
        assert!(written == disk, "{ss}");
    }
}

#[test]
fn changing_a_label_keeps_every_other_byte_of_the_entry() {
    let disk = disk(512);
    let table = read(&disk, 512).unwrap().table;
    let mut partition = table.partition(1).unwrap();
    assert_eq!((partition.name.as_str(), partition.flags), ("a", 7 << 8));
    partition.name = "b".to_owned();
    let mut changed = table.clone();
    changed.set(&partition).unwrap();
    assert_eq!(changed.partition(1), Some(partition));
    let differing = table.entries.iter().zip(&changed.entries).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 1);
}

#[test]
fn broken_utf16_in_a_label_survives_a_change_of_the_type() {
    let mut disk = disk(512);
    for copy in [1, SECTORS - 1] {
        let entries = if copy == 1 { 2 } else { SECTORS - 3 } as usize * 512;
        disk[entries + 56..entries + 58].copy_from_slice(&0xd800_u16.to_le_bytes());
        let crc = crc32(&disk[entries..entries + 1024]);
        disk[copy as usize * 512 + 88..][..4].copy_from_slice(&crc.to_le_bytes());
        seal(&mut disk, 512, copy);
    }
    let mut table = read(&disk, 512).unwrap().table;
    let mut partition = table.partition(1).unwrap();
    assert_eq!(partition.name, "\u{fffd}");
    partition.type_uuid = types::LINUX_GENERIC;
    table.set(&partition).unwrap();
    assert_eq!(table.entries[56..58], [0, 0xd8]);
}

#[test]
fn cut_at_any_write_leaves_the_old_table_or_the_new_one() {
    for (ss, damage) in [(512, None), (4096, None), (512, Some(1)), (4096, Some(SECTORS - 1))] {
        let mut disk = disk(ss);
        if let Some(lba) = damage {
            disk[lba as usize * ss] = b'X';
        }
        let old = read(&disk, ss).unwrap().table;
        let new = relabeled(&old, "new");
        let steps = new.writes();
        for cut in 0..=steps.len() {
            let mut torn = disk.clone();
            apply(&mut torn, &steps[..cut]);
            if let Some(Step::Write { offset, bytes, .. }) = steps.get(cut) {
                let half = Step::Write {
                    offset: *offset,
                    bytes: bytes[..bytes.len() / 2].to_vec(),
                    what: "",
                };
                apply(&mut torn, &[half]);
            }
            let name = read(&torn, ss).unwrap().table.partition(1).unwrap().name;
            assert!(["a", "new"].contains(&name.as_str()), "{ss} {damage:?} {cut}: {name}");
            // Writing again ends in the new state whatever was found.
            let table = relabeled(&read(&torn, ss).unwrap().table, "new");
            apply(&mut torn, &table.writes());
            let end = read(&torn, ss).unwrap();
            assert_eq!((end.primary, end.backup), (CopyState::Good, CopyState::Good));
        }
    }
}

#[test]
fn differing_good_copies_are_settled_by_the_primary() {
    let mut disk = disk(512);
    let new = relabeled(&read(&disk, 512).unwrap().table, "new");
    apply(&mut disk, &new.writes()[..4]);
    let loaded = read(&disk, 512).unwrap();
    assert_eq!(loaded.backup, CopyState::Damaged(CopyFault::Outdated));
    assert_eq!(loaded.table.partition(1).unwrap().name, "a");
}

#[test]
fn every_number_of_the_header_at_its_maximum_is_survived() {
    let fields = [(12, 4), (24, 8), (32, 8), (40, 8), (48, 8), (72, 8), (80, 4), (84, 4)];
    for (offset, length) in fields {
        for fill in [0, 0x7f, 0xff] {
            let mut disk = disk(512);
            disk[512 + offset..512 + offset + length].fill(fill);
            seal(&mut disk, 512, 1);
            // The backup carries the disk, or the primary copy does where the field is about it.
            let loaded = read(&disk, 512).unwrap();
            assert_eq!(loaded.table.partition(1).unwrap().name, "a", "{offset} {fill}");
        }
    }
}

#[test]
fn every_shorter_disk_is_refused_or_read() {
    let disk = disk(512);
    for end in (0..disk.len()).step_by(37) {
        // The last sectors before the backup may go; then it moves.
        if let Ok(loaded) = read(&disk[..end], 512) {
            assert!(end / 512 > 96, "{end}");
            assert_eq!(loaded.table.partition(1).unwrap().name, "a", "{end}");
        }
    }
    assert!(matches!(read(&disk, 511), Err(GptError::SectorSize { bytes: 511 })));
}

#[test]
fn backup_stays_off_partitions_on_a_grown_disk() {
    let mut disk = disk(512);
    disk.extend([0; 512 * 10]);
    let loaded = read(&disk, 512).unwrap();
    assert_eq!(loaded.backup, CopyState::Misplaced);
    assert_eq!(loaded.table.usable(), (4, 106));
    apply(&mut disk, &loaded.table.writes());
    let loaded = read(&disk, 512).unwrap();
    assert_eq!((loaded.primary, loaded.backup), (CopyState::Good, CopyState::Good));
    assert_eq!(disk[446 + 12], 109);
}

#[test]
fn unreadable_sector_is_a_damaged_copy() {
    let disk = disk(512);
    let loaded = load(disk.len() as u64, 512, &mut |offset, length| {
        if offset == 512 {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(disk[offset as usize..offset as usize + length].to_vec())
    });
    assert_eq!(loaded.unwrap().primary, CopyState::Damaged(CopyFault::Unreadable));
    let none = load(disk.len() as u64, 512, &mut |_, _| Err(io::Error::from_raw_os_error(5)));
    assert!(matches!(none, Err(GptError::Io(_))));
}

#[test]
fn entries_are_created_only_where_there_is_room() {
    let mut table = read(&disk(512), 512).unwrap().table;
    let new = |number, first_lba, last_lba| Partition {
        number,
        type_uuid: types::LINUX_GENERIC,
        uuid: Uuid::from_u128(5),
        first_lba,
        last_lba,
        flags: 0,
        name: "x".to_owned(),
    };
    for (number, first, last) in [(2, 3, 20), (2, 14, 13), (2, 13, 20), (2, 14, 97), (1, 3, 13)] {
        let result = table.set(&new(number, first, last));
        assert!(matches!(result, Err(GptError::Range { .. })), "{number} {first} {last}");
    }
    for number in [0, 9, u32::MAX] {
        let result = table.set(&new(number, 14, 20));
        assert!(matches!(result, Err(GptError::NoSuchEntry { .. })), "{number}");
    }
    table.set(&new(8, 14, 96)).unwrap();
    assert_eq!(table.partition(8), Some(new(8, 14, 96)));
    assert_eq!(table.extent(&new(8, 14, 96)), Some(14 * 512..97 * 512));
    assert_eq!(table.extent(&new(8, 14, 13)), None);
    assert_eq!(table.extent(&new(8, 14, u64::MAX)), None);
}

#[test]
fn labels_have_36_units_and_no_nul() {
    let mut table = read(&disk(512), 512).unwrap().table;
    let mut partition = table.partition(1).unwrap();
    partition.name = "😀".repeat(18);
    table.set(&partition).unwrap();
    assert_eq!(table.partition(1).unwrap().name, partition.name);
    for name in ["😀".repeat(19), "a\0".to_owned()] {
        partition.name = name;
        assert!(matches!(table.set(&partition), Err(GptError::Label { .. })));
    }
}
