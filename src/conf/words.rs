//! Values that are lists: words with quotes and escapes.

use super::value::Bad;

/// What a backslash does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// It takes the meaning from the next letter.
    Plain,
    /// It starts one of C's escapes; unknown ones are an error.
    C,
}

/// Splits at blanks. Single and double quotes keep blanks together and may stand anywhere in a
/// word; `""` is an empty word.
///
/// # Errors
/// A quote is not closed, a backslash stands at the end, or an escape is not one.
pub fn split(text: &str, escapes: Escapes) -> Result<Vec<String>, Bad> {
    Words::new(text, escapes).collect()
}

/// The words of [`split`], one by one, so that those before a bad one can be used. Nothing follows
/// an error.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
    escapes: Escapes,
}

impl<'a> Words<'a> {
    /// From the beginning of a text.
    pub fn new(text: &'a str, escapes: Escapes) -> Self {
        Self { rest: text, escapes }
    }
}

const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

impl Iterator for Words<'_> {
    type Item = Result<String, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest).trim_start_matches(BLANK);
        if rest.is_empty() {
            return None;
        }
        Some(take(rest, &BLANK, true, Some(self.escapes)).map(|(word, rest)| {
            self.rest = rest.unwrap_or_default();
            word
        }))
    }
}

/// Parts of a value between separators. Two separators in a row have an empty field between them;
/// an empty text has no fields at all. Nothing follows an error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: Option<&'a str>,
    separator: char,
    has_quotes: bool,
    escapes: Option<Escapes>,
}

impl<'a> Fields<'a> {
    /// Without quotes; backslashes are escapes or nothing special.
    pub fn plain(text: &'a str, separator: char, escapes: Option<Escapes>) -> Self {
        let rest = Some(text).filter(|text| !text.is_empty());
        Self { rest, separator, has_quotes: false, escapes }
    }

    /// With quotes and escapes.
    pub fn quoted(text: &'a str, separator: char, escapes: Escapes) -> Self {
        Self { has_quotes: true, ..Self::plain(text, separator, Some(escapes)) }
    }

    /// What comes behind the fields that were taken; none at the end.
    pub fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<String, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        Some(take(rest, &[self.separator], self.has_quotes, self.escapes).map(|(word, rest)| {
            self.rest = rest;
            word
        }))
    }
}

/// Everything up to a separator, and what is behind it if there is one.
fn take<'a>(
    text: &'a str,
    separators: &[char],
    has_quotes: bool,
    escapes: Option<Escapes>,
) -> Result<(String, Option<&'a str>), Bad> {
    let mut word = Vec::new();
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    let mut rest = None;
    while let Some(letter) = letters.next() {
        match (letter, quote, escapes) {
            ('\\', _, Some(escapes)) => unescape(&mut letters, escapes, &mut word)?,
            (letter, Some(open), _) if letter == open => quote = None,
            (letter, Some(_), _) => push(&mut word, letter),
            ('"' | '\'', None, _) if has_quotes => quote = Some(letter),
            (letter, None, _) if separators.contains(&letter) => {
                rest = Some(letters.as_str());
                break;
            }
            (letter, None, _) => push(&mut word, letter),
        }
    }
    if quote.is_some() {
        return Err(Bad::Invalid);
    }
    Ok((String::from_utf8(word).map_err(|_| Bad::Invalid)?, rest))
}

fn push(word: &mut Vec<u8>, letter: char) {
    word.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

fn unescape(
    letters: &mut std::str::Chars<'_>,
    escapes: Escapes,
    word: &mut Vec<u8>,
) -> Result<(), Bad> {
    let letter = letters.next().ok_or(Bad::Invalid)?;
    if escapes == Escapes::Plain {
        push(word, letter);
        return Ok(());
    }
    let byte = match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        's' => b' ',
        '\\' => b'\\',
        '"' => b'"',
        '\'' => b'\'',
        'x' => u8::try_from(digits(letters, 2, 16)?).map_err(|_| Bad::Invalid)?,
        '0'..='7' => {
            let rest = digits(letters, 2, 8)?;
            let first = letter.to_digit(8).ok_or(Bad::Invalid)?;
            u8::try_from(first * 64 + rest).map_err(|_| Bad::Invalid)?
        }
        'u' | 'U' => {
            let code = digits(letters, if letter == 'u' { 4 } else { 8 }, 16)?;
            let letter = char::from_u32(code).filter(|letter| *letter != '\0');
            push(word, letter.ok_or(Bad::Invalid)?);
            return Ok(());
        }
        _ => return Err(Bad::Invalid),
    };
    if byte == 0 {
        return Err(Bad::Invalid);
    }
    word.push(byte);
    Ok(())
}

fn digits(letters: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Result<u32, Bad> {
    (0..count).try_fold(0u32, |number, _| {
        let digit = letters.next().and_then(|letter| letter.to_digit(radix)).ok_or(Bad::Invalid)?;
        number.checked_mul(radix).and_then(|n| n.checked_add(digit)).ok_or(Bad::Invalid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks_outside_of_quotes() {
        let plain = |text| split(text, Escapes::Plain);
        assert_eq!(plain("a  b\tc ").unwrap(), ["a", "b", "c"]);
        assert_eq!(plain("a\"b c\"d 'e f' \"\"").unwrap(), ["ab cd", "e f", ""]);
        assert_eq!(plain("a\\ b \\x").unwrap(), ["a b", "x"]);
        assert!(plain("").unwrap().is_empty() && plain("  ").unwrap().is_empty());
        for bad in ["\"x", "'", "x\\"] {
            assert_eq!(plain(bad), Err(Bad::Invalid), "{bad}");
        }
    }

    #[test]
    fn c_escapes_are_resolved_and_unknown_ones_refused() {
        let c = |text| split(text, Escapes::C);
        assert_eq!(c("a\\x20b \\u00e4 \\U0001f600 \\101\\t|").unwrap(), ["a b", "ä", "😀", "A\t|"]);
        assert_eq!(c("\\xc3\\xa4").unwrap(), ["ä"]);
        for bad in
            ["\\q", "\\x2", "\\x00", "\\xff", "\\u12", "\\ud800", "\\U00110000", "\\8", "\\400"]
        {
            assert_eq!(c(bad), Err(Bad::Invalid), "{bad}");
        }
    }

    #[test]
    fn words_before_a_bad_one_are_there() {
        let words: Vec<_> = Words::new("/a  b \"c", Escapes::Plain).collect();
        assert_eq!(words, [Ok("/a".to_owned()), Ok("b".to_owned()), Err(Bad::Invalid)]);
    }

    #[test]
    fn fields_may_be_empty_and_know_what_is_behind_them() {
        let all = |text| Fields::plain(text, ':', Some(Escapes::C)).collect::<Vec<_>>();
        let ok = |words: &[&str]| words.iter().map(|w| Ok((*w).to_owned())).collect::<Vec<_>>();
        assert_eq!(all("a:b"), ok(&["a", "b"]));
        assert_eq!(all("a::"), ok(&["a", "", ""]));
        assert_eq!(all(":"), ok(&["", ""]));
        assert_eq!(all(""), ok(&[]));
        assert_eq!(all("\"a b\":c"), ok(&["\"a b\"", "c"]));
        assert_eq!(all("a\\x3ab:c"), ok(&["a:b", "c"]));
        assert_eq!(all("a:b\\:c"), [Ok("a".to_owned()), Err(Bad::Invalid)]);
        let quoted: Vec<_> = Fields::quoted("\"a:b\":c", ':', Escapes::C).collect();
        assert_eq!(quoted, ok(&["a:b", "c"]));
        let mut fields = Fields::plain("a:b:c", ':', None);
        assert_eq!((fields.next(), fields.rest()), (Some(Ok("a".to_owned())), Some("b:c")));
    }
}
