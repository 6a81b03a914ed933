//! El Torito: the image boots from a CD as well (`--el-torito=`).

use uuid::Uuid;

use super::model::{ElTorito, Plan};
use crate::disk::Disk;
use crate::error::{Context as _, Error, Result};
use crate::format::gpt::types;
use crate::format::iso9660::{self, Volume};

/// LIMIT: of the format, in letters.
pub const SYSTEM_MAX: usize = 32;
/// LIMIT: of the format, in letters.
pub const VOLUME_MAX: usize = 32;
/// LIMIT: of the format, in letters.
pub const PUBLISHER_MAX: usize = 128;

/// True if an identifier of at most `max` letters may be this.
pub fn is_valid(text: &str, max: usize) -> bool {
    text.len() <= max && iso9660::is_text(text)
}

/// What is written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: Vec<u8>,
}

/// Plans the header for the disk of a plan. `entries` is how many entries its table has room for,
/// `created` the time it is marked with, in seconds since the epoch.
///
/// DIFFERS: the peer finds what is refused here when partitions and table are written already.
///
/// # Errors
///
/// No EFI system partition, or one that a CD's sectors do not hit; partitions or a table where the
/// header belongs; identifiers that cannot be.
pub fn plan(plan: &Plan, options: &ElTorito, entries: u32, created: i64) -> Result<Header> {
    let values = [
        ("system", &options.system, SYSTEM_MAX),
        ("volume", &options.volume, VOLUME_MAX),
        ("publisher", &options.publisher, PUBLISHER_MAX),
    ];
    for (name, value, max) in values {
        if let Some(value) = value.as_deref().filter(|value| !is_valid(value, max)) {
            return Err(Error::new(format!("Invalid value '{value}' for --el-torito-{name}=.")));
        }
    }
    let is_esp = |type_uuid: Uuid| types::designator(type_uuid) == types::Designator::Esp;
    let partitions = plan.partitions.iter().filter(|partition| !partition.is_deferred);
    let Some(esp) = partitions.clone().find(|partition| is_esp(partition.type_uuid)) else {
        return Err(Error::new("El Torito boot catalog requires an ESP."));
    };
    // Deferred ones count here: they come where room is made for them.
    let first = plan.partitions.iter().map(|partition| partition.offset).min();
    let end = iso9660::OFFSET + iso9660::LEN;
    if first.is_some_and(|first| first < end) {
        return Err(Error::new("El Torito is overlapping with the first partition block.")
            .hint(format!("Partitions may begin at {end} bytes at the earliest.")));
    }
    let table = 2 * u64::from(plan.disk.sector_size) + u64::from(entries) * 128;
    if table > iso9660::OFFSET {
        return Err(Error::new("El Torito is overlapping with the partition table."));
    }
    let sector = iso9660::SECTOR as u64;
    let boot =
        u32::try_from(esp.offset / sector).ok().filter(|_| esp.offset.is_multiple_of(sector));
    let Some(boot) = boot else {
        return Err(Error::new(format!(
            "El Torito cannot refer to an ESP at {} bytes, only to multiples of {sector} below 8 TiB.",
            esp.offset
        )));
    };
    let text = |value: &'_ Option<String>| value.clone().unwrap_or_default();
    let (system, volume, publisher) =
        (text(&options.system), text(&options.volume), text(&options.publisher));
    let volume = Volume { system: &system, volume: &volume, publisher: &publisher, created, boot };
    Ok(Header { bytes: volume.encode() })
}

impl Header {
    /// Writes it. Nothing is synced.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&self, disk: &dyn Disk) -> Result<()> {
        log::info!("Writing El Torito boot catalog.");
        disk.write_at(iso9660::OFFSET, &self.bytes)
            .context(|| "Failed to write the El Torito boot catalog".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Activity, DiskPlan, Ids, PartitionPlan, Siblings};
    use super::*;

    const ESP: Uuid = Uuid::from_u128(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);

    fn partition(type_uuid: Uuid, offset: u64) -> PartitionPlan {
        PartitionPlan {
            definition: None,
            existing: None,
            number: 1,
            type_uuid,
            uuid: Uuid::nil(),
            label: String::new(),
            flags: 0,
            offset,
            size: 8 << 20,
            padding: 0,
            old_size: 0,
            old_padding: 0,
            activity: Activity::Create,
            sized_by: Default::default(),
            is_deferred: false,
            file_system_sector_size: 512,
            ids: Ids::default(),
            files: Default::default(),
            siblings: Siblings::default(),
            blocks: None,
        }
    }

    fn disk_plan(sector_size: u32, partitions: Vec<PartitionPlan>) -> Plan {
        let disk = DiskPlan {
            path: "disk".into(),
            size: 64 << 20,
            old_size: 64 << 20,
            sector_size,
            grain: 4096,
            usable: 1 << 20..63 << 20,
            guid: Uuid::nil(),
            is_from_scratch: true,
            is_created: true,
            initialises_guid: false,
        };
        Plan { disk, partitions, seed: Uuid::nil() }
    }

    fn refusal(sector_size: u32, partitions: Vec<PartitionPlan>, entries: u32) -> String {
        let options = ElTorito::default();
        plan(&disk_plan(sector_size, partitions), &options, entries, 0).unwrap_err().to_string()
    }

    #[test]
    fn the_catalogue_points_to_the_esp() {
        let partitions = vec![partition(Uuid::nil(), 1 << 20), partition(ESP, 9 << 20)];
        let header = plan(&disk_plan(4096, partitions), &ElTorito::default(), 128, 0).unwrap();
        let boot = header.bytes.get(3 * iso9660::SECTOR + 40..).unwrap().first_chunk().copied();
        assert_eq!(u32::from_le_bytes(boot.unwrap()), (9 << 20) / 2048);
    }

    #[test]
    fn what_is_in_the_way_is_refused() {
        let esp = |offset| vec![partition(ESP, offset)];
        assert_eq!(
            refusal(512, vec![partition(Uuid::nil(), 1 << 20)], 128),
            "El Torito boot catalog requires an ESP."
        );
        let overlapping = "El Torito is overlapping with the first partition block.";
        assert_eq!(refusal(512, esp(iso9660::OFFSET + iso9660::LEN - 512), 128), overlapping);
        let table = "El Torito is overlapping with the partition table.";
        assert_eq!(refusal(512, esp(1 << 20), 256), table);
        assert_eq!(
            refusal(512, esp((1 << 20) + 512), 128).split_once(',').unwrap().0,
            "El Torito cannot refer to an ESP at 1049088 bytes"
        );
    }

    #[test]
    fn identifiers_that_cannot_be_are_refused() {
        let options = ElTorito { publisher: Some("x".repeat(129)), ..ElTorito::default() };
        let plan = plan(&disk_plan(512, vec![partition(ESP, 1 << 20)]), &options, 128, 0);
        assert!(plan.unwrap_err().to_string().ends_with("for --el-torito-publisher=."));
    }
}
