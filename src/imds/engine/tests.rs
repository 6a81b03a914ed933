//! The engine on a network that a test makes up.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use super::*;
use crate::ctx::Clock;
use crate::error::Error;
use crate::imds::fetch::Elsewhere;
use crate::imds::interfaces::Changes;
use crate::net::Link;

/// What comes back through an interface, whatever the key.
#[derive(Clone, Debug)]
enum Fate {
    Value(&'static str),
    Fails(Failure),
    /// Nothing, until nobody wants it any more.
    Hangs,
    /// Nothing, until the answer is elsewhere.
    Retries,
}

#[derive(Default)]
struct World {
    links: Mutex<Vec<Link>>,
    is_dumb: bool,
    fates: Mutex<HashMap<String, Fate>>,
    opened: AtomicUsize,
    fetched: AtomicUsize,
    /// Interfaces that appear when somebody waits for addresses.
    late: Mutex<Vec<Link>>,
}

#[derive(Clone, Default)]
struct Net(Arc<World>);

struct Talk(Arc<World>, String);

struct Later(Arc<World>);

impl Line for Talk {
    fn fetch(
        &mut self,
        _: &str,
        _: Duration,
        cancel: &Cancel,
        elsewhere: &Elsewhere<'_>,
    ) -> Result<Vec<u8>, Failure> {
        self.0.fetched.fetch_add(1, Ordering::SeqCst);
        let fate = lock(&self.0.fates).get(&self.1).cloned();
        match fate.unwrap_or(Fate::Value("value")) {
            Fate::Value(value) => Ok(value.into()),
            Fate::Fails(failure) => Err(failure),
            Fate::Retries => loop {
                if let Some(found) = elsewhere() {
                    return found;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            },
            Fate::Hangs => {
                while !cancel.is_cancelled() {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                Err(Failure::Timeout(String::new()))
            }
        }
    }
}

impl Changes for Later {
    fn wait(&mut self, _: Duration) -> bool {
        match lock(&self.0.late).pop() {
            Some(link) => lock(&self.0.links).push(link),
            None => {
                std::thread::park_timeout(Duration::from_millis(1));
                return false;
            }
        }
        true
    }
}

impl Network for Net {
    fn links(&self) -> crate::error::Result<Vec<Link>> {
        match self.0.is_dumb {
            true => Err(Error::new("no netlink")),
            false => Ok(lock(&self.0.links).clone()),
        }
    }

    fn by_index(&self, index: u32) -> crate::error::Result<Interface> {
        self.find(&|link| link.interface.index == index)
    }

    fn by_name(&self, name: &str) -> crate::error::Result<Interface> {
        self.find(&|link| {
            link.interface.name == name || link.alternative_names.iter().any(|n| n == name)
        })
    }

    fn watch(&self) -> crate::error::Result<Box<dyn Changes>> {
        Ok(Box::new(Later(Arc::clone(&self.0))))
    }

    fn open(&self, _: &Endpoint, route: Route, _: Arc<dyn TokenStore>) -> Box<dyn Line> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        let name = route.interface.map_or("none".to_owned(), |interface| interface.name);
        Box::new(Talk(Arc::clone(&self.0), name))
    }
}

impl Net {
    fn find(&self, is_it: &dyn Fn(&Link) -> bool) -> crate::error::Result<Interface> {
        let links = lock(&self.0.links);
        let found = links.iter().find(|link| is_it(link));
        found.map(|l| l.interface.clone()).ok_or_else(|| Error::new("No such device"))
    }

    /// These interfaces, the loopback too.
    fn with(names: &[&str]) -> Self {
        let mut links = vec![Link { is_loopback: true, ..link(1, "lo") }];
        links.extend((2..).zip(names).map(|(index, name)| link(index, name)));
        Self(Arc::new(World { links: Mutex::new(links), ..World::default() }))
    }

    fn fate(self, name: &str, fate: Fate) -> Self {
        lock(&self.0.fates).insert(name.to_owned(), fate);
        self
    }

    fn fetched(&self) -> usize {
        self.0.fetched.load(Ordering::SeqCst)
    }
}

fn link(index: u32, name: &str) -> Link {
    Link {
        interface: Interface { index, name: name.to_owned() },
        alternative_names: Vec::new(),
        kind: None,
        is_loopback: false,
        is_up: true,
        is_ethernet: true,
        addresses: vec!["192.0.2.1".parse().unwrap()],
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        data_url: Some("http://169.254.169.254/latest".to_owned()),
        well_known: [(WellKnown::Hostname, "/h".to_owned())].into(),
        ..Endpoint::default()
    }
}

fn engine_for(ctx: &Ctx, net: &Net, dir: &Path, endpoint: Endpoint) -> Engine {
    let options = EngineOptions {
        known: Some(endpoint),
        cache: CacheAt::Directory(dir.to_path_buf()),
        ..EngineOptions::default()
    };
    Engine::with_network(ctx, options, Box::new(net.clone()))
}

fn engine(net: &Net, dir: &Path) -> Engine {
    engine_for(&Ctx::host([]), net, dir, endpoint())
}

fn unreachable() -> Fate {
    Fate::Fails(Failure::CommunicationFailure("refused".to_owned()))
}

fn pinned(dir: &Path) -> Option<String> {
    std::fs::read_to_string(dir.join("ifname")).ok()
}

fn value(reply: Result<Reply, Failure>) -> (String, Option<u32>) {
    let reply = reply.unwrap();
    (String::from_utf8(reply.data).unwrap(), reply.interface)
}

fn key(key: &str) -> Request {
    Request::key(key)
}

#[test]
fn dead_first_interface_costs_nothing_and_the_live_one_is_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["dead", "live"]).fate("dead", Fate::Hangs);
    let engine = engine(&net, dir.path());
    assert_eq!(value(engine.ask(&key("/a"))), ("value".to_owned(), Some(3)));
    assert_eq!(pinned(dir.path()).as_deref(), Some("live\n"));
    // The second question goes there and nowhere else.
    let before = net.fetched();
    assert_eq!(value(engine.ask(&key("/b"))).1, Some(3));
    assert_eq!(net.fetched(), before + 1);
}

#[test]
fn final_answer_of_one_interface_ends_the_search() {
    for failure in [Failure::KeyNotFound, Failure::NotAvailable] {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::with(&["dead", "live"])
            .fate("dead", Fate::Hangs)
            .fate("live", Fate::Fails(failure.clone()));
        assert_eq!(engine(&net, dir.path()).ask(&key("/a")), Err(failure));
        assert_eq!(pinned(dir.path()).as_deref(), Some("live\n"), "it did answer");
    }
}

#[test]
fn all_interfaces_dead_is_the_last_failure() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["a", "b"]).fate("a", unreachable()).fate("b", unreachable());
    let answer = engine(&net, dir.path()).ask(&key("/a"));
    assert!(matches!(answer, Err(Failure::CommunicationFailure(_))), "{answer:?}");
    assert_eq!((pinned(dir.path()), net.fetched()), (None, 2));
}

#[test]
fn pinned_interface_that_died_is_forgotten_and_the_others_are_asked() {
    for fate in [unreachable(), Fate::Fails(Failure::Timeout("silence".to_owned()))] {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::with(&["old", "new"]).fate("old", fate.clone());
        std::fs::write(dir.path().join("ifname"), "old\n").unwrap();
        assert_eq!(value(engine(&net, dir.path()).ask(&key("/a"))).1, Some(3), "{fate:?}");
        assert_eq!(pinned(dir.path()).as_deref(), Some("new\n"));
    }
    // Where there is no other, its failure is the answer and it stays.
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["old"]).fate("old", unreachable());
    std::fs::write(dir.path().join("ifname"), "old\n").unwrap();
    let answer = engine(&net, dir.path()).ask(&key("/a"));
    assert!(matches!(answer, Err(Failure::CommunicationFailure(_))), "{answer:?}");
    assert_eq!((pinned(dir.path()).as_deref(), net.fetched()), (Some("old\n"), 1));
}

#[test]
fn pinned_interface_that_was_renamed_or_is_gone_is_forgotten() {
    for name in ["gone", "alternative"] {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::with(&["eth9"]);
        if let Some(link) = lock(&net.0.links).last_mut() {
            link.alternative_names.push("alternative".to_owned());
        }
        std::fs::write(dir.path().join("ifname"), format!("{name}\n")).unwrap();
        assert_eq!(value(engine(&net, dir.path()).ask(&key("/a"))).1, Some(2));
        assert_eq!(pinned(dir.path()).as_deref(), Some("eth9\n"));
    }
}

#[test]
fn address_that_appears_later_is_used() {
    let dir = tempfile::tempdir().unwrap();
    for (names, wait) in [(&[][..], false), (&[][..], true), (&["dead"][..], true)] {
        let net = Net::with(names).fate("dead", unreachable());
        lock(&net.0.late).push(link(7, "late"));
        let request = Request { wait, cache: Some(false), ..key("/a") };
        let _ = std::fs::remove_file(dir.path().join("ifname"));
        assert_eq!(value(engine(&net, dir.path()).ask(&request)).1, Some(7), "{names:?} {wait}");
    }
}

#[test]
fn endpoint_on_this_machine_and_unlisted_interfaces_need_no_choice() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["http://127.0.0.1:80/x", "http://[::1]/", "http://localhost:1"] {
        let net = Net::with(&["eth0"]).fate("eth0", Fate::Hangs);
        let endpoint = Endpoint { data_url: Some(url.to_owned()), ..Endpoint::default() };
        let engine = engine_for(&Ctx::host([]), &net, dir.path(), endpoint);
        let request = Request { cache: Some(false), ..key("/a") };
        assert_eq!(value(engine.ask(&request)).1, None, "{url}");
    }
    let net = Net(Arc::new(World { is_dumb: true, ..World::default() }));
    assert_eq!(value(engine(&net, dir.path()).ask(&key("/a"))).1, None);
    assert_eq!(pinned(dir.path()), None);
}

#[test]
fn cache_answers_this_engine_and_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["eth0", "eth1"]).fate("eth0", Fate::Hangs);
    let first = engine(&net, dir.path());
    first.ask(&Request::well_known(WellKnown::Hostname)).unwrap();
    let before = net.fetched();
    for engine in [&first, &engine(&net, dir.path())] {
        assert_eq!(value(engine.ask(&key("/h"))).1, Some(3), "the name's key is the key");
        // Also where nobody knows the interface any more.
        std::fs::remove_file(dir.path().join("ifname")).unwrap();
        assert_eq!(value(engine.ask(&key("/h"))).1, Some(3));
        std::fs::write(dir.path().join("ifname"), "eth1\n").unwrap();
    }
    assert_eq!(net.fetched(), before);
    let uncached = Request { cache: Some(false), ..key("/h") };
    first.ask(&uncached).unwrap();
    assert_eq!(net.fetched(), before + 1);
}

#[test]
fn who_waits_for_the_next_attempt_finds_what_another_process_has_stored() {
    use std::os::unix::fs::MetadataExt as _;
    for fate in [Fate::Value("other"), Fate::Fails(Failure::KeyNotFound)] {
        let dir = tempfile::tempdir().unwrap();
        let slow = Net::with(&["eth0"]).fate("eth0", Fate::Retries);
        let waiting = engine(&slow, dir.path());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| waiting.ask(&key("/a")));
            while slow.fetched() == 0 {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            let answer =
                engine(&Net::with(&["eth0"]).fate("eth0", fate), dir.path()).ask(&key("/a"));
            let inode = || {
                let path = dir.path().join("cache/eth0/key-\\x2fa");
                path.metadata().unwrap().ino()
            };
            let stored = inode();
            assert_eq!(waiter.join().unwrap(), answer);
            assert_eq!(inode(), stored, "it is not made younger");
        });
    }
}

#[test]
fn nobody_finds_in_the_common_cache_what_a_service_on_this_machine_said() {
    let dir = tempfile::tempdir().unwrap();
    let common = dir.path().join("run/systemd/imds");
    let own = dir.path().join("own");
    let bare = Ctx::host([]).with_root(dir.path());
    let loopback = Some("http://127.0.0.1/x".to_owned());
    for (ctx, url, place) in [
        (bare.clone(), loopback.clone(), None),
        (bare.clone(), endpoint().data_url, Some(common.join("cache/eth0"))),
        (bare.with_env("RUNTIME_DIRECTORY", &own), loopback, Some(own.join("cache/lo"))),
    ] {
        let net = Net::with(&["eth0"]);
        let known = Some(Endpoint { data_url: url, ..endpoint() });
        let options = EngineOptions { known, ..EngineOptions::default() };
        let engine = Engine::with_network(&ctx, options, Box::new(net));
        engine.ask(&key("/a")).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        match place.filter(|place| is_root || place.starts_with(&own)) {
            Some(place) => assert!(place.join("key-\\x2fa").exists(), "{place:?}"),
            None => assert!(!common.exists()),
        }
    }
}

#[test]
fn an_endpoint_that_is_tried_out_neither_reads_nor_fills_the_cache_of_the_machines_own() {
    let dir = tempfile::tempdir().unwrap();
    let own = Ctx::host([]).with_root(dir.path());
    let tried = own.clone().with_env("SYSTEMD_IMDS_DATA_URL", "http://192.0.2.7/x");
    let of_option = endpoint::Options {
        endpoint: Endpoint { data_url: Some("http://192.0.2.8/x".to_owned()), ..endpoint() },
    };
    let none = endpoint::Options::default();
    for (ctx, options, name) in
        [(&own, &none, "own"), (&tried, &none, "variable"), (&own, &of_option, "option")]
    {
        for _ in 0..2 {
            let net = Net::with(&["eth0"]).fate("eth0", Fate::Value(name));
            let options = EngineOptions {
                endpoint: options.clone(),
                known: Some(endpoint()),
                ..EngineOptions::default()
            };
            let engine = Engine::with_network(ctx, options, Box::new(net));
            assert_eq!(value(engine.ask(&key("/a"))).0, name);
        }
    }
}

#[test]
fn conversation_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["eth0"]);
    let engine = engine(&net, dir.path());
    for name in ["/a", "/b", "/c"] {
        engine.ask(&key(name)).unwrap();
    }
    assert_eq!((net.fetched(), net.0.opened.load(Ordering::SeqCst)), (3, 1));
    // Another mark is another conversation.
    engine.ask(&Request { mark: Mark::Off, ..key("/d") }).unwrap();
    assert_eq!(net.0.opened.load(Ordering::SeqCst), 2);
}

#[test]
fn questions_are_checked_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let bad = |request: &Request| check(request) == Err(Failure::InvalidParameter("key".into()));
    let named = |name, own: Option<&str>| Request {
        key: own.map(str::to_owned),
        ..Request::well_known(name)
    };
    for text in ["", "x", "/ü", "/a\n", "/\u{7f}"] {
        assert!(bad(&key(text)), "{text:?}");
    }
    assert!(bad(&Request { key: None, ..key("/a") }));
    assert!(bad(&named(WellKnown::Hostname, Some("/x"))));
    assert!(check(&named(WellKnown::UserdataBase, Some("/x"))).is_ok());
    assert!(check(&named(WellKnown::Base, None)).is_ok(), "that is for later");

    let net = Net::with(&["eth0"]);
    let nowhere = engine_for(&Ctx::host([]), &net, dir.path(), Endpoint::default());
    assert_eq!(nowhere.ask(&named(WellKnown::Region, None)), Err(Failure::NotSupported));
    let half = Endpoint { token_url: Some("http://x/".to_owned()), ..endpoint() };
    let half = engine_for(&Ctx::host([]), &net, dir.path(), half);
    assert_eq!(half.ask(&key("/a")), Err(Failure::NotSupported));
    let engine = engine(&net, dir.path());
    for name in [WellKnown::Region, WellKnown::Base] {
        assert_eq!(engine.ask(&named(name, None)), Err(Failure::WellKnownKeyUnset));
    }
    let nobody = engine.ask(&Request { interface: Some(99), ..key("/a") });
    assert!(matches!(nobody, Err(Failure::CommunicationFailure(_))));
    assert_eq!(net.fetched(), 0);
}

/// Time passes only when somebody sleeps.
#[derive(Default)]
struct Still(AtomicU64);

impl Clock for Still {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[test]
fn requests_keep_to_the_pace_of_the_cloud() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["eth0"]);
    let mut endpoint = endpoint();
    endpoint.traits.requests_per_second = Some(5);
    let ctx = Ctx::host([]).with_clock(Arc::new(Still::default()));
    let engine = engine_for(&ctx, &net, dir.path(), endpoint);
    for number in 0..15 {
        engine.ask(&key(&format!("/{number}"))).unwrap();
    }
    assert_eq!(ctx.monotonic(), Duration::from_secs(2), "five at once, then five a second");
}

#[test]
fn interfaces_that_lead_nowhere_do_not_slow_the_next_questions_down() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["eth0", "veth1", "veth2", "veth3", "veth4", "veth5", "veth6", "veth7"];
    let dead = |net: Net, name: &&str| net.fate(name, unreachable());
    let net = names.iter().skip(1).fold(Net::with(&names), dead);
    let mut endpoint = endpoint();
    endpoint.traits.requests_per_second = Some(5);
    let ctx = Ctx::host([]).with_clock(Arc::new(Still::default()));
    let engine = engine_for(&ctx, &net, dir.path(), endpoint);
    for number in 0..5 {
        engine.ask(&key(&format!("/{number}"))).unwrap();
    }
    assert_eq!(ctx.monotonic(), Duration::ZERO);
}

#[test]
fn callers_at_the_same_time_become_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::with(&["eth0"]);
    let engine = engine(&net, dir.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(value(engine.ask(&key("/a"))).0, "value"));
        }
    });
    assert_eq!(net.fetched(), 1);
}
