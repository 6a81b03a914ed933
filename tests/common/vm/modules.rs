//! Modules of a distribution's kernel: which of them a scenario needs, and in which order.
//!
//! The kernel's configuration lies beside it (`config-RELEASE`), its modules in
//! `../lib/modules/RELEASE`, with the dependencies depmod(8) found in `modules.dep`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Module of a configuration switch where it is not the same in lower case.
const NAMES: &[(&str, &str)] = &[("PACKET", "af_packet"), ("EFIVAR_FS", "efivarfs")];

/// File name and contents of the modules for these switches, in the order of loading, or the reason
/// why the kernel does not suit.
pub fn find(kernel: &Path, switches: &[&str]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let release = name.strip_prefix("vmlinuz-").ok_or("not named vmlinuz-RELEASE")?;
    let config = read(&kernel.with_file_name(format!("config-{release}")))?;
    let tree = kernel.parent().unwrap().join("../lib/modules").join(release);
    let mut paths: Vec<String> = Vec::new();
    let mut dependencies = None;
    for switch in switches {
        let value = config
            .lines()
            .find_map(|line| line.strip_prefix("CONFIG_")?.strip_prefix(switch)?.strip_prefix('='));
        match value {
            Some("y") => {}
            Some("m") => {
                if dependencies.is_none() {
                    dependencies = Some(parse(&read(&tree.join("modules.dep"))?));
                }
                let lower = switch.to_lowercase();
                let alias = NAMES.iter().find(|(name, _)| name == switch);
                let module = alias.map_or(lower.as_str(), |(_, module)| module);
                let chain = dependencies.as_ref().and_then(|found| found.get(module));
                let chain = chain.ok_or_else(|| format!("no module {module}"))?;
                for path in chain {
                    if !paths.contains(path) {
                        paths.push(path.clone());
                    }
                }
            }
            _ => return Err(format!("CONFIG_{switch} is off")),
        }
    }
    paths.iter().map(|path| Ok((stem(path), unpacked(&tree.join(path))?))).collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
fn stem(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

/// Each module after all it needs; `modules.dep` has them the other way round.
fn parse(text: &str) -> HashMap<String, Vec<String>> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(path, needs)| {
            let mut chain: Vec<String> =
                needs.split_whitespace().rev().map(str::to_owned).collect();
            chain.push(path.to_owned());
            (stem(path), chain)
        })
        .collect()
}

/// A module as insmod of busybox takes it.
fn unpacked(path: &Path) -> Result<Vec<u8>, String> {
    let tool = match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).map_err(|error| format!("{}: {error}", path.display())),
    };
    let output = Command::new(tool).arg("-dc").arg(path).output();
    let output = output.map_err(|error| format!("{tool}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{tool} -dc {}: {}", path.display(), output.status));
    }
    Ok(output.stdout)
}
