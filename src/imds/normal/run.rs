//! Following a recipe: fetch, decode, check.

use std::rc::Rc;

use serde_json::Value;

use super::check::{self, Kind};
use super::pointer::{Pointer, text_of};
use super::recipe::{Chain, Condition, Origin, Piece, Recipe, Step};
use super::{Normal, ssh};
use crate::crypto::text::unbase64;
use crate::format::yaml;
use crate::imds::{Failure, Request};
use crate::varlink::errors;

/// LIMIT: members of a listing that are followed.
const MEMBERS_MAX: usize = 64;

/// LIMIT: values of one name.
const VALUES_MAX: usize = 1024;

/// Why a chain has no result.
pub(super) enum Trouble {
    /// The source failed: nothing else will help.
    Failed(Failure),
    /// The answer makes no sense: something else may.
    Bad(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

type Values = Vec<Vec<u8>>;

/// A key and what it says.
type Answer = (String, Rc<[u8]>);

impl Normal<'_> {
    /// The values that a recipe yields, checked and not empty.
    pub(super) fn run(&mut self, name: &str, recipe: &Recipe) -> Result<Values, Failure> {
        let mut values = Vec::new();
        for choice in &recipe.choices {
            let mut first_bad = None;
            for chain in choice {
                match self.checked(name, chain) {
                    Ok(found) if found.is_empty() => {}
                    Ok(found) => {
                        values.extend(found);
                        first_bad = None;
                        break;
                    }
                    Err(Trouble::Failed(failure)) => return Err(failure),
                    Err(Trouble::Bad(what)) => first_bad = first_bad.or(Some(what)),
                }
            }
            if let Some(what) = first_bad {
                return Err(self.bad_message(name, &what));
            }
        }
        values.truncate(VALUES_MAX);
        Ok(values)
    }

    fn checked(&mut self, name: &str, chain: &Chain) -> Result<Values, Trouble> {
        let Some((key, body)) = self.origin(chain)? else { return Ok(Vec::new()) };
        let at_key = |what: &str| Trouble::Bad(format!("answer to '{key}' is {what}"));
        let mut values = vec![body.to_vec()];
        for step in &chain.steps {
            values = match self.step(step, &key, values) {
                Err(Trouble::Bad(what)) => return Err(at_key(&what)),
                result => result?,
            };
        }
        let kind = Kind::of(name);
        if kind == Kind::Bytes {
            values.retain(|value| !value.is_empty());
            return Ok(values);
        }
        let mut good = Vec::new();
        for value in values {
            let text = std::str::from_utf8(&value).map_err(|_| at_key("not text"))?.trim();
            match kind {
                _ if text.is_empty() => {}
                // What is no key among keys is no reason to have none.
                Kind::Keys => good.push(text.as_bytes().to_vec()),
                _ => good.extend(kind.canonical(text).map_err(at_key)?.map(String::into_bytes)),
            }
        }
        Ok(good)
    }

    /// The key that a chain begins with and what it says.
    pub(super) fn origin(&mut self, chain: &Chain) -> Result<Option<Answer>, Trouble> {
        for step in &chain.steps {
            if let Step::Unless(condition) = step
                && self.is_met(condition)?
            {
                return Ok(None);
            }
        }
        let key = match &chain.source {
            Origin::Known(known) => match self.endpoint.well_known.get(known) {
                Some(key) => key.clone(),
                None => return Ok(None),
            },
            Origin::Key(pieces) | Origin::Bare(pieces) => match self.key_of(pieces)? {
                // The suffix becomes a fragment, which is not sent.
                Some(key) if matches!(chain.source, Origin::Bare(_)) => format!("{key}#"),
                Some(key) => key,
                None => return Ok(None),
            },
        };
        Ok(self.body(&key)?.map(|body| (key, body)))
    }

    fn key_of(&mut self, pieces: &[Piece]) -> Result<Option<String>, Trouble> {
        let mut key = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Value(other) => {
                    let Some(body) = self.body(other)? else { return Ok(None) };
                    let line = first_line(&body).map(|line| line.trim_end_matches('/'));
                    let Some(name) = line.filter(|name| is_name(name)) else {
                        return Err(Trouble::Bad(format!("answer to '{other}' is not a name")));
                    };
                    key.push_str(name);
                }
            }
        }
        Ok(Some(key))
    }

    fn is_met(&mut self, condition: &Condition) -> Result<bool, Failure> {
        let Some(body) = self.body(&condition.key)? else { return Ok(false) };
        let text = String::from_utf8_lossy(&body);
        Ok(match &condition.value {
            Some(value) => text.trim().eq_ignore_ascii_case(value),
            None => !text.trim().is_empty(),
        })
    }

    fn step(&mut self, step: &Step, key: &str, values: Values) -> Result<Values, Trouble> {
        Ok(match step {
            Step::Unless(_) | Step::Listing | Step::At(_) => values,
            Step::Base64 => {
                let decoded = values.iter().map(|value| unbase64(value));
                decoded.collect::<Option<_>>().ok_or(Trouble::Bad("not Base64".into()))?
            }
            Step::Base64If(condition) => {
                if self.is_met(condition)? {
                    return self.step(&Step::Base64, key, values);
                }
                values
            }
            Step::Json(pointer) => scalars(&values, pointer, json)?,
            Step::Yaml(pointer) => scalars(&values, pointer, document)?,
            Step::Ec2Keys => {
                let mut keys = Vec::new();
                for name in listed(&texts(&values)?) {
                    let key = below(key, &format!("{name}/openssh-key"));
                    if let Some(body) = self.body(&key)? {
                        keys.extend(lines(&String::from_utf8_lossy(&body)));
                    }
                }
                keys.into_iter().map(String::into_bytes).collect()
            }
            Step::Members => {
                let mut members = Vec::new();
                for name in listed(&texts(&values)?) {
                    if let Some(body) = self.body(&below(key, &name))? {
                        let value = String::from_utf8_lossy(&body);
                        members.push(format!("{name}={}", value.trim()).into_bytes());
                    }
                }
                members
            }
            _ => {
                let texts = texts(&values)?;
                // The last part of an error page would look like a value.
                let is_of_line =
                    matches!(step, Step::LastPart | Step::DropLastPart(_) | Step::StripPrefix(_));
                if is_of_line && texts.iter().any(|text| text.trim().contains(char::is_control)) {
                    return Err(Trouble::Bad("not one line of text".into()));
                }
                let now = self.ctx.now();
                let each = texts.iter().flat_map(|text| text_step(step, text, now));
                each.map(String::into_bytes).collect()
            }
        })
    }

    /// COMPAT(262): systemd's service says this of a key that is not there where the answer has a
    /// body, which it has on most clouds; with an errno that does not exist, or, where it asked
    /// through a worker, without any (defects 1 and 3).
    fn is_peers_absence(&self, failure: &Failure) -> bool {
        const REFUSED: i32 = 1 << 30 | 131;
        match failure {
            Failure::System(errno, _) => *errno == REFUSED,
            Failure::Other(name, parameters) if name == errors::SYSTEM => {
                match parameters.get("errno") {
                    Some(errno) => errno.as_i64() == Some(i64::from(REFUSED)),
                    None => self.has_answer,
                }
            }
            _ => false,
        }
    }

    /// What a key says; `None` where it is absent or empty.
    pub(super) fn body(&mut self, key: &str) -> Result<Option<Rc<[u8]>>, Failure> {
        if let Some(known) = self.memo.get(key) {
            return Ok(known.clone());
        }
        if let Some(failure) = &self.dead {
            return Err(failure.clone());
        }
        let body = match self.source.get(&Request::key(key)) {
            Ok(reply) => {
                self.has_answer = true;
                (!reply.data.is_empty()).then(|| Rc::from(reply.data))
            }
            Err(failure) if failure.is_absent() || self.is_peers_absence(&failure) => {
                self.has_answer = true;
                None
            }
            Err(failure) => {
                // A service that is not there is not asked twenty times.
                let is_gone = match &failure {
                    Failure::Timeout(_) => true,
                    Failure::CommunicationFailure(_) | Failure::NotAvailable => !self.has_answer,
                    _ => false,
                };
                if is_gone {
                    self.dead = Some(failure.clone());
                }
                return Err(failure);
            }
        };
        self.memo.insert(key.to_owned(), body.clone());
        Ok(body)
    }
}

/// What one text becomes.
fn text_step(step: &Step, text: &str, now: std::time::SystemTime) -> Vec<String> {
    let text = text.trim();
    let one = |text: &str| vec![text.to_owned()];
    match step {
        Step::Lines => lines(text),
        Step::Split(c) => {
            text.split(*c).map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
        }
        Step::LastPart => one(text.rsplit('/').next().unwrap_or_default()),
        Step::DropLastPart(c) => one(text.rsplit_once(*c).map_or("", |(head, _)| head)),
        Step::StripPrefix(prefix) => one(text.strip_prefix(prefix.as_str()).unwrap_or(text)),
        Step::Ipv4 => check::ipv4(text).map(|a| a.to_string()).into_iter().collect(),
        Step::Ipv6 => check::ipv6(text).map(|a| a.to_string()).into_iter().collect(),
        Step::GoogleKeys => lines(text).iter().filter_map(|line| ssh::google(line, now)).collect(),
        Step::AuthorizedKeyTags => ssh::tag(text).into_iter().collect(),
        _ => one(text),
    }
}

/// A document in JSON or YAML, which JSON is.
pub(super) fn document(bytes: &[u8]) -> Result<Value, String> {
    yaml::parse(bytes).map_err(|err| format!("not YAML: {err}"))
}

pub(super) fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|err| format!("not JSON: {err}"))
}

fn scalars(
    values: &Values,
    pointer: &Pointer,
    parse: fn(&[u8]) -> Result<Value, String>,
) -> Result<Values, Trouble> {
    let mut found = Vec::new();
    for value in values {
        let document = parse(value).map_err(Trouble::Bad)?;
        found
            .extend(pointer.all(&document).into_iter().filter_map(text_of).map(String::into_bytes));
    }
    Ok(found)
}

fn texts(values: &Values) -> Result<Vec<&str>, Trouble> {
    let texts = values.iter().map(|value| std::str::from_utf8(value));
    texts.collect::<Result<_, _>>().map_err(|_| Trouble::Bad("not text".into()))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn first_line(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok()?.lines().next().map(str::trim)
}

/// Names of a listing: `0=name` and `0/` are `0`.
fn listed(texts: &[&str]) -> Vec<String> {
    let names = texts.iter().flat_map(|text| lines(text));
    let names = names.map(|line| {
        let name = line.split_once('=').map_or(line.as_str(), |(name, _)| name);
        name.trim_end_matches('/').to_owned()
    });
    names.filter(|name| is_name(name)).take(MEMBERS_MAX).collect()
}

/// Something that may become one part of a key without leading anywhere else.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#%\\".contains(&b))
}

/// A member of a directory.
pub(super) fn below(key: &str, name: &str) -> String {
    if key.ends_with('/') { format!("{key}{name}") } else { format!("{key}/{name}") }
}
