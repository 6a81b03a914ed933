//! Replays what systemd-sysupdate 262.1 did in 119 small worlds: same status, same standard output,
//! same target afterwards, same words about what was chosen and removed.
//!
//! Where we do better on purpose, the step is listed in `tests/diff/sysupdate-differences.txt` with
//! the number of the defect and the reason. A difference that is not listed fails, and so does a
//! listed one that is none any more. `UPDATE=1` prints the lines that would have to be listed.
#![cfg(feature = "update")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; what was counted is told"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Tables are as wide as their paths, so the directory of a world has a name of this length.
const DIRECTORY_LEN: usize = 12;

/// Time of every file at the start.
const START: Duration = Duration::from_secs(1_600_000_000);

/// Lines of the log that say what was decided and done; the others are not compared.
const DECISIVE: [&str; 10] = [
    "Selected update",
    "No update needed",
    "Update '",
    "Removed ",
    "Found nothing to remove",
    "♻️ ",
    "Successfully ",
    "✨ ",
    "Updated symlink",
    "Multiple instances",
];

fn rows() -> Vec<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sysupdate/scenarios.jsonl");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The listed differences: scenario, step, defect.
fn listed() -> BTreeMap<(String, usize), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diff/sysupdate-differences.txt");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (place, reason) = line.split_once(": D").unwrap_or_else(|| panic!("{line}"));
            let (name, step) = place.rsplit_once(" #").unwrap_or_else(|| panic!("{line}"));
            let step = step.split(' ').next().unwrap().parse().unwrap();
            ((name.to_owned(), step), format!("D{reason}"))
        })
        .collect()
}

struct World {
    dir: PathBuf,
}

impl World {
    fn new(number: usize, row: &Value) -> Self {
        // Short and ours alone: whoever creates it has it.
        let start = u64::from(std::process::id()) * 1000 + u64::try_from(number).unwrap();
        let dir = (start..)
            .map(|n| PathBuf::from(format!("/tmp/{:0>7}", base36(n))))
            .find(|dir| fs::create_dir(dir).is_ok())
            .unwrap();
        assert_eq!(dir.as_os_str().len(), DIRECTORY_LEN);
        let world = Self { dir };
        for part in ["src", "dst", "defs", "state"] {
            fs::create_dir_all(world.dir.join(part)).unwrap();
        }
        for (part, key) in [("defs", "definitions"), ("src", "source"), ("dst", "target")] {
            for (name, text) in row[key].as_object().unwrap() {
                world.write(&world.dir.join(part).join(name), text.as_str().unwrap());
            }
        }
        world
    }

    fn write(&self, path: &Path, text: &str) {
        let text = match text {
            "AUTO" => manifest(path.parent().unwrap()),
            text => text.replace("@D@", self.shown()),
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + START).unwrap();
    }

    fn shown(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    fn run(&self, step: &Value) -> Ran {
        let args: Vec<&str> =
            step["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .arg("update")
            .arg(format!("--definitions={}/defs", self.shown()))
            .args(&args)
            .env_clear()
            .env("SLIPWAY_SYSUPDATE_LOCK", self.dir.join("lock"))
            .env("SLIPWAY_SYSUPDATE_STATE", self.dir.join("state"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let text = |bytes: &[u8]| text(bytes).replace(self.shown(), "@D@");
        Ran {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            target: self.target(),
        }
    }

    fn target(&self) -> BTreeMap<String, Value> {
        fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<String, Value>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let value = if metadata.is_dir() {
                    walk(top, &path, found);
                    json!({ "dir": true })
                } else if metadata.is_symlink() {
                    json!({ "link": fs::read_link(&path).unwrap() })
                } else {
                    json!({
                        "mode": format!("{:04o}", metadata.mode() & 0o7777),
                        "content": fs::read_to_string(&path).unwrap(),
                        "mtime": metadata.mtime(),
                    })
                };
                found.insert(name, value);
            }
        }
        let mut found = BTreeMap::new();
        let top = self.dir.join("dst");
        walk(&top, &top, &mut found);
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(char::from_digit(u32::try_from(number % 36).unwrap(), 36).unwrap());
        number /= 36;
    }
    digits.iter().rev().collect()
}

fn manifest(directory: &Path) -> String {
    let mut lines: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("SHA256SUMS"))
        .map(|path| {
            let hash = Sha256::digest(fs::read(&path).unwrap());
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hash} *{}\n", path.file_name().unwrap().to_str().unwrap())
        })
        .collect();
    lines.sort_by(|a, b| a[64..].cmp(&b[64..]));
    lines.concat()
}

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    target: BTreeMap<String, Value>,
}

fn decisive<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    lines
        .filter(|line| DECISIVE.iter().any(|start| line.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

/// What differs, in words; nothing if all is well.
fn differences(step: &Value, ran: &Ran) -> Vec<String> {
    let mut found = Vec::new();
    if step["reference_aborts"].as_bool() == Some(true) {
        // There is nothing to compare with; but it must be an answer.
        if ran.status != Some(0) || ran.stdout.is_empty() {
            found.push(format!("no answer: {:?} {}", ran.status, ran.stderr));
        }
        return found;
    }
    let status = step["rc"].as_i64().unwrap();
    if ran.status.map(i64::from) != Some(status) {
        found.push(format!("status {:?}, not {status}", ran.status));
    }
    let stdout = step["stdout"].as_str().unwrap();
    if ran.stdout != stdout {
        found.push(format!("stdout\n{}not\n{stdout}", ran.stdout));
    }
    let mut target = ran.target.clone();
    let expected: BTreeMap<String, Value> = step["target_after"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in &mut target {
        // No time on record: the file was written during the run.
        if expected.get(name).is_some_and(|e| e["mtime"].is_null()) && value["mtime"].is_number() {
            value["mtime"] = Value::Null;
        }
    }
    if target != expected {
        found.push(format!("target {target:#?}\nnot {expected:#?}"));
    }
    let theirs = step["stderr"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    let (ours, theirs) = (decisive(ran.stderr.lines()), decisive(theirs));
    if ours != theirs {
        found.push(format!("log\n{ours:#?}\nnot\n{theirs:#?}"));
    }
    found
}

/// Runs all scenarios on all cores; returns the steps that differ and the number of steps.
fn run_all(rows: &[Value]) -> (BTreeMap<(String, usize), String>, usize) {
    let next = AtomicUsize::new(0);
    let result = Mutex::new((BTreeMap::new(), 0));
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get() * 2);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = rows.get(number) else { return };
                    let world = World::new(number, row);
                    for (index, step) in row["steps"].as_array().unwrap().iter().enumerate() {
                        let ran = world.run(step);
                        let found = differences(step, &ran);
                        let mut result = result.lock().unwrap();
                        result.1 += 1;
                        if !found.is_empty() {
                            let name = row["name"].as_str().unwrap().to_owned();
                            let args: Vec<_> = step["args"].as_array().unwrap().iter().collect();
                            let args: Vec<_> = args.iter().map(|a| a.as_str().unwrap()).collect();
                            let text = format!("{}\n{}", args.join(" "), found.join("\n"));
                            result.0.insert((name, index + 1), text);
                        }
                    }
                }
            });
        }
    });
    result.into_inner().unwrap()
}

#[test]
fn scenarios_go_as_in_systemd_262_but_for_its_defects() {
    let rows = rows();
    let listed = listed();
    let (found, steps) = run_all(&rows);
    if std::env::var_os("UPDATE").is_some() {
        for ((name, step), text) in &found {
            let args = text.lines().next().unwrap();
            let known = listed.get(&(name.clone(), *step)).map_or("D?", String::as_str);
            println!("{name} #{step} {args}: {known}");
        }
    }
    let mut problems = Vec::new();
    for ((name, step), text) in &found {
        if !listed.contains_key(&(name.clone(), *step)) {
            problems.push(format!("unlisted difference: {name} #{step} {text}"));
        }
    }
    for ((name, step), reason) in &listed {
        if !found.contains_key(&(name.clone(), *step)) {
            problems.push(format!("listed, but no difference: {name} #{step} ({reason})"));
        }
    }
    println!(
        "{} scenarios, {steps} steps: {} as in the peer, {} differ on purpose",
        rows.len(),
        steps - found.len(),
        listed.len()
    );
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
