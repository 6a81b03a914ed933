//! Calling a method: one reply, many, none, or the whole connection.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use ::slipway::error::{Context, Error, Result};
use ::slipway::out::json::{self, Mode};
use ::slipway::sys::inherited;
use ::slipway::varlink::client::{Client, Reply, Upgraded, reply_error};
use ::slipway::varlink::idl::split_method;
use ::slipway::varlink::wire::Raw;
use log::{error, info};
use serde_json::{Map, Value};

use super::{Args, Pushed, connect, operand, position};
use crate::app::App;

/// LIMIT: bytes of parameters from standard input.
const MAX_PARAMETERS: u64 = 16 << 20;

pub(super) fn run(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    let (address, method) = (operand(operands, 0)?, operand(operands, 1)?);
    let command = operands.get(3..).unwrap_or_default();
    if args.exec {
        if args.collect || args.more || args.oneway {
            return Err(Error::new("--exec and --collect/--more/--oneway may not be combined."));
        }
        if command.is_empty() {
            return Err(Error::new("Expected command line to execute."));
        }
    } else if !command.is_empty() {
        return Err(Error::new("Too many arguments."));
    }
    let is_plain = !args.collect && !args.more && !args.oneway;
    if args.upgrade && !(is_plain && args.push_fd.is_empty() && args.graceful.is_empty()) {
        return Err(Error::new(
            "--upgrade may not be combined with --collect/--more/--oneway/--push-fd=/--graceful.",
        ));
    }
    if split_method(method).is_none() {
        return Err(Error::new(format!(
            "Not a valid qualified method name: '{method}' (Expected valid Varlink interface name, \
             followed by a dot, followed by a valid Varlink symbol name.)"
        )));
    }
    // Before anything is opened: the numbers are those we were started with.
    let fds = args.push_fd.iter().map(open).collect::<Result<Vec<_>>>()?;
    let parameters = match operands.get(2).map(String::as_str) {
        Some(text) if !matches!(text, "" | "-") => parse(text, "<argv[4]>")?,
        // An upgraded connection needs standard input for itself.
        _ if args.upgrade => Map::new(),
        _ => read_parameters(app)?,
    };
    let mut client = connect(app, args, address)?;
    for fd in fds {
        client.push_fd(fd)?;
    }
    let job = Job { app, args, method };
    if args.upgrade {
        job.upgrade(client, parameters, command)
    } else if args.exec {
        job.exec(client, parameters, command)
    } else if args.collect {
        job.collect(client, parameters)
    } else if args.more {
        job.more(client, parameters)
    } else if args.oneway {
        client.oneway(method, parameters).map(|()| 0)
    } else {
        job.plain(client, parameters)
    }
}

/// A descriptor for `--push-fd=`.
fn open(pushed: &Pushed) -> Result<OwnedFd> {
    match pushed {
        Pushed::File(path) => {
            let file = std::fs::File::open(path).context(|| format!("Failed to open '{path}'"))?;
            Ok(file.into())
        }
        Pushed::Number(number) => inherited::duplicate_inherited(*number)
            .context(|| format!("Failed to duplicate file descriptor {number}")),
    }
}

/// Parameters from standard input; nothing at all means none.
fn read_parameters(app: &App) -> Result<Map<String, Value>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() && app.out.facts().is_stderr_tty {
        info!("Reading parameters from standard input; pass '{{}}' for a method without any.");
    }
    let mut text = Vec::new();
    stdin
        .take(MAX_PARAMETERS)
        .read_to_end(&mut text)
        .context(|| "Failed to read parameters".to_owned())?;
    if text.is_empty() {
        return Ok(Map::new());
    }
    let text = String::from_utf8(text)
        .map_err(|_| Error::new("Parameters on standard input are not valid UTF-8."))?;
    parse(&text, "<stdin>")
}

/// An object in JSON.
fn parse(text: &str, name: &str) -> Result<Map<String, Value>> {
    if let Ok(Value::Object(map)) = serde_json::from_str(text) {
        return Ok(map);
    }
    let (line, column) = position::of(text);
    let message = format!("Failed to parse parameters at {name}:{line}:{column}");
    Err(Error::errno_because(message, nix::libc::EINVAL))
}

/// One invocation of the verb.
struct Job<'a> {
    app: &'a App,
    args: &'a Args,
    method: &'a str,
}

impl Job<'_> {
    /// The chosen JSON form; JSON is the only form replies have.
    fn mode(&self) -> Mode {
        match self.args.json {
            Mode::Off => Mode::auto(self.app.out.facts().is_stdout_tty),
            mode => mode,
        }
    }

    fn print(&self, parameters: Map<String, Value>) -> Result<()> {
        if self.args.quiet {
            return Ok(());
        }
        self.app.out.json(self.mode(), &Value::Object(parameters))
    }

    fn print_record(&self, parameters: Map<String, Value>) -> Result<()> {
        if self.args.quiet {
            return Ok(());
        }
        self.app.out.print(&json::to_sequence(&Value::Object(parameters), self.mode()))
    }

    /// Tells of an error reply; status 0 where it was expected.
    fn judge(&self, what: &str, name: &str, parameters: &Map<String, Value>) -> Result<u8> {
        if self.args.graceful.iter().any(|expected| expected == name) {
            if !self.args.quiet {
                info!("Method call {what}returned expected error: {name}");
            }
            return Ok(0);
        }
        let reason = reply_error(name, parameters.clone());
        error!("Method call {what}failed: {reason}");
        Ok(1)
    }

    fn finish(status: u8) -> Result<u8> {
        if status == 0 { Ok(0) } else { Err(Error::silent(status)) }
    }

    fn refused(&self, name: &str, parameters: Map<String, Value>) -> Result<u8> {
        let status = self.judge(&format!("{}() ", self.method), name, &parameters)?;
        self.print(parameters)?;
        Self::finish(status)
    }

    fn plain(&self, mut client: Client, parameters: Map<String, Value>) -> Result<u8> {
        let reply = client.call(self.method, parameters)?;
        match reply.error {
            Some(name) => self.refused(&name, reply.parameters),
            None => self.print(reply.parameters).map(|()| 0),
        }
    }

    fn collect(&self, mut client: Client, parameters: Map<String, Value>) -> Result<u8> {
        match client.collect(self.method, parameters)? {
            Ok(replies) => {
                let list = replies.into_iter().map(Value::Object).collect();
                if !self.args.quiet {
                    self.app.out.json(self.mode(), &Value::Array(list))?;
                }
                Ok(0)
            }
            Err(reply) => self.refused(&reply.error.unwrap_or_default(), reply.parameters),
        }
    }

    fn more(&self, mut client: Client, parameters: Map<String, Value>) -> Result<u8> {
        for reply in client.call_more(self.method, parameters)? {
            let reply = reply?;
            if let Some(name) = reply.error {
                // COMPAT(262): the sentence does not name the method here.
                let status = self.judge("", &name, &reply.parameters)?;
                self.print_record(reply.parameters)?;
                return Self::finish(status);
            }
            self.print_record(reply.parameters)?;
        }
        Ok(0)
    }

    /// Replaces this process by a command that finds the reply on standard input and the
    /// descriptors of the reply from 3 on.
    fn exec(
        &self,
        mut client: Client,
        parameters: Map<String, Value>,
        command: &[String],
    ) -> Result<u8> {
        client.accept_fds();
        let Reply { error, parameters, fds, .. } = client.call(self.method, parameters)?;
        if let Some(name) = error {
            return self.refused(&name, parameters);
        }
        let text = json::to_string(
            &Value::Object(parameters),
            match self.args.json {
                Mode::Off => Mode::Short,
                mode => mode,
            },
        );
        let failed = || "Failed to prepare standard input of the command".to_owned();
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("varlink-reply", flags).context(failed)?;
        let mut file = std::fs::File::from(file);
        file.write_all(text.as_bytes()).context(failed)?;
        std::io::Seek::rewind(&mut file).context(failed)?;
        drop(client);
        let mut command = self.command(command)?;
        if !fds.is_empty() {
            command.env("LISTEN_FDS", fds.len().to_string());
            command.env("LISTEN_PID", std::process::id().to_string());
            inherited::place(fds).context(|| "Failed to pass descriptors".to_owned())?;
        }
        command.stdin(file);
        Err(Self::replace(&mut command))
    }

    fn command(&self, words: &[String]) -> Result<Command> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Error::new("Expected command line to execute."))?;
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }

    fn replace(command: &mut Command) -> Error {
        let err = command.exec();
        let program = command.get_program().to_string_lossy().into_owned();
        Error::because(format!("Failed to execute '{program}'"), err)
    }

    fn upgrade(
        &self,
        client: Client,
        parameters: Map<String, Value>,
        command: &[String],
    ) -> Result<u8> {
        let Upgraded { raw, process, .. } = match client.upgrade(self.method, parameters) {
            Ok(Ok(upgraded)) => upgraded,
            Ok(Err(reply)) => {
                return Err(Error::new(format!(
                    "Upgrade via {}() failed with error: {}",
                    self.method,
                    reply.error.unwrap_or_default()
                )));
            }
            Err(err) => {
                let message = format!("Failed to upgrade connection via {}()", self.method);
                return Err(match err.errno() {
                    Some(errno) => Error::errno_because(message, errno),
                    None => err,
                });
            }
        };
        if !self.args.exec {
            let result = forward(raw);
            drop(process);
            return result.context(|| "Failed to forward the connection".to_owned()).map(|()| 0);
        }
        if !raw.rest.is_empty() {
            return Err(Error::new("Service sent data before the command could be started."));
        }
        let mut command = self.command(command)?;
        command.stdin(raw.read).stdout(raw.write);
        // The process that carries the connection lives on for the command.
        std::mem::forget(process);
        Err(Self::replace(&mut command))
    }
}

/// Copies standard input to the connection and the connection to standard output, until the
/// other side is done.
fn forward(raw: Raw) -> std::io::Result<()> {
    let mut from = std::fs::File::from(raw.read);
    let mut to = std::fs::File::from(raw.write);
    // Ends with the process: nobody waits for input when the other side has gone.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut to);
        let _ = rustix::net::shutdown(to.as_fd(), rustix::net::Shutdown::Write);
    });
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&raw.rest)?;
    let mut chunk = vec![0; 64 << 10];
    loop {
        stdout.flush()?;
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => stdout.write_all(chunk.get(..n).unwrap_or_default())?,
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            // A service that ends abruptly after its last byte.
            Err(err) if err.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(err) => return Err(err),
        }
    }
}
