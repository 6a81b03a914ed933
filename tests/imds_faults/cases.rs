//! Every case of the list of faults, by name.

use super::talk::*;
use super::*;

pub(super) const FAULTS: &str = include_str!("../vectors/imds/faults.json");

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
