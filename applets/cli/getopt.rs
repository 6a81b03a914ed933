//! Reads a command line as getopt_long(3) does, driven by the options of a [`Command`].
//!
//! Why: argh refuses `--opt=value`, clusters, abbreviations, and a repeated option; scripts written
//! for the peer use all of them. The scanner yields what was meant, in order, and stops at the
//! first thing nobody means. Bytes in, bytes out: arguments need not be UTF-8.
//!
//! - `--name=value`, `--name value`, unambiguous `--na`; an exact name beats a longer one
//! - `-a -b`, `-ab`, `-b value`, `-bvalue` (never `-b=value`: the `=` is part of the value)
//! - options anywhere among operands, until `--`; a lone `-` is an operand
//!
//! Specification: GNU getopt_long(3); the messages are the peer's.
//!
//! [`Command`]: super::Command

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use slipway::out::escape::line as printable;

use super::command::{Arity, Opt};

/// One meaningful piece of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// An option, with the value if it takes one, and the position of that value counted from 1.
    Option { option: &'a Opt, value: Option<OsString>, position: usize },
    /// Anything else, and its position counted from 1.
    Operand { value: OsString, position: usize },
}

/// Where options may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Anywhere before `--`.
    Anywhere,
    /// Only before the first operand; what follows belongs to somebody else.
    First,
}

/// Why a command line cannot be read; the option is named as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such option.
    Unrecognized(String),
    /// The value is missing.
    NeedsArgument(String),
    /// There is a value, and it must not.
    TakesNoArgument(String),
    /// An abbreviation of more than one option.
    Ambiguous(String, Vec<&'static str>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecognized(name) => write!(f, "unrecognized option '{name}'"),
            Self::NeedsArgument(name) => write!(f, "option '{name}' requires an argument"),
            Self::TakesNoArgument(name) => write!(f, "option '{name}' doesn't allow an argument"),
            Self::Ambiguous(name, of) => {
                let of = of.iter().map(|long| format!("--{long}")).collect::<Vec<_>>().join(", ");
                write!(f, "option '{name}' is ambiguous; possibilities: {of}")
            }
        }
    }
}

/// Iterates over the items of a command line.
pub(crate) struct Scanner<'a> {
    options: &'a [Opt],
    args: &'a [OsString],
    order: Order,
    next: usize,
    /// Rest of a cluster of short options.
    cluster: &'a [u8],
    is_past_options: bool,
}

impl<'a> Scanner<'a> {
    /// Scans `args`, which do not contain the program's name.
    pub(crate) fn new(options: &'a [Opt], args: &'a [OsString], order: Order) -> Self {
        Self { options, args, order, next: 0, cluster: &[], is_past_options: false }
    }

    /// The next argument whatever it is, and its position counted from 1.
    fn take(&mut self) -> Option<(&'a OsStr, usize)> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        Some((arg, self.next))
    }

    fn short(&mut self, letter: u8, rest: &'a [u8]) -> Result<Item<'a>, Refusal> {
        self.cluster = rest;
        let option = self.options.iter().find(|o| o.short == Some(char::from(letter)));
        let Some(option) = option else {
            // DIFFERS: the peer shows one byte of a character; we show the character.
            let tail = [&[letter], rest].concat();
            let shown = String::from_utf8_lossy(&tail).chars().next().unwrap_or_default();
            return Err(Refusal::Unrecognized(format!("-{}", printable(&shown.to_string()))));
        };
        if !matches!(option.arity, Arity::Required(_)) {
            return Ok(Item::Option { option, value: None, position: self.next });
        }
        self.cluster = &[];
        if !rest.is_empty() {
            let value = Some(OsString::from_vec(rest.to_vec()));
            return Ok(Item::Option { option, value, position: self.next });
        }
        let name = || Refusal::NeedsArgument(format!("-{}", char::from(letter)));
        let (value, position) = self.take().ok_or_else(name)?;
        Ok(Item::Option { option, value: Some(value.to_os_string()), position })
    }

    fn long(&mut self, text: &'a [u8]) -> Result<Item<'a>, Refusal> {
        let mut halves = text.splitn(2, |&b| b == b'=');
        let typed = halves.next().unwrap_or_default();
        let value = halves.next().map(|v| OsString::from_vec(v.to_vec()));
        let shown = || format!("--{}", printable(&String::from_utf8_lossy(typed)));

        let option = self.find_long(typed, shown)?;
        match (&option.arity, value) {
            (Arity::None, Some(_)) => Err(Refusal::TakesNoArgument(shown())),
            (Arity::Required(_), None) => {
                let (value, position) =
                    self.take().ok_or_else(|| Refusal::NeedsArgument(shown()))?;
                Ok(Item::Option { option, value: Some(value.to_os_string()), position })
            }
            (_, value) => Ok(Item::Option { option, value, position: self.next }),
        }
    }

    fn find_long(&self, typed: &[u8], shown: impl Fn() -> String) -> Result<&'a Opt, Refusal> {
        let is_exact = |o: &&Opt| o.long.is_some_and(|long| long.as_bytes() == typed);
        if let Some(option) = self.options.iter().find(is_exact) {
            return Ok(option);
        }
        let starts = |o: &&Opt| o.long.is_some_and(|long| long.as_bytes().starts_with(typed));
        let mut candidates = self.options.iter().filter(starts);
        match (candidates.next(), candidates.next()) {
            (Some(only), None) if !typed.is_empty() => Ok(only),
            (Some(_), Some(_)) if !typed.is_empty() => {
                let of = self.options.iter().filter(starts).filter_map(|o| o.long).collect();
                Err(Refusal::Ambiguous(shown(), of))
            }
            _ => Err(Refusal::Unrecognized(shown())),
        }
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Result<Item<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((&letter, rest)) = self.cluster.split_first() {
            return Some(self.short(letter, rest));
        }
        let (arg, position) = self.take()?;
        let operand = || Item::Operand { value: arg.to_os_string(), position };
        if self.is_past_options {
            return Some(Ok(operand()));
        }
        match arg.as_bytes() {
            b"--" => {
                self.is_past_options = true;
                self.next()
            }
            [b'-', b'-', long @ ..] => Some(self.long(long)),
            [b'-', letter, rest @ ..] => Some(self.short(*letter, rest)),
            _ => {
                self.is_past_options = self.order == Order::First;
                Some(Ok(operand()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Options from the words getopt(3) takes: `"ab:"` and `["long", "value="]`.
    fn options(shorts: &str, longs: &[&'static str]) -> Vec<Opt> {
        let option = |long: Option<&'static str>, short, has_value| Opt {
            long: long.map(|name| name.trim_end_matches('=')),
            short,
            arity: if has_value { Arity::Required("X") } else { Arity::None },
            is_repeating: false,
            help: String::new(),
            means: &[],
            values: &[],
        };
        let letters = shorts.char_indices().filter(|(_, c)| *c != ':');
        let short = letters.map(|(at, c)| {
            let has_value = shorts[at + 1..].starts_with(':');
            option(None, Some(c), has_value)
        });
        let long = longs.iter().map(|name| option(Some(name), None, name.ends_with('=')));
        short.chain(long).collect()
    }

    fn words(value: &Value) -> Vec<OsString> {
        let word = |v: &Value| OsString::from(v.as_str().unwrap());
        value.as_array().unwrap().iter().map(word).collect()
    }

    fn lines(text: &str) -> impl Iterator<Item = Value> + '_ {
        text.lines().map(|line| serde_json::from_str(line).unwrap())
    }

    type Read = (Vec<(String, String)>, Vec<String>);

    fn read(options: &[Opt], args: &[OsString]) -> Result<Read, Refusal> {
        let (mut found, mut operands) = (Vec::new(), Vec::new());
        for item in Scanner::new(options, args, Order::Anywhere) {
            match item? {
                Item::Operand { value, .. } => operands.push(value.into_string().unwrap()),
                Item::Option { option, value, .. } => {
                    let name = match (option.long, option.short) {
                        (Some(long), _) => format!("--{long}"),
                        (None, short) => format!("-{}", short.unwrap()),
                    };
                    found.push((name, value.unwrap_or_default().into_string().unwrap()));
                }
            }
        }
        Ok((found, operands))
    }

    #[test]
    fn command_lines_are_read_as_by_gnu_getopt_of_python() {
        let options = options(
            "hqvm:C:",
            &[
                "help",
                "quiet",
                "verify=",
                "version",
                "root=",
                "root-hash=",
                "no-pager",
                "no-legend",
                "instances-max=",
                "component=",
                "component-all",
                "json=",
            ],
        );
        for case in lines(include_str!("../../tests/vectors/cli/getopt.jsonl")) {
            let args = words(&case["args"]);
            let ours = read(&options, &args);
            match case["refused"].as_str() {
                Some(kind) => {
                    let ours = ours.map(|_| ()).map_err(|refusal| match refusal {
                        Refusal::Unrecognized(_) => "unrecognized",
                        Refusal::NeedsArgument(_) => "needs-argument",
                        Refusal::TakesNoArgument(_) => "takes-no-argument",
                        Refusal::Ambiguous(..) => "ambiguous",
                    });
                    assert_eq!(ours, Err(kind), "{args:?}");
                }
                None => {
                    let theirs = (case["options"].clone(), case["operands"].clone());
                    let theirs: Read = (
                        serde_json::from_value(theirs.0).unwrap(),
                        serde_json::from_value(theirs.1).unwrap(),
                    );
                    assert_eq!(ours, Ok(theirs), "{args:?}");
                }
            }
        }
    }

    #[test]
    fn refusals_are_worded_as_by_systemd_sysupdate() {
        let table = include_str!("../../tests/vectors/cli/systemd-sysupdate.json");
        let table: Value = serde_json::from_str(table).unwrap();
        let rows = table["commands"][0]["options"].as_array().unwrap();
        let options: Vec<Opt> = rows
            .iter()
            .map(|row| {
                let names = row["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap());
                let (long, short): (Vec<_>, Vec<_>) = names.partition(|n| n.starts_with("--"));
                let has_value = row["argument"] == "required_argument";
                Opt {
                    // The text lives as long as the test process.
                    long: long.first().map(|n| &*n[2..].to_owned().leak()),
                    short: short.first().and_then(|n| n.chars().nth(1)),
                    arity: if has_value { Arity::Required("X") } else { Arity::None },
                    is_repeating: false,
                    help: String::new(),
                    means: &[],
                    values: &[],
                }
            })
            .collect();
        let mut count = 0;
        for case in lines(include_str!("../../tests/vectors/cli/refusals.jsonl")) {
            let args = words(&case["args"]);
            let first =
                Scanner::new(&options, &args, Order::Anywhere).find_map(|item| match item {
                    Err(refusal) => Some(("says", format!("systemd-sysupdate: {refusal}"))),
                    Ok(Item::Option { option, .. }) => match option.long {
                        Some(long @ ("help" | "version")) => Some(("answers", long.to_owned())),
                        _ => None,
                    },
                    Ok(Item::Operand { .. }) => None,
                });
            let (key, text) = first.unwrap_or_default();
            assert_eq!(case[key].as_str(), Some(text.as_str()), "{args:?}: {case}");
            count += 1;
        }
        assert!(count > 700);
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_operands_stay_as_they_are() {
        let options = options("ab:", &["all", "both="]);
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut args = Vec::new();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let bytes = state.to_be_bytes().map(|b| if b > 0xb0 { b'-' } else { b });
                args.push(OsString::from_vec(bytes[..(state % 5) as usize].to_vec()));
            }
            for item in Scanner::new(&options, &args, Order::Anywhere) {
                match item {
                    Ok(Item::Operand { value, position }) => assert_eq!(value, args[position - 1]),
                    Ok(Item::Option { position, .. }) => assert!((1..=3).contains(&position)),
                    Err(refusal) => assert!(!refusal.to_string().contains(char::is_control)),
                }
            }
        }
    }

    #[test]
    fn what_follows_the_first_operand_can_be_left_alone() {
        let options = options("a", &["all"]);
        let args = ["-a", "x", "-a", "--all"].map(OsString::from);
        let items = Scanner::new(&options, &args, Order::First);
        let is_operand = |item: &Result<Item<'_>, _>| matches!(item, Ok(Item::Operand { .. }));
        assert_eq!(items.filter(is_operand).count(), 3);
    }
}
