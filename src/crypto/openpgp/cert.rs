//! Certificates (transferable public keys): who owns which key, and when it was good.
//!
//! Only what a key's owner says of it counts: signatures of third parties, user attributes and
//! everything that does not verify are passed over.
// LIMIT: revocations by another key (designated revokers) are not looked at.

use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{PacketHeader, PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::packet::{SubpacketData, UserId};
use pgp::ser::Serialize;
use pgp::types::{
    EcdsaPublicParams, EddsaLegacyPublicParams, Fingerprint, KeyDetails, KeyId, KeyVersion,
    PublicParams, SignatureBytes, Tag, Timestamp, VerifyingKey,
};

use super::packet::{Packets, tag};
use super::{Policy, brainpool};

/// A key's statement about itself.
#[derive(Clone)]
struct SelfSignature {
    signature: Signature,
    /// It came with the file to be verified, not from a keyring.
    is_foreign: bool,
}

/// A subkey and what binds it.
#[derive(Clone)]
struct Subkey {
    key: PublicSubkey,
    signatures: Vec<SelfSignature>,
}

/// One certificate.
#[derive(Clone)]
pub(super) struct Cert {
    primary: PublicKey,
    direct: Vec<SelfSignature>,
    users: Vec<(UserId, Vec<SelfSignature>)>,
    subkeys: Vec<Subkey>,
}

/// Where the next signature packet belongs.
enum Place {
    Nowhere,
    Primary,
    User,
    Subkey,
}

/// When a key may be used, as its newest statement says.
#[derive(Clone, Copy, Debug)]
struct Validity {
    /// Seconds since the epoch.
    created: u64,
    expires: Option<u64>,
    may_sign: bool,
}

/// A key that could have made a signature.
pub(super) enum Candidate<'a> {
    Primary(&'a Cert),
    Subkey(&'a Cert, usize),
}

/// Reads the certificates of one keyring. What is damaged or of an unknown kind is left out.
pub(super) fn parse(bytes: &[u8], is_foreign: bool) -> Vec<Cert> {
    let mut certs: Vec<Cert> = Vec::new();
    let mut place = Place::Nowhere;
    for packet in Packets::new(bytes).map_while(Result::ok) {
        match packet.tag {
            tag::PUBLIC_KEY => {
                place = Place::Nowhere;
                if let Some(primary) = public_key(packet.body) {
                    place = Place::Primary;
                    certs.push(Cert {
                        primary,
                        direct: Vec::new(),
                        users: Vec::new(),
                        subkeys: Vec::new(),
                    });
                }
            }
            _ if matches!(place, Place::Nowhere) && certs.is_empty() => {}
            tag::USER_ID => {
                place = certs.last_mut().map_or(Place::Nowhere, |c| c.user(packet.body))
            }
            tag::PUBLIC_SUBKEY => {
                place = certs.last_mut().map_or(Place::Nowhere, |c| c.subkey(packet.body));
            }
            tag::USER_ATTRIBUTE => place = Place::Nowhere,
            tag::SIGNATURE => {
                if let (Some(cert), Some(signature)) = (certs.last_mut(), signature(packet.body)) {
                    cert.keep(&place, SelfSignature { signature, is_foreign });
                }
            }
            _ => {}
        }
    }
    certs
}

fn header(kind: Tag, body: &[u8]) -> Option<PacketHeader> {
    Some(PacketHeader::new_fixed(kind, u32::try_from(body.len()).ok()?))
}

fn is_known_version(body: &[u8]) -> bool {
    matches!(body.first(), Some(4 | 6))
}

fn public_key(mut body: &[u8]) -> Option<PublicKey> {
    let header = header(Tag::PublicKey, body).filter(|_| is_known_version(body))?;
    let key = PublicKey::try_from_reader(header, &mut body).ok()?;
    body.is_empty().then_some(key)
}

/// Reads the body of a signature packet of a version in use.
pub(super) fn signature(mut body: &[u8]) -> Option<Signature> {
    let header = header(Tag::Signature, body).filter(|_| is_known_version(body))?;
    let signature = Signature::try_from_reader(header, &mut body).ok()?;
    body.is_empty().then_some(signature)
}

impl Cert {
    fn user(&mut self, body: &[u8]) -> Place {
        let user =
            header(Tag::UserId, body).and_then(|header| UserId::try_from_reader(header, body).ok());
        match user {
            None => Place::Nowhere,
            Some(user) => {
                self.users.push((user, Vec::new()));
                Place::User
            }
        }
    }

    fn subkey(&mut self, mut body: &[u8]) -> Place {
        let key = header(Tag::PublicSubkey, body)
            .filter(|_| is_known_version(body))
            .and_then(|header| PublicSubkey::try_from_reader(header, &mut body).ok());
        match key.filter(|_| body.is_empty()) {
            None => Place::Nowhere,
            Some(key) => {
                self.subkeys.push(Subkey { key, signatures: Vec::new() });
                Place::Subkey
            }
        }
    }

    fn keep(&mut self, place: &Place, signature: SelfSignature) {
        match place {
            Place::Nowhere => {}
            Place::Primary => self.direct.push(signature),
            Place::User => {
                if let Some((_, signatures)) = self.users.last_mut() {
                    signatures.push(signature);
                }
            }
            Place::Subkey => {
                if let Some(subkey) = self.subkeys.last_mut() {
                    subkey.signatures.push(signature);
                }
            }
        }
    }

    /// Adds what another copy of the same certificate knows.
    pub(super) fn merge(&mut self, other: Cert) {
        if other.fingerprint() == self.fingerprint() {
            self.direct.extend(other.direct);
            self.users.extend(other.users);
            self.subkeys.extend(other.subkeys);
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.primary.fingerprint()
    }

    /// The first user id, safe to be shown.
    pub(super) fn name(&self) -> String {
        let name = self.users.first().map(|(user, _)| String::from_utf8_lossy(user.id()));
        name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(256).collect()
    }

    /// The keys of this certificate that one of the names belongs to.
    pub(super) fn candidates(&self, prints: &[&Fingerprint], ids: &[&KeyId]) -> Vec<Candidate<'_>> {
        let is_named = |key: &dyn KeyDetails| {
            if prints.is_empty() {
                ids.contains(&&key.legacy_key_id())
            } else {
                prints.contains(&&key.fingerprint())
            }
        };
        let primary = is_named(&self.primary).then_some(Candidate::Primary(self));
        // Copies of one subkey share their bindings, so that a revocation in one counts for all.
        let mut seen: Vec<Fingerprint> = Vec::new();
        let subkeys = self.subkeys.iter().enumerate().filter(|(_, subkey)| {
            let is_new = !seen.contains(&subkey.key.fingerprint());
            seen.push(subkey.key.fingerprint());
            is_new && is_named(&subkey.key)
        });
        primary.into_iter().chain(subkeys.map(|(at, _)| Candidate::Subkey(self, at))).collect()
    }

    /// What the newest statement of the primary key about itself says, unless it is revoked.
    fn validity(&self, now: u64, policy: &Policy) -> Result<Validity, String> {
        let key = Checked(&self.primary);
        let print = self.fingerprint();
        let is_revoked = self.direct.iter().any(|own| {
            own.signature.typ() == Some(SignatureType::KeyRevocation)
                && own.signature.verify_key(&key).is_ok()
        });
        if is_revoked {
            return Err(format!("key {print:X} is revoked"));
        }
        let direct = self.direct.iter().filter(|own| {
            own.signature.typ() == Some(SignatureType::Key)
                && own.is_acceptable(now, policy)
                && own.signature.verify_key(&key).is_ok()
        });
        let users = self.users.iter().filter_map(|(user, signatures)| {
            let is_own = |own: &&SelfSignature| {
                own.signature.verify_certification(&key, Tag::UserId, user).is_ok()
            };
            let certified = signatures
                .iter()
                .filter(|own| own.signature.is_certification() && own.is_acceptable(now, policy));
            let newest = certified.filter(is_own).max_by_key(|own| own.created())?;
            let is_revoked = signatures.iter().any(|own| {
                own.signature.typ() == Some(SignatureType::CertRevocation)
                    && own.created() >= newest.created()
                    && is_own(&own)
            });
            (!is_revoked).then_some(newest)
        });
        let newest = direct
            .chain(users)
            .max_by_key(|own| own.created())
            .ok_or_else(|| format!("key {print:X} has no valid self-signature"))?;
        Ok(newest.validity(self.primary.created_at(), true))
    }
}

impl SelfSignature {
    fn created(&self) -> u32 {
        self.signature.created().map_or(0, Timestamp::as_secs)
    }

    /// A statement that can be understood, is of strong enough make, and is in force.
    fn is_acceptable(&self, now: u64, policy: &Policy) -> bool {
        let hash = self.signature.hash_alg();
        // The administrator chose the keyring, and old keys bind with SHA-1 (whose known
        // collisions the library detects); what a stranger adds has to be strong.
        let is_strong = hash.is_some_and(is_strong_hash)
            || !self.is_foreign && hash == Some(HashAlgorithm::Sha1);
        is_strong
            && self.signature.created().is_some()
            && !has_unknown_critical_part(&self.signature)
            && u64::from(self.created()) <= now.saturating_add(policy.max_future.as_secs())
            && !is_expired(&self.signature, now)
    }

    fn validity(&self, key_created: Timestamp, is_primary: bool) -> Validity {
        let created = u64::from(key_created.as_secs());
        let lifetime = self.signature.key_expiration_time().map_or(0, |d| d.as_secs());
        let has_flags = self.signature.config().is_some_and(|config| {
            config.hashed_subpackets().any(|part| matches!(part.data, SubpacketData::KeyFlags(_)))
        });
        Validity {
            created,
            expires: (lifetime != 0).then(|| created + u64::from(lifetime)),
            // Without the subpacket a primary key may do what its algorithm can.
            may_sign: self.signature.key_flags().sign() || is_primary && !has_flags,
        }
    }
}

impl Candidate<'_> {
    fn cert(&self) -> &Cert {
        match self {
            Self::Primary(cert) | Self::Subkey(cert, _) => cert,
        }
    }

    /// Fingerprint of the certificate and its user id.
    pub(super) fn owner(&self) -> (String, String) {
        (format!("{:X}", self.cert().fingerprint()), self.cert().name())
    }

    /// True where the signature over the data is this key's.
    pub(super) fn has_signed(&self, signature: &Signature, data: &[u8]) -> bool {
        match self {
            Self::Primary(cert) => signature.verify(&Checked(&cert.primary), data).is_ok(),
            Self::Subkey(cert, at) => cert
                .subkeys
                .get(*at)
                .is_some_and(|subkey| signature.verify(&Checked(&subkey.key), data).is_ok()),
        }
    }

    /// Says why a signature that this key made at some time is not to be taken.
    pub(super) fn check(&self, made: u64, now: u64, policy: &Policy) -> Result<(), String> {
        let cert = self.cert();
        let primary = cert.validity(now, policy)?;
        check_algorithm(&cert.primary, policy)?;
        let mut name = format!("{:X}", cert.fingerprint());
        check_time(&name, primary, made, now, policy)?;
        let mut validity = primary;
        if let Self::Subkey(cert, at) = self
            && let Some(subkey) = cert.subkeys.get(*at)
        {
            check_algorithm(&subkey.key, policy)?;
            name = format!("{:X}", subkey.key.fingerprint());
            validity = cert.binding(subkey, now, policy)?;
            check_time(&name, validity, made, now, policy)?;
        }
        if !validity.may_sign {
            return Err(format!("key {name} may not sign"));
        }
        Ok(())
    }
}

impl Cert {
    /// What the newest binding of a subkey says, unless it is revoked.
    fn binding(&self, subkey: &Subkey, now: u64, policy: &Policy) -> Result<Validity, String> {
        let primary = Checked(&self.primary);
        let print = subkey.key.fingerprint();
        let copies = self.subkeys.iter().filter(|copy| copy.key.fingerprint() == print);
        let signatures: Vec<&SelfSignature> =
            copies.flat_map(|copy| copy.signatures.iter()).collect();
        let is_own = |own: &&&SelfSignature| {
            own.signature.verify_subkey_binding(&primary, &subkey.key).is_ok()
        };
        let of_kind = |kind| signatures.iter().filter(move |s| s.signature.typ() == Some(kind));
        if of_kind(SignatureType::SubkeyRevocation).any(|own| is_own(&own)) {
            return Err(format!("key {print:X} is revoked"));
        }
        let newest = of_kind(SignatureType::SubkeyBinding)
            .filter(|own| own.is_acceptable(now, policy))
            .filter(is_own)
            .max_by_key(|own| own.created())
            .ok_or_else(|| format!("key {print:X} is not bound to its primary key"))?;
        let validity = newest.validity(subkey.key.created_at(), false);
        // A stranger's signing key must not be adopted: it has to agree.
        let agrees = newest.signature.embedded_signature().is_some_and(|back| {
            let back = SelfSignature { signature: back.clone(), is_foreign: newest.is_foreign };
            back.is_acceptable(now, policy)
                && back
                    .signature
                    .verify_primary_key_binding(&Checked(&subkey.key), &self.primary)
                    .is_ok()
        });
        if validity.may_sign && !agrees {
            return Err(format!("key {print:X} has not agreed to be bound to its primary key"));
        }
        Ok(validity)
    }
}

fn check_time(
    name: &str,
    validity: Validity,
    made: u64,
    now: u64,
    policy: &Policy,
) -> Result<(), String> {
    if made < validity.created {
        return Err(format!("signature is older than its key {name}"));
    }
    if let Some(expires) = validity.expires {
        let date = super::check::date(expires);
        if made >= expires {
            return Err(format!("signature was made after key {name} expired on {date}"));
        }
        if now >= expires && !policy.expired_keys {
            return Err(format!("key {name} expired on {date}"));
        }
    }
    Ok(())
}

fn check_algorithm(key: &impl KeyDetails, policy: &Policy) -> Result<(), String> {
    let name = || format!("{:X}", key.fingerprint());
    // Both numbers begin with their length in bits.
    let bits = |params: &dyn Fn() -> Option<Vec<u8>>| {
        params().and_then(|b| Some(usize::from(u16::from_be_bytes([*b.first()?, *b.get(1)?]))))
    };
    let too_short = |kind: &str, bits: usize| {
        Err(format!("{kind} key {} has {bits} bits, fewer than {}", name(), policy.min_rsa_bits))
    };
    match key.public_params() {
        PublicParams::RSA(params) => {
            let bits = bits(&|| params.to_bytes().ok()).unwrap_or(0);
            if bits < policy.min_rsa_bits { too_short("RSA", bits) } else { Ok(()) }
        }
        PublicParams::DSA(params) if policy.dsa => {
            let bits = bits(&|| params.to_bytes().ok()).unwrap_or(0);
            if bits < policy.min_rsa_bits { too_short("DSA", bits) } else { Ok(()) }
        }
        PublicParams::Ed25519(_)
        | PublicParams::Ed448(_)
        | PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. })
        | PublicParams::ECDSA(
            EcdsaPublicParams::P256 { .. }
            | EcdsaPublicParams::P384 { .. }
            | EcdsaPublicParams::P521 { .. },
        ) => Ok(()),
        PublicParams::ECDSA(EcdsaPublicParams::Unsupported {
            curve: ECCCurve::BrainpoolP256r1 | ECCCurve::BrainpoolP384r1 | ECCCurve::BrainpoolP512r1,
            ..
        }) => Ok(()),
        _ => Err(format!("key {} is of kind {:?}, refused by policy", name(), key.algorithm())),
    }
}

/// SHA-2 and SHA-3.
pub(super) fn is_strong_hash(hash: HashAlgorithm) -> bool {
    use HashAlgorithm as H;
    matches!(hash, H::Sha224 | H::Sha256 | H::Sha384 | H::Sha512 | H::Sha3_256 | H::Sha3_512)
}

/// True where the signature says of itself that it must be understood, and it is not.
pub(super) fn has_unknown_critical_part(signature: &Signature) -> bool {
    let Some(config) = signature.config() else { return true };
    config.hashed_subpackets().any(|part| {
        part.is_critical
            && matches!(
                part.data,
                SubpacketData::Notation(_)
                    | SubpacketData::Other(..)
                    | SubpacketData::Experimental(..)
            )
    })
}

/// True where the signature itself has ended.
pub(super) fn is_expired(signature: &Signature, now: u64) -> bool {
    let lifetime = signature.signature_expiration_time().map_or(0, |d| d.as_secs());
    let created = signature.created().map_or(0, Timestamp::as_secs);
    lifetime != 0 && u64::from(created) + u64::from(lifetime) <= now
}

/// A key that can also verify with the Brainpool curves.
#[derive(Debug)]
struct Checked<'a, K>(&'a K);

impl<K: KeyDetails> KeyDetails for Checked<'_, K> {
    fn version(&self) -> KeyVersion {
        self.0.version()
    }

    fn legacy_key_id(&self) -> KeyId {
        self.0.legacy_key_id()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    fn algorithm(&self) -> PublicKeyAlgorithm {
        self.0.algorithm()
    }

    fn created_at(&self) -> Timestamp {
        self.0.created_at()
    }

    fn legacy_v3_expiration_days(&self) -> Option<u16> {
        self.0.legacy_v3_expiration_days()
    }

    fn public_params(&self) -> &PublicParams {
        self.0.public_params()
    }
}

impl<K: Serialize> Serialize for Checked<'_, K> {
    fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
        self.0.to_writer(writer)
    }

    fn write_len(&self) -> usize {
        self.0.write_len()
    }
}

impl<K: VerifyingKey> VerifyingKey for Checked<'_, K> {
    fn verify(
        &self,
        hash: HashAlgorithm,
        digest: &[u8],
        signature: &SignatureBytes,
    ) -> pgp::errors::Result<()> {
        let (curve, point) = match self.0.public_params() {
            PublicParams::ECDSA(EcdsaPublicParams::Unsupported { curve, opaque }) => {
                (curve, opaque)
            }
            _ => return self.0.verify(hash, digest, signature),
        };
        let is_good = match signature {
            SignatureBytes::Mpis(numbers) => match numbers.as_slice() {
                [r, s] => {
                    // The point follows its length in bits.
                    let point = point.get(2..).unwrap_or_default();
                    brainpool::verify(curve, point, digest, r.as_ref(), s.as_ref())
                }
                _ => false,
            },
            SignatureBytes::Native(_) => false,
        };
        if is_good { Ok(()) } else { Err(std::io::Error::other("bad signature").into()) }
    }
}
