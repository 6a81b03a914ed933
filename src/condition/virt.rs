//! Are we in a container or a virtual machine, and in which?

use std::fs;

use crate::ctx::Ctx;
use crate::sys::cpu;

/// Containers the peer has a name for.
const CONTAINERS: [&str; 9] =
    ["openvz", "lxc", "lxc-libvirt", "systemd-nspawn", "docker", "podman", "rkt", "wsl", "pouch"];

pub(super) fn test(ctx: &Ctx, parameter: &str) -> bool {
    if parameter == "private-users" {
        return has_private_users(ctx);
    }
    // A container in a virtual machine is a container: the innermost counts.
    let (container, vm) = match container(ctx) {
        Some(name) => (Some(name), None),
        None => (None, vm(ctx)),
    };
    match (parameter, crate::out::parse_flag(parameter)) {
        (_, Some(flag)) => flag == (container.is_some() || vm.is_some()),
        ("vm", _) => vm.is_some(),
        ("container", _) => container.is_some(),
        (name, _) => container == Some(name) || vm == Some(name),
    }
}

/// The container we are in.
pub fn container(ctx: &Ctx) -> Option<&'static str> {
    if ctx.proc("vz").exists() && !ctx.proc("bc").exists() {
        return Some("openvz");
    }
    let kernel = text(ctx, "sys/kernel/osrelease");
    if kernel.contains("Microsoft") || kernel.contains("WSL") {
        return Some("wsl");
    }
    let first = |path: &str| {
        fs::read_to_string(ctx.at(path))
            .ok()
            .map(|text| text.lines().next().unwrap_or("").to_owned())
    };
    let environment = || {
        let bytes = fs::read(ctx.proc("1/environ")).ok()?;
        let value =
            bytes.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(b"container="))?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let word = first("/run/host/container-manager")
        .or_else(|| first("/run/systemd/container"))
        .or_else(environment)
        .filter(|word| !word.is_empty());
    match word.as_deref() {
        Some("oci") | None => by_files(ctx).or(word.map(|_| "container-other")),
        Some(word) => {
            Some(CONTAINERS.into_iter().find(|name| *name == word).unwrap_or("container-other"))
        }
    }
}

fn by_files(ctx: &Ctx) -> Option<&'static str> {
    if ctx.at("/run/.containerenv").exists() {
        Some("podman")
    } else if ctx.at("/.dockerenv").exists() {
        Some("docker")
    } else {
        None
    }
}

/// The virtual machine we are in.
pub fn vm(ctx: &Ctx) -> Option<&'static str> {
    let dmi = by_dmi(ctx);
    // These run on other people's hypervisors, or pretend to be one: their own name says more.
    if matches!(dmi, Some("oracle" | "xen" | "amazon" | "parallels" | "google")) {
        return dmi;
    }
    let cpu = text(ctx, "cpuinfo");
    if cpu.lines().any(|line| line.starts_with("vendor_id") && line.ends_with("User Mode Linux")) {
        return Some("uml");
    }
    if let Some(is_guest) = xen(ctx) {
        return is_guest.then_some("xen");
    }
    let signature = by_signature(ctx, &cpu);
    if signature.is_some_and(|name| name != "vm-other") {
        return signature;
    }
    let hypervisor = fs::read_to_string(ctx.sys("hypervisor/type")).ok();
    dmi.or_else(|| hypervisor.map(|name| if name.trim() == "xen" { "xen" } else { "vm-other" }))
        .or_else(|| by_device_tree(ctx))
        .or_else(|| by_sysinfo(ctx))
        .or(signature)
}

fn text(ctx: &Ctx, path: &str) -> String {
    fs::read(ctx.proc(path))
        .map_or_else(|_| String::new(), |b| String::from_utf8_lossy(&b).into_owned())
}

/// Xen's first domain is no guest.
fn xen(ctx: &Ctx) -> Option<bool> {
    let capabilities = fs::read_to_string(ctx.proc("xen/capabilities")).ok()?;
    Some(!capabilities.split(',').any(|word| word.trim() == "control_d"))
}

/// Strings of the firmware begin with these.
fn by_dmi(ctx: &Ctx) -> Option<&'static str> {
    const VENDORS: [(&str, &str); 19] = [
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("KubeVirt", "kvm"),
        ("Amazon EC2", "amazon"),
        ("QEMU", "qemu"),
        ("VMware", "vmware"),
        ("VMW", "vmware"),
        ("innotek GmbH", "oracle"),
        ("VirtualBox", "oracle"),
        ("Oracle Corporation", "oracle"),
        ("Xen", "xen"),
        ("Bochs", "bochs"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
        ("Hyper-V", "microsoft"),
        ("Virtual Machine", "microsoft"),
        ("Apple Virtualization", "apple"),
        ("Google Compute Engine", "google"),
        ("ACRN", "acrn"),
    ];
    ["product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"]
        .iter()
        .find_map(|field| {
            let text = fs::read_to_string(ctx.sys("class/dmi/id").join(field)).ok()?;
            VENDORS.iter().find(|(start, _)| text.starts_with(start)).map(|(_, name)| *name)
        })
}

/// The processor says that there is a hypervisor, and the hypervisor says its name.
fn by_signature(ctx: &Ctx, cpu: &str) -> Option<&'static str> {
    let flags = cpu.lines().find(|line| line.starts_with("flags"))?;
    if !flags.split_ascii_whitespace().any(|flag| flag == "hypervisor") {
        return None;
    }
    // The instruction answers for the machine we run on, so it is asked for that one only.
    let is_own = ctx.proc("") == std::path::Path::new("/proc/");
    let signature = if is_own { cpu::hypervisor_signature() } else { None };
    Some(match signature.as_ref().map(|bytes| bytes.as_slice()) {
        Some(b"XenVMMXenVMM") => "xen",
        Some(b"KVMKVMKVM\0\0\0" | b"Linux KVM Hv") => "kvm",
        Some(b"TCGTCGTCGTCG") => "qemu",
        Some(b"VMwareVMware") => "vmware",
        Some(b"Microsoft Hv") => "microsoft",
        Some(b"bhyve bhyve ") => "bhyve",
        Some(b"QNXQVMBSQG\0\0") => "qnx",
        Some(b"ACRNACRNACRN") => "acrn",
        Some(b"SRESRESRESRE") => "sre",
        Some(b"VirtualApple") => "apple",
        _ => "vm-other",
    })
}

fn by_device_tree(ctx: &Ctx) -> Option<&'static str> {
    let base = ctx.sys("firmware/devicetree/base");
    if let Ok(bytes) = fs::read(base.join("hypervisor/compatible")) {
        let words = String::from_utf8_lossy(&bytes).into_owned();
        return Some(match words.trim_end_matches('\0') {
            "linux,kvm" => "kvm",
            other if other.contains("xen") => "xen",
            other if other.contains("vmware") => "vmware",
            _ => "vm-other",
        });
    }
    let names: Vec<_> = fs::read_dir(&base).ok()?.filter_map(std::result::Result::ok).collect();
    let has_fw_cfg =
        names.iter().any(|entry| entry.file_name().to_string_lossy().contains("fw-cfg"));
    let is_pseries =
        fs::read(base.join("compatible")).is_ok_and(|list| list.starts_with(b"qemu,pseries"));
    (has_fw_cfg || is_pseries).then_some("qemu")
}

/// Mainframes.
fn by_sysinfo(ctx: &Ctx) -> Option<&'static str> {
    let sysinfo = text(ctx, "sysinfo");
    let line = sysinfo.lines().find(|line| line.starts_with("VM00 Control Program:"))?;
    Some(if line.contains("z/VM") { "zvm" } else { "kvm" })
}

/// The memory is hidden from the hypervisor.
///
/// DIFFERS: the peer asks the processor with privileged and vendor-specific means; the kernel's
/// own guest devices and flags say the same.
pub(super) fn is_confidential(ctx: &Ctx) -> bool {
    let devices = ["sev-guest", "tdx_guest", "arm-cca-guest"];
    let cpu = text(ctx, "cpuinfo");
    devices.iter().any(|name| ctx.sys("devices/virtual/misc").join(name).exists())
        || cpu
            .lines()
            .find(|line| line.starts_with("flags"))
            .is_some_and(|flags| flags.split_ascii_whitespace().any(|flag| flag == "tdx_guest"))
}

/// We are root in a user namespace, not on the machine.
fn has_private_users(ctx: &Ctx) -> bool {
    let is_partial = |path: &str| {
        let map = text(ctx, path);
        let words: Vec<&str> = map.split_ascii_whitespace().collect();
        !map.is_empty() && words != ["0", "0", "4294967295"]
    };
    is_partial("self/uid_map")
        || is_partial("self/gid_map")
        || text(ctx, "self/setgroups").trim() == "deny"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(files: &[(&str, &str)]) -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let ctx = Ctx::host([])
            .with_root(dir.path())
            .with_kernel(dir.path().join("proc"), dir.path().join("sys"));
        (dir, ctx)
    }

    #[test]
    fn containers_are_known_by_their_manager_environment_or_files() {
        for (path, content, name) in [
            ("run/host/container-manager", "systemd-nspawn\n", "systemd-nspawn"),
            ("run/systemd/container", "lxc", "lxc"),
            ("proc/1/environ", "A=b\0container=podman\0", "podman"),
            ("proc/1/environ", "container=made-up\0", "container-other"),
            ("proc/1/environ", "container=oci\0", "container-other"),
            (".dockerenv", "", "docker"),
            ("run/.containerenv", "", "podman"),
            ("proc/sys/kernel/osrelease", "5.15-microsoft-standard-WSL2", "wsl"),
            ("proc/vz/x", "", "openvz"),
        ] {
            let (_dir, ctx) = sandbox(&[(path, content)]);
            assert_eq!(container(&ctx), Some(name), "{path}");
            assert!(test(&ctx, "container") && test(&ctx, "yes") && !test(&ctx, "vm"));
        }
        assert_eq!(container(&sandbox(&[]).1), None);
    }

    #[test]
    fn machines_are_known_by_firmware_and_processor() {
        for (path, content, name) in [
            ("sys/class/dmi/id/sys_vendor", "QEMU\n", "qemu"),
            ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n", "amazon"),
            ("sys/class/dmi/id/product_name", "VirtualBox\n", "oracle"),
            ("sys/hypervisor/type", "xen\n", "xen"),
            ("proc/xen/capabilities", "\n", "xen"),
            ("proc/cpuinfo", "flags\t: fpu hypervisor\n", "vm-other"),
            ("proc/cpuinfo", "vendor_id\t: User Mode Linux\n", "uml"),
            ("sys/firmware/devicetree/base/hypervisor/compatible", "linux,kvm\0", "kvm"),
            ("proc/sysinfo", "VM00 Control Program: z/VM 6.4\n", "zvm"),
        ] {
            let (_dir, ctx) = sandbox(&[(path, content)]);
            assert_eq!(vm(&ctx), Some(name), "{path}");
            assert!(test(&ctx, "vm") && test(&ctx, name) && !test(&ctx, "no"));
        }
        let (_dir, ctx) = sandbox(&[("proc/xen/capabilities", "control_d\n")]);
        assert_eq!(vm(&ctx), None);
        assert!(test(&ctx, "no"));
    }

    #[test]
    fn private_users_are_a_map_that_is_not_the_whole() {
        let whole = "         0          0 4294967295\n";
        let (_dir, ctx) = sandbox(&[("proc/self/uid_map", whole), ("proc/self/gid_map", whole)]);
        assert!(!test(&ctx, "private-users"));
        let (_dir, ctx) = sandbox(&[("proc/self/uid_map", "0 1000 1\n")]);
        assert!(test(&ctx, "private-users"));
    }
}
