//! `%` specifiers in configuration values.
//!
//! What describes the operating system (os-release, machine ID) comes from the root that is worked
//! on; what describes the running machine (host name, kernel, boot ID, architecture) from the
//! kernel, as in the peer.

use std::fmt;
use std::path::Path;

use super::os_release::OsRelease;
use crate::ctx::Ctx;
use crate::sys::fs::chase;

/// Longest result for names, versions, patterns and URLs.
pub const NAME_MAX: usize = 255;
/// Longest result for paths.
pub const PATH_MAX: usize = 4095;

/// Why a value could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandError {
    /// No such specifier.
    Unknown(char),
    /// It exists but has no value here.
    Unavailable(char, String),
    /// The result is longer than this.
    TooLong(usize),
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(letter) => write!(f, "unknown specifier '%{letter}'"),
            Self::Unavailable(letter, why) => write!(f, "specifier '%{letter}': {why}"),
            Self::TooLong(max) => write!(f, "longer than {max} bytes"),
        }
    }
}

impl std::error::Error for ExpandError {}

/// Replaces specifiers. `%%` is a percent sign; a percent sign before anything but a letter or
/// digit stays.
///
/// # Errors
/// See [`ExpandError`].
pub fn expand(ctx: &Ctx, text: &str, max: usize) -> Result<String, ExpandError> {
    expand_with(ctx, text, max, &|_| None)
}

/// As [`expand`], with specifiers that only one key knows; they come first.
///
/// # Errors
/// See [`ExpandError`].
pub fn expand_with(
    ctx: &Ctx,
    text: &str,
    max: usize,
    own: &dyn Fn(char) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = if letter == '%' { letters.peek().copied() } else { None };
        match next {
            Some('%') => {
                letters.next();
                expanded.push('%');
            }
            Some(name) if name.is_ascii_alphanumeric() => {
                letters.next();
                expanded.push_str(&own(name).map_or_else(|| value(ctx, name), Ok)?);
            }
            _ => expanded.push(letter),
        }
    }
    if expanded.len() > max { Err(ExpandError::TooLong(max)) } else { Ok(expanded) }
}

fn value(ctx: &Ctx, name: char) -> Result<String, ExpandError> {
    let unavailable = |why: String| ExpandError::Unavailable(name, why);
    let release = |field: &str| {
        OsRelease::load(ctx)
            .map(|release| release.get(field).to_owned())
            .map_err(|err| unavailable(err.to_string()))
    };
    match name {
        'a' => architecture(ctx)
            .map(str::to_owned)
            .ok_or_else(|| unavailable("unknown architecture".into())),
        'A' => release("IMAGE_VERSION"),
        'b' => first_line(&ctx.proc("sys/kernel/random/boot_id"))
            .map(|id| id.replace('-', ""))
            .filter(|id| is_id(id))
            .ok_or_else(|| unavailable("no boot ID".into())),
        'B' => release("BUILD_ID"),
        'H' => Ok(hostname(ctx)),
        'l' => Ok(hostname(ctx).split('.').next().unwrap_or_default().to_owned()),
        'm' => machine_id(ctx).ok_or_else(|| unavailable("no machine ID".into())),
        'M' => release("IMAGE_ID"),
        'o' => release("ID"),
        'v' => first_line(&ctx.proc("sys/kernel/osrelease"))
            .ok_or_else(|| unavailable("no kernel release".into())),
        'w' => release("VERSION_ID"),
        'W' => release("VARIANT_ID"),
        'T' => Ok(temporary(ctx, "/tmp")),
        'V' => Ok(temporary(ctx, "/var/tmp")),
        _ => Err(ExpandError::Unknown(name)),
    }
}

/// The machine ID of the root, unless it is not there, `uninitialized` or malformed.
pub fn machine_id(ctx: &Ctx) -> Option<String> {
    let path = chase(ctx.root(), Path::new("/etc/machine-id")).ok()?;
    let id = first_line(&path)?.to_ascii_lowercase();
    (is_id(&id) && id.bytes().any(|digit| digit != b'0')).then_some(id)
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The name of the running machine; `localhost` where the kernel has none.
pub fn hostname(ctx: &Ctx) -> String {
    first_line(&ctx.proc("sys/kernel/hostname"))
        .filter(|name| !name.is_empty() && name != "(none)")
        .unwrap_or_else(|| "localhost".to_owned())
}

fn first_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// The environment names a temporary directory for the host only, and only one that exists.
fn temporary(ctx: &Ctx, default: &str) -> String {
    if ctx.is_host() {
        for name in ["TMPDIR", "TEMP", "TMP"] {
            if let Some(dir) = ctx.env(name)
                && dir.starts_with('/')
                && super::value::is_normalized(dir)
                && Path::new(dir).is_dir()
            {
                return dir.to_owned();
            }
        }
    }
    default.to_owned()
}

/// The machine's architecture in systemd's words; none for one that systemd does not know.
pub fn architecture(ctx: &Ctx) -> Option<&'static str> {
    let machine = first_line(&ctx.proc("sys/kernel/arch")).unwrap_or_else(|| {
        // Kernels before 6.1 have no such file.
        rustix::system::uname().machine().to_string_lossy().into_owned()
    });
    architecture_of(&machine)
}

/// systemd's word for what uname(1) calls a machine.
pub fn architecture_of(machine: &str) -> Option<&'static str> {
    Some(match machine {
        "x86_64" => "x86-64",
        "i386" | "i486" | "i586" | "i686" => "x86",
        "aarch64" => "arm64",
        "aarch64_be" => "arm64-be",
        "armv8b" | "armv7b" | "armv7lb" | "armv6lb" | "armv5b" | "armv4b" | "armv4tb" => "arm-be",
        arm if arm.starts_with("armv") => "arm",
        "riscv64" => "riscv64",
        "riscv32" => "riscv32",
        "ppc64le" => "ppc64-le",
        "ppc64" => "ppc64",
        "ppcle" => "ppc-le",
        "ppc" => "ppc",
        "s390x" => "s390x",
        "s390" => "s390",
        "loongarch64" => "loongarch64",
        "ia64" => "ia64",
        "parisc64" => "parisc64",
        "parisc" => "parisc",
        "sparc64" => "sparc64",
        "sparc" => "sparc",
        "mips64" if cfg!(target_endian = "little") => "mips64-le",
        "mips64" => "mips64",
        "mips" if cfg!(target_endian = "little") => "mips-le",
        "mips" => "mips",
        alpha if alpha.starts_with("alpha") => "alpha",
        "m68k" => "m68k",
        "tilegx" => "tilegx",
        "crisv32" => "cris",
        "nios2" => "nios2",
        "arc" => "arc",
        "arceb" => "arc-be",
        "sh5" => "sh64",
        sh if sh.starts_with("sh") => "sh",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sandbox() -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("root/etc/os-release", "ID=foo\nIMAGE_VERSION=7\nVERSION_ID=1.2\nVARIANT_ID=v\n");
        put("root/etc/machine-id", "0123456789ABCDEF0123456789abcdef\n");
        put("proc/sys/kernel/arch", "aarch64\n");
        put("proc/sys/kernel/hostname", "vm.example.com\n");
        put("proc/sys/kernel/osrelease", "6.18.44\n");
        put("proc/sys/kernel/random/boot_id", "307d0c7e-6f28-4c80-9dc8-b803a5e3bc6b\n");
        let ctx = Ctx::host([])
            .with_root(dir.path().join("root"))
            .with_kernel(dir.path().join("proc"), "/sys");
        (dir, ctx)
    }

    #[test]
    fn all_specifiers_are_expanded() {
        let (_dir, ctx) = sandbox();
        let text = "%a|%A|%b|%B|%H|%l|%m|%M|%o|%v|%w|%W|%T|%V|%%|%|%-%";
        assert_eq!(
            expand(&ctx, text, NAME_MAX).unwrap(),
            "arm64|7|307d0c7e6f284c809dc8b803a5e3bc6b||vm.example.com|vm|\
             0123456789abcdef0123456789abcdef||foo|6.18.44|1.2|v|/tmp|/var/tmp|%|%|%-%"
        );
    }

    #[test]
    fn unknown_letters_and_long_results_are_refused() {
        let (_dir, ctx) = sandbox();
        for letter in "gGjkKpPLdhiInNsStuUCEyYzxXrRfFJOQDZce1".chars() {
            assert_eq!(
                expand(&ctx, &format!("a%{letter}"), NAME_MAX),
                Err(ExpandError::Unknown(letter))
            );
        }
        assert_eq!(expand(&ctx, &"a".repeat(255), 255).unwrap().len(), 255);
        assert_eq!(expand(&ctx, &"a".repeat(256), 255), Err(ExpandError::TooLong(255)));
    }

    #[test]
    fn missing_or_malformed_identity_is_no_empty_string() {
        let (dir, ctx) = sandbox();
        for bad in ["uninitialized\n", "", "xx\n", "01234567-89ab-cdef-0123-456789abcdef\n"] {
            fs::write(dir.path().join("root/etc/machine-id"), bad).unwrap();
            assert!(matches!(expand(&ctx, "%m", 255), Err(ExpandError::Unavailable('m', _))));
        }
        fs::remove_file(dir.path().join("root/etc/os-release")).unwrap();
        assert!(matches!(expand(&ctx, "%A", 255), Err(ExpandError::Unavailable('A', _))));
    }

    #[test]
    fn temporary_directory_of_the_environment_counts_on_the_host_alone() {
        let dir = tempfile::tempdir().unwrap();
        let host = Ctx::host([]).with_env("TMPDIR", dir.path());
        assert_eq!(expand(&host, "%T", 4095).unwrap(), dir.path().to_str().unwrap());
        let other = host.clone().with_root("/nowhere");
        assert_eq!(expand(&other, "%T%V", 4095).unwrap(), "/tmp/var/tmp");
        let relative = Ctx::host([]).with_env("TMPDIR", "x").with_env("TMP", "/does/not/exist");
        assert_eq!(expand(&relative, "%T", 4095).unwrap(), "/tmp");
    }
}
