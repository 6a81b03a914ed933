//! Where a service is: the spellings of an address. Pure; connecting is the client's business.

use std::path::{Component, Path, PathBuf};

use nix::libc::{EINVAL, EPROTONOSUPPORT};

use crate::error::Error;

/// Where bridges to other transports are installed.
pub const BRIDGES: &str = "/usr/lib/systemd/varlink-bridges";

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:/PATH`
    Unix(PathBuf),
    /// `unix:@NAME`: the abstract namespace of Linux.
    Abstract(String),
    /// `exec:/PATH`: a program that serves one connection.
    Exec(PathBuf),
    /// `ssh:HOST:/PATH`, `ssh-unix:HOST:/PATH`: a socket on another machine.
    SshUnix {
        /// As ssh takes it.
        host: String,
        /// Socket on that machine.
        path: String,
    },
    /// `ssh-exec:HOST:COMMAND`: a program on another machine.
    SshExec {
        /// As ssh takes it.
        host: String,
        /// The command, split at white space.
        command: Vec<String>,
    },
    /// Any other scheme: a program of that name carries the bytes.
    Bridge {
        /// The scheme.
        scheme: String,
        /// The whole address.
        url: String,
    },
}

impl Address {
    /// Parses `SCHEME:REST`. Paths alone are not addresses here: what they are depends on what
    /// is there, see [`super::client::Client::connect_to`].
    pub fn parse(url: &str) -> Result<Self, Error> {
        let refuse =
            |errno| Error::errno_because(format!("Failed to connect to URL '{url}'"), errno);
        let (scheme, rest) = url.split_once(':').ok_or_else(|| refuse(EPROTONOSUPPORT))?;
        let is_native = matches!(scheme, "unix" | "exec" | "ssh" | "ssh-unix" | "ssh-exec");
        // Reserved for parameters.
        if is_native && rest.contains([';', '?', '#']) {
            return Err(refuse(EPROTONOSUPPORT));
        }
        match scheme {
            "unix" => match rest.strip_prefix('@') {
                Some(name) if !name.is_empty() => Ok(Self::Abstract(name.to_owned())),
                _ => Ok(Self::Unix(normal(rest).ok_or_else(|| refuse(EINVAL))?)),
            },
            "exec" => Ok(Self::Exec(normal(rest).ok_or_else(|| refuse(EINVAL))?)),
            "ssh" | "ssh-unix" => {
                let (host, path) = rest.split_once(':').ok_or_else(|| refuse(EINVAL))?;
                // DIFFERS: the peer lets a host that looks like an option through to ssh.
                if normal(path).is_none() || !is_host(host) {
                    return Err(refuse(EINVAL));
                }
                Ok(Self::SshUnix { host: host.to_owned(), path: path.to_owned() })
            }
            "ssh-exec" => {
                let (host, command) = rest.split_once(':').ok_or_else(|| refuse(EINVAL))?;
                let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
                if command.is_empty() || !is_host(host) {
                    return Err(refuse(EINVAL));
                }
                Ok(Self::SshExec { host: host.to_owned(), command })
            }
            _ if is_scheme(scheme) => {
                Ok(Self::Bridge { scheme: scheme.to_owned(), url: url.to_owned() })
            }
            _ => Err(refuse(EPROTONOSUPPORT)),
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn normal(path: &str) -> Option<PathBuf> {
    let clean = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let dots = path.contains("//") || path.contains("/./") || path.ends_with("/.");
    (path.starts_with('/') && path.len() > 1 && clean && !dots && !path.ends_with('/'))
        .then(|| PathBuf::from(path))
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.starts_with('-')
}

/// Letters, digits, `+`, `-`, `.`: never a path.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let parse = |url| Address::parse(url).unwrap();
        assert_eq!(parse("unix:/a/b"), Address::Unix("/a/b".into()));
        assert_eq!(parse("unix:@x"), Address::Abstract("x".to_owned()));
        assert_eq!(parse("exec:/a/b"), Address::Exec("/a/b".into()));
        let remote = Address::SshUnix { host: "h".to_owned(), path: "/p".to_owned() };
        assert_eq!(parse("ssh:h:/p"), remote);
        assert_eq!(parse("ssh-unix:h:/p"), remote);
        assert_eq!(
            parse("ssh-exec:u@h:a b:c"),
            Address::SshExec {
                host: "u@h".to_owned(),
                command: vec!["a".to_owned(), "b:c".to_owned()]
            }
        );
        let url = "foo://bar/x?y#z".to_owned();
        assert_eq!(parse(&url), Address::Bridge { scheme: "foo".to_owned(), url: url.clone() });
    }

    /// Texts observed with systemd 262.1.
    #[test]
    fn bad_addresses_are_refused_in_the_peers_words() {
        for (url, text) in [
            ("", "Protocol not supported"),
            ("nope", "Protocol not supported"),
            ("@abs", "Protocol not supported"),
            ("unix:/a;b", "Protocol not supported"),
            ("unix:/a?b", "Protocol not supported"),
            ("exec:/a;b", "Protocol not supported"),
            ("ssh:host:/run/foo;x", "Protocol not supported"),
            ("a/b:c", "Protocol not supported"),
            ("unix:", "Invalid argument"),
            ("unix:nope", "Invalid argument"),
            ("unix:./x", "Invalid argument"),
            ("unix:/a/../b", "Invalid argument"),
            ("exec:svc", "Invalid argument"),
            ("ssh:foo", "Invalid argument"),
            ("ssh:foo:bar", "Invalid argument"),
            ("ssh-exec:foo", "Invalid argument"),
            ("ssh-exec:foo:", "Invalid argument"),
            ("ssh:-oProxyCommand=x:/p", "Invalid argument"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert_eq!(error, format!("Failed to connect to URL '{url}': {text}"));
        }
    }
}
