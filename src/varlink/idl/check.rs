//! Does a call carry what its description asks for?
//!
//! The order of the checks is the peer's, because the name in `InvalidParameter` is part of the
//! contract: first every field of the description in its order (missing or of a wrong type), then
//! fields nobody described, then integers that are strings and no numbers.

use serde_json::{Map, Value};

use super::{Field, Interface, Kind, MAX_DEPTH, Type};

/// Checks parameters against the fields of a method; the error is the name of the first offender.
pub fn check_parameters<'a>(
    interface: &Interface,
    fields: &'a [Field],
    parameters: &'a Map<String, Value>,
) -> Result<(), &'a str> {
    for field in fields {
        let value = parameters.get(&field.name).unwrap_or(&Value::Null);
        if !fits(interface, &field.ty, value, Numbers::AnyString, 0) {
            return Err(&field.name);
        }
    }
    let known = |name: &str| fields.iter().any(|field| field.name == name);
    if let Some(name) = parameters.keys().find(|name| !known(name)) {
        return Err(name);
    }
    for field in fields {
        let value = parameters.get(&field.name).unwrap_or(&Value::Null);
        if !fits(interface, &field.ty, value, Numbers::Parsed, 0) {
            return Err(&field.name);
        }
    }
    Ok(())
}

/// How strict a string in place of an integer is looked at.
#[derive(Clone, Copy)]
enum Numbers {
    AnyString,
    Parsed,
}

fn fits(interface: &Interface, ty: &Type, value: &Value, numbers: Numbers, depth: usize) -> bool {
    // LIMIT: named types may refer to themselves, JSON stops at 128 levels.
    if depth > 4 * MAX_DEPTH {
        return false;
    }
    let inner = |ty: &Type, value: &Value| fits(interface, ty, value, numbers, depth + 1);
    match (ty, value) {
        (Type::Nullable(_), Value::Null) => true,
        (Type::Nullable(ty), _) => inner(ty, value),
        (Type::Any, value) => !value.is_null(),
        (Type::Bool, Value::Bool(_))
        | (Type::Float, Value::Number(_))
        | (Type::String, Value::String(_))
        | (Type::Object, Value::Object(_)) => true,
        (Type::Int, Value::String(_)) if matches!(numbers, Numbers::AnyString) => true,
        (Type::Int, value) => integer(value).is_some(),
        (Type::Enum(words), Value::String(word)) => words.iter().any(|known| known.name == *word),
        (Type::Array(ty), Value::Array(items)) => items.iter().all(|item| inner(ty, item)),
        (Type::Map(ty), Value::Object(items)) => items.values().all(|item| inner(ty, item)),
        (Type::Struct(fields), Value::Object(members)) => {
            fields
                .iter()
                .all(|field| inner(&field.ty, members.get(&field.name).unwrap_or(&Value::Null)))
                && members.keys().all(|name| fields.iter().any(|field| field.name == *name))
        }
        (Type::Named(name), value) => match interface.symbol(name).map(|symbol| &symbol.kind) {
            Some(Kind::Type(ty)) => inner(ty, value),
            _ => false,
        },
        _ => false,
    }
}

/// The integer in a value: a number without fraction, or a string of digits (decimal, or with
/// the prefixes `0x`, `0o`, `0b`, `0`; a sign and leading white space are allowed).
pub(crate) fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim_start_matches([' ', '\t', '\n', '\r']);
            let (negative, digits) = match text.strip_prefix(['+', '-']) {
                Some(rest) => (text.starts_with('-'), rest),
                None => (false, text),
            };
            let (base, digits) = match digits.get(..2) {
                Some("0x" | "0X") => (16, digits.get(2..)?),
                Some("0b") => (2, digits.get(2..)?),
                Some("0o") => (8, digits.get(2..)?),
                Some(two) if two.starts_with('0') => (8, digits.get(1..)?),
                _ => (10, digits),
            };
            if digits.starts_with(['+', '-']) {
                return None;
            }
            let size = i128::from(u64::from_str_radix(digits, base).ok()?);
            let number = if negative { -size } else { size };
            (number >= i128::from(i64::MIN)).then_some(number)
        }
        _ => None,
    }
}

/// A float that stands for an integer of 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole(number: f64) -> Option<i128> {
    let fits = (-9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0).contains(&number);
    (fits && number.fract() == 0.0).then_some(number as i128)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use serde_json::json;

    const TEXT: &str = "interface x.y
        type Kind (host, component)
        type Id (class: Kind, name: ?string)
        method M(id: Id, level: ?int, names: ?[]string, sizes: ?[string]int, any: ?any) -> ()";

    fn check(parameters: &Value) -> Result<(), String> {
        let interface = parse(TEXT.as_bytes()).unwrap();
        let fields = interface.input("M").unwrap();
        check_parameters(&interface, fields, parameters.as_object().unwrap()).map_err(str::to_owned)
    }

    /// Orders and names observed with systemd 262.1 (sysupdate ListFeatures, hostnamed
    /// SetLogLevel).
    #[test]
    fn the_first_offender_is_named() {
        let id = json!({"class": "host"});
        assert_eq!(check(&json!({"id": id})), Ok(()));
        for (parameters, name) in [
            (json!({}), "id"),
            (json!({"x": 1}), "id"),
            (json!({"x": 1, "id": id}), "x"),
            (json!({"id": 1}), "id"),
            (json!({"id": null}), "id"),
            (json!({"id": {"class": "bogus"}}), "id"),
            (json!({"id": {"class": "host", "x": 1}}), "id"),
            (json!({"id": {"class": "host", "name": 1}}), "id"),
            (json!({"level": true, "id": id, "x": 1}), "level"),
            (json!({"level": "x", "id": id, "x": 1}), "x"),
            (json!({"level": "x", "id": id}), "level"),
            (json!({"level": 7.5, "id": id}), "level"),
            (json!({"names": ["a", 1], "id": id}), "names"),
            (json!({"sizes": {"a": 1, "b": []}, "id": id}), "sizes"),
        ] {
            assert_eq!(check(&parameters), Err(name.to_owned()), "{parameters}");
        }
    }

    #[test]
    fn integers_come_as_numbers_and_strings() {
        for value in [json!(7), json!(7.0), json!("7"), json!(" 7"), json!("+7"), json!("0x7")] {
            assert_eq!(integer(&value), Some(7), "{value}");
        }
        assert_eq!(integer(&json!("010")), Some(8));
        assert_eq!(integer(&json!("0")), Some(0));
        assert_eq!(integer(&json!(u64::MAX)), Some(i128::from(u64::MAX)));
        assert_eq!(integer(&json!("-9223372036854775808")), Some(i128::from(i64::MIN)));
        for value in [
            json!("7.0"),
            json!(""),
            json!("x"),
            json!("--7"),
            json!("+-7"),
            json!("é"),
            json!(1e300),
        ] {
            assert_eq!(integer(&value), None, "{value}");
        }
    }
}
