//! Network modes: the two files against the peer's vectors, and interfaces, routes and rules in
//! network namespaces that the tests make.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests; a skip is told on standard output"
)]

#[path = "common/netns.rs"]
mod netns;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use netns::Namespace;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::Uid;
use serde_json::{Value, json};
use slipway::conf::cmdline::Cmdline;
use slipway::ctx::Ctx;
use slipway::imds::model::{Endpoint, FIREWALL_MARK};
use slipway::imds::network::{
    Mode, State, apply_files, apply_routes, plan_files, plan_routes, remove_files, remove_routes,
};
use slipway::net::interface::{self, Interface, Link};
use slipway::net::route::{Route, TABLE_MAIN, UNICAST};
use slipway::net::watch::{Event, Watch};

const V4: &str = "169.254.169.254";
const V6: &str = "fd00:ec2::254";
const NOBODY: u32 = 65534;

fn endpoint(v4: Option<&str>, v6: Option<&str>) -> Endpoint {
    Endpoint {
        vendor: Some("foo".into()),
        data_url: Some("http://1.2.3.4".into()),
        address_ipv4: v4.map(|text| text.parse().unwrap()),
        address_ipv6: v6.map(|text| text.parse().unwrap()),
        ..Endpoint::default()
    }
}

// --- files ---

/// Sections in order, each with its settings in order, as the vectors have them.
fn sections(text: &str) -> Value {
    let mut sections: Vec<(String, serde_json::Map<String, Value>)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            sections.push((name.trim_end_matches(']').to_owned(), serde_json::Map::new()));
        } else {
            let (key, value) = line.split_once('=').unwrap();
            sections.last_mut().unwrap().1.insert(key.into(), value.into());
        }
    }
    sections.into_iter().map(|(name, keys)| json!([name, keys])).collect()
}

/// The settings of a section in order: a JSON object does not compare them.
fn order(sections: &Value) -> Vec<String> {
    sections.as_array().unwrap().iter().map(|section| section[1].to_string()).collect()
}

fn read(root: &Path, path: &str) -> Option<String> {
    fs::read_to_string(root.join(path)).ok()
}

const NETWORK: &str = "run/systemd/network/85-imds-early.network";
const RECORDS: &str = "run/systemd/resolve/static.d/imds-endpoint.rr";

#[test]
fn both_files_are_written_as_the_peer_writes_them() {
    let text = include_str!("vectors/imds/setup-network.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let root = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([])
            .with_root(root.path())
            .with_kernel("/nonexistent", "/nonexistent")
            .with_env("SYSTEMD_PROC_CMDLINE", case["cmdline"].as_str().unwrap());
        let line = Cmdline::load(&ctx).unwrap();
        let found = slipway::imds::endpoint::resolve(&ctx, &Default::default()).unwrap();
        let usable = found.filter(|endpoint| endpoint.data_url.is_some());
        assert_eq!(usable.is_none(), case["exit"] == 6, "{name}");
        if let Some(endpoint) = usable {
            let plan = plan_files(&endpoint, Mode::from_cmdline(&line, false));
            apply_files(&ctx, &plan).unwrap();
        }
        let network = read(root.path(), NETWORK);
        let ours = network.map_or(Value::Null, |text| sections(&text));
        assert_eq!(ours, case["sections"], "{name}");
        if !ours.is_null() {
            assert_eq!(order(&ours), order(&case["sections"]), "{name}");
        }
        let records = read(root.path(), RECORDS);
        let expected = (!case["rr"].is_null()).then(|| format!("{}\n", case["rr"]));
        assert_eq!(records, expected, "{name}");
    }
}

#[test]
fn files_are_replaced_at_once_and_left_alone_when_right() {
    let root = tempfile::tempdir().unwrap();
    let ctx = Ctx::host([]).with_root(root.path());
    let plan = plan_files(&endpoint(Some(V4), Some(V6)), Mode::Locked);
    apply_files(&ctx, &plan).unwrap();
    let inode = |path: &str| {
        let metadata = fs::metadata(root.path().join(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o644);
        metadata.ino()
    };
    let before = (inode(NETWORK), inode(RECORDS));
    apply_files(&ctx, &plan).unwrap();
    assert_eq!((inode(NETWORK), inode(RECORDS)), before);
    // Somebody kept the old file open: it stays whole for them.
    let old = fs::File::open(root.path().join(NETWORK)).unwrap();
    apply_files(&ctx, &plan_files(&endpoint(Some(V4), None), Mode::Unlocked)).unwrap();
    assert_ne!(inode(NETWORK), before.0);
    assert!(io::read_to_string(old).unwrap().contains("prohibit"));
    for dir in ["run/systemd/network", "run/systemd/resolve/static.d"] {
        assert_eq!(fs::read_dir(root.path().join(dir)).unwrap().count(), 1);
        assert_eq!(fs::metadata(root.path().join(dir)).unwrap().mode() & 0o7777, 0o755);
    }
    remove_files(&ctx).unwrap();
    remove_files(&ctx).unwrap();
    assert_eq!((read(root.path(), NETWORK), read(root.path(), RECORDS)), (None, None));
}

#[test]
fn trap_27_locked_without_an_address_warns() {
    let nowhere = endpoint(None, None);
    for (mode, count) in [(Mode::Locked, 1), (Mode::Unlocked, 0), (Mode::Off, 0)] {
        assert_eq!(plan_files(&nowhere, mode).warnings.len(), count);
        let plan = plan_routes(&nowhere, mode, None, &State::default());
        assert_eq!((plan.warnings.len(), plan.steps.len()), (count, 0));
    }
}

// --- plans ---

fn card(index: u32, addresses: &[&str]) -> Link {
    Link {
        interface: Interface { index, name: format!("eth{index}") },
        alternative_names: Vec::new(),
        kind: None,
        is_loopback: false,
        is_up: true,
        is_ethernet: true,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn default_route(interface: u32, gateway: &str) -> Route {
    Route {
        destination: "0.0.0.0".parse().unwrap(),
        prefix: 0,
        table: TABLE_MAIN,
        protocol: 16,
        scope: 0,
        kind: UNICAST,
        gateway: Some(gateway.parse().unwrap()),
        is_onlink: false,
        interface: Some(interface),
        metric: 100,
    }
}

#[test]
fn every_network_card_gets_a_way_and_the_primary_one_the_best() {
    let mut bridge = card(5, &["198.51.100.1"]);
    bridge.kind = Some("bridge".into());
    let mut dead = card(6, &["198.51.100.2"]);
    dead.is_up = false;
    let state = State {
        links: vec![
            card(2, &["192.0.2.2"]),
            card(3, &["192.0.2.3"]),
            card(4, &["2001:db8::4"]),
            dead,
            bridge,
        ],
        routes: vec![default_route(3, "192.0.2.1")],
        rules: Vec::new(),
    };
    let one = endpoint(Some(V4), None);
    let routes = |interface: Option<u32>| -> Vec<String> {
        let interface = interface.map(|index| card(index, &[]).interface);
        let plan = plan_routes(&one, Mode::Unlocked, interface.as_ref(), &state).to_string();
        let routes = plan.lines().filter(|line| line.contains("route add"));
        let end = " table 0x7fff0815 proto 73";
        let start = format!("ip route add {V4}/32 ");
        routes.map(|line| line.replace(end, "").replace(&start, "")).collect()
    };
    assert_eq!(routes(None), ["dev eth2 scope link metric 1", "via 192.0.2.1 dev eth3"]);
    assert_eq!(routes(Some(2)), ["dev eth2 scope link"]);
    assert_eq!(routes(Some(5)), ["dev eth5 scope link"]);
}

#[test]
fn an_endpoint_on_this_machine_needs_nothing() {
    let here = endpoint(Some("127.0.0.1"), Some("::1"));
    let state = State { links: vec![card(2, &["192.0.2.2"])], ..State::default() };
    assert_eq!(plan_routes(&here, Mode::Locked, None, &state).steps.len(), 0);
}

// --- the kernel ---

/// A client with the interface `c0` (192.0.2.2/24), and the service behind `s0`.
fn world(test: &str) -> Option<(Namespace, Namespace)> {
    let client = Namespace::new(test)?;
    let server = Namespace::new(test)?;
    client.connect("c0", &server, "s0");
    client.ip("addr add 192.0.2.2/24 dev c0");
    client.ip("addr add 2001:db8::2/64 dev c0 nodad");
    server.ip("addr add 192.0.2.1/24 dev s0");
    server.ip("addr add 2001:db8::1/64 dev s0 nodad");
    server.ip(&format!("addr add {V4}/32 dev s0"));
    server.ip(&format!("addr add {V6}/128 dev s0 nodad"));
    Some((client, server))
}

fn add_default_routes(client: &Namespace) {
    client.ip("route add default via 192.0.2.1");
    client.ip("-6 route add default via 2001:db8::1");
}

fn listen(server: &Namespace) -> [TcpListener; 2] {
    server.inside(|| {
        [V4, V6].map(|to| TcpListener::bind((to.parse::<IpAddr>().unwrap(), 80)).unwrap())
    })
}

/// Who tries to connect.
#[derive(Clone, Copy)]
struct Who {
    uid: u32,
    mark: Option<u32>,
    from: Option<&'static str>,
    card: Option<&'static str>,
}

const ROOT: Who = Who { uid: 0, mark: None, from: None, card: None };
const MARKED: Who = Who { mark: Some(FIREWALL_MARK), ..ROOT };
const USER: Who = Who { uid: NOBODY, ..ROOT };

/// The error number of a connection to the service; zero where it succeeds. On a thread of its
/// own, which may give up its privileges.
fn connect(client: &Namespace, to: &str, who: Who) -> i32 {
    let address = SocketAddr::new(to.parse().unwrap(), 80);
    let attempt = || -> rustix::io::Result<()> {
        if who.uid > 0 {
            rustix::thread::set_thread_uid(Uid::from_raw(who.uid)).unwrap();
        }
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Some(mark) = who.mark {
            setsockopt(&socket, sockopt::Mark, &mark)
                .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        }
        // What is dropped instead of refused ends here.
        let wait = Some(Duration::from_secs(2));
        rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Send, wait)?;
        if let Some(card) = who.card {
            setsockopt(&socket, sockopt::BindToDevice, &card.into())
                .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        }
        if let Some(from) = who.from {
            rustix::net::bind(&socket, &SocketAddr::new(from.parse().unwrap(), 0))?;
        }
        rustix::net::connect(&socket, &address)
    };
    client.inside(attempt).map_or_else(Errno::raw_os_error, |()| 0)
}

/// Plans and applies inside; how many steps it took.
fn apply(client: &Namespace, endpoint: &Endpoint, mode: Mode, through: Option<&str>) -> usize {
    client.inside(|| {
        let through = through.map(|name| interface::resolve(name).unwrap());
        let plan = plan_routes(endpoint, mode, through.as_ref(), &State::read().unwrap());
        assert_eq!(plan.warnings, [""; 0]);
        apply_routes(&plan).unwrap();
        plan.steps.len()
    })
}

/// Everything that ip(8) shows of routes and rules.
fn shown(client: &Namespace) -> String {
    let mut text = String::new();
    for args in ["-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all"] {
        let output = client.command("ip").args(args.split(' ')).output().unwrap();
        text.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    text
}

const EACCES: i32 = 13;
const EPERM: i32 = 1;

#[test]
fn locked_lets_the_mark_through_and_nothing_else() {
    let test = "locked_lets_the_mark_through_and_nothing_else";
    let Some((client, server)) = world(test) else { return };
    add_default_routes(&client);
    let _listeners = listen(&server);
    let before = shown(&client);
    for to in [V4, V6] {
        assert_eq!(connect(&client, to, ROOT), 0, "{to}");
    }
    let both = endpoint(Some(V4), Some(V6));
    assert!(apply(&client, &both, Mode::Locked, None) > 0);
    for to in [V4, V6] {
        assert_eq!(connect(&client, to, ROOT), EACCES, "{to}");
        assert_eq!(connect(&client, to, USER), EACCES, "{to}");
        assert_eq!(connect(&client, to, MARKED), 0, "{to}");
        assert_eq!(connect(&client, to, Who { mark: Some(1), ..ROOT }), EACCES, "{to}");
        // Without CAP_NET_ADMIN there is no mark to be had.
        assert_eq!(connect(&client, to, Who { uid: NOBODY, ..MARKED }), EPERM, "{to}");
    }
    let bound = Who { from: Some("192.0.2.2"), ..USER };
    assert_eq!(connect(&client, V4, bound), EACCES);
    let bound = Who { from: Some("2001:db8::2"), ..USER };
    assert_eq!(connect(&client, V6, bound), EACCES);
    // Linux would let these through, because it takes the service to be on the link.
    let bound = Who { card: Some("c0"), ..USER };
    assert!(connect(&client, V4, bound) != 0 && connect(&client, V6, bound) != 0);
    let bound = Who { card: Some("c0"), ..MARKED };
    assert_eq!((connect(&client, V4, bound), connect(&client, V6, bound)), (0, 0));
    // Everything else is as it was.
    let other = server.inside(|| TcpListener::bind("192.0.2.1:80").unwrap());
    assert_eq!(connect(&client, "192.0.2.1", USER), 0);
    drop(other);

    let locked = shown(&client);
    assert_eq!(apply(&client, &both, Mode::Locked, None), 0, "applied twice");
    assert_eq!(shown(&client), locked);
    apply(&client, &both, Mode::Unlocked, None);
    for who in [ROOT, USER, MARKED] {
        assert_eq!((connect(&client, V4, who), connect(&client, V6, who)), (0, 0));
    }
    apply(&client, &both, Mode::Locked, None);
    client.inside(|| remove_routes().unwrap());
    assert_eq!(shown(&client), before);
    assert_eq!((connect(&client, V4, ROOT), connect(&client, V6, ROOT)), (0, 0));
    client.inside(|| remove_routes().unwrap());
}

#[test]
fn the_lock_does_not_drop_answers_where_the_way_back_is_checked() {
    let test = "the_lock_does_not_drop_answers_where_the_way_back_is_checked";
    for has_default in [true, false] {
        let Some((client, server)) = world(test) else { return };
        if has_default {
            add_default_routes(&client);
        }
        let _listeners = listen(&server);
        apply(&client, &endpoint(Some(V4), Some(V6)), Mode::Locked, Some("c0"));
        for strictness in ["1", "2"] {
            let write = format!("echo {strictness} >/proc/sys/net/ipv4/conf/all/rp_filter");
            // A thread's view of /proc/sys/net is its process's; a child's is its own.
            let status = client.command("sh").args(["-c", &write]).status().unwrap();
            assert!(status.success());
            assert_eq!(connect(&client, V4, MARKED), 0, "rp_filter={strictness}");
            assert_eq!(connect(&client, V6, MARKED), 0, "rp_filter={strictness}");
            assert_eq!(connect(&client, V4, ROOT), EACCES);
        }
    }
}

#[test]
fn forwarded_packets_are_locked_out_as_well() {
    let test = "forwarded_packets_are_locked_out_as_well";
    let Some((client, server)) = world(test) else { return };
    let Some(container) = Namespace::new(test) else { return };
    add_default_routes(&client);
    let _listeners = listen(&server);
    client.connect("d0", &container, "e0");
    client.ip("addr add 198.51.100.1/24 dev d0");
    container.ip("addr add 198.51.100.2/24 dev e0");
    container.ip("route add default via 198.51.100.1");
    server.ip("route add 198.51.100.0/24 via 192.0.2.2");
    let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
    assert!(client.command("sh").args(["-c", forward]).status().unwrap().success());
    assert_eq!(connect(&container, V4, ROOT), 0);
    apply(&client, &endpoint(Some(V4), None), Mode::Locked, None);
    assert_ne!(connect(&container, V4, ROOT), 0);
    assert_eq!(connect(&client, V4, MARKED), 0);
}

#[test]
fn the_next_hop_is_copied_and_follows_changes() {
    let test = "the_next_hop_is_copied_and_follows_changes";
    let Some((client, _server)) = world(test) else { return };
    let both = endpoint(Some(V4), Some(V6));
    let table = |args: &str| {
        let output = client.command("ip").args(args.split(' ')).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let four = || table("-4 route show table 0x7fff0815");
    let six = || table("-6 route show table 0x7fff0815");
    // Nothing is known: on the link.
    assert_eq!(apply(&client, &both, Mode::Locked, None), 3 + 6 + 2);
    assert_eq!(four(), format!("{V4} dev c0 proto 73 scope link"));
    assert_eq!(six(), format!("{V6} dev c0 proto 73 metric 1024 pref medium"));
    // DHCP came, behind the lock.
    add_default_routes(&client);
    assert_eq!(apply(&client, &both, Mode::Locked, None), 4);
    assert_eq!(four(), format!("{V4} via 192.0.2.1 dev c0 proto 73"));
    assert_eq!(six(), format!("{V6} via 2001:db8::1 dev c0 proto 73 metric 1024 pref medium"));
    // A route to the service alone counts more, and so does a lower metric.
    client.ip(&format!("route add {V4} via 192.0.2.3 dev c0 metric 200"));
    client.ip(&format!("route add {V4} via 192.0.2.4 dev c0 metric 100"));
    apply(&client, &both, Mode::Locked, None);
    assert_eq!(four(), format!("{V4} via 192.0.2.4 dev c0 proto 73"));
    // A gateway outside the interface's addresses, as Google has it.
    client.ip(&format!("route add {V4} via 203.0.113.1 dev c0 onlink metric 50"));
    apply(&client, &both, Mode::Locked, None);
    assert_eq!(four(), format!("{V4} via 203.0.113.1 dev c0 proto 73 onlink"));
    assert_eq!(apply(&client, &both, Mode::Locked, None), 0);
    client.inside(|| remove_routes().unwrap());
    assert_eq!((four(), six()), (String::new(), String::new()));
}

#[test]
fn what_somebody_else_made_stays_and_counts() {
    let test = "what_somebody_else_made_stays_and_counts";
    let Some((client, _server)) = world(test) else { return };
    client.ip(&format!("route add {V4} dev c0 scope link table 0x7fff0815"));
    client.ip("rule add pref 30815 fwmark 0x7fff0815 table 0x7fff0815");
    client.ip(&format!("rule add pref 30820 to {V4} from 192.0.2.9 prohibit"));
    client.ip(&format!("rule add pref 77 not fwmark 0x7fff0815 to {V4} prohibit"));
    client.ip(&format!("route add prohibit {V4}"));
    client.ip("route add 198.51.100.0/24 dev c0 proto 73");
    let before = shown(&client);
    let one = endpoint(Some(V4), None);
    assert_eq!(apply(&client, &one, Mode::Unlocked, Some("c0")), 0);
    assert_eq!(apply(&client, &one, Mode::Locked, Some("c0")), 6);
    client.inside(|| remove_routes().unwrap());
    assert_eq!(shown(&client), before);
}

#[test]
fn a_dry_run_shows_commands_that_do_the_same() {
    let test = "a_dry_run_shows_commands_that_do_the_same";
    let Some((client, _server)) = world(test) else { return };
    add_default_routes(&client);
    let both = endpoint(Some(V4), Some(V6));
    let plan = |mode| client.inside(|| plan_routes(&both, mode, None, &State::read().unwrap()));
    let commands = plan(Mode::Locked).to_string();
    let before = shown(&client);
    for command in commands.lines() {
        client.ip(command.strip_prefix("ip ").unwrap());
    }
    assert_ne!(shown(&client), before);
    assert!(plan(Mode::Locked).steps.is_empty(), "{}", plan(Mode::Locked));
    for command in plan(Mode::Off).to_string().lines() {
        client.ip(command.strip_prefix("ip ").unwrap());
    }
    assert_eq!(shown(&client), before);
}

#[test]
fn without_a_usable_interface_the_lock_is_there_and_the_way_is_told_missing() {
    let test = "without_a_usable_interface_the_lock_is_there_and_the_way_is_told_missing";
    let Some(client) = Namespace::new(test) else { return };
    let one = endpoint(Some(V4), None);
    client.inside(|| {
        let plan = plan_routes(&one, Mode::Locked, None, &State::read().unwrap());
        assert_eq!(plan.warnings.len(), 1);
        apply_routes(&plan).unwrap();
    });
    assert_eq!(connect(&client, V4, ROOT), EACCES);
    client.ip("link add name a0 type veth peer name b0");
    client.inside(|| {
        let plan = plan_routes(&one, Mode::Locked, None, &State::read().unwrap());
        assert_eq!(plan.steps.len(), 0);
        assert!(plan.warnings[0].contains("is down"), "{:?}", plan.warnings);
    });
}

#[test]
fn the_kernels_refusal_is_told_with_its_own_words_and_the_command() {
    let test = "the_kernels_refusal_is_told_with_its_own_words_and_the_command";
    let Some((client, _server)) = world(test) else { return };
    let one = endpoint(Some(V4), None);
    let plan = client.inside(|| plan_routes(&one, Mode::Unlocked, None, &State::read().unwrap()));
    client.ip("link set c0 down");
    let err = client.inside(|| apply_routes(&plan).unwrap_err());
    assert_eq!(
        err.to_string(),
        format!(
            "Failed to do 'ip route add {V4}/32 dev c0 scope link table 0x7fff0815 proto 73': \
             Device for nexthop is not up: Network is down"
        )
    );
    client.ip("link set c0 up");
    let err = client.inside(|| {
        rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
        apply_routes(&plan).unwrap_err()
    });
    assert_eq!((err.errno(), err.hints().len()), (Some(EPERM), 1));
}

/// The output of `imdsd --setup-network` inside, with a `/run` of its own.
fn setup(client: &Namespace, network: &str, options: &[&str]) -> String {
    let line = format!(
        "systemd.imds.vendor=foo systemd.imds.data_url=http://{V4} \
         systemd.imds.address_ipv4={V4} systemd.imds.network={network}"
    );
    let output = client
        .command("unshare")
        .args(["-m", "sh", "-euc", "mount -t tmpfs tmpfs /run; exec \"$@\"", "run"])
        .args([env!("CARGO_BIN_EXE_slipway"), "imdsd", "--setup-network"])
        .args(options)
        .env("SYSTEMD_PROC_CMDLINE", line)
        .output()
        .unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), messages.as_str()), (Some(0), ""), "{options:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_applet_shows_applies_and_removes() {
    let test = "the_applet_shows_applies_and_removes";
    let Some((client, server)) = world(test) else { return };
    add_default_routes(&client);
    let _listeners = listen(&server);
    let before = shown(&client);
    let plan = setup(&client, "locked", &["--apply", "--dry-run"]);
    assert_eq!((plan.lines().count(), shown(&client) == before), (8, true));
    for _ in 0..2 {
        assert_eq!(setup(&client, "locked", &["--apply"]), "");
        assert_eq!(connect(&client, V4, ROOT), EACCES);
        assert_eq!(connect(&client, V4, MARKED), 0);
    }
    assert_eq!(setup(&client, "locked", &["--apply", "--dry-run"]), "");
    assert_eq!(setup(&client, "off", &["--remove", "--dry-run"]).lines().count(), 8);
    assert_eq!(setup(&client, "unlocked", &["--apply"]), "");
    assert_eq!(connect(&client, V4, USER), 0);
    // Nothing is wanted any more: what is there goes.
    assert_eq!(setup(&client, "off", &["--apply"]), "");
    assert_eq!(shown(&client), before);
    setup(&client, "locked", &["--apply"]);
    setup(&client, "locked", &["--remove"]);
    assert_eq!(shown(&client), before);
    let files = setup(&client, "locked", &["--dry-run"]);
    assert!(files.starts_with("# /run/systemd/network/85-imds-early.network\n"), "{files}");
    assert!(files.contains("\n# /run/systemd/resolve/static.d/imds-endpoint.rr\n[{"), "{files}");
}

// --- interfaces ---

fn named<'a>(links: &'a [Link], name: &str) -> &'a Link {
    links.iter().find(|link| link.interface.name == name).unwrap()
}

#[test]
fn interfaces_have_names_alternative_names_and_addresses() {
    let test = "interfaces_have_names_alternative_names_and_addresses";
    let Some((client, _server)) = world(test) else { return };
    let long = "a-name-of-more-than-fifteen-bytes";
    client.ip("link add name z0 type veth peer name z1");
    client.ip(&format!("link property add dev c0 altname {long}"));
    client.ip("link property add dev c0 altname short");
    client.inside(|| {
        let links = interface::list().unwrap();
        let link = named(&links, "c0");
        assert_eq!(link.alternative_names, [long, "short"]);
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert!(link.is_up && link.is_ethernet && !link.is_loopback);
        let v4: IpAddr = "192.0.2.2".parse().unwrap();
        let v6: IpAddr = "2001:db8::2".parse().unwrap();
        assert!(link.addresses.contains(&v4) && link.addresses.contains(&v6));
        let other = named(&links, "z0");
        assert!(!other.is_up && other.addresses.is_empty());
        assert_eq!(links[0], *link, "what is up comes first");
        assert!(links.last().unwrap().is_loopback);
        for name in ["c0", "short", long, &link.interface.index.to_string()] {
            assert_eq!(interface::resolve(name).unwrap(), link.interface, "{name}");
        }
    });
    let before = client.inside(|| interface::resolve("c0").unwrap());
    client.ip("link set c0 name renamed0");
    client.inside(|| {
        assert_eq!(interface::by_index(before.index).unwrap().name, "renamed0");
        assert_eq!(interface::resolve("c0").unwrap_err().errno(), Some(19));
        assert_eq!(interface::resolve("short").unwrap().index, before.index);
    });
    client.ip("link del renamed0");
    client.inside(|| assert_eq!(interface::by_index(before.index).unwrap_err().errno(), Some(19)));
}

#[test]
fn a_watch_hears_of_addresses_when_they_can_be_used() {
    let test = "a_watch_hears_of_addresses_when_they_can_be_used";
    let Some((client, _server)) = world(test) else { return };
    let mut watch = client.inside(|| Watch::new().unwrap());
    let index = client.inside(|| interface::resolve("c0").unwrap().index);
    assert_eq!(watch.next(Duration::ZERO).unwrap(), None);
    let next = |watch: &mut Watch, text: &str| {
        let wanted = Event::Address { interface: index, address: text.parse().unwrap() };
        // The kernel's own addresses may come in between.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if watch.next(Duration::from_secs(1)).unwrap().as_ref() == Some(&wanted) {
                return;
            }
        }
        panic!("nothing heard of {text}");
    };
    client.ip("addr add 198.51.100.7/24 dev c0");
    next(&mut watch, "198.51.100.7");
    // Only once nobody else claims to have it.
    client.ip("addr add 2001:db8::7/64 dev c0");
    next(&mut watch, "2001:db8::7");
    let links = client.inside(|| interface::list().unwrap());
    assert!(named(&links, "c0").addresses.contains(&"2001:db8::7".parse().unwrap()));
}

#[test]
fn a_watch_that_was_not_read_for_long_says_that_events_are_lost() {
    let test = "a_watch_that_was_not_read_for_long_says_that_events_are_lost";
    let Some((client, _server)) = world(test) else { return };
    let mut watch = client.inside(|| Watch::new().unwrap());
    let script = "for i in $(seq 1 250); do for j in 1 2 3 4 5 6; do \
                  echo address add 10.$j.$i.1/24 dev c0; done; done | ip -batch -";
    assert!(client.command("sh").args(["-c", script]).status().unwrap().success());
    let mut is_lost = false;
    while let Some(event) = watch.next(Duration::ZERO).unwrap() {
        is_lost |= event == Event::Lost;
    }
    assert!(is_lost);
    // It goes on.
    client.ip("addr add 198.51.100.7/24 dev c0");
    assert!(watch.next(Duration::from_secs(10)).unwrap().is_some());
    // Many addresses do not fit one datagram.
    let links = client.inside(|| interface::list().unwrap());
    assert!(named(&links, "c0").addresses.len() > 1500);
}
