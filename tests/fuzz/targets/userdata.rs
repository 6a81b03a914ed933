//! User data: what a stranger may put into the credential store.

use serde_json::{Value, json};
use slipway::conf::credential;
use slipway::crypto::text::base64;
use slipway::ctx::Ctx;
use slipway::imds::import::{self, ADDRESSES, STORE, STORE_ENCRYPTED, Standing, Step, USERDATA};
use slipway::imds::userdata::{Credential, UserData, parse};
use slipway::imds::{Endpoint, Failure, Reply, Request, Source, WellKnown};

use crate::{kind, vectors};

pub const WORDS: &[&str] = &[
    "#systemd-userdata\n",
    "#systemd-userdata\r\n",
    "\"systemd.credentials\"",
    "\"name\":",
    "\"text\":",
    "\"data\":",
    "\"encrypted\":",
    "AAEC",
    "==",
    "../",
    "\\u0000",
    "\\u002f",
    "null",
    "[[[[",
    "{\"",
    "}",
    "1e999",
];

/// Names stay in their directories, and what was read, written and read again is the same.
pub fn run(bytes: &[u8]) -> u64 {
    let parsed = parse(bytes);
    if let UserData::Credentials(entries) = &parsed {
        let good: Vec<&Credential> = entries.iter().flatten().collect();
        assert!(good.iter().all(|entry| credential::is_name(&entry.name)));
        let entry = |entry: &&Credential| {
            let member = if entry.is_encrypted { "encrypted" } else { "data" };
            json!({ "name": entry.name, member: base64(&entry.data) })
        };
        let list: Vec<Value> = good.iter().map(entry).collect();
        let again = parse(json!({ "systemd.credentials": list }).to_string().as_bytes());
        let UserData::Credentials(again) = again else { panic!("{again:?}") };
        assert!(again.iter().flatten().eq(good.iter().copied()));
    }
    let ctx = Ctx::host([]);
    let gathered = import::gather(&ctx, &mut Cloud(bytes), &|_| Ok(None)).expect("an endpoint");
    let plan = import::plan(&gathered, &Standing::default());
    for step in &plan.steps {
        let Step::Write { path, mode, .. } = step else { continue };
        let (directory, name) = path.rsplit_once('/').expect("a directory");
        match path.as_str() {
            ADDRESSES | USERDATA => assert_eq!(*mode, 0o644),
            _ => {
                assert!([STORE, STORE_ENCRYPTED].contains(&directory), "{path}");
                assert!(credential::is_name(name) && *mode == 0o400, "{path}");
            }
        }
    }
    // Names and sizes make nothing new.
    let head = |step: &Step| step.to_text().split('\'').next().map(str::to_owned);
    kind(&(plan.has_failed(), plan.steps.iter().map(head).collect::<Vec<_>>()))
}

/// Everything it says is the input.
struct Cloud<'a>(&'a [u8]);

impl Source for Cloud<'_> {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(Endpoint::default())
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        match request.well_known {
            Some(WellKnown::UserdataBase) => Err(Failure::KeyNotFound),
            _ => Ok(Reply { data: self.0.to_vec(), interface: None }),
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let text = std::fs::read(vectors("imds/userdata-import.json")).expect("vectors");
    let all: Value = serde_json::from_slice(&text).expect("vectors");
    let cases = all["cases"].as_array().expect("cases");
    cases.iter().filter_map(|case| Some(case["body"].as_str()?.as_bytes().to_vec())).collect()
}
