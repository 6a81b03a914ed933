//! Shell globs (fnmatch(3) without flags): `*`, `?`, `[…]`, backslash.

/// True where the whole text matches. A `[` that is never closed stands for itself.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star, when what follows it does not fit.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), text.get(t)) {
            (Some('*'), _) => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            (Some(_), Some(letter)) => {
                if let Some(next) = one(&pattern, p, *letter) {
                    p = next;
                    t += 1;
                    continue;
                }
            }
            (None, None) => return true,
            _ => {}
        }
        match retry {
            Some((star, from)) if from < text.len() => {
                retry = Some((star, from + 1));
                p = star;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// The position behind the pattern's element at `p`, if it matches the letter.
fn one(pattern: &[char], p: usize, letter: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => match set(pattern, p + 1, letter) {
            Some((is_in, next)) => is_in.then_some(next),
            None => (letter == '[').then_some(p + 1),
        },
        '\\' => match pattern.get(p + 1) {
            Some(escaped) => (*escaped == letter).then_some(p + 2),
            None => (letter == '\\').then_some(p + 1),
        },
        literal => (*literal == letter).then_some(p + 1),
    }
}

/// A bracket expression whose content begins at `p`: is the letter in, and where does it end?
fn set(pattern: &[char], mut p: usize, letter: char) -> Option<(bool, usize)> {
    let is_negated = matches!(pattern.get(p)?, '!' | '^');
    if is_negated {
        p += 1;
    }
    let first = p;
    let mut is_in = false;
    loop {
        match pattern.get(p)? {
            ']' if p > first => return Some((is_in != is_negated, p + 1)),
            '[' if pattern.get(p + 1) == Some(&':') => {
                let len = pattern.get(p + 2..)?.iter().position(|c| *c == ':')?;
                let name: String = pattern.get(p + 2..p + 2 + len)?.iter().collect();
                if pattern.get(p + 3 + len) != Some(&']') {
                    return None;
                }
                is_in |= class(&name, letter);
                p += 4 + len;
            }
            &low => {
                let (low, next) = member(pattern, p, low)?;
                p = next;
                match (pattern.get(p), pattern.get(p + 1)) {
                    (Some('-'), Some(&high)) if high != ']' => {
                        let (high, next) = member(pattern, p + 1, high)?;
                        is_in |= (low..=high).contains(&letter);
                        p = next;
                    }
                    _ => is_in |= low == letter,
                }
            }
        }
    }
}

fn member(pattern: &[char], p: usize, letter: char) -> Option<(char, usize)> {
    if letter == '\\' { Some((*pattern.get(p + 1)?, p + 2)) } else { Some((letter, p + 1)) }
}

fn class(name: &str, letter: char) -> bool {
    match name {
        "alpha" => letter.is_alphabetic(),
        "digit" => letter.is_ascii_digit(),
        "alnum" => letter.is_alphanumeric(),
        "upper" => letter.is_uppercase(),
        "lower" => letter.is_lowercase(),
        "space" => letter.is_whitespace(),
        "blank" => matches!(letter, ' ' | '\t'),
        "punct" => letter.is_ascii_punctuation(),
        "xdigit" => letter.is_ascii_hexdigit(),
        "cntrl" => letter.is_control(),
        "print" => !letter.is_control(),
        "graph" => !letter.is_control() && !letter.is_whitespace(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_the_c_library() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("a*c", "abcbc"),
            ("a?c", "aüc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[^a]", "b"),
            ("[]]", "]"),
            ("[a-]", "-"),
            ("[[:digit:]]*", "7up"),
            ("\\*", "*"),
            ("[", "["),
            ("[a", "[a"),
            ("*a*b*", "xaybz"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a?c", "ac"),
            ("[!a-c]x", "bx"),
            ("\\*", "x"),
            ("a*b", "abc"),
            ("[[:digit:]]", "x"),
            ("?", ""),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        let text = "a".repeat(2000);
        assert!(!matches(&format!("{}b", "a*".repeat(200)), &text));
    }
}
