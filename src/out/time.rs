//! Points in time as the peer writes them: `Sun 2020-09-13 14:26:40 CEST`.
//!
//! A static program has no C library to ask for the local time, so the zone is read here: `$TZ`,
//! which names a file or holds a rule of POSIX, else `/etc/localtime`; files as in RFC 9636.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use time::{Date, Month, OffsetDateTime, Weekday};

use crate::ctx::Ctx;

/// LIMIT: bytes of a zone file; real ones have a few thousand.
const BYTES_MAX: usize = 1 << 20;
const DAY: i64 = 86_400;

/// A time zone. Cheap to make and to clone: what it holds is read when first asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone(Option<Arc<Source>>);

#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// `$TZ`.
    name: Option<String>,
    /// Where named zones are.
    dir: PathBuf,
    rules: OnceLock<Option<Rules>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    /// Seconds since the epoch and the time that begins then, sorted.
    changes: Vec<(i64, Local)>,
    /// Before the first change.
    first: Local,
    /// Behind the last change.
    rule: Option<Posix>,
}

/// Seconds east of Greenwich, and what that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Local {
    offset: i64,
    name: String,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(None);

    /// The zone of the user: `$TZ`, else the machine's; UTC where neither can be read.
    pub fn load(ctx: &Ctx) -> Self {
        let name = ctx.env("TZ").map(|text| text.strip_prefix(':').unwrap_or(text).to_owned());
        let dir = PathBuf::from(ctx.env("TZDIR").unwrap_or("/usr/share/zoneinfo"));
        Self(Some(Arc::new(Source { name, dir, rules: OnceLock::new() })))
    }

    /// Microseconds since the epoch as date and time. `n/a` for 0 and for times that no calendar
    /// holds.
    pub fn timestamp(&self, usec: u64) -> String {
        let seconds = i64::try_from(usec / 1_000_000).unwrap_or(i64::MAX);
        let utc = Local { offset: 0, name: "UTC".to_owned() };
        let rules = self.0.as_ref().and_then(|source| source.rules());
        let local = rules.map_or(utc, |rules| rules.at(seconds));
        match OffsetDateTime::from_unix_timestamp(seconds.saturating_add(local.offset)) {
            Ok(at) if usec > 0 => format!("{} {}", calendar(at), local.name),
            _ => "n/a".to_owned(),
        }
    }
}

fn calendar(at: OffsetDateTime) -> String {
    let day = match at.weekday() {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    };
    format!(
        "{day} {:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

impl Source {
    fn rules(&self) -> Option<&Rules> {
        let read = || match &self.name {
            Some(name) => Rules::named(&self.dir, name),
            None => Rules::read(Path::new("/etc/localtime")),
        };
        self.rules.get_or_init(read).as_ref()
    }
}

impl Rules {
    fn named(dir: &Path, name: &str) -> Option<Self> {
        let path = if name.starts_with('/') { PathBuf::from(name) } else { dir.join(name) };
        let is_inside = !name.is_empty() && !name.split('/').any(|part| part == "..");
        let from_file = if is_inside { Self::read(&path) } else { None };
        from_file.or_else(|| {
            let rule = Posix::parse(name)?;
            Some(Self { changes: Vec::new(), first: rule.standard.clone(), rule: Some(rule) })
        })
    }

    fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        if bytes.len() > BYTES_MAX { None } else { Self::parse(&bytes) }
    }

    /// A zone file. The first block is for readers of old, which only know 32 bits.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let head = Head::parse(bytes)?;
        if head.version == 0 {
            return head.body(bytes, 4, None);
        }
        let rest = bytes.get(head.len(4)?..)?;
        let head = Head::parse(rest)?;
        let footer = rest.get(head.len(8)?..).and_then(|footer| {
            let line = footer.strip_prefix(b"\n")?.split(|byte| *byte == b'\n').next()?;
            Posix::parse(std::str::from_utf8(line).ok()?)
        });
        head.body(rest, 8, footer)
    }

    fn at(&self, seconds: i64) -> Local {
        let passed = self.changes.partition_point(|(begin, _)| *begin <= seconds);
        match (&self.rule, passed.checked_sub(1).and_then(|last| self.changes.get(last))) {
            (Some(rule), _) if passed == self.changes.len() => rule.at(seconds).clone(),
            (_, Some((_, local))) => local.clone(),
            _ => self.first.clone(),
        }
    }
}

/// Header of a block of a zone file: 44 bytes.
struct Head {
    version: u8,
    ut: usize,
    standard: usize,
    leap: usize,
    times: usize,
    types: usize,
    letters: usize,
}

impl Head {
    const BYTES: usize = 44;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..Self::BYTES)?.strip_prefix(b"TZif")?;
        let count = |index: usize| -> Option<usize> {
            let at = 16 + index * 4;
            let field: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(field)).ok().filter(|count| *count <= BYTES_MAX)
        };
        Some(Self {
            version: *head.first()?,
            ut: count(0)?,
            standard: count(1)?,
            leap: count(2)?,
            times: count(3)?,
            types: count(4)?,
            letters: count(5)?,
        })
    }

    /// Bytes of header and block, where times have so many bytes.
    fn len(&self, width: usize) -> Option<usize> {
        let data = self.times * (width + 1) + self.types * 6 + self.letters;
        Some(Self::BYTES + data + self.leap * (width + 4) + self.standard + self.ut)
    }

    fn body(&self, bytes: &[u8], width: usize, rule: Option<Posix>) -> Option<Rules> {
        let bytes = bytes.get(Self::BYTES..)?;
        let (times, bytes) = bytes.split_at_checked(self.times * width)?;
        let (kinds, bytes) = bytes.split_at_checked(self.times)?;
        let (types, bytes) = bytes.split_at_checked(self.types * 6)?;
        let letters = bytes.get(..self.letters)?;
        let locals: Vec<Local> = types
            .as_chunks::<6>()
            .0
            .iter()
            .map(|&[a, b, c, d, _, name]| {
                let name = letters.get(usize::from(name)..)?.split(|byte| *byte == 0).next()?;
                Some(Local {
                    offset: i32::from_be_bytes([a, b, c, d]).into(),
                    name: String::from_utf8_lossy(name).into_owned(),
                })
            })
            .collect::<Option<_>>()?;
        let changes = times
            .chunks_exact(width)
            .zip(kinds)
            .map(|(time, kind)| {
                let begin = match *time {
                    [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).into(),
                    _ => i64::from_be_bytes(time.try_into().ok()?),
                };
                Some((begin, locals.get(usize::from(*kind))?.clone()))
            })
            .collect::<Option<_>>()?;
        Some(Rules { changes, first: locals.first()?.clone(), rule })
    }
}

/// A rule of POSIX: `CET-1CEST,M3.5.0,M10.5.0/3`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Posix {
    standard: Local,
    summer: Option<Summer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Summer {
    local: Local,
    begin: Turn,
    end: Turn,
}

/// A moment of every year, in the time that ends then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    day: Day,
    seconds: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// `Jn`: day 1 to 365, February 29 is never counted.
    Julian(u16),
    /// `n`: day 0 to 365.
    Count(u16),
    /// `Mm.w.d`: the w-th (5: last) day d (0: Sunday) of month m.
    Week(u8, u8, u8),
}

impl Posix {
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = zone_name(text)?;
        // Without an offset a word is the name of UTC, as in the C library.
        if rest.is_empty() {
            return Some(Self { standard: Local { offset: 0, name }, summer: None });
        }
        let (west, rest) = clock(rest)?;
        let standard = Local { offset: -west, name };
        if rest.is_empty() {
            return Some(Self { standard, summer: None });
        }
        let (name, rest) = zone_name(rest)?;
        let (offset, rest) = match rest.chars().next() {
            Some(',') | None => (standard.offset + 3_600, rest),
            Some(_) => clock(rest).map(|(west, rest)| (-west, rest))?,
        };
        let rest = if rest.is_empty() { ",M3.2.0,M11.1.0" } else { rest };
        let (begin, rest) = Turn::parse(rest.strip_prefix(',')?)?;
        let (end, rest) = Turn::parse(rest.strip_prefix(',')?)?;
        let summer = Some(Summer { local: Local { offset, name }, begin, end });
        rest.is_empty().then_some(Self { standard, summer })
    }

    fn at(&self, seconds: i64) -> &Local {
        let Some(summer) = &self.summer else { return &self.standard };
        let winter = self.standard.offset;
        let Ok(date) = OffsetDateTime::from_unix_timestamp(seconds.saturating_add(winter)) else {
            return &self.standard;
        };
        let begin = summer.begin.in_year(date.year()).map(|at| at - winter);
        let end = summer.end.in_year(date.year()).map(|at| at - summer.local.offset);
        let (Some(begin), Some(end)) = (begin, end) else { return &self.standard };
        let is_summer = if begin < end {
            (begin..end).contains(&seconds)
        } else {
            !(end..begin).contains(&seconds)
        };
        if is_summer { &summer.local } else { &self.standard }
    }
}

/// Letters, or anything between angle brackets.
fn zone_name(text: &str) -> Option<(String, &str)> {
    let (name, rest) = match text.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?,
        None => {
            let is_end = |letter: char| !letter.is_ascii_alphabetic();
            text.split_at(text.find(is_end).unwrap_or(text.len()))
        }
    };
    (name.len() >= 3).then(|| (name.to_owned(), rest))
}

fn number(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    if digits.len() > 4 { None } else { Some((digits.parse().ok()?, rest)) }
}

/// `[+-]hh[:mm[:ss]]` in seconds.
fn clock(text: &str) -> Option<(i64, &str)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, mut rest) = number(text)?;
    let mut seconds = hours * 3_600;
    for unit in [60, 1] {
        if let Some(text) = rest.strip_prefix(':') {
            let (part, tail) = number(text)?;
            seconds += part * unit;
            rest = tail;
        }
    }
    Some((sign * seconds, rest))
}

impl Turn {
    fn parse(text: &str) -> Option<(Self, &str)> {
        let small = |value: i64| u8::try_from(value).ok();
        let (day, rest) = if let Some(text) = text.strip_prefix('M') {
            let (month, rest) = number(text)?;
            let (week, rest) = number(rest.strip_prefix('.')?)?;
            let (day, rest) = number(rest.strip_prefix('.')?)?;
            let is_valid = (1..=12).contains(&month) && (1..=5).contains(&week) && day <= 6;
            (Day::Week(small(month)?, small(week)?, small(day)?), is_valid.then_some(rest)?)
        } else if let Some(text) = text.strip_prefix('J') {
            let (day, rest) = number(text)?;
            (Day::Julian(u16::try_from(day).ok().filter(|day| (1..=365).contains(day))?), rest)
        } else {
            let (day, rest) = number(text)?;
            (Day::Count(u16::try_from(day).ok().filter(|day| *day <= 365)?), rest)
        };
        let (seconds, rest) = match rest.strip_prefix('/') {
            Some(text) => clock(text)?,
            None => (7_200, rest),
        };
        Some((Self { day, seconds }, rest))
    }

    /// Seconds since the epoch, as if the local time were UTC.
    fn in_year(self, year: i32) -> Option<i64> {
        let first = Date::from_ordinal_date(year, 1).ok()?;
        let days = match self.day {
            Day::Count(day) => i64::from(day),
            Day::Julian(day) => {
                let is_leap = time::util::is_leap_year(year);
                i64::from(day) - if is_leap && day >= 60 { 0 } else { 1 }
            }
            Day::Week(month, week, weekday) => {
                let month = Month::try_from(month).ok()?;
                let begin = Date::from_calendar_date(year, month, 1).ok()?;
                let ahead = (weekday + 7 - begin.weekday().number_days_from_sunday()) % 7;
                let mut day = 1 + ahead + (week - 1) * 7;
                while day > month.length(year) {
                    day -= 7;
                }
                i64::from(begin.ordinal()) - 1 + i64::from(day) - 1
            }
        };
        let epoch = OffsetDateTime::UNIX_EPOCH.date();
        Some((i64::from(first.to_julian_day() - epoch.to_julian_day()) + days) * DAY + self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed with `TZ=… systemd-analyze timestamp` and `systemd-sysupdate list`, 262.1.
    const SEPTEMBER: u64 = 1_600_000_000_000_000;

    fn zone(name: &str) -> Zone {
        Zone::load(&Ctx::host([]).with_env("TZ", name))
    }

    #[test]
    fn time_is_written_with_weekday_and_zone() {
        assert_eq!(Zone::UTC.timestamp(SEPTEMBER), "Sun 2020-09-13 12:26:40 UTC");
        assert_eq!(Zone::UTC.timestamp(0), "n/a");
        assert_eq!(Zone::UTC.timestamp(u64::MAX), "n/a");
    }

    #[test]
    fn rules_of_posix_are_followed() {
        assert_eq!(zone("XYZ-3:30").timestamp(SEPTEMBER), "Sun 2020-09-13 15:56:40 XYZ");
        assert_eq!(zone("bogus").timestamp(SEPTEMBER), "Sun 2020-09-13 12:26:40 bogus");
        let berlin = zone("CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(berlin.timestamp(SEPTEMBER), "Sun 2020-09-13 14:26:40 CEST");
        // The last second of summer 2020 and the first of winter.
        assert_eq!(berlin.timestamp(1_603_587_599_000_000), "Sun 2020-10-25 02:59:59 CEST");
        assert_eq!(berlin.timestamp(1_603_587_600_000_000), "Sun 2020-10-25 02:00:00 CET");
        let sydney = zone("AEST-10AEDT,M10.1.0,M4.1.0/3");
        assert_eq!(sydney.timestamp(1_577_836_800_000_000), "Wed 2020-01-01 11:00:00 AEDT");
        assert_eq!(sydney.timestamp(SEPTEMBER), "Sun 2020-09-13 22:26:40 AEST");
        assert_eq!(zone("<+0330>-3:30").timestamp(SEPTEMBER), "Sun 2020-09-13 15:56:40 +0330");
        assert_eq!(zone("EST5EDT").timestamp(SEPTEMBER), "Sun 2020-09-13 08:26:40 EDT");
        assert_eq!(zone("").timestamp(SEPTEMBER), "Sun 2020-09-13 12:26:40 UTC");
    }

    /// A zone with one change and a rule behind it, written by hand after RFC 9636.
    fn file() -> Vec<u8> {
        let block = |width: usize| {
            let mut block = b"TZif2".to_vec();
            block.extend([0; 15]);
            for count in [0u32, 0, 0, 1, 2, 8] {
                block.extend(count.to_be_bytes());
            }
            let begin = 1_000_000_000i64.to_be_bytes();
            block.extend(&begin[8 - width..]);
            block.push(1);
            block.extend(3_600i32.to_be_bytes());
            block.extend([0, 0]);
            block.extend(7_200i32.to_be_bytes());
            block.extend([0, 4]);
            block.extend(b"OLD\0NEW\0");
            block
        };
        let mut file = block(4);
        file.extend(block(8));
        file.extend(b"\nRUL-3\n");
        file
    }

    #[test]
    fn zone_files_are_read_with_their_last_rule() {
        let zone = |bytes: &[u8]| {
            let rules = OnceLock::from(Rules::parse(bytes));
            assert!(rules.get().unwrap().is_some());
            Zone(Some(Arc::new(Source { name: None, dir: PathBuf::new(), rules })))
        };
        let full = zone(&file());
        assert_eq!(full.timestamp(999_999_999_000_000), "Sun 2001-09-09 02:46:39 OLD");
        assert_eq!(full.timestamp(SEPTEMBER), "Sun 2020-09-13 15:26:40 RUL");
        let bare = zone(file().strip_suffix(b"\nRUL-3\n").unwrap());
        assert_eq!(bare.timestamp(SEPTEMBER), "Sun 2020-09-13 14:26:40 NEW");
    }

    #[test]
    fn broken_zone_files_are_refused_or_survived() {
        let file = file();
        for end in 0..file.len() {
            let _ = Rules::parse(&file[..end]);
        }
        assert!(Rules::parse(&file[..100]).is_none());
        for at in 20..44 {
            let mut bad = file.clone();
            bad[at] = 0xff;
            let _ = Rules::parse(&bad);
        }
        for text in
            ["", "a", "<", "<a>", "ABC", "ABC1DEF,", "ABC1DEF,M1", "ABC1DEF,M13.1.0,J1", "ABC99999"]
        {
            let _ = Posix::parse(text);
        }
    }

    #[test]
    fn directory_of_zones_can_be_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("Area")).unwrap();
        std::fs::write(dir.path().join("Area/City"), file()).unwrap();
        let ctx = Ctx::host([]).with_env("TZDIR", dir.path());
        let zone = Zone::load(&ctx.clone().with_env("TZ", ":Area/City"));
        assert_eq!(zone.timestamp(SEPTEMBER), "Sun 2020-09-13 15:26:40 RUL");
        let outside = Zone::load(&ctx.with_env("TZ", "../Area/City"));
        assert_eq!(outside.timestamp(SEPTEMBER), "Sun 2020-09-13 12:26:40 UTC");
    }
}
