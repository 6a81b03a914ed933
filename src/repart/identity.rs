//! Who a partition is: UUIDs that follow from a seed, labels, attribute bits.
//!
//! The same seed gives the same identities, so that an image can be built twice and a disk that
//! grew in two runs is as one that grew in one.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::model::{Definition, Origin, VerityRole};
use crate::format::bytes;
use crate::format::gpt::{FLAG_GROW_FS, FLAG_NO_AUTO, FLAG_READ_ONLY, types};

/// What a placeholder is called.
const EMPTY_LABEL: &str = "_empty";

/// Identity of the disk.
pub fn disk_guid(seed: Uuid) -> Uuid {
    derive(seed, &[b"disk-uuid"])
}

/// UUID of the partition that is the `earlier`-th of its type, counted from 0.
pub fn partition_uuid(seed: Uuid, type_uuid: Uuid, earlier: u64) -> Uuid {
    let count = earlier.to_le_bytes();
    let count: &[u8] = if earlier == 0 { &[] } else { &count };
    derive(seed, &[type_uuid.as_bytes(), count])
}

/// UUID of the file system in a partition.
pub fn file_system_uuid(partition: Uuid) -> Uuid {
    derive(partition, &[b"file-system-uuid"])
}

/// UUID of the LUKS header in a partition.
pub fn luks_uuid(partition: Uuid) -> Uuid {
    derive(partition, &[b"luks-uuid"])
}

/// UUID of a Verity superblock.
pub fn verity_uuid(seed: Uuid) -> Uuid {
    derive(seed, &[b"verity-uuid"])
}

/// Salt of a hash tree.
pub fn verity_salt(seed: Uuid) -> [u8; 32] {
    mac(seed, &[b"verity-salt"])
}

fn derive(key: Uuid, message: &[&[u8]]) -> Uuid {
    let half = bytes::array(&mac(key, message), 0).unwrap_or_default();
    uuid::Builder::from_random_bytes(half).into_uuid()
}

fn mac(key: Uuid, message: &[&[u8]]) -> [u8; 32] {
    // A key shorter than the block is padded with zeros anyhow.
    let mut block = [0; 64];
    bytes::put(&mut block, 0, key.as_bytes());
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in message {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The label of a partition whose definition says nothing: the name of its type, with a number
/// where an earlier one has that label already.
pub fn label(type_uuid: Uuid, is_taken: &dyn Fn(&str) -> bool) -> String {
    let name = types::name(type_uuid).unwrap_or_else(|| "linux".to_owned());
    let numbered = (2_u32..).map(|count| format!("{name}-{count}"));
    let mut candidates = std::iter::once(name.clone()).chain(numbered);
    candidates.find(|label| !is_taken(label)).unwrap_or(name)
}

/// The label that a definition asks for.
pub fn configured_label(definition: &Definition) -> Option<&str> {
    let placeholder = definition.is_placeholder.then_some(EMPTY_LABEL);
    definition.label.as_deref().or(placeholder)
}

/// Attribute bits of a new partition, and warnings about keys that its type does not know.
///
/// DIFFERS: the peer writes bits through a library's text form, where one of the bits 0 to 47 in
/// `Flags=` loses all of them, and it sets the grow bit where a definition says
/// `GrowFileSystem=no` and on placeholders, which have no file system.
pub fn flags(definition: &Definition) -> (u64, Vec<String>) {
    // A copy is what its original is, whatever its type knows.
    if matches!(definition.origin, Origin::Disk { .. }) {
        return (definition.flags, Vec::new());
    }
    let designator = types::designator(definition.type_uuid);
    let is_read_only_by_role = definition.is_verity(VerityRole::Data)
        || definition.is_verity(VerityRole::Signature)
        || is_verity_type(designator);
    let read_only = definition.read_only.or(is_read_only_by_role.then_some(true));
    let no_auto = definition
        .no_auto
        .or((definition.is_placeholder && designator.knows_no_auto()).then_some(true));
    let grows = designator.knows_grow_fs() && read_only != Some(true) && !definition.is_placeholder;
    let grow = definition.grow_file_system.or(grows.then_some(true));

    let mut flags = definition.flags;
    let mut warnings = Vec::new();
    let keys = [
        ("NoAuto", no_auto, designator.knows_no_auto(), FLAG_NO_AUTO),
        ("ReadOnly", read_only, designator.knows_read_only(), FLAG_READ_ONLY),
        ("GrowFileSystem", grow, designator.knows_grow_fs(), FLAG_GROW_FS),
    ];
    for (key, value, is_known, bit) in keys {
        match value {
            Some(true) if is_known => flags |= bit,
            Some(false) if is_known => flags &= !bit,
            Some(value) => {
                let value = if value { "yes" } else { "no" };
                let name = types::name(definition.type_uuid)
                    .unwrap_or_else(|| definition.type_uuid.to_string());
                warnings.push(format!(
                    "Configured {key}={value} for partition type '{name}' that doesn't support \
                     it, ignoring."
                ));
            }
            None => {}
        }
    }
    (flags, warnings)
}

fn is_verity_type(designator: types::Designator) -> bool {
    matches!(designator, types::Designator::SystemVerity | types::Designator::SystemVeritySig)
}
