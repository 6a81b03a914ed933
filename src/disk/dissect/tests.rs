//! Choosing partitions, file systems and policies; needs no privileges.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::disk::{Access, FileDisk};

/// The disk of the vectors with other types, labels and flags; what is not named is unused.
fn disk(parts: &[(&str, &str, u64)]) -> (tempfile::NamedTempFile, Table) {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gpt");
    let packed = std::fs::File::open(vectors.join("s512-0-empty.img.xz")).unwrap();
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&bytes, 0).unwrap();
    let disk = FileDisk::open(file.path(), Access::Write).unwrap();
    let table = table::change(&disk, file.path(), &mut |table| {
        let all: Vec<Partition> = table.partitions().collect();
        for (index, mut partition) in all.into_iter().enumerate() {
            let (kind, label, flags) = parts.get(index).copied().unwrap_or(("swap", "", 0));
            partition.type_uuid = types::parse(kind).unwrap();
            partition.name = label.to_owned();
            partition.flags = flags;
            table.set(&partition).unwrap();
        }
        Ok(())
    })
    .unwrap();
    (file, table)
}

/// Number and writability of what was chosen for a role.
fn chosen(parts: &[(&str, &str, u64)], role: Role) -> Option<(u32, bool)> {
    let (_file, table) = disk(parts);
    let one = select(&table).into_iter().find(|one| one.role == role).unwrap();
    one.partition.map(|partition| (partition.number, one.is_writable))
}

#[test]
fn newest_root_wins_and_free_slots_and_no_auto_do_not_count() {
    let parts = [("root", "os_9", 0), ("root", "os_10", 0), ("root", "_empty", 0), ("usr", "a", 0)];
    assert_eq!(chosen(&parts, Role::Root), Some((2, true)));
    assert_eq!(chosen(&parts, Role::Usr), Some((4, true)));
    let parts = [("root", "os_9", FLAG_READ_ONLY), ("root", "os_10", FLAG_NO_AUTO)];
    assert_eq!(chosen(&parts, Role::Root), Some((1, false)));
    assert_eq!(chosen(&parts, Role::Home), None);
    assert_eq!(chosen(&[("root-alpha", "os_9", 0)], Role::Root), None);
}

#[test]
fn verity_makes_read_only_and_an_esp_has_a_flag_of_its_own() {
    let parts = [("root", "a", 0), ("root-verity", "b", 0), ("esp", "", FLAG_NO_AUTO)];
    assert_eq!(chosen(&parts, Role::Root), Some((1, false)));
    assert_eq!(chosen(&parts, Role::Esp), Some((3, true)));
    assert_eq!(chosen(&[("esp", "", FLAG_NO_BLOCK_IO)], Role::Esp), None);
}

#[test]
fn generic_partition_is_the_root_only_where_it_is_the_only_one() {
    let generic = ("linux-generic", "x", 0);
    assert_eq!(chosen(&[generic], Role::Root), Some((1, true)));
    assert_eq!(chosen(&[generic, generic], Role::Root), None);
    assert_eq!(chosen(&[generic, ("usr", "u", 0)], Role::Root), None);
}

/// The roles of what would be mounted of a disk with ext4 magic in partitions 1 and 2.
fn roles(parts: &[(&str, &str, u64)], policy: &str) -> Result<Vec<Role>> {
    let (file, table) = disk(parts);
    for number in [1, 2] {
        let extent = table.extent(&table.partition(number).unwrap()).unwrap();
        file.as_file().write_all_at(&[0x53, 0xef], extent.start + 0x438).unwrap();
    }
    let disk = FileDisk::open(file.path(), Access::Read).unwrap();
    let parts = dissect(&disk, file.path(), &Policy::parse(policy)?)?;
    Ok(parts.into_iter().map(|part| part.role).collect())
}

#[test]
fn policies_say_what_is_used_and_what_has_to_be_there() {
    let parts = [("root", "os_1", 0), ("home", "h", 0)];
    let both = [Role::Root, Role::Home];
    assert_eq!(roles(&parts, "*").unwrap(), both);
    assert_eq!(roles(&parts, "root=").unwrap(), [Role::Root]);
    assert_eq!(roles(&parts, "root=unprotected:home=open").unwrap(), both);
    assert_eq!(roles(&parts, "home=unused+absent:=open").unwrap(), [Role::Root]);
    for (policy, hint) in [
        ("root=verity", "The 'root' partition has to be protected, which is not set up here"),
        ("home=absent:=open", "The 'home' partition must not be there"),
        ("srv=unprotected:=open", "There has to be a 'srv' partition"),
        ("root=read-only-on:=open", "The 'root' partition has the wrong read-only flag"),
        ("~", "The 'root' partition must not be there"),
    ] {
        let err = roles(&parts, policy).unwrap_err();
        assert!(err.to_string().ends_with(": Image does not match image policy."), "{policy}");
        assert_eq!(err.hints(), [hint]);
    }
    let err = roles(&parts, "-").unwrap_err();
    assert!(err.to_string().ends_with(": No root partition discovered."), "{err}");
    for (policy, why) in [
        ("foo", "Failed to parse image policy"),
        ("foo=open", "Unknown partition type in image policy"),
        ("root=open:root=open", "Failed to parse image policy"),
        ("root=x", "Unknown partition policy flag in image policy"),
        ("root=ext4", "Failed to parse image policy"),
        (":", "Failed to parse image policy"),
    ] {
        let err = Policy::parse(policy).unwrap_err();
        assert_eq!(err.to_string(), format!("{why}: {policy}"));
    }
}

#[test]
fn image_without_table_is_a_root_if_it_is_a_file_system() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let all = |policy: &str| {
        let disk = FileDisk::open(file.path(), Access::Read).unwrap();
        dissect(&disk, file.path(), &Policy::parse(policy).unwrap())
    };
    for size in [0, 1, 3, 1024, 0x43a, 1 << 20] {
        file.as_file().set_len(size).unwrap();
        let err = all("*").unwrap_err().to_string();
        assert!(err.ends_with("suitable partition table or file system."), "{size}: {err}");
    }
    file.as_file().write_all_at(b"hsqs", 0).unwrap();
    let parts = all("*").unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!((parts[0].role, parts[0].offset, parts[0].size), (Role::Root, 0, 1 << 20));
    assert_eq!(parts[0].file_system, FileSystem::Squashfs);
    assert!(all("root=verity").unwrap_err().to_string().ends_with("match image policy."));
}

#[test]
fn root_that_is_no_known_file_system_is_named() {
    let parts = [("swap", "", 0), ("swap", "", 0), ("root", "os_1", 0)];
    let err = roles(&parts, "*").unwrap_err().to_string();
    assert!(err.ends_with("Partition 3 (root) has no file system that is known here."), "{err}");
}
