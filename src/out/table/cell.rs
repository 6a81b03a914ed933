//! What stands in a table: values, their colors, and both as text and as JSON.

use std::borrow::Cow;

use serde_json::Value;

use super::layout::Look;
use crate::out::{Color, Glyph, escape, human};

/// What a cell holds; text and JSON follow from it. Small: a table may have 70 000 rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Nothing: the table's filler as text, null in JSON.
    Empty,
    /// Text.
    Text(Cow<'a, str>),
    /// `yes` or `no`.
    Bool(bool),
    /// ✓ or ✗.
    Check(bool),
    /// A number.
    Uint(u64),
    /// A number.
    Int(i64),
    /// A number shown as `0x…`.
    Hex(u64),
    /// Bytes, shown with K, M, G.
    Size(u64),
    /// File mode, shown in octal with a leading 0.
    Mode(u32),
    /// Microseconds since the epoch.
    Timestamp(u64),
    /// One item per line.
    Lines(Box<[String]>),
    /// Items in one line, with spaces between.
    Words(Box<[String]>),
    /// Text and JSON that have nothing to do with each other.
    Custom(Box<Custom>),
}

/// See [`Cell::Custom`].
#[derive(Clone, Debug, PartialEq)]
pub struct Custom {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Cell<'_> {
    /// The option's value, or [`Cell::Empty`].
    pub fn option<T>(value: Option<T>, cell: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Empty, cell)
    }

    /// True where there is nothing to show.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Empty | Self::Size(u64::MAX) | Self::Timestamp(0 | u64::MAX) => true,
            Self::Lines(items) | Self::Words(items) => items.is_empty(),
            _ => false,
        }
    }

    pub(super) fn text<'a>(&'a self, filler: &'a str, look: &Look) -> Cow<'a, str> {
        if self.is_nothing() {
            return filler.into();
        }
        match self {
            Self::Empty => "".into(),
            // The layout is ours: line feeds in a cell make it higher, anything else is shown.
            Self::Text(text) => escape::block(text),
            Self::Custom(custom) => escape::block(&custom.text),
            Self::Bool(flag) => if *flag { "yes" } else { "no" }.into(),
            Self::Check(flag) => {
                let glyph = if *flag { Glyph::CheckMark } else { Glyph::CrossMark };
                glyph.text(look.is_utf8).into()
            }
            Self::Uint(number) => number.to_string().into(),
            Self::Int(number) => number.to_string().into(),
            Self::Hex(number) => format!("0x{number:x}").into(),
            Self::Size(bytes) => human::bytes(*bytes).into(),
            Self::Mode(mode) => format!("{mode:04o}").into(),
            Self::Timestamp(usec) => look.zone.timestamp(*usec).into(),
            Self::Lines(items) => join(items, "\n").into(),
            Self::Words(items) => join(items, " ").into(),
        }
    }

    pub(super) fn json(&self) -> Value {
        if self.is_nothing() {
            return Value::Null;
        }
        match self {
            Self::Empty => Value::Null,
            Self::Text(text) => text.as_ref().into(),
            Self::Bool(flag) | Self::Check(flag) => (*flag).into(),
            Self::Uint(number)
            | Self::Hex(number)
            | Self::Size(number)
            | Self::Timestamp(number) => (*number).into(),
            Self::Int(number) => (*number).into(),
            Self::Mode(mode) => (*mode).into(),
            Self::Lines(items) | Self::Words(items) => items.to_vec().into(),
            Self::Custom(custom) => custom.json.clone(),
        }
    }
}

fn join(items: &[String], separator: &str) -> String {
    items.iter().map(|item| escape::line(item)).collect::<Vec<_>>().join(separator)
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<Cow<'a, str>> for Cell<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<u64> for Cell<'_> {
    fn from(number: u64) -> Self {
        Self::Uint(number)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}

/// A cell of a row: what it holds and its color.
pub struct Styled<'a> {
    pub(super) cell: Cell<'a>,
    pub(super) color: Option<Color>,
}

impl<'a, T: Into<Cell<'a>>> From<T> for Styled<'a> {
    fn from(cell: T) -> Self {
        Self { cell: cell.into(), color: None }
    }
}

impl<'a> Cell<'a> {
    /// The cell in a color, on terminals that have it.
    pub fn colored(self, color: impl Into<Option<Color>>) -> Styled<'a> {
        Styled { cell: self, color: color.into() }
    }
}
