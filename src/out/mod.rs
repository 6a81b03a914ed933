//! What a person or a script sees: tables, JSON, sizes, colors, progress, and the two streams.
//!
//! Why one place: the answer goes to standard output, everything else to standard error, and only
//! [`Out`] writes to either. It knows once and for all whether these are terminals, how wide they
//! are and whether colors and pictures are wanted, and it keeps log lines and the progress line
//! from running into each other.

pub mod escape;
pub mod glyph;
pub mod human;
pub mod json;
pub mod progress;
pub mod table;
pub mod time;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use self::glyph::Glyph;
pub use self::progress::Progress;
pub use self::table::{Cell, Table};
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// How colorful the terminal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colors {
    /// None.
    #[default]
    Off,
    /// The sixteen of old.
    C16,
    /// 256 or more.
    C256,
}

impl Colors {
    /// True where colors are wanted.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// The text in a color, or as it is where colors are off.
    pub fn paint(self, color: Color, text: &str) -> String {
        if self.is_on() { format!("{}{text}{RESET}", color.code(self)) } else { text.to_owned() }
    }
}

/// Ends a color.
pub const RESET: &str = "\x1b[0m";

/// The colors the peer's tools use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Failure.
    HighlightRed,
    /// Good.
    HighlightGreen,
    /// Attention.
    HighlightYellow,
    /// Possible.
    HighlightBlue,
    /// Labels.
    BrightBlue,
    /// Important.
    Highlight,
    /// Unimportant.
    Grey,
    /// One of two.
    Green,
    /// The other one.
    Yellow,
    /// Last of a column, above its sum.
    Underline,
}

impl Color {
    /// The escape sequence. Yellow and grey are too pale among the sixteen: where there are 256,
    /// a better one follows.
    pub fn code(self, colors: Colors) -> &'static str {
        match (self, colors) {
            (_, Colors::Off) => "",
            (Self::HighlightRed, _) => "\x1b[0;1;31m",
            (Self::HighlightGreen, _) => "\x1b[0;1;32m",
            (Self::HighlightBlue, _) => "\x1b[0;1;34m",
            (Self::BrightBlue, _) => "\x1b[0;94m",
            (Self::Highlight, _) => "\x1b[0;1;39m",
            (Self::Green, _) => "\x1b[0;32m",
            (Self::Yellow, _) => "\x1b[0;33m",
            (Self::Underline, _) => "\x1b[0;4m",
            (Self::HighlightYellow, Colors::C16) => "\x1b[0;1;33m",
            (Self::HighlightYellow, Colors::C256) => "\x1b[0;1;33m\x1b[0;1;38:5:185m",
            (Self::Grey, Colors::C16) => "\x1b[0;90m",
            (Self::Grey, Colors::C256) => "\x1b[0;90m\x1b[0;38:5:245m",
        }
    }
}

/// What is known about the two streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Standard output is a terminal.
    pub is_stdout_tty: bool,
    /// Standard error is a terminal.
    pub is_stderr_tty: bool,
    /// Terminal that understands no escape sequences, or none at all.
    pub is_dumb: bool,
    /// Colors, for both streams.
    pub colors: Colors,
    /// False on the Linux console, which shows underlining as a color.
    pub can_underline: bool,
    /// Pictures may be printed.
    pub is_utf8: bool,
    /// Columns of the terminal; 80 where unknown.
    pub columns: usize,
    /// Where points in time are shown.
    pub zone: time::Zone,
}

impl Facts {
    /// Decides from the environment and the two terminal flags; `terminal_columns` is what the
    /// terminal itself says.
    pub fn decide(
        ctx: &Ctx,
        is_stdout_tty: bool,
        is_stderr_tty: bool,
        terminal_columns: Option<usize>,
    ) -> Self {
        let is_dumb = matches!(ctx.env("TERM"), None | Some("dumb"));
        let explicit = ctx
            .env("COLUMNS")
            .and_then(|text| text.parse::<usize>().ok())
            .filter(|columns| (1..=u16::MAX.into()).contains(columns));
        Self {
            is_stdout_tty,
            is_stderr_tty,
            is_dumb,
            colors: decide_colors(ctx, is_stdout_tty && is_stderr_tty && !is_dumb),
            can_underline: ctx.env("TERM") != Some("linux"),
            is_utf8: glyph::is_utf8(ctx),
            columns: explicit.or(terminal_columns).unwrap_or(80),
            zone: time::Zone::load(ctx),
        }
    }
}

/// `$SYSTEMD_COLORS` wins over `$NO_COLOR`, which wins over the terminal. Both streams must be
/// terminals: a pipe on either side means that a program reads along.
fn decide_colors(ctx: &Ctx, is_on_tty: bool) -> Colors {
    let depth = || match (ctx.env("COLORTERM"), ctx.env("TERM")) {
        (Some("truecolor" | "24bit"), _) => Colors::C256,
        (_, Some("linux")) => Colors::C16,
        _ => Colors::C256,
    };
    let on_tty = |colors| if is_on_tty { colors } else { Colors::Off };
    match ctx.env("SYSTEMD_COLORS") {
        Some("16") => return Colors::C16,
        Some("256" | "24bit") => return Colors::C256,
        Some("auto-16") => return on_tty(Colors::C16),
        Some("auto-256" | "auto-24bit") => return on_tty(Colors::C256),
        Some(word) => match parse_flag(word) {
            Some(true) => return depth(),
            Some(false) => return Colors::Off,
            None => {}
        },
        None => {}
    }
    if ctx.env_os("NO_COLOR").is_some() { Colors::Off } else { on_tty(depth()) }
}

/// The peer's words for yes and no.
pub(crate) fn parse_flag(word: &str) -> Option<bool> {
    crate::format::number::parse_bool(word)
}

type Sink = Box<dyn Write + Send>;

/// The two streams. Cheap to share; all methods take `&self`.
pub struct Out {
    stdout: Mutex<Sink>,
    stderr: Arc<Stderr>,
    facts: Facts,
}

/// Standard error, shared by the log and the progress line.
pub struct Stderr(Mutex<StderrState>);

struct StderrState {
    sink: Sink,
    /// The line that is drawn over again, without its line feed.
    status: String,
}

impl Stderr {
    fn new(sink: Sink) -> Arc<Self> {
        Arc::new(Self(Mutex::new(StderrState { sink, status: String::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, StderrState> {
        // A panic while printing leaves nothing half-done that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whole lines, with their line feeds, above the progress line. That standard error is
    /// gone is no reason to fail.
    pub fn lines(&self, text: &str) {
        let mut state = self.lock();
        let _ = if state.status.is_empty() {
            state.sink.write_all(text.as_bytes())
        } else {
            let all = format!("\r\x1b[K{text}{}", state.status);
            state.sink.write_all(all.as_bytes())
        };
        let _ = state.sink.flush();
    }

    /// Draws, redraws or (empty) removes the progress line. `suffix` is sent along, invisible.
    pub fn status(&self, line: &str, suffix: &str) {
        let mut state = self.lock();
        if state.status.is_empty() && line.is_empty() && suffix.is_empty() {
            return;
        }
        let all = format!("\r\x1b[K{line}{suffix}");
        let _ = state.sink.write_all(all.as_bytes());
        let _ = state.sink.flush();
        line.clone_into(&mut state.status);
    }
}

impl Out {
    /// The streams of this process.
    pub fn host(ctx: &Ctx) -> Self {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let size = |fd: &dyn rustix::fd::AsFd| {
            rustix::termios::tcgetwinsize(fd.as_fd())
                .ok()
                .map(|size| usize::from(size.ws_col))
                .filter(|columns| *columns > 0)
        };
        let columns = size(&stdout).or_else(|| size(&stderr));
        let facts = Facts::decide(ctx, stdout.is_terminal(), stderr.is_terminal(), columns);
        Self::new(facts, Box::new(stdout), Box::new(stderr))
    }

    /// Other streams, with the facts given.
    pub fn new(facts: Facts, stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        Self { stdout: Mutex::new(stdout), stderr: Stderr::new(stderr), facts }
    }

    /// Streams that end in memory; for tests and for servers that capture.
    pub fn captured(facts: Facts) -> (Self, Captured) {
        let captured = Captured::default();
        let out = Self::new(
            facts,
            Box::new(Memory(Arc::clone(&captured.stdout))),
            Box::new(Memory(Arc::clone(&captured.stderr))),
        );
        (out, captured)
    }

    /// What is known about the streams.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The stream for everything that is not the answer.
    pub fn stderr(&self) -> Arc<Stderr> {
        Arc::clone(&self.stderr)
    }

    /// A picture as this terminal can show it.
    pub fn glyph(&self, glyph: Glyph) -> &'static str {
        glyph.text(self.facts.is_utf8)
    }

    /// Writes a part of the answer, as it is and at once. Text from elsewhere belongs through
    /// [`escape`] first.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, text: &str) -> Result<()> {
        self.write(text.as_bytes())
    }

    /// As [`Out::print`], for bytes.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|err| Error::because("Failed to write to standard output", err))
    }

    /// Writes one line of the answer.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn line(&self, text: &str) -> Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// Writes a JSON value and a line feed, in color where colors are on.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn json(&self, mode: json::Mode, value: &Value) -> Result<()> {
        self.print(&json::to_colored_string(value, mode, self.facts.colors))
    }

    /// Writes a table: as JSON where that was asked for, else as text. `has_legend` is false after
    /// `--no-legend`.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn table(&self, table: &Table<'_>, mode: json::Mode, has_legend: bool) -> Result<()> {
        if mode.is_on() {
            return self.json(mode, &table.to_json());
        }
        self.print(&table.to_text(&table::Look::of(&self.facts, has_legend)))
    }
}

/// What a captured [`Out`] was given.
#[derive(Clone, Default)]
pub struct Captured {
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Captured {
    /// Standard output so far.
    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        text_of(&self.stderr)
    }
}

fn text_of(bytes: &Mutex<Vec<u8>>) -> String {
    let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colors(env: &[(&str, &str)], is_tty: bool) -> Colors {
        let ctx = env.iter().fold(Ctx::host([]), |ctx, (name, value)| ctx.with_env(name, value));
        Facts::decide(&ctx, is_tty, is_tty, None).colors
    }

    #[test]
    fn colors_are_decided_as_by_the_peer() {
        // Each row observed with systemd-id128 of systemd 262.1.
        let xterm = ("TERM", "xterm");
        assert_eq!(colors(&[xterm], true), Colors::C256);
        assert_eq!(colors(&[("TERM", "linux")], true), Colors::C16);
        assert_eq!(colors(&[xterm], false), Colors::Off);
        assert_eq!(colors(&[xterm, ("NO_COLOR", "")], true), Colors::Off);
        assert_eq!(colors(&[("TERM", "dumb")], true), Colors::Off);
        assert_eq!(colors(&[("TERM", "")], true), Colors::C256);
        assert_eq!(colors(&[xterm, ("SYSTEMD_COLORS", "0")], true), Colors::Off);
        assert_eq!(colors(&[("SYSTEMD_COLORS", "1"), ("NO_COLOR", "1")], false), Colors::C256);
        assert_eq!(colors(&[("SYSTEMD_COLORS", "auto-16")], false), Colors::Off);
        assert_eq!(colors(&[("SYSTEMD_COLORS", "bogus")], false), Colors::Off);
    }

    #[test]
    fn a_log_line_pushes_the_progress_line_down() {
        let (out, captured) = Out::captured(Facts::default());
        let stderr = out.stderr();
        stderr.status("50%", "");
        stderr.lines("hello\n");
        stderr.status("", "");
        stderr.lines("bye\n");
        assert_eq!(captured.stderr(), "\r\x1b[K50%\r\x1b[Khello\n50%\r\x1b[Kbye\n");
    }

    #[test]
    fn the_answer_goes_to_standard_output_alone() {
        let (out, captured) = Out::captured(Facts::default());
        out.line("answer").unwrap();
        out.json(json::Mode::Short, &Value::Bool(true)).unwrap();
        assert_eq!(
            (captured.stdout().as_str(), captured.stderr().as_str()),
            ("answer\ntrue\n", "")
        );
    }
}
