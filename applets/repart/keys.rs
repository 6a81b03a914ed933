//! Keys and signatures that come from files or sockets.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use ::slipway::crypto::text::unbase64;
use ::slipway::error::{Error, IoText, Result};
use ::slipway::repart::model::JoinSignature;

use crate::cli::{self, printable};

/// LIMIT: bytes of a key or signature.
const MAX_SIZE: u64 = 8 << 20;
/// A root hash has at least so many bytes.
const ROOT_HASH_MIN: usize = 16;
const ENXIO: i32 = 6;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const EPIPE: i32 = 32;

/// `--key-file=`: what is in the file, or what the other end of the socket says.
pub(super) fn key_file(path: &Path) -> Result<Vec<u8>> {
    read(path, true)
        .map_err(|err| Error::because(format!("Failed to read key file '{}'", path.display()), err))
}

fn read(path: &Path, is_secret: bool) -> io::Result<Vec<u8>> {
    let file = match File::open(path) {
        Err(err) if err.raw_os_error() == Some(ENXIO) => {
            return read_all(UnixStream::connect(path)?);
        }
        other => other?,
    };
    let mode = file.metadata()?.permissions().mode();
    if is_secret && mode & 0o007 != 0 {
        log::warn!(
            "{} has {:04o} mode that is too permissive, please adjust the ownership and access \
             mode.",
            path.display(),
            mode & 0o7777
        );
    }
    read_all(file)
}

fn read_all(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::from_raw_os_error(EFBIG));
    }
    Ok(bytes)
}

/// `--join-signature=HASH:PATH` or `HASH:base64:…`.
pub(super) fn join_signature(text: &str) -> Result<JoinSignature, String> {
    let refuse = |text: String| Err(cli::sentence(&text));
    let parts = text.trim_start_matches(':').split_once(':');
    let Some((hash, place)) = parts.filter(|(_, place)| !place.is_empty()) else {
        return refuse("Expected hash:sig".to_owned());
    };
    let signature = match place.strip_prefix("base64:") {
        Some(encoded) => match unbase64(encoded.as_bytes()) {
            Some(signature) => signature,
            None => {
                return refuse(format!(
                    "Failed to parse root hash signature '{}': Invalid argument",
                    printable(encoded)
                ));
            }
        },
        None => match read(Path::new(place), false) {
            Ok(signature) => signature,
            Err(err) => {
                let (place, err) = (printable(place), IoText(&err));
                return refuse(format!("Failed to read root hash signature file '{place}': {err}"));
            }
        },
    };
    if signature.is_empty() {
        return refuse("Empty verity signature specified.".to_owned());
    }
    let shown = printable(hash);
    let root_hash = match unhex(hash) {
        Ok(root_hash) => root_hash,
        Err(errno) => {
            let err = io::Error::from_raw_os_error(errno);
            return refuse(format!("Failed to parse root hash '{shown}': {}", IoText(&err)));
        }
    };
    if root_hash.len() < ROOT_HASH_MIN {
        return refuse(format!("Root hash must be at least 128-bit long: {shown}"));
    }
    Ok(JoinSignature { root_hash, signature })
}

/// Bytes from digits, or the errno of the peer.
fn unhex(text: &str) -> Result<Vec<u8>, i32> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.ok_or(EINVAL)?;
    let bytes = digits.chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(high << 4 | low).map_err(|_| EINVAL),
        _ => Err(EPIPE),
    });
    bytes.collect()
}
