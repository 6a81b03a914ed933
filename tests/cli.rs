//! The binary as a user meets it: names, links, messages, help, completions, manuals.
//!
//! Transcripts are `tests/cli/APPLET/*.trycmd`; `transcript.rs` beside them says how they read.
//! `UPDATE=1` rewrites transcripts and the snapshot of all help texts; review the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests; a skip is told on standard output"
)]

#[path = "cli/complete.rs"]
mod complete;
#[path = "cli/dispatch.rs"]
mod dispatch;
#[path = "cli/golden.rs"]
mod golden;
#[path = "cli/install.rs"]
mod install;
#[path = "cli/transcript.rs"]
mod transcript;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The executable under test.
const SLIPWAY: &str = env!("CARGO_BIN_EXE_slipway");

/// A file of this directory.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// The executable, with nothing of this process's environment that changes what it prints.
fn slipway() -> Command {
    let mut command = Command::new(SLIPWAY);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Standard output of a run that succeeds and says nothing else.
fn answer(args: &[&str]) -> String {
    let output = slipway().args(args).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args:?}");
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Status, standard output and standard error.
fn parts(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// True where a program is installed; says so where not.
fn has(test: &str, program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("SKIP {test}: no {program}");
    }
    found
}
