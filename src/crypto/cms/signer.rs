//! Signs with a private key from a file.

use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PKCS1_SHA256,
};

use super::Certificate;
use crate::crypto::secret::Secret;
use crate::crypto::{files, pem};
use crate::error::{Context as _, Error, Result};
use crate::format::der::{element, tag};
use crate::format::x509::{self, OID_RSA, PrivateKey};

/// OID signedData.
const OID_SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// OID data.
const OID_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// OID id-sha256.
const OID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// OID id-sha384.
const OID_SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
/// OID ecdsa-with-SHA256.
const OID_ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// OID ecdsa-with-SHA384.
const OID_ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// A certificate with its private key.
///
/// LIMIT: our copies of the key are overwritten after use; ring does not overwrite its own when a
/// run ends.
pub struct Signer {
    certificate: Certificate,
    key: Key,
}

enum Key {
    Rsa(Box<ring::rsa::KeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

impl Signer {
    /// Reads a private key in PEM and checks that it is the certificate's.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is encrypted, is of a kind that cannot sign here, or belongs to
    /// another certificate.
    pub fn load(certificate: Certificate, path: &Path) -> Result<Self> {
        let failed = || format!("Failed to load private key from {}", path.display());
        let text = files::read_key(path).context(failed)?;
        Self::new(certificate, &text).map_err(|err| {
            let hints = err.hints().to_vec();
            hints.into_iter().fold(Error::because(failed(), err), Error::hint)
        })
    }

    /// As [`Signer::load`], from the text of the file.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn new(certificate: Certificate, pem: &[u8]) -> Result<Self> {
        let block = pem::first(pem, |label| label.ends_with("PRIVATE KEY"))
            .ok_or_else(|| Error::new("It holds no private key in PEM"))?;
        if block.has_headers || block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(Error::new("The private key is encrypted")
                .hint("'openssl pkey -in KEY -out PLAIN' decrypts it"));
        }
        let key = match block.label {
            "PRIVATE KEY" => PrivateKey::decode_pkcs8(&block.der),
            "RSA PRIVATE KEY" => Ok(PrivateKey::Rsa(&block.der)),
            "EC PRIVATE KEY" => PrivateKey::decode_sec1(&block.der),
            _ => Err(x509::Error::KeyKind),
        }
        .context(|| "It cannot be used".to_owned())?;
        let key = Key::new(&key, &certificate)?;
        Ok(Self { certificate, key })
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// A detached signature of the content, in DER.
    ///
    /// # Errors
    ///
    /// If the key does not sign; that would be a defect.
    pub fn sign(&self, content: &[u8]) -> Result<Vec<u8>> {
        let owner = x509::Certificate::decode(&self.certificate.der)
            .context(|| "Failed to calculate PKCS7 signature".to_owned())?;
        let oid = |bytes: &[u8]| element(tag::OID, &[bytes]);
        let null = element(tag::NULL, &[]);
        let version = element(tag::INTEGER, &[&[1]]);
        let digest = element(tag::SEQUENCE, &[&oid(self.key.digest_oid()), &null]);
        let algorithm = match &self.key {
            Key::Rsa(_) => element(tag::SEQUENCE, &[&oid(OID_RSA), &null]),
            Key::P256(_) => element(tag::SEQUENCE, &[&oid(OID_ECDSA_SHA256)]),
            Key::P384(_) => element(tag::SEQUENCE, &[&oid(OID_ECDSA_SHA384)]),
        };
        let signature = self
            .key
            .sign(content)
            .map_err(|_| Error::new("Failed to calculate PKCS7 signature"))?;

        let signer = element(
            tag::SEQUENCE,
            &[
                &version,
                &element(tag::SEQUENCE, &[owner.issuer, owner.serial]),
                &digest,
                &algorithm,
                &element(tag::OCTET_STRING, &[&signature]),
            ],
        );
        let data = element(
            tag::SEQUENCE,
            &[
                &version,
                &element(tag::SET, &[&digest]),
                &element(tag::SEQUENCE, &[&oid(OID_DATA)]),
                &element(tag::CONTEXT_0, &[&self.certificate.der]),
                &element(tag::SET, &[&signer]),
            ],
        );
        let body = element(tag::CONTEXT_0, &[&data]);
        Ok(element(tag::SEQUENCE, &[&oid(OID_SIGNED_DATA), &body]))
    }
}

impl Key {
    fn new(key: &PrivateKey<'_>, certificate: &Certificate) -> Result<Self> {
        let unusable = |what: &str| Error::new(format!("It cannot be used: {what}"));
        let owner = x509::Certificate::decode(&certificate.der)
            .context(|| "The certificate cannot be used".to_owned())?;
        match key {
            PrivateKey::Rsa(der) => {
                let pair = ring::rsa::KeyPair::from_der(der)
                    .map_err(|err| unusable(&rsa_reason(&err.to_string())))?;
                // Both are DER, which leaves no choice.
                if pair.public().as_ref() != owner.public_key {
                    return Err(mismatch());
                }
                Ok(Self::Rsa(Box::new(pair)))
            }
            PrivateKey::P256(number) => {
                curve(&ECDSA_P256_SHA256_ASN1_SIGNING, number, 32, &owner).map(Self::P256)
            }
            // DIFFERS: the peer signs with SHA-256 whatever the key. SHA-384 is what P-384 is made
            // for, and what ring does; every verifier knows it.
            PrivateKey::P384(number) => {
                curve(&ECDSA_P384_SHA384_ASN1_SIGNING, number, 48, &owner).map(Self::P384)
            }
        }
    }

    fn digest_oid(&self) -> &'static [u8] {
        match self {
            Self::Rsa(_) | Self::P256(_) => OID_SHA256,
            Self::P384(_) => OID_SHA384,
        }
    }

    fn sign(&self, content: &[u8]) -> std::result::Result<Vec<u8>, ring::error::Unspecified> {
        // Not a value of ours: blinding and nonces, which must never repeat.
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, content, &mut signature)?;
                Ok(signature)
            }
            Self::P256(pair) | Self::P384(pair) => {
                Ok(pair.sign(&random, content)?.as_ref().to_vec())
            }
        }
    }
}

/// A key pair of a private number and the certificate's point, if they belong together.
fn curve(
    algorithm: &'static EcdsaSigningAlgorithm,
    number: &[u8],
    len: usize,
    owner: &x509::Certificate<'_>,
) -> Result<EcdsaKeyPair> {
    // Some writers leave out zeros at the front.
    let mut full = Secret::zeroed(len);
    let start = len.checked_sub(number.len()).ok_or_else(mismatch)?;
    full.get_mut(start..).unwrap_or_default().copy_from_slice(number);
    let random = SystemRandom::new();
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &full, owner.public_key, &random)
        .map_err(|_| mismatch())
}

fn mismatch() -> Error {
    Error::new("The private key does not match the certificate")
}

fn rsa_reason(code: &str) -> String {
    match code {
        "TooSmall" => "RSA keys need 2048 bits or more".to_owned(),
        "TooLarge" => "RSA keys of more than 4096 bits are not supported".to_owned(),
        other => format!("the RSA key is not valid ({other})"),
    }
}
