//! Varlink, byte for byte: requests in, replies out, over a socket pair; and our client against
//! our server. Expectations without a comment of their own were observed with systemd 262.1
//! (systemd-sysupdate, systemd-hostnamed and systemd-creds, started with a socket on descriptor 3).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::{Map, Value, json};
use slipway::ctx::Ctx;
use slipway::error::Error;
use slipway::varlink::client::Client;
use slipway::varlink::server::{Answer, Listening, Service, bind};
use slipway::varlink::wire::Stream;
use slipway::varlink::{activation::Activation, errors};

const TEXT: &str = "
# For tests.
interface io.example

type Kind (host, component)
type Target (class: Kind, name: ?string)

method Add(a: int, b: int) -> (sum: int)
method Nothing() -> ()
method Fail(errno: ?int) -> ()
method ListFeatures(target: Target) -> (features: []string)
# [Requires 'more' flag]
method Count(to: int) -> (n: int)
# [Supports 'more' flag]
method List(names: []string) -> (name: string)
# [Requires 'more' flag]
method Work() -> (progress: int)
# [Requires 'upgrade' flag]
method Shout() -> ()
method Read(fd: int) -> (data: string)
method Open(text: string) -> (fd: int)
method Private() -> ()
method WhoAmI() -> (uid: int)

error Empty()
";

fn service() -> Service {
    let cancelled = Arc::new(AtomicBool::new(false));
    service_with(cancelled)
}

fn service_with(cancelled: Arc<AtomicBool>) -> Service {
    Service::builder(Ctx::host([]), "test")
        .product("Test", "1")
        .accept_fds()
        .interface(TEXT)
        .unwrap()
        .method("Add", |call| {
            let params = call.params();
            let sum = params.int("a")?.checked_add(params.int("b")?);
            Answer::reply(json!({ "sum": sum.ok_or_else(|| params.invalid("b"))? }))
        })
        .method("Nothing", |_| Answer::empty())
        .method("Fail", |call| {
            let errno = i32::try_from(call.params().opt_int("errno")?.unwrap_or(2)).unwrap();
            Err(Error::errno_because("Cannot do it", errno))
        })
        .method("ListFeatures", |call| {
            let params = call.params();
            let target = params.object("target")?;
            match (target.str("class")?, target.opt_str("name")?) {
                ("host", None) => Answer::reply(json!({ "features": [] })),
                _ => Err(params.invalid("target")),
            }
        })
        .method("Count", |call| {
            for n in 1..=call.params().int("to")? {
                call.emit(json!({ "n": n }))?;
            }
            Answer::streamed_or(errors::custom("io.example.Empty", Map::new()))
        })
        .method("List", |call| {
            for name in call.params().strings("names")? {
                call.emit(json!({ "name": name }))?;
            }
            Answer::streamed_or(errors::custom("io.example.Empty", Map::new()))
        })
        .method("Work", move |call| {
            call.notify(json!({ "progress": 50 }))?;
            while !call.is_cancelled() {
                std::thread::yield_now();
            }
            cancelled.store(true, Ordering::SeqCst);
            Answer::reply(json!({ "progress": 100 }))
        })
        .method("Shout", |_| {
            let takeover = |raw: slipway::varlink::wire::Raw| {
                let mut text = raw.rest;
                let (mut read, mut write) =
                    (std::fs::File::from(raw.read), std::fs::File::from(raw.write));
                read.read_to_end(&mut text).unwrap();
                write.write_all(&text.to_ascii_uppercase()).unwrap();
                Ok(())
            };
            Ok(Answer::Upgrade(Map::new(), Box::new(takeover)))
        })
        .method("Read", |call| {
            let mut data = String::new();
            std::fs::File::from(call.take_fd("fd")?).read_to_string(&mut data).unwrap();
            Answer::reply(json!({ "data": data }))
        })
        .method("Open", |call| {
            let index = call.push_fd(file_with(call.params().str("text")?))?;
            Answer::reply(json!({ "fd": index }))
        })
        .method("Private", |call| {
            call.authorize()?;
            Answer::empty()
        })
        .method("WhoAmI", |call| Answer::reply(json!({ "uid": call.peer().uid })))
        .build()
        .unwrap()
}

fn file_with(text: &str) -> OwnedFd {
    use std::io::Seek;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// Sends raw bytes, ends the sending side and returns everything that came back.
fn exchange(input: &[u8]) -> Vec<u8> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let server = std::thread::spawn(move || service().serve(Stream::socket(theirs)).unwrap());
    // A server that has hung up already is part of what is tested.
    let _ = ours.write_all(input);
    let _ = ours.shutdown(std::net::Shutdown::Write);
    let mut output = Vec::new();
    let _ = ours.read_to_end(&mut output);
    server.join().unwrap();
    output
}

/// Requests and replies as text, with `|` in place of every terminator.
fn check(input: &str, expected: &str) {
    let output = exchange(input.replace('|', "\0").as_bytes());
    let output = String::from_utf8(output).unwrap().replace('\0', "|");
    assert_eq!(output, expected, "{input}");
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn client() -> Client {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || service().serve(Stream::socket(theirs)));
    Client::from_socket(ours)
}

#[test]
fn replies_are_the_peers_bytes() {
    for (input, expected) in [
        (r#"{"method":"io.example.Nothing"}|"#, "{}|"),
        (r#"{"method":"io.example.Nothing","parameters":null}|"#, "{}|"),
        (" { \"method\" : \"io.example.Nothing\" , \"parameters\" : { } } \n|", "{}|"),
        (
            r#"{"method":"x.y.Z"}|"#,
            r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"x.y.Z"}}|"#,
        ),
        (
            r#"{"method":"io.example.Nope"}|"#,
            r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"io.example.Nope"}}|"#,
        ),
        (
            r#"{"method":""}|"#,
            r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":""}}|"#,
        ),
        (
            r#"{"method":"x.y.é"}|"#,
            r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"x.y.é"}}|"#,
        ),
        (
            r#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"a"}}|"#,
            r#"{"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"a"}}|"#,
        ),
        (
            r#"{"method":"io.example.Fail"}|"#,
            r#"{"error":"io.systemd.System","parameters":{"origin":"linux","errno":2,"errnoName":"ENOENT"}}|"#,
        ),
        (
            r#"{"method":"io.example.Nothing","more":true}|{"method":"io.example.Nothing","upgrade":true}|"#,
            "{}|{}|",
        ),
        (r#"{"method":"io.example.Nothing","more":false,"oneway":false,"upgrade":false}|"#, "{}|"),
        (
            r#"{"method":"x.y.Z","oneway":true}|{"method":"io.example.Add","parameters":{"a":1,"b":2}}|"#,
            r#"{"parameters":{"sum":3}}|"#,
        ),
        (
            r#"{"method":"io.example.Add","parameters":{"a":1,"b":2}}|{"method":"io.example.Nothing"}|"#,
            r#"{"parameters":{"sum":3}}|{}|"#,
        ),
    ] {
        check(input, expected);
    }
}

#[test]
fn broken_messages_end_the_connection_without_an_answer() {
    let good = r#"{"method":"io.example.Nothing"}|"#;
    for bad in [
        "|",
        "null|",
        "[]|",
        "{}|",
        "{|",
        r#"{"method":1}|"#,
        r#"{"method":"io.example.Nothing","k":1}|"#,
        r#"{"method":"io.example.Nothing","io.vendor":{}}|"#,
        r#"{"method":"io.example.Nothing","more":true,"oneway":true}|"#,
        r#"{"method":"io.example.Nothing","more":null}|"#,
        r#"{"method":"io.example.Nothing","more":"true"}|"#,
        r#"{"method":"io.example.Nothing","parameters":[]}|"#,
        r#"{"method":"io.example.Nothing","method":"io.example.Nothing"}|"#,
        r#"{"method":"io.example.Nothing"}x|"#,
        r#"{"method":"io.example.Nothing"}"#,
    ] {
        check(&format!("{bad}{good}"), "");
        check(&format!("{good}{bad}"), "{}|");
    }
}

#[test]
fn the_first_offending_parameter_is_named() {
    let invalid = |name: &str| {
        let error = r#"{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"#;
        format!("{error}\"{name}\"}}}}|")
    };
    for (method, parameters, name) in [
        ("io.example.Add", r#"{}"#, "a"),
        ("io.example.Add", r#"{"a":1}"#, "b"),
        ("io.example.Add", r#"{"b":1,"c":1}"#, "a"),
        ("io.example.Add", r#"{"c":1,"a":1,"b":1}"#, "c"),
        ("io.example.Add", r#"{"a":"x","b":1,"c":1}"#, "c"),
        ("io.example.Add", r#"{"a":"x","b":1}"#, "a"),
        ("io.example.Add", r#"{"a":1.5,"b":1}"#, "a"),
        ("io.example.Add", r#"{"a":true,"b":1}"#, "a"),
        ("io.example.Add", r#"{"a":null,"b":1}"#, "a"),
        ("io.example.Add", r#"{"a":9223372036854775808,"b":1}"#, "a"),
        ("io.example.Add", r#"{"a":9223372036854775807,"b":1}"#, "b"),
        ("io.example.Add", r#"{"a":1,"b":1,"a":2}"#, "a"),
        ("io.example.ListFeatures", r#"{"target":{"class":"bogus"}}"#, "target"),
        ("io.example.ListFeatures", r#"{"target":{"class":"host","x":1}}"#, "target"),
        ("io.example.ListFeatures", r#"{"target":{"class":"host","name":"x"}}"#, "target"),
        ("io.example.ListFeatures", r#"{"x":1}"#, "target"),
        ("org.varlink.service.GetInfo", r#"{"a":1}"#, "a"),
        ("org.varlink.service.GetInterfaceDescription", r#"{"b":1}"#, "interface"),
        ("org.varlink.service.GetInterfaceDescription", r#"{"interface":"a","b":1}"#, "b"),
    ] {
        let input = format!(r#"{{"method":"{method}","parameters":{parameters}}}|"#);
        check(&input, &invalid(name));
    }
    let input = r#"{"method":"io.example.Add","parameters":{"a":" 0x10","b":7.0}}|"#;
    check(input, r#"{"parameters":{"sum":23}}|"#);
}

#[test]
fn streams_end_with_a_final_reply_or_the_sentinel() {
    let more = |method: &str, parameters: &str| {
        format!(r#"{{"method":"io.example.{method}","parameters":{parameters},"more":true}}|"#)
    };
    check(&more("Count", r#"{"to":1}"#), r#"{"parameters":{"n":1}}|"#);
    check(
        &more("Count", r#"{"to":3}"#),
        r#"{"parameters":{"n":1},"continues":true}|{"parameters":{"n":2},"continues":true}|{"parameters":{"n":3}}|"#,
    );
    check(&more("Count", r#"{"to":0}"#), r#"{"error":"io.example.Empty"}|"#);
    let plain = r#"{"method":"io.example.Count","parameters":{"to":1}}|"#;
    check(plain, r#"{"error":"org.varlink.service.ExpectedMore"}|"#);
    let plain = |names: &str| {
        format!(r#"{{"method":"io.example.List","parameters":{{"names":{names}}}}}|"#)
    };
    check(&plain(r#"["a"]"#), r#"{"parameters":{"name":"a"}}|"#);
    check(&plain(r#"["a","b"]"#), r#"{"error":"org.varlink.service.ExpectedMore"}|"#);
    check(&plain("[]"), r#"{"error":"io.example.Empty"}|"#);
    check(r#"{"method":"io.example.Count","parameters":{"to":3},"oneway":true}|"#, "");
}

#[test]
fn a_large_message_passes_and_a_larger_one_ends_the_connection() {
    let call = |size: usize| {
        let mut bytes = br#"{"method":"io.example.Nothing"}"#.to_vec();
        bytes.resize(size, b' ');
        bytes.push(0);
        bytes
    };
    assert_eq!(exchange(&call((16 << 20) + 8)), b"{}\0");
    assert_eq!(exchange(&call(20 << 20)), b"");
}

#[test]
fn an_upgraded_connection_gets_every_byte_behind_the_call() {
    let input = b"{\"method\":\"io.example.Shout\",\"upgrade\":true}\0abc\0def";
    assert_eq!(exchange(input), b"{}\0ABC\0DEF");
    check(
        r#"{"method":"io.example.Shout"}|"#,
        r#"{"error":"org.varlink.service.ExpectedUpgrade"}|"#,
    );
    let upgraded = client().upgrade("io.example.Shout", Map::new()).unwrap().unwrap();
    let mut socket = UnixStream::from(upgraded.raw.read);
    socket.write_all(b"quiet").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text, "QUIET");
}

#[test]
fn descriptors_travel_both_ways() {
    let mut client = client();
    client.accept_fds();
    let index = client.push_fd(file_with("there")).unwrap();
    let reply = client.invoke("io.example.Read", map(json!({ "fd": index }))).unwrap();
    assert_eq!(reply["data"], "there");
    let mut reply = client.call("io.example.Open", map(json!({ "text": "back" }))).unwrap();
    let mut text = String::new();
    std::fs::File::from(reply.fds.remove(0)).read_to_string(&mut text).unwrap();
    assert_eq!(text, "back");
    let error = client.invoke("io.example.Read", map(json!({ "fd": 0 }))).unwrap_err();
    assert_eq!(error.varlink().unwrap().1["parameter"], "fd");
}

#[test]
fn work_stops_when_the_caller_hangs_up() {
    let cancelled = Arc::new(AtomicBool::new(false));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let service = service_with(Arc::clone(&cancelled));
    let server = std::thread::spawn(move || service.serve(Stream::socket(theirs)));
    let mut client = Client::from_socket(ours);
    let mut replies = client.call_more("io.example.Work", Map::new()).unwrap();
    assert!(replies.next().unwrap().unwrap().continues);
    drop(client);
    server.join().unwrap().unwrap();
    assert!(cancelled.load(Ordering::SeqCst));
}

#[test]
fn the_client_hangs_up_on_replies_that_make_no_sense() {
    for reply in
        [r#"{"x":1}"#, r#"{"continues":true}"#, "[]", "", r#"{"parameters":{},"io.vendor":{}}"#]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(format!("{reply}\0").as_bytes()).unwrap();
        let error = Client::from_socket(ours).call("a.b.C", Map::new()).unwrap_err();
        let expected = "Failed to issue a.b.C() call: Connection reset by peer";
        assert_eq!(error.to_string(), expected, "{reply}");
    }
}

#[test]
fn silence_is_a_timeout() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut client = Client::from_socket(ours);
    client.set_timeout(Some(Duration::from_millis(2)));
    let error = client.call("a.b.C", Map::new()).unwrap_err();
    assert_eq!(error.to_string(), "Failed to issue a.b.C() call: Timer expired");
}

#[test]
fn a_late_reply_is_not_taken_for_the_next_one() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut late = Client::from_socket(ours);
    late.set_timeout(Some(Duration::from_millis(2)));
    assert!(late.call("a.b.C", Map::new()).is_err());
    theirs.write_all(b"{}\0").unwrap();
    let error = late.call("a.b.D", Map::new()).unwrap_err().to_string();
    assert_eq!(error, "Failed to issue a.b.D() call: Transport endpoint is not connected");

    let mut client = client();
    let to = map(json!({ "to": 3 }));
    assert!(client.call_more("io.example.Count", to).unwrap().next().is_some());
    assert!(client.call("io.example.Nothing", Map::new()).is_err());
}

#[test]
fn one_user_gets_so_many_connections_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("io.example");
    let socket = bind(&path, 0o666, false).unwrap();
    let until = Listening::new().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| service().run(Activation::Listen(vec![socket]), Some(&until)));
        let nothing = "io.example.Nothing";
        let connect = || Client::from_socket(UnixStream::connect(&path).unwrap());
        let mut clients: Vec<Client> = (0..128).map(|_| connect()).collect();
        for client in &mut clients {
            client.invoke(nothing, Map::new()).unwrap();
        }
        let error = connect().call(nothing, Map::new()).unwrap_err().to_string();
        assert!(error.ends_with("Connection reset by peer"), "{error}");
        clients.pop();
        // The place becomes free when the server has seen the end of the connection.
        while connect().call(nothing, Map::new()).is_err() {
            std::thread::yield_now();
        }
        drop(clients);
        until.stop().unwrap();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn collecting_stops_at_the_limit() {
    let mut client = client();
    let count =
        |client: &mut Client, n: usize| client.collect("io.example.Count", map(json!({ "to": n })));
    assert_eq!(count(&mut client, 1024).unwrap().unwrap().len(), 1024);
    let error = count(&mut client, 0).unwrap().unwrap_err();
    assert_eq!(error.error.as_deref(), Some("io.example.Empty"));
    assert!(count(&mut client, 1025).is_err());
}

#[test]
fn a_listening_service_answers_several_clients_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than a socket address holds.
    let long = dir.path().join("x".repeat(90)).join("y".repeat(90));
    let path = long.join("io.example");
    let socket = bind(&path, 0o666, true).unwrap();
    let until = Listening::new().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| service().run(Activation::Listen(vec![socket]), Some(&until)));
        let address = format!("unix:{}", path.display());
        let (sender, receiver) = mpsc::channel();
        for n in 0..4 {
            let (address, sender) = (address.clone(), sender.clone());
            scope.spawn(move || {
                let mut client = Client::connect_to(&Ctx::host([]), &address).unwrap();
                let reply = client.invoke("io.example.Add", map(json!({ "a": n, "b": 1 })));
                sender.send(reply.unwrap()["sum"].as_i64().unwrap()).unwrap();
            });
        }
        drop(sender);
        let mut sums: Vec<i64> = receiver.iter().collect();
        sums.sort_unstable();
        assert_eq!(sums, [1, 2, 3, 4]);
        until.stop().unwrap();
        server.join().unwrap().unwrap();
    });
}

#[test]
fn the_service_describes_itself() {
    let mut client = client();
    let info = client.invoke("org.varlink.service.GetInfo", Map::new()).unwrap();
    let keys: Vec<&String> = info.keys().collect();
    assert_eq!(keys, ["vendor", "product", "version", "url", "interfaces"]);
    assert_eq!(info["interfaces"], json!(["io.example", "io.systemd", "org.varlink.service"]));
    for name in ["io.example", "io.systemd", "org.varlink.service"] {
        let method = "org.varlink.service.GetInterfaceDescription";
        let reply = client.invoke(method, map(json!({ "interface": name }))).unwrap();
        let text = reply["description"].as_str().unwrap();
        let parsed = slipway::varlink::idl::parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.name, name);
        assert_eq!(slipway::varlink::idl::format(&parsed), text);
    }
}

#[test]
fn credentials_are_the_callers() {
    let reply = client().invoke("io.example.WhoAmI", Map::new()).unwrap();
    assert_eq!(reply["uid"], json!(rustix::process::geteuid().as_raw()));
    client().invoke("io.example.Private", Map::new()).unwrap();
}

#[test]
fn pipes_carry_calls_too() {
    let (read, request) = rustix::pipe::pipe().unwrap();
    let (answer, write) = rustix::pipe::pipe().unwrap();
    let activation = Activation::Stdio { read, write };
    let server = std::thread::spawn(move || service().run(activation, None));
    rustix::io::write(request.as_fd(), b"{\"method\":\"io.example.Nothing\"}\0").unwrap();
    drop(request);
    let mut output = Vec::new();
    std::fs::File::from(answer).read_to_end(&mut output).unwrap();
    assert_eq!(output, b"{}\0");
    server.join().unwrap().unwrap();
}
