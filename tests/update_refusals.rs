//! Every bad input, as its user meets it: `slipway update` is run, says what is wrong with what, and
//! ends with status 1; nothing that was installed is another than before.
//!
//! What is said is compared whole. Where nothing was begun nothing at all may differ; where the
//! payload was on its way only a leftover or a slot marked as partial may.
#![cfg(all(feature = "update", feature = "openpgp"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed look-up is a failed test; skips are told on standard output"
)]

#[path = "common/http_server.rs"]
mod http_server;
#[path = "common/untouched.rs"]
mod untouched;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use http_server::{HttpServer, Ranges, Reply};
use slipway::crypto::hash::sha256;
use slipway::format::gpt::types;
use untouched::{Tmpfs, archive, disk_image, installed};

const TO_FILE: &str = "Type=regular-file\nPath=TOP/dst\nMatchPattern=f_@v";
const TO_TREE: &str = "Type=directory\nPath=TOP/dst\nMatchPattern=d_@v";
const TO_SLOT: &str =
    "Type=partition\nPath=TOP/disk.img\nMatchPattern=os_@v\nMatchPartitionType=root-x86-64";

/// Version 1 is installed, as a file and in slot 1 of a disk; slot 2 is free. A server and a
/// directory have version 2.
struct World {
    top: tempfile::TempDir,
    server: HttpServer,
    keyring: &'static str,
}

impl World {
    fn new() -> Self {
        Self::with_disk("s512-2-installed-1")
    }

    fn with_disk(stage: &str) -> Self {
        let top = tempfile::tempdir().unwrap();
        for directory in ["defs", "src", "dst"] {
            fs::create_dir(top.path().join(directory)).unwrap();
        }
        let world = Self { top, server: HttpServer::start(), keyring: "ed25519.pgp" };
        fs::write(world.at("disk.img"), disk_image(stage)).unwrap();
        fs::write(world.at("dst/f_1"), "version 1").unwrap();
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.top.path().join(path)
    }

    fn define(&self, text: &str) {
        let text = text.replace("TOP", self.top.path().to_str().unwrap());
        fs::write(self.at("defs/50-x.transfer"), text).unwrap();
    }

    /// From the directory `src`.
    fn takes_from_directory(&self, kind: &str, target: &str) {
        self.define(&format!(
            "[Source]\nType={kind}\nPath=TOP/src\nMatchPattern=x_@v\n[Target]\n{target}\n"
        ));
    }

    /// From the server, whose manifest promises these bytes and is not signed.
    fn takes_from_server(&self, kind: &str, target: &str, promised: &[u8]) {
        self.define(&format!(
            "[Transfer]\nVerify=no\n[Source]\nType={kind}\nPath={}\nMatchPattern=x_@v\n\
             [Target]\n{target}\n",
            self.server.url("/d")
        ));
        let hash: String = sha256(promised).iter().map(|byte| format!("{byte:02x}")).collect();
        self.manifest(&format!("{hash} *x_2\n"));
    }

    /// From the server, with the manifest that was signed in all those ways.
    fn takes_signed(&self, signature: &str) {
        self.define(&format!(
            "[Source]\nType=url-file\nPath={}\nMatchPattern=payload_@v.raw\n[Target]\n{TO_FILE}\n",
            self.server.url("/d")
        ));
        for name in ["SHA256SUMS", "payload_2.raw"] {
            self.server.on(&format!("/d/{name}"), [Reply::file(signed(name))]);
        }
        if !signature.is_empty() {
            let bytes = signed(&format!("sigs/{signature}"));
            self.server.on("/d/SHA256SUMS.gpg", [Reply::file(bytes)]);
        }
    }

    fn manifest(&self, text: &str) {
        self.server.on("/d/SHA256SUMS", [Reply::file(text)]);
    }

    fn offer(&self, reply: Reply) {
        self.server.on("/d/x_2", [reply]);
    }

    fn args(&self) -> [String; 4] {
        let definitions = format!("--definitions={}", self.at("defs").display());
        ["update".to_owned(), definitions, "--sync=no".to_owned(), "update".to_owned()]
    }

    fn run(&self) -> Output {
        self.run_at("warning")
    }

    fn run_at(&self, level: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        self.output(command.args(self.args()), level)
    }

    /// Runs it with nothing around it but what is ours.
    fn output(&self, command: &mut Command, level: &str) -> Output {
        self.try_output(command, level).unwrap()
    }

    /// None if the program may not be run.
    fn try_output(&self, command: &mut Command, level: &str) -> Option<Output> {
        let keyrings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/signatures");
        command
            .env_clear()
            .env("SYSTEMD_LOG_LEVEL", level)
            .env("SYSTEMD_OPENPGP_KEYRING", keyrings.join("keyrings").join(self.keyring))
            .env("SLIPWAY_SYSUPDATE_LOCK", self.at("lock"))
            .env("SLIPWAY_SYSUPDATE_STATE", self.at("state"))
            .output()
            .ok()
    }

    /// What was said, without what is another one each time.
    fn said(&self, output: &Output) -> String {
        let text = String::from_utf8(output.stderr.clone()).unwrap();
        text.replace(self.top.path().to_str().unwrap(), "TOP")
            .replace(&self.server.url(""), "SERVER")
    }

    /// A refusal before anything was begun.
    #[track_caller]
    fn refusal(&self) -> String {
        let before = (tree(&self.at("dst")), fs::read(self.at("disk.img")).unwrap());
        let output = self.run();
        assert_eq!(output.status.code(), Some(1), "{}", self.said(&output));
        let after = (tree(&self.at("dst")), fs::read(self.at("disk.img")).unwrap());
        assert_eq!(before.0, after.0, "names and contents are the same");
        assert!(before.1 == after.1, "every byte of the disk is the same");
        self.said(&output)
    }

    /// A failure while the payload was on its way.
    #[track_caller]
    fn failure(&self) -> String {
        let (before, output) = (self.live(), self.run());
        assert_eq!(output.status.code(), Some(1), "{}", self.said(&output));
        assert!(before == self.live(), "what is installed is the same, nothing is pending");
        self.said(&output)
    }

    fn live(&self) -> Vec<(String, Vec<u8>)> {
        let root = types::by_name("root-x86-64").unwrap();
        installed(&self.at("dst"), &self.at("disk.img"), root)
    }
}

fn signed(name: &str) -> Vec<u8> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/signatures");
    fs::read(vectors.join(name)).unwrap()
}

/// All names below a directory, with what is in files and where links lead.
fn tree(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(top).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let contents = if kind.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if kind.is_dir() {
            found.append(&mut tree(&path));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, contents);
    }
    found
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn end(mut archive: Vec<u8>) -> Vec<u8> {
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[test]
fn good_input_is_installed() {
    let world = World::new();
    world.takes_signed("ed25519.sig");
    let output = world.run();
    assert!(output.status.success(), "{}", world.said(&output));
    assert_eq!(fs::read(world.at("dst/f_2")).unwrap(), signed("payload_2.raw"));

    let world = World::new();
    world.takes_from_server("url-file", TO_SLOT, b"payload");
    world.offer(Reply::file("payload"));
    let before = world.live();
    let output = world.run();
    assert!(output.status.success(), "{}", world.said(&output));
    assert_eq!(world.live().len(), before.len() + 1);
}

#[test]
fn file_with_another_hash_is_refused() {
    for target in [TO_FILE, TO_SLOT] {
        let world = World::new();
        world.takes_from_server("url-file", target, b"promised");
        world.offer(Reply::file("something else"));
        assert_eq!(
            world.failure(),
            "Checksum of downloaded resource does not match expected checksum, yikes: 'SERVER/d/x_2'\nHint: Nothing was installed; the file on the server is not the one in its manifest.\n"
        );
    }
}

#[test]
fn download_that_ends_early_is_refused() {
    let payload = vec![7; 300_000];
    let world = World::new();
    world.takes_from_server("url-file", TO_SLOT, &payload);
    world.offer(Reply::file(payload).ranges(Ranges::Ignored).truncate_after(1000));
    let said = world.failure();
    // Three times it is tried again, after a while that is different each time.
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(lines[3], "Transfer failed: SERVER/d/x_2: Transferred a partial file");
}

#[test]
fn compressed_data_that_ends_early_is_refused() {
    let world = World::new();
    world.takes_from_directory("regular-file", TO_FILE);
    let packed = gzip(&b"payload".repeat(5000));
    fs::write(world.at("src/x_2"), &packed[..packed.len() - 3]).unwrap();
    assert_eq!(
        world.failure(),
        "Failed to decode and write 'TOP/src/x_2': gzip data ends too early\n"
    );
}

#[test]
fn download_larger_than_its_slot_is_refused() {
    let packed = gzip(&vec![9; 3 << 20]);
    let world = World::new();
    world.takes_from_server("url-file", TO_SLOT, &packed);
    world.offer(Reply::file(packed));
    assert_eq!(
        world.failure(),
        "'SERVER/d/x_2' does not fit into 'TOP/disk.imgp2': it is larger, there is room for 1048576 bytes (1.0M)\n"
    );
}

#[test]
fn bad_signature_is_refused() {
    let world = World::new();
    world.takes_signed("ed25519-badsig.sig");
    assert_eq!(
        world.refusal(),
        "DOWNLOAD INVALID: Signature verification failed: SERVER/d/SHA256SUMS.gpg: BAD signature from key 9085489A8B5249C8FAE8FCF34E30E209647CE3C5\nHint: The list is not the one that was signed: changed, or damaged.\n"
    );
}

#[test]
fn expired_signature_is_refused() {
    let world = World::new();
    world.takes_signed("ed25519-sigexpired.sig");
    assert_eq!(
        world.refusal(),
        "DOWNLOAD INVALID: Signature verification failed: SERVER/d/SHA256SUMS.gpg: signature by key 9085489A8B5249C8FAE8FCF34E30E209647CE3C5 has expired\n"
    );
}

#[test]
fn signature_of_an_expired_key_is_refused() {
    let mut world = World::new();
    world.keyring = "expired.pgp";
    world.takes_signed("expired.sig");
    assert_eq!(
        world.refusal(),
        "DOWNLOAD INVALID: Signature verification failed: SERVER/d/SHA256SUMS.gpg: key FD5A847A5FDD27650D91754090D151CD7DB465ED expired on 2024-12-31\n"
    );
}

#[test]
fn signature_of_a_revoked_key_is_refused() {
    let mut world = World::new();
    world.keyring = "revoked.pgp";
    world.takes_signed("revoked.sig");
    assert_eq!(
        world.refusal(),
        "DOWNLOAD INVALID: Signature verification failed: SERVER/d/SHA256SUMS.gpg: key C705207E76818EAF57B126A47AE9E1DDB3F7813E is revoked\n"
    );
}

#[test]
fn signature_of_an_unknown_key_is_refused() {
    let world = World::new();
    world.takes_signed("wrong.sig");
    assert_eq!(
        world.refusal(),
        "DOWNLOAD INVALID: Signature verification failed: SERVER/d/SHA256SUMS.gpg: no public key for key 0374A11B1ACECD95B90C81E3B94BD434A107E214\nHint: Add the key that signs the updates to a keyring.\n"
    );
}

#[test]
fn absent_signature_is_refused() {
    let world = World::new();
    world.takes_signed("");
    assert_eq!(
        world.refusal(),
        "SERVER/d/SHA256SUMS: Failed to retrieve signature file, cannot verify. (Try --verify=no?)\nHint: A signature is one of SHA256SUMS.sha256.asc, SHA256SUMS.sha256.gpg, SHA256SUMS.gpg, SHA256SUMS.asc beside it.\n"
    );
}

#[test]
fn stale_manifest_is_refused() {
    let world = World::new();
    world.takes_from_server("url-file", TO_FILE, b"payload");
    world.offer(Reply::file("payload"));
    let empty: String = sha256(b"").iter().map(|byte| format!("{byte:02x}")).collect();
    world.manifest(&format!("{empty} *BEST-BEFORE-2020-01-01\n{empty} *x_2\n"));
    let said = world.refusal();
    let now = said.split(" < ").nth(1).unwrap().split(')').next().unwrap().to_owned();
    assert_eq!(
        said.replace(&now, "NOW"),
        "SERVER/d/SHA256SUMS: Best before marker indicates out-of-date file list, refusing (Wed 2020-01-01 00:00:00 UTC < NOW).\nHint: Whoever publishes the updates has to renew the list, unless this clock is wrong.\n"
    );
}

#[test]
fn disk_without_a_free_slot_is_refused() {
    let world = World::with_disk("s512-3-installed-2");
    world.define(&format!(
        "[Transfer]\nProtectVersion=1\n[Source]\nType=regular-file\nPath=TOP/src\n\
         MatchPattern=x_@v\n[Target]\n{TO_SLOT}\n"
    ));
    fs::write(world.at("src/x_3"), "payload").unwrap();
    assert_eq!(
        world.refusal(),
        "No available partition of a suitable size found for transfer '50-x', which needs 7 bytes\nHint: slot TOP/disk.imgp1 holds protected version '1'; slot TOP/disk.imgp2 holds version '2', which is needed\n"
    );
}

#[test]
fn slot_that_is_too_small_is_refused() {
    let world = World::new();
    world.takes_from_directory("regular-file", TO_SLOT);
    fs::write(world.at("src/x_2"), vec![3; 3 << 20]).unwrap();
    assert_eq!(
        world.refusal(),
        "No available partition of a suitable size found for transfer '50-x', which needs 3145728 bytes\nHint: slot TOP/disk.imgp1 holds version '1', which is needed; slot TOP/disk.imgp2 has only 1048576 bytes\n"
    );
}

/// A file may become so large and no larger: what a full disk is like without being root.
#[test]
fn file_that_may_not_grow_is_told() {
    let world = World::new();
    world.takes_from_directory("regular-file", TO_FILE);
    fs::write(world.at("src/x_2"), vec![3; 1 << 20]).unwrap();
    let before = world.live();
    let mut shell = Command::new("/bin/sh");
    let script = "ulimit -f 64 && trap '' XFSZ && exec \"$0\" \"$@\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_slipway")]).args(world.args());
    let output = world.output(&mut shell, "warning");
    assert_eq!(output.status.code(), Some(1), "{}", world.said(&output));
    assert!(before == world.live());
    assert_eq!(
        world.said(&output),
        "Failed to write 'TOP/dst/.sysupdate.partial.f_2': File too large\n"
    );
}

#[test]
fn full_disk_is_told_with_what_is_left() {
    let world = World::new();
    let Some(_mounted) = Tmpfs::mount(&world.at("dst")) else {
        println!(
            "SKIP full_disk_is_told_with_what_is_left: mounting a small file system needs root"
        );
        return;
    };
    fs::write(world.at("dst/f_1"), "version 1").unwrap();
    world.takes_from_directory("regular-file", TO_FILE);
    fs::write(world.at("src/x_2"), vec![3; 3 << 20]).unwrap();
    assert_eq!(
        world.failure(),
        "Failed to write 'TOP/dst/.sysupdate.partial.f_2': No space left on device\nHint: 'TOP/dst' has 0B left.\n"
    );
}

#[test]
fn corrupt_partition_table_is_refused() {
    for (stage, cause) in [
        (
            "c512-both-headers",
            "Both GPT copies are damaged (primary: bad header checksum; backup: bad header checksum)",
        ),
        ("c512-no-pmbr", "No protective MBR in the first sector"),
        (
            "c512-truncated-disk",
            "Both GPT copies are damaged (primary: usable sectors are not on the disk; backup: no signature)",
        ),
    ] {
        let world = World::with_disk(stage);
        world.takes_from_directory("regular-file", TO_SLOT);
        fs::write(world.at("src/x_2"), "payload").unwrap();
        let text =
            format!("Disk TOP/disk.img has no GPT disk label, not suitable.\nHint: {cause}\n");
        assert_eq!(world.refusal(), text, "{stage}");
    }
}

#[test]
fn definition_that_is_no_text_is_refused() {
    let world = World::new();
    let path = world.at("defs/50-x.transfer");
    fs::write(&path, b"[Source]\nType=\xff\xfe\n").unwrap();
    assert_eq!(
        world.refusal(),
        "TOP/defs/50-x.transfer:2: String is not UTF-8 clean: Type=\u{fffd}\u{fffd}\n"
    );
    fs::remove_file(&path).unwrap();
    symlink("50-x.transfer", path).unwrap();
    assert_eq!(
        world.refusal(),
        "Failed to chase 'TOP/defs/50-x.transfer': Too many levels of symbolic links\n\
         No transfer definitions found.\n\
         Hint: 'TOP/defs' has no usable *.transfer files.\n"
    );
}

#[test]
fn definition_that_may_not_be_read_is_refused() {
    let world = World::new();
    world.takes_from_directory("regular-file", TO_FILE);
    fs::set_permissions(world.at("defs/50-x.transfer"), fs::Permissions::from_mode(0o0)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(world.args());
    if rustix::process::geteuid().is_root() {
        // Root may read everything; somebody else is asked to.
        fs::set_permissions(world.top.path(), fs::Permissions::from_mode(0o777)).unwrap();
        command.uid(65534).gid(65534);
    }
    let before = tree(&world.at("dst"));
    let Some(output) = world.try_output(&mut command, "warning") else {
        println!("SKIP definition_that_may_not_be_read_is_refused: nobody may not run the binary");
        return;
    };
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(world.said(&output), "Failed to read 'TOP/defs/50-x.transfer': Permission denied\n");
    assert_eq!(before, tree(&world.at("dst")));
}

#[test]
fn directory_without_definitions_is_refused() {
    let world = World::new();
    let text = "No transfer definitions found.\nHint: 'TOP/defs' has no usable *.transfer files.\n";
    assert_eq!(world.refusal(), text);
}

#[test]
fn definition_that_makes_no_sense_is_refused() {
    let world = World::new();
    world.define(&format!(
        "[Source]\nType=carrier-pigeon\nPath=TOP/src\nMatchPattern=x_@v\n[Target]\n{TO_FILE}\n"
    ));
    assert_eq!(
        world.refusal(),
        "TOP/defs/50-x.transfer:2: Failed to parse Type=carrier-pigeon, ignoring: not a resource type\nTOP/defs/50-x.transfer:3: Source Type= must be one of url-file, url-tar, tar, regular-file, directory, subvolume.\n"
    );
}

#[test]
fn duplicate_instance_is_told_and_the_first_is_taken() {
    let world = World::new();
    world.define(&format!(
        "[Source]\nType=regular-file\nPath=TOP/src\nMatchPattern=x_@v.raw x_@v.img\n\
         [Target]\n{TO_FILE}\n"
    ));
    fs::write(world.at("src/x_2.raw"), "second in the order of paths").unwrap();
    fs::write(world.at("src/x_2.img"), "first in the order of paths").unwrap();
    let output = world.run_at("info");
    assert!(output.status.success(), "{}", world.said(&output));
    let said = world.said(&output);
    let line =
        "Multiple instances of version '2' found at 'TOP/src/x_2.img' and 'TOP/src/x_2.raw'.";
    assert!(said.lines().any(|l| l == line), "{said}");
    assert_eq!(fs::read(world.at("dst/f_2")).unwrap(), b"first in the order of paths");
}

#[test]
fn manifest_that_contradicts_itself_is_refused() {
    let world = World::new();
    world.takes_from_server("url-file", TO_FILE, b"payload");
    world.manifest(&format!("{} *x_2\n{} *x_2\n", "1".repeat(64), "2".repeat(64)));
    assert_eq!(
        world.refusal(),
        "SERVER/d/SHA256SUMS: Hash of 'x_2' at manifest line 2 differs from line 1, refusing.\n"
    );
}

#[test]
fn two_transfers_that_make_the_same_file_are_refused() {
    let world = World::new();
    world.takes_from_directory("regular-file", TO_FILE);
    fs::copy(world.at("defs/50-x.transfer"), world.at("defs/60-y.transfer")).unwrap();
    fs::write(world.at("src/x_2"), "payload").unwrap();
    assert_eq!(
        world.refusal(),
        "Transfers '50-x' and '60-y' would both create 'TOP/dst/f_2', refusing.\n"
    );
}

#[test]
fn path_traversal_in_an_archive_is_refused() {
    for name in ["../evil", "a/../../evil", "/../evil"] {
        let world = World::new();
        world.takes_from_directory("tar", TO_TREE);
        fs::write(world.at("src/x_2"), end(archive(name, b'0', "", b"evil"))).unwrap();
        let text = format!(
            "Failed to unpack 'TOP/src/x_2' into 'TOP/dst/.sysupdate.partial.d_2': \
             Invalid path name in entry, refusing: '{name}'\n"
        );
        assert_eq!(world.failure(), text);
        assert!(!world.at("evil").exists() && !world.at("dst/evil").exists());
    }
    // The root of an archive is the directory that it becomes.
    let world = World::new();
    world.takes_from_directory("tar", TO_TREE);
    let evil = world.at("evil");
    let name = evil.to_str().unwrap();
    fs::write(world.at("src/x_2"), end(archive(name, b'0', "", b"evil"))).unwrap();
    assert!(world.run().status.success());
    assert!(!evil.exists() && world.at("dst/d_2").join(&name[1..]).exists());
}

#[test]
fn path_traversal_in_a_manifest_is_refused() {
    let world = World::new();
    world.takes_from_server("url-file", TO_FILE, b"payload");
    world.manifest(&format!("{} *../x_2\n", "1".repeat(64)));
    assert_eq!(
        world.refusal(),
        "SERVER/d/SHA256SUMS: Invalid filename specified at manifest line 1, refusing.\n"
    );
}

#[test]
fn archive_that_writes_through_its_own_link_is_refused() {
    let world = World::new();
    fs::create_dir(world.at("outside")).unwrap();
    world.takes_from_directory("tar", TO_TREE);
    let mut bytes = archive("link", b'2', world.at("outside").to_str().unwrap(), b"");
    bytes.extend(archive("link/evil", b'0', "", b"evil"));
    fs::write(world.at("src/x_2"), end(bytes)).unwrap();
    assert_eq!(
        world.failure(),
        "Failed to unpack 'TOP/src/x_2' into 'TOP/dst/.sysupdate.partial.d_2': Failed to create regular file 'link/evil': Not a directory\n"
    );
    assert!(tree(&world.at("outside")).is_empty());
}

#[test]
fn archive_with_a_hard_link_out_of_it_is_refused() {
    let world = World::new();
    fs::write(world.at("victim"), "precious").unwrap();
    world.takes_from_directory("tar", TO_TREE);
    let mut bytes = archive("link", b'1', "../../victim", b"");
    bytes.extend(archive("link", b'0', "", b"evil"));
    fs::write(world.at("src/x_2"), end(bytes)).unwrap();
    assert_eq!(
        world.failure(),
        "Failed to unpack 'TOP/src/x_2' into 'TOP/dst/.sysupdate.partial.d_2': Invalid hardlink path name '../../victim' in entry, refusing.\n"
    );
    assert_eq!(fs::read(world.at("victim")).unwrap(), b"precious");
}

#[test]
fn links_where_the_new_version_is_to_be_are_not_followed() {
    for name in [".sysupdate.partial.f_2", ".sysupdate.pending.f_2", "f_2"] {
        let world = World::new();
        fs::write(world.at("victim"), "precious").unwrap();
        symlink(world.at("victim"), world.at("dst").join(name)).unwrap();
        world.takes_from_directory("regular-file", TO_FILE);
        fs::write(world.at("src/x_2"), "payload").unwrap();
        let output = world.run();
        assert!(output.status.success(), "{name}: {}", world.said(&output));
        assert_eq!(fs::read(world.at("victim")).unwrap(), b"precious");
        let made = world.at("dst/f_2");
        assert!(fs::symlink_metadata(&made).unwrap().is_file(), "{name}");
        assert_eq!(fs::read(made).unwrap(), b"payload");
    }
}
