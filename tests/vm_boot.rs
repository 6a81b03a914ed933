//! The test kernel, an initramfs of the static executable and busybox, and the watch over both.
//!
//! See `tests/common/vm/mod.rs` for what is needed; `make vm-test` provides it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a broken test should panic"
)]

#[path = "common/vm/mod.rs"]
mod vm;

use std::time::Duration;

use vm::Machine;

#[test]
fn the_static_executable_runs_without_anything_else() {
    let machine = Machine::new("the_static_executable_runs_without_anything_else")
        .file("/expect/version", concat!("slipway ", env!("CARGO_PKG_VERSION"), "\n"))
        .script(
            "slipway --version | head -n 1 >/tmp/version
             same version /expect/version /tmp/version
             pass version
             [ \"$(readlink -f /usr/bin/varlinkctl)\" = /bin/slipway ] || fail links 'no varlinkctl'
             pass links",
        );
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["version", "links"]);
}

#[test]
fn a_machine_has_the_hardware_it_was_given() {
    let work = tempfile::Builder::new().prefix("with,comma").tempdir().unwrap();
    let disk = work.path().join("disk");
    std::fs::write(&disk, [b"read me\n".as_slice(), &[0; 1 << 20]].concat()).unwrap();
    let machine = Machine::new("a_machine_has_the_hardware_it_was_given")
        .disk(&disk)
        .smbios("type=1,product=One,,Two")
        .tpm()
        .uefi()
        .cmdline("scenario.word=7")
        .script(
            "[ \"$(head -n 1 /dev/vda)\" = 'read me' ] || fail disk 'other contents'
             must disk sh -c 'echo written | dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null'
             pass disk
             [ \"$(cat /sys/class/dmi/id/product_name)\" = 'One,Two' ] || fail smbios 'other name'
             pass smbios
             [ \"$(cat /sys/class/tpm/tpm0/tpm_version_major)\" = 2 ] || fail tpm 'no TPM 2.0'
             pass tpm
             [ -d /sys/firmware/efi ] || fail uefi 'started by a BIOS'
             pass uefi
             must cmdline grep -qw scenario.word=7 /proc/cmdline
             pass cmdline",
        );
    let Some(report) = machine.boot() else { return };
    report.assert_steps(&["disk", "smbios", "tpm", "uefi", "cmdline"]);
    assert_eq!(&std::fs::read(&disk).unwrap()[512..520], b"written\n");
}

#[test]
fn a_scenario_that_fails_is_a_failure_with_its_reason() {
    let machine = Machine::new("a_scenario_that_fails_is_a_failure_with_its_reason")
        .script("pass first; status second 3 sh -c 'exit 4'; pass third");
    let Some(report) = machine.boot() else { return };
    assert_eq!(report.expect_failure(), "second: 'sh -c exit 4': exit status 4, not 3");
}

#[test]
fn a_kernel_panic_is_a_failure() {
    let machine = Machine::new("a_kernel_panic_is_a_failure")
        .script("pass first; echo c >/proc/sysrq-trigger");
    let Some(report) = machine.boot() else { return };
    let failure = report.expect_failure();
    assert!(failure.starts_with("the kernel: ") && failure.contains("sysrq"), "{failure}");
}

#[test]
fn a_machine_that_falls_silent_is_stopped() {
    let machine = Machine::new("a_machine_that_falls_silent_is_stopped")
        .script("pass first; while :; do sleep 1; done")
        .limits(Duration::from_secs(120), Duration::from_secs(15));
    let Some(report) = machine.boot() else { return };
    assert_eq!(report.expect_failure(), "said nothing for 15 s");
}
