//! The firmware's tables (SMBIOS): the strings that tell whose machine this is.
//!
//! Why: a kernel without `CONFIG_DMIID` shows the raw tables but neither the strings nor the
//! modalias made of them. This does what the kernel does, to the letter, so that the same patterns
//! match. Every length is checked; a table that ends too early is read up to there.
//!
//! External spec: DMTF DSP0134 (SMBIOS 3.x); drivers/firmware/dmi_scan.c and dmi-id.c of Linux.

/// LIMIT: structures of one table.
const STRUCTURES_MAX: usize = 4096;

/// LIMIT: bytes of one string.
const STRING_MAX: usize = 1024;

const HEADER: usize = 4;
const END_OF_TABLE: u8 = 127;

/// The strings, as the kernel keeps them: without a record or a field in it there is none, and an
/// empty one is something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// Firmware: vendor, version, date, release, release of the embedded controller.
    pub bios: [Option<String>; 5],
    /// Product: vendor, name, version.
    pub product: [Option<String>; 3],
    /// Board: vendor, name, version.
    pub board: [Option<String>; 3],
    /// Chassis: vendor, type, version.
    pub chassis: [Option<String>; 3],
    /// Product: stock keeping unit and family.
    pub product_more: [Option<String>; 2],
    /// Serial number of the product.
    pub product_serial: Option<String>,
    /// UUID of the product, lower case.
    pub product_uuid: Option<String>,
    /// Asset tag of the chassis.
    pub chassis_asset_tag: Option<String>,
}

impl Strings {
    /// What `modalias` of the device says. Blanks, control characters, colons and what is not
    /// ASCII are left out of each string; what has no record is left out as a whole.
    pub fn modalias(&self) -> String {
        let names = [
            (&["bvn", "bvr", "bd", "br", "efr"][..], &self.bios[..]),
            (&["svn", "pn", "pvr"], &self.product),
            (&["rvn", "rn", "rvr"], &self.board),
            (&["cvn", "ct", "cvr"], &self.chassis),
            (&["sku", "pfa"], &self.product_more),
        ];
        let mut text = "dmi".to_owned();
        for (names, values) in names {
            for (name, value) in names.iter().zip(values) {
                if let Some(value) = value {
                    text.push(':');
                    text.push_str(name);
                    text.extend(value.chars().filter(|c| c.is_ascii_graphic() && *c != ':'));
                }
            }
        }
        text.push(':');
        text
    }
}

/// The version in an entry point, `0x020800` for 2.8; nothing where it is none of ours.
pub fn version(entry_point: &[u8]) -> Option<u32> {
    let byte = |offset: usize| entry_point.get(offset).map(|byte| u32::from(*byte));
    if entry_point.starts_with(b"_SM3_") {
        return Some(byte(7)? << 16 | byte(8)? << 8 | byte(9)?);
    }
    if !entry_point.starts_with(b"_SM_") {
        return None;
    }
    // Firmware that says it wrong.
    let (major, minor) = match (byte(6)?, byte(7)?) {
        (2, 0x1f | 0x21) => (2, 3),
        (2, 0x33) => (2, 6),
        other => other,
    };
    Some(major << 16 | minor << 8)
}

/// Reads the table. The version decides how UUIDs are written.
pub fn parse(table: &[u8], version: u32) -> Strings {
    let mut strings = Strings::default();
    let mut rest = table;
    for _ in 0..STRUCTURES_MAX {
        let Some(structure) = Structure::first(&mut rest) else { break };
        structure.read(version, &mut strings);
    }
    strings
}

struct Structure<'a> {
    kind: u8,
    /// From the header on.
    formatted: &'a [u8],
    /// Strings, each with a NUL at its end.
    strings: &'a [u8],
}

impl<'a> Structure<'a> {
    /// Takes the first structure off; `None` at the end of the table and where that is cut.
    fn first(rest: &mut &'a [u8]) -> Option<Self> {
        let (kind, length) = (*rest.first()?, usize::from(*rest.get(1)?));
        if kind == END_OF_TABLE || length < HEADER {
            return None;
        }
        let (formatted, tail) = rest.split_at_checked(length)?;
        let end = tail.windows(2).position(|pair| pair == [0, 0])?;
        let (strings, tail) = tail.split_at_checked(end + 1)?;
        *rest = tail.get(1..).unwrap_or_default();
        Some(Self { kind, formatted, strings })
    }

    fn read(&self, version: u32, to: &mut Strings) {
        // The first structure with a field has it.
        let keep = |slot: &mut Option<String>, value: Option<String>| {
            if slot.is_none() {
                *slot = value;
            }
        };
        let keep_all = |slots: &mut [Option<String>], values: &[Option<String>]| {
            for (slot, value) in slots.iter_mut().zip(values) {
                keep(slot, value.clone());
            }
        };
        let text = |offset| self.text(offset);
        match self.kind {
            0 => {
                let releases = [self.release(0x14), self.release(0x16)];
                let [release, controller] = releases;
                keep_all(&mut to.bios, &[text(4), text(5), text(8), release, controller]);
            }
            1 => {
                keep_all(&mut to.product, &[text(4), text(5), text(6)]);
                keep_all(&mut to.product_more, &[text(0x19), text(0x1a)]);
                keep(&mut to.product_serial, text(7));
                keep(&mut to.product_uuid, self.uuid(version));
            }
            2 => keep_all(&mut to.board, &[text(4), text(5), text(6)]),
            3 => {
                let kind = self.formatted.get(5).map(|kind| (kind & 0x7f).to_string());
                keep_all(&mut to.chassis, &[text(4), kind, text(6)]);
                keep(&mut to.chassis_asset_tag, text(8));
            }
            _ => {}
        }
    }

    /// The string whose number is at an offset; empty where there is none of that number or it is
    /// all blanks, `None` where the structure ends before.
    fn text(&self, offset: usize) -> Option<String> {
        let number = usize::from(*self.formatted.get(offset)?);
        let bytes = match number.checked_sub(1) {
            None => &[][..],
            Some(index) => {
                // An empty string ends the list.
                let mut strings = self.strings.split(|byte| *byte == 0);
                let is_reached = strings.by_ref().take(index).all(|text| !text.is_empty());
                is_reached.then(|| strings.next()).flatten().unwrap_or_default()
            }
        };
        let bytes = bytes.get(..STRING_MAX).unwrap_or(bytes);
        if bytes.iter().all(|byte| *byte == b' ') {
            return Some(String::new());
        }
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Major and minor number at an offset; 0xff is for "not supported".
    fn release(&self, offset: usize) -> Option<String> {
        match (self.formatted.get(offset)?, self.formatted.get(offset + 1)?) {
            (0xff, _) | (_, 0xff) => None,
            (major, minor) => Some(format!("{major}.{minor}")),
        }
    }

    /// The first three fields are little endian since 2.6.
    fn uuid(&self, version: u32) -> Option<String> {
        let bytes: [u8; 16] = *self.formatted.get(8..)?.first_chunk()?;
        if bytes == [0; 16] || bytes == [0xff; 16] {
            return None;
        }
        let uuid = match version >= 0x0002_0600 {
            true => uuid::Uuid::from_bytes_le(bytes),
            false => uuid::Uuid::from_bytes(bytes),
        };
        Some(uuid.hyphenated().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::smbios;
    use base64::Engine as _;
    use serde_json::Value;

    fn vectors() -> Vec<Value> {
        serde_json::from_str(include_str!("../../tests/vectors/smbios/qemu.json")).unwrap()
    }

    fn bytes(row: &Value, name: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(row[name].as_str().unwrap()).unwrap()
    }

    #[test]
    fn tables_say_what_the_kernel_says() {
        for row in vectors() {
            let version = smbios::version(&bytes(&row, "entry_point")).unwrap();
            assert!(version == 0x0002_0800 || version == 0x0003_0000, "{version:x}");
            let strings = parse(&bytes(&row, "table"), version);
            assert_eq!(strings.modalias(), row["modalias"].as_str().unwrap());
            for (name, own) in [
                ("chassis_asset_tag", &strings.chassis_asset_tag),
                ("product_serial", &strings.product_serial),
                ("product_uuid", &strings.product_uuid),
            ] {
                assert_eq!(own.as_deref(), row[name].as_str(), "{name}");
            }
        }
    }

    #[test]
    fn what_is_cut_is_read_up_to_there() {
        let table = bytes(&vectors()[0], "table");
        for end in 0..table.len() {
            let strings = parse(&table[..end], 0x0002_0800);
            let full = parse(&table, 0x0002_0800);
            assert!(strings == full || strings.modalias().len() < full.modalias().len());
        }
        assert_eq!(parse(b"", 0).modalias(), "dmi:");
    }

    #[test]
    fn lengths_at_their_maximum_do_no_harm() {
        let table = bytes(&vectors()[0], "table");
        for at in 0..table.len() {
            for byte in [0, 1, 3, 127, 255] {
                let mut table = table.clone();
                table[at] = byte;
                let _ = parse(&table, 0x0003_0000).modalias();
            }
        }
    }

    #[test]
    fn strings_that_are_missing_empty_or_blank() {
        // Type 3: vendor is string 1, version string 9 (there is none), tag string 2 (blanks).
        let table = b"\x03\x09\x00\x00\x01\x81\x09\x00\x02Acme: \xe9Box\0  \0\0";
        let strings = parse(table, 0x0002_0800);
        assert_eq!(strings.modalias(), "dmi:cvnAcmeBox:ct1:cvr:");
        assert_eq!(strings.chassis_asset_tag.as_deref(), Some(""));
        assert_eq!(strings.product_serial, None);
        // The first record counts; what is behind the end of the table does not.
        let twice = [&table[..], b"\x03\x05\x00\x00\x01B\0\0", b"\x7f\x04\0\0\0\0"].concat();
        assert_eq!(parse(&twice, 0x0002_0800), strings);
    }

    #[test]
    fn uuids_changed_their_byte_order_and_versions_are_mended() {
        let mut table = vec![1, 24, 0, 0, 0, 0, 0, 0];
        table.extend([0x45, 0xe1, 0x2a, 0xec, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]);
        let uuid = |version| parse(&table, version).product_uuid.unwrap();
        assert_eq!(uuid(0x0002_0600), "ec2ae145-0201-0403-0506-0708090a0b0c");
        assert_eq!(uuid(0x0002_0500), "45e12aec-0102-0304-0506-0708090a0b0c");
        assert_eq!(version(b"_SM_\0\0\x02\x1f"), Some(0x0002_0300));
        assert_eq!(version(b"_SM_\0\0\x02"), None);
        assert_eq!(version(b"_SM3_\0\0\x03\x02\x01"), Some(0x0003_0201));
        assert_eq!(version(b""), None);
    }
}
