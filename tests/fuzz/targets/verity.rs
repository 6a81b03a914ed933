//! What protects a disk by hashes and signatures: superblocks, certificates, private keys.

use slipway::crypto::cms::Certificate;
use slipway::format::verity::{LEVELS_MAX, Superblock};
use slipway::format::x509::{self, PrivateKey};

use crate::{files, kind};

pub fn superblock(bytes: &[u8]) -> u64 {
    let superblock = match Superblock::decode(bytes) {
        Ok(superblock) => superblock,
        Err(err) => return kind(&err),
    };
    let written = superblock.encode().expect("it was read");
    assert_eq!(Superblock::decode(&written).as_ref(), Ok(&superblock));
    let levels = superblock.geometry.levels();
    if let Ok(levels) = &levels {
        assert!(levels.len() <= LEVELS_MAX);
        let size = superblock.geometry.hash_size().expect("the levels have sizes");
        let block = u64::from(superblock.geometry.hash_block_size);
        // Without a gap, the topmost right after the superblock.
        let mut next = block;
        for level in levels.iter().rev() {
            assert_eq!(level.offset, next);
            next += level.blocks * block;
        }
        assert_eq!(size, next);
    }
    kind(&(superblock.salt.is_empty(), levels.map(|levels| levels.len()).map_err(|err| kind(&err))))
}

pub fn superblock_seeds() -> Vec<Vec<u8>> {
    let geometry = slipway::format::verity::Geometry {
        data_block_size: 4096,
        hash_block_size: 4096,
        data_blocks: 257,
    };
    let superblock = Superblock { uuid: [7; 16], salt: vec![9; 32], geometry };
    vec![superblock.encode().expect("a good one").to_vec()]
}

/// A certificate in PEM or DER, and the same bytes as keys.
pub fn certificate(bytes: &[u8]) -> u64 {
    let certificate = Certificate::parse(bytes);
    if let Ok(certificate) = &certificate {
        let der = certificate.der();
        let parts = x509::Certificate::decode(der).expect("it was parsed");
        for part in [parts.issuer, parts.serial, parts.public_key] {
            assert!(part.is_empty() || der.windows(part.len()).any(|window| window == part));
        }
        assert_eq!(Certificate::parse(der).as_ref(), Ok(certificate));
    }
    let name = |key: Result<PrivateKey<'_>, x509::Error>| match key {
        Ok(PrivateKey::Rsa(_)) => "rsa".to_owned(),
        Ok(PrivateKey::P256(_)) => "p256".to_owned(),
        Ok(PrivateKey::P384(_)) => "p384".to_owned(),
        Err(err) => err.to_string(),
    };
    let der = slipway::crypto::pem::first(bytes, |_| true).map(|block| block.der.to_vec());
    let der = der.unwrap_or_else(|| bytes.to_vec());
    let keys = (name(PrivateKey::decode_pkcs8(&der)), name(PrivateKey::decode_sec1(&der)));
    kind(&(certificate.map(|_| ()), keys))
}

pub fn certificate_seeds() -> Vec<Vec<u8>> {
    [files("verity-sig", ".der"), files("verity-sig", ".pem")].concat()
}
