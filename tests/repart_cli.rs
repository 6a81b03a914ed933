//! The command line of repart, word for word as systemd-repart 262 reads it and answers.
#![cfg(feature = "repart")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const SLIPWAY: &str = env!("CARGO_BIN_EXE_slipway");

/// Writes a file below a directory, with what is above it.
fn write(top: &Path, name: &str, text: &str) {
    let path = top.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn sparse(top: &Path, name: &str, size: u64) {
    File::create(top.join(name)).unwrap().set_len(size).unwrap();
}

/// Runs a recorded line: exit status and both streams, with the directory's name taken out.
fn run(top: &Path, case: &Value) -> (i64, String, String) {
    let mut command = Command::new(SLIPWAY);
    command.arg("systemd-repart").current_dir(top).stdin(Stdio::null()).env_clear();
    command.env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").env("LC_ALL", "C.UTF-8");
    for (name, value) in case["env"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap());
    }
    // As the program itself is called: its name is in some messages.
    std::os::unix::process::CommandExt::arg0(&mut command, "slipway");
    command.args(case["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).unwrap().replace(&top.display().to_string(), "@DIR@")
    };
    (output.status.code().unwrap().into(), text(&output.stdout), text(&output.stderr))
}

fn recorded(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/repart-cli").join(name);
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Compares all lines; `same` takes out of standard error what is known to differ.
fn compare(top: &Path, cases: &[Value], same: fn(&str) -> String) {
    let mut problems = Vec::new();
    for case in cases {
        let (exit, stdout, stderr) = run(top, case);
        let wanted = |key: &str| case[key].as_str().unwrap().to_owned();
        let (peer, ours) = (same(&wanted("stderr")), same(&stderr));
        if case["exit"] != exit || wanted("stdout") != stdout || peer != ours {
            problems.push(format!(
                "{} {}\n-- systemd-repart: {}\n{}{peer}\n-- ours: {exit}\n{stdout}{ours}",
                case["env"],
                case["args"],
                case["exit"],
                wanted("stdout")
            ));
        }
    }
    println!("{} lines compared", cases.len());
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n\n"));
}

#[test]
fn every_option_is_taken_or_refused_in_the_words_of_262() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    let root = "[Partition]\nType=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n";
    write(top, "defs/10-root.conf", root);
    write(top, "two/10-root.conf", root);
    write(top, "two/20-home.conf", "[Partition]\nType=home\nLabel=hé\nSizeMinBytes=20M\n");
    write(top, "big/1.conf", "[Partition]\nType=srv\nSizeMinBytes=200M\n");
    write(top, "broken/1.conf", "[Partition]\n");
    for (name, mode) in [("loose", 0o644), ("tight", 0o600)] {
        write(top, name, "key");
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    sparse(top, "a.raw", 100 << 20);
    compare(top, &recorded("lines.jsonl"), str::to_owned);
}

#[test]
fn tables_bars_and_json_are_those_of_262_from_run_to_run() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    let mut cases = recorded("tables.jsonl");
    let first = cases.remove(0);
    for (name, text) in first["files"].as_object().unwrap() {
        write(top, name, text.as_str().unwrap());
    }
    fs::create_dir(top.join("empty")).unwrap();
    sparse(top, "a.raw", 100 << 20);
    sparse(top, "p.raw", 64 << 20);
    compare(top, &cases, |stderr| {
        // DIFFERS: a split file that is there is refused before anything is done.
        let is_refused = stderr.contains("Failed to open split partition file ");
        let lines = stderr.lines().filter(|line| {
            !(line.contains(" discarded gap after ") || is_refused && *line == "No changes.")
        });
        let lines = lines.map(|line| match line {
            // How long it took.
            line if line.contains(" complete in ") => line.split(" complete in ").next().unwrap(),
            // DIFFERS: we name the size of the disk.
            line if line.contains(", current block device/image size is ") => {
                line.split(", current").next().unwrap()
            }
            // DIFFERS: our dry run before this one has not let the file grow.
            "File '@DIR@/a.raw' grown from 100M to 160M by truncation." => {
                "File '@DIR@/a.raw' grown from 150M to 160M by truncation."
            }
            line => line,
        });
        lines.map(|line| format!("{line}\n")).collect()
    });
}

#[test]
fn key_comes_from_a_socket_too() {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    let top = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(top.path().join("key")).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"secret").unwrap();
    });
    let case = serde_json::json!({ "args": ["--key-file=key", "--seed=random", "-"] });
    let (exit, _, stderr) = run(top.path(), &case);
    assert_eq!(
        (exit, stderr.as_str()),
        (0, "Automatically determined minimal disk image size as 1M.\n")
    );
    server.join().unwrap();
}

#[test]
fn picture_of_the_disk_as_it_is_comes_first_on_a_terminal() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    if Command::new("script").arg("--version").output().is_err() {
        println!("SKIP picture_of_the_disk_as_it_is_comes_first_on_a_terminal: no script");
        return;
    }
    write(top, "one/1.conf", "[Partition]\nType=root\nSizeMinBytes=10M\nSizeMaxBytes=10M\n");
    write(top, "two/1.conf", "[Partition]\nType=root\nSizeMaxBytes=10M\n");
    write(top, "two/2.conf", "[Partition]\nType=home\n");
    sparse(top, "a.raw", 64 << 20);
    let seed = "--seed=0123456789abcdef0123456789abcdef";
    let made = serde_json::json!({
        "args": ["--definitions=one", seed, "--empty=allow", "--dry-run=no", "a.raw"]
    });
    assert_eq!(run(top, &made).0, 0);
    let pictures = |options: &str| {
        let line = format!(
            "stty cols 42; NO_COLOR=1 {SLIPWAY} repart --definitions=two {seed} {options} a.raw \
             2>/dev/null"
        );
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(top)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap().replace('\r', "");
        text.split_once("\n\n").unwrap().1.to_owned()
    };
    let now = " Now:\n ▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░\n \
               └─ root-x86-64                          \n";
    assert_eq!(
        pictures(""),
        format!(
            "{now}\n Then:\n ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░\n │     \
             └─ 2.conf                         \n └─ 1.conf                               \n\n"
        )
    );
    // What is about to be lost is shown, too.
    let forced = pictures("--empty=force");
    assert!(forced.starts_with(now), "{forced}");
}

#[test]
fn fstab_is_that_of_262() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    fs::create_dir_all(top.join("r/etc")).unwrap();
    // What is there already is not made: no program that makes file systems is needed.
    for (name, text) in [
        ("1-esp", "Type=esp\nFormat=vfat\nMountPoint=/efi:umask=0077\n"),
        ("2-root", "Type=root\nFormat=ext4\nMountPoint=/\n"),
        (
            "3-home",
            "Type=home\nFormat=btrfs\nMountPoint=/home:subvol=a\nMountPoint=\"/srv/x:y\":noatime\n",
        ),
        ("4-tmp", "Type=tmp\nFormat=ext4\nMountPoint=/tmp\n"),
        ("5-swap", "Type=swap\nMountPoint=/swap\n"),
        ("6-xboot", "Type=xbootldr\nFormat=ext4\nMountPoint=/boot\n"),
        ("7-plain", "Type=linux-generic\nMountPoint=/nofs\n"),
        ("8-blank", "Type=srv\nFormat=ext4\nMountPoint=\"/a b\":x\n"),
    ] {
        let bare = text.lines().next().unwrap();
        write(
            top,
            &format!("bare/{name}.conf"),
            &format!("[Partition]\n{bare}\nSizeMinBytes=1M\n"),
        );
        write(top, &format!("full/{name}.conf"), &format!("[Partition]\n{text}SizeMinBytes=1M\n"));
    }
    fs::remove_file(top.join("bare/5-swap.conf")).unwrap();
    write(top, "bare/5-swap.conf", "[Partition]\nType=swap\nFormat=empty\nSizeMinBytes=1M\n");
    sparse(top, "a.raw", 600 << 20);
    let seed = "--seed=0123456789abcdef0123456789abcdef";
    let line = |args: &[&str]| run(top, &serde_json::json!({ "args": args }));
    let made = line(&["--definitions=bare", seed, "--empty=allow", "--dry-run=no", "a.raw"]);
    assert_eq!(made.0, 0, "{}", made.2);

    let fstab = ["--definitions=full", seed, "--copy-source=r", "--generate-fstab=/etc/fstab"];
    let dry = line(&[&fstab[..], &["a.raw"]].concat());
    if dry.2.contains("mkfs") && dry.0 != 0 {
        println!("SKIP fstab_is_that_of_262: {}", dry.2.trim());
        return;
    }
    assert_eq!(dry.0, 0, "{}", dry.2);
    assert!(dry.2.contains("Running in dry run mode, not generating /etc/fstab\n"), "{}", dry.2);
    assert!(!top.join("r/etc/fstab").exists());

    let wet = [&fstab[..], &["--dry-run=no", "a.raw"]].concat();
    let first = line(&wet);
    assert_eq!(first.0, 0, "{}", first.2);
    assert!(first.2.starts_with("@DIR@/r/etc/fstab written.\n"), "{}", first.2);
    assert_eq!(
        fs::read_to_string(top.join("r/etc/fstab")).unwrap(),
        "# Start section ↓ of automatically generated fstab by systemd-repart\n\
         UUID=5739-C63F /efi vfat fmask=0177,dmask=0077,rw,nodev,nosuid,noexec,nosymfollow,umask=0077 0 2\n\
         UUID=e23fa935-5911-428c-b168-a4b761ee82bd / ext4 discard,rw,nodev,suid,exec 0 1\n\
         UUID=262afe25-c985-4002-86e6-146a18a7febd /home btrfs discard,rw,nodev,suid,exec,subvol=a 0 2\n\
         UUID=262afe25-c985-4002-86e6-146a18a7febd /srv/x:y btrfs discard,rw,nodev,suid,exec,noatime 0 2\n\
         UUID=17cf34cf-ea20-4bd3-8d83-1f49a509d6f3 /tmp ext4 discard,rw,nodev,nosuid,exec 0 2\n\
         UUID=825aeeb7-e655-4d2d-b083-9f6584b3b9f7 /swap swap rw,nodev,suid,exec 0 2\n\
         UUID=d3aec3b4-4226-4805-bf81-dfc64365c7fc /boot ext4 rw,nodev,nosuid,noexec,nosymfollow 0 2\n\
         UUID=6a466c56-33ed-4a4a-9a38-b444c5f4fb2f /a\\040b ext4 discard,rw,nodev,suid,exec,x 0 2\n\
         # End section ↑ of automatically generated fstab by systemd-repart\n"
    );
    let taken = line(&wet);
    assert_eq!(
        (taken.0, taken.2.as_str()),
        (1, "Failed to link temporary file to @DIR@/r/etc/fstab: File exists\n")
    );
    let again = line(&[&wet[..], &["--append-fstab=auto"]].concat());
    assert_eq!(again.0, 0, "{}", again.2);
    let nowhere = line(&[
        "--definitions=full",
        seed,
        "--copy-source=r",
        "--generate-fstab=/no/fstab",
        "--dry-run=no",
        "a.raw",
    ]);
    assert_eq!(
        (nowhere.0, nowhere.2.as_str()),
        (1, "Failed to open temporary file for @DIR@/r/no/fstab: No such file or directory\n")
    );
}

#[test]
fn phases_are_told_to_the_service_manager() {
    use std::os::unix::net::UnixDatagram;

    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    write(top, "defs/1.conf", "[Partition]\nType=root\n");
    sparse(top, "a.raw", 64 << 20);
    let socket = UnixDatagram::bind(top.join("notify")).unwrap();
    let case = serde_json::json!({
        "env": { "NOTIFY_SOCKET": top.join("notify") },
        "args": ["--definitions=defs", "--seed=random", "--empty=allow", "--dry-run=no", "a.raw"],
    });
    assert_eq!(run(top, &case).0, 0);
    socket.set_nonblocking(true).unwrap();
    let mut phases = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        if let Some(phase) = field("X_SYSTEMD_PHASE=") {
            assert_eq!(field("STATUS="), Some(format!("Phase {phase}").as_str()));
            phases.push(phase.to_owned());
        }
    }
    assert_eq!(
        phases,
        [
            "loading-definitions",
            "loading-table",
            "acquiring-partition-labels",
            "placing",
            "wiping-disk",
            "wiping-partition",
            "adjusting-partition",
            "writing-table",
        ]
    );
}

#[test]
fn options_for_a_tpm_are_taken_and_only_a_definition_that_needs_one_is_refused() {
    let top = tempfile::tempdir().unwrap();
    let top = top.path();
    write(top, "plain/1.conf", "[Partition]\nType=root\n");
    write(top, "tpm/1.conf", "[Partition]\nType=home\nEncrypt=tpm2\nSizeMinBytes=64M\n");
    let made = |set: &str, name: &str| {
        let case = serde_json::json!({ "args": [
            format!("--definitions={set}"), "--seed=random", "--empty=create", "--size=100M",
            "--pretty=no", "--tpm2-device=auto", "--tpm2-pcrs=7+11", name
        ] });
        run(top, &case)
    };
    let plain = made("plain", "a.raw");
    assert_eq!(plain.0, 0, "{}", plain.2);
    let (exit, _, stderr) = made("tpm", "b.raw");
    if stderr.contains("mkfs") {
        println!("SKIP options_for_a_tpm_are_taken: {}", stderr.trim());
        return;
    }
    assert_eq!(exit, 1);
    assert!(stderr.to_lowercase().contains("tpm"), "{stderr}");
    assert!(!top.join("b.raw").exists());
}

/// What a directory holds, sorted.
fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

/// A run that makes an image, in a directory of its own.
fn creating(top: &Path) -> Command {
    // Whoever runs the tests may ignore signals, as shells do for what runs in the background.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,TERM,HUP", SLIPWAY]);
    command.arg("systemd-repart").current_dir(top).stdin(Stdio::null());
    command.env("TMPDIR", top.join("tmp")).env("LC_ALL", "C.UTF-8");
    command.args(["--dry-run=no", "--empty=create", "--size=64M", "--seed=random"]);
    command.args(["--offline=yes", "--definitions=defs", "disk.raw"]);
    command
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_behind() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        write(top, "tmp/other", "");
        write(top, "defs/10.conf", "[Partition]\nType=root\nFormat=squashfs\nCopyFiles=/defs:/\n");
        // One that is at it when the signal comes: this says so, and waits for what never comes.
        write(
            top,
            "bin/mksquashfs",
            "#!/bin/sh\ncase $1 in -*) exit 0;; esac\necho at it $$ >&2\nread -r line <fifo\n",
        );
        fs::set_permissions(top.join("bin/mksquashfs"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("mkfifo").arg(top.join("fifo")).status().unwrap().success());
        let mut command = creating(top);
        command.arg("--copy-source=.").env("PATH", format!("{}/bin:/usr/bin:/bin", top.display()));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.map(std::io::Result::unwrap).find(|line| line.starts_with("at it "));
        let stat = format!("/proc/{}/stat", &line.unwrap()[6..]);
        assert_eq!(names(top), ["bin", "defs", "disk.raw", "fifo", "tmp"]);
        assert_eq!(names(&top.join("tmp")).len(), 2);
        // Twice, as timeout(1) does.
        let id = child.id().to_string();
        let kill = Command::new("kill").args([&format!("-{signal}"), &id, &id]).status();
        assert!(kill.unwrap().success());
        let status = child.wait().unwrap();
        // So is the program, whether or not anybody has taken note.
        let is_running = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let since = Instant::now();
        while is_running() {
            assert!(since.elapsed() < Duration::from_secs(20), "{stat}");
            std::thread::yield_now();
        }
        assert_eq!(status.signal(), Some(number));
        assert_eq!(names(top), ["bin", "defs", "fifo", "tmp"]);
        assert_eq!(names(&top.join("tmp")), ["other"]);
    }
}

#[test]
fn a_run_that_nobody_listens_to_ends_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    write(top, "tmp/other", "");
    write(top, "defs/10.conf", "[Partition]\nType=root\n");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = creating(top);
    let status = command.arg("--pretty=yes").stdout(writer).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), None);
    // The plan could not be shown, so it was not carried out.
    assert_eq!(status.code(), Some(1));
    assert_eq!(names(top), ["defs", "tmp"]);
}

#[test]
fn an_fstab_for_a_disk_that_is_refused_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    write(
        top,
        "defs/10.conf",
        "[Partition]\nType=root\nFormat=ext4\nMountPoint=/\nSizeMinBytes=1G\n",
    );
    write(top, "tmp/etc/old", "# mine\n");
    for (name, append) in [("new", "no"), ("old", "auto"), ("old", "replace")] {
        let mut command = creating(top);
        command.arg(format!("--generate-fstab=/etc/{name}"));
        command.arg(format!("--append-fstab={append}")).arg("--copy-source=tmp");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("Can't fit requested partitions"), "{told}");
        assert_eq!(names(&top.join("tmp/etc")), ["old"]);
        assert_eq!(fs::read_to_string(top.join("tmp/etc/old")).unwrap(), "# mine\n");
    }
}

#[test]
fn a_root_hash_does_not_depend_on_what_was_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    write(top, "tmp/other", "");
    let set = "VerityMatchKey=r\nSizeMinBytes=1M\nSizeMaxBytes=1M\n";
    let data = "[Partition]\nType=root\nFormat=squashfs\nCopyFiles=/defs:/\nVerity=data\n";
    write(top, "defs/10.conf", &format!("{data}{set}"));
    write(top, "defs/20.conf", &format!("[Partition]\nType=root-verity\nVerity=hash\n{set}"));
    // Its file systems are always the same, and much smaller than their partition.
    let program = "#!/bin/sh\ncase $1 in -*) exit 0;; esac\nprintf %4096s full >$2\n";
    write(top, "bin/mksquashfs", program);
    fs::set_permissions(top.join("bin/mksquashfs"), fs::Permissions::from_mode(0o755)).unwrap();
    let root_hash = |before: u8| {
        fs::write(top.join("disk.raw"), vec![before; 8 << 20]).unwrap();
        let mut command = Command::new(SLIPWAY);
        command.arg("systemd-repart").current_dir(top).stdin(Stdio::null());
        command.env("PATH", format!("{}/bin:/usr/bin:/bin", top.display()));
        command.env("TMPDIR", top.join("tmp"));
        command.args(["--dry-run=no", "--empty=force", "--discard=no", "--copy-source=."]);
        command.args(["--seed=0123456789abcdef0123456789abcdef", "--definitions=defs"]);
        let output = command.args(["--json=short", "disk.raw"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let rows: Value = serde_json::from_slice(&output.stdout).expect(&told);
        rows[0]["roothash"].as_str().unwrap().to_owned()
    };
    let blank = root_hash(0);
    assert_eq!(blank.len(), 64);
    assert_eq!(root_hash(0xaa), blank);
}
