//! Versions, patterns, manifests, numbers.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::sync::Arc;

use serde_json::Value;
use slipway::format::manifest::{self, Manifest};
use slipway::format::pattern::{self, Match, Pattern};
use slipway::format::{number as numbers, version as versions};

use crate::{kind, rows, text};

/// Up to three lines: versions that must be in a total order.
pub fn version(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (a, b, c) = (next(), next(), next());
    let (ab, bc, ac) = (versions::compare(a, b), versions::compare(b, c), versions::compare(a, c));
    assert_eq!(versions::compare(a, a), Ordering::Equal);
    assert_eq!(versions::compare(b, a), ab.reverse());
    // Rust's sort panics without this.
    if ab != Ordering::Greater && bc != Ordering::Greater {
        assert_eq!(ac, if ab.is_eq() { bc } else { Ordering::Less });
    }
    kind(&(ab, bc, ac, versions::is_valid(a), a.len() > 4, b.len() > 4))
}

pub fn version_seeds() -> Vec<Vec<u8>> {
    let rows = rows("version/compare.jsonl");
    let words: Vec<&str> = rows.iter().filter_map(|row| row["a"].as_str()).collect();
    words.windows(3).step_by(7).map(|three| three.join("\n").into_bytes()).collect()
}

/// The first line is a setting, the rest a path.
pub fn pattern(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let (setting, path) = text.split_once('\n').unwrap_or((&text, ""));
    let parsed = pattern::parse_list(setting, &mut |word| Ok::<_, Infallible>(word.to_owned()));
    let patterns = match parsed {
        Ok(patterns) => patterns,
        Err(err) => return kind(&std::mem::discriminant(&err)),
    };
    for pattern in &patterns {
        assert_eq!(Pattern::parse(pattern.as_str()).as_ref(), Ok(pattern));
        round_trip(&pattern.without_recursion(), path);
    }
    let result = pattern::match_any(&patterns, path);
    if let Match::Yes { version, .. } = &result {
        assert!(versions::is_valid(version));
        for (end, _) in path.match_indices('/') {
            assert!(pattern::descends_any(&patterns, &path[..end]));
        }
    }
    let shape = match result {
        Match::Yes { fields, .. } => format!("{:?}", fields).replace(char::is_numeric, ""),
        other => format!("{other:?}"),
    };
    kind(&(patterns.len(), shape))
}

/// A name made from what was captured gives the same again; unless literals look like values.
fn round_trip(pattern: &Pattern, path: &str) {
    let Match::Yes { version, fields } = pattern.matches(path) else { return };
    let name = pattern.format(&version, &fields).expect("every field was captured");
    let _ = (pattern::check_path(&name), pattern::check_label(&name));
    let mut literals = pattern.as_str().to_owned();
    for letter in ["@v", "@u", "@f", "@a", "@g", "@r", "@t", "@m", "@s", "@d", "@l", "@h"] {
        literals = literals.replace(letter, "");
    }
    if !literals.contains(|c: char| c.is_alphanumeric() || c == '@') {
        assert_eq!(pattern.matches(&name), Match::Yes { version, fields });
    }
}

pub fn pattern_seeds() -> Vec<Vec<u8>> {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows("pattern/match.jsonl")
        .iter()
        .map(|row| format!("{}\n{}", word(row, "pattern"), word(row, "path")).into_bytes())
        .collect()
}

/// A manifest; what it says, written again, says the same.
pub fn manifest(bytes: &[u8]) -> u64 {
    let parsed = match manifest::parse(bytes) {
        Ok(parsed) => parsed,
        Err(err) => return kind(&err.to_string().split(' ').take(5).collect::<Vec<_>>()),
    };
    let mut lines = String::new();
    for entry in &parsed.entries {
        let hash: String = entry.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&format!("{hash} *{}\n", entry.name));
    }
    let again = manifest::parse(lines.as_bytes()).expect("what was read can be written");
    let names = |manifest: &Manifest| -> Vec<(Arc<str>, [u8; 32])> {
        manifest.entries.iter().map(|entry| (entry.name.clone(), entry.hash)).collect()
    };
    assert_eq!(names(&again), names(&parsed));
    for marker in &parsed.markers {
        for now in [0, 1_795_451_666_000_000, u64::MAX] {
            let freshness = marker.freshness(now);
            assert!(!format!("{freshness}{freshness:#}").is_empty());
        }
    }
    let patterns = ["f_@v", "**/g_@v", "h_@v_@h"].map(|text| Pattern::parse(text).expect("good"));
    let selected = parsed.select(&patterns).collect::<Result<Vec<_>, _>>();
    kind(&(parsed.entries.len().min(5), parsed.markers.len().min(3), selected.is_ok()))
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let rows = rows("manifest/parse.jsonl");
    rows.iter().map(|row| base64(row["manifest_base64"].as_str().unwrap_or_default())).collect()
}

pub fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for c in text.bytes().filter_map(|c| alphabet.iter().position(|a| *a == c)) {
        bits = bits << 6 | c as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Numbers and booleans; a number written plainly is read again.
pub fn number(bytes: &[u8]) -> u64 {
    let text = text(bytes);
    let decimal = numbers::parse_u64(&text);
    let hex = numbers::parse_hex_u64(&text);
    let mode = numbers::parse_mode(&text);
    for value in [decimal, hex].into_iter().flatten() {
        assert_eq!(numbers::parse_u64(&value.to_string()), Ok(value));
        assert_eq!(numbers::parse_u64(&format!("{value:#x}")), Ok(value));
        assert_eq!(numbers::parse_hex_u64(&format!("{value:x}")), Ok(value));
    }
    if let Ok(mode) = mode {
        assert_eq!(numbers::parse_mode(&format!("{mode:03o}")), Ok(mode));
        assert_eq!(numbers::parse_u64(&format!("0o{mode:o}")), Ok(mode.into()));
    }
    kind(&(decimal.map(|_| ()), hex.map(|_| ()), mode.map(|_| ()), numbers::parse_bool(&text)))
}

pub fn number_seeds() -> Vec<Vec<u8>> {
    ["0", "010", "0x1f", "0b101", "0o17", " +12", "-0", "644", "yes", "18446744073709551615"]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
