//! Which names an interface, a symbol and a field may have.

/// Labels of letters, digits and inner `-`, joined by dots; begins with a letter.
///
/// COMPAT(262): one label is enough, although UAPI.20 wants two.
pub fn is_interface_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.split('.').all(|label| {
            label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && label.starts_with(|c: char| c.is_ascii_alphanumeric())
                && label.ends_with(|c: char| c.is_ascii_alphanumeric())
        })
}

/// Letters and digits, the first one a capital: names of types, methods and errors.
pub fn is_symbol_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Letters, digits and single inner underscores, begins with a letter.
pub fn is_field_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.ends_with('_')
        && !name.contains("__")
}

/// Splits `io.example.Do` into interface and symbol, if both names are right.
pub fn split_method(qualified: &str) -> Option<(&str, &str)> {
    let (interface, symbol) = qualified.rsplit_once('.')?;
    (is_interface_name(interface) && is_symbol_name(symbol)).then_some((interface, symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a.b", "x", "X.y", "x.9z", "x-y.z", "org.varlink.service"] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "9a.b", "a.b-", "a.-b", "a_b.c", "é.b"] {
            assert!(!is_interface_name(bad), "{bad}");
        }
        for bad in ["", "_a", "a_", "a__b", "9a", "a-b", "é"] {
            assert!(!is_field_name(bad), "{bad}");
        }
        assert!(is_field_name("A") && is_field_name("a_b9"));
        assert!(is_symbol_name("T9") && !is_symbol_name("t") && !is_symbol_name("T_"));
    }

    #[test]
    fn a_method_name_needs_interface_and_symbol() {
        assert_eq!(split_method("a.b.C"), Some(("a.b", "C")));
        for bad in ["", "nope", "a.b", ".C", "a..C", "a.b.C.", "a.b.c"] {
            assert_eq!(split_method(bad), None, "{bad}");
        }
    }
}
