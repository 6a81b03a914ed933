//! Paths into JSON and YAML documents.
//!
//! RFC 6901, and two things more: `*` stands for every member of an array or object, and a part
//! may end in `[name=value]`, which keeps those that have such a member.

use serde_json::Value;

/// A path; the empty one is the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Unescaped; `None` is `*`.
    name: Option<String>,
    filter: Option<(String, String)>,
}

impl Pointer {
    /// Understands a path.
    ///
    /// # Errors
    /// What is wrong, as a fragment of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return match text {
                "" => Ok(Self::default()),
                _ => Err(format!("'{text}' is not a pointer, which begins with '/'")),
            };
        };
        Ok(Self { parts: rest.split('/').map(Part::parse).collect::<Result<_, _>>()? })
    }

    /// All places that the path leads to, in order of the document.
    pub fn all<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        let mut here = vec![document];
        for part in &self.parts {
            here = here.into_iter().flat_map(|value| part.below(value)).collect();
        }
        here
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, filter) = match text.split_once('[') {
            None => (text, None),
            Some((name, rest)) => {
                let inner = rest.strip_suffix(']').ok_or(format!("'[' without ']' in '{text}'"))?;
                let (key, value) = inner.split_once('=').ok_or(format!("'[{inner}]' lacks '='"))?;
                (name, Some((key.to_owned(), value.to_owned())))
            }
        };
        let name = (name != "*").then(|| name.replace("~1", "/").replace("~0", "~"));
        Ok(Self { name, filter })
    }

    fn below<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found: Vec<&Value> = match (&self.name, value) {
            (None, Value::Array(items)) => items.iter().collect(),
            (None, Value::Object(members)) => members.values().collect(),
            (Some(name), Value::Object(members)) => members.get(name).into_iter().collect(),
            (Some(name), Value::Array(items)) => {
                name.parse::<usize>().ok().and_then(|n| items.get(n)).into_iter().collect()
            }
            _ => Vec::new(),
        };
        if let Some((key, wanted)) = &self.filter {
            found.retain(|value| {
                value.get(key).and_then(text_of).is_some_and(|text| text == *wanted)
            });
        }
        found
    }
}

/// A scalar as text; `None` of null and of what has members.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stars_filters_indices_and_escapes_lead_to_values() {
        let document = json!({"a": [{"f": "x", "v": 1}, {"f": "y", "v": 2}], "b/c": {"~": true}});
        for (pointer, expected) in [
            ("/a/0/v", json!([1])),
            ("/a/*/v", json!([1, 2])),
            ("/a/*[f=y]/v", json!([2])),
            ("/a/*[f=z]/v", json!([])),
            ("/b~1c/~0", json!([true])),
            ("/a/9/v", json!([])),
            ("/a/v", json!([])),
            ("/*/*/f", json!(["x", "y"])),
        ] {
            let found = Pointer::parse(pointer).unwrap();
            let found: Vec<Value> = found.all(&document).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), expected, "{pointer}");
        }
        assert_eq!(Pointer::default().all(&document), [&document]);
    }
}
