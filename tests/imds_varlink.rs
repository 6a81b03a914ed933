//! `io.systemd.InstanceMetadata` over real sockets: every call that was seen of the peer's service,
//! access, limits, and the ways to reach it.
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

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use mock_cloud::{Answer, Mock, MockCloud, json as vector};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};
use slipway::ctx::Ctx;
use slipway::imds::engine::{CacheAt, EngineOptions};
use slipway::imds::{ConnectOptions, Failure, Request, WellKnown, connect};
use slipway::varlink::address::Address;
use slipway::varlink::client::Client;
use slipway::varlink::idl;

const BINARY: &str = env!("CARGO_BIN_EXE_slipway");
const INTERFACE: &str = "io.systemd.InstanceMetadata";

/// The service on a socket of its own.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    socket: PathBuf,
}

impl Daemon {
    /// Started, and ready.
    fn start(environment: &[(String, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/socket");
        Self::start_at(dir, socket, environment)
    }

    /// The same on a socket somewhere else.
    fn start_at(dir: tempfile::TempDir, socket: PathBuf, environment: &[(String, String)]) -> Self {
        // Others must be able to come in.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let notify = dir.path().join("notify");
        let ready = UnixDatagram::bind(&notify).unwrap();
        ready.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let child = Command::new(BINARY)
            .args(["imdsd", &format!("--listen={}", socket.display())])
            .env_clear()
            .env("NOTIFY_SOCKET", &notify)
            .env("RUNTIME_DIRECTORY", dir.path().join("imds"))
            .env("SYSTEMD_PROC_CMDLINE", "")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .spawn()
            .unwrap();
        let mut buffer = [0; 256];
        let len = ready.recv(&mut buffer).expect("the service never became ready");
        assert!(buffer[..len].starts_with(b"READY=1\n"));
        Self { child, dir, socket }
    }

    fn of(mock: &Mock) -> Self {
        Self::start(&environment(mock))
    }

    fn client(&self) -> Client {
        Client::connect(&Ctx::host([]), &Address::Unix(self.socket.clone())).unwrap()
    }

    fn stop(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn vectors() -> Value {
    vector(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/imds/varlink-get.json"))
}

/// The environment of the vectors, pointed at the mock.
fn environment(mock: &Mock) -> Vec<(String, String)> {
    let vectors = vectors();
    let variables = vectors["environment"].as_object().unwrap();
    let value = |value: &Value| match value.as_str().unwrap() {
        url if url.starts_with("http://") => mock.retarget(url),
        other => other.to_owned(),
    };
    variables.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

/// What the vectors want to be at the other end.
fn mock() -> Mock {
    MockCloud::fixture("vultr")
        .route("/latest/meta-data/hostname", Answer::ok("ip-10-0-0-1.example"))
        .route("/latest/ub/systemd-userdata", Answer::ok("SDU"))
        .route("/latest/nf", Answer::status(404))
        .route("/latest/nfb", Answer::page(404))
        .route("/latest/f403", Answer::page(403))
        .route("/latest/f500", Answer::status(400))
        .start()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn call(client: &mut Client, method: &str, parameters: Value) -> (Option<String>, Value) {
    let reply = client.call(&format!("{INTERFACE}.{method}"), object(&parameters)).unwrap();
    (reply.error, Value::Object(reply.parameters))
}

/// What slipway has to answer where the peer's answer is a defect.
fn better(parameters: &Value) -> Option<&'static str> {
    match parameters["key"].as_str()? {
        // Defects 1 and 3: the body of a 404 hides what it is, and errno 1073741955 is none.
        "/nfb" => Some("io.systemd.InstanceMetadata.KeyNotFound"),
        // What is no answer has a name as well, not a number that workers lose.
        "/f500" => Some("io.systemd.InstanceMetadata.CommunicationFailure"),
        _ => None,
    }
}

#[test]
fn every_call_of_the_vectors_is_answered_alike_defects_1_and_3() {
    let mock = mock();
    let daemon = Daemon::of(&mock);
    // One connection for all of them: none may harm the next.
    let mut client = daemon.client();
    let calls = vectors()["calls"].as_array().unwrap().clone();
    assert!(calls.len() >= 20);
    for row in calls {
        let mut parameters = row["parameters"].clone();
        // The index of the peer's network; here the service is on the loopback.
        if parameters["interface"] == 3 {
            parameters["interface"] = json!(1);
        }
        let method = row["method"].as_str().unwrap().rsplit('.').next().unwrap();
        let (error, reply) = call(&mut client, method, parameters.clone());
        if let Some(name) = better(&parameters) {
            assert_eq!((error.as_deref(), &reply), (Some(name), &json!({})), "{parameters}");
            continue;
        }
        assert_eq!(error.as_deref(), row["error"].as_str(), "{parameters}");
        if let Some(expected) = row["error_parameters"].as_object() {
            assert_eq!(&reply, &Value::Object(expected.clone()), "{parameters}");
        }
        if let Some(expected) = row["reply"].as_object() {
            assert_eq!(reply["data"], expected["data"], "{parameters}");
            assert!(reply.get("interface").is_none(), "nothing was chosen on the loopback");
        }
    }
}

#[test]
fn nulls_count_where_they_count_for_the_peer() {
    let mock = mock();
    let daemon = Daemon::of(&mock);
    let mut client = daemon.client();
    // As 262.1 does: the enum, the key and the truth values want a value or nothing at all.
    for (member, is_refused) in [
        ("interface", false),
        ("refreshUSec", false),
        ("firewallMark", false),
        ("key", true),
        ("wait", true),
        ("cache", true),
        ("allowInteractiveAuthentication", true),
    ] {
        let (error, reply) =
            call(&mut client, "Get", json!({ "wellKnown": "region", member: null }));
        let expected = match is_refused {
            true => (Some("org.varlink.service.InvalidParameter"), json!({ "parameter": member })),
            false => (Some("io.systemd.InstanceMetadata.WellKnownKeyUnset"), json!({})),
        };
        assert_eq!((error.as_deref(), reply), expected, "{member}");
    }
    let (error, reply) = call(&mut client, "Get", json!({ "wellKnown": null, "key": "/a" }));
    assert_eq!(error.as_deref(), Some("org.varlink.service.InvalidParameter"));
    assert_eq!(reply, json!({ "parameter": "wellKnown" }));
}

#[test]
fn vendor_info_is_that_of_the_vectors() {
    let vectors = vectors();
    let info = &vectors["vendor_info"];
    let environment: Vec<_> = info["environment"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let daemon = Daemon::start(&environment);
    let (error, reply) = call(&mut daemon.client(), "GetVendorInfo", json!({}));
    assert_eq!((error, &reply), (None, &info["reply"]));
    let (error, reply) = call(&mut daemon.client(), "GetVendorInfo", json!({ "x": 1 }));
    assert_eq!(error.as_deref(), Some("org.varlink.service.InvalidParameter"));
    assert_eq!(reply, json!({ "parameter": "x" }));
}

#[test]
fn parameters_are_looked_at_before_it_shows_that_there_is_no_endpoint() {
    let daemon = Daemon::start(&[("SYSTEMD_IMDS_VENDOR".to_owned(), "x".to_owned())]);
    let mut client = daemon.client();
    let not_supported = "io.systemd.InstanceMetadata.NotSupported";
    for (parameters, expected) in [
        (json!({ "key": "x" }), "org.varlink.service.InvalidParameter"),
        (json!({ "wellKnown": "region", "key": "/x" }), "org.varlink.service.InvalidParameter"),
        (json!({ "wellKnown": "region" }), not_supported),
        (json!({ "wellKnown": "base" }), not_supported),
        (json!({ "key": "/a", "interface": 99 }), not_supported),
    ] {
        let (error, _) = call(&mut client, "Get", parameters.clone());
        assert_eq!(error.as_deref(), Some(expected), "{parameters}");
    }
    assert_eq!(call(&mut client, "GetVendorInfo", json!({})).0.as_deref(), Some(not_supported));
}

#[test]
fn interface_has_the_names_types_and_order_of_the_peers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/imds/io.systemd.InstanceMetadata.varlink");
    let theirs = idl::parse(&fs::read(path).unwrap()).unwrap();
    let daemon = Daemon::start(&[]);
    let parameters = object(&json!({ "interface": INTERFACE }));
    let reply =
        daemon.client().invoke("org.varlink.service.GetInterfaceDescription", parameters).unwrap();
    let text = reply["description"].as_str().unwrap();
    let bare: String =
        text.lines().filter(|l| !l.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let ours = idl::parse(bare.as_bytes()).unwrap();
    assert_eq!(idl::format(&ours), idl::format(&theirs));
}

#[test]
fn many_answers_are_not_given_and_one_is() {
    let mock = mock();
    let daemon = Daemon::of(&mock);
    let mut client = daemon.client();
    let parameters = object(&json!({ "wellKnown": "hostname" }));
    let replies = client.collect(&format!("{INTERFACE}.Get"), parameters).unwrap().unwrap();
    assert_eq!(replies.len(), 1);
}

#[test]
fn socket_is_for_everybody_and_goes_with_the_service() {
    let mut daemon = Daemon::start(&[]);
    let mode = daemon.socket.symlink_metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o666);
    // Also with somebody connected.
    let _client = daemon.client();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!daemon.socket.exists());
}

#[test]
fn who_leaves_late_takes_nothing_from_who_has_come_after() {
    let mut old = Daemon::start(&[]);
    let mut new = Daemon::start_at(tempfile::tempdir().unwrap(), old.socket.clone(), &[]);
    assert!(old.stop().success());
    assert!(call(&mut new.client(), "Get", json!({})).0.is_some(), "it answers");
    assert!(new.stop().success());
    assert!(!new.socket.exists());
}

#[test]
fn service_keeps_no_privilege_but_those_of_its_requests() {
    let daemon = Daemon::start(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    // Low ports, network administration, raw sockets.
    let network = 1 << 10 | 1 << 12 | 1 << 13;
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(field(set) & !network, 0, "{set}");
    }
    assert_eq!(field("NoNewPrivs"), 1);
}

#[test]
fn seventeenth_connection_of_a_user_is_refused() {
    let mock = mock();
    let daemon = Daemon::of(&mock);
    let mut clients: Vec<Client> = (0..16).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_eq!(call(client, "Get", json!({ "wellKnown": "hostname" })).0, None);
    }
    let refused = daemon.client().call(&format!("{INTERFACE}.GetVendorInfo"), Map::new());
    assert!(refused.is_err());
}

#[test]
fn others_get_the_vendor_and_no_keys() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP others_get_the_vendor_and_no_keys: becoming another user needs root");
        return;
    }
    let mock = mock();
    let daemon = Daemon::of(&mock);
    let binary = daemon.dir.path().join("slipway");
    // Not by ourselves: a descriptor for writing, inherited by some other child, keeps it from being
    // run.
    assert!(Command::new("cp").arg(BINARY).arg(&binary).status().unwrap().success());
    let call = |method: &str, parameters: Value| {
        let output = Command::new(&binary)
            .args(["varlinkctl", "call", &daemon.socket.display().to_string()])
            .arg(format!("{INTERFACE}.{method}"))
            .arg(parameters.to_string())
            .env_clear()
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(call("GetVendorInfo", json!({})), "");
    assert!(call("Get", json!({ "wellKnown": "hostname" })).contains("Permission denied"));
    // What is wrong with a question may be told to anybody; that a name has no key may not.
    assert!(call("Get", json!({ "key": "x" })).contains("Invalid argument"));
    assert!(call("Get", json!({ "wellKnown": "region" })).contains("Permission denied"));
}

#[test]
fn callers_at_the_same_time_cost_one_request() {
    let slow = Answer::ok("slow").delay(Duration::from_millis(300));
    let mock = MockCloud::fixture("vultr").route("/latest/slow", slow).start();
    let daemon = Daemon::of(&mock);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (error, reply) = call(&mut daemon.client(), "Get", json!({ "key": "/slow" }));
                assert_eq!((error, &reply["data"]), (None, &json!("c2xvdw==")));
            });
        }
    });
    assert_eq!(mock.count("GET /latest/slow"), 1);
}

#[test]
fn service_runs_for_one_connection_under_its_peers_name() {
    let mock = mock();
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("systemd-imdsd");
    symlink(BINARY, &program).unwrap();
    let ctx = environment(&mock)
        .into_iter()
        .fold(Ctx::host([]), |ctx, (name, value)| ctx.with_env(name, value));
    let mut client = Client::connect(&ctx, &Address::Exec(program)).unwrap();
    let (error, reply) = call(&mut client, "Get", json!({ "wellKnown": "hostname" }));
    assert_eq!((error, &reply["data"]), (None, &json!("aXAtMTAtMC0wLTEuZXhhbXBsZQ==")));
}

fn options(socket: &Path, mock: &Mock) -> ConnectOptions {
    let mut endpoint = mock.endpoint();
    endpoint.data_url = Some(mock.url("/latest"));
    endpoint.well_known = [(WellKnown::Hostname, "/meta-data/hostname".to_owned())].into();
    ConnectOptions {
        socket: Some(socket.to_path_buf()),
        is_local: false,
        engine: EngineOptions {
            known: Some(endpoint),
            cache: CacheAt::Memory,
            ..EngineOptions::default()
        },
    }
}

#[test]
fn source_is_the_service_and_without_one_this_process_defect_23() {
    let mock = mock();
    let daemon = Daemon::of(&mock);
    let dir = tempfile::tempdir().unwrap();
    // Nobody is there; a socket nobody listens on; one who hangs up without a word.
    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    let rude = dir.path().join("rude");
    let listener = UnixListener::bind(&rude).unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept()));
    let hostname = Request::well_known(WellKnown::Hostname);
    for socket in [daemon.socket.clone(), dir.path().join("none"), dead, rude] {
        let mut source = connect(&Ctx::host([]), &options(&socket, &mock)).unwrap();
        assert_eq!(source.get(&hostname).unwrap().data, b"ip-10-0-0-1.example");
        assert_eq!(source.endpoint().unwrap().data_url, Some(mock.url("/latest")));
        assert_eq!(source.get(&Request::key("/nfb")), Err(Failure::KeyNotFound));
        assert_eq!(source.get(&Request::key("/f403")), Err(Failure::NotAvailable));
        let region = Request::well_known(WellKnown::Region);
        assert_eq!(source.get(&region), Err(Failure::WellKnownKeyUnset));
        assert_eq!(source.get(&Request::key("x")), Err(Failure::InvalidParameter("key".into())));
    }
    hang_up.join().unwrap();
}
