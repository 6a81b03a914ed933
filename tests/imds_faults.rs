//! Services and networks that break: every case of `tests/vectors/imds/faults.json`, the same
//! faults on each of the nine clouds, and the defects of the peer that must not come back.
//!
//! Where its case says nothing else, the result is the peer's. The peer's errors without a name
//! (errno 5, 117, 131, 1073741955) are `CommunicationFailure` here (defects 3 and 5).
//!
//! One test for each of the peer's 24 defects; many have more (`grep -r defect_`):
//!
//! - defect 1, 404 with a body is a failure: `pages_of_not_found_are_not_found_on_every_cloud_defect_1`
//! - defect 2, 401 with a body: no renewal: `stale_tokens_are_renewed_once_defect_2`
//! - defect 3, errors without a name: `every_status_has_a_name_and_an_errno_of_linux_defects_3_and_5`
//! - defect 4, silence after the last attempt: `the_end_of_attempts_is_told_at_once_defects_4_and_5`
//! - defect 5, "Structure needs cleaning": `the_end_of_attempts_is_told_at_once_defects_4_and_5`
//! - defect 6, Retry-After, passing statuses, early 404: `busy_services_are_asked_again_when_they_say_so_defect_6`
//! - defect 7, no time-out per attempt: `a_stall_costs_one_attempt_defect_7`
//! - defect 8, foreign redirects and proxies: `redirects_are_not_followed_but_to_the_same_directory_defect_8`
//! - defect 9, output before a failure: `nothing_is_printed_before_a_failure_defect_9`
//! - defect 10, newline after a token: `a_token_may_end_in_a_newline_defect_10_but_not_be_empty_defect_11`
//! - defect 11, empty token: `a_token_may_end_in_a_newline_defect_10_but_not_be_empty_defect_11`
//! - defect 12, wrong keys in the table: `identity_leads_to_values_at_the_real_addresses_of_each_cloud_defect_12`
//! - defect 13, values in a form of their own: `values_mean_the_same_on_every_cloud_defect_13`
//! - defect 14, only the first SSH key: `all_ssh_keys_are_found_once_each_defect_14`
//! - defect 15, IPv6 never used: `clouds_with_an_ipv6_address_are_reached_without_ipv4_defect_15`
//! - defect 16, pinned to the wrong interface: `the_interface_that_answered_is_pinned_defect_16`
//! - defect 17, file systems without attributes: `file_systems_without_attributes_keep_answers_as_well_defect_17`
//! - defect 18, credential of the token URL: `the_credential_of_the_token_url_has_two_names_defect_18`
//! - defect 19, machines that are not recognised: `identities_the_peer_misses_are_recognized_and_strictly_missed_defect_19`
//! - defect 20, bad Base64 fails silently: `bad_base64_is_named_defect_20`
//! - defect 21, import without an endpoint: `import_without_an_endpoint_exits_with_6_defect_21`
//! - defect 22, low ports everywhere: `low_ports_are_for_those_who_want_them_defect_22`
//! - defect 23, a connection per request: `five_keys_need_one_connection_and_one_token_defect_23`
//! - defect 24, no udev, no endpoint: `a_machine_without_udev_and_without_strings_is_recognized_by_its_tables_defect_24`
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/imds_world.rs"]
mod imds_world;
#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;
#[path = "common/netns.rs"]
mod netns;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use imds_world::{World, failure_name, get};
use mock_cloud::{Answer, CLOUDS, Ear, Fault, Framing, Mock, MockCloud};
use netns::Namespace;
use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::error::Error;
use slipway::imds::fetch::{Cancel, Limits, MemoryTokens, Route, Session, TokenStore as _};
use slipway::imds::{Endpoint, Failure, Request, Source as _, WellKnown, providers};

const FAULTS: &str = include_str!("vectors/imds/faults.json");

/// The text of every source and test of this project.
fn sources() -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = Vec::new();
    for part in ["tests", "src", "applets"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &mut found);
    }
    found
}

#[test]
fn every_defect_has_a_test_that_exists() {
    let sources = sources();
    let mut numbers = Vec::new();
    for line in include_str!("imds_faults.rs").lines() {
        let Some(row) = line.strip_prefix("//! - defect ") else { continue };
        let (number, rest) = row.split_once(',').unwrap();
        let (_, name) = rest.trim_end_matches('`').split_once('`').unwrap();
        let test = format!("#[test]\nfn {name}()");
        let indented = format!("#[test]\n    fn {name}()");
        let is_there = |text: &String| text.contains(&test) || text.contains(&indented);
        assert!(sources.iter().any(is_there), "defect {number}: no test '{name}'");
        assert!(name.split('_').any(|word| word == number), "{name} does not say {number}");
        numbers.push(number.parse::<usize>().unwrap());
    }
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
}

#[test]
fn every_vector_is_read_by_a_test() {
    let sources = sources();
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/imds");
    for entry in std::fs::read_dir(vectors).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "PROVENANCE" {
            continue;
        }
        let quoted = format!("{name}\"");
        assert!(sources.iter().any(|text| text.contains(&quoted)), "nobody reads {name}");
    }
}

/// The same shape as the product's limits, a fiftieth of the time.
fn quick() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        first_byte: Duration::from_millis(300),
        idle: Duration::from_millis(300),
        overall: Duration::from_secs(4),
        head_start: Duration::from_millis(50),
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..Limits::default()
    }
}

/// One conversation with a mock.
struct Talk {
    mock: Mock,
    session: Session,
    tokens: Arc<MemoryTokens>,
}

impl Talk {
    fn new(cloud: MockCloud) -> Self {
        Self::with(cloud, quick(), |_| {})
    }

    fn with(cloud: MockCloud, limits: Limits, change: impl FnOnce(&mut Endpoint)) -> Self {
        let mock = cloud.start();
        let mut endpoint = mock.endpoint();
        providers::add_traits(&mut endpoint);
        change(&mut endpoint);
        Self::at(mock, &endpoint, limits)
    }

    fn at(mock: Mock, endpoint: &Endpoint, limits: Limits) -> Self {
        let ctx = Ctx::host([]);
        let tokens = Arc::new(MemoryTokens::new(&ctx));
        let session = Session::new(&ctx, endpoint, Route::default(), tokens.clone(), limits);
        Self { mock, session, tokens }
    }

    fn fetch(&self, key: &str) -> Result<Vec<u8>, Failure> {
        self.session.fetch(key, Duration::from_secs(900), &Cancel::new())
    }

    /// The value as text, or the name of the failure.
    fn ask(&self, key: &str) -> Result<String, String> {
        match self.fetch(key) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(failure) => Err(failure_name(&failure)),
        }
    }
}

/// A cloud without tokens and headers, and a key of it.
fn plain() -> MockCloud {
    MockCloud::fixture("vultr").route(KEY, Answer::ok("value"))
}

const KEY: &str = "/target";

/// A cloud with tokens, and a key of it with its target.
fn with_tokens() -> MockCloud {
    MockCloud::fixture("amazon-ec2").route("/latest/target", Answer::ok("value"))
}

const PUT: &str = "PUT /latest/api/token";
const GET: &str = "GET /latest/target";

fn value() -> Result<String, String> {
    Ok("value".to_owned())
}

fn failed(name: &str) -> Result<String, String> {
    Err(name.to_owned())
}

/// Answers of a plain cloud to one key, and what becomes of them: result and number of requests.
fn plainly(
    answers: impl IntoIterator<Item = Answer>,
    expected: Result<String, String>,
    requests: usize,
) {
    let talk = Talk::new(plain().script(KEY, answers));
    assert_eq!(talk.ask(KEY), expected);
    assert_eq!(talk.mock.count(KEY), requests, "{:?}", talk.mock.lines());
}

/// An answer that never changes.
fn always(answer: Answer, expected: Result<String, String>, requests: usize) {
    let talk = Talk::new(plain().always(KEY, answer));
    assert_eq!(talk.ask(KEY), expected);
    assert_eq!(talk.mock.count(KEY), requests, "{:?}", talk.mock.lines());
}

#[test]
fn every_case_of_the_fault_list_ends_as_it_should_in_its_time() {
    let faults: Value = serde_json::from_str(FAULTS).unwrap();
    let cases = faults["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 46);
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let run = |case: &'static str| {
            let start = Instant::now();
            run_case(case);
            let time = start.elapsed();
            assert!(time < Duration::from_secs(20), "{case} took {time:?}");
        };
        for group in cases.chunks(16) {
            let running: Vec<_> = group
                .iter()
                .map(|case| {
                    let name =
                        Box::leak(case["name"].as_str().unwrap().to_owned().into_boxed_str());
                    let name: &'static str = name;
                    let thread = std::thread::Builder::new().name(name.to_owned());
                    (name, thread.spawn_scoped(scope, move || run(name)).unwrap())
                })
                .collect();
            for (name, thread) in running {
                if thread.join().is_err() {
                    wrong.push(name);
                }
            }
        }
    });
    assert!(wrong.is_empty(), "see above: {wrong:?}");
}

fn run_case(case: &str) {
    match case {
        "503-then-ok" => plainly(Answer::page(503).times(2), value(), 3),
        "429-retry-after" => retry_after_is_honoured(),
        "503-forever" => always(Answer::page(503), failed("CommunicationFailure"), 11),
        "connection-refused" => refused(),
        "connection-reset" => plainly([Answer::reset()], value(), 2),
        "empty-reply" => plainly([Answer::hang_up()], value(), 2),
        "truncated-body" => {
            let cut = Answer::ok("12345").framing(Framing::Claim(100)).fault(Fault::Close(5));
            plainly([cut.clone()], value(), 2);
            always(cut, failed("CommunicationFailure"), 11);
        }
        "silent-server" => silent_server(),
        "drip-feed" => {
            // Every byte is in time, all of them are not.
            let drip = Answer::ok([b'x'; 100]).drip(1, Duration::from_millis(100));
            always(drip, failed("Timeout"), 1);
        }
        "slow-chunks" => {
            let slow = Answer::ok("123456").framing(Framing::Chunked(1));
            let slow = slow.drip(1, Duration::from_millis(100));
            plainly([slow], Ok("123456".to_owned()), 1);
        }
        "chunked" => {
            let chunks = Answer::ok("123456789").framing(Framing::Chunked(3));
            plainly([chunks], Ok("123456789".to_owned()), 1);
        }
        "until-close" => plainly([Answer::ok("x").framing(Framing::Close)], Ok("x".to_owned()), 1),
        "http-1.0" => plainly([Answer::ok("old").old()], Ok("old".to_owned()), 1),
        "100-continue" => plainly([Answer::ok("y").after_continue()], Ok("y".to_owned()), 1),
        "204" => plainly([Answer::status(204)], Ok(String::new()), 1),
        "200-empty" => plainly([Answer::ok("")], Ok(String::new()), 1),
        "301-302-same-host" => redirects_stay(),
        "302-other-host" => redirects_elsewhere_are_refused(),
        "401-no-token-config" => always(Answer::page(401), failed("CommunicationFailure"), 1),
        "401-empty-then-ok" => renewed(Answer::status(401)),
        "401-with-body" => renewed(Answer::page(401)),
        "401-forever" => {
            let talk = Talk::new(with_tokens().always(GET, Answer::status(401)));
            assert_eq!(talk.ask(KEY), failed("CommunicationFailure"));
            assert_eq!(talk.mock.lines(), [PUT, GET, PUT, GET], "one renewal, no loop");
        }
        "403" => {
            always(Answer::page(403), failed("NotAvailable"), 1);
            always(Answer::status(403), failed("NotAvailable"), 1);
        }
        "404-empty" => always(Answer::status(404), failed("KeyNotFound"), 1),
        "404-with-body" => always(Answer::page(404), failed("KeyNotFound"), 1),
        "other-4xx-5xx-empty" => other_statuses(Answer::status),
        "other-4xx-5xx-body" => other_statuses(Answer::page),
        "status-601" => always(Answer::page(601), failed("CommunicationFailure"), 1),
        "oversize-exact" => {
            let talk = Talk::new(plain().script(KEY, [Answer::ok(vec![b'x'; 4 << 20])]));
            assert_eq!(talk.fetch(KEY).unwrap().len(), 4_194_304);
        }
        "oversize-plus-one" => oversize(),
        "gzip-encoding" => {
            let packed = Answer::ok("\u{1f}packed").header("Content-Encoding", "gzip");
            let talk = Talk::new(plain().script(KEY, [packed]));
            assert_eq!(talk.fetch(KEY).unwrap(), "\u{1f}packed".as_bytes());
            assert_eq!(talk.mock.requests()[0].header("accept-encoding"), None);
        }
        "garbage-status-line" => {
            always(Answer::garbage("not HTTP at all\r\n\r\n"), failed("CommunicationFailure"), 1);
        }
        "token-4096" => token_of([b'T'; 4096], value()),
        "token-4097" => token_of([b'T'; 4097], failed("CommunicationFailure")),
        "token-newline" => {
            for token in ["TOK\n", "TOK\r\n"] {
                let talk = Talk::new(with_tokens().token(token));
                assert_eq!(talk.ask(KEY), value());
                let sent =
                    talk.mock.requests()[1].header("X-aws-ec2-metadata-token").map(str::to_owned);
                assert_eq!(sent.as_deref(), Some("TOK"));
            }
        }
        "token-empty" => token_of("", failed("CommunicationFailure")),
        "token-404" => {
            for status in [404, 405] {
                let cloud = with_tokens().variant("imdsv1-only-legacy-clone");
                let talk = Talk::new(cloud.always(PUT, Answer::page(status)));
                assert_eq!(talk.ask(KEY), value());
                assert_eq!(talk.ask(KEY), value());
                assert_eq!(talk.mock.lines(), [PUT, GET, GET], "known from then on");
                assert_eq!(talk.mock.requests()[1].header("X-aws-ec2-metadata-token"), None);
            }
        }
        "token-403" => token_status(403, "NotAvailable"),
        "token-400-body" => token_status(400, "CommunicationFailure"),
        "token-503-then-ok" => {
            let talk = Talk::new(with_tokens().script(PUT, [Answer::page(503)]));
            assert_eq!(talk.ask(KEY), value());
            assert_eq!(talk.mock.lines(), [PUT, PUT, GET]);
        }
        "proxy-environment" => proxies_are_not_asked(),
        "fragment-in-key" => {
            let talk = Talk::new(plain());
            assert_eq!(talk.ask("/target#frag"), value());
            assert_eq!(talk.mock.lines(), ["GET /target"]);
        }
        "space-in-key" => {
            let talk = Talk::new(plain());
            assert_eq!(talk.ask("/target?x y"), failed("InvalidParameter"));
            assert_eq!(talk.mock.connections(), 0);
        }
        "dns-failure" => {
            let talk = Talk::with(plain(), quick(), |endpoint| {
                endpoint.data_url = Some("http://no-such-host.invalid".to_owned());
                (endpoint.address_ipv4, endpoint.address_ipv6) = (None, None);
            });
            assert_eq!(talk.ask(KEY), failed("CommunicationFailure"));
        }
        "wait-flag" => waits_for_an_address(),
        "hop-limit" => hop_limit_is_hinted_at(),
        other => panic!("nobody looks at the case '{other}'"),
    }
}

fn refused() {
    let mock = plain().start();
    let mut endpoint = mock.endpoint();
    // Nobody listens there: the port was ours a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    endpoint.data_url = Some(format!("http://{gone}"));
    let talk = Talk::at(mock, &endpoint, quick());
    assert_eq!(talk.ask(KEY), failed("CommunicationFailure"));
}

/// Seconds and dates, and what is longer than there is time for.
fn retry_after_is_honoured() {
    let busy = |after: &str| Answer::page(429).header("Retry-After", after);
    let talk = Talk::new(plain().script(KEY, [busy("1")]));
    assert_eq!(talk.ask(KEY), value());
    let requests = talk.mock.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(990));

    let date = http_date(SystemTime::now() + Duration::from_secs(2));
    let talk = Talk::new(plain().script(KEY, [busy(&date)]));
    assert_eq!(talk.ask(KEY), value());
    let requests = talk.mock.requests();
    let waited = requests[1].at - requests[0].at;
    assert!(waited >= Duration::from_millis(800) && waited < Duration::from_secs(3), "{waited:?}");

    let talk = Talk::new(plain().always(KEY, busy("3600")));
    let start = Instant::now();
    assert_eq!(talk.ask(KEY), failed("Timeout"));
    assert!(start.elapsed() < Duration::from_secs(1), "there is nothing to wait for");
    assert_eq!(talk.mock.requests().len(), 1);
}

/// RFC 9110 section 5.6.7.
fn http_date(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let (year, day, clock) = (at.year(), at.day(), at.time());
    let (hour, minute, second) = clock.as_hms();
    let (weekday, month) = (&weekday[..3], &month[..3]);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Time-outs of each attempt, all within the overall limit.
fn silent_server() {
    let talk = Talk::new(plain().always(KEY, Answer::stall()));
    let start = Instant::now();
    let result = talk.ask(KEY);
    let time = start.elapsed();
    assert!(result == failed("Timeout") || result == failed("CommunicationFailure"), "{result:?}");
    assert!(time <= Duration::from_secs(5), "{time:?}");
    assert!(talk.mock.requests().len() >= 8, "{:?}", talk.mock.lines());
    let connections: BTreeSet<usize> =
        talk.mock.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), talk.mock.requests().len(), "each on a new connection");
}

fn redirects_stay() {
    for (status, location) in [(302, "/elsewhere"), (301, "/target2/"), (307, "target"), (308, "")]
    {
        always(Answer::redirect(status, location), failed("CommunicationFailure"), 1);
    }
    // A directory that wants its slash.
    let talk = Talk::new(
        plain()
            .always(KEY, Answer::redirect(301, "/target/"))
            .route("/target/", Answer::ok("a\nb\n")),
    );
    assert_eq!(talk.ask(KEY), Ok("a\nb\n".to_owned()));
    assert_eq!(talk.mock.lines(), ["GET /target", "GET /target/"]);
    // And one that wants another, for ever.
    let talk = Talk::new(
        plain()
            .always(KEY, Answer::redirect(301, "/target/"))
            .always("/target/", Answer::redirect(301, "/target/")),
    );
    assert_eq!(talk.ask(KEY), failed("CommunicationFailure"));
    assert!(talk.mock.requests().len() <= 3);
}

fn redirects_elsewhere_are_refused() {
    let other = plain().start();
    for location in [other.url(KEY), other.url("/target/"), format!("//{}{KEY}", other.addr())] {
        always(Answer::redirect(302, &location), failed("NotAvailable"), 1);
    }
    assert_eq!(other.connections(), 0, "the stranger was asked");
}

/// A token that is not good any more, told in either way.
fn renewed(refusal: Answer) {
    let talk = Talk::new(with_tokens().script(GET, [Answer::usual(), refusal]));
    assert_eq!(talk.ask(KEY), value());
    assert_eq!(talk.ask(KEY), value());
    assert_eq!(talk.mock.lines(), [PUT, GET, GET, PUT, GET]);
    assert_eq!(talk.mock.tokens(), 2);
    assert_eq!(talk.mock.connections(), 1);
}

fn other_statuses(answer: fn(u16) -> Answer) {
    for status in [400, 402, 405, 406, 600] {
        always(answer(status), failed("CommunicationFailure"), 1);
    }
    for status in [408, 410, 429, 500, 502, 503, 504] {
        plainly(answer(status).times(2), value(), 3);
    }
}

fn oversize() {
    let start = Instant::now();
    for framing in [Framing::Length, Framing::Chunked(1 << 16), Framing::Close] {
        let talk =
            Talk::new(plain().always(KEY, Answer::ok(vec![b'x'; (4 << 20) + 1]).framing(framing)));
        let failure = talk.fetch(KEY).unwrap_err();
        assert!(matches!(failure, Failure::System(7, _)), "{failure:?}");
        assert_eq!(talk.mock.requests().len(), 1, "asking again makes it no smaller");
    }
    // The length says it: not one byte of the body is waited for.
    let claim = Answer::ok("x").framing(Framing::Claim(1 << 40)).fault(Fault::Stall(1));
    let talk = Talk::new(plain().always(KEY, claim));
    assert!(matches!(talk.fetch(KEY), Err(Failure::System(7, _))));
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn token_of(token: impl AsRef<[u8]>, expected: Result<String, String>) {
    let talk = Talk::new(with_tokens().token(&token));
    assert_eq!(talk.ask(KEY), expected);
    match expected {
        Ok(_) => {
            let requests = talk.mock.requests();
            let sent = requests[1].header("X-aws-ec2-metadata-token").unwrap();
            assert_eq!(sent.as_bytes(), token.as_ref());
        }
        Err(_) => {
            assert_eq!(talk.mock.lines(), [PUT], "nothing is asked without a token");
            assert_eq!(talk.tokens.load(), None);
        }
    }
}

fn token_status(status: u16, expected: &str) {
    for answer in [Answer::status(status), Answer::page(status)] {
        let talk = Talk::new(with_tokens().always(PUT, answer));
        assert_eq!(talk.ask(KEY), failed(expected));
        assert_eq!(talk.mock.lines(), [PUT]);
    }
}

fn proxies_are_not_asked() {
    let proxy = plain().start();
    let mock = plain().start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(["imdsd", "--cache=no", KEY]).env_clear().envs(mock.environment());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534).current_dir("/");
    }
    for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env(name, proxy.url(""));
    }
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "value", "{output:?}");
    assert_eq!((proxy.connections(), mock.connections()), (0, 1));
}

/// A service that is there before the machine has an address.
fn waits_for_an_address() {
    let test = "wait-flag";
    let (Some(server), Some(client)) = (Namespace::new(test), Namespace::new(test)) else { return };
    client.connect("nic0", &server, "peer0");
    server.ip("addr add 192.0.2.1/24 dev peer0");
    let mock = server.inside(|| plain().listen("192.0.2.1:80".parse().unwrap()).start());
    let world = World::empty();
    let ask = |wait: bool| {
        let mut engine = world.engine_within(world.peer_row(&mock), quick());
        let mut request = Request::key(KEY);
        request.wait = wait;
        engine.get(&request).map(|reply| reply.data).map_err(|failure| failure_name(&failure))
    };
    let start = Instant::now();
    let without = client.inside(|| ask(false));
    assert!(without.is_err(), "{without:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let with = std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.inside(|| ask(true)));
        // Nothing to wait for: either order has to work.
        std::thread::sleep(Duration::from_millis(300));
        client.ip("addr add 192.0.2.2/24 dev nic0");
        asking.join().unwrap()
    });
    assert_eq!(with, Ok(b"value".to_vec()));
}

/// What was logged, by all tests of this process.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}", record.level(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// Starts to keep what is logged.
fn keep_log() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// The answer to the token request dies on its way through a router: no answer arrives.
fn hop_limit_is_hinted_at() {
    keep_log();
    let hints = || {
        let log = LOG.0.lock().unwrap();
        log.iter().filter(|line| line.contains("hop limit")).count()
    };
    let talk = Talk::new(with_tokens().always(PUT, Answer::stall()));
    assert!(talk.ask(KEY).is_err());
    assert_eq!(hints(), 1, "once is enough");

    let test = "hop-limit";
    let spaces = [Namespace::new(test), Namespace::new(test), Namespace::new(test)];
    let [Some(client), Some(router), Some(server)] = spaces else { return };
    client.connect("nic0", &router, "in0");
    router.connect("out0", &server, "peer0");
    client.ip("addr add 192.0.2.2/24 dev nic0");
    router.ip("addr add 192.0.2.1/24 dev in0");
    router.ip("addr add 198.51.100.1/24 dev out0");
    server.ip("addr add 198.51.100.2/24 dev peer0");
    client.ip("route add default via 192.0.2.1");
    server.ip("route add default via 198.51.100.1");
    let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
    assert!(router.command("sh").args(["-c", forward]).status().unwrap().success());
    let listen: SocketAddr = "198.51.100.2:80".parse().unwrap();
    let mock = server.inside(|| with_tokens().listen(listen).reply_ttl(1).start());
    let endpoint = mock.endpoint();
    let talk = Talk::at(mock, &endpoint, quick());
    assert!(client.inside(|| talk.ask(KEY)).is_err());
    assert!(talk.mock.count(PUT) > 0, "the requests got through");
    assert_eq!(hints(), 2);
    drop(talk);
    let mock = server.inside(|| with_tokens().listen(listen).reply_ttl(2).start());
    let talk = Talk::at(mock, &endpoint, quick());
    assert_eq!(client.inside(|| talk.ask(KEY)), value());
}

/// The clouds' own paths: target and key of something that is text.
fn key_of(cloud: &str) -> (&'static str, &'static str) {
    match cloud {
        "amazon-ec2" => ("/latest/meta-data/hostname", "/meta-data/hostname"),
        "microsoft-azure" => (
            "/metadata/instance/compute/location?api-version=2025-04-07&format=text",
            "/instance/compute/location",
        ),
        "google-gcp" => ("/computeMetadata/v1/instance/zone", "/instance/zone"),
        "hetzner-cloud" => ("/hetzner/v1/metadata/hostname", "/hostname"),
        "oracle-cloud-oci" => ("/opc/v2/instance/hostname", "/instance/hostname"),
        "scaleway" => ("/conf?format=json", "/conf?format=json"),
        "tencent-cloud" => ("/meta-data/hostname", "/meta-data/hostname"),
        "alibaba-ecs" => ("/latest/meta-data/hostname", "/meta-data/hostname"),
        "vultr" => ("/v1/hostname", "/v1/hostname"),
        other => panic!("no key for {other}"),
    }
}

/// The same on each of the nine, all at once.
fn on_every_cloud(check: impl Fn(&'static str, &'static str, &'static str) + Sync) {
    let check = &check;
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = CLOUDS
            .into_iter()
            .map(|cloud| {
                let (target, key) = key_of(cloud);
                let thread = std::thread::Builder::new().name(cloud.to_owned());
                (cloud, thread.spawn_scoped(scope, move || check(cloud, target, key)).unwrap())
            })
            .collect();
        for (cloud, thread) in running {
            if thread.join().is_err() {
                wrong.push(cloud);
            }
        }
    });
    assert!(wrong.is_empty(), "see above: {wrong:?}");
}

/// What the fixture says about a target.
fn body_of(mock: &Mock, target: &str) -> String {
    let json = mock.json();
    let mut routes = json["routes"].as_array().unwrap().iter();
    routes.find(|route| route["path"] == target).unwrap()["body"].as_str().unwrap().to_owned()
}

#[test]
fn stale_tokens_are_renewed_once_defect_2() {
    on_every_cloud(|cloud, target, key| {
        let talk = Talk::new(MockCloud::fixture(cloud).script(target, [Answer::page(401)]));
        let result = talk.ask(key);
        if talk.mock.json()["auth"]["kind"] == "token-put" {
            assert_eq!(result, Ok(body_of(&talk.mock, target)), "{cloud}");
            assert_eq!((talk.mock.tokens(), talk.mock.count(target)), (2, 2), "{cloud}");
        } else {
            assert_eq!(result, failed("CommunicationFailure"), "{cloud}");
            assert_eq!(talk.mock.lines().len(), 1, "{cloud}: there is nothing to renew");
        }
    });
}

#[test]
fn pages_of_not_found_are_not_found_on_every_cloud_defect_1() {
    on_every_cloud(|cloud, target, key| {
        let talk = Talk::new(MockCloud::fixture(cloud));
        // Azure's service may still be starting before its first value.
        assert!(talk.ask(key).is_ok(), "{cloud}");
        talk.mock.clear();
        let missing = if cloud == "scaleway" { "/conf/missing" } else { "/missing" };
        assert_eq!(talk.ask(missing), failed("KeyNotFound"), "{cloud}");
        let requests = talk.mock.requests();
        assert_eq!((requests.len(), requests[0].status), (1, 404), "{cloud}");
        assert_eq!(talk.mock.count(target), 0);
    });
}

#[test]
fn busy_services_are_asked_again_when_they_say_so_defect_6() {
    on_every_cloud(|cloud, target, key| {
        let busy = Answer::page(429).header("Retry-After", "1");
        let talk = Talk::new(MockCloud::fixture(cloud).script(target, [busy]));
        assert_eq!(talk.ask(key), Ok(body_of(&talk.mock, target)), "{cloud}");
        let requests = talk.mock.requests();
        let asked: Vec<_> = requests.iter().filter(|request| request.target == target).collect();
        assert_eq!(asked.len(), 2, "{cloud}");
        assert!(asked[1].at - asked[0].at >= Duration::from_millis(990), "{cloud}");
    });
}

#[test]
fn passing_faults_pass_on_every_cloud() {
    let faults = [
        ("503 with a page", Answer::page(503)),
        ("503", Answer::status(503)),
        ("reset", Answer::reset()),
        ("reset in the body", Answer::ok("0123456789").fault(Fault::Reset(4))),
        ("empty reply", Answer::hang_up()),
        ("truncated", Answer::ok("0123456789").fault(Fault::Close(4))),
        ("stall", Answer::stall()),
        ("stall in the body", Answer::ok("0123456789").fault(Fault::Stall(4))),
    ];
    on_every_cloud(|cloud, target, key| {
        for (what, fault) in &faults {
            let talk = Talk::new(MockCloud::fixture(cloud).script(target, [fault.clone()]));
            assert_eq!(talk.ask(key), Ok(body_of(&talk.mock, target)), "{cloud}: {what}");
            assert_eq!(talk.mock.count(target), 2, "{cloud}: {what}");
            assert!(talk.mock.tokens() <= 1, "{cloud}: {what}: the token was good");
        }
    });
}

#[test]
fn lasting_faults_are_named_on_every_cloud() {
    let stranger = plain().start();
    on_every_cloud(|cloud, target, key| {
        let huge = Answer::status(200).framing(Framing::Claim((4 << 20) + 1));
        for (answer, expected) in [
            (huge, "System"),
            (Answer::redirect(302, &stranger.url(target)), "NotAvailable"),
            (Answer::page(403), "NotAvailable"),
            (Answer::garbage("SSH-2.0-nobody\r\n"), "CommunicationFailure"),
            (Answer::page(400), "CommunicationFailure"),
        ] {
            let talk = Talk::new(MockCloud::fixture(cloud).always(target, answer));
            assert_eq!(talk.ask(key), failed(expected), "{cloud}");
            assert_eq!(talk.mock.count(target), 1, "{cloud} {expected}");
        }
    });
    assert_eq!(stranger.connections(), 0);
}

#[test]
fn bad_tokens_and_headers_end_before_a_value_is_asked_for() {
    on_every_cloud(|cloud, target, key| {
        let json = mock_cloud::json(cloud);
        if json["auth"]["kind"] == "token-put" {
            for token in ["", "A\r\nX-Evil: 1", "A\u{7f}"] {
                let talk = Talk::new(MockCloud::fixture(cloud).token(token));
                assert_eq!(talk.ask(key), failed("CommunicationFailure"), "{cloud} {token:?}");
                assert_eq!(talk.mock.count(target), 0, "{cloud} {token:?}");
            }
            return;
        }
        // A token of another time is nobody's business here.
        let talk = Talk::new(MockCloud::fixture(cloud));
        talk.tokens.store("OTHER", Duration::from_secs(900));
        assert!(talk.ask(key).is_ok());
        let raw = String::from_utf8(talk.mock.requests()[0].raw.clone()).unwrap();
        assert!(!raw.contains("OTHER"), "{cloud}: {raw}");
        // Without its header the cloud refuses in its own way.
        let talk = Talk::with(MockCloud::fixture(cloud), quick(), |endpoint| {
            endpoint.extra_headers.clear()
        });
        let expected = match cloud {
            "microsoft-azure" | "oracle-cloud-oci" => Some("CommunicationFailure"),
            "google-gcp" => Some("NotAvailable"),
            _ => None,
        };
        assert_eq!(talk.ask(key).err().as_deref(), expected, "{cloud}");
    });
}

#[test]
fn every_status_has_a_name_and_an_errno_of_linux_defects_3_and_5() {
    let cloud = (300..=610).fold(plain(), |cloud, status| {
        cloud.always(&format!("/{status}"), Answer::page(status).last())
    });
    let limits = Limits { retries: 0, ..quick() };
    let talk = Talk::with(cloud, limits, |_| {});
    for status in 300..=610 {
        let failure = talk.fetch(&format!("/{status}")).unwrap_err();
        let (name, parameters) = slipway::varlink::errors::to_wire(&Error::from(failure));
        let expected = match status {
            403 => "NotAvailable",
            404 => "KeyNotFound",
            _ => "CommunicationFailure",
        };
        assert_eq!(name, format!("io.systemd.InstanceMetadata.{expected}"), "{status}");
        assert!(parameters.is_empty(), "{status}: {parameters:?}");
    }
}

#[test]
fn the_end_of_attempts_is_told_at_once_defects_4_and_5() {
    let limits = Limits { overall: Duration::from_secs(60), ..quick() };
    let talk = Talk::with(plain().always(KEY, Answer::page(503)), limits, |_| {});
    let start = Instant::now();
    let failure = talk.fetch(KEY).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(talk.mock.requests().len(), 11);
    let Failure::CommunicationFailure(text) = &failure else { panic!("{failure:?}") };
    assert!(text.contains("503"), "{text}");
    let shown = Error::from(failure).to_string();
    assert!(!shown.contains("cleaning"), "{shown}");
}

#[test]
fn delays_between_attempts_are_the_peers() {
    let faults: Value = serde_json::from_str(FAULTS).unwrap();
    let series = faults["constants"]["backoff_series_ms"].as_array().unwrap();
    // The product's own delays, as far as that takes no longer than a second.
    let limits = Limits { retries: 5, ..Limits::default() };
    let talk = Talk::with(plain().always(KEY, Answer::status(503)), limits, |_| {});
    assert!(talk.ask(KEY).is_err());
    let at: Vec<Duration> = talk.mock.requests().iter().map(|request| request.at).collect();
    assert_eq!(at.len(), 6);
    for (n, pair) in at.windows(2).enumerate() {
        let expected = Duration::from_millis(series[n].as_u64().unwrap());
        assert!(pair[1] - pair[0] >= expected, "{n}: {:?}", pair[1] - pair[0]);
    }
    let constants = &faults["constants"];
    let limits = Limits::default();
    assert_eq!(limits.retries, constants["retry_max"].as_u64().unwrap() as u32);
    assert_eq!(limits.overall.as_secs(), constants["overall_direct_s"].as_u64().unwrap());
    assert_eq!(limits.data as u64, constants["data_max_bytes"].as_u64().unwrap());
}

#[test]
fn a_stall_costs_one_attempt_defect_7() {
    let limits = Limits::default();
    assert_eq!(
        (limits.connect.as_secs(), limits.first_byte.as_secs(), limits.idle.as_secs()),
        (2, 5, 5)
    );
    let stalls = [
        Answer::stall(),
        Answer::ok("0123456789").fault(Fault::Stall(0)),
        Answer::ok("0123456789").fault(Fault::Stall(9)),
        Answer::ok("0123456789").framing(Framing::Chunked(3)).fault(Fault::Stall(6)),
    ];
    for stall in stalls {
        let talk = Talk::new(plain().script(KEY, [stall]));
        let start = Instant::now();
        assert_eq!(talk.ask(KEY), value());
        let time = start.elapsed();
        assert!(time >= quick().idle && time < Duration::from_secs(3), "{time:?}");
        assert_eq!(talk.mock.connections(), 2);
    }
}

#[test]
fn the_other_address_answers_where_the_first_is_dead_defect_15() {
    if !mock_cloud::has_ipv6() {
        println!("SKIP the_other_address_answers_where_the_first_is_dead_defect_15: no IPv6");
        return;
    }
    for first in [Ear::Shut, Ear::Open] {
        let mock = plain().ears(first, Ear::Open).start();
        let port = mock.addr().port();
        let mut endpoint = mock.endpoint();
        endpoint.data_url = Some(format!("http://127.0.0.1:{port}"));
        endpoint.address_ipv4 = Some("127.0.0.1".parse().unwrap());
        endpoint.address_ipv6 = Some("::1".parse().unwrap());
        let talk = Talk::at(mock, &endpoint, quick());
        let start = Instant::now();
        assert_eq!(talk.ask(KEY), value());
        assert_eq!(talk.ask(KEY), value());
        let requests = talk.mock.requests();
        assert_eq!(requests.len(), 2, "nobody is asked twice");
        let local = requests[0].local;
        assert_eq!(local.is_ipv4(), first == Ear::Open, "the first address goes first");
        assert_eq!(requests[0].header("host"), Some(local.to_string().as_str()));
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn the_interface_that_answered_is_pinned_defect_16() {
    let test = "the_interface_that_answered_is_pinned_defect_16";
    let (Some(server), Some(client)) = (Namespace::new(test), Namespace::new(test)) else { return };
    // The first interface leads nowhere, and has the better route.
    client.connect("dead0", &server, "void0");
    client.connect("live0", &server, "peer0");
    client.ip("addr add 198.51.100.2/24 dev dead0");
    client.ip("addr add 192.0.2.2/24 dev live0");
    client.ip("route add 203.0.113.254/32 dev dead0 metric 1");
    client.ip("route add 203.0.113.254/32 dev live0 metric 9");
    server.ip("link set void0 down");
    server.ip("addr add 203.0.113.254/32 dev peer0");
    server.ip("addr add 192.0.2.1/24 dev peer0");
    let listen: SocketAddr = "203.0.113.254:80".parse().unwrap();
    let mock = server.inside(|| plain().listen(listen).start());
    let world = World::empty();
    let reply = client.inside(|| {
        let mut engine = world.engine(world.peer_row(&mock));
        engine.get(&Request::key(KEY)).unwrap()
    });
    assert_eq!(reply.data, b"value");
    assert_eq!(std::fs::read_to_string(world.cache().join("ifname")).unwrap(), "live0\n");
    assert_eq!(mock.requests()[0].peer.ip().to_string(), "192.0.2.2");

    // One that is gone is forgotten, and another one found.
    std::fs::write(world.cache().join("ifname"), "gone0\n").unwrap();
    let reply = client.inside(|| {
        let mut engine = world.engine(world.peer_row(&mock));
        engine.get(&Request { cache: Some(false), ..Request::key(KEY) }).unwrap()
    });
    assert_eq!(reply.data, b"value");
    assert_eq!(std::fs::read_to_string(world.cache().join("ifname")).unwrap(), "live0\n");
}

#[test]
fn low_ports_are_for_those_who_want_them_defect_22() {
    on_every_cloud(|cloud, _, key| {
        let talk = Talk::new(MockCloud::fixture(cloud));
        assert!(talk.ask(key).is_ok());
        let requests = talk.mock.requests();
        assert!(requests.iter().all(|request| request.peer.port() > 1023), "{cloud}");
    });
    if !rustix::process::geteuid().is_root() {
        println!("SKIP low_ports_are_for_those_who_want_them_defect_22: low ports need root");
        return;
    }
    let mut ports = BTreeSet::new();
    for _ in 0..8 {
        let talk = Talk::new(MockCloud::fixture("scaleway"));
        assert_eq!(talk.ask("/user_data/cloud-init"), Ok("#cloud-config\n{}\n".to_owned()));
        ports.insert(talk.mock.requests()[0].peer.port());
    }
    assert!(ports.iter().all(|port| *port < 1024 && ![22, 80, 443].contains(port)), "{ports:?}");
    assert!(ports.len() > 1, "no order: {ports:?}");
}

#[test]
fn five_keys_need_one_connection_and_one_token_defect_23() {
    let mock = MockCloud::fixture("amazon-ec2").start();
    let world = World::cloud("amazon-ec2");
    let mut engine = world.engine(world.peer_row(&mock));
    for name in ["hostname", "region", "zone", "ipv4-public", "ipv6-public"] {
        assert!(get(&mut engine, name, None).is_ok());
    }
    assert_eq!((mock.connections(), mock.tokens(), mock.requests().len()), (1, 1, 6));
}

#[test]
fn failures_leave_nothing_in_the_cache() {
    for (answer, expected) in [
        (Answer::page(403), "NotAvailable"),
        (Answer::page(400), "CommunicationFailure"),
        (Answer::status(600), "CommunicationFailure"),
        (Answer::garbage("nonsense\n\n"), "CommunicationFailure"),
        (Answer::redirect(302, "http://192.0.2.1/"), "NotAvailable"),
        (Answer::status(200).framing(Framing::Claim(1 << 33)), "System"),
    ] {
        let (world, mock) = (World::empty(), plain().always(KEY, answer).start());
        let mut engine = world.engine(world.peer_row(&mock));
        for n in 1..=2 {
            let failure = engine.get(&Request::key(KEY)).unwrap_err();
            assert_eq!(failure_name(&failure), expected);
            assert_eq!(mock.count(KEY), n, "{expected}: asked again");
        }
        assert_eq!(world.cached(), [""; 0], "{expected}");
    }
}

#[test]
fn what_is_not_found_is_remembered_whatever_the_page_says_defect_1() {
    for answer in [Answer::status(404), Answer::page(404)] {
        let (world, mock) = (World::empty(), plain().always(KEY, answer).start());
        let mut engine = world.engine(world.peer_row(&mock));
        for _ in 0..2 {
            assert_eq!(engine.get(&Request::key(KEY)), Err(Failure::KeyNotFound));
        }
        assert_eq!(mock.count(KEY), 1);
        assert_eq!(world.cached().len(), 1);
        // Unless the caller wants no cache.
        let mut request = Request::key(KEY);
        request.cache = Some(false);
        assert_eq!(engine.get(&request), Err(Failure::KeyNotFound));
        assert_eq!(mock.count(KEY), 2);
    }
}

#[test]
fn heads_that_lie_or_never_end_are_no_answers() {
    let head = |text: &str| Answer::garbage(format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\nvalue"));
    let huge = "x".repeat(1 << 20);
    let many: Vec<String> = (0..10_000).map(|n| format!("X-{n}: y")).collect();
    for (what, answer) in [
        ("two lengths", head("Content-Length: 5\r\nContent-Length: 6")),
        ("the same length twice", head("Content-Length: 5\r\nContent-Length: 5")),
        ("a negative length", head("Content-Length: -5")),
        ("no number", head("Content-Length: five")),
        ("a length of 2^64", head("Content-Length: 18446744073709551616")),
        ("length and chunks", head("Content-Length: 3\r\nTransfer-Encoding: chunked")),
        ("an unknown coding", head("Transfer-Encoding: gzip")),
        ("a chunk of 2^64", {
            let text =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nx";
            Answer::garbage(text)
        }),
        ("a chunk without a size", {
            Answer::garbage("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nvalue")
        }),
        ("a header of a megabyte", head(&format!("X: {huge}"))),
        ("ten thousand headers", head(&many.join("\r\n"))),
        ("interim answers only", Answer::garbage("HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000))),
        ("half a head", Answer::garbage("HTTP/1.1 200 OK\r\nContent-Le")),
    ] {
        let limits = Limits { retries: 1, ..quick() };
        let talk = Talk::with(plain().always(KEY, answer), limits, |_| {});
        let start = Instant::now();
        // What is too large is that, however large.
        let expected = if what == "a chunk of 2^64" { "System" } else { "CommunicationFailure" };
        assert_eq!(talk.ask(KEY), failed(expected), "{what}");
        assert!(start.elapsed() < Duration::from_secs(3), "{what}");
    }
    let headers = (0..50).fold(Answer::ok("value"), |answer, n| {
        answer.header("Set-Cookie", &format!("{n}={}", "c".repeat(100)))
    });
    let talk = Talk::new(plain().script(KEY, [headers]));
    assert_eq!(talk.ask(KEY), value());
}

#[test]
fn keys_cannot_reach_into_headers_or_other_hosts() {
    let talk = Talk::new(plain());
    for key in ["/a\r\nX-Evil: 1", "/a\n", "/a b", "/\u{7f}", "/ü"] {
        assert_eq!(talk.ask(key), failed("InvalidParameter"), "{key:?}");
    }
    let talk = Talk::with(plain(), quick(), |endpoint| {
        endpoint.data_url =
            endpoint.data_url.take().map(|url| url.trim_end_matches('/').to_owned());
    });
    for key in ["@192.0.2.1/", ":1/", ".example.org/"] {
        assert!(talk.ask(key).is_err(), "{key:?}");
    }
    assert_eq!(talk.mock.connections(), 0);
}

#[test]
fn many_askers_share_one_question() {
    let mock = MockCloud::fixture("amazon-ec2")
        .always(
            "GET /latest/meta-data/hostname",
            Answer::ok("name").delay(Duration::from_millis(200)),
        )
        .start();
    let world = World::cloud("amazon-ec2");
    let engine = world.engine(world.peer_row(&mock));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let mut engine = engine.clone();
            scope.spawn(move || {
                let reply = engine.get(&Request::well_known(WellKnown::Hostname)).unwrap();
                assert_eq!(reply.data, b"name");
            });
        }
    });
    assert_eq!(mock.lines(), [PUT, "GET /latest/meta-data/hostname"]);
}
