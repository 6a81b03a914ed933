//! `io.systemd.Repart` over a socket pair: what is asked, told on the way and answered. Replies
//! were recorded from systemd-repart 262.1 with the same disks and definitions.
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
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value, json};
use slipway::ctx::Ctx;
use slipway::repart::service;
use slipway::varlink::client::Client;
use slipway::varlink::wire::Stream;

const SEED: &str = "0123456789abcdef0123456789abcdef";
const MIB: u64 = 1 << 20;

/// A service on a thread and a client of it.
struct Served {
    client: Client,
    server: JoinHandle<()>,
}

impl Served {
    fn new(ctx: Ctx) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            // A caller who hangs up in the middle of a subscription is no failure of ours.
            let _ = service::service(&ctx).unwrap().serve(Stream::socket(theirs));
        });
        let mut client = Client::from_socket(ours);
        client.set_timeout(Some(Duration::from_secs(60)));
        Self { client, server }
    }

    fn end(self) {
        drop(self.client);
        self.server.join().unwrap();
    }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { panic!("not an object") };
    members
}

/// One call without `more`: error and parameters as one text.
fn call(method: &str, parameters: Value) -> String {
    let mut served = Served::new(Ctx::host([]));
    let method = format!("io.systemd.Repart.{method}");
    let reply = served.client.call(&method, object(parameters)).unwrap();
    served.end();
    let error = reply.error.map(|error| format!("{error} ")).unwrap_or_default();
    format!("{error}{}", Value::Object(reply.parameters))
}

/// All replies of a call with `more`.
fn more(ctx: Ctx, method: &str, parameters: Value) -> Vec<String> {
    let mut served = Served::new(ctx);
    let method = format!("io.systemd.Repart.{method}");
    let mut seen = Vec::new();
    for reply in served.client.call_more(&method, object(parameters)).unwrap() {
        let reply = reply.unwrap();
        let error = reply.error.map(|error| format!("{error} ")).unwrap_or_default();
        seen.push(format!("{error}{}", Value::Object(reply.parameters)));
    }
    served.end();
    seen
}

/// A directory with definitions and a disk.
struct World(tempfile::TempDir);

impl World {
    fn new(definitions: &[(&str, &str)], size: u64) -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir(world.path("defs")).unwrap();
        for (name, text) in definitions {
            fs::write(world.path("defs").join(name), text).unwrap();
        }
        File::create(world.path("disk.raw")).unwrap().set_len(size).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, empty: &str, is_dry_run: bool) -> Value {
        json!({
            "node": self.path("disk.raw"),
            "empty": empty,
            "dryRun": is_dry_run,
            "seed": SEED,
            "definitions": [self.path("defs")],
        })
    }

    fn cli(&self, args: &[&str]) {
        let status = Command::new(env!("CARGO_BIN_EXE_slipway"))
            .args(["repart", "--definitions=defs", &format!("--seed={SEED}"), "--pretty=no"])
            .args(args)
            .current_dir(self.0.path())
            .env("SYSTEMD_LOG_LEVEL", "err")
            .status();
        assert!(status.unwrap().success());
    }
}

const ROOT: (&str, &str) =
    ("10-root.conf", "[Partition]\nType=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n");

fn srv(size: &str) -> String {
    format!("[Partition]\nType=srv\nSizeMinBytes={size}\n")
}

#[test]
fn dry_run_tells_how_large_a_disk_must_be_and_is() {
    let world = World::new(&[ROOT], 100 * MIB);
    let defs = world.path("defs");
    let least = json!({ "empty": "allow", "dryRun": true, "definitions": [defs], "seed": SEED });
    assert_eq!(call("Run", least), r#"{"minimalSizeBytes":11551232}"#);
    assert_eq!(
        call("Run", world.run("allow", true)),
        r#"{"minimalSizeBytes":11551232,"currentSizeBytes":104857600,"partitionCount":0}"#
    );
    world.cli(&["--empty=allow", "--dry-run=no", "disk.raw"]);
    assert_eq!(
        call("Run", world.run("allow", true)),
        r#"{"minimalSizeBytes":11551232,"currentSizeBytes":104857600,"partitionCount":1}"#
    );
    assert_eq!(
        call("Run", world.run("force", true)),
        r#"{"minimalSizeBytes":11551232,"currentSizeBytes":104857600}"#
    );
}

#[test]
fn dry_run_changes_no_byte_and_a_run_makes_what_the_command_line_makes() {
    let definitions = [
        ROOT,
        ("20-home.conf", "[Partition]\nType=home\nFactoryReset=yes\n"),
        ("30-swap.conf", "[Partition]\nType=swap\nFormat=empty\nSizeMaxBytes=20M\n"),
    ];
    let (ours, theirs) = (World::new(&definitions, 64 * MIB), World::new(&definitions, 64 * MIB));
    call("Run", ours.run("allow", true));
    assert!(fs::read(ours.path("disk.raw")).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(call("Run", ours.run("allow", false)), "{}");
    theirs.cli(&["--empty=allow", "--dry-run=no", "disk.raw"]);
    let bytes = |world: &World| fs::read(world.path("disk.raw")).unwrap();
    assert!(bytes(&ours) == bytes(&theirs), "the disks differ");
    // Nothing is left to do.
    assert_eq!(call("Run", ours.run("refuse", false)), "{}");
    assert!(bytes(&ours) == bytes(&theirs), "the second run has changed something");
}

#[test]
fn deferred_partitions_are_made_later() {
    let definitions = [ROOT, ("30-swap.conf", "[Partition]\nType=swap\nFormat=empty\n")];
    let world = World::new(&definitions, 64 * MIB);
    let mut first = world.run("allow", false);
    first["deferPartitionsEmpty"] = true.into();
    assert_eq!(call("Run", first), "{}");
    let count = |world: &World| call("Run", world.run("allow", true));
    assert!(count(&world).ends_with(r#""partitionCount":1}"#));
    assert_eq!(call("Run", world.run("allow", false)), "{}");
    assert!(count(&world).ends_with(r#""partitionCount":2}"#));
}

#[test]
fn phases_come_in_the_order_of_262() {
    let world = World::new(&[ROOT], 100 * MIB);
    let file = world.path("defs/10-root.conf").display().to_string();
    let phase = |name: &str| format!(r#"{{"phase":"{name}"}}"#);
    let of_file = |name: &str| format!(r#"{{"phase":"{name}","object":"{file}"}}"#);
    let look = [
        phase("loading_definitions"),
        phase("loading_table"),
        of_file("acquiring_partition_labels"),
        phase("placing"),
    ];
    let dry = more(Ctx::host([]), "Run", world.run("allow", true));
    let end = r#"{"minimalSizeBytes":11551232,"currentSizeBytes":104857600,"partitionCount":0}"#;
    assert_eq!(dry, [&look[..], &[end.to_owned()]].concat());
    let real = more(Ctx::host([]), "Run", world.run("allow", false));
    let write = [
        phase("wiping_disk"),
        of_file("wiping_partition"),
        of_file("adjusting_partition"),
        phase("writing_table"),
        "{}".to_owned(),
    ];
    assert_eq!(real, [&look[..], &write[..]].concat());
    let again = more(Ctx::host([]), "Run", world.run("allow", false));
    assert_eq!(again, [&look[..], &["{}".to_owned()]].concat());
}

#[test]
fn copying_tells_how_far_it_is() {
    let world = World::new(&[], 100 * MIB);
    fs::write(world.path("source"), vec![7; 8 * MIB as usize]).unwrap();
    let text = format!("[Partition]\nType=srv\nCopyBlocks={}\n", world.path("source").display());
    fs::write(world.path("defs/1.conf"), text).unwrap();
    let seen = more(Ctx::host([]), "Run", world.run("allow", false));
    let file = world.path("defs/1.conf").display().to_string();
    let of_file = |name: &str| format!(r#"{{"phase":"{name}","object":"{file}"}}"#);
    assert_eq!(seen[2], of_file("opening_copy_block_sources"));
    let copying = of_file("copying_partition");
    let copying = copying.trim_end_matches('}');
    assert!(seen.iter().any(|text| text.starts_with(copying)), "{seen:#?}");
    let percents: Vec<u64> = seen
        .iter()
        .filter_map(|text| serde_json::from_str::<Value>(text).ok()?["progress"].as_u64())
        .collect();
    assert!(!percents.is_empty() && percents.is_sorted() && percents.iter().all(|p| *p <= 100));
}

#[test]
fn what_does_not_fit_says_how_much_is_missing() {
    let too_small = "io.systemd.Repart.DiskTooSmall";
    let no_room = "io.systemd.Repart.InsufficientFreeSpace";
    let world = World::new(&[("0.conf", "[Partition]\nType=linux-generic\n")], 100 * MIB);
    // A partition that belongs to nobody, of 50 MiB.
    fs::write(
        world.path("defs/0.conf"),
        "[Partition]\nType=linux-generic\nSizeMinBytes=50M\nSizeMaxBytes=50M\n",
    )
    .unwrap();
    world.cli(&["--empty=allow", "--dry-run=no", "disk.raw"]);
    fs::remove_file(world.path("defs/0.conf")).unwrap();
    let before = fs::read(world.path("disk.raw")).unwrap();

    fs::write(world.path("defs/1.conf"), srv("200M")).unwrap();
    assert_eq!(
        call("Run", world.run("allow", true)),
        format!(r#"{too_small} {{"currentSizeBytes":104857600,"minimalSizeBytes":263209472}}"#)
    );
    assert_eq!(
        call("Run", world.run("force", true)),
        format!(r#"{too_small} {{"currentSizeBytes":104857600,"minimalSizeBytes":210780672}}"#)
    );
    fs::write(world.path("defs/1.conf"), srv("60M")).unwrap();
    let fields =
        r#"{"currentSizeBytes":104857600,"needFreeBytes":62914560,"minimalSizeBytes":116408832}"#;
    for is_dry_run in [true, false] {
        assert_eq!(call("Run", world.run("allow", is_dry_run)), format!("{no_room} {fields}"));
    }
    let told = more(Ctx::host([]), "Run", world.run("allow", false));
    assert_eq!(told.last().unwrap(), &format!("{no_room} {fields}"));
    assert!(fs::read(world.path("disk.raw")).unwrap() == before, "a refusal has written");
}

#[test]
fn label_that_does_not_go_with_the_mode_is_an_error_of_its_own() {
    let conflict = "io.systemd.Repart.ConflictingDiskLabelPresent {}";
    let world = World::new(&[ROOT], 64 * MIB);
    assert_eq!(call("Run", world.run("refuse", true)), conflict);
    world.cli(&["--empty=allow", "--dry-run=no", "disk.raw"]);
    assert_eq!(call("Run", world.run("require", false)), conflict);
    // An MBR with one partition.
    let mut mbr = vec![0; 512];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 16].copy_from_slice(&[0, 8, 0, 0, 0, 0x90, 1, 0]);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr.resize(64 * MIB as usize, 0);
    fs::write(world.path("disk.raw"), &mbr).unwrap();
    for empty in ["refuse", "allow", "require"] {
        assert_eq!(call("Run", world.run(empty, false)), conflict, "{empty}");
    }
    assert!(fs::read(world.path("disk.raw")).unwrap() == mbr, "a refusal has written");
}

#[test]
fn wrong_parameters_are_named_and_failures_have_their_errno() {
    let world = World::new(&[ROOT, ("20-bad.conf", "[Partition]\n")], 64 * MIB);
    let invalid =
        |name: &str| format!(r#"org.varlink.service.InvalidParameter {{"parameter":"{name}"}}"#);
    let system = |errno: i32, name: &str| {
        format!(r#"io.systemd.System {{"origin":"linux","errno":{errno},"errnoName":"{name}"}}"#)
    };
    let allow = |more: Value| {
        let mut all = object(json!({ "empty": "allow", "dryRun": true }));
        all.extend(object(more));
        Value::Object(all)
    };
    for (parameters, expected) in [
        (json!({}), invalid("empty")),
        (json!({ "empty": "allow" }), invalid("dryRun")),
        (json!({ "empty": "allow", "dryRun": false }), invalid("dryRun")),
        (json!({ "empty": "create", "dryRun": true }), invalid("empty")),
        (allow(json!({ "definitions": ["relative"] })), invalid("definitions")),
        (allow(json!({ "seed": "x" })), invalid("seed")),
        (allow(json!({ "seed": "random" })), invalid("seed")),
        (allow(json!({ "seed": "" })), invalid("seed")),
        (allow(json!({ "node": "/nonexistent" })), system(2, "ENOENT")),
        (allow(json!({ "node": "" })), system(22, "EINVAL")),
        (allow(json!({ "node": "-" })), system(2, "ENOENT")),
        (allow(json!({ "node": "/dev/null" })), system(15, "ENOTBLK")),
        (world.run("allow", true), system(22, "EINVAL")),
    ] {
        assert_eq!(call("Run", parameters.clone()), expected, "{parameters}");
    }
}

/// A machine with a disk and a card reader without a card.
fn machine() -> (tempfile::TempDir, Ctx) {
    let dir = tempfile::tempdir().unwrap();
    let sys = dir.path().join("sys");
    fs::create_dir_all(sys.join("class/block")).unwrap();
    for (name, size) in [("vda", 2048), ("vdb", 0)] {
        let place = sys.join("devices").join(name);
        fs::create_dir_all(&place).unwrap();
        for (file, text) in [
            ("uevent", format!("DEVNAME={name}\nDEVTYPE=disk\n")),
            ("dev", "254:0".to_owned()),
            ("size", size.to_string()),
            ("ro", "0".to_owned()),
            ("partscan", "1".to_owned()),
        ] {
            fs::write(place.join(file), text).unwrap();
        }
        symlink(&place, sys.join("class/block").join(name)).unwrap();
    }
    let ctx = Ctx::host([]).with_root(dir.path()).with_kernel(dir.path().join("proc"), sys);
    (dir, ctx)
}

#[test]
fn candidates_are_listed_and_their_absence_is_an_error() {
    let (dir, ctx) = machine();
    let list = |parameters| more(ctx.clone(), "ListCandidateDevices", parameters);
    let (vda, vdb) =
        (r#"{"node":"/dev/vda","sizeBytes":1048576}"#, r#"{"node":"/dev/vdb","sizeBytes":0}"#);
    assert_eq!(list(json!({})), [vda, vdb]);
    assert_eq!(list(json!({ "ignoreEmpty": true })), [vda]);
    fs::remove_file(dir.path().join("sys/class/block/vda")).unwrap();
    assert_eq!(
        list(json!({ "ignoreEmpty": true, "ignoreRoot": true })),
        ["io.systemd.Repart.NoCandidateDevices {}"]
    );
    assert_eq!(call("ListCandidateDevices", json!({})), "org.varlink.service.ExpectedMore {}");
}

#[test]
fn subscription_says_what_is_there_then_ready_once_and_ends_with_the_caller() {
    let (_dir, ctx) = machine();
    let mut served = Served::new(ctx);
    let parameters = object(json!({ "subscribe": true }));
    let method = "io.systemd.Repart.ListCandidateDevices";
    let mut replies = served.client.call_more(method, parameters).unwrap();
    let mut next = || Value::Object(replies.next().unwrap().unwrap().parameters).to_string();
    assert_eq!(next(), r#"{"action":"add","node":"/dev/vda","sizeBytes":1048576}"#);
    assert_eq!(next(), r#"{"action":"add","node":"/dev/vdb","sizeBytes":0}"#);
    assert_eq!(next(), r#"{"action":"ready"}"#);
    drop(replies);
    served.end();
}

#[test]
fn disk_that_comes_and_goes_is_told() {
    let name = "disk_that_comes_and_goes_is_told";
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        println!("SKIP {name}: needs root and loop devices");
        return;
    }
    let world = World::new(&[], 4 * MIB);
    let mut served = Served::new(Ctx::host([]));
    let parameters = object(json!({ "subscribe": true, "ignoreEmpty": true }));
    let method = "io.systemd.Repart.ListCandidateDevices";
    let mut replies = served.client.call_more(method, parameters).unwrap();
    let mut next = || Value::Object(replies.next().unwrap().unwrap().parameters);
    while next()["action"] != "ready" {}
    let losetup = |args: &[&str]| {
        let output = Command::new("losetup").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for _ in 0..5 {
        let disk = world.path("disk.raw");
        let node = losetup(&["-f", "--show", "-P", disk.to_str().unwrap()]);
        let mut wait_for = |action: &str| loop {
            let told = next();
            // Other tests have disks of their own.
            if told["node"] == node.as_str() && told["action"] == action {
                return told;
            }
        };
        assert_eq!(wait_for("add")["sizeBytes"], 4 * MIB);
        losetup(&["-d", &node]);
        assert_eq!(wait_for("remove"), json!({ "action": "remove", "node": node }));
    }
    drop(replies);
    served.end();
}

#[test]
fn binary_serves_on_the_socket_it_was_started_with() {
    let world = World::new(&[ROOT], 100 * MIB);
    let link = world.path("systemd-repart");
    symlink(env!("CARGO_BIN_EXE_slipway"), &link).unwrap();
    let ctx = Ctx::host([]);
    let mut client = Client::connect_to(&ctx, &format!("exec:{}", link.display())).unwrap();
    let reply = client.call("io.systemd.Repart.Run", object(world.run("allow", true))).unwrap();
    assert_eq!(reply.error, None);
    assert_eq!(reply.parameters["minimalSizeBytes"], 11_551_232);
}
