//! Varlink against the real systemd: the same command lines to its `varlinkctl` and ours, with its
//! services and ours at the other end. Everything has to be equal: standard output, standard
//! error, exit status. Differences that are meant are in `tests/diff/differences.md`, and a test here
//! shows each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common {
    pub mod peer;
}

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::peer::Peer;
use serde_json::{Map, json};
use slipway::ctx::Ctx;
use slipway::varlink::activation::Activation;
use slipway::varlink::errors;
use slipway::varlink::server::{Answer, Listening, Service, bind};
use slipway::varlink::wire::Raw;

/// A service of the peer, started for each connection.
const SYSUPDATE: &str = "exec:/usr/lib/systemd/systemd-sysupdate";
const HOSTNAMED: &str = "exec:/usr/lib/systemd/systemd-hostnamed";
const CREDS: &str = "/usr/bin/systemd-creds";
const REPART: &str = "/usr/bin/systemd-repart";

const TEXT: &str = "
# A service to be called by both clients.
interface io.example

type Kind (host, component)

# Adds two numbers.
method Add(
    # The first.
    a: int,
    b: int) -> (sum: int)
method Echo(value: ?any) -> (value: ?any)
method Fail(errno: int) -> ()
method Refuse() -> ()
# [Requires 'more' flag]
method Count(to: int) -> (n: int)
# [Requires 'upgrade' flag]
method Shout() -> ()
method Read(fd: int) -> (data: string)
method Open() -> (fd: int)
method Private() -> ()
error Empty()
error Refused(reason: string, kind: Kind)
";

fn service() -> Service {
    Service::builder(Ctx::host([]), "test")
        .product("Test", "1")
        .accept_fds()
        .interface(TEXT)
        .unwrap()
        .method("Add", |call| {
            let params = call.params();
            Answer::reply(json!({ "sum": params.int("a")? + params.int("b")? }))
        })
        .method("Echo", |call| Answer::reply(json!({ "value": call.params().value("value") })))
        .method("Fail", |call| {
            let errno = i32::try_from(call.params().int("errno")?).unwrap();
            Err(slipway::error::Error::errno_because("Cannot do it", errno))
        })
        .method("Refuse", |_| {
            let parameters = json!({ "reason": "because", "kind": "host" });
            let parameters = parameters.as_object().unwrap().clone();
            Err(errors::custom("io.example.Refused", parameters))
        })
        .method("Count", |call| {
            for n in 1..=call.params().int("to")? {
                call.emit(json!({ "n": n }))?;
            }
            Answer::streamed_or(errors::custom("io.example.Empty", Map::new()))
        })
        .method("Shout", |_| Ok(Answer::Upgrade(Map::new(), Box::new(shout))))
        .method("Read", |call| {
            let file = std::fs::File::from(call.take_fd("fd")?);
            Answer::reply(json!({ "data": std::io::read_to_string(file).unwrap() }))
        })
        .method("Private", |call| {
            call.authorize()?;
            Answer::empty()
        })
        .method("Open", |call| {
            let index = call.push_fd(text_file("from the service"))?;
            Answer::reply(json!({ "fd": index }))
        })
        .build()
        .unwrap()
}

fn shout(raw: Raw) -> slipway::error::Result<()> {
    use std::io::{Read, Write};
    let mut text = raw.rest;
    std::fs::File::from(raw.read).read_to_end(&mut text).unwrap();
    std::fs::File::from(raw.write).write_all(&text.to_ascii_uppercase()).unwrap();
    Ok(())
}

fn text_file(text: &str) -> OwnedFd {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// Both clients in the peer's root.
struct Clients {
    peer: Peer,
}

impl Clients {
    fn new(test: &str) -> Option<Self> {
        let peer = Peer::new(test)?;
        std::os::unix::fs::symlink("slipway", peer.dir().join("varlinkctl")).unwrap();
        Some(Self { peer })
    }

    fn ours(&self) -> PathBuf {
        self.peer.inside().join("varlinkctl")
    }

    /// Runs a shell line with both clients as `$V`, from the scratch directory.
    fn both(&self, line: &str) -> [Seen; 2] {
        let client = |client: PathBuf| {
            let script = format!("cd {}; {line}", self.peer.inside().display());
            let mut command = self.command("timeout");
            command.args(["20", "bash", "-c", &script]).env("V", client).stdin(Stdio::null());
            Seen::of(&command.output().unwrap())
        };
        [client("/usr/bin/varlinkctl".into()), client(self.ours())]
    }

    /// Our updater under the peer's name, as commands inside see it.
    fn updater(&self) -> String {
        std::os::unix::fs::symlink("slipway", self.peer.dir().join("systemd-sysupdate")).unwrap();
        self.peer.inside().join("systemd-sysupdate").to_str().unwrap().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        self.peer.command(program)
    }

    /// Both have to say the same; the answer is returned.
    fn same(&self, line: &str) -> Seen {
        let [theirs, ours] = self.both(line);
        assert_eq!(ours, theirs, "\n{line}\nours on the left, the peer's on the right");
        ours
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    stdout: String,
    stderr: String,
    status: Option<i32>,
}

impl Seen {
    fn of(output: &Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code(),
        }
    }
}

#[test]
fn our_client_sees_the_peers_services_as_the_peer_does() {
    let Some(clients) = Clients::new("our_client_sees_the_peers_services_as_the_peer_does") else {
        return;
    };
    let mut lines = 0;
    for address in [SYSUPDATE, HOSTNAMED, CREDS, REPART, "/usr/bin/bootctl"] {
        for words in [
            "info A",
            "info -j A",
            "info --json=pretty A",
            "list-interfaces A",
            "list-interfaces -j A",
            "list-methods A",
            "list-methods --json=pretty A",
            "list-methods A org.varlink.service",
            "introspect A",
            "introspect A io.systemd org.varlink.service",
            "introspect -j A",
            "introspect --json=pretty A io.systemd",
            "introspect A io.systemd.Nope",
            "list-methods A io.systemd.Nope",
            "list-methods A bad..name",
            "call A org.varlink.service.GetInfo",
            "call A org.varlink.service.GetInfo '{\"a\":1}'",
            "call A org.varlink.service.GetInterfaceDescription",
            "call --more A org.varlink.service.GetInfo",
            "call --collect --json=pretty A org.varlink.service.GetInfo",
            "call --oneway A org.varlink.service.GetInfo",
            "call A a.b.C",
            "call --more A a.b.C",
            "call --push-fd=1 A a.b.C",
        ] {
            clients.same(&format!("$V {}", words.replace('A', address)));
            lines += 1;
        }
    }
    println!("{lines} command lines against 5 services: equal");
}

#[test]
fn calls_to_the_peers_services_are_equal() {
    let Some(clients) = Clients::new("calls_to_the_peers_services_are_equal") else { return };
    for words in [
        "call HOSTNAMED io.systemd.service.Ping",
        "call HOSTNAMED io.systemd.service.SetLogLevel '{\"level\":9}'",
        "call HOSTNAMED io.systemd.service.SetLogLevel '{\"level\":\"6\"}'",
        "call HOSTNAMED io.systemd.service.GetLogLevel",
        "call SYSUPDATE io.systemd.SysUpdate.ListTargets",
        "call SYSUPDATE io.systemd.SysUpdate.ListFeatures",
        "call SYSUPDATE io.systemd.SysUpdate.ListFeatures '{\"target\":{\"class\":\"host\"}}'",
        "call SYSUPDATE io.systemd.SysUpdate.ListFeatures '{\"target\":{\"class\":\"x\"}}'",
        "call --more REPART io.systemd.Repart.ListCandidateDevices",
        "call REPART io.systemd.Repart.ListCandidateDevices",
        "call --collect REPART io.systemd.Repart.ListCandidateDevices '{}'",
        "call --graceful=org.varlink.service.ExpectedMore REPART io.systemd.Repart.ListCandidateDevices",
        "call --graceful=io.systemd.Repart.NoCandidateDevices --more REPART io.systemd.Repart.ListCandidateDevices",
        "call --graceful=io.systemd.Repart.NoCandidateDevices -q -E REPART io.systemd.Repart.ListCandidateDevices",
        "call --collect -q REPART io.systemd.Repart.ListCandidateDevices",
        "call CREDS io.systemd.Credentials.Decrypt '{\"blob\":\"!\"}'",
        "call CREDS io.systemd.Credentials.Encrypt '{\"text\":\"x\",\"withKey\":\"bogus\"}'",
        "call --exec SYSUPDATE org.varlink.service.GetInfo {} -- sh -c 'cat; exit 7'",
        "call --exec --json=pretty SYSUPDATE org.varlink.service.GetInfo {} cat",
        "call --exec SYSUPDATE a.b.C {} cat",
        "call --exec SYSUPDATE org.varlink.service.GetInfo {} /nope",
        "call --upgrade SYSUPDATE a.b.C",
    ] {
        let line = words
            .replace("HOSTNAMED", HOSTNAMED)
            .replace("SYSUPDATE", SYSUPDATE)
            .replace("CREDS", CREDS)
            .replace("REPART", REPART);
        clients.same(&format!("$V {line}"));
    }
}

#[test]
fn refusals_of_the_client_are_equal() {
    let Some(clients) = Clients::new("refusals_of_the_client_are_equal") else { return };
    for words in [
        "",
        "nope",
        "call",
        "call A",
        "call A nope",
        "call A a.b",
        "call A a.b.C '{}' x",
        "call A a.b.C null",
        "call A a.b.C '[]'",
        "call A a.b.C '\"x\"'",
        "call A a.b.C 17",
        "call A a.b.C ' {bad'",
        "call A a.b.C '{\"a\":'",
        "call A a.b.C '{\"a\":\n 1, x}'",
        "call --graceful=x A a.b.C",
        "call --graceful=a.B A a.b.C",
        "call --timeout=foo A a.b.C",
        "call --timeout=-1 A a.b.C",
        "call --timeout=0 A a.b.C",
        "call --timeout= A a.b.C",
        "call --timeout=infinity A a.b.C",
        "call '--timeout=1min 2s' A a.b.C",
        "call --push-fd=foo A a.b.C",
        "call --push-fd=-1 A a.b.C",
        "call --push-fd=99 A a.b.C",
        "call --push-fd=./nope A a.b.C",
        "call --push-fd=/etc/passwd A a.b.C",
        "call --json=foo A a.b.C",
        "call --json=help A a.b.C",
        "call --exec A a.b.C",
        "call --exec --more A a.b.C {} cat",
        "call --upgrade --more A a.b.C",
        "call --upgrade --graceful=a.b.C A a.b.C",
        "call ./nope a.b.C",
        "call nope a.b.C",
        "call '' a.b.C",
        "call exec:/bin/true a.b.C",
        "call /etc/passwd a.b.C",
        "call /etc a.b.C",
        "call exec:svc a.b.C",
        "call foo:/bin/true a.b.C",
        "call FOO:x a.b.C",
        "call ssh:foo a.b.C",
        "call ssh:foo:bar a.b.C",
        "call ssh-exec:foo a.b.C",
        "call 'unix:/a;b' a.b.C",
        "call 'unix:/a?b' a.b.C",
        "call unix:@nobody a.b.C",
        "call unix:/nope a.b.C",
        "call unix:nope a.b.C",
        "call unix:/a/../b a.b.C",
        "info",
        "info A x",
        "info exec:/bin/true",
        "list-methods exec:/bin/true",
        "introspect exec:/bin/true io.systemd",
        "validate-idl /nope",
        "validate-idl a b",
        "list-registry x",
        "list-registry",
        "list-registry -j",
        "list-registry --user",
        "list-sockets",
        "serve",
        "serve a.b.C",
        "serve nope cat",
        "serve a.b.C cat",
        "--nope",
        "call --tim",
    ] {
        clients.same(&format!("$V {}", words.replace('A', SYSUPDATE)));
    }
    for text in [
        "{\"a\" 1}",
        "{\"a\":1 \"b\"}",
        "{\"a\":tru}",
        "{\"a\":1.}",
        "{\"a\":\"\\x\"}",
        "{a}",
        "{,}",
        "{\"a\":1,}",
        "[1]",
        "[",
        "tru",
        "}",
        "{}}",
        "{} x",
        "{\"a\":\"",
        "{\"a\":01}",
        "{\"a\":-}",
        "\"",
        "{\"a\":1e}",
        "{\"é\":x}",
        "{\"a\":[1,}",
        "{\"a\":[1 2]}",
        "{\"a\":",
        "{:1}",
        "{1:2}",
        "{\"a\",1}",
        "{\"a\":}",
        "{\"a\":[}",
        "{\"a\":{]",
        "{]",
        "{\"a\":1]",
        "{\"a\":1:",
        "{\"a\":true,\"b\":nul",
        "-",
        "1",
        "{\"a\":[[1],,",
        "{{",
        "{[",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":[1],\n\"b\"",
        "{}{",
        "{} []",
        "{},",
        "{\"a\"}",
    ] {
        clients.same(&format!("$V call unix:/nope a.b.C '{text}'"));
    }
    clients.same(&format!("echo '{{\"interface\":\"x\"}}' | $V call {SYSUPDATE} org.varlink.service.GetInterfaceDescription"));
    clients.same(&format!("echo '{{\"interface\":\"x\"' | $V call {SYSUPDATE} org.varlink.service.GetInterfaceDescription -"));
    // Starts, keeps the connection open and says nothing.
    let silent = "printf '#!/bin/sh\\nexec sleep 9' >silent; chmod +x silent";
    clients.same(&format!("{silent}; $V call --timeout=1us ./silent a.b.C"));
    clients.same(&format!("echo | $V call {SYSUPDATE} org.varlink.service.GetInfo"));
}

#[test]
fn interface_descriptions_are_judged_equally() {
    let Some(clients) = Clients::new("interface_descriptions_are_judged_equally") else { return };
    let bodies = [
        "",
        "method A() -> ()",
        "method A(a: int, b:?[]string, c:[string]int) -> (x:float,\ny:bool)",
        "type T (a: (b: int, c: (d, e)))",
        "type T (a: ?(x,y), b:[](x: int))",
        "#c\n#   d\n\n#e\nerror E()",
        "type T ()",
        "type t (a: int)",
        "type T (a: ??int)",
        "type T (a__b: int)",
        "error E",
        "error E()\nerror E()",
        "error E(e: F)",
        "error E (a:int,)",
        "error E(e: E)",
        "method A() -> (a,b)",
        "method A(a: int, a:int) -> ()",
        "method M() - > ()",
        "method M(a int) -> ()",
        "method M(a: In-t) -> ()",
        "method M(a: ) -> ()",
        "method M(a: int",
        "interface x.z",
        "foo",
        "# é ü\nerror E()",
        "error É()",
        "error E() # foo",
        "# foo",
        "#\nerror E()",
    ];
    let texts = bodies.iter().map(|body| format!("interface x.y\n{body}\n"));
    let heads = [
        "",
        "x",
        "interface",
        "interface x",
        "interface x..y",
        "interface x.y-\n",
        "interface 9.x",
    ];
    for text in texts.chain(heads.map(str::to_owned)) {
        std::fs::write(clients.peer.dir().join("i.varlink"), &text).unwrap();
        clients.same("$V validate-idl i.varlink");
        clients.same("$V validate-idl < i.varlink");
    }
    std::fs::write(clients.peer.dir().join("i.varlink"), b"interface x.y\n#\xff\n").unwrap();
    clients.same("$V validate-idl i.varlink");
}

#[test]
fn both_clients_understand_our_service() {
    let Some(clients) = Clients::new("both_clients_understand_our_service") else { return };
    let socket = bind(&clients.peer.dir().join("service"), 0o666, false).unwrap();
    let until = Listening::new().unwrap();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| service().run(Activation::Listen(vec![socket]), Some(&until)));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| calls(&clients)));
        until.stop().unwrap();
        server.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn calls(clients: &Clients) {
    for words in [
        "info A",
        "info -j A",
        "list-interfaces A",
        "list-methods A",
        "introspect A",
        "introspect A io.example",
        "introspect -j A",
        "call A io.example.Echo '{\"value\":{\"x\":[1,-1,18446744073709551615,true,null,\"é\\n\\u0001/\"]}}'",
        "call --json=pretty A io.example.Echo '{\"value\":{\"x\":[],\"y\":{},\"z\":[1,{\"a\":null}]}}'",
        "call A io.example.Echo",
        "call A io.example.Add",
        "call A io.example.Add '{\"a\":1,\"c\":2}'",
        "call A io.example.Fail '{\"errno\":2}'",
        "call A io.example.Fail '{\"errno\":13}'",
        "call A io.example.Refuse",
        "call --graceful=io.example.Refused A io.example.Refuse",
        "call A io.example.Count '{\"to\":2}'",
        "call --more A io.example.Count '{\"to\":0}'",
        "call --more --json=pretty A io.example.Count '{\"to\":2}'",
        "call --collect A io.example.Count '{\"to\":3}'",
        "call --oneway A io.example.Add '{\"a\":1,\"b\":2}'",
        "call A io.example.Shout",
        "call --upgrade A io.example.Add '{\"a\":1}'",
        "call --push-fd=/etc/passwd A io.example.Read '{\"fd\":1}'",
        "call --exec A io.example.Open {} -- sh -c 'cat; cat <&3'",
    ] {
        clients.same(&format!(
            "$V {}",
            words
                .replace("A ", "unix:$PWD/service ")
                .replace("info A", "info $PWD/service")
                .replace(" A", " unix:$PWD/service")
        ));
    }
    let seen = |line: &str| clients.same(line).stdout;
    let private = "$V call unix:$PWD/service io.example.Private";
    assert_eq!(seen(private), "{}\n");
    let stranger = clients.same(&format!("setpriv --reuid=65534 --clear-groups {private}"));
    assert!(stranger.stderr.ends_with("Private() failed: Permission denied\n"), "{stranger:?}");
    assert_eq!(seen("$V call ./service io.example.Add '{\"a\":1,\"b\":2}'"), "{\"sum\":3}\n");
    assert_eq!(
        seen("$V call --more unix:$PWD/service io.example.Count '{\"to\":2}'"),
        "\u{1e}{\"n\":1}\n\u{1e}{\"n\":2}\n"
    );
    assert_eq!(
        seen("echo quiet | $V call --upgrade unix:$PWD/service io.example.Shout"),
        "QUIET\n"
    );
    assert_eq!(
        seen(
            "echo fd > file; $V call --push-fd=./file unix:$PWD/service io.example.Read '{\"fd\":0}'"
        ),
        "{\"data\":\"fd\\n\"}\n"
    );
    assert_eq!(
        seen(
            "echo fd > file; $V call --push-fd=3 unix:$PWD/service io.example.Read '{\"fd\":0}' 3<file"
        ),
        "{\"data\":\"fd\\n\"}\n"
    );
    let both = clients.same(
        "mkdir -p /run/varlink/registry
         ln -sf $PWD/service /run/varlink/registry/io.example
         ln -sf /nope /run/varlink/registry/io.gone
         touch /run/varlink/registry/plain
         ln -sf $PWD/service /run/varlink/registry/bad..name
         $V list-registry; $V list-registry -j; $V list-registry --json=pretty",
    );
    assert!(both.stdout.contains("1 registered services listed."), "{both:?}");
}

#[test]
fn other_machines_are_reached_by_the_same_command_lines() {
    let Some(clients) = Clients::new("other_machines_are_reached_by_the_same_command_lines") else {
        return;
    };
    // A program in place of ssh that tells what it was given and answers like a service.
    let reply =
        "#!/bin/bash\nprintf '[%s]' \"$@\" >&2\necho >&2\nhead -c 10 >/dev/null\nprintf '{}\\0'\n";
    let write = |name: &str, text: &str| {
        let path = clients.peer.dir().join(name);
        std::fs::write(&path, text).unwrap();
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    write("ssh", reply);
    let bridge = "#!/bin/bash\nprintf '[%s]' \"$@\" >&2\n\
                  echo \" $LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$))\" >&2\n\
                  head -c 10 <&3 >/dev/null\nprintf '{}\\0' >&3\n";
    write("carrier", bridge);
    for address in [
        "ssh:host:/run/x",
        "ssh-unix:user@host:/run/x",
        "ssh-exec:host:/usr/bin/x",
        "'ssh-exec:host:x y  z:1'",
        "carrier:anything",
        "'carrier://anything?a#b;c'",
        "exec:$PWD/carrier",
        "./carrier",
    ] {
        let seen = clients.same(&format!(
            "export SYSTEMD_SSH=$PWD/ssh SYSTEMD_VARLINK_BRIDGES_DIR=$PWD; $V call {address} a.b.C"
        ));
        assert_eq!(seen.stdout, "{}\n", "{address}: {seen:?}");
    }
}

#[test]
fn both_ends_of_serve_fit_together() {
    let Some(clients) = Clients::new("both_ends_of_serve_fit_together") else { return };
    let theirs = "/usr/bin/varlinkctl";
    let ours = clients.ours();
    for server in [theirs, ours.to_str().unwrap()] {
        let line = format!(
            "systemd-socket-activate -l $PWD/sock-$$ {server} serve io.test.Cat -- sh -c 'echo hello; cat' 2>/dev/null &
             server=$!; while [ ! -S $PWD/sock-$$ ]; do :; done; A=unix:$PWD/sock-$$
             $V list-methods $A; $V introspect $A io.test; $V call $A io.test.Cat; $V call $A io.test.Dog
             echo hi | $V call --upgrade $A io.test.Cat '{{}}'; kill $server; wait $server 2>/dev/null; true"
        );
        let seen = clients.same(&line);
        assert!(seen.stdout.ends_with("hello\nhi\n"), "{server}: {seen:?}");
    }
}

/// Gives bytes to a service that finds the connection on descriptor 3, ends the sending side and
/// returns what came back.
fn exchange(clients: &Clients, service: &str, input: &[u8]) -> String {
    use std::io::{Read, Write};
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=varlink \
         exec {service} 3<&0 </dev/null 2>/dev/null"
    );
    let mut command = clients.command("sh");
    command.args(["-c", &script]).stdin(OwnedFd::from(theirs));
    let mut child = command.spawn().unwrap();
    // It holds the other end.
    drop(command);
    ours.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    // A service that has hung up already is part of what is compared.
    let _ = ours.write_all(input);
    let _ = ours.shutdown(std::net::Shutdown::Write);
    let mut output = Vec::new();
    let _ = ours.read_to_end(&mut output);
    drop(ours);
    assert!(child.wait().unwrap().code().is_some(), "{service} was killed");
    String::from_utf8(output).unwrap().replace('\0', "|")
}

const THEIR_UPDATER: &str = "/usr/lib/systemd/systemd-sysupdate";

/// Calls of the updater, good and bad ones, and frames that are no calls.
fn inputs() -> Vec<String> {
    let call = |method: &str, parameters: &str| {
        format!(r#"{{"method":"{method}","parameters":{parameters}}}|"#)
    };
    let mut inputs = vec![
        call("io.systemd.SysUpdate.ListTargets", "{}"),
        call("io.systemd.SysUpdate.ListTargets", "null"),
        call("io.systemd.SysUpdate.ListTargets", r#"{"x":1}"#),
        call("org.varlink.service.GetInfo", r#"{"x":1}"#),
    ];
    for parameters in [
        r#"{}"#,
        r#"{"x":1}"#,
        r#"{"target":null}"#,
        r#"{"target":1}"#,
        r#"{"target":{}}"#,
        r#"{"target":{"class":"bogus"}}"#,
        r#"{"target":{"class":"host"}}"#,
        r#"{"target":{"class":"host","name":null}}"#,
        r#"{"target":{"class":"host","name":"x"}}"#,
        r#"{"target":{"class":"host","x":1}}"#,
        r#"{"target":{"class":"component"}}"#,
        r#"{"target":{"class":"component","name":"../x"}}"#,
        r#"{"target":{"class":"component","name":"nope"}}"#,
        r#"{"target":{"name":1,"class":"host"}}"#,
        r#"{"x":1,"target":{"class":"host"}}"#,
    ] {
        inputs.push(call("io.systemd.SysUpdate.ListFeatures", parameters));
    }
    for parameters in
        [r#"{"interface":"a"}"#, r#"{"interface":1}"#, r#"{"interface":"a","b":1}"#, r#"{"b":1}"#]
    {
        inputs.push(call("org.varlink.service.GetInterfaceDescription", parameters));
    }
    let unknown = r#"{"method":"x.y.Z"}|"#;
    let frames = [
        "|",
        "null|",
        "[]|",
        "{}|",
        "{|",
        "'|",
        r#"{"method":1}|"#,
        r#"{"method":""}|"#,
        r#"{"method":"a"}|"#,
        r#"{"method":"x.y.é"}|"#,
        r#"{"method":"x\u0000.y.Z"}|"#,
        r#"{"method":"x.y.Z","k":1}|"#,
        r#"{"method":"x.y.Z","io.vendor":{}}|"#,
        r#"{"method":"x.y.Z","error":"a"}|"#,
        r#"{"method":"x.y.Z","method":"x.y.Z"}|"#,
        r#"{"method":"x.y.Z","more":null}|"#,
        r#"{"method":"x.y.Z","more":1}|"#,
        r#"{"method":"x.y.Z","more":false,"oneway":false,"upgrade":false}|"#,
        r#"{"method":"x.y.Z","more":true,"oneway":true}|"#,
        r#"{"method":"x.y.Z","more":true}|"#,
        r#"{"method":"x.y.Z","upgrade":true}|"#,
        r#"{"method":"x.y.Z","oneway":true}|"#,
        r#"{"method":"x.y.Z","parameters":null}|"#,
        r#"{"method":"x.y.Z","parameters":[]}|"#,
        r#"{"method":"x.y.Z","parameters":{"a":"\ud800"}}|"#,
        r#"{"method":"x.y.Z","parameters":{"a":01}}|"#,
        r#"{"method":"x.y.Z"}x|"#,
        r#"{"method":"x.y.Z",}|"#,
        r#"{"method":"x.y.Z"}"#,
        " { \"method\" : \"x.y.Z\" } \n|",
    ];
    inputs.extend(frames.map(|frame| format!("{unknown}{frame}{unknown}")));
    inputs
}

#[test]
fn both_updaters_answer_the_same_bytes() {
    let Some(clients) = Clients::new("both_updaters_answer_the_same_bytes") else { return };
    let ours = clients.updater();
    for input in inputs() {
        let bytes = input.replace('|', "\0").into_bytes();
        let expected = exchange(&clients, THEIR_UPDATER, &bytes);
        assert_eq!(exchange(&clients, &ours, &bytes), expected, "\n{input}\nours on the left");
    }
    for size in [(16 << 20) + 8, 20 << 20] {
        let mut bytes = br#"{"method":"x.y.Z"}"#.to_vec();
        bytes.resize(size, b' ');
        bytes.push(0);
        let expected = exchange(&clients, THEIR_UPDATER, &bytes);
        assert_eq!(exchange(&clients, &ours, &bytes), expected, "{size} bytes");
    }
}

#[test]
fn four_ways_to_ask_an_updater_give_one_answer() {
    let Some(clients) = Clients::new("four_ways_to_ask_an_updater_give_one_answer") else { return };
    let transfer = "[Transfer]\nFeatures=extra\n[Source]\nType=regular-file\nPath=/run\n\
                    MatchPattern=a_@v\n[Target]\nType=regular-file\nPath=/run/t\nMatchPattern=a_@v\n";
    let feature = "[Feature]\nDescription=More of it\nDocumentation=man:x(1)\n\
                   AppStream=https://example.org/x\nEnabled=no\n";
    let write =
        |name: &str, text: &str| std::fs::write(clients.peer.dir().join(name), text).unwrap();
    write("50-a.transfer", transfer);
    write("60-b.transfer", &transfer.replace("Features=extra\n", "").replace("a_@v", "b_@v"));
    write("extra.feature", feature);
    let world = "mkdir /run/sysupdate.d /run/sysupdate.tools.d
                 cp *.transfer *.feature /run/sysupdate.d/; cp 60-b.transfer /run/sysupdate.tools.d/; ";
    let ours = clients.updater();
    for words in [
        "list-interfaces A",
        "list-methods A",
        "call A io.systemd.SysUpdate.ListTargets",
        "call --json=pretty A io.systemd.SysUpdate.ListTargets",
        "call A io.systemd.SysUpdate.ListFeatures '{\"target\":{\"class\":\"host\"}}'",
        "call --json=pretty A io.systemd.SysUpdate.ListFeatures '{\"target\":{\"class\":\"host\"}}'",
        "call A io.systemd.SysUpdate.ListFeatures '{\"target\":{\"class\":\"component\",\"name\":\"tools\"}}'",
        "call A io.systemd.SysUpdate.ListFeatures '{\"target\":{\"class\":\"component\",\"name\":\"nope\"}}'",
        "call --more A io.systemd.SysUpdate.ListTargets",
        "call A io.systemd.SysUpdate.Nope",
    ] {
        let line = |address: &str| {
            format!(
                "{world}$V {}",
                words.replace("A ", &format!("{address} ")).replace(" A", &format!(" {address}"))
            )
        };
        let expected = clients.same(&line(THEIR_UPDATER));
        let is_full = !words.contains("host") || expected.stdout.contains("extra");
        assert!(is_full, "{words}: {expected:?}");
        assert_eq!(clients.same(&line(&ours)), expected, "{words}: our service on the left");
    }
}

#[test]
fn updaters_answer_through_pipes() {
    let Some(clients) = Clients::new("updaters_answer_through_pipes") else { return };
    let ours = clients.updater();
    // In place of ssh: drops its own arguments and runs the command here.
    let ssh = "printf '#!/bin/sh\\nshift 4; exec \"$@\"\\n' >ssh; chmod +x ssh; export SYSTEMD_SSH=$PWD/ssh";
    for words in ["list-methods A", "call A io.systemd.SysUpdate.ListTargets", "call A a.b.C"] {
        let line = |path: &str| {
            format!("{ssh}; $V {}", words.replacen('A', &format!("ssh-exec:h:{path}"), 1))
        };
        let expected = clients.same(&line(THEIR_UPDATER));
        assert!(!expected.stdout.is_empty(), "{expected:?}");
        assert_eq!(clients.same(&line(&ours)), expected, "{words}: our service on the left");
    }
}

/// What `tests/diff/differences.md` lists.
#[test]
fn differences_are_the_listed_ones() {
    let Some(clients) = Clients::new("differences_are_the_listed_ones") else { return };
    let check = |line: &str, theirs: (&str, i32), ours: (&str, i32)| {
        let [a, b] = clients.both(line);
        assert!(a.stderr.contains(theirs.0) && a.status == Some(theirs.1), "{line}: peer: {a:?}");
        assert!(b.stderr.contains(ours.0) && b.status == Some(ours.1), "{line}: ours: {b:?}");
    };
    // 1
    check(
        "$V call exec:/nope a.b.C",
        ("Failed to issue a.b.C() call: Connection reset by peer", 1),
        ("Failed to connect to URL 'exec:/nope': No such file or directory", 1),
    );
    // 2
    check(
        "echo 'interface x.y\ntype T (a: [][]int)' | $V validate-idl",
        ("<stdin>:2:14: Bad syntax.", 1),
        ("", 0),
    );
    // 4
    check(
        "printf '#!/bin/sh\\nexec $V serve io.test.Cat cat' >up; chmod +x up
         timeout 1 $V call ./up io.test.Cat",
        ("", 124),
        ("Method call io.test.Cat() failed: Protocol wrong type for socket", 1),
    );
    // 12
    check(
        &format!("$V call --upgrade {SYSUPDATE} org.varlink.service.GetInfo"),
        ("Failed to run socket forward for varlink: Invalid argument", 1),
        ("", 0),
    );
    // 3
    check(
        "SYSTEMD_SSH=echo $V call ssh:-oProxyCommand=x:/p a.b.C",
        ("", 1),
        ("Failed to connect to URL 'ssh:-oProxyCommand=x:/p': Invalid argument", 1),
    );
}
