//! The world of `make demo`: a disk image with two free slots, a signing key, and a web server
//! that publishes signed versions. It stands in for the vendor; the updates themselves are made by
//! the shipped binary.
//!
//! usage: `world serve DIR` — makes everything in DIR, then reads commands from standard input:
//! `publish N` signs and publishes version N, `tamper N` publishes it without the vendor's key.
//! `world show DISK` — prints what the slots of a disk hold.
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a demonstration, not the product"
)]

#[path = "../common/http_server.rs"]
mod http_server;

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use http_server::{HttpServer, Reply};
use pgp::composed::{
    DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::ser::Serialize;
use pgp::types::Password;
use sha2::{Digest, Sha256};
use slipway::format::gpt;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Made by sfdisk 2.38.1 (util-linux): two `_empty` root slots of 64 MiB, one partition of data.
const DISK: &[u8] = include_bytes!("disk.img.xz");
const IMAGE_BYTES: usize = 56 << 20;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["serve", dir] => serve(Path::new(dir)),
        ["show", disk] => show(Path::new(disk)),
        _ => Err("usage: world serve DIR | world show DISK".into()),
    }
}

fn serve(dir: &Path) -> Outcome {
    let mut disk = Vec::new();
    liblzma::read::XzDecoder::new(DISK).read_to_end(&mut disk)?;
    write_sparse(&dir.join("disk.img"), &disk)?;

    let key = make_key("Vendor <vendor@example.invalid>")?;
    let stranger = make_key("Stranger <stranger@example.invalid>")?;
    fs::write(dir.join("vendor.pgp"), SignedPublicKey::from(key.clone()).to_bytes()?)?;

    let server = HttpServer::start();
    fs::create_dir_all(dir.join("sysupdate.d"))?;
    fs::write(
        dir.join("sysupdate.d/50-root.transfer"),
        format!(
            "[Source]\nType=url-file\nPath={}\nMatchPattern=demo_@v.raw.zst\n\n\
             [Target]\nType=partition\nPath={}\nMatchPattern=demo_@v\n\
             MatchPartitionType=root-x86-64\nReadOnly=yes\n",
            server.url("/"),
            dir.join("disk.img").display()
        ),
    )?;

    let mut manifest = String::new();
    say("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (word, version) = line.split_once(' ').ok_or("expected: publish N")?;
        let name = format!("demo_{version}.raw.zst");
        let payload = zstd::encode_all(&make_image(version)[..], 3)?;
        let digest: String = Sha256::digest(&payload).iter().map(|b| format!("{b:02x}")).collect();
        manifest = format!("{manifest}{digest}  {name}\n");
        let signer = if word == "tamper" { &stranger } else { &key };
        let signature = sign(signer, manifest.as_bytes())?;
        server.on(&format!("/{name}"), [Reply::file(payload)]);
        server.on("/SHA256SUMS", [Reply::file(manifest.clone())]);
        server.on("/SHA256SUMS.gpg", [Reply::file(signature)]);
        say(&line)?;
    }
    Ok(())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{text}")?;
    out.flush()
}

fn make_key(user: &str) -> Outcome<SignedSecretKey> {
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(KeyType::Ed25519Legacy).can_certify(true).can_sign(true);
    params.primary_user_id(user.into());
    Ok(params.build()?.generate(rand::thread_rng())?)
}

fn sign(key: &SignedSecretKey, data: &[u8]) -> Outcome<Vec<u8>> {
    let signature = DetachedSignature::sign_binary_data(
        rand::thread_rng(),
        &key.primary_key,
        &Password::empty(),
        HashAlgorithm::Sha512,
        data,
    )?;
    Ok(signature.to_bytes()?)
}

/// A "file system": a line of text, a third of hard-to-compress bytes, and room.
fn make_image(version: &str) -> Vec<u8> {
    let mut image = format!("demo system, version {version}\n").into_bytes();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ version.len() as u64;
    while image.len() < IMAGE_BYTES / 3 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        image.extend_from_slice(&state.to_le_bytes());
    }
    image.resize(IMAGE_BYTES, 0);
    image
}

fn write_sparse(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (index, block) in bytes.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, index as u64 * 4096)?;
        }
    }
    Ok(())
}

fn show(path: &Path) -> Outcome {
    let disk = File::open(path)?;
    let mut read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        disk.read_exact_at(&mut bytes, offset).map(|()| bytes)
    };
    let table = gpt::load(disk.metadata()?.len(), 512, &mut read)?.table;
    let root = gpt::types::parse("root-x86-64").ok_or("type table lacks root-x86-64")?;
    let (partial, pending) = gpt::derived_types(root);
    say("  slot  label     state                contents")?;
    for partition in table.partitions() {
        let state = match partition.type_uuid {
            uuid if uuid == root && partition.name == "_empty" => "free",
            uuid if uuid == root => "live",
            uuid if uuid == partial => "partial",
            uuid if uuid == pending => "pending, not live",
            _ => continue,
        };
        let mut head = [0; 40];
        disk.read_exact_at(&mut head, partition.first_lba * 512)?;
        let text = String::from_utf8_lossy(&head);
        let text = text.split(['\n', '\0']).next().unwrap_or_default();
        say(&format!("  {:<5} {:<9} {state:<20} {text}", partition.number, partition.name))?;
    }
    Ok(())
}
