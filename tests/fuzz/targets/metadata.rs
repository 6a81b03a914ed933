//! What a metadata service answers, once it has arrived: YAML, and what recipes make of anything.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::format::yaml as documents;
use slipway::imds::normal::{self, Normal};
use slipway::imds::{Endpoint, Failure, Reply, Request, Source, providers};

use crate::{files, kind, text};

pub const YAML_WORDS: &[&str] = &[
    "- ",
    ": ",
    "? ",
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "\\u0041",
    "\\ud83d",
    "!!str ",
    "~",
    "null",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "# ",
    "\t",
    "\n  ",
    "<<: ",
    "1e3",
    "-0",
];
pub const NORMAL_WORDS: &[&str] = &[
    " | ",
    " || ",
    " + ",
    "@zone",
    "/a/{/b}/c",
    "=/a",
    "text",
    "base64",
    "json:/a/*",
    "yaml:/a",
    "[a=b]",
    "lines",
    "split:,",
    "last-part",
    "drop-last-part:-",
    "strip-prefix:a",
    "ipv4",
    "ipv6",
    "ec2-keys",
    "members",
    "google-keys",
    "authorized-key-tags",
    "unless:/a=b",
    "base64-if:/a=b",
    "listing",
    "at:/a",
    "\n",
    "0=a/",
    "google-ssh {\"expireOn\":\"2001-01-01T00:00:00+0000\"}",
    "AUTHORIZED_KEY=",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
    "../",
    "203.0.113.1/24",
    "[2001:db8::1]",
];

/// What was understood is the same when it is written as JSON and understood again.
pub fn yaml(bytes: &[u8]) -> u64 {
    let parsed = documents::parse(bytes);
    if let Ok(value) = &parsed
        && !has_float(value)
    {
        let json = value.to_string();
        // A longer text than the one it came from (aliases) may be too long.
        if json.len() < 1 << 20 {
            assert_eq!(documents::parse(json.as_bytes()).as_ref(), Ok(value), "{json}");
        }
    }
    kind(&parsed.map(|value| shape(&value, 0)))
}

/// serde_json reads floats to within one unit in the last place only.
fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        _ => false,
    }
}

fn shape(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "n".into(),
        Value::Bool(_) => "b".into(),
        Value::Number(_) => "i".into(),
        Value::String(text) => if text.is_empty() { "e" } else { "s" }.into(),
        _ if depth > 4 => "…".into(),
        Value::Array(items) => {
            format!("[{}]", items.iter().take(4).map(|v| shape(v, depth + 1)).collect::<String>())
        }
        Value::Object(members) => {
            let members = members.values().take(4).map(|v| shape(v, depth + 1));
            format!("{{{}}}", members.collect::<String>())
        }
    }
}

pub fn yaml_seeds() -> Vec<Vec<u8>> {
    let mut seeds = bodies();
    for text in [
        "a: &x [1, 'b', \"c\\n\"]\nb: *x\n? k\n: |\n  text\n  more\n",
        "%YAML 1.2\n---\n!!map {a: !!str 1, <<: {b: ~}}\n...\n",
        "- - - a\n- >-\n  folded\n  text\n",
    ] {
        seeds.push(text.into());
    }
    seeds
}

/// Answers everything with the same bytes.
struct Same<'a> {
    endpoint: Endpoint,
    body: &'a [u8],
    asked: usize,
}

impl Source for Same<'_> {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(self.endpoint.clone())
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        let key = request.key.as_deref().unwrap_or_default();
        assert!(key.starts_with('/') && key.bytes().all(|b| b.is_ascii_graphic()), "{key:?}");
        self.asked += 1;
        Ok(Reply { data: self.body.to_vec(), interface: None })
    }
}

struct Then;

impl slipway::ctx::Clock for Then {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn sleep(&self, _: Duration) {}
}

/// The first line is a recipe, the rest the answer to every key.
pub fn normal(bytes: &[u8]) -> u64 {
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (recipe, body) = (text(&bytes[..at]), bytes.get(at + 1..).unwrap_or_default());
    let mut endpoint = Endpoint { vendor: Some("fuzz".into()), ..Endpoint::default() };
    for name in ["zone", "ssh-keys", "ipv6-public", "hostname", "vendor-data", "tree"] {
        endpoint.traits.recipes.insert(name.into(), recipe.clone());
    }
    let mut source = Same { endpoint, body, asked: 0 };
    let ctx = Ctx::host([]).with_clock(std::sync::Arc::new(Then));
    let mut kinds = Vec::new();
    {
        let mut normal = Normal::new(&ctx, &mut source).expect("endpoint");
        for name in ["zone", "ipv6-public", "hostname", "ssh-keys", "vendor-data"] {
            let value = normal.value(name);
            if let (Ok(Some(value)), false) = (&value, name == "vendor-data") {
                let is_clean = |c: char| !c.is_control() || (name == "ssh-keys" && c == '\n');
                assert!(!value.is_empty() && value.chars().all(is_clean), "{name} {value:?}");
            }
            kinds.push(value.map(|value| value.map(|value| value.len().min(9))));
        }
    }
    let dump = normal::dump(&ctx, &mut source);
    assert!(source.asked < 2000, "{} requests", source.asked);
    kind(&(kinds, dump.map(|dump| shape(&dump, 0))))
}

pub fn normal_seeds() -> Vec<Vec<u8>> {
    let recipes: Vec<String> =
        providers::all().into_iter().flat_map(|e| e.traits.recipes.into_values()).collect();
    let bodies = bodies();
    let mut seeds = Vec::new();
    for (n, recipe) in recipes.iter().enumerate() {
        let body = &bodies[n % bodies.len()];
        seeds.push([recipe.as_bytes(), b"\n", body].concat());
    }
    seeds
}

/// Bodies of all routes of the fixtures.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for file in files("imds", ".json") {
        let fixture: Value = serde_json::from_slice(&file).expect("fixture");
        for route in fixture["routes"].as_array().into_iter().flatten() {
            bodies.push(route["body"].as_str().unwrap_or_default().as_bytes().to_vec());
        }
    }
    bodies.sort();
    bodies.dedup();
    bodies
}
