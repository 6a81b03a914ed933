//! Tells those who asked for it that an update is complete: boot loader, measured boot, extensions.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::ctx::Ctx;
use crate::varlink::client::Client;

/// Sockets of the subscribers.
const DIRECTORY: &str = "/run/systemd/sysupdate/notify";
const METHOD: &str = "io.systemd.SysUpdate.Notify.OnCompletedUpdate";

/// LIMIT: a subscriber that takes longer is on its own.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// One thing that was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Id of the transfer.
    pub transfer: String,
    /// The file or the partition's node.
    pub path: PathBuf,
}

/// Calls every subscriber at the same time and waits for their answers. Failures are only told:
/// the update is done. Without a version there are no parameters: something may have changed.
pub fn notify_subscribers(
    ctx: &Ctx,
    component: Option<&str>,
    version: Option<&str>,
    resources: &[Resource],
) {
    let parameters = parameters(component, version, resources);
    let sockets = sockets(Path::new(DIRECTORY));
    std::thread::scope(|scope| {
        for socket in &sockets {
            let parameters = parameters.clone();
            scope.spawn(move || call(ctx, socket, parameters));
        }
    });
    if !sockets.is_empty() {
        let count = sockets.len();
        log::debug!("Dispatched sysupdate notification to {count} subscribers in {DIRECTORY}.");
    }
}

fn parameters(
    component: Option<&str>,
    version: Option<&str>,
    resources: &[Resource],
) -> Map<String, Value> {
    let mut parameters = Map::new();
    let Some(version) = version else { return parameters };
    if let Some(component) = component {
        parameters.insert("component".to_owned(), component.into());
    }
    parameters.insert("version".to_owned(), version.into());
    let resources: Vec<Value> = resources
        .iter()
        .map(|r| json!({"transfer": r.transfer, "path": r.path.display().to_string()}))
        .collect();
    parameters.insert("resources".to_owned(), resources.into());
    parameters
}

/// What is a socket in the directory, by name; anything else is passed over.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut sockets: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()))
        .collect();
    sockets.sort_unstable();
    sockets
}

fn call(ctx: &Ctx, socket: &Path, parameters: Map<String, Value>) {
    let result =
        Client::connect_to(ctx, &format!("unix:{}", socket.display())).and_then(|mut c| {
            c.set_timeout(Some(TIMEOUT));
            c.invoke(METHOD, parameters)
        });
    if let Err(err) = result {
        let name = socket.file_name().unwrap_or_default().to_string_lossy();
        log::warn!("Notification subscriber '{name}' returned error, ignoring: {err}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_name_version_and_resources_and_the_component_if_there_is_one() {
        let resource =
            Resource { transfer: "10-root".to_owned(), path: PathBuf::from("/dev/vda2") };
        let all = Value::Object(parameters(Some("web"), Some("7"), &[resource]));
        assert_eq!(
            all.to_string(),
            r#"{"component":"web","version":"7","resources":[{"transfer":"10-root","path":"/dev/vda2"}]}"#
        );
        assert!(parameters(None, None, &[]).is_empty());
    }

    #[test]
    fn only_sockets_are_called() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        assert_eq!(sockets(dir.path()), [dir.path().join("socket")]);
        assert!(sockets(Path::new("/does/not/exist")).is_empty());
    }
}
