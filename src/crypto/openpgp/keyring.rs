//! The files that say whom to trust.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};

/// LIMIT: larger keyring files are refused.
const MAX_KEYRING: u64 = 16 << 20;

const VENDOR: &str = "/usr/lib/systemd/import-pubring.pgp";
const LOCAL: &str = "/etc/systemd/import-pubring.pgp";
const LOCAL_OLD: &str = "/etc/systemd/import-pubring.gpg";

/// Trusted public keys: the bytes of one or more keyring files.
///
/// A file is a concatenation of binary transferable public keys. Junk, armoured and empty files
/// are allowed and mean no key, as to the peer.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    files: Vec<Vec<u8>>,
}

impl Keyring {
    /// One keyring from memory.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { files: vec![bytes.into()] }
    }

    /// The machine's keyrings: the vendor's and the administrator's together, or only the one
    /// that `$SYSTEMD_OPENPGP_KEYRING` names. They are the host's also where `--root=` names
    /// another tree: a tree that is about to be updated does not say itself whom to trust.
    ///
    /// # Errors
    ///
    /// No keyring is there, one cannot be read, or the variable is no absolute, normalized path.
    pub fn load(ctx: &Ctx) -> Result<Self> {
        Self::load_from(ctx, Path::new("/"))
    }

    fn load_from(ctx: &Ctx, root: &Path) -> Result<Self> {
        if let Some(path) = ctx.env_os("SYSTEMD_OPENPGP_KEYRING") {
            let path = Path::new(path);
            if !is_normalized(path) {
                return Err(Error::new(format!(
                    "$SYSTEMD_OPENPGP_KEYRING must be an absolute, normalized path, got '{}'.",
                    path.display()
                ))
                .with_errno(EINVAL));
            }
            let file = read(path).context(|| format!("Failed to read '{}'", path.display()))?;
            return Ok(Self { files: vec![file] });
        }
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let mut files = Vec::new();
        files.extend(read_if_exists(&below(VENDOR))?);
        let local = match read_if_exists(&below(LOCAL))? {
            None => read_if_exists(&below(LOCAL_OLD))?,
            local => local,
        };
        files.extend(local);
        if files.is_empty() {
            return Err(Error::new(format!(
                "No OpenPGP keyrings found, checked '{VENDOR}', '{LOCAL}', and '{LOCAL_OLD}'."
            ))
            .with_errno(ENOKEY)
            .hint("Export the public key with 'gpg --export' to one of them."));
        }
        Ok(Self { files })
    }

    /// The keyring files' bytes.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(Vec::as_slice)
    }
}

const EINVAL: i32 = 22;
const ENOKEY: i32 = 126;

fn is_normalized(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    let rebuilt: PathBuf = path.components().collect();
    path.is_absolute()
        && rebuilt.as_os_str() == path.as_os_str()
        && !bytes.contains(&0)
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some).context(|| format!("Failed to read '{}'", path.display())),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_KEYRING + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_KEYRING {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn names(root: &Path, files: &[&str]) -> Vec<String> {
        for file in files {
            let path = root.join(file.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let ring = Keyring::load_from(&Ctx::host([]), root).unwrap();
        ring.files().map(|file| String::from_utf8(file.to_vec()).unwrap()).collect()
    }

    #[test]
    fn vendor_and_local_keyrings_are_combined() {
        let dir = tempfile::tempdir().unwrap();
        let err = Keyring::load_from(&Ctx::host([]), dir.path()).unwrap_err();
        assert!(err.to_string().starts_with("No OpenPGP keyrings found, checked '"), "{err}");
        assert_eq!(names(dir.path(), &[LOCAL_OLD]), [LOCAL_OLD]);
        assert_eq!(names(dir.path(), &[VENDOR]), [VENDOR, LOCAL_OLD]);
        assert_eq!(names(dir.path(), &[LOCAL]), [VENDOR, LOCAL]);
    }

    #[test]
    fn variable_names_the_only_keyring() {
        let dir = tempfile::tempdir().unwrap();
        names(dir.path(), &[VENDOR, LOCAL]);
        let mine = dir.path().join("mine");
        std::fs::write(&mine, "mine").unwrap();
        let ctx = Ctx::host([]).with_env("SYSTEMD_OPENPGP_KEYRING", &mine);
        let ring = Keyring::load_from(&ctx, dir.path()).unwrap();
        assert_eq!(ring.files().collect::<Vec<_>>(), [b"mine"]);
        for bad in ["", "mine", "/a/../b", "/a//b", "/a/./b", "/a/"] {
            let ctx = Ctx::host([]).with_env("SYSTEMD_OPENPGP_KEYRING", bad);
            let err = Keyring::load_from(&ctx, dir.path()).unwrap_err().to_string();
            assert!(err.contains("must be an absolute, normalized path"), "{bad:?}: {err}");
        }
        let ctx = Ctx::host([]).with_env("SYSTEMD_OPENPGP_KEYRING", "/absent/ring");
        assert!(Keyring::load_from(&ctx, dir.path()).is_err());
    }
}
