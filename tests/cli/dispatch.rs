//! Which name runs which applet, and how the process ends.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use crate::{SLIPWAY, answer, parts, slipway, text};

/// Runs the executable under another name.
fn as_name(name: &str, args: &[&str]) -> (Option<i32>, String, String) {
    parts(&slipway().arg0(name).args(args).output().unwrap())
}

#[test]
fn every_name_runs_its_applet_with_path_and_login_dash() {
    for name in answer(&["--list"]).lines() {
        let usage = format!("> {name} ");
        for called in [name.to_owned(), format!("-{name}"), format!("/usr/lib/systemd/{name}")] {
            let (status, out, err) = as_name(&called, &["--help"]);
            assert_eq!((status, err.as_str()), (Some(0), ""), "{called}");
            assert!(out.starts_with(&usage), "{called}: {out}");
        }
        let (status, out, _) = as_name("slipway", &[name, "--help"]);
        assert_eq!(status, Some(0));
        assert!(out.starts_with(&format!("> slipway {name} ")), "{out}");
    }
}

#[test]
fn multiplexer_answers_to_its_name_with_any_suffix_and_to_no_name() {
    let version = answer(&["--version"]);
    for name in ["slipway", "-slipway", "./slipway-1.0-x86_64", "slipway.new", "", "/", "-"] {
        assert_eq!(as_name(name, &["--version"]), (Some(0), version.clone(), String::new()));
    }
}

#[test]
fn unknown_name_is_127_unless_the_first_argument_is_an_applet() {
    for name in ["systemd-nonsense", "/bin/xslipway", "--version"] {
        let (status, out, err) = as_name(name, &["--version"]);
        assert_eq!((status, out.as_str()), (Some(127), ""), "{name}");
        assert!(err.starts_with("slipway: no applet '"), "{err}");
    }
    if let Some(applet) = answer(&["--list"]).lines().next() {
        assert_eq!(as_name("renamed", &[applet, "--help"]).0, Some(0));
    }
}

#[test]
fn name_that_is_not_text_is_refused_and_shown_harmlessly() {
    let name = std::ffi::OsStr::new("\x1b[2J");
    let output = slipway().arg0(name).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).contains("'\\x1b[2J'"), "{}", text(&output.stderr));
}

#[test]
fn reader_that_goes_away_ends_the_process_silently() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child =
        slipway().arg("--help").stdout(Stdio::from(writer)).stderr(Stdio::piped()).spawn().unwrap();
    let status = child.wait().unwrap();
    let output = child.wait_with_output().unwrap();
    // SIGPIPE
    assert_eq!((status.signal(), text(&output.stderr).as_str()), (Some(13), ""));
}

#[test]
fn full_disk_is_told_and_is_a_failure() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("SKIP full_disk_is_told_and_is_a_failure: no /dev/full");
        return;
    };
    let (status, _, err) = parts(&slipway().arg("--help").stdout(full).output().unwrap());
    assert_eq!(status, Some(1));
    assert_eq!(err, "Failed to write to standard output: No space left on device\n");
}

#[test]
fn closed_streams_do_not_matter() {
    let script = format!("'{SLIPWAY}' --version <&- >&- 2>&-; '{SLIPWAY}' nonsense 2>&-; echo $?");
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    assert_eq!(text(&output.stdout), "127\n");
}
