//! How far a long job is.
//!
//! Whoever moves bytes calls [`Progress::advance`] from any thread and as often as it likes: it
//! is an addition and, a few times a second, a redraw. Who draws, and where, is not its business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Facts, Out, Stderr, escape, human};
use crate::ctx::Ctx;

/// Told about a job by those who do it.
pub trait Progress: Send + Sync {
    /// A phase begins; an earlier one is over. `total` is its length in bytes, where known.
    fn phase(&self, name: &str, total: Option<u64>);
    /// So many more bytes of the phase are done.
    fn advance(&self, bytes: u64);
    /// The job is over.
    fn finish(&self);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

/// Tells several.
pub struct All(pub Vec<Arc<dyn Progress>>);

impl Progress for All {
    fn phase(&self, name: &str, total: Option<u64>) {
        self.0.iter().for_each(|one| one.phase(name, total));
    }

    fn advance(&self, bytes: u64) {
        self.0.iter().for_each(|one| one.advance(bytes));
    }

    fn finish(&self) {
        self.0.iter().for_each(|one| one.finish());
    }
}

/// The right one for the streams: a line that is redrawn on a terminal, else one line per phase.
pub fn for_out(ctx: &Ctx, out: &Out) -> Arc<dyn Progress> {
    let facts = out.facts();
    if facts.is_stderr_tty && !facts.is_dumb {
        Arc::new(Terminal::new(ctx, out.stderr(), facts))
    } else {
        Arc::new(Lines::new(ctx))
    }
}

const REDRAW: Duration = Duration::from_millis(100);

/// The phase that is running.
struct Phase {
    name: String,
    total: Option<u64>,
    began: SystemTime,
}

/// One line on standard error, drawn over again: bar, bytes, speed, time left. The terminal's own
/// progress display (OSC 9;4) follows along.
pub struct Terminal {
    ctx: Ctx,
    stderr: Arc<Stderr>,
    columns: usize,
    is_utf8: bool,
    done: AtomicU64,
    /// Microseconds since the epoch before which nothing is drawn.
    next: AtomicU64,
    phase: Mutex<Option<Phase>>,
}

impl Terminal {
    /// Draws on this stream.
    pub fn new(ctx: &Ctx, stderr: Arc<Stderr>, facts: &Facts) -> Self {
        Self {
            ctx: ctx.clone(),
            stderr,
            columns: facts.columns,
            is_utf8: facts.is_utf8,
            done: AtomicU64::new(0),
            next: AtomicU64::new(0),
            phase: Mutex::new(None),
        }
    }

    fn draw(&self) {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(phase) = phase.as_ref() {
            let now = self.ctx.now();
            self.next.store(usec(now) + usec_of(REDRAW), Ordering::Relaxed);
            let done = self.done.load(Ordering::Relaxed);
            let elapsed = now.duration_since(phase.began).unwrap_or_default();
            let percent = percent(done, phase.total);
            // One column stays free: some terminals wrap when the last one is written.
            let line = line(phase, done, elapsed, self.columns.saturating_sub(1), self.is_utf8);
            let osc = match percent {
                Some(percent) => format!("\x1b]9;4;1;{percent}\x1b\\"),
                None => "\x1b]9;4;3;0\x1b\\".to_owned(),
            };
            self.stderr.status(&line, &osc);
        }
    }
}

impl Progress for Terminal {
    fn phase(&self, name: &str, total: Option<u64>) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.done.store(0, Ordering::Relaxed);
        *phase =
            Some(Phase { name: escape::line(name).into_owned(), total, began: self.ctx.now() });
        drop(phase);
        self.draw();
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if usec(self.ctx.now()) >= self.next.load(Ordering::Relaxed) {
            self.draw();
        }
    }

    fn finish(&self) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if phase.take().is_some() {
            self.stderr.status("", "\x1b]9;4;0;\x1b\\");
        }
    }
}

impl Drop for Terminal {
    /// However the job ended, the terminal is left clean.
    fn drop(&mut self) {
        self.finish();
    }
}

/// One log line at the end of each phase that moved bytes.
pub struct Lines {
    ctx: Ctx,
    done: AtomicU64,
    phase: Mutex<Option<Phase>>,
}

impl Lines {
    /// Takes the time from `ctx`.
    pub fn new(ctx: &Ctx) -> Self {
        Self { ctx: ctx.clone(), done: AtomicU64::new(0), phase: Mutex::new(None) }
    }

    fn close(&self, phase: Option<Phase>) {
        let done = self.done.swap(0, Ordering::Relaxed);
        if let Some(phase) = phase
            && done > 0
        {
            let elapsed = self.ctx.now().duration_since(phase.began).unwrap_or_default();
            log::info!("{}", summary(&phase.name, done, elapsed));
        }
    }
}

impl Progress for Lines {
    fn phase(&self, name: &str, total: Option<u64>) {
        let next = Phase { name: name.to_owned(), total, began: self.ctx.now() };
        let before = self.phase.lock().unwrap_or_else(PoisonError::into_inner).replace(next);
        self.close(before);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finish(&self) {
        let before = self.phase.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.close(before);
    }
}

fn summary(name: &str, done: u64, elapsed: Duration) -> String {
    let mut text =
        format!("{name}: {} in {}", human::bytes(done), human::timespan(usec_of(elapsed), 100_000));
    if let Some(speed) = speed(done, elapsed) {
        text.push_str(&format!(", {}/s", human::bytes(speed)));
    }
    text
}

/// Bytes per second; none before half a second has passed, when it would be a guess.
fn speed(done: u64, elapsed: Duration) -> Option<u64> {
    let micros = elapsed.as_micros();
    if micros < 500_000 {
        return None;
    }
    u64::try_from(u128::from(done) * 1_000_000 / micros).ok()
}

fn percent(done: u64, total: Option<u64>) -> Option<u64> {
    let total = total.filter(|total| *total > 0)?;
    u64::try_from(u128::from(done.min(total)) * 100 / u128::from(total)).ok()
}

/// `name [=====>    ]  42% 120.0M/512.0M 35.2M/s 11s left`, as much of it as fits.
fn line(phase: &Phase, done: u64, elapsed: Duration, columns: usize, is_utf8: bool) -> String {
    let speed = speed(done, elapsed);
    let mut facts = String::new();
    if let Some(percent) = percent(done, phase.total) {
        facts.push_str(&format!(" {percent:>3}%"));
    }
    facts.push_str(&format!(" {}", human::bytes(done)));
    if let Some(total) = phase.total {
        facts.push_str(&format!("/{}", human::bytes(total)));
    }
    if let Some(speed) = speed {
        facts.push_str(&format!(" {}/s", human::bytes(speed)));
        if let Some(left) =
            phase.total.and_then(|total| total.saturating_sub(done).checked_div(speed))
            && left > 0
        {
            let text = human::timespan(left.saturating_mul(1_000_000), 1_000_000);
            facts.push_str(&format!(" {text} left"));
        }
    }
    let mark = super::Glyph::Ellipsis.text(is_utf8);
    // The name may take half of the line, the bar what is left.
    let room = columns.saturating_sub(facts.len());
    let name = escape::ellipsize(&phase.name, room.min(columns / 2), mark);
    let room = room.saturating_sub(escape::width(&name) + 3).min(40);
    let bar = match percent(done, phase.total) {
        Some(percent) if room >= 8 => {
            let full = room * usize::try_from(percent).unwrap_or(0) / 100;
            let (on, off) = if is_utf8 { ("█", "░") } else { ("#", "-") };
            format!(" [{}{}]", on.repeat(full), off.repeat(room - full))
        }
        _ => String::new(),
    };
    escape::ellipsize(&format!("{name}{bar}{facts}"), columns, mark).into_owned()
}

fn usec(time: SystemTime) -> u64 {
    usec_of(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn usec_of(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Clock;

    /// Time stands still until it is moved.
    struct Stopped(Mutex<SystemTime>);

    impl Clock for Stopped {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    fn stopped() -> Ctx {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        Ctx::host([]).with_clock(Arc::new(Stopped(Mutex::new(at))))
    }

    fn facts(columns: usize) -> Facts {
        Facts { is_stderr_tty: true, columns, ..Facts::default() }
    }

    #[test]
    fn line_shows_bar_bytes_speed_and_time_left() {
        let ctx = stopped();
        let (out, captured) = Out::captured(facts(81));
        let terminal = Terminal::new(&ctx, out.stderr(), out.facts());
        terminal.phase("root_2.img", Some(100 << 20));
        ctx.sleep(Duration::from_secs(2));
        terminal.advance(50 << 20);
        let drawn = captured.stderr();
        let last = drawn.rsplit("\r\x1b[K").next().unwrap();
        assert_eq!(
            last,
            "root_2.img [################-----------------]  50% 50.0M/100.0M 25.0M/s 2s left\
             \x1b]9;4;1;50\x1b\\"
        );
    }

    #[test]
    fn bytes_are_counted_always_but_drawn_ten_times_a_second() {
        let ctx = stopped();
        let (out, captured) = Out::captured(facts(80));
        let terminal = Terminal::new(&ctx, out.stderr(), out.facts());
        terminal.phase("x", Some(1_000_000));
        for _ in 0..1_000 {
            terminal.advance(500);
        }
        assert_eq!(captured.stderr().matches('\r').count(), 1);
        ctx.sleep(Duration::from_millis(100));
        terminal.advance(0);
        assert!(captured.stderr().contains(" 50% "));
        assert_eq!(captured.stderr().matches('\r').count(), 2);
    }

    #[test]
    fn terminal_is_left_clean_even_when_nobody_says_finish() {
        let ctx = stopped();
        let (out, captured) = Out::captured(facts(80));
        let terminal = Terminal::new(&ctx, out.stderr(), out.facts());
        terminal.phase("x", None);
        drop(terminal);
        assert!(captured.stderr().ends_with("\r\x1b[K\x1b]9;4;0;\x1b\\"));
    }

    #[test]
    fn line_never_exceeds_the_terminal() {
        for columns in 0..120 {
            let phase = Phase {
                name: "a quite long name of a file on a server.raw.xz".into(),
                total: Some(u64::MAX),
                began: SystemTime::UNIX_EPOCH,
            };
            let text = line(&phase, u64::MAX / 3, Duration::from_secs(1), columns, true);
            assert!(escape::width(&text) <= columns, "{columns}: {text}");
        }
    }

    #[test]
    fn phase_without_terminal_is_summed_up_in_one_line() {
        assert_eq!(
            summary("root", 512 << 20, Duration::from_secs(3)),
            "root: 512.0M in 3s, 170.6M/s"
        );
        assert_eq!(summary("root", 12, Duration::from_millis(1)), "root: 12B in 1ms");
    }

    #[test]
    fn more_bytes_than_announced_stay_at_hundred_percent() {
        assert_eq!(percent(200, Some(100)), Some(100));
        assert_eq!(percent(1, Some(0)), None);
    }
}
