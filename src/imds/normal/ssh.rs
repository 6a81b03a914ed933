//! SSH public keys as clouds list them.
//!
//! External spec: sshd(8), AUTHORIZED_KEYS FILE FORMAT; RFC 4253 section 6.6 for the blob. Google's
//! lines are those of its guest agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::crypto::text::unbase64;

/// LIMIT: bytes of one key with its options and comment.
const KEY_MAX: usize = 16 << 10;

/// The keys among these lines, each once, whatever its comment; comments and what is no key are
/// left out.
pub(super) fn keys(lines: Vec<String>) -> Vec<String> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut keys = Vec::new();
    for line in lines {
        let Some(blob) = blob(&line) else {
            if !line.starts_with('#') {
                log::debug!("A line among the SSH keys of the metadata is no key, ignoring.");
            }
            continue;
        };
        if !seen.contains(&blob) {
            seen.push(blob);
            keys.push(line);
        }
    }
    keys
}

/// The binary key: the word after the first word that names a type, if it is of that type.
fn blob(line: &str) -> Option<Vec<u8>> {
    if line.starts_with('#') || line.len() > KEY_MAX || line.chars().any(char::is_control) {
        return None;
    }
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let kind = words.find(|word| {
        ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| word.starts_with(start))
    })?;
    let blob = unbase64(words.next()?.as_bytes())?;
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let name = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    (name == kind.as_bytes()).then_some(blob)
}

/// Google: `user:key`, where a key that ends in `google-ssh {"expireOn":…}` counts until then.
pub(super) fn google(line: &str, now: SystemTime) -> Option<String> {
    let line = line.trim();
    let key = match line.split_once(':') {
        // A line without a user may have colons in its comment.
        Some((user, key)) if !user.contains(' ') => key.trim_start(),
        _ => line,
    };
    // What cannot be read cannot be trusted to be still valid.
    if key.ends_with(" google-ssh") {
        return None;
    }
    if let Some((_, limits)) = key.split_once(" google-ssh ") {
        let limits: Value = serde_json::from_str(limits).ok()?;
        if instant(limits.get("expireOn")?.as_str()?)? <= now {
            return None;
        }
    }
    Some(key.to_owned())
}

/// Scaleway: a tag that carries a key.
pub(super) fn tag(tag: &str) -> Option<String> {
    Some(tag.strip_prefix("AUTHORIZED_KEY=")?.replace('_', " "))
}

/// RFC 3339, also with an offset without colon, as Google writes it.
fn instant(text: &str) -> Option<SystemTime> {
    let number = |at: usize, length: usize| {
        let digits = text.get(at..at + length)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok()).flatten()
    };
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|b| wanted.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let month = u8::try_from(number(5, 2)?).ok()?;
    let day = u8::try_from(number(8, 2)?).ok()?;
    let date = time::Date::from_calendar_date(
        i32::try_from(number(0, 4)?).ok()?,
        time::Month::try_from(month).ok()?,
        day,
    );
    let days = i64::from(date.ok()?.to_julian_day()) - 2_440_588;
    let seconds = number(11, 2)? * 3600 + number(14, 2)? * 60 + number(17, 2)?;
    let rest = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match rest.chars().next()? {
        'Z' | 'z' => 0,
        sign @ ('+' | '-') => {
            let at = text.len() - rest.len() + 1;
            let minutes =
                number(at, 2)? * 60 + number(at + if is(at + 2, b":") { 3 } else { 2 }, 2)?;
            if sign == '+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    let seconds = u64::try_from(days * 86400 + seconds - offset).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM8dwPhJ99X91/Iwr5wPyk+rbT0FMoN4dGXBAVZ11348";

    #[test]
    fn only_keys_pass_and_each_once() {
        let lines = [
            format!("{KEY} one"),
            format!("{KEY} again"),
            format!("no-pty,command=\"echo hi\" {KEY} forced"),
            "# comment".into(),
            "<html>404</html>".into(),
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIM8dwPhJ99X91 wrong type".into(),
            "ssh-ed25519 AAAA".into(),
            "ssh-ed25519 /////w==".into(),
            "ssh-ed25519".into(),
        ];
        assert_eq!(keys(lines.to_vec()), [format!("{KEY} one")]);
        assert_eq!(keys(vec![format!("from=\"10.0.0.0/8\" {KEY}")]).len(), 1);
    }

    #[test]
    fn google_keys_count_until_they_expire() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let line = format!("u:{KEY} google-ssh {{\"expireOn\":\"2001-09-09T03:46:40+0200\"}}");
        assert!(google(&line, at(999_999_999)).is_some_and(|key| key.starts_with(KEY)));
        assert_eq!(google(&line, at(1_000_000_000)), None);
        assert_eq!(google(&format!("u:{KEY} google-ssh {{"), at(0)), None);
        assert_eq!(google(&format!("u:{KEY} google-ssh "), at(0)), None);
        assert_eq!(google(&format!("u:{KEY} x"), at(0)), Some(format!("{KEY} x")));
        assert_eq!(google(&format!("{KEY} a:b"), at(0)), Some(format!("{KEY} a:b")));
    }

    #[test]
    fn instants_are_read_with_any_offset() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2001-09-09T01:46:40+0000", Some(1_000_000_000)),
            ("2001-09-09T01:46:40.123Z", Some(1_000_000_000)),
            ("2001-09-08T20:46:40-05:00", Some(1_000_000_000)),
            ("2001-09-09T01:46:40", None),
            ("2001-13-09T01:46:40Z", None),
            ("2001-02-30T01:46:40Z", None),
            ("2001-09-09", None),
            ("", None),
        ] {
            let expected = seconds.map(|s| UNIX_EPOCH + Duration::from_secs(s));
            assert_eq!(instant(text), expected, "{text}");
        }
    }

    #[test]
    fn tags_have_lines_below_for_blanks() {
        assert_eq!(tag("AUTHORIZED_KEY=ssh-rsa_A_b"), Some("ssh-rsa A b".into()));
        assert_eq!(tag("other"), None);
    }
}
