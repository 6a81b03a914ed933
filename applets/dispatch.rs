//! From `argv[0]` to an applet to an exit status.
//!
//! The name is compared whole: without its directory and without the dash of a login shell, it is
//! a name of the table or it is not. `slipway`, `slipway-ANYTHING` and no name at all select by the
//! first argument, and so does any other name if that argument is an applet; else status 127.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ::slipway::ctx::Ctx;
use ::slipway::error::{Error, Result};
use ::slipway::out::Out;
use ::slipway::varlink::activation;
use ::slipway::{log, sys};

use crate::app::{App, Applet};
use crate::{APPLETS, cli, slipway};

/// What a shell returns when there is no such program.
const UNKNOWN_APPLET: u8 = 127;

/// Runs what the arguments say.
pub(crate) fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let mut args = std::env::args_os();
    let program = basename(&args.next().unwrap_or_default());
    let args: Vec<OsString> = args.collect();
    let ctx = Ctx::host(std::env::vars_os());
    let out = Out::host(&ctx);
    log::init(&ctx, &out);

    let result = select(&program, &args).and_then(|applet| {
        let program = if applet.is_multiplexer() { applet.name().to_owned() } else { program };
        let invocation = program.clone();
        run(&mut App { applet, ctx, out, program, invocation, args })
    });
    ExitCode::from(result.unwrap_or_else(|error| {
        log::report(&error);
        error.status()
    }))
}

/// Finds the applet for the name of the program and its arguments.
fn select(program: &str, args: &[OsString]) -> Result<&'static Applet> {
    if let Some(applet) = find(program) {
        return Ok(applet);
    }
    let is_multiplexer =
        program.is_empty() || program.starts_with("slipway-") || program.starts_with("slipway.");
    let is_applet = |arg: &OsString| arg.to_str().and_then(find).is_some();
    if is_multiplexer || args.first().is_some_and(is_applet) {
        return Ok(&slipway::APPLET);
    }
    Err(unknown(program))
}

/// Looks for an applet by any of its names.
pub(crate) fn find(name: &str) -> Option<&'static Applet> {
    APPLETS.iter().copied().find(|applet| applet.names.contains(&name))
}

/// The refusal of a name that is not in the table.
pub(crate) fn unknown(name: &str) -> Error {
    Error::new(format!("slipway: no applet '{}' in this build", cli::printable(name)))
        .hint("'slipway --list' names the applets")
        .with_status(UNKNOWN_APPLET)
}

/// The last component of a program's name without the dash that login(1) puts in front.
fn basename(name: &OsStr) -> String {
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    base.strip_prefix('-').unwrap_or(&base).to_owned()
}

/// Runs the applet of `app`, or serves with it where this process was started for that.
pub(crate) fn run(app: &mut App) -> Result<u8> {
    if let Some(serve) = app.applet.serve
        && let Some(activation) = activation::detect(&app.ctx)?
    {
        sys::signal::set_pipe_ends_process(false);
        // Not for the processes we start.
        app.ctx = activation::cleared(&app.ctx);
        return serve(app, activation);
    }
    sys::signal::set_pipe_ends_process(!app.applet.is_server);
    (app.applet.run)(app)
}

fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    // Nobody is left to tell when standard error is gone.
    let _ = io::stderr().write_all(panic_line(info).as_bytes());
}

/// One line instead of Rust's three.
fn panic_line(info: &std::panic::PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = cli::printable(text.unwrap_or("unknown reason"));
    let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
    format!("slipway: internal error{place}: {text}; please report it\n")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn names_of_the_table_are_unique_and_sorted() {
        let first: Vec<&str> = APPLETS.iter().map(|applet| applet.name()).collect();
        assert!(first.is_sorted(), "{first:?}");
        let mut names: Vec<&str> = APPLETS.iter().flat_map(|a| a.names).copied().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for applet in APPLETS {
            assert!(!applet.about.ends_with('.') && matches!(applet.section, 1 | 8));
            // A peer's tool is replaced by its name; a verb of one cannot be.
            let is_tool = applet.compat.filter(|peer| !peer.contains(' '));
            assert!(is_tool.is_none_or(|peer| applet.names.contains(&peer)));
        }
    }

    #[test]
    fn panic_is_one_line_with_the_place() {
        let line = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&line);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| *seen.lock().unwrap() = panic_line(info)));
        let result = std::panic::catch_unwind(|| panic!("two\nlines {}", 1));
        std::panic::set_hook(before);
        assert!(result.is_err());
        let line = line.lock().unwrap();
        assert!(line.starts_with("slipway: internal error at applets/dispatch.rs:"), "{line}");
        assert!(line.ends_with(": two\\nlines 1; please report it\n"), "{line}");
    }
}
