//! What a signature has to know of a certificate, and what is in a private key file.
//!
//! A certificate is not judged here: whoever verifies the signature decides whom to trust. It is
//! taken apart far enough to name its owner and to tell whether a key is the one it speaks of.
//!
//! Documents: RFC 5280 §4.1 (certificates), RFC 5958 (PKCS #8), RFC 8017 A.1.2 (RSA keys),
//! RFC 5915 (elliptic curve keys), RFC 5480 (their names).

use std::fmt;

use super::der::{Reader, tag};

/// OID rsaEncryption.
pub const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// OID id-ecPublicKey.
pub const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// OID secp256r1.
pub const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// OID secp384r1.
pub const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA.
    Rsa,
    /// ECDSA over P-256.
    P256,
    /// ECDSA over P-384.
    P384,
    /// Another kind.
    Other,
}

/// The parts of a certificate, borrowed from its DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// Name of the issuer, as an element.
    pub issuer: &'a [u8],
    /// Serial number, as an element.
    pub serial: &'a [u8],
    /// Kind of the public key.
    pub kind: KeyKind,
    /// The public key: for RSA an element (RFC 8017 A.1.1), for curves a point.
    pub public_key: &'a [u8],
}

/// A private key, borrowed from its DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PrivateKey<'a> {
    /// An `RSAPrivateKey`, as an element.
    Rsa(&'a [u8]),
    /// The number, big-endian, of a P-256 key.
    P256(&'a [u8]),
    /// The number, big-endian, of a P-384 key.
    P384(&'a [u8]),
}

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a certificate.
    NotCertificate,
    /// Not a private key.
    NotKey,
    /// A private key of another kind.
    KeyKind,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCertificate => "not an X.509 certificate",
            Self::NotKey => "not a private key",
            Self::KeyKind => "neither an RSA key nor one of P-256 or P-384",
        })
    }
}

impl std::error::Error for Error {}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    ///
    /// [`Error::NotCertificate`], also for bytes after its end.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::read(bytes).ok_or(Error::NotCertificate)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::new(bytes);
        let mut certificate = outer.sequence().filter(|_| outer.is_at_end())?;
        let mut body = certificate.sequence()?;
        certificate.sequence()?;
        certificate.expect(tag::BIT_STRING).filter(|_| certificate.is_at_end())?;

        if body.peek() == Some(tag::CONTEXT_0) {
            body.any()?;
        }
        let serial = body.expect(tag::INTEGER).filter(|serial| !serial.content.is_empty())?;
        body.sequence()?;
        let issuer = body.expect(tag::SEQUENCE)?;
        body.sequence()?;
        body.sequence()?;
        let mut key = body.sequence()?;
        let kind = key_kind(&mut key.sequence()?)?;
        let bits = key.expect(tag::BIT_STRING).filter(|_| key.is_at_end())?;
        // The first byte says how many bits of the last one do not count.
        let public_key = bits.content.strip_prefix(&[0])?;
        Some(Self { issuer: issuer.whole, serial: serial.whole, kind, public_key })
    }
}

/// The kind that an `AlgorithmIdentifier` names.
fn key_kind(algorithm: &mut Reader<'_>) -> Option<KeyKind> {
    let oid = algorithm.expect(tag::OID)?.content;
    if oid == OID_RSA {
        return Some(KeyKind::Rsa);
    }
    let curve = algorithm.expect(tag::OID).map(|curve| curve.content);
    Some(if oid == OID_EC { curve_kind(curve) } else { KeyKind::Other })
}

fn curve_kind(curve: Option<&[u8]>) -> KeyKind {
    match curve {
        Some(OID_P256) => KeyKind::P256,
        Some(OID_P384) => KeyKind::P384,
        _ => KeyKind::Other,
    }
}

impl<'a> PrivateKey<'a> {
    /// Reads a PKCS #8 key (`PRIVATE KEY`) in DER.
    ///
    /// # Errors
    ///
    /// [`Error::NotKey`] and [`Error::KeyKind`].
    pub fn decode_pkcs8(bytes: &'a [u8]) -> Result<Self, Error> {
        let read = || {
            let mut key = Reader::new(bytes).sequence()?;
            key.expect(tag::INTEGER)?;
            let kind = key_kind(&mut key.sequence()?)?;
            Some((kind, key.expect(tag::OCTET_STRING)?.content))
        };
        let (kind, inner) = read().ok_or(Error::NotKey)?;
        match kind {
            KeyKind::Rsa => Ok(Self::Rsa(inner)),
            KeyKind::Other => Err(Error::KeyKind),
            KeyKind::P256 | KeyKind::P384 => Self::read_sec1(inner, kind),
        }
    }

    /// Reads an `ECPrivateKey` (`EC PRIVATE KEY`) in DER, which names its curve itself.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::decode_pkcs8`].
    pub fn decode_sec1(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::read_sec1(bytes, KeyKind::Other)
    }

    fn read_sec1(bytes: &'a [u8], kind: KeyKind) -> Result<Self, Error> {
        let read = || {
            let mut key = Reader::new(bytes).sequence()?;
            key.expect(tag::INTEGER)?;
            let number = key.expect(tag::OCTET_STRING)?.content;
            let named = key.expect(tag::CONTEXT_0);
            let curve = named.and_then(|curve| Reader::new(curve.content).expect(tag::OID));
            Some((number, curve.map(|curve| curve.content)))
        };
        let (number, curve) = read().ok_or(Error::NotKey)?;
        match if kind == KeyKind::Other { curve_kind(curve) } else { kind } {
            KeyKind::P256 => Ok(Self::P256(number)),
            KeyKind::P384 => Ok(Self::P384(number)),
            KeyKind::Rsa | KeyKind::Other => Err(Error::KeyKind),
        }
    }
}
