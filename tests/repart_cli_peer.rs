//! Random command lines and Varlink calls, carried out by the real systemd-repart 262 and by us on
//! equal disks: same status, same words at the end, same standard output, same disk.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

#[path = "common/peer.rs"]
mod peer;

use std::fs;
use std::path::Path;

use peer::Peer;

const SEED: &str = "--seed=0123456789abcdef0123456789abcdef";

/// Sets of definitions: name of the directory, name of the file, keys.
const DEFINITIONS: &[(&str, &str, &str)] = &[
    ("a", "10-root.conf", "Type=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n"),
    ("b", "10-root.conf", "Type=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n"),
    ("b", "20-home.conf", "Type=home\nLabel=hé\nWeight=300\nFactoryReset=yes\n"),
    ("b", "30-swap.conf", "Type=swap\nFormat=empty\nSizeMaxBytes=12M\nPaddingMinBytes=1M\n"),
    ("c", "10-root.conf", "Type=root\nPaddingWeight=500\n"),
    ("c", "20-root.conf", "Type=root\nPriority=3\nSizeMinBytes=40M\n"),
    ("c", "30-data.conf", "Type=a1b2c3d4-0000-4000-8000-0123456789ab\nUUID=null\nNoAuto=yes\n"),
    ("d", "10-srv.conf", "Type=srv\nSizeMinBytes=70M\n"),
    ("e", "10-root.conf", "Type=usr-arm64\nReadOnly=yes\n"),
    ("e", "20-esp.conf", "Type=esp\nSizeMinBytes=5M\nSizeMaxBytes=7M\n"),
    ("e", "30-bad.conf", "Type=var\nWeight=x\nUnknown=y\nLabel=%%m\n"),
];

/// What a command line may have, beside definitions and disk. A line gets up to five.
const OPTIONS: &[&str] = &[
    "--dry-run=no",
    "--dry-run=no",
    "--dry-run=no",
    "-n",
    "--empty=refuse",
    "--empty=allow",
    "--empty=allow",
    "--empty=allow",
    "--empty=allow",
    "--empty=require",
    "--empty=force",
    "--empty=force",
    "--empty=create",
    "--size=80M",
    "--size=64M",
    "--size=70000000",
    "--size=auto",
    "--json=pretty",
    "--json=short",
    "--json=off",
    "--pretty=no",
    "--no-legend",
    "--no-pager",
    "--discard=no",
    "--offline=yes",
    "--grain-size=1M",
    "--grain-size=8K",
    "--sector-size=512",
    "--include-partitions=root",
    "--include-partitions=home,swap",
    "--exclude-partitions=root",
    "--defer-partitions=home",
    "--defer-partitions-empty=yes",
    "--defer-partitions-factory-reset=yes",
    "--architecture=arm64",
    "--factory-reset=yes",
    "--factory-reset=no",
    "--can-factory-reset",
    "--root=/",
    "--copy-source=/usr",
    "--append-fstab=no",
    "--el-torito=no",
    "--split=no",
];

/// Random numbers that are the same in every run.
struct Draw(u32);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as usize % limit
    }
}

fn lines(count: usize) -> Vec<(String, Vec<String>)> {
    let mut draw = Draw(262);
    let disks = ["blank", "gpt", "gpt", "foreign", "foreign", "gpt", "mbr", "none"];
    (0..count)
        .map(|_| {
            let set = ["a", "b", "b", "c", "d", "e"][draw.below(6)];
            let mut line = vec![format!("--definitions=defs/{set}"), SEED.to_owned()];
            line.extend((0..draw.below(6)).map(|_| OPTIONS[draw.below(OPTIONS.len())].to_owned()));
            line.push("disk.raw".to_owned());
            (disks[draw.below(disks.len())].to_owned(), line)
        })
        .collect()
}

/// Definitions, and disks to begin with, in a directory that both programs see.
fn world(peer: &Peer) -> tempfile::TempDir {
    let world = tempfile::tempdir_in(peer.dir()).unwrap();
    for (set, name, keys) in DEFINITIONS {
        let directory = world.path().join("defs").join(set);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), format!("[Partition]\n{keys}")).unwrap();
    }
    world
}

fn inside(peer: &Peer, world: &Path) -> String {
    peer.inside().join(world.file_name().unwrap()).display().to_string()
}

const DISKS: &str = "
    export LC_ALL=C.UTF-8
    for d in blank gpt foreign mbr; do truncate -s 64M $d.raw; done
    systemd-repart --definitions=defs/b --seed=0123456789abcdef0123456789abcdef --empty=allow \
        --include-partitions=root,home --dry-run=no gpt.raw >/dev/null 2>&1
    u=11111111-2222-4333-8444-55555555555
    printf 'label: gpt\\nlabel-id: %s\\nsize=12M, type=linux, name=mine, uuid=%s\\n' ${u}0 ${u}1 >script
    printf 'start=40960, size=5M, type=U, uuid=%s\\n' ${u}2 >>script
    sfdisk -q foreign.raw <script
    printf 'label: dos\\nlabel-id: 0x12345678\\nsize=12M\\n' | sfdisk -q mbr.raw
";

struct Result {
    status: String,
    stdout: String,
    stderr: String,
    disk: String,
}

/// Runs all lines by one shell in one namespace, each on a fresh disk.
fn run(peer: &Peer, world: &Path, program: &str, lines: &[(String, Vec<String>)]) -> Vec<Result> {
    let mut script = String::new();
    for (n, (disk, line)) in lines.iter().enumerate() {
        let words: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
        script.push_str(&format!(
            "rm -f disk.raw; [ {disk} = none ] || cp --sparse=always {disk}.raw disk.raw\n\
             '{program}' {} </dev/null >out.{n} 2>err.{n}; echo $? >status.{n}\n\
             [ -e disk.raw ] && sha256sum <disk.raw >disk.{n} || echo none >disk.{n}\n",
            words.join(" ")
        ));
    }
    fs::write(world.join("lines"), script).unwrap();
    let command = format!("cd '{}' && {DISKS} . ./lines", inside(peer, world));
    let output = peer.run("bash", &["-c", &command]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str, n: usize| {
        String::from_utf8_lossy(&fs::read(world.join(format!("{name}.{n}"))).unwrap()).into_owned()
    };
    (0..lines.len())
        .map(|n| Result {
            status: read("status", n),
            stdout: read("out", n),
            stderr: read("err", n),
            disk: read("disk", n),
        })
        .collect()
}

/// The last thing said. DIFFERS: where it does not fit we name the size of the disk.
fn last(stderr: &str) -> &str {
    let last = stderr.lines().last().unwrap_or_default();
    last.split(", current block device/image size").next().unwrap_or_default()
}

#[test]
fn random_command_lines_come_to_the_same_disk_and_the_same_words() {
    let test = "random_command_lines_come_to_the_same_disk_and_the_same_words";
    let Some(peer) = Peer::new(test) else { return };
    let lines = lines(160);
    let worlds = (world(&peer), world(&peer));
    let theirs = run(&peer, worlds.0.path(), "systemd-repart", &lines);
    let link = peer.dir().join("systemd-repart");
    std::os::unix::fs::symlink("slipway", &link).unwrap();
    let program = peer.inside().join("systemd-repart").display().to_string();
    let ours = run(&peer, worlds.1.path(), &program, &lines);
    let names = (inside(&peer, worlds.0.path()), inside(&peer, worlds.1.path()));
    let mut wrong = Vec::new();
    let mut statuses = std::collections::BTreeMap::new();
    for (((disk, line), theirs), ours) in lines.iter().zip(&theirs).zip(&ours) {
        *statuses.entry(theirs.status.trim().to_owned()).or_insert(0) += 1;
        let stdout = theirs.stdout.replace(&names.0, &names.1);
        let stderr = theirs.stderr.replace(&names.0, &names.1);
        let is_dry = last(&stderr).starts_with("Refusing to")
            || last(&stderr).starts_with("No changes")
            || theirs.status.trim() != "0"
            || line.iter().any(|word| word == "--can-factory-reset");
        // DIFFERS: their dry run and their refusal leave a file grown. The reference also dies by
        // an assertion where we go on.
        let is_same_disk = theirs.disk == ours.disk || is_dry;
        let is_same = theirs.status == ours.status
            && stdout == ours.stdout
            && last(&stderr) == last(&ours.stderr)
            && is_same_disk;
        if !is_same && theirs.status.trim() != "134" {
            wrong.push(format!(
                "{disk} {line:?}\n-- theirs {}{stdout}{stderr}{}-- ours {}{}{}{}",
                theirs.status, theirs.disk, ours.status, ours.stdout, ours.stderr, ours.disk
            ));
        }
    }
    println!("{} lines compared, statuses {statuses:?}", lines.len());
    assert!(statuses.len() >= 3, "{statuses:?}");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n\n"));
}

/// Calls on a disk, in the order they are made: one disk for all.
fn calls(directory: &str) -> Vec<String> {
    let seed = r#""seed":"0123456789abcdef0123456789abcdef""#;
    let run = |empty: &str, is_dry_run: bool, set: &str, disk: &str, more: &str| {
        format!(
            r#"io.systemd.Repart.Run {{"empty":"{empty}","dryRun":{is_dry_run},"definitions":["{directory}/defs/{set}"],"node":"{directory}/{disk}.raw",{seed}{more}}}"#
        )
    };
    vec![
        "io.systemd.Repart.Run {}".to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow"}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"create","dryRun":true}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow","dryRun":false}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow","dryRun":true,"seed":"x"}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow","dryRun":true,"definitions":["x"]}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow","dryRun":true,"node":"/none"}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow","dryRun":true,"bogus":1}"#.to_owned(),
        r#"io.systemd.Repart.Run {"empty":"allow","dryRun":"yes"}"#.to_owned(),
        "io.systemd.Repart.Nothing {}".to_owned(),
        format!(
            r#"io.systemd.Repart.Run {{"empty":"allow","dryRun":true,"definitions":["{directory}/defs/b"],{seed}}}"#
        ),
        run("refuse", true, "b", "blank", ""),
        run("allow", true, "b", "blank", ""),
        run("allow", true, "b", "blank", r#","deferPartitionsEmpty":true"#),
        run("allow", false, "b", "blank", ""),
        run("allow", true, "b", "blank", ""),
        run("refuse", false, "b", "blank", ""),
        run("refuse", false, "b", "blank", ""),
        run("require", true, "b", "blank", ""),
        run("allow", true, "d", "blank", ""),
        run("force", true, "d", "blank", ""),
        run("allow", true, "d", "foreign", ""),
        run("allow", true, "c", "foreign", ""),
        run("allow", false, "a", "foreign", r#","deferPartitionsFactoryReset":true"#),
        run("allow", true, "a", "mbr", ""),
        run("force", false, "b", "mbr", ""),
        run("force", false, "b", "gpt", ""),
    ]
}

/// Runs all calls with a client on a service: what is said, and the disks at the end.
fn varlink(peer: &Peer, world: &Path, client: &str, service: &str) -> String {
    let directory = inside(peer, world);
    let mut script = format!("cd '{directory}'\n{DISKS}\n");
    for call in calls(&directory) {
        let (method, parameters) = call.split_once(' ').unwrap();
        for more in ["", "--more"] {
            script.push_str(&format!(
                "echo '== {method} {more} {parameters}'; {client} call -j {more} exec:{service} {method} \
                 '{parameters}' 2>/dev/null; echo $?\n"
            ));
        }
    }
    script.push_str("for d in blank gpt foreign mbr; do sha256sum $d.raw; done\n");
    let output = peer.run("bash", &["-c", &script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().replace(&directory, "@DIR@")
}

#[test]
fn both_clients_hear_the_same_from_both_services() {
    let Some(peer) = Peer::new("both_clients_hear_the_same_from_both_services") else { return };
    for name in ["systemd-repart", "varlinkctl"] {
        std::os::unix::fs::symlink("slipway", peer.dir().join(name)).unwrap();
    }
    let program = |name: &str| peer.inside().join(name).display().to_string();
    let theirs = ("/usr/bin/varlinkctl".to_owned(), "/usr/bin/systemd-repart".to_owned());
    let ours = (program("varlinkctl"), program("systemd-repart"));
    let expected = varlink(&peer, world(&peer).path(), &theirs.0, &theirs.1);
    assert!(expected.contains("placing") && expected.contains("minimalSizeBytes"), "{expected}");
    for (client, service) in [(&theirs.0, &ours.1), (&ours.0, &theirs.1), (&ours.0, &ours.1)] {
        let heard = varlink(&peer, world(&peer).path(), client, service);
        let differing: Vec<String> = expected
            .split("== ")
            .zip(heard.split("== "))
            .filter(|(theirs, ours)| theirs != ours)
            .map(|(theirs, ours)| format!("-- theirs:\n{theirs}-- ours:\n{ours}"))
            .collect();
        assert!(expected == heard, "{client} {service}:\n{}", differing.join("\n"));
    }
}

#[test]
fn interface_is_the_same_but_for_its_comments() {
    let Some(peer) = Peer::new("interface_is_the_same_but_for_its_comments") else { return };
    std::os::unix::fs::symlink("slipway", peer.dir().join("systemd-repart")).unwrap();
    let ours = peer.inside().join("systemd-repart").display().to_string();
    let text = |service: &str| {
        let service = format!("exec:{service}");
        let output = peer.run("varlinkctl", &["introspect", &service, "io.systemd.Repart"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(text(&ours), text("/usr/bin/systemd-repart"));
}

#[test]
fn devices_are_listed_alike() {
    let Some(peer) = Peer::new("devices_are_listed_alike") else { return };
    std::os::unix::fs::symlink("slipway", peer.dir().join("systemd-repart")).unwrap();
    let ours = peer.inside().join("systemd-repart").display().to_string();
    // The peer believes udev only, so there is a database; a disk of our own is among them.
    let script = format!(
        "set -e; cd '{}'; truncate -s 16M own.raw; own=$(losetup -f --show -P own.raw)\n\
         trap 'losetup -d $own' EXIT; mkdir -p /run/udev/data; touch /run/udev/control\n\
         for d in /sys/class/block/*; do\n\
         printf 'S:disk/by-id/x-%s\\nI:1\\nE:ID_MODEL=m\\nG:systemd\\nQ:systemd\\nV:1\\n' \
         ${{d##*/}} >/run/udev/data/b$(cat $d/dev); done\n\
         for p in systemd-repart '{ours}'; do $p --list-devices; echo \"== $own\"\n\
         for q in '{{}}' '{{\"ignoreRoot\":true}}' '{{\"ignoreEmpty\":true}}'; do\n\
         varlinkctl call --more exec:$(command -v $p) io.systemd.Repart.ListCandidateDevices $q\n\
         done; echo ====; done",
        peer.inside().display()
    );
    let output = peer.run("bash", &["-c", &script]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && stderr.contains("losetup") {
        println!("SKIP devices_are_listed_alike: no loop devices: {stderr}");
        return;
    }
    let stdout = String::from_utf8(output.stdout).unwrap();
    let parts: Vec<&str> = stdout.split("====\n").collect();
    assert!(output.status.success() && parts[0].contains("/dev/loop"), "{stdout}{stderr}");
    let own = parts[0].lines().find_map(|line| line.strip_prefix("== ")).unwrap().to_owned();
    // Other tests have disks of their own, which come and go meanwhile.
    let lines = |part: &str| -> Vec<String> {
        let is_other = |line: &&str| {
            let line = line.replace("x-loop", "loop");
            line.contains("loop") && !line.contains(own.trim_start_matches("/dev/"))
        };
        part.lines().filter(|line| !is_other(line)).map(str::to_owned).collect()
    };
    assert_eq!(lines(parts[1]), lines(parts[0]));
}
