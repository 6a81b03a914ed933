//! The real systemd 262.1 and ours at the two ends of one cache and of one socket: what one has
//! left the other finds, and either client talks to either service.
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
#[path = "common/peer.rs"]
mod peer;

use std::fs;
use std::process::Command;

use mock_cloud::{Mock, MockCloud};
use netns::Namespace;
use peer::Peer;

const SERVICE: &str = "169.254.169.254";
const IMDSD: &str = "/usr/lib/systemd/systemd-imdsd";

/// A machine with the peer on it, and a cloud.
struct World {
    peer: Peer,
    machine: Namespace,
    _cloud: Namespace,
    mock: Mock,
}

impl World {
    fn new(test: &str, mock: MockCloud) -> Option<Self> {
        let peer = Peer::new(test)?;
        let (machine, cloud) = (Namespace::new(test)?, Namespace::new(test)?);
        machine.connect("eth0", &cloud, "c0");
        machine.ip("address add 198.51.100.1/24 dev eth0");
        machine.ip(&format!("route add {SERVICE} dev eth0"));
        cloud.ip(&format!("address add {SERVICE}/32 dev c0"));
        cloud.ip("route add 198.51.100.0/24 dev c0");
        let address = format!("{SERVICE}:80").parse().unwrap();
        let mock = cloud.inside(|| mock.listen(address).start());
        fs::create_dir(peer.dir().join("imds")).unwrap();
        Some(Self { peer, machine, _cloud: cloud, mock })
    }

    /// Both know the endpoint and the directory.
    fn command(&self, is_ours: bool, args: &[&str]) -> Command {
        let mut command = match is_ours {
            true => {
                let mut command = self.peer.command(self.peer.slipway());
                command.arg("imdsd");
                command
            }
            false => self.peer.command(IMDSD),
        };
        command.args(args);
        command.envs(self.mock.environment());
        command.env("RUNTIME_DIRECTORY", self.peer.inside().join("imds"));
        self.machine.enter(&command)
    }

    /// Standard output, and whether that is all there is to say.
    fn run(&self, is_ours: bool, args: &[&str]) -> (String, bool) {
        let output = self.command(is_ours, args).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }
}

#[test]
fn cache_of_one_is_found_by_the_other() {
    let mock = MockCloud::fixture("amazon-ec2").empty_not_found();
    let Some(world) = World::new("cache_of_one_is_found_by_the_other", mock) else { return };
    for (first, keys) in [
        (true, ["/meta-data/hostname", "/meta-data/placement/region", "/meta-data/nowhere"]),
        (false, ["/meta-data/local-ipv4", "/meta-data/instance-id", "/meta-data/missing"]),
    ] {
        for key in keys {
            let said = world.run(first, &[key]);
            let requests = world.mock.requests().len();
            assert_eq!(world.run(!first, &[key]), said, "{key}, first ours: {first}");
            assert_eq!(world.mock.requests().len(), requests, "{key}, first ours: {first}");
        }
    }
    assert_eq!(world.mock.tokens(), 1, "one token for all: {:?}", world.mock.lines());
    let dir = world.peer.dir().join("imds");
    assert_eq!(fs::read_to_string(dir.join("ifname")).unwrap(), "eth0\n");
    // A refused token is dropped for both.
    world.mock.revoke_tokens();
    assert!(world.run(true, &["/meta-data/instance-type"]).1);
    let tokens = world.mock.tokens();
    assert_eq!(tokens, 2);
    world.run(false, &["/meta-data/mac"]);
    assert_eq!(world.mock.tokens(), tokens);
}

/// Either server, either client, on one machine; prints what the client says.
const TALK: &str = r#"
path=/run/systemd/io.systemd.InstanceMetadata
mkdir -p /run/systemd
if [ "$SERVER" = ours ]; then
    "$SLIPWAY" imdsd --listen &
else
    set -- $(env | sed -n 's/^\(SYSTEMD_IMDS_[A-Z0-9_]*\)=.*/-E \1/p')
    systemd-socket-activate "$@" --accept --fdname=varlink -l $path /usr/lib/systemd/systemd-imdsd \
        2>/dev/null &
fi
server=$!
until varlinkctl info $path >/dev/null 2>&1; do sleep 0.05; done
# The client knows nothing by itself: it cannot do without the server.
for name in $(env | sed -n 's/^\(SYSTEMD_IMDS_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
if [ "$CLIENT" = ours ]; then client="$SLIPWAY imds"; else client=/usr/lib/systemd/systemd-imds; fi
for args in "-K hostname" "-K region" "-K zone" "-K ipv4-public" "-K ipv6-public" "-K userdata" \
    /meta-data/instance-id /nowhere ""
do
    echo "--- $args"
    status=0
    $client $args 2>/dev/null || status=$?
    echo "=> $status"
done
kill $server
"#;

#[test]
fn either_client_talks_to_either_service() {
    // Where the peer believes a 404; see defect 1.
    let mock = MockCloud::fixture("amazon-ec2").empty_not_found();
    let Some(world) = World::new("either_client_talks_to_either_service", mock) else { return };
    let talk = |server: &str, client: &str| {
        let mut command = world.peer.command("sh");
        command.args(["-euc", TALK]).envs(world.mock.environment());
        command.env("SERVER", server).env("CLIENT", client).env("SLIPWAY", world.peer.slipway());
        let output = world.machine.enter(&command).output().unwrap();
        assert!(output.status.success(), "{server} {client}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for client in ["ours", "peer"] {
        let said = talk("peer", client);
        assert!(said.contains("--- -K hostname\n") && said.matches("=> 0").count() >= 6, "{said}");
        assert_eq!(talk("ours", client), said, "client {client}");
    }
}
