//! The command line of repart, word for word as systemd-repart 262 reads it and answers.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const SLIPWAY: &str = env!("CARGO_BIN_EXE_slipway");

/// Writes a file below a directory, with what is above it.
fn write(top: &Path, name: &str, text: &str) {
    let path = top.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn sparse(top: &Path, name: &str, size: u64) {
    File::create(top.join(name)).unwrap().set_len(size).unwrap();
}

/// Runs a recorded line: exit status and both streams, with the directory's name taken out.
fn run(top: &Path, case: &Value) -> (i64, String, String) {
    let mut command = Command::new(SLIPWAY);
    command.arg("systemd-repart").current_dir(top).stdin(Stdio::null()).env_clear();
    command.env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").env("LC_ALL", "C.UTF-8");
    for (name, value) in case["env"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap());
    }
    // As the program itself is called: its name is in some messages.
    std::os::unix::process::CommandExt::arg0(&mut command, "slipway");
    command.args(case["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).unwrap().replace(&top.display().to_string(), "@DIR@")
    };
    (output.status.code().unwrap().into(), text(&output.stdout), text(&output.stderr))
}

fn recorded(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/repart-cli").join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Compares all lines; `same` takes out of standard error what is known to differ.
fn compare(top: &Path, cases: &[Value], same: fn(&str) -> String) {
    let mut problems = Vec::new();
    for case in cases {
        let (exit, stdout, stderr) = run(top, case);
        let wanted = |key: &str| case[key].as_str().unwrap().to_owned();
        let (peer, ours) = (same(&wanted("stderr")), same(&stderr));
        if case["exit"] != exit || wanted("stdout") != stdout || peer != ours {
            problems.push(format!(
                "{} {}\n-- systemd-repart: {}\n{}{peer}\n-- ours: {exit}\n{stdout}{ours}",
                case["env"],
                case["args"],
                case["exit"],
                wanted("stdout")
            ));
        }
    }
    println!("{} lines compared", cases.len());
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n\n"));
}

#[test]
fn every_option_is_taken_or_refused_in_the_words_of_262() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    let root = "[Partition]\nType=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n";
    write(top, "defs/10-root.conf", root);
    write(top, "two/10-root.conf", root);
    write(top, "two/20-home.conf", "[Partition]\nType=home\nLabel=hé\nSizeMinBytes=20M\n");
    write(top, "big/1.conf", "[Partition]\nType=srv\nSizeMinBytes=200M\n");
    write(top, "broken/1.conf", "[Partition]\n");
    for (name, mode) in [("loose", 0o644), ("tight", 0o600)] {
        write(top, name, "key");
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    sparse(top, "a.raw", 100 << 20);
    compare(top, &recorded("lines.jsonl"), str::to_owned);
}

#[test]
fn tables_bars_and_json_are_those_of_262_from_run_to_run() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    let mut cases = recorded("tables.jsonl");
    let first = cases.remove(0);
    for (name, text) in first["files"].as_object().unwrap() {
        write(top, name, text.as_str().unwrap());
    }
    fs::create_dir(top.join("empty")).unwrap();
    sparse(top, "a.raw", 100 << 20);
    sparse(top, "p.raw", 64 << 20);
    compare(top, &cases, |stderr| {
        let lines = stderr.lines().filter(|line| !line.contains(" discarded gap after "));
        let lines = lines.map(|line| match line {
            // How long it took.
            line if line.contains(" complete in ") => line.split(" complete in ").next().unwrap(),
            // DIFFERS: we name the size of the disk.
            line if line.contains(", current block device/image size is ") => {
                line.split(", current").next().unwrap()
            }
            // DIFFERS: our dry run before this one has not let the file grow.
            "File '@DIR@/a.raw' grown from 100M to 160M by truncation." => {
                "File '@DIR@/a.raw' grown from 150M to 160M by truncation."
            }
            line => line,
        });
        lines.map(|line| format!("{line}\n")).collect()
    });
}

#[test]
fn key_comes_from_a_socket_too() {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    let top = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(top.path().join("key")).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"secret").unwrap();
    });
    let case = serde_json::json!({ "args": ["--key-file=key", "--seed=random", "-"] });
    let (exit, _, stderr) = run(top.path(), &case);
    assert_eq!(
        (exit, stderr.as_str()),
        (0, "Automatically determined minimal disk image size as 1M.\n")
    );
    server.join().unwrap();
}

#[test]
fn picture_of_the_disk_as_it_is_comes_first_on_a_terminal() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    if Command::new("script").arg("--version").output().is_err() {
        println!("SKIP picture_of_the_disk_as_it_is_comes_first_on_a_terminal: no script");
        return;
    }
    write(top, "one/1.conf", "[Partition]\nType=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n");
    write(top, "two/1.conf", "[Partition]\nType=root\nSizeMaxBytes=10M\n");
    write(top, "two/2.conf", "[Partition]\nType=home\n");
    sparse(top, "a.raw", 64 << 20);
    let seed = "--seed=0123456789abcdef0123456789abcdef";
    let made = serde_json::json!({
        "args": ["--definitions=one", seed, "--empty=allow", "--dry-run=no", "a.raw"]
    });
    assert_eq!(run(top, &made).0, 0);
    let line = format!(
        "stty cols 42; NO_COLOR=1 {SLIPWAY} repart --definitions=two {seed} a.raw 2>/dev/null"
    );
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(top)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    let pictures = text.split_once("\n\n").unwrap().1;
    assert_eq!(
        pictures,
        " Now:\n ▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░\n └─ root-x86-64                          \n\
         \n Then:\n ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░\n │     └─ 2.conf                         \n \
         └─ 1.conf                               \n\n"
    );
}
