//! All that a cloud has to say, as one tree: its own document, or a walk through its directories.

use serde_json::{Map, Value};

use super::pointer::text_of;
use super::recipe::{Chain, Recipe, Step};
use super::run::{Trouble, below, document, is_name, json};
use super::{Normal, libc_errno};
use crate::imds::Failure;

/// LIMIT: directories inside each other.
const DEPTH_MAX: usize = 8;

/// LIMIT: keys of one walk.
const KEYS_MAX: usize = 256;

/// LIMIT: bytes of one walk.
const BYTES_MAX: usize = 1 << 20;

/// What a cloud says.
#[derive(Default)]
pub(super) struct Tree {
    /// Null where there is none.
    pub(super) value: Value,
    /// Paths that were left out.
    pub(super) omitted: Vec<String>,
    /// What went wrong on the way.
    pub(super) failures: Vec<(String, Failure)>,
}

/// Fetches the tree, if there is a recipe for it. The conversation knows its leaves then.
pub(super) fn fetch(normal: &mut Normal<'_>) -> Result<Tree, Failure> {
    let Some(recipe) = normal.tree_recipe()? else { return Ok(Tree::default()) };
    let mut first_bad = None;
    for chain in recipe.choices.iter().flatten() {
        match normal.tree_of(chain) {
            Ok(tree) if tree.value.is_null() => {}
            Ok(tree) => return Ok(tree),
            Err(Trouble::Failed(failure)) => return Err(failure),
            Err(Trouble::Bad(what)) => first_bad = first_bad.or(Some(what)),
        }
    }
    match first_bad {
        Some(what) => Err(normal.bad_message("tree", &what)),
        None => Ok(Tree::default()),
    }
}

impl Normal<'_> {
    fn tree_recipe(&self) -> Result<Option<Recipe>, Failure> {
        if self.has_recipe("tree") { self.recipe("tree") } else { Ok(None) }
    }

    fn tree_of(&mut self, chain: &Chain) -> Result<Tree, Trouble> {
        let Some((key, body)) = self.origin(chain)? else { return Ok(Tree::default()) };
        let mut value = Value::Null;
        let mut place = None;
        for step in &chain.steps {
            match step {
                Step::Json(pointer) | Step::Yaml(pointer) => {
                    let parse = if matches!(step, Step::Json(_)) { json } else { document };
                    let whole = parse(&body)
                        .map_err(|what| Trouble::Bad(format!("answer to '{key}' is {what}")))?;
                    value =
                        pointer.all(&whole).first().map(|&value| value.clone()).unwrap_or_default();
                }
                Step::Listing => {
                    let mut walk = Walk::default();
                    let value = Value::Object(walk.members(self, &key, &body, 0));
                    return Ok(Tree { value, omitted: walk.omitted, failures: walk.failures });
                }
                Step::At(key) => place = Some(key.trim_end_matches('/').to_owned()),
                _ => {}
            }
        }
        if let Some(place) = place {
            self.learn(&place, &value);
        }
        let mut omitted = Vec::new();
        without_secrets(&mut value, "", &mut omitted);
        Ok(Tree { value, omitted, failures: Vec::new() })
    }

    /// Remembers the scalars of a document as the values of the keys that they have.
    fn learn(&mut self, key: &str, value: &Value) {
        let members: Vec<(String, &Value)> = match value {
            Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect()
            }
            _ => {
                let text = text_of(value).filter(|text| !text.is_empty());
                let body = text.map(|text| text.into_bytes().into());
                self.memo.entry(key.to_owned()).or_insert(body);
                return;
            }
        };
        for (name, value) in members {
            if is_name(&name) {
                self.learn(&format!("{key}/{name}"), value);
            }
        }
    }
}

/// A walk through directories.
#[derive(Default)]
struct Walk {
    keys: usize,
    bytes: usize,
    is_over: bool,
    omitted: Vec<String>,
    failures: Vec<(String, Failure)>,
}

impl Walk {
    fn members(
        &mut self,
        normal: &mut Normal<'_>,
        key: &str,
        listing: &[u8],
        depth: usize,
    ) -> Map<String, Value> {
        let mut members = Map::new();
        for line in String::from_utf8_lossy(listing).lines().map(str::trim) {
            // `0=name` is how public keys are listed; it is a directory.
            let (name, is_directory) = match (line.split_once('='), line.strip_suffix('/')) {
                (Some((number, _)), _) => (number, true),
                (None, Some(name)) => (name, true),
                (None, None) => (line, false),
            };
            if !is_name(name) || self.is_over {
                continue;
            }
            let path = below(key, name);
            if is_secret(name) {
                self.omitted.push(path);
                continue;
            }
            let path = if is_directory { format!("{path}/") } else { path };
            let Some(body) = self.body(normal, &path) else { continue };
            let value = if is_directory && depth + 1 < DEPTH_MAX {
                Value::Object(self.members(normal, &path, &body, depth + 1))
            } else {
                Value::String(String::from_utf8_lossy(&body).into_owned())
            };
            members.insert(name.to_owned(), value);
        }
        members
    }

    fn body(&mut self, normal: &mut Normal<'_>, key: &str) -> Option<std::rc::Rc<[u8]>> {
        self.keys += 1;
        if self.keys > KEYS_MAX || self.bytes > BYTES_MAX {
            self.is_over = true;
            let text = "There is more in the tree than is fetched, the rest is left out".to_owned();
            self.failures.push(("tree".into(), Failure::System(libc_errno::EFBIG, text)));
            return None;
        }
        match normal.body(key) {
            Ok(body) => {
                self.bytes += body.as_ref().map_or(0, |body| body.len());
                body
            }
            Err(failure) => {
                self.is_over = normal.dead.is_some();
                self.failures.push((key.to_owned(), failure));
                None
            }
        }
    }
}

/// Takes out what is secret by its name, and says what that was.
fn without_secrets(value: &mut Value, path: &str, omitted: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.retain(|name, value| {
                let is_flag =
                    text_of(value).is_some_and(|text| matches!(&*text, "" | "true" | "false"));
                let stays = !is_secret(name) || is_flag || value.is_null();
                if !stays {
                    omitted.push(format!("{path}/{name}"));
                }
                stays
            });
            for (name, value) in members.iter_mut() {
                without_secrets(value, &format!("{path}/{name}"), omitted);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter_mut().enumerate() {
                without_secrets(value, &format!("{path}/{n}"), omitted);
            }
        }
        _ => {}
    }
}

/// Does something of this name let others act as this machine?
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "adminpass",
        "authkey",
        "credential",
        "passwd",
        "password",
        "privatekey",
        "randomseed",
        "secret",
        "token",
    ];
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_named() {
        let mut value = serde_json::json!({
            "disablePasswordAuthentication": "true", "admin_pass": "x", "a": [{"auth_key": 1}],
            "iam": {"security-credentials": {"role": "x"}}, "hostname": "h", "token": "",
        });
        let mut omitted = Vec::new();
        without_secrets(&mut value, "", &mut omitted);
        assert_eq!(omitted, ["/admin_pass", "/a/0/auth_key", "/iam/security-credentials"]);
        assert_eq!(value["hostname"], "h");
        assert_eq!(value["disablePasswordAuthentication"], "true");
    }
}
