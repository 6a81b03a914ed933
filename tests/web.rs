//! Manifests from a server: signature, freshness, cache.
#![cfg(all(feature = "update", feature = "openpgp"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

#[path = "common/http_server.rs"]
mod http_server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use slipway::ctx::{Clock, Ctx};
use slipway::format::pattern::Pattern;
use slipway::http::Client;
use slipway::update::web::{self, Listings};

use http_server::{HttpServer, Reply};

/// 2026-11-23 00:00:00 UTC.
const TODAY: u64 = 1_795_392_000;

struct FixedClock(u64);

impl Clock for FixedClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
    }

    fn sleep(&self, _time: Duration) {}
}

fn vector(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/signatures");
    std::fs::read(dir.join(name)).unwrap()
}

fn keyring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/signatures/keyrings").join(name)
}

struct World {
    server: HttpServer,
    ctx: Ctx,
    client: Client,
}

impl World {
    fn new(ring: &str) -> Self {
        let ctx = Ctx::host([])
            .with_clock(Arc::new(FixedClock(TODAY)))
            .with_env("SYSTEMD_OPENPGP_KEYRING", keyring(ring));
        let client = Client::new(&ctx);
        let world = Self { server: HttpServer::start(), ctx, client };
        world.server.on("/d/SHA256SUMS", [Reply::file(vector("SHA256SUMS"))]);
        world
    }

    fn sign(&self, suffix: &str, signature: &str) {
        let body = vector(&format!("sigs/{signature}"));
        self.server.on(&format!("/d/SHA256SUMS{suffix}"), [Reply::file(body)]);
    }

    fn serve(&self, manifest: &str) {
        self.server.on("/d/SHA256SUMS", [Reply::file(manifest)]);
    }

    fn names(&self, verify: bool) -> Result<Vec<String>, String> {
        let base = self.server.url("/d/?ignored");
        match web::list(&self.ctx, &self.client, &base, verify) {
            Ok(listing) => Ok(listing.files().map(|file| file.name).collect()),
            Err(err) => Err(err.to_string().replace(&self.server.url(""), "BASE")),
        }
    }

    fn asked(&self) -> Vec<String> {
        let log = self.server.log();
        let mut asked: Vec<_> = log.iter().map(|r| r.target.replace("/d/SHA256SUMS", "")).collect();
        asked.retain(|name| !name.is_empty());
        asked
    }
}

const FILES: [&str; 2] = ["payload_1.raw", "payload_2.raw"];

#[test]
fn signed_manifest_lists_its_files_with_their_urls() {
    let world = World::new("ed25519.pgp");
    world.sign(".gpg", "ed25519.sig");
    assert_eq!(world.names(true).unwrap(), FILES);
    let listing = web::list(&world.ctx, &world.client, &world.server.url("/d"), true).unwrap();
    let file = listing.files().next().unwrap();
    assert_eq!(file.url, world.server.url("/d/payload_1.raw"));
    let hash = slipway::crypto::hash::sha256(&vector("payload_1.raw"));
    assert_eq!(file.sha256, hash);
}

#[test]
fn first_signature_that_is_there_counts() {
    let all = [".sha256.asc", ".sha256.gpg", ".gpg", ".asc"];
    for (at, suffix) in all.iter().enumerate() {
        let world = World::new("ed25519.pgp");
        world.sign(suffix, "ed25519.sig");
        for later in &all[at + 1..] {
            world.sign(later, "garbage.sig");
        }
        assert_eq!(world.names(true).unwrap(), FILES);
        assert_eq!(world.asked(), all[..=at]);
        // A bad one is not made up for by a later good one.
        world.sign(suffix, "wrong.sig");
        world.sign(".asc", if at < 3 { "ed25519.sig" } else { "wrong.sig" });
        assert!(world.names(true).is_err());
    }
}

#[test]
fn missing_and_bad_signatures_are_refused_with_the_reason() {
    let world = World::new("ed25519.pgp");
    assert_eq!(
        world.names(true).unwrap_err(),
        "BASE/d/SHA256SUMS: Failed to retrieve signature file, cannot verify. (Try --verify=no?)"
    );
    assert_eq!(world.names(false).unwrap(), FILES);
    for (signature, text) in [
        ("empty.sig", "Signature is empty, cannot verify."),
        ("wrong.sig", "no public key for key "),
        ("ed25519-badsig.sig", "BAD signature from key "),
        ("ed25519-sigexpired.sig", " has expired"),
        ("garbage.sig", "the file is no OpenPGP signature"),
    ] {
        world.sign(".gpg", signature);
        let err = world.names(true).unwrap_err();
        assert!(err.contains(text), "{err}");
        if signature != "empty.sig" {
            let head = "DOWNLOAD INVALID: Signature verification failed: BASE/d/SHA256SUMS.gpg: ";
            assert!(err.starts_with(head), "{err}");
        }
    }
    world.server.on("/d/SHA256SUMS.gpg", [Reply::status(403)]);
    assert!(world.names(true).unwrap_err().ends_with("failed with code 403."));
    world.server.on("/d/SHA256SUMS.gpg", [Reply::file(vec![0x88; (1 << 20) + 1])]);
    assert!(world.names(true).unwrap_err().starts_with("File too large"));
}

#[test]
fn expired_key_is_the_administrators_choice() {
    let world = World::new("expired.pgp");
    world.sign(".gpg", "expired.sig");
    assert!(world.names(true).unwrap_err().ends_with(" expired on 2024-12-31"));
    let ctx = world.ctx.clone().with_env("SLIPWAY_OPENPGP_POLICY", "expired-keys");
    assert!(web::list(&ctx, &world.client, &world.server.url("/d"), true).is_ok());
}

#[test]
fn revoked_key_is_refused() {
    let world = World::new("revoked.pgp");
    world.sign(".gpg", "revoked.sig");
    assert!(world.names(true).unwrap_err().ends_with(" is revoked"));
}

#[test]
fn missing_keyring_is_named() {
    let world = World::new("absent.pgp");
    world.sign(".gpg", "ed25519.sig");
    let err = world.names(true).unwrap_err();
    assert!(err.contains("absent.pgp") && err.contains("No such file"), "{err}");
}

#[test]
fn mirror_caught_between_two_versions_is_asked_once_more() {
    let world = World::new("ed25519.pgp");
    world.sign(".gpg", "ed25519.sig");
    let old = Reply::file("");
    world.server.on("/d/SHA256SUMS", [old.clone(), Reply::file(vector("SHA256SUMS"))]);
    assert_eq!(world.names(true).unwrap(), FILES);
    world.server.on("/d/SHA256SUMS", [old]);
    assert!(world.names(true).unwrap_err().contains("BAD signature"));
    assert_eq!(world.server.count("/d/SHA256SUMS"), 4);
}

#[test]
fn absent_manifest_is_an_error() {
    let world = World::new("ed25519.pgp");
    world.server.on("/d/SHA256SUMS", [Reply::status(404)]);
    assert_eq!(
        world.names(false).unwrap_err(),
        "HTTP request to BASE/d/SHA256SUMS failed with code 404."
    );
}

#[test]
fn corrupt_manifest_is_refused_whole() {
    let world = World::new("ed25519.pgp");
    world.serve("# comment\n");
    assert_eq!(
        world.names(false).unwrap_err(),
        "BASE/d/SHA256SUMS: Corrupt manifest at line 1, refusing."
    );
}

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn stale_manifest_is_refused_unless_told_otherwise() {
    let world = World::new("ed25519.pgp");
    world.serve(&format!("{EMPTY}  f_1\n{EMPTY}  BEST-BEFORE-2026-11-23\n"));
    assert_eq!(world.names(false).unwrap(), ["f_1"], "midnight itself is in time");
    world.serve(&format!("{EMPTY}  f_1\n{EMPTY}  BEST-BEFORE-2026-11-22\n"));
    assert_eq!(
        world.names(false).unwrap_err(),
        "BASE/d/SHA256SUMS: Best before marker indicates out-of-date file list, refusing \
         (Sun 2026-11-22 00:00:00 UTC < Mon 2026-11-23 00:00:00 UTC)."
    );
    let name = "SYSTEMD_SYSUPDATE_VERIFY_FRESHNESS";
    for (word, is_checked) in [("0", false), ("no", false), ("1", true), ("nonsense", true)] {
        let ctx = world.ctx.clone().with_env(name, word);
        let result = web::list(&ctx, &world.client, &world.server.url("/d"), false);
        assert_eq!(result.is_err(), is_checked, "{word}");
    }
}

#[test]
fn every_base_is_asked_once() {
    let world = World::new("ed25519.pgp");
    world.sign(".gpg", "ed25519.sig");
    let listings = Listings::default();
    let base = world.server.url("/d");
    let list = |verify| listings.list(&world.ctx, &world.client, &base, verify).unwrap();
    let unverified = list(false);
    let again = list(false);
    assert!(Arc::ptr_eq(&unverified, &again));
    assert_eq!(world.server.count("/d/SHA256SUMS"), 1);
    let verified = list(true);
    assert_eq!(world.server.count("/d/SHA256SUMS"), 2, "not to be had from an unverified one");
    assert!(Arc::ptr_eq(&verified, &list(false)));
    assert_eq!(world.server.count("/d/SHA256SUMS"), 2);
    // A failure is not remembered.
    let other = world.server.url("/other");
    assert!(listings.list(&world.ctx, &world.client, &other, false).is_err());
    world.server.on("/other/SHA256SUMS", [Reply::file("")]);
    assert!(listings.list(&world.ctx, &world.client, &other, false).is_ok());
}

#[test]
fn seventy_thousand_entries_are_no_matter() {
    let world = World::new("ed25519.pgp");
    let manifest: String = (0..70_000).map(|n| format!("{n:064x}  image_{n}.raw.xz\n")).collect();
    world.serve(&manifest);
    let start = Instant::now();
    let listing = web::list(&world.ctx, &world.client, &world.server.url("/d"), false).unwrap();
    let patterns = [Pattern::parse("image_@v.raw.xz").unwrap()];
    assert_eq!(listing.select(&patterns).filter(Result::is_ok).count(), 70_000);
    assert_eq!(listing.files().count(), 70_000);
    // Unoptimized code takes half a second; a quadratic one took the peer minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn file_urls_are_verified_too() {
    let world = World::new("ed25519.pgp");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("SHA256SUMS"), vector("SHA256SUMS")).unwrap();
    let base = format!("file://{}", dir.path().display());
    let list = || web::list(&world.ctx, &world.client, &base, true);
    assert!(list().unwrap_err().to_string().contains(": Failed to retrieve signature file"));
    std::fs::write(dir.path().join("SHA256SUMS.gpg"), vector("sigs/ed25519.sig")).unwrap();
    let listing = list().unwrap();
    assert!(listing.files().any(|file| file.url == format!("{base}/payload_1.raw")));
    assert_eq!(listing.files().count(), 2);
}
