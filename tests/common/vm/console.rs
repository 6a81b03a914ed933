//! The serial console: markers, panics, time limits, and what is kept of it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{host, qemu};

/// How a scenario speaks to us.
const MARKER: &str = "slipway-test: ";

/// How the kernel says that it is lost.
const PANICS: &[&str] = &["Kernel panic - not syncing", "Oops: ", "BUG: ", "general protection"];

/// Time for what follows a failure or a panic: the reason is often in the next lines.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How a machine fared.
pub struct Report {
    name: String,
    log: PathBuf,
    steps: Vec<String>,
    failure: Option<String>,
    wall: Duration,
    /// All that was on the console.
    pub console: String,
}

impl Report {
    /// One line, as other tests print it.
    pub fn print(&self) {
        let what = self.failure.as_deref().unwrap_or("came to its end");
        println!(
            "{}: {:.1} s, {} steps, {what}",
            self.name,
            self.wall.as_secs_f32(),
            self.steps.len()
        );
    }

    /// It failed, as it should: what went wrong.
    pub fn expect_failure(self) -> String {
        let failure = self.failure.unwrap_or_else(|| panic!("{}: did not fail", self.name));
        fs::remove_file(&self.log).unwrap();
        failure
    }

    /// Nothing failed, and these steps passed, in this order.
    pub fn assert_steps(self, expected: &[&str]) {
        let log = self.log.display();
        let tail = self.tail();
        if let Some(failure) = &self.failure {
            panic!("{}: {failure}\nconsole in {log}; before the end:\n{tail}", self.name);
        }
        assert!(
            self.steps == expected,
            "{}: passed {:?}, expected {expected:?}\nconsole in {log}; before the end:\n{tail}",
            self.name,
            self.steps
        );
        fs::remove_file(&self.log).unwrap();
    }
}

impl Report {
    /// The lines that led to the failure; what a scenario says after it is in the log.
    fn tail(&self) -> String {
        let lines: Vec<&str> = self.console.lines().collect();
        let is_failure = |line: &&str| line.contains("slipway-test: FAIL ");
        let end = lines.iter().position(is_failure).map_or(lines.len(), |at| at + 1);
        let start = end.saturating_sub(30);
        lines[start..end].iter().map(|line| format!("    {line}\n")).collect()
    }
}

/// Ends the machine with its test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails where it has already come to its end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a machine and watches it to its end, or to the end of our patience.
pub fn watch(name: &str, mut command: Command, overall: Duration, silence: Duration) -> Report {
    let log = host::logs().join(format!("{name}.log"));
    let mut file = File::create(&log).unwrap();
    writeln!(file, "{}", qemu::shown(&command)).unwrap();
    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let chunks = read(running.0.stdout.take().unwrap());

    let mut watcher = Watcher::default();
    let mut deadline = start + overall;
    loop {
        let now = Instant::now();
        let patience = silence.min(deadline.saturating_duration_since(now));
        match chunks.recv_timeout(patience) {
            Ok(chunk) => {
                file.write_all(&chunk).unwrap();
                let was_failed = watcher.failure.is_some();
                watcher.take(&chunk);
                if watcher.failure.is_some() && !was_failed {
                    deadline = deadline.min(Instant::now() + LAST_WORDS);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                watcher.fail(if Instant::now() >= deadline {
                    format!("not at its end after {} s", overall.as_secs())
                } else {
                    format!("said nothing for {} s", silence.as_secs())
                });
                break;
            }
        }
    }
    watcher.take(b"\n");
    let is_stopped = watcher.failure.is_some();
    drop(chunks);
    if !is_stopped {
        let status = running.0.wait().unwrap();
        if !status.success() {
            watcher.fail(format!("QEMU: {status}"));
        } else if watcher.steps.is_empty() {
            watcher.fail("ended without a word".to_owned());
        }
    }
    Report {
        name: name.to_owned(),
        log,
        steps: watcher.steps,
        failure: watcher.failure,
        wall: start.elapsed(),
        console: watcher.console,
    }
}

/// Output as it comes: a machine that draws dots is not silent.
fn read(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

#[derive(Default)]
struct Watcher {
    /// The line that has not come to its end.
    line: Vec<u8>,
    console: String,
    steps: Vec<String>,
    failure: Option<String>,
}

impl Watcher {
    fn take(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ => self.line.push(*byte),
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        // Firmware leaves escape sequences before the first line.
        if let Some((_, said)) = line.split_once(MARKER) {
            if let Some(step) = said.strip_prefix("PASS ") {
                self.steps.push(step.to_owned());
            } else if let Some(step) = said.strip_prefix("FAIL ") {
                self.fail(step.to_owned());
            }
        } else if PANICS.iter().any(|panic| line.contains(panic)) {
            self.fail(format!("the kernel: {line}"));
        }
        self.console.push_str(&line);
        self.console.push('\n');
    }

    /// The first failure is the cause of the others.
    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }
}
