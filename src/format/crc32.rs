//! CRC-32 as in Ethernet, zip and GPT: polynomial 0x04c11db7, reflected.
//!
//! Bit by bit: what it runs over here is a few sectors, and a table would be larger than the code.

/// The checksum of some bytes.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let feedback = if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            crc >> 1 ^ feedback
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::crc32(b""), 0);
    }
}
