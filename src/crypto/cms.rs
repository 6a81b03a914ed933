//! Signatures of root hashes: certificates, private keys, detached PKCS #7.
//!
//! What is signed is the root hash in hexadecimal. The signature has no attributes, so that it is
//! one over the text itself: the kernel (`root_hash_sig_key_desc=` of dm-verity) takes nothing
//! else. With an RSA key the result is the same bits each time, and those that openssl makes.
//!
//! What fails here fails before the first write: certificate and key are read and matched while a
//! run is still being planned.
//!
//! Document: RFC 5652.

use std::path::Path;

use super::hash::sha256;
use super::text::{base64, hex};
use super::{files, pem};
use crate::error::{Context as _, Error, Result};
use crate::format::x509;

#[cfg(feature = "verity-sign")]
mod signer;

#[cfg(feature = "verity-sign")]
pub use signer::Signer;

/// Size of a signature partition, in bytes.
pub const SIGNATURE_AREA: usize = 16 << 10;

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate file, PEM or DER.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is none.
    pub fn load(path: &Path) -> Result<Self> {
        let failed = || format!("Failed to load X.509 certificate from {}", path.display());
        let bytes = files::read(path).context(failed)?;
        Self::parse(&bytes).map_err(|err| {
            Error::because(failed(), err).with_errno(rustix::io::Errno::BADMSG.raw_os_error())
        })
    }

    /// A certificate from PEM or DER.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, x509::Error> {
        let is_wanted = |label: &str| matches!(label, "CERTIFICATE" | "X509 CERTIFICATE");
        let der = match pem::first(bytes, is_wanted) {
            Some(block) => block.der.to_vec(),
            None => bytes.to_vec(),
        };
        x509::Certificate::decode(&der)?;
        Ok(Self { der })
    }

    /// Its bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of its bytes, by which it is found again.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.der)
    }
}

/// What a signature partition holds: JSON, and zeros to its end.
///
/// # Errors
///
/// `E2BIG` if it is longer than the partition.
pub fn signature_area(
    root_hash: &[u8],
    certificate: &Certificate,
    signature: &[u8],
) -> Result<Vec<u8>> {
    let text = serde_json::json!({
        "rootHash": hex(root_hash),
        "certificateFingerprint": hex(&certificate.fingerprint()),
        "signature": base64(signature),
    });
    let mut bytes = text.to_string().into_bytes();
    if bytes.len() > SIGNATURE_AREA {
        return Err(Error::new(format!(
            "Verity signature is too long: it takes {} bytes, a signature partition has {}",
            bytes.len(),
            SIGNATURE_AREA
        ))
        .with_errno(rustix::io::Errno::TOOBIG.raw_os_error())
        .hint("A certificate without so many extensions or names makes it shorter"));
    }
    bytes.resize(SIGNATURE_AREA, 0);
    Ok(bytes)
}
