//! Points in time as the peer writes them: `Sun 2020-09-13 12:26:40 UTC`.

use time::{OffsetDateTime, Weekday};

/// Microseconds since the epoch as a date and time of UTC. `n/a` for 0 and for times that no
/// calendar holds.
pub fn timestamp(usec: u64) -> String {
    let seconds = i64::try_from(usec / 1_000_000).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) if usec > 0 => format!("{} UTC", calendar(at)),
        _ => "n/a".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_with_weekday_and_zone() {
        assert_eq!(timestamp(1_600_000_000_000_000), "Sun 2020-09-13 12:26:40 UTC");
        assert_eq!(timestamp(0), "n/a");
        assert_eq!(timestamp(u64::MAX), "n/a");
    }
}
