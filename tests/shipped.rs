//! The executable as it is shipped: static, position independent, small, and alive without a libc.
//!
//! `SLIPWAY_STATIC` names it; `make test` builds and sets it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test"
)]

use std::path::PathBuf;
use std::process::Command;

use goblin::elf::program_header::{PT_GNU_STACK, PT_INTERP};

/// The budget of the full flavour.
const SIZE_BYTES_MAX: u64 = 5 << 20;

fn shipped(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("SLIPWAY_STATIC").map(PathBuf::from);
    if path.is_none() {
        println!(
            "SKIP {test}: SLIPWAY_STATIC does not name the static executable (make test does)"
        );
    }
    path
}

#[test]
fn it_links_nothing_and_needs_no_loader() {
    let Some(path) = shipped("it_links_nothing_and_needs_no_loader") else { return };
    let bytes = std::fs::read(path).unwrap();
    let elf = goblin::elf::Elf::parse(&bytes).unwrap();
    assert!(elf.libraries.is_empty(), "{:?}", elf.libraries);
    assert!(elf.interpreter.is_none() && elf.program_headers.iter().all(|p| p.p_type != PT_INTERP));
    assert_eq!(elf.header.e_type, goblin::elf::header::ET_DYN, "not position independent");
    let is_stack_plain =
        elf.program_headers.iter().any(|p| p.p_type == PT_GNU_STACK && !p.is_executable());
    assert!(is_stack_plain, "the stack is executable");
}

#[test]
fn it_keeps_its_budget() {
    let Some(path) = shipped("it_keeps_its_budget") else { return };
    let size = std::fs::metadata(path).unwrap().len();
    assert!(size <= SIZE_BYTES_MAX, "{size} bytes, {SIZE_BYTES_MAX} allowed");
}

#[test]
fn every_applet_answers_in_an_empty_root() {
    let Some(path) = shipped("every_applet_answers_in_an_empty_root") else { return };
    if !rustix::process::geteuid().is_root() {
        println!("SKIP every_applet_answers_in_an_empty_root: chroot needs root");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(path, root.path().join("slipway")).unwrap();
    let run = |args: &[&str]| {
        let output =
            Command::new("chroot").arg(root.path()).arg("/slipway").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let names = run(&["--list"]);
    assert!(names.lines().any(|name| name == "update"), "{names}");
    for name in names.lines() {
        assert!(run(&[name, "--version"]).starts_with("slipway "), "{name}");
        assert!(!run(&[name, "--help"]).is_empty(), "{name}");
    }
}
