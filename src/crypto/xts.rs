//! AES-256-XTS with the sector number as the tweak (`aes-xts-plain64`), and a disk of it.
//!
//! Blocks of a sector are independent once their tweaks are known, so that a sector goes through
//! the cipher in one call; with AES instructions that keeps them busy.
//!
//! Document: IEEE 1619-2018; the tweak of dm-crypt counts 512-byte sectors, whatever their size.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use aes::Aes256;
use aes::cipher::{Block, BlockDecrypt, BlockEncrypt, KeyInit};
use rustix::io::Errno;

use super::secret::{Secret, wipe};
use crate::disk::{Disk, Lock};

/// Bytes that are encrypted at a time.
const CHUNK_LEN: usize = 1 << 20;
/// Length of a cipher block, in bytes.
const BLOCK: usize = 16;
/// Largest sector, in blocks.
const BLOCKS_MAX: usize = 4096 / BLOCK;

/// The cipher with its two keys.
pub struct Xts {
    data: Aes256,
    tweak: Aes256,
}

impl Xts {
    /// The cipher for a key of 64 bytes: that of the data, then that of the tweak.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another length.
    pub fn new(key: &[u8]) -> io::Result<Self> {
        let halves = key.split_at_checked(32).ok_or(Errno::INVAL)?;
        let cipher = |half: &[u8]| Aes256::new_from_slice(half).map_err(|_| Errno::INVAL);
        Ok(Self { data: cipher(halves.0)?, tweak: cipher(halves.1)? })
    }

    /// Encrypts whole sectors in place, the first of which has this number in units of 512 bytes.
    pub fn encrypt(&self, bytes: &mut [u8], sector_size: usize, first: u64) {
        self.run(bytes, sector_size, first, |blocks| self.data.encrypt_blocks(blocks));
    }

    /// Decrypts what [`Xts::encrypt`] has made.
    pub fn decrypt(&self, bytes: &mut [u8], sector_size: usize, first: u64) {
        self.run(bytes, sector_size, first, |blocks| self.data.decrypt_blocks(blocks));
    }

    fn run(
        &self,
        bytes: &mut [u8],
        sector_size: usize,
        first: u64,
        cipher: impl Fn(&mut [Block<Aes256>]),
    ) {
        let step = (sector_size / 512) as u64;
        let mut work = [Block::<Aes256>::default(); BLOCKS_MAX];
        let mut tweaks = [[0; BLOCK]; BLOCKS_MAX];
        for (sector, number) in bytes.chunks_exact_mut(sector_size).zip(0_u64..) {
            let mut start = Block::<Aes256>::default();
            let number = first.wrapping_add(number * step);
            start.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
            self.tweak.encrypt_block(&mut start);
            let mut tweak = u128::from_le_bytes(start.into());

            let (blocks, _) = sector.as_chunks_mut::<BLOCK>();
            for ((block, work), kept) in blocks.iter().zip(&mut work).zip(&mut tweaks) {
                *kept = tweak.to_le_bytes();
                *work = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes().into();
                // Times x in GF(2^128).
                tweak = (tweak << 1) ^ if tweak >> 127 == 1 { 0x87 } else { 0 };
            }
            let (work, _) = work.split_at_mut(blocks.len().min(BLOCKS_MAX));
            cipher(work);
            for ((block, work), tweak) in blocks.iter_mut().zip(&*work).zip(&tweaks) {
                let done = u128::from_le_bytes((*work).into()) ^ u128::from_le_bytes(*tweak);
                *block = done.to_le_bytes();
            }
        }
        // After decryption it holds what nobody may see.
        work.iter_mut().for_each(|block| wipe(block));
    }
}

/// A disk whose contents are encrypted on the one below.
///
/// Everything written arrives there encrypted; zeros, too: what makes a file system expects to
/// read them again, so nothing is left out.
pub struct Encrypted<'a> {
    disk: &'a dyn Disk,
    cipher: Xts,
    sector_size: u32,
    size: u64,
    /// Held while a sector is read, changed and written.
    edge: Mutex<()>,
}

impl<'a> Encrypted<'a> {
    /// All whole sectors of `disk`, under a key of 64 bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the key has another length or the sector is none.
    pub fn new(disk: &'a dyn Disk, key: &[u8], sector_size: u32) -> io::Result<Self> {
        if !sector_size.is_power_of_two() || !(512..=4096).contains(&sector_size) {
            return Err(Errno::INVAL.into());
        }
        let size = disk.size_bytes() - disk.size_bytes() % u64::from(sector_size);
        Ok(Self { disk, cipher: Xts::new(key)?, sector_size, size, edge: Mutex::new(()) })
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<Range<u64>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(offset..end),
            _ => Err(Errno::NOSPC.into()),
        }
    }

    /// Goes over a range sector by sector at its edges, and by chunks between.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let sector = u64::from(self.sector_size);
        let mut position = range.start;
        std::iter::from_fn(move || {
            let left = range.end.checked_sub(position).filter(|left| *left > 0)?;
            let into = position % sector;
            let len = if into > 0 || left < sector {
                left.min(sector - into)
            } else {
                (left - left % sector).min(CHUNK_LEN as u64)
            };
            position += len;
            Some(position - len..position)
        })
    }

    fn read_sectors(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(start, buffer)?;
        self.cipher.decrypt(buffer, self.sector_size as usize, start / 512);
        Ok(())
    }

    fn write_sectors(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.cipher.encrypt(buffer, self.sector_size as usize, start / 512);
        self.disk.write_at(start, buffer)
    }

    /// Writes a range; `fill` says what is in a piece of it, whose place counts from its start.
    fn write_pieces(&self, range: Range<u64>, fill: &dyn Fn(usize, &mut [u8])) -> io::Result<()> {
        let sector = u64::from(self.sector_size);
        let room = (range.end - range.start).clamp(sector, CHUNK_LEN as u64);
        let mut buffer = Secret::zeroed(room as usize);
        for piece in self.pieces(range.clone()) {
            let at = (piece.start - range.start) as usize;
            let len = (piece.end - piece.start) as usize;
            let into = (piece.start % sector) as usize;
            if into == 0 && (len as u64).is_multiple_of(sector) {
                let (part, _) = buffer.split_at_mut(len);
                fill(at, part);
                self.write_sectors(piece.start, part)?;
                continue;
            }
            let _guard = self.edge.lock().unwrap_or_else(PoisonError::into_inner);
            let start = piece.start - into as u64;
            let (whole, _) = buffer.split_at_mut(sector as usize);
            self.read_sectors(start, whole)?;
            if let Some(part) = whole.get_mut(into..into + len) {
                fill(at, part);
            }
            self.write_sectors(start, whole)?;
        }
        Ok(())
    }
}

impl Disk for Encrypted<'_> {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn sector_size_bytes(&self) -> u32 {
        self.sector_size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let range = self.check(offset, buffer.len() as u64)?;
        let sector = u64::from(self.sector_size);
        let mut edge = Secret::zeroed(sector as usize);
        for piece in self.pieces(range) {
            let at = (piece.start - offset) as usize;
            let len = (piece.end - piece.start) as usize;
            let target = buffer.get_mut(at..at + len).unwrap_or_default();
            let into = (piece.start % sector) as usize;
            if into == 0 && (len as u64).is_multiple_of(sector) {
                self.read_sectors(piece.start, target)?;
            } else {
                self.read_sectors(piece.start - into as u64, &mut edge)?;
                target.copy_from_slice(edge.get(into..into + len).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let range = self.check(offset, bytes.len() as u64)?;
        self.write_pieces(range, &|at, part| {
            part.copy_from_slice(bytes.get(at..at + part.len()).unwrap_or_default());
        })
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        let range = self.check(offset, len)?;
        self.write_pieces(range, &|_, part| part.fill(0))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.disk.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, FileDisk};

    #[test]
    fn the_cipher_is_that_of_the_standard() {
        // IEEE 1619-2007, Annex B, vector 10: XTS-AES-256, data unit 0xff, 512 bytes 00…ff twice.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect()
        };
        let key = hex(concat!(
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592"
        ));
        let plain: Vec<u8> = (0..=255).chain(0..=255).collect();
        let mut bytes = plain.clone();
        let cipher = Xts::new(&key).unwrap();
        cipher.encrypt(&mut bytes, 512, 0xff);
        assert_eq!(bytes[..16], hex("1c3b3a102f770386e4836c99e370cf9b"));
        cipher.decrypt(&mut bytes, 512, 0xff);
        assert_eq!(bytes, plain);
        assert!(Xts::new(&key[..63]).is_err());
    }

    #[test]
    fn what_is_written_anywhere_reads_the_same_through_it_only() {
        for sector in [512, 1024, 4096] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(3 << 20).unwrap();
            let below = FileDisk::open(file.path(), Access::Write).unwrap();
            let disk = Encrypted::new(&below, &[7; 64], sector).unwrap();
            disk.zero(0, 3 << 20).unwrap();
            let mut expected = vec![0; 3 << 20];
            for (offset, len, byte) in [
                (0, 1, 1_u8),
                (511, 2, 2),
                (4095, 9000, 3),
                (100_000, 2 << 20, 4),
                ((3 << 20) - 5, 5, 5),
            ] {
                disk.write_at(offset as u64, &vec![byte; len]).unwrap();
                expected[offset..offset + len].fill(byte);
            }
            disk.zero(1_000_001, 123_456).unwrap();
            expected[1_000_001..1_123_457].fill(0);
            let mut found = vec![9; 3 << 20];
            disk.read_at(0, &mut found).unwrap();
            assert!(found == expected, "{sector}");
            disk.read_at(4000, &mut found[..7000]).unwrap();
            assert!(found[..7000] == expected[4000..11_000]);
            below.read_at(0, &mut found).unwrap();
            let zeros = found.chunks(16).filter(|block| block.iter().all(|b| *b == 0)).count();
            assert_eq!(zeros, 0, "every block is encrypted");
            assert!(disk.write_at((3 << 20) - 1, b"ab").is_err());
            assert!(disk.zero(u64::MAX, 2).is_err());
        }
    }
}
