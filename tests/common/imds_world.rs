//! A machine that a cloud made, in a directory: its firmware's strings in sysfs, an empty kernel
//! command line, and nothing else.
#![allow(dead_code, unreachable_pub, reason = "shared by test crates, each of which uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test helper: a broken test should panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use slipway::ctx::Ctx;
use slipway::imds::engine::CacheAt;
use slipway::imds::fetch::Limits;
use slipway::imds::{
    Endpoint, Engine, EngineOptions, Failure, Request, Source, WellKnown, endpoint, providers,
};
use tempfile::TempDir;

use crate::mock_cloud::{Mock, json};

/// The machine.
pub struct World(TempDir);

impl World {
    /// A machine that nobody knows.
    pub fn empty() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(world.path("proc/1")).unwrap();
        fs::create_dir_all(world.path("run")).unwrap();
        fs::write(world.path("proc/cmdline"), "quiet\n").unwrap();
        world
    }

    /// A machine with the firmware of a fixture's `smbios`.
    pub fn cloud(name: &str) -> Self {
        let world = Self::empty();
        let smbios = &json(name)["smbios"];
        let directory = world.path("sys/class/dmi/id");
        fs::create_dir_all(&directory).unwrap();
        let write = |file: &str, text: &Value| {
            fs::write(directory.join(file), format!("{}\n", text.as_str().unwrap())).unwrap();
        };
        write("modalias", &smbios["sysfs_modalias"]);
        write("chassis_asset_tag", &smbios["sysfs_chassis_asset_tag"]);
        world
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(path)
    }

    /// Where the engine of [`Self::engine`] keeps its cache.
    pub fn cache(&self) -> PathBuf {
        self.path("run/systemd/imds")
    }

    /// This machine, without environment.
    pub fn ctx(&self) -> Ctx {
        Ctx::host([]).with_root(self.path("")).with_kernel(self.path("proc"), self.path("sys"))
    }

    /// The peer's row of a server's cloud, pointed at it, with what our table knows beyond.
    pub fn peer_row(&self, mock: &Mock) -> Endpoint {
        let mut row = mock.endpoint();
        providers::add_traits(&mut row);
        without_low_ports(row)
    }

    /// The row that this machine's firmware leads to, pointed at a server.
    pub fn own_row(&self, mock: &Mock) -> Endpoint {
        let found = endpoint::resolve(&self.ctx(), &endpoint::Options::default()).unwrap();
        let mut row = found.expect("a cloud that is recognised");
        let there = mock.endpoint();
        row.data_url = row.data_url.map(|url| mock.retarget(&url));
        row.token_url = row.token_url.map(|url| mock.retarget(&url));
        (row.address_ipv4, row.address_ipv6) = (there.address_ipv4, there.address_ipv6);
        row.traits.resolve.clear();
        without_low_ports(row)
    }

    /// An engine with this machine's cache and an endpoint.
    pub fn engine(&self, endpoint: Endpoint) -> Engine {
        self.engine_of(EngineOptions { known: Some(endpoint), ..EngineOptions::default() })
    }

    /// The same with other limits.
    pub fn engine_within(&self, endpoint: Endpoint, limits: Limits) -> Engine {
        self.engine_of(EngineOptions { known: Some(endpoint), limits, ..EngineOptions::default() })
    }

    /// An engine with this machine's cache that finds everything by itself.
    pub fn engine_unaided(&self) -> Engine {
        self.engine_of(EngineOptions::default())
    }

    fn engine_of(&self, options: EngineOptions) -> Engine {
        fs::create_dir_all(self.cache()).unwrap();
        let cache = CacheAt::Directory(self.cache());
        Engine::new(&self.ctx(), EngineOptions { cache, ..options })
    }

    /// Files of the cache that hold answers.
    pub fn cached(&self) -> Vec<String> {
        fn walk(directory: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false if name.starts_with("key-") => found.push(name),
                    false => {}
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.cache(), &mut found);
        found.sort();
        found
    }
}

/// Nobody but root has low source ports; the server must not ask for them then.
fn without_low_ports(mut row: Endpoint) -> Endpoint {
    if !rustix::process::geteuid().is_root() {
        row.traits.low_port_paths.clear();
    }
    row
}

/// The bytes of a well-known name, and of what follows it.
pub fn get(source: &mut dyn Source, name: &str, suffix: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut request = Request::well_known(WellKnown::parse(name).unwrap());
    request.key = suffix.map(str::to_owned);
    source.get(&request).map(|reply| reply.data)
}

/// The name of a failure, as the interface spells it.
pub fn failure_name(failure: &Failure) -> String {
    let text = format!("{failure:?}");
    text.split(['(', ' ']).next().unwrap().to_owned()
}
