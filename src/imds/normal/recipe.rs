//! The language in which the provider table says how to get a value.
//!
//! ```text
//! recipe  = choice *( " + " choice )         ; all that are there, one after the other
//! choice  = chain *( " || " chain )          ; the first that is there
//! chain   = source *( " | " step )
//! source  = ["="] "/key/{/other/key}" / "@" name
//!                                            ; a raw key, or the key of a well-known name; with "="
//!                                            ; what the endpoint puts behind every key is left out
//! step    = word [ ":" argument ]
//! ```
//!
//! Why a language: a new cloud is then a text file. Words are separated by blanks, hence neither
//! keys nor arguments contain any; nor `#`, which begins a comment in the table. Words are checked
//! here, values where they come in.

use std::fmt;

use super::pointer::Pointer;
use crate::imds::WellKnown;

/// LIMIT: bytes of a recipe.
const RECIPE_MAX: usize = 2048;

/// A recipe that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Choices whose results are joined; of each the first chain that yields something counts.
    pub choices: Vec<Vec<Chain>>,
}

/// A source and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where the bytes come from.
    pub source: Origin,
    /// Applied in this order.
    pub steps: Vec<Step>,
}

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A raw key, in pieces.
    Key(Vec<Piece>),
    /// A raw key that the suffix of the endpoint does not follow.
    Bare(Vec<Piece>),
    /// Whatever key the endpoint has for this name; an override of the host counts.
    Known(WellKnown),
}

/// A piece of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The first line of the value of this key.
    Value(String),
}

/// The value of another key decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The other key.
    pub key: String,
    /// What it must say, letter case apart; where not set, anything.
    pub value: Option<String>,
}

/// One thing that is done to every value of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `text`: blanks and line ends around it go.
    Text,
    /// `base64`: decoded.
    Base64,
    /// `base64-if:/key=value`: decoded, where the other key says so.
    Base64If(Condition),
    /// `json:/pointer`: scalars of a JSON document.
    Json(Pointer),
    /// `yaml:/pointer`: scalars of a YAML document.
    Yaml(Pointer),
    /// `lines`: each non-empty line is a value.
    Lines,
    /// `split:;`: each non-empty part is a value.
    Split(char),
    /// `last-part`: what follows the last slash.
    LastPart,
    /// `drop-last-part:-`: what precedes the last such character.
    DropLastPart(char),
    /// `strip-prefix:text`: goes where it is there.
    StripPrefix(String),
    /// `ipv4`: those that are IPv4 addresses, without prefix length.
    Ipv4,
    /// `ipv6`: those that are IPv6 addresses, without brackets and prefix length.
    Ipv6,
    /// `ec2-keys`: a listing `0=name` or `0/`, of which each `<n>/openssh-key` is fetched.
    Ec2Keys,
    /// `members`: a listing, of which each member is fetched and becomes `name=value`.
    Members,
    /// `google-keys`: lines `user:key`, expired ones left out.
    GoogleKeys,
    /// `authorized-key-tags`: Scaleway's `AUTHORIZED_KEY=`, with `_` for blanks.
    AuthorizedKeyTags,
    /// `unless:/key=value`: nothing, where the other key says so.
    Unless(Condition),
    /// `listing`: the whole tree below a directory. Only of a tree.
    Listing,
    /// `at:/key`: the key that the document is the value of. Only of a tree.
    At(String),
}

/// What is wrong with a recipe, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Position of the word, in bytes from 1.
    pub column: usize,
    /// A fragment of a sentence.
    pub what: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.column, self.what)
    }
}

impl Recipe {
    /// Understands a recipe.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        if text.len() > RECIPE_MAX {
            return Err(Bad { column: RECIPE_MAX, what: "recipe is too long".into() });
        }
        let mut choices = Vec::new();
        let mut chains = Vec::new();
        let mut chain: Option<Chain> = None;
        let mut wants_word = true;
        for (column, word) in words(text) {
            let bad = |what: String| Bad { column, what };
            match (word, wants_word) {
                ("|" | "||" | "+", true) => {
                    return Err(bad(format!("nothing before '{word}'")));
                }
                ("|", false) => wants_word = true,
                ("||" | "+", false) => {
                    chains.extend(chain.take());
                    if word == "+" {
                        choices.push(std::mem::take(&mut chains));
                    }
                    wants_word = true;
                }
                (_, false) => {
                    return Err(bad(format!("'|', '||' or '+' expected before '{word}'")));
                }
                (_, true) => {
                    match &mut chain {
                        None => {
                            chain = Some(Chain {
                                source: source(word).map_err(bad)?,
                                steps: Vec::new(),
                            })
                        }
                        Some(chain) => chain.steps.push(step(word).map_err(bad)?),
                    }
                    wants_word = false;
                }
            }
        }
        if wants_word {
            return Err(Bad { column: text.len() + 1, what: "recipe ends too early".into() });
        }
        chains.extend(chain);
        choices.push(chains);
        Ok(Self { choices })
    }

    /// What is done where there is no recipe: the value of the well-known key.
    pub fn of(known: WellKnown, steps: Vec<Step>) -> Self {
        Self { choices: vec![vec![Chain { source: Origin::Known(known), steps }]] }
    }
}

/// Words and where they begin, counted from 1.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = text.as_ptr() as usize;
    text.split_ascii_whitespace().map(move |word| (word.as_ptr() as usize - base + 1, word))
}

fn source(word: &str) -> Result<Origin, String> {
    if let Some(name) = word.strip_prefix('@') {
        return match WellKnown::parse(name) {
            Some(WellKnown::Base | WellKnown::UserdataBase) | None => {
                Err(format!("'{name}' is not a well-known name with a value"))
            }
            Some(known) => Ok(Origin::Known(known)),
        };
    }
    match word.strip_prefix('=') {
        Some(key) => pieces(key).map(Origin::Bare),
        None => pieces(word).map(Origin::Key),
    }
}

fn pieces(word: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = key(word)?;
    while let Some((text, more)) = rest.split_once('{') {
        let (other, after) = more.split_once('}').ok_or("'{' without '}'")?;
        pieces.push(Piece::Text(text.to_owned()));
        pieces.push(Piece::Value(key(other)?.to_owned()));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

fn key(word: &str) -> Result<&str, String> {
    if !word.starts_with('/') {
        return Err(format!("'{word}' is not a key, which begins with '/'"));
    }
    if !word.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("key '{word}' is not ASCII"));
    }
    Ok(word)
}

fn condition(argument: &str) -> Result<Condition, String> {
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (argument, None),
    };
    Ok(Condition { key: key(name)?.to_owned(), value })
}

fn character(argument: &str) -> Result<char, String> {
    let mut chars = argument.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err(format!("one character expected, not '{argument}'")),
    }
}

fn step(word: &str) -> Result<Step, String> {
    let (name, argument) = match word.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (word, None),
    };
    if let Some(argument) = argument {
        return Ok(match name {
            "json" => Step::Json(Pointer::parse(argument)?),
            "yaml" => Step::Yaml(Pointer::parse(argument)?),
            "split" => Step::Split(character(argument)?),
            "drop-last-part" => Step::DropLastPart(character(argument)?),
            "strip-prefix" => Step::StripPrefix(argument.to_owned()),
            "unless" => Step::Unless(condition(argument)?),
            "base64-if" => Step::Base64If(condition(argument)?),
            "at" => Step::At(key(argument)?.to_owned()),
            _ => return Err(format!("'{name}' is not a step that takes an argument")),
        });
    }
    Ok(match name {
        "text" => Step::Text,
        "base64" => Step::Base64,
        "json" => Step::Json(Pointer::default()),
        "yaml" => Step::Yaml(Pointer::default()),
        "lines" => Step::Lines,
        "last-part" => Step::LastPart,
        "ipv4" => Step::Ipv4,
        "ipv6" => Step::Ipv6,
        "ec2-keys" => Step::Ec2Keys,
        "members" => Step::Members,
        "google-keys" => Step::GoogleKeys,
        "authorized-key-tags" => Step::AuthorizedKeyTags,
        "listing" => Step::Listing,
        _ => return Err(format!("'{name}' is not a step, or lacks its argument")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn alternatives_bind_tighter_than_sums() {
        let recipe =
            Recipe::parse("/a | text || @zone | last-part | drop-last-part:- + /b").unwrap();
        let [first, second] = recipe.choices.as_slice() else { panic!("{recipe:?}") };
        assert_eq!(first.len(), 2);
        assert_eq!(first[1].source, Origin::Known(WellKnown::Zone));
        assert_eq!(first[1].steps, [Step::LastPart, Step::DropLastPart('-')]);
        assert_eq!(second[0], Chain { source: Origin::Key(vec![text("/b")]), steps: vec![] });
    }

    #[test]
    fn other_keys_stand_in_braces() {
        let recipe = Recipe::parse("/macs/{/mac}/ipv6s").unwrap();
        let pieces = vec![text("/macs/"), Piece::Value("/mac".into()), text("/ipv6s")];
        assert_eq!(recipe.choices[0][0].source, Origin::Key(pieces));
        let bare = Recipe::parse("=/a?b=c").unwrap();
        assert_eq!(bare.choices[0][0].source, Origin::Bare(vec![text("/a?b=c")]));
    }

    #[test]
    fn errors_say_where_and_what() {
        for (recipe, message) in [
            ("", "at 1: recipe ends too early"),
            ("  ", "at 3: recipe ends too early"),
            ("| text", "at 1: nothing before '|'"),
            ("/a ||", "at 6: recipe ends too early"),
            ("/a | | text", "at 6: nothing before '|'"),
            ("/a text", "at 4: '|', '||' or '+' expected before 'text'"),
            ("/a | texts", "at 6: 'texts' is not a step, or lacks its argument"),
            ("/a | split", "at 6: 'split' is not a step, or lacks its argument"),
            ("/a | text:x", "at 6: 'text' is not a step that takes an argument"),
            ("/a | split:ab", "at 6: one character expected, not 'ab'"),
            ("/a | json:b", "at 6: 'b' is not a pointer, which begins with '/'"),
            ("/a | json:/b[c", "at 6: '[' without ']' in 'b[c'"),
            ("/a | unless:b=c", "at 6: 'b' is not a key, which begins with '/'"),
            ("a", "at 1: 'a' is not a key, which begins with '/'"),
            ("/ä", "at 1: key '/ä' is not ASCII"),
            ("/a{/b", "at 1: '{' without '}'"),
            ("/a{b}", "at 1: 'b' is not a key, which begins with '/'"),
            ("@nowhere", "at 1: 'nowhere' is not a well-known name with a value"),
            ("@base", "at 1: 'base' is not a well-known name with a value"),
        ] {
            let bad = Recipe::parse(recipe).expect_err(recipe);
            assert_eq!(bad.to_string(), message, "{recipe}");
        }
        assert!(Recipe::parse(&format!("/{}", "a".repeat(RECIPE_MAX))).is_err());
    }
}
