//! Conditions: does this machine have that property? (`Condition…=` of systemd.unit(5), used by
//! the updater as `SuggestOn…=`.)
//!
//! What belongs to the running machine (kernel, firmware, host name, virtualization) is read from
//! the kernel; what belongs to the operating system from the root of the context.
//!
//! DIFFERS: with `--root=` the peer asks the host for os-release, machine ID and machine tags; we
//! ask the tree that is worked on, because the answer is stored there.

mod compare;
mod host;
mod security;
mod version;
mod virt;

use std::fmt;

pub use self::virt::{container, vm};
use crate::conf::value::Bad;
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CPU architecture.
    Architecture,
    /// UEFI, device tree, SMBIOS fields.
    Firmware,
    /// Virtual machine, container, user namespace.
    Virtualization,
    /// Host name, machine ID, boot ID, product UUID.
    Host,
    /// A stable share of all machines.
    Fraction,
    /// A word on the kernel command line.
    KernelCommandLine,
    /// Version of the kernel, systemd or glibc.
    Version,
    /// A credential that was passed in.
    Credential,
    /// A security technology.
    Security,
    /// A field of os-release.
    OsRelease,
    /// A tag in machine-info.
    MachineTag,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Architecture,
        Self::Firmware,
        Self::Virtualization,
        Self::Host,
        Self::Fraction,
        Self::KernelCommandLine,
        Self::Version,
        Self::Credential,
        Self::Security,
        Self::OsRelease,
        Self::MachineTag,
    ];

    /// The name, as behind `Condition` and `SuggestOn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Architecture => "Architecture",
            Self::Firmware => "Firmware",
            Self::Virtualization => "Virtualization",
            Self::Host => "Host",
            Self::Fraction => "Fraction",
            Self::KernelCommandLine => "KernelCommandLine",
            Self::Version => "Version",
            Self::Credential => "Credential",
            Self::Security => "Security",
            Self::OsRelease => "OSRelease",
            Self::MachineTag => "MachineTag",
        }
    }

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub kind: Kind,
    /// `|`: of all conditions with this mark, one must hold.
    pub is_trigger: bool,
    /// `!`.
    pub is_negated: bool,
    /// What is expected.
    pub parameter: String,
}

impl Condition {
    /// Reads `[|][!]PARAMETER`. Nothing is no condition: it clears the list.
    pub fn parse(kind: Kind, value: &str) -> Option<Self> {
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        let (is_trigger, value) = strip(value, '|');
        let (is_negated, value) = strip(value, '!');
        Some(Self { kind, is_trigger, is_negated, parameter: value.to_owned() })
    }

    /// Does it hold here?
    ///
    /// # Errors
    /// The parameter is malformed, or what it asks about cannot be read.
    pub fn test(&self, ctx: &Ctx) -> Result<bool> {
        let parameter = self.parameter.as_str();
        let holds = match self.kind {
            Kind::Architecture => Ok(host::architecture(ctx, parameter)),
            Kind::Firmware => host::firmware(ctx, parameter),
            Kind::Virtualization => Ok(virt::test(ctx, parameter)),
            Kind::Host => Ok(host::host(ctx, parameter)),
            Kind::Fraction => host::fraction(ctx, parameter),
            Kind::KernelCommandLine => host::command_line(ctx, parameter),
            Kind::Version => version::test(ctx, parameter),
            Kind::Credential => Ok(host::credential(ctx, parameter)),
            Kind::Security => security::test(ctx, parameter),
            Kind::OsRelease => host::os_release(ctx, parameter),
            Kind::MachineTag => host::machine_tag(ctx, parameter),
        };
        match holds {
            Ok(holds) => Ok(holds != self.is_negated),
            Err(cause) => {
                Err(Error::because(format!("Couldn't determine result for {self}"), cause))
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trigger = if self.is_trigger { "|" } else { "" };
        let negation = if self.is_negated { "!" } else { "" };
        write!(f, "Condition{}={trigger}{negation}{}", self.kind.name(), self.parameter)
    }
}

fn strip(value: &str, mark: char) -> (bool, &str) {
    value.strip_prefix(mark).map_or((false, value), |rest| (true, rest.trim_start()))
}

/// Evaluates `Condition{name}={value}`.
///
/// # Errors
/// There is no such condition; else see [`Condition::test`].
pub fn evaluate(name: &str, value: &str, ctx: &Ctx) -> Result<bool> {
    let kind = Kind::of(name)
        .ok_or_else(|| Error::new(format!("Unknown condition '{name}'")).with_errno(22))?;
    Condition::parse(kind, value).map_or(Ok(true), |condition| condition.test(ctx))
}

/// True where all conditions hold and, if some are triggers, at least one of these.
///
/// # Errors
/// The first condition whose result could not be determined, unless one that failed decides.
pub fn all(conditions: &[Condition], ctx: &Ctx) -> Result<bool> {
    let mut has_triggers = false;
    let mut is_triggered = false;
    let mut trouble = None;
    for condition in conditions {
        has_triggers |= condition.is_trigger;
        match condition.test(ctx) {
            Ok(holds) if condition.is_trigger => is_triggered |= holds,
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(err) => {
                trouble.get_or_insert(err);
            }
        }
    }
    match trouble {
        Some(err) => Err(err),
        None => Ok(is_triggered || !has_triggers),
    }
}

/// What a test ends in when its parameter is malformed.
type Tested = std::result::Result<bool, Box<dyn std::error::Error + Send + Sync>>;

fn invalid<T>() -> std::result::Result<T, Box<dyn std::error::Error + Send + Sync>> {
    Err(errno_of(Bad::Invalid))
}

fn errno_of(bad: Bad) -> Box<dyn std::error::Error + Send + Sync> {
    std::io::Error::from_raw_os_error(bad.errno()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::fs;

    /// The world of the vectors as a sandbox.
    fn world(vectors: &Value) -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in vectors["world"].as_object().unwrap() {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.as_str().unwrap()).unwrap();
        }
        let proc = dir.path().join("proc");
        fs::write(proc.join("sys/kernel/arch"), "x86_64\n").unwrap();
        fs::write(proc.join("sys/kernel/osrelease"), "6.18.44\n").unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(
            dir.path().join("usr/lib/libc.so.6"),
            "\x7fELF…GNU C Library (X) stable release version 2.42.\n",
        )
        .unwrap();
        let ctx = Ctx::host([])
            .with_root(dir.path())
            .with_kernel(proc, dir.path().join("sys"))
            .with_env("CREDENTIALS_DIRECTORY", dir.path().join("creds"));
        (dir, ctx)
    }

    #[test]
    fn all_vectors_of_systemd_analyze_condition() {
        let text = include_str!("../../tests/vectors/condition/condition.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let (_dir, ctx) = world(&vectors);
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() > 200);
        let mut wrong = Vec::new();
        for case in cases {
            let (name, value) = (case["name"].as_str().unwrap(), case["value"].as_str().unwrap());
            let result = match evaluate(name, value, &ctx) {
                Ok(holds) => Value::from(holds),
                Err(err) => err.to_string().rsplit(": ").next().unwrap().into(),
            };
            if result != case["result"] {
                wrong.push(format!("{name}={value}: {result}, expected {}", case["result"]));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn random_command_lines_are_split_as_by_the_peer() {
        for row in include_str!("../../tests/vectors/cmdline/random.jsonl").lines() {
            let row: Value = serde_json::from_str(row).unwrap();
            let ctx = Ctx::host([]).with_env("SYSTEMD_PROC_CMDLINE", row["line"].as_str().unwrap());
            let word = row["word"].as_str().unwrap();
            assert_eq!(row["result"], evaluate("KernelCommandLine", word, &ctx).unwrap(), "{row}");
        }
    }

    #[test]
    fn one_trigger_is_enough_but_does_not_excuse_the_others() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/kernel")).unwrap();
        fs::write(dir.path().join("sys/kernel/hostname"), "vm\n").unwrap();
        let ctx = Ctx::host([]).with_root(dir.path()).with_kernel(dir.path(), dir.path());
        let list = |values: &[&str]| -> Vec<Condition> {
            values.iter().filter_map(|value| Condition::parse(Kind::Host, value)).collect()
        };
        for (values, holds) in [
            (&["|x", "|vm"][..], true),
            (&["|x", "|y", "vm"], false),
            (&["|vm", "x"], false),
            (&["| ! x"], true),
            (&["!|x"], true),
            (&["||vm"], false),
            (&["!"], true),
            (&[], true),
        ] {
            assert_eq!(all(&list(values), &ctx).unwrap(), holds, "{values:?}");
        }
    }

    #[test]
    fn undeterminable_condition_is_an_error_unless_another_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]).with_root(dir.path()).with_kernel(dir.path(), dir.path());
        let half = Condition::parse(Kind::Fraction, "50%").unwrap();
        let never = Condition::parse(Kind::Architecture, "bogus").unwrap();
        assert_eq!(
            all(std::slice::from_ref(&half), &ctx).unwrap_err().to_string(),
            "Couldn't determine result for ConditionFraction=50%: No such file or directory"
        );
        assert!(!all(&[half, never], &ctx).unwrap());
    }
}
