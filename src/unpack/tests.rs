//! Streams good and bad, made here or taken from `tests/vectors/decompress`.

use std::io::Write;
use std::sync::Mutex;

use super::*;

/// Memory as a sink that notices overlaps and forgotten ends.
#[derive(Default)]
pub(super) struct Memory {
    data: Mutex<Vec<u8>>,
    open: Mutex<Vec<(u64, u64)>>,
    pub(super) finished: Mutex<Vec<(u64, u64)>>,
}

struct MemorySegment<'a> {
    memory: &'a Memory,
    start: u64,
    at: u64,
}

impl Sink for Memory {
    fn segment(&self, offset: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        assert!(offset.is_multiple_of(SEGMENT_ALIGN), "segment at {offset}");
        self.open.lock().unwrap().push((offset, offset));
        Ok(Box::new(MemorySegment { memory: self, start: offset, at: offset }))
    }
}

impl Segment for MemorySegment<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut data = self.memory.data.lock().unwrap();
        let start = usize::try_from(self.at).unwrap();
        let end = start + bytes.len();
        if data.len() < end {
            data.resize(end, 0);
        }
        data[start..end].copy_from_slice(bytes);
        self.at = end as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.memory.finished.lock().unwrap().push((self.start, self.at));
        Ok(())
    }
}

impl Memory {
    /// The bytes, after a check that the finished segments are exactly those opened and abut.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut finished = self.finished.lock().unwrap().clone();
        finished.sort_unstable();
        assert_eq!(finished.len(), self.open.lock().unwrap().len());
        let mut at = 0;
        for (start, end) in finished {
            assert_eq!(start, at, "gap or overlap");
            at = end;
        }
        self.data.lock().unwrap().clone()
    }
}

/// Hands out a byte, then three, then seven, …: decoders must not depend on the pieces.
pub(super) struct Trickle<'a>(pub(super) &'a [u8], pub(super) usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 = (self.1 * 2 + 1) & 0xfff;
        let count = self.0.len().min(self.1).min(buf.len());
        buf[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

pub(super) fn push(packed: &[u8]) -> Result<(Format, Vec<u8>), Error> {
    push_with(packed, &Options::default())
}

pub(super) fn push_with(packed: &[u8], options: &Options<'_>) -> Result<(Format, Vec<u8>), Error> {
    let memory = Memory::default();
    let done = unpack(&mut &packed[..], &memory, options)?;
    let bytes = memory.bytes();
    assert_eq!(done.bytes, bytes.len() as u64);
    Ok((done.format, bytes))
}

pub(super) fn pull(packed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader(Box::new(Trickle(packed, 0)))?.read_to_end(&mut bytes).map_err(Error::from_read)?;
    Ok(bytes)
}

pub(super) fn vector(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/decompress/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd_(bytes: &[u8]) -> Vec<u8> {
    let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    liblzma::encode_all(bytes, 0).unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;
const PACKERS: [(Format, Pack); 4] =
    [(Format::Gzip, gzip), (Format::Bzip2, bzip2), (Format::Xz, xz), (Format::Zstd, zstd_)];

/// A little of everything, each in the smallest form.
fn small_streams() -> Vec<(Format, Vec<u8>)> {
    let mut all: Vec<_> =
        PACKERS.iter().map(|(format, pack)| (*format, pack(b"hello, hello, hello"))).collect();
    all.push((Format::Lz4, vector("edge/lz4-skip-mid")));
    all
}

fn is_bad_stream(err: &Error, format: Format) -> bool {
    match err {
        Error::Truncated(f) | Error::TrailingGarbage(f) => *f == format,
        Error::Corrupt(f, _) | Error::Unsupported(f, _) => *f == format,
        _ => false,
    }
}

#[test]
fn short_streams_are_plain() {
    for magic in [&b"\xfd7zXZ\0"[..], b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"]
    {
        let mut padded = magic.to_vec();
        padded.resize(6, 9);
        assert_eq!(sniff(&padded[..5]), Format::Plain);
        assert_ne!(sniff(&padded), Format::Plain);
        assert_eq!(push(&padded[..5]).unwrap(), (Format::Plain, padded[..5].to_vec()));
    }
}

#[test]
fn every_truncation_of_a_good_stream_is_an_error() {
    for (format, packed) in small_streams() {
        // Complete first frames are complete streams.
        let frames: &[usize] = if format == Format::Lz4 { &[21, 33] } else { &[] };
        for len in SNIFF_BYTES..packed.len() {
            let cut = &packed[..len];
            if frames.contains(&len) {
                continue;
            }
            for result in [push(cut).map(|r| r.1), pull(cut)] {
                match result {
                    Err(Error::Truncated(f)) => assert_eq!(f, format),
                    other => panic!("{format} cut to {len}: {other:?}"),
                }
            }
        }
        assert!(push(&packed).is_ok() && pull(&packed).is_ok(), "{format}");
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_does_no_harm() {
    for (format, packed) in small_streams() {
        let good = pull(&packed).unwrap();
        for at in SNIFF_BYTES..packed.len() {
            for bit in 0..8 {
                let mut bad = packed.clone();
                bad[at] ^= 1 << bit;
                // gzip does not protect its header, bzip2 not its last bits, lz4 not here.
                match (pull(&bad), push(&bad).map(|r| r.1)) {
                    (Ok(a), Ok(b)) if format == Format::Lz4 => assert_eq!(a, b),
                    (Ok(a), Ok(b)) => assert!(a == good && b == good, "{format} {at}.{bit}"),
                    (Err(a), Err(b)) => {
                        assert!(is_bad_stream(&a, format), "{format} {at}.{bit}: {a:?}");
                        assert!(is_bad_stream(&b, format), "{format} {at}.{bit}: {b:?}");
                    }
                    other => panic!("{format} {at}.{bit}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn garbage_after_the_end_is_named() {
    for (format, packed) in small_streams() {
        let mut bad = packed;
        bad.extend_from_slice(b"\x42\x42garbage garbage garbage");
        for result in [push(&bad).map(|r| r.1), pull(&bad)] {
            match result {
                Err(Error::TrailingGarbage(f)) => assert_eq!(f, format),
                other => panic!("{format}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 8 << 20];
    for (format, pack) in PACKERS {
        let packed = pack(&zeros);
        let memory = Memory::default();
        let options = Options { max_bytes: 1 << 20, ..Options::default() };
        match unpack(&mut &packed[..], &memory, &options) {
            Err(Error::TooLarge { limit }) => assert_eq!(limit, 1 << 20),
            other => panic!("{format}: {other:?}"),
        }
        assert!(memory.data.lock().unwrap().len() <= 1 << 20, "{format}");
        let exact = Options { max_bytes: 8 << 20, ..Options::default() };
        assert_eq!(push_with(&packed, &exact).unwrap().1.len(), 8 << 20, "{format}");
    }
    let plain = Options { max_bytes: 3, ..Options::default() };
    assert!(matches!(push_with(b"1234", &plain), Err(Error::TooLarge { limit: 3 })));
}

#[test]
fn cancelling_ends_the_work() {
    let flag = AtomicBool::new(true);
    let options = Options { cancel: Some(&flag), ..Options::default() };
    for (_, pack) in PACKERS {
        assert!(matches!(push_with(&pack(b"x"), &options), Err(Error::Cancelled)));
    }
    assert!(matches!(push_with(b"x", &options), Err(Error::Cancelled)));
}

#[test]
fn an_input_that_was_cancelled_says_so() {
    struct Cut<'a>(&'a [u8]);
    impl Read for Cut<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::Error::other(Error::Cancelled)),
                count => Ok(count),
            }
        }
    }
    for (format, pack) in PACKERS {
        let packed = pack(b"hello, hello, hello");
        for len in [3, packed.len() / 2, packed.len()] {
            let memory = Memory::default();
            let result = unpack(&mut Cut(&packed[..len]), &memory, &Options::default());
            assert!(matches!(result, Err(Error::Cancelled)), "{format} {len}: {result:?}");
        }
    }
}

/// Fails after some bytes, as a connection or a disk does.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::from_raw_os_error(5));
        }
        let count = self.0.min(buf.len());
        buf[..count].fill(1);
        self.0 -= count;
        Ok(count)
    }
}

struct Full;

impl Sink for Full {
    fn segment(&self, _: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        Ok(Box::new(Full))
    }
}

impl Segment for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(28))
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_either_end_keep_their_errno() {
    let memory = Memory::default();
    for good in [0, 3, 100_000] {
        let err = unpack(&mut Failing(good), &memory, &Options::default()).unwrap_err();
        assert!(matches!(err, Error::Read(_)));
        assert_eq!(err.errno(), Some(5));
        assert_eq!(err.to_string(), "cannot read packed data: Input/output error");
    }
    let packed: Vec<_> = PACKERS.iter().map(|(_, pack)| pack(b"hello")).collect();
    for packed in packed {
        let err = unpack(&mut &packed[..], &Full, &Options::default()).unwrap_err();
        assert!(matches!(err, Error::Write(_)));
        assert_eq!(err.errno(), Some(28));
        assert_eq!(err.to_string(), "cannot write unpacked data: No space left on device");
    }
}

#[test]
fn sentences_name_format_and_cause() {
    let texts = [
        Error::Truncated(Format::Xz),
        Error::Corrupt(Format::Gzip, "wrong checksum"),
        Error::TrailingGarbage(Format::Bzip2),
        Error::Unsupported(Format::Zstd, "a window of more than 128 MiB"),
        Error::TooLarge { limit: 4096 },
    ]
    .map(|err| err.to_string());
    assert_eq!(
        texts,
        [
            "xz data ends too early",
            "gzip data is damaged: wrong checksum",
            "bzip2 data is followed by something that is not bzip2",
            "zstd data needs a window of more than 128 MiB",
            "unpacked data is larger than the 4096 bytes there is room for",
        ]
    );
    assert_eq!(io::Error::from(Error::Truncated(Format::Xz)).to_string(), texts[0]);
}

#[test]
fn size_is_known_early_where_the_header_has_it() {
    let sized = zstd::bulk::compress(&[7; 5000], 1).unwrap();
    assert_eq!(size_hint(&sized), Some(5000));
    assert_eq!(size_hint(&sized[..SNIFF_BYTES - 1]), None);
    assert_eq!(size_hint(&zstd_(b"streamed")), None);
    assert_eq!(size_hint(&gzip(b"x")), None);
    assert_eq!(size_hint(&vector("edge/lz4-sized")), Some(28893));
    for len in 0..14 {
        assert_eq!(size_hint(&vector("edge/lz4-sized")[..len]), None);
    }
}
