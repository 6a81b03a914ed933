//! `slipway --install` in directories of our own.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::{SLIPWAY, answer, parts, slipway, source, text};

/// A root directory with the executable in `/usr/bin`.
fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::copy(SLIPWAY, root.path().join("usr/bin/slipway")).unwrap();
    root
}

fn install(root: &Path, args: &[&str]) -> Output {
    slipway().arg("--root").arg(root).arg("--install").args(args).output().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The names that --install makes, and the executable.
fn expected() -> Vec<String> {
    let mut names: Vec<String> =
        answer(&["--list"]).lines().chain(["slipway"]).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn symbolic_links_are_relative_to_the_executable_beside_them() {
    let root = root();
    let bin = root.path().join("usr/bin");
    let first = install(root.path(), &[]);
    assert_eq!((first.status.code(), text(&first.stderr).as_str()), (Some(0), ""));
    assert_eq!(names(&bin), expected());
    for name in answer(&["--list"]).lines() {
        assert_eq!(fs::read_link(bin.join(name)).unwrap(), Path::new("slipway"));
    }
}

fn install_units(root: &Path) -> Output {
    Command::new("sh")
        .arg(source("tools/install-units.sh"))
        .arg(root)
        .args(["/usr/local/bin", "/lib/systemd/system", "/lib/systemd/system-generators"])
        .arg("/lib/sysusers.d")
        .output()
        .unwrap()
}

#[test]
fn units_start_the_executable_where_it_is_and_never_replace_systemds() {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("lib/systemd/system");
    for _ in 0..2 {
        assert_eq!(parts(&install_units(root.path())), (Some(0), String::new(), String::new()));
    }
    let unit = fs::read_to_string(units.join("systemd-imds-import.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/slipway imds --import\n"), "{unit}");
    let generator = root.path().join("lib/systemd/system-generators/systemd-imds-generator");
    assert_eq!(fs::read_link(generator).unwrap(), Path::new("/usr/local/bin/slipway"));

    let users = fs::read_to_string(root.path().join("lib/sysusers.d/slipway-imds.conf")).unwrap();
    let service = fs::read_to_string(units.join("systemd-imdsd@.service")).unwrap();
    assert!(users.contains("\nu systemd-imds ") && service.contains("\nUser=systemd-imds\n"));
    // By these marks varlinkctl and others find their way, as with systemd's own sockets.
    let marks = ["XAttrEntryPoint", "XAttrListen", "XAttrAccept"];
    for socket in ["systemd-imdsd.socket", "systemd-imds-metrics.socket"] {
        let unit = fs::read_to_string(units.join(socket)).unwrap();
        assert!(marks.iter().all(|mark| unit.contains(mark)), "{unit}");
    }

    let socket = units.join("systemd-imdsd.socket");
    fs::write(&socket, "[Socket]\nListenStream=/x\n").unwrap();
    fs::remove_file(units.join("systemd-imds-import.service")).unwrap();
    let output = install_units(root.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(socket.to_str().unwrap()), "{}", text(&output.stderr));
    assert!(!names(&units).contains(&"systemd-imds-import.service".to_owned()));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "[Socket]\nListenStream=/x\n");
}

#[test]
fn second_run_finds_nothing_to_do() {
    for args in [&[][..], &["--hardlinks"][..], &["usr/bin", "--hardlinks"][..]] {
        let root = root();
        assert!(install(root.path(), args).status.success());
        let bin = root.path().join("usr/bin");
        let second = parts(&install(root.path(), args));
        let nothing = format!("Nothing to do in '{}'\n", bin.display());
        assert_eq!(second, (Some(0), nothing, String::new()));
        assert_eq!(names(&bin), expected());
    }
}

#[test]
fn hard_links_are_the_executable_and_replace_symbolic_ones() {
    let root = root();
    let bin = root.path().join("usr/bin");
    assert!(install(root.path(), &[]).status.success());
    assert!(install(root.path(), &["--hardlinks"]).status.success());
    let inode = fs::metadata(bin.join("slipway")).unwrap().ino();
    for name in answer(&["--list"]).lines() {
        assert_eq!(fs::symlink_metadata(bin.join(name)).unwrap().ino(), inode, "{name}");
    }
    assert_eq!(names(&bin), expected());
}

#[test]
fn file_of_somebody_else_stops_everything() {
    let list = answer(&["--list"]);
    let Some(taken) = list.lines().last() else { return };
    let make_file = |path: &Path| fs::write(path, "mine").unwrap();
    let make_link = |path: &Path| symlink("/bin/true", path).unwrap();
    for make in [&make_file as &dyn Fn(&Path), &make_link] {
        let root = root();
        let bin = root.path().join("usr/bin");
        make(&bin.join(taken));
        let before = names(&bin);
        let (status, out, err) = parts(&install(root.path(), &[]));
        assert_eq!((status, out.as_str()), (Some(1), ""));
        assert!(err.contains(&format!("Not links to slipway: '{}/{taken}'", bin.display())));
        assert_eq!(names(&bin), before);
    }
}

#[test]
fn link_to_an_older_slipway_is_replaced() {
    let list = answer(&["--list"]);
    let Some(name) = list.lines().next() else { return };
    let root = root();
    let link = root.path().join("usr/bin").join(name);
    symlink("/opt/old/slipway", &link).unwrap();
    assert!(install(root.path(), &["/usr/bin", name]).status.success());
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("slipway"));
    assert_eq!(names(&root.path().join("usr/bin")).len(), 2);
}

#[test]
fn executable_elsewhere_is_named_by_its_path_and_must_be_below_the_root() {
    let list = answer(&["--list"]);
    let Some(name) = list.lines().next() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let done = slipway().arg("--install").arg(elsewhere.path()).output().unwrap();
    assert!(done.status.success());
    let executable = fs::canonicalize(SLIPWAY).unwrap();
    assert_eq!(fs::read_link(elsewhere.path().join(name)).unwrap(), executable);

    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    let (status, _, err) = parts(&install(root.path(), &[]));
    assert_eq!(status, Some(1));
    assert!(err.contains("is not below") && err.contains("Hint: copy it to '/usr/bin/slipway'"));
    assert!(names(&root.path().join("usr/bin")).is_empty());

    let (status, _, err) = parts(&install(root.path(), &["/nowhere"]));
    assert_eq!(status, Some(1));
    assert!(err.ends_with("/nowhere' is not a directory\n"), "{err}");
}
