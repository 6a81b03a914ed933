//! `io.systemd.SysUpdate`: the updater's questions over Varlink.
//!
//! Everybody may ask what there is; asking the network is for those whom the policy allows.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::definitions::{self, Origin, is_component_name};
use super::job::EngineOptions;
use super::plan;
use super::report;
use super::run;
use super::session::{Need, Session, Settings};
use super::sets;
use crate::conf::value;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::varlink::errors;
use crate::varlink::server::{Answer, Call, Service};

/// The interface.
pub const INTERFACE: &str = include_str!("io.systemd.SysUpdate.varlink");

const NO_SUCH_TARGET: &str = "io.systemd.SysUpdate.NoSuchTarget";
const NO_UPDATE_NEEDED: &str = "io.systemd.SysUpdate.NoUpdateNeeded";
const ENOENT: i32 = 2;

/// Classes of images beside the operating system, in the interface's order, and where those are
/// that are directories.
///
/// LIMIT: what mounts disk images is not built yet, so these are not looked into.
const IMAGES: [(&str, &[&str]); 4] = [
    ("machine", &["/etc/machines", "/run/machines", "/var/lib/machines", "/usr/lib/machines"]),
    ("portable", &["/etc/portables", "/run/portables", "/var/lib/portables", "/usr/lib/portables"]),
    ("sysext", &["/etc/extensions", "/run/extensions", "/var/lib/extensions"]),
    ("confext", &["/run/confexts", "/var/lib/confexts", "/usr/lib/confexts"]),
];

/// The service.
///
/// # Errors
/// The interface and its handlers do not go together.
pub fn service(ctx: &Ctx) -> Result<Service> {
    Service::builder(ctx.clone(), "systemd-sysupdate")
        .interface(INTERFACE)?
        .method("ListTargets", list_targets)
        .method("ListFeatures", list_features)
        .method("CheckNew", check_new)
        .build()
}

fn list_targets(call: &mut Call<'_>) -> Result<Answer> {
    let ctx = call.ctx();
    let mut targets = Vec::new();
    for (class, directories) in IMAGES {
        let mut names: Vec<String> =
            directories.iter().flat_map(|directory| images(ctx, directory)).collect();
        names.sort_unstable();
        names.dedup();
        targets.extend(names.into_iter().map(|name| (class, Some(name))));
    }
    if has_transfers(&session(ctx, Origin::default())) {
        targets.push(("host", None));
    }
    targets.extend(definitions::components(ctx)?.into_iter().map(|name| ("component", Some(name))));
    let targets: Vec<Value> = targets
        .into_iter()
        .map(|(class, name)| json!({ "id": { "class": class, "name": name } }))
        .collect();
    Answer::reply(json!({ "targets": targets }))
}

/// The images in a directory that say how they are updated.
fn images(ctx: &Ctx, directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(ctx.at(directory)) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            let inside = ctx.clone().with_root(entry.path());
            entry.path().is_dir() && has_transfers(&session(&inside, Origin::default()))
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

fn has_transfers(session: &Session) -> bool {
    session.definitions(Need::Any).is_ok()
}

fn session(ctx: &Ctx, origin: Origin) -> Session {
    let is_off =
        matches!(ctx.env("SYSTEMD_SYSUPDATE_NO_VERIFY").map(value::boolean), Some(Ok(true)));
    let settings = Settings { verify: is_off.then_some(false), ..Settings::default() };
    Session::new(ctx, origin, settings, EngineOptions::new(true))
}

/// The session for the target of a call.
fn target(call: &Call<'_>) -> Result<Session> {
    let ctx = call.ctx();
    let params = call.params();
    let id = params.object("target")?;
    let (class, name) = (id.str("class")?, id.opt_str("name")?);
    let bad = || errors::invalid_parameter("target");
    match (class, name) {
        ("host", None) => Ok(session(ctx, Origin::default())),
        ("component", Some(name)) if is_component_name(name) => {
            Ok(session(ctx, Origin::of_component(Some(name.to_owned()))))
        }
        ("host" | "component", _) | (_, None) => Err(bad()),
        (class, Some(name)) => {
            if name.is_empty() || name.starts_with('.') || name.contains('/') {
                return Err(bad());
            }
            let image = image(ctx, class, name).ok_or_else(|| refusal(NO_SUCH_TARGET))?;
            Ok(session(&ctx.clone().with_root(image), Origin::default()))
        }
    }
}

fn image(ctx: &Ctx, class: &str, name: &str) -> Option<std::path::PathBuf> {
    let (_, directories) = IMAGES.iter().find(|(c, _)| *c == class)?;
    let places = directories.iter().map(|directory| ctx.at(Path::new(directory).join(name)));
    places.into_iter().find(|place| place.is_dir())
}

fn refusal(name: &str) -> Error {
    errors::custom(name, Map::new())
}

/// What is not there is no target.
fn as_refusal(error: Error) -> Error {
    if error.errno() == Some(ENOENT) && error.varlink().is_none() {
        return refusal(NO_SUCH_TARGET);
    }
    error
}

fn list_features(call: &mut Call<'_>) -> Result<Answer> {
    let session = target(call)?;
    let all = session.definitions(Need::Any).map_err(as_refusal)?;
    let features: Vec<Value> =
        all.features.iter().map(|feature| report::feature(feature, &all, &session.ctx)).collect();
    Answer::reply(json!({ "features": features }))
}

/// DIFFERS: the peer asks polkit over D-Bus and without it refuses even root (D20); here the
/// caller's credentials decide.
fn check_new(call: &mut Call<'_>) -> Result<Answer> {
    let session = target(call)?;
    call.authorize()?;
    let entries = run::survey(&session).map_err(as_refusal)?;
    let members = plan::members(&entries);
    let sets = sets::compute(&members);
    match sets.candidate() {
        Some(set) => Answer::reply(json!({ "available": set.version })),
        None => Err(refusal(NO_UPDATE_NEEDED)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::varlink::client::Client;
    use crate::varlink::wire::Stream;

    const TRANSFER: &str = "[Source]\nType=regular-file\nPath=/src\nMatchPattern=a_@v\n\
                            [Target]\nPath=/dst\nMatchPattern=a_@v\n";

    /// Calls a method of a service on this tree and returns error name and parameters.
    fn call(tree: &Path, method: &str, parameters: Value) -> (Option<String>, Value) {
        let service = service(&Ctx::host([]).with_root(tree)).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || service.serve(Stream::socket(theirs)));
        let mut client = Client::from_socket(ours);
        let Value::Object(parameters) = parameters else { panic!("not an object") };
        let reply = client.call(&format!("io.systemd.SysUpdate.{method}"), parameters).unwrap();
        drop(client);
        server.join().unwrap().unwrap();
        (reply.error, Value::Object(reply.parameters))
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn targets_are_sorted_by_class_and_name() {
        let tree = tree(&[
            ("etc/sysupdate.d/a.transfer", TRANSFER),
            ("usr/lib/sysupdate.web.d/a.transfer", TRANSFER),
            ("var/lib/machines/box/usr/lib/sysupdate.d/a.transfer", TRANSFER),
            ("var/lib/machines/plain/etc/x", ""),
        ]);
        let (error, reply) = call(tree.path(), "ListTargets", json!({}));
        assert_eq!(error, None);
        assert_eq!(
            reply.to_string(),
            r#"{"targets":[{"id":{"class":"machine","name":"box"}},{"id":{"class":"host","name":null}},{"id":{"class":"component","name":"web"}}]}"#
        );
    }

    #[test]
    fn newer_version_is_told_and_its_absence_is_an_error() {
        let tree = tree(&[("etc/sysupdate.d/a.transfer", TRANSFER), ("src/a_1", "")]);
        let host = || json!({ "target": { "class": "host" } });
        let (error, reply) = call(tree.path(), "CheckNew", host());
        assert_eq!((error, reply), (None, json!({ "available": "1" })));
        fs::create_dir(tree.path().join("dst")).unwrap();
        fs::write(tree.path().join("dst/a_1"), "").unwrap();
        let (error, _) = call(tree.path(), "CheckNew", host());
        assert_eq!(error.as_deref(), Some(NO_UPDATE_NEEDED));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let tree = tree(&[("etc/sysupdate.db.d/x", "")]);
        for (target, expected) in [
            (json!({ "class": "host" }), NO_SUCH_TARGET),
            (json!({ "class": "component", "name": "web" }), NO_SUCH_TARGET),
            (json!({ "class": "component", "name": "db" }), NO_SUCH_TARGET),
            (json!({ "class": "machine", "name": "box" }), NO_SUCH_TARGET),
            (json!({ "class": "host", "name": "x" }), "org.varlink.service.InvalidParameter"),
            (json!({ "class": "component" }), "org.varlink.service.InvalidParameter"),
            (
                json!({ "class": "component", "name": "a.component" }),
                "org.varlink.service.InvalidParameter",
            ),
            (json!({ "class": "machine", "name": "../x" }), "org.varlink.service.InvalidParameter"),
        ] {
            for method in ["CheckNew", "ListFeatures"] {
                let (error, _) = call(tree.path(), method, json!({ "target": target }));
                assert_eq!(error.as_deref(), Some(expected), "{method} {target}");
            }
        }
    }

    #[test]
    fn features_come_with_their_transfers() {
        let tree = tree(&[
            ("etc/sysupdate.d/a.transfer", &format!("{TRANSFER}[Transfer]\nFeatures=f\n")),
            ("etc/sysupdate.d/f.feature", "[Feature]\nDescription=Effect\n"),
        ]);
        let (_, reply) = call(
            tree.path(),
            "ListFeatures",
            json!({ "target": { "class": "host", "name": null } }),
        );
        assert_eq!(
            reply.to_string(),
            r#"{"features":[{"id":"f","description":"Effect","enabled":false,"suggested":false,"transfers":["a"]}]}"#
        );
    }
}
