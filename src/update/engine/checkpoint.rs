//! What is kept of an interrupted download, so that the next run goes on where it ended.
//!
//! Why a file of our own: the partial file or slot looks to the peer like any other partial one.
//! Nothing in here is trusted: the bytes on disk must hash to what is noted before they count,
//! and in the end the whole payload must hash to what the manifest says.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::output::Output;
use crate::ctx::Ctx;
use crate::http::ResumePoint;

/// Where checkpoints are, below the root.
const DIRECTORY: &str = "/var/lib/slipway/sysupdate/resume";

/// The checkpoint of one payload on its way to one place.
pub(super) struct Checkpoint {
    path: PathBuf,
    target: String,
    url: String,
    sha256: String,
}

/// A checkpoint as stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    target: String,
    url: String,
    sha256: String,
    offset_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    validator: Option<String>,
    prefix_sha256: String,
}

/// Where to go on, after the bytes on disk have been looked at.
pub(super) struct Resume {
    /// For the server.
    pub(super) point: ResumePoint,
    /// Hash state after the bytes that are there.
    pub(super) hash: Sha256,
}

impl Checkpoint {
    /// For the payload with this URL and hash, written to `target`, which names the place.
    pub(super) fn new(ctx: &Ctx, url: &str, sha256: [u8; 32], target: &str) -> Self {
        let name = hex(&Sha256::digest(target.as_bytes()));
        let path = ctx.at(DIRECTORY).join(format!("{name}.json"));
        Self { path, target: target.to_owned(), url: url.to_owned(), sha256: hex(&sha256) }
    }

    /// Reads back what an earlier run has left, if it is for the same payload and the bytes are
    /// what they were.
    pub(super) fn load(&self, output: &dyn Output) -> Option<Resume> {
        let text = std::fs::read(&self.path).ok()?;
        let saved: Saved = serde_json::from_slice(&text).ok()?;
        let is_same =
            saved.target == self.target && saved.url == self.url && saved.sha256 == self.sha256;
        if !is_same || saved.offset_bytes > output.limit_bytes() {
            return None;
        }
        let hash = hash_prefix(output, saved.offset_bytes).ok()?;
        let digest: [u8; 32] = hash.clone().finalize().into();
        (hex(&digest) == saved.prefix_sha256).then_some(Resume {
            point: ResumePoint { offset: saved.offset_bytes, validator: saved.validator },
            hash,
        })
    }

    /// Notes how far it came. Best effort, and not synced: what does not add up is not used.
    pub(super) fn save(&self, offset_bytes: u64, prefix: [u8; 32], validator: Option<&str>) {
        let saved = Saved {
            target: self.target.clone(),
            url: self.url.clone(),
            sha256: self.sha256.clone(),
            offset_bytes,
            validator: validator.map(str::to_owned),
            prefix_sha256: hex(&prefix),
        };
        if let Err(err) = self.store(&saved) {
            log::debug!("Failed to store '{}', ignoring: {err}", self.path.display());
        }
    }

    fn store(&self, saved: &Saved) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let temporary = self.path.with_extension("new");
        std::fs::write(&temporary, serde_json::to_vec(saved)?)?;
        std::fs::rename(&temporary, &self.path)
    }

    /// Forgets.
    pub(super) fn clear(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn hash_prefix(output: &dyn Output, len: u64) -> io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < len {
        let count = usize::try_from(len - at).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..count).unwrap_or_default();
        output.read(at, part)?;
        hash.update(&*part);
        at += count as u64;
    }
    Ok(hash)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
