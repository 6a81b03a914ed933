//! The option tables: complete where there is a peer, and one snapshot of all help texts.

use std::fs;

use serde_json::Value;

use crate::{answer, source};

fn tables() -> Vec<Value> {
    let all: Value = serde_json::from_str(&answer(&["--introspect-cli"])).unwrap();
    assert_eq!(all["mediaType"], "application/vnd.io.systemd.cli-introspection-0");
    all["commands"].as_array().unwrap().clone()
}

fn rows<'a>(table: &'a Value, key: &str) -> &'a [Value] {
    table[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Compares with the peer's table: everything it has, we have, and alike. Ours may have more.
fn compare(tool: &str, problems: &mut Vec<String>) {
    let theirs = fs::read_to_string(source(&format!("vectors/cli/{tool}.json"))).unwrap();
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let theirs = &theirs["commands"][0];
    let tables = tables();
    let is_ours = |table: &&Value| rows(table, "names").iter().any(|name| name == tool);
    let Some(ours) = tables.iter().find(is_ours) else {
        println!("SKIP option_tables_are_those_of_systemd_262/{tool}: not in this build");
        return;
    };
    let keys: [(&str, &[&str]); 2] = [
        ("options", &["names", "argument", "metavar"]),
        ("verbs", &["names", "minArguments", "maxArguments", "isDefault"]),
    ];
    for (section, keys) in keys {
        for row in rows(theirs, section) {
            let mine = rows(ours, section).iter().find(|mine| mine["names"] == row["names"]);
            for key in keys {
                let (mine, theirs) = (mine.map_or(&Value::Null, |mine| &mine[key]), &row[key]);
                if mine != theirs {
                    let name = &row["names"];
                    problems.push(format!("{tool} {name} {key}: {mine}, the peer has {theirs}"));
                }
            }
        }
    }
}

#[test]
fn option_tables_are_those_of_systemd_262() {
    let mut problems = Vec::new();
    for tool in ["systemd-imds", "systemd-imdsd", "systemd-sysupdate", "varlinkctl"] {
        compare(tool, &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_applet_is_described_and_its_help_fits_the_terminal() {
    let mut snapshot = String::new();
    for table in tables() {
        let name = table["names"][0].as_str().unwrap();
        assert!(rows(&table, "options").len() >= 3, "{name}");
        let args: &[&str] = if name == "slipway" { &["--help"] } else { &[name, "--help"] };
        let help = answer(args);
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        snapshot.push_str(&format!("=== {name}\n{help}\n"));
    }
    if !cfg!(feature = "full") {
        println!("SKIP every_applet_is_described…/snapshot: not the full build");
        return;
    }
    let path = source("cli/reference.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &snapshot).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == snapshot, "tests/cli/reference.txt is out of date; UPDATE=1 rewrites it");
}
