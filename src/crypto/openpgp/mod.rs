//! Who may sign: OpenPGP signatures without gpg, behind one policy.
//!
//! External spec: RFC 9580 (and 4880 for the keys in the field). The library below (rPGP) parses
//! single packets and does the arithmetic; which packets are looked at, which key belongs to whom
//! and what is good enough is decided here.
// DIFFERS: the peer asks gpg, and takes SHA-1 and RIPEMD-160 signatures, revoked keys, and
// signatures of the future. We refuse them.

#[cfg(feature = "openpgp")]
mod brainpool;
#[cfg(feature = "openpgp")]
mod cert;
#[cfg(feature = "openpgp")]
mod check;
mod keyring;
#[cfg(feature = "openpgp")]
mod packet;

use std::fmt;
use std::time::{Duration, SystemTime};

pub use keyring::Keyring;

/// LIMIT: larger signature files are refused, as the peer does.
pub const MAX_SIGNATURE: u64 = 1 << 20;

/// What is good enough.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Take a signature made while its key was valid although the key has expired since. The peer
    /// does; without it an old key that leaked can sign with a date of its lifetime.
    pub expired_keys: bool,
    /// Take DSA keys of at least 2048 bits.
    pub dsa: bool,
    /// Shortest RSA key.
    pub min_rsa_bits: usize,
    /// How far ahead of this machine's clock a signature may be.
    pub max_future: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            expired_keys: false,
            dsa: false,
            min_rsa_bits: 2048,
            max_future: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// One signature that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the primary key, upper case hexadecimal.
    pub fingerprint: String,
    /// The first user id of the key, control characters removed; empty where there is none.
    pub user: String,
    /// When the signature was made, as it says itself.
    pub created: SystemTime,
}

/// Why a signature is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file is empty.
    Empty,
    /// It is no list of signature packets.
    NoSignature,
    /// More signatures, or longer ones, than anybody needs.
    TooMuch,
    /// The key that made it is in no keyring; with the key's name, if the signature has it.
    NoPublicKey(String),
    /// It does not belong to the data, or is damaged; with the key's name.
    Bad(String),
    /// It or its key breaks a rule, said in words.
    Policy(String),
    /// This build cannot verify.
    NotAvailable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Signature is empty, cannot verify."),
            Self::NoSignature => f.write_str("the file is no OpenPGP signature"),
            Self::TooMuch => f.write_str("the file has too many signatures"),
            Self::NoPublicKey(key) if key.is_empty() => {
                f.write_str("the signature does not say who made it")
            }
            Self::NoPublicKey(key) => write!(f, "no public key for key {key}"),
            Self::Bad(key) => write!(f, "BAD signature from key {key}"),
            Self::Policy(text) => f.write_str(text),
            Self::NotAvailable => {
                f.write_str("this slipway was built without the feature 'openpgp'")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Verifies a detached signature file, binary or armoured, over some data. Every signature in it
/// has to be good; there has to be one.
#[cfg(feature = "openpgp")]
pub fn verify(
    signature: &[u8],
    data: &[u8],
    keyring: &Keyring,
    now: SystemTime,
    policy: &Policy,
) -> Result<Vec<Signer>, Refusal> {
    check::verify(signature, data, keyring, now, policy)
}

/// Verifies nothing: this build lacks the feature `openpgp`.
#[cfg(not(feature = "openpgp"))]
pub fn verify(
    _signature: &[u8],
    _data: &[u8],
    _keyring: &Keyring,
    _now: SystemTime,
    _policy: &Policy,
) -> Result<Vec<Signer>, Refusal> {
    Err(Refusal::NotAvailable)
}
