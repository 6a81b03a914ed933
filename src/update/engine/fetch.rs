//! From a source to a place: resume or start over, write, verify.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::checkpoint::Checkpoint;
use super::output::Output;
use super::pump::{Pumped, Stream, copy_file, pump};
use super::source::{Served, Source, unwrap_error};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::out::Progress;
use crate::out::human;
use crate::unpack;
use crate::update::job::AcquireJob;
use crate::update::model::Location;

const EINTR: i32 = 4;
const EFBIG: i32 = 27;
const EBADMSG: i32 = 74;

/// What has been written and verified.
pub(super) struct Fetched {
    /// Length of the decoded payload.
    pub(super) size_bytes: u64,
    /// What the server said.
    pub(super) served: Option<Served>,
}

/// What is written to, as far as fetching is concerned.
pub(super) trait Place {
    /// Names it: in messages, and in the checkpoint.
    fn name(&self) -> String;

    /// For reading back what an interrupted run has left, if there is such a thing.
    fn earlier(&self) -> Option<Box<dyn Output + '_>>;

    /// Makes it ready: after the source has answered and fits as far as one can tell, before the
    /// first byte. So many of the bytes that are there already stay, and nothing else.
    fn begin(&mut self, kept_bytes: u64) -> Result<()>;

    /// For writing; after [`Place::begin`].
    fn output(&self) -> Result<Box<dyn Output + '_>>;

    /// Bytes there is room for, where that is fixed.
    fn room_bytes(&self) -> Option<u64>;
}

/// Brings the payload to its place. When this returns, it is complete and is what the manifest
/// promised, but it need not be durable yet.
pub(super) fn fetch(
    ctx: &Ctx,
    job: &AcquireJob<'_>,
    progress: &dyn Progress,
    place: &mut dyn Place,
) -> Result<Fetched> {
    let expected = expected_hash(job)?;
    let name = place.name();
    let checkpoint = match (&job.source.location, expected) {
        (url @ Location::Url { .. }, Some(sha256)) => {
            Some(Checkpoint::new(ctx, &url.shown(), sha256, &name))
        }
        _ => None,
    };
    let mut resume = checkpoint.as_ref().and_then(|checkpoint| checkpoint.load(&*place.earlier()?));
    loop {
        let source = Source::open(ctx, job.source, resume.as_ref().map(|r| r.point.clone()))?;
        check_room(&source, place)?;
        let resumed = resume.take().filter(|_| source.is_resumed());
        let is_resumed = resumed.is_some();
        progress.phase(&name, source.packed_bytes());
        let (offset, hash) = match resumed {
            Some(resumed) => (resumed.point.offset, resumed.hash),
            None => (0, Sha256::new()),
        };
        place.begin(offset)?;
        if !is_resumed && let Some(checkpoint) = &checkpoint {
            checkpoint.clear();
        }
        progress.advance(offset);
        let source_name = source.name.clone();
        let (served, pumped) =
            run(job, progress, place, source, (offset, hash), checkpoint.as_ref());
        let pumped = pumped.map_err(|err| explain(&source_name, &name, err))?;
        if let Some(checkpoint) = &checkpoint {
            checkpoint.clear();
        }
        match verify(expected, pumped.sha256, &source_name) {
            Ok(()) => {
                progress.finish();
                return Ok(Fetched { size_bytes: pumped.size_bytes, served });
            }
            Err(err) if !is_resumed => return Err(err),
            Err(_) => {}
        }
        // The beginning was from another day; without it the result may be right.
        log::info!("Resumed download of '{source_name}' does not add up, starting over.");
    }
}

/// Compares hashes, where there is one to compare with.
pub(super) fn verify(expected: Option<[u8; 32]>, sha256: [u8; 32], source: &str) -> Result<()> {
    if expected.is_none_or(|expected| expected == sha256) {
        return Ok(());
    }
    Err(Error::new(format!(
        "Checksum of downloaded resource does not match expected checksum, yikes: '{source}'"
    ))
    .hint("Nothing was installed; the file on the server is not the one in its manifest.")
    .with_errno(EBADMSG))
}

/// The hash a downloaded payload must have.
pub(super) fn expected_hash(job: &AcquireJob<'_>) -> Result<Option<[u8; 32]>> {
    match (&job.source.location, job.source.fields.sha256) {
        (url @ Location::Url { .. }, None) => {
            Err(Error::new(format!("No hash is known for '{}', refusing.", url.shown())))
        }
        (Location::Url { .. }, hash) => Ok(hash),
        // COMPAT(262): local sources are not checked, not even against `@h` in their names.
        _ => Ok(None),
    }
}

fn run(
    job: &AcquireJob<'_>,
    progress: &dyn Progress,
    place: &dyn Place,
    source: Source,
    (offset, hash): (u64, Sha256),
    checkpoint: Option<&Checkpoint>,
) -> (Option<Served>, Result<Pumped, unpack::Error>) {
    let is_cancelled = &*job.options.is_cancelled;
    let output = match place.output() {
        Ok(output) => output,
        Err(err) => return (None, Err(unpack::Error::Write(io::Error::other(err)))),
    };
    if let Some((file, size_bytes)) = source.plain_file() {
        let copied = copy_file(file, size_bytes, &*output, is_cancelled, progress);
        return (None, copied.map(|()| Pumped { sha256: [0; 32], size_bytes }));
    }
    let served = source.served();
    let is_plain = source.format() == unpack::Format::Plain;
    let validator = served.as_ref().and_then(|served| served.validator.clone());
    let mark = |offset, prefix| {
        if let Some(checkpoint) = checkpoint {
            checkpoint.save(offset, prefix, validator.as_deref());
        }
    };
    let stream = Stream {
        input: source.into_reader(),
        hash,
        offset,
        mark: is_plain.then_some(&mark),
        is_cancelled,
        progress,
    };
    let pumped = pump(stream, &*output);
    (served, pumped)
}

/// Refuses what cannot fit before anything is written.
fn check_room(source: &Source, place: &dyn Place) -> Result<()> {
    match (source.least_bytes(), place.room_bytes()) {
        (Some(need), Some(room)) if need > room => {
            Err(too_large(&source.name, &place.name(), Some(need), room))
        }
        _ => Ok(()),
    }
}

fn too_large(source: &str, place: &str, need: Option<u64>, room: u64) -> Error {
    // DIFFERS: the peer says "Argument list too long".
    let need = match need {
        Some(need) => format!("has {need} bytes ({})", human::bytes(need)),
        None => "is larger".to_owned(),
    };
    Error::new(format!(
        "'{source}' does not fit into '{place}': it {need}, there is room for {room} bytes ({})",
        human::bytes(room),
    ))
    .with_errno(EFBIG)
}

/// Turns what went wrong in the pipeline into a sentence with names and sizes.
pub(super) fn explain(source: &str, place: &str, err: unpack::Error) -> Error {
    match err {
        unpack::Error::Read(err) => match unpack::Error::from_read(err) {
            unpack::Error::Read(err) => unwrap_error(&format!("Failed to read '{source}'"), err),
            // It was one of the pipeline's own, in disguise.
            err => explain(source, place, err),
        },
        unpack::Error::Write(err) => {
            let is_full = err.kind() == io::ErrorKind::StorageFull;
            let error = unwrap_error(&format!("Failed to write '{place}'"), err);
            if is_full { error.hint(free_text(Path::new(place))) } else { error }
        }
        unpack::Error::TooLarge { limit } => too_large(source, place, None, limit),
        unpack::Error::Cancelled => Error::new("Interrupted.")
            .hint("Run the same command again to go on.")
            .with_errno(EINTR),
        err => Error::because(format!("Failed to decode and write '{source}'"), err)
            .with_errno(EBADMSG),
    }
}

/// How much room is left where a file should have gone.
fn free_text(path: &Path) -> String {
    let dir = crate::sys::fs::parent(path);
    match rustix::fs::statvfs(dir) {
        Ok(stat) => format!(
            "'{}' has {} left.",
            dir.display(),
            human::bytes(stat.f_bavail.saturating_mul(stat.f_frsize))
        ),
        Err(_) => format!("'{}' is full.", dir.display()),
    }
}
