//! Makes encrypted volumes that cryptsetup and the kernel open: a LUKS2 header with one key slot,
//! and a [`Disk`](crate::disk::Disk) for what goes into them.
//!
//! Why our own: neither a library nor the device mapper is needed, so that an image file is made
//! without root, and the file system is written into its final place, encrypted, once.
//!
//! Document: "LUKS2 On-Disk Format Specification", version 1.1.3; for the splitter §2.4 of its
//! LUKS1 predecessor, version 1.2.3.

use std::time::Duration;

use hmac::Hmac;
use sha2::{Digest, Sha256, Sha512};

use super::secret::{Secret, wipe};
use super::text::base64;
use super::xts::{Encrypted, Xts};
use crate::ctx::Ctx;
use crate::disk::{Disk, Window};
use crate::error::{Context as _, Error, Result};
use crate::format::luks2::{
    DATA_OFFSET, HEADER_LEN, Header, KEY_LEN, Kdf, SLOT_LEN, SLOT_OFFSET, STRIPES, SplitHash,
};

/// Iterations of [`Cost::Minimal`], and the least of all.
const ITERATIONS_MIN: u32 = 1000;
/// How long a pass phrase should take, on this machine.
const TARGET: Duration = Duration::from_millis(2000);
/// How long the check of a volume key should take.
const DIGEST_TARGET: Duration = Duration::from_millis(125);
/// LIMIT: memory of Argon2id, in KiB; also no more than half of what is available.
const MEMORY_MAX_KIB: u32 = 1 << 20;
/// Memory of Argon2id at least, in KiB.
const MEMORY_MIN_KIB: u32 = 64 << 10;
/// Passes of Argon2id at least.
const PASSES_MIN: u32 = 4;
/// LIMIT: lanes of Argon2id.
const LANES_MAX: u32 = 4;
/// Length of a salt, in bytes.
const SALT_LEN: usize = 32;

/// How hard a pass phrase is to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Argon2id, for two seconds or so.
    Argon2id,
    /// PBKDF2, for two seconds or so.
    Pbkdf2,
    /// PBKDF2-SHA512 with a thousand iterations, for keys that nobody can guess.
    Minimal,
}

/// What a new volume is to be.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Identity.
    pub uuid: uuid::Uuid,
    /// Label, at most 47 bytes.
    pub label: String,
    /// Sector size of the encryption, in bytes: 512 to 4096.
    pub sector_size: u32,
    /// Discards go through to what is below.
    pub allows_discards: bool,
    /// For the key slot.
    pub cost: Cost,
}

/// A volume key and the header that goes with it, ready to be written.
///
/// Made before the first write: the derivation may fail for want of memory.
pub struct Prepared {
    header: Vec<u8>,
    slot: Secret,
    key: Secret,
    sector_size: u32,
}

impl Prepared {
    /// Draws a volume key and puts it into a slot that the pass phrase opens; that may be empty.
    ///
    /// # Errors
    ///
    /// The label is too long, or there is not enough memory.
    pub fn new(ctx: &Ctx, volume: &Volume, pass_phrase: &[u8]) -> Result<Self> {
        let failed = || "Failed to prepare the LUKS2 header".to_owned();
        let mut drawn = ctx.random::<KEY_LEN>();
        let key = Secret::from(drawn.to_vec());
        wipe(&mut drawn);

        let kdf_salt = ctx.random::<SALT_LEN>();
        let kdf = choose(ctx, volume.cost)?;
        let mut slot_key = Secret::zeroed(KEY_LEN);
        derive(kdf, pass_phrase, &kdf_salt, &mut slot_key).context(failed)?;
        let mut slot = split(ctx, &key, kdf.split_hash());
        let cipher = Xts::new(&slot_key).context(failed)?;
        // The area has sectors of 512 bytes and begins with number 0.
        cipher.encrypt(&mut slot, 512, 0);

        let digest_salt = ctx.random::<SALT_LEN>();
        // A volume key is not to be guessed, however fast its digest is.
        let digest_iterations = match volume.cost {
            Cost::Minimal => ITERATIONS_MIN,
            _ => measure_pbkdf2(ctx, DIGEST_TARGET, 1),
        };
        let mut digest = [0; 32];
        pbkdf2_sha256(&key, &digest_salt, digest_iterations, &mut digest);
        let header = Header {
            uuid: volume.uuid.hyphenated().to_string(),
            label: volume.label.clone(),
            sector_size: volume.sector_size,
            kdf,
            kdf_salt: base64(&kdf_salt),
            digest_iterations,
            digest_salt: base64(&digest_salt),
            digest: base64(&digest),
            allows_discards: volume.allows_discards,
        };
        let header = header.encode([ctx.random(), ctx.random()]).context(failed)?;
        Ok(Self { header, slot, key, sector_size: volume.sector_size })
    }

    /// Writes the header and the key slot to the start of a disk; what else is in the area of the
    /// slots becomes zeros. The key slot comes first: until there is a header there is no volume.
    ///
    /// # Errors
    ///
    /// As of writing, and if the disk is too small.
    pub fn write(&self, disk: &dyn Disk) -> Result<()> {
        let failed = || "Failed to write the LUKS2 header".to_owned();
        let slots = SLOT_OFFSET + SLOT_LEN;
        disk.write_at(SLOT_OFFSET, &self.slot).context(failed)?;
        disk.zero(SLOT_OFFSET + self.slot.len() as u64, SLOT_LEN - self.slot.len() as u64)
            .context(failed)?;
        disk.zero(slots, DATA_OFFSET - slots).context(failed)?;
        debug_assert_eq!(self.header.len(), 2 * HEADER_LEN);
        disk.write_at(0, &self.header).context(failed)
    }

    /// The inside of the volume: `data` is what lies behind its header.
    ///
    /// # Errors
    ///
    /// If the sector size is none.
    pub fn open<'a>(&self, data: &'a dyn Disk) -> Result<Encrypted<'a>> {
        Encrypted::new(data, &self.key, self.sector_size)
            .context(|| "Failed to open the encrypted volume".to_owned())
    }
}

/// What lies behind the header of a volume of this size, as far as `len` bytes.
///
/// # Errors
///
/// If that is more than there is.
pub fn data(disk: &dyn Disk, len: u64) -> Result<Window<'_>> {
    Window::new(disk, DATA_OFFSET, len).context(|| "The encrypted volume is too small".to_owned())
}

/// Splits a key into stripes of which each is needed, one after the other.
fn split(ctx: &Ctx, key: &[u8], hash: SplitHash) -> Secret {
    let len = key.len();
    let mut stripes = Secret::zeroed(len * STRIPES);
    let mut state = Secret::zeroed(len);
    let last = STRIPES - 1;
    for (number, stripe) in stripes.chunks_exact_mut(len).enumerate() {
        if number == last {
            stripe.iter_mut().zip(key).zip(&*state).for_each(|((to, a), b)| *to = a ^ b);
            break;
        }
        for part in stripe.chunks_mut(KEY_LEN) {
            let drawn = ctx.random::<KEY_LEN>();
            part.iter_mut().zip(drawn).for_each(|(to, from)| *to = from);
        }
        state.iter_mut().zip(&*stripe).for_each(|(to, from)| *to ^= from);
        match hash {
            SplitHash::Sha256 => spread::<Sha256>(&mut state),
            SplitHash::Sha512 => spread::<Sha512>(&mut state),
        }
    }
    stripes
}

/// Replaces every piece of a digest's length by the digest of its number and itself.
fn spread<D: Digest>(state: &mut [u8]) {
    let size = <D as Digest>::output_size();
    for (piece, number) in state.chunks_mut(size).zip(0_u32..) {
        let digest = D::new().chain_update(number.to_be_bytes()).chain_update(&*piece).finalize();
        piece.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    }
}

fn derive(kdf: Kdf, pass_phrase: &[u8], salt: &[u8], key: &mut [u8]) -> Result<()> {
    match kdf {
        Kdf::Pbkdf2Sha256(iterations) => pbkdf2_sha256(pass_phrase, salt, iterations, key),
        Kdf::Pbkdf2Sha512(iterations) => pbkdf2_sha512(pass_phrase, salt, iterations, key),
        Kdf::Argon2id { time, memory_kib, cpus } => {
            return argon2id(pass_phrase, salt, (time, memory_kib, cpus), key);
        }
    }
    Ok(())
}

fn pbkdf2_sha256(secret: &[u8], salt: &[u8], iterations: u32, key: &mut [u8]) {
    // HMAC takes a key of any length.
    let _ = pbkdf2::pbkdf2::<Hmac<Sha256>>(secret, salt, iterations, key);
}

fn pbkdf2_sha512(secret: &[u8], salt: &[u8], iterations: u32, key: &mut [u8]) {
    let _ = pbkdf2::pbkdf2::<Hmac<Sha512>>(secret, salt, iterations, key);
}

fn argon2id(
    pass_phrase: &[u8],
    salt: &[u8],
    (time, memory_kib, cpus): (u32, u32, u32),
    key: &mut [u8],
) -> Result<()> {
    use argon2::{Algorithm, Argon2, Block, Params, Version};
    let refused = |err: argon2::Error| Error::new(format!("Argon2id refuses: {err}"));
    let params = Params::new(memory_kib, time, cpus, Some(key.len())).map_err(refused)?;
    let mut blocks: Vec<Block> = Vec::new();
    let count = params.block_count();
    blocks.try_reserve_exact(count).map_err(|_| {
        Error::errno_because(
            format!("Argon2id takes {memory_kib} KiB of memory"),
            rustix::io::Errno::NOMEM.raw_os_error(),
        )
        .hint("EncryptKDF=pbkdf2 takes none")
    })?;
    blocks.resize(count, Block::default());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(pass_phrase, salt, key, &mut blocks)
        .map_err(refused)
}

/// The parameters that take about the time they should.
fn choose(ctx: &Ctx, cost: Cost) -> Result<Kdf> {
    match cost {
        Cost::Minimal => Ok(Kdf::Pbkdf2Sha512(ITERATIONS_MIN)),
        Cost::Pbkdf2 => Ok(Kdf::Pbkdf2Sha256(measure_pbkdf2(ctx, TARGET, 2))),
        Cost::Argon2id => measure_argon2id(ctx),
    }
}

/// How many iterations of PBKDF2-SHA256 fit into a time, for so many digests of output.
fn measure_pbkdf2(ctx: &Ctx, target: Duration, digests: u32) -> u32 {
    const TRIAL: u32 = 20_000;
    let mut key = [0; 32];
    let began = ctx.monotonic();
    pbkdf2_sha256(b"trial", &[0; SALT_LEN], TRIAL, &mut key);
    let took = ctx.monotonic().saturating_sub(began).as_nanos().max(1);
    let count = target.as_nanos() * u128::from(TRIAL) / took / u128::from(digests);
    u32::try_from(count).unwrap_or(u32::MAX).max(ITERATIONS_MIN)
}

/// As much memory as there is time for, then as many passes.
///
/// DIFFERS: the lanes are worked off one after the other here, while whoever opens the volume may
/// do it on as many processors; it opens faster than in the two seconds this aims at.
fn measure_argon2id(ctx: &Ctx) -> Result<Kdf> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = u32::try_from(lanes).unwrap_or(LANES_MAX).clamp(1, LANES_MAX);
    let limit = (available_kib(ctx) / 2).clamp(u64::from(8 * cpus), u64::from(MEMORY_MAX_KIB));
    let limit = u32::try_from(limit).unwrap_or(MEMORY_MAX_KIB);
    let trial = MEMORY_MIN_KIB.min(limit);
    let mut key = Secret::zeroed(KEY_LEN);
    let began = ctx.monotonic();
    argon2id(b"trial", &[0; SALT_LEN], (PASSES_MIN, trial, cpus), &mut key)?;
    let took = ctx.monotonic().saturating_sub(began).as_nanos().max(1);
    let wanted = u128::from(trial) * TARGET.as_nanos() / took;
    let memory_kib = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(trial, limit);
    let time = wanted * u128::from(PASSES_MIN) / u128::from(memory_kib);
    let time = u32::try_from(time).unwrap_or(u32::MAX).max(PASSES_MIN);
    Ok(Kdf::Argon2id { time, memory_kib, cpus })
}

/// Memory that can be had without swapping, in KiB; 128 MiB where the kernel does not say.
fn available_kib(ctx: &Ctx) -> u64 {
    let text = std::fs::read_to_string(ctx.proc("meminfo")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(128 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivations_are_those_of_the_documents() {
        let hex = crate::crypto::text::hex;
        // RFC 7914 §11 (PBKDF2-HMAC-SHA256).
        let mut key = [0; 64];
        pbkdf2_sha256(b"passwd", b"salt", 1, &mut key);
        assert!(
            hex(&key)
                .starts_with("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc")
        );
    }

    #[test]
    fn a_split_key_comes_together_again() {
        let ctx = Ctx::host([]);
        let key: Vec<u8> = (0..64).collect();
        for hash in [SplitHash::Sha256, SplitHash::Sha512] {
            let stripes = split(&ctx, &key, hash);
            assert_eq!(stripes.len(), 64 * STRIPES);
            let mut state = vec![0; 64];
            for stripe in stripes.chunks(64).take(STRIPES - 1) {
                state.iter_mut().zip(stripe).for_each(|(to, from)| *to ^= from);
                match hash {
                    SplitHash::Sha256 => spread::<Sha256>(&mut state),
                    SplitHash::Sha512 => spread::<Sha512>(&mut state),
                }
            }
            let last = &stripes[64 * (STRIPES - 1)..];
            let found: Vec<u8> = state.iter().zip(last).map(|(a, b)| a ^ b).collect();
            assert_eq!(found, key);
        }
    }
}
