//! `vercmp` compares two versions in the order the updater uses.
//!
//! Why: a script that picks the newest image must agree with the updater about which one that is,
//! also on a machine without systemd.
//!
//! - Stands in for: `systemd-analyze compare-versions`
//! - Reads: nothing. Writes: nothing
//! - Exit status: with an operator 0 it holds, 1 it does not, or a usage error; without one 0
//!   equal, 11 the first is newer, 12 the second is newer, 1 usage error

use std::cmp::Ordering;

use ::slipway::error::{Error, Result};
use ::slipway::format::version::{self, Operator};
use argh::{ArgsInfo, FromArgs};

use crate::app::{App, Applet};
use crate::cli::{self, Command};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["vercmp"],
    about: "Tell which of two versions is newer",
    compat: Some("systemd-analyze compare-versions"),
    manual: include_str!("manual.md"),
    section: 1,
    is_server: false,
    cli: || Command::of::<Args>().usage(&["[OPTION…] VERSION1 [OPERATOR] VERSION2"]),
    run,
    serve: None,
};

const STATUS_FIRST_IS_NEWER: u8 = 11;
const STATUS_SECOND_IS_NEWER: u8 = 12;

/// Tell which of two versions is newer.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// two versions, with an operator between them or not
    #[argh(positional, arg_name = "VERSION", hidden_help)]
    words: Vec<String>,
}

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let (a, operator, b) = match *words {
        [a, b] => (a, None, b),
        [a, operator, b] => (a, Some(operator), b),
        [] | [_] => return Err(Error::new("Too few arguments.")),
        _ => return Err(Error::new("Too many arguments.")),
    };
    for (number, text) in [(1, a), (2, b)] {
        if !version::has_legal_characters(text) {
            log::warn!(
                "Version string {number} contains disallowed characters, they will be treated as \
                 separators: {}",
                cli::printable(text)
            );
        }
    }
    let order = version::compare(a, b);
    if let Some(word) = operator {
        // COMPAT(262): an operator with a tail is refused for its tail.
        let unknown = match Operator::parse_prefix(word) {
            Some((operator, "")) => return Ok(u8::from(!operator.holds(order))),
            Some((_, tail)) => tail,
            None => word,
        };
        return Err(Error::new(format!("Unknown operator \"{}\".", cli::printable(unknown))));
    }
    let (sign, status) = match order {
        Ordering::Less => ("<", STATUS_SECOND_IS_NEWER),
        Ordering::Equal => ("==", 0),
        Ordering::Greater => (">", STATUS_FIRST_IS_NEWER),
    };
    app.out.print(&format!("{} {sign} {}\n", shown(a), shown(b)))?;
    Ok(status)
}

/// An empty version is visible.
fn shown(version: &str) -> &str {
    if version.is_empty() { "''" } else { version }
}
