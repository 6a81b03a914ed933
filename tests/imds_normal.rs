//! One meaning on every cloud: the fixtures of nine clouds and the documents of some more, served
//! from memory.
//!
//! Defects of the peer that stand behind it: 12 (wrong keys of three clouds), 13 (paths, short
//! codes and CRLF as values), 14 (only the first SSH key).
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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use imds_vectors::{CLOUDS, vector};
use serde_json::{Value, json};
use slipway::ctx::{Clock, Ctx};
use slipway::imds::normal::{self, Normal};
use slipway::imds::{Endpoint, Failure, Reply, Request, Source, WellKnown, providers};

/// The middle of November 2023.
struct Then;

impl Clock for Then {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn sleep(&self, _: Duration) {}
}

fn ctx() -> Ctx {
    Ctx::host([]).with_clock(Arc::new(Then))
}

fn fixture(cloud: &str) -> Value {
    vector(&format!("{cloud}.json"))
}

/// A cloud in memory: bodies by method-less target. It does to URLs what the engine does.
struct Cloud {
    endpoint: Endpoint,
    routes: BTreeMap<String, (u64, Vec<u8>)>,
    all_status: Option<u64>,
    /// Requests after which nobody answers any more.
    gone_after: Option<usize>,
    /// What is said of a key that is not there.
    absent: Failure,
    /// Targets that were asked for, in order.
    asked: Vec<String>,
}

impl Cloud {
    fn of(fixture: &Value) -> Self {
        let mut cloud = Self {
            endpoint: providers::builtin(fixture["vendor"].as_str().unwrap()).unwrap(),
            routes: BTreeMap::new(),
            all_status: None,
            gone_after: None,
            absent: Failure::KeyNotFound,
            asked: Vec::new(),
        };
        cloud.serve(&fixture["routes"]);
        cloud
    }

    fn serve(&mut self, routes: &Value) {
        for route in routes.as_array().into_iter().flatten() {
            let answer =
                (route["status"].as_u64().unwrap(), route["body"].as_str().unwrap().into());
            self.routes.insert(route["path"].as_str().unwrap().to_owned(), answer);
        }
    }

    /// With the changes of a variant.
    fn changed(mut self, variant: &Value) -> Self {
        for path in variant["remove"].as_array().into_iter().flatten() {
            self.routes.remove(path.as_str().unwrap());
        }
        if let Some(prefix) = variant["remove_prefix"].as_str() {
            self.routes.retain(|path, _| !path.starts_with(prefix));
        }
        self.serve(&variant["override"]);
        self.all_status = variant["all_status"].as_u64();
        self
    }

    /// What would be sent for a URL: no fragment, no dot segments.
    fn target(url: &str) -> String {
        let url = url.split('#').next().unwrap();
        let rest = url.split_once("://").unwrap().1;
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/').skip(1) {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        let path = format!("/{}", parts.join("/"));
        query.map_or(path.clone(), |query| format!("{path}?{query}"))
    }
}

impl Source for Cloud {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(self.endpoint.clone())
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        let known = match request.well_known {
            None => "",
            Some(known) => {
                self.endpoint.well_known.get(&known).ok_or(Failure::WellKnownKeyUnset)?
            }
        };
        let url = [
            self.endpoint.data_url.as_deref().unwrap(),
            known,
            request.key.as_deref().unwrap_or_default(),
            self.endpoint.data_url_suffix.as_deref().unwrap_or_default(),
        ];
        let target = Self::target(&url.concat());
        self.asked.push(target.clone());
        if self.gone_after.is_some_and(|count| self.asked.len() > count) {
            return Err(Failure::Timeout("nobody there".into()));
        }
        let absent = (404, b"<html>404 - Not Found</html>".to_vec());
        let (status, data) = self.routes.get(&target).unwrap_or(&absent);
        match self.all_status.unwrap_or(*status) {
            200..300 => Ok(Reply { data: data.clone(), interface: None }),
            403 => Err(Failure::NotAvailable),
            404 => Err(self.absent.clone()),
            status => Err(Failure::CommunicationFailure(format!("status {status}"))),
        }
    }
}

/// A value by the name that fixtures use.
fn value(cloud: &mut Cloud, name: &str) -> Result<Option<String>, Failure> {
    let ctx = ctx();
    if let Some(rest) = name.strip_prefix("userdata") {
        if rest == ":user-data" {
            // What cloud-init reads counts where there is nothing for us.
            cloud.routes.retain(|path, _| !path.ends_with("/systemd-userdata"));
        }
        let bytes = normal::userdata(&ctx, cloud)?;
        return Ok(bytes.map(|bytes| String::from_utf8(bytes).unwrap()));
    }
    normal::value(&ctx, cloud, name)
}

#[test]
fn every_name_has_one_meaning_on_nine_clouds() {
    let mut count = 0;
    for vendor in CLOUDS {
        let fixture = fixture(vendor);
        for (name, expected) in fixture["expect"].as_object().unwrap() {
            let extra = if name == "extra" { expected.as_object() } else { None };
            for (name, expected) in extra.into_iter().flatten() {
                let found = value(&mut Cloud::of(&fixture), name).unwrap();
                assert_eq!(found.as_deref(), expected.as_str(), "{vendor} {name}");
                count += 1;
            }
            if extra.is_none() {
                let found = value(&mut Cloud::of(&fixture), name).unwrap();
                let expected = expected["normalized"].as_str();
                assert_eq!(found.as_deref(), expected, "{vendor} {name} (defects 12, 13)");
                count += 1;
            }
        }
    }
    assert!(count >= 80, "only {count} values");
}

#[test]
fn the_peers_service_is_understood_too_defect_12() {
    for vendor in CLOUDS {
        let fixture = fixture(vendor);
        let config = &fixture["config"];
        let mut cloud = Cloud::of(&fixture);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // What GetVendorInfo of systemd 262 says, and no more.
        cloud.endpoint = Endpoint {
            vendor: text(&config["vendor"]),
            data_url: text(&config["data_url"]),
            data_url_suffix: text(&config["data_url_suffix"]),
            ..Endpoint::default()
        };
        for (name, key) in config["well_known"].as_object().unwrap() {
            let name = WellKnown::parse(name).unwrap();
            cloud.endpoint.well_known.insert(name, text(key).unwrap());
        }
        for (name, expected) in fixture["expect"].as_object().unwrap() {
            if name != "extra" {
                let found = value(&mut cloud, name).unwrap();
                assert_eq!(found.as_deref(), expected["normalized"].as_str(), "{vendor} {name}");
            }
        }
        // What it says of a 404 with a body; without the number where a worker asked.
        for parameters in [json!({"origin": "linux", "errno": 1_073_741_955}), json!({})] {
            let parameters = parameters.as_object().unwrap().clone();
            cloud.absent = Failure::Other("io.systemd.System".into(), parameters);
            let dump = normal::dump(&ctx(), &mut cloud).unwrap();
            // Of the very first key nobody knows whether the service is there at all.
            let failures = dump["failures"].as_object().map(|f| f.keys().collect::<Vec<_>>());
            assert!(failures.is_none_or(|names| names == ["tree"]), "{vendor}");
            assert_eq!(dump["sshKeys"], fixture["expect"]["ssh-key"]["all_keys"], "{vendor}");
        }
        cloud.routes.clear();
        assert!(normal::dump(&ctx(), &mut cloud).is_err(), "{vendor}");
    }
}

#[test]
fn all_ssh_keys_are_found_once_each_defect_14() {
    for vendor in CLOUDS {
        let fixture = fixture(vendor);
        let found = normal::ssh_keys(&ctx(), &mut Cloud::of(&fixture)).unwrap();
        assert_eq!(json!(found), fixture["expect"]["ssh-key"]["all_keys"], "{vendor}");
        assert!(found.iter().all(|key| !key.contains(['\r', '\n'])), "{vendor}: CRLF, defect 13");
    }
}

/// Variants of the fixtures that are about the wire, tokens, timing or detection: nothing that
/// could be seen here.
const ELSEWHERE: [&str; 11] = [
    "token-expired",
    "imdsv1-only-legacy-clone",
    "gone-for-70s",
    "early-404",
    "migration-503",
    "ports-1-to-20-in-TIME_WAIT",
    "ipv6-only",
    "no-dns",
    "normal-mode",
    "bare-metal",
    "old-api",
];

/// What a variant's words mean for a normalised value.
fn wanted(fixture: &Value, words: &str) -> Result<Option<String>, Failure> {
    let keys =
        |fixture: &Value| fixture["expect"]["ssh-key"]["normalized"].as_str().map(str::to_owned);
    Ok(match words {
        "KeyNotFound" | "KeyNotFound (extension)" | "204 = absent" => None,
        "KeyNotFound; no fallback to /opc/v1" => None,
        "empty: treat as absent" | "present but empty: treat as absent" => None,
        "NotAvailable" => return Err(Failure::NotAvailable),
        "KeyNotFound raw; normalized europe-west1 derived from the zone" => {
            Some("europe-west1".into())
        }
        "raw phx; normalized us-phoenix-1" => Some("us-phoenix-1".into()),
        "same list as the JSON form" => keys(fixture),
        "reference: KeyNotFound; extension: follow the listing" => keys(fixture),
        // Where nothing is for us, what cloud-init reads is better than nothing.
        "KeyNotFound; the reference never reads attributes/user-data" => {
            fixture["expect"]["extra"]["userdata:user-data"].as_str().map(str::to_owned)
        }
        "raw stays base64; cloud-init decodes opportunistically, offer it as an option only" => {
            fixture["variants"][3]["override"][0]["body"].as_str().map(str::to_owned)
        }
        _ => Some(words.to_owned()),
    })
}

#[test]
fn variants_change_values_as_the_fixtures_say() {
    let mut count = 0;
    for vendor in CLOUDS {
        let fixture = fixture(vendor);
        for variant in fixture["variants"].as_array().unwrap() {
            let name = variant["name"].as_str().unwrap();
            if ELSEWHERE.contains(&name) && variant["override"].is_null() {
                continue;
            }
            let changed = || {
                let mut cloud = Cloud::of(&fixture).changed(variant);
                if name == "unprivileged-source-port" {
                    for (path, answer) in &mut cloud.routes {
                        if path.starts_with("/user_data") {
                            answer.0 = 403;
                        }
                    }
                }
                cloud
            };
            for (of, words) in variant["expect"].as_object().unwrap() {
                let expected = wanted(&fixture, words.as_str().unwrap());
                let all = ["hostname", "region", "zone", "ipv4-public", "ssh-key", "userdata"];
                let names = if of == "*" { all.to_vec() } else { vec![of.as_str()] };
                for of in names {
                    assert_eq!(value(&mut changed(), of), expected, "{vendor} {name} {of}");
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 25, "only {count} expectations");
}

#[test]
fn a_dump_has_everything_and_asks_for_nothing_twice() {
    for vendor in CLOUDS {
        let fixture = fixture(vendor);
        let mut cloud = Cloud::of(&fixture);
        let dump = normal::dump(&ctx(), &mut cloud).unwrap();
        assert_eq!(dump["vendor"], vendor);
        assert_eq!(dump["failures"], Value::Null, "{vendor}");
        assert_eq!(dump["sshKeys"], fixture["expect"]["ssh-key"]["all_keys"], "{vendor}");
        for (name, expected) in fixture["expect"].as_object().unwrap() {
            if !name.starts_with("userdata") && name != "extra" && name != "ssh-key" {
                let expected = expected.get("normalized").unwrap();
                let found = dump["values"].get(name).unwrap_or(&Value::Null);
                assert_eq!(found, expected, "{vendor} {name}");
            }
        }
        assert!(dump["userdata"].as_str().unwrap().contains("hello from userdata"), "{vendor}");
        let once: BTreeSet<&String> = cloud.asked.iter().collect();
        assert_eq!(once.len(), cloud.asked.len(), "{vendor}: {:#?}", cloud.asked);
        if let Some(token) = fixture["auth"]["token"].as_str() {
            assert!(!dump.to_string().contains(token), "{vendor}");
        }
    }
}

#[test]
fn a_document_is_fetched_once_and_saves_its_leaves() {
    let mut azure = Cloud::of(&fixture("microsoft-azure"));
    let dump = normal::dump(&ctx(), &mut azure).unwrap();
    assert_eq!(dump["tree"]["compute"]["vmSize"], "Standard_B1s");
    // Five requests per second are allowed; the document has all but what does not exist.
    assert!(azure.asked.len() <= 5, "{:#?}", azure.asked);

    let mut scaleway = Cloud::of(&fixture("scaleway"));
    let ctx = ctx();
    let mut normal = Normal::new(&ctx, &mut scaleway).unwrap();
    for name in normal::NAMES {
        normal.value(name).unwrap();
    }
    normal.ssh_keys().unwrap();
    assert_eq!(scaleway.asked, ["/conf?format=json"]);
}

#[test]
fn a_walk_finds_the_tree_and_leaves_credentials_alone() {
    let mut cloud = Cloud::of(&fixture("amazon-ec2"));
    let mut serve = |path: &str, body: &str| {
        cloud.routes.insert(format!("/latest/meta-data/{path}"), (200, body.into()));
    };
    serve("", "hostname\niam/\npublic-keys/\nplacement/\n../\nx?y\nloop/\n");
    serve("placement/", "region\navailability-zone");
    serve("iam/", "info\nsecurity-credentials/");
    serve("iam/info", "{}");
    serve("iam/security-credentials/", "role");
    serve("iam/security-credentials/role", "SECRETSECRET");
    // A directory that contains itself, as deep as one looks.
    let mut path = String::new();
    for _ in 0..100 {
        path.push_str("loop/");
        serve(&path, "loop/");
    }
    let dump = normal::dump(&ctx(), &mut cloud).unwrap();
    let tree = &dump["tree"];
    assert_eq!(tree["placement"]["region"], "eu-west-1");
    assert_eq!(tree["public-keys"]["0"]["openssh-key"].as_str().unwrap().split(' ').count(), 3);
    assert_eq!(tree["iam"], json!({"info": "{}"}));
    assert_eq!(dump["omitted"], json!(["/meta-data/iam/security-credentials"]));
    assert!(!dump.to_string().contains("SECRETSECRET"));
    assert!(!cloud.asked.iter().any(|path| path.contains("security-credentials")));
    assert!(cloud.asked.len() < 40, "{:#?}", cloud.asked);
}

#[test]
fn a_walk_ends_at_its_limit_and_says_so() {
    let mut cloud = Cloud::of(&fixture("tencent-cloud"));
    let names: Vec<String> = (0..1000).map(|n| format!("key{n}")).collect();
    cloud.routes.insert("/meta-data/".into(), (200, names.join("\n").into()));
    for name in names {
        cloud.routes.insert(format!("/meta-data/{name}"), (200, b"v".to_vec()));
    }
    let dump = normal::dump(&ctx(), &mut cloud).unwrap();
    assert!(dump["failures"]["tree"].as_str().unwrap().contains("rest is left out"), "{dump}");
    assert_eq!(dump["values"]["hostname"], "VM-0-3-demo");
    assert!(cloud.asked.len() < 300);
}

#[test]
fn a_service_that_is_gone_is_asked_once() {
    let mut cloud = Cloud::of(&fixture("amazon-ec2"));
    cloud.all_status = Some(403);
    assert_eq!(normal::dump(&ctx(), &mut cloud), Err(Failure::NotAvailable));
    assert_eq!(cloud.asked.len(), 1);
}

#[test]
fn a_service_that_goes_away_leaves_what_it_said_before() {
    let mut cloud = Cloud::of(&fixture("google-gcp"));
    cloud.gone_after = Some(6);
    let dump = normal::dump(&ctx(), &mut cloud).unwrap();
    assert_eq!(dump["values"]["instance-id"], "1234567890123456789");
    assert!(dump["failures"]["ssh-keys"].as_str().unwrap().contains("nobody there"));
    // One time-out is enough; every further one would take 40 seconds.
    assert_eq!(cloud.asked.len(), 7);
}

#[test]
fn data_that_should_be_base64_and_are_not_are_told_defect_20() {
    let mut cloud = Cloud::of(&fixture("oracle-cloud-oci"));
    cloud.routes.insert("/opc/v2/instance/metadata/user_data".into(), (200, b"%%%".to_vec()));
    let Err(Failure::System(_, text)) = value(&mut cloud, "userdata") else { panic!() };
    assert!(text.contains("'userdata'") && text.contains("not Base64"), "{text}");
    assert!(!text.contains("%%%"));
}

#[test]
fn a_new_cloud_is_a_text_file() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("sys/class/dmi/id/modalias", "dmi:bvnX:svnMyCloud:pnY:\n");
    write("sys/devices/virtual/dmi/id/modalias", "dmi:bvnX:svnMyCloud:pnY:\n");
    write(
        "etc/udev/hwdb.d/70-mycloud.hwdb",
        "dmi:*:svnMyCloud:*\n IMDS_VENDOR=my-cloud\n IMDS_DATA_URL=http://192.0.2.1/v9\n \
         IMDS_KEY_ZONE=/place\n SLIPWAY_IMDS_VALUE_ZONE=@zone | json:/zone | strip-prefix:z-\n \
         SLIPWAY_IMDS_VALUE_INSTANCE_ID=/ids | lines\n SLIPWAY_IMDS_VALUE_PROJECT=/project\n",
    );
    let ctx = ctx().with_root(root.path()).with_kernel("/proc", root.path().join("sys"));
    let endpoint = providers::lookup(&ctx).unwrap().unwrap();
    let mut cloud = Cloud::of(&fixture("vultr"));
    cloud.endpoint = endpoint;
    for (path, body) in [("place", "{\"zone\":\"z-7\"}"), ("ids", "\n a\r\nb\n"), ("project", "p")]
    {
        cloud.routes.insert(format!("/v9/{path}"), (200, body.into()));
    }
    assert_eq!(value(&mut cloud, "zone"), Ok(Some("7".into())));
    assert_eq!(value(&mut cloud, "instance-id"), Ok(Some("a".into())));
    // A name of one's own.
    assert_eq!(value(&mut cloud, "project"), Ok(Some("p".into())));
    assert_eq!(normal::dump(&ctx, &mut cloud).unwrap()["values"]["project"], "p");
}

#[test]
fn user_data_that_are_no_text_are_marked() {
    let mut cloud = Cloud::of(&fixture("amazon-ec2"));
    cloud.routes.insert("/latest/user-data".into(), (200, vec![0x1f, 0x8b, 0, 0xff]));
    let dump = normal::dump(&ctx(), &mut cloud).unwrap();
    assert_eq!((&dump["userdata"], &dump["userdataBase64"]), (&Value::Null, &json!("H4sA/w==")));
}

#[test]
fn error_pages_with_a_good_status_are_no_values() {
    let page = b"<html>\n<body>Please log in</body>\n</html>\n";
    for vendor in CLOUDS {
        let mut cloud = Cloud::of(&fixture(vendor));
        for answer in cloud.routes.values_mut() {
            *answer = (200, page.to_vec());
        }
        for name in ["hostname", "region", "zone", "ipv4-public", "ipv6-public", "mac"] {
            match value(&mut cloud, name) {
                Ok(None) => {}
                Err(Failure::System(74, text)) => {
                    assert!(text.contains(vendor) && text.contains(name), "{text}");
                    assert!(!text.contains("log in"), "{text}");
                }
                other => panic!("{vendor} {name}: {other:?}"),
            }
        }
        assert!(!normal::ssh_keys(&ctx(), &mut cloud).is_ok_and(|keys| !keys.is_empty()));
    }
}

#[test]
fn a_bad_recipe_is_named_with_its_place_and_provider() {
    let mut cloud = Cloud::of(&fixture("vultr"));
    cloud.endpoint.traits.recipes.insert("zone".into(), "/a | lower".into());
    let text = "Recipe for 'zone' of provider 'vultr' is wrong at 6: 'lower' is not a step, or \
                lacks its argument";
    assert_eq!(value(&mut cloud, "zone"), Err(Failure::System(22, text.into())));
    assert_eq!(value(&mut cloud, "hostname"), Ok(Some("demo-vultr".into())));
    let unknown = value(&mut cloud, "no-such-name");
    assert_eq!(unknown, Err(Failure::InvalidParameter("name".into())));
}

#[test]
fn every_recipe_of_the_table_is_understood() {
    let mut count = 0;
    for endpoint in providers::all() {
        for (name, text) in &endpoint.traits.recipes {
            if let Err(bad) = normal::recipe::Recipe::parse(text) {
                panic!("{:?} {name}: {bad}", endpoint.vendor);
            }
            for end in 0..text.len() {
                let _ = normal::recipe::Recipe::parse(&text[..end]);
            }
            count += 1;
        }
    }
    assert!(count > 100, "only {count} recipes");
}

#[test]
fn an_endpoint_without_recipes_is_cleaned_up_by_its_well_known_keys() {
    let mut cloud = Cloud::of(&fixture("amazon-ec2"));
    cloud.endpoint.vendor = Some("somebody".into());
    cloud.endpoint.traits = Default::default();
    let serve = &mut cloud.routes;
    serve.insert("/latest/meta-data/hostname".into(), (200, b" demo \r\n".to_vec()));
    serve.insert("/latest/meta-data/public-ipv4".into(), (200, b"203.0.113.1\r\n".to_vec()));
    assert_eq!(value(&mut cloud, "hostname"), Ok(Some("demo".into())));
    assert_eq!(value(&mut cloud, "ipv4-public"), Ok(Some("203.0.113.1".into())));
    assert_eq!(value(&mut cloud, "instance-id"), Ok(None));
    assert_eq!(normal::ssh_keys(&ctx(), &mut cloud).unwrap().len(), 1);
    assert!(value(&mut cloud, "userdata").unwrap().is_some());
}

#[test]
fn other_clouds_answer_as_their_documentation_says() {
    let document = vector("other-clouds.json");
    let clouds = document["clouds"].as_array().unwrap();
    assert!(clouds.len() >= 10);
    for fixture in clouds {
        let vendor = fixture["vendor"].as_str().unwrap();
        let cloud = || {
            let mut cloud = Cloud::of(fixture);
            for (path, body) in fixture["bodies"].as_object().unwrap() {
                let body = match body {
                    Value::String(text) => text.clone(),
                    document => document.to_string(),
                };
                cloud.routes.insert(path.clone(), (200, body.into_bytes()));
            }
            cloud
        };
        assert!(cloud().endpoint.traits.is_extension, "{vendor}");
        for (name, expected) in fixture["expect"].as_object().unwrap() {
            if name == "ssh-keys" {
                let found = normal::ssh_keys(&ctx(), &mut cloud()).unwrap();
                assert_eq!(&json!(found), expected, "{vendor} {name}");
            } else {
                let found = value(&mut cloud(), name).unwrap();
                assert_eq!(found.as_deref(), expected.as_str(), "{vendor} {name}");
            }
        }
        let dump = normal::dump(&ctx(), &mut cloud()).unwrap();
        assert_eq!(dump["failures"], Value::Null, "{vendor}");
        assert_eq!(dump["values"]["instance-id"], fixture["expect"]["instance-id"], "{vendor}");
        for secret in ["placeholder-secret", "cGxhY2Vob2xkZXItc2VjcmV0"] {
            assert!(!dump.to_string().contains(secret), "{vendor}");
        }
    }
}
