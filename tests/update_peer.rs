//! The updater and the real `systemd-sysupdate` on the same work: same answers, same statuses, same
//! files and partition tables; and either finishes or cleans what the other began.
//!
//! Needs the peer (`make diff-test PEER=DIR`). The worlds are generated from fixed seeds, so a
//! difference can be looked at again: `SEED=n` runs just that one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; what was skipped and counted is told"
)]

#[path = "common/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use peer::Peer;
use sha2::{Digest, Sha256};

const SYSUPDATE: &str = "/usr/lib/systemd/systemd-sysupdate";
const WORLDS: u64 = 60;

/// A small generator with a known sequence: the worlds stay the same for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File,
    Tree,
    Slot,
}

/// Definitions, sources and what is installed.
struct World {
    transfers: Vec<(String, Kind, String)>,
    source: Vec<(usize, &'static str, &'static str)>,
    installed: Vec<(usize, &'static str)>,
    steps: Vec<Vec<String>>,
}

const VERSIONS: [&str; 7] = ["1", "2~rc1", "2", "2^fix", "2.9", "2.10", "3"];

fn generate(seed: u64) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        dice.roll(2);
    }
    let mut world = World {
        transfers: Vec::new(),
        source: Vec::new(),
        installed: Vec::new(),
        steps: Vec::new(),
    };
    let protect = dice.chance(20).then(|| VERSIONS[dice.roll(7)]);
    let minimum = dice.chance(20).then(|| VERSIONS[dice.roll(3)]);
    for index in 0..1 + dice.roll(3) {
        let kind = [Kind::File, Kind::File, Kind::Tree, Kind::Slot][dice.roll(4)];
        // One disk holds the slots of one transfer.
        let taken = world.transfers.iter().any(|(_, other, _)| *other == Kind::Slot);
        let kind = if kind == Kind::Slot && taken { Kind::File } else { kind };
        let suffix = if kind == Kind::Tree { "" } else { ["", ".xz", ".zst", ".gz"][dice.roll(4)] };
        let mut text = String::from("[Transfer]\n");
        if let Some(version) = protect {
            text += &format!("ProtectVersion={version}\n");
        }
        if let Some(version) = minimum {
            text += &format!("MinVersion={version}\n");
        }
        let source = if kind == Kind::Tree { "directory" } else { "regular-file" };
        text +=
            &format!("[Source]\nType={source}\nPath=@D@/src\nMatchPattern=f{index}_@v.x{suffix}\n");
        text += &match kind {
            Kind::File => format!(
                "[Target]\nType=regular-file\nPath=@D@/dst\nMatchPattern=f{index}_@v{}\nInstancesMax={}\n",
                ["", "+@l", "+@l-@d"][dice.roll(3)],
                2 + dice.roll(3)
            ),
            Kind::Tree => format!(
                "[Target]\nType=directory\nPath=@D@/dst/trees\nMatchPattern=t{index}_@v\nInstancesMax={}\n",
                2 + dice.roll(2)
            ),
            Kind::Slot => format!(
                "[Target]\nType=partition\nPath=@D@/disk\nMatchPattern=f{index}_@v\n\
                 MatchPartitionType=root-x86-64\n"
            ),
        };
        if kind == Kind::File && dice.chance(30) {
            text += "Mode=0440\n";
        }
        if kind != Kind::Slot && dice.chance(30) {
            text += &format!("CurrentSymlink=@D@/dst/links/current{index}\n");
        }
        for version in VERSIONS {
            if dice.chance(75) {
                world.source.push((index, version, suffix));
            }
            if kind != Kind::Slot && dice.chance(30) {
                world.installed.push((index, version));
            }
        }
        world.transfers.push((format!("{}0-x.transfer", index + 1), kind, text));
    }
    let some = VERSIONS[dice.roll(7)].to_owned();
    for step in [
        vec!["--json=short", "list"],
        vec!["list"],
        vec!["--json=pretty", "list", &some],
        vec!["list", &some],
        vec!["--json=short", "check-new"],
        vec!["--json=short", "update"],
        vec!["list"],
        vec!["update"],
        vec!["update", &some],
        vec!["--json=pretty", "list", &some],
        vec!["-m2", "vacuum"],
        vec!["--json=short", "list"],
    ] {
        world.steps.push(step.into_iter().map(str::to_owned).collect());
    }
    world
}

fn compress(suffix: &str, data: &[u8]) -> Vec<u8> {
    let program = match suffix {
        ".xz" => "xz",
        ".zst" => "zstd",
        ".gz" => "gzip",
        _ => return data.to_vec(),
    };
    let mut child = Command::new(program)
        .args(["-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(data).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn write_old(path: &Path, data: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    set_old(path);
}

fn set_old(path: &Path) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Two free slots and one with a stranger in it. sfdisk makes it, not we.
fn make_disk(path: &Path) {
    let root = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
    let slots: String = ["_empty", "_empty", "stranger"]
        .iter()
        .enumerate()
        .map(|(index, label)| {
            format!("size=1MiB, type={root}, name=\"{label}\", uuid=00000000-0000-4000-8000-00000000000{index}\n")
        })
        .collect();
    fs::File::create(path).unwrap().set_len(6 << 20).unwrap();
    let mut child = Command::new("sfdisk")
        .args(["-q", "--no-tell-kernel", "--no-reread"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let script = format!("label: gpt\nlabel-id: 00000000-0000-4000-8000-0000000000ff\n{slots}");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn build(peer: &Peer, world: &World) {
    let dir = peer.dir();
    for name in ["defs", "src", "dst", "disk"] {
        let path = dir.join(name);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    for name in ["defs", "src", "dst"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    make_disk(&dir.join("disk"));
    for (name, _, text) in &world.transfers {
        let text = text.replace("@D@", peer.inside().to_str().unwrap());
        fs::write(dir.join("defs").join(name), text).unwrap();
    }
    for (index, version, suffix) in &world.source {
        let data = format!("{index} {version}\n").repeat(5000);
        let path = dir.join(format!("src/f{index}_{version}.x{suffix}"));
        if world.transfers[*index].1 == Kind::Tree {
            write_old(&path.join("sub/file"), data.as_bytes());
            std::os::unix::fs::symlink("sub/file", path.join("link")).unwrap();
            set_old(&path.join("sub"));
            set_old(&path);
        } else {
            write_old(&path, &compress(suffix, data.as_bytes()));
        }
    }
    for (index, version) in &world.installed {
        if world.transfers[*index].1 == Kind::Tree {
            let path = dir.join(format!("dst/trees/t{index}_{version}"));
            write_old(&path.join("old"), b"old");
            set_old(&path);
        } else {
            let text = &world.transfers[*index].2;
            let tries = if text.contains("@l-@d") {
                "+3-0"
            } else if text.contains("@l") {
                "+3"
            } else {
                ""
            };
            write_old(&dir.join(format!("dst/f{index}_{version}{tries}")), b"old");
        }
    }
}

/// Everything of the target that lasts: names, kinds, modes, contents, links, partition table.
fn snapshot(dir: &Path) -> BTreeMap<String, String> {
    fn walk(top: &Path, path: &Path, found: &mut BTreeMap<String, String>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let what = if meta.is_symlink() {
            format!("link to {}", fs::read_link(path).unwrap().display())
        } else if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                walk(top, &entry.unwrap().path(), found);
            }
            format!("directory {:o}", meta.mode())
        } else {
            // A new time is "now" in both programs, and differs.
            let time =
                if meta.mtime() < 1_700_000_000 { meta.mtime().to_string() } else { "now".into() };
            format!("file {:o} {time} {:x?}", meta.mode(), Sha256::digest(fs::read(path).unwrap()))
        };
        found.insert(name, what);
    }
    let mut found = BTreeMap::new();
    walk(dir, &dir.join("dst"), &mut found);
    let dump = Command::new("sfdisk").arg("-J").arg(dir.join("disk")).output().unwrap();
    found.insert("disk".into(), String::from_utf8(dump.stdout).unwrap());
    let slots = fs::read(dir.join("disk")).unwrap();
    found.insert("slots".into(), format!("{:x?}", Sha256::digest(&slots[1 << 20..4 << 20])));
    found
}

/// One step's exit status, standard output and what lasts.
type Seen = (Option<i32>, String, BTreeMap<String, String>, String);

fn run(peer: &Peer, program: &str, args: &[String]) -> Seen {
    let mut command = peer.command(program);
    if program != SYSUPDATE {
        command.arg("update");
    }
    let output = command
        .arg(format!("--definitions={}", peer.inside().join("defs").display()))
        .args(args)
        .output()
        .unwrap();
    // D3: the peer shows its own descriptor of the disk.
    let disk = format!("{}p", peer.inside().join("disk").display());
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).replace("/proc/self/fd/3p", &disk),
        snapshot(peer.dir()),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Steps at which the two may part, with the reason. After one, the rest of that world says nothing.
fn is_known(
    world: &World,
    before: Option<&BTreeMap<String, String>>,
    theirs: &Seen,
    ours: &Seen,
) -> Option<&'static str> {
    if theirs.0 == Some(134) || theirs.0.is_none() {
        return Some("D6: the peer aborts");
    }
    let without_links = |seen: &Seen| -> Vec<(String, String)> {
        let files = seen.2.iter().filter(|(name, _)| !name.starts_with("dst/links"));
        files.map(|(name, what)| (name.clone(), what.clone())).collect()
    };
    if theirs.2 != ours.2
        && without_links(theirs) == without_links(ours)
        && ours.3.contains("instance is already in the target but is not pending.")
    {
        return Some("CurrentSymlink= of what was in place before is moved along");
    }
    let newest = before.and_then(|before| newest_complete(world, before))?;
    let removes = |seen: &Seen| {
        let names = ["f", "t"].map(|letter| format!("/{letter}"));
        seen.3.lines().filter(|line| line.contains("Removing old '")).any(|line| {
            let name = line.split('\'').nth(1).unwrap().rsplit_once('/').unwrap().1;
            let is_ours = names.iter().any(|start| format!("/{name}").starts_with(start.as_str()));
            is_ours
                && name.split_once('_').is_some_and(|(_, v)| v.split('+').next() == Some(newest))
        })
    };
    (removes(theirs) && !removes(ours))
        .then_some("D8: the peer removes the newest complete version")
}

/// The newest version that every transfer has.
fn newest_complete(world: &World, seen: &BTreeMap<String, String>) -> Option<&'static str> {
    VERSIONS.into_iter().rev().find(|version| {
        world.transfers.iter().enumerate().all(|(index, (_, kind, _))| match kind {
            Kind::Slot => seen["disk"].contains(&format!("\"f{index}_{version}\"")),
            Kind::Tree => seen.contains_key(&format!("dst/trees/t{index}_{version}")),
            Kind::File => {
                let name = format!("dst/f{index}_{version}");
                seen.keys().any(|key| key.split('+').next() == Some(name.as_str()))
            }
        })
    })
}

#[test]
fn generated_worlds_end_the_same() {
    let Some(peer) = Peer::new("generated_worlds_end_the_same") else { return };
    let ours = peer.slipway().display().to_string();
    let only: Option<u64> = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let (mut steps, mut known, mut wrong) = (0, 0, Vec::new());
    'worlds: for seed in only.map_or(0..WORLDS, |seed| seed..seed + 1) {
        let world = generate(seed);
        let mut seen = Vec::new();
        for program in [SYSUPDATE, &ours] {
            build(&peer, &world);
            seen.push(world.steps.iter().map(|step| run(&peer, program, step)).collect::<Vec<_>>());
        }
        for (index, step) in world.steps.iter().enumerate() {
            let (theirs, ours) = (&seen[0][index], &seen[1][index]);
            let before = index.checked_sub(1).map(|before| &seen[0][before].2);
            if let Some(reason) = is_known(&world, before, theirs, ours) {
                println!("seed {seed}, step {index} {step:?}: {reason}");
                known += 1;
                continue 'worlds;
            }
            steps += 1;
            if (ours.0, &ours.1, &ours.2) != (theirs.0, &theirs.1, &theirs.2) {
                let files: Vec<String> = theirs
                    .2
                    .iter()
                    .filter(|(name, what)| ours.2.get(*name) != Some(what))
                    .map(|(name, what)| format!("  peer {name}: {what}"))
                    .chain(
                        ours.2
                            .iter()
                            .filter(|(name, what)| theirs.2.get(*name) != Some(what))
                            .map(|(name, what)| format!("  ours {name}: {what}")),
                    )
                    .collect();
                wrong.push(format!(
                    "seed {seed}, step {index} {step:?}:\npeer {:?}\n{}{}\nours {:?}\n{}{}\n{}",
                    theirs.0,
                    theirs.1,
                    theirs.3,
                    ours.0,
                    ours.1,
                    ours.3,
                    files.join("\n")
                ));
                continue 'worlds;
            }
        }
    }
    println!("{steps} steps equal, {known} worlds ended early for a known reason");
    assert!(wrong.is_empty(), "{} worlds differ\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Acquires with one program, installs with the other, and looks with both.
fn hand_over(peer: &Peer, acquire: &str, install: &str) {
    let mut world = generate(0);
    world.transfers = ["file", "tree", "slot"]
        .iter()
        .enumerate()
        .map(|(index, word)| {
            let (kind, source, target) = match *word {
                "file" => (Kind::File, "regular-file", "Type=regular-file\nPath=@D@/dst\n".to_owned()),
                "tree" => (Kind::Tree, "directory", "Type=directory\nPath=@D@/dst/trees\n".to_owned()),
                _ => (
                    Kind::Slot,
                    "regular-file",
                    "Type=partition\nPath=@D@/disk\nMatchPartitionType=root-x86-64\n".to_owned(),
                ),
            };
            let text = format!(
                "[Source]\nType={source}\nPath=@D@/src\nMatchPattern=f{index}_@v.x\n[Target]\n{target}\
                 MatchPattern=f{index}_@v\n"
            );
            (format!("{index}0-{word}.transfer"), kind, text)
        })
        .collect();
    world.source = (0..3).map(|index| (index, "3", "")).collect();
    world.installed = Vec::new();

    let step = |program: &str, args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        run(peer, program, &args)
    };
    build(peer, &world);
    let acquired = step(acquire, &["acquire"]);
    assert_eq!(acquired.0, Some(0), "{}", acquired.3);
    let half = acquired.2.clone();

    // The same state as when one program does both halves.
    build(peer, &world);
    assert_eq!(step(install, &["acquire"]).2, half, "the pending states differ");

    build(peer, &world);
    step(acquire, &["acquire"]);
    for program in [acquire, install] {
        let listed = step(program, &["--json=short", "list"]).1;
        assert!(listed.contains("current+pending\":\"3\""), "{program}: {listed}");
    }
    let installed = step(install, &["--offline", "update"]);
    assert_eq!(installed.0, Some(0), "{}", installed.3);
    for program in [acquire, install] {
        let listed = step(program, &["--json=short", "list"]).1;
        assert!(listed.contains("\"current\":\"3\""), "{program}: {listed}");
    }

    // Pending is also cleaned away by the other.
    build(peer, &world);
    step(acquire, &["acquire"]);
    let cleaned = step(install, &["vacuum"]);
    assert_eq!(cleaned.0, Some(0), "{}", cleaned.3);
    assert!(!cleaned.2.keys().any(|name| name.contains(".sysupdate.")), "{:?}", cleaned.2);
    assert!(!cleaned.2["disk"].contains("f2_3"), "{}", cleaned.2["disk"]);
}

#[test]
fn what_the_peer_acquired_we_install() {
    let Some(peer) = Peer::new("what_the_peer_acquired_we_install") else { return };
    let ours = peer.slipway().display().to_string();
    hand_over(&peer, SYSUPDATE, &ours);
}

#[test]
fn what_we_acquired_the_peer_installs() {
    let Some(peer) = Peer::new("what_we_acquired_the_peer_installs") else { return };
    let ours = peer.slipway().display().to_string();
    hand_over(&peer, &ours, SYSUPDATE);
}
