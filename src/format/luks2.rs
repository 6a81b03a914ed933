//! The LUKS2 header: two copies of a binary header, each with JSON behind it, then the key slots.
//!
//! Only what a fresh volume has is known here: one key slot, one segment, one digest. Where things
//! are and how large they are is what cryptsetup chooses for a new volume, so that every tool
//! finds room for further slots.
//!
//! Document: "LUKS2 On-Disk Format Specification", version 1.1.3.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bytes::put;

/// Size of one copy of the header with its JSON, in bytes.
pub const HEADER_LEN: usize = 16 << 10;
/// Size of the binary part of a copy, in bytes.
const BINARY_LEN: usize = 4096;
/// Where the material of the first key slot begins, in bytes.
pub const SLOT_OFFSET: u64 = 32 << 10;
/// Room for the material of one key slot, in bytes.
pub const SLOT_LEN: u64 = 258_048;
/// Where the encrypted data begins, in bytes.
pub const DATA_OFFSET: u64 = 16 << 20;
/// Length of the volume key and of the key that encrypts a slot, in bytes: two of AES-256.
pub const KEY_LEN: usize = 64;
/// Parts that a key is split into in its slot.
pub const STRIPES: usize = 4000;
/// LIMIT: longest label, in bytes.
pub const LABEL_MAX: usize = 47;

const KEY_SLOTS_LEN: u64 = DATA_OFFSET - SLOT_OFFSET;
const CIPHER: &str = "aes-xts-plain64";

/// Offsets of the binary header's fields, in bytes. Numbers are big-endian.
mod at {
    pub(super) const VERSION: usize = 6;
    pub(super) const HEADER_LEN: usize = 8;
    pub(super) const EPOCH: usize = 16;
    pub(super) const LABEL: usize = 24;
    pub(super) const CHECKSUM_NAME: usize = 72;
    pub(super) const SALT: usize = 104;
    pub(super) const UUID: usize = 168;
    pub(super) const OFFSET: usize = 256;
    pub(super) const CHECKSUM: usize = 448;
}

/// How a pass phrase becomes the key of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2 with HMAC-SHA256, iterations.
    Pbkdf2Sha256(u32),
    /// PBKDF2 with HMAC-SHA512, iterations.
    Pbkdf2Sha512(u32),
    /// Argon2id.
    Argon2id {
        /// Passes.
        time: u32,
        /// KiB of memory.
        memory_kib: u32,
        /// Lanes.
        cpus: u32,
    },
}

/// The hash that spreads the parts of a split key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Kdf {
    /// The hash that cryptsetup splits the key with.
    pub fn split_hash(self) -> SplitHash {
        match self {
            Self::Pbkdf2Sha512(_) => SplitHash::Sha512,
            Self::Pbkdf2Sha256(_) | Self::Argon2id { .. } => SplitHash::Sha256,
        }
    }

    fn json(self, salt: &str) -> Value {
        let pbkdf2 = |hash: &str, iterations: u32| json!({"type": "pbkdf2", "hash": hash, "iterations": iterations, "salt": salt});
        match self {
            Self::Pbkdf2Sha256(iterations) => pbkdf2("sha256", iterations),
            Self::Pbkdf2Sha512(iterations) => pbkdf2("sha512", iterations),
            Self::Argon2id { time, memory_kib, cpus } => json!({
                "type": "argon2id", "time": time, "memory": memory_kib, "cpus": cpus, "salt": salt,
            }),
        }
    }
}

/// What the header of a new volume says. Salts and digests are in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Identity of the volume, as text.
    pub uuid: String,
    /// Its label.
    pub label: String,
    /// Sector size of the encryption, in bytes: 512 to 4096.
    pub sector_size: u32,
    /// Derivation of the key of slot 0.
    pub kdf: Kdf,
    /// Its salt.
    pub kdf_salt: String,
    /// Iterations of PBKDF2-SHA256 over the volume key.
    pub digest_iterations: u32,
    /// Its salt.
    pub digest_salt: String,
    /// Its result.
    pub digest: String,
    /// Discards go through to what is below.
    pub allows_discards: bool,
}

/// Why there is no header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The label does not fit into its field.
    LabelTooLong(usize),
    /// The UUID does not fit into its field.
    Uuid,
    /// Too much JSON; cannot happen with one slot.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LabelTooLong(len) => {
                write!(f, "a LUKS2 label of {len} bytes is too long, {LABEL_MAX} is the limit")
            }
            Self::Uuid => f.write_str("the UUID is none"),
            Self::TooLong => f.write_str("the LUKS2 metadata is too long"),
        }
    }
}

impl std::error::Error for Error {}

impl Header {
    /// Both copies, one after the other; each has a salt of its own.
    ///
    /// # Errors
    ///
    /// What does not fit.
    pub fn encode(&self, salts: [[u8; 64]; 2]) -> Result<Vec<u8>, Error> {
        if self.label.len() > LABEL_MAX {
            return Err(Error::LabelTooLong(self.label.len()));
        }
        if self.uuid.len() != 36 {
            return Err(Error::Uuid);
        }
        let json = self.json().to_string();
        if json.len() >= HEADER_LEN - BINARY_LEN {
            return Err(Error::TooLong);
        }
        let [first, second] = salts;
        let mut bytes = self.copy(b"LUKS\xba\xbe", 0, &first, &json);
        bytes.extend(self.copy(b"SKUL\xba\xbe", HEADER_LEN as u64, &second, &json));
        Ok(bytes)
    }

    fn copy(&self, magic: &[u8; 6], offset: u64, salt: &[u8; 64], json: &str) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        put(&mut bytes, 0, magic);
        put(&mut bytes, at::VERSION, &2_u16.to_be_bytes());
        put(&mut bytes, at::HEADER_LEN, &(HEADER_LEN as u64).to_be_bytes());
        put(&mut bytes, at::EPOCH, &1_u64.to_be_bytes());
        put(&mut bytes, at::LABEL, self.label.as_bytes());
        put(&mut bytes, at::CHECKSUM_NAME, b"sha256");
        put(&mut bytes, at::SALT, salt);
        put(&mut bytes, at::UUID, self.uuid.as_bytes());
        put(&mut bytes, at::OFFSET, &offset.to_be_bytes());
        put(&mut bytes, BINARY_LEN, json.as_bytes());
        // Over all of the copy, with zeros where it will be.
        let checksum = Sha256::digest(&bytes);
        put(&mut bytes, at::CHECKSUM, &checksum);
        bytes
    }

    fn json(&self) -> Value {
        let split = match self.kdf.split_hash() {
            SplitHash::Sha256 => "sha256",
            SplitHash::Sha512 => "sha512",
        };
        let mut config = json!({
            "json_size": (HEADER_LEN - BINARY_LEN).to_string(),
            "keyslots_size": KEY_SLOTS_LEN.to_string(),
        });
        if self.allows_discards
            && let Some(config) = config.as_object_mut()
        {
            config.insert("flags".to_owned(), json!(["allow-discards"]));
        }
        json!({
            "keyslots": {"0": {
                "type": "luks2",
                "key_size": KEY_LEN,
                "af": {"type": "luks1", "stripes": STRIPES, "hash": split},
                "area": {
                    "type": "raw",
                    "offset": SLOT_OFFSET.to_string(),
                    "size": SLOT_LEN.to_string(),
                    "encryption": CIPHER,
                    "key_size": KEY_LEN,
                },
                "kdf": self.kdf.json(&self.kdf_salt),
            }},
            "tokens": {},
            "segments": {"0": {
                "type": "crypt",
                "offset": DATA_OFFSET.to_string(),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": CIPHER,
                "sector_size": self.sector_size,
            }},
            "digests": {"0": {
                "type": "pbkdf2",
                "keyslots": ["0"],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": self.digest_iterations,
                "salt": self.digest_salt,
                "digest": self.digest,
            }},
            "config": config,
        })
    }
}
