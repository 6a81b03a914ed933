//! One session against a service on the loopback interface that says what a script says, byte by
//! byte. Numbers of defects are those of the peer that are mended here.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "imds_fetch/service.rs"]
mod service;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use service::{Act, Service, ok, status};
use slipway::ctx::{Clock, Ctx};
use slipway::imds::fetch::{Cancel, Limits, MemoryTokens, Route, Session, TokenStore};
use slipway::imds::model::{DATA_MAX, Endpoint, Failure, Mark, Traits};

const REFRESH: Duration = Duration::from_secs(900);

/// As the product's, with waits that a test can wait for.
fn quick() -> Limits {
    Limits {
        first_byte: Duration::from_millis(150),
        idle: Duration::from_millis(150),
        overall: Duration::from_secs(20),
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(10),
        ..Limits::default()
    }
}

fn session_of(endpoint: &Endpoint, limits: Limits) -> Session {
    let ctx = Ctx::host([]);
    Session::new(&ctx, endpoint, Route::default(), Arc::new(MemoryTokens::new(&ctx)), limits)
}

fn fetch(session: &Session, key: &str) -> Result<String, Failure> {
    let bytes = session.fetch(key, REFRESH, &Cancel::new())?;
    Ok(String::from_utf8(bytes).unwrap())
}

/// One key of a service that plays this script.
fn play(script: impl IntoIterator<Item = Act>) -> (Result<String, Failure>, Service) {
    let service = Service::start(script);
    let result = fetch(&session_of(&service.endpoint(), quick()), "/key");
    (result, service)
}

/// The same with a token.
fn play_token(script: impl IntoIterator<Item = Act>) -> (Result<String, Failure>, Service) {
    let service = Service::start(script);
    let result = fetch(&session_of(&service.with_token(), quick()), "/key");
    (result, service)
}

fn data(text: &str) -> Result<String, Failure> {
    Ok(text.to_owned())
}

#[track_caller]
fn assert_broken(result: Result<String, Failure>, detail: &str) {
    match result {
        Err(Failure::CommunicationFailure(text)) if text.contains(detail) => {}
        other => panic!("{other:?}, not a failure with '{detail}'"),
    }
}

#[test]
fn token_and_data_are_asked_for_byte_by_byte_on_one_connection_defects_22_and_23() {
    let service = Service::start([ok("TOKEN=="), ok("host-1"), ok("zone-1")]);
    let endpoint = Endpoint {
        extra_headers: vec!["Metadata: true".into(), "Second: x".into()],
        data_url_suffix: Some("?format=text".into()),
        ..service.with_token()
    };
    let session = session_of(&endpoint, Limits::default());
    assert_eq!(fetch(&session, "/meta-data/hostname"), data("host-1"));
    assert_eq!(fetch(&session, "/meta-data/zone"), data("zone-1"));
    let (seen, host) = (service.seen(), service.address);
    let agent = concat!("slipway/", env!("CARGO_PKG_VERSION"));
    let common = format!("HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n");
    let extra = "X-Token: TOKEN==\r\nMetadata: true\r\nSecond: x\r\n\r\n";
    let texts: Vec<&str> = seen.iter().map(|seen| seen.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            format!("PUT /latest/api/token {common}X-Ttl: 900\r\n\r\n"),
            format!("GET /latest/meta-data/hostname?format=text {common}{extra}"),
            format!("GET /latest/meta-data/zone?format=text {common}{extra}"),
        ]
    );
    assert!(seen.iter().all(|seen| seen.connection == 0 && seen.peer.port() > 1023));
}

#[test]
fn the_status_decides_and_the_page_of_a_404_does_not_matter_defect_1() {
    assert_eq!(play([status(404, "")]).0, Err(Failure::KeyNotFound));
    assert_eq!(play([Act::Last(b"HTTP/1.1 404 N\r\n\r\n".into())]).0, Err(Failure::KeyNotFound));
    let page = b"HTTP/1.1 404 N\r\nContent-Length: 99999\r\n\r\nNot".to_vec();
    for act in [Act::Hang(page.clone()), Act::Reset(page.clone()), Act::Last(page)] {
        let limits = Limits { idle: Duration::from_secs(600), ..quick() };
        let service = Service::start([act]);
        let began = Instant::now();
        let result = fetch(&session_of(&service.endpoint(), limits), "/key");
        assert_eq!(result, Err(Failure::KeyNotFound));
        assert!(began.elapsed() < Duration::from_secs(60), "the page was waited for");
    }
}

#[test]
fn statuses_mean_what_they_mean_on_every_cloud_defect_3() {
    assert_eq!(play([status(403, "")]).0, Err(Failure::NotAvailable));
    for code in [400, 401, 402, 405, 418, 501, 505, 600, 601, 999] {
        let (result, service) = play([status(code, ""), ok("never")]);
        assert_broken(result, &format!("GET /latest/key: HTTP status {code}"));
        assert_eq!(service.lines().len(), 1);
    }
    let no_content = Act::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    assert_eq!(play([no_content]).0, data(""));
    assert_eq!(play([ok("")]).0, data(""));
}

#[test]
fn a_token_is_renewed_once_whatever_the_401_says_defect_2() {
    let (result, service) =
        play_token([ok("OLD"), status(401, ""), ok("NEW"), ok("value"), ok("other")]);
    assert_eq!(result, data("value"));
    let seen = service.seen();
    assert!(seen[1].text.contains("X-Token: OLD\r\n") && seen[3].text.contains("X-Token: NEW\r\n"));
    assert!(seen.iter().all(|seen| seen.connection == 0), "a 401 costs no connection");
}

#[test]
fn a_service_that_refuses_every_token_is_not_asked_for_ever() {
    let (result, service) = play_token([ok("A"), status(401, ""), ok("B"), status(401, "")]);
    assert_broken(result, "401");
    let lines = service.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn statuses_that_pass_are_tried_again_defect_6() {
    for code in [408, 410, 429, 500, 502, 503, 504] {
        let (result, service) = play([status(code, ""), status(code, ""), ok("v")]);
        assert_eq!(result, data("v"), "{code}");
        let seen = service.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|seen| seen.connection == 0), "{code} costs no connection");
    }
    let (result, service) = play_token([status(503, ""), ok("T"), ok("v")]);
    assert_eq!(result, data("v"));
    assert_eq!(
        service.lines(),
        ["PUT /latest/api/token", "PUT /latest/api/token", "GET /latest/key"]
    );
}

#[test]
fn when_the_attempts_are_used_up_the_failure_comes_at_once_defects_4_and_5() {
    let began = Instant::now();
    let (result, service) = play([status(503, "")]);
    assert_broken(result, "HTTP status 503 (gave up after 11 attempts)");
    assert_eq!(service.lines().len(), 11);
    assert!(began.elapsed() < quick().overall / 2);
    // Nobody listens on a port that was let go a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Endpoint { data_url: Some(format!("http://{address}")), ..Endpoint::default() };
    let result = fetch(&session_of(&endpoint, quick()), "/key");
    assert_broken(result, "Connection refused (gave up after 11 attempts)");
}

#[test]
fn the_service_says_when_to_come_back_defect_6() {
    let began = Instant::now();
    assert_eq!(play([status(429, "Retry-After: 1\r\n"), ok("v")]).0, data("v"));
    assert!(began.elapsed() >= Duration::from_secs(1));
    // A moment after which nobody would wait for the answer is not waited for either.
    let began = Instant::now();
    let (result, service) = play([status(429, "Retry-After: 99\r\n"), ok("v")]);
    assert!(matches!(result, Err(Failure::Timeout(text)) if text.contains("99s")));
    assert_eq!(service.lines().len(), 1);
    assert!(began.elapsed() < quick().overall / 2);

    struct Calendar;
    impl Clock for Calendar {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_776)
        }
        fn sleep(&self, _: Duration) {}
    }
    let header = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let service = Service::start([status(503, header), ok("v")]);
    let ctx = Ctx::host([]).with_clock(Arc::new(Calendar));
    let tokens = Arc::new(MemoryTokens::new(&ctx));
    let session = Session::new(&ctx, &service.endpoint(), Route::default(), tokens, quick());
    let began = Instant::now();
    assert_eq!(fetch(&session, "/key"), data("v"));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn statuses_of_a_service_that_starts_are_believed_after_its_first_value_defect_6() {
    let script = [status(404, ""), status(404, ""), ok("v"), status(404, ""), ok("never")];
    let service = Service::start(script.clone());
    let traits = Traits { retry_statuses: vec![404, 429], ..Traits::default() };
    let endpoint = Endpoint { traits, ..service.endpoint() };
    let session = session_of(&endpoint, quick());
    assert_eq!(fetch(&session, "/key"), data("v"));
    assert_eq!(fetch(&session, "/other"), Err(Failure::KeyNotFound));
    // Where it goes on for too long it was the truth.
    let service = Service::start([status(404, "")]);
    let traits = Traits {
        retry_window: Some(Duration::from_millis(40)),
        retry_statuses: vec![404],
        ..Traits::default()
    };
    let endpoint = Endpoint { traits, ..service.endpoint() };
    assert_eq!(fetch(&session_of(&endpoint, quick()), "/key"), Err(Failure::KeyNotFound));
    assert!(service.lines().len() > 1);
}

#[test]
fn what_is_known_to_take_its_time_is_not_given_up_after_ten_attempts_defect_6() {
    let script = (0..30).map(|_| status(410, "")).chain([ok("v")]);
    let service = Service::start(script);
    let traits = Traits {
        retry_statuses: vec![410],
        retry_window: Some(Duration::from_secs(70)),
        ..Traits::default()
    };
    let endpoint = Endpoint { traits, ..service.endpoint() };
    assert_eq!(fetch(&session_of(&endpoint, quick()), "/key"), data("v"));
}

#[test]
fn every_attempt_has_its_time_and_so_has_the_whole_defect_7() {
    let (result, service) = play([Act::Hang(Vec::new()), ok("v")]);
    assert_eq!(result, data("v"));
    assert_eq!(service.lines().len(), 2);
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec();
    assert_eq!(play([Act::Hang(cut), ok("v")]).0, data("v"));
    let service = Service::start([Act::Hang(Vec::new())]);
    let limits = Limits { overall: Duration::from_millis(400), ..quick() };
    let began = Instant::now();
    let result = fetch(&session_of(&service.endpoint(), limits), "/key");
    assert!(matches!(result, Err(Failure::Timeout(text)) if text.contains("no answer")));
    assert!(began.elapsed() >= Duration::from_millis(350));
    assert!(service.lines().len() > 1);
}

#[test]
fn a_server_that_never_pauses_is_held_to_the_limits_too_defect_7() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = format!("1;{}\r\nx\r\n", "y".repeat(200)).repeat(100);
    let service = Service::start([Act::Flood(head, chunk.into())]);
    let limits = Limits { overall: Duration::from_millis(400), ..quick() };
    let began = Instant::now();
    let result = fetch(&session_of(&service.endpoint(), limits), "/key");
    assert!(matches!(result, Err(Failure::Timeout(_))), "{result:?}");
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn redirects_are_not_followed_but_to_the_same_directory_defect_8() {
    let elsewhere = Service::start([ok("secret of somebody else")]);
    let to = format!("Location: http://{}/latest/key/\r\n", elsewhere.address);
    for code in [301, 302, 307, 308] {
        let (result, service) = play([status(code, &to), ok("never")]);
        assert_eq!(result, Err(Failure::NotAvailable));
        assert_eq!(service.lines(), ["GET /latest/key"]);
        let (result, _) = play([status(code, "Location: /other\r\n"), ok("never")]);
        assert_broken(result, "redirects are not followed");
        let (result, service) = play([status(code, "Location: /latest/key/\r\n"), ok("list")]);
        assert_eq!(result, data("list"));
        assert_eq!(service.lines(), ["GET /latest/key", "GET /latest/key/"]);
    }
    let (result, service) = play([
        status(301, "Location: /latest/key/\r\n"),
        status(301, "Location: /latest/key//\r\n"),
        ok("never"),
    ]);
    assert_broken(result, "redirects");
    assert_eq!(service.lines().len(), 2, "no loop");
    assert_eq!(play_token([status(302, &to), ok("never")]).0, Err(Failure::NotAvailable));
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn proxies_are_ignored_defect_8() {
    let (service, proxy) = (Service::start([ok("v")]), Service::start([ok("proxied")]));
    let url = format!("http://{}", proxy.address);
    let names = ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"];
    let ctx = names.iter().fold(Ctx::host([]), |ctx, name| ctx.with_env(name, &url));
    let tokens = Arc::new(MemoryTokens::new(&ctx));
    let session = Session::new(&ctx, &service.endpoint(), Route::default(), tokens, quick());
    assert_eq!(fetch(&session, "/key"), data("v"));
    assert!(proxy.seen().is_empty());
}

#[test]
fn half_an_answer_is_no_answer_defect_9() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec();
    let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n".to_vec();
    let acts = [
        Act::Last(half.clone()),
        Act::Last(chunk),
        Act::Last(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Act::Last(Vec::new()),
        Act::Reset(Vec::new()),
        Act::Reset(half.clone()),
    ];
    for act in acts {
        let (result, service) = play([act, ok("whole")]);
        assert_eq!(result, data("whole"));
        assert_eq!(service.lines().len(), 2);
    }
    assert_broken(play([Act::Last(half)]).0, "closed within the answer, from 127.0.0.1");
}

#[test]
fn nonsense_is_a_failure_at_once() {
    for (bytes, why) in [
        ("SSH-2.0-OpenSSH_9.9\r\n", "not HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "contradictory"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "badly chunked"),
    ] {
        let (result, service) = play([Act::Last(bytes.into()), ok("never")]);
        assert_broken(result, why);
        assert_eq!(service.lines().len(), 1);
    }
}

#[test]
fn bodies_may_have_four_mebibytes_and_not_a_byte_more() {
    let body = "x".repeat(DATA_MAX);
    assert_eq!(play([ok(&body)]).0.map(|body| body.len()), Ok(DATA_MAX));
    let promise = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", DATA_MAX + 1);
    // Refused before a byte of it came.
    let (result, _) = play([Act::Hang(promise.into())]);
    assert!(matches!(result, Err(Failure::System(7, _))), "{result:?}");
    let (result, service) = play([Act::Last(format!("HTTP/1.1 200 OK\r\n\r\n{body}x").into())]);
    assert!(matches!(result, Err(Failure::System(7, _))), "{result:?}");
    assert_eq!(service.lines().len(), 1);
}

#[test]
fn every_framing_is_read() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nval\r\n2\r\nue\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nvalue",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nvalue",
        "HTTP/1.0 200 OK\r\n\r\nvalue",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nvalue",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nvalue",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nvalue",
    ] {
        assert_eq!(play([Act::Last(answer.into())]).0, data("value"), "{answer:?}");
    }
}

#[test]
fn a_token_may_end_in_a_newline_defect_10_but_not_be_empty_defect_11() {
    for token in ["TOK\n", "TOK\r\n", "TOK"] {
        let (result, service) = play_token([ok(token), ok("v")]);
        assert_eq!(result, data("v"));
        assert!(service.seen()[1].text.contains("X-Token: TOK\r\n"));
    }
    for (token, why) in [
        (String::new(), "empty"),
        ("\n".to_owned(), "empty"),
        ("A\r\nX-Evil: 1".to_owned(), "control characters"),
        ("x".repeat(4097), "too long"),
    ] {
        let (result, service) = play_token([ok(&token), ok("never")]);
        assert_broken(result, why);
        assert_eq!(service.lines(), ["PUT /latest/api/token"]);
    }
    assert_eq!(play_token([ok(&"x".repeat(4096)), ok("v")]).0, data("v"));
    let long = play_token([ok(&"x".repeat(5000)), ok("never")]).0;
    assert!(long.is_err());
}

#[test]
fn services_without_tokens_and_services_switched_off_are_told_apart() {
    for code in [404, 405] {
        let service = Service::start([status(code, ""), ok("v"), ok("w")]);
        let session = session_of(&service.with_token(), quick());
        assert_eq!(fetch(&session, "/key"), data("v"));
        assert_eq!(fetch(&session, "/other"), data("w"));
        let lines = service.lines();
        assert_eq!(lines, ["PUT /latest/api/token", "GET /latest/key", "GET /latest/other"]);
        assert!(!service.seen()[1].text.contains("X-Token"));
    }
    assert_eq!(play_token([status(403, "")]).0, Err(Failure::NotAvailable));
    assert_broken(play_token([status(400, ""), ok("never")]).0, "HTTP status 400");
}

#[test]
fn a_service_that_is_off_is_asked_for_a_token_once_for_all_keys_and_again_later() {
    struct Hand(AtomicU64);
    impl Clock for Hand {
        fn now(&self) -> SystemTime {
            SystemTime::now()
        }
        fn sleep(&self, _: Duration) {}
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }
    let clock = Arc::new(Hand(AtomicU64::new(5)));
    let ctx = Ctx::host([]).with_clock(clock.clone());
    let service = Service::start([status(403, ""), ok("T"), ok("v")]);
    let tokens = Arc::new(MemoryTokens::new(&ctx));
    let session = Session::new(&ctx, &service.with_token(), Route::default(), tokens, quick());
    for key in ["/a", "/b", "/c"] {
        assert_eq!(fetch(&session, key), Err(Failure::NotAvailable));
    }
    assert_eq!(service.lines(), ["PUT /latest/api/token"]);
    // Somebody may have switched it on.
    clock.0.store(60, Ordering::Relaxed);
    assert_eq!(fetch(&session, "/d"), data("v"));
}

#[test]
fn what_turns_up_elsewhere_between_two_attempts_is_taken() {
    let service = Service::start([status(503, ""), ok("again")]);
    let session = session_of(&service.endpoint(), quick());
    let elsewhere = || Some(Ok(b"elsewhere".to_vec()));
    let found = session.fetch_unless("/key", REFRESH, &Cancel::new(), &elsewhere);
    assert_eq!(found.as_deref(), Ok(&b"elsewhere"[..]));
    assert_eq!(service.lines(), ["GET /latest/key"]);
    // Not before the first one: the caller has looked.
    assert_eq!(
        session.fetch_unless("/key", REFRESH, &Cancel::new(), &elsewhere),
        Ok(b"again".into())
    );
}

#[test]
fn tokens_are_asked_for_a_lifetime_that_the_service_accepts() {
    let service = Service::start([ok("T"), ok("v")]);
    let traits =
        Traits { token_lifetime_max: Some(Duration::from_secs(21600)), ..Traits::default() };
    let session = session_of(&Endpoint { traits, ..service.with_token() }, quick());
    session.fetch("/key", Duration::from_secs(86_400), &Cancel::new()).unwrap();
    assert!(service.seen()[0].text.contains("X-Ttl: 21600\r\n"));
}

#[test]
fn a_token_that_is_kept_is_used_and_a_bad_one_never_sent() {
    struct Kept(Mutex<Option<String>>);
    impl TokenStore for Kept {
        fn load(&self) -> Option<String> {
            self.0.lock().unwrap().clone()
        }
        fn store(&self, token: &str, _: Duration) {
            *self.0.lock().unwrap() = Some(token.to_owned());
        }
        fn forget(&self, token: &str) {
            self.0.lock().unwrap().take_if(|kept| kept == token);
        }
    }
    for (kept, lines) in [("KEPT", 1), ("A\r\nX-Evil: 1", 2)] {
        let service = Service::start([ok("T"), ok("v")]);
        let tokens = Arc::new(Kept(Mutex::new(Some(kept.to_owned()))));
        let ctx = Ctx::host([]);
        let session = Session::new(&ctx, &service.with_token(), Route::default(), tokens, quick());
        fetch(&session, "/key").unwrap();
        assert_eq!(service.lines().len(), lines);
        assert!(!service.seen().iter().any(|seen| seen.text.contains("Evil")));
    }
}

#[test]
fn threads_that_share_a_session_ask_for_one_token() {
    let service = Service::start([ok("T"), ok("v")]);
    let session = session_of(&service.with_token(), quick());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(fetch(&session, "/key"), data("v")));
        }
    });
    let lines = service.lines();
    let puts = lines.iter().filter(|line| line.starts_with("PUT")).count();
    assert_eq!((puts, lines.len()), (1, 9));
}

#[test]
fn keys_stay_on_their_server_and_in_their_line() {
    let service = Service::start([ok("v")]);
    let session = session_of(&service.endpoint(), quick());
    for key in ["/x y", "/x\r\nHost: evil", "/\u{fc}", "/x\0"] {
        let wrong = Err(Failure::InvalidParameter("key".into()));
        assert_eq!(fetch(&session, key), wrong, "{key:?}");
    }
    let bare = Endpoint { data_url: Some("http://169.254.169.254".into()), ..service.endpoint() };
    for key in ["@evil/", ".evil/", ":99/", "evil"] {
        let result = fetch(&session_of(&bare, quick()), key);
        assert_eq!(result, Err(Failure::InvalidParameter("key".into())), "{key:?}");
    }
    assert!(service.seen().is_empty());
    for (key, line) in [
        ("/../userdata", "GET /userdata"),
        ("/%2e%2E/x", "GET /x"),
        ("//x", "GET /latest//x"),
        ("/target#frag", "GET /latest/target"),
        ("/%zz", "GET /latest/%zz"),
    ] {
        fetch(&session, key).unwrap();
        assert_eq!(service.lines().pop().unwrap(), line, "{key}");
    }
}

#[test]
fn endpoints_that_cannot_be_used_say_so() {
    let fails = |endpoint: Endpoint| fetch(&session_of(&endpoint, quick()), "/key").unwrap_err();
    assert_eq!(fails(Endpoint::default()), Failure::NotSupported);
    let service = Service::start([ok("v")]);
    let half = Endpoint { token_header_name: None, ..service.with_token() };
    assert_eq!(fails(half), Failure::NotSupported);
    for url in ["https://127.0.0.1/", "http://a b/", "ftp://x", "http://u:p@127.0.0.1/"] {
        let endpoint = Endpoint { data_url: Some(url.into()), ..Endpoint::default() };
        assert!(matches!(fails(endpoint), Failure::CommunicationFailure(_)), "{url}");
    }
    let extra_headers = vec!["A: b\r\nC: d".to_owned()];
    let smuggled = Endpoint { extra_headers, ..service.endpoint() };
    assert!(matches!(fails(smuggled), Failure::CommunicationFailure(_)));
    assert!(service.seen().is_empty());
}

#[test]
fn an_idle_connection_that_was_closed_costs_no_attempt() {
    let last = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Act::Last(format!("{head}{body}").into())
    };
    let none = Limits { retries: 0, ..quick() };
    // Closed while idle, and closed in the moment of the second request.
    for script in [vec![last("a"), ok("b")], vec![ok("a"), Act::Last(Vec::new()), ok("b")]] {
        let service = Service::start(script);
        let session = session_of(&service.endpoint(), none.clone());
        assert_eq!(fetch(&session, "/key"), data("a"));
        assert_eq!(fetch(&session, "/key"), data("b"));
        assert_eq!(service.seen().last().unwrap().connection, 1);
    }
    // Bytes that nobody asked for are not the next answer.
    let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\nsmuggled";
    let service = Service::start([Act::Send(twice.to_vec()), ok("b")]);
    let session = session_of(&service.endpoint(), none);
    assert_eq!(fetch(&session, "/key"), data("a"));
    assert_eq!(fetch(&session, "/key"), data("b"));
}

#[test]
fn a_fetch_can_be_cancelled_while_it_waits() {
    let hanging = Service::start([Act::Hang(Vec::new())]);
    let waiting = Service::start([status(503, "Retry-After: 30\r\n")]);
    for service in [hanging, waiting] {
        let session = session_of(&service.endpoint(), Limits::default());
        let cancel = Cancel::new();
        let began = Instant::now();
        let result = std::thread::scope(|scope| {
            let fetching = scope.spawn(|| session.fetch("/key", REFRESH, &cancel));
            while service.seen().is_empty() {
                std::thread::yield_now();
            }
            cancel.cancel();
            fetching.join().unwrap()
        });
        assert_eq!(result, Err(Failure::CommunicationFailure("cancelled".into())));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}

#[test]
fn names_that_do_not_resolve_have_known_addresses() {
    let service = Service::start([ok("v")]);
    let data_url = format!("http://metadata.slipway.invalid:{}", service.address.port());
    let traits = Traits { resolve: vec![service.address.ip()], ..Traits::default() };
    let endpoint = Endpoint { data_url: Some(data_url), traits, ..Endpoint::default() };
    assert_eq!(fetch(&session_of(&endpoint, quick()), "/key"), data("v"));
    let host = format!("Host: metadata.slipway.invalid:{}\r\n", service.address.port());
    assert!(service.seen()[0].text.contains(&host));
    let unknown = Endpoint { traits: Traits::default(), ..endpoint };
    let began = Instant::now();
    let result = fetch(&session_of(&unknown, quick()), "/key");
    assert_broken(result, "cannot resolve 'metadata.slipway.invalid'");
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// A service on `[::1]` and the same port of 127.0.0.1 with what becomes of it.
fn twins<T>(v4: impl Fn(SocketAddr) -> std::io::Result<T>) -> Option<(Service, Endpoint, T)> {
    for _ in 0..100 {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            println!("SKIP: no IPv6 on the loopback interface");
            return None;
        };
        let port = listener.local_addr().unwrap().port();
        let Ok(first) = v4(SocketAddr::from(([127, 0, 0, 1], port))) else { continue };
        let service = Service::listen(listener, [ok("six"), ok("six")]);
        let endpoint = Endpoint {
            data_url: Some(format!("http://127.0.0.1:{port}")),
            address_ipv4: Some([127, 0, 0, 1].into()),
            address_ipv6: Some("::1".parse().unwrap()),
            ..Endpoint::default()
        };
        return Some((service, endpoint, first));
    }
    panic!("no port is free in both families");
}

/// Nobody listens there, and nobody else may.
fn bound(address: SocketAddr) -> std::io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &address)?;
    Ok(socket)
}

#[test]
fn the_other_family_is_asked_where_the_first_refuses_defect_15() {
    let Some((service, endpoint, _quiet)) = twins(bound) else { return };
    let limits = Limits { retries: 0, ..quick() };
    assert_eq!(fetch(&session_of(&endpoint, limits), "/key"), data("six"));
    let host = format!("Host: [::1]:{}\r\n", service.address.port());
    assert!(service.seen()[0].text.contains(&host));
}

#[test]
fn the_other_family_is_asked_where_the_first_is_silent_defect_15() {
    // A full backlog swallows connections without a word.
    let silent = |address: SocketAddr| {
        let socket = bound(address)?;
        rustix::net::listen(&socket, 0)?;
        let filler = TcpStream::connect(address)?;
        Ok((socket, filler))
    };
    let Some((_service, endpoint, _silent)) = twins(silent) else { return };
    let limits = Limits { retries: 0, head_start: Duration::from_millis(250), ..quick() };
    let session = session_of(&endpoint, limits);
    let began = Instant::now();
    assert_eq!(fetch(&session, "/key"), data("six"));
    let first = began.elapsed();
    assert!(first >= Duration::from_millis(250) && first < Duration::from_secs(2), "{first:?}");
}

#[test]
fn the_first_family_is_asked_alone_where_it_answers() {
    let Some((six, endpoint, listener)) = twins(TcpListener::bind) else { return };
    let four = Service::listen(listener, [ok("four")]);
    assert_eq!(fetch(&session_of(&endpoint, quick()), "/key"), data("four"));
    assert_eq!((four.lines().len(), six.lines().len()), (1, 0));
    // An address that is not the endpoint's has no twin.
    let stranger = Endpoint { address_ipv4: Some([192, 0, 2, 1].into()), ..endpoint };
    drop(four);
    assert_eq!(fetch(&session_of(&stranger, quick()), "/key"), data("four"));
}

#[test]
fn zones_are_understood_and_kept_to_ourselves() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("SKIP zones_are_understood_and_kept_to_ourselves: no IPv6");
        return;
    };
    let service = Service::listen(listener, [ok("v")]);
    let port = service.address.port();
    for zone in ["%25lo", "%lo", "%251"] {
        let data_url = Some(format!("http://[::1{zone}]:{port}/x"));
        let endpoint = Endpoint { data_url, ..Endpoint::default() };
        assert_eq!(fetch(&session_of(&endpoint, quick()), "/key"), data("v"), "{zone}");
        let text = service.seen().pop().unwrap().text;
        assert!(text.starts_with(&format!("GET /x/key HTTP/1.1\r\nHost: [::1]:{port}\r\n")));
    }
}

#[test]
fn low_source_ports_are_for_those_who_want_them_defect_22() {
    let service = Service::start([ok("v")]);
    let low_port_paths = vec!["/latest/user_data".to_owned(), "/latest/vendor_data/".to_owned()];
    let traits = Traits { low_port_paths, ..Traits::default() };
    let session = session_of(&Endpoint { traits, ..service.endpoint() }, quick());
    let is_low = |key: &str| -> Result<bool, Failure> {
        fetch(&session, key)?;
        Ok(service.seen().pop().unwrap().peer.port() < 1024)
    };
    assert_eq!(is_low("/conf"), Ok(false));
    assert_eq!(is_low("/user_data_of_others"), Ok(false));
    match is_low("/user_data/cloud-init") {
        Ok(is_low) => assert!(is_low),
        Err(Failure::CommunicationFailure(text)) if text.contains("CAP_NET_BIND_SERVICE") => {
            println!("SKIP low_source_ports_are_for_those_who_want_them: no privilege");
            return;
        }
        Err(failure) => panic!("{failure:?}"),
    }
    assert_eq!(is_low("/user_data"), Ok(true));
    assert_eq!(is_low("/vendor_data/x"), Ok(true));
    let ports: Vec<u16> = (0..40)
        .map(|_| {
            let traits = Traits {
                low_port_paths: vec!["/latest/user_data".to_owned()],
                ..Traits::default()
            };
            let endpoint = Endpoint { traits, ..service.endpoint() };
            fetch(&session_of(&endpoint, quick()), "/user_data").unwrap();
            service.seen().pop().unwrap().peer.port()
        })
        .collect();
    assert!(ports.iter().all(|port| *port < 1024 && ![22, 80, 443].contains(port)), "{ports:?}");
    assert!(!ports.is_sorted(), "not one after the other: {ports:?}");
}

#[test]
fn an_explicit_mark_must_work_and_the_default_need_not() {
    let service = Service::start([ok("v")]);
    let ctx = Ctx::host([]);
    let with = |mark: Mark| {
        let tokens = Arc::new(MemoryTokens::new(&ctx));
        let route = Route { interface: None, mark };
        fetch(&Session::new(&ctx, &service.endpoint(), route, tokens, quick()), "/key")
    };
    assert_eq!(with(Mark::Default), data("v"));
    assert_eq!(with(Mark::Off), data("v"));
    match with(Mark::Value(7)) {
        Ok(value) => assert_eq!(value, "v"),
        Err(failure) => assert!(
            matches!(&failure, Failure::CommunicationFailure(text) if text.contains("0x7")),
            "{failure:?}"
        ),
    }
}

#[test]
fn loopback_is_never_bound_to_an_interface() {
    let service = Service::start([ok("v")]);
    let ctx = Ctx::host([]);
    let interface = slipway::net::Interface { index: 4_000_000, name: "slipway-none".into() };
    let route = Route { interface: Some(interface), mark: Mark::Off };
    let tokens = Arc::new(MemoryTokens::new(&ctx));
    let session = Session::new(&ctx, &service.endpoint(), route, tokens, quick());
    assert_eq!(fetch(&session, "/key"), data("v"));
}

#[test]
fn a_key_takes_less_than_milliseconds() {
    const ROUNDS: usize = 51;
    let service = Service::start([ok("T"), ok("v")]);
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[ROUNDS / 2]
    };
    let timed = |session: &Session| {
        let began = Instant::now();
        fetch(session, "/key").unwrap();
        began.elapsed()
    };
    let cold =
        median((0..ROUNDS).map(|_| timed(&session_of(&service.with_token(), quick()))).collect());
    let session = session_of(&service.with_token(), quick());
    timed(&session);
    let warm = median((0..ROUNDS).map(|_| timed(&session)).collect());
    println!("cold with token: {cold:?}, warm: {warm:?}");
    // Ten times what it takes on a machine that has nothing else to do.
    assert!(cold < Duration::from_millis(5), "{cold:?}");
    assert!(warm < Duration::from_millis(3), "{warm:?}");
}
