//! What a web server offers: the manifest of a base URL, fetched, verified and read once.
//!
//! The signature authenticates the manifest, the manifest's hashes authenticate the files. Nothing
//! of a manifest is looked at before its signature is found good, and a manifest that says of
//! itself that it is too old is refused: an attacker between us and the server can replay one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::conf::value;
use crate::crypto::openpgp::{self, Keyring, MAX_SIGNATURE, Policy, Refusal};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::format::manifest::{self, Freshness, Manifest, ManifestError, Selected};
use crate::format::pattern::Pattern;
use crate::http::Client;
use crate::http::url::join;
use crate::log::NOTICE;
use crate::out::glyph::{self, Glyph};

/// LIMIT: longer manifests are refused; 70 000 entries take about 7 MiB.
const MAX_MANIFEST: u64 = 64 << 20;

const MANIFEST: &str = "SHA256SUMS";
/// Names of the signature, the first that is there counts.
const SIGNATURES: [&str; 4] =
    ["SHA256SUMS.sha256.asc", "SHA256SUMS.sha256.gpg", "SHA256SUMS.gpg", "SHA256SUMS.asc"];

/// A mirror that is just being changed gets this long to finish.
const MIRROR_PAUSE: Duration = Duration::from_secs(1);

/// One file that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebFile {
    /// As the manifest names it, relative to the base.
    pub name: String,
    /// Where to get it.
    pub url: String,
    /// SHA-256 of the bytes as served.
    pub sha256: [u8; 32],
}

/// Everything that one base URL offers.
#[derive(Clone, Debug)]
pub struct Listing {
    base: Arc<str>,
    manifest: Manifest,
}

impl Listing {
    /// All files, in the order of the manifest.
    pub fn files(&self) -> impl Iterator<Item = WebFile> {
        self.manifest.entries.iter().map(|entry| WebFile {
            name: entry.name.to_string(),
            url: join(&self.base, &entry.name),
            sha256: entry.hash,
        })
    }

    /// The files that match one of the patterns, in the order of the manifest.
    ///
    /// # Errors
    ///
    /// A name gives another hash than its line.
    pub fn select<'a>(
        &'a self,
        patterns: &'a [Pattern],
    ) -> impl Iterator<Item = Result<Selected<'a>>> {
        let refused = |err| refused_manifest(&join(&self.base, MANIFEST), &err);
        self.manifest.select(patterns).map(move |found| found.map_err(refused))
    }

    /// The URL that the names are relative to.
    pub fn base(&self) -> &Arc<str> {
        &self.base
    }
}

/// The listings of one process: every base URL is asked once, however many transfers name it.
#[derive(Default)]
pub struct Listings(Mutex<HashMap<(String, bool), Arc<Listing>>>);

impl Listings {
    /// As [`list`], from memory where this base was asked before.
    ///
    /// # Errors
    ///
    /// As [`list`]. A failure is not remembered.
    pub fn list(
        &self,
        ctx: &Ctx,
        client: &Client,
        base: &str,
        verify: bool,
    ) -> Result<Arc<Listing>> {
        // DIFFERS: there a list that was not verified also serves a transfer with Verify=yes.
        // Here a verified one serves both.
        let find = |verify| self.lock().get(&(base.to_owned(), verify)).cloned();
        if let Some(listing) = find(true).or_else(|| if verify { None } else { find(false) }) {
            log::debug!("Manifest web cache hit for {base}.");
            return Ok(listing);
        }
        log::debug!("Manifest web cache miss for {base}.");
        let listing = Arc::new(list(ctx, client, base, verify)?);
        self.lock().insert((base.to_owned(), verify), listing.clone());
        log::debug!("Added manifest '{base}' to cache.");
        Ok(listing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, bool), Arc<Listing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the manifest of a base URL, verifies it where that is asked, checks that it is fresh,
/// and reads it.
///
/// # Errors
///
/// The manifest or its signature cannot be fetched; the signature, its key or the manifest is
/// not good; a best-before marker has passed.
pub fn list(ctx: &Ctx, client: &Client, base: &str, verify: bool) -> Result<Listing> {
    let url = join(base, MANIFEST);
    let is_utf8 = glyph::is_utf8(ctx);
    log::info!(
        "{} Acquiring manifest file {url}{}",
        Glyph::Download.text(is_utf8),
        Glyph::Ellipsis.text(is_utf8)
    );
    let bytes = if verify {
        fetch_verified(ctx, client, base, &url)?
    } else {
        fetch_manifest(client, &url)?
    };
    let manifest = manifest::parse(&bytes).map_err(|err| refused_manifest(&url, &err))?;
    check_freshness(ctx, &url, &manifest)?;
    Ok(Listing { base: base.into(), manifest })
}

fn refused_manifest(url: &str, err: &ManifestError) -> Error {
    Error::new(err.to_string()).at(url, None).with_errno(EINVAL)
}

fn fetch_manifest(client: &Client, url: &str) -> Result<Vec<u8>> {
    client
        .fetch(url, MAX_MANIFEST)?
        .ok_or_else(|| Error::new(format!("HTTP request to {url} failed with code 404.")))
}

fn fetch_signature(client: &Client, base: &str) -> Result<(String, Vec<u8>)> {
    for name in SIGNATURES {
        let url = join(base, name);
        if let Some(bytes) = client.fetch(&url, MAX_SIGNATURE)? {
            return Ok((url, bytes));
        }
        log::debug!("There is no {url}.");
    }
    Err(Error::new("Failed to retrieve signature file, cannot verify. (Try --verify=no?)")
        .at(join(base, MANIFEST), None)
        .hint(format!("A signature is one of {} beside it.", SIGNATURES.join(", "))))
}

/// Manifest and signature are two files, and a mirror may be caught between them: where they do
/// not belong together both are fetched once more.
fn fetch_verified(ctx: &Ctx, client: &Client, base: &str, url: &str) -> Result<Vec<u8>> {
    let policy = policy(ctx);
    let mut keyring = None;
    for is_last in [false, true] {
        let (manifest, signature) = std::thread::scope(|scope| {
            let signature = scope.spawn(|| fetch_signature(client, base));
            let manifest = fetch_manifest(client, url);
            (manifest, signature.join())
        });
        let manifest = manifest?;
        let (signature_url, signature) =
            signature.map_err(|_| Error::new("Failed to retrieve signature file."))??;
        if signature.is_empty() {
            return Err(Error::new(Refusal::Empty.to_string()).at(&signature_url, None));
        }
        let keyring = match &keyring {
            Some(keyring) => keyring,
            None => keyring.insert(Keyring::load(ctx)?),
        };
        let refusal = match openpgp::verify(&signature, &manifest, keyring, ctx.now(), &policy) {
            Ok(signers) => {
                for signer in signers {
                    log::debug!(
                        "Good signature of {url} by key {} ({}).",
                        signer.fingerprint,
                        signer.user
                    );
                }
                log::info!("Signature verification succeeded.");
                return Ok(manifest);
            }
            Err(refusal) => refusal,
        };
        if is_last || !matches!(refusal, Refusal::Bad(_)) {
            return Err(refused(&signature_url, refusal));
        }
        log::info!("Signature and manifest of {base} do not match, fetching both once more.");
        ctx.sleep(MIRROR_PAUSE);
    }
    Err(Error::new("DOWNLOAD INVALID: Signature verification failed."))
}

fn refused(signature_url: &str, refusal: Refusal) -> Error {
    let hint = match &refusal {
        Refusal::NoPublicKey(_) => Some("Add the key that signs the updates to a keyring."),
        Refusal::Bad(_) => Some("The list is not the one that was signed: changed, or damaged."),
        Refusal::NotAvailable => Some("Use a slipway built with 'openpgp', or --verify=no."),
        _ => None,
    };
    let text = "DOWNLOAD INVALID: Signature verification failed";
    let error = Error::because(format!("{text}: {signature_url}"), refusal);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The default policy, loosened by `$SLIPWAY_OPENPGP_POLICY`: `expired-keys` takes signatures made
/// while a key was valid that has expired since (as the peer does), `dsa` takes DSA keys.
fn policy(ctx: &Ctx) -> Policy {
    let mut policy = Policy::default();
    let words = ctx.env("SLIPWAY_OPENPGP_POLICY").unwrap_or_default();
    for word in words.split([',', ' ']).filter(|word| !word.is_empty()) {
        match word {
            "expired-keys" => policy.expired_keys = true,
            "dsa" => policy.dsa = true,
            word => log::warn!("Unknown word '{word}' in $SLIPWAY_OPENPGP_POLICY, ignoring."),
        }
    }
    policy
}

fn check_freshness(ctx: &Ctx, url: &str, manifest: &Manifest) -> Result<()> {
    let now = ctx.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_usec = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    for marker in &manifest.markers {
        let freshness = marker.freshness(now_usec);
        if !marker.is_hash_expected && !matches!(freshness, Freshness::Subdirectory(_)) {
            log::warn!(
                "Hash of best before marker file '{}' has unexpected value, proceeding anyway.",
                marker.name
            );
        }
        match freshness {
            Freshness::Subdirectory(_) => log::info!(target: NOTICE, "{freshness}"),
            Freshness::BadDate(_) => log::warn!("{freshness}"),
            Freshness::Fresh => log::info!("{freshness}"),
            Freshness::Stale { .. } if is_freshness_wanted(ctx) => {
                return Err(Error::new(freshness.to_string())
                    .at(url, None)
                    .with_errno(ESTALE)
                    .hint("Whoever publishes the updates has to renew the list, unless this clock is wrong."));
            }
            Freshness::Stale { .. } => log::warn!("{freshness:#}"),
        }
    }
    Ok(())
}

const EINVAL: i32 = 22;
const ESTALE: i32 = 116;

fn is_freshness_wanted(ctx: &Ctx) -> bool {
    const NAME: &str = "SYSTEMD_SYSUPDATE_VERIFY_FRESHNESS";
    let Some(text) = ctx.env(NAME) else { return true };
    value::boolean(text).unwrap_or_else(|_| {
        log::debug!("Failed to parse ${NAME}, ignoring: Invalid argument");
        true
    })
}
