//! A signature file against a keyring.

use std::time::{Duration, SystemTime};

use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::Timestamp;

use crate::crypto::text::hex;

use super::cert::{self, Candidate, Cert};
use super::packet::{Packets, dearmor, tag};
use super::{Keyring, MAX_SIGNATURE, Policy, Refusal, Signer};

/// LIMIT: a file with more signatures is refused.
const MAX_SIGNATURES: usize = 16;
/// LIMIT: a longer certificate that comes along is not looked at.
const MAX_KEY_BLOCK: usize = 64 << 10;
/// Subpacket that carries a certificate (GnuPG's `--include-key-block`).
const KEY_BLOCK: u8 = 38;

pub(super) fn verify(
    file: &[u8],
    data: &[u8],
    keyring: &Keyring,
    now: SystemTime,
    policy: &Policy,
) -> Result<Vec<Signer>, Refusal> {
    if file.is_empty() {
        return Err(Refusal::Empty);
    }
    if file.len() as u64 > MAX_SIGNATURE {
        return Err(Refusal::TooMuch);
    }
    let armoured;
    let binary = match file.first() {
        Some(0x80..) => file,
        _ => {
            armoured = dearmor(file, "SIGNATURE").ok_or(Refusal::NoSignature)?;
            &armoured
        }
    };
    let mut signatures = Vec::new();
    for packet in Packets::new(binary) {
        let packet = packet.map_err(|_| Refusal::NoSignature)?;
        if packet.tag != tag::SIGNATURE {
            return Err(Refusal::NoSignature);
        }
        if signatures.len() == MAX_SIGNATURES {
            return Err(Refusal::TooMuch);
        }
        signatures.push(cert::signature(packet.body).ok_or(Refusal::NoSignature)?);
    }
    if signatures.is_empty() {
        return Err(Refusal::NoSignature);
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let certs: Vec<Cert> = keyring.files().flat_map(|ring| cert::parse(ring, false)).collect();
    signatures.iter().map(|signature| check(signature, data, &certs, now, policy)).collect()
}

fn check(
    signature: &Signature,
    data: &[u8],
    certs: &[Cert],
    now: u64,
    policy: &Policy,
) -> Result<Signer, Refusal> {
    let (prints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
    let name = match (prints.first(), ids.first()) {
        (Some(print), _) => format!("{print:X}"),
        (None, Some(id)) => hex(id.as_ref()).to_uppercase(),
        (None, None) => String::new(),
    };
    // All copies of a certificate, also the one that came along, count as one.
    let mut known: Vec<Cert> = Vec::new();
    let block = key_block(signature);
    for cert in certs.iter().cloned().chain(block) {
        match known.iter_mut().find(|other| other.fingerprint() == cert.fingerprint()) {
            Some(other) => other.merge(cert),
            // The certificate that came along must not bring itself into the ring.
            None if certs.iter().any(|c| c.fingerprint() == cert.fingerprint()) => known.push(cert),
            None => {}
        }
    }
    let candidates: Vec<Candidate<'_>> =
        known.iter().flat_map(|cert| cert.candidates(&prints, &ids)).collect();
    if candidates.is_empty() {
        return Err(Refusal::NoPublicKey(name));
    }
    let made = check_claims(signature, &name, now, policy).map_err(Refusal::Policy)?;
    let signer = candidates
        .iter()
        .find(|candidate| candidate.has_signed(signature, data))
        .ok_or_else(|| match candidates.iter().find_map(|c| c.check(made, now, policy).err()) {
            Some(reason) => Refusal::Policy(reason),
            None => Refusal::Bad(name.clone()),
        })?;
    signer.check(made, now, policy).map_err(Refusal::Policy)?;
    let (fingerprint, user) = signer.owner();
    Ok(Signer { fingerprint, user, created: SystemTime::UNIX_EPOCH + Duration::from_secs(made) })
}

/// Looks at what the signature says of itself, before it is known to be true: each of these is a
/// reason to refuse either way. Returns when it was made.
fn check_claims(
    signature: &Signature,
    name: &str,
    now: u64,
    policy: &Policy,
) -> Result<u64, String> {
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(format!("signature by key {name} is not one over a file"));
    }
    match signature.hash_alg() {
        Some(hash) if cert::is_strong_hash(hash) => {}
        Some(hash) => {
            return Err(format!("signature by key {name} was made with {hash}, refused by policy"));
        }
        None => return Err(format!("signature by key {name} is of an unknown version")),
    }
    if cert::has_unknown_critical_part(signature) {
        return Err(format!("signature by key {name} has a critical part that is not understood"));
    }
    let made = signature.created().map(Timestamp::as_secs).map(u64::from);
    let made = made.ok_or_else(|| format!("signature by key {name} has no date"))?;
    if made > now.saturating_add(policy.max_future.as_secs()) {
        return Err(format!(
            "signature by key {name} is dated {}, in the future of this machine's clock",
            date(made)
        ));
    }
    if cert::is_expired(signature, now) {
        return Err(format!("signature by key {name} has expired"));
    }
    Ok(made)
}

/// Certificates that the signature carries with it.
fn key_block(signature: &Signature) -> Vec<Cert> {
    let Some(config) = signature.config() else { return Vec::new() };
    config
        .hashed_subpackets()
        .filter_map(|part| match &part.data {
            // The first octet is reserved and 0.
            SubpacketData::Other(KEY_BLOCK, bytes) => {
                bytes.strip_prefix(&[0]).filter(|block| block.len() <= MAX_KEY_BLOCK)
            }
            _ => None,
        })
        .flat_map(|bytes| cert::parse(bytes, true))
        .collect()
}

/// A day for messages.
pub(super) fn date(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .map_or_else(|| format!("@{seconds}"), |moment| moment.date().to_string())
}
