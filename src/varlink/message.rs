//! Calls and replies: one JSON object each, bytes ⇄ values. Pure, without I/O.
//!
//! As strict as the peer: a member nobody knows, a member given twice, a flag that is no boolean,
//! two flags at once, anything behind the object, or a NUL in a string is no message at all, and
//! the connection ends without an answer. Absent, `null` and empty parameters are equal.
//!
//! LIMIT: JSON nests at most 128 levels deep, which is `serde_json`'s own bound.
//! DIFFERS: the peer allows about 2000 levels.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Varlink message")
    }
}

impl std::error::Error for Malformed {}

/// What a client sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Qualified name, exactly as sent.
    pub method: String,
    /// Parameters in the order sent.
    pub parameters: Map<String, Value>,
    /// A parameter that was sent twice, if any.
    pub repeated: Option<String>,
    /// What kind of answer is wanted.
    pub mode: Mode,
}

/// What kind of answer a caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One reply.
    #[default]
    Plain,
    /// Any number of replies.
    More,
    /// No reply, not even an error.
    Oneway,
    /// One reply, and then the connection speaks another protocol.
    Upgrade,
}

/// What a server sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// Qualified name of an error.
    pub error: Option<String>,
    /// Parameters in the order sent.
    pub parameters: Map<String, Value>,
    /// More replies to the same call follow.
    pub continues: bool,
}

impl Request {
    /// A plain call.
    pub fn new(method: impl Into<String>, parameters: Map<String, Value>) -> Self {
        Self { method: method.into(), parameters, ..Self::default() }
    }

    /// Bytes (without terminator) to a call.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let call: CallIn = parse(bytes)?;
        let mode = match (call.more, call.oneway, call.upgrade) {
            (false, false, false) => Mode::Plain,
            (true, false, false) => Mode::More,
            (false, true, false) => Mode::Oneway,
            (false, false, true) => Mode::Upgrade,
            _ => return Err(Malformed),
        };
        let Members { map: parameters, repeated } = call.parameters.unwrap_or_default();
        Ok(Self { method: call.method, parameters, repeated, mode })
    }

    /// The bytes of the call, without terminator.
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes(&CallOut {
            method: &self.method,
            parameters: &self.parameters,
            oneway: self.mode == Mode::Oneway,
            more: self.mode == Mode::More,
            upgrade: self.mode == Mode::Upgrade,
        })
    }
}

impl Reply {
    /// Bytes (without terminator) to a reply.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let reply: ReplyIn = parse(bytes)?;
        if reply.error.is_some() && reply.continues {
            return Err(Malformed);
        }
        let parameters = reply.parameters.unwrap_or_default();
        if parameters.repeated.is_some() {
            return Err(Malformed);
        }
        Ok(Self { error: reply.error, parameters: parameters.map, continues: reply.continues })
    }

    /// The bytes of the reply, without terminator.
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes(&ReplyOut {
            error: self.error.as_deref(),
            parameters: &self.parameters,
            continues: self.continues,
        })
    }
}

fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Malformed> {
    // A NUL inside a string can only come as an escape; C programs cannot hold it.
    if bytes.windows(6).any(|six| six == b"\\u0000") && has_nul(bytes) {
        return Err(Malformed);
    }
    // The first bracket decides; an array would pass for a struct.
    match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => serde_json::from_slice(bytes).map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}

/// True where some string of the text holds a NUL.
fn has_nul(bytes: &[u8]) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(inside),
            Value::Object(items) => {
                items.iter().any(|(name, value)| name.contains('\0') || inside(value))
            }
            _ => false,
        }
    }
    serde_json::from_slice(bytes).is_ok_and(|value| inside(&value))
}

fn bytes(message: &impl Serialize) -> Vec<u8> {
    // Only maps with keys that are no strings and failing writers make this fail; neither is here.
    serde_json::to_vec(message).unwrap_or_default()
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallIn {
    method: String,
    #[serde(default)]
    parameters: Option<Members>,
    #[serde(default)]
    oneway: bool,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    upgrade: bool,
}

#[derive(Serialize)]
struct CallOut<'a> {
    method: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "is_false")]
    oneway: bool,
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
    #[serde(skip_serializing_if = "is_false")]
    upgrade: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyIn {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    parameters: Option<Members>,
    #[serde(default)]
    continues: bool,
}

#[derive(Serialize)]
struct ReplyOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    parameters: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "is_false")]
    continues: bool,
}

/// An object that remembers the first name given twice.
#[derive(Default)]
struct Members {
    map: Map<String, Value>,
    repeated: Option<String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.repeated.is_none() && members.map.contains_key(&name) {
                        members.repeated = Some(name.clone());
                    }
                    members.map.insert(name, value);
                }
                Ok(members)
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Members, E> {
                Err(E::custom("null"))
            }
        }
        deserializer.deserialize_map(Collect).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Request, Malformed> {
        Request::parse(text.as_bytes())
    }

    /// Each line was sent to systemd 262.1; it closed the connection without a reply.
    #[test]
    fn what_the_peer_hangs_up_on_is_malformed() {
        for text in [
            "",
            "null",
            "[]",
            r#"["x.y.Z"]"#,
            "{}",
            r#"{"method":1}"#,
            r#"{"method":null}"#,
            r#"{"method":"a","method":"b"}"#,
            r#"{"method":"x.y.Z","more":null}"#,
            r#"{"method":"x.y.Z","more":1}"#,
            r#"{"method":"x.y.Z","more":true,"oneway":true}"#,
            r#"{"method":"x.y.Z","more":true,"upgrade":true}"#,
            r#"{"method":"x.y.Z","parameters":1}"#,
            r#"{"method":"x.y.Z","parameters":[]}"#,
            r#"{"method":"x.y.Z"}x"#,
            r#"{"method":"x.y.Z"}{}"#,
            r#"{"method":"x\u0000.y.Z"}"#,
            r#"{"method":"x.y.Z","parameters":{"a":["\u0000"]}}"#,
            r#"{"method":"x.y.Z","io.vendor":{}}"#,
            r#"{"method":"x.y.Z","error":"a"}"#,
            r#"{"method":"x.y.Z",}"#,
            r#"{'method':1}"#,
            r#"{"method":"x.y.Z","parameters":{"a":"\ud800"}}"#,
            r#"{"method":"x.y.Z","parameters":{"a":01}}"#,
        ] {
            assert_eq!(request(text), Err(Malformed), "{text}");
        }
        assert_eq!(Request::parse(b"{\"method\":\"x.y.\xff\"}"), Err(Malformed));
    }

    #[test]
    fn what_the_peer_answers_is_a_call() {
        for text in [
            r#"{"method":""}"#,
            r#"{"method":"x.y.Z","more":false,"oneway":false,"upgrade":false}"#,
            r#"{"method":"x.y.Z","upgrade":true}"#,
            r#"{"method":"x.y.Z","parameters":null}"#,
            " { \"method\" : \"x.y.Z\" } \n",
            r#"{"method":"x.y.é"}"#,
            r#"{"parameters":{},"method":"x.y.Z"}"#,
            r#"{"method":"x.y.Z","parameters":{"a":"\\u0000"}}"#,
            r#"{"method":"x.y.Z","parameters":{"a":123456789012345678901234567890}}"#,
        ] {
            assert!(request(text).is_ok(), "{text}");
        }
        let twice = request(r#"{"method":"x.y.Z","parameters":{"a":1,"b":2,"a":3}}"#).unwrap();
        assert_eq!(twice.repeated.as_deref(), Some("a"));
    }

    #[test]
    fn every_truncation_of_a_call_and_a_reply_is_malformed() {
        let call = br#"{"method":"x.y.Z","parameters":{"a":[1,{"b":"c"}]},"more":true}"#;
        let reply = br#"{"error":"x.y.Z","parameters":{"a":[1,{"b":"c"}]}}"#;
        for end in 0..call.len() {
            assert!(Request::parse(&call[..end]).is_err());
        }
        for end in 0..reply.len() {
            assert!(Reply::parse(&reply[..end]).is_err());
        }
        assert_eq!(Request::parse(call).unwrap().to_bytes(), call);
        assert_eq!(Reply::parse(reply).unwrap().to_bytes(), reply);
    }

    #[test]
    fn empty_members_are_omitted() {
        assert_eq!(Reply::default().to_bytes(), b"{}");
        assert_eq!(Request::new("x.y.Z", Map::new()).to_bytes(), br#"{"method":"x.y.Z"}"#);
    }

    #[test]
    fn replies_with_foreign_members_are_malformed() {
        for text in [
            r#"{"parameters":{},"io.vendor":1}"#,
            r#"{"error":"a.b.C","continues":true}"#,
            r#"{"method":"a.b.C"}"#,
            "[]",
        ] {
            assert_eq!(Reply::parse(text.as_bytes()), Err(Malformed), "{text}");
        }
        assert!(Reply::parse(br#"{"continues":true,"parameters":null}"#).unwrap().continues);
    }
}
