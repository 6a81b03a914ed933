//! The walk against liblzma's own stream decoder: both must agree on every input.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};

use crate::unpack::tests::{Memory, Trickle, pull, push, push_with, vector};
use crate::unpack::{Error, Format, Options, Segment, Sink, unpack};

/// A generator of numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Bytes that pack well in places.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 256);
        while bytes.len() < len {
            let run = 1 + self.below(255);
            match self.below(3) {
                0 => bytes.extend((0..run).map(|_| self.below(256) as u8)),
                _ => bytes.extend((0..run).map(|_| run as u8)),
            }
        }
        bytes.truncate(len);
        bytes
    }
}

/// One stream with a block for each length; `xz --block-list` does the same.
fn stream(bytes: &[u8], blocks: &[usize], check: Check) -> Vec<u8> {
    let mut options = LzmaOptions::new_preset(0).unwrap();
    options.dict_size(64 << 10);
    let mut stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), check).unwrap();
    let mut out = Vec::with_capacity(bytes.len() * 2 + 4096);
    let mut rest = bytes;
    for &len in blocks {
        let (block, tail) = rest.split_at(len);
        assert_eq!(run(&mut stream, block, &mut out, Action::FullFlush), len);
        rest = tail;
    }
    assert_eq!(run(&mut stream, rest, &mut out, Action::Finish), rest.len());
    out
}

fn run(stream: &mut Stream, input: &[u8], out: &mut Vec<u8>, action: Action) -> usize {
    let before = stream.total_in();
    let mut rest = input;
    loop {
        let at = stream.total_in();
        let status = stream.process_vec(rest, out, action).unwrap();
        rest = &rest[(stream.total_in() - at) as usize..];
        if status == Status::StreamEnd {
            return (stream.total_in() - before) as usize;
        }
    }
}

fn threads(threads: usize) -> Options<'static> {
    Options { threads, ..Options::default() }
}

#[test]
fn blocks_of_any_length_come_out_in_place() {
    let mut random = Random(42);
    for round in 0..8 {
        let mut lens = Vec::new();
        for _ in 0..random.below(12) {
            let pages = random.below(200) as usize * 4096;
            // Unaligned blocks force their successors into the same segment.
            lens.push(pages + if random.below(3) == 0 { random.below(4096) as usize } else { 0 });
        }
        let tail = random.below(10_000) as usize;
        let bytes = random.bytes(lens.iter().sum::<usize>() + tail);
        let check = [Check::None, Check::Crc32, Check::Crc64, Check::Sha256][round % 4];
        let packed = stream(&bytes, &lens, check);
        for count in [1, 2, 5] {
            let (format, found) = push_with(&packed, &threads(count)).unwrap();
            assert!(format == Format::Xz && found == bytes, "round {round}, {count} threads");
        }
        let memory = Memory::default();
        unpack(&mut Trickle(&packed, 0), &memory, &threads(2)).unwrap();
        assert!(memory.bytes() == bytes, "round {round}, in pieces");
    }
}

#[test]
fn large_aligned_blocks_get_segments_of_their_own() {
    let bytes = Random(1).bytes(5 << 20);
    let packed = stream(&bytes, &[1 << 20; 4], Check::Crc64);
    let memory = Memory::default();
    unpack(&mut &packed[..], &memory, &threads(4)).unwrap();
    assert_eq!(memory.finished.lock().unwrap().len(), 5);
    assert!(memory.bytes() == bytes);
    // Small ones are kept together.
    let packed = stream(&bytes, &[64 << 10; 79], Check::Crc64);
    let memory = Memory::default();
    unpack(&mut &packed[..], &memory, &threads(4)).unwrap();
    assert_eq!(memory.finished.lock().unwrap().len(), 5);
    assert!(memory.bytes() == bytes);
}

#[test]
fn more_than_the_bounds_allow_at_once_still_flows() {
    // Incompressible blocks larger than what may be held.
    let mut random = Random(3);
    let bytes: Vec<u8> = (0..10 << 17).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect();
    let packed = stream(&bytes, &[8 << 20, 1 << 20], Check::Crc32);
    assert!(push_with(&packed, &threads(2)).unwrap().1 == bytes);
    // 81 small blocks, and dictionaries of 64 MiB.
    for name in ["blocks/small-aligned.xz", "blocks/big-dictionary.xz"] {
        assert_eq!(push_with(&vector(name), &threads(8)).unwrap().1.len(), 5_244_114);
    }
}

#[test]
fn every_mutation_means_the_same_to_the_stream_decoder() {
    let mut random = Random(5);
    let bytes = random.bytes(3000);
    let two =
        [stream(&bytes, &[0, 1000], Check::Crc32), vec![0; 4], stream(&bytes, &[], Check::None)];
    let good = two.concat();
    let expected = [&bytes[..], &bytes].concat();
    assert_eq!(push(&good).unwrap().1, expected);
    let mut accepted = 0;
    for round in 0..800 {
        let mut bad = good.clone();
        for _ in 0..=random.below(2) {
            if bad.len() < 8 {
                break;
            }
            let at = 6 + random.below(bad.len() as u64 - 6) as usize;
            match random.below(4) {
                0 => drop(bad.drain(at..bad.len().min(at + 1 + random.below(4) as usize))),
                1 => bad.insert(at.min(bad.len()), 0),
                2 => bad.truncate(at.max(6)),
                _ => {
                    let at = at.min(bad.len() - 1);
                    bad[at] ^= 1 << random.below(8);
                }
            }
        }
        match (pull(&bad), push(&bad)) {
            (Ok(pulled), Ok((_, pushed))) => {
                assert!(pulled == pushed, "round {round}");
                accepted += 1;
            }
            (Err(_), Err(_)) => {}
            (pulled, pushed) => {
                let (pulled, pushed) = (pulled.map(|b| b.len()), pushed.map(|b| b.1.len()));
                panic!("round {round}: {pulled:?} but {pushed:?}");
            }
        }
    }
    // Without a check, the second stream can be changed unnoticed.
    assert!(accepted > 0 && accepted < 1500, "{accepted}");
}

#[test]
fn index_and_footer_must_match_the_blocks() {
    let bytes = Random(9).bytes(9000);
    let one = stream(&bytes, &[4096], Check::Crc32);
    let other = stream(&bytes, &[8192], Check::Crc32);
    let index_of = |packed: &[u8]| {
        let backward = u32::from_le_bytes(packed[packed.len() - 8..][..4].try_into().unwrap());
        packed.len() - 12 - (backward as usize + 1) * 4
    };
    let mut mixed = one[..index_of(&one)].to_vec();
    mixed.extend_from_slice(&other[index_of(&other)..]);
    for result in [push(&mixed).map(|r| r.1), pull(&mixed)] {
        assert!(matches!(result, Err(Error::Corrupt(Format::Xz, _))));
    }
    let err = push(&mixed).unwrap_err();
    assert_eq!(err.to_string(), "xz data is damaged: index does not match the blocks");
}

#[test]
fn a_damaged_block_stops_everything() {
    let bytes = Random(11).bytes(12 << 20);
    let packed = stream(&bytes, &[1 << 20; 11], Check::Crc64);
    for at in [2, 3, 5, 7].map(|tenth| packed.len() / 10 * tenth) {
        let mut bad = packed.clone();
        bad[at] ^= 0x55;
        assert!(matches!(push_with(&bad, &threads(4)), Err(Error::Corrupt(Format::Xz, _))));
        let cut = push_with(&packed[..at], &threads(4));
        assert!(matches!(cut, Err(Error::Truncated(Format::Xz))), "{cut:?}");
    }
    let limited = Options { max_bytes: 6 << 20, threads: 4, cancel: None };
    assert!(matches!(push_with(&packed, &limited), Err(Error::TooLarge { .. })));
}

/// Takes a number of bytes over all segments, then has no room, or sets a flag.
struct Bounded<'a> {
    left: AtomicI64,
    flag: Option<&'a AtomicBool>,
}

struct BoundedSegment<'a>(&'a Bounded<'a>);

impl Sink for Bounded<'_> {
    fn segment(&self, _: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        Ok(Box::new(BoundedSegment(self)))
    }
}

impl Segment for BoundedSegment<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.0.left.fetch_sub(bytes.len() as i64, Ordering::Relaxed) >= bytes.len() as i64 {
            return Ok(());
        }
        match self.0.flag {
            Some(flag) => flag.store(true, Ordering::Relaxed),
            None => return Err(io::Error::from_raw_os_error(28)),
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_sink_or_a_flag_ends_all_threads() {
    let mut random = Random(13);
    let bytes: Vec<u8> = (0..10 << 17).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect();
    let packed = stream(&bytes, &[1 << 20; 9], Check::Crc32);
    for megabytes in [0, 1, 3, 7] {
        let full = Bounded { left: AtomicI64::new(megabytes << 20), flag: None };
        let err = unpack(&mut &packed[..], &full, &threads(3)).unwrap_err();
        assert!(matches!(&err, Error::Write(_)) && err.errno() == Some(28), "{err:?}");

        let flag = AtomicBool::new(false);
        let slow = Bounded { left: AtomicI64::new(megabytes << 20), flag: Some(&flag) };
        let options = Options { cancel: Some(&flag), ..threads(3) };
        let result = unpack(&mut &packed[..], &slow, &options);
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    }
}

#[test]
fn a_dictionary_beyond_the_limit_is_refused() {
    let mut packed = stream(b"hello", &[], Check::Crc64);
    let end = 12 + (usize::from(packed[12]) + 1) * 4 - 4;
    let at = 12 + packed[12..end].windows(2).position(|pair| pair == [0x21, 1]).unwrap() + 2;
    for (bits, is_good) in [(30, true), (32, true), (33, false), (34, false), (40, false)] {
        packed[at] = bits;
        let crc = super::container::crc32(&packed[12..end]).to_le_bytes();
        packed[end..end + 4].copy_from_slice(&crc);
        for result in [push(&packed).map(|r| r.1), pull(&packed)] {
            match result {
                Ok(bytes) => assert!(is_good && bytes == b"hello", "{bits}"),
                Err(err) => {
                    assert!(!is_good, "{bits}: {err}");
                    let text = "xz data needs a dictionary of more than 256 MiB";
                    assert_eq!(err.to_string(), text);
                }
            }
        }
    }
}
