//! What clients do with metadata: the import and the measurement, against recorded results.
//!
//! The cases of `vectors/imds` were observed with systemd 262.1; where a case has a member
//! `slipway`, that is what is wanted instead.
#![cfg(feature = "imds")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a failed look-up is a failed test"
)]

#[path = "common/imds_vectors.rs"]
mod imds_vectors;
#[path = "common/imds_world.rs"]
mod imds_world;
#[path = "common/mock_cloud/mod.rs"]
mod mock_cloud;
#[path = "common/power.rs"]
mod power;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use imds_vectors::vector;
use mock_cloud::{CLOUDS, MockCloud};
use power::{Cut, Dice};
use serde_json::{Value, json};
use slipway::crypto::text::unbase64;
use slipway::ctx::Ctx;
use slipway::fs::{Change, Files, Witness};
use slipway::imds::import::{self, ADDRESSES, STORE, STORE_ENCRYPTED, USERDATA};
use slipway::imds::{Endpoint, Failure, Reply, Request, Source, WellKnown, measure, userdata};
use slipway::varlink::activation::Activation;
use slipway::varlink::server::{Answer, Listening, Service, bind};
use tempfile::TempDir;

/// A cloud that answers from a table, by the word `name/key`.
#[derive(Default)]
struct Cloud {
    answers: BTreeMap<String, Result<Vec<u8>, Failure>>,
    asked: Vec<String>,
}

impl Cloud {
    fn with(mut self, word: &str, value: impl AsRef<[u8]>) -> Self {
        self.answers.insert(word.to_owned(), Ok(value.as_ref().to_vec()));
        self
    }

    fn failing(mut self, word: &str, failure: Failure) -> Self {
        self.answers.insert(word.to_owned(), Err(failure));
        self
    }
}

impl Source for Cloud {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(Endpoint { vendor: Some("test".to_owned()), ..Endpoint::default() })
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        let name = request.well_known.map(WellKnown::name).unwrap_or_default();
        let word = format!("{name}{}", request.key.as_deref().unwrap_or_default());
        let answer = self.answers.get(&word).cloned();
        self.asked.push(word);
        answer
            .unwrap_or(Err(Failure::WellKnownKeyUnset))
            .map(|data| Reply { data, interface: None })
    }
}

/// A root directory with a service that measures.
struct World {
    root: TempDir,
    ctx: Ctx,
    measured: Arc<Mutex<Vec<Value>>>,
    /// What the service answers.
    refuses: bool,
    server: Option<(Arc<Listening>, thread::JoinHandle<()>)>,
}

const PCR_EXTEND: &str = "interface io.systemd.PCRExtend\n\
    method Extend(pcr: ?int, text: ?string, eventType: ?string) -> ()\n";

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]).with_root(root.path());
        Self { root, ctx, measured: Arc::default(), refuses: false, server: None }
    }

    fn refusing(mut self) -> Self {
        self.refuses = true;
        self
    }

    /// Starts the service; it notes what it is told, and whether a credential is there already.
    fn measuring(mut self) -> Self {
        let path = self.ctx.at("/run/systemd/io.systemd.PCRExtend");
        let (measured, refuses) = (Arc::clone(&self.measured), self.refuses);
        let store = self.ctx.at(STORE);
        let service = Service::builder(self.ctx.clone(), "test")
            .interface(PCR_EXTEND)
            .unwrap()
            .method("Extend", move |call| {
                let mut event = Value::Object(call.params().members().clone());
                event["isFirst"] = (!store.exists()).into();
                measured.lock().unwrap().push(event);
                match refuses {
                    true => Err(slipway::error::Error::errno_because("no", 5)),
                    false => Answer::empty(),
                }
            })
            .build()
            .unwrap();
        let socket = bind(&path, 0o600, true).unwrap();
        let until = Arc::new(Listening::new().unwrap());
        let stop = Arc::clone(&until);
        let handle = thread::spawn(move || {
            service.run(Activation::Listen(vec![socket]), Some(&stop)).unwrap();
        });
        self.server = Some((until, handle));
        self
    }

    fn import(&self, cloud: &mut Cloud) -> bool {
        self.import_with(&Files::default(), cloud)
    }

    fn import_with(&self, files: &Files, cloud: &mut Cloud) -> bool {
        let keys = import::provider_keys(&self.ctx);
        import::run(&self.ctx, files, cloud, &keys).unwrap()
    }

    /// Names, modes and contents of a directory.
    fn files(&self, directory: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
        let Ok(entries) = fs::read_dir(self.ctx.at(directory)) else { return BTreeMap::new() };
        entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, (mode(&path), fs::read(&path).unwrap()))
            })
            .collect()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.ctx.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((until, handle)) = self.server.take() {
            until.stop().unwrap();
            handle.join().unwrap();
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A member `NAME` as text or `NAME_base64`.
fn bytes(value: &Value, name: &str) -> Option<Vec<u8>> {
    match &value[name] {
        Value::String(text) => Some(text.clone().into_bytes()),
        _ => unbase64(value[format!("{name}_base64")].as_str()?.as_bytes()),
    }
}

/// The cloud of a case of user data: what it answers, with the status that decides.
fn cloud_of(case: &Value) -> Cloud {
    let name = case["well_known"].as_str().unwrap();
    match case["http_status"].as_u64().unwrap() {
        200 => Cloud::default().with(name, bytes(case, "body").unwrap()),
        404 => Cloud::default().failing(name, Failure::KeyNotFound),
        status => panic!("{status}"),
    }
}

/// What slipway has to do in a case: the exit status and the plain credentials.
fn wanted(case: &Value) -> (u64, Value) {
    let observed = (case["exit_262_1"].as_u64().unwrap(), case["credentials"].clone());
    match (case["name"].as_str().unwrap(), case["slipway"].as_str()) {
        (_, None) => observed,
        ("marker-line-crlf", Some("accept CRLF")) => (0, json!({ "c2": { "text": "v" } })),
        ("not-found-with-body", Some("exit 0, as not-found-empty-body")) => (0, json!({})),
        (name, Some(what)) => panic!("{name}: nobody knows what '{what}' means"),
    }
}

/// Credentials of a case as a directory holds them.
fn as_files(credentials: &Value) -> BTreeMap<String, (u32, Vec<u8>)> {
    let content = |value: &Value| {
        bytes(value, "text").or_else(|| unbase64(value["base64"].as_str()?.as_bytes())).unwrap()
    };
    let members = credentials.as_object().unwrap().iter();
    members.map(|(name, value)| (name.clone(), (0o400, content(value)))).collect()
}

#[test]
fn every_recorded_import_leaves_the_same_files() {
    let all = vector("userdata-import.json");
    let cases = all["cases"].as_array().unwrap();
    assert!(cases.len() >= 27);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (status, credentials) = wanted(case);
        let world = World::new().measuring();
        world.put(USERDATA, "of an earlier boot");
        let mut cloud = cloud_of(case);
        assert_eq!(u64::from(!world.import(&mut cloud)), status, "{name}");

        assert_eq!(world.files(STORE), as_files(&credentials), "{name}");
        assert_eq!(world.files(STORE_ENCRYPTED), as_files(&case["encrypted"]), "{name}");
        for directory in [STORE, STORE_ENCRYPTED] {
            let path = world.ctx.at(directory);
            assert!(!path.exists() || mode(&path) == 0o700, "{name}");
        }

        let copies = world.files(USERDATA.rsplit_once('/').unwrap().0);
        if case["userdata_copy_written"] == true {
            let data = userdata::fetch(&mut cloud_of(case)).unwrap().unwrap();
            assert_eq!(copies, BTreeMap::from([("userdata".into(), (0o644, data))]), "{name}");
        } else if name == "base64-invalid" {
            assert_eq!(copies["userdata"].1, b"of an earlier boot", "{name}: nobody knows better");
        } else {
            assert!(copies.is_empty(), "{name}: the old copy is still there");
        }

        let measured = world.measured.lock().unwrap();
        assert_eq!(!measured.is_empty(), case["measured"] == true, "{name}");
        assert!(measured.iter().all(|event| event["isFirst"] == true), "{name}: parsed too early");
    }
}

#[test]
fn keys_are_asked_for_in_the_recorded_order() {
    let world = World::new();
    let mut cloud = Cloud::default();
    assert!(world.import(&mut cloud));
    let all = vector("userdata-import.json");
    let order = all["order_on_the_wire"].as_array().unwrap();
    let order: Vec<String> =
        order.iter().map(|word| word.as_str().unwrap().replace(" + ", "")).collect();
    assert_eq!(cloud.asked, order);
    assert_eq!(fs::read_dir(world.root.path()).unwrap().count(), 0, "nothing was written");
}

/// A cloud that has everything.
fn rich() -> Cloud {
    let json = json!({ "systemd.credentials": [
        { "name": "a", "text": "A" }, { "name": "b", "data": "AAEC" },
        { "name": "e", "encrypted": "BAUG" } ] });
    Cloud::default()
        .with("ipv4-public", "203.0.113.7\n")
        .with("ipv6-public", "2001:db8::7")
        .with("hostname", "host.example")
        .with("ssh-key", "ssh-ed25519 AAAA one\r\n")
        .with("userdata", json.to_string())
}

#[test]
fn well_known_values_go_to_their_files_byte_for_byte() {
    let world = World::new();
    assert!(world.import(&mut rich()));
    let all = vector("userdata-import.json");
    let file = |name: &str| {
        let path = world.ctx.at(all["well_known_to_file"][name].as_str().unwrap());
        (mode(&path), fs::read(path).unwrap())
    };
    assert_eq!(file("hostname"), (0o400, b"host.example".to_vec()));
    assert_eq!(file("ssh-key"), (0o400, b"ssh-ed25519 AAAA one\r\n".to_vec()));
    assert_eq!(file("userdata"), (0o644, rich().answers["userdata"].clone().unwrap()));
    let (mode, records) = file("ipv4-public+ipv6-public");
    assert_eq!((mode, records.last()), (0o644, Some(&b'\n')));
    let records: Value = serde_json::from_slice(&records).unwrap();
    assert_eq!(records, all["rr_example"]);
}

/// Counts changes.
#[derive(Default)]
struct Count(Mutex<Vec<String>>);

impl Witness for Count {
    fn before(&self, change: &Change<'_>) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{change:?}"));
        Ok(())
    }
}

#[test]
fn the_second_run_changes_nothing() {
    let world = World::new();
    assert!(world.import(&mut rich()));
    let count = Arc::new(Count::default());
    assert!(world.import_with(&Files::witnessed(count.clone()), &mut rich()));
    assert_eq!(*count.0.lock().unwrap(), [""; 0]);
}

#[test]
fn what_is_there_is_never_overwritten() {
    let world = World::new();
    for name in ["firstboot.hostname", "ssh.authorized_keys.root", "a"] {
        world.put(&format!("{STORE}/{name}"), "local");
    }
    std::os::unix::fs::symlink("/nowhere", world.ctx.at(STORE).join("b")).unwrap();
    assert!(world.import(&mut rich()), "an existing credential is no failure");
    for name in ["firstboot.hostname", "ssh.authorized_keys.root", "a"] {
        let path = world.ctx.at(STORE).join(name);
        assert_eq!(fs::read(path).unwrap(), b"local", "{name}");
    }
    assert!(world.ctx.at(STORE).join("b").is_symlink());
    assert_eq!(world.files(STORE_ENCRYPTED)["e"].1, [4, 5, 6]);
}

#[test]
fn a_link_in_place_of_the_user_data_is_replaced_and_not_followed() {
    let world = World::new();
    assert!(world.import(&mut rich()));
    let (path, other) = (world.ctx.at(USERDATA), world.ctx.at("/other"));
    fs::rename(&path, &other).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(world.import(&mut rich()));
    assert!(path.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(&path).unwrap(), fs::read(&other).unwrap());
}

#[test]
fn failures_are_collected_and_the_rest_is_imported() {
    let world = World::new();
    world.put(USERDATA, "old");
    world.put(ADDRESSES, "old");
    let timeout = || Failure::Timeout("stalled".to_owned());
    let mut cloud = rich()
        .failing("hostname", timeout())
        .failing("ipv4-public", timeout())
        .failing("ipv6-public", Failure::KeyNotFound)
        .failing("userdata", timeout());
    assert!(!world.import(&mut cloud));
    assert_eq!(world.files(STORE).into_keys().collect::<Vec<_>>(), ["ssh.authorized_keys.root"]);
    for path in [USERDATA, ADDRESSES] {
        assert_eq!(fs::read(world.ctx.at(path)).unwrap(), b"old", "{path}: nobody knows better");
    }
    // Addresses alone are no failure.
    let mut cloud = rich().failing("ipv4-public", timeout());
    assert!(world.import(&mut cloud));
}

/// Every file below the directory, names of unfinished ones left out.
fn tree(top: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                todo.push(path);
            } else if !name.starts_with(".#") {
                let shown = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                found.insert(shown, (mode(&path), fs::read(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn a_power_cut_at_any_step_leaves_old_or_new_and_the_next_run_completes() {
    let prepare = || {
        let world = World::new();
        world.put(USERDATA, "old");
        world.put(ADDRESSES, "old");
        world.put("/run/credstore/a", "local");
        fs::set_permissions(world.ctx.at("/run/credstore/a"), fs::Permissions::from_mode(0o400))
            .unwrap();
        fs::set_permissions(world.ctx.at(STORE), fs::Permissions::from_mode(0o700)).unwrap();
        world
    };
    let world = prepare();
    let old = tree(world.root.path());
    let cut = Cut::new(world.root.path(), None);
    assert!(world.import_with(&Files::witnessed(cut.clone()), &mut rich()));
    let (steps, new) = (cut.steps(), tree(world.root.path()));
    assert!(steps > 20 && new.len() == 7, "{steps} {new:?}");
    assert_eq!(new["run/credstore/a"].1, b"local");

    let mut dice = Dice(4);
    for step in 0..steps {
        for _ in 0..2 {
            let world = prepare();
            let cut = Cut::new(world.root.path(), Some(step));
            assert!(!world.import_with(&Files::witnessed(cut.clone()), &mut rich()), "{step}");
            cut.restore(&mut dice);
            for (path, found) in tree(world.root.path()) {
                let is_right = Some(&found) == new.get(&path) || Some(&found) == old.get(&path);
                assert!(is_right, "step {step}: {path} is {found:?}");
            }
            assert!(world.import(&mut rich()), "{step}");
            assert_eq!(tree(world.root.path()), new, "{step}");
        }
    }
}

#[test]
fn contents_are_never_readable_for_others_before_they_have_their_mode() {
    struct Look(Mutex<Vec<u32>>);
    impl Witness for Look {
        fn before(&self, change: &Change<'_>) -> io::Result<()> {
            if let Change::SyncFile(path) | Change::Rename(path, _) = change {
                self.0.lock().unwrap().push(fs::metadata(path)?.mode() & 0o7777);
            }
            Ok(())
        }
    }
    let world = World::new();
    let look = Arc::new(Look(Mutex::default()));
    let mut cloud = Cloud::default().with("hostname", "h");
    assert!(world.import_with(&Files::witnessed(look.clone()), &mut cloud));
    assert_eq!(*look.0.lock().unwrap(), [0o400, 0o400]);
}

#[test]
fn recorded_measurements_are_sent_to_the_service() {
    let all = vector("measurement.json");
    assert_eq!(all["call"]["method"], "io.systemd.PCRExtend.Extend");
    for case in all["cases"].as_array().unwrap() {
        let world = World::new().measuring();
        let data = bytes(case, "userdata").unwrap();
        world.import(&mut Cloud::default().with("userdata", &data));
        let measured = world.measured.lock().unwrap();
        assert_eq!(measured.len(), 1, "{}", case["name"]);
        let event = &measured[0];
        for (name, key) in [("pcr", "pcr"), ("text", "text"), ("eventType", "event_type")] {
            assert_eq!(event[name], case[key], "{}", case["name"]);
        }
        let names: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = all["call"]["parameters"].as_array().unwrap();
        assert_eq!(names[..3], expected.iter().map(|n| n.as_str().unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(measure::userdata_event(b""), None);
}

#[test]
fn a_measurement_that_fails_does_not_keep_from_importing() {
    let world = World::new().refusing().measuring();
    assert!(world.import(&mut rich()));
    assert_eq!(world.measured.lock().unwrap().len(), 1);
    assert!(world.files(STORE).contains_key("a"));
    // No service at all.
    let world = World::new();
    assert!(world.import(&mut rich()));
    // A socket that nobody listens on.
    let world = World::new();
    world.put("/run/systemd/x", "");
    drop(bind(&world.ctx.at("/run/systemd/io.systemd.PCRExtend"), 0o600, true).unwrap());
    assert!(world.import(&mut rich()));
}

#[test]
fn defects_12_and_14_every_cloud_gives_its_credentials_and_all_of_its_keys() {
    for cloud in CLOUDS {
        let mock = MockCloud::fixture(cloud);
        // Nobody but root has the low ports that Scaleway wants.
        let mock = if cloud == "scaleway" { mock.max_port(u16::MAX) } else { mock };
        let mock = mock.start();
        let machine = imds_world::World::cloud(cloud);
        let ctx = machine.ctx();
        let mut engine = machine.engine(machine.own_row(&mock));
        let keys = import::provider_keys(&ctx);
        let files = Files::default();
        assert!(import::run(&ctx, &files, &mut engine, &keys).unwrap(), "{cloud}");

        let expect = &mock.json()["expect"];
        let read = |name: &str| fs::read_to_string(ctx.at(STORE).join(name)).ok();
        let keys: Vec<&str> = expect["ssh-key"]["all_keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap())
            .collect();
        assert!(!keys.is_empty(), "{cloud}");
        assert_eq!(read("ssh.authorized_keys.root"), Some(keys.join("\n") + "\n"), "{cloud}");
        assert_eq!(read("demo.greeting").as_deref(), Some("hello from userdata"), "{cloud}");
        assert_eq!(read("firstboot.hostname").as_deref(), expect["hostname"]["raw"].as_str());
        // In the old ways: the key as the cloud says it.
        let strict = Ctx::host([]).with_env("SLIPWAY_STRICT_COMPAT", "1");
        let provider_keys = import::provider_keys(&strict);
        assert_eq!(provider_keys(&mut engine), Ok(None), "{cloud}");
    }
}
