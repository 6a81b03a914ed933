//! The log: levels, targets and prefixes as `$SYSTEMD_LOG_*` ask for them.
//!
//! The core speaks through the `log` crate's macros only. Here a record becomes a bare line on
//! standard error, a line with a syslog prefix, a kernel message or a journal entry. Messages of
//! the libraries inside (TLS, HTTP) are seen at level debug and never above.
//!
//! The `log` crate knows no "notice". A record with the target [`NOTICE`] is one.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env_logger::{Builder, Target as Pipe, WriteStyle};
use log::{Level, LevelFilter, Record};

use crate::ctx::Ctx;
use crate::error::Error;
use crate::out::time::Zone;
use crate::out::{Color, Colors, Out, Stderr, escape};

/// `log::info!(target: NOTICE, …)` is a message of syslog level notice.
pub const NOTICE: &str = "slipway::notice";

/// Syslog facility "daemon", shifted into place.
const DAEMON: u8 = 3 << 3;

/// What the environment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    /// Syslog priority: 0 emergency … 7 debug; 6 by default.
    max: u8,
    target: Target,
    has_time: bool,
    has_location: bool,
    has_tid: bool,
    has_color: Option<bool>,
    /// What could not be understood; told once the log is there.
    complaints: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Console,
    ConsolePrefixed,
    Kmsg,
    Journal,
    JournalOrKmsg,
    Null,
    Auto,
}

/// Starts the log. Once per process; later calls change nothing.
pub fn init(ctx: &Ctx, out: &Out) {
    let settings = Settings::from_ctx(ctx);
    let sink = Sink::open(&settings, ctx, out);
    let style = Style {
        ctx: ctx.clone(),
        zone: out.facts().zone.clone(),
        form: sink.form,
        max: settings.max,
        has_time: settings.has_time,
        has_location: settings.has_location,
        has_tid: settings.has_tid,
        colors: match settings.has_color {
            Some(false) => Colors::Off,
            Some(true) if !out.facts().colors.is_on() => Colors::C256,
            _ => out.facts().colors,
        },
        // Lines on the console carry no name, so most processes need not look for theirs.
        name: match sink.form {
            Form::Bare | Form::Prefixed => String::new(),
            Form::Kernel | Form::Journal => program_name(ctx),
        },
    };
    let is_null = settings.target == Target::Null;
    let filter = if is_null { LevelFilter::Off } else { filter_of(settings.max) };
    let foreign = if settings.max >= 7 && !is_null { LevelFilter::Debug } else { LevelFilter::Off };
    let result = Builder::new()
        .filter_level(foreign)
        .filter_module("slipway", filter)
        .write_style(WriteStyle::Never)
        .format(move |buffer, record| buffer.write_all(&style.bytes(record)))
        .target(Pipe::Pipe(Box::new(sink)))
        .try_init();
    if result.is_ok() {
        for complaint in &settings.complaints {
            log::warn!("{complaint}");
        }
    }
}

/// Tells an error and its hints. Silent errors are not told.
pub fn report(error: &Error) {
    if error.is_silent() {
        return;
    }
    log::error!("{error}");
    for hint in error.hints() {
        log::error!("Hint: {hint}");
    }
}

/// The `log` crate's filter that lets this syslog priority through.
fn filter_of(max: u8) -> LevelFilter {
    match max {
        0..=2 => LevelFilter::Off,
        3 => LevelFilter::Error,
        4 => LevelFilter::Warn,
        // Notices travel as info; Style drops the others.
        5 | 6 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    }
}

fn priority(record: &Record<'_>) -> u8 {
    match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info if record.target() == NOTICE => 5,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn parse_level(word: &str) -> Option<u8> {
    const NAMES: [&str; 8] =
        ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let by_name = NAMES.iter().position(|name| *name == word);
    let number = by_name.or_else(|| word.parse().ok().filter(|number| *number < NAMES.len()))?;
    u8::try_from(number).ok()
}

fn parse_target(word: &str) -> Option<Target> {
    Some(match word {
        "console" => Target::Console,
        "console-prefixed" => Target::ConsolePrefixed,
        "kmsg" => Target::Kmsg,
        "journal" => Target::Journal,
        // Syslog proper is gone with /dev/log; the journal takes its messages.
        "journal-or-kmsg" | "syslog" | "syslog-or-kmsg" => Target::JournalOrKmsg,
        "null" => Target::Null,
        "auto" => Target::Auto,
        _ => return None,
    })
}

impl Settings {
    fn from_ctx(ctx: &Ctx) -> Self {
        let mut settings = Self {
            max: 6,
            target: Target::Auto,
            has_time: false,
            has_location: false,
            has_tid: false,
            has_color: None,
            complaints: Vec::new(),
        };
        if let Some(word) = ctx.env("SYSTEMD_LOG_TARGET") {
            match parse_target(word) {
                Some(target) => settings.target = target,
                None => settings.complain("target", word),
            }
        }
        if let Some(word) = ctx.env("SYSTEMD_LOG_LEVEL") {
            settings.read_levels(word);
        }
        settings.has_color = settings.read_flag(ctx, "SYSTEMD_LOG_COLOR", "color");
        settings.has_location =
            settings.read_flag(ctx, "SYSTEMD_LOG_LOCATION", "location").unwrap_or(false);
        settings.has_time = settings.read_flag(ctx, "SYSTEMD_LOG_TIME", "time").unwrap_or(false);
        settings.has_tid = settings.read_flag(ctx, "SYSTEMD_LOG_TID", "tid").unwrap_or(false);
        settings
    }

    /// A level, or a list like `info,console:debug`; a level for one target counts where that
    /// target is in use.
    fn read_levels(&mut self, list: &str) {
        for word in list.split(',').filter(|word| !word.is_empty()) {
            let (target, level) = match word.split_once(':') {
                Some((target, level)) => (Some(target), level),
                None => (None, word),
            };
            match (target.map(parse_target), parse_level(level)) {
                (None, Some(level)) => self.max = level,
                (Some(Some(target)), Some(level)) => {
                    let is_console = matches!(self.target, Target::Auto | Target::Console);
                    if target == self.target || (is_console && target == Target::Console) {
                        self.max = level;
                    }
                }
                _ => self.complaints.push(format!(
                    "Failed to parse log level '{}', ignoring: Invalid argument",
                    escape::line(word)
                )),
            }
        }
    }

    fn read_flag(&mut self, ctx: &Ctx, variable: &str, what: &str) -> Option<bool> {
        let word = ctx.env(variable)?;
        let flag = crate::out::parse_flag(word);
        if flag.is_none() {
            self.complain(what, word);
        }
        flag
    }

    fn complain(&mut self, what: &str, word: &str) {
        self.complaints
            .push(format!("Failed to parse log {what} '{}', ignoring.", escape::line(word)));
    }
}

/// What the bytes of one record look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bare,
    Prefixed,
    Kernel,
    Journal,
}

struct Style {
    ctx: Ctx,
    zone: Zone,
    form: Form,
    max: u8,
    has_time: bool,
    has_location: bool,
    has_tid: bool,
    colors: Colors,
    name: String,
}

impl Style {
    fn bytes(&self, record: &Record<'_>) -> Vec<u8> {
        let priority = priority(record);
        if priority > self.max {
            return Vec::new();
        }
        let text = record.args().to_string();
        let text = escape::block(&text);
        match self.form {
            Form::Journal => self.journal_entry(record, priority, &text),
            Form::Kernel => {
                let pid = rustix::process::getpid();
                let head = DAEMON | priority;
                format!("<{head}>{}[{}]: {text}\n", self.name, pid.as_raw_nonzero()).into_bytes()
            }
            Form::Bare | Form::Prefixed => {
                let mut lines = String::new();
                for line in text.split('\n').filter(|line| !line.is_empty()) {
                    self.console_line(&mut lines, record, priority, line);
                }
                lines.into_bytes()
            }
        }
    }

    fn console_line(&self, lines: &mut String, record: &Record<'_>, priority: u8, text: &str) {
        if self.form == Form::Prefixed {
            let _ = write!(lines, "<{}>", DAEMON | priority);
        }
        if self.has_time {
            let now = self.ctx.now().duration_since(std::time::SystemTime::UNIX_EPOCH);
            let usec = now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(0));
            let _ = write!(lines, "{} ", self.zone.timestamp(usec));
        }
        if self.has_tid {
            let _ = write!(lines, "({}) ", rustix::thread::gettid().as_raw_nonzero());
        }
        if self.has_location {
            let place = format!(
                "{}:{}",
                record.file().unwrap_or_default(),
                record.line().unwrap_or_default()
            );
            let _ = write!(lines, "{}: ", self.colors.paint(Color::HighlightYellow, &place));
        }
        let color = match priority {
            0..=3 => Some(Color::HighlightRed),
            4 => Some(Color::HighlightYellow),
            5 => Some(Color::Highlight),
            6 => None,
            _ => Some(Color::Grey),
        };
        match color {
            Some(color) => lines.push_str(&self.colors.paint(color, text)),
            None => lines.push_str(text),
        }
        lines.push('\n');
    }

    /// The journal's native protocol: `NAME=value` lines, and a length in front of values that
    /// hold line feeds.
    fn journal_entry(&self, record: &Record<'_>, priority: u8, text: &str) -> Vec<u8> {
        let mut entry = format!(
            "PRIORITY={priority}\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER={}\nTID={}\n",
            self.name,
            rustix::thread::gettid().as_raw_nonzero()
        );
        if let (Some(file), Some(line)) = (record.file(), record.line()) {
            let _ = write!(entry, "CODE_FILE={file}\nCODE_LINE={line}\n");
        }
        let mut entry = entry.into_bytes();
        if text.contains('\n') {
            entry.extend_from_slice(b"MESSAGE\n");
            entry.extend_from_slice(&u64::try_from(text.len()).unwrap_or(0).to_le_bytes());
        } else {
            entry.extend_from_slice(b"MESSAGE=");
        }
        entry.extend_from_slice(text.as_bytes());
        entry.push(b'\n');
        entry
    }
}

/// Where the bytes of a record go. Nothing here may fail loudly: there is nobody to tell.
struct Sink {
    form: Form,
    way: Way,
}

enum Way {
    Stderr(Arc<Stderr>),
    Kmsg(std::fs::File),
    Journal(UnixDatagram, PathBuf),
}

impl Sink {
    fn open(settings: &Settings, ctx: &Ctx, out: &Out) -> Self {
        let console = |form| Self { form, way: Way::Stderr(out.stderr()) };
        match settings.target {
            Target::Console | Target::Null => console(Form::Bare),
            Target::ConsolePrefixed => console(Form::Prefixed),
            Target::Kmsg => Self::kmsg().unwrap_or_else(|| console(Form::Bare)),
            Target::Journal => Self::journal().unwrap_or_else(|| console(Form::Bare)),
            Target::JournalOrKmsg => {
                Self::journal().or_else(Self::kmsg).unwrap_or_else(|| console(Form::Bare))
            }
            Target::Auto => {
                let is_journaled = ctx.env("JOURNAL_STREAM").is_some_and(is_stderr_stream);
                let journal = if is_journaled { Self::journal() } else { None };
                journal.unwrap_or_else(|| console(Form::Bare))
            }
        }
    }

    fn kmsg() -> Option<Self> {
        let file = OpenOptions::new().write(true).open("/dev/kmsg").ok()?;
        Some(Self { form: Form::Kernel, way: Way::Kmsg(file) })
    }

    fn journal() -> Option<Self> {
        let path = Path::new("/run/systemd/journal/socket");
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(path).ok()?;
        let way = Way::Journal(socket, path.to_path_buf());
        Some(Self { form: Form::Journal, way })
    }
}

/// `$JOURNAL_STREAM` is `device:inode` of the stream that the journal listens to.
fn is_stderr_stream(value: &str) -> bool {
    let Some((device, inode)) = value.split_once(':') else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

impl Write for Sink {
    /// env_logger hands over one record per call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            match &mut self.way {
                Way::Stderr(stderr) => stderr.lines(&String::from_utf8_lossy(bytes)),
                Way::Kmsg(file) => {
                    let _ = file.write_all(bytes);
                }
                Way::Journal(socket, path) => {
                    // The journal may have been restarted: its socket is then a new one.
                    if socket.send(bytes).is_err() {
                        let _ = socket.send_to(bytes, &*path);
                    }
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How we call ourselves in the journal: the link that was run, not where it leads.
fn program_name(ctx: &Ctx) -> String {
    let line = std::fs::read(ctx.proc("self/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    match first.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "slipway".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(env: &[(&str, &str)]) -> Settings {
        let ctx = env.iter().fold(Ctx::host([]), |ctx, (name, value)| ctx.with_env(name, value));
        Settings::from_ctx(&ctx)
    }

    fn style(form: Form, colors: Colors) -> Style {
        Style {
            ctx: Ctx::host([]),
            zone: Zone::UTC,
            form,
            max: 6,
            has_time: false,
            has_location: false,
            has_tid: false,
            colors,
            name: "x".into(),
        }
    }

    fn shown(style: &Style, level: Level, text: &str) -> String {
        let args = format_args!("{text}").to_string();
        let bytes = style.bytes(
            &Record::builder()
                .level(level)
                .target("slipway::x")
                .file(Some("src/x.rs"))
                .line(Some(7))
                .args(format_args!("{args}"))
                .build(),
        );
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn levels_are_names_or_numbers_and_bad_ones_are_told() {
        assert_eq!(settings(&[]).max, 6);
        assert_eq!(settings(&[("SYSTEMD_LOG_LEVEL", "debug")]).max, 7);
        assert_eq!(settings(&[("SYSTEMD_LOG_LEVEL", "3")]).max, 3);
        assert_eq!(settings(&[("SYSTEMD_LOG_LEVEL", "info,console:err")]).max, 3);
        for bad in ["bogus", "8", "-1", "null"] {
            assert_eq!(
                settings(&[("SYSTEMD_LOG_LEVEL", bad)]).complaints,
                [format!("Failed to parse log level '{bad}', ignoring: Invalid argument")]
            );
        }
    }

    #[test]
    fn bad_values_are_told_in_the_peers_words_and_order() {
        let all = settings(&[
            ("SYSTEMD_LOG_TARGET", "bogus"),
            ("SYSTEMD_LOG_COLOR", "bogus"),
            ("SYSTEMD_LOG_LOCATION", "bogus"),
            ("SYSTEMD_LOG_TIME", "bogus"),
            ("SYSTEMD_LOG_TID", "bogus"),
        ]);
        let expected = ["target", "color", "location", "time", "tid"]
            .map(|what| format!("Failed to parse log {what} 'bogus', ignoring."));
        assert_eq!(all.complaints, expected);
    }

    #[test]
    fn console_lines_are_bare_and_prefixed_ones_carry_facility_and_priority() {
        assert_eq!(shown(&style(Form::Bare, Colors::Off), Level::Warn, "a\nb"), "a\nb\n");
        assert_eq!(shown(&style(Form::Prefixed, Colors::Off), Level::Error, "a"), "<27>a\n");
        assert_eq!(shown(&style(Form::Prefixed, Colors::Off), Level::Warn, "a"), "<28>a\n");
        assert_eq!(shown(&style(Form::Bare, Colors::Off), Level::Debug, "a"), "");
    }

    #[test]
    fn colors_of_levels_are_the_peers() {
        // Observed with SYSTEMD_COLORS=1.
        let style = style(Form::Bare, Colors::C256);
        assert_eq!(shown(&style, Level::Error, "a"), "\x1b[0;1;31ma\x1b[0m\n");
        assert_eq!(shown(&style, Level::Warn, "a"), "\x1b[0;1;33m\x1b[0;1;38:5:185ma\x1b[0m\n");
        assert_eq!(shown(&style, Level::Info, "a"), "a\n");
    }

    #[test]
    fn location_and_escapes() {
        let style = Style { has_location: true, ..style(Form::Bare, Colors::Off) };
        assert_eq!(shown(&style, Level::Info, "a\x1b[2J"), "src/x.rs:7: a\\x1b[2J\n");
    }

    #[test]
    fn journal_entry_gives_a_length_to_text_of_several_lines() {
        let entry = shown(&style(Form::Journal, Colors::Off), Level::Warn, "ab\nc");
        assert!(entry.contains("PRIORITY=4\n") && entry.contains("CODE_LINE=7\n"));
        assert!(entry.ends_with("MESSAGE\n\x04\0\0\0\0\0\0\0ab\nc\n"));
        let entry = shown(&style(Form::Journal, Colors::Off), Level::Warn, "ab");
        assert!(entry.ends_with("MESSAGE=ab\n"));
    }

    #[test]
    fn notices_pass_where_information_does_not() {
        let style = Style { max: 5, ..style(Form::Bare, Colors::Off) };
        assert_eq!(shown(&style, Level::Info, "a"), "");
        let record = |target| {
            let bytes = style.bytes(
                &Record::builder()
                    .level(Level::Info)
                    .target(target)
                    .args(format_args!("n"))
                    .build(),
            );
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!((record(NOTICE).as_str(), record("slipway::x").as_str()), ("n\n", ""));
    }
}
