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
    pub mod imds_vectors;
    pub mod peer;
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::imds_vectors::vector;
use common::peer::Peer;
use slipway::format::hwdb::{records, trie};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
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

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }

    fn one<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

const MEMBERS: [(&str, &[&str]); 13] = [
    ("data_url", &["http://a", "http://b/c"]),
    ("vendor", &["v", "w w", ""]),
    ("token_url", &["http://t"]),
    ("refresh_header_name", &["R"]),
    ("data_url_suffix", &["?s", ""]),
    ("token_header_name", &["T"]),
    ("extra_header", &["A: 1"]),
    ("extra_header2", &["B: 2"]),
    ("extra_header4", &["D: 4"]),
    ("address_ipv4", &["192.0.2.1", "192.0.2.2", "bad"]),
    ("address_ipv6", &["2001:db8::1", "192.0.2.1"]),
    ("key.region", &["/region", "no-slash", ""]),
    ("key.ssh_key", &["/ssh"]),
];

/// A few members with values; the URL often, so that there is something to see.
fn draw(dice: &mut Dice) -> Vec<(&'static str, &'static str)> {
    let is_drawn =
        |dice: &mut Dice, name: &str| dice.below(100) < if name == "data_url" { 60 } else { 12 };
    let mut drawn = Vec::new();
    for (name, values) in MEMBERS {
        if is_drawn(dice, name) {
            drawn.push((name, dice.one(values)));
        }
    }
    drawn
}

#[test]
fn sources_of_the_endpoint_give_what_they_give_to_systemds_imdsd() {
    let test = "sources_of_the_endpoint_give_what_they_give_to_systemds_imdsd";
    let Some(peer) = Peer::new(test) else { return };
    std::os::unix::fs::symlink(peer.slipway(), peer.dir().join("systemd-imdsd")).unwrap();
    let mut dice = Dice(262);
    let mut answered = 0;
    for round in 0..60 {
        let mut env: Vec<(String, String)> = Vec::new();
        let mut line = String::new();
        let mut options = String::new();
        let credentials = peer.dir().join(format!("creds-{round}"));
        fs::create_dir(&credentials).unwrap();
        // Each source is there half of the time.
        if dice.below(3) == 0 {
            for (name, value) in draw(&mut dice) {
                let name = name.replace("key.", "key_").to_uppercase();
                env.push((format!("SYSTEMD_IMDS_{name}"), value.to_owned()));
            }
        }
        if dice.below(2) == 0 {
            for (name, value) in draw(&mut dice) {
                // Headers have no numbers here.
                let name = if name.starts_with("extra") { "extra_header" } else { name };
                line.push_str(&format!("\"systemd.imds.{name}={value}\" "));
            }
            line.push_str(dice.one(&["", "systemd.imds.network=locked", "systemd.imds.vendor"]));
        }
        if dice.below(2) == 0 {
            for (name, value) in draw(&mut dice) {
                let name = match name {
                    "token_url" => "vendor_token".to_owned(),
                    name => name.replace("key.", "key_"),
                };
                fs::write(credentials.join(format!("imds.{name}")), value).unwrap();
            }
        }
        for option in
            ["--address-ipv4=192.0.2.9", "--well-known-key=region:/o", "--data-url=http://o"]
        {
            if dice.below(5) == 0 {
                options.push_str(&format!(" {option}"));
            }
        }
        let run = |program: &str| {
            let script = peer.dir().join("start");
            fs::write(&script, format!("#!/bin/sh\nexec {program}{options}\n")).unwrap();
            let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
            fs::set_permissions(&script, mode).unwrap();
            let inside = peer.inside();
            let output = peer
                .command("varlinkctl")
                .args(["--json=short", "call"])
                .arg(format!("exec:{}", inside.join("start").display()))
                .args(["io.systemd.InstanceMetadata.GetVendorInfo", "{}"])
                .env("CREDENTIALS_DIRECTORY", inside.join(format!("creds-{round}")))
                .env("SYSTEMD_PROC_CMDLINE", &line)
                .env("SYSTEMD_LOG_LEVEL", "emerg")
                .env("SLIPWAY_STRICT_COMPAT", "1")
                .envs(env.iter().map(|(name, value)| (name, value)))
                .output()
                .unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let ours = run(peer.inside().join("systemd-imdsd").to_str().unwrap());
        let theirs = run("/usr/lib/systemd/systemd-imdsd");
        let world = || {
            let names: Vec<_> =
                fs::read_dir(&credentials).unwrap().map(|e| e.unwrap().file_name()).collect();
            format!("{round}: {env:?} {line} {names:?} {options}")
        };
        // A bad address in the environment ends the peer where we send an error.
        if theirs == (false, String::new()) {
            assert!(!ours.0, "{}", world());
        } else {
            assert_eq!(ours, theirs, "{}", world());
        }
        answered += usize::from(ours.0);
    }
    assert!(answered > 10, "{answered}");
}
