//! The init scripts: what they do with the real commands replaced by ones that write down how they
//! were called, in every shell that is here.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; a skip is told on standard output"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the scripts expect the one that all of them call.
const INSTALLED: &str = "/usr/lib/slipway/imds-boot";

fn init() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("applets/imds/init")
}

/// Command lines of the shells to try, without the script.
fn shells() -> Vec<Vec<&'static str>> {
    let all: [&[&str]; 4] = [&["sh"], &["dash"], &["busybox", "ash"], &["bash", "--posix"]];
    let works = |shell: &&&[&str]| {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).args(["-c", ":"]).stderr(Stdio::null());
        let works = command.status().is_ok_and(|status| status.success());
        if !works {
            println!("SKIP shell {}: not here", shell.join(" "));
        }
        works
    };
    all.iter().filter(works).map(|shell| shell.to_vec()).collect()
}

/// A directory with commands that append their names and arguments to `calls` and end as told.
struct Stubs(tempfile::TempDir);

impl Stubs {
    fn new(statuses: &[(&str, i32)]) -> Self {
        let stubs = Self(tempfile::tempdir().unwrap());
        for name in ["sleep", "sv", "start-stop-daemon"] {
            stubs.command(name, "exit 0");
        }
        for (name, status) in statuses {
            stubs.command(name, &format!("exit {status}"));
        }
        stubs.file("cmdline", "quiet\n");
        stubs.file("uptime", "100.25 7.50\n");
        stubs.file("inittab", "::sysinit:/etc/init.d/rcS\n");
        stubs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, name: &str, end: &str) {
        let calls = self.path("calls");
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\n{end}\n", calls.display());
        self.file(name, &text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of ours; the status, and what was called, one call a line.
    fn run(&self, shell: &[&str], script: &Path, args: &[&str]) -> (i32, Vec<String>) {
        let path = format!("{}:{}", self.0.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .arg(script)
            .args(args)
            .env("PATH", path)
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("IMDS_CMDLINE", self.path("cmdline"))
            .env("IMDS_PID_FILE", self.path("pid"))
            .env("IMDS_UPTIME", self.path("uptime"))
            .env("IMDS_INITTAB", self.path("inittab"))
            .env("IMDS_BOOT", self.path("imds-boot"))
            .env("IMDS_PAUSE", "0")
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        // busybox has a sleep of its own, which tells nobody.
        let calls = calls.lines().filter(|line| !line.starts_with("sleep"));
        let calls = calls.map(|line| line.trim_end().to_owned()).collect();
        (output.status.code().unwrap(), calls)
    }

    /// A copy of a script that calls the stub instead of what is installed.
    fn copy(&self, script: &str, after: &str) -> PathBuf {
        let text = fs::read_to_string(init().join(script)).unwrap();
        assert!(text.contains(INSTALLED), "{script}");
        let boot = self.path("imds-boot");
        let text = text.replace(INSTALLED, boot.to_str().unwrap());
        self.file("script", &format!("{text}\n{after}\n"));
        self.path("script")
    }
}

const PRINT: &str = "imds-generator --print";
const APPLY: &str = "imdsd --setup-network --apply";
const IMPORT: &str = "imds --import";

/// Status and calls of `imds-boot` in all shells, which have to agree.
fn boot(statuses: &[(&str, i32)], args: &[&str], prepare: &dyn Fn(&Stubs)) -> (i32, Vec<String>) {
    let mut results = shells().into_iter().map(|shell| {
        let stubs = Stubs::new(statuses);
        prepare(&stubs);
        (stubs.run(&shell, &init().join("imds-boot"), args), shell)
    });
    let (first, _) = results.next().unwrap();
    for (result, shell) in results {
        assert_eq!(result, first, "{shell:?} {args:?}");
    }
    first
}

fn cloud(imdsd: i32, imds: i32) -> [(&'static str, i32); 3] {
    [("imds-generator", 0), ("imdsd", imdsd), ("imds", imds)]
}

const ELSEWHERE: [(&str, i32); 3] = [("imds-generator", 1), ("imdsd", 99), ("imds", 99)];

fn called(calls: &[&str]) -> Vec<String> {
    calls.iter().map(|&call| call.to_owned()).collect()
}

#[test]
fn on_a_cloud_the_way_is_made_and_data_are_imported() {
    let run = |verb: &str| boot(&cloud(0, 0), &[verb], &|_| {});
    assert_eq!(run("enabled"), (0, called(&[PRINT])));
    assert_eq!(run("network"), (0, called(&[PRINT, APPLY])));
    assert_eq!(run("import"), (0, called(&[PRINT, APPLY, IMPORT])));
    assert_eq!(run("daemon"), (0, called(&[PRINT, "imdsd --listen"])));
    assert_eq!(run("release"), (0, called(&["imdsd --setup-network --remove"])));
}

#[test]
fn elsewhere_nothing_happens_and_nothing_fails() {
    let run = |args: &[&str]| boot(&ELSEWHERE, args, &|_| {});
    assert_eq!(run(&["enabled"]), (1, called(&[PRINT])));
    assert_eq!(run(&["network"]), (0, called(&[PRINT])));
    assert_eq!(run(&["import"]), (0, called(&[PRINT])));
    // The supervisor has to know that there is nothing to supervise.
    assert_eq!(run(&["daemon"]), (6, called(&[PRINT])));
    assert_eq!(run(&["daemon", "0"]), (0, called(&[PRINT])));
}

#[test]
fn not_configured_is_a_success() {
    let run = |verb: &str| boot(&cloud(6, 6), &[verb], &|_| {}).0;
    assert_eq!((run("network"), run("import"), run("release")), (0, 0, 0));
}

#[test]
fn failures_are_failures_and_the_import_is_tried_again() {
    assert_eq!(boot(&cloud(1, 0), &["network"], &|_| {}).0, 1);
    // Without a route of our own the request may still get there.
    assert_eq!(boot(&cloud(1, 0), &["import"], &|_| {}), (0, called(&[PRINT, APPLY, IMPORT])));
    let again = [APPLY, IMPORT];
    let expected = [&[PRINT, APPLY, IMPORT], &again[..], &again[..]].concat();
    assert_eq!(boot(&cloud(0, 1), &["import"], &|_| {}), (1, called(&expected)));
    // The network comes up after the first attempt.
    let late = |stubs: &Stubs| {
        stubs.command("imds", "[ -e late ] && exit 0\ntouch late\nexit 1");
    };
    assert_eq!(boot(&cloud(0, 0), &["import"], &late).1.len(), 5);
    assert_eq!(boot(&cloud(0, 0), &["import"], &late).0, 0);
    // Who was silent for a minute is not asked again.
    for (uptime, calls) in [("160.24", 3), ("159.99", 7)] {
        let silent = |stubs: &Stubs| {
            stubs.command("imds", &format!("echo '{uptime} 9.00' >uptime\nexit 1"));
        };
        let (status, called) = boot(&cloud(0, 1), &["import"], &silent);
        assert_eq!((status, called.len()), (1, calls), "{called:?}");
    }
}

#[test]
fn a_detector_that_fails_or_is_missing_enables_nothing() {
    let broken = [("imds-generator", 77), ("imdsd", 0), ("imds", 0)];
    assert_eq!(boot(&broken, &["network"], &|_| {}), (0, called(&[PRINT])));
    assert_eq!(boot(&broken, &["enabled"], &|_| {}).0, 1);
}

#[test]
fn the_kernel_command_line_refuses_the_import() {
    for (line, is_refused) in [
        ("systemd.imds.import=no", true),
        ("systemd.imds.import=0 quiet", true),
        ("systemd.imds.import=no systemd.imds.import=yes", false),
        ("systemd.imds.import=yes", false),
        ("systemd.imds.import", false),
        ("* ? systemd.imds.network=no", false),
    ] {
        let (status, calls) =
            boot(&cloud(0, 0), &["import"], &|stubs| stubs.file("cmdline", &format!("{line}\n")));
        assert_eq!((status, calls.len() == 1), (0, is_refused), "{line}");
    }
}

#[test]
fn words_that_are_no_verb_are_refused() {
    for args in [&["bogus"][..], &[], &["--help"]] {
        assert_eq!(boot(&cloud(0, 0), args, &|_| {}), (2, vec![]));
    }
}

#[test]
fn openrc_services_start_and_stop() {
    // The parts of openrc-run that the services use.
    let openrc = |call: &str| {
        format!(
            "ebegin() {{ :; }}\neinfo() {{ :; }}\neend() {{ return \"$1\"; }}\n\
             default_start() {{ echo default_start >>calls; }}\n\
             default_stop() {{ echo default_stop >>calls; }}\n\
             service_get_value() {{ [ -e started ] && echo pid; return 0; }}\n\
             for word in need want use after before keyword; do eval \"$word() {{ :; }}\"; done\n\
             depend || exit 9\n{call}\nexit $?"
        )
    };
    for shell in shells() {
        let run = |script: &str, call: &str, status: i32, is_started: bool| {
            let stubs = Stubs::new(&[("imds-boot", status)]);
            if is_started {
                stubs.file("started", "");
            }
            let script = stubs.copy(&format!("openrc/{script}"), &openrc(call));
            stubs.run(&shell, &script, &[])
        };
        let one = |call: &str| vec![format!("imds-boot {call}")];
        assert_eq!(run("imds-network", "start", 0, false), (0, one("network")));
        assert_eq!(run("imds-network", "refresh", 1, false), (1, one("network")));
        assert_eq!(run("imds-network", "stop", 0, false), (0, one("release")));
        assert_eq!(run("imds-import", "start", 1, false), (1, one("import")));
        let expected = called(&["imds-boot enabled", "default_start"]);
        assert_eq!(run("imdsd", "start", 0, false), (0, expected));
        assert_eq!(run("imdsd", "start", 1, false), (0, one("enabled")));
        assert_eq!(run("imdsd", "stop", 0, false), (0, vec![]));
        assert_eq!(run("imdsd", "stop", 0, true), (0, called(&["default_stop"])));
    }
}

#[test]
fn supervised_services_run_once_or_for_ever() {
    for shell in shells() {
        let run = |script: &str, args: &[&str], status: i32| {
            let stubs = Stubs::new(&[("imds-boot", status)]);
            let script = stubs.copy(script, "");
            stubs.run(&shell, &script, args)
        };
        for script in ["runit/imdsd/run", "s6/imdsd/run"] {
            assert_eq!(run(script, &[], 6), (6, called(&["imds-boot daemon"])));
        }
        for status in [0, 1] {
            let expected = called(&["imds-boot import", "sv down ."]);
            assert_eq!(run("runit/imds-import/run", &[], status), (0, expected));
        }
        let expected = called(&["imds-boot network"]);
        assert_eq!(run("runit/core-services/06-imds-network.sh", &[], 1), (0, expected));

        let stubs = Stubs::new(&[]);
        let finish =
            |script: &str, status: &str| stubs.run(&shell, &init().join(script), &[status, "0"]);
        assert_eq!(finish("s6/imdsd/finish", "6").0, 125);
        assert_eq!(finish("s6/imdsd/finish", "1").0, 0);
        assert_eq!(finish("runit/imdsd/finish", "6").1, called(&["sv down ."]));
        assert_eq!(finish("runit/imdsd/finish", "0").1, called(&[]));
    }
}

#[test]
fn busybox_scripts_start_and_stop() {
    // Not in busybox itself, which has a start-stop-daemon of its own.
    for shell in shells().into_iter().filter(|shell| shell[0] != "busybox") {
        let stubs = Stubs::new(&[("imds-boot", 0)]);
        let early = stubs.copy("busybox/S35imds-network", "");
        let expected = called(&["imds-boot network"]);
        assert_eq!(stubs.run(&shell, &early, &["start"]), (0, expected));
        let expected = called(&["imds-boot release"]);
        assert_eq!(stubs.run(&shell, &early, &["stop"]), (0, expected));
        assert_eq!(stubs.run(&shell, &early, &[]).0, 2);

        let late = init().join("busybox/S45imds");
        let (status, calls) = stubs.run(&shell, &late, &["start"]);
        assert_eq!((status, calls.len()), (0, 3));
        assert_eq!(
            (calls[0].as_str(), calls[2].as_str()),
            ("imds-boot enabled", "imds-boot import")
        );
        assert!(calls[1].ends_with("-- daemon"), "{calls:?}");
        // init itself keeps the daemon running.
        stubs.file("inittab", "::respawn:/usr/lib/slipway/imds-boot daemon\n");
        assert_eq!(stubs.run(&shell, &late, &["start"]).1.len(), 2);
        stubs.file("inittab", "#::respawn:/usr/lib/slipway/imds-boot daemon\n");
        assert_eq!(stubs.run(&shell, &late, &["start"]).1.len(), 3);
        // A second daemon would take the socket from the first.
        stubs.file("pid", &format!("{}\n", std::process::id()));
        assert_eq!(stubs.run(&shell, &late, &["start"]).1.len(), 2);
        fs::remove_file(stubs.path("pid")).unwrap();
        assert_eq!(stubs.run(&shell, &late, &["stop"]), (0, vec![]));
        stubs.file("pid", "1\n");
        let (status, calls) = stubs.run(&shell, &late, &["stop"]);
        assert!(status == 0 && calls[0].starts_with("start-stop-daemon -K"));
        assert!(!stubs.path("pid").exists());
        stubs.command("imds-boot", "exit 1");
        assert_eq!(stubs.run(&shell, &late, &["start"]), (0, called(&["imds-boot enabled"])));
    }
}

/// All files below a directory.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn shell_scripts() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&init(), &mut found);
    let is_script = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        first.starts_with("#!") || first.contains("shell=sh")
    };
    found.retain(is_script);
    found.sort();
    assert_eq!(found.len(), 12, "{found:?}");
    found
}

#[test]
fn scripts_are_plain_shell_and_executable() {
    for path in shell_scripts() {
        for shell in shells() {
            let mut command = Command::new(shell[0]);
            let status = command.args(&shell[1..]).arg("-n").arg(&path).status().unwrap();
            assert!(status.success(), "{shell:?} {}", path.display());
        }
        let is_sourced = path.extension().is_some_and(|end| end == "sh");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111 == 0, is_sourced, "{}", path.display());
    }
}

#[test]
fn shellcheck_finds_nothing() {
    if Command::new("shellcheck").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIP shellcheck_finds_nothing: no shellcheck");
        return;
    }
    for path in shell_scripts() {
        let mut command = Command::new("shellcheck");
        command.args(["-s", "sh"]);
        if path.starts_with(init().join("openrc")) {
            // Variables of OpenRC's own.
            command.args(["-e", "SC2034"]);
        }
        let output = command.arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn service_descriptions_name_services_and_verbs_that_exist() {
    let verbs = ["network", "release", "daemon", "daemon 0", "import"];
    let check = |path: &Path, line: &str| {
        let verb = line.strip_prefix(INSTALLED).unwrap().trim();
        assert!(verbs.contains(&verb), "{}: {line}", path.display());
    };
    let dinit = init().join("dinit");
    let keys = [
        "type",
        "command",
        "stop-command",
        "restart",
        "restart-limit-count",
        "restart-limit-interval",
        "start-timeout",
        "waits-for",
        "after",
    ];
    for name in ["imds-network", "imdsd", "imds-import"] {
        let text = fs::read_to_string(dinit.join(name)).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once(" = ").unwrap();
            assert!(keys.contains(&key), "{name}: {line}");
            match key {
                "command" | "stop-command" => check(&dinit.join(name), value),
                "waits-for" => assert!(dinit.join(value).is_file(), "{name}: {line}"),
                _ => {}
            }
        }
    }
    let s6 = init().join("s6");
    for name in ["imds-network", "imdsd", "imds-import", "imds"] {
        let dir = s6.join(name);
        let kind = fs::read_to_string(dir.join("type")).unwrap();
        let wanted: &[&str] = match kind.trim() {
            "oneshot" => &["up"],
            "longrun" => &["run"],
            _ => &["contents.d"],
        };
        assert!(wanted.iter().all(|file| dir.join(file).exists()), "{name}");
        for command in ["up", "down"] {
            if let Ok(line) = fs::read_to_string(dir.join(command)) {
                check(&dir, line.trim());
            }
        }
        for list in ["dependencies.d", "contents.d"] {
            for entry in fs::read_dir(dir.join(list)).into_iter().flatten() {
                let other = entry.unwrap().file_name();
                assert!(s6.join(&other).join("type").is_file(), "{name}: {other:?}");
            }
        }
    }
}
