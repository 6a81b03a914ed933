//! From arguments to an option struct: getopt's reading, argh's typing, the peer's messages.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};
use slipway::error::{Error, Result};
use slipway::out::json::Mode;

use super::command::{Arity, Command, Opt, is_path};
use super::getopt::{Item, Order, Scanner};
use super::{help, introspect, text};
use crate::app::App;

/// Reads the applet's arguments.
///
/// `--help`, `--version` and `--introspect-cli` are answered here; the error is then silent with
/// status 0, so that callers need only `?`. Values are checked in the order they stand, as the
/// peer does: `--json=bad --help` is refused, `--help --json=bad` is not.
pub(crate) fn parse<A: FromArgs + ArgsInfo>(app: &mut App) -> Result<A> {
    parse_order(app, Order::Anywhere).map(|(args, _)| args)
}

/// As [`parse`]; with [`Order::First`] the first operand and what follows it is returned unread.
pub(crate) fn parse_order<A: FromArgs + ArgsInfo>(
    app: &mut App,
    order: Order,
) -> Result<(A, Vec<OsString>)> {
    let command = (app.applet.cli)();
    let mut words = Words::default();
    let mut rest = Vec::new();
    let args = app.args.clone();
    for item in Scanner::new(&command.options, &args, order) {
        match item.map_err(|refusal| Error::new(format!("{}: {refusal}", app.program)))? {
            Item::Operand { value, .. } if order == Order::First => rest.push(value),
            Item::Operand { value, position } => {
                words.operands.push(to_text(value, position, command.has_path_operands)?);
            }
            Item::Option { option, value, position } => {
                answer(app, &command, option)?;
                let value = match value {
                    Some(value) => {
                        Some(to_text(value, position, option.metavar().is_some_and(is_path))?)
                    }
                    None => None,
                };
                words.option::<A>(app, option, value)?;
            }
        }
    }
    Ok((typed(app, &words.all())?, rest))
}

/// Answers the options that every applet has.
fn answer(app: &mut App, command: &Command, option: &Opt) -> Result<()> {
    match option.long {
        Some("help") => help::print(app)?,
        Some("version") => super::version::print(app)?,
        Some("introspect-cli") => introspect::print(app, command)?,
        _ => return Ok(()),
    }
    Err(Error::silent(0))
}

fn to_text(value: OsString, position: usize, is_path: bool) -> Result<String> {
    match value.into_string() {
        Ok(text) if !is_path => Ok(text),
        Ok(text) => Ok(text::encode(text.as_ref())),
        Err(value) if is_path => Ok(text::encode(&value)),
        Err(_) => Err(Error::new(format!("Argument {position} is not valid UTF-8."))),
    }
}

/// The command line in the only spelling argh reads: `--name value`, `--`, operands.
#[derive(Default)]
struct Words {
    options: Vec<(&'static str, Option<String>)>,
    operands: Vec<String>,
}

impl Words {
    fn option<A: FromArgs>(
        &mut self,
        app: &mut App,
        option: &Opt,
        value: Option<String>,
    ) -> Result<()> {
        for word in option.means {
            let (long, value) = word.split_once('=').unzip();
            let value = match value {
                Some("auto") => match Mode::auto(app.out.facts().is_stdout_tty) {
                    Mode::Pretty => Some("pretty"),
                    _ => Some("short"),
                },
                value => value,
            };
            let long = long.unwrap_or(word).trim_start_matches('-');
            self.push(long, value.map(str::to_owned), false);
        }
        let Some(long) = option.long else { return Ok(()) };
        let value = match (option.arity, value) {
            (Arity::Optional(_, default), None) => Some(default.to_owned()),
            (_, value) => value,
        };
        if let Some(value) = &value {
            if long == "json" && value == "help" {
                app.out.print(Mode::HELP)?;
                return Err(Error::silent(0));
            }
            let words = [format!("--{long}"), value.clone()];
            if let Err(refusal) = typed::<A>(app, &words)
                && refusal.is_about_value
            {
                return Err(refusal.error);
            }
        }
        self.push(long, value, option.is_repeating);
        Ok(())
    }

    /// The last occurrence of an option wins unless all of them count. Switches are kept: argh
    /// counts them where the field is a number.
    fn push(&mut self, long: &'static str, value: Option<String>, is_repeating: bool) {
        if !is_repeating && value.is_some() {
            self.options.retain(|(name, _)| *name != long);
        }
        self.options.push((long, value));
    }

    fn all(self) -> Vec<String> {
        let mut words = Vec::new();
        for (long, value) in self.options {
            words.push(format!("--{long}"));
            words.extend(value);
        }
        words.push("--".to_owned());
        words.extend(self.operands);
        words
    }
}

/// What argh refused, in the peer's words.
struct Mistyped {
    error: Error,
    is_about_value: bool,
}

impl From<Mistyped> for Error {
    fn from(mistyped: Mistyped) -> Self {
        mistyped.error
    }
}

fn typed<A: FromArgs>(app: &App, words: &[String]) -> Result<A, Mistyped> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    A::from_args(&[&app.program], &words).map_err(|exit| translate(exit.output.trim_end(), &words))
}

/// argh tells by a text only, so the text is taken apart; `words` are what argh was given.
fn translate(output: &str, words: &[&str]) -> Mistyped {
    let quoted = |intro: &str| {
        let (name, rest) = output.strip_prefix(intro)?.split_once("' with value '")?;
        words.iter().find_map(|word| {
            let reason = rest.strip_prefix(word)?.strip_prefix("': ")?;
            Some((name, text::decode(word).to_string_lossy().into_owned(), reason))
        })
    };
    if let Some((option, value, reason)) = quoted("Error parsing option '") {
        let message = if reason.contains("{option}") {
            reason.replace("{option}", option)
        } else {
            format!("Failed to parse {option}= parameter '{value}': {reason}")
        };
        return Mistyped { error: Error::new(message), is_about_value: true };
    }
    let message = if let Some((name, value, reason)) = quoted("Error parsing positional argument '")
    {
        format!("Invalid {name} '{value}': {reason}")
    } else if output.starts_with("Required positional arguments not provided:") {
        "Too few arguments.".to_owned()
    } else if let Some(options) = output.strip_prefix("Required options not provided:") {
        let options = options.split_whitespace().collect::<Vec<_>>().join("', '");
        format!("Option '{options}' is required.")
    } else {
        // Every option is known to argh, so this is an operand it has no place for.
        "Too many arguments.".to_owned()
    };
    Mistyped { error: Error::new(message), is_about_value: false }
}
