//! CRC-32 as in Ethernet, zip and GPT: polynomial 0x04c11db7, reflected.
//!
//! By a table of sixteen entries: small, and fast enough for entry arrays also in debug builds,
//! where a test reads and writes thousands of them.

/// The remainders of all half bytes.
#[allow(clippy::indexing_slicing, reason = "at compile time, and bounded by the loop")]
const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ crc >> 1 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// The checksum of some bytes.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        crc = crc >> 4 ^ half(crc);
        crc = crc >> 4 ^ half(crc);
    }
    !crc
}

fn half(crc: u32) -> u32 {
    TABLE.get((crc & 15) as usize).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::crc32(b""), 0);
    }
}
