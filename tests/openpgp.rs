//! Signatures of GnuPG against the policy; every way to be wrong that the peer was asked about.
#![cfg(feature = "openpgp")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use slipway::crypto::openpgp::{Keyring, Policy, Refusal, Signer, verify};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/signatures")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap()
}

/// 2026-11-23, when the peer was asked.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_000)
}

fn ask(signature: &str, keyring: &str, policy: &Policy) -> Result<Vec<Signer>, Refusal> {
    let keyring = Keyring::from_bytes(read(&format!("keyrings/{keyring}")));
    verify(&read(&format!("sigs/{signature}")), &read("SHA256SUMS"), &keyring, now(), policy)
}

#[track_caller]
fn refusal(signature: &str, keyring: &str) -> String {
    ask(signature, keyring, &Policy::default()).unwrap_err().to_string()
}

#[test]
fn every_case_gets_the_proposed_verdict() {
    let strict = Policy::default();
    let lax = Policy { expired_keys: true, dsa: true, ..Policy::default() };
    let text = String::from_utf8(read("cases.jsonl")).unwrap();
    let mut count = 0;
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| case[name].as_str().unwrap().to_owned();
        let signature = field("signature").replace("sigs/", "");
        let keyring = field("keyring").replace("keyrings/", "");
        let is_good = |policy| ask(&signature, &keyring, policy).is_ok();
        let verdict = (is_good(&strict), is_good(&lax));
        let expected = match field("proposed").as_str() {
            "accept" => (true, true),
            "reject" => (false, false),
            // Both are open to the policy: refused unless it says otherwise.
            "policy" | "optional" => (false, true),
            other => panic!("{other}"),
        };
        assert_eq!(verdict, expected, "{line}\n{:?}", ask(&signature, &keyring, &strict));
        count += 1;
    }
    assert_eq!(count, 51);
}

#[test]
fn refusals_say_why() {
    for (signature, keyring, text) in [
        ("empty.sig", "ed25519.pgp", "Signature is empty, cannot verify."),
        ("garbage.sig", "ed25519.pgp", "the file is no OpenPGP signature"),
        ("pubkey-as-sig.sig", "ed25519.pgp", "the file is no OpenPGP signature"),
        ("ed25519-clearsign.sig", "ed25519.pgp", "the file is no OpenPGP signature"),
        ("trailing-newline.sig", "ed25519.pgp", "the file is no OpenPGP signature"),
        ("wrong.sig", "ed25519.pgp", "no public key for key "),
        ("ed25519.sig", "junk.pgp", "no public key for key "),
        ("ed25519.sig", "truncated.pgp", "no public key for key "),
        ("ed25519-badsig.sig", "ed25519.pgp", "BAD signature from key "),
        ("rsa4096-sha1.sig", "rsa4096.pgp", " was made with SHA1, refused by policy"),
        ("rsa4096-md5.sig", "rsa4096.pgp", " was made with MD5, refused by policy"),
        ("rsa4096-future.sig", "rsa4096.pgp", " is dated 2038-01-01, in the future"),
        ("ed25519-sigexpired.sig", "ed25519.pgp", " has expired"),
        ("ed25519-critical-notation.sig", "ed25519.pgp", " has a critical part"),
        ("expired.sig", "expired.pgp", " expired on 2024-12-31"),
        ("subexp.sig", "subexp.pgp", " expired on 2024-12-31"),
        ("revoked.sig", "revoked.pgp", " is revoked"),
        ("dsa2048.sig", "dsa2048.pgp", " is of kind DSA, refused by policy"),
    ] {
        let message = refusal(signature, keyring);
        assert!(message.contains(text), "{signature}: {message}");
    }
}

#[test]
fn signer_is_named() {
    let signers = ask("two-good.sig", "combined.pgp", &Policy::default()).unwrap();
    assert_eq!(signers[0].user, "slipway test rsa4096 <rsa4096@example.invalid>");
    assert_eq!(signers[1].user, "slipway test ed25519 <ed25519@example.invalid>");
    assert_eq!(signers[1].fingerprint, "9085489A8B5249C8FAE8FCF34E30E209647CE3C5");
    assert_eq!(
        signers[1].created,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_706_745_600),
        "2024-02-01"
    );
    // The primary key's, also where a subkey signed.
    let signers = ask("subkey.sig", "subkey.pgp", &Policy::default()).unwrap();
    let primary = ask("subkey-keyblock.sig", "subkey-primary-only.pgp", &Policy::default());
    assert_eq!(signers[0].fingerprint, primary.unwrap()[0].fingerprint);
}

#[test]
fn several_keyrings_count_as_one() {
    let both = [read("keyrings/rsa2048.pgp"), read("keyrings/nistp384.pgp")].concat();
    let ring = Keyring::from_bytes(both);
    for name in ["rsa2048.sig", "nistp384.sig"] {
        let signature = read(&format!("sigs/{name}"));
        verify(&signature, &read("SHA256SUMS"), &ring, now(), &Policy::default()).unwrap();
    }
}

#[test]
fn one_copy_that_says_revoked_is_enough() {
    let both = [read("keyrings/revoked-before.pgp"), read("keyrings/revoked.pgp")];
    for order in [both.concat(), [both[1].clone(), both[0].clone()].concat()] {
        let ring = Keyring::from_bytes(order);
        let result = verify(
            &read("sigs/revoked.sig"),
            &read("SHA256SUMS"),
            &ring,
            now(),
            &Policy::default(),
        );
        assert!(result.unwrap_err().to_string().ends_with(" is revoked"));
    }
}

#[test]
fn clock_decides_what_is_future_and_what_has_expired() {
    let at = |seconds, signature: &str, keyring: &str| {
        let ring = Keyring::from_bytes(read(&format!("keyrings/{keyring}")));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let signature = read(&format!("sigs/{signature}"));
        verify(&signature, &read("SHA256SUMS"), &ring, now, &Policy::default()).is_ok()
    };
    // Made on 2024-02-01 with a key that lived through 2024.
    let (made, day) = (1_706_745_600, 86_400);
    assert!(at(made, "expired.sig", "expired.pgp"));
    assert!(at(made - day, "expired.sig", "expired.pgp"), "one day of tolerance");
    assert!(!at(made - day - 1, "expired.sig", "expired.pgp"));
    assert!(at(1_735_603_199, "expired.sig", "expired.pgp"), "its last second");
    assert!(!at(1_735_603_200, "expired.sig", "expired.pgp"));
    assert!(!at(0, "ed25519.sig", "ed25519.pgp"), "a machine without a clock");
    assert!(at(made + 3599, "ed25519-sigexpired.sig", "ed25519.pgp"));
    assert!(!at(made + 3600, "ed25519-sigexpired.sig", "ed25519.pgp"));
}

#[test]
fn short_rsa_key_is_refused() {
    let policy = Policy { min_rsa_bits: 3072, ..Policy::default() };
    let err = ask("rsa2048.sig", "rsa2048.pgp", &policy).unwrap_err().to_string();
    assert!(err.ends_with(" has 2048 bits, fewer than 3072"), "{err}");
    assert!(ask("rsa4096.sig", "rsa4096.pgp", &policy).is_ok());
}

#[test]
fn other_data_is_never_good() {
    let data = read("SHA256SUMS");
    let ring = Keyring::from_bytes(read("keyrings/combined.pgp"));
    for name in ["rsa4096.sig", "ed25519.sig", "rsa4096-textmode.sig"] {
        let signature = read(&format!("sigs/{name}"));
        for at in [0, data.len() / 2, data.len() - 1] {
            let mut other = data.clone();
            other[at] ^= 1;
            let result = verify(&signature, &other, &ring, now(), &Policy::default());
            assert!(matches!(result, Err(Refusal::Bad(_))), "{name} {at}");
        }
        let shorter = &data[..data.len() - 1];
        assert!(verify(&signature, shorter, &ring, now(), &Policy::default()).is_err());
    }
}

#[test]
fn every_truncation_is_refused() {
    let data = read("SHA256SUMS");
    for (signature, keyring) in [
        ("ed25519.sig", "ed25519.pgp"),
        ("ed25519-armor.sig", "ed25519.pgp"),
        ("nistp256.sig", "nistp256.pgp"),
        ("rsa2048.sig", "rsa2048.pgp"),
        ("subkey-keyblock.sig", "subkey.pgp"),
    ] {
        let whole = read(&format!("sigs/{signature}"));
        let ring = read(&format!("keyrings/{keyring}"));
        let end = whole.trim_ascii_end().len();
        for at in 0..end.min(whole.len()) {
            let ring = Keyring::from_bytes(ring.clone());
            let result = verify(&whole[..at], &data, &ring, now(), &Policy::default());
            assert!(result.is_err(), "{signature} cut at {at}");
        }
        for at in 0..ring.len() {
            // A shorter ring may still hold what is needed; it must not break anything.
            let ring = Keyring::from_bytes(&ring[..at]);
            let _ = verify(&whole, &data, &ring, now(), &Policy::default());
        }
    }
}

/// A key with a history; the data is the same for all.
fn ask_history(signature: &str, keyring: &str, policy: &Policy) -> Result<Vec<Signer>, String> {
    let ring = Keyring::from_bytes(read(&format!("history/{keyring}.pgp")));
    let signature = read(&format!("history/{signature}.sig"));
    verify(&signature, &read("history/data"), &ring, now(), policy).map_err(|err| err.to_string())
}

#[test]
fn newest_statement_of_a_key_about_itself_counts() {
    let policy = Policy::default();
    let lax = Policy { expired_keys: true, ..Policy::default() };
    // Signed after the first lifetime, which was extended in time.
    assert!(ask_history("extended", "extended", &policy).is_ok());
    for policy in [&policy, &lax] {
        let err = ask_history("extended", "extended-before", policy).unwrap_err();
        assert!(err.contains("was made after key ") && err.ends_with(" on 2024-12-31"), "{err}");
    }
    // A lifetime given later than the signature.
    let err = ask_history("shortened", "shortened", &policy).unwrap_err();
    assert!(err.ends_with(" expired on 2025-03-01"), "{err}");
    assert!(ask_history("shortened", "shortened", &lax).is_ok());
    // A revoked user id takes nothing with it while there is another.
    assert!(ask_history("two", "two", &policy).is_ok());
    // Statements of the administrator's keys may be as old as SHA-1, signatures may not.
    assert!(ask_history("old", "old", &policy).is_ok());
}

#[test]
fn subkeys_need_their_primary_key_and_its_consent() {
    let policy = Policy::default();
    assert!(ask_history("sub", "sub", &policy).is_ok());
    assert!(ask_history("sub", "sub-revoked", &policy).unwrap_err().ends_with(" is revoked"));
    let err = ask_history("over", "over", &policy).unwrap_err();
    assert!(err.ends_with(" expired on 2024-12-31"), "the primary key: {err}");
    // The consent is not part of what the primary key signs; spoil it.
    let mut ring = read("history/sub.pgp");
    let consent = ring.windows(3).position(|w| w == [32, 4, 0x19]).unwrap();
    ring[consent + 110] ^= 1;
    let result = verify(
        &read("history/sub.sig"),
        &read("history/data"),
        &Keyring::from_bytes(ring.clone()),
        now(),
        &policy,
    );
    let err = result.unwrap_err().to_string();
    assert!(err.contains(" has not agreed to be bound "), "{err}");
    // And what it does sign.
    ring = read("history/sub.pgp");
    let end = ring.len() - 1;
    ring[end] ^= 1;
    let ring = Keyring::from_bytes(ring);
    let result = verify(&read("history/sub.sig"), &read("history/data"), &ring, now(), &policy);
    let err = result.unwrap_err().to_string();
    assert!(err.ends_with(" is not bound to its primary key"), "{err}");
}

#[test]
fn version_6_keys_and_signatures_are_understood() {
    let ask = |data: &[u8]| {
        let ring = Keyring::from_bytes(read("rfc9580/cert.pgp"));
        verify(&read("rfc9580/text.sig"), data, &ring, now(), &Policy::default())
    };
    let text = read("rfc9580/text");
    let signers = ask(&text).unwrap();
    let print = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9";
    assert_eq!(signers[0].fingerprint, print);
    assert!(matches!(ask(&text[1..]), Err(Refusal::Bad(_))));
}

/// Deterministic noise: xorshift.
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => drop(bytes.drain(at..(at + 1 + self.below(4)).min(bytes.len()))),
                _ => bytes.insert(at, self.below(256) as u8),
            }
        }
    }
}

/// In the shipped binary a panic is an abort, so the library must not have any that the net can
/// reach. `ROUNDS` raises the number of tries per file.
#[test]
fn damaged_input_never_panics() {
    let rounds = std::env::var("ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let data = read("SHA256SUMS");
    let text = String::from_utf8(read("cases.jsonl")).unwrap();
    let policy = Policy { dsa: true, expired_keys: true, min_rsa_bits: 1, ..Policy::default() };
    let mut pairs = vec![("rfc9580/text.sig".to_owned(), "rfc9580/cert.pgp".to_owned())];
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| case[name].as_str().unwrap().to_owned();
        pairs.push((field("signature"), field("keyring")));
    }
    for (signature, ring) in pairs {
        let (signature, ring) = (read(&signature), read(&ring));
        for at in 0..rounds {
            let (mut signature, mut ring) = (signature.clone(), ring.clone());
            match at % 3 {
                0 => noise.damage(&mut signature),
                1 => noise.damage(&mut ring),
                _ => {
                    noise.damage(&mut signature);
                    noise.damage(&mut ring);
                }
            }
            let _ = verify(&signature, &data, &Keyring::from_bytes(ring), now(), &policy);
        }
    }
}
