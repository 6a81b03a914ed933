//! Completions and manuals, given to the programs that read them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::{SLIPWAY, answer, has, parts, slipway, text};

/// Runs a program on a file that holds the text.
fn read_by(program: &str, args: &[&str], content: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    Command::new(program).args(args).arg(file.path()).output().unwrap()
}

#[test]
fn completions_are_valid_scripts() {
    for (shell, option) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        if !has(&format!("completions_are_valid_scripts/{shell}"), shell) {
            continue;
        }
        let script = answer(&[&format!("--generate={shell}")]);
        let (status, _, err) = parts(&read_by(shell, &[option], &script));
        assert_eq!((status, err.as_str()), (Some(0), ""), "{shell}");
    }
}

/// What bash offers for the last of the words; bash splits at the equals sign before it asks.
fn offers(words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "compopt() {{ :; }}; . <('{SLIPWAY}' --generate=bash); COMP_WORDS=({}); \
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _slipway; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        quoted.join(" ")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(text(&output.stderr), "", "{words:?}");
    text(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_offers_options_values_and_applets() {
    if !has("bash_offers_options_values_and_applets", "bash") {
        return;
    }
    assert_eq!(offers(&["slipway", "--hard"]), ["--hardlinks"]);
    assert_eq!(offers(&["slipway", "--generate", "=", "b"]), ["bash"]);
    assert_eq!(offers(&["slipway", "--generate", "="]), ["bash", "zsh", "fish", "man", "markdown"]);
    assert_eq!(offers(&["slipway", "hel"]), ["help"]);
    let names = answer(&["--list"]);
    for name in names.lines() {
        assert!(offers(&[name, "--he"]).contains(&"--help".to_owned()), "{name}");
        assert!(offers(&["slipway", name, "--he"]).contains(&"--help".to_owned()), "{name}");
    }
    if names.contains("systemd-sysupdate\n") {
        assert_eq!(offers(&["systemd-sysupdate", "enable-f"]), ["enable-feature"]);
        assert_eq!(offers(&["/usr/lib/systemd/systemd-sysupdate", "--json", "=", "s"]), ["short"]);
        assert_eq!(offers(&["slipway", "update", "--verify", "=", ""]), ["yes", "no"]);
    }
}

/// What fish offers for the end of a command line, without the descriptions.
fn fish_offers(directory: &Path, line: &str) -> Vec<String> {
    let script = format!("source '{}'; complete -C '{line}'", directory.join("s.fish").display());
    let output = Command::new("fish")
        .args(["-N", "-c", &script])
        .current_dir(directory)
        .env("HOME", directory)
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "", "{line}");
    text(&output.stdout).lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn fish_offers_options_values_and_applets() {
    if !has("fish_offers_options_values_and_applets", "fish") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("s.fish"), answer(&["--generate=fish"])).unwrap();
    let offers = |line: &str| fish_offers(directory.path(), line);
    assert_eq!(offers("slipway --hard"), ["--hardlinks"]);
    assert_eq!(offers("slipway --generate=b"), ["--generate=bash"]);
    assert_eq!(offers("slipway hel"), ["help"]);
    for name in answer(&["--list"]).lines() {
        assert_eq!(offers(&format!("{name} --he")), ["--help"], "{name}");
        assert_eq!(offers(&format!("slipway {name} --he")), ["--help"], "{name}");
        assert!(offers(&format!("slipway {name} --hardl")).is_empty(), "{name}");
        if name == "update" {
            assert_eq!(offers("slipway update check"), ["check-new"]);
            assert!(offers("systemd-sysupdate list check").is_empty());
        }
    }
}

#[test]
fn files_for_packages_have_the_names_that_shells_and_man_look_for() {
    let directory = tempfile::tempdir().unwrap();
    let make = |kind: &str| {
        let output = directory.path().join(kind);
        let args = [format!("--generate={kind}"), format!("--output={}", output.display())];
        assert_eq!(answer(&args.each_ref().map(String::as_str)), "");
        output
    };
    let is_file = |path: &Path, name: &str| assert!(path.join(name).is_file(), "{name}");
    let (bash, fish, man) = (make("bash"), make("fish"), make("man"));
    is_file(&make("zsh"), "_slipway");
    is_file(&make("markdown"), "slipway.md");
    is_file(&man, "slipway.1");
    for name in answer(&["--list"]).lines() {
        is_file(&bash, name);
        is_file(&fish, &format!("{name}.fish"));
    }
    assert_eq!(
        fs::read_to_string(bash.join("slipway")).unwrap(),
        answer(&["--generate=bash"]),
        "what is printed is what is written"
    );
}

#[test]
fn manual_pages_are_read_by_groff_without_a_warning() {
    if !has("manual_pages_are_read_by_groff_without_a_warning", "groff") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = format!("--output={}", directory.path().display());
    answer(&["--generate=man", &output]);
    let mut count = 0;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let page = fs::read_to_string(entry.unwrap().path()).unwrap();
        let done = read_by("groff", &["-man", "-ww", "-Tutf8", "-Kutf8", "-P-cbou"], &page);
        assert_eq!((done.status.code(), text(&done.stderr).as_str()), (Some(0), ""));
        let shown = text(&done.stdout);
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
            assert!(shown.contains(section), "{section}: {shown}");
        }
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn every_applet_has_a_manual_that_says_more_than_its_name() {
    for name in answer(&["--list"]).lines() {
        let manual = answer(&["help", name]);
        assert!(manual.contains("\n## "), "{name}: no sections");
    }
}

#[test]
fn unknown_kind_is_refused_with_the_known_ones() {
    let (status, _, err) = parts(&slipway().arg("--generate=ksh").output().unwrap());
    assert_eq!(status, Some(1));
    assert!(err.contains("--generate= switch: ksh\nHint: one of bash, zsh, fish"), "{err}");
}
