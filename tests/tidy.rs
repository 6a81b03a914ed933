//! The tree checks itself: layers, `unsafe`, leftovers, headers, applet folders, licences.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed look-up is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest logic file; tables and tests do not count.
const FILE_LINES_MAX: usize = 700;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files the project keeps: what git knows, or everything in an unpacked archive.
fn files(suffix: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if matches!(name.as_str(), "target" | ".git" | "vendor" | "vectors" | "corpus") {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(top(), &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(suffix));
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(top()).unwrap().display().to_string()
}

/// Module below `src/` and its layer: 0 formats and sys, 1 services, 2 domains.
const LAYERS: &[(&str, u8)] = &[
    ("format", 0),
    ("sys", 0),
    ("condition", 1),
    ("conf", 1),
    ("crypto", 1),
    ("disk", 1),
    ("fs", 1),
    ("http", 1),
    ("log", 1),
    ("mkfs", 1),
    ("net", 1),
    ("notify", 1),
    ("out", 1),
    ("unpack", 1),
    ("varlink", 1),
    ("imds", 2),
    ("repart", 2),
    ("update", 2),
];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

#[test]
fn layers_use_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for path in files(".rs").iter().filter(|path| path.starts_with(top().join("src"))) {
        let name = shown(path);
        let module = name["src/".len()..].split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "error" | "ctx") {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{name}: module '{module}' has no layer in tests/tidy.rs"));
            continue;
        };
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_upward = layer(&used).is_some_and(|other| {
                    other > own
                        || (own == 0 && used != module)
                        || (own == 2 && other == 2 && used != module)
                });
                if is_upward {
                    wrong.push(format!("{name}:{}: '{module}' must not use '{used}'", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lives_in_sys_only() {
    let wrong: Vec<String> = files(".rs")
        .iter()
        .filter(|path| !path.starts_with(top().join("src/sys")) && !path.ends_with("tidy.rs"))
        .filter(|path| fs::read_to_string(path).unwrap().contains("allow(unsafe_code"))
        .map(|path| shown(path))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn formats_neither_open_nor_print() {
    let wrong: Vec<String> = files(".rs")
        .iter()
        .filter(|path| path.starts_with(top().join("src/format")))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            ["std::fs", "std::net", "std::env", "log::", "File::open"].iter().any(|word| {
                code.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word))
            })
        })
        .map(|path| shown(path))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_is_left_behind() {
    let words =
        ["dbg!(", "todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore", "allow(dead_code"];
    let mut wrong = Vec::new();
    for path in files(".rs").iter().filter(|path| !path.ends_with("tidy.rs")) {
        // Every test crate compiles the shared helpers anew and uses a part of them.
        let is_shared = path.starts_with(top().join("tests/common"));
        let words = words.iter().filter(|word| !(is_shared && word.ends_with("dead_code")));
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            for word in words.clone().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", shown(path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_fits_a_thought() {
    let mut wrong = Vec::new();
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            wrong.push(format!("{}: no header", shown(&path)));
        }
        let is_logic =
            path.starts_with(top().join("src")) || path.starts_with(top().join("applets"));
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        if is_logic && code > FILE_LINES_MAX && !path.ends_with("types.rs") {
            wrong.push(format!("{}: {code} lines before its tests", shown(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_applet_has_a_folder_a_manual_and_a_row() {
    let table = fs::read_to_string(top().join("applets/main.rs")).unwrap();
    let readme = fs::read_to_string(top().join("README.md")).unwrap();
    for entry in fs::read_dir(top().join("applets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() || name == "cli" {
            continue;
        }
        assert!(path.join("manual.md").is_file(), "{name}: no manual.md");
        assert!(table.contains(&format!("{name}::APPLET")), "{name}: not in the table");
        assert!(readme.contains(&format!("`{}`", name.replace('_', "-"))), "{name}: not in README");
    }
}

#[test]
fn top_level_holds_exactly_what_was_agreed() {
    let allowed =
        ["Cargo.toml", "Cargo.lock", "Makefile", "README.md", "LICENSE", "src", "applets", "tests"];
    let mut wrong = Vec::new();
    for entry in fs::read_dir(top()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "target" && !allowed.contains(&name.as_str()) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_dependency_has_an_open_licence_and_a_reason() {
    let licences = [
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "Unlicense",
        "CC0-1.0",
        "Unicode-3.0",
        "bzip2-1.0.6",
        "LLVM-exception",
    ];
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or_default();
        // One acceptable branch of an OR is enough.
        let is_open = licence.split(" OR ").any(|branch| {
            branch
                .split([' ', '/', '(', ')'])
                .filter(|word| !matches!(*word, "" | "AND" | "WITH"))
                .all(|word| licences.contains(&word))
        }) || licence.split('/').any(|word| licences.contains(&word));
        if !is_open {
            wrong.push(format!("{}: licence '{licence}'", package["name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let manifest = fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let mut is_dependency = false;
    let mut has_reason = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_dependency = line.contains("dependencies]");
        } else if line.starts_with('#') {
            has_reason = true;
        } else if line.is_empty() {
            has_reason = false;
        } else if is_dependency {
            assert!(has_reason, "Cargo.toml: no reason above '{line}'");
        }
    }
}
