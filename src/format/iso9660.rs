//! The least of an ISO 9660 file system that lets firmware boot a disk image as if it were a CD:
//! descriptors, an El Torito boot catalogue that points into the image, and an empty directory.
//!
//! Documents: ECMA-119; "El Torito" Bootable CD-ROM Format Specification 1.0; UEFI 2.10, 13.3.2.

use time::OffsetDateTime;

use crate::format::bytes::put;

/// Bytes of a sector of a CD.
pub const SECTOR: usize = 2048;
/// Where [`Volume::encode`]'s bytes belong on the disk, in bytes.
pub const OFFSET: u64 = 16 * SECTOR as u64;
/// How many there are.
pub const LEN: u64 = 5 * SECTOR as u64;

/// Sector of the catalogue; descriptors are in 16, 17 and 18.
const CATALOGUE: u32 = 19;
/// Sector of the root directory.
const ROOT: u32 = 20;
/// Sectors of the volume.
const SECTORS: u32 = 21;
/// Size of a directory record of a name of one byte.
const RECORD: usize = 34;

/// What is said about the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume<'a> {
    /// System that it is for; at most 32 letters of [`is_text`].
    pub system: &'a str,
    /// Its name; at most 32 letters.
    pub volume: &'a str,
    /// Who made it; at most 128 letters.
    pub publisher: &'a str,
    /// When, in seconds since the epoch.
    pub created: i64,
    /// Where the EFI system partition begins, in sectors of [`SECTOR`] bytes.
    pub boot: u32,
}

/// True for what identifiers may be made of: the characters of the standard, and lower case as the
/// peer allows.
pub fn is_text(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b" !\"%&'()*+,-./:;<=>?_".contains(&byte))
}

impl Volume<'_> {
    /// Descriptors, catalogue and directory: [`LEN`] bytes for [`OFFSET`].
    pub fn encode(&self) -> Vec<u8> {
        let time =
            OffsetDateTime::from_unix_timestamp(self.created).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        [self.primary(time), boot_record(), terminator(), self.catalogue(), directory(time)]
            .concat()
    }

    fn primary(&self, time: OffsetDateTime) -> Vec<u8> {
        let mut sector = descriptor(1);
        let mut set = |offset: usize, value: &[u8]| put(&mut sector, offset, value);
        set(8, &text::<32>(self.system));
        set(40, &text::<32>(self.volume));
        set(80, &both32(SECTORS));
        // One volume of a set of one.
        set(120, &both16(1));
        set(124, &both16(1));
        set(128, &both16(SECTOR as u16));
        set(156, &record(0, time));
        set(190, &text::<128>(""));
        set(318, &text::<128>(self.publisher));
        set(446, &text::<128>(""));
        set(574, &text::<128>("SYSTEMD-REPART"));
        set(702, &text::<111>(""));
        // Made and changed; it never expires and counts at once.
        set(813, &long_time(time));
        set(830, &long_time(time));
        set(847, b"0000000000000000\0");
        set(864, b"0000000000000000\0");
        // Version of the directory's format.
        set(881, &[1]);
        sector
    }

    fn catalogue(&self) -> Vec<u8> {
        let mut sector = vec![0; SECTOR];
        let mut set = |offset: usize, value: &[u8]| put(&mut sector, offset, value);
        // Validation: EFI, and a sum of zero over its words.
        set(0, &[1, 0xef]);
        set(28, &[0xaa, 0x66, 0x55, 0xaa]);
        // Boots, no emulation; a length of zero stands for all there is.
        set(32, &[0x88]);
        set(40, &self.boot.to_le_bytes());
        // Nothing else follows.
        set(64, &[0x91]);
        sector
    }
}

/// A volume descriptor with nothing in it.
fn descriptor(kind: u8) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    put(&mut sector, 0, &[kind]);
    put(&mut sector, 1, b"CD001\x01");
    sector
}

fn boot_record() -> Vec<u8> {
    let mut sector = descriptor(0);
    put(&mut sector, 7, b"EL TORITO SPECIFICATION");
    put(&mut sector, 71, &CATALOGUE.to_le_bytes());
    sector
}

fn terminator() -> Vec<u8> {
    descriptor(0xff)
}

/// An empty directory: itself and the one above it, which it is, too.
fn directory(time: OffsetDateTime) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    put(&mut sector, 0, &record(0, time));
    put(&mut sector, RECORD, &record(1, time));
    sector
}

/// A record of the root directory, under the name 0 (itself) or 1 (the one above).
fn record(name: u8, time: OffsetDateTime) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let mut set = |offset: usize, value: &[u8]| put(&mut record, offset, value);
    set(0, &[RECORD as u8]);
    set(2, &both32(ROOT));
    set(10, &both32(2 * RECORD as u32));
    let years = u8::try_from(time.year() - 1900).unwrap_or_default();
    set(18, &[years, time.month().into(), time.day(), time.hour(), time.minute(), time.second()]);
    // A directory.
    set(25, &[2]);
    set(28, &both16(1));
    set(32, &[1, name]);
    record
}

/// Sixteen digits and the distance from UTC, which is none.
fn long_time(time: OffsetDateTime) -> [u8; 17] {
    let mut bytes = [0; 17];
    let digits = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}00",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    put(&mut bytes, 0, digits.get(..16).unwrap_or("0000000000000000").as_bytes());
    bytes
}

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut padded = [b' '; N];
    for (slot, byte) in padded.iter_mut().zip(text.bytes()) {
        *slot = byte;
    }
    padded
}

fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn both32(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a dump by `xxd`, where a star repeats the line before it.
    fn dump(text: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut start = None;
        for line in text.lines() {
            let Some((address, rest)) = line.split_once(": ") else { continue };
            let address = usize::from_str_radix(address, 16).unwrap();
            let base = *start.get_or_insert(address);
            bytes.resize(address - base, 0);
            let digits: String = rest.get(..39).unwrap().split(' ').collect();
            let pairs = digits.as_bytes().chunks(2);
            bytes.extend(
                pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()),
            );
        }
        bytes
    }

    #[test]
    fn the_peers_dump_reproduces() {
        let theirs = dump(include_str!("../../tests/vectors/repart/38-el-torito/iso.xxd"));
        let volume = Volume {
            system: "SYS",
            volume: "VOL",
            publisher: "PUB",
            // 2026-11-23 16:58:02 UTC
            created: 1_795_453_082,
            boot: 512,
        };
        let ours = volume.encode();
        assert_eq!(ours.len() as u64, LEN);
        // The dump ends before the root directory.
        assert_eq!(theirs.len(), 4 * SECTOR);
        let other = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        assert_eq!(other, None);
    }

    #[test]
    fn the_root_directory_is_the_peers() {
        // Read off an image of the peer with SOURCE_DATE_EPOCH=1700000001.
        let theirs = "220014000000000000144400000000000044\
            7b0b0e160d150002000001000001010022001400000000000014440000000000\
            00447b0b0e160d150002000001000001010100000000";
        let volume =
            Volume { system: "", volume: "", publisher: "", created: 1_700_000_001, boot: 512 };
        let bytes = volume.encode();
        let hex: String =
            bytes.iter().skip(4 * SECTOR).take(72).map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, theirs);
    }

    #[test]
    fn identifiers_are_of_the_standards_letters_and_lower_case() {
        for text in ["", "UPPER_ lower 0-9", "!\"%&'()*+,-./:;<=>?_"] {
            assert!(is_text(text), "{text}");
        }
        for text in ["#", "@", "$", "~", "[", "^", "`", "ä", "a\n"] {
            assert!(!is_text(text), "{text}");
        }
    }
}
