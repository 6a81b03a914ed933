//! Reads key and certificate files: small, regular enough, and nobody else's business.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::io::Errno;

use super::secret::Secret;

/// LIMIT: longest key, certificate or signature file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Contents of a file.
///
/// # Errors
///
/// As of reading; `EFBIG` for more than a megabyte.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    Ok(read_secret(path)?.to_vec())
}

/// Contents of a file with a key in it; warns where others may read it.
///
/// # Errors
///
/// As [`read`].
pub fn read_key(path: &Path) -> io::Result<Secret> {
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        log::warn!(
            "{} has {mode:04o} mode that is too permissive, please adjust the ownership and \
             access mode.",
            path.display()
        );
    }
    read_secret(path)
}

fn read_secret(path: &Path) -> io::Result<Secret> {
    let file = File::open(path)?;
    // All the room at once: what a buffer grows out of is not overwritten.
    let mut bytes = Secret::zeroed(FILE_MAX as usize + 1);
    let mut len = 0;
    loop {
        match (&file).read(bytes.get_mut(len..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    if len as u64 > FILE_MAX {
        return Err(Errno::FBIG.into());
    }
    Ok(Secret::from(bytes.get(..len).unwrap_or_default().to_vec()))
}
