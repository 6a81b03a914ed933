//! Opening what is to be fetched, and what can be told of it before anything is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::time::UNIX_EPOCH;

use crate::ctx::Ctx;
use crate::error::{Context as _, Error, Result};
use crate::http::{Client, Download, ResumePoint, Start};
use crate::unpack::{self, Format};
use crate::update::model::{Instance, Location};

/// Bytes looked at to tell the format and the size.
const PREFIX_BYTES: usize = 512;

/// A source that has been opened.
pub(super) struct Source {
    /// For messages.
    pub(super) name: String,
    /// The first bytes.
    prefix: Vec<u8>,
    input: Input,
}

enum Input {
    File { file: File, size_bytes: u64 },
    // As large as all its buffers' bookkeeping.
    Download(Box<Download>),
}

/// What a server said of a file.
pub(super) struct Served {
    /// As asked for.
    pub(super) url: String,
    /// ETag.
    pub(super) etag: Option<String>,
    /// `Last-Modified`, µs since the epoch.
    pub(super) mtime_usec: Option<u64>,
    /// What a later run needs to go on.
    pub(super) validator: Option<String>,
}

impl Source {
    /// Opens a local file, or asks the server for it.
    pub(super) fn open(
        ctx: &Ctx,
        instance: &Instance,
        resume: Option<ResumePoint>,
    ) -> Result<Self> {
        match &instance.location {
            Location::Path(path) => {
                let name = path.display().to_string();
                let file = File::open(path).context(|| format!("Failed to open '{name}'"))?;
                let metadata = file.metadata().context(|| format!("Failed to stat '{name}'"))?;
                if !metadata.is_file() {
                    return Err(Error::new(format!("'{name}' is not a regular file.")));
                }
                let size_bytes = metadata.len();
                let mut prefix = vec![0; PREFIX_BYTES];
                let count = read_up_to(&mut prefix, |buffer, at| file.read_at(buffer, at))
                    .context(|| format!("Failed to read '{name}'"))?;
                prefix.truncate(count);
                Ok(Self { name, prefix, input: Input::File { file, size_bytes } })
            }
            location @ Location::Url { .. } => {
                let url = location.shown();
                let mut download = Box::new(Client::new(ctx).download(&url, resume)?);
                let mut prefix = Vec::new();
                if download.started() != Start::Resumed {
                    prefix.resize(PREFIX_BYTES, 0);
                    let count = read_up_to(&mut prefix, |buffer, _| download.read(buffer))
                        .map_err(|err| unwrap_error(&format!("Failed to download '{url}'"), err))?;
                    prefix.truncate(count);
                }
                Ok(Self { name: url, prefix, input: Input::Download(download) })
            }
            Location::Slot(_) => Err(Error::new("A partition cannot be the source of a transfer.")),
        }
    }

    /// True if the first byte to come is the one at the offset asked for.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(&self.input, Input::Download(download) if download.started() == Start::Resumed)
    }

    /// What the first bytes say it is; plain where it is resumed, because only plain payload is.
    pub(super) fn format(&self) -> Format {
        unpack::sniff(&self.prefix)
    }

    /// Bytes that will be received, including those an earlier run has.
    pub(super) fn packed_bytes(&self) -> Option<u64> {
        match &self.input {
            Input::File { size_bytes, .. } => Some(*size_bytes),
            Input::Download(download) => download.metadata().length,
        }
    }

    /// The least number of bytes that come out of it: exact for plain data and for what has one
    /// stream with a size in it, as nearly everything has.
    pub(super) fn least_bytes(&self) -> Option<u64> {
        if self.format() == Format::Plain {
            return self.packed_bytes();
        }
        unpack::size_hint(&self.prefix).or_else(|| match &self.input {
            Input::File { file, size_bytes } => trailer_bytes(file, *size_bytes, self.format()),
            Input::Download(_) => None,
        })
    }

    /// The file, if it is a local one without compression.
    pub(super) fn plain_file(&self) -> Option<(&File, u64)> {
        match &self.input {
            Input::File { file, size_bytes } if self.format() == Format::Plain => {
                Some((file, *size_bytes))
            }
            _ => None,
        }
    }

    /// What the server said, if there is one.
    pub(super) fn served(&self) -> Option<Served> {
        let Input::Download(download) = &self.input else { return None };
        let metadata = download.metadata();
        let since = metadata.modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Some(Served {
            url: self.name.clone(),
            etag: metadata.etag.clone(),
            mtime_usec: since.and_then(|since| u64::try_from(since.as_micros()).ok()),
            validator: download.resume_point().validator,
        })
    }

    /// The bytes from the start, or from where they are resumed.
    pub(super) fn into_reader(self) -> Box<dyn Read + Send> {
        match self.input {
            Input::File { file, .. } => Box::new(file),
            Input::Download(download) => Box::new(io::Cursor::new(self.prefix).chain(download)),
        }
    }
}

/// Fills a buffer as far as there is something.
fn read_up_to(
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut len = 0;
    loop {
        match read(buffer.get_mut(len..).unwrap_or_default(), len as u64) {
            Ok(0) => return Ok(len),
            Ok(count) => len += count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Takes our own error out of an I/O error that carries it.
pub(super) fn unwrap_error(sentence: &str, err: io::Error) -> Error {
    match err.downcast::<Error>() {
        Ok(inner) => inner,
        Err(err) => Error::because(sentence, err),
    }
}

/// What the end of a packed file says of its unpacked size; several streams give the last one's.
fn trailer_bytes(file: &File, size: u64, format: Format) -> Option<u64> {
    match format {
        Format::Gzip => {
            let mut tail = [0; 4];
            file.read_exact_at(&mut tail, size.checked_sub(4)?).ok()?;
            Some(u64::from(u32::from_le_bytes(tail)))
        }
        Format::Xz => xz_index_bytes(file, size),
        Format::Plain | Format::Bzip2 | Format::Zstd | Format::Lz4 => None,
    }
}

/// Sums up the index of an .xz file (the .xz file format 1.2.1, sections 2.1.2 and 4).
fn xz_index_bytes(file: &File, size: u64) -> Option<u64> {
    // LIMIT: an index of a million blocks.
    const INDEX_MAX: u64 = 16 << 20;
    let mut footer = [0; 12];
    let footer_at = size.checked_sub(12)?;
    file.read_exact_at(&mut footer, footer_at).ok()?;
    let (_, rest) = footer.split_first_chunk::<4>()?;
    let (backward, rest) = rest.split_first_chunk::<4>()?;
    let index_bytes = (u64::from(u32::from_le_bytes(*backward)) + 1) * 4;
    if !rest.ends_with(b"YZ") || index_bytes > INDEX_MAX {
        return None;
    }
    let mut index = vec![0; usize::try_from(index_bytes).ok()?];
    file.read_exact_at(&mut index, footer_at.checked_sub(index_bytes)?).ok()?;
    let mut bytes = index.iter().copied();
    let mut number = || -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    if number()? != 0 {
        return None;
    }
    let records = number()?;
    let mut total = 0_u64;
    for _ in 0..records {
        number()?;
        total = total.checked_add(number()?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_an_xz_file_tells_its_size() {
        // `printf hello | xz -0`, and what remains of it.
        const XZ: &[u8] = &[
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00,
            0x21, 0x01, 0x0c, 0x00, 0x00, 0x00, 0x8f, 0x98, 0x41, 0x9c, 0x01, 0x00, 0x04, 0x68,
            0x65, 0x6c, 0x6c, 0x6f, 0x00, 0x00, 0x00, 0x00,
        ];
        let file = tempfile::tempfile().unwrap();
        for len in 0..XZ.len() {
            file.set_len(0).unwrap();
            file.write_all_at(&XZ[..len], 0).unwrap();
            assert_eq!(xz_index_bytes(&file, len as u64), None);
        }
        let mut index = vec![0, 2, 0x10, 0x80, 0x80, 0x80, 0x01, 0x10, 0x05];
        index.resize(12, 0);
        let mut tail = index.clone();
        tail.extend([0, 0, 0, 0]);
        tail.extend(((index.len() / 4 - 1) as u32).to_le_bytes());
        tail.extend([0, 4, b'Y', b'Z']);
        file.set_len(0).unwrap();
        file.write_all_at(&tail, 100).unwrap();
        assert_eq!(xz_index_bytes(&file, 100 + tail.len() as u64), Some((1 << 21) + 5));
    }
}
