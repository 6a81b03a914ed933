//! What a whole run of the updater tells others, whom it lets in, and that a dry run is one.
#![cfg(feature = "update")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed look-up is a failed test"
)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

/// Two transfers with versions 1 and 2 on offer and 1 in place.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        for name in ["a", "b"] {
            let dir = world.path("");
            let dir = dir.display();
            world.write(
                &format!("defs/{name}.transfer"),
                &format!(
                    "[Source]\nType=regular-file\nPath={dir}/src\nMatchPattern={name}_@v\n\
                     [Target]\nPath={dir}/dst\nMatchPattern={name}_@v\nInstancesMax=2\n"
                ),
            );
            world.write(&format!("src/{name}_1"), "one");
            world.write(&format!("src/{name}_2"), "two");
            world.write(&format!("dst/{name}_1"), "one");
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        command
            .arg("update")
            .arg(format!("--definitions={}", self.path("defs").display()))
            .args(args)
            .env_clear()
            .env("SLIPWAY_SYSUPDATE_LOCK", self.path("lock"))
            .env("SLIPWAY_SYSUPDATE_STATE", self.path("state"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn target(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("dst")).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn service_manager_is_told_in_the_peers_order_and_words() {
    let world = World::new();
    let socket = UnixDatagram::bind(world.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let output =
        world.command(&["update"]).env("NOTIFY_SOCKET", world.path("notify")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let mut messages: Vec<String> = Vec::new();
    while messages.last().is_none_or(|last| !last.starts_with("EXIT_STATUS=")) {
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        messages.push(text(&buffer[..len]).to_owned());
    }
    let (progress, rest): (Vec<_>, Vec<_>) =
        messages.iter().partition(|m| m.starts_with("X_SYSUPDATE_PROGRESS="));
    assert_eq!(
        rest,
        [
            "READY=1\nX_SYSUPDATE_VERSION=2\nSTATUS=Making room for '2'.",
            "STATUS=Updating to '2'.",
            "READY=1\nX_SYSUPDATE_VERSION=2\nSTATUS=Installing '2'.",
            "STATUS=Installed '2'.",
            "EXIT_STATUS=0",
        ]
    );
    let percents: Vec<u64> = progress
        .iter()
        .map(|m| m.lines().next().unwrap().rsplit_once('=').unwrap().1.parse().unwrap())
        .collect();
    assert!(percents.is_sorted() && percents.iter().all(|p| *p <= 100), "{progress:?}");
    assert!(
        progress[0].contains("\nX_SYSUPDATE_TRANSFERS_LEFT=2\nX_SYSUPDATE_TRANSFERS_DONE=0\n"),
        "{progress:?}"
    );
}

#[test]
fn second_run_is_refused_with_a_clear_error_and_changes_nothing() {
    let world = World::new();
    let lock = fs::File::create(world.path("lock")).unwrap();
    lock.lock().unwrap();
    for verb in ["update", "acquire", "vacuum", "cleanup"] {
        let output = world.run(&[verb]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb}");
        assert!(stderr.starts_with("Another update is running: it holds '"), "{verb}: {stderr}");
    }
    assert_eq!(world.target(), ["a_1", "b_1"]);
    // Looking needs no lock.
    assert!(world.run(&["list"]).status.success());
    drop(lock);
    assert!(world.run(&["update"]).status.success());
    assert_eq!(world.target(), ["a_1", "a_2", "b_1", "b_2"]);
}

#[test]
fn dry_run_says_what_the_real_one_does_and_changes_nothing() {
    let world = World::new();
    world.write("dst/a_0", "zero");
    world.write("dst/.sysupdate.partial.other", "x");
    let before = world.target();
    let output = world.run(&["--dry-run", "update"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let dir = world.path("");
    let plan = text(&output.stdout).replace(dir.to_str().unwrap(), "");
    assert_eq!(
        plan,
        "Would update to '2':\n\
         Removing old 'dst/a_0' (regular-file).\n\
         Removing leftover 'dst/.sysupdate.partial.other'.\n\
         Acquiring 'src/a_2' → 'dst/a_2'.\n\
         Acquiring 'src/b_2' → 'dst/b_2'.\n\
         Installing 'src/a_2' → 'dst/a_2'.\n\
         Installing 'src/b_2' → 'dst/b_2'.\n"
    );
    assert_eq!(world.target(), before);
    assert!(!world.path("state").exists());
    assert!(world.run(&["update"]).status.success());
    assert_eq!(world.target(), ["a_1", "a_2", "b_1", "b_2"]);
}

#[test]
fn run_that_was_cut_short_is_finished_by_the_next() {
    let world = World::new();
    // Acquired by one transfer, begun by the other.
    world.write("dst/.sysupdate.pending.a_2", "two");
    world.write("dst/.sysupdate.partial.b_2", "t");
    let output = world.run(&["update"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.target(), ["a_1", "a_2", "b_1", "b_2"]);
    assert_eq!(fs::read_to_string(world.path("dst/b_2")).unwrap(), "two");
}

#[test]
fn record_of_other_definitions_is_kept_apart_and_cleaned_by_them_only() {
    let world = World::new();
    assert!(world.run(&["update"]).status.success());
    let databases: Vec<String> = fs::read_dir(world.path("state"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(matches!(databases.as_slice(), [one] if one.starts_with("definitions-")));
    assert!(world.run(&["cleanup"]).status.success());
    assert_eq!(world.target(), ["a_1", "a_2", "b_1", "b_2"]);
    fs::remove_file(world.path("defs/b.transfer")).unwrap();
    let output = world.run(&["cleanup"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.target(), ["a_1", "a_2"]);
}
