//! The sequential decoders behind one interface: bytes in, bytes out, at whose pace is the
//! caller's business.
//!
//! The libraries differ in how they treat concatenation, trailing garbage and truncation, so each
//! is used for one member, stream or frame at a time, and what lies between is decided here.

use bzip2::Decompress as BzDecompress;
use flate2::{Decompress as GzDecompress, FlushDecompress};
use liblzma::stream::{self as lzma, Action, Stream as LzStream};
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode as Code;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind};

use super::{Error, Format, WINDOW_LOG_MAX};

// LIMIT: of the dictionary of an xz stream, with what the decoder itself needs.
// DIFFERS: the peer lets a header ask for up to 4 GiB.
pub(super) const XZ_MEMORY_MAX: u64 = (2 << WINDOW_LOG_MAX) + (1 << 20);

/// What one call of a decoder did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    /// Input bytes used up.
    pub(super) read: usize,
    /// Output bytes made.
    pub(super) written: usize,
    /// True at the proper end of the last stream.
    pub(super) is_done: bool,
}

impl Step {
    /// Input used up, nothing made.
    fn skipped(read: usize) -> Self {
        Self { read, ..Self::default() }
    }

    /// The proper end.
    fn done() -> Self {
        Self { is_done: true, ..Self::default() }
    }
}

/// A decoder of one format.
pub(super) trait Decode: Send {
    /// Decodes from `input` to `output` as far as either goes. With `is_at_end` nothing follows
    /// `input`, and the decoder either makes progress, is done, or fails; otherwise no progress
    /// means that it wants more than `input` at once.
    fn step(&mut self, input: &[u8], is_at_end: bool, output: &mut [u8]) -> Result<Step, Error>;
}

/// RFC 1952.
pub(super) struct Gzip {
    /// None between members.
    member: Option<GzDecompress>,
    is_first: bool,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { member: None, is_first: true }
    }
}

impl Decode for Gzip {
    fn step(&mut self, input: &[u8], is_at_end: bool, output: &mut [u8]) -> Result<Step, Error> {
        let member = match &mut self.member {
            Some(member) => member,
            None if input.is_empty() && is_at_end => return Ok(Step::done()),
            None if input.first().is_some_and(|&b| b != 0x1f) => {
                return Err(Error::TrailingGarbage(Format::Gzip));
            }
            none => none.insert(GzDecompress::new_gzip(15)),
        };
        let before = (member.total_in(), member.total_out());
        let status = member.decompress(input, output, FlushDecompress::None).map_err(|_| {
            // The header is checked when its second byte is seen.
            match before.0 < 2 && !self.is_first {
                true => Error::TrailingGarbage(Format::Gzip),
                false => Error::Corrupt(Format::Gzip, "invalid code, length or checksum"),
            }
        })?;
        let step = progress(before, (member.total_in(), member.total_out()));
        if status == flate2::Status::StreamEnd {
            (self.member, self.is_first) = (None, false);
        } else {
            want_progress(step, input, is_at_end, output, Format::Gzip)?;
        }
        Ok(step)
    }
}

/// bzip2.
pub(super) struct Bzip2 {
    /// None between streams.
    stream: Option<BzDecompress>,
    is_first: bool,
}

impl Bzip2 {
    pub(super) fn new() -> Self {
        Self { stream: None, is_first: true }
    }
}

impl Decode for Bzip2 {
    fn step(&mut self, input: &[u8], is_at_end: bool, output: &mut [u8]) -> Result<Step, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None if input.is_empty() && is_at_end => return Ok(Step::done()),
            none => none.insert(BzDecompress::new(false)),
        };
        let before = (stream.total_in(), stream.total_out());
        let status = stream.decompress(input, output).map_err(|err| match err {
            bzip2::Error::DataMagic if !self.is_first && before.0 < 4 => {
                Error::TrailingGarbage(Format::Bzip2)
            }
            _ => Error::Corrupt(Format::Bzip2, "invalid code, length or checksum"),
        })?;
        let step = progress(before, (stream.total_in(), stream.total_out()));
        if status == bzip2::Status::StreamEnd {
            (self.stream, self.is_first) = (None, false);
        } else {
            want_progress(step, input, is_at_end, output, Format::Bzip2)?;
        }
        Ok(step)
    }
}

/// The .xz container, one block after the other.
pub(super) struct Xz {
    stream: Option<LzStream>,
    /// Zero bytes seen since the last stream.
    padding: u64,
    is_first: bool,
}

impl Xz {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { stream: Some(xz_stream()?), padding: 0, is_first: true })
    }

    /// Between streams there may be zeros, in fours.
    fn between(&mut self, input: &[u8], is_at_end: bool) -> Result<Step, Error> {
        let zeros = input.iter().take_while(|&&b| b == 0).count();
        self.padding += zeros as u64;
        if zeros > 0 || (input.is_empty() && !is_at_end) {
            return Ok(Step::skipped(zeros));
        }
        if !self.padding.is_multiple_of(4) {
            return Err(Error::Corrupt(Format::Xz, "stream padding is not a multiple of four"));
        }
        if input.is_empty() {
            return Ok(Step::done());
        }
        (self.stream, self.padding, self.is_first) = (Some(xz_stream()?), 0, false);
        Ok(Step::default())
    }
}

/// A decoder of one stream.
pub(super) fn xz_stream() -> Result<LzStream, Error> {
    LzStream::new_stream_decoder(XZ_MEMORY_MAX, lzma::TELL_UNSUPPORTED_CHECK).map_err(xz_error)
}

/// What liblzma says, in our words.
pub(super) fn xz_error(err: lzma::Error) -> Error {
    use lzma::Error as E;
    match err {
        E::Format => Error::Corrupt(Format::Xz, "invalid stream header"),
        E::Options => Error::Unsupported(Format::Xz, "a filter or option that is not known"),
        E::MemLimit => Error::Unsupported(Format::Xz, "a dictionary of more than 256 MiB"),
        E::Mem => Error::Unsupported(Format::Xz, "more memory than there is"),
        E::NoCheck | E::UnsupportedCheck => {
            Error::Unsupported(Format::Xz, "a kind of checksum that is not known")
        }
        E::Data | E::Program => Error::Corrupt(Format::Xz, "invalid code, length or checksum"),
    }
}

impl Decode for Xz {
    fn step(&mut self, input: &[u8], is_at_end: bool, output: &mut [u8]) -> Result<Step, Error> {
        let Some(stream) = &mut self.stream else {
            let step = self.between(input, is_at_end)?;
            if step.read == 0 && !step.is_done && self.stream.is_some() {
                return self.step(input, is_at_end, output);
            }
            return Ok(step);
        };
        let before = (stream.total_in(), stream.total_out());
        let status = stream.process(input, output, Action::Run).map_err(|err| match err {
            lzma::Error::Format if !self.is_first => Error::TrailingGarbage(Format::Xz),
            err => xz_error(err),
        })?;
        let step = progress(before, (stream.total_in(), stream.total_out()));
        if status == lzma::Status::StreamEnd {
            self.stream = None;
        } else {
            want_progress(step, input, is_at_end, output, Format::Xz)?;
        }
        Ok(step)
    }
}

/// RFC 8878.
pub(super) struct Zstd {
    context: DCtx<'static>,
    is_between: bool,
    is_first: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, Error> {
        let no_memory = || Error::Unsupported(Format::Zstd, "more memory than there is");
        let mut context = DCtx::try_create().ok_or_else(no_memory)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|_| no_memory())?;
        Ok(Self { context, is_between: true, is_first: true })
    }

    fn error(&self, code: usize) -> Error {
        let is = |kind| is_error_kind(code, kind);
        if is(Code::ZSTD_error_prefix_unknown) && !self.is_first {
            Error::TrailingGarbage(Format::Zstd)
        } else if is(Code::ZSTD_error_frameParameter_windowTooLarge) {
            Error::Unsupported(Format::Zstd, "a window of more than 128 MiB")
        } else if is(Code::ZSTD_error_memory_allocation) {
            Error::Unsupported(Format::Zstd, "more memory than there is")
        } else if is(Code::ZSTD_error_dictionary_wrong) {
            Error::Unsupported(Format::Zstd, "a dictionary that is not part of it")
        } else if is(Code::ZSTD_error_frameParameter_unsupported) {
            Error::Unsupported(Format::Zstd, "an option that is not known")
        } else if is(Code::ZSTD_error_checksum_wrong) {
            Error::Corrupt(Format::Zstd, "wrong checksum")
        } else {
            Error::Corrupt(Format::Zstd, "invalid code or length")
        }
    }
}

impl Decode for Zstd {
    fn step(&mut self, input: &[u8], is_at_end: bool, output: &mut [u8]) -> Result<Step, Error> {
        if self.is_between && input.is_empty() {
            return Ok(if is_at_end { Step::done() } else { Step::default() });
        }
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(&mut *output);
        let left =
            self.context.decompress_stream(&mut to, &mut from).map_err(|code| self.error(code))?;
        let step = Step { read: from.pos(), written: to.pos(), is_done: false };
        self.is_between = left == 0;
        if self.is_between {
            self.is_first = false;
        } else {
            want_progress(step, input, is_at_end, output, Format::Zstd)?;
        }
        Ok(step)
    }
}

/// The difference of two (total in, total out).
fn progress(before: (u64, u64), after: (u64, u64)) -> Step {
    Step {
        read: usize::try_from(after.0 - before.0).unwrap_or_default(),
        written: usize::try_from(after.1 - before.1).unwrap_or_default(),
        is_done: false,
    }
}

/// A decoder that is given all there is, and room, and does nothing, wants what is not there.
fn want_progress(
    step: Step,
    input: &[u8],
    is_at_end: bool,
    output: &[u8],
    format: Format,
) -> Result<(), Error> {
    let is_stuck = step.read == 0 && step.written == 0 && !output.is_empty();
    match is_stuck {
        true if is_at_end => Err(Error::Truncated(format)),
        true if !input.is_empty() => Err(Error::Corrupt(format, "decoder makes no progress")),
        _ => Ok(()),
    }
}
