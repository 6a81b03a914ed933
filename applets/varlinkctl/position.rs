//! Where in a JSON text the peer stops reading it.
//!
//! Only for messages, after a text was refused: `serde_json` counts in bytes and from other ends.
//! The peer's reader leaves a word it cannot read unread, and a sign that has no place there too,
//! if it is a comma or colon; any other token is read first and judged then.

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The object that the whole text is.
    Top,
    KeyOrEnd,
    Key,
    Colon,
    Member,
    ItemOrEnd,
    Item,
    /// A comma or the end of what is open.
    More,
    Nothing,
}

/// Line and column, both from 1, in characters.
pub(super) fn of(text: &str) -> (usize, usize) {
    let place = |at: usize| {
        let before = text.get(..at).unwrap_or(text);
        let last = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, last.chars().count() + 1)
    };
    let (mut next, mut open) = (Next::Top, Vec::new());
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        let rest = text.get(at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else { return place(at) };
        let is_behind_value = matches!(next, Next::Colon | Next::More | Next::Nothing);
        let size = match first {
            '}' | ']' => 1,
            ',' | ':' if is_behind_value => 1,
            '{' | '[' if !is_behind_value => 1,
            _ if is_behind_value => return place(at),
            '"' => string(rest),
            _ => word(rest),
        };
        if size == 0 {
            return place(at);
        }
        at += size;
        match follow(next, first, &mut open) {
            Some(after) => next = after,
            None => return place(at),
        }
    }
}

/// What may follow a token; `None` where the token itself may not be there.
fn follow(next: Next, first: char, open: &mut Vec<char>) -> Option<Next> {
    let takes_value = matches!(next, Next::Member | Next::Item | Next::ItemOrEnd);
    Some(match (first, next) {
        ('{', _) if takes_value || next == Next::Top => {
            open.push('}');
            Next::KeyOrEnd
        }
        ('[', _) if takes_value => {
            open.push(']');
            Next::ItemOrEnd
        }
        (',', Next::More) if open.last() == Some(&'}') => Next::Key,
        (',', Next::More) if open.last() == Some(&']') => Next::Item,
        (':', Next::Colon) => Next::Member,
        ('}', Next::KeyOrEnd | Next::More) | (']', Next::ItemOrEnd | Next::More)
            if open.pop_if(|end| *end == first).is_some() =>
        {
            if open.is_empty() {
                Next::Nothing
            } else {
                Next::More
            }
        }
        ('{' | '}' | '[' | ']' | ',' | ':', _) => return None,
        ('"', Next::Key | Next::KeyOrEnd) => Next::Colon,
        _ if takes_value => Next::More,
        _ => return None,
    })
}

/// The length of the string at the beginning; 0 where it is none.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => {
                let whole = text.get(..=at).unwrap_or_default();
                return serde_json::from_str::<String>(whole).map_or(0, |_| whole.len());
            }
            _ => {}
        }
    }
    0
}

/// The length of the number or constant at the beginning; 0 where it is none.
fn word(text: &str) -> usize {
    if let Some(constant) = ["true", "false", "null"].iter().find(|word| text.starts_with(**word)) {
        return constant.len();
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut size = usize::from(text.starts_with('-'));
    let tail = |size: usize| text.get(size..).unwrap_or_default();
    size += match digits(tail(size)) {
        0 => return 0,
        _ if tail(size).starts_with('0') => 1,
        count => count,
    };
    if tail(size).starts_with('.') {
        size += match digits(tail(size + 1)) {
            0 => return 0,
            count => 1 + count,
        };
    }
    if tail(size).starts_with(['e', 'E']) {
        let sign = usize::from(tail(size + 1).starts_with(['+', '-']));
        size += match digits(tail(size + 1 + sign)) {
            0 => return 0,
            count => 1 + sign + count,
        };
    }
    size
}

#[cfg(test)]
mod tests {
    /// Positions printed by varlinkctl of systemd 262.1.
    #[test]
    fn errors_are_where_the_peer_sees_them() {
        for (text, column) in [
            ("{\"a\" 1}", 6),
            ("{\"a\":1 \"b\"}", 8),
            ("{\"a\":tru}", 6),
            ("{\"a\":1.}", 6),
            ("{\"a\":\"\\x\"}", 6),
            ("{a}", 2),
            ("{,}", 2),
            ("{\"a\":1,}", 9),
            ("[1]", 2),
            ("null", 5),
            ("tru", 1),
            ("}", 2),
            ("{}}", 4),
            ("{} x", 4),
            ("{\"a\":\"", 6),
            ("{\"a\":01}", 7),
            ("{\"a\":-}", 6),
            ("\"", 1),
            ("{\"a\":1e}", 6),
            ("{\"é\":x}", 6),
            ("{\"a\":\t\"b", 7),
            ("{\"a\":[1,}", 10),
            ("{\"a\":[1 2]}", 9),
            ("{\"a\":", 6),
        ] {
            assert_eq!(super::of(text), (1, column), "{text}");
        }
        assert_eq!(super::of("{\"interface\":\n \"x\", y}"), (2, 7));
        assert_eq!(super::of("\n"), (2, 1));
        assert_eq!(super::of(""), (1, 1));
    }
}
