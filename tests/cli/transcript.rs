//! Runs transcripts.
//!
//! ```text
//! A line of prose, ignored, as is everything before the first command.
//!
//! $ slipway frobnicate
//! 2> slipway: no applet 'frobnicate' in this build
//! ? 127
//! ```
//!
//! A command runs in `/bin/sh`, in a directory that all commands of the file share; every name of
//! every applet is in `$PATH`. Then come standard output as it is, standard error behind `2> `, and
//! the status behind `? ` unless it is 0. `[..]` stands for anything within a line. An empty line
//! ends the output; one that belongs to it is written `.`. Lines that begin with `#` are remarks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{SLIPWAY, answer, source, text};

struct Step {
    command: String,
    expected: Vec<String>,
}

/// The parts of a file: text that stays, and steps.
enum Part {
    Text(String),
    Step(Step),
}

fn parse(file: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut is_open = false;
    for line in file.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            parts.push(Part::Step(Step { command: command.to_owned(), expected: Vec::new() }));
            is_open = true;
        } else if line.is_empty() || line.starts_with('#') {
            parts.push(Part::Text(line.to_owned()));
            is_open = false;
        } else {
            match parts.last_mut() {
                Some(Part::Step(step)) if is_open => step.expected.push(line.to_owned()),
                _ => parts.push(Part::Text(line.to_owned())),
            }
        }
    }
    parts
}

/// What a command prints, in the notation of transcripts.
fn run(command: &str, home: &Path) -> Vec<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(home.join("work"))
        .env_clear()
        .env("PATH", format!("{}:{path}", home.join("bin").display()))
        .output()
        .unwrap();
    let mut lines = Vec::new();
    for (bytes, mark) in [(&output.stdout, ""), (&output.stderr, "2> ")] {
        for line in text(bytes).lines() {
            let line = format!("{mark}{line}");
            lines.push(if line.is_empty() { ".".to_owned() } else { line });
        }
    }
    match output.status.code() {
        Some(0) => {}
        Some(status) => lines.push(format!("? {status}")),
        None => lines.push(format!("? {}", output.status)),
    }
    lines
}

fn is_like(pattern: &str, line: &str) -> bool {
    let mut pieces = pattern.split("[..]");
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

fn check(file: &Path, problems: &mut Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    for directory in ["bin", "work"] {
        fs::create_dir(home.path().join(directory)).unwrap();
    }
    for name in answer(&["--list"]).lines().chain(["slipway"]) {
        std::os::unix::fs::symlink(SLIPWAY, home.path().join("bin").join(name)).unwrap();
    }
    let mut written = String::new();
    for part in parse(&fs::read_to_string(file).unwrap()) {
        let step = match part {
            Part::Text(line) => {
                written.push_str(&format!("{line}\n"));
                continue;
            }
            Part::Step(step) => step,
        };
        let got = run(&step.command, home.path());
        let is_right = got.len() == step.expected.len()
            && step.expected.iter().zip(&got).all(|(pattern, line)| is_like(pattern, line));
        let keep = if is_right { &step.expected } else { &got };
        written.push_str(&format!("$ {}\n", step.command));
        written.extend(keep.iter().map(|line| format!("{line}\n")));
        if !is_right {
            let (expected, got) = (step.expected.join("\n"), got.join("\n"));
            let place = file.display();
            problems.push(format!(
                "{place}: $ {}\n-- expected:\n{expected}\n-- got:\n{got}",
                step.command
            ));
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, written).unwrap();
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn transcripts_are_reproduced() {
    let names = answer(&["--list"]);
    let mut problems = Vec::new();
    let mut count = 0;
    for directory in entries(&source("cli")).into_iter().filter(|path| path.is_dir()) {
        let applet = directory.file_name().unwrap().to_str().unwrap().replace('_', "-");
        if applet != "slipway" && names.lines().all(|name| name != applet) {
            println!("SKIP transcripts_are_reproduced/{applet}: not in this build");
            continue;
        }
        for file in entries(&directory) {
            if file.extension().is_some_and(|extension| extension == "trycmd") {
                check(&file, &mut problems);
                count += 1;
            }
        }
    }
    assert!(count > 0, "no transcripts");
    let is_update = std::env::var_os("UPDATE").is_some();
    assert!(problems.is_empty() || is_update, "{}", problems.join("\n\n"));
}

#[test]
fn wildcards_match_within_a_line() {
    assert!(is_like("a[..]c", "abc") && is_like("a[..]", "a") && is_like("", ""));
    assert!(!is_like("a[..]c", "abd") && !is_like("abc", "abcd") && !is_like("[..]x[..]y", "yx"));
}
