//! JSON exactly as systemd 262 prints it.
//!
//! Why our own serializer: scripts and golden files compare bytes, and serde_json's pretty form
//! differs in indentation, in the space around the colon, in empty containers and in floats. Keys
//! keep the order in which they were inserted; nothing is sorted, nothing is dropped.

use std::fmt::Write as _;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::out::Colors;

/// The words of `--json=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Text for people.
    #[default]
    Off,
    /// One line.
    Short,
    /// Indented by tabs.
    Pretty,
}

impl Mode {
    /// The answer to `--json=help`, one word per line.
    pub const HELP: &str = "pretty\nshort\noff\n";

    /// Understands `pretty`, `short` and `off`. `help` is not a mode: print [`Mode::HELP`].
    ///
    /// # Errors
    /// Anything else, with the peer's text.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "off" => Ok(Self::Off),
            "short" => Ok(Self::Short),
            "pretty" => Ok(Self::Pretty),
            _ => {
                Err(Error::new(format!("Unknown argument to --json= switch: {word}"))
                    .with_errno(22))
            }
        }
    }

    /// What `-j` means: indented for a terminal, one line elsewhere.
    pub fn auto(is_tty: bool) -> Self {
        if is_tty { Self::Pretty } else { Self::Short }
    }

    /// True where JSON was asked for.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }
}

/// The text of a value, with the final line feed. [`Mode::Off`] counts as short, as in the peer.
pub fn to_string(value: &Value, mode: Mode) -> String {
    to_colored_string(value, mode, Colors::Off)
}

/// As [`to_string`], with the peer's colors for keys, strings, numbers and constants.
pub fn to_colored_string(value: &Value, mode: Mode, colors: Colors) -> String {
    let mut printer =
        Printer { text: String::new(), is_pretty: mode == Mode::Pretty, has_color: colors.is_on() };
    printer.value(value, 0);
    printer.text.push('\n');
    printer.text
}

/// One record of a JSON text sequence (RFC 7464): record separator, text, line feed.
pub fn to_sequence(value: &Value, mode: Mode) -> String {
    format!("\u{1e}{}", to_string(value, mode))
}

const GREEN: &str = "\x1b[0;32m";
const BLUE: &str = "\x1b[0;1;34m";
const HIGHLIGHT: &str = "\x1b[0;1;39m";
const RESET: &str = "\x1b[0m";

struct Printer {
    text: String,
    is_pretty: bool,
    has_color: bool,
}

impl Printer {
    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.colored(HIGHLIGHT, "null"),
            Value::Bool(flag) => self.colored(HIGHLIGHT, if *flag { "true" } else { "false" }),
            Value::Number(number) => self.colored(BLUE, &number_text(number)),
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.container('[', ']', items, depth, |printer, item| {
                    printer.value(item, depth + 1);
                });
            }
            Value::Object(members) => {
                self.container('{', '}', members, depth, |printer, (name, value)| {
                    printer.string(name);
                    printer.text.push_str(if printer.is_pretty { " : " } else { ":" });
                    printer.value(value, depth + 1);
                });
            }
        }
    }

    fn container<T>(
        &mut self,
        open: char,
        close: char,
        items: impl IntoIterator<Item = T>,
        depth: usize,
        mut print: impl FnMut(&mut Self, T),
    ) {
        self.text.push(open);
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                self.text.push(',');
            }
            is_empty = false;
            self.line_break(depth + 1);
            print(self, item);
        }
        if !is_empty {
            self.line_break(depth);
        }
        self.text.push(close);
    }

    fn line_break(&mut self, depth: usize) {
        if self.is_pretty {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n('\t', depth));
        }
    }

    fn colored(&mut self, color: &str, text: &str) {
        if self.has_color {
            self.text.push_str(color);
        }
        self.text.push_str(text);
        if self.has_color {
            self.text.push_str(RESET);
        }
    }

    /// The quotes stay outside of the color.
    fn string(&mut self, text: &str) {
        self.text.push('"');
        let escaped = escape(text);
        self.colored(GREEN, &escaped);
        self.text.push('"');
    }
}

/// Only what RFC 8259 demands is escaped: DEL, C1 controls and U+2028 are printed raw.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(control));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// Integers as they are; floats as C's `%.21e` prints them. The peer knows one zero only.
fn number_text(number: &serde_json::Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let real = number.as_f64().unwrap_or_default();
    let real = if real == 0.0 { 0.0 } else { real };
    let text = format!("{real:.21e}");
    // Rust writes e0 and e-7 where C writes e+00 and e-07.
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(rest) => ('-', rest),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: &str = include_str!("../../tests/vectors/json/input.json");

    #[test]
    fn short_form_is_the_peers() {
        let value: Value = serde_json::from_str(INPUT).unwrap();
        assert_eq!(
            to_string(&value, Mode::Short),
            include_str!("../../tests/vectors/json/short.json")
        );
    }

    #[test]
    fn pretty_form_is_the_peers() {
        let value: Value = serde_json::from_str(INPUT).unwrap();
        assert_eq!(
            to_string(&value, Mode::Pretty),
            include_str!("../../tests/vectors/json/pretty.json")
        );
    }

    #[test]
    fn colored_form_is_the_peers() {
        let value: Value = serde_json::from_str(INPUT).unwrap();
        assert_eq!(
            to_colored_string(&value, Mode::Pretty, Colors::C256),
            include_str!("../../tests/vectors/json/pretty-color.txt")
        );
    }

    #[test]
    fn floats_are_printed_exactly_and_zero_has_no_sign() {
        let text = |real: f64| to_string(&Value::from(real), Mode::Short);
        assert_eq!(text(0.1), "1.000000000000000055511e-01\n");
        assert_eq!(text(-0.0), "0.000000000000000000000e+00\n");
        assert_eq!(text(1e300), "1.000000000000000052505e+300\n");
    }

    #[test]
    fn words_of_json_option() {
        assert_eq!(Mode::parse("short").unwrap(), Mode::Short);
        assert_eq!(
            Mode::parse("bad").unwrap_err().to_string(),
            "Unknown argument to --json= switch: bad"
        );
        assert!(Mode::parse("").is_err());
        assert_eq!((Mode::auto(true), Mode::auto(false)), (Mode::Pretty, Mode::Short));
    }

    #[test]
    fn sequence_has_a_separator_in_front() {
        assert_eq!(to_sequence(&Value::Null, Mode::Short), "\u{1e}null\n");
    }
}
