//! What tells whose machine this is: the hardware database, text and compiled, and SMBIOS tables.

use std::collections::BTreeMap;

use slipway::format::glob;
use slipway::format::hwdb::{records, trie};
use slipway::format::smbios;

use crate::format::base64;
use crate::{files, kind, text, vectors};

pub const HWDB_WORDS: &[&str] =
    &["*", "?", "[^", "[!", "]", "[[:digit:]]", "\\", "-", "\n ", "\n\n", "=", "#", "dmi:", ":cat"];

/// A text, and its first line as a pattern. Records written plainly are read again; a pattern
/// agrees with another way of matching it.
pub fn hwdb(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let mut all = records(&text);
    let found: Vec<_> = all.by_ref().collect();
    let mut plain = String::new();
    for record in found.iter().filter(|record| !record.properties.is_empty()) {
        for pattern in &record.matches {
            plain.push_str(&format!("{pattern}\n"));
        }
        for (key, value) in &record.properties {
            plain.push_str(&format!(" {key}={value}\n"));
        }
        plain.push('\n');
    }
    let again: Vec<_> = records(&plain).collect();
    assert!(found.iter().filter(|record| !record.properties.is_empty()).eq(&again));
    for bad in &all.complaints {
        assert!(!bad.to_string().is_empty() && bad.line > 0);
    }
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, &text));
    let is_match = glob::matches(pattern, name);
    if !pattern.contains(['[', '\\']) && pattern.len() < 64 && name.len() < 256 {
        let (pattern, name): (Vec<char>, Vec<char>) =
            (pattern.chars().collect(), name.chars().collect());
        assert_eq!(is_match, slow(&pattern, &name));
    }
    // Digits do not count, lengths do.
    let many = |count: usize| "#".repeat(count.min(6));
    let values: usize = found.iter().map(|record| record.properties.len()).sum();
    kind(&(many(found.len()), many(values), many(all.complaints.len()), is_match))
}

/// Stars and question marks by a table of all prefixes.
fn slow(pattern: &[char], name: &[char]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for element in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match element {
                '*' => reached[at] || (at > 0 && next[at - 1]),
                _ if at == 0 => false,
                '?' => reached[at - 1],
                letter => reached[at - 1] && name[at - 1] == *letter,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

pub fn hwdb_seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("hwdb", ".hwdb");
    seeds.extend(
        ["dmi:*:svn?cme:*\ndmi:bvn:svnAcme:x", "[a-c]*\nabc"].map(|t| t.as_bytes().to_vec()),
    );
    seeds
}

/// A compiled database; what it says, it says again.
pub fn hwdb_bin(bytes: &[u8]) -> u64 {
    let ask = |name: &str| -> Result<BTreeMap<String, String>, trie::Broken> {
        let mut pages = bytes;
        trie::query(&mut pages, name)
    };
    let results = ["test:abc", "dmi:bvnAcme:svnAcme:pnBox1:x:", ""].map(ask);
    assert_eq!(results[0], ask("test:abc"));
    kind(&results.map(|result| result.map(|found| "#".repeat(found.len().min(12)))))
}

pub fn hwdb_bin_seeds() -> Vec<Vec<u8>> {
    files("hwdb", ".bin")
}

/// Tables; the first two bytes are the version.
pub fn tables(bytes: &[u8]) -> u64 {
    let (head, table) = bytes.split_at(bytes.len().min(2));
    let version = head.iter().fold(0, |version, byte| version << 8 | u32::from(*byte)) << 8;
    let _ = smbios::version(bytes);
    let strings = smbios::parse(table, version);
    let modalias = strings.modalias();
    assert!(modalias.starts_with("dmi:") && modalias.is_ascii());
    assert!(!modalias.contains(char::is_whitespace));
    // What follows the end of the table changes nothing.
    let mut longer = table.to_vec();
    longer.extend([127, 4, 0, 0, 0, 0, 1, 8, 0, 0, 1, 1, 1, 1, b'x', 0, 0]);
    let kept = smbios::parse(&longer, version);
    assert!(kept.modalias().len() >= modalias.len());
    let fields: Vec<bool> =
        strings.bios.iter().chain(&strings.board).map(|field| field.is_some()).collect();
    kind(&(strings.product_uuid.is_some(), fields, "#".repeat(modalias.matches(':').count())))
}

pub fn tables_seeds() -> Vec<Vec<u8>> {
    let seed = |row: &serde_json::Value| {
        let mut bytes = vec![2, 8];
        bytes.extend(base64(row["table"].as_str().unwrap_or_default()));
        bytes
    };
    let text = std::fs::read_to_string(vectors("smbios/qemu.json")).expect("vectors");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("rows");
    rows.iter().map(seed).collect()
}
