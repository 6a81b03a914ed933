//! The Verity superblock, and how large a hash tree is.
//!
//! Why: dm-verity itself knows no on-disk header; the superblock is cryptsetup's, and with it a
//! pair of partitions says for itself how it is to be read. Only what the peer writes is known
//! here: superblock version 1, hash type 1 (the salt comes first), SHA-256.
//!
//! The hash area is the superblock in a hash block of its own, then the levels of the tree, the
//! topmost first. A level is a row of hash blocks; each holds the digests of as many blocks of the
//! level below (of the data for the lowest), and zeros to its end. One block of data has no
//! level: its digest is the root hash.
//!
//! Document: "The dm-verity on-disk format", cryptsetup wiki; Documentation/admin-guide/
//! device-mapper/verity.rst of the kernel.

use std::fmt;

use super::bytes::{array, le32, le64, put};

/// What a superblock starts with.
pub const SIGNATURE: &[u8; 8] = b"verity\0\0";
/// Size of the superblock, in bytes.
pub const SUPERBLOCK_LEN: usize = 512;
/// LIMIT: longest salt, in bytes.
pub const SALT_MAX: usize = 256;
/// Length of a SHA-256 digest, in bytes.
pub const DIGEST_LEN: usize = 32;
/// LIMIT: no tree is higher: the least fan-out is 16, and blocks are counted in 64 bits.
pub const LEVELS_MAX: usize = 16;

const ALGORITHM: &[u8; 6] = b"sha256";

/// Offsets of the superblock's fields, in bytes.
mod at {
    pub(super) const VERSION: usize = 8;
    pub(super) const HASH_TYPE: usize = 12;
    pub(super) const UUID: usize = 16;
    pub(super) const ALGORITHM: usize = 32;
    pub(super) const DATA_BLOCK_SIZE: usize = 64;
    pub(super) const HASH_BLOCK_SIZE: usize = 68;
    pub(super) const DATA_BLOCKS: usize = 72;
    pub(super) const SALT_LEN: usize = 80;
    pub(super) const SALT: usize = 88;
}

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Identity of the tree, bytes in the order of the text.
    pub uuid: [u8; 16],
    /// Hashed in front of every block.
    pub salt: Vec<u8>,
    /// Sizes and number of blocks.
    pub geometry: Geometry,
}

/// Sizes and number of the blocks of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// In bytes: 512, 1024, 2048 or 4096.
    pub data_block_size: u32,
    /// In bytes: 512, 1024, 2048 or 4096.
    pub hash_block_size: u32,
    /// At least 1.
    pub data_blocks: u64,
}

/// One row of hash blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Where it begins in the hash area, in bytes.
    pub offset: u64,
    /// Number of its blocks.
    pub blocks: u64,
}

/// Why bytes are no superblock, or a geometry is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no superblock.
    NoSignature,
    /// A superblock of another version, or a hash type that nobody makes any more.
    Version(u32, u32),
    /// Another hash than SHA-256.
    Algorithm,
    /// The salt is longer than its field.
    SaltTooLong(usize),
    /// Not 512, 1024, 2048 or 4096.
    BlockSize(u32),
    /// There is nothing to hash.
    Empty,
    /// More than offsets can say.
    TooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignature => f.write_str("no Verity superblock"),
            Self::Version(version, kind) => {
                write!(f, "Verity superblock version {version}, hash type {kind} is not known")
            }
            Self::Algorithm => f.write_str("the hash is not SHA-256"),
            Self::SaltTooLong(len) => write!(f, "a salt of {len} bytes is too long"),
            Self::BlockSize(size) => write!(f, "{size} is no size of a block"),
            Self::Empty => f.write_str("there are no data blocks"),
            Self::TooLarge => f.write_str("too many data blocks"),
        }
    }
}

impl std::error::Error for Error {}

impl Superblock {
    /// Reads a superblock from the first bytes of a hash area.
    ///
    /// # Errors
    ///
    /// All but [`Error::Empty`]: a tree may be declared over nothing, even if nobody makes one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let none = Error::NoSignature;
        if bytes.len() < SUPERBLOCK_LEN || !bytes.starts_with(SIGNATURE) {
            return Err(none);
        }
        let number = |offset| le32(bytes, offset).ok_or(Error::NoSignature);
        let (version, kind) = (number(at::VERSION)?, number(at::HASH_TYPE)?);
        if (version, kind) != (1, 1) {
            return Err(Error::Version(version, kind));
        }
        let algorithm: [u8; 32] = array(bytes, at::ALGORITHM).ok_or(none.clone())?;
        let name = algorithm.split(|byte| *byte == 0).next().unwrap_or_default();
        if name != ALGORITHM {
            return Err(Error::Algorithm);
        }
        let salt_len = usize::from(u16::from_le_bytes(array(bytes, at::SALT_LEN).ok_or(none)?));
        if salt_len > SALT_MAX {
            return Err(Error::SaltTooLong(salt_len));
        }
        let salt = bytes.get(at::SALT..).and_then(|rest| rest.get(..salt_len));
        let geometry = Geometry {
            data_block_size: number(at::DATA_BLOCK_SIZE)?,
            hash_block_size: number(at::HASH_BLOCK_SIZE)?,
            data_blocks: le64(bytes, at::DATA_BLOCKS).ok_or(Error::NoSignature)?,
        };
        geometry.check_block_sizes()?;
        Ok(Self {
            uuid: array(bytes, at::UUID).ok_or(Error::NoSignature)?,
            salt: salt.ok_or(Error::NoSignature)?.to_vec(),
            geometry,
        })
    }

    /// The bytes on disk.
    ///
    /// # Errors
    ///
    /// [`Error::SaltTooLong`].
    pub fn encode(&self) -> Result<[u8; SUPERBLOCK_LEN], Error> {
        let salt_len = u16::try_from(self.salt.len()).unwrap_or(u16::MAX);
        if self.salt.len() > SALT_MAX {
            return Err(Error::SaltTooLong(self.salt.len()));
        }
        let mut bytes = [0; SUPERBLOCK_LEN];
        put(&mut bytes, 0, SIGNATURE);
        put(&mut bytes, at::VERSION, &1_u32.to_le_bytes());
        put(&mut bytes, at::HASH_TYPE, &1_u32.to_le_bytes());
        put(&mut bytes, at::UUID, &self.uuid);
        put(&mut bytes, at::ALGORITHM, ALGORITHM);
        put(&mut bytes, at::DATA_BLOCK_SIZE, &self.geometry.data_block_size.to_le_bytes());
        put(&mut bytes, at::HASH_BLOCK_SIZE, &self.geometry.hash_block_size.to_le_bytes());
        put(&mut bytes, at::DATA_BLOCKS, &self.geometry.data_blocks.to_le_bytes());
        put(&mut bytes, at::SALT_LEN, &salt_len.to_le_bytes());
        put(&mut bytes, at::SALT, &self.salt);
        Ok(bytes)
    }
}

impl Geometry {
    fn check_block_sizes(&self) -> Result<(), Error> {
        let is_bad = |size: &u32| !size.is_power_of_two() || !(512..=4096).contains(size);
        match [self.data_block_size, self.hash_block_size].into_iter().find(is_bad) {
            Some(size) => Err(Error::BlockSize(size)),
            None => Ok(()),
        }
    }

    /// Digests in a hash block.
    pub fn fan_out(&self) -> u64 {
        u64::from(self.hash_block_size) / DIGEST_LEN as u64
    }

    /// How many bytes are hashed.
    ///
    /// # Errors
    ///
    /// [`Error::BlockSize`], [`Error::Empty`] and [`Error::TooLarge`].
    pub fn data_size(&self) -> Result<u64, Error> {
        self.check_block_sizes()?;
        if self.data_blocks == 0 {
            return Err(Error::Empty);
        }
        self.data_blocks.checked_mul(u64::from(self.data_block_size)).ok_or(Error::TooLarge)
    }

    /// The rows of the tree, the lowest first, which lies last.
    ///
    /// # Errors
    ///
    /// As [`Geometry::data_size`].
    pub fn levels(&self) -> Result<Vec<Level>, Error> {
        self.data_size()?;
        let mut levels = Vec::new();
        let mut below = self.data_blocks;
        while below > 1 {
            below = below.div_ceil(self.fan_out());
            levels.push(Level { offset: 0, blocks: below });
        }
        let size = u64::from(self.hash_block_size);
        let mut offset = size;
        for level in levels.iter_mut().rev() {
            level.offset = offset;
            offset = level
                .blocks
                .checked_mul(size)
                .and_then(|len| offset.checked_add(len))
                .ok_or(Error::TooLarge)?;
        }
        Ok(levels)
    }

    /// Size of the hash area with its superblock, in bytes.
    ///
    /// # Errors
    ///
    /// As [`Geometry::data_size`].
    pub fn hash_size(&self) -> Result<u64, Error> {
        let size = u64::from(self.hash_block_size);
        // The lowest level lies last.
        let end = self.levels()?.first().map(|level| level.offset + level.blocks * size);
        Ok(end.unwrap_or(size))
    }
}

/// Size of the hash area with its superblock for so many bytes of data, in bytes; data that ends
/// within a block is hashed up to the last whole one.
///
/// # Errors
///
/// As [`Geometry::data_size`].
pub fn hash_size(data_bytes: u64, data_block: u32, hash_block: u32) -> Result<u64, Error> {
    let data_blocks = data_bytes.checked_div(u64::from(data_block)).unwrap_or(0);
    let geometry =
        Geometry { data_block_size: data_block, hash_block_size: hash_block, data_blocks };
    geometry.hash_size()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by cryptsetup 2.8.8 for a file system of one block.
    fn vector() -> Vec<u8> {
        let text = include_str!("../../tests/vectors/repart/35-verity/veritysb.txt").trim();
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let mut bytes: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
        // The dump ends where only zeros follow.
        bytes.resize(SUPERBLOCK_LEN, 0);
        bytes
    }

    #[test]
    fn a_superblock_reads_as_it_was_written_and_back() {
        let bytes = vector();
        let superblock = Superblock::decode(&bytes).unwrap();
        assert_eq!(superblock.uuid[..4], [0x89, 0x89, 0x29, 0xe6]);
        assert_eq!(superblock.salt.len(), 32);
        let geometry = Geometry { data_block_size: 4096, hash_block_size: 4096, data_blocks: 1 };
        assert_eq!(superblock.geometry, geometry);
        assert_eq!(superblock.encode().unwrap()[..], bytes);
    }

    #[test]
    fn what_is_no_superblock_is_refused() {
        let good = vector();
        for len in 0..SUPERBLOCK_LEN {
            assert_eq!(Superblock::decode(&good[..len]), Err(Error::NoSignature), "{len}");
        }
        let with = |offset: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[offset..offset + value.len()].copy_from_slice(value);
            Superblock::decode(&bytes).unwrap_err()
        };
        assert_eq!(with(0, b"V"), Error::NoSignature);
        assert_eq!(with(at::VERSION, &[2]), Error::Version(2, 1));
        assert_eq!(with(at::HASH_TYPE, &[0]), Error::Version(1, 0));
        assert_eq!(with(at::ALGORITHM, b"sha512"), Error::Algorithm);
        assert_eq!(with(at::ALGORITHM, &[b'x'; 32]), Error::Algorithm);
        assert_eq!(with(at::SALT_LEN, &[255, 255]), Error::SaltTooLong(65535));
        assert_eq!(with(at::DATA_BLOCK_SIZE, &[0, 0]), Error::BlockSize(0));
        assert_eq!(with(at::HASH_BLOCK_SIZE, &[255; 4]), Error::BlockSize(u32::MAX));
    }

    #[test]
    fn hash_areas_are_as_large_as_cryptsetup_makes_them() {
        // The first is upstream's own test of repart; the others are `veritysetup format` 2.6.1.
        for (data, data_block, hash_block, expected) in [
            (10 << 30, 4096, 4096, 84_557_824),
            (3 << 20, 512, 4096, 204_800),
            (4096, 4096, 4096, 4096),
            (8192, 4096, 4096, 8192),
            (1 << 20, 4096, 4096, 16_384),
        ] {
            assert_eq!(hash_size(data, data_block, hash_block), Ok(expected), "{data}");
        }
    }

    #[test]
    fn levels_lie_topmost_first() {
        let geometry = Geometry { data_block_size: 512, hash_block_size: 512, data_blocks: 257 };
        let level = |offset, blocks| Level { offset, blocks };
        assert_eq!(
            geometry.levels().unwrap(),
            [level(4 * 512, 17), level(2 * 512, 2), level(512, 1)]
        );
        assert_eq!(geometry.hash_size(), Ok(21 * 512));
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        assert_eq!(hash_size(4095, 4096, 4096), Err(Error::Empty));
        assert_eq!(hash_size(1 << 20, 0, 4096), Err(Error::BlockSize(0)));
        assert_eq!(hash_size(1 << 20, 4096, 8192), Err(Error::BlockSize(8192)));
        assert_eq!(hash_size(1 << 20, 4096, 768), Err(Error::BlockSize(768)));
        let geometry =
            Geometry { data_block_size: 512, hash_block_size: 4096, data_blocks: u64::MAX };
        assert_eq!(geometry.hash_size(), Err(Error::TooLarge));
        let geometry = Geometry { data_blocks: u64::MAX / 512, ..geometry };
        assert!(geometry.levels().unwrap().len() <= LEVELS_MAX);
        assert!(geometry.hash_size().is_ok());
    }
}
