//! Shell globs (fnmatch(3) without flags): `*`, `?`, `[…]`, backslash.

use std::str::Chars;

/// True where the whole text matches. A `[` that is never closed stands for itself.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on after the last star, when what follows it does not fit.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut behind, mut rest) = (pattern.clone(), text.clone());
        match (behind.next(), rest.next()) {
            (Some('*'), _) => {
                retry = Some((behind.clone(), text.clone()));
                pattern = behind;
                continue;
            }
            (Some(element), Some(letter)) => {
                if let Some(next) = one(element, behind, letter) {
                    (pattern, text) = (next, rest);
                    continue;
                }
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((star, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (pattern, text) = (star.clone(), from.clone());
    }
}

/// What is behind the element that begins with `first` and goes on with `behind`, if it matches
/// the letter.
fn one(first: char, mut behind: Chars<'_>, letter: char) -> Option<Chars<'_>> {
    let is_match = match first {
        '?' => true,
        '[' => match set(behind.clone(), letter) {
            Some((is_in, next)) => return is_in.then_some(next),
            None => letter == '[',
        },
        '\\' => behind.next().unwrap_or('\\') == letter,
        literal => literal == letter,
    };
    is_match.then_some(behind)
}

/// A bracket expression whose content is at `p`: is the letter in, and what is behind it?
fn set(mut p: Chars<'_>, letter: char) -> Option<(bool, Chars<'_>)> {
    let is_negated = p.as_str().starts_with(['!', '^']);
    if is_negated {
        p.next();
    }
    let mut is_first = true;
    let mut is_in = false;
    loop {
        if let Some(rest) = p.as_str().strip_prefix("[:") {
            let (name, rest) = rest.split_once(':')?;
            p = rest.strip_prefix(']')?.chars();
            is_in |= class(name, letter);
        } else {
            let low = p.next()?;
            if low == ']' && !is_first {
                return Some((is_in != is_negated, p));
            }
            let low = member(&mut p, low)?;
            let mut range = p.clone();
            let high = (range.next() == Some('-')).then(|| range.next()).flatten();
            if let Some(high) = high.filter(|high| *high != ']') {
                p = range;
                is_in |= (low..=member(&mut p, high)?).contains(&letter);
            } else {
                is_in |= low == letter;
            }
        }
        is_first = false;
    }
}

/// The letter itself, or the one behind a backslash.
fn member(p: &mut Chars<'_>, letter: char) -> Option<char> {
    if letter == '\\' { p.next() } else { Some(letter) }
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
