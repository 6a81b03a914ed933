//! YAML into the values of JSON.
//!
//! Why: one cloud answers in it. Only what JSON can say is understood: keys are scalars, and of the
//! plain scalars only those become numbers, truth values or null whose text JSON would write the
//! same way. So `0123`, `1e3`, `yes` and `~x` stay text, and no host name loses its zeros.
//!
//! External spec: YAML 1.2.2. The parser yields events; depth, number of values and what aliases
//! expand to are bounded here.

use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// LIMIT: bytes of a document.
const SIZE_MAX: usize = 1 << 20;

/// LIMIT: sequences and mappings inside each other.
const DEPTH_MAX: usize = 64;

/// LIMIT: values of a document, those that aliases stand for included.
const VALUES_MAX: usize = 1 << 16;

/// LIMIT: bytes of all texts, those that aliases stand for included.
const TEXT_MAX: usize = 4 << 20;

/// Why a text is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// A fragment of a sentence.
    pub what: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

impl std::error::Error for Bad {}

/// Understands one document; an empty one is null. A text that is JSON is read as JSON.
///
/// # Errors
/// What is no YAML, more than one document, and whatever exceeds a limit.
pub fn parse(bytes: &[u8]) -> Result<Value, Bad> {
    let at_start = |what: &str| Bad { line: 1, column: 1, what: what.to_owned() };
    if bytes.len() > SIZE_MAX {
        return Err(at_start("document is too long"));
    }
    // Escapes of JSON are not all those of YAML. A bare scalar is better off below: see the header.
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    if first.is_some_and(|b| b"{[\"".contains(b))
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| at_start("document is not UTF-8"))?;
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|err| Bad {
            line: err.marker().line(),
            column: err.marker().col() + 1,
            what: err.info().to_owned(),
        })?;
        builder.take(event).map_err(|what| Bad {
            line: span.start.line(),
            column: span.start.col() + 1,
            what: what.to_owned(),
        })?;
    }
    Ok(builder.root.unwrap_or(Value::Null))
}

/// What an anchor stands for, and what using it costs.
struct Anchored {
    value: Value,
    cost: Cost,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    values: usize,
    text: usize,
}

impl Cost {
    fn add(&mut self, other: Self) -> Result<(), &'static str> {
        self.values = self.values.saturating_add(other.values);
        self.text = self.text.saturating_add(other.text);
        if self.values > VALUES_MAX || self.text > TEXT_MAX {
            return Err("document has too many values");
        }
        Ok(())
    }
}

/// A sequence or mapping that is not finished.
struct Open {
    anchor: usize,
    cost: Cost,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Value>),
    Mapping { members: Map<String, Value>, key: Option<String> },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    /// Of everything that exists, what is kept for anchors included.
    total: Cost,
    root: Option<Value>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err("more than one document");
                }
                Ok(())
            }
            Event::SequenceStart(anchor, _) => self.open(anchor, OpenKind::Sequence(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(anchor, OpenKind::Mapping { members: Map::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Scalar(text, style, anchor, tag) => {
                let cost = Cost { values: 1, text: text.len() };
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                let value = match style {
                    ScalarStyle::Plain if !is_text => plain(&text),
                    _ => Value::String(text.into_owned()),
                };
                self.put(value, cost, anchor)
            }
            Event::Alias(anchor) => {
                // An alias inside of what it stands for finds nothing here yet.
                let anchored = self.anchors.get(&anchor).ok_or("alias to what is not complete")?;
                let (value, cost) = (&anchored.value, anchored.cost);
                self.total.add(cost)?;
                let value = value.clone();
                self.attach(value, cost)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, anchor: usize, kind: OpenKind) -> Result<(), &'static str> {
        if self.stack.len() >= DEPTH_MAX {
            return Err("document is too deep");
        }
        self.total.add(Cost { values: 1, text: 0 })?;
        self.stack.push(Open { anchor, cost: Cost { values: 1, text: 0 }, kind });
        Ok(())
    }

    fn close(&mut self) -> Result<(), &'static str> {
        let Some(open) = self.stack.pop() else { return Err("end without a beginning") };
        let value = match open.kind {
            OpenKind::Sequence(items) => Value::Array(items),
            OpenKind::Mapping { members, .. } => Value::Object(members),
        };
        self.keep(open.anchor, &value, open.cost)?;
        self.attach(value, open.cost)
    }

    fn put(&mut self, value: Value, cost: Cost, anchor: usize) -> Result<(), &'static str> {
        self.total.add(cost)?;
        self.keep(anchor, &value, cost)?;
        self.attach(value, cost)
    }

    fn keep(&mut self, anchor: usize, value: &Value, cost: Cost) -> Result<(), &'static str> {
        if anchor != 0 {
            self.total.add(cost)?;
            self.anchors.insert(anchor, Anchored { value: value.clone(), cost });
        }
        Ok(())
    }

    /// Gives a value to what is open.
    fn attach(&mut self, value: Value, cost: Cost) -> Result<(), &'static str> {
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        open.cost.add(cost)?;
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(value),
            OpenKind::Mapping { members, key } => match key.take() {
                // As in JSON, the last of several wins.
                Some(key) => drop(members.insert(key, value)),
                None => {
                    *key = Some(match value {
                        Value::String(text) => text,
                        Value::Null => String::new(),
                        Value::Bool(_) | Value::Number(_) => value.to_string(),
                        Value::Array(_) | Value::Object(_) => return Err("key is not a scalar"),
                    });
                }
            },
        }
        Ok(())
    }
}

/// An unquoted scalar.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match serde_json::from_str::<Value>(text) {
            Ok(Value::Number(number)) if number.to_string() == text => Value::Number(number),
            _ => Value::String(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HETZNER: &str = "hostname: demo\ninstance-id: 12345678\nlocal-ipv4: ''\npublic-keys:\n\
        - ssh-ed25519 AAAA one: two\n- b\nnetwork-config:\n  config:\n  - subnets:\n    - ipv4: true\n    \
        - address: 2001:db8::1/64\n      gateway: fe80::1\nvendor_data: |\n  #!/bin/sh\n  echo\n";

    fn check(text: &str, expected: Value) {
        assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
    }

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text).what
    }

    #[test]
    fn block_and_flow_documents_become_values() {
        check(
            "- a\n- b: c\n  d: [1, 'x', \"y\\n\"]\n",
            json!(["a", {"b": "c", "d": [1, "x", "y\n"]}]),
        );
        check("", Value::Null);
        check("# nothing\n", Value::Null);
        check("{a: {b: []}}", json!({"a": {"b": []}}));
        check("a: &x {b: 1}\nc: *x\n", json!({"a": {"b": 1}, "c": {"b": 1}}));
    }

    #[test]
    fn json_is_read_as_json() {
        check(
            r#"{"a": "\ud83d\ude00\/", "b": [1e3, null, 01]}"#.replace("01", "1").as_str(),
            json!({"a": "😀/", "b": [1000.0, null, 1]}),
        );
    }

    #[test]
    fn plain_scalars_keep_their_text() {
        for text in [
            "0123",
            "1e3",
            "0x10",
            "yes",
            "No",
            "True",
            "1_000",
            "+1",
            "-0",
            "1.50",
            ".5",
            "12345678901234567890123",
            "2001:db8::1/64",
            "86:00:00:00:00:01",
            "22:10",
        ] {
            check(text, json!(text));
        }
        check(
            "[1, -7, 1.5, true, false, null, ~, !!str 5, '6']",
            json!([1, -7, 1.5, true, false, null, null, "5", "6"]),
        );
    }

    #[test]
    fn keys_are_scalars() {
        check("1: a\ntrue: b\n~: c\n", json!({"1": "a", "true": "b", "": "c"}));
        assert_eq!(refused("? [a]\n: b\n"), "key is not a scalar");
        check("a: 1\na: 2\n", json!({"a": 2}));
    }

    #[test]
    fn aliases_do_not_multiply_without_bound() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..10 {
            let alias = format!("*a{},", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{alias}]\n"));
        }
        assert_eq!(refused(&bomb), "document has too many values");
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(100));
        assert_eq!(refused(&long), "document has too many values");
        assert_eq!(refused("a: &a [*a]\n"), "alias to what is not complete");
        assert!(parse(b"a: *nowhere\n").is_err());
    }

    #[test]
    fn depth_size_and_number_are_bounded() {
        assert!(parse(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
        assert_eq!(refused(&"[".repeat(DEPTH_MAX + 1)), "document is too deep");
        assert_eq!(refused(&"- ".repeat(100)), "document is too deep");
        assert_eq!(refused(&"-\n".repeat(VALUES_MAX + 1)), "document has too many values");
        assert_eq!(refused(&" ".repeat(SIZE_MAX + 1)), "document is too long");
    }

    #[test]
    fn errors_say_where() {
        let bad = parse(b"a: 1\nb: [1\n").unwrap_err();
        assert_eq!(bad.line, 3, "{bad}");
        assert_eq!(refused("a\n---\nb\n"), "more than one document");
        assert_eq!(parse(b"\xff").unwrap_err().what, "document is not UTF-8");
    }

    #[test]
    fn every_truncation_is_understood_or_refused() {
        assert_eq!(
            parse(HETZNER.as_bytes()).unwrap()["network-config"]["config"][0]["subnets"][1]["address"],
            "2001:db8::1/64"
        );
        for end in 0..HETZNER.len() {
            let _ = parse(HETZNER.as_bytes().get(..end).unwrap());
        }
    }
}
