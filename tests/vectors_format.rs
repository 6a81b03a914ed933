//! The formats against what systemd 262.1 did with the same input; see PROVENANCE beside each file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::cmp::Ordering;

use serde_json::Value;
use slipway::format::gpt;
use slipway::format::manifest::{self, Freshness};
use slipway::format::pattern::{self, Fields, ListError, Match, Pattern};
use slipway::format::version;

/// Every line of a vector file.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn versions_are_ordered_as_by_the_peer() {
    let rows = lines(include_str!("vectors/version/compare.jsonl"));
    assert_eq!(rows.len(), 3192);
    for row in rows {
        let (a, b) = (row["a"].as_str().unwrap(), row["b"].as_str().unwrap());
        let order = row["cmp"].as_i64().unwrap().cmp(&0);
        assert_eq!(version::compare(a, b), order, "{a:?} <=> {b:?}");
        assert_eq!(version::compare(b, a), order.reverse(), "{b:?} <=> {a:?}");
    }
    assert_eq!(version::compare("1", "1"), Ordering::Equal);
}

/// The two specifiers that the pattern vectors use.
fn expand(word: &str) -> Result<String, &'static str> {
    Ok(word.replace("%a", "x86-64").replace("%%", "%"))
}

#[test]
fn patterns_match_and_capture_as_by_the_peer() {
    let rows = lines(include_str!("vectors/pattern/match.jsonl"));
    assert_eq!(rows.len(), 203);
    for row in rows {
        let path = row["path"].as_str().unwrap();
        let (result, errno) =
            match pattern::parse_list(row["pattern"].as_str().unwrap(), &mut expand) {
                // No word at all is refused by the loader of definitions, not here.
                Ok(patterns) if patterns.is_empty() => (None, 0),
                Ok(patterns) => (Some(pattern::match_any(&patterns, path)), 0),
                Err(ListError::Pattern(err)) => (None, err.errno()),
                Err(ListError::Expand { .. }) => unreachable!("expand never fails"),
            };
        match row["result"].as_str().unwrap() {
            "match" => {
                let Some(Match::Yes { version, fields }) = result else {
                    panic!("{row}: {result:?}")
                };
                assert_eq!(version, row["version"].as_str().unwrap(), "{row}");
                assert_eq!(to_json(&fields), row["fields"], "{row}");
                // A walk gets there: every directory above asks to be descended into.
                let patterns =
                    pattern::parse_list(row["pattern"].as_str().unwrap(), &mut expand).unwrap();
                for (end, _) in path.match_indices('/') {
                    assert!(pattern::descends_any(&patterns, &path[..end]), "{row}");
                }
            }
            "no-match" => {
                assert!(matches!(result, Some(Match::No | Match::Retry)), "{row}: {result:?}");
            }
            _ => {
                assert_eq!(result, None, "{row}");
                let stderr = row["stderr_last"].as_str().unwrap();
                let expected = match stderr.rsplit_once(": ") {
                    Some((_, "Invalid argument")) => 22,
                    Some((_, "Invalid request code")) => 56,
                    _ => 0,
                };
                assert_eq!(errno, expected, "{row}");
            }
        }
    }
}

#[test]
fn what_a_pattern_formats_it_matches() {
    for row in lines(include_str!("vectors/pattern/match.jsonl")) {
        let Ok(patterns) = pattern::parse_list(row["pattern"].as_str().unwrap(), &mut expand)
        else {
            continue;
        };
        for pattern in patterns.iter().map(Pattern::without_recursion) {
            let Match::Yes { version, fields } = pattern.matches(row["path"].as_str().unwrap())
            else {
                continue;
            };
            let name = pattern.format(&version, &fields).unwrap();
            assert_eq!(pattern.matches(&name), Match::Yes { version, fields }, "{row}: {name}");
        }
    }
}

/// 2026-11-23 16:34:26 UTC, when the manifest vectors were made.
const NOW_USEC: u64 = 1_795_451_666_000_000;

/// What the updater does with a manifest: versions newest first, or the message of the refusal.
fn read_manifest(bytes: &[u8], is_freshness_enforced: bool) -> Result<Vec<String>, String> {
    let manifest = manifest::parse(bytes).map_err(|err| err.to_string())?;
    for marker in &manifest.markers {
        let freshness = marker.freshness(NOW_USEC);
        if is_freshness_enforced && matches!(freshness, Freshness::Stale { .. }) {
            return Err(freshness.to_string());
        }
    }
    let value = "f_@v sub/f_@v **/g_@v h_@v_@h";
    let patterns = pattern::parse_list(value, &mut expand).unwrap();
    let selected = manifest.select(&patterns).map(|selected| {
        let selected = selected.map_err(|err| err.to_string())?;
        Ok::<_, String>((selected.version, selected.entry.name.to_string()))
    });
    let mut found: Vec<(String, String)> = selected.collect::<Result<_, _>>()?;
    found.sort_by(|a, b| version::compare(&b.0, &a.0).then_with(|| a.1.cmp(&b.1)));
    found.dedup_by(|b, a| version::compare(&b.0, &a.0).is_eq());
    Ok(found.into_iter().map(|(version, _)| version).collect())
}

#[test]
fn manifests_are_accepted_and_refused_as_by_the_peer() {
    let rows = lines(include_str!("vectors/manifest/parse.jsonl"));
    assert_eq!(rows.len(), 58);
    for row in rows {
        let bytes = decode_base64(row["manifest_base64"].as_str().unwrap());
        // Only a false value turns the check off; garbage leaves it on.
        let is_enforced = row["env"]["SYSTEMD_SYSUPDATE_VERIFY_FRESHNESS"].as_str() != Some("0");
        let result = read_manifest(&bytes, is_enforced);
        if row["name"] == "same name, two hashes" {
            // DIFFERS: the peer takes the first one.
            let text = "Hash of 'f_1' at manifest line 2 differs from line 1, refusing.";
            assert_eq!(result, Err(text.to_owned()));
            continue;
        }
        let words = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
        };
        match row["rc"].as_i64().unwrap() {
            0 => assert_eq!(result, Ok(words(&row["versions"])), "{row}"),
            _ => {
                let message = words(&row["messages"]).pop().unwrap();
                let message = without_seconds(&message);
                assert_eq!(result.map_err(|text| without_seconds(&text)), Err(message), "{row}");
            }
        }
    }
}

/// The rows were recorded within a few seconds of each other.
fn without_seconds(message: &str) -> String {
    message.split(" 16:34:").next().unwrap().to_owned()
}

fn decode_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = bits << 6 | u32::try_from(alphabet.iter().position(|a| *a == c).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[test]
fn derived_types_are_the_peers() {
    let rows: Value = serde_json::from_str(include_str!("vectors/gpt/derived-types.json")).unwrap();
    let uuid = |value: &Value| value.as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 15);
    for row in rows {
        let derived = gpt::derived_types(uuid(&row["type"]));
        assert_eq!(derived, (uuid(&row["partial"]), uuid(&row["pending"])), "{row}");
    }
}

#[test]
fn partition_types_have_the_peers_names() {
    let rows: Vec<(&str, &str)> = include_str!("vectors/gpt/types.tsv")
        .lines()
        .map(|l| l.split_once('\t').unwrap())
        .collect();
    // Names without an architecture mean that of the machine the table was recorded on.
    let is_same_machine = cfg!(target_arch = "x86_64");
    let is_native = |name: &str| {
        let arch = name.trim_start_matches("root").trim_start_matches("usr");
        ["", "-verity", "-verity-sig"].contains(&arch) || arch.starts_with("-secondary")
    };
    let mut names: Vec<String> = gpt::types::names().collect();
    for (name, id) in &rows {
        if is_same_machine || !is_native(name) {
            let uuid = gpt::types::by_name(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(uuid.to_string(), *id, "{name}");
            let first = rows.iter().find(|row| row.1 == *id).unwrap().0;
            assert_eq!(gpt::types::name(uuid).as_deref(), Some(first));
        }
        names.retain(|known| known != name);
    }
    assert_eq!(names, [""; 0], "names the peer does not know");
}

fn to_json(fields: &Fields) -> Value {
    let mut json = serde_json::Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            json.insert(key.to_owned(), value);
        }
    };
    put("ptuuid", fields.partition_uuid.map(|uuid| uuid.to_string().into()));
    put("ptflags", fields.partition_flags.map(Value::from));
    put("mtime", fields.mtime_usec.map(Value::from));
    put("mode", fields.mode.map(Value::from));
    put("size", fields.size_bytes.map(Value::from));
    put("tries-done", fields.tries_done.map(Value::from));
    put("tries-left", fields.tries_left.map(Value::from));
    put("noauto", fields.no_auto.map(Value::from));
    put("growfs", fields.grow_fs.map(Value::from));
    put("ro", fields.read_only.map(Value::from));
    let hex = |hash: [u8; 32]| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
    put("sha256", fields.sha256.map(|hash| hex(hash).into()));
    Value::Object(json)
}
