//! Errors on the wire, as [`Error`] values, and what a client makes of them.

use nix::errno::Errno;
use serde_json::{Map, Value};

use crate::error::Error;

/// A parameter is missing, unknown or not acceptable.
pub const INVALID_PARAMETER: &str = "org.varlink.service.InvalidParameter";
/// The caller may not do that.
pub const PERMISSION_DENIED: &str = "org.varlink.service.PermissionDenied";
/// A system call failed.
pub const SYSTEM: &str = "io.systemd.System";

fn named(error: &str, errno: Errno, key: &str, value: &str) -> Error {
    let parameters = Map::from_iter([(key.to_owned(), Value::from(value))]);
    Error::errno_because(error, errno as i32).with_varlink(error, parameters)
}

fn bare(error: &str, errno: Errno) -> Error {
    Error::errno_because(error, errno as i32).with_varlink(error, Map::new())
}

/// `org.varlink.service.InvalidParameter` for the parameter of that name.
pub fn invalid_parameter(name: &str) -> Error {
    named(INVALID_PARAMETER, Errno::EINVAL, "parameter", name)
}

/// `org.varlink.service.MethodNotFound`, with the name as it was sent.
pub fn method_not_found(method: &str) -> Error {
    named("org.varlink.service.MethodNotFound", Errno::ENXIO, "method", method)
}

/// `org.varlink.service.MethodNotImplemented`, with the name as it was sent.
pub fn method_not_implemented(method: &str) -> Error {
    named("org.varlink.service.MethodNotImplemented", Errno::ENOTTY, "method", method)
}

/// `org.varlink.service.InterfaceNotFound`.
pub fn interface_not_found(interface: &str) -> Error {
    named("org.varlink.service.InterfaceNotFound", Errno::EADDRNOTAVAIL, "interface", interface)
}

/// `org.varlink.service.PermissionDenied`.
pub fn permission_denied() -> Error {
    bare(PERMISSION_DENIED, Errno::EACCES)
}

/// `org.varlink.service.ExpectedMore`.
pub fn expected_more() -> Error {
    bare("org.varlink.service.ExpectedMore", Errno::EBADE)
}

/// `org.varlink.service.ExpectedUpgrade`.
pub fn expected_upgrade() -> Error {
    bare("org.varlink.service.ExpectedUpgrade", Errno::EPROTOTYPE)
}

/// An error of one's own interface, by its full name.
pub fn custom(name: &str, parameters: Map<String, Value>) -> Error {
    Error::new(name).with_varlink(name, parameters)
}

/// Name and parameters of an error on the wire: the typed one, or `io.systemd.System` with the
/// errno (EIO where nobody knows one).
pub fn to_wire(error: &Error) -> (String, Map<String, Value>) {
    if let Some((name, parameters)) = error.varlink() {
        return (name.to_owned(), parameters.clone());
    }
    let errno = error.errno().unwrap_or(Errno::EIO as i32);
    let mut parameters = Map::new();
    parameters.insert("origin".to_owned(), "linux".into());
    parameters.insert("errno".to_owned(), errno.into());
    if let Some(name) = errno_name(errno) {
        parameters.insert("errnoName".to_owned(), name.into());
    }
    (SYSTEM.to_owned(), parameters)
}

/// What an error reply means to the local side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It stands for this errno.
    Errno(i32),
    /// The call lacked the `more` flag.
    ExpectedMore,
    /// Only the name tells.
    Name,
}

/// Translates an error reply.
pub fn meaning(name: &str, parameters: &Map<String, Value>) -> Meaning {
    let errno = match name {
        "org.varlink.service.ExpectedMore" => return Meaning::ExpectedMore,
        "org.varlink.service.InterfaceNotFound" => Errno::EADDRNOTAVAIL,
        "org.varlink.service.MethodNotFound" => Errno::ENXIO,
        "org.varlink.service.MethodNotImplemented" => Errno::ENOTTY,
        INVALID_PARAMETER => Errno::EINVAL,
        PERMISSION_DENIED => Errno::EACCES,
        "org.varlink.service.ExpectedUpgrade" => Errno::EPROTOTYPE,
        "io.systemd.Disconnected" => Errno::ECONNRESET,
        "io.systemd.TimedOut" => Errno::ETIMEDOUT,
        "io.systemd.Protocol" => Errno::EPROTO,
        SYSTEM => return system(parameters).map_or(Meaning::Name, Meaning::Errno),
        _ => return Meaning::Name,
    };
    Meaning::Errno(errno as i32)
}

/// The errno in the parameters of `io.systemd.System`: by number, else by name.
fn system(parameters: &Map<String, Value>) -> Option<i32> {
    if parameters.get("origin").and_then(Value::as_str).unwrap_or("linux") != "linux" {
        return None;
    }
    let number =
        parameters.get("errno").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    let by_name = || {
        let name = parameters.get("errnoName")?.as_str()?;
        (1..=MAX_ERRNO).find(|&number| errno_name(number).is_some_and(|known| known == name))
    };
    by_name().or_else(|| number.filter(|&n| (1..=MAX_ERRNO).contains(&n)))
}

/// The highest errno of Linux that has a name.
const MAX_ERRNO: i32 = 133;

/// `ENOENT` for 2.
pub fn errno_name(errno: i32) -> Option<String> {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => None,
        known => Some(format!("{known:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_untyped_error_becomes_a_system_error() {
        let (name, parameters) = to_wire(&Error::errno_because("Cannot open", 2));
        assert_eq!(name, "io.systemd.System");
        assert_eq!(
            serde_json::to_string(&parameters).unwrap(),
            r#"{"origin":"linux","errno":2,"errnoName":"ENOENT"}"#
        );
    }

    #[test]
    fn errors_mean_what_they_mean_to_the_peer() {
        let none = Map::new();
        for (name, errno) in [
            ("org.varlink.service.InterfaceNotFound", libc_text(99)),
            ("org.varlink.service.MethodNotFound", libc_text(6)),
            ("org.varlink.service.InvalidParameter", libc_text(22)),
            ("io.systemd.TimedOut", libc_text(110)),
        ] {
            assert_eq!(meaning(name, &none), errno);
        }
        let system = json!({"origin": "linux", "errno": 76, "errnoName": "ENOTUNIQ"});
        assert_eq!(meaning(SYSTEM, system.as_object().unwrap()), Meaning::Errno(76));
        assert_eq!(meaning(SYSTEM, &none), Meaning::Name);
        assert_eq!(meaning("io.example.Oops", &none), Meaning::Name);
    }

    fn libc_text(errno: i32) -> Meaning {
        Meaning::Errno(errno)
    }
}
