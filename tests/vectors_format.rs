//! The formats against what systemd 262.1 did with the same input; see PROVENANCE beside each file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::cmp::Ordering;

use serde_json::Value;
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
