//! Keys and signatures that come from files or sockets.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use ::slipway::crypto::text::unbase64;
use ::slipway::error::{Error, IoText, Result};
use ::slipway::repart::model::{JoinSignature, KeySource};

use super::options::absolute;
use crate::cli::{self, printable};

/// LIMIT: bytes of a key or signature.
const MAX_SIZE: u64 = 8 << 20;
/// A root hash has at least so many bytes.
const ROOT_HASH_MIN: usize = 16;
const ENXIO: i32 = 6;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const EPIPE: i32 = 32;
const EOPNOTSUPP: i32 = 95;

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
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode();
    if is_secret && metadata.is_file() && mode & 0o007 != 0 {
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
        Some(encoded) => match decode(encoded) {
            Ok(signature) => signature,
            Err(errno) => {
                let (shown, err) = (printable(encoded), io::Error::from_raw_os_error(errno));
                return refuse(format!(
                    "Failed to parse root hash signature '{shown}': {}",
                    IoText(&err)
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

/// Bytes from base64, which must have its padding, or the errno of the peer.
fn decode(text: &str) -> Result<Vec<u8>, i32> {
    let bytes = unbase64(text.as_bytes()).ok_or(EINVAL)?;
    let letters = text.bytes().filter(|letter| !letter.is_ascii_whitespace()).count();
    if letters.is_multiple_of(4) { Ok(bytes) } else { Err(EPIPE) }
}

/// `--private-key=`, `--certificate=`: a file that can be read, under a name that does not depend
/// on the working directory.
///
/// LIMIT: what OpenSSL's engines and providers hold is out of reach of a static program.
pub(super) fn source(
    path: &Option<String>,
    kind: &Option<String>,
    option: &str,
    what: &str,
) -> Result<Option<KeySource>> {
    let Some(path) = path else { return Ok(None) };
    let kind = kind.clone().unwrap_or_else(|| "file".to_owned());
    if path.is_empty() {
        // DIFFERS: the peer aborts.
        return Err(Error::new(format!("Invalid value '' for --{option}=.")).with_errno(EINVAL));
    }
    let failed = |path: &str| format!("Failed to load {what} from {}", printable(path));
    if kind != "file" {
        return Err(Error::errno_because(failed(path), EOPNOTSUPP)
            .hint("Only keys and certificates in files are supported, in PEM"));
    }
    let path = absolute(Path::new(path))?.to_string_lossy().into_owned();
    match File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => Err(Error::errno_because(failed(&path), EISDIR)),
        Ok(_) => Ok(Some(KeySource { path, kind })),
        Err(err) => Err(Error::because(failed(&path), err)),
    }
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
