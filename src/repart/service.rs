//! `io.systemd.Repart`: partitioning over Varlink.
//!
//! A call becomes the same options the command line makes, and the same run carries them out; so
//! both come to the same disk. Only root may connect.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::apply::{Observer, Phase};
use super::candidates::{self, Change, Filter, Monitor};
use super::initrd;
use super::model::{Device, Empty, Options, Plan, Seed};
use super::report::{Outcome, Sink};
use super::run::{self, Ending, Watchers};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::format::gpt::Partition;
use crate::varlink::errors;
use crate::varlink::message::Mode;
use crate::varlink::server::{Answer, Call, Service};

/// The interface.
pub const INTERFACE: &str = include_str!("io.systemd.Repart.varlink");

const NO_CANDIDATES: &str = "io.systemd.Repart.NoCandidateDevices";
const EINVAL: i32 = 22;

/// The service.
///
/// # Errors
/// The interface and its handlers do not go together.
pub fn service(ctx: &Ctx) -> Result<Service> {
    Service::builder(ctx.clone(), "systemd-repart")
        .private()
        .interface(INTERFACE)?
        .method("Run", run)
        .method("ListCandidateDevices", list_candidate_devices)
        .build()
}

/// What the parameters of a call ask for.
fn options(call: &Call<'_>) -> Result<Options> {
    let params = call.params();
    let node = params.opt_str("node")?;
    let is_dry_run = params.bool("dryRun")?;
    let device = match node {
        None if !is_dry_run => return Err(errors::invalid_parameter("dryRun")),
        None => Device::None,
        Some("") => {
            let text = "Failed to open file or determine backing device of ";
            return Err(Error::errno_because(text, EINVAL));
        }
        // A `-` is a file of this name here.
        Some(node) => Device::Path(PathBuf::from(node)),
    };
    let empty = Empty::parse(params.str("empty")?).filter(|empty| *empty != Empty::Create);
    let empty = empty.ok_or_else(|| errors::invalid_parameter("empty"))?;
    let definitions = match params.strings("definitions")? {
        paths if paths.iter().all(|path| path.starts_with('/')) => {
            paths.into_iter().map(PathBuf::from).collect()
        }
        _ => return Err(errors::invalid_parameter("definitions")),
    };
    Ok(Options {
        device,
        is_dry_run,
        empty,
        seed: seed(params.opt_str("seed")?)?,
        definitions,
        defers_empty: params.opt_bool("deferPartitionsEmpty")? == Some(true),
        defers_factory_reset: params.opt_bool("deferPartitionsFactoryReset")? == Some(true),
        ..Options::default()
    })
}

fn seed(text: Option<&str>) -> Result<Seed> {
    let Some(text) = text else { return Ok(Seed::Machine) };
    let is_plain = matches!(text.len(), 32 | 36);
    match Uuid::try_parse(text) {
        Ok(seed) if is_plain => Ok(Seed::Given(seed)),
        _ => Err(errors::invalid_parameter("seed")),
    }
}

/// Tells the caller how far a run is.
struct Caller<'a, 'c>(Mutex<&'a mut Call<'c>>);

impl Observer for Caller<'_, '_> {
    fn phase(&self, phase: Phase, object: Option<&Path>, percent: Option<u8>) {
        let mut call = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if call.mode() != Mode::More {
            return;
        }
        let mut members = Map::new();
        members.insert("phase".to_owned(), phase.varlink_name().into());
        if let Some(object) = object {
            members.insert("object".to_owned(), object.to_string_lossy().into());
        }
        if let Some(percent) = percent {
            members.insert("progress".to_owned(), percent.into());
        }
        // A caller who has gone does not stop a run: a disk that is half done helps nobody.
        if let Err(err) = call.notify(Value::Object(members)) {
            log::debug!("Failed to tell how far the run is: {err}");
        }
    }
}

/// There is nobody to show a table to.
struct Blind;

impl Sink for Blind {
    fn planned(&self, _: &Plan, _: &[Partition], _: &Outcome) -> Result<()> {
        Ok(())
    }

    fn done(&self, _: &Plan, _: &Outcome) -> Result<()> {
        Ok(())
    }
}

fn run(call: &mut Call<'_>) -> Result<Answer> {
    let mut options = options(call)?;
    let mut ctx = call.ctx().clone();
    if let Some(root) = initrd::root(&ctx) {
        ctx = ctx.with_root(root);
        options.is_root_found = true;
    }
    let caller = Caller(Mutex::new(call));
    let ending = run::run(&ctx, &options, Watchers { sink: &Blind, observer: &caller })?;
    let mut members = Map::new();
    match ending {
        Ending::MinimalSize(bytes) => {
            members.insert("minimalSizeBytes".to_owned(), bytes.into());
        }
        Ending::Done(summary) if options.is_dry_run => {
            members.insert("minimalSizeBytes".to_owned(), summary.minimal_size.into());
            members.insert("currentSizeBytes".to_owned(), summary.current_size.into());
            // With these the table that is there does not matter.
            if !matches!(options.empty, Empty::Force | Empty::Require) {
                members.insert("partitionCount".to_owned(), summary.partitions.into());
            }
        }
        Ending::Done(_) | Ending::CanReset(_) => {}
    }
    Ok(Answer::Reply(members))
}

fn list_candidate_devices(call: &mut Call<'_>) -> Result<Answer> {
    if call.mode() != Mode::More {
        return Err(errors::expected_more());
    }
    let params = call.params();
    let flag = |name: &str| Ok::<_, Error>(params.opt_bool(name)? == Some(true));
    let filter = Filter { ignores_root: flag("ignoreRoot")?, ignores_empty: flag("ignoreEmpty")? };
    if flag("subscribe")? {
        return subscribe(call, &filter);
    }
    for candidate in candidates::list(call.ctx(), &filter)? {
        call.emit(candidate.to_json())?;
    }
    Answer::streamed_or(errors::custom(NO_CANDIDATES, Map::new()))
}

/// What is there, a mark, and then what changes, until the caller hangs up.
fn subscribe(call: &mut Call<'_>, filter: &Filter) -> Result<Answer> {
    let ctx = call.ctx();
    // Before looking, so that nothing falls between.
    let mut monitor = Monitor::open(ctx)?;
    for candidate in candidates::list(ctx, filter)? {
        call.notify(reply(&Change::Add(candidate)))?;
    }
    call.notify(json!({ "action": "ready" }))?;
    while call.wait_for(monitor.fd())? {
        for change in monitor.changes(ctx, filter)? {
            call.notify(reply(&change))?;
        }
    }
    Answer::streamed()
}

fn reply(change: &Change) -> Value {
    let (action, rest) = match change {
        Change::Add(candidate) => ("add", candidate.to_json()),
        Change::Remove(node) => ("remove", json!({ "node": node.to_string_lossy() })),
    };
    let mut members = Map::new();
    members.insert("action".to_owned(), action.into());
    if let Value::Object(rest) = rest {
        members.extend(rest);
    }
    Value::Object(members)
}
