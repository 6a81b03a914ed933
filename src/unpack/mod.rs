//! Turns a downloaded stream into the bytes it stands for, as fast as the machine allows and in
//! bounded memory.
//!
//! What a stream is, is decided by its first six bytes alone, never by a name: xz, gzip, bzip2,
//! zstd, lz4 frames; everything else is taken as it is. Concatenated members, streams and frames
//! are all decoded. What ends too early, does not add up or is followed by something else is an
//! error.
//!
//! Two ways in: [`unpack`] pushes into a [`Sink`] and decodes the blocks of an xz file on all
//! cores, each into a [`Segment`] of its own; [`reader`] is a plain [`Read`], for [`tar`].
//!
//! External documents: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file format 1.2.1, the LZ4 frame
//! format 1.6.4. Which streams are accepted follows systemd 262.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::IoText;

mod decode;
mod hint;
mod lz4;
mod pull;
pub mod tar;
mod xz;
pub mod zero;

pub use hint::size_hint;

use decode::Decode;
use pull::{Head, Pull};

/// What a sequential decoder hands to its segment at once.
const OUT_BYTES: usize = 256 << 10;

// LIMIT: what the peer accepts, for compressed and for unpacked data.
/// The default of [`Options::max_bytes`]: 64 GiB.
pub const MAX_BYTES: u64 = 64 << 30;

// LIMIT: a dictionary is memory, and a header can ask for any.
/// The largest dictionary a stream may ask for: 128 MiB, zstd's own default. (xz may ask for
/// twice as much, because its largest preset dictionary is half of this.)
const WINDOW_LOG_MAX: u32 = 27;

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not packed, or not in a way we know.
    Plain,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The .xz container.
    Xz,
    /// RFC 8878.
    Zstd,
    /// LZ4 frames.
    Lz4,
}

impl Format {
    /// The name people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that [`sniff`] needs to see unless the stream is shorter.
pub const SNIFF_BYTES: usize = 6;

/// Tells the format by the first bytes of a stream.
pub fn sniff(prefix: &[u8]) -> Format {
    // COMPAT(262): whatever is shorter than the longest magic is not looked at.
    if prefix.len() < SNIFF_BYTES {
        return Format::Plain;
    }
    const MAGICS: [(&[u8], Format); 5] = [
        (b"\xfd7zXZ\0", Format::Xz),
        (b"\x1f\x8b", Format::Gzip),
        (b"BZh", Format::Bzip2),
        (b"\x28\xb5\x2f\xfd", Format::Zstd),
        (b"\x04\x22\x4d\x18", Format::Lz4),
    ];
    MAGICS.iter().find(|(magic, _)| prefix.starts_with(magic)).map_or(Format::Plain, |m| m.1)
}

/// Why a stream could not be unpacked.
#[derive(Debug)]
pub enum Error {
    /// The input ended inside a stream.
    Truncated(Format),
    /// A checksum, length or code does not add up; what, is for people.
    Corrupt(Format, &'static str),
    /// Something of another kind follows a complete stream.
    TrailingGarbage(Format),
    /// Well-formed as far as one can tell, but not something we decode.
    Unsupported(Format, &'static str),
    /// More comes out than [`Options::max_bytes`].
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// [`Options::cancel`] was set.
    Cancelled,
    /// The input could not be read.
    Read(io::Error),
    /// The sink did not take the data.
    Write(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(format) => write!(f, "{format} data ends too early"),
            Self::Corrupt(format, what) => write!(f, "{format} data is damaged: {what}"),
            Self::TrailingGarbage(format) => {
                write!(f, "{format} data is followed by something that is not {format}")
            }
            Self::Unsupported(format, what) => write!(f, "{format} data needs {what}"),
            Self::TooLarge { limit } => {
                write!(f, "unpacked data is larger than the {limit} bytes there is room for")
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Read(err) => write!(f, "cannot read packed data: {}", IoText(err)),
            Self::Write(err) => write!(f, "cannot write unpacked data: {}", IoText(err)),
        }
    }
}

// The causes are part of the sentence, so there is no `source` that would repeat them.
impl std::error::Error for Error {}

impl Error {
    /// Gets the typed error back out of what a [`reader`] returned.
    pub fn from_read(err: io::Error) -> Self {
        match err.downcast::<Self>() {
            Ok(inner) => inner,
            Err(err) => Self::Read(err),
        }
    }

    /// The errno of a failed read or write.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Read(err) | Self::Write(err) => err.raw_os_error(),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(err: Error) -> Self {
        match err {
            Error::Read(err) | Error::Write(err) => err,
            err => Self::new(io::ErrorKind::InvalidData, err),
        }
    }
}

/// Where unpacked bytes go: a slot, a file, memory.
///
/// Several segments may be open at once, in different threads and at ascending offsets that do not
/// overlap. Every segment but the first starts at a multiple of [`SEGMENT_ALIGN`].
pub trait Sink: Sync {
    /// Opens a run of bytes that starts at `offset`.
    ///
    /// # Errors
    /// Whatever keeps the sink from writing there.
    fn segment(&self, offset: u64) -> io::Result<Box<dyn Segment + Send + '_>>;
}

/// One run of bytes inside a [`Sink`], written front to back.
pub trait Segment {
    /// Appends; takes all or fails.
    ///
    /// # Errors
    /// Whatever the storage says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Called once after the last byte, and only if nothing failed.
    ///
    /// # Errors
    /// Whatever the storage says about what was still held back.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Segments start at multiples of this, so that writers of whole blocks never share one.
pub const SEGMENT_ALIGN: u64 = 4096;

/// Bounds of one [`unpack`].
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The most that may come out: the size of the slot, or [`MAX_BYTES`].
    pub max_bytes: u64,
    /// Decoder threads where the format allows several; 0 is as many as there are cores, at most
    /// eight.
    pub threads: usize,
    /// Looked at between buffers: true ends the work with [`Error::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { max_bytes: MAX_BYTES, threads: 0, cancel: None }
    }
}

impl Options<'_> {
    fn check_cancelled(&self) -> Result<(), Error> {
        match self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}

/// What an [`unpack`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// How the input was packed.
    pub format: Format,
    /// Bytes that came out.
    pub bytes: u64,
}

/// Reads `input` to its end and writes what it stands for to `sink`.
///
/// The input has been read to its last byte if and only if the result is good. After an error
/// the sink may have been given any part of the data.
///
/// # Errors
/// Every kind of [`Error`].
pub fn unpack(
    input: &mut (dyn Read + Send),
    sink: &dyn Sink,
    options: &Options<'_>,
) -> Result<Unpacked, Error> {
    let head = Head::read(input)?;
    let format = sniff(head.bytes());
    if format == Format::Xz {
        let bytes = xz::unpack(head, input, sink, options)?;
        return Ok(Unpacked { format, bytes });
    }
    let bytes = match decoder(format)? {
        None => copy(&mut head.chain(input), sink, options)?,
        Some(decode) => copy(&mut Pull::new(head, input, decode), sink, options)?,
    };
    Ok(Unpacked { format, bytes })
}

/// A reader of what `input` stands for, decoding in the caller's thread.
///
/// Its errors are [`Error`]s inside [`io::Error`]s; see [`Error::from_read`].
///
/// # Errors
/// Where the first bytes cannot be read.
pub fn reader<'a>(
    mut input: Box<dyn Read + Send + 'a>,
) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let head = Head::read(&mut input)?;
    Ok(match decoder(sniff(head.bytes()))? {
        None => Box::new(head.chain(input)),
        Some(decode) => Box::new(Pull::new(head, input, decode)),
    })
}

fn decoder(format: Format) -> Result<Option<Box<dyn Decode>>, Error> {
    Ok(Some(match format {
        Format::Plain => return Ok(None),
        Format::Gzip => Box::new(decode::Gzip::new()),
        Format::Bzip2 => Box::new(decode::Bzip2::new()),
        Format::Xz => Box::new(decode::Xz::new()?),
        Format::Zstd => Box::new(decode::Zstd::new()?),
        Format::Lz4 => Box::new(lz4::Lz4::new()),
    }))
}

/// Everything from `from` into one segment.
fn copy(from: &mut dyn Read, sink: &dyn Sink, options: &Options<'_>) -> Result<u64, Error> {
    let mut segment = sink.segment(0).map_err(Error::Write)?;
    let mut buffer = vec![0; OUT_BYTES];
    let mut total = 0u64;
    loop {
        options.check_cancelled()?;
        let chunk = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(Error::from_read(err)),
        };
        total += chunk.len() as u64;
        if total > options.max_bytes {
            return Err(Error::TooLarge { limit: options.max_bytes });
        }
        segment.write(chunk).map_err(Error::Write)?;
    }
    segment.finish().map_err(Error::Write)?;
    Ok(total)
}

#[cfg(test)]
mod tests;
