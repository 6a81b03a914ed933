//! Partition tables against disks that systemd-sysupdate 262.1 wrote; see vectors/gpt/PROVENANCE.
#![cfg(feature = "update")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;
use slipway::format::gpt::{self, CopyFault, CopyState, GptError, Loaded, Step, Table};

const STAGES: [&str; 7] = [
    "0-empty",
    "1-acquired-1",
    "2-installed-1",
    "3-installed-2",
    "4-installed-3",
    "5-failed-4",
    "6-vacuumed",
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gpt").join(name)
}

fn image(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(path(&format!("{name}.img.xz"))).unwrap();
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn load(disk: &[u8], sector_size: u32) -> Result<Loaded, GptError> {
    gpt::load(disk.len() as u64, sector_size, &mut |offset, length| {
        let offset = usize::try_from(offset).unwrap();
        Ok(disk[offset..offset + length].to_vec())
    })
}

fn apply(disk: &mut [u8], table: &Table) {
    for step in table.writes() {
        if let Step::Write { offset, bytes, .. } = step {
            disk[usize::try_from(offset).unwrap()..][..bytes.len()].copy_from_slice(&bytes);
        }
    }
}

/// True if the disks are equal outside of the partitions.
fn is_same(a: &[u8], b: &[u8], table: &Table) -> bool {
    let (first, last) = table.usable();
    let byte = |lba: u64| usize::try_from(lba * u64::from(table.sector_size())).unwrap();
    let (start, end) = (byte(first), byte(last + 1));
    a.len() == b.len() && a[..start] == b[..start] && a[end..] == b[end..]
}

/// Gives the entries of `table` what those of `wanted` say.
fn change(table: &mut Table, wanted: &Table) {
    for partition in wanted.partitions() {
        table.set(&partition).unwrap();
    }
}

#[test]
fn disks_are_read_as_sfdisk_reads_them() {
    for sector_size in [512_u32, 4096] {
        for stage in STAGES {
            let name = format!("s{sector_size}-{stage}");
            let loaded = load(&image(&name), sector_size).unwrap();
            assert_eq!((loaded.primary, loaded.backup), (CopyState::Good, CopyState::Good));
            let json = std::fs::read_to_string(path(&format!("{name}.json"))).unwrap();
            let json: Value = serde_json::from_str(&json).unwrap();
            let json = &json["partitiontable"];
            let same = |text: &Value, uuid: uuid::Uuid| {
                assert_eq!(text.as_str().unwrap().to_lowercase(), uuid.to_string(), "{name}");
            };
            same(&json["id"], loaded.table.disk_guid());
            let rows = json["partitions"].as_array().unwrap();
            let partitions: Vec<_> = loaded.table.partitions().collect();
            assert_eq!(partitions.len(), rows.len());
            for (partition, row) in partitions.iter().zip(rows) {
                same(&row["type"], partition.type_uuid);
                same(&row["uuid"], partition.uuid);
                assert_eq!(row["name"], partition.name, "{name}");
                assert_eq!(row["start"], partition.first_lba, "{name}");
                let sectors = partition.last_lba - partition.first_lba + 1;
                assert_eq!(row["size"], sectors, "{name}");
                assert_eq!(row["attrs"].as_str().unwrap_or_default(), attrs(partition.flags));
            }
        }
    }
}

/// Attributes in the words of sfdisk, as far as the disks use them.
fn attrs(flags: u64) -> &'static str {
    match flags {
        0 => "",
        1 => "RequiredPartition",
        0x8000_0000_0000_0000 => "GUID:63",
        0x8000_0000_0000_0001 => "RequiredPartition GUID:63",
        _ => panic!("{flags:x}"),
    }
}

#[test]
fn each_stage_is_rewritten_into_the_next_byte_for_byte() {
    for sector_size in [512, 4096] {
        for pair in STAGES.windows(2) {
            let mut disk = image(&format!("s{sector_size}-{}", pair[0]));
            let next = image(&format!("s{sector_size}-{}", pair[1]));
            let mut table = load(&disk, sector_size).unwrap().table;
            change(&mut table, &load(&next, sector_size).unwrap().table);
            apply(&mut disk, &table);
            assert!(is_same(&disk, &next, &table), "{sector_size} {pair:?}");
        }
    }
}

#[test]
fn one_good_copy_repairs_the_other_byte_for_byte() {
    use CopyFault::{EntriesChecksum, HeaderChecksum, Signature};
    let whole = image("s512-2-installed-1");
    for (name, primary, backup) in [
        ("backup-entries", CopyState::Good, CopyState::Damaged(EntriesChecksum)),
        ("backup-header-crc", CopyState::Good, CopyState::Damaged(HeaderChecksum)),
        ("primary-entries", CopyState::Damaged(EntriesChecksum), CopyState::Good),
        ("primary-header-crc", CopyState::Damaged(HeaderChecksum), CopyState::Good),
        ("primary-signature", CopyState::Damaged(Signature), CopyState::Good),
    ] {
        let mut disk = image(&format!("c512-{name}"));
        let loaded = load(&disk, 512).unwrap();
        assert_eq!((loaded.primary, loaded.backup), (primary, backup), "{name}");
        apply(&mut disk, &loaded.table);
        assert!(is_same(&disk, &whole, &loaded.table), "{name}");
    }
}

#[test]
fn grown_disk_gets_its_backup_at_the_end_as_by_the_peer() {
    let mut disk = image("c512-grown-disk");
    let updated = image("c512-grown-disk-updated");
    let loaded = load(&disk, 512).unwrap();
    assert_eq!((loaded.primary, loaded.backup), (CopyState::Good, CopyState::Misplaced));
    let mut table = loaded.table;
    change(&mut table, &load(&updated, 512).unwrap().table);
    apply(&mut disk, &table);
    assert!(is_same(&disk, &updated, &table));
}

#[test]
fn disks_without_a_good_copy_or_protection_are_refused() {
    let check = |name: &str, text: &str| {
        let err = load(&image(name), 512).unwrap_err();
        assert_eq!(err.to_string(), text, "{name}");
    };
    check("c512-no-pmbr", "No protective MBR in the first sector");
    check(
        "c512-both-headers",
        "Both GPT copies are damaged (primary: bad header checksum; backup: bad header checksum)",
    );
    check(
        "c512-truncated-disk",
        "Both GPT copies are damaged (primary: usable sectors are not on the disk; backup: no \
         signature)",
    );
    // With the wrong sector size there is no table either.
    assert!(load(&image("s4096-0-empty"), 512).is_err());
}

#[test]
fn backup_is_written_before_the_primary_and_each_part_is_synced() {
    let table = load(&image("s512-0-empty"), 512).unwrap().table;
    let steps: Vec<(&str, u64, usize)> = table
        .writes()
        .iter()
        .map(|step| match step {
            Step::Write { offset, bytes, what } => (*what, offset / 512, bytes.len() / 512),
            Step::Sync => ("sync", 0, 0),
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("backup partition entries", 16351, 32),
            ("sync", 0, 0),
            ("backup GPT header", 16383, 1),
            ("sync", 0, 0),
            ("primary partition entries", 2, 32),
            ("sync", 0, 0),
            ("primary GPT header", 1, 1),
            ("sync", 0, 0),
        ]
    );
}
