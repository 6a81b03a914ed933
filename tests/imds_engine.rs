//! `imdsd` as a program: exit statuses, one cache for many processes, and, in network namespaces,
//! the choice of the interface.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; a skip is told on standard output"
)]

#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;
#[path = "common/netns.rs"]
mod netns;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mock_cloud::{Answer, Fault, Framing, Mock, MockCloud};
use netns::Namespace;

const BINARY: &str = env!("CARGO_BIN_EXE_slipway");
const SERVICE: &str = "169.254.169.254";

/// A run of `imdsd` that knows nothing but what is given.
fn imdsd(environment: &[(String, String)], runtime: Option<&Path>, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("imdsd").args(args).env_clear().env("SYSTEMD_PROC_CMDLINE", "");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.envs(runtime.map(|path| ("RUNTIME_DIRECTORY", path)));
    command
}

/// Standard output of a run that has to succeed.
fn answer(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn told(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

// --- on the loopback ---

#[test]
fn second_process_finds_token_and_answer_of_the_first() {
    let mock = MockCloud::fixture("amazon-ec2").start();
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| answer(imdsd(&mock.environment(), Some(dir.path()), args));
    let first = run(&["-K", "hostname"]);
    assert!(!first.is_empty());
    assert_eq!(run(&["-K", "hostname"]), first);
    assert_eq!(run(&["/meta-data/hostname"]), first, "the name's key is the key");
    assert_eq!(mock.lines(), ["PUT /latest/api/token", "GET /latest/meta-data/hostname"]);
    // Another key takes the token along.
    run(&["-K", "region"]);
    assert_eq!(mock.tokens(), 1);
    let before = mock.requests().len();
    assert_eq!(run(&["--cache=no", "-K", "hostname"]), first);
    assert_eq!(mock.requests().len(), before + 2, "token and answer anew");
    let files = names(&dir.path().join("cache/lo"));
    assert!(files.contains(&"token".to_owned()), "{files:?}");
    assert!(files.contains(&"key-\\x2fmeta-data\\x2fhostname".to_owned()), "{files:?}");
}

#[test]
fn without_a_runtime_directory_nothing_is_kept() {
    let mock = MockCloud::fixture("vultr").start();
    for _ in 0..2 {
        answer(imdsd(&mock.environment(), None, &["-K", "hostname"]));
    }
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn missing_keys_are_remembered_too_defect_6() {
    let mock = MockCloud::fixture("vultr").start();
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = imdsd(&mock.environment(), Some(dir.path()), &["/nowhere"]).output().unwrap();
        assert_eq!(told(&output), (Some(1), "Key not available.\n".to_owned()));
    }
    assert_eq!(mock.requests().len(), 1);
    let mut again = imdsd(&mock.environment(), Some(dir.path()), &["/nowhere"]);
    again.env("SLIPWAY_IMDS_NEGATIVE_TTL_SEC", "0").output().unwrap();
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn no_byte_is_printed_before_all_are_there_defect_9() {
    let cut = Answer::ok("all of it").framing(Framing::Claim(100)).fault(Fault::Close(5));
    let mock =
        MockCloud::fixture("vultr").script("/v1/whole", [cut, Answer::ok("all of it")]).start();
    assert_eq!(answer(imdsd(&mock.environment(), None, &["/v1/whole"])), "all of it");
    assert_eq!(mock.requests().len(), 2);
}

#[test]
fn statuses_and_messages_are_the_peers() {
    let set = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(n, v)| (format!("SYSTEMD_IMDS_{n}"), (*v).to_owned())).collect()
    };
    let url = ("DATA_URL", "http://127.0.0.1:9");
    for (environment, args, status, message) in [
        (set(&[("VENDOR", "x")]), &["/a"][..], 6, "No data base URL provided."),
        (
            set(&[url, ("TOKEN_URL", "http://127.0.0.1:9/t")]),
            &["/a"],
            6,
            "Incomplete token parameters configured for endpoint.",
        ),
        (set(&[url]), &[], 1, "A single argument expected."),
        (set(&[url]), &["/a", "/b"], 1, "A single argument expected."),
        (set(&[url]), &["-K", "hostname", "/a", "/b"], 1, "At most a single argument expected."),
        (set(&[url]), &["a"], 1, "Specified IMDS key is not valid, refusing: a"),
        (set(&[url]), &["--setup-network", "/a"], 1, "No argument expected."),
        (
            set(&[url]),
            &["-i", "nope", "/a"],
            1,
            "Failed to resolve interface \"nope\": No such device",
        ),
        (set(&[url]), &["-K", "hostname"], 1, "Key not known for this IMDS service."),
        (set(&[url]), &["-i", "a b", "/a"], 1, "Interface name 'a b' is not valid."),
        (set(&[url]), &["--refresh=x", "/a"], 1, "Failed to parse refresh timeout: x"),
        (set(&[url]), &["--fwmark=-1", "/a"], 1, "Failed to parse --fwmark= parameter: -1"),
        (set(&[url]), &["--cache=x", "/a"], 1, "Failed to parse boolean argument to '--cache': x"),
        (set(&[url]), &["-K", "x"], 1, "Failed to parse --well-known= parameter: Invalid argument"),
        (set(&[url]), &["--token-url=HTTP://x", "/a"], 1, "Invalid URL: HTTP://x"),
        (set(&[url]), &["--data-url-suffix=ü", "/a"], 1, "Invalid URL suffix: ü"),
        (set(&[url]), &["--token-header-name=a:b", "/a"], 1, "Invalid HTTP header name: a:b"),
        (set(&[url]), &["--extra-header=x", "/a"], 1, "Invalid HTTP header: x"),
        (set(&[url]), &["--address-ipv4=::1", "/a"], 1, "Failed to parse IPv4 address: ::1"),
        (set(&[url]), &["--address-ipv6=x", "/a"], 1, "Failed to parse IPv6 address: x"),
        (
            set(&[url]),
            &["--well-known-key=x", "/a"],
            1,
            "--well-known-key= expects colon separated name and key pairs.",
        ),
        (
            set(&[url]),
            &["--well-known-key=hostname:a", "/a"],
            1,
            "Well known key 'a' is not valid.",
        ),
    ] {
        let output = imdsd(&environment, None, args).output().unwrap();
        assert_eq!(told(&output), (Some(status), format!("{message}\n")), "{args:?}");
    }
}

#[test]
fn options_make_an_endpoint_of_their_own() {
    let mock = MockCloud::fixture("vultr").route("/v1/x?y=z", Answer::ok("found")).start();
    let data = format!("--data-url={}", mock.url("/v1"));
    let headers = ["--extra-header=A: 0", "--extra-header=", "--extra-header=B: 1"];
    let known = "--well-known-key=userdata-base:/x";
    let mut args = vec![data.as_str(), "--data-url-suffix=?y=z", known, "-K", "userdata-base"];
    args.extend(headers);
    let elsewhere = [("SYSTEMD_IMDS_DATA_URL".to_owned(), "http://127.0.0.1:9".to_owned())];
    assert_eq!(answer(imdsd(&elsewhere, None, &args)), "found");
    let request = mock.requests().remove(0);
    assert_eq!((request.header("A"), request.header("B")), (None, Some("1")));
}

#[test]
fn file_systems_without_attributes_keep_answers_as_well_defect_17() {
    let test = "file_systems_without_attributes_keep_answers_as_well_defect_17";
    if !rustix::process::geteuid().is_root() {
        println!("SKIP {test}: mounting needs root");
        return;
    }
    let mock = MockCloud::fixture("amazon-ec2").start();
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t ramfs ramfs \"$RUNTIME_DIRECTORY\" && \"$0\" imdsd -K hostname && \
                  \"$0\" imdsd -K hostname && ls \"$RUNTIME_DIRECTORY/cache/lo\"";
    let mut command = imdsd(&mock.environment(), Some(dir.path()), &[]);
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-ec", script, BINARY]).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command = shell;
    let text = answer(command);
    assert_eq!(mock.requests().len(), 2, "token and value, once: {text}");
    assert!(text.contains("meta-\\x2fmeta-data\\x2fhostname"), "{text}");
}

// --- in network namespaces ---

/// A machine with two interfaces: `dead` leads to nobody who answers, `live` to a cloud.
struct Net {
    machine: Namespace,
    _cloud: Namespace,
    _nobody: Namespace,
    mock: Mock,
    dir: tempfile::TempDir,
}

impl Net {
    fn new(test: &str) -> Option<Self> {
        Self::with(test, MockCloud::fixture("vultr"))
    }

    fn with(test: &str, mock: MockCloud) -> Option<Self> {
        let machine = Namespace::new(test)?;
        let (cloud, nobody) = (Namespace::new(test)?, Namespace::new(test)?);
        machine.connect("dead", &nobody, "n0");
        machine.connect("live", &cloud, "c0");
        machine.ip("address add 192.0.2.1/24 dev dead");
        cloud.ip(&format!("address add {SERVICE}/32 dev c0"));
        cloud.ip("route add 198.51.100.0/24 dev c0");
        // The table knows the way to nobody only, as on a machine whose first card has the default
        // route.
        machine.ip("route add default via 192.0.2.2 dev dead");
        let address = format!("{SERVICE}:80").parse().unwrap();
        let mock = cloud.inside(|| mock.listen(address).start());
        let dir = tempfile::tempdir().unwrap();
        Some(Self { machine, _cloud: cloud, _nobody: nobody, mock, dir })
    }

    fn give_address(&self, interface: &str) {
        self.machine.ip(&format!("address add 198.51.100.1/24 dev {interface}"));
    }

    fn command(&self, args: &[&str]) -> Command {
        self.machine.enter(&imdsd(&self.mock.environment(), Some(self.dir.path()), args))
    }

    fn pinned(&self) -> String {
        fs::read_to_string(self.dir.path().join("ifname")).unwrap_or_default()
    }

    fn cache(&self, interface: &str) -> PathBuf {
        self.dir.path().join("cache").join(interface)
    }
}

#[test]
fn dead_interface_with_the_default_route_costs_nothing_defect_16() {
    let test = "dead_interface_with_the_default_route_costs_nothing_defect_16";
    let Some(net) = Net::new(test) else { return };
    net.give_address("live");
    let start = Instant::now();
    assert!(!answer(net.command(&["-K", "hostname"])).is_empty());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(net.pinned(), "live\n");
    assert!(net.cache("live").is_dir() && !net.cache("dead").exists());
    // From now on the others are not asked, and the one that works is given.
    assert!(!answer(net.command(&["-K", "region"])).is_empty());
    assert!(!answer(net.command(&["--interface=live", "--cache=no", "-K", "region"])).is_empty());
}

#[test]
fn renamed_interface_is_found_again() {
    let Some(net) = Net::new("renamed_interface_is_found_again") else { return };
    net.give_address("live");
    answer(net.command(&["-K", "hostname"]));
    net.machine.ip("link set live down");
    net.machine.ip("link set live name other");
    net.machine.ip("link set other up");
    answer(net.command(&["-K", "hostname"]));
    assert_eq!(net.pinned(), "other\n");
    assert_eq!(net.mock.count("GET /v1/hostname"), 2, "its entries have the old name");
}

#[test]
fn address_that_appears_while_we_wait_is_used() {
    let Some(net) = Net::new("address_that_appears_while_we_wait_is_used") else { return };
    net.machine.ip("address flush dev dead");
    let child = net
        .command(&["--wait=yes", "-K", "hostname"])
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Whether it looks for interfaces before or after, it has to notice.
    net.give_address("live");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    assert_eq!(net.pinned(), "live\n");
}

#[test]
fn two_capabilities_of_another_user_are_enough() {
    let test = "two_capabilities_of_another_user_are_enough";
    // The cloud that answers to low source ports only.
    let Some(net) = Net::with(test, MockCloud::fixture("scaleway")) else { return };
    net.give_address("live");
    let everybody = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    };
    let program = net.dir.path().join("imdsd");
    // Not by ourselves: a descriptor for writing, inherited by some other child, keeps it from being
    // run.
    assert!(Command::new("cp").arg(BINARY).arg(&program).status().unwrap().success());
    let runtime = net.dir.path().join("run");
    fs::create_dir(&runtime).unwrap();
    everybody(net.dir.path());
    everybody(&runtime);
    let run = |capabilities: &str, key: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
        command.arg(format!("--inh-caps=-all{capabilities}"));
        command.arg(format!("--ambient-caps=-all{capabilities}"));
        command.arg(&program).args(["--interface=live", "--fwmark=0x7FFF0815", key]);
        command.envs(net.mock.environment()).env("RUNTIME_DIRECTORY", &runtime);
        net.machine.enter(&command).output().unwrap()
    };
    let output = run(",+net_admin,+net_bind_service", "/user_data/cloud-init");
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    let request = net.mock.requests().pop().unwrap();
    assert!(request.peer.port() < 1024, "{}", request.peer);
    assert!(runtime.join("cache/live/key-\\x2fuser_data\\x2fcloud-init").exists());
    // A mark that was asked for is not left out where it cannot be set.
    let output = run("", "/conf");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(net.mock.requests().len(), 1);
}
