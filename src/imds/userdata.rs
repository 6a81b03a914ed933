//! User data: where they are, and the credentials in those that are meant for us.
//!
//! Most user data are for somebody else (shell scripts, cloud-config, MIME, gzip, Ignition); only
//! what begins as JSON or with our marker line is read, and a document that says nothing to us is
//! left alone. What is read is hostile: everything here is pure and bounded by the size and depth
//! that the source and the JSON parser allow.
//!
//! External spec: systemd-imds(1), section "User data".

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::model::{Failure, Request, WellKnown};
use super::source::Source;
use crate::conf::credential;
use crate::crypto::text::unbase64;
use crate::error::Error;

/// The line that marks user data as ours.
const MARKER: &[u8] = b"#systemd-userdata";
/// What follows [`WellKnown::UserdataBase`].
const KEY: &str = "/systemd-userdata";
/// The member that holds credentials.
const CREDENTIALS: &str = "systemd.credentials";

/// Why there are no user data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoUserData {
    /// The source failed.
    Failed(Failure),
    /// They should be Base64 and are not.
    NotBase64,
}

impl From<NoUserData> for Error {
    fn from(reason: NoUserData) -> Self {
        match reason {
            NoUserData::Failed(failure) => failure.into(),
            // DIFFERS: the peer fails without a word.
            NoUserData::NotBase64 => {
                Self::new("User data are not valid Base64, refusing.").with_errno(22)
            }
        }
    }
}

/// The user data, decoded; none where there are none or they are empty.
///
/// Three places are asked and the first that has something wins.
///
/// # Errors
/// A failure that does not mean "absent" ends the search.
pub fn fetch(source: &mut dyn Source) -> Result<Option<Vec<u8>>, NoUserData> {
    let with_key =
        Request { key: Some(KEY.to_owned()), ..Request::well_known(WellKnown::UserdataBase) };
    for request in [with_key, Request::well_known(WellKnown::Userdata)] {
        if let Some(data) = optional(source, &request)? {
            return Ok(Some(data));
        }
    }
    match optional(source, &Request::well_known(WellKnown::UserdataBase64))? {
        None => Ok(None),
        Some(text) => {
            let data = unbase64(&text).ok_or(NoUserData::NotBase64)?;
            Ok(Some(data).filter(|data| !data.is_empty()))
        }
    }
}

/// The value of a key; none where it is absent or empty.
fn optional(source: &mut dyn Source, request: &Request) -> Result<Option<Vec<u8>>, NoUserData> {
    match source.get(request) {
        Ok(reply) => Ok(Some(reply.data).filter(|data| !data.is_empty())),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(NoUserData::Failed(failure)),
    }
}

/// What user data turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserData {
    /// For somebody else.
    Foreign,
    /// It looked like JSON and is not.
    Broken,
    /// JSON, but not as it must be; the sentence says what.
    Wrong(String),
    /// The credentials, each one or the sentence that says why it is none.
    Credentials(Vec<Result<Credential, String>>),
}

/// A credential to be imported.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// A valid file name.
    pub name: String,
    /// The bytes to store.
    pub data: Vec<u8>,
    /// True where the bytes are encrypted.
    pub is_encrypted: bool,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("is_encrypted", &self.is_encrypted)
            .finish()
    }
}

/// Reads user data.
pub fn parse(bytes: &[u8]) -> UserData {
    let Some(text) = json_text(bytes) else { return UserData::Foreign };
    let Ok(document) = serde_json::from_slice::<Node>(text) else { return UserData::Broken };
    let Node::Object(members) = document else {
        return UserData::Wrong("User data are not a JSON object.".to_owned());
    };
    let mut lists = members.into_iter().filter(|(name, _)| name == CREDENTIALS);
    let list = match (lists.next(), lists.next()) {
        (None, _) => return UserData::Credentials(Vec::new()),
        (Some((_, Node::Array(list))), None) => list,
        (Some((_, other)), None) => {
            return UserData::Wrong(format!(
                "Object field '{CREDENTIALS}' has wrong type {}, expected array.",
                other.type_name()
            ));
        }
        _ => return UserData::Wrong(format!("Duplicate object field '{CREDENTIALS}'.")),
    };
    // DIFFERS: the peer names line and column in the text; we say which entry of the list it is.
    let entry = |(index, node): (usize, Node)| {
        credential(node).map_err(|refusal| match refusal {
            Refusal::Shape(what) => format!("{CREDENTIALS}[{index}]: {what}"),
            Refusal::Named(what) => what,
        })
    };
    UserData::Credentials(list.into_iter().enumerate().map(entry).collect())
}

/// The part of user data that is JSON for us, if they are meant for us.
fn json_text(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.contains(&0) {
        return None;
    }
    if let Some(rest) = bytes.strip_prefix(MARKER) {
        // DIFFERS: the peer takes a line that ends in CRLF for somebody else's.
        return rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\r\n"));
    }
    let rest = bytes.trim_ascii_start().strip_prefix(b"{")?;
    matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}')).then_some(bytes)
}

/// Why an entry is no credential.
enum Refusal {
    /// It is not even known which one.
    Shape(String),
    /// The sentence names it.
    Named(String),
}

fn credential(node: Node) -> Result<Credential, Refusal> {
    let shape = |text: String| Err(Refusal::Shape(text));
    let Node::Object(members) = node else {
        return shape("JSON variant is not an object.".to_owned());
    };
    let (mut name, mut values) = (None, Vec::new());
    let mut seen: Vec<String> = Vec::new();
    for (field, value) in members {
        if seen.contains(&field) {
            return shape(format!("Duplicate object field '{field}'."));
        }
        let is_known = matches!(field.as_str(), "name" | "text" | "data" | "encrypted");
        if !is_known {
            return shape(format!("Unexpected object field '{field}'."));
        }
        let Node::Text(text) = value else {
            return shape(format!(
                "Object field '{field}' has wrong type {}, expected string.",
                value.type_name()
            ));
        };
        match field.as_str() {
            "name" => name = Some(text),
            "text" => values.push((text.into_bytes(), false)),
            _ => match unbase64(text.as_bytes()).filter(|_| is_padded(&text)) {
                Some(data) => values.push((data, field == "encrypted")),
                None => return shape(format!("JSON field '{field}' is not valid Base64 data.")),
            },
        }
        seen.push(field);
    }
    let Some(name) = name else { return shape("Missing object field 'name'.".to_owned()) };
    if !credential::is_name(&name) {
        return Err(Refusal::Named(format!("Credential name '{name}' is not valid, refusing.")));
    }
    let count = values.len();
    match values.pop() {
        Some((data, is_encrypted)) if count == 1 => Ok(Credential { name, data, is_encrypted }),
        _ => Err(Refusal::Named(format!(
            "Exactly one of 'text', 'data', 'encrypted' must be set for credential '{name}', \
             refusing."
        ))),
    }
}

/// COMPAT(262): Base64 inside of JSON needs its padding.
fn is_padded(text: &str) -> bool {
    text.bytes().filter(|byte| !byte.is_ascii_whitespace()).count() % 4 == 0
}

/// JSON with every member kept, so that doubled ones can be told.
enum Node {
    Null,
    Flag,
    Number(&'static str),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag => "boolean",
            Self::Number(name) => name,
            Self::Text(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Flag)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Number("integer"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Number("unsigned"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Number("real"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Node, E> {
                // COMPAT(262): a text with NUL in it is no JSON.
                match text.contains('\0') {
                    true => Err(E::custom("NUL in a text")),
                    false => Ok(Node::Text(text.to_owned())),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::Array(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = items.next_entry::<String, Node>()? {
                    if name.contains('\0') {
                        return Err(A::Error::custom("NUL in a name"));
                    }
                    members.push((name, value));
                }
                Ok(Node::Object(members))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn entries(json: &str) -> Vec<Result<Credential, String>> {
        match parse(format!(r#"{{"systemd.credentials":[{json}]}}"#).as_bytes()) {
            UserData::Credentials(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_directory_comes_first_then_plain_then_base64() {
        let mut source = Fake::vendor("v")
            .answer(Some(WellKnown::UserdataBase), Some(KEY), Ok(b"a".to_vec()))
            .known(WellKnown::Userdata, "b");
        assert_eq!(fetch(&mut source), Ok(Some(b"a".to_vec())));
        let mut source = Fake::vendor("v")
            .answer(Some(WellKnown::UserdataBase), Some(KEY), Ok(Vec::new()))
            .fails(WellKnown::Userdata, Failure::KeyNotFound)
            .known(WellKnown::UserdataBase64, "Y2\r\nM=\n");
        assert_eq!(fetch(&mut source), Ok(Some(b"cc".to_vec())));
        assert_eq!(
            source.asked(),
            ["userdata-base/systemd-userdata", "userdata", "userdata-base64"]
        );
    }

    #[test]
    fn a_failure_ends_the_search() {
        let failure = Failure::Timeout("x".into());
        let mut source = Fake::vendor("v")
            .fails(WellKnown::Userdata, failure.clone())
            .known(WellKnown::UserdataBase64, "Y2M=");
        assert_eq!(fetch(&mut source), Err(NoUserData::Failed(failure)));
    }

    #[test]
    fn defect_20_bad_base64_is_told() {
        let mut source = Fake::vendor("v").known(WellKnown::UserdataBase64, "!!notbase64");
        let error = Error::from(fetch(&mut source).unwrap_err());
        assert_eq!(error.to_string(), "User data are not valid Base64, refusing.");
        assert_eq!(error.status(), 1);
    }

    #[test]
    fn what_is_not_for_us_is_foreign() {
        for text in [
            &b""[..],
            b"{",
            b" ",
            b"#!/bin/sh\necho\n",
            b"#cloud-config\nx: y\n",
            b"\x1f\x8b\x08\x00\x00",
            b"[{\"systemd.credentials\":[]}]",
            b"{\"a\":\"\0\"}",
            b"{ x",
            b"#systemd-userdata",
            b"#systemd-userdatax\n{}",
            b"\xef\xbb\xbf{\"a\":1}",
        ] {
            assert_eq!(parse(text), UserData::Foreign, "{text:?}");
        }
        let ignition = br#"{"ignition":{"version":"3.4.0"}}"#;
        assert_eq!(parse(ignition), UserData::Credentials(Vec::new()));
    }

    #[test]
    fn documents_are_judged_as_systemd_262_does() {
        // Observed.
        let wrong = |text: &str| match parse(text.as_bytes()) {
            UserData::Wrong(what) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            wrong(r#"{"systemd.credentials":null}"#),
            "Object field 'systemd.credentials' has wrong type null, expected array."
        );
        assert_eq!(
            wrong(r#"{"systemd.credentials":[],"systemd.credentials":[]}"#),
            "Duplicate object field 'systemd.credentials'."
        );
        assert_eq!(wrong("#systemd-userdata\n[]"), "User data are not a JSON object.");
        for text in [
            r#"{"systemd.credentials":[}"#,
            r#"{"systemd.credentials":[{"name":"x","text":"a\u0000b"}]}"#,
            r#"{"a":1}{"b":2}"#,
            r#"{"a":1,}"#,
            r#"{"a":1} // c"#,
            "#systemd-userdata\nx",
            "#systemd-userdata\n",
        ] {
            assert_eq!(parse(text.as_bytes()), UserData::Broken, "{text}");
        }
        assert_eq!(parse(b"{ }"), UserData::Credentials(Vec::new()));
    }

    #[test]
    fn entries_are_judged_one_by_one_as_systemd_262_does() {
        // Observed; the texts without line and column.
        let why = |json: &str| entries(json).pop().unwrap().unwrap_err();
        for (json, expected) in [
            (r#""x""#, "systemd.credentials[0]: JSON variant is not an object."),
            (r#"{"text":"x"}"#, "systemd.credentials[0]: Missing object field 'name'."),
            (
                r#"{"name":"a","text":"x","zzz":1}"#,
                "systemd.credentials[0]: Unexpected object field 'zzz'.",
            ),
            (
                r#"{"name":"a","name":"b","text":"x"}"#,
                "systemd.credentials[0]: Duplicate object field 'name'.",
            ),
            (
                r#"{"name":null,"text":"x"}"#,
                "systemd.credentials[0]: Object field 'name' has wrong type null, expected string.",
            ),
            (
                r#"{"name":"np","data":"AAE"}"#,
                "systemd.credentials[0]: JSON field 'data' is not valid Base64 data.",
            ),
            (
                r#"{"name":"n","text":5}"#,
                "systemd.credentials[0]: Object field 'text' has wrong type unsigned, expected \
                 string.",
            ),
            (r#"{"name":"a:b","text":"x"}"#, "Credential name 'a:b' is not valid, refusing."),
            (
                r#"{"name":"none"}"#,
                "Exactly one of 'text', 'data', 'encrypted' must be set for credential 'none', \
                 refusing.",
            ),
        ] {
            assert_eq!(why(json), expected);
        }
        let good = entries(r#"{"name":"a b","text":""},5,{"name":".hid","data":"AA\nE="}"#);
        let good: Vec<_> = good.into_iter().flatten().collect();
        assert_eq!(good.len(), 2);
        assert_eq!((good[0].name.as_str(), good[0].data.as_slice()), ("a b", &b""[..]));
        assert_eq!((good[1].name.as_str(), good[1].data.as_slice()), (".hid", &[0, 1][..]));
    }

    #[test]
    fn names_of_credentials_are_names_of_files() {
        let long = "n".repeat(255);
        for good in ["a", "a b", ".hid", "~", long.as_str()] {
            assert!(credential::is_name(good), "{good}");
        }
        let longer = "n".repeat(256);
        for bad in ["", ".", "..", "a/b", "a:b", "ü", "a\nb", "\x7f", longer.as_str()] {
            assert!(!credential::is_name(bad), "{bad}");
        }
    }

    #[test]
    fn contents_are_not_shown_when_debugging() {
        let text = format!("{:?}", entries(r#"{"name":"a","text":"hunter2"}"#));
        assert!(text.contains("7 bytes") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn depth_and_truncation_are_refused_quietly() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()), UserData::Broken);
        let whole = br#"{"systemd.credentials":[{"name":"a","text":"x"}]}"#;
        for end in 0..whole.len() {
            let part = parse(&whole[..end]);
            assert!(matches!(part, UserData::Foreign | UserData::Broken), "{end}: {part:?}");
        }
    }
}
