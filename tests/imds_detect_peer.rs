//! Detection against the real systemd: the same hardware database to `systemd-hwdb` and ours, the
//! same command lines to its generator and ours.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod common {
    pub mod peer;
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::peer::Peer;
use serde_json::Value;
use slipway::format::hwdb::{records, trie};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn vector(name: &str) -> Value {
    serde_json::from_slice(&fs::read(top().join("tests/vectors/imds").join(name)).unwrap()).unwrap()
}

type Properties = BTreeMap<String, String>;

fn properties<'a>(lines: impl Iterator<Item = &'a str>) -> Properties {
    let pair = |line: &'a str| line.split_once('=').unwrap();
    lines.map(pair).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What our reader of text says, later files last.
fn by_text(texts: &[String], name: &str) -> Properties {
    let mut found = Properties::new();
    for record in texts.iter().flat_map(|text| records(text)).filter(|r| r.is_match(name)) {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        found.extend(record.properties.iter().map(own));
    }
    found
}

/// Names to ask for: every identity of the vectors, and some nearby.
fn names() -> Vec<String> {
    let vectors = vector("smbios.json");
    let mut names: Vec<String> = vectors["positive"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["hwdb_query"].as_str().unwrap().to_owned())
        .collect();
    let more = ["dmi:bvnAmazonEC2:", "dmi:bvnAmazonEC", "cmdline:vultr", "x", "dmi:", "test:abc"];
    names.extend(more.map(str::to_owned));
    for text in ["catOpenStack Nova:", "svnXen:puuec2:", "pnExoscaleX:", "cathost.zstack.io:"] {
        names.push(format!("dmi:bvnX:{text}"));
    }
    names
}

#[test]
fn text_and_compiled_database_are_read_as_by_systemd_hwdb() {
    let Some(peer) = Peer::new("text_and_compiled_database_are_read_as_by_systemd_hwdb") else {
        return;
    };
    let folder = peer.dir().join("tree/etc/udev/hwdb.d");
    fs::create_dir_all(&folder).unwrap();
    let mut texts = Vec::new();
    for (name, path) in [
        ("10-first.hwdb", "tests/vectors/hwdb/10-first.hwdb"),
        ("20-patterns.hwdb", "tests/vectors/hwdb/20-patterns.hwdb"),
        ("30-last.hwdb", "tests/vectors/hwdb/30-last.hwdb"),
        ("40-imds.hwdb", "src/imds/providers.hwdb"),
    ] {
        let text = fs::read_to_string(top().join(path)).unwrap();
        fs::write(folder.join(name), &text).unwrap();
        texts.push(text);
    }
    let root = format!("--root={}", peer.inside().join("tree").display());
    let output = peer.run("systemd-hwdb", &["update", &root]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let compiled = fs::read(peer.dir().join("tree/etc/udev/hwdb.bin")).unwrap();
    let mut count = 0;
    for name in names() {
        let output = peer.run("systemd-hwdb", &[&root, "query", &name]);
        let expected = properties(String::from_utf8(output.stdout).unwrap().lines());
        assert_eq!(trie::query(&mut compiled.as_slice(), &name).unwrap(), expected, "{name}");
        assert_eq!(by_text(&texts, &name), expected, "{name}");
        count += expected.len();
    }
    assert!(count > 100, "{count}");
}

#[test]
fn the_systems_own_database_says_the_same_of_every_cloud() {
    let test = "the_systems_own_database_says_the_same_of_every_cloud";
    let Some(peer) = Peer::new(test) else { return };
    let compiled = PathBuf::from(std::env::var_os("PEER").unwrap()).join("usr/lib/udev/hwdb.bin");
    let Ok(compiled) = fs::read(compiled) else {
        println!("SKIP {test}: PEER has no hwdb.bin");
        return;
    };
    let more = ["usb:v1D6Bp0001", "pci:v00008086d00001237sv00001AF4sd00001100bc06sc00i00"];
    for name in names().into_iter().chain(more.map(str::to_owned)) {
        let output = peer.run("systemd-hwdb", &["query", &name]);
        let expected = properties(String::from_utf8(output.stdout).unwrap().lines());
        assert_eq!(trie::query(&mut compiled.as_slice(), &name).unwrap(), expected, "{name}");
    }
}

/// Links with their targets, files with their contents.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Ok(target) = fs::read_link(&path) {
            found.push((name, target.display().to_string()));
        } else if path.is_dir() {
            let below = tree(&path).into_iter();
            found.extend(below.map(|(below, content)| (format!("{name}/{below}"), content)));
        } else {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_generator_writes_and_says_what_systemds_does() {
    let Some(peer) = Peer::new("the_generator_writes_and_says_what_systemds_does") else { return };
    let vectors = vector("generator.json");
    let mut lines: Vec<(String, bool)> = Vec::new();
    for case in vectors["cases"].as_array().unwrap() {
        let line = case["cmdline"].as_str().unwrap().to_owned();
        lines.push((line.clone(), true));
        lines.push((line, false));
    }
    for line in [
        "systemd.imds=1 systemd.imds.network=lockdown systemd.imds.import=1",
        "systemd.imds=1 systemd.imds.import",
        "systemd.imds=1 systemd.imds.import=x systemd.imds=0",
        "systemd.imds=1 systemd.imds.import=0 systemd.imds.network",
        "systemd.imds=1 systemd.imds=",
        "systemd.imds=1 systemd.imds=auto",
        "systemd.imds=1 systemd.imds.network=",
        "systemd.imds=1 systemd.imds.network=yes",
        "systemd.imds=1 systemd.imds.network=0",
        "systemd-imds=1",
        "rd.systemd.imds=1 rd.systemd.imds.import=no",
    ] {
        lines.push((line.to_owned(), true));
        lines.push((line.to_owned(), false));
    }
    for (number, (line, is_initrd)) in lines.iter().enumerate() {
        let run = |who: &str, program: &Path| -> (Option<i32>, String, Vec<(String, String)>) {
            let out = format!("{who}-{number}");
            let inside = peer.inside().join(&out);
            let Output { status, stderr, .. } = peer
                .command(program)
                .args(["a", "b", "c"].map(|name| inside.join(name)))
                .env("SYSTEMD_PROC_CMDLINE", line)
                .env("SYSTEMD_IN_INITRD", if *is_initrd { "1" } else { "0" })
                .env("SYSTEMD_LOG_TARGET", "console")
                .output()
                .unwrap();
            let said = String::from_utf8(stderr).unwrap();
            (status.code(), said, tree(&peer.dir().join(&out)))
        };
        let link = peer.dir().join("systemd-imds-generator");
        if number == 0 {
            std::os::unix::fs::symlink(peer.slipway(), &link).unwrap();
        }
        let ours = run("ours", &peer.inside().join("systemd-imds-generator"));
        let generator = "/usr/lib/systemd/system-generators/systemd-imds-generator";
        assert_eq!(ours, run("theirs", Path::new(generator)), "{line} {is_initrd}");
    }
}
