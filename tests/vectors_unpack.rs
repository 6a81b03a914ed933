//! The streams of `tests/vectors/decompress`, unpacked as the peer unpacked them.
#![cfg(feature = "update")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;
use sha2::{Digest, Sha256};
use slipway::unpack::{self, Options, Segment, Sink};

#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

struct Part<'a>(&'a Memory, usize);

impl Sink for Memory {
    fn segment(&self, offset: u64) -> io::Result<Box<dyn Segment + Send + '_>> {
        Ok(Box::new(Part(self, usize::try_from(offset).unwrap())))
    }
}

impl Segment for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut data = self.0.0.lock().unwrap();
        let end = self.1 + bytes.len();
        let len = data.len().max(end);
        data.resize(len, 0);
        data[self.1..end].copy_from_slice(bytes);
        self.1 = end;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every case of a folder, pushed and pulled; returns how many there were.
fn check(folder: &str) -> usize {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/decompress").join(folder);
    let cases = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let mut count = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["file"].as_str().unwrap();
        let expected = &case["regular_file"];
        let packed = std::fs::read(folder.join(name)).unwrap();

        let sink = Memory::default();
        let pushed = unpack::unpack(&mut &packed[..], &sink, &Options::default())
            .map(|_| sink.0.lock().unwrap().clone())
            .map_err(|err| err.to_string());
        let mut pulled = Vec::new();
        let pulled = unpack::reader(Box::new(&packed[..]))
            .and_then(|mut reader| {
                reader.read_to_end(&mut pulled).map_err(unpack::Error::from_read)?;
                Ok(pulled)
            })
            .map_err(|err| err.to_string());

        for (how, result) in [("push", pushed), ("pull", pulled)] {
            match result {
                Ok(bytes) => {
                    assert_eq!(expected["rc"], 0, "{how} {name}: accepted");
                    assert_eq!(expected["size"], bytes.len(), "{how} {name}");
                    assert_eq!(expected["sha256"], hex(&Sha256::digest(&bytes)), "{how} {name}");
                }
                Err(err) => assert_eq!(expected["rc"], 1, "{how} {name}: {err}"),
            }
        }
        count += 1;
    }
    count
}

#[test]
fn streams_of_the_decompressor_vectors() {
    assert_eq!(check(""), 44);
}

#[test]
fn streams_at_the_edge_of_what_is_accepted() {
    assert_eq!(check("edge"), 40);
}
