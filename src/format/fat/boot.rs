//! The boot sector and the sector of counts behind it.

use super::geometry::{Geometry, TABLES};
use super::{FIRST_CLUSTER, Identity};
use crate::format::bytes::put;

/// Where the copy of both sectors begins.
pub(super) const BACKUP: u16 = 6;
/// Signature of sectors one can boot from, at 510.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const SIGNATURE_OFFSET: usize = 510;

/// What runs where a BIOS boots from it: prints a message, waits for a key, and boots on. At 0x5a.
#[rustfmt::skip]
const CODE: [u8; 29] = [
    0x0e,                   // push cs
    0x1f,                   // pop ds
    0xbe, 0x77, 0x7c,       // mov si, message
    0xac,                   // lodsb
    0x22, 0xc0,             // and al, al
    0x74, 0x0b,             // jz the wait
    0x56,                   // push si
    0xb4, 0x0e,             // mov ah, 0x0e: print
    0xbb, 0x07, 0x00,       // mov bx, 7
    0xcd, 0x10,             // int 0x10
    0x5e,                   // pop si
    0xeb, 0xf0,             // back to lodsb
    0x32, 0xe4,             // xor ah, ah: wait for a key
    0xcd, 0x16,             // int 0x16
    0xcd, 0x19,             // int 0x19: boot
    0xeb, 0xfe,             // stay
];

const MESSAGE: &[u8] = b"This is not a bootable disk.  Please insert a bootable floppy and\r\n\
press any key to try again ... \r\n";

/// The boot sector, `sector_size` bytes.
pub(super) fn sector(geometry: &Geometry, identity: &Identity) -> Vec<u8> {
    let mut sector = vec![0; geometry.sector_size as usize];
    let mut set = |offset: usize, value: &[u8]| put(&mut sector, offset, value);
    // A jump over the parameters, and who made it.
    set(0, &[0xeb, 0x58, 0x90]);
    set(3, b"mkfs.fat");
    set(11, &u16::try_from(geometry.sector_size).unwrap_or_default().to_le_bytes());
    set(13, &[u8::try_from(geometry.cluster).unwrap_or_default()]);
    set(14, &u16::try_from(geometry.reserved).unwrap_or_default().to_le_bytes());
    set(16, &[TABLES as u8]);
    match u16::try_from(geometry.sectors) {
        Ok(sectors) => set(19, &sectors.to_le_bytes()),
        Err(_) => set(32, &geometry.sectors.to_le_bytes()),
    }
    // Media: a fixed disk.
    set(21, &[0xf8]);
    set(24, &geometry.track.to_le_bytes());
    set(26, &geometry.heads.to_le_bytes());
    set(36, &geometry.table.to_le_bytes());
    set(44, &FIRST_CLUSTER.to_le_bytes());
    // The sector of counts, the copy.
    set(48, &1_u16.to_le_bytes());
    set(50, &BACKUP.to_le_bytes());
    // First hard disk, and what follows is there.
    set(64, &[0x80, 0, 0x29]);
    set(67, &identity.volume_id.to_le_bytes());
    set(71, &identity.label.unwrap_or(*b"NO NAME    "));
    set(82, b"FAT32   ");
    set(90, &CODE);
    set(90 + CODE.len(), MESSAGE);
    set(SIGNATURE_OFFSET, &SIGNATURE);
    sector
}

/// The sector of counts, `sector_size` bytes: free clusters, and where the search for one begins.
pub(super) fn counts(geometry: &Geometry, free: u32, last_used: u32) -> Vec<u8> {
    let mut sector = vec![0; geometry.sector_size as usize];
    let mut set = |offset: usize, value: &[u8]| put(&mut sector, offset, value);
    set(0, b"RRaA");
    set(484, b"rrAa");
    set(488, &free.to_le_bytes());
    set(492, &last_used.to_le_bytes());
    set(SIGNATURE_OFFSET, &SIGNATURE);
    sector
}
