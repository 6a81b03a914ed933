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
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => unescape(&mut letters, escapes, word.get_or_insert_default())?,
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => push(word.get_or_insert_default(), letter),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
            (letter, None) => push(word.get_or_insert_default(), letter),
        }
    }
    if quote.is_some() {
        return Err(Bad::Invalid);
    }
    words.extend(word);
    words.into_iter().map(|word| String::from_utf8(word).map_err(|_| Bad::Invalid)).collect()
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
}
