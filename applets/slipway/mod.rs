//! `slipway` selects the other applets and prints what packages need: links, completions, manuals.
//!
//! Why: one file is copied to a machine; everything else a user or a packager needs comes out of
//! that file.
//!
//! - Stands in for: nothing, ours
//! - Reads: nothing. Writes: links with `--install`, files with `--generate=… --output=`
//! - Exit status: that of the applet; 0 done, 1 failure or usage error, 127 unknown applet

mod generate;
mod install;

use std::ffi::OsString;
use std::path::PathBuf;

use ::slipway::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};

use crate::app::{App, Applet};
use crate::cli::{self, Command, Order, VerbInfo};
use crate::{APPLETS, dispatch};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["slipway"],
    about: "The machine's life in one executable",
    compat: None,
    manual: include_str!("manual.md"),
    section: 1,
    is_server: false,
    cli,
    run,
    serve: None,
};

/// Run an applet, or set this executable up.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// make the links below this root
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    root: Option<PathBuf>,

    /// list the applets by name, or by path of their links
    #[argh(option, arg_name = "WHAT")]
    list: Option<String>,

    /// make links to this executable in DIR, /usr/bin by default
    #[argh(switch)]
    install: bool,

    /// make symbolic links (the default)
    #[argh(switch)]
    symlinks: bool,

    /// make hard links
    #[argh(switch)]
    hardlinks: bool,

    /// print completions or manuals (bash, zsh, fish, man, markdown)
    #[argh(option, arg_name = "KIND")]
    generate: Option<String>,

    /// write what --generate= makes into files in DIR
    #[argh(option, arg_name = "DIR", from_str_fn(cli::path))]
    output: Option<PathBuf>,

    /// operands of --install and --generate=
    #[argh(positional, arg_name = "PATH", hidden_help, from_str_fn(cli::path))]
    words: Vec<PathBuf>,
}

fn cli() -> Command {
    let mut command = Command::of::<Args>()
        .usage(&[
            "[--root=PATH] APPLET [ARGUMENT…]",
            "--install [--hardlinks] [DIR [APPLET…]]",
            "--generate=KIND [--output=DIR] [APPLET…]",
            "--list[=paths]",
            "help [APPLET]",
        ])
        .optional_value("list", "names")
        .values("list", &["names", "paths"])
        .values("generate", generate::KINDS);
    let verb = |name, about| VerbInfo {
        name,
        operands: if name == "help" { "[APPLET]" } else { "" },
        about,
        min: 0,
        max: 0,
        is_default: false,
    };
    command.verbs = applets().map(|applet| verb(applet.name(), applet.about)).collect();
    command.verbs.push(verb("help", "Show the manual of an applet"));
    command
}

/// The rows that can be selected by a link.
fn applets() -> impl Iterator<Item = &'static Applet> {
    APPLETS.iter().copied().filter(|applet| !applet.is_multiplexer())
}

fn run(app: &mut App) -> Result<u8> {
    let (mut args, rest): (Args, _) = cli::parse_order(app, Order::First)?;
    if args.install || args.generate.is_some() || args.list.is_some() {
        // No applet's arguments follow, so options may stand anywhere.
        args = cli::parse(app)?;
    }
    if let Some(root) = &args.root {
        app.ctx = app.ctx.clone().with_root(root);
    }
    if let Some(what) = &args.list {
        return list(app, what, &args);
    }
    if args.install {
        return install::run(app, &args.words, args.hardlinks && !args.symlinks).map(|()| 0);
    }
    if let Some(kind) = &args.generate {
        return generate::run(app, kind, args.output.as_deref(), &args.words).map(|()| 0);
    }
    run_applet(app, rest)
}

fn list(app: &mut App, what: &str, args: &Args) -> Result<u8> {
    if !args.words.is_empty() {
        return Err(Error::new("Too many arguments."));
    }
    let directory = match what {
        "names" => String::new(),
        "paths" => format!("{}/", install::DIRECTORY),
        _ => return Err(Error::new(format!("Unknown argument to --list= switch: {what}"))),
    };
    let names = applets().flat_map(|applet| applet.names);
    app.out.print(&names.map(|name| format!("{directory}{name}\n")).collect::<String>())?;
    Ok(0)
}

fn run_applet(app: &mut App, mut words: Vec<OsString>) -> Result<u8> {
    if words.is_empty() {
        app.out.print(&cli::render_help(&APPLET, &app.invocation))?;
        return Err(Error::silent(1));
    }
    let name = words.remove(0).to_string_lossy().into_owned();
    if name == "help" {
        return manual(app, &words).map(|()| 0);
    }
    let applet = dispatch::find(&name).ok_or_else(|| dispatch::unknown(&name))?;
    app.applet = applet;
    app.invocation = format!("{} {name}", app.invocation);
    app.program = name;
    app.args = words;
    dispatch::run(app)
}

/// `slipway help [APPLET]`: the options, then the manual as it was written.
fn manual(app: &mut App, words: &[OsString]) -> Result<()> {
    let (applet, invocation) = match words {
        [] => (&APPLET, "slipway".to_owned()),
        [name] => {
            let name = name.to_string_lossy();
            let applet = dispatch::find(&name).ok_or_else(|| dispatch::unknown(&name))?;
            (applet, format!("slipway {name}"))
        }
        _ => return Err(Error::new("Too many arguments.")),
    };
    let help = cli::render_help(applet, &invocation);
    // The last paragraph only points here.
    let options = help.trim_end().rsplit_once("\n\n").map_or(help.as_str(), |(text, _)| text);
    app.out.print(&format!("{options}\n\n{}\n", applet.manual.trim()))
}
