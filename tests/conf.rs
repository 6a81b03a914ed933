//! What is told about malformed configuration files, compared with systemd 262.1. One test,
//! because warnings go to the log and a process has one log.

use std::path::Path;

use serde_json::Value;
use slipway::conf::ini::{Key, Line, parse};
use slipway::ctx::Ctx;
use slipway::error::Result;
use slipway::out::{Captured, Facts, Out, escape};

fn set((): &mut (), _: &Line<'_>) -> Result<()> {
    Ok(())
}

/// What one file makes us say, line by line.
fn told(bytes: &[u8], captured: &Captured) -> Vec<String> {
    let keys = ["Transfer", "Source", "Target"].map(|section| Key::new(section, "Known", set));
    let before = captured.stderr().len();
    let result = parse(Path::new("f"), bytes, &keys, &mut ());
    let stderr = captured.stderr();
    let warnings = stderr[before..].lines().map(str::to_owned);
    warnings.chain(result.err().map(|err| err.to_string())).collect()
}

#[test]
fn random_files_are_judged_as_by_the_peer() {
    let (out, captured) = Out::captured(Facts::default());
    slipway::log::init(&Ctx::host([]), &out);
    let mut wrong = Vec::new();
    let rows = include_str!("vectors/ini/random.jsonl").lines();
    for (number, row) in rows.enumerate() {
        let row: Value = serde_json::from_str(row).unwrap();
        let text = row["bytes"].as_str().unwrap();
        let bytes: Vec<u8> = text.chars().map(|letter| u8::try_from(letter).unwrap()).collect();
        let plain = |text: &str| escape::block(text).replace("\\t", "\t");
        let theirs = row["messages"].as_array().unwrap().iter();
        let theirs: Vec<String> = theirs.map(|line| plain(line.as_str().unwrap())).collect();
        let ours: Vec<String> =
            told(&bytes, &captured).iter().map(|line| line.replace("\\t", "\t")).collect();
        if ours != theirs {
            wrong.push(format!("row {number}: {ours:#?} instead of {theirs:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
