//! `ConditionSecurity=`: which protection is on. All of it is decided from what the kernel shows.

use std::fs;
use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};

use super::host::is_efi;
use super::{Tested, virt};
use crate::conf::cmdline::Cmdline;
use crate::ctx::Ctx;

const GLOBAL_VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const LOADER_VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// PCR that a unified kernel image is measured into.
const KERNEL_BOOT_PCR: u32 = 11;

pub(super) fn test(ctx: &Ctx, parameter: &str) -> Tested {
    Ok(match parameter {
        "selinux" => ctx.sys("fs/selinux/enforce").exists(),
        "smack" => ctx.sys("fs/smackfs").exists(),
        "apparmor" => starts_with(&fs::read(ctx.sys("module/apparmor/parameters/enabled")), b"Y"),
        "ima" => ctx.sys("kernel/security/ima").exists(),
        "tomoyo" => ctx.sys("kernel/security/tomoyo/version").exists(),
        "audit" => has_audit(),
        "uefi-secureboot" => is_efi(ctx) && secure_boot(ctx),
        "tpm2" => tpm_firmware(ctx) && has_tpm_device(ctx),
        "cvm" => virt::is_confidential(ctx),
        "measured-uki" => measured_uki(ctx)?,
        "measured-os" => measured_os(ctx)?,
        _ => false,
    })
}

fn starts_with(bytes: &io::Result<Vec<u8>>, start: &[u8]) -> bool {
    bytes.as_ref().is_ok_and(|bytes| bytes.starts_with(start))
}

/// The kernel has an audit socket and lets us open one.
fn has_audit() -> bool {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::AUDIT))
        .is_ok()
}

/// A variable's value without the four attribute bytes in front of it.
fn efi_variable(ctx: &Ctx, name: &str, vendor: &str) -> io::Result<Vec<u8>> {
    let path = ctx.sys(format!("firmware/efi/efivars/{name}-{vendor}"));
    let bytes = fs::read(path)?;
    bytes.get(4..).map(<[u8]>::to_vec).ok_or_else(|| io::Error::from_raw_os_error(61))
}

/// A variable that holds UTF-16 text.
fn efi_text(ctx: &Ctx, name: &str) -> io::Result<String> {
    let bytes = efi_variable(ctx, name, LOADER_VENDOR)?;
    let units: Vec<u16> =
        bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let text = String::from_utf16(&units).map_err(|_| io::Error::from_raw_os_error(22))?;
    Ok(text.trim_end_matches('\0').to_owned())
}

fn secure_boot(ctx: &Ctx) -> bool {
    efi_variable(ctx, "SecureBoot", GLOBAL_VENDOR).is_ok_and(|value| value.first() == Some(&1))
}

/// The firmware knows the TPM. What the boot loader found out wins, even when it says no.
fn tpm_firmware(ctx: &Ctx) -> bool {
    if !is_efi(ctx) {
        return false;
    }
    let banks = efi_text(ctx, "LoaderTpm2ActivePcrBanks").ok().and_then(|text| {
        let digits = text.strip_prefix("0x").unwrap_or(&text);
        u32::from_str_radix(digits, 16).ok()
    });
    if let Some(banks) = banks {
        return banks != 0;
    }
    ctx.sys("firmware/acpi/tables/TPM2").exists()
        || (ctx.sys("kernel/security/tpm0/binary_bios_measurements").exists()
            && starts_with(&fs::read(ctx.sys("class/tpm/tpm0/tpm_version_major")), b"2"))
}

fn has_tpm_device(ctx: &Ctx) -> bool {
    fs::read_dir(ctx.sys("class/tpmrm")).is_ok_and(|mut entries| entries.next().is_some())
}

/// systemd-stub has measured the kernel into the PCR we expect.
fn measured_uki(ctx: &Ctx) -> io::Result<bool> {
    if !tpm_firmware(ctx) {
        return Ok(false);
    }
    match efi_text(ctx, "StubPcrKernelImage") {
        Ok(text) => match text.parse::<u32>() {
            Ok(KERNEL_BOOT_PCR) => Ok(true),
            Ok(_) => Err(io::Error::from_raw_os_error(66)),
            Err(_) => Err(io::Error::from_raw_os_error(22)),
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// The environment, then the kernel command line, then the stub.
fn measured_os(ctx: &Ctx) -> Tested {
    if let Some(flag) = ctx.env("SYSTEMD_FORCE_MEASURE").and_then(crate::out::parse_flag) {
        return Ok(flag);
    }
    match Cmdline::load(ctx)?.flag("systemd.tpm2_measured_os", false) {
        Some(flag) => Ok(flag),
        None => Ok(measured_uki(ctx)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &tempfile::TempDir, path: &str, content: &[u8]) {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn sandbox() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        put(&dir, "cmdline", b"quiet\n");
        let ctx =
            Ctx::host([]).with_root(dir.path()).with_kernel(dir.path(), dir.path().join("sys"));
        (dir, ctx)
    }

    #[test]
    fn measured_os_asks_environment_then_command_line_then_stub() {
        let (dir, ctx) = sandbox();
        assert!(!test(&ctx, "measured-os").unwrap());
        put(&dir, "cmdline", b"systemd.tpm2_measured_os\n");
        assert!(test(&ctx, "measured-os").unwrap());
        put(&dir, "cmdline", b"rd.systemd.tpm2_measured_os=1\n");
        assert!(!test(&ctx, "measured-os").unwrap());
        let forced = ctx.with_env("SYSTEMD_FORCE_MEASURE", "1");
        assert!(test(&forced, "measured-os").unwrap());
        assert!(!test(&forced, "measured-uki").unwrap());
    }

    #[test]
    fn measured_uki_needs_a_firmware_tpm_and_the_right_register() {
        let (dir, ctx) = sandbox();
        let stub = format!("sys/firmware/efi/efivars/StubPcrKernelImage-{LOADER_VENDOR}");
        put(&dir, &stub, b"\x06\0\0\x001\x001\0\0\0");
        assert!(!test(&ctx, "measured-uki").unwrap());
        put(&dir, "sys/firmware/acpi/tables/TPM2", b"");
        assert!(test(&ctx, "measured-uki").unwrap());
        assert!(test(&ctx, "measured-os").unwrap());
        put(&dir, &stub, b"\x06\0\0\x009\0");
        assert!(test(&ctx, "measured-uki").is_err());
        let banks = format!("sys/firmware/efi/efivars/LoaderTpm2ActivePcrBanks-{LOADER_VENDOR}");
        put(&dir, &banks, b"\x06\0\0\x000\0x\x000\0");
        assert!(!test(&ctx, "measured-uki").unwrap());
    }

    #[test]
    fn secure_boot_is_the_byte_behind_the_attributes() {
        let (dir, ctx) = sandbox();
        let path = format!("sys/firmware/efi/efivars/SecureBoot-{GLOBAL_VENDOR}");
        put(&dir, &path, b"\x06\0\0\0\x01");
        assert!(test(&ctx, "uefi-secureboot").unwrap());
        put(&dir, &path, b"\x06\0\0");
        assert!(!test(&ctx, "uefi-secureboot").unwrap());
    }

    #[test]
    fn modules_of_the_kernel_are_seen() {
        let (dir, ctx) = sandbox();
        put(&dir, "sys/module/apparmor/parameters/enabled", b"Y\n");
        put(&dir, "sys/kernel/security/ima/ascii", b"");
        assert!(test(&ctx, "apparmor").unwrap() && test(&ctx, "ima").unwrap());
        assert!(!test(&ctx, "selinux").unwrap() && !test(&ctx, "tpm2").unwrap());
    }
}
