//! From arguments to an option struct: getopt's reading, argh's typing, the peer's messages.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};
use slipway::error::{Error, Result};
use slipway::out::json::Mode;

use super::command::{Arity, Command, Opt, is_path};
use super::getopt::{Item, Order, Scanner};
use super::value::SENTENCE;
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
    A::from_args(&[&app.program], &words)
        .map_err(|exit| translate(exit.output.trim_end_matches('\n'), &words))
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
        let message = if let Some(sentence) = reason.strip_prefix(SENTENCE) {
            sentence.to_owned()
        } else if reason.contains("{option}") {
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    use slipway::ctx::Ctx;
    use slipway::out::{Facts, Out};

    use super::*;
    use crate::app::Applet;
    use crate::cli::{self, Verb, dispatch_verb};

    /// Try things.
    #[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
    #[argh(help_triggers("-h", "--help"))]
    struct Args {
        /// generate JSON output (pretty, short, or off)
        #[argh(option, arg_name = "FORMAT", default = "Mode::Off", from_str_fn(cli::json_mode))]
        json: Mode,
        /// check
        #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
        verify: Option<bool>,
        /// how many
        #[argh(option, short = 'm', arg_name = "INT")]
        max: Option<u64>,
        /// root
        #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
        root: Option<PathBuf>,
        /// one of many
        #[argh(option, short = 'e', arg_name = "ERROR")]
        expect: Vec<String>,
        /// loud
        #[argh(switch, short = 'l')]
        loud: bool,
        /// words
        #[argh(positional, greedy, hidden_help)]
        words: Vec<String>,
    }

    static VERBS: &[Verb<Args>] = &[
        Verb::new("list", "List", |app, _, operands| {
            app.out.print(&operands.join("+")).map(|()| 3)
        })
        .operands("[VERSION]")
        .words(0, 2)
        .default(),
        Verb::new("call", "Call", |_, _, _| Ok(4)).words(3, 0),
    ];

    static APPLET: Applet = Applet {
        names: &["try", "systemd-try"],
        about: "try things",
        compat: Some("systemd-try"),
        manual: "",
        section: 1,
        is_server: false,
        cli: || {
            let command = Command::of::<Args>().verbs(VERBS);
            command.shorthand('j', &["--json=auto"], "As --json=short", "json").shorthand(
                'E',
                &["--loud", "--max=7"],
                "As --loud --max=7",
                "json",
            )
        },
        run: |_| Ok(0),
        serve: None,
    };

    fn app(args: Vec<OsString>) -> (App, slipway::out::Captured) {
        let (out, captured) = Out::captured(Facts::default());
        let (program, invocation) = ("systemd-try".to_owned(), "systemd-try".to_owned());
        (App { applet: &APPLET, ctx: Ctx::host([]), out, program, invocation, args }, captured)
    }

    fn args(line: &[&str]) -> Result<Args> {
        parse(&mut app(line.iter().map(OsString::from).collect()).0)
    }

    fn refusal(line: &[&str]) -> String {
        let error = args(line).unwrap_err();
        assert_eq!(error.status(), 1);
        error.to_string()
    }

    /// Standard output of what is answered instead of run.
    fn answer(line: &[&str]) -> String {
        let (mut app, captured) = app(line.iter().map(OsString::from).collect());
        let error = parse::<Args>(&mut app).unwrap_err();
        assert!(error.is_silent() && error.status() == 0);
        captured.stdout()
    }

    fn verb(line: &[&str]) -> Result<(u8, String)> {
        let (mut app, captured) = app(line.iter().map(OsString::from).collect());
        let args: Args = parse(&mut app)?;
        let status = dispatch_verb(&mut app, VERBS, &args, &args.words)?;
        Ok((status, captured.stdout()))
    }

    #[test]
    fn last_value_wins_and_lists_keep_all() {
        let read = args(&["-m1", "--expect=a", "x", "-m", "2", "--ex", "", "-lm3", "y"]).unwrap();
        assert_eq!((read.max, read.loud), (Some(3), true));
        assert_eq!(read.expect, ["a", ""]);
        assert_eq!(read.words, ["x", "y"]);
    }

    #[test]
    fn shorthands_count_where_they_stand() {
        assert_eq!(args(&["-j", "--json=off"]).unwrap().json, Mode::Off);
        assert_eq!(args(&["--json=off", "-j"]).unwrap().json, Mode::Short);
        assert_eq!(args(&["-E", "-m1"]).unwrap().max, Some(1));
        let read = args(&["-m1", "-E"]).unwrap();
        assert_eq!((read.max, read.loud), (Some(7), true));
        assert_eq!(refusal(&["--json=auto"]), "Unknown argument to --json= switch: auto");
    }

    #[test]
    fn values_are_refused_in_the_peers_words_wherever_they_stand() {
        let bad = "Failed to parse boolean argument to '--verify=': maybe";
        assert_eq!(refusal(&["--verify=maybe"]), bad);
        assert_eq!(refusal(&["--verify=maybe", "--verify=no", "--help"]), bad);
        assert_eq!(refusal(&["--verify="]), "Failed to parse boolean argument to '--verify=': ");
        assert_eq!(refusal(&["--json=bad"]), "Unknown argument to --json= switch: bad");
        assert_eq!(
            refusal(&["-mx': y"]),
            "Failed to parse --max= parameter 'x': y': invalid digit found in string"
        );
        assert_eq!(refusal(&["-x"]), "systemd-try: unrecognized option '-x'");
    }

    #[test]
    fn operands_are_not_options_after_two_dashes_and_help_is_a_verb() {
        assert_eq!(args(&["--", "--json=x", "-l"]).unwrap().words, ["--json=x", "-l"]);
        assert_eq!(args(&["--root", "--help", "-"]).unwrap().words, ["-"]);
        assert_eq!(args(&["help"]).unwrap().words, ["help"]);
    }

    #[test]
    fn paths_may_be_any_bytes_and_other_values_must_be_text() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let (mut app1, _) = app(vec![bytes(b"--root=/a\xff")]);
        let root = parse::<Args>(&mut app1).unwrap().root.unwrap();
        assert_eq!(root.into_os_string(), bytes(b"/a\xff"));
        for (args, position) in
            [(vec![bytes(b"-e\xff")], 1), (vec![bytes(b"x"), bytes(b"--ex"), bytes(b"\xff")], 3)]
        {
            let error = parse::<Args>(&mut app(args).0).unwrap_err();
            assert_eq!(error.to_string(), format!("Argument {position} is not valid UTF-8."));
        }
    }

    #[test]
    fn questions_are_answered_in_order() {
        assert!(answer(&["--help", "--bogus"]).starts_with("> systemd-try [OPTION…] COMMAND …\n"));
        assert!(answer(&["list", "--vers"]).starts_with("slipway "));
        assert_eq!(answer(&["--json=help"]), "pretty\nshort\noff\n");
        assert_eq!(refusal(&["--bogus", "-h"]), "systemd-try: unrecognized option '--bogus'");
    }

    #[test]
    fn verbs_are_counted_and_guessed_as_by_the_peer() {
        let says = |line: &[&str]| verb(line).unwrap_err().to_string();
        assert_eq!(verb(&[]).unwrap(), (3, String::new()));
        assert_eq!(verb(&["list", "-l", "7"]).unwrap(), (3, "7".to_owned()));
        assert_eq!(says(&["list", "1", "2"]), "Too many arguments.");
        assert_eq!(says(&["call", "1"]), "Too few arguments.");
        assert_eq!(verb(&["call", "1", "2", "3", "4"]).unwrap().0, 4);
        assert_eq!(says(&["lst"]), "Unknown command verb 'lst', did you mean 'list'?");
        assert_eq!(says(&["wwwwwwwww\n"]), "Unknown command verb 'wwwwwwwww\\n'.");
        assert!(verb(&["help", "x"]).unwrap().1.starts_with("> systemd-try"));
    }
}
