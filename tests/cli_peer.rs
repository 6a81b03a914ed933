//! The same command lines read by the real systemd 262 and by us: message for message.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests; a skip is told on standard output"
)]

#[path = "common/peer.rs"]
mod peer;

use std::fs;

use peer::Peer;

/// Command lines that are refused, or answered, before anything else is looked at.
fn lines(options: &[&str], verbs: &[&str]) -> Vec<Vec<String>> {
    let mut state = 262_u32;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    let mut lines = Vec::new();
    for _ in 0..400 {
        let mut line: Vec<String> =
            (0..=draw(3)).map(|_| options[draw(options.len())].to_owned()).collect();
        if draw(2) == 0 {
            line.push(verbs[draw(verbs.len())].to_owned());
        }
        // Ends whatever was read to its end.
        line.push("--bogus-at-last".to_owned());
        lines.push(line);
    }
    lines.extend(verbs.iter().map(|verb| vec![(*verb).to_owned()]));
    lines.extend(verbs.iter().map(|verb| vec!["--".to_owned(), (*verb).to_owned()]));
    lines
}

/// Statuses and messages of all lines, by one shell in one namespace.
fn run(peer: &Peer, program: &str, lines: &[Vec<String>]) -> Vec<String> {
    let mut script = "n=0\n".to_owned();
    for line in lines {
        let quoted: Vec<String> =
            line.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let words = quoted.join(" ");
        script.push_str(&format!(
            "'{program}' {words} </dev/null >/dev/null 2>err; s=$?; echo \"$s $(cat err)\" >$n; \
             n=$((n + 1))\n"
        ));
    }
    let directory = tempfile::tempdir_in(peer.dir()).unwrap();
    fs::write(directory.path().join("script"), script).unwrap();
    let inside = peer.inside().join(directory.path().file_name().unwrap());
    let output = peer.run("sh", &["-c", &format!("cd '{}' && exec sh script", inside.display())]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (0..lines.len())
        .map(|n| fs::read_to_string(directory.path().join(n.to_string())).unwrap())
        .collect()
}

fn compare(tool: &str, theirs: &str, lines: &[Vec<String>]) {
    let test = "command_lines_are_refused_in_the_same_words";
    let list = std::process::Command::new(env!("CARGO_BIN_EXE_slipway")).arg("--list").output();
    if String::from_utf8_lossy(&list.unwrap().stdout).lines().all(|name| name != tool) {
        println!("SKIP {test}/{tool}: not in this build");
        return;
    }
    let Some(peer) = Peer::new(test) else { return };
    let link = peer.dir().join(tool);
    std::os::unix::fs::symlink("slipway", &link).unwrap();
    let theirs = run(&peer, theirs, lines);
    let ours = run(&peer, peer.inside().join(tool).to_str().unwrap(), lines);
    let mut wrong = Vec::new();
    for ((line, theirs), ours) in lines.iter().zip(theirs).zip(ours) {
        if theirs != ours {
            wrong.push(format!("{line:?}\n  theirs: {theirs}  ours:   {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
    println!("{test}/{tool}: {} command lines", lines.len());
}

#[test]
fn systemd_sysupdate_refuses_command_lines_in_the_same_words() {
    let options = [
        "-h",
        "-A",
        "-Aa",
        "-m2",
        "-mx",
        "-m=3",
        "-Cx",
        "-x",
        "-Ax",
        "--help",
        "--he",
        "--help=1",
        "--version",
        "--ver",
        "--vers=1",
        "--verify=maybe",
        "--verify=no",
        "--verif=1",
        "--root=/",
        "--root=/tmp",
        "--roo=/",
        "--reb",
        "--no",
        "--no-l=3",
        "--no-legend",
        "--comp",
        "--component=x",
        "--component-a",
        "--i",
        "--inst=4",
        "--intro=x",
        "--sync=yes",
        "--sync=",
        "--cleanup=x",
        "--json=short",
        "--json=bad",
        "--json=help",
        "--json=",
        "--j=pretty",
        "--bogus",
        "--offline=",
        "--image-policy=",
        "--definitions=/d",
        "-s",
        "-a",
        "--feature",
        "-S",
    ];
    let verbs = [
        "nope", "lst", "enable", "z", "zzzzzzz", "feature", "componen", "a b", "help", "hel", "",
        "-",
    ];
    compare("systemd-sysupdate", "/usr/lib/systemd/systemd-sysupdate", &lines(&options, &verbs));
}

#[test]
fn varlinkctl_refuses_command_lines_in_the_same_words() {
    let options = [
        "-h",
        "-j",
        "-q",
        "-E",
        "-jE",
        "-jx",
        "--help",
        "--no",
        "--more",
        "--mo=1",
        "--collect",
        "--c=1",
        "--json=short",
        "--json=bad",
        "--json=help",
        "--graceful",
        "--timeout=x",
        "--timeout=3",
        "--timeout=",
        "--timeout=infinity",
        "--push-fd=x",
        "--push-fd=1",
        "--push-fd=-1",
        "--exe",
        "--ex=3",
        "--up",
        "--u",
        "--user",
        "--system",
        "--quiet=",
        "--version",
        "--ver=3",
        "--bogus",
    ];
    let verbs = [
        "nope",
        "inf",
        "list",
        "z",
        "zzzzzzz",
        "callx",
        "a b",
        "help",
        "hel",
        "",
        "info",
        "call",
        "introspect",
        "serve",
        "list-methods",
    ];
    compare("varlinkctl", "varlinkctl", &lines(&options, &verbs));
}
