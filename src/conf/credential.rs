//! Credentials that the service manager passed to this process.
//!
//! Each is a file in `$CREDENTIALS_DIRECTORY`. What is in one is secret: it is never part of a
//! message.
//!
//! External spec: systemd.exec(5), "Credentials".

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::ctx::Ctx;
use crate::error::{Context as _, Result};

/// LIMIT: bytes of one credential, the peer's for those that are not encrypted.
pub const SIZE_MAX: u64 = 1 << 20;

/// LIMIT: bytes of a name, as of a file's.
const NAME_MAX: usize = 255;

/// True for a name that a credential may have: a file name of visible ASCII and blanks, without a
/// colon.
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= NAME_MAX
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'/' | b':'))
}

/// True where the credential was passed, plain or still encrypted.
pub fn exists(ctx: &Ctx, name: &str) -> bool {
    is_name(name)
        && ["CREDENTIALS_DIRECTORY", "ENCRYPTED_CREDENTIALS_DIRECTORY"]
            .iter()
            .any(|dir| ctx.env_os(dir).is_some_and(|dir| Path::new(dir).join(name).exists()))
}

/// The bytes of a credential; `None` where it was not passed.
///
/// # Errors
/// It is there but cannot be read, or is too large.
pub fn read(ctx: &Ctx, name: &str) -> Result<Option<Vec<u8>>> {
    // A relative directory would be the working directory's affair.
    let dir = ctx.env_os("CREDENTIALS_DIRECTORY").map(Path::new).filter(|dir| dir.is_absolute());
    let Some(dir) = dir.filter(|_| is_name(name)) else { return Ok(None) };
    let context = || format!("Failed to read credential '{name}'");
    let file = match File::open(dir.join(name)) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err).context(context),
    };
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes).context(context)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::from_raw_os_error(E2BIG)).context(context);
    }
    Ok(Some(bytes))
}

/// A credential that is text.
///
/// # Errors
/// As [`read`], and where there is a NUL in it.
pub fn text(ctx: &Ctx, name: &str) -> Result<Option<String>> {
    let Some(bytes) = read(ctx, name)? else { return Ok(None) };
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| io::Error::from_raw_os_error(EBADMSG));
    text.context(|| format!("Failed to read credential '{name}'")).map(Some)
}

const E2BIG: i32 = 7;
const EBADMSG: i32 = 74;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn credentials_are_bounded_and_nothing_but_files_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        let ctx = Ctx::host([]).with_env("CREDENTIALS_DIRECTORY", &inside);
        for (name, bytes) in [("a.b", &b"x\n"[..]), ("nul", b"a\0b"), ("latin", b"\xe9")] {
            fs::write(inside.join(name), bytes).unwrap();
        }
        fs::write(inside.join("fits"), vec![b'x'; SIZE_MAX as usize]).unwrap();
        fs::write(inside.join("large"), vec![b'x'; SIZE_MAX as usize + 1]).unwrap();
        assert_eq!(text(&ctx, "a.b").unwrap().as_deref(), Some("x\n"));
        assert_eq!(read(&ctx, "nul").unwrap().unwrap(), b"a\0b");
        assert!(read(&ctx, "fits").unwrap().is_some() && exists(&ctx, "fits"));
        for name in ["missing", "../outside", ".", "..", "", "a:b"] {
            assert_eq!(read(&ctx, name).unwrap(), None, "{name}");
            assert!(!exists(&ctx, name), "{name}");
        }
        for (name, cause) in
            [("nul", "Bad message"), ("latin", "Bad message"), ("large", "Argument list too long")]
        {
            let message = text(&ctx, name).unwrap_err().to_string();
            assert_eq!(message, format!("Failed to read credential '{name}': {cause}"));
        }
        assert_eq!(text(&Ctx::host([]), "a.b").unwrap(), None);
        let relative = Ctx::host([]).with_env("CREDENTIALS_DIRECTORY", "inside");
        assert_eq!(text(&relative, "a.b").unwrap(), None);
    }
}
