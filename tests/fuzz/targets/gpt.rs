//! Partition tables of a disk of 15 sectors. The first byte says what is made right before the
//! table is read, so that mutation gets past the checksums.

use slipway::format::gpt::{self, CopyState, Loaded, Step};

use crate::kind;

const SECTOR: usize = 512;
const SECTORS: usize = 15;
const ENTRIES: usize = 8;
const SEAL_ENTRIES: u8 = 1;
const SEAL_HEADERS: u8 = 2;

pub fn run(bytes: &[u8]) -> u64 {
    let Some((how, disk)) = bytes.split_first() else { return 0 };
    let mut disk = disk.to_vec();
    for lba in [1, (disk.len() / SECTOR).saturating_sub(1)] {
        if how & SEAL_ENTRIES != 0 {
            seal_entries(&mut disk, lba);
        }
        if how & SEAL_HEADERS != 0 {
            seal_header(&mut disk, lba);
        }
    }
    let loaded = match load(&disk) {
        Ok(loaded) => loaded,
        Err(err) => return kind(&format!("{err:?}")),
    };
    check(&disk, &loaded);
    kind(&(loaded.primary, loaded.backup, loaded.table.partitions().count()))
}

fn load(disk: &[u8]) -> Result<Loaded, gpt::GptError> {
    gpt::load(disk.len() as u64, SECTOR as u32, &mut |offset, length| {
        let offset = offset as usize;
        Ok(disk[offset..offset + length].to_vec())
    })
}

fn check(disk: &[u8], loaded: &Loaded) {
    let table = &loaded.table;
    let partitions: Vec<_> = table.partitions().collect();
    let mut same = table.clone();
    for partition in &partitions {
        same.set(partition).expect("it said so itself");
    }
    assert_eq!(&same, table);

    let written = apply(disk, table);
    let again = load(&written).expect("what was written can be read");
    assert_eq!((again.primary, again.backup), (CopyState::Good, CopyState::Good));
    assert!(again.table.partitions().eq(partitions.iter().cloned()));
    assert_eq!(again.table.disk_guid(), table.disk_guid());
    assert_eq!(apply(&written, &again.table), written);

    if let Some(first) = partitions.first() {
        let mut changed = table.clone();
        let mut partition = first.clone();
        partition.name = "renamed".to_owned();
        changed.set(&partition).expect("a good label");
        let again = load(&apply(disk, &changed)).expect("readable").table;
        assert_eq!(again.partition(first.number), Some(partition));
        assert!(again.partitions().skip(1).eq(partitions.iter().skip(1).cloned()));
    }
}

/// Writes, but never into a partition.
fn apply(disk: &[u8], table: &gpt::Table) -> Vec<u8> {
    let mut disk = disk.to_vec();
    for step in table.writes() {
        let Step::Write { offset, bytes, .. } = step else { continue };
        let end = offset + bytes.len() as u64;
        for extent in table.partitions().filter_map(|p| table.extent(&p)) {
            assert!(end <= extent.start || extent.end <= offset);
        }
        disk[offset as usize..end as usize].copy_from_slice(&bytes);
    }
    disk
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut disk = vec![0; SECTOR * SECTORS];
    disk[446 + 4] = 0xee;
    disk[446 + 12] = SECTORS as u8 - 1;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (lba, alternate, entries) in [(1, SECTORS - 1, 2), (SECTORS - 1, 1, SECTORS - 3)] {
        let header = &mut disk[lba * SECTOR..(lba + 1) * SECTOR];
        header[..13].copy_from_slice(b"EFI PART\0\0\x01\0\x5c");
        header[24] = lba as u8;
        header[32] = alternate as u8;
        header[40] = 4;
        header[48] = SECTORS as u8 - 4;
        header[72] = entries as u8;
        header[80] = ENTRIES as u8;
        header[84] = 128;
        for number in 0..2 {
            let entry = &mut disk[entries * SECTOR + number * 128..][..128];
            entry[..32].fill(number as u8 + 1);
            entry[32] = 4 + 3 * number as u8;
            entry[40] = 5 + 3 * number as u8;
            entry[56] = b'a';
        }
        seal_entries(&mut disk, lba);
        seal_header(&mut disk, lba);
    }
    (0..4).map(|how| [&[how], disk.as_slice()].concat()).collect()
}

fn number(disk: &[u8], offset: usize) -> usize {
    let bytes = disk.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes) as usize
}

fn seal_entries(disk: &mut [u8], lba: usize) {
    let header = lba * SECTOR;
    let start = number(disk, header + 72).saturating_mul(SECTOR);
    let bytes = number(disk, header + 80).saturating_mul(number(disk, header + 84));
    let crc = disk.get(start..start.saturating_add(bytes)).map(crc32);
    if let (Some(crc), Some(field)) = (crc, disk.get_mut(header + 88..header + 92)) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

fn seal_header(disk: &mut [u8], lba: usize) {
    let header = lba * SECTOR;
    let bytes = number(disk, header + 12);
    if let Some(field) = disk.get_mut(header + 16..header + 20) {
        field.fill(0);
    }
    let crc = disk.get(header..header.saturating_add(bytes)).map(crc32);
    if let (Some(crc), Some(field)) = (crc, disk.get_mut(header + 16..header + 20)) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| crc >> 1 ^ (0xedb8_8320 * (crc & 1)))
    })
}
